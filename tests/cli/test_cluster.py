"""`capcli cluster` but for Ray: the actors work one after the other in this process."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from folders import make_photos, make_tar, photo_bytes
from typer.testing import CliRunner

from capcli.cli.app import app
from capcli.cli.signals import Stop
from capcli.installing import install_line

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'capcli[parquet]'")
import pyarrow as pa
import pyarrow.parquet as pq

from capcli.distributed import cluster
from capcli.distributed.actor import Actor, Orders, Report
from capcli.distributed.blocks import Block
from capcli.distributed.output import name_of_part
from capcli.outputs.parquet import parts_of


class Here:
    """As much of a Cluster as the command uses.

    started: how many there have been.
    last: how many blocks the next one does before it is killed; None for all.
    """

    started = 0
    last: int | None = None

    def __init__(self, address: str, say: object) -> None:
        Here.started += 1

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def count_actors(self, wanted: int | None, gpus: float) -> int:
        return wanted or 2

    def caption(self, blocks: Sequence[Block], orders: Orders, actors: int, gpus: float) -> Iterator[Report]:
        actor = Actor(orders)
        for block in blocks[: Here.last]:
            yield actor.caption(block)
        if Here.last is not None:
            raise Stop(143)  # as main() makes of SIGTERM


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "Cluster", Here)
    monkeypatch.setattr(Here, "started", 0)
    monkeypatch.setattr(Here, "last", None)
    monkeypatch.setattr("capcli.cli.job.check_packages", lambda: None)
    monkeypatch.setattr("capcli.cli.job.set_up_actor", print)
    monkeypatch.setattr("capcli.distributed.listing.BLOCK_ROWS", 4)


@pytest.fixture
def common(tiny_checkpoint: Path, tmp_path: Path) -> tuple[object, ...]:
    return ("--model", tiny_checkpoint, "-o", f"{tmp_path}/out/")


def run(*arguments: object) -> tuple[int, list[str]]:
    """Exit status, and lines on stderr."""
    done = CliRunner().invoke(app, ["cluster", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, [line.removeprefix("capcli: ") for line in done.stderr.splitlines()]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for part in parts_of(folder / "out") for row in pq.read_table(part).to_pylist()]


def test_a_folder_becomes_parts_that_merge_reads(common: tuple[object, ...], tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 10)
    photos[3].write_text("not a photo")
    status, said = run(tmp_path / "photos", *common, "--num", 2)
    assert status == 1
    assert said[0] == f"{photos[3]}: not an image in a format that can be read"
    assert "9 images captioned" in said
    assert "1 of 10 images failed" in said
    assert [part.name for part in parts_of(tmp_path / "out")] == [name_of_part(1_000_001 + i) for i in range(3)]
    assert [row["path"] for row in rows(tmp_path)] == list(map(str, photos))
    plain = CliRunner().invoke(
        app,
        ["caption", str(tmp_path / "photos"), *map(str, common[:2]), "--num", "2", "-o", f"{tmp_path}/o.jsonl", "-q"],
    )
    assert plain.exit_code == 1
    merged = CliRunner().invoke(app, ["write", f"{tmp_path}/out", "-o", f"{tmp_path}/merged.jsonl"])
    assert merged.exit_code == 0, merged.stderr
    texts = [
        [row.get("caption") for row in map(json.loads, (tmp_path / name).read_text().splitlines())]
        for name in ("o.jsonl", "merged.jsonl")
    ]
    assert texts[0] == texts[1]


def test_a_run_that_is_stopped_goes_on_and_twice_is_nothing_to_do(
    common: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos(tmp_path / "photos", 10)
    photos[0].write_text("not a photo")
    monkeypatch.setattr(Here, "last", 2)
    status, said = run(tmp_path / "photos", *common)
    assert (status, said[-1]) == (143, "interrupted; to continue, run the same command with --resume")
    assert len(rows(tmp_path)) == 8
    monkeypatch.setattr(Here, "last", None)
    assert run(tmp_path / "photos", *common)[0] == 2
    status, said = run(tmp_path / "photos", *common, "--resume")
    assert status == 1
    assert said == ["2 images captioned", "8 images skipped: already captioned", again(1)]
    assert sorted(row["path"] for row in rows(tmp_path)) == sorted(map(str, photos))
    assert Here.started == 2
    before = {part: part.read_bytes() for part in parts_of(tmp_path / "out")}
    status, said = run(tmp_path / "photos", *common, "--resume")
    assert (status, said) == (1, ["0 images captioned", "10 images skipped: already captioned", again(1)])
    assert {part: part.read_bytes() for part in parts_of(tmp_path / "out")} == before
    assert Here.started == 2
    photos[0].write_bytes(photo_bytes(0))
    assert run(tmp_path / "photos", *common, "--resume", "--retry-failed")[0] == 0
    assert sorted(row["path"] for row in rows(tmp_path)) == sorted(map(str, photos))
    assert not any(row["error"] for row in rows(tmp_path))


def again(number: int) -> str:
    return f"{number} image{'s' * (number > 1)} failed in earlier runs; --retry-failed tries again"


def test_half_written_files_are_done_again(common: tuple[object, ...], tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 10)
    assert run(tmp_path / "photos", *common)[0] == 0
    first = parts_of(tmp_path / "out")[0]
    first.write_bytes(first.read_bytes()[:-7])
    status, said = run(tmp_path / "photos", *common, "--resume")
    assert (status, said[0]) == (0, f"{first}: half written; removed, so its images are captioned again")
    assert len({row["path"] for row in rows(tmp_path)}) == len(rows(tmp_path)) == 10


def test_what_is_there_is_not_replaced(common: tuple[object, ...], tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 5)
    assert run(tmp_path / "photos", *common)[0] == 0
    status, said = run(tmp_path / "photos", *common)
    assert (status, said) == (2, [f"{tmp_path}/out/: has captions in it; use --resume, or name another folder"])
    assert run(tmp_path / "photos", *common, "--resume")[0] == 0
    foreign = tmp_path / "out" / name_of_part(3)
    pq.write_table(pa.table({"x": [1]}), foreign)
    status, said = run(tmp_path / "photos", *common, "--resume")
    assert (status, said) == (2, [f"{foreign}: not parquet as this command writes it; left as it is"])
    assert len(parts_of(tmp_path / "out")) == 3


def test_a_manifest_keeps_its_columns(common: tuple[object, ...], tmp_path: Path) -> None:
    photos = [str(photo) for photo in make_photos(tmp_path / "photos", 6)]
    (tmp_path / "lists").mkdir()
    for name, part in (("1", photos[:3]), ("2", photos[3:])):
        pq.write_table(
            pa.table({"file": part, "caption": ["x"] * 3, "n": [1, 2, 3]}), tmp_path / "lists" / f"{name}.parquet"
        )
    assert run(tmp_path / "lists", "--column", "file", *common) == (0, ["6 images captioned"])
    assert [(row["path"], row["given_caption"], row["n"]) for row in rows(tmp_path)] == [
        (photo, "x", i % 3 + 1) for i, photo in enumerate(photos)
    ]
    assert run(tmp_path / "lists", "--column", "file", *common, "--resume")[0] == 0
    assert len(rows(tmp_path)) == 6
    status, said = run(tmp_path / "photos", *common, "--resume")
    assert (status, said) == (2, [f"{tmp_path}/out: has other columns besides the captions; name another folder"])
    done = CliRunner().invoke(app, ["write", f"{tmp_path}/out"])
    assert (done.exit_code, done.stdout.count("\n")) == (0, 6)


def test_shards_are_read_again_where_something_failed(common: tuple[object, ...], tmp_path: Path) -> None:
    make_tar(tmp_path / "0.tar", {f"{i}.jpg": photo_bytes(i) for i in range(3)})
    make_tar(tmp_path / "1.tar", {"a.jpg": photo_bytes(4), "b.jpg": b"broken", "b.txt": b"text"})
    command = (tmp_path / "*.tar", *common)
    assert run(*command)[0] == 1
    assert len(rows(tmp_path)) == 5
    assert run(*command, "--resume") == (1, ["0 images captioned", "2 images skipped: already captioned", again(1)])
    make_tar(tmp_path / "1.tar", {"a.jpg": photo_bytes(4), "b.jpg": photo_bytes(5), "b.txt": b"text"})
    assert run(*command, "--resume", "--retry-failed")[0] == 0
    assert sorted(row["path"] for row in rows(tmp_path)) == [
        *(f"{tmp_path}/0.tar#{i}.jpg" for i in range(3)),
        *(f"{tmp_path}/1.tar#{name}.jpg" for name in "ab"),
    ]
    assert [row["txt"] for row in rows(tmp_path) if row.get("txt")] == [b"text"]


def test_trouble_of_a_machine_ends_the_run(
    common: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photos(tmp_path / "photos", 5)

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device", "out/part.parquet")

    monkeypatch.setattr("capcli.distributed.actor.write", no_room)
    status, said = run(tmp_path / "photos", *common)
    assert status == 1
    assert said[0].endswith(": out/part.parquet: no space left on device")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "captions.parquet"], "--output captions.parquet: must be a FOLDER/, which gets Parquet files"),
        (["-o", "-"], "--output -: must be a FOLDER/, which gets Parquet files"),
        (["-o", "s3://bucket/out/"], "--output s3://bucket/out/: must be a folder that all machines share"),
        (["--retry-failed"], "--retry-failed needs --resume"),
        (["--set", "beam=0"], "beam is 0, not between 1 and 100"),
        (["--column", "x", "--files-from", "-"], "--column cannot be combined with --files-from"),
        (["--column", "x", "a.tar"], "a.tar: --column does not apply to shards"),
        (["m.parquet"], "m.parquet: needs --column NAME, the column that holds the images"),
        (["-"], "- stands for an image on stdin, which a cluster cannot read"),
        (["https://host/a.jpg"], "https:// is fetched with --allow-https only"),
        (["absent"], "absent: no such file or folder"),
        (["--model", "absent"], "absent: "),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    common: tuple[object, ...], tmp_path: Path, options: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photos(tmp_path / "photos", 1)
    make_tar(tmp_path / "a.tar", {})
    pq.write_table(pa.table({"x": ["a"]}), tmp_path / "m.parquet")
    monkeypatch.chdir(tmp_path)
    status, lines = run(tmp_path / "photos" if "--column" not in options else "m.parquet", *common, *options)
    assert (status, len(lines)) == (2, 1)
    assert lines[0].startswith(said)
    assert Here.started == 0
    assert not os.path.exists("out")


def test_caption_says_where_it_went(tmp_path: Path) -> None:
    for option in ("--ray=local", "--ray"):
        done = CliRunner().invoke(app, ["caption", str(tmp_path), option, "local"])
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "capcli cluster PATHS --output FOLDER/" in done.stderr


def test_without_the_extra_a_line_says_what_to_install(
    common: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(tmp_path, *common) == (2, [f"a cluster needs extra packages: {install_line('ray')}"])
