"""Links lead somewhere, and no file names the machine it was written on."""

import csv
import re

import pytest
from pages import NOTEBOOKS, ROOT, committed_text, name, read, source

FOLDERS = "|".join(["work", "tmp", "root", r"home/\w+", r"Users/\w+", "opt", "mnt", "scratch"])
MACHINE = re.compile(r"(?:^|[\s\"'(=:`])(?:file://)?/(?:" + FOLDERS + r")/", re.M)
HOSTS = re.compile("|".join(map(re.escape, (
    "pypi" + ".org", "python" + "hosted.org", "download.pytorch" + ".org", "anaconda" + ".org",
    "npmjs" + ".org", "artifact" + "registry", "index" + "-url"))))
PAGES = [*NOTEBOOKS, *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("*/README.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("path", committed_text(), ids=name)
def test_no_machine_paths_and_no_package_hosts(path):
    text = path.read_text(encoding="utf-8").replace("\\n", "\n")
    for pattern in (MACHINE, HOSTS):
        found = pattern.search(text)
        assert not found, text[max(0, found.start() - 60):found.end() + 60]


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_between_files_resolve(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = read(path)["cells"]
        text = "\n".join(source(cell) for cell in cells if cell["cell_type"] == "markdown")
    text = re.sub(r"```.*?```|`[^`\n]*`|\$[^$\n]*\$", "", text, flags=re.S)
    targets = [t for t in LINK.findall(text) if "://" not in t and not t.startswith("mailto:")]
    lost = [target for target in targets if not (path.parent / target).exists()]
    assert not lost


def test_published_results_parse():
    tables = [p for p in ROOT.rglob("published_results.csv") if ".venv" not in p.parts]
    if not tables:
        pytest.skip("the published results are not in the book yet")
    rows = list(csv.DictReader(tables[0].read_text(encoding="utf-8").splitlines()))
    assert len(tables) == 1 and len(rows) == 101
    for row in rows:
        assert None not in row and None not in row.values(), row      # as many fields as the header
        assert row["metric"] in ("top1", "mean_top1", "top1_mean_of_seeds", "complexity"), row
        assert row["metric"] == "complexity" or 0 < float(row["value"]) <= 100, row
        for column in ("std", "gpus", "gflops", "params_m"):
            assert row[column] == "" or float(row[column]) > 0, row
        assert row["model"] and row["dataset"] and row["source"], row


def test_the_licence_is_the_one_in_the_metadata():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
    assert "license = apache2" in (ROOT / "settings.ini").read_text()
