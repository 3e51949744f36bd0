"""Encoders of timm, with random weights: no pretrained one is fetched here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import PHOTOS, SMALLER, train
from typer.testing import CliRunner

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.store import ModelError, read_config
from capcli.cli.app import app
from capcli.images.decode import open_square, to_pixels
from capcli.model.config import ModelConfig
from capcli.model.timm_encoders import TimmEncoder, timm_config, timm_weights
from capcli.model.vocabulary import SPECIAL_WORDS, Vocabulary
from capcli.training.data.datasets import Photo
from capcli.training.data.features import encode_views

timm = pytest.importorskip("timm", reason="the extra timm is not installed")
NAMES = {"timm/test_resnet": 96, "timm/test_convnext": 64, "timm/test_vit": 64}  # pixels, small but whole cells


def model_with(name: str, layer: int | None = None) -> CaptionModel:
    torch.manual_seed(3)
    found = timm_config(name, layer, NAMES[name])
    config = ModelConfig(encoder=name, hidden_size=8, embedding_size=8, attention_size=8, max_length=4, **found)
    return CaptionModel(config, Vocabulary([*SPECIAL_WORDS, "a", "cat", "dog"])).eval()


@pytest.mark.parametrize("name", NAMES)
def test_captioning_sees_what_training_saw(name: str, tmp_path: Path) -> None:
    model = model_with(name)
    photo, side = PHOTOS / "chelsea.jpg", model.config.image_size
    (seen,) = encode_views(model.encoder, [Photo(photo, ("a cat",), "train")], 1, side, torch.device("cpu"), "fp32")
    rows, columns = model.config.grid
    assert seen.annotations.shape == (1, rows * columns, model.config.encoder_facts["channels"])
    assert torch.allclose(seen.annotations.mean(1), seen.global_vector, atol=1e-6)
    model.save(tmp_path)
    captioner = Captioner.load(tmp_path, "cpu", "fp32")
    assert captioner.engine.name == "torch"  # ONNX Runtime has no graph of it
    read = captioner.engine.encode(to_pixels(open_square(photo, side))[None])
    assert torch.allclose(read.annotations, seen.annotations, rtol=1e-4, atol=1e-4)
    caption = captioner.caption(photo)
    assert caption.attention is not None
    assert caption.attention.shape[1:] == (rows, columns)
    # timm's own normalisation, by hand
    told = timm.data.resolve_model_data_config(timm.create_model(name.removeprefix("timm/"), pretrained=False))
    pixels = np.asarray(open_square(photo, side), np.float32).transpose(2, 0, 1) / 255
    mean, std = (np.array(told[key], np.float32)[:, None, None] for key in ("mean", "std"))
    assert isinstance(model.encoder, TimmEncoder)
    grid = model.encoder.network.forward_intermediates(
        torch.from_numpy((pixels - mean) / std)[None], indices=[model.encoder.layer], norm=True, intermediates_only=True
    )[0]
    assert torch.allclose(grid.detach().flatten(2).transpose(1, 2), seen.annotations, atol=1e-5)


def test_a_layer_is_taken_and_what_is_behind_it_left_out() -> None:
    last, third = model_with("timm/test_resnet"), model_with("timm/test_resnet", 3)
    assert (last.config.encoder_stride, third.config.encoder_stride) == (32, 16)
    assert third.config.grid == (6, 6)
    assert not any("layer4" in name for name in third.encoder.state_dict())
    assert model_with("timm/test_resnet", -2).config.encoder_facts == third.config.encoder_facts
    fourth, all_six = model_with("timm/test_vit", 3), model_with("timm/test_vit")
    assert fourth.config.grid == all_six.config.grid == (4, 4)
    assert len(list(fourth.encoder.network.blocks)) < len(list(all_six.encoder.network.blocks))


@pytest.mark.parametrize("name", NAMES)
def test_the_first_groups_can_be_frozen(name: str) -> None:
    encoder = model_with(name).encoder
    blocks = encoder.blocks
    parameters = [parameter for block in blocks for parameter in block.parameters()]
    assert len(blocks) >= 4
    assert {id(p) for p in parameters} == {id(p) for p in encoder.parameters()}
    blocks[0].requires_grad_(False)
    first = next(encoder.parameters())
    assert not first.requires_grad
    assert any(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize(
    ("name", "layer", "side", "message"),
    [
        ("timm/no_such_net", None, 64, "has no network no_such_net"),
        ("timm/hf-hub:stranger/model", None, 64, "has no network hf-hub:stranger/model"),
        ("timm/test_resnet", 9, 64, "timm/test_resnet has no layer 9"),
        ("timm/test_vit", None, 70, "timm/test_vit does not take 70 px"),
        ("timm/test_resnet", None, 70, "gives no square grid at 70 px; its own size is 160, its stride 32"),
    ],
)
def test_what_cannot_be_taken_is_told(name: str, layer: int | None, side: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm_config(name, layer, side)


def test_a_stranger_s_checkpoint_fetches_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with("timm/test_resnet")
    model.save(tmp_path)
    asked: list[str] = []
    make = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, **options: asked.append((name, options)) or make(name, **options)
    )
    CaptionModel.load(tmp_path)
    assert asked
    assert all(name == "test_resnet" and options["pretrained"] is False for name, options in asked)
    written = json.loads((tmp_path / "config.json").read_text())
    facts = written["encoder_facts"]
    for change, message in (
        ({"encoder": "timm/hf-hub:stranger/model"}, "known: "),
        ({"encoder": "timm/../x"}, "known: "),
        ({"encoder": "timm/none_such"}, "has no network none_such"),
        ({"encoder_facts": {}}, "do not fit the encoder"),
        ({"encoder_facts": facts | {"channels": 64}}, "other channels"),
        ({"encoder_facts": facts | {"std": [0, 1, 1]}}, "do not fit"),
        ({"encoder_facts": facts | {"mean": ["x", 1, 1]}}, "do not fit"),
        ({"encoder_stride": 16}, "another stride"),
        ({"encoder_stride": 0}, "do not fit"),
        ({"encoder": "resnet50"}, "do not fit the encoder resnet50"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(written | change))
        with pytest.raises(ModelError, match=message):
            CaptionModel.load(tmp_path)


def test_without_timm_the_message_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_with("timm/test_vit").save(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ModelError, match=r"the encoder timm/test_vit needs an extra package: pip install .*timm"):
        CaptionModel.load(tmp_path)


@pytest.mark.slow
def test_a_run_from_training_to_explaining(pair: Path, tmp_path: Path) -> None:
    run, weights = tmp_path / "run", tmp_path / "weights.pt"
    torch.save(timm.create_model("test_vit", pretrained=False).state_dict(), weights)
    sizes = [f"{key}={value}" for key, value in (SMALLER | {"encoder_weights": weights}).items() if key != "image_size"]
    sets = [word for pair_ in [*sizes, "encoder_layer=2"] for word in ("--set", pair_)]
    options = ["--encoder", "timm/test_vit", "--image-size", 64, "--epochs", 1, "--device", "cpu", *sets]
    done = train(pair, "--output", run, *options)
    assert done.exit_code == 0, done.stderr
    config = read_config(run)
    assert (config.encoder, config.grid, config.encoder_facts["layer"]) == ("timm/test_vit", (4, 4), 2)
    card = (run / "README.md").read_text()
    assert "encoder: timm/test_vit; 4×4 annotation vectors" in card
    assert "'.[timm]'" in card
    more = ["--fine-tune", "--set", "frozen_blocks=2", "--epochs", 1, "--device", "cpu"]
    assert train(pair, "--output", tmp_path / "tuned", "--init", run, *more).exit_code == 0
    before, after = CaptionModel.load(run).state_dict(), CaptionModel.load(tmp_path / "tuned").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("encoder.network.blocks.2") for name in changed)
    assert "encoder.network.patch_embed.proj.weight" not in changed
    photo = str(PHOTOS / "chelsea.jpg")
    shown = CliRunner().invoke(app, ["explain", photo, "a cat", "--model", str(run), "--json"])
    assert shown.exit_code == 0, shown.stderr
    exported = CliRunner().invoke(app, ["export", str(run), "--output", str(tmp_path / "onnx")])
    assert exported.exit_code == 2
    assert "has no ONNX graph" in exported.stderr


@pytest.mark.slow
def test_random_weights_and_weights_of_another_network(pair: Path, tmp_path: Path) -> None:
    sizes = [word for key, value in SMALLER.items() if key != "image_size" for word in ("--set", f"{key}={value}")]
    base = ["--encoder", "timm/test_resnet", "--image-size", 64, "--epochs", 1, "--device", "cpu", *sizes]
    done = train(pair, "--output", tmp_path / "random", *base, "--set", "encoder_weights=random")
    assert done.exit_code == 0, done.stderr
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    done = train(pair, "--output", tmp_path / "other", *base, "--set", f"encoder_weights={tmp_path / 'other.pt'}")
    assert done.exit_code == 2
    assert "these are not the weights of timm/test_resnet: no " in done.stderr
    done = train(pair, "--output", tmp_path / "bad", "--encoder", "resnet51")
    assert done.stderr.endswith("convnext_tiny, timm/NAME\n")
    done = train(pair, "--output", tmp_path / "bad", "--set", "encoder_layer=2")
    assert "encoder_layer is for networks of timm" in done.stderr


def test_weights_that_cannot_be_fetched_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("no route\nto the Hub")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(OSError, match=r"^the weights of timm/test_vit cannot be fetched: no route to the Hub$"):
        timm_weights("timm/test_vit")


def test_facts_are_kept_only_for_networks_of_timm(tmp_path: Path, tiny_model: CaptionModel) -> None:
    tiny_model.save(tmp_path)
    assert "encoder_facts" not in json.loads((tmp_path / "config.json").read_text())
    with pytest.raises(ValueError, match="do not fit the encoder efficientnet_lite2"):
        dataclasses.replace(tiny_model.config, encoder_facts={"layer": 1})
