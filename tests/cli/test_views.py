import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from fakes import PHOTOS
from folders import process
from PIL import Image
from typer.testing import CliRunner

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.cli.app import app
from capcli.engines.torch import TorchEngine
from capcli.images import decode
from capcli.maps.overlay import OverlayOptions


@pytest.mark.slow
def test_overlays_and_report_for_a_folder(tmp_path: Path, tiny_checkpoint: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(PHOTOS, photos, ignore=shutil.ignore_patterns("*.md"))
    (photos / "again").mkdir()
    shutil.copy(photos / "coffee.jpg", photos / "again" / "coffee.jpg")
    (photos / "bad.jpg").write_bytes(b"nothing")
    (photos / "looked" / "chelsea").mkdir(parents=True)
    earlier = {"path": "chelsea.jpg", "caption": "", "grid": None, "words": []}
    (photos / "looked" / "chelsea" / "attention.json").write_text(json.dumps(earlier))
    shutil.copy(photos / "coffee.jpg", photos / "looked" / "chelsea" / "attention.png")
    arguments = ["caption", photos, "--model", tiny_checkpoint, "--format", "jsonl", "--show"]
    arguments += ["--attention", photos / "out", "--html", tmp_path / "r.html"]
    arguments += ["--existing", "overwrite"]
    looked = "looked/chelsea/attention.png"
    for drawn in ("1 picture skipped", "pictures skipped"):  # the second run finds its own folders
        done = process(*arguments)
        assert done.returncode == 1
        assert "--show draws nothing: the output is not a terminal" in done.stderr
        assert f"{drawn}: drawn by capcli; the first is {photos / looked}\n" in done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(rows) == 5
        assert sorted(p.name for p in (photos / "out").iterdir()) == ["astronaut", "chelsea", "coffee", "coffee-2"]
    captions = {row["path"]: row.get("caption") for row in rows}
    for folder in (photos / "out").iterdir():
        record = json.loads((folder / "attention.json").read_text())
        assert captions[record["path"]] == record["caption"]
        assert record["grid"] == [2, 2]
        pictures = sorted(p.name for p in folder.glob("??_*.png"))
        assert pictures == [
            f"{i:02}_{word['word'].replace(chr(39), '_')}.png" for i, word in enumerate(record["words"])
        ]
        assert (folder / "attention.png").exists()
    page = (tmp_path / "r.html").read_text("utf-8")
    assert page.count('<li class="card"') == 4
    assert "bad.jpg: not an image" in page


@pytest.mark.slow
def test_templates_cost_only_those_who_want_a_page(tmp_path: Path, tiny_checkpoint: Path) -> None:
    script = (
        "import sys; from capcli.cli.app import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "assert ('jinja2' in sys.modules) == ('--html' in sys.argv)"
    )
    arguments = ["caption", PHOTOS / "coffee.jpg", "--model", tiny_checkpoint, "--attention", tmp_path / "out"]
    for page in ([], ["--html", tmp_path / "r.html"]):
        subprocess.run([sys.executable, "-c", script, *map(str, [*arguments, *page])], check=True, timeout=1800)


@pytest.mark.slow
def test_pictures_in_the_terminal(tiny_checkpoint: Path) -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLORTERM": "truecolor", "PYTHONIOENCODING": "utf-8", "COLUMNS": "90"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "capcli", "caption", PHOTOS / "coffee.jpg", "--show", "--model", tiny_checkpoint]
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=environment)
    os.close(theirs)
    output = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # what Linux says when the other end is closed
            break
        if not chunk:
            break
        output += chunk
    assert process.wait(timeout=1800) == 0
    assert process.stderr.read() == b""
    os.close(ours)
    assert output.decode().count("▀") > 500
    assert "\x1b[38;2;" in output.decode()


@pytest.mark.slow
def test_standard_input_is_kept_for_the_overlays(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with (PHOTOS / "coffee.jpg").open("rb") as file:
        done = process("caption", "-", "--model", tiny_checkpoint, "--attention", tmp_path / "out", stdin=file)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "stdin" / "attention.png").exists()


