"""Data sets as they are found: shards, Parquet, ImageFolder by split, Karpathy's file beside the photos."""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import PHOTOS
from folders import make_tar

from capcli.images.decode import open_square
from capcli.training.data.datasets import DataError, DataSet, read_data_set
from capcli.training.data.features import load_view
from capcli.training.data.packed import read_group

CAT, CUP = ((PHOTOS / name).read_bytes() for name in ("chelsea.jpg", "coffee.jpg"))


def said(data_set: DataSet) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {photo.path.name: (photo.split, photo.captions) for photo in data_set.photos}


def as_stored(data_set: DataSet, name: str) -> None:
    """The photo with this name is the one of this content, as one of its own file is."""
    (photo,) = [photo for photo in data_set.photos if photo.path.name == name]
    own = PHOTOS / ("chelsea.jpg" if "cat" in photo.captions[0] else "coffee.jpg")
    expected = torch.tensor(list(open_square(own, 48).tobytes()), dtype=torch.uint8).view(48, 48, 3).permute(2, 0, 1)
    assert torch.equal(load_view(photo, 0, 48), expected)


def test_webdataset_shards(tmp_path: Path) -> None:
    make_tar(
        tmp_path / "train-0000.tar",
        {
            "a.jpg": CAT,
            "a.txt": b"a cat\na cat looks\n\n",
            "b.cls": b"7",
            "b.jpg": CUP,
            "b.json": b'{"caption": "a cup", "x": 1}',
            "c.jpg": CUP,  # no captions
            "d.txt": b"no photo",
        },
    )
    make_tar(tmp_path / "train-0001.tar", {"e.seg.png": CUP, "e.caption": b"a saucer"})
    make_tar(
        tmp_path / "val-0000.tar", {"x/a.jpeg": CUP, "x/a.json": json.dumps({"captions": ["a mug", "!"]}).encode()}
    )
    data_set = read_data_set(str(tmp_path))
    assert said(data_set) == {
        "a.jpg": ("train", ("a cat", "a cat looks")),
        "b.jpg": ("train", ("a cup",)),
        "e.seg.png": ("train", ("a saucer",)),
        "a.jpeg": ("dev", ("a mug",)),
    }
    for name in ("a.jpg", "b.jpg", "e.seg.png", "a.jpeg"):
        as_stored(data_set, name)
    stamps = {photo.stamp() for photo in data_set.photos}
    assert len(stamps) == 4
    assert len(read_data_set(str(tmp_path / "train-0000.tar")).photos) == 2


def test_a_shard_that_cannot_be_read_in_place(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO())
    with pytest.raises(DataError, match=r"a\.tar: not a tar file that can be read in place"):
        read_data_set(str(tmp_path))
    make_tar(tmp_path / "a.tar", {"a.jpg": CAT, "a.json": b"{"})
    with pytest.raises(DataError, match=r"a\.tar: the \.json of a\.jpg is not JSON"):
        read_data_set(str(tmp_path))


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)


def test_parquet_as_the_library_datasets_stores_it(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": content, "path": f"{number}.jpg"}, "caption": [f"{what} {number}"], "split": split}
        for number, (content, what, split) in enumerate(
            [(CAT, "a cat", "train"), (CUP, "a cup", "restval"), (CAT, "one cat", "val"), (CUP, "one cup", "test")]
        )
    ]
    write_parquet(tmp_path / "data/train-00000-of-00001.parquet", rows)
    data_set = read_data_set(str(tmp_path))
    assert said(data_set) == {
        "0.jpg": ("train", ("a cat 0",)),
        "1.jpg": ("train", ("a cup 1",)),
        "2.jpg": ("dev", ("one cat 2",)),
        "3.jpg": ("test", ("one cup 3",)),
    }
    for name in ("3.jpg", "0.jpg", "2.jpg"):
        as_stored(data_set, name)
    read_group.cache_clear()


