"""Which engine is chosen, and what works where PyTorch is not installed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fakes import PHOTOS, TINY, WORDS

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.engines import choose
from capcli.engines.choose import INSTALL_TORCH, engine_loader
from capcli.model.vocabulary import Vocabulary

COFFEE = str(PHOTOS / "coffee.jpg")
# capcli where PyTorch and torchvision are not installed.
WITHOUT_TORCH = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
RUN = "from capcli.cli.app import main; main()"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=1800, check=False)


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ({"device": "cpu"}, ("onnx", "cpu", "fp32")),
        ({"device": "cpu", "precision": "fp32"}, ("onnx", "cpu", "fp32")),
        ({"engine": "onnx"}, ("onnx", "cpu", "fp32")),
        ({"device": "cpu", "precision": "bf16"}, ("torch", "cpu", "bf16")),
        ({"device": "cpu", "precision": "fp32", "engine": "torch"}, ("torch", "cpu", "fp32")),
    ],
)
def test_a_cpu_in_float32_is_for_onnx(asked: dict[str, str], chosen: tuple[str, ...], tiny_checkpoint: Path) -> None:
    captioner = Captioner.load(tiny_checkpoint, **asked)
    assert (captioner.engine.name, captioner.device, captioner.precision) == chosen
    assert captioner.caption(COFFEE).words


def test_a_gpu_that_torch_cannot_use_leaves_the_cpu(monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path) -> None:
    monkeypatch.setattr(choose, "may_have_gpu", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert Captioner.load(tiny_checkpoint).engine.name == "onnx"
    asked = Captioner.load(tiny_checkpoint, engine="torch")
    assert (asked.engine.name, asked.device) == ("torch", "cpu")


@pytest.mark.slow
def test_an_encoder_without_a_graph_is_for_torch(tmp_path: Path) -> None:
    model = tmp_path / "model"
    torch.manual_seed(7)
    CaptionModel(dataclasses.replace(TINY, encoder="mobilenet_v3_large"), Vocabulary(WORDS)).save(model)
    captioner = Captioner.load(model, "cpu")
    assert (captioner.engine.name, captioner.device) == ("torch", "cpu")
    assert captioner.caption(COFFEE).path == COFFEE
    alone = "the encoder mobilenet_v3_large has no ONNX graph: it runs on PyTorch alone"
    for arguments in (
        ["caption", COFFEE, "--model", model, "--engine", "onnx"],
        ["export", model, "-o", tmp_path / "o"],
    ):
        done = run(RUN, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"capcli: {alone}\n")
    done = run(WITHOUT_TORCH + RUN, "info", model)
    assert (done.returncode, done.stderr) == (2, f"capcli: {alone}, which is not installed: {INSTALL_TORCH}\n")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"engine": "tflite"}, "engine 'tflite' is not known; there are auto, onnx, torch"),
        ({"engine": "onnx", "device": "cuda"}, "engine onnx runs on a CPU in fp32"),
        ({"engine": "onnx", "precision": "bf16"}, "engine onnx runs on a CPU in fp32"),
        ({"device": "toaster"}, "device 'toaster' cannot be used"),
        ({"precision": "half"}, "precision 'half' is not known"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_is_loaded(asked: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        engine_loader(**asked)


def test_cores_are_shared_among_workers(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capcli.engines.onnx.count_cores", lambda: 8)
    for workers, threads in ((1, 8), (3, 2), (8, 1), (20, 1)):
        assert Captioner.load(tiny_checkpoint, "cpu", workers=workers, engine="onnx").engine.threads == threads


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["caption", COFFEE, "--num", "2"],
        ["caption", COFFEE, "--sample", "--set", "seed=1"],
        ["caption", COFFEE, "--html", "{tmp}/page.html", "--attention", "{tmp}/looked", "--output", "{tmp}/out.jsonl"],
        ["explain", COFFEE, "a cat on grass", "--attention", "{tmp}/looked"],
        ["bench", str(PHOTOS)],
        ["info", "{model}"],
        ["models"],
    ],
    ids=lambda arguments: " ".join(arguments[:1] + arguments[2:3]),
)
def test_captioning_does_not_import_torch(arguments: list[str], tiny_checkpoint: Path, tmp_path: Path) -> None:
    script = f"""
import atexit, sys
atexit.register(lambda: print(*{{"torch", "torchvision"}} & sys.modules.keys(), file=sys.stderr))
{RUN}
"""
    model = [] if arguments[0] in ("info", "models") else ["--model", tiny_checkpoint]
    model += ["--device", "cpu"] if arguments[0] in ("caption", "bench") else []
    done = run(script, *(argument.format(tmp=tmp_path, model=tiny_checkpoint) for argument in arguments), *model)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert done.stdout or (tmp_path / "out.jsonl").read_text()


@pytest.mark.slow
def test_the_python_interface_does_not_import_torch(tiny_checkpoint: Path) -> None:
    script = """
import sys
from capcli import Candidate, Caption, Captioner, DecodingOptions, ImageError, ModelError
caption = Captioner.load(sys.argv[1], "cpu").caption(sys.argv[2], 2, DecodingOptions(beam=2))
print(caption.attention.shape[0] == len(caption.words), "torch" in sys.modules)
"""
    done = run(script, tiny_checkpoint, COFFEE)
    assert (done.stdout, done.stderr) == ("True False\n", "")


@pytest.mark.slow
def test_without_torch_a_cpu_captions_and_the_rest_says_what_to_install(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = ["--model", tiny_checkpoint]
    done = run(WITHOUT_TORCH + RUN, "caption", COFFEE, "--format", "json", *model)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["caption"]
    assert run(WITHOUT_TORCH + RUN, "explain", COFFEE, "a cat", *model).returncode == 0
    rows = [{"file_path": COFFEE, "captions": ["a cup"], "split": "dev"}]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    for arguments, what in (
        (["caption", COFFEE, *model, "--engine", "torch"], "engine torch needs PyTorch"),
        (["caption", COFFEE, *model, "--device", "cuda"], "device cuda needs PyTorch"),
        (["caption", COFFEE, *model, "--precision", "bf16"], "precision bf16 needs PyTorch"),
        (["push", tiny_checkpoint, "user/name"], "this needs PyTorch"),
        (["evaluate", tmp_path / "data.json", *model], "this needs PyTorch"),
        (["train", tmp_path / "data.json", "--output", tmp_path / "run"], "this needs PyTorch"),
    ):
        done = run(WITHOUT_TORCH + RUN, *arguments)
        expected = f"capcli: {what}: {INSTALL_TORCH}\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", expected), arguments
