"""What people type before they have read anything: it works, or one line says what does."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from fakes import PHOTOS
from folders import command
from PIL import Image
from typer.testing import CliRunner, Result

from capcli.cli.app import app
from capcli.decoding.options import DecodingOptions
from capcli.training.measuring.evaluation import decoding_line

COFFEE = str(PHOTOS / "coffee.jpg")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([COFFEE, "--num", "2"], f"{COFFEE}: not a command; to caption it: capcli caption {COFFEE} --num 2"),
        (["my cat.jpg"], "my cat.jpg: not a command; to caption it: capcli caption 'my cat.jpg'"),
        ([str(PHOTOS)], f"{PHOTOS}: not a command; to caption it: capcli caption {PHOTOS}"),
        (["describe"], "no such command 'describe'. See capcli --help"),
        (["help", "describe"], "no such command 'describe'. See capcli --help"),
        (["caption", "--bogus"], "no such option: --bogus"),
        (["caption", COFFEE, "--beam", "x"], "invalid value for '--beam': "),
        (["caption", COFFEE, "--num", "1000000"], "invalid value for '--num': "),
        (["explain"], "missing argument 'PHOTO'. See capcli explain --help"),
        (["train", str(PHOTOS)], "missing option '--output'"),
        (["caption", COFFEE, "--top-p", "0.9"], "--top-p is a setting: --set top_p=VALUE"),
        (["train", "x", "-o", "y", "--hidden-size", "9"], "--hidden-size is a setting: --set hidden_size=VALUE"),
        (["explain", COFFEE, "a cat", "a dog"], "2 sentences: give one, or several with --text-file"),
        (["explain", "https://a.org/b.jpg", "a cat"], "https://a.org/b.jpg: URLs are not fetched; curl -s URL | "),
    ],
)
def test_what_is_wrong_with_a_command_is_one_line(arguments: list[str], line: str) -> None:
    done = run(*arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"capcli: {line}")


def test_help_is_a_command_too() -> None:
    assert run("help").output == run("--help").output
    assert run("help", "caption").output == run("caption", "--help").output
    assert run("help").exit_code == run("help", "caption").exit_code == 0
    assert (run().exit_code, "Caption and write:" in run().output) == (2, True)


@pytest.mark.parametrize("name", ["train", "agree", "write"])
def test_what_may_be_repeated_has_three_dots(name: str) -> None:
    usage = run("help", name).output.splitlines()[0]
    assert re.search(r"[A-Z]\.\.\.$", usage), usage


def test_info_takes_a_checkpoint_as_export_does(tiny_checkpoint: Path) -> None:
    assert run("info", tiny_checkpoint).output == run("info", tiny_checkpoint).output
    assert "sentences.onnx" in run("export", "--help").output


def test_a_sentence_needs_no_quotes(tiny_checkpoint: Path) -> None:
    quoted, bare = (run("explain", COFFEE, *words, "--model", tiny_checkpoint) for words in (["a cat"], ["a", "cat"]))
    assert (quoted.exit_code, quoted.output) == (0, bare.output)


@pytest.mark.parametrize("option", ["beam", "max-length", "attention-samples", "no-repeat", "agreement"])
def test_more_than_memory_can_hold_is_a_line(tiny_checkpoint: Path, option: str) -> None:
    done = run("caption", COFFEE, "--model", tiny_checkpoint, "--set", f"{option}=1000000")
    assert done.exit_code == 2
    assert re.fullmatch(rf"capcli: {option.replace('-', '_')} is 1000000, not between [01] and \d+\n", done.stderr)


def test_decoding_is_told_in_words() -> None:
    assert decoding_line(vars(DecodingOptions(beam=2, ban=("cat",)))) == (
        "beam 2, length penalty 1, at most 20 words, no word doubled, ban cat"
    )


@pytest.mark.slow
def test_a_terminal_is_told_where_captions_are(tiny_checkpoint: Path, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    output = tmp_path / "a.csv"
    arguments = command(PHOTOS, "--model", tiny_checkpoint, "-o", output)
    ours, theirs = pty.openpty()
    subprocess.run(arguments, stderr=theirs, timeout=1800, check=True)
    shown = b""
    while b" in " not in shown:
        shown += os.read(ours, 10_000)
    assert f"capcli: 3 captions in {output}" in shown.decode()
    os.close(ours)
    os.close(theirs)


def test_a_banned_word_may_be_all_there_is_to_see(tiny_checkpoint: Path, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "red.png")
    said = {ban: run("caption", tmp_path, "--model", tiny_checkpoint, *ban).stderr for ban in ((), ("--ban", "cat"))}
    assert "unsure: more likely wrong than right;" in said[()]
    assert "unsure: more likely wrong than right, perhaps because of --ban;" in said[("--ban", "cat")]
