"""Hands the metadata of settings.ini to setuptools."""
from configparser import ConfigParser

from setuptools import setup

config = ConfigParser(delimiters=["="], interpolation=None)
config.read("settings.ini", encoding="utf-8")
s = config["DEFAULT"]
setup(
    version=s["version"],
    description=s["description"],
    author=s["author"],
    author_email=s["author_email"],
    license="Apache-2.0",
    keywords=s["keywords"].split(),
    url=s["git_url"],
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    install_requires=s["requirements"].split(),
    entry_points={"papermill.engine": s["papermill_engine"].split()},
    extras_require={"dev": s["dev_requirements"].split(),
                    "cluster": s["cluster_requirements"].split()},
)
