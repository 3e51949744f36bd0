"""`capcli explain`, as a user runs it."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import PHOTOS
from folders import process
from typer.testing import CliRunner

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.cli.app import app
from capcli.engines.torch import TorchEngine
from capcli.model.kinds import Kinds, Named


@pytest.mark.slow
def test_explain(tmp_path: Path, tiny_checkpoint: Path) -> None:
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("a cat on grass\n\na dog\nman zyzzyva\n")
    arguments = ["explain", PHOTOS / "chelsea.jpg", "--model", tiny_checkpoint]
    one = process(*arguments, "a cat on Mars", "--attention", tmp_path / "out")
    assert (one.returncode, one.stderr) == (0, "")
    assert [line.lstrip(" ?").split()[0] for line in one.stdout.splitlines()[2:6]] == ["a", "cat", "on", "mars"]
    assert "not in the vocabulary" in one.stdout
    assert (tmp_path / "out" / "chelsea" / "03_mars.png").exists()
    many = process(*arguments, "--text-file", sentences, "--json", "--html", tmp_path / "r.html")
    assert (many.returncode, many.stderr) == (0, "")
    rows = json.loads(many.stdout)
    assert sorted(row["caption"] for row in rows) == ["a cat on grass", "a dog", "man zyzzyva"]
    assert [row["fit"] for row in rows] == sorted((row["fit"] for row in rows), reverse=True)
    assert (tmp_path / "r.html").read_text("utf-8").count('<li class="card"') == 3


def test_a_page_of_ones_own_sentence_shows_what_the_table_does(
    tmp_path: Path, tiny_model: CaptionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = Captioner(TorchEngine(tiny_model, torch.device("cpu"), "fp32"))
    named = Named("cat", (), (0,)), Named("dog", (), (1,))
    captioner.kinds = Kinds(named, np.zeros((2, 1), np.float32), np.array([9, 0], np.float32))
    monkeypatch.setattr(captioner.engine, "vectors", lambda _: np.zeros((1, 1), np.float32))
    monkeypatch.setattr(Captioner, "load", lambda *_, **__: captioner)
    arguments = ["explain", str(PHOTOS / "chelsea.jpg")]
    done = CliRunner().invoke(app, [*arguments, "a dog on grass", "--html", str(tmp_path / "r.html")])
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == "the photo shows above all: cat 100%"
    page = html.unescape((tmp_path / "r.html").read_text("utf-8"))
    assert lines[0].split("\t")[0] in page  # fit
    for line in lines[2:7]:  # probability and gain of each word
        mark, word, probability, _, times = re.fullmatch(r"(.) (\S+) +(\S+) +(\S+) +(\S+).*", line).groups()
        cells = f'<th scope="row">{word}</th><td>{probability}</td><td>{times}</td><td>'
        assert page.count(cells) == 1
        assert page.partition(cells)[2].startswith("doubted") == (mark == "?")
    assert "doubted: dog" in page
    assert "rather: cat" in page
    assert "your sentence:" in page
    assert lines[-1] in page
    assert "1 sentence, " in page
    for wrong in ("wrote", "Captions", "own words", "0.0 MB"):
        assert wrong not in page

    (tmp_path / "two.txt").write_text("a dog\na cat\n")
    many = CliRunner().invoke(app, [*arguments, "--text-file", str(tmp_path / "two.txt")])
    assert len(many.stdout.splitlines()) == 2
    assert many.stderr == f"capcli: {lines[-1]}\n"


def test_an_unreadable_photo_costs_explain_exit_status_one(tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "x.jpg").touch()
    done = CliRunner().invoke(app, ["explain", str(tmp_path / "x.jpg"), "a cat", "--model", str(tiny_checkpoint)])
    assert done.exit_code == 1
    assert done.stderr == f"capcli: {tmp_path / 'x.jpg'}: the file is empty\n"
