"""What a process of a cluster does with a block, without a cluster."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import pytest
from folders import make_photos, photo_bytes

import capcli

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'capcli[parquet]'")
import pyarrow as pa
import pyarrow.parquet as pq
from folders import make_tar

from capcli import Captioner
from capcli.distributed import blocks
from capcli.distributed.actor import Actor, Orders, Report
from capcli.distributed.blocks import Block, Embedded, Listed, Shard
from capcli.distributed.output import name_of_part
from capcli.distributed.reach import Reach
from capcli.outputs.parquet import read_parquet, schema
from capcli.outputs.rows import as_row

OTHERS = pa.schema([("likes", pa.int32()), ("tags", pa.list_(pa.string())), ("given_caption", pa.string())])


@pytest.fixture
def orders(tiny_files: Path, tmp_path: Path) -> Orders:
    (tmp_path / "out").mkdir()
    return Orders(str(tmp_path / "out"), Reach(str(tmp_path)), capcli.__version__, str(tiny_files), batch_size=4)


def captioned(orders: Orders, *blocks: Block) -> list[Report]:
    """The reports on blocks, handed over as Ray does."""
    table = Actor(orders)(pa.table({"block": pa.array(map(pickle.dumps, blocks), pa.binary())}))
    return [pickle.loads(report) for report in table["report"].to_pylist()]


def part(orders: Orders, number: int) -> pa.Table:
    return pq.read_table(Path(orders.output) / name_of_part(number))


def named(paths: list[str], **others: list[Any]) -> pa.Table:
    columns = [pa.array(others.get(field.name) or [None] * len(paths), field.type) for field in OTHERS]
    return pa.table([pa.array(paths, pa.string()), *columns], schema=pa.schema([("path", pa.string()), *OTHERS]))


@pytest.mark.parametrize("fails", [(), (1,), (0, 1, 2)])
def test_columns_have_the_same_types_whatever_fails(orders: Orders, tmp_path: Path, fails: tuple[int, ...]) -> None:
    for i, photo in enumerate(make_photos(tmp_path / "photos", 3)):
        if i in fails:
            photo.write_text("not a photo")
    paths = [f"photos/photo{i}.jpg" for i in range(3)]
    rows = named(paths, likes=[3, None, 5], tags=[["a"], None, []], given_caption=["x", "y", None])
    (report,) = captioned(orders, Listed(1, rows))
    assert (report.number, report.rows, report.trouble) == (1, 3, "")
    assert [path for path, _, _ in report.failures] == [paths[i] for i in fails]
    table = part(orders, 1)
    assert table.schema.equals(pa.schema([*schema(keywords=False), *OTHERS]))
    assert table["path"].to_pylist() == paths
    assert table["error"].is_valid().to_pylist() == [i in fails for i in range(3)]
    assert table["caption"].is_valid().to_pylist() == [i not in fails for i in range(3)]
    assert table.select(OTHERS.names).equals(rows.select(OTHERS.names))


def test_captions_are_those_of_a_captioner(orders: Orders, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 9)
    (report,) = captioned(orders, Listed(7, pa.table({"path": [f"photos/{photo.name}" for photo in photos]})))
    captioner = Captioner.load(orders.model, "cpu")
    expected = [
        as_row(caption, 1) | {"path": f"photos/{photo.name}"}
        for photo, caption in zip(photos, captioner.caption(photos), strict=True)
    ]
    found = list(read_parquet(Path(orders.output) / name_of_part(7)))
    assert [row["caption"] for row in found] == [row["caption"] for row in expected]
    assert [row["path"] for row in found] == [row["path"] for row in expected]
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in expected], abs=1e-3)
    assert report.unsure == sum(row.get("unsure", False) for row in found)


@pytest.mark.parametrize("nested", [False, True])
def test_encoded_images(orders: Orders, tmp_path: Path, nested: bool) -> None:
    images = [photo_bytes(0), b"no photo", photo_bytes(2), None, photo_bytes(4), photo_bytes(5)]
    column: list[Any] = [{"bytes": image, "path": "same.jpg"} for image in images] if nested else images
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if nested else pa.large_binary()
    pq.write_table(pa.table({"image": pa.array(column, kind)}), tmp_path / "m.parquet", row_group_size=2)
    rows = pa.table({"path": ["a", "b", "c"], "likes": [1, 2, 3]})  # 1, 3 and 4 of the last four rows
    reports = captioned(orders, Embedded(1, rows, [0, 1, 3], "m.parquet", [1, 2], "image"))
    assert [(path, reason) for path, reason, _ in reports[0].failures] == [("b", "no image in its row")]
    assert part(orders, 1).schema.names == [*schema(keywords=False).names, "likes"]
    captions = part(orders, 1)["caption"].to_pylist()
    captioner = Captioner.load(orders.model, "cpu")
    assert [captions[0], captions[2]] == [captioner.caption(photo_bytes(seed)).text for seed in (2, 5)]
    (tmp_path / "m.parquet").write_bytes(b"PAR1")
    (report,) = captioned(orders, Embedded(2, rows, [0, 1, 3], "m.parquet", [1, 2], "image"))
    assert (report.rows, len(report.failures), report.trouble) == (3, 3, "")
    assert report.failures[0][1].startswith("m.parquet: ")


def test_a_shard(orders: Orders, tmp_path: Path) -> None:
    files = {
        "x/0.jpg": photo_bytes(0),
        "x/0.json": b'{"a": 1}',
        "x/1.txt": b"alone",
        "x/2.caption": b"a cat",
        "x/2.seg.png": photo_bytes(2, "PNG"),
        "x/2.jpg": photo_bytes(3),
        "y/2.jpg": b"no photo",
    }
    make_tar(tmp_path / "s.tar", files)
    (report,) = captioned(orders, Shard(1, "s.tar"))
    assert (report.rows, report.trouble) == (4, "")
    table = part(orders, 1)
    assert table["path"].to_pylist() == ["s.tar#x/0.jpg", "s.tar#x/1", "s.tar#x/2.seg.png", "s.tar#y/2.jpg"]
    assert table["json"].to_pylist() == [b'{"a": 1}', None, None, None]
    assert table["given_caption"].to_pylist() == [None, None, b"a cat", None]
    assert table["error"].to_pylist()[:3] == [None, "no image in this sample", None]
    assert table.schema.field("txt").type == pa.binary()
    (report,) = captioned(orders, Shard(2, "s.tar", frozenset(["s.tar#x/0.jpg", "s.tar#x/2.seg.png"])))
    assert part(orders, 2)["path"].to_pylist() == ["s.tar#x/1", "s.tar#y/2.jpg"]


def test_what_is_too_large_in_a_shard_is_not_read(
    orders: Orders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MOST_BYTES", 100_000)
    large = bytes(1_000_000)
    files = {"0.jpg": photo_bytes(0), "1.jpg": large, "2.jpg": photo_bytes(2), "2.json": large, "3.jpg": photo_bytes(3)}
    make_tar(tmp_path / "s.tar", files)
    (tmp_path / "s.tar.gz").write_bytes(gzip.compress((tmp_path / "s.tar").read_bytes()))
    (report,) = captioned(orders, Shard(1, "s.tar.gz"))
    table = part(orders, 1)
    assert table["path"].to_pylist() == [f"s.tar.gz#{i}.jpg" for i in range(4)]
    reasons = [f"{name}: 1,000,000 bytes, more than the limit of 100,000 bytes" for name in ("1.jpg", "2.json")]
    assert table["error"].to_pylist() == [None, *reasons, None]
    assert len(report.failures) == 2


def test_a_shard_that_is_cut_short_gives_what_it_has(orders: Orders, tmp_path: Path) -> None:
    make_tar(tmp_path / "s.tar", {f"{i}.jpg": photo_bytes(i) for i in range(4)})
    whole = (tmp_path / "s.tar").read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[: whole.index(photo_bytes(2)) + 100])
    (tmp_path / "t.tar").write_text("no shard")
    reports = captioned(orders, Shard(1, "s.tar"), Shard(2, "t.tar"), Shard(3, "absent.tar"))
    assert part(orders, 1)["path"].to_pylist() == ["s.tar#0.jpg", "s.tar#1.jpg", "s.tar"]
    assert [report.failures[0][0] for report in reports] == ["s.tar", "t.tar", "absent.tar"]
    assert reports[2].failures[0][1] == "no such file or directory"


def test_a_block_without_images_gets_no_file(orders: Orders, tmp_path: Path) -> None:
    make_tar(tmp_path / "empty.tar", {})
    reports = captioned(orders, Listed(1, named([])), Shard(2, "empty.tar"))
    assert [(report.rows, report.trouble) for report in reports] == [(0, ""), (0, "")]
    assert list(Path(orders.output).iterdir()) == []


def test_trouble_is_told_instead_of_raised(orders: Orders, tmp_path: Path) -> None:
    make_photos(tmp_path, 1)
    block = Listed(1, pa.table({"path": ["photo0.jpg"]}))
    (report,) = captioned(Orders(str(tmp_path / "absent"), orders.reach, capcli.__version__, orders.model), block)
    assert "absent/part-000000001.parquet: no such file or directory" in report.trouble
    (report,) = captioned(Orders(orders.output, orders.reach, "0.0", orders.model), block)
    assert report.trouble.endswith(f"has capcli {capcli.__version__}, not 0.0")
    (report,) = captioned(Orders(orders.output, orders.reach, capcli.__version__, str(tmp_path / "none")), block)
    assert "none" in report.trouble
    assert "\n" not in report.trouble
    assert list(Path(orders.output).iterdir()) == []
