"""Captions as Parquet: one file, or a folder of files that a later run continues."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from folders import make_photos, photo_bytes
from typer.testing import CliRunner

from capcli.cli.app import app
from capcli.files import OutputError
from capcli.installing import install_line
from capcli.outputs.formats import FORMATS, format_for
from capcli.outputs.parquet import ParquetFolder, ParquetRows, parts_of, read_parquet
from capcli.outputs.resume import check_rows, finished_images, open_rows
from capcli.outputs.rows import Layout, Rows
from capcli.results import ImageError

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'capcli[parquet]'")
import pyarrow as pa
import pyarrow.parquet as pq

ONE = {"caption": "a cat", "log_prob": -3.25, "score": 0.0}
COLUMNS = ["path", "caption", "log_prob", "score", "candidates", "unsure", "error", "confidence", "kinds"]
JUDGED = {"confidence": 0.8, "kinds": [{"name": "polar bear", "probability": 0.8215}]}


def caption(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, **ONE, **more}


def failure(path: str) -> dict[str, Any]:
    return {"path": path, "error": "not an image"}


def open_for(output: Path | str, resume: bool = False, overwrite: bool = False, least: float | None = None) -> Rows:
    kind, layout = format_for("parquet", str(output)), Layout(min_confidence=least)
    check_rows(str(output), kind, layout, resume, overwrite)
    return open_rows(str(output), kind, layout, resume, overwrite)


def save(output: Path | str, *rows: dict[str, Any], **how: Any) -> None:
    opened = open_for(output, **how)
    for row in rows:
        if row["path"] not in opened.finished:
            opened.copy(row)
    opened.close()


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return [row for part in parts_of(folder) for row in read_parquet(part)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ParquetRows, "group", 2)
    monkeypatch.setattr(ParquetFolder, "group", 2)


@pytest.mark.parametrize(
    "rows", [[caption("a")], [failure("a")], [caption("a", **JUDGED, candidates=[ONE, ONE]), failure("b")]]
)
def test_columns_have_the_same_types_whatever_the_rows(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    save(tmp_path / "o.parquet", *rows)
    table = pq.read_table(tmp_path / "o.parquet")
    assert table.column_names == COLUMNS
    assert [table.schema.field(name).type for name in ("path", "caption", "error")] == [pa.string()] * 3
    assert [table.schema.field(name).type for name in ("log_prob", "score", "unsure")] == [
        *[pa.float64()] * 2,
        pa.bool_(),
    ]
    candidates = table.schema.field("candidates").type.value_type
    assert [(field.name, field.type) for field in candidates] == [
        ("caption", pa.string()),
        *[(name, pa.float64()) for name in ("log_prob", "score")],
    ]
    assert list(read_parquet(tmp_path / "o.parquet")) == rows


@pytest.mark.usefixtures("small_groups")
def test_a_file_has_whole_row_groups_and_is_there_when_it_is_complete(tmp_path: Path) -> None:
    output = tmp_path / "o.parquet"
    rows = [caption(f"{i}.jpg", unsure=True) for i in range(5)]
    opened = open_for(output)
    for row in rows:
        opened.copy(row)
        opened.flush()
    assert not output.exists()
    opened.close()
    assert pq.ParquetFile(output).num_row_groups == 3
    assert list(read_parquet(output)) == rows
    assert [p.name for p in tmp_path.iterdir()] == ["o.parquet"]


@pytest.mark.usefixtures("small_groups")
def test_an_abandoned_file_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "o.parquet"
    save(output, caption("old"))
    with pytest.raises(OutputError, match="exists; use --existing overwrite"):
        open_for(output)
    opened = open_for(output, overwrite=True)
    for i in range(3):
        opened.copy(caption(str(i)))
    opened.discard()
    assert list(read_parquet(output)) == [caption("old")]
    assert [p.name for p in tmp_path.iterdir()] == ["o.parquet"]
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    del opened
    gc.collect()
    assert complaints == []


@pytest.mark.usefixtures("small_groups")
def test_a_folder_grows_by_whole_files(tmp_path: Path) -> None:
    opened = open_for(f"{tmp_path}/out/")
    for i in range(5):
        opened.copy(caption(f"{i}.jpg"))
        opened.flush()
        assert len(rows_in(tmp_path / "out")) == (i + 1) // 2 * 2  # whole at every moment
    opened.close()
    assert [p.name for p in parts_of(tmp_path / "out")] == [f"part-00000{i}.parquet" for i in (1, 2, 3)]
    assert [row["path"] for row in rows_in(tmp_path / "out")] == [f"{i}.jpg" for i in range(5)]
    assert len(pq.read_table(tmp_path / "out")) == 5  # as one data set


@pytest.mark.usefixtures("small_groups")
def test_a_killed_run_is_continued_and_failures_get_another_chance(folder: Path) -> None:
    opened = open_for(folder)
    done = [caption("0.jpg"), failure("1.jpg"), failure("2.jpg"), failure("3.jpg"), caption("4.jpg")]
    for row in done:
        opened.copy(row)
    opened.discard()  # without the fifth, as after `kill -9`
    kind = format_for("parquet", str(folder))
    assert finished_images(str(folder), kind, Layout()) == {"0.jpg": True}
    rows = [caption(f"{i}.jpg") for i in range(5)]
    save(folder, *rows, resume=True)
    assert sorted(rows_in(folder), key=lambda row: row["path"]) == rows
    before = {part: part.read_bytes() for part in parts_of(folder)}
    save(folder, *rows, resume=True)
    assert {part: part.read_bytes() for part in parts_of(folder)} == before


def test_captions_of_too_little_confidence_get_another_chance_where_it_would_do(folder: Path) -> None:
    low = {"path": "a.jpg", "caption": None, "log_prob": -9.0, "score": -2.0, "confidence": 0.4}
    save(folder, low, least=0.6)
    assert open_and_close(folder, 0.6) == {"a.jpg": False}
    assert open_and_close(folder, 0.3) == {}


def open_and_close(folder: Path, least: float) -> dict[str, bool]:
    opened = open_for(folder, resume=True, least=least)
    opened.close()
    return opened.finished


@pytest.mark.usefixtures("small_groups")
def test_what_is_replaced_stays_until_there_is_something_new(folder: Path) -> None:
    save(folder, *(caption(f"old{i}") for i in range(5)))
    with pytest.raises(OutputError, match="has captions in it; use --resume or --existing overwrite"):
        open_for(folder)
    opened = open_for(folder, overwrite=True)
    opened.copy(caption("new0"))
    assert len(rows_in(folder)) == 5
    opened.copy(caption("new1"))
    assert [row["path"] for row in rows_in(folder)] == ["new0", "new1"]
    opened.close()


def test_two_runs_cannot_write_to_one_folder(folder: Path) -> None:
    opened = open_for(folder)
    with pytest.raises(OutputError, match="another run"):
        open_for(folder, resume=True)
    opened.close()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_what_is_not_ours_is_left_alone(folder: Path, how: str) -> None:
    pq.write_table(pa.table({"path": ["a"], "likes": [3]}), folder / "part-000001.parquet")
    pq.write_table(pa.table({"x": [1]}), folder / "part-0-of-2.parquet")  # not a name of ours
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OutputError, match=r"part-000001\.parquet: not parquet as this command writes it"):
        open_for(folder, **{how: True})
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    save(tmp_path / "o.parquet", *(caption(str(i)) for i in range(50)))
    whole = (tmp_path / "o.parquet").read_bytes()
    for content in (b"", b"PAR1", whole[:-9], whole[: len(whole) // 2], b"dear diary"):
        (tmp_path / "o.parquet").write_bytes(content)
        with pytest.raises(OutputError, match="not parquet as this command writes it"):
            list(read_parquet(tmp_path / "o.parquet"))
    draw = random.Random(0)
    for _ in range(30):  # a flipped byte gives an error of ours, or a table
        broken = bytearray(whole)
        broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
        (tmp_path / "o.parquet").write_bytes(broken)
        with contextlib.suppress(OutputError):
            list(read_parquet(tmp_path / "o.parquet"))


def test_numbers_that_are_none_are_named_by_their_record(tmp_path: Path) -> None:
    save(tmp_path / "o.parquet", caption("a"), caption("b", score=math.nan))
    with pytest.raises(OutputError, match="record 2 is not parquet as this command writes it"):
        list(read_parquet(tmp_path / "o.parquet"))


def test_a_name_that_is_not_utf_8_fails_alone(tmp_path: Path) -> None:
    opened = open_for(tmp_path / "o.parquet")
    with pytest.raises(ImageError, match="not UTF-8"):
        opened.copy(caption("raw\udcff.jpg"))
    opened.copy({"path": "a.jpg", "error": "raw\udcff.txt: no space left"})
    opened.close()
    assert list(read_parquet(tmp_path / "o.parquet")) == [{"path": "a.jpg", "error": "raw\\udcff.txt: no space left"}]


def test_without_pyarrow_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "1.jsonl").write_text('{"path": "a.jpg", "caption": "a cat"}\n')
    needs = f"Parquet needs an extra package: {install_line('parquet')}"
    for output in ("o.parquet", "out/"):
        done = CliRunner().invoke(app, ["caption", ".", "--format", "parquet", "-o", f"{tmp_path}/{output}"])
        assert (done.exit_code, done.stderr) == (2, f"capcli: {tmp_path}/{output}: {needs}\n")
    done = CliRunner().invoke(app, ["write", f"{tmp_path}/1.jsonl", "-o", f"{tmp_path}/o.parquet"])
    assert (done.exit_code, done.stderr) == (2, f"capcli: {tmp_path}/o.parquet: {needs}\n")
    (tmp_path / "p.parquet").touch()
    done = CliRunner().invoke(app, ["write", f"{tmp_path}/p.parquet"])
    assert (done.exit_code, done.stderr) == (2, f"capcli: {tmp_path}/p.parquet: {needs}\n")


def test_parquet_has_no_place_on_stdout_or_a_device(tmp_path: Path) -> None:
    for arguments, said in [
        (["caption", ".", "--format", "parquet"], "--format parquet needs --output FILE or --output FOLDER/"),
        (["caption", ".", "-o", "o.parquet", "--resume"], "--resume needs --output FILE"),
        (["write", "absent.csv", "--format", "parquet"], "--format parquet needs --output FILE"),
        (["write", "absent.csv", "--format", "parquet", "-o", f"{tmp_path}/"], "is a folder; name a file"),
    ]:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    if os.path.exists("/dev/null"):
        with pytest.raises(OutputError, match="pipe or a device"):
            open_for("/dev/null")


def test_only_folders_get_parts(tmp_path: Path) -> None:
    assert format_for("parquet", str(tmp_path)) is format_for("parquet", "new/") is ParquetFolder
    assert format_for("parquet", "new.parquet") is FORMATS["parquet"] is ParquetRows
    assert format_for("csv", str(tmp_path)) is FORMATS["csv"]


NOTHING = "no photo with a text beside it, and no part-….parquet from capcli, in this folder"


def test_write_reads_and_writes_it(folder: Path, tmp_path: Path) -> None:
    first = [caption("a.jpg", candidates=[ONE, ONE]), failure("b.jpg")]
    save(folder, *first)
    save(tmp_path / "1.parquet", caption("b.jpg", unsure=True))
    for source, target in [((folder, tmp_path / "1.parquet"), "o.jsonl"), ((tmp_path / "o.jsonl",), "o.parquet")]:
        done = CliRunner().invoke(app, ["write", *map(str, source), "-o", str(tmp_path / target)])
        assert done.exit_code == 0, done.stderr
    assert list(read_parquet(tmp_path / "o.parquet")) == [first[0], caption("b.jpg", unsure=True, candidates=[ONE])]
    done = CliRunner().invoke(app, ["write", str(tmp_path)])
    assert (done.exit_code, done.stderr) == (2, f"capcli: {tmp_path}: {NOTHING}\n")


def test_keywords_have_a_column_where_they_were_asked_for(folder: Path, tmp_path: Path) -> None:
    save(folder, caption("a.jpg"), failure("b.jpg"))
    kind, layout = format_for("parquet", str(folder)), Layout(keywords=True)
    opened = open_rows(str(folder), kind, layout, True, False)  # an old folder, continued
    assert opened.finished == {"a.jpg": True}
    rows = [caption("b.jpg", keywords=["cat", "sofa"]), caption("c.jpg")]
    for row in (*rows, failure("d.jpg")):
        opened.copy(row)
    opened.close()
    save(folder, caption("d.jpg"), resume=True)  # takes the failure out, and leaves the keywords
    assert rows_in(folder) == [caption("a.jpg"), *rows, caption("d.jpg")]
    first, second, _ = parts_of(folder)
    assert pq.read_schema(first).names == COLUMNS
    assert pq.read_schema(second).names == [*COLUMNS, "keywords"]
    assert pq.read_schema(second).field("keywords").type == pa.list_(pa.string())
    done = CliRunner().invoke(app, ["write", str(folder), "-o", str(tmp_path / "o.parquet")])
    assert done.exit_code == 0, done.stderr
    assert list(read_parquet(tmp_path / "o.parquet")) == rows_in(folder)


def test_a_folder_of_photos_becomes_a_folder_of_parts(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 6)
    photos[0].write_text("not a photo")

    def run(*arguments: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, [*map(str, arguments)])
        return done.exit_code, done.stdout, done.stderr

    common = ("caption", photos[0].parent, "--model", tiny_checkpoint, "--num", 2, "-q")
    parts = (*common, "-o", f"{tmp_path}/out/", "--format", "parquet")
    assert run(*parts)[0] == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["part-000001.parquet"]
    assert run(*parts)[0] == 2
    photos[0].write_bytes(photo_bytes(99))
    listed = run(*parts, "--resume", "--dry-run")[1].splitlines()
    assert [line.split("\t")[0] for line in listed] == ["caption", *["skip"] * 5]
    assert run(*parts, "--resume")[0] == 0
    assert run(*common, "-o", tmp_path / "o.jsonl")[0] == 0
    assert run("write", tmp_path / "out", "-o", tmp_path / "merged.jsonl")[0] == 0
    merged, expected = (sorted((tmp_path / name).read_text().splitlines()) for name in ("merged.jsonl", "o.jsonl"))
    assert merged == expected
    assert run(*common, "-o", tmp_path / "o.parquet")[0] == 0
    assert run("write", tmp_path / "out", tmp_path / "o.parquet", "-o", tmp_path / "both.csv")[0] == 0
