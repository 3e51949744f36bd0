from pathlib import Path

import pytest
from test_formats import BAD, CAT, DOG, STRANGE, Found, write

from capcli.files import OutputError, WholeFile
from capcli.outputs.resume import check_output, how_to_go_on, open_output
from capcli.outputs.sidecars import Sidecars

FORMATS = ["jsonl", "csv", "tsv"]


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def resume_output(path: str, name: str, num: int, min_score: float | None = None) -> dict[str, bool]:
    """What a run that adds nothing finds in an output."""
    file, finished = open_output(path, name, num, True, False, min_score)
    file.close()
    return finished


@pytest.mark.parametrize("name", FORMATS)
def test_an_output_cut_anywhere_is_repaired(tmp_path: Path, name: str) -> None:
    results = [CAT, STRANGE, DOG]
    content = as_bytes(write(name, *results))
    ends = [len(as_bytes(write(name, *results[:i]))) for i in range(4)]
    for length in range(len(content) + 1):
        path = tmp_path / f"{length}"
        path.write_bytes(content[:length])
        whole = max((i for i in range(4) if ends[i] <= length), default=0)
        assert list(resume_output(str(path), name, 1)) == [r.path for r in results[:whole]]
        kept = path.read_bytes()
        assert kept == content[: ends[whole] if whole else length]  # the first new row replaces a file without any
        # What is added next reads on from there.
        rest = as_bytes(write(name, *results[whole:], heading=not whole))
        assert (kept if whole else b"") + rest == content


@pytest.mark.parametrize("name", FORMATS)
def test_failures_are_tried_again_and_low_scores_where_they_would_do_now(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out"
    for min_score, tried_again in ((-1.0, False), (-0.5, False), (-2.0, True), (None, True)):
        path.write_bytes(as_bytes(write(name, CAT, BAD, DOG, min_score=-1.0)))
        finished = resume_output(str(path), name, 1, min_score)
        assert finished == {"cat.jpg": True} | ({} if tried_again else {"b/dog.jpg": False})
        kept = write(name, CAT, *([] if tried_again else [DOG]), min_score=-1.0)
        assert path.read_bytes() == as_bytes(kept)


@pytest.mark.parametrize("name", FORMATS)
def test_candidates_left_out_are_another_chance_too(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out"
    two = Found("cat.jpg", "a cat", candidates=[CAT, DOG])
    for num in (2, 3):  # with 3, a table's last cells are empty
        path.write_bytes(as_bytes(write(name, two, num=num, min_score=-1.0)))
        assert resume_output(str(path), name, num, -1.0) == {"cat.jpg": True}
        assert resume_output(str(path), name, num, -3.0) == {}


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
    with pytest.raises(OutputError, match=r"is not the (jsonl|csv) of this command"):
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
    with pytest.raises(OutputError, match="record 2 is not the jsonl"):
        resume_output(str(path), "jsonl", 1)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text(write("csv", CAT, num=2))
    with pytest.raises(OutputError, match="left as it is"):
        resume_output(str(path), "csv", 1)
    assert list(resume_output(str(path), "csv", 2)) == ["cat.jpg"]


def test_existing_outputs_are_refused_unless_wanted(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(write("jsonl", CAT))
    with pytest.raises(OutputError, match="exists; say --resume or --existing overwrite"):
        open_output(str(path), "jsonl", 1, False, False)
    assert path.stat().st_size
    file, finished = open_output(str(path), "jsonl", 1, True, False)
    file.close()
    assert finished == {"cat.jpg": True}
    old = path.read_bytes()
    file, finished = open_output(str(path), "jsonl", 1, False, True)
    assert (path.read_bytes(), finished) == (old, {})
    file.write("new\n")
    file.flush()
    assert path.read_bytes() == b"new\n"
    file.write("newer\n")
    file.close()
    assert path.read_bytes() == b"new\nnewer\n"
    path.write_bytes(b"")
    open_output(str(path), "jsonl", 1, False, False)[0].close()  # an empty file holds nothing to lose
    with pytest.raises(OutputError, match="no such file"):
        open_output(str(tmp_path / "absent" / "out.jsonl"), "jsonl", 1, True, False)
    with pytest.raises(OutputError, match="is a directory"):
        open_output(str(tmp_path), "jsonl", 1, False, False)


def test_json_is_put_in_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    file, _ = open_output(str(path), "json", 1, False, False)
    assert isinstance(file, WholeFile)
    assert not path.exists()
    file.write("[]\n")
    file.close()
    assert path.read_text() == "[]\n"


def test_what_is_refused_is_told_before_anything_is_touched(tmp_path: Path) -> None:
    rows, table = tmp_path / "out.jsonl", tmp_path / "out.csv"
    rows.write_text(write("jsonl", CAT))
    check_output(None, "text", 1, False, False)
    check_output(rows, "jsonl", 1, True, False)
    check_output(rows, "jsonl", 1, False, True)
    check_output(table, "csv", 1, True, False)
    for path, format, resume, reason in (
        (rows, "jsonl", False, "exists; say --resume or --existing overwrite"),
        (rows, "html", False, "exists; say --existing overwrite"),
        (rows, "csv", True, "not the csv of this command"),
        (tmp_path, "csv", False, "is a directory"),
        (tmp_path / "absent" / "out.csv", "csv", False, "no such file or directory"),
    ):
        with pytest.raises(OutputError, match=reason):
            check_output(path, format, 1, resume, False)
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_only_what_goes_on_is_advised(tmp_path: Path) -> None:
    rows = tmp_path / "out.jsonl"
    rows.touch()
    skipped, replaced = [Sidecars()], [Sidecars("overwrite")]
    assert how_to_go_on(str(rows), True, False, []) == "; the same command with --resume goes on"
    assert how_to_go_on(str(rows), True, False, replaced) == "; the same command with --resume goes on"
    with_page = "; the same command with --resume and without --html goes on"
    assert how_to_go_on(str(rows), True, True, skipped) == with_page
    assert how_to_go_on(None, False, False, skipped) == "; the same command goes on"
    assert how_to_go_on(None, False, True, skipped) == "; the same command without --html goes on"
    assert how_to_go_on(None, False, False, replaced) == ""  # it would begin again
    assert how_to_go_on(None, False, False, [*skipped, *replaced]) == ""
    assert how_to_go_on(None, False, False, []) == ""
    assert how_to_go_on(str(rows), False, False, skipped) == ""  # its output exists, and cannot be continued
    assert how_to_go_on(str(tmp_path / "absent.csv"), True, False, []) == ""  # stopped before the first row