@pytest.fixture
def without_attention(tiny_model: CaptionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model.config = replace(tiny_model.config, decoder="pre-inject")
    captioner = Captioner(TorchEngine(tiny_model, torch.device("cpu"), "fp32"))
    monkeypatch.setattr(Captioner, "load", lambda *_, **__: captioner)


@pytest.mark.usefixtures("without_attention")
@pytest.mark.parametrize("option", ["--attention", "--show", "--pointing"])
def test_a_checkpoint_without_attention_is_refused(tmp_path: Path, option: str) -> None:
    arguments = ["caption", str(PHOTOS / "coffee.jpg"), option]
    if option == "--attention":
        arguments.append(str(tmp_path / "out"))
    if option == "--pointing":
        rows = [{"file_path": str(PHOTOS / "coffee.jpg"), "captions": ["a cup"]}]
        (tmp_path / "data.json").write_text(json.dumps(rows))
        (tmp_path / "boxes.json").write_text(json.dumps({"coffee.jpg": [[0.5, 0.5, 0.5, 0.5]]}))
        arguments = ["evaluate", str(tmp_path / "data.json"), option, str(tmp_path / "boxes.json"), "--allow-outside"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert done.stderr == f"capcli: {option}: this checkpoint's decoder, pre-inject, has no attention to show\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["caption", "PHOTO", "--html", "PHOTO"], "the name of a page must end in .html"),
        (["caption", "PHOTO", "--html", "OUT/a/r.html"], "no such file or directory"),
        (["caption", "PHOTO", "--attention", "PHOTO"], "file exists"),
        (["explain", "PHOTO"], "give either a sentence or --text-file"),
        (["explain", "PHOTO", "a cat", "--text-file", "PHOTO"], "give either a sentence or --text-file"),
        (["explain", "PHOTO", "--text-file", "OUT"], "No such file or directory"),
        (["explain", "PHOTO", "--text-file", "PHOTO"], "can't decode"),
        (["explain", "PHOTO", "!?"], "'!?' has no word"),
        (["explain", "absent.jpg", "a cat"], "absent.jpg: no such file"),
    ],
)
def test_wrong_usage_is_told_before_any_work(
    tmp_path: Path, tiny_checkpoint: Path, arguments: list[str], message: str
) -> None:
    places = {
        "PHOTO": str(tmp_path / "x.jpg"),
        "OUT": str(tmp_path / "out"),
        "OUT/a/r.html": str(tmp_path / "a/r.html"),
    }
    shutil.copy(PHOTOS / "coffee.jpg", places["PHOTO"])
    done = CliRunner().invoke(app, [*(places.get(a, a) for a in arguments), "--model", str(tiny_checkpoint)])
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert (PHOTOS / "coffee.jpg").read_bytes() == Path(places["PHOTO"]).read_bytes()


def test_a_full_disk_is_one_line_and_the_report_is_completed(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_nothing(path: Path, content: bytes, durable: bool) -> None:
        if "coffee" in path.parts:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("capcli.maps.folders.write_whole", write_nothing)
    arguments = ["--attention", str(tmp_path / "out"), "--html", str(tmp_path / "r.html")]
    arguments += ["--model", str(tiny_checkpoint)]
    done = CliRunner().invoke(app, ["caption", *(str(PHOTOS / f"{n}.jpg") for n in ("chelsea", "coffee")), *arguments])
    assert done.exit_code == 1
    assert done.stderr == f"capcli: {tmp_path}/out/coffee/attention.json: no space left on device\n"
    page = (tmp_path / "r.html").read_text("utf-8")
    assert page.count('<li class="card"') == 2
    assert page.endswith("</html>\n")


@pytest.mark.parametrize("command", [["caption"], ["explain", "a cat on a sofa"]])
def test_a_photo_that_is_drawn_twice_is_opened_once(
    tiny_checkpoint: Path, tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def open_file(source: Any) -> BinaryIO:
        opened.append(source)
        return open_anew(source)

    open_anew = decode.open_file
    monkeypatch.setattr(decode, "open_file", open_file)
    monkeypatch.setattr("capcli.maps.page.THUMBNAIL", 120)  # the tiny checkpoint's squares are decoded at 192
    monkeypatch.setattr("capcli.maps.page.HtmlReport.photo_side", 120)
    monkeypatch.setattr("capcli.maps.overlay.OverlayOptions", partial(OverlayOptions, size=90))
    photo = str(PHOTOS / "chelsea.jpg")
    arguments = [command[0], photo, *command[1:], "--model", str(tiny_checkpoint)]
    done = CliRunner().invoke(
        app, [*arguments, "--attention", str(tmp_path / "out"), "--html", str(tmp_path / "r.html")]
    )
    assert done.exit_code == 0, done.output
    assert opened == [photo]
    picture = next((tmp_path / "out" / "chelsea").glob("00_*.png"))
    assert max(Image.open(picture).size) == 90
    assert "<img" in (tmp_path / "r.html").read_text("utf-8")
