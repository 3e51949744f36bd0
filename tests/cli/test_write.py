"""`capcli write`: captions from elsewhere go to photos, and outputs become one, in any format."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from fakes import PHOTOS
from folders import make_photos
from typer.testing import CliRunner

from capcli.cli.app import app
from capcli.outputs import resume
from capcli.outputs.formats import dump
from capcli.outputs.incoming import rows_in
from capcli.outputs.metadata import read_image
from capcli.outputs.xmp_sidecars import XmpFile

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
    done = CliRunner().invoke(app, ["write", *map(str, arguments)])
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
    assert "record 1: keywords that are no texts" in run(wrong)[2]


def test_equal_rows_are_kept_once_and_failures_only_without_a_caption(tmp_path: Path) -> None:
    one = write(tmp_path / "1.jsonl", failure("a"), caption("b"), caption("b"), failure("c", "first"))
    other = write(tmp_path / "2.jsonl", caption("a"), caption("b"), failure("b"), failure("c", "second"))
    status, _, errors = run(one, other, "-o", tmp_path / "all.jsonl")
    assert status == 0
    assert "2 captions and 1 failure from 2 files; 5 duplicates left out" in errors
    assert read(tmp_path / "all.jsonl") == [caption("b"), failure("c", "first"), caption("a")]


def test_captions_that_differ_fail_with_both_files(tmp_path: Path) -> None:
    parts = [
        write(tmp_path / "1.jsonl", failure("x.jpg"), caption("y.jpg")),
        write(tmp_path / "2.jsonl", caption("x.jpg")),
        write(tmp_path / "3.jsonl", caption("x.jpg", "a dog")),
    ]
    status, _, errors = run(*parts, "-o", tmp_path / "all.jsonl")
    wrong = f"has two captions that differ, in {parts[1]} and {parts[2]}"
    assert (status, errors.splitlines()[0]) == (1, f"capcli: x.jpg: {wrong}")
    assert read(tmp_path / "all.jsonl") == [caption("y.jpg"), failure("x.jpg", wrong)]


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
    assert (status, errors) == (2, f"capcli: --output {part}: is read by this command; name another file\n")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("o.csv", "a,b\n1,2\n", "no column path or file_name among a, b; name it with --column path=NAME"),
        ("o.csv", "path,caption\na,b,c\n", "record 2: 3 cells below 2 columns"),
        ("o.csv", 'path,caption\na,"b', "its last record is half written"),
        ("o.csv", "path,caption,score\na,b", "its last record is half written"),
        ("o.csv", 'path,caption\na,"b"c\n', "record 2 is not csv"),
        ("o.jsonl", '{"path": "a", "caption": "b"}\n{"path": "a"}\n', "record 2: no caption or text"),
        ("o.jsonl", '{"path": "a", "caption": 3}\n', "record 1: the caption 3 is no text"),
        ("o.jsonl", '{"path": "a", "caption": "b"}\n{"path": "c", "capt', "its last record is half written"),
        ("o.jsonl", '{"path": "a", "caption": "b"}\n{"path"\n{"path": "a"}\n', "record 2 is not jsonl"),
        ("o.json", '{"path": "a", "caption": "b"}\n', "record 1: not a list of captions"),
        ("o.json", '[\n{"path": "a", "caption": "b"},\n{"path"\n]\n', "record 2 is not json"),
        ("o.txt", "a\tb\nno more than a caption\n", "record 2: not path<TAB>caption"),
        ("o.txt", "a\\q\tb\n", "record 1: not path<TAB>caption" if os.name == "posix" else ""),
        ("o.jpg", "", "unknown ending"),
        ("absent.csv", None, "no such file"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, content: str | None, reason: str) -> None:
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
    count = sum(1 for _ in rows_in(str(big), {}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == number
    assert peak < big.stat().st_size / 4


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """photos/photo0.jpg …, in the current folder."""
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos", 4)
    return [Path("photos", f"photo{i}.jpg") for i in range(4)]


def test_captions_go_where_those_of_caption_go(photos: list[Path], tmp_path: Path) -> None:
    write(Path("c.jsonl"), caption(str(photos[0]), keywords=["cat", "sofa"]), caption(str(photos[1]), "a dog"))
    places = ("--sidecar", "--write-metadata", "--xmp", "--fields", "description,alt,keywords", "--html", "p.html")
    status, output, errors = run("c.jsonl", *places)
    assert (status, output) == (0, "")
    assert errors.splitlines()[1] == "capcli: 2 photos written"
    for photo, text, keywords in ((photos[0], "a cat", ("cat", "sofa")), (photos[1], "a dog", ())):
        assert photo.with_suffix(".txt").read_text() == f"{text}\n"
        beside = XmpFile(Path(f"{photo}.xmp").read_bytes()).shown
        assert (beside.description, beside.alt, beside.keywords) == (text, text, keywords)
        assert read_image(str(photo)).shown == beside
        assert text in Path("p.html").read_text()
    assert run("c.jsonl", "--sidecar", "--output-dir", "texts")[0] == 0
    assert sorted(path.name for path in Path("texts").iterdir()) == ["photo0.txt", "photo1.txt"]


def test_existing_texts_stay_unless_told_otherwise(photos: list[Path]) -> None:
    write(Path("c.jsonl"), *(caption(str(photo)) for photo in photos[:2]))
    photos[0].with_suffix(".txt").write_text("mine\n")
    status, _, errors = run("c.jsonl", "--sidecar")
    assert (status, errors.splitlines()[1]) == (0, "capcli: 1 photo written, 1 already captioned")
    assert photos[0].with_suffix(".txt").read_text() == "mine\n"
    assert run("c.jsonl", "--sidecar", "--existing", "append")[0] == 0
    assert photos[0].with_suffix(".txt").read_text() == "mine, a cat\n"


def test_a_dry_run_shows_old_and_new_texts(photos: list[Path]) -> None:
    write(Path("c.jsonl"), caption(str(photos[0])), caption(str(photos[1]), "a dog"))
    photos[0].with_suffix(".txt").write_text("mine\nof old\n")
    run("c.jsonl", "--write-metadata")
    before = {path: path.read_bytes() for path in Path("photos").iterdir()}
    write(Path("c.jsonl"), caption(str(photos[0])), caption(str(photos[1]), "a brown dog"), caption("gone.jpg"))
    status, output, errors = run("c.jsonl", *("--sidecar", "--write-metadata", "--existing", "overwrite", "--dry-run"))
    assert output.splitlines() == [
        f"{photos[0]}: {photos[0].with_suffix('.txt')}",
        *("- mine", "- of old", "+ a cat"),
        f"{photos[1]}: {photos[1].with_suffix('.txt')}",
        "+ a brown dog",
        f"{photos[1]}: its metadata, description",
        *("- a dog", "+ a brown dog"),
    ]
    said = "capcli: 3 files would change, 1 failed; nothing was written"
    assert (status, errors.splitlines()) == (1, ["capcli: gone.jpg: no such photo", said])
    assert {path: path.read_bytes() for path in Path("photos").iterdir()} == before


@pytest.mark.parametrize(
    ("options", "left_out"),
    [(["--write-metadata"], 1), (["--write-metadata", "--keep-unsure"], 0), (["--html", "p.html"], 0)],
)
def test_a_dry_run_counts_unsure_captions_as_the_real_one(
    photos: list[Path], options: list[str], left_out: int
) -> None:
    rows = [caption(str(photos[0]), unsure=True), caption(str(photos[1])), caption(str(photos[2]), None, unsure=True)]
    write(Path("c.jsonl"), *rows)
    said = [f"capcli: {left_out} unsure caption left out: --keep-unsure writes them"] * left_out
    for more in (["--dry-run"], []):
        errors = run("c.jsonl", *options, *more)[2].splitlines()
        assert [line for line in errors if "left out:" in line] == said
    assert f"capcli: {2 - left_out} photo{'s' * (not left_out)} written, 1 without a caption" in errors


def test_what_cannot_be_written_is_named_and_counted(photos: list[Path]) -> None:
    first, second, third, fourth = map(str, photos)
    rows = [caption("gone.jpg"), caption(first, None), failure(second), caption(third), caption(third)]
    write(Path("1.jsonl"), *rows, caption(fourth))
    write(Path("2.jsonl"), caption(fourth, "a dog"))
    status, _, errors = run("1.jsonl", "2.jsonl", "--sidecar")
    assert status == 1
    assert errors.splitlines() == [
        f"capcli: {first}: its caption is empty",
        "capcli: gone.jpg: no such photo",
        f"capcli: {fourth}: has two captions that differ, in 1.jsonl and 2.jsonl",
        "capcli: 3 captions and 1 failure from 2 files; 1 duplicate left out",
        "capcli: 1 photo written, 1 without a caption, 2 failed",
    ]
    assert [path.name for path in Path("photos").glob("*.txt")] == ["photo2.txt"]


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("c.csv", "\ufeffcaption;note;path\r\na red ball;mine;photos/photo0.jpg\r\n", ()),
        ("c.csv", 'sep=;\r\n"path";"caption"\r\n"photos/photo0.jpg";"a red ball"', ()),
        ("c.tsv", "file\tdescription\nphotos/photo0.jpg\ta red ball\n", ("path=file", "caption=description")),
        ("photos/metadata.csv", "file_name,text\nphoto0.jpg,a red ball\n", ()),
        ("photos/metadata.jsonl", '{"file_name": "photo0.jpg", "text": "a red ball", "more": 1}\n', ()),
        ("photos/corrections.json", '[\n{"file_path": "photo0.jpg", "captions": ["a red ball"]}\n]\n', ()),
        ("c.json", '[{"image": "photos/photo0.jpg",\n "caption": "a red ball"}]', ()),
        ("photos/c.csv", "path,caption\nphoto0.jpg,a red ball\n", ()),  # its paths were relative to another folder
    ],
)
def test_rows_are_read_whoever_wrote_them(
    photos: list[Path], name: str, content: str, options: tuple[str, ...]
) -> None:
    Path(name).write_text(content, "utf-8", newline="")
    columns = [word for option in options for word in ("--column", option)]
    status, _, errors = run(name, "--sidecar", *columns)
    assert (status, errors.splitlines()[1]) == (0, "capcli: 1 photo written")
    assert photos[0].with_suffix(".txt").read_text() == "a red ball\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_spreadsheet_may_choose_the_encoding(photos: list[Path], encoding: str) -> None:
    Path("c.tsv").write_text(f"path\tcaption\n{photos[0]}\tein Café\n", encoding)
    assert run("c.tsv", "--sidecar")[0] == 0
    assert photos[0].with_suffix(".txt").read_text("utf-8") == "ein Café\n"
    Path("c.csv").write_text(f"path,caption\n{photos[0]},ein Café\n", "cp1252")
    assert run("c.csv", "--sidecar")[2] == "capcli: c.csv: record 2 is not in UTF-8; save it in UTF-8\n"


def test_texts_beside_photos_are_rows(photos: list[Path]) -> None:
    photos[0].with_suffix(".caption").write_text("a red ball\n")
    photos[0].with_suffix(".txt").write_text("ball, red\n")
    photos[1].with_suffix(".txt").write_bytes(b"\0\1\2")
    assert run("photos", "--xmp")[0] == 0
    assert XmpFile(Path(f"{photos[0]}.xmp").read_bytes()).caption == "a red ball"
    photos[0].with_suffix(".caption").unlink()
    photos[0].with_suffix(".txt").unlink()
    status, output, _ = run("photos", "--format", "jsonl")
    assert (status, [json.loads(line).get("caption") for line in output.splitlines()]) == (0, ["a red ball", None])


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_table_comes_back_from_libreoffice_as_it_was(photos: list[Path], ending: str) -> None:
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        pytest.skip("no LibreOffice")
    texts = ['a "red", round ball', "ein Café; 日本", " a dog\ton two\nlines", "3 cats"]
    rows = [caption(str(photo), text, keywords=["cat", "t-shirt"]) for photo, text in zip(photos, texts, strict=True)]
    rows[1]["unsure"] = True
    assert run(write(Path("rows.jsonl"), *rows, failure("bad.jpg")), "-o", f"c.{ending}")[0] == 0
    before = run(f"c.{ending}", "--format", "jsonl")[1]
    tab, semicolon = "9", "59"
    for to in (
        semicolon,
        tab,
    ):  # Calc's tokens: delimiter, quotation mark, UTF-8, first line, formats, language, quoted
        read = "44" if ending == "csv" else tab
        options = f"{ending}:Text - txt - csv (StarCalc):{to},34,76,1,,0,false,true,false"
        command = [office, "-env:UserInstallation=file://" + str(Path.cwd() / "profile"), "--headless"]
        command += [f"--infilter=CSV:{read},34,76,1,,1033,false,false", "--convert-to", options, "--outdir", to]
        subprocess.run([*command, f"c.{ending}"], check=True, capture_output=True, timeout=1800)
        saved = Path(to, f"c.{ending}")
        assert to == tab or saved.read_bytes() != Path(f"c.{ending}").read_bytes()
        assert run(saved, "--format", "jsonl")[1] == before


def test_the_page_shows_what_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PHOTOS, "photos")
    write(Path("earlier.jsonl"), caption("photos/coffee.jpg", "a coffee cup is sitting on top of a table"))
    assert run("earlier.jsonl", "--write-metadata")[0] == 0
    text = (Path(__file__).parents[2] / "docs/write.md").read_text("utf-8")
    ((name, table, command, shown),) = re.findall(
        r"^\$ cat (\S+)\n((?:.+\n)+?)\$ capcli write (.*)\n((?:.+\n)+?)```", text, re.M
    )
    Path(name).write_text(table, "utf-8")
    status, output, errors = run(*command.split())
    assert (status, output + errors) == (0, shown)


@pytest.mark.slow
def test_nothing_heavy_is_loaded(photos: list[Path]) -> None:
    write(Path("c.jsonl"), caption(str(photos[0])))
    command = (
        "import sys; from capcli.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    arguments = ("write", "c.jsonl", "--sidecar", "--write-metadata", "--xmp")
    done = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True, check=True)
    assert photos[0].with_suffix(".txt").exists()
    heavy = {"torch", "torchvision", "onnxruntime", "numpy", "huggingface_hub", "jinja2", "pyarrow", "sqlite3", "rich"}
    assert not heavy & set(done.stdout.split())
