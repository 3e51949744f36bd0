import json
import re
from pathlib import Path

import pytest
from PIL import Image

from capcli.training.data.datasets import DataError, Photo, read_data_set


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photos, and a current folder that is elsewhere."""
    for name in ("a.jpg", "b/c.jpg", "b/d e.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "photos"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def read(path: Path) -> dict[str, tuple[str, ...]]:
    return {photo.path.name: photo.captions for photo in read_data_set(str(path)).photos}


CAT = {"path": "a.jpg", "caption": "a cat", "log_prob": -3.2, "score": -0.5}
ROWS = [
    {**CAT, "candidates": [CAT, {**CAT, "caption": "a dog"}, {**CAT, "caption": None}]},
    {"path": "b/c.jpg", "error": "the file is empty"},
    {**CAT, "path": "b/c.jpg", "caption": None},
    {**CAT, "path": "b/d e.jpg", "caption": "a cup"},
]


def test_rows_of_json(folder: Path) -> None:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert read(folder / "rows.jsonl") == {"a.jpg": ("a cat", "a dog"), "d e.jpg": ("a cup",)}


@pytest.mark.parametrize(("ending", "between"), [("csv", ","), ("tsv", "\t")])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])  # the second as a spreadsheet saves it
def test_tables(folder: Path, ending: str, between: str, line_end: str) -> None:
    lines = [
        "path,caption,log_prob,score,caption_2,log_prob_2,score_2,error,unsure",
        "a.jpg,a cat,-3,-1,a dog,-4,-2,,true",
        "b/c.jpg,,,,,,,the file is empty,",
        "b/d e.jpg,,-3,-1,,,,,",
    ]
    text = line_end.join([*lines, ""]).replace(",", between)
    (folder / f"rows.{ending}").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read(folder / f"rows.{ending}") == {"a.jpg": ("a cat", "a dog")}


def test_paths_are_those_of_the_current_folder_first(folder: Path) -> None:
    (folder / "rows.jsonl").write_text(json.dumps(CAT) + "\n")
    assert read_data_set(str(folder / "rows.jsonl")).photos[0].path == folder / "a.jpg"
    Image.new("RGB", (8, 8)).save("a.jpg")
    assert read_data_set(str(folder / "rows.jsonl"), allow_outside=True).photos[0].path == Path("a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: not below .*photos, once links are followed; --allow-outside"):
        read_data_set(str(folder / "rows.jsonl"))
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.jpg", "text": "a cat"}) + "\n")
    assert read_data_set(str(folder)).photos == [Photo(folder / "a.jpg", ("a cat",), "dev")]
    (folder / "rows.jsonl").write_text(json.dumps({**CAT, "path": "no-such.jpg"}) + "\n")
    with pytest.raises(DataError, match=r"rows\.jsonl: a photo is missing: .*no-such\.jpg$"):
        read_data_set(str(folder / "rows.jsonl"))


def test_image_folder_as_a_table(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,text,width\nb/d e.jpg,a cup,8\na.jpg,a cat,8\na.jpg,a dog,8\n")
    assert read(folder) == read(folder / "metadata.csv") == {"d e.jpg": ("a cup",), "a.jpg": ("a cat", "a dog")}


def test_sidecars(folder: Path) -> None:
    (folder / "a.txt").write_text("tags, of, it\n")
    (folder / "a.caption").write_text("a cat\na dog\n")
    (folder / "b" / "c.txt").write_text("\n")
    (folder / "b" / "d e.txt").write_text("a cup")
    (folder / "readme.txt").write_text("no photo's")
    assert read(folder) == {"a.jpg": ("a cat", "a dog"), "d e.jpg": ("a cup",)}
    (folder / "b" / "c.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"c\.txt is not text in UTF-8$"):
        read_data_set(str(folder))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("rows.jsonl", '{"path": "a.jpg", "caption": "a cat"}\n{"pa', "line 2 is not JSON"),
        ("rows.jsonl", "7", "line 1: 7 where a photo should be"),
        ("rows.jsonl", '{"caption": "a cat"}', "line 1: no path, file_name or image"),
        ("rows.jsonl", '{"path": "a.jpg"}', "line 1: no caption or text of a.jpg"),
        ("rows.jsonl", '{"path": "a.jpg", "caption": "!"}', "line 1: a caption of a.jpg has no word: '!'"),
        ("rows.csv", "file,caption\na.jpg,a cat\n", "line 2: no path, file_name or image"),
        ("rows.csv", "", "no captioned photos"),
    ],
)
def test_what_is_wrong_is_one_line(folder: Path, name: str, text: str, said: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=f"{name}: {re.escape(said)}"):
        read_data_set(str(folder / name))


def test_flickr8k_as_kaggle_has_it(tmp_path: Path) -> None:
    touch(tmp_path, "Images/a.jpg", "Images/b.jpg", "Images/c.jpg")
    text = 'image,caption\na.jpg,"A dog , running ."\na.jpg,A dog .\nb.jpg,A cat .\nc.jpg,"A ""cat"" ."\n'
    (tmp_path / "captions.txt").write_text(text)
    said = {"a.jpg": ("A dog , running .", "A dog ."), "b.jpg": ("A cat .",), "c.jpg": ('A "cat" .',)}
    assert read(tmp_path) == read(tmp_path / "captions.txt") == said
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("a.jpg\nb.jpg\n")
    (tmp_path / "Flickr_8k.devImages.txt").write_text("c.jpg\n")
    assert [photo.split for photo in read_data_set(str(tmp_path)).photos] == ["train", "train", "dev"]


def test_flickr30k_as_kaggle_has_it(tmp_path: Path) -> None:
    touch(tmp_path, "flickr30k_images/1.jpg", "flickr30k_images/2.jpg")
    lines = [
        "image_name| comment_number| comment",
        '1.jpg| 0| Two men , " friends " .',
        "1.jpg| 1| 2 men | outside .",
        "2.jpg| 4   A dog runs across the grass .",  # as one row of the real file is
    ]
    (tmp_path / "results.csv").write_text("\n".join(lines) + "\n")
    said = {"1.jpg": ('Two men , " friends " .', "2 men | outside ."), "2.jpg": ("A dog runs across the grass .",)}
    assert read(tmp_path) == read(tmp_path / "results.csv") == said


def test_a_sidecar_is_no_table(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "captions.jpg")
    (folder / "captions.txt").write_text("an image, of captions\n")
    assert read(folder) == {"captions.jpg": ("an image, of captions",)}
