"""Folders of overlays: what is in them, and what they are called."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import GREY, candidate_of
from PIL import Image

from capcli.images.find import find_images
from capcli.maps.folders import AttentionFolders, attention_record
from capcli.maps.overlay import OverlayOptions
from capcli.results import Caption, ImageError


def test_records_sum_to_one_row_by_row() -> None:
    weights = np.random.default_rng(0).random((4, 3, 2), np.float32)
    weights /= weights.sum((1, 2), keepdims=True)
    record = attention_record("p\udcff.jpg", candidate_of(weights, gates=np.full(4, 0.5)))
    assert record["grid"] == [3, 2]
    assert [set(word) for word in record["words"]] == [{"word", "log_prob", "gate", "weights"}] * 4
    for word, expected in zip(record["words"], weights, strict=True):
        assert sum(word["weights"]) == pytest.approx(1, abs=1e-5)
        assert word["weights"] == pytest.approx((expected / expected.sum()).flatten().tolist(), abs=1e-6)


def test_folders_never_collide_and_are_found_again(tmp_path: Path) -> None:
    def claim_all() -> list[str]:
        folders = AttentionFolders(tmp_path / "out", OverlayOptions())
        names: list[str] = []
        for path in ("a/x.jpg", "b/x.jpg", "b/X.png", "a/x-2.jpg", "-", "a/x.jpg", "c/con.jpg", "d/..jpg"):
            folder = folders.claim(path)
            (folder / "attention.json").write_text(json.dumps({"path": path, "caption": "", "grid": None, "words": []}))
            names.append(folder.name)
        folders.close()
        return names

    first = claim_all()
    assert first == ["x", "x-2", "X-3", "x-2-2", "stdin", "x-4", "_con", "_"]
    assert len({name.casefold() for name in first}) == len(first)
    assert claim_all() == first
    (tmp_path / "out" / "holiday").mkdir()  # somebody else's
    (tmp_path / "out" / "holiday" / "attention.json").write_text('{"path": "holiday.jpg", "heads": 8}')
    assert AttentionFolders(tmp_path / "out", OverlayOptions()).claim("holiday.jpg").name == "holiday-2"


def draw(folder: Path, options: OverlayOptions, caption: Caption, replace: bool = False) -> None:
    """As a run does for one caption."""
    with closing(AttentionFolders(folder, options, replace)) as folders:
        folders.write(caption)


def test_a_folder_holds_what_this_caption_needs_and_no_more(tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), GREY).save(tmp_path / "x.png")
    attention = np.random.default_rng(0).random((4, 7, 7))
    first = Caption(str(tmp_path / "x.png"), (candidate_of(attention),))
    draw(tmp_path / "out", OverlayOptions(gif=True), first)
    folder = tmp_path / "out" / "x"
    words = ["00_a.png", "01_cat.png", "02__s.png", "03_t-shirt.png"]
    assert sorted(p.name for p in folder.iterdir()) == [*words, "attention.gif", "attention.json", "attention.png"]
    with Image.open(folder / "attention.gif") as gif:
        assert gif.n_frames == 5
    kept = ["00_beach.png", "notes.txt"]  # a person's
    for name in kept:
        (folder / name).touch()
    second = replace(first, candidates=(candidate_of(attention[:2], "a dog"),))
    with pytest.raises(ImageError, match="its overlays exist"):
        draw(tmp_path / "out", OverlayOptions(), second)
    assert (folder / "attention.gif").exists()
    draw(tmp_path / "out", OverlayOptions(), second, replace=True)
    assert sorted(p.name for p in folder.iterdir()) == [
        "00_a.png", kept[0], "01_dog.png", "attention.json", "attention.png", kept[1]
    ]  # fmt: skip
    passed_over: list[str] = []
    found = list(find_images([str(tmp_path)], pass_over=lambda path, *_: passed_over.append(path)))
    assert found == [str(tmp_path / "x.png"), str(folder / kept[0])]  # overlays are not captioned
    assert passed_over == [str(folder / name) for name in ("00_a.png", "01_dog.png", "attention.png")]
    (tmp_path / "x.png").unlink()
    with pytest.raises(ImageError, match="no such file"):
        draw(tmp_path / "out", OverlayOptions(), second, replace=True)


def test_overlays_that_were_never_finished_are_drawn_in_the_same_folder(tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), GREY).save(tmp_path / "x.png")
    caption = Caption(str(tmp_path / "x.png"), (candidate_of(np.full((4, 7, 7), 1 / 49)),))
    folder = tmp_path / "out" / "x"
    folder.mkdir(parents=True)
    (folder / ".capcli-0123abcd.tmp").write_text('{"path"')  # killed in its first file
    draw(tmp_path / "out", OverlayOptions(), caption)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["x"]
    whole = sorted(p.name for p in folder.iterdir())
    assert not any(name.startswith(".") for name in whole)
    (folder / "attention.png").unlink()  # killed before its last file
    draw(tmp_path / "out", OverlayOptions(), caption)
    assert sorted(p.name for p in folder.iterdir()) == whole


def test_a_folder_of_overlays_has_one_writer(tmp_path: Path) -> None:
    first = AttentionFolders(tmp_path / "out", OverlayOptions())
    with pytest.raises(OSError, match="in use by another run of capcli; wait until") as caught:
        AttentionFolders(tmp_path / "out", OverlayOptions())
    assert caught.value.filename == str(tmp_path / "out")
    first.close()
    assert not (tmp_path / "out").exists()  # made for nothing
