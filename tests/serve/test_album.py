"""Saving and undoing, with sidecars and metadata, without a server."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from folders import make_photos, photo_bytes
from serving import open_album, said, save

pytest.importorskip("starlette", reason="needs the extra serve")

from capcli.captioner import Captioner
from capcli.files import WholeFile
from capcli.images.find import find_images
from capcli.outputs.cache import CaptionCache
from capcli.outputs.metadata import Metadata, read_caption
from capcli.outputs.originals import LEADS_OUT
from capcli.outputs.sidecars import Sidecars
from capcli.outputs.xmp_sidecars import XmpSidecars
from capcli.results import ImageError
from capcli.serve import saves
from capcli.serve.album import CANDIDATES, Album
from capcli.serve.corrections import Corrections, CorrectionsError
from capcli.serve.keeping import Keeper
from capcli.serve.photos import Photo


def rows(folder: Path) -> list[dict[str, object]]:
    return json.loads((folder / "corrections.json").read_text())


def test_a_save_is_on_the_disk(tmp_path: Path) -> None:
    album = open_album(tmp_path)
    saved = save(album, 1, "a red boat")
    assert (saved.problems, saved.conflicts, [photo.saved for photo in saved.photos]) == ([], [], ["a red boat"])
    assert rows(tmp_path) == [{"file_path": "photo1.jpg", "captions": ["a red boat"], "said": "a cat"}]
    album.close()
    again = open_album(tmp_path)
    assert [photo.saved for photo in again.photos] == [None, "a red boat", None]
    assert again.photos[1].said == "a cat"
    again.close()


def test_another_version_is_a_conflict(tmp_path: Path) -> None:
    album = open_album(tmp_path)
    photo = album.photos[0]
    seen = album.tag(photo)
    assert not album.save([(photo, seen, "first")]).conflicts
    second = album.save([(photo, seen, "second")])
    assert (second.conflicts, second.photos) == ([photo], [])
    assert photo.saved == "first"
    assert rows(tmp_path)[0]["captions"] == ["first"]
    album.close()
    again = open_album(tmp_path)  # whose versions are none of those of the run before
    assert again.save([(again.photos[0], seen, "third")]).conflicts
    again.close()


def test_undoing_goes_back_step_by_step(tmp_path: Path) -> None:
    album = open_album(tmp_path)
    numbers = [save(album, 0, text).save for text in ("one", "two")] + [save(album, 1, "three").save]
    assert album.undo(numbers[2]).photos[0].saved is None  # type: ignore[union-attr]
    assert album.undo(numbers[0]).conflicts  # type: ignore[union-attr]
    assert album.undo(numbers[1]).photos[0].saved == "one"  # type: ignore[union-attr]
    assert album.undo(numbers[0]).photos[0].saved is None  # type: ignore[union-attr]
    assert rows(tmp_path) == []
    assert album.undo(numbers[0]) is None
    album.close()


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("existing", ["skip", "overwrite", "append", "prepend"])
@pytest.mark.parametrize("kinds", ["", "s", "m", "sxm"])
def test_a_save_is_removed(tmp_path: Path, kinds: str, existing: str, restarted: bool) -> None:
    """Also one of an earlier run: files are what they were before the first save, byte for byte."""
    if existing != "skip":
        (tmp_path / "photo0.txt").write_text("mine\n")
    album = open_album(tmp_path, kinds, existing, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for text in ("one", "two"):
        assert save(album, 0, text).problems == []
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    if restarted:
        album.close()
        album = open_album(tmp_path, kinds, existing, 1)
    removed = save(album, 0, None)
    assert removed.problems == []
    assert (album.photos[0].saved, rows(tmp_path)) == (None, [])
    there = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert there == before | {"corrections.json": there["corrections.json"]}
    album.undo(removed.save)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == after
    album.close()


def test_removing_a_save_leaves_what_is_not_ours(tmp_path: Path) -> None:
    album = open_album(tmp_path, "sm")
    save(album, 0, "one")
    save(album, 1, "one")
    (tmp_path / "photo0.txt").write_text("mine\n")
    assert save(album, 0, None).problems == [f"photo0.jpg: {tmp_path}/photo0.txt: changed since; left as it is"]
    assert (tmp_path / "photo0.txt").read_text() == "mine\n"
    assert read_caption(str(tmp_path / "photo0.jpg")) == ""
    album.close()
    again = open_album(tmp_path, "s")  # which has nothing to do with what is inside of photos
    (problem,) = save(again, 1, None).problems
    assert problem == f"photo1.jpg: {tmp_path}/photo1.jpg: written with other options; left as it is"
    assert not (tmp_path / "photo1.txt").exists()
    assert read_caption(str(tmp_path / "photo1.jpg")) == "one!"
    again.close()


def test_other_captions_of_a_row_outlive_a_removal(tmp_path: Path) -> None:
    (tmp_path / "corrections.json").write_text('[{"file_path": "photo0.jpg", "captions": ["a", "b"], "x": 1}]')
    album = open_album(tmp_path)
    save(album, 0, None)
    assert rows(tmp_path) == [{"file_path": "photo0.jpg", "captions": ["b"], "x": 1}]
    album.close()


def test_bulk_is_one_save(tmp_path: Path) -> None:
    album = open_album(tmp_path, "s")
    (tmp_path / "photo2.txt").write_text("mine\n")
    saved = album.save([(photo, album.tag(photo), "a cat") for photo in album.photos])
    assert len(saved.photos) == 3
    assert len(saved.problems) == 1
    assert "photo2.txt has a text already: it stays" in saved.problems[0]
    assert (tmp_path / "photo0.txt").read_text() == "a cat!\n"
    assert (tmp_path / "photo2.txt").read_text() == "mine\n"
    album.undo(saved.save)
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["photo2.txt"]
    assert [photo.saved for photo in album.photos] == [None] * 3
    album.close()


@pytest.mark.parametrize(
    ("existing", "first", "second"),
    [
        ("skip", "mine", "mine"),
        ("fail", "mine", "mine"),
        ("overwrite", "one!", "two!"),
        ("append", "mine, one!", "mine, two!"),
        ("prepend", "one!, mine", "two!, mine"),
    ],
)
def test_saving_again_treats_the_persons_text_as_the_first_time(
    tmp_path: Path, existing: str, first: str, second: str
) -> None:
    (tmp_path / "photo0.txt").write_text("mine\n")
    album = open_album(tmp_path, "s", existing)
    one = save(album, 0, "one")
    assert (tmp_path / "photo0.txt").read_text() == f"{first}\n"
    assert bool(one.problems) == (first == "mine")
    two = save(album, 0, "two")
    assert (tmp_path / "photo0.txt").read_text() == f"{second}\n"
    album.undo(two.save)
    assert (tmp_path / "photo0.txt").read_text() == f"{first}\n"
    album.undo(one.save)
    assert (tmp_path / "photo0.txt").read_text() == "mine\n"
    album.close()


def test_what_an_earlier_run_wrote_can_be_corrected(tmp_path: Path) -> None:
    album = open_album(tmp_path, "sm")
    assert save(album, 0, "one").problems == []
    album.close()
    again = open_album(tmp_path, "sm")
    for text in ("more", "two"):
        assert save(again, 0, text).problems == []
    assert (tmp_path / "photo0.txt").read_text() == "two!\n"
    assert read_caption(str(tmp_path / "photo0.jpg")) == "two!"
    again.close()
    (tmp_path / "photo0.txt").write_text("mine\n")
    third = open_album(tmp_path, "s")
    assert len(save(third, 0, "three").problems) == 1
    assert (tmp_path / "photo0.txt").read_text() == "mine\n"
    third.close()


@pytest.mark.parametrize(
    ("existing", "one", "two"),
    [("append", "mine, one!", "mine, two!"), ("prepend", "one!, mine", "two!, mine"), ("overwrite", "one!", "two!")],
)
@pytest.mark.parametrize("kinds", ["x", "xm", "m"])
def test_a_photo_with_a_description_of_its_own(tmp_path: Path, kinds: str, existing: str, one: str, two: str) -> None:
    """Messages say "its metadata" of such a photo, which is no name of a file."""
    open_album(tmp_path, number=1).close()
    photo, beside = tmp_path / "photo0.jpg", tmp_path / "photo0.jpg.xmp"
    Metadata("overwrite").write(said(str(photo), "mine"))
    before = photo.read_bytes()
    album = open_album(tmp_path, kinds, existing, 1)

    def texts() -> list[str]:
        inside = [read_caption(str(photo))] if "m" in kinds else []
        return inside + ([XmpSidecars().read(str(photo)).caption] if "x" in kinds else [])

    first = save(album, 0, "one")
    assert (first.problems, set(texts())) == ([], {one})
    second = save(album, 0, "two")
    assert (second.problems, set(texts())) == ([], {two})
    album.undo(second.save)
    assert set(texts()) == {one}
    album.undo(first.save)
    assert (beside.exists(), photo.read_bytes(), rows(tmp_path)) == (False, before, [])
    album.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corrections.json", "photo0.jpg"]


def interrupted(folder: Path, kinds: str, existing: str, *texts: str) -> None:
    """Saves, the last of which is killed when all but the list is written."""
    album = open_album(folder, kinds, existing, 1)
    *before, last = texts
    for text in before:
        assert save(album, 0, text).problems == []
    child = os.fork()
    if not child:
        album.corrections.put = lambda changes: os._exit(9)  # type: ignore[assignment]
        save(album, 0, last)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    album.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_a_person_writes_after_a_kill_stays(tmp_path: Path) -> None:
    interrupted(tmp_path, "sm", "skip", "one", "two")
    assert (tmp_path / "photo0.txt").read_text() == "two!\n"
    (tmp_path / "photo0.txt").write_text("mine\n")
    album = open_album(tmp_path, "sm", "skip", 1)
    assert album.corrections.left == [f"{tmp_path / 'photo0.txt'}: changed since; left as it is"]
    assert read_caption(str(tmp_path / "photo0.jpg")) == "one!"
    problems = save(album, 0, "three").problems
    assert len(problems) == 1
    assert "photo0.txt has a text already: it stays" in problems[0]
    assert (tmp_path / "photo0.txt").read_text() == "mine\n"
    assert read_caption(str(tmp_path / "photo0.jpg")) == "three!"
    album.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_list_that_is_edited_after_a_kill_counts(tmp_path: Path) -> None:
    interrupted(tmp_path, "s", "append", "one", "two")
    edited = '[{"file_path": "photo0.jpg", "captions": ["edited"]}]'
    (tmp_path / "corrections.json").write_text(edited)
    album = open_album(tmp_path, "s", "append", 1)
    assert (tmp_path / "corrections.json").read_text() == edited
    assert (tmp_path / "photo0.txt").read_text() == "one!\n"  # the list had not been written, so the save was not done
    album.close()


def test_a_row_of_an_older_save_is_no_reason_to_write(tmp_path: Path) -> None:
    """Such rows had "writing" while files were written."""
    (tmp_path / "photo0.txt").write_text("mine\n")
    row = {"file_path": "photo0.jpg", "captions": ["one"], "writing": ["one", "two"]}
    (tmp_path / "corrections.json").write_text(json.dumps([row]))
    before = (tmp_path / "photo0.txt").stat()
    album = open_album(tmp_path, "s")
    assert len(save(album, 0, "three").problems) == 1
    after = (tmp_path / "photo0.txt").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (tmp_path / "photo0.txt").read_text() == "mine\n"
    album.close()


@pytest.mark.parametrize("room", range(8))
def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Files can be written a few times more, then no more, and then again."""
    (tmp_path / "photo0.txt").write_text("mine\n")
    album = open_album(tmp_path, "sm", "append")
    assert save(album, 0, "one").problems == []
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    written = 0
    whole = WholeFile.write_bytes

    def write(file: WholeFile, content: bytes) -> None:
        nonlocal written
        written += 1
        if written > room:
            raise OSError(errno.ENOSPC, "No space left on device", str(file.path))
        whole(file, content)

    with monkeypatch.context() as filling:
        filling.setattr(WholeFile, "write_bytes", write)
        if room < 5:  # two files are made what they were, two are written, and the list
            with pytest.raises(OSError, match="No space"):
                save(album, 0, "two")
        else:
            assert save(album, 0, "two").problems == []
    if room < 5:
        album.refresh()
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
        assert album.photos[0].saved == "one"
    three = save(album, 0, "three")
    assert three.problems == []
    assert (tmp_path / "photo0.txt").read_text() == "mine, three!\n"
    assert read_caption(str(tmp_path / "photo0.jpg")) == "three!"
    assert three.save
    album.undo(three.save)
    assert read_caption(str(tmp_path / "photo0.jpg")) == ("one!" if room < 5 else "two!")
    album.close()


