import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TINY, WORDS
from tiny_runs import SMALL, train

from capcli.checkpoints.caption_model import CaptionModel
from capcli.model.vocabulary import Vocabulary


@pytest.mark.parametrize("option", [["--self-critical"], ["--init-share", "0.5"]])
def test_what_needs_a_checkpoint_to_begin_from_says_so(pair: Path, tmp_path: Path, option: list[str]) -> None:
    result = train(pair, "--output", tmp_path / "run", *SMALL, *option)
    assert result.exit_code == 2
    assert "--init" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--init", "FIRST", "--hidden-size", "64"], "--hidden-size is fixed by the checkpoint of --init"),
        (["--init", "FIRST", "--min-count", "1"], "--min-count is fixed by the checkpoint of --init"),
        (["--init", "FIRST", "--output", "FIRST"], "holds a run"),
        (["--init", "FIRST", "--output", "FIRST", "--resume"], "is the checkpoint of --init"),
        (["--decoder", "pre-inject", "--attention-regularization", "1"], "need attention; pre-inject has none"),
        (["--decoder", "par-inject", "--refine"], "refine needs a decoder with attention; par-inject has none"),
        (["--init", "REFINED", "--no-refine"], "has the layer that --no-refine would leave out"),
        (["--encoder-weights", "DATA"], "not a state dict"),
        (["--encoder-weights", os.devnull], "not a state dict (EOFError)"),
        (["--encoder", "vgg16", "--image-size", "100"], "vgg16 takes multiples of 16"),
    ],
)
def test_options_that_cannot_be_are_refused(
    pair: Path, tmp_path: Path, tiny_checkpoint: Path, option: list[str], said: str
) -> None:
    first = tmp_path / "first"
    shutil.copytree(tiny_checkpoint, first)
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    refined = tmp_path / "refined"
    refined.mkdir()
    CaptionModel(replace(TINY, refine=True), Vocabulary(WORDS)).save(refined)
    option = [{"FIRST": str(first), "REFINED": str(refined), "DATA": str(pair)}.get(word, word) for word in option]
    result = train(pair, "--output", tmp_path / "run", *option)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before


@pytest.mark.parametrize(
    "option",
    [
        f"--{name}={value}"
        for name, values in {
            "learning-rate": ("-1", "0", "nan", "inf"),
            "encoder-learning-rate": ("-1", "nan"),
            "weight-decay": ("-1", "nan", "inf"),
            "attention-regularization": ("nan", "inf"),
            "average": ("nan",),
            "init-share": ("nan",),
            "label-smoothing": ("nan",),
            "dropout": ("nan",),
            "length-penalty": ("nan", "inf"),
            "seed": ("-1", "9" * 20),
        }.items()
        for value in values
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_made(pair: Path, tmp_path: Path, option: str) -> None:
    done = train(pair, "--output", tmp_path / "run", option)
    assert done.exit_code == 2
    name = option.partition("=")[0].removeprefix("--").replace("-", "[-_]")
    # The second is what some versions of Typer say of "nan".
    assert re.search(rf"capcli: (--)?{name} .*not between .* and |invalid value for '--{name}': ", done.stderr)
    assert not (tmp_path / "run").exists()
