"""What an output has already, whatever runs that were killed left there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from capcli.files import OutputError

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'capcli[parquet]'")
import pyarrow as pa
import pyarrow.parquet as pq

from capcli.distributed.output import captions_in, clear, first_number, name_of_part, read_part, settle
from capcli.distributed.table import captioned, keys_of
from capcli.outputs.parquet import parts_of


def save(folder: Path, number: int, *rows: tuple[str, str], **others: list[Any]) -> Path:
    """A part with these paths and errors; a row without an error has a caption."""
    made = [{"path": path} | ({"error": error} if error else {"caption": "a cat"}) for path, error in rows]
    path = folder / name_of_part(number)
    pq.write_table(captioned(made, pa.table(others)), path)
    return path


def paths(folder: Path) -> list[tuple[str, str]]:
    tables = [read_part(part) for part in parts_of(folder)]
    return [(row["path"], row["error"] or "") for table in tables for row in table.to_pylist()]


def keys(*names: str) -> set[bytes]:
    return set(keys_of(pa.table({"path": names})))


def test_what_is_done_and_what_failed(tmp_path: Path) -> None:
    save(tmp_path, 1, ("a", ""), ("b", "broken"))
    save(tmp_path, 2, ("c", ""))
    before = {part: part.read_bytes() for part in parts_of(tmp_path)}
    done = settle(tmp_path)
    assert (done.captioned, done.failed) == (keys("a", "c"), keys("b"))
    assert {part: part.read_bytes() for part in parts_of(tmp_path)} == before
    assert settle(tmp_path / "absent").others is None


def test_a_caption_takes_the_place_of_failures_and_the_last_failure_that_of_others(tmp_path: Path) -> None:
    save(tmp_path, 1, ("a", "no"), ("b", "first"), ("c", ""))
    save(tmp_path, 2, ("b", "second"), ("c", ""))
    save(tmp_path, 3, ("a", ""))
    save(tmp_path, 4, ("a", "late"))
    done = settle(tmp_path)
    assert paths(tmp_path) == [("c", ""), ("b", "second"), ("a", "")]
    assert [part.name for part in parts_of(tmp_path)] == [name_of_part(number) for number in (1, 2, 3)]
    assert (done.captioned, done.failed) == (keys("a", "c"), keys("b"))


def test_other_columns_tell_rows_apart(tmp_path: Path) -> None:
    save(tmp_path, 1, ("a", ""), ("a", ""), ("a", "no"), likes=[1, 2, None])
    done = settle(tmp_path)
    assert len(done.captioned) == 2
    assert done.failed == keys("a")  # an empty column is as good as none
    assert done.others == pa.schema([("likes", pa.int64())])
    save(tmp_path, 2, ("a", ""))
    settle(tmp_path)
    assert paths(tmp_path) == [("a", ""), ("a", ""), ("a", "")]


def test_shards(tmp_path: Path) -> None:
    save(tmp_path, 1, ("1.tar#a.jpg", ""), ("1.tar#b.jpg", "no"), ("2.tar#a#b.jpg", ""), ("3.tar", "cut short"))
    done = settle(tmp_path, ["1.tar", "2.tar", "3.tar", "4.tar"])
    assert (done.shards, done.failing) == ({"1.tar", "2.tar", "3.tar"}, {"1.tar", "3.tar"})
    assert captions_in(tmp_path, done.failing) == {"1.tar": {"1.tar#a.jpg"}, "3.tar": set()}
    save(tmp_path, 2, ("3.tar#a.jpg", ""))  # it was whole this time
    assert settle(tmp_path, ["3.tar"]).failing == {"3.tar"}
    assert settle(tmp_path, ["3.tar"]).failing == set()
    assert ("3.tar", "cut short") not in paths(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 8, 0.5, -1])
def test_half_written_files_are_removed(tmp_path: Path, kept: float) -> None:
    save(tmp_path, 1, ("a", ""))
    half = save(tmp_path, 2, *((f"{i}.jpg", "") for i in range(50)))
    content = half.read_bytes()
    half.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    (tmp_path / f".{name_of_part(3)}-0123abcd.tmp").write_bytes(b"PAR1")
    (tmp_path / "notes.txt").write_text("mine")
    (line,) = clear(tmp_path)
    assert line == f"{half}: half written; removed, so its images are captioned again"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", name_of_part(1)]
    assert settle(tmp_path).captioned == keys("a")


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    save(tmp_path, 1, ("a", ""))
    for content in (b"dear diary", b"PAR1 and so on, but no table of anything PAR1"):
        (tmp_path / name_of_part(2)).write_bytes(content)
        assert list(clear(tmp_path)) == []
        with pytest.raises(OutputError, match="not parquet as this command writes it; left as it is"):
            settle(tmp_path)
        assert (tmp_path / name_of_part(2)).read_bytes() == content
    pq.write_table(pa.table({"path": ["a"], "likes": [3]}), tmp_path / name_of_part(2))
    with pytest.raises(OutputError, match="not parquet as this command writes it; left as it is"):
        settle(tmp_path)


def test_each_run_has_numbers_of_its_own(tmp_path: Path) -> None:
    assert first_number(tmp_path) == 1_000_001
    save(tmp_path, 17, ("a", ""))  # as a run without Ray writes it
    assert first_number(tmp_path) == 1_000_001
    save(tmp_path, 1_000_003, ("b", ""))
    assert first_number(tmp_path) == 2_000_001
