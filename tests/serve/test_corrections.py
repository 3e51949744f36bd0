from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs the extra serve")

from capcli.serve.corrections import PHOTO_FOLDERS, Corrections, CorrectionsError
from capcli.training.data import datasets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "sub/a.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "photos"


def rows(path: Path) -> list[dict[str, object]]:
    return json.loads(path.read_text("utf-8"))


def test_photos_are_looked_for_where_training_does() -> None:
    assert PHOTO_FOLDERS == datasets.PHOTO_FOLDERS


def test_training_reads_what_is_saved(folder: Path) -> None:
    file = folder / "corrections.json"
    corrections = Corrections(file)
    for name, caption in (("sub/a.jpg", "a boat"), ("b.jpg", "ein Boot"), ("a.jpg", "a dog")):
        photo = str(folder / name)
        corrections.put({photo: {"file_path": corrections.name(photo), "captions": [caption], "said": "a cat"}})
    assert [row["file_path"] for row in rows(file)] == ["sub/a.jpg", "b.jpg", "a.jpg"]
    photos = {photo.path: photo.captions for photo in datasets.read_data_set(str(file)).photos}
    assert photos == {folder / "sub/a.jpg": ("a boat",), folder / "b.jpg": ("ein Boot",), folder / "a.jpg": ("a dog",)}
    assert datasets.read_data_set(str(folder)).photos  # the folder itself is a data set, too
    corrections.put({str(folder / "b.jpg"): None})
    assert [row["file_path"] for row in rows(file)] == ["sub/a.jpg", "a.jpg"]
    corrections.close()
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("place", ["elsewhere/mine.json", "photos/sub/mine.json"])
def test_a_list_elsewhere_names_photos_relative_to_itself(tmp_path: Path, folder: Path, place: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    corrections = Corrections(file)
    photo = str(folder / "a.jpg")
    corrections.put({photo: {"file_path": corrections.name(photo), "captions": ["a dog"]}})
    assert rows(file)[0]["file_path"] == os.path.relpath(photo, file.parent)
    assert datasets.read_data_set(str(file), allow_outside=True).photos[0].path.samefile(photo)
    corrections.close()


def test_photos_of_one_name_are_not_mistaken(folder: Path) -> None:
    """Training looks into images/ first."""
    (folder / "images").mkdir()
    (folder / "images" / "a.jpg").write_bytes(b"another")
    file = folder / "corrections.json"
    corrections = Corrections(file)
    for name in ("a.jpg", "images/a.jpg"):
        photo = str(folder / name)
        corrections.put({photo: {"file_path": corrections.name(photo), "captions": [f"a {len(name)}"]}})
    read = {photo.path.read_bytes(): photo.captions for photo in datasets.read_data_set(str(file)).photos}
    assert read == {b"a.jpg": ("a 5",), b"another": ("a 12",)}
    corrections.close()
    again = Corrections(file)
    assert again.row(str(folder / "a.jpg"))["captions"] == ["a 5"]  # type: ignore[index]
    again.close()


def test_what_a_person_wrote_stays(folder: Path) -> None:
    file = folder / "corrections.json"
    gone = {"file_path": "gone.jpg", "captions": ["a", "b"], "note": "mine"}
    file.write_text(json.dumps([gone, *({"file_path": "a.jpg", "captions": [caption]} for caption in "cd")]))
    corrections = Corrections(file)
    assert corrections.row(str(folder / "a.jpg")) == {"file_path": "a.jpg", "captions": ["c"]}
    corrections.put({str(folder / "b.jpg"): {"file_path": "b.jpg", "captions": ["x"]}})
    assert rows(file)[0] == gone
    # Somebody edits the file meanwhile.
    file.write_text(json.dumps([{"file_path": "b.jpg", "captions": ["edited"]}]))
    assert corrections.read()
    assert corrections.row(str(folder / "b.jpg"))["captions"] == ["edited"]  # type: ignore[index]
    file.write_text("no list")
    with pytest.raises(CorrectionsError, match=r"corrections\.json: not a list of captioned photos"):
        corrections.read()
    assert file.read_text() == "no list"
    corrections.close()


A_PERSONS = """ [
  {"captions": ["first"],  "file_path": "a.jpg", "rating": 5},
  {"file_path": "a.jpg", "captions": ["second"], "note": "m\\u00fcde ü", "rating": 1e0},
  {"file_path": "gone.jpg", "captions": ["x"], "by": ["me"]},\t{"file_path": "gone.jpg", "captions": ["y"]},
  {"file_path": "./b.jpg", "captions": ["b1", "b2"]}
 ]

"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "content", [A_PERSONS, A_PERSONS.replace("\n", "\r\n"), "[ ]", "[]", '[{"file_path":"b.jpg","captions":["b"]}]']
)
def test_what_is_not_changed_stays_byte_for_byte(folder: Path, content: str, encoding: str) -> None:
    file = folder / "corrections.json"
    file.write_bytes(content.encode(encoding))
    corrections = Corrections(file)
    before = {name: corrections.row(str(folder / name)) for name in ("a.jpg", "b.jpg", "sub/a.jpg")}
    for name in ("b.jpg", "sub/a.jpg", "a.jpg"):
        photo = str(folder / name)
        row = dict(corrections.row(photo) or {"file_path": name, "captions": [""]})
        corrections.put({photo: row | {"captions": ["new", *row["captions"][1:]]}})
    saved = json.loads(file.read_bytes())
    kept = [row for row in json.loads(content) if row not in before.values()]
    assert [row for row in saved if row["captions"][0] != "new"] == kept
    assert {row["file_path"] for row in saved if row["captions"][0] == "new"} >= {"a.jpg", "sub/a.jpg"}
    if content is A_PERSONS:
        assert saved[0] == {"captions": ["new"], "file_path": "a.jpg", "rating": 5}
        lines = file.read_bytes().decode(encoding).replace("\r", "").splitlines()
        assert lines[2:4] == A_PERSONS.splitlines()[2:4]
    corrections.put({str(folder / name): row for name, row in before.items()})
    assert file.read_bytes() == content.encode(encoding)
    corrections.close()


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"file_path": "a"}]', '[{"file_path": "a", "captions": []}]', "x"])
def test_another_kind_of_file_is_refused_and_left(folder: Path, content: str) -> None:
    file = folder / "corrections.json"
    file.write_text(content)
    for _ in range(2):  # the lock is free again
        with pytest.raises(CorrectionsError):
            Corrections(file)
    assert file.read_text() == content


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_and_not_waited_for(folder: Path) -> None:
    file = folder / "corrections.json"
    os.mkfifo(file)
    with pytest.raises(CorrectionsError, match=r"corrections\.json: not a regular file"):
        Corrections(file)
    file.unlink()
    corrections = Corrections(file)
    os.mkfifo(file)
    with pytest.raises(CorrectionsError, match="not a regular file"):
        corrections.read()
    corrections.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [{"filename": "a.jpg"}]}', "in Karpathy's form, .*; name another file, --corrections FILE"),
        ('[{"filename": "a.jpg", "sentences": [{"raw": "a cat"}]}]', 'row 1 is in Karpathy.*; write {"file_path"'),
        ('[{"file_path": "b.jpg", "captions": ["b"]}, {"image": 1}]', 'row 2 has no "file_path"; write'),
        ('[{"file_path": "a.jpg", "captions": []}]', r"row 1 \(a.jpg\) has no caption; write one, or remove the row"),
        (
            '[{"file_path": "a.jpg", "captions": ["a", " "]}]',
            r"row 1 \(a.jpg\) has a caption without a word; write one",
        ),
        ('[{"file_path": "a.jpg", "captions": "a cat"}]', r'row 1 \(a.jpg\) has no list of texts as "captions"; write'),
        ("[3]", "row 1 is 3; write"),
        ("[", "not a list of captioned photos"),
    ],
)
def test_it_is_said_which_row_is_wrong(folder: Path, content: str, message: str) -> None:
    file = folder / "corrections.json"
    file.write_text(content)
    with pytest.raises(CorrectionsError, match=rf"^{re.escape(str(file))}: {message}[^\n]*$"):
        Corrections(file)
    assert file.read_text() == content


def test_a_file_that_must_not_be_changed_is_refused(folder: Path) -> None:
    file, other = folder / "corrections.json", folder / "other.json"
    file.write_text("[]")
    row = {str(folder / "a.jpg"): {"file_path": "a.jpg", "captions": ["a cat"]}}
    corrections = Corrections(file)  # may still be changed, but not for long
    file.chmod(0o444)
    with pytest.raises(OSError, match="read-only"):
        corrections.put(row)
    corrections.close()
    with pytest.raises(OSError, match="read-only"):
        Corrections(file)
    file.chmod(0o644)
    try:
        os.link(file, other)
    except OSError:
        pytest.skip("no links here")
    with pytest.raises(OSError, match="hard links"):
        Corrections(file)
    assert file.read_text() == other.read_text() == "[]"
    other.unlink()
    Corrections(file).close()


def test_one_run_at_a_time_has_the_file(folder: Path) -> None:
    first = Corrections(folder / "corrections.json")
    with pytest.raises(OSError, match="in use by another run"):
        Corrections(folder / "corrections.json")
    first.close()
    Corrections(folder / "corrections.json").close()


def test_odd_names(folder: Path) -> None:
    file = folder / "corrections.json"
    corrections = Corrections(file)
    names = ["ü\n b.jpg", '"\\.jpg']
    if os.name != "nt":
        names.append("\udcff.jpg")
    for name in names:
        (folder / name).write_bytes(b"")
        photo = str(folder / name)
        corrections.put({photo: {"file_path": corrections.name(photo), "captions": ["a cat"]}})
    assert [photo.path for photo in datasets.read_photo_json(file)] == [folder / name for name in names]
    corrections.close()
