"A page stays a page whatever is in the data: no script, no address, nothing left half-written."

import re
import warnings
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest

from skelbook.data.checks import examine
from skelbook.data.store import Source, open_store, write_store
from skelbook.graph import Layout
from skelbook.report.data_page import safe, tag, write_page

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onload='x",
           "</title></style><script>", "&lt;b&gt;", "javascript:alert(1)", "http://evil.example/x",
           "a\u202eb\u2066c", "line\nbreak\x00\x1b[31m", "\ud800 alone", "$\\frac{", "頭を下げる",
           "]]><!--", "x" * 10**5]
TAGS = set("html head meta title style body main nav section div h1 h2 h3 p a b em i span table "
           "thead tbody tr th td wbr details summary figure figcaption img".split())
ALONE = {"meta", "img", "wbr"}


class Reader(HTMLParser):
    "Reads a page and holds it to what such a page may contain."

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.text, self.seen = [], [], [], "", []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        assert len(set(self.ids)) == len(self.ids)
        assert {link[1:] for link in self.links} <= set(self.ids)

    def handle_starttag(self, name, attributes):
        assert name in TAGS, name
        self.seen.append(name)
        for key, value in attributes:
            assert not key.startswith("on"), key
            if key in ("src", "href"):
                assert value.startswith({"src": "data:image/png;base64,", "href": "#"}[key])
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if "href" in values else []
        self.open += [] if name in ALONE else [name]

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data[:80]}")


def clip(number, frames=12, persons=1, dims=2, joints=17, **changes):
    "A clip of people who drift about."
    rng = np.random.default_rng(number)
    place = rng.uniform(100, 400, (persons, 1, joints, dims))
    place = place + np.cumsum(rng.normal(size=(persons, frames, 1, dims)), axis=1)
    return dict(name=f"c{number:03}", label=number % 2, joints=np.float32(place)) | changes


def source_of(clips, **changes):
    "A source of clips."
    names = [str(each["name"]) for each in clips]
    parts = dict(name="toy", layout="coco", classes=("wave", "hug"), dtype=np.float32,
                 splits={"train": names[:-3], "test": names[-3:]}, count=len(clips), origin={},
                 samples=lambda: iter(clips))
    return Source(**parts | changes)


def page_of(source, folder, findings=None):
    "The page of a source, written without a warning, and read again."
    findings = examine(source) if findings is None else findings
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = write_page(source, findings, folder / "page.html").read_text(encoding="utf-8")
    return page, Reader(page)


def test_words_from_strangers_are_words(tmp_path):
    clips = [clip(k, name=word, num_frames=5) for k, word in enumerate(HOSTILE)]
    clips[3]["label"] = HOSTILE[0]
    own = Layout(HOSTILE[0], [*HOSTILE, "a", "b", "c"], [(1, 0)], 0, dims=2)
    source = source_of(clips, name=HOSTILE[0], classes=tuple(HOSTILE), layout=own,
                       splits={word: HOSTILE for word in HOSTILE},
                       origin={word: [word] for word in HOSTILE})
    page, read = page_of(source, tmp_path)
    assert "script" not in read.seen and "<script" not in page
    assert HOSTILE[0] in read.text
    assert "\x1b" not in page and "\u202e" not in page and "\x00" not in page
    assert len(re.sub("base64,[^\"]*", "", page)) < 150_000           # long names are cut


def test_the_browser_is_told_to_run_and_load_nothing(tmp_path):
    page, _ = page_of(source_of([clip(k) for k in range(9)]), tmp_path)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    style = re.search("<style>(.*?)</style>", page, re.S)[1]
    assert "url(" not in style and "@import" not in style and "<" not in style


NAN = np.full((1, 9, 17, 2), np.nan)
FAULTY = {
    "F11": dict(joints=np.array([["a"]])), "F14": dict(joints=NAN), "F17": dict(joints=NAN[0]),
    "F17 25": clip(1, joints=25), "F18": clip(1, dims=3), "F19": clip(1, frames=0),
    "F20": clip(1, persons=0), "F21": dict(joints=NAN * 0), "F23": dict(label=7),
    "F24": dict(label=None), "F24 list": dict(label=[1]), "F30": dict(num_frames=99),
    "F32": dict(scores="none", image_size=(0, -1)),
    "F33": clip(1, frames=1), "F14 large": dict(joints=np.full((1, 9, 17, 2), 1e300)),
    "F14 object": dict(joints=np.array([None])), "F18 one": clip(1, dims=1),
    "F20 crowd": clip(1, persons=60)}


def test_many_faults_at_once(tmp_path):
    clips = [clip(k) | FAULTY[fault] | {"name": fault} for k, fault in enumerate(FAULTY)]
    source = source_of(clips)
    findings = examine(source)
    assert len({finding.fault for finding in findings}) >= 10
    _, read = page_of(source, tmp_path, findings)
    assert all(finding.text in read.text for finding in findings)
    assert all(fault in read.text for fault in FAULTY)
    assert "errors" in read.text and "not to be trained on" in read.text


@pytest.mark.parametrize("classes", [("wave", "hug"), ()])
def test_an_empty_set_has_a_page(tmp_path, classes):
    _, read = page_of(source_of([], splits={}, classes=classes), tmp_path)
    assert "There is no clip." in read.text
    _, read = page_of(source_of([], splits={}, classes=classes), tmp_path, findings=[])
    assert "Nothing that is known to go wrong was found." in read.text


def test_no_findings_no_section(tmp_path):
    clips = [clip(k, persons=1 + k % 2, dims=3, joints=25) for k in range(9)]
    _, read = page_of(source_of(clips, layout="nturgb+d"), tmp_path, [])
    assert "What is wrong" not in read.text and "For comparison" in read.text


def test_the_same_data_gives_the_same_bytes(tmp_path):
    clips = [clip(k, frames=5 + k) for k in range(12)]
    first, again = (page_of(source_of(clips), tmp_path)[0] for _ in range(2))
    assert first == again


def test_a_store_and_what_it_was_made_of_have_the_same_pictures(tmp_path):
    source = source_of([clip(k, frames=5 + k) for k in range(12)])
    stored = open_store(write_store(tmp_path / "toy.skel", source)).source()
    first, again = (re.findall("base64,[^\"]*", page_of(each, tmp_path)[0])
                    for each in (source, stored))
    assert first == again


def test_a_page_is_whole_or_not_there(tmp_path):
    def samples():
        yield clip(0)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_page(source_of([clip(0)], samples=samples), [], tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_reader_is_the_verdict(tmp_path):
    def samples():
        yield clip(0)
        raise ValueError("toy.pkl: cut <short>")

    source = source_of([clip(0)], samples=samples)
    _, read = page_of(source, tmp_path)
    assert "Reading stopped after 1 clip: toy.pkl: cut <short>" in read.text


def test_figures_of_the_caller_keep_their_style(tmp_path):
    before = dict(matplotlib.rcParams)
    page_of(source_of([clip(k) for k in range(5)]), tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_thousands_of_names_are_not_all_listed(tmp_path):
    clips = [clip(k % 50, name=f"a name of a clip {k:06}", label=9) for k in range(3000)]
    page, read = page_of(source_of(clips), tmp_path)
    assert page.count("a name of a clip") < 1500 and "and 2,997 more" in read.text


def test_escaping():
    assert tag("a", "<", tag("b", "&"), title='"<') == '<a title="&quot;&lt;">&lt;<b>&amp;</b></a>'
    assert (safe(1234567), safe(np.float64(1 / 3))) == ("1,234,567", "0.3333")
    assert safe(None) == "None" and safe(tag("b")) == "<b></b>"