def test_parquet_of_bytes_with_a_caption_a_row(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [{"jpg": CAT, "sentences": [{"raw": "a cat"}, {"raw": ""}]}])
    write_parquet(tmp_path / "validation.parquet", [{"jpg": CUP, "sentences": [{"raw": "a cup"}]}])
    data_set = read_data_set(str(tmp_path))
    assert [(photo.split, photo.captions) for photo in data_set.photos] == [("train", ("a cat",)), ("dev", ("a cup",))]
    read_group.cache_clear()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": 1, "caption": "a cat"}, "no column of photos and captions; it has id, caption"),
        ({"image": "a.jpg", "caption": "a cat"}, "the column image holds string, not encoded photos"),
    ],
)
def test_parquet_without_photos_says_what_it_has(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    write_parquet(tmp_path / "a.parquet", [row])
    with pytest.raises(DataError, match=message):
        read_data_set(str(tmp_path / "a.parquet"))
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"b\.parquet: not a Parquet file that can be read"):
        read_data_set(str(tmp_path / "b.parquet"))


def test_image_folder_by_split(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("validation", "b")):
        (tmp_path / split).mkdir()
        shutil.copy(PHOTOS / "coffee.jpg", tmp_path / split / f"{name}.jpg")
        line = json.dumps({"file_name": f"{name}.jpg", "text": f"a cup {name}"})
        (tmp_path / split / "metadata.jsonl").write_text(line + "\n")
    assert said(read_data_set(str(tmp_path))) == {"a.jpg": ("train", ("a cup a",)), "b.jpg": ("dev", ("a cup b",))}


def test_karpathys_file_beside_cocos_own_and_kaggles(tmp_path: Path) -> None:
    coco, flickr = tmp_path / "coco", tmp_path / "flickr"
    for name in ("coco/train2017/000000000009.jpg", "coco/val2017/000000000042.jpg", "flickr/flickr30k_images/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    own = {"images": [{"id": 9, "file_name": "000000000009.jpg"}], "annotations": []}
    (coco / "captions_train2017.json").write_text(json.dumps(own))
    rows = [
        {"filepath": "train2014", "filename": "COCO_train2014_000000000009.jpg", "split": "restval"},
        {"filepath": "val2014", "filename": "COCO_val2014_000000000042.jpg", "split": "val"},
    ]
    content = {"images": [row | {"sentences": [{"raw": "a dog"}]} for row in rows]}
    (coco / "dataset_coco.json").write_text(json.dumps(content))
    splits = {photo.path.relative_to(coco): photo.split for photo in read_data_set(str(coco)).photos}
    assert splits == {Path("train2017/000000000009.jpg"): "train", Path("val2017/000000000042.jpg"): "dev"}
    (flickr / "results.csv").write_text("image_name| comment_number| comment\n1.jpg| 0| a dog\n")
    assert [photo.split for photo in read_data_set(str(flickr), hold_out=False).photos] == ["train"]
    rows = [{"filename": "1.jpg", "split": "test", "sentences": [{"raw": "a dog"}]}]
    (flickr / "dataset_flickr30k.json").write_text(json.dumps({"images": rows}))
    (photo,) = read_data_set(str(flickr)).photos
    assert (photo.path, photo.split) == (flickr / "flickr30k_images/1.jpg", "test")


def test_a_limit_takes_photos_from_everywhere(tmp_path: Path) -> None:
    rows = [{"file_path": f"{i}.jpg", "captions": ["x"], "split": "dev" if i < 3 else "train"} for i in range(23)]
    for row in rows:
        (tmp_path / str(row["file_path"])).touch()
    (tmp_path / "a.json").write_text(json.dumps(rows))
    whole = read_data_set(str(tmp_path))
    few = whole.limited(4)
    assert [photo.path.stem for photo in few.split("train")] == ["3", "8", "13", "18"]
    assert len(few.split("dev")) == 3
    assert whole.limited(None) == whole
