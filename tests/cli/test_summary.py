"""What a run would do, what it did not, and what it does not print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folders import capcli, capcli_apart, command, make_photos, on_terminal, rows


def test_what_was_skipped_or_failed_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 5)
    photos[1].with_suffix(".txt").write_text("my own words\n")
    photos[3].write_bytes(b"")
    summary = tmp_path / "summary.json"
    common = (tmp_path / "photos", "--model", tiny_checkpoint, "--sidecar", "--summary", summary)
    done = capcli(*common, "--verbose", "--quiet")
    reason = f"already captioned in {photos[1].with_suffix('.txt')}"
    assert sorted(done.stderr.splitlines()) == [
        f"capcli: {photos[1]}: skipped: {reason}",
        f"capcli: {photos[3]}: the file is empty",
        "capcli: captioning with onnx on cpu in fp32",
    ]
    assert len(done.stdout.splitlines()) == 3
    found = json.loads(summary.read_text())
    assert found["exit_status"] == done.returncode == 1
    assert found["failures"] == [{"path": str(photos[3]), "error": "the file is empty"}]
    assert found["skipped"] == [{"path": str(photos[1]), "reason": reason}]
    counts = found["counts"]
    assert (counts["captioned"], counts["failed"], counts["skipped"]) == (3, 1, 1)
    # The same command goes on, and its summary takes the place of the first.
    photos[3].write_bytes(photos[2].read_bytes())
    done = capcli(*common)
    assert done.returncode == 0, done.stderr
    assert photos[1].with_suffix(".txt").read_text() == "my own words\n"
    found = json.loads(summary.read_text())
    assert found["failures"] == []
    assert (found["counts"]["captioned"], len(found["skipped"])) == (1, 4)
    # Without --verbose they are counted only.
    assert done.stderr == "capcli: 4 images skipped: already captioned\n"


@pytest.mark.parametrize("content", ['{"counts": 3}', "[]", "Dear diary", "\xff"])
def test_a_summary_takes_the_place_of_nothing_else(tmp_path: Path, content: str) -> None:
    make_photos(tmp_path / "photos", 1)
    mine = tmp_path / "mine.json"
    mine.write_text(content, "latin-1")
    done = capcli(tmp_path / "photos", "--model", "absent", "--summary", mine)
    assert done.returncode == 2
    assert done.stderr == f"capcli: {mine}: exists and is not a capcli summary; name another file\n"
    assert mine.read_text("latin-1") == content
    same = capcli(tmp_path / "photos", "--model", "absent", "--summary", tmp_path / "x", "-o", tmp_path / "x")
    assert "same file" in same.stderr or "unknown ending" in same.stderr
    assert (
        "no such file or directory" in capcli(tmp_path / "photos", "--summary", tmp_path / "absent" / "s.json").stderr
    )


@pytest.mark.slow
def test_a_terminal_gets_no_captions_that_go_elsewhere(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 2)

    def shown(*arguments: object) -> tuple[str, str]:
        return on_terminal(command(tmp_path / "photos", "--model", tiny_checkpoint, *arguments))

    page = tmp_path / "page.html"
    assert shown("--sidecar") == ("", "capcli: 2 images captioned\n")
    assert all(photo.with_suffix(".txt").stat().st_size for photo in photos)
    assert shown("--html", page) == ("", "capcli: 2 images captioned\n")
    assert page.exists()
    text, said = shown("--html", page, "--existing", "overwrite", "--output", "-")
    assert [line.split()[0] for line in text.splitlines()] == [str(photo) for photo in photos]
    assert said == ""
    assert shown("--html", page, "--existing", "overwrite", "-o", tmp_path / "a.jsonl")[0] == ""
    assert len(rows(tmp_path / "a.jsonl")) == 2
    assert shown()[0].count("\n") == 2
    # Programs get them as ever.
    done = capcli(tmp_path / "photos", "--model", tiny_checkpoint, "--html", page, "--existing", "overwrite")
    assert len(done.stdout.splitlines()) == 2


def test_an_empty_folder_leaves_no_output(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("a.txt", "a.json", "a.jsonl", "a.csv", "a.tsv"):
        done = capcli(
            tmp_path / "empty", "--model", tiny_checkpoint, "-o", tmp_path / name, "--html", tmp_path / "a.html"
        )
        assert done.returncode == 1
        assert done.stderr == f"capcli: no images in {tmp_path / 'empty'}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", tiny_checkpoint.name]


@pytest.mark.slow
def test_an_empty_list_is_no_failure(tiny_checkpoint: Path, tmp_path: Path) -> None:
    output, summary = tmp_path / "a.jsonl", tmp_path / "summary.json"
    common = ("--model", tiny_checkpoint, "--files-from", "-", "--summary", summary)
    for options in (("-o", output), ("--sidecar",)):
        done = capcli_apart(*common, *options, input="")
        assert (done.returncode, done.stdout) == (0, "")
        assert "capcli: no images in -\n" in done.stderr
        assert json.loads(summary.read_text())["exit_status"] == 0
    assert not output.exists()
    done = capcli_apart(*common[2:-2], "--dry-run", "-q", input="")
    assert (done.returncode, done.stderr) == (0, "capcli: no images in -\n")
    (tmp_path / "empty").mkdir()
    done = capcli_apart(tmp_path / "empty", *common, input="")
    assert (done.returncode, done.stderr) == (1, f"capcli: no images in {tmp_path / 'empty'}, -\n")
    assert json.loads(summary.read_text())["exit_status"] == 1


def test_folders_of_the_system_are_counted(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    make_photos(photos, 1)
    make_photos(photos / "@eaDir", 2)
    done = capcli(photos, "--model", tiny_checkpoint, "--summary", tmp_path / "summary.json")
    kept = str(photos / "@eaDir")
    assert done.stderr == f"capcli: 1 system folder skipped; to include one, name it: {kept}\n"
    assert len(done.stdout.splitlines()) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["counts"]["system_folders"] == 1
    assert summary["skipped"] == [{"path": kept, "reason": "a system folder"}]
    assert len(capcli(kept, "--model", tiny_checkpoint).stdout.splitlines()) == 2
