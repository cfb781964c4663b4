"""What files do not say: guessed layouts, class names, fingerprints of files."""

import json

import pytest

from skelbook.core import file_hash
from skelbook.data.origins import fingerprint, guess_layout, name_classes, origin_of
from skelbook.graph import LAYOUTS


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_is_guessed_if_it_is_alone(layout):
    size = len(layout.joints), (layout.dims,)
    twins = [each.name for each in LAYOUTS.values() if (len(each.joints), (each.dims,)) == size]
    if len(twins) == 1:
        assert guess_layout(*size, "a") is layout
    else:
        with pytest.raises(ValueError, match=f"a: {size[0]} joints .* fit {' and '.join(twins)}"):
            guess_layout(*size, "a")


def test_classes_of_labels_that_are_none():
    assert name_classes(None) == name_classes(None, [-1, "walk", None, 10_000]) == ()
    assert name_classes(None, [1, 1, 9_999])[-1] == "class 9999"
    assert name_classes(["x"], [7]) == ("x",)


def test_a_fingerprint_does_not_depend_on_the_place_or_the_order(tmp_path):
    found = []
    for place, order in (("here", 1), ("there", -1)):
        folder = tmp_path / place
        (folder / "deep").mkdir(parents=True)
        files = [folder / "b", folder / "a", folder / "deep" / "a"]
        for file in files:
            file.write_text(file.name)
        found.append(fingerprint(folder, files[2:], files[:2][::order]))
    assert found[0] == found[1] and found[0]["files"] == found[0]["bytes"] == 3
    moved = files[2].rename(folder / "deep" / "b")
    assert fingerprint(folder, [moved], files[:2])["sha256"] != found[0]["sha256"]


def test_an_origin_names_no_folder_and_is_json(tmp_path):
    file = tmp_path / "clips.pkl"
    file.write_bytes(b"clips")
    steps = []
    one = origin_of("toy", file, progress=lambda *step: steps.append(step), persons=2)
    assert one == dict(reader="toy", file="clips.pkl", bytes=5, sha256=file_hash(file), persons=2)
    many = origin_of("toy", tmp_path, [file], progress=lambda *step: steps.append(step))
    assert (many["files"], many["bytes"], "file" in many) == (1, 5, False)
    assert steps == [(1, 1), (1, 1)] and tmp_path.name not in json.dumps([one, many])
