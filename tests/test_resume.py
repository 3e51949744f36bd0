from pathlib import Path

import pytest
from test_writers import BAD, CAT, DOG, STRANGE, write

from capcli.files import OutputError, StandardOutput, WholeFile
from capcli.resume import open_output

FORMATS = ["jsonl", "csv", "tsv"]


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def resume_output(path: str, name: str, num: int) -> dict[str, bool]:
    """What a run that adds nothing finds in an output."""
    file, finished = open_output(path, name, num, True, False)
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
def test_failures_are_tried_again_and_low_scores_are_not(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out"
    path.write_bytes(as_bytes(write(name, CAT, BAD, DOG, min_score=-1.0)))
    assert resume_output(str(path), name, 1) == {"cat.jpg": True, "b/dog.jpg": False}
    assert path.read_bytes() == as_bytes(write(name, CAT, DOG, min_score=-1.0))


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
    assert isinstance(open_output(None, "text", 1, False, False)[0], StandardOutput)
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
