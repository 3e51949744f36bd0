import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from fakes import PHOTOS, SAID, SMALL, SMALLER, train

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.training.data.datasets import DataError
from capcli.training.learning import loop
from capcli.training.learning.loop import learning_rate_at
from capcli.training.learning.options import TrainOptions
from capcli.training.learning.setup import set_up

pytestmark = pytest.mark.slow


def test_two_photos_are_learnt_by_heart(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    more = ["--epochs", "3", "--set", "captions_per_batch=4", "--learning-rate", "0.005", *SMALL]
    monkeypatch.setattr(sys, "argv", ["capcli", "train", str(pair)])  # as the card tells it
    result = train(f"{pair}=120", "--output", run, *more)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    captioner = Captioner.load(run, "cpu")
    for name, captions in SAID.items():
        assert captioner.caption(PHOTOS / name).text == captions[0]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in log] == [1, 2, 3]
    assert log[-1]["loss"] < log[0]["loss"] / 10
    config = CaptionModel.load(run).config
    assert config.unsure_below is not None
    scores = config.scores[tmp_path.name]
    assert scores["bleu_4"] == pytest.approx(100, abs=0.01)
    assert not (run / "features").exists()
    card = (run / "README.md").read_text()
    assert "pipeline_tag: image-to-text" in card
    assert "capcli train" in card


@pytest.mark.parametrize(
    "more",
    [
        ["--self-critical", "--set", "average=0.9"],
        [
            "--fine-tune",
            *("--set", "encoder_learning_rate=1e-4", "--set", "frozen_blocks=4", "--set", "init_share=0.5"),
        ],
        ["--image-size", "64"],
        ["--refine"],
    ],
)
def test_a_checkpoint_can_be_trained_further(pair: Path, tmp_path: Path, more: list[str]) -> None:
    assert train(pair, "--output", tmp_path / "first", "--epochs", 1, *SMALL).exit_code == 0
    arguments = [pair, "--output", tmp_path / "second", "--init", tmp_path / "first", "--epochs", 1, *more]
    result = train(*arguments)
    assert result.exit_code == 0, result.stderr
    first, second = CaptionModel.load(tmp_path / "first"), CaptionModel.load(tmp_path / "second")
    assert second.vocabulary.words == first.vocabulary.words
    assert second.config.training["begun_from"] == first.config.training
    assert second.config.image_size == (64 if "--image-size" in more else 96)
    changed = {name for name, t in first.state_dict().items() if not torch.equal(t, second.state_dict()[name])}
    assert second.config.refine == any(".refiner." in name for name in second.state_dict()) == ("--refine" in more)
    assert any(name.startswith("decoder.") for name in changed)
    assert any(name.startswith("encoder.") for name in changed) == ("--fine-tune" in more)
    assert not any("running" in name for name in changed)
    # the stem and three stages are the first four blocks
    assert not any(name.startswith(("encoder.stem", "encoder.stages.0", "encoder.stages.2")) for name in changed)


def test_a_run_that_diverges_ends_in_a_line(pair: Path, tmp_path: Path) -> None:
    more = (
        "--epochs 3 --set captions_per_batch=2 --learning-rate 10 --set weight_decay=100 --set precision=fp32".split()
    )
    done = train(f"{pair}=20", "--output", tmp_path / "run", *more, *SMALL)
    assert done.exit_code == 2
    assert "no longer finite numbers: start over with a lower --learning-rate" in done.stderr


def test_a_checkpoint_keeps_the_decoding_it_had(pair: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "run" / "features").mkdir(parents=True)
    (tmp_path / "run" / "features" / "mine").touch()
    first = ["--init", tiny_checkpoint, "--epochs", 1, "--set", "views=1", "--device", "cpu"]
    assert (
        train(pair, "--output", tmp_path / "run", *first, "--set", "no_repeat=2", "--set", "no_echo=false").exit_code
        == 0
    )
    assert [path.name for path in (tmp_path / "run" / "features").iterdir()] == ["mine"]
    config, before = CaptionModel.load(tmp_path / "run").config, CaptionModel.load(tiny_checkpoint).config
    for name in ("beam", "max_length", "length_penalty", "dropout", "image_size"):
        assert getattr(config, name) == getattr(before, name) == config.training["options"][name]
    assert (config.no_repeat, config.no_echo) == (2, False)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_one_choice_of_number_format_for_all_of_a_run(
    pair: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    precision: str,
    dtype: torch.dtype,
) -> None:
    options = TrainOptions((str(pair),), epochs=1, precision=precision, **SMALLER)
    setup = set_up(options, tmp_path / "run", torch.device("cpu"))
    monkeypatch.setattr(loop, "set_up", lambda *_: setup)
    computed: list[torch.dtype] = []
    setup.model.decoder.register_forward_hook(lambda _, __, reading: computed.append(reading.logits.dtype))
    setup.model.decoder.register_forward_pre_hook(lambda _, given: computed.append(given[0].annotations.dtype))
    loop.train(options, tmp_path / "run", torch.device("cpu"))
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith(
        f"training on cpu in {precision} 2 training photos and 12 words that are in captions 1 times"
    )
    assert "too few for a new decoder, which may describe every photo in the same way" in said
    assert set(computed) == {dtype}
    stored = CaptionModel.load(tmp_path / "run").config
    assert stored.training["options"]["precision"] == stored.scores[tmp_path.name]["precision"] == precision
    monkeypatch.undo()
    other = TrainOptions(options.data, epochs=1, precision={"fp32": "bf16"}.get(precision, "fp32"), **SMALLER)
    with pytest.raises(DataError, match=f"was started with precision '{precision}'; it cannot be resumed with"):
        loop.train(other, tmp_path / "run", torch.device("cpu"), resume=True)


def test_the_learning_rate_keeps_to_its_schedule_though_epochs_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("chelsea.jpg", "coffee.jpg"):
        shutil.copy(PHOTOS / name, tmp_path)
    rows = [
        {"file_path": name, "captions": captions, "split": "train"}
        for name, captions in (("chelsea.jpg", ["a cat"]), ("coffee.jpg", ["a cup", "a table"]))
    ]
    (tmp_path / "two.json").write_text(json.dumps(rows))
    options = TrainOptions((f"{tmp_path / 'two.json'}=60",), epochs=4, captions_per_batch=2, **SMALLER)
    setup = set_up(options, tmp_path / "run", torch.device("cpu"))
    monkeypatch.setattr(loop, "set_up", lambda *_: setup)
    batches = [[len(batch.photos) for batch in setup.batches(epoch)] for epoch in range(4)]
    assert len(set(map(len, batches))) > 1
    assert {sum(sizes) for sizes in batches} == {120}
    rates: list[float] = []
    setup.optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    loop.train(options, tmp_path / "run", torch.device("cpu"))
    sizes = [size for several in batches for size in several]
    middles = [(sum(sizes[:step]) + size / 2) / 480 for step, size in enumerate(sizes)]
    assert rates == pytest.approx([options.learning_rate * learning_rate_at(middle) for middle in middles])
    assert [learning_rate_at(share) for share in (0, 0.025, 0.05, 0.525, 1)] == pytest.approx([0, 0.5, 1, 0.51, 0.02])


def test_bad_data_is_one_line(tmp_path: Path) -> None:
    result = train(tmp_path / "absent", "--output", tmp_path / "run")
    assert result.exit_code == 2
    assert result.stderr == f"capcli: {tmp_path / 'absent'}: no such file or folder\n"
