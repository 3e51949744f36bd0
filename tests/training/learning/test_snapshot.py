import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from fakes import SAID, SMALL, SMALLER, train

from capcli.checkpoints.caption_model import CaptionModel
from capcli.model.config import ModelConfig
from capcli.model.vocabulary import Vocabulary
from capcli.training.data import features
from capcli.training.data.datasets import DataError
from capcli.training.data.inputs import StoredFeatures
from capcli.training.learning import loop
from capcli.training.learning.options import TrainOptions
from capcli.training.learning.setup import set_up
from capcli.training.learning.snapshot import check_alike


@pytest.mark.slow
def test_a_run_is_not_overwritten_nor_resumed_with_other_options(pair: Path, tmp_path: Path) -> None:
    common = [pair, "--output", tmp_path / "run", "--epochs", 1, *SMALL]
    assert train(*common).exit_code == 0
    refused = train(*common)
    assert refused.exit_code == 2
    assert "--resume" in refused.stderr
    other = train(*common, "--resume", "--seed", 5)
    assert other.exit_code == 2
    assert "was started with seed 1" in other.stderr
    # As many words as before, and other ones.
    pair.write_text(pair.read_text().replace("cup of coffee", "cup of water"))
    changed = train(*common, "--resume")
    assert changed.exit_code == 2
    assert "was started with other captions; restore them" in changed.stderr


def test_what_an_older_version_had_no_option_for_counts_as_not_asked_for(pair: Path, tmp_path: Path) -> None:
    setup = set_up(TrainOptions((str(pair),), epochs=1, refine=True, **SMALLER), tmp_path / "run", torch.device("cpu"))
    options = asdict(setup.options) | {"data": [str(pair)]}
    check_alike(tmp_path, setup, {"options": options})
    del options["refine"]
    with pytest.raises(DataError, match="was started with refine None; it cannot be resumed with True"):
        check_alike(tmp_path, setup, {"options": options})


def test_a_checkpoint_is_nothing_to_resume(pair: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    run = shutil.copytree(tiny_checkpoint, tmp_path / "mine")
    before = (run / "model.safetensors").read_bytes()
    refused = train(pair, "--output", run, "--epochs", 1, *SMALL, "--resume")
    assert refused.exit_code == 2
    assert "holds a checkpoint, but no run" in refused.stderr
    assert (run / "model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_a_run_goes_on_with_the_checkpoint_that_it_began_with(pair: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = TrainOptions((str(pair),), init=str(tmp_path / "first"), epochs=1, views=1)
    words = Vocabulary.build([c for captions in SAID.values() for c in captions], 1)
    config = ModelConfig(image_size=64, hidden_size=8, embedding_size=8, attention_size=8)
    CaptionModel(config, words).save(tmp_path / "first")
    loop.train(options, tmp_path / "run", torch.device("cpu"))
    CaptionModel(config, words).save(tmp_path / "first")  # other weights
    with pytest.raises(DataError, match="was started with other weights"):
        loop.train(options, tmp_path / "run", torch.device("cpu"), resume=True)


@pytest.mark.slow
def test_a_finished_run_has_nothing_to_resume(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = TrainOptions((str(pair),), epochs=1, **SMALLER)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "measure_checkpoint", lambda *_: None)  # killed before it has measured what it has learnt
        loop.train(options, tmp_path / "run", torch.device("cpu"))
    monkeypatch.setattr(features, "encode_views", lambda *_: pytest.fail("photos are encoded again"))
    inputs = set_up(options, tmp_path / "run", torch.device("cpu")).inputs
    assert isinstance(inputs, StoredFeatures)
    store = inputs.stores["train"][tmp_path.name]
    store.files[0].parent.mkdir()
    store.files[0].touch()
    for last_line_but_one in ("  .* images/s in .*", "epoch 1/1 is done and measured: nothing is left to do"):
        capsys.readouterr()
        loop.train(options, tmp_path / "run", torch.device("cpu"), resume=True)
        assert re.fullmatch(last_line_but_one, capsys.readouterr().err.splitlines()[-2])
        assert CaptionModel.load(tmp_path / "run").config.scores
        assert not (tmp_path / "run" / "features").exists()
        card = tmp_path / "run" / "README.md"
        card.write_text("mine")
    assert card.read_text() == "mine"
