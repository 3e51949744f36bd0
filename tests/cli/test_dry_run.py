"""What a run would do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from folders import capcli, make_photos


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


@pytest.mark.slow
def test_a_dry_run_does_not_wait_for_pytorch(tmp_path: Path) -> None:
    make_photos(tmp_path, 1)
    code = "import sys, capcli.cli.app as a\ntry: a.app(['caption', sys.argv[1], '--dry-run', '-q'])\n"
    code += "except SystemExit: pass\nprint({'torch', 'rich', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=1800
    )
    assert done.stdout.splitlines() == [f"caption\t{tmp_path}/photo0.jpg\tstandard output", "set()"]