def test_a_file_that_became_read_only_is_not_replaced(tmp_path: Path) -> None:
    album = open_album(tmp_path, "s")
    one = save(album, 0, "one")
    (tmp_path / "photo0.txt").chmod(0o444)
    assert "read-only" in save(album, 0, "two").problems[0]
    assert album.undo(album.saves.last) is not None
    with pytest.raises(OSError, match="read-only"):
        album.undo(one.save)
    assert (tmp_path / "photo0.txt").read_text() == "one!\n"
    assert rows(tmp_path)[0]["captions"] == ["one"]
    album.close()


def test_a_caption_inside_the_image_is_none_to_the_sidecar_beside_it(tmp_path: Path) -> None:
    album = open_album(tmp_path, "xm")
    for text in ("one", "two"):
        assert save(album, 0, text).problems == []
        assert f"{text}!" in (tmp_path / "photo0.jpg.xmp").read_text()
        assert read_caption(str(tmp_path / "photo0.jpg")) == f"{text}!"
    album.close()


def test_keywords_are_those_of_the_saved_caption(tmp_path: Path) -> None:
    album = open_album(tmp_path)
    album.keywords = 5
    assert album.as_caption(album.photos[0], "A red boat on the sea").keywords == ("red", "boat", "sea")
    album.close()


