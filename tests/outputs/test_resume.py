import contextlib
import csv
import io
from pathlib import Path

import pytest
from fakes import BAD, CAT, DOG, STRANGE, Found, write

from capcli.cli.streams import NoOutput
from capcli.files import OutputError, WholeFile
from capcli.outputs.formats import FORMATS as KINDS
from capcli.outputs.formats import JsonLinesRows, TextRows
from capcli.outputs.incoming import rows_in
from capcli.outputs.resume import check_output, check_rows, how_to_go_on, open_rows
from capcli.outputs.rows import Layout, Rows
from capcli.outputs.sidecars import Sidecars
from capcli.results import Kind

FORMATS = ["jsonl", "csv", "tsv"]


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def resume_output(path: str, name: str, num: int, min_confidence: float | None = None) -> dict[str, bool]:
    """What a run that adds nothing finds in an output."""
    rows = open_rows(path, KINDS[name], Layout(num, min_confidence), True, False)
    rows.file.close()
    return rows.finished


def open_output(path: str, name: str, resume: bool, overwrite: bool) -> Rows:
    return open_rows(path, KINDS[name], Layout(), resume, overwrite)


@pytest.mark.parametrize("name", FORMATS)
def test_an_output_cut_anywhere_is_repaired(tmp_path: Path, name: str) -> None:
    results = [CAT, STRANGE, DOG]
    content = as_bytes(write(name, *results))
    ends = [len(as_bytes(write(name, *results[:i]))) for i in range(4)]
    for length in range(len(content) + 1):
        path = tmp_path / f"{length}"
        path.write_bytes(content[:length])
        # An editor may have left out the last line end.
        whole = max((i for i in range(1, 4) if ends[i] - 1 <= length), default=0)
        assert list(resume_output(str(path), name, 1)) == [r.path for r in results[:whole]]
        kept = path.read_bytes()
        assert kept == content[: ends[whole] if whole else length]  # the first new row replaces a file without any
        # What is added next reads on from there.
        rest = as_bytes(write(name, *results[whole:], heading=not whole))
        assert (kept if whole else b"") + rest == content


def test_a_whole_row_without_a_line_end_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "metadata.jsonl"
    row = '{"file_name": "cat.jpg", "text": "a cat"}'
    path.write_text(row)
    assert resume_output(str(path), "imagefolder", 1) == {"cat.jpg": True}
    assert path.read_text() == row + "\n"
    path.write_text(row[:-1])
    assert resume_output(str(path), "imagefolder", 1) == {}


