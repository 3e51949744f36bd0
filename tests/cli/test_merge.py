"""`capcli merge`: outputs of several runs as one, in any format."""

from __future__ import annotations

import csv
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from capcli.cli.app import app
from capcli.outputs import resume
from capcli.outputs.formats import FORMATS, dump
from capcli.outputs.resume import whole_rows

NAMES = ["a.jpg", "tab\tand\nline\r.jpg", 'quo"te, comma.jpg', "back\\slash\\t.jpg", "ünï/日本.jpg"]
NAMES += ["raw\udcff.jpg"] * (os.name == "posix")
LOSSLESS = ("jsonl", "json", "csv", "tsv")


def caption(path: str, text: str | None = "a cat", **more: Any) -> dict[str, Any]:
    return {"path": path, "caption": text, "log_prob": -3.25, "score": -0.5, **more}


def failure(path: str, reason: str = "not an image") -> dict[str, Any]:
    return {"path": path, "error": reason}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_bytes("".join(dump(row) + "\n" for row in rows).encode())
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command that runs in this process."""
    done = CliRunner().invoke(app, ["merge", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_parts_come_in_the_order_given(tmp_path: Path) -> None:
    one = write(tmp_path / "b.jsonl", caption("2.jpg"), failure("1.jpg"))
    other = write(tmp_path / "a.jsonl", caption("3.jpg", unsure=True))
    status, output, errors = run(one, other, "-o", tmp_path / "all.jsonl")
    assert (status, output) == (0, "")
    assert errors == "capcli: 2 captions and 1 failure from 2 files; 0 duplicates left out\n"
    assert read(tmp_path / "all.jsonl") == read(one) + read(other)


@pytest.mark.parametrize("ending", LOSSLESS)
def test_keywords_come_through_every_format(tmp_path: Path, ending: str) -> None:
    rows = [caption("a", keywords=["cat", "t-shirt"]), caption("b", candidates=[]), failure("c")]
    part = write(tmp_path / "1.jsonl", *rows)
    assert run(part, "-o", tmp_path / f"2.{ending}")[0] == 0
    assert run(tmp_path / f"2.{ending}", "-o", tmp_path / "3.jsonl")[0] == 0
    assert read(tmp_path / "3.jsonl") == [rows[0], caption("b"), rows[2]]
    wrong = write(tmp_path / "4.jsonl", caption("a", keywords=["cat", 1]))
    assert "record 1 is not jsonl as this command writes it" in run(wrong)[2]


def test_equal_rows_are_kept_once_and_failures_only_without_a_caption(tmp_path: Path) -> None:
    one = write(tmp_path / "1.jsonl", failure("a"), caption("b"), caption("b"), failure("c", "first"))
    other = write(tmp_path / "2.jsonl", caption("a"), caption("b"), failure("b"), failure("c", "second"))
    status, _, errors = run(one, other, "-o", tmp_path / "all.jsonl")
    assert status == 0
    assert "2 captions and 1 failure from 2 files; 5 duplicates left out" in errors
    assert read(tmp_path / "all.jsonl") == [caption("b"), failure("c", "first"), caption("a")]


def test_captions_that_differ_are_refused_with_both_files(tmp_path: Path) -> None:
    parts = [
        write(tmp_path / "1.jsonl", failure("x.jpg")),
        write(tmp_path / "2.jsonl", caption("x.jpg")),
        write(tmp_path / "3.jsonl", caption("x.jpg", "a dog")),
    ]
    status, _, errors = run(*parts, "-o", tmp_path / "all.jsonl")
    assert (status, errors) == (2, f"capcli: x.jpg: has two captions that differ, in {parts[1]} and {parts[2]}\n")
    assert not (tmp_path / "all.jsonl").exists()


@pytest.mark.parametrize("through", LOSSLESS)
@pytest.mark.parametrize("num", [1, 3])
def test_formats_turn_into_each_other_without_loss(tmp_path: Path, through: str, num: int) -> None:
    rows = [caption(name, f"cat {i}") for i, name in enumerate(NAMES)]
    rows[0]["unsure"] = True
    rows[1]["caption"] = None  # scored too low
    if num > 1:
        for row in rows:
            row["candidates"] = [{key: row[key] for key in ("caption", "log_prob", "score")}] * num
        del rows[2]["candidates"][1:]  # as where the search found no more
    rows.append(failure("bad.jpg"))
    there = tmp_path / f"there.{through}"
    back = tmp_path / "back.jsonl"
    for source, target in [(write(tmp_path / "rows.jsonl", *rows), there), (there, back)]:
        status, _, errors = run(source, "-o", target)
        assert (status, errors.count("\n")) == (0, 1), errors
    assert read(back) == rows
    if through == "json":
        assert json.loads(there.read_bytes()) == rows
    if through == "csv":
        with there.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            assert [row["path"] for row in csv.DictReader(file)] == [row["path"] for row in rows]


@pytest.mark.parametrize("num", [1, 2])
def test_text_keeps_names_captions_and_scores(tmp_path: Path, num: int) -> None:
    rows = [caption(name, f"cat {i}") for i, name in enumerate(NAMES)]
    for row in rows:
        if num > 1:
            row["candidates"] = [{key: row[key] for key in ("caption", "log_prob", "score")}] * num
    run(write(tmp_path / "rows.jsonl", *rows, failure("bad.jpg")), "-o", tmp_path / "there.txt")
    assert (tmp_path / "there.txt").read_bytes().count(b"\n") == num * len(rows)
    assert run(tmp_path / "there.txt", "-o", tmp_path / "back.jsonl")[0] == 0
    back = read(tmp_path / "back.jsonl")
    assert [(row["path"], row["caption"]) for row in back] == [(row["path"], row["caption"]) for row in rows]
    assert all(row["log_prob"] is None for row in back)
    assert all(row["score"] == (-0.5 if num > 1 else None) for row in back)
    assert all(len(row.get("candidates", "x")) == num for row in back)


def test_parts_of_several_formats_agree(tmp_path: Path) -> None:
    part = write(tmp_path / "1.jsonl", caption("a.jpg", unsure=True), failure("b.jpg"))
    others = [tmp_path / f"1.{name}" for name in LOSSLESS if name != "jsonl"]
    for other in others:
        assert run(part, "-o", other)[0] == 0
    assert run(part, *others, "-o", tmp_path / "all.jsonl")[0] == 0
    assert read(tmp_path / "all.jsonl") == read(part)


def test_the_most_candidates_decide_the_columns(tmp_path: Path) -> None:
    several = caption("a.jpg", candidates=[{"caption": "a cat", "log_prob": -3.25, "score": -0.5}] * 3)
    write(tmp_path / "1.jsonl", caption("b.jpg"))
    write(tmp_path / "2.jsonl", several)
    assert run(tmp_path / "1.jsonl", tmp_path / "2.jsonl", "-o", tmp_path / "all.tsv")[0] == 0
    heading, *lines = (tmp_path / "all.tsv").read_text().splitlines()
    assert "caption_3" in heading
    assert {line.count("\t") for line in lines} == {heading.count("\t")}


def test_without_an_output_rows_go_to_stdout(tmp_path: Path) -> None:
    part = write(tmp_path / "1.jsonl", caption("a.jpg"))
    assert run(part)[1] == "a.jpg\ta cat\n"
    assert run(part, "--format", "jsonl")[1] == part.read_text()


def test_an_existing_output_is_refused(tmp_path: Path) -> None:
    part, output = write(tmp_path / "1.jsonl", caption("a.jpg")), tmp_path / "all.csv"
    output.write_text("mine")
    status, _, errors = run(part, "-o", output)
    assert (status, errors) == (2, f"capcli: {output}: exists; use --existing overwrite, or name another file\n")
    assert output.read_text() == "mine"
    assert run(part, "-o", output, "--existing", "overwrite")[0] == 0
    assert output.read_text().startswith("path,")
    status, _, errors = run(part, "-o", part, "--existing", "overwrite")
    assert (status, errors) == (2, f"capcli: {part}: is also the output; name another file\n")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("o.csv", "a,b\n1,2\n", "not csv as this command writes it"),
        ("o.csv", "path,caption,log_prob,score,error,unsure\na,b,x,-1,,\n", "record 2 is not csv"),
        ("o.csv", "path,caption,log_prob,score,error,unsure\na,b,-1,-1,,maybe\n", "record 2 is not csv"),
        ("o.jsonl", '{"path": "a", "caption": "b"}\n{"path": "a"}\n', "record 2 is not jsonl"),
        ("o.jsonl", '{"path": "a", "caption": "b", "score": NaN}\n', "record 1 is not jsonl"),
        ("o.jsonl", '{"path": "a", "caption": ["b"]}\n', "record 1 is not jsonl"),
        ("o.jsonl", '{"path": "a", "caption": "b", "likes": 3}\n', "record 1 is not jsonl"),
        ("o.jsonl", '{"path": "a", "caption": "b"}\n{"path": "c", "capt', "record 2 is half written"),
        ("o.json", '{"path": "a", "caption": "b"}\n', "not json as this command writes it"),
        ("o.json", '[\n{\n"path": "a", "caption": "b"}\n]\n', "record 2 is not json"),
        ("o.txt", "a\tb\nno more than a caption\n", "record 2 is not text"),
        ("o.txt", "a\\q\tb\n", "record 1 is not text" if os.name == "posix" else ""),
        ("o.jpg", "", "unknown ending"),
        ("absent.csv", None, "no such file"),
    ],
)
def test_what_is_not_ours_is_refused(tmp_path: Path, name: str, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    good = write(tmp_path / "good.jsonl", caption("z.jpg"))
    status, output, errors = run(good, tmp_path / name, "-o", tmp_path / "all.jsonl")
    if reason:
        assert (status, output) == (2, "")
        assert errors.startswith(f"capcli: {tmp_path / name}: {reason}")
        assert errors.count("\n") == 1
        assert not (tmp_path / "all.jsonl").exists()


def test_a_part_that_changes_meanwhile_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = write(tmp_path / "1.jsonl", caption("a.jpg"), caption("b.jpg"))
    opening = resume.open_rows

    def changing(*arguments: Any) -> Any:
        write(part, caption("a.jpg"), caption("b.jpg", "a dog"))
        return opening(*arguments)

    monkeypatch.setattr(resume, "open_rows", changing)
    status, _, errors = run(part, "-o", tmp_path / "all.jsonl")
    assert (status, errors.count("\n")) == (1, 1)
    assert "changed while it was read" in errors
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.jsonl"]


@pytest.mark.parametrize("name", ["jsonl", "csv", "json"])
def test_a_large_part_is_never_whole_in_memory(tmp_path: Path, name: str) -> None:
    number, long = 500, "a long caption " * 200
    big = tmp_path / f"big.{name}"
    run(write(tmp_path / "rows.jsonl", *(caption(f"{i}.jpg", long) for i in range(number))), "-o", big)
    tracemalloc.start()
    count = sum(1 for _ in whole_rows(str(big), FORMATS[name]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == number
    assert peak < big.stat().st_size / 4