def test_metadata_is_taken_back_byte_for_byte(tmp_path: Path) -> None:
    album = open_album(tmp_path, "m")
    photo = tmp_path / "photo0.jpg"
    before, time = photo.read_bytes(), photo.stat().st_mtime_ns
    saved = save(album, 0, "a red boat")
    assert read_caption(str(photo)) == "a red boat!"
    album.undo(saved.save)
    assert (photo.read_bytes(), photo.stat().st_mtime_ns) == (before, time)
    # What somebody else has changed since stays.
    saved = save(album, 0, "a blue boat")
    photo.write_bytes(before + b"\0")
    undone = album.undo(saved.save)
    assert undone is not None
    assert undone.problems[0].endswith("photo0.jpg: changed since; left as it is")
    assert photo.read_bytes() == before + b"\0"
    assert rows(tmp_path) == []
    album.close()


def test_without_memory_for_it_nothing_can_be_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saves, "MEMORY", 10)
    album = open_album(tmp_path, "m")
    saved = save(album, 0, "a red boat")
    assert album.undo(saved.save) is None
    album.close()


def test_a_list_that_cannot_be_written_saves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    album = open_album(tmp_path, "s")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "corrections.json"))

    with monkeypatch.context() as filling:
        filling.setattr(Corrections, "put", full)
        with pytest.raises(OSError, match="No space"):
            save(album, 0, "one")
    assert not (tmp_path / "photo0.txt").exists()
    assert album.photos[0].saved is None
    assert save(album, 0, "one").problems == []
    (tmp_path / "corrections.json").write_text("broken")
    with pytest.raises(CorrectionsError):
        save(album, 0, "two")
    assert (tmp_path / "corrections.json").read_text() == "broken"
    assert (tmp_path / "photo0.txt").read_text() == "one!\n"
    album.close()


