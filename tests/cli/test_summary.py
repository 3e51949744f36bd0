"""What a run would do, what it did not, and what it does not print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from folders import capcli, command, make_photos, on_terminal, rows


def listed(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_dry_run_lists_and_touches_nothing(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 4)
    photos[1].with_suffix(".txt").write_text("my own words\n")
    photos[2].write_bytes(b"Dear diary")
    names = tmp_path / "names"
    names.write_text(f"{photos[0].parent}/gone.jpg\n")
    before = tree(tmp_path)
    # No such model: it is not looked for.
    common = (tmp_path / "photos", "--files-from", names, "--dry-run", "--model", "absent", "--sidecar")
    done = capcli(*common, "-o", tmp_path / "new.jsonl", "--html", tmp_path / "new.html", "--write-metadata")
    new = f"{tmp_path}/new.jsonl"
    assert listed(done.stdout) == [
        ["caption", str(photos[0]), f"{new}, {photos[0].with_suffix('.txt')}, its metadata, {tmp_path}/new.html"],
        ["caption", str(photos[1]), f"{new}, its metadata, {tmp_path}/new.html"],
        ["fail", str(photos[2]), "not an image in a format that can be read"],
        ["caption", str(photos[3]), f"{new}, {photos[3].with_suffix('.txt')}, its metadata, {tmp_path}/new.html"],
        ["fail", f"{photos[0].parent}/gone.jpg", "no such file or directory"],
    ]
    assert done.stderr == "capcli: 3 images would be captioned, 0 skipped, 2 failed; nothing was written\n"
    assert done.returncode == 1
    assert tree(tmp_path) == before
    done = capcli(*common, "-q")
    assert listed(done.stdout)[1] == ["skip", str(photos[1]), f"already captioned in {photos[1].with_suffix('.txt')}"]
    assert listed(done.stdout)[0][2] == f"standard output, {photos[0].with_suffix('.txt')}"
    assert done.stderr == ""
    assert tree(tmp_path) == before


def test_a_dry_run_knows_what_a_run_would_refuse_and_resume(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 3)
    output = tmp_path / "out.csv"
    common = (tmp_path / "photos", "--model", tiny_checkpoint, "-o", output)
    assert capcli(*common, "--exclude", "photo2*").returncode == 0
    output.write_bytes(output.read_bytes() + b"half a li")  # which a run would take off
    before = tree(tmp_path)
    done = capcli(*common, "--dry-run")
    assert done.returncode == 2
    assert "exists; use --resume or --existing overwrite" in done.stderr
    done = capcli(*common, "--dry-run", "--resume")
    assert done.returncode == 0, done.stderr
    assert listed(done.stdout) == [
        ["skip", str(photos[0]), f"already captioned in {output}"],
        ["skip", str(photos[1]), f"already captioned in {output}"],
        ["caption", str(photos[2]), str(output)],
    ]
    assert tree(tmp_path) == before
    assert capcli(tmp_path, "--dry-run", "--include", "*.png").returncode == 1
    assert "cannot be combined with --summary" in capcli(*common, "--dry-run", "--summary", tmp_path / "s.json").stderr


def test_a_dry_run_does_not_wait_for_pytorch(tmp_path: Path) -> None:
    make_photos(tmp_path, 1)
    code = "import sys, capcli.cli.app as a\ntry: a.app(['caption', sys.argv[1], '--dry-run', '-q'])\n"
    code += "except SystemExit: pass\nprint({'torch', 'rich', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=1800
    )
    assert done.stdout.splitlines() == [f"caption\t{tmp_path}/photo0.jpg\tstandard output", "set()"]


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


def test_an_empty_list_is_no_failure(tiny_checkpoint: Path, tmp_path: Path) -> None:
    output, summary = tmp_path / "a.jsonl", tmp_path / "summary.json"
    common = ("--model", tiny_checkpoint, "--files-from", "-", "-0", "--summary", summary)
    for options in (("-o", output), ("--sidecar",)):
        done = capcli(*common, *options, input="")
        assert (done.returncode, done.stdout) == (0, "")
        assert "capcli: no images in -\n" in done.stderr
        assert json.loads(summary.read_text())["exit_status"] == 0
    assert not output.exists()
    done = capcli(*common[2:-2], "--dry-run", "-q", input="")
    assert (done.returncode, done.stderr) == (0, "capcli: no images in -\n")
    (tmp_path / "empty").mkdir()
    done = capcli(tmp_path / "empty", *common, input="")
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
