"""`--ban`, `--replace` and `--no-echo`: which words captions have."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from click.testing import Result
from fakes import PHOTOS, WORDS
from typer.testing import CliRunner

from capcli.cli.app import app


def caption(checkpoint: Path, *options: object) -> Result:
    command = ["caption", str(PHOTOS), "--model", str(checkpoint), "--device", "cpu", *map(str, options)]
    return CliRunner().invoke(app, command)


def texts(done: Result) -> list[str]:
    return [line.split("\t")[1] for line in done.stdout.splitlines()]


def split(text: str) -> list[str]:
    return text.replace("'", " '").split()


@pytest.mark.parametrize("engine", ["onnx", "torch"])
@pytest.mark.parametrize("how", [[], ["--num", 3, "--diversity", 1], ["--sample", "--set", "seed=1"]])
def test_a_banned_word_is_not_said(tiny_checkpoint: Path, engine: str, how: list[object]) -> None:
    options = [*how, "--format", "jsonl", "--engine", engine]

    def said(*banned: str) -> set[str]:
        bans = itertools.chain(*(("--ban", word) for word in banned))
        done = caption(tiny_checkpoint, *options, *bans)
        assert (done.exit_code, done.stderr) == (0, "")
        return {word for line in done.stdout.splitlines() for word in split(json.loads(line)["caption"])}

    for word in said():
        assert not {word, "a"} & said(word, "a")


def test_a_ban_that_does_nothing_is_said(tiny_checkpoint: Path) -> None:
    done = caption(tiny_checkpoint, "--ban", "zebra", "--ban", "Cat", "--ban", "<end>", "--ban", "")
    assert done.exit_code == 0
    assert done.stderr.splitlines()[:4] == [
        "capcli: --ban zebra: the model does not know this word, so it never says it",
        "capcli: --ban Cat: the model does not know this word, so it never says it; it knows cat",
        "capcli: --ban <end>: the model does not know this word, so it never says it",
        "capcli: --ban : the model does not know this word, so it never says it",
    ]
    assert texts(done) == texts(caption(tiny_checkpoint))


@pytest.mark.parametrize(
    ("banned", "said"),
    [
        (["cat's"], "--ban cat's: 2 words to the model, cat, 's: ban one of them"),
        (["a cat"], "--ban a cat: 2 words to the model, a, cat: ban one of them"),
        (WORDS[4:], "all the words of the model are banned"),
    ],
)
def test_a_ban_that_cannot_be_followed_is_one_line(tiny_checkpoint: Path, banned: list[str], said: str) -> None:
    done = caption(tiny_checkpoint, *itertools.chain(*(("--ban", word) for word in banned)))
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"capcli: {said}\n")


def test_words_are_doubled_only_where_that_is_allowed(tiny_checkpoint: Path) -> None:
    def doubled(*options: object) -> bool:
        words = [split(text) for text in texts(caption(tiny_checkpoint, "--sample", "--set", "seed=1", *options))]
        return any(a == b for several in words for a, b in itertools.pairwise(several))

    assert doubled("--set", "no-echo=false", "--set", "temperature=5")
    assert not doubled("--set", "temperature=5")
    settings = json.loads((tiny_checkpoint / "config.json").read_text())
    assert settings.pop("no_echo")
    (tiny_checkpoint / "config.json").write_text(json.dumps(settings))  # as it was before there was such a setting
    assert not doubled("--set", "temperature=5")


def test_replaced_words_are_written_and_looked_at_as_they_were(tiny_checkpoint: Path, tmp_path: Path) -> None:
    plain = texts(caption(tiny_checkpoint))
    word = split(plain[0])[0]
    replaced = ["--replace", f"{word}=long words"]
    places = ["--sidecar", "--output-dir", tmp_path / "texts", "--attention", tmp_path / "looked", "-o", "-"]
    done = caption(tiny_checkpoint, *replaced, *places)
    assert done.exit_code == 0, done.stderr
    expected = [" ".join("long words" if each == word else each for each in text.split()) for text in plain]
    assert texts(done) == expected
    assert (tmp_path / "texts" / "astronaut.txt").read_text() == expected[0] + "\n"
    looked = json.loads((tmp_path / "looked" / "astronaut" / "attention.json").read_text())
    assert looked["caption"] == expected[0]
    assert looked["words"][0]["word"] == word
    refused = caption(tiny_checkpoint, "--replace", "cat")
    assert (refused.exit_code, refused.stderr) == (2, "capcli: --replace: 'cat' is not of the form OLD=NEW\n")