def test_what_is_edited_in_the_list_meanwhile_counts(tmp_path: Path) -> None:
    album = open_album(tmp_path)
    photo = album.photos[0]
    seen = album.tag(photo)
    (tmp_path / "corrections.json").write_text('[{"file_path": "photo0.jpg", "captions": ["edited", "more"]}]')
    assert album.save([(photo, seen, "mine")]).conflicts == [photo]
    assert photo.saved == "edited"
    assert not save(album, 0, "mine").conflicts
    assert rows(tmp_path)[0]["captions"] == ["mine", "more"]
    album.close()


def test_no_photo_outside_of_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    outside = tmp_path / "secret" / "outside.jpg"
    outside.write_bytes(photo_bytes(9))
    folder = tmp_path / "photos"
    album = open_album(folder, number=1)
    for name, target in (("out.jpg", outside), ("in.jpg", folder / "photo0.jpg")):
        try:
            (folder / name).symlink_to(target)
        except OSError:
            pytest.skip("no links here")
    listed = list(album.listing([str(folder / "out.jpg"), str(folder / "in.jpg")]))
    assert isinstance(listed[0], ImageError)
    assert listed[0].reason == LEADS_OUT
    assert listed[1] == str(folder / "in.jpg")
    assert album.read(album.photos[2]) == (folder / "photo0.jpg").read_bytes()
    with pytest.raises(ImageError):
        album.read(album.photos[1])
    # One that was a file when it was listed.
    photo = album.photos[0]
    os.replace(folder / "photo0.jpg", folder / "moved.jpg")
    (folder / "photo0.jpg").symlink_to(outside)
    with pytest.raises(ImageError):
        album.read(photo)
    (folder / "sub").symlink_to(tmp_path / "secret")
    with pytest.raises(ImageError):
        album.read(Photo(9, str(folder / "sub" / "outside.jpg"), "sub/outside.jpg"))
    album.close()


def test_changes_are_told_once(tmp_path: Path) -> None:
    album = open_album(tmp_path)
    first = album.since(0)
    assert len(first["photos"]) == 3
    assert album.since(first["change"])["photos"] == []
    save(album, 2, "a boat")
    assert [photo["saved"] for photo in album.since(first["change"])["photos"]] == ["a boat"]
    album.close()


