"""From arguments to blocks, without what is done."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from capcli.results import ImageError

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'capcli[parquet]'")
import pyarrow as pa
import pyarrow.parquet as pq

from capcli.distributed.blocks import Embedded, Listed, Shard
from capcli.distributed.listing import Listing
from capcli.distributed.manifest import ManifestError
from capcli.distributed.output import Done
from capcli.distributed.reach import Reach
from capcli.distributed.table import keys_of


def listing(folder: Path, done: Done | None = None, retry: bool = False, block_rows: int = 3) -> Listing:
    return Listing(Reach(str(folder)), done or Done(), retry, block_rows, 1)


def blocks(listed: Listing) -> list[list[str]]:
    return [block.rows["path"].to_pylist() for block in listed.blocks]


def test_paths_in_blocks(tmp_path: Path) -> None:
    listed = listing(tmp_path)
    names = ["a", "b", "a", ImageError("x", "no"), "c", "d", "raw\udcff", "s3://bucket/e", "f", "g", "h"]
    listed.add_paths(names)
    assert blocks(listed) == [["a", "b", "c"], ["d", "s3://bucket/e", "f"], ["g", "h"]]
    assert [block.number for block in listed.blocks] == [1, 2, 3]
    assert [(failure.path, listed.rows) for failure in listed.failures] == [("x", 8), ("raw\udcff", 8)]
    assert listed.protocols == {"s3"}


def test_what_is_done_is_left_out_and_the_rest_fills_blocks(tmp_path: Path) -> None:
    done = Done(set(keys_of(pa.table({"path": ["a", "c"]}))), set(keys_of(pa.table({"path": ["b"]}))))
    for retry, expected in ((False, [["d", "e", "f"]]), (True, [["b", "d", "e"], ["f"]])):
        listed = listing(tmp_path, done, retry)
        listed.add_paths(list("abcdef"))
        assert blocks(listed) == expected
        assert listed.skipped == 6 - sum(map(len, expected))
    everything = Done(set(keys_of(pa.table({"path": list("abcdef")}))))
    listed = listing(tmp_path, everything)
    listed.add_paths(list("abcdef"))
    assert (listed.blocks, listed.skipped) == ([], 6)


def test_a_block_takes_its_own_rows_with_it_and_no_others(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": [f"{i:0100}" for i in range(10_000)]}), tmp_path / "m.parquet")
    listed = listing(tmp_path, block_rows=10)
    listed.add_manifest("m.parquet", "url")
    assert (len(listed.blocks), listed.rows) == (1000, 10_000)
    assert max(len(pickle.dumps(block)) for block in listed.blocks) < 5000


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_manifest_of_paths(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {"url": pa.array(["a", None, "b", "", "a", "a"], kind), "likes": [1, 2, 3, 4, 1, 5], "caption": ["x"] * 6}
    pq.write_table(pa.table(columns), tmp_path / "m.parquet", row_group_size=2)
    listed = listing(tmp_path, block_rows=4)
    listed.add_manifest("m.parquet", "url")
    assert blocks(listed) == [["a", "m.parquet#1", "b", "m.parquet#3"], ["a"]]  # the fifth is the first again
    assert listed.blocks[1].others().to_pylist() == [{"likes": 5, "given_caption": "x"}]
    assert all(isinstance(block, Listed) for block in listed.blocks)


def encoded(number: int) -> list[bytes]:
    return [bytes([i]) for i in range(number)]


def test_a_manifest_of_images_is_cut_between_row_groups(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(10)]
    pq.write_table(pa.table({"image": encoded(10), "path": names}), tmp_path / "m.parquet", row_group_size=2)
    done = Done(set(keys_of(pa.table({"path": ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "5.jpg"]}))))
    listed = listing(tmp_path, done)
    listed.add_manifest("m.parquet", "image")
    (second, third) = listed.blocks
    assert isinstance(second, Embedded)
    assert isinstance(third, Embedded)
    assert blocks(listed) == [["4.jpg", "6.jpg", "7.jpg"], names[8:]]
    assert (second.groups, second.offsets) == ([2, 3], [0, 2, 3])
    assert (third.groups, third.offsets) == ([4], [0, 1])
    assert [image for _, image in third.images(listed.reach)] == [b"\x08", b"\x09"]
    assert second.others().column_names == []


def test_images_without_names_are_called_by_their_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": encoded(3)}), tmp_path / "m.parquet", row_group_size=2)
    listed = listing(tmp_path, block_rows=1)
    listed.add_manifest("m.parquet", "image")
    assert blocks(listed) == [["m.parquet#0", "m.parquet#1"], ["m.parquet#2"]]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"path": ["a"]}, "no column url; there are path"),
        ({"url": [3]}, "column url holds int64, neither paths nor encoded images"),
        ({"url": [{"a": b"x"}]}, "column url holds struct<a: binary>, neither paths nor encoded images"),
        ({"url": ["a"], "error": [1], "given_error": [2]}, "two columns would have the same name in the output"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path: Path, columns: dict[str, list[Any]], said: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    with pytest.raises(ManifestError) as caught:
        listing(tmp_path).add_manifest("m.parquet", "url")
    assert str(caught.value) == f"m.parquet: {said}"


def test_broken_and_differing_manifests_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_bytes(b"dear diary")
    for name in ("m.parquet", "absent.parquet", "ftp://host/m.parquet"):
        with pytest.raises(ManifestError) as caught:
            listing(tmp_path).add_manifest(name, "url")
        assert str(caught.value).startswith(f"{name}: ")
        assert "\n" not in str(caught.value)
    pq.write_table(pa.table({"url": ["a"], "likes": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"url": ["b"], "likes": ["many"]}), tmp_path / "2.parquet")
    listed = listing(tmp_path)
    listed.add_manifest("1.parquet", "url")
    with pytest.raises(ManifestError, match=r"2\.parquet: its other columns are not those of the manifest before it"):
        listed.add_manifest("2.parquet", "url")


def test_shards_that_have_rows_are_done(tmp_path: Path) -> None:
    done = Done(shards={"1.tar", "2.tar"}, failing={"2.tar"})
    listed = listing(tmp_path, done)
    listed.add_shards(["1.tar", "2.tar", "3.tar", "3.tar"], tmp_path)
    assert [block.file for block in listed.blocks if isinstance(block, Shard)] == ["3.tar"]
    assert listed.skipped == 2
    listed = listing(tmp_path, done, retry=True)
    listed.add_shards(["1.tar", "2.tar"], tmp_path)
    assert [block.file for block in listed.blocks if isinstance(block, Shard)] == ["2.tar"]
    with pytest.raises(ManifestError, match=r"a#b\.tar: a shard's name may hold no #"):
        listing(tmp_path).add_shards(["a#b.tar"], tmp_path)
