import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import SMALL, TINY, WORDS, train

from capcli.checkpoints.caption_model import CaptionModel
from capcli.model.vocabulary import Vocabulary
from capcli.settings import settings
from capcli.training.learning.options import TrainOptions


@pytest.mark.parametrize("option", [["--self-critical"], ["--set", "init_share=0.5"]])
def test_what_needs_a_checkpoint_to_begin_from_says_so(pair: Path, tmp_path: Path, option: list[str]) -> None:
    result = train(pair, "--output", tmp_path / "run", *SMALL, *option)
    assert result.exit_code == 2
    assert "--init" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--init", "FIRST", "--set", "hidden_size=64"], "hidden_size is fixed by the checkpoint of --init"),
        (["--init", "FIRST", "--set", "min_count=1"], "min_count is fixed by the checkpoint of --init"),
        (["--init", "FIRST", "--output", "FIRST"], "holds a run"),
        (["--init", "FIRST", "--output", "FIRST", "--resume"], "is the checkpoint of --init"),
        (["--decoder", "pre-inject", "--set", "attention_regularization=1"], "need attention; pre-inject has none"),
        (["--decoder", "par-inject", "--refine"], "refine needs a decoder with attention; par-inject has none"),
        (["--init", "REFINED", "--no-refine"], "has the layer that --no-refine would leave out"),
        (["--set", "encoder_weights=DATA"], "not a state dict"),
        (["--set", f"encoder_weights={os.devnull}"], "not a state dict (EOFError)"),
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
    names = {"FIRST": first, "REFINED": refined, "encoder_weights=DATA": f"encoder_weights={pair}"}
    option = [str(names.get(word, word)) for word in option]
    result = train(pair, "--output", tmp_path / "run", *option)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before


@pytest.mark.parametrize(
    "option",
    [
        f"--{name}={value}"
        if settings(TrainOptions)[name.replace("-", "_")].panel
        else f"--set={name.replace('-', '_')}={value}"
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
    name = option.removeprefix("--set=").partition("=")[0].removeprefix("--").replace("-", "[-_]")
    assert re.search(rf"capcli: (--)?{name} .*not between .* and ", done.stderr)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("pair_of_texts", "said"),
    [
        ("weight_decay", "--set weight_decay: not NAME=VALUE with one of limit, patience, captions_per_batch"),
        ("wait=3", "--set wait=3: not NAME=VALUE"),
        ("weight_decay=much", "weight_decay is 'much', not of type float"),
        ("frozen_blocks=1.5", "frozen_blocks is 1.5, not of type int"),
        ("no_echo=1", "no_echo is 1, not of type bool"),
    ],
)
def test_a_setting_that_makes_no_sense_is_told(pair: Path, tmp_path: Path, pair_of_texts: str, said: str) -> None:
    done = train(pair, "--output", tmp_path / "run", "--set", pair_of_texts)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_recipe_is_told_and_takes_no_other_settings(pair: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'data = ["{pair}"]\n[[stage]]\nname = "first"\nepochs = 1\nminutes = 3\n')
    told = train(recipe, "--output", tmp_path / "run", "--dry-run")
    assert told.exit_code == 0
    assert told.stdout.splitlines()[0].endswith("01-first: train, data ('" + str(pair) + "',), epochs 1; about 3 min")
    assert not (tmp_path / "run").exists()
    for more, said in (
        (["--epochs", "2"], "epochs cannot"),
        ([pair], "pair.json cannot"),
        (["--init", "x"], "x cannot"),
    ):
        done = train(recipe, "--output", tmp_path / "run", *more)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert said in done.stderr