@pytest.mark.parametrize("name", ["corrections.json.jpg", "corrections.jpg", "corrections.json.lock.jpg"])
@pytest.mark.parametrize("ending", [".txt", ".lock", ".json"])
def test_photos_named_as_the_corrections_are(tmp_path: Path, name: str, ending: str) -> None:
    (tmp_path / name).write_bytes(photo_bytes(0))
    album = open_album(tmp_path, number=0)
    album.keeper = Keeper([Sidecars(ending=ending)], [Sidecars("overwrite", ending=ending)], "skip")
    list(album.listing([str(tmp_path / name)]))
    sidecar = (tmp_path / name).with_suffix(ending)
    if sidecar == album.corrections.path:
        return  # refused by the command; see test_serve_command.py
    assert save(album, 0, "a boat").problems == []
    assert sidecar.read_text() == "a boat\n"
    assert rows(tmp_path)[0]["captions"] == ["a boat"]
    album.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_in_place_of_files_are_not_waited_for(tmp_path: Path) -> None:
    album = open_album(tmp_path, "s")
    os.mkfifo(tmp_path / "photo0.txt")
    assert save(album, 0, "a boat").problems == [f"photo0.jpg: {tmp_path / 'photo0.txt'}: not a regular file"]
    saved = save(album, 1, "a boat")
    for name in ("photo1.txt", "photo1.jpg"):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
    assert album.undo(saved.save).problems == [f"photo1.jpg: {tmp_path / 'photo1.txt'}: not a regular file"]  # type: ignore[union-attr]
    with pytest.raises(ImageError, match="not a regular file"):
        album.read(album.photos[1])
    album.close()


def test_another_start_takes_captions_from_the_cache(
    tiny_captioner: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photos(tmp_path / "photos", 3)
    shown = []
    for _ in range(2):
        cache = CaptionCache(str(tmp_path / "cache"), tiny_captioner.fingerprint(CANDIDATES, tiny_captioner.options))
        keeper = Keeper([], [], "skip")
        album = Album(str(tmp_path / "photos"), Corrections(tmp_path / "corrections.json"), keeper)
        album.start(find_images([album.folder]), tiny_captioner, 32, None, cache)
        assert album.thread is not None
        album.thread.join(1800)
        assert album.complete
        shown.append([(photo.candidates, photo.unsure, photo.confidence) for photo in album.photos])
        album.close()
        monkeypatch.setattr(tiny_captioner.engine, "encode", None)  # nothing is captioned any more
    assert len(shown[0]) == 3
    assert shown[0] == shown[1]


def test_texts_that_are_there_are_the_start(tmp_path: Path) -> None:
    open_album(tmp_path, number=4).close()
    (tmp_path / "photo0.txt").write_text("mine\n")
    for number in (1, 3):
        Metadata("overwrite").write(said(str(tmp_path / f"photo{number}.jpg"), "inside"))
    (tmp_path / "photo3.txt").write_text("beside\n")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("photo*")}
    album = open_album(tmp_path, "sm", None, 4)
    texts = [(photo.text, photo.place) for photo in album.photos]
    assert texts == [("mine", "photo0.txt"), ("inside", "its metadata"), (None, None), ("beside", "photo3.txt")]
    (tmp_path / "photo2.txt").write_text("came later\n")
    problems = [save(album, number, "better").problems for number in range(4)]
    assert [len(each) for each in problems] == [0, 0, 1, 1]
    assert "photo2.txt has a text already: it stays" in problems[2][0]
    assert "its metadata has a text already: it stays" in problems[3][0]  # which nobody was shown
    assert [(tmp_path / f"photo{i}.txt").read_text() for i in range(4)] == ["better!\n"] * 2 + [
        "came later\n",
        "better!\n",
    ]
    inside = [read_caption(str(tmp_path / f"photo{i}.jpg")) for i in range(4)]
    assert inside == ["better!", "better!", "better!", "inside"]
    assert save(album, 0, "best").problems == []
    assert (tmp_path / "photo0.txt").read_text() == "best!\n"
    for number in range(4):
        assert save(album, number, None).problems == []
    there = {path.name: path.read_bytes() for path in tmp_path.glob("photo*")}
    assert there == before | {"photo2.txt": b"came later\n"}
    assert [photo.text for photo in album.photos] == ["mine", "inside", "came later", "beside"]
    album.close()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_text_outside_the_folder_is_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    open_album(folder, number=1).close()
    (tmp_path / "secret").write_text("a secret\n")
    (folder / "photo0.txt").symlink_to(tmp_path / "secret")
    album = open_album(folder, "s", None, 1)
    assert album.photos[0].text is None
    album.close()