@pytest.mark.parametrize("num", [1, 2])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["csv", "tsv"])
def test_a_table_that_a_spreadsheet_saved_is_continued(tmp_path: Path, name: str, delimiter: str, num: int) -> None:
    layout, ours = Layout(num, keywords=True), {"csv": ",", "tsv": "\t"}[name]
    unsure = Found("é.jpg", "a red, round ball; or a plum", unsure=True, keywords=("ball", "plum"))
    two = Found("cat.jpg", 'a "cat"', candidates=[CAT, DOG], keywords=())
    content = write(name, unsure, two, num=num, keywords=True)
    with io.StringIO(newline="") as saved:
        table = csv.writer(saved, delimiter=delimiter, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
        for cells in csv.reader(io.StringIO(content), delimiter=ours):
            comma = "," if delimiter == ";" else "."
            table.writerow(c.replace(".", comma) if c.startswith("-") else c.replace("true", "TRUE") for c in cells)
        text = saved.getvalue()
    path = tmp_path / f"out.{name}"
    for last in ("\r\n", ""):
        path.write_bytes(("\ufeff" + text.removesuffix("\r\n") + last).encode())
        assert next(rows_in(str(path), {}))["unsure"]
        rows = open_rows(str(path), KINDS[name], layout, True, False)
        assert rows.finished == {"é.jpg": True, "cat.jpg": True}
        rows.write(BAD)
        rows.close()
        kept = path.read_text().replace("TRUE", "true")
        added = write(name, BAD, num=num, keywords=True, heading=False)
        assert [*csv.reader(io.StringIO(kept), delimiter=ours)] == [
            *csv.reader(io.StringIO(content + added), delimiter=ours)
        ]


@pytest.mark.parametrize("content", ["utf-16", "cp1252"])
def test_a_table_in_another_encoding_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "out.csv"
    for delimiter in ",;":
        text = write("csv", Found("a.jpg", "a café")).replace(",", delimiter)
        path.write_bytes(text.encode(content))
        old = path.read_bytes()
        with pytest.raises(OutputError, match=r"UTF-(16|8); .*save it in UTF-8"):
            resume_output(str(path), "csv", 1)
        assert path.read_bytes() == old


@pytest.mark.parametrize("name", FORMATS)
def test_failures_are_tried_again_and_low_confidence_where_it_would_do_now(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out"
    kinds = (Kind("polar bear", 0.82149), Kind("bear", 0.0622))
    dog = Found("b/dog.jpg", "a dog", candidates=[CAT, DOG], confidence=0.5, kinds=kinds)
    for num in (1, 2, 3):  # with 3, a table's last cells are empty
        for least, tried_again in ((0.6, False), (0.9, False), (0.5, True), (None, True)):
            path.write_bytes(as_bytes(write(name, CAT, BAD, dog, num=num, min_confidence=0.6)))
            finished = resume_output(str(path), name, num, least)
            assert finished == {"cat.jpg": True} | ({} if tried_again else {"b/dog.jpg": False})
            kept = write(name, CAT, *([] if tried_again else [dog]), num=num, min_confidence=0.6)
            assert path.read_bytes() == as_bytes(kept)


def test_captions_that_an_earlier_version_left_empty_for_their_score_are_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text('{"path": "a.jpg", "caption": null, "log_prob": -9.0, "score": -2.0}\n')
    assert resume_output(str(path), "jsonl", 1, 0.9) == {}


@pytest.mark.parametrize(
    "row",
    [
        '{"path": "a.jpg", "error": null}', '{"path": "a.jpg", "caption": null, "score": "high"}',
        '{"path": "a.jpg", "caption": "", "score": [1]}', '{"path": "a.jpg", "caption": "a", "candidates": [1]}',
        '{"path": ' + 100_000 * "[", "a.jpg,,-1.0,high,", "a.jpg," + 200_000 * "a" + ",-1.0,-1.0,",
    ],
)  # fmt: skip
def test_rows_of_another_kind_are_refused(tmp_path: Path, row: str) -> None:
    name = "jsonl" if row.startswith("{") else "csv"
    path = tmp_path / "out"
    content = write(name, CAT) + row + "\n"
    path.write_text(content)
    with pytest.raises(OutputError, match=r"is not (jsonl|csv) as this command writes it"):
        resume_output(str(path), name, 1, -1.0)
    assert path.read_text() == content


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("content", [b"dear diary", b"dear diary\n", b'["path"]\n', b"path,caption\n", b"\0\0\0"])
def test_other_peoples_files_are_left_alone(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "out"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="left as it is"):
        resume_output(str(path), name, 1)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_line_of_something_else_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(write("jsonl", CAT) + "oops\n" + write("jsonl", DOG))
    with pytest.raises(OutputError, match="record 2 is not jsonl as"):
        resume_output(str(path), "jsonl", 1)


@pytest.mark.parametrize("name", FORMATS)
def test_an_output_with_keywords_is_continued_and_an_old_one_without(tmp_path: Path, name: str) -> None:
    path, cat = tmp_path / "out", Found("cat.jpg", "a cat", keywords=("cat", "sofa"))
    for results, layout in (([cat], Layout(keywords=True)), ([CAT], Layout())):
        old = as_bytes(write(name, *results, keywords=layout.keywords))
        path.write_bytes(old + old[-9:-4])  # and half a line
        rows = open_rows(str(path), KINDS[name], layout, True, False)
        assert rows.finished == {"cat.jpg": True}
        rows.write(BAD)
        rows.close()
        assert path.read_bytes() == old + as_bytes(write(name, BAD, heading=False, keywords=layout.keywords))
    if name == "jsonl":  # each of its rows says what it holds
        assert open_rows(str(path), KINDS[name], Layout(keywords=True), True, False).finished == {"cat.jpg": True}
    else:
        with pytest.raises(OutputError, match=f"not {name} as this command writes it"):
            open_rows(str(path), KINDS[name], Layout(keywords=True), True, False)


def test_an_image_has_its_row_however_its_path_is_spelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos" / "more").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    spellings = ["photos/a.jpg", "./photos//a.jpg", "photos/more/../a.jpg", f"{tmp_path}/photos/a.jpg"]
    with contextlib.suppress(OSError, NotImplementedError):
        (tmp_path / "link").symlink_to("photos/more", target_is_directory=True)
        (tmp_path / "photos" / "c.jpg").symlink_to("a.jpg")
        spellings.append("link/../a.jpg")  # whose folder is the one that the link leads into
    for name in spellings:
        rows = JsonLinesRows(NoOutput(), Layout(), {name: True, "photos/b.jpg": False, "-": True})
        assert all(rows.has(image) and rows.wants(image) is False for image in spellings), name
        assert rows.has_row("./photos/b.jpg")
        assert not rows.has("./photos/b.jpg")
        for other in ("a.jpg", "photos/more/a.jpg", "photos/c.jpg", "./-", "photos/\udcff.jpg", "nul\0/a.jpg"):
            assert rows.wants(other) is None, other
    rows = JsonLinesRows(NoOutput(), Layout(), {"nul\0/a.jpg": True, "\ud800/a.jpg": True})  # as a stranger's may be
    assert rows.has("nul\0/a.jpg")
    assert not rows.has_row("a.jpg")


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text(write("csv", CAT, num=2))
    with pytest.raises(OutputError, match="left as it is"):
        resume_output(str(path), "csv", 1)
    assert list(resume_output(str(path), "csv", 2)) == ["cat.jpg"]


def test_existing_outputs_are_refused_unless_wanted(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(write("jsonl", CAT))
    with pytest.raises(OutputError, match="exists; use --resume or --existing overwrite"):
        open_output(str(path), "jsonl", False, False)
    assert path.stat().st_size
    rows = open_output(str(path), "jsonl", True, False)
    rows.close()
    assert rows.finished == {"cat.jpg": True}
    old = path.read_bytes()
    rows = open_output(str(path), "jsonl", False, True)
    file = rows.file
    assert (path.read_bytes(), rows.finished) == (old, {})
    file.write("new\n")
    file.flush()
    assert path.read_bytes() == b"new\n"
    file.write("newer\n")
    file.close()
    assert path.read_bytes() == b"new\nnewer\n"
    path.write_bytes(b"")
    open_output(str(path), "jsonl", False, False).close()  # an empty file holds nothing to lose
    with pytest.raises(OutputError, match="no such file"):
        open_output(str(tmp_path / "absent" / "out.jsonl"), "jsonl", True, False)
    with pytest.raises(OutputError, match="is a directory"):
        open_output(str(tmp_path), "jsonl", False, False)


def test_json_is_put_in_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    file = open_output(str(path), "json", False, False).file
    assert isinstance(file, WholeFile)
    assert not path.exists()
    file.write("[]\n")
    file.close()
    assert path.read_text() == "[]\n"


def test_what_is_refused_is_told_before_anything_is_touched(tmp_path: Path) -> None:
    rows, table = tmp_path / "out.jsonl", tmp_path / "out.csv"
    rows.write_text(write("jsonl", CAT))
    check_rows(None, KINDS["text"], Layout(), False, False)
    check_rows(str(rows), KINDS["jsonl"], Layout(), True, False)
    check_rows(str(rows), KINDS["jsonl"], Layout(), False, True)
    check_rows(str(table), KINDS["csv"], Layout(), True, False)
    with pytest.raises(OutputError, match="exists; use --existing overwrite"):
        check_output(rows, False)
    for path, format, resume, reason in (
        (rows, "jsonl", False, "exists; use --resume or --existing overwrite"),
        (rows, "csv", True, "not csv as this command writes it"),
        (tmp_path, "csv", False, "is a directory"),
        (tmp_path / "absent" / "out.csv", "csv", False, "no such file or directory"),
    ):
        with pytest.raises(OutputError, match=reason):
            check_rows(str(path), KINDS[format], Layout(), resume, False)
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_only_what_goes_on_is_advised(tmp_path: Path) -> None:
    file = WholeFile(tmp_path / "out.jsonl")
    file.write("\n")
    file.close()
    rows = JsonLinesRows(file, Layout(), {})
    skipped, replaced = [Sidecars()], [Sidecars("overwrite")]
    assert how_to_go_on(rows, False, []) == "; to continue, run the same command with --resume"
    assert how_to_go_on(rows, False, replaced) == "; to continue, run the same command with --resume"
    with_page = "; to continue, run the same command with --resume and without --html"
    assert how_to_go_on(rows, True, skipped) == with_page
    assert how_to_go_on(None, False, skipped) == "; to continue, run the same command"
    assert how_to_go_on(None, True, skipped) == "; to continue, run the same command without --html"
    assert how_to_go_on(None, False, replaced) == ""  # it would begin again
    assert how_to_go_on(None, False, [*skipped, *replaced]) == ""
    assert how_to_go_on(None, False, []) == ""
    assert how_to_go_on(TextRows(file, Layout()), False, skipped) == ""  # its output exists, and cannot be continued
    (tmp_path / "out.jsonl").unlink()
    assert how_to_go_on(rows, False, []) == ""  # stopped before the first row
