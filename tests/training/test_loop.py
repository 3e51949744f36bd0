import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import PHOTOS
from typer.testing import CliRunner

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.cli import app
from capcli.model.config import ModelConfig
from capcli.model.vocabulary import Vocabulary
from capcli.training import features
from capcli.training.datasets import DataError
from capcli.training.loop import Run, learning_rate_at
from capcli.training.options import TrainOptions

SAID = {
    "chelsea.jpg": ["a cat looks into the camera", "a cat looks into the camera"],
    "coffee.jpg": ["a cup of coffee on a wooden table", "a cup of coffee on a wooden table"],
}
SMALL = ["--image-size", "96", "--hidden-size", "64", "--embedding-size", "64", "--attention-size", "32"]
SMALL += ["--min-count", "1", "--views", "1", "--label-smoothing", "0", "--dropout", "0", "--device", "cpu"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two photos, which are train, and as copies dev."""
    rows = []
    for name, captions in SAID.items():
        shutil.copy(PHOTOS / name, tmp_path / name)
        rows.append({"file_path": str(PHOTOS / name), "captions": captions, "split": "train"})
        rows.append({"file_path": name, "captions": captions, "split": "dev"})
    (tmp_path / "pair.json").write_text(json.dumps(rows))
    return tmp_path / "pair.json"


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "capcli", "train", *map(str, arguments)]
    # No Java on this path: starting it after each epoch would take most of the test's time.
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": ""})


def test_two_photos_are_learnt_by_heart(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(
        f"{data}=120", "--output", run, "--epochs", 3, "--captions-per-batch", 4, "--learning-rate", "0.005", *SMALL
    )
    assert result.returncode == 0, result.stderr
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


def test_a_run_is_not_overwritten_nor_resumed_with_other_options(data: Path, tmp_path: Path) -> None:
    common = [data, "--output", tmp_path / "run", "--epochs", 1, *SMALL]
    assert train(*common).returncode == 0
    refused = train(*common)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    other = train(*common, "--resume", "--seed", 5)
    assert other.returncode == 2
    assert "begun with seed 1" in other.stderr
    # As many words as before, and other ones.
    data.write_text(data.read_text().replace("cup of coffee", "cup of water"))
    changed = train(*common, "--resume")
    assert changed.returncode == 2
    assert "begun with other captions; restore them" in changed.stderr


def test_a_checkpoint_is_nothing_to_resume(data: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    run = shutil.copytree(tiny_checkpoint, tmp_path / "mine")
    before = (run / "model.safetensors").read_bytes()
    refused = train(data, "--output", run, "--epochs", 1, *SMALL, "--resume")
    assert refused.returncode == 2
    assert "holds a checkpoint, but no run" in refused.stderr
    assert (run / "model.safetensors").read_bytes() == before


def test_a_run_goes_on_with_the_checkpoint_that_it_began_with(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = TrainOptions((str(data),), init=str(tmp_path / "first"), epochs=1, views=1)
    words = Vocabulary.build([c for captions in SAID.values() for c in captions], 1)
    config = ModelConfig(image_size=64, hidden_size=8, embedding_size=8, attention_size=8)
    CaptionModel(config, words).save(tmp_path / "first")
    Run(options, tmp_path / "run", torch.device("cpu")).train()
    CaptionModel(config, words).save(tmp_path / "first")  # other weights
    with pytest.raises(DataError, match="begun with other weights"):
        Run(options, tmp_path / "run", torch.device("cpu")).resume()


@pytest.mark.parametrize(
    "more",
    [
        ["--self-critical", "--average", "0.9"],
        ["--fine-tune", "--encoder-learning-rate", "1e-4", "--frozen-blocks", "4", "--init-share", "0.5"],
        ["--image-size", "64"],
    ],
)
def test_a_checkpoint_can_be_trained_further(data: Path, tmp_path: Path, more: list[str]) -> None:
    assert train(data, "--output", tmp_path / "first", "--epochs", 1, *SMALL).returncode == 0
    arguments = [data, "--output", tmp_path / "second", "--init", tmp_path / "first", "--epochs", 1, *more]
    result = train(*arguments)
    assert result.returncode == 0, result.stderr
    first, second = CaptionModel.load(tmp_path / "first"), CaptionModel.load(tmp_path / "second")
    assert second.vocabulary.words == first.vocabulary.words
    assert second.config.training["begun_from"] == first.config.training
    assert second.config.image_size == (64 if "--image-size" in more else 96)
    changed = {name for name, t in first.state_dict().items() if not torch.equal(t, second.state_dict()[name])}
    assert any(name.startswith("decoder.") for name in changed)
    assert any(name.startswith("encoder.") for name in changed) == ("--fine-tune" in more)
    assert not any("running" in name for name in changed)
    # the stem and three stages are the first four blocks
    assert not any(name.startswith(("encoder.stem", "encoder.stages.0", "encoder.stages.2")) for name in changed)


@pytest.mark.parametrize("option", [["--self-critical"], ["--init-share", "0.5"]])
def test_what_needs_a_checkpoint_to_begin_from_says_so(data: Path, tmp_path: Path, option: list[str]) -> None:
    result = train(data, "--output", tmp_path / "run", *SMALL, *option)
    assert result.returncode == 2
    assert "--init" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--init", "FIRST", "--hidden-size", "64"], "--hidden-size is what the checkpoint of --init has"),
        (["--init", "FIRST", "--min-count", "1"], "--min-count is what the checkpoint of --init has"),
        (["--init", "FIRST", "--output", "FIRST"], "holds a run"),
        (["--init", "FIRST", "--output", "FIRST", "--resume"], "is the checkpoint of --init"),
        (["--decoder", "pre-inject", "--attention-regularization", "1"], "pre-inject has none"),
        (["--encoder-weights", "DATA"], "not a state dict"),
        (["--encoder", "vgg16", "--image-size", "100"], "vgg16 takes multiples of 16"),
    ],
)
def test_options_that_cannot_be_are_refused(
    data: Path, tmp_path: Path, tiny_checkpoint: Path, option: list[str], said: str
) -> None:
    first = tmp_path / "first"
    shutil.copytree(tiny_checkpoint, first)
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    option = [{"FIRST": str(first), "DATA": str(data)}.get(word, word) for word in option]
    result = train(data, "--output", tmp_path / "run", *option)
    assert result.returncode == 2
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
def test_numbers_out_of_range_are_refused_before_anything_is_made(data: Path, tmp_path: Path, option: str) -> None:
    done = CliRunner().invoke(app, ["train", str(data), "--output", str(tmp_path / "run"), option])
    assert done.exit_code == 2
    name = option.partition("=")[0].removeprefix("--").replace("-", "[-_]")
    # The second is what some versions of Typer say of "nan".
    assert re.search(rf"capcli: (--)?{name} .*not between .* and |Invalid value for '--{name}': ", done.stderr)
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_ends_in_a_line(data: Path, tmp_path: Path) -> None:
    options = [data, "--output", tmp_path / "run", "--epochs", 40, "--learning-rate", 10, "--weight-decay", 100, *SMALL]
    done = CliRunner().invoke(app, ["train", *map(str, options), "--precision", "fp32"])
    assert done.exit_code == 2
    assert "no longer finite numbers: begin anew with a lower --learning-rate" in done.stderr


def test_a_checkpoint_keeps_the_decoding_it_had(data: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "run" / "features").mkdir(parents=True)
    (tmp_path / "run" / "features" / "mine").touch()
    first = ["--init", tiny_checkpoint, "--epochs", 1, "--views", 1, "--device", "cpu"]
    assert train(data, "--output", tmp_path / "run", *first, "--no-repeat", 2).returncode == 0
    assert [path.name for path in (tmp_path / "run" / "features").iterdir()] == ["mine"]
    config, before = CaptionModel.load(tmp_path / "run").config, CaptionModel.load(tiny_checkpoint).config
    for name in ("beam", "max_length", "length_penalty", "dropout", "image_size"):
        assert getattr(config, name) == getattr(before, name) == config.training["options"][name]
    assert config.no_repeat == 2


@pytest.mark.parametrize("box", [[0.2, 0.2, 0.3, 0.3], [0.8, 0.2, 0.3, 0.3]])
def test_attention_learns_where_people_are(tmp_path: Path, box: list[float]) -> None:
    rows = [{"file_path": str(PHOTOS / "chelsea.jpg"), "captions": ["a man looks"] * 2, "split": "train"}]
    (tmp_path / "one.json").write_text(json.dumps(rows))
    (tmp_path / "boxes.json").write_text(json.dumps({"chelsea.jpg": [box]}))
    more = ["--epochs", 1, "--captions-per-batch", 4, "--learning-rate", "0.003", "--attention-boxes"]
    result = train(f"{tmp_path / 'one.json'}=60", "--output", tmp_path / "run", *more, tmp_path / "boxes.json", *SMALL)
    assert result.returncode == 0, result.stderr
    caption = Captioner.load(tmp_path / "run", "cpu").caption(PHOTOS / "chelsea.jpg")
    assert caption.words[:2] == ("a", "man")
    # 3×3 cells, whose places are 0.35 of a cell right of and below their middles
    assert int(caption.attention[1].argmax()) == (0 if box[0] < 0.5 else 2)
    assert caption.attention[1].max() > 0.8


@pytest.mark.parametrize("decoder", ["pre-inject", "par-inject", "hard"])
def test_every_decoder_learns(data: Path, tmp_path: Path, decoder: str) -> None:
    more = ["--decoder", decoder, "--epochs", 2, "--captions-per-batch", 4, "--learning-rate", "0.005"]
    result = train(f"{data}=240", "--output", tmp_path / "run", *more, *SMALL)
    assert result.returncode == 0, result.stderr
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[1]["cider"] > 900  # both captions by heart; hard attention's last epoch draws its locations


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_one_choice_of_number_format_for_all_of_a_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str, dtype: torch.dtype
) -> None:
    sizes = {"image_size": 64, "hidden_size": 8, "embedding_size": 8, "attention_size": 8, "min_count": 1}
    options = TrainOptions((str(data),), epochs=1, views=1, precision=precision, **sizes)
    run = Run(options, tmp_path / "run", torch.device("cpu"))
    computed: list[torch.dtype] = []
    run.model.decoder.register_forward_hook(lambda _, __, reading: computed.append(reading.logits.dtype))
    run.model.decoder.register_forward_pre_hook(lambda _, given: computed.append(given[0].annotations.dtype))
    run.train()
    assert capsys.readouterr().err.startswith(f"training on cpu in {precision}\n")
    assert set(computed) == {dtype}
    stored = CaptionModel.load(tmp_path / "run").config
    assert stored.training["options"]["precision"] == stored.scores[tmp_path.name]["precision"] == precision
    other = TrainOptions((str(data),), epochs=1, views=1, precision={"fp32": "bf16"}.get(precision, "fp32"), **sizes)
    with pytest.raises(DataError, match=f"begun with precision '{precision}', cannot be resumed with"):
        Run(other, tmp_path / "run", torch.device("cpu")).resume()


def test_the_learning_rate_keeps_to_its_schedule_though_epochs_differ(tmp_path: Path) -> None:
    rows = [
        {"file_path": str(PHOTOS / name), "captions": captions, "split": "train"}
        for name, captions in (("chelsea.jpg", ["a cat"]), ("coffee.jpg", ["a cup", "a table"]))
    ]
    (tmp_path / "two.json").write_text(json.dumps(rows))
    sizes = {"image_size": 64, "hidden_size": 8, "embedding_size": 8, "attention_size": 8, "min_count": 1}
    options = TrainOptions((f"{tmp_path / 'two.json'}=60",), epochs=4, captions_per_batch=2, views=1, **sizes)
    run = Run(options, tmp_path / "run", torch.device("cpu"))
    batches = [[len(batch.photos) for batch in run.batches(epoch)] for epoch in range(4)]
    assert len(set(map(len, batches))) > 1
    assert {sum(sizes) for sizes in batches} == {120}
    rates: list[float] = []
    run.optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    run.train()
    sizes = [size for several in batches for size in several]
    middles = [(sum(sizes[:step]) + size / 2) / 480 for step, size in enumerate(sizes)]
    assert rates == pytest.approx([options.learning_rate * learning_rate_at(middle) for middle in middles])
    assert [learning_rate_at(share) for share in (0, 0.025, 0.05, 0.525, 1)] == pytest.approx([0, 0.5, 1, 0.51, 0.02])


def test_a_finished_run_has_nothing_to_resume(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"image_size": 64, "hidden_size": 8, "embedding_size": 8, "attention_size": 8, "min_count": 1}
    options = TrainOptions((str(data),), epochs=1, views=1, **sizes)
    run = Run(options, tmp_path / "run", torch.device("cpu"))
    monkeypatch.setattr(Run, "measure", lambda run: None)
    run.train()  # and is killed before it has measured what it has learnt
    monkeypatch.undo()
    monkeypatch.setattr(features, "encode_views", lambda *_: pytest.fail("photos are encoded again"))
    store = run.train_stores[tmp_path.name]
    store.files[0].parent.mkdir()
    store.files[0].touch()
    for last_line_but_one in ("  .* images/s in .*", "epoch 1/1 is done and measured: nothing is left to do"):
        run = Run(options, tmp_path / "run", torch.device("cpu"))
        run.resume()
        capsys.readouterr()
        run.train()
        assert re.fullmatch(last_line_but_one, capsys.readouterr().err.splitlines()[-2])
        assert CaptionModel.load(tmp_path / "run").config.scores
        assert not (tmp_path / "run" / "features").exists()
        card = tmp_path / "run" / "README.md"
        card.write_text("mine")
    assert card.read_text() == "mine"


def test_hard_attention_begins_with_expected_contexts(data: Path, tmp_path: Path) -> None:
    sizes = {"image_size": 96, "hidden_size": 8, "embedding_size": 8, "attention_size": 8}
    options = TrainOptions(
        (f"{data}=20",), decoder="hard", epochs=3, captions_per_batch=4, views=1, min_count=1, **sizes
    )
    run = Run(options, tmp_path / "run", torch.device("cpu"))
    run.open_stores()
    drawn: list[bool] = []
    run.model.decoder.register_forward_hook(lambda _, __, reading: drawn.append(bool((reading.attention == 1).any())))
    run.train_epoch()
    assert drawn
    assert not any(drawn)
    run.epoch = 1
    run.train_epoch()
    assert any(drawn)


def test_bad_data_is_one_line(tmp_path: Path) -> None:
    result = train(tmp_path / "absent", "--output", tmp_path / "run")
    assert result.returncode == 2
    assert result.stderr == f"capcli: {tmp_path / 'absent'}: no such file or folder\n"
