import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import PHOTOS
from folders import on_terminal
from PIL import Image

pytestmark = pytest.mark.slow

COFFEE = str(PHOTOS / "coffee.jpg")


@pytest.fixture
def capcli(tiny_checkpoint: Path):
    def run(*arguments: object, stdin: bytes | None = None, status: int = 0) -> subprocess.CompletedProcess[bytes]:
        name, *rest = map(str, arguments)
        command = [sys.executable, "-m", "capcli", name, "--model", str(tiny_checkpoint), "--device", "cpu", *rest]
        result = subprocess.run(command, input=stdin, capture_output=True)
        assert result.returncode == status, result.stderr.decode()
        return result

    return run


def test_one_photo_gives_its_caption_alone(capcli) -> None:
    result = capcli("caption", COFFEE)
    line = result.stdout.decode()
    assert line.count("\n") == 1
    assert "\t" not in line
    assert line.strip()
    assert result.stderr == b""
    with open(COFFEE, "rb") as file:
        assert capcli("caption", "-", stdin=file.read()).stdout == result.stdout


def test_several_photos_and_a_bad_one(capcli, tmp_path: Path) -> None:
    bad = tmp_path / os.fsdecode(b"b\xffd.jpg")
    bad.write_bytes(b"no picture")
    result = capcli("caption", COFFEE, bad, PHOTOS / "chelsea.jpg", status=1)
    rows = [line.split("\t") for line in result.stdout.decode().splitlines()]
    assert [row[0] for row in rows] == [COFFEE, str(PHOTOS / "chelsea.jpg")]
    errors = result.stderr.splitlines()
    assert errors[0] == b"capcli: " + os.fsencode(bad) + b": not an image in a format that can be read"
    assert errors[1] == b"capcli: 1 of 3 images failed"
    result = capcli("caption", "--format", "jsonl", "--num", 2, PHOTOS, bad, status=1)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(row["path"]).name for row in rows[:3]] == ["astronaut.jpg", "chelsea.jpg", "coffee.jpg"]
    assert rows[3] == {"path": str(bad), "error": "not an image in a format that can be read"}
    assert len(rows[0]["candidates"]) == 2


def test_what_is_not_there_is_status_2_before_any_work(capcli, tmp_path: Path) -> None:
    result = capcli("caption", COFFEE, tmp_path / "absent.jpg", status=2)
    assert result.stdout == b""
    assert result.stderr.decode() == f"capcli: {tmp_path / 'absent.jpg'}: no such file or folder\n"


def test_bad_options_are_plain_lines(capcli, tmp_path: Path) -> None:
    assert b"not one of text, json, jsonl" in capcli("caption", COFFEE, "--format", "xml", status=2).stderr
    assert (
        b"--precision half: not one of auto, fp32" in capcli("caption", COFFEE, "--precision", "half", status=2).stderr
    )
    assert b"device 'toaster' cannot be used" in capcli("caption", COFFEE, "--device", "toaster", status=2).stderr
    assert b"no such checkpoint" in capcli("caption", COFFEE, "--model", tmp_path / "absent", status=2).stderr
    assert "╭" not in capcli("caption", "--beam", "0", COFFEE, status=2).stderr.decode()


def test_a_folder_without_images(capcli, tmp_path: Path) -> None:
    assert b"no images in" in capcli("caption", tmp_path, status=1).stderr


def test_a_terminal_shows_what_is_unsure_and_obeys_no_name(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (20, 20), "green").save(photos / "a\x1b[31m.png")
    Image.open(COFFEE).save(photos / "b.png")
    command = [sys.executable, "-m", "capcli", "caption", str(photos), "--model", str(tiny_checkpoint), "-q"]
    shown, said = on_terminal(command)
    assert said == ""
    piped = subprocess.run([*command, "--keep-unsure"], capture_output=True, text=True, timeout=1800, check=True).stdout
    first, second = piped.splitlines()
    assert first.startswith(f"{photos}/a\x1b[31m.png\t")
    # Tabs as the terminal leaves them, or spaces.
    lines = [line.split() for line in shown.splitlines()]
    assert lines[:2] == [[*first.replace("\x1b", "\\x1b").split(), "(unsure)"], second.split()]


def test_globs_the_shell_left_alone(capcli) -> None:
    result = capcli("caption", PHOTOS / "c*.jpg")
    assert [line.split("\t")[0] for line in result.stdout.decode().splitlines()] == [
        str(PHOTOS / "chelsea.jpg"),
        COFFEE,
    ]


def test_help_and_version_do_not_import_torch() -> None:
    script = (
        "import sys, capcli.cli.app as a\n"
        "group = __import__('typer').main.get_command(a.app)\n"
        "assert len([group.get_command(None, name) for name in a.COMMANDS]) > 7\n"  # which imports their files
        "assert not {'torch', 'PIL', 'rich', 'huggingface_hub'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_captioning_does_not_import_torchvision(tiny_checkpoint: Path) -> None:
    script = (
        "import sys; from capcli import Captioner\n"
        f"print(Captioner.load({str(tiny_checkpoint)!r}).caption({COFFEE!r}).text)\n"
        "assert not {'torchvision', 'rich', 'huggingface_hub', 'pycocoevalcap'} & set(sys.modules)\n"
        "assert not {'torch._dynamo', 'sympy'} & set(sys.modules)"  # PyTorch's compiler
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
