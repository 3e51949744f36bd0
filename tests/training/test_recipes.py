"""Recipes: stages that begin with each other's checkpoints, and go on after they were stopped."""

import json
from pathlib import Path

import pytest
import torch
from fakes import SMALLER

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.kinds import read_kinds
from capcli.training import recipes
from capcli.training.data.datasets import DataError
from capcli.training.learning.kinds import imagenet_names
from capcli.training.recipes import describe, follow, read_recipe

CPU = torch.device("cpu")
HEAD = "".join(f"{name} = {value}\n" for name, value in SMALLER.items() if name == "views")
SIZES = "".join(f"{name} = {value}\n" for name, value in SMALLER.items() if name != "views")


def written(folder: Path, data: Path, stages: str) -> Path:
    """Return a recipe in a folder."""
    recipe = folder / "recipe.toml"
    recipe.write_text(f'data = ["{data}"]\nprecision = "fp32"\n{HEAD}\n{stages}')
    return recipe


@pytest.mark.slow
def test_stages_follow_each_other(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = SIZES.replace("min_count = 1\n", "")
    recipe = written(
        tmp_path,
        pair,
        f'[[stage]]\nname = "first"\nepochs = 1\n{SIZES}'
        '[[stage]]\nname = "critical"\nself_critical = true\nepochs = 1\nstray_penalty = 0.1\n'
        f'[[stage]]\nname = "anew"\nnew_decoder = true\nepochs = 2\nmin_count = 1\nminutes = 2\n{sizes}'
        '[[stage]]\nname = "named"\nkind = "kinds"\n',
    )
    recipe.write_text('license = "for tests"\n' + recipe.read_text())
    run = tmp_path / "run"
    trained = recipes.train

    def stopped(options: recipes.TrainOptions, place: Path, *rest: object, **more: object) -> None:
        if place.name == "03-anew":
            raise KeyboardInterrupt
        trained(options, place, *rest, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(recipes, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            follow(recipe, run, CPU)
    assert list(json.loads((run / "stages.json").read_text())) == ["01-first", "02-critical"]
    lines = describe(read_recipe(recipe), run)
    assert "done, in" in lines[0]
    assert lines[2].endswith("about 2 min")
    assert lines[4] == "2 of 4 stages are left: 2 min by earlier timings"

    begun = (run / "01-first" / "log.jsonl").stat().st_mtime_ns
    follow(recipe, run, CPU, command="capcli train recipe.toml")
    assert (run / "01-first" / "log.jsonl").stat().st_mtime_ns == begun, "what was done is not done again"
    first, last = CaptionModel.load(run / "01-first"), CaptionModel.load(run)
    for name, tensor in last.encoder.state_dict().items():
        assert torch.equal(tensor, first.encoder.state_dict()[name]), "a new decoder keeps the encoder"
    assert "[[stage]]" in last.config.training["recipe"]
    assert "begun_from" not in last.config.training
    assert last.config.training["license"] == "for tests"
    assert "```toml" in (run / "README.md").read_text()
    told = Captioner.load(run, "cpu").caption(Path("tests/photos/chelsea.jpg")).kinds
    assert told
    assert read_kinds(run, 1280).names == imagenet_names()
    assert not (run / "features").exists()
    assert Captioner.load(run, "cpu").caption(Path("tests/photos/chelsea.jpg")).text

    recipe.write_text(recipe.read_text().replace("epochs = 2", "epochs = 3"))
    with pytest.raises(DataError, match="is a different recipe"):
        follow(recipe, run, CPU)


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ("", r"one \[\[stage\]\] or more"),
        ('[[stage]]\nname = "a"\nepoch = 1\n', "stage 1: epoch is not an option of a stage of the kind train"),
        ('[[stage]]\nname = "../a"\n', "stage 1: name is '../a'"),
        ('[[stage]]\nname = "a"\nkind = "magic"\n', "kind is 'magic', not one of train, agree, kinds"),
        ('[[stage]]\nname = "a"\nkind = "agree"\n', "the first stage must train a new model"),
        ('[[stage]]\nname = "a"\nlearning_rate = 20\n', "not between 1e-09 and 10"),
        ('[[stage]]\nname = "a"\nlearning_rate = "fast"\n', "stage 1: "),
        ('[[stage]]\nname = "a"\n[[stage]]\nname = "b"\nhidden_size = 8\n', "stage 2: .* fixed by the checkpoint"),
        ('[[stage]\nname = "a"\n', "not TOML"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_named(tmp_path: Path, stages: str, reason: str) -> None:
    with pytest.raises(DataError, match=rf"recipe\.toml: .*{reason}"):
        read_recipe(written(tmp_path, tmp_path, stages))


def test_a_recipe_without_data_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[[stage]]\nname = "a"\n')
    with pytest.raises(DataError, match="data is a list"):
        read_recipe(recipe)
