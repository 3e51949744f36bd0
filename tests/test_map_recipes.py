"""`To add …, touch …` in capcli/README.md is true: each recipe is followed here, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fakes import PHOTOS

pytestmark = pytest.mark.slow

COFFEE = str(PHOTOS / "coffee.jpg")
FORMAT = """
from capcli.outputs import formats
from capcli.outputs.rows import Rows

class MarkdownRows(Rows):
    name, endings = "markdown", (".md",)

    def row(self, result):
        return f"- {getattr(result, 'text', 'nothing')}\\n"

formats.FORMATS["markdown"] = MarkdownRows
"""
MODEL = """
import torch
from capcli.model import config, decoders, encoders
from capcli.model.encoders import Encoder, Features

class Pooled(Encoder):
    def __init__(self, stride):
        super().__init__(config.ENCODERS["pooled"], stride)
        self.mix = torch.nn.Conv2d(3, 8, stride, stride)

    @property
    def blocks(self):
        return [self.mix]

    def forward(self, pixels):
        grid = self.mix(pixels.to(self.mix.weight.dtype) / 255)
        return Features(grid.flatten(2).mT, grid.mean((2, 3)))

    def load_pretrained(self, state):
        assert state == {}

class Curious(decoders.AttentionDecoder):
    expected_share = 1.0

config.ENCODERS["pooled"] = config.EncoderKind((16, 32), 8, 8)
encoders.ENCODER_CLASSES["pooled"] = Pooled
config.DECODERS["curious"] = config.DecoderKind("as nobody else does", attends=True)
decoders.DECODER_CLASSES["curious"] = Curious
"""
COMMAND = """
import sys, types
from capcli.cli import app

module = types.ModuleType("capcli.cli.greet")
exec("def greet(name: str) -> None:\\n    '''Greet somebody.'''\\n    print(f'Hello, {name}!')", module.__dict__)
sys.modules["capcli.cli.greet"] = module
app.GROUPS["Look and check"]["greet"] = "Greet somebody."
"""
SETTING = """
import dataclasses, sys
from dataclasses import dataclass
from capcli.decoding import options
from capcli.settings import setting

# As if the field stood in the class: it is there before anybody imports it.
@dataclass(frozen=True)
class DecodingOptions(options.DecodingOptions):
    patience: float = setting(1.0, "Go on for P times as long.", 0.5, 10, metavar="P")

options.DecodingOptions = DecodingOptions
"""
WORDING = """
from dataclasses import dataclass
from capcli.outputs import wording
from capcli.settings import setting

@dataclass(frozen=True)
class Wording(wording.Wording):
    echo: int | None = setting(None, "Say it N times.", 1, 9, panel=wording.WRITE)

wording.Wording = Wording
"""
WORDING_API = """
import json
from capcli.serve.openapi import describe_api
from capcli.serve.parameters import WRITING
named = [each for each in describe_api()["paths"]["/v1/caption"]["post"]["parameters"] if each["name"] == "echo"]
print(json.dumps([WRITING["echo"].declared.help, named]))
"""
API = """
import json
from capcli.serve.openapi import describe_api
from capcli.serve.parameters import DECODING
named = [each for each in describe_api()["paths"]["/v1/caption"]["post"]["parameters"] if each["name"] == "patience"]
print(json.dumps([DECODING["patience"].declared.help, named]))
"""
RUN = "import sys\nfrom capcli.cli.app import main\nmain()"


def run(addition: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", addition + RUN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=1800, env=os.environ)


def test_to_add_an_output_format(tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = run(FORMAT, "caption", COFFEE, "--model", tiny_checkpoint, "-o", tmp_path / "out.md")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.md").read_text().startswith("- ")
    assert "text|json|jsonl|csv|tsv|parquet|imagefolder|coco|markdown" in run(FORMAT, "caption", "--help").stdout
    refused = run(FORMAT, "caption", COFFEE, "--model", tiny_checkpoint, "-o", tmp_path / "out.md")
    assert refused.stderr.endswith("out.md: exists; use --existing overwrite, or name another file\n")


def test_to_add_an_encoder_and_a_decoder(pair: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    sizes = [
        "--image-size",
        64,
        "--set",
        "hidden_size=16",
        "--set",
        "embedding_size=16",
        "--set",
        "attention_size=16",
        "--set",
        "views=1",
    ]
    arguments = [pair, "-o", tmp_path / "run", "--encoder", "pooled", "--decoder", "curious", "--epochs", 1, *sizes]
    torch.save({}, tmp_path / "weights.pt")
    done = run(
        MODEL, "train", *arguments, "--set", "min_count=1", "--set", f"encoder_weights={tmp_path / 'weights.pt'}"
    )
    assert done.returncode == 0, done.stderr
    done = run(MODEL, "caption", COFFEE, "--model", tmp_path / "run", "--attention", tmp_path / "looked")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "looked" / "coffee" / "attention.png").exists()
    done = run(MODEL, "export", tmp_path / "run", "-o", tmp_path / "onnx")  # which the recipe leaves to another file
    said = "capcli: the decoder curious has no ONNX graph: it runs on PyTorch alone\n"
    assert (done.returncode, done.stderr) == (2, said)
    assert "--decoder pre-inject|par-inject|soft|hard|curious" in run(MODEL, "train", "--help").stdout


def test_to_add_a_command() -> None:
    assert run(COMMAND, "greet", "Ada").stdout == "Hello, Ada!\n"
    assert "Greet somebody." in run(COMMAND, "--help").stdout


def test_to_add_a_setting_of_decoding(tiny_checkpoint: Path) -> None:
    for command in ("caption", "cluster", "evaluate"):
        assert "patience=P Go on for P times as long.  [default: 1.0]" in " ".join(
            run(SETTING, command, "--help").stdout.split()
        ).replace(". [", ".  [")
    arguments = ["caption", COFFEE, "--model", tiny_checkpoint]
    plain, patient = run(SETTING, *arguments), run(SETTING, *arguments, "--set", "patience=2")
    assert (patient.returncode, patient.stdout) == (0, plain.stdout)  # nobody asks for it yet
    said = run(SETTING, *arguments, "--set", "patience=11").stderr
    assert said == "capcli: patience is 11, not between 0.5 and 10\n"
    pytest.importorskip("starlette", reason="needs the extra serve")
    done = subprocess.run(
        [sys.executable, "-c", SETTING + API], capture_output=True, text=True, timeout=1800, check=True
    )
    help_there, (described,) = json.loads(done.stdout)
    assert described["description"].startswith(help_there)
    assert (described["schema"]["minimum"], described["schema"]["maximum"]) == (0.5, 10)


def test_to_add_a_setting_of_what_is_written() -> None:
    assert "--echo N Say it N times." in " ".join(run(WORDING, "caption", "--help").stdout.split())
    said = run(WORDING, "caption", COFFEE, "--echo", 10).stderr
    assert said == "capcli: --echo 10: not between 1 and 9\n"
    pytest.importorskip("starlette", reason="needs the extra serve")
    command = [sys.executable, "-c", WORDING + WORDING_API]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=True)
    help_there, (described,) = json.loads(done.stdout)
    assert described["description"].startswith(help_there)
    assert (described["schema"]["minimum"], described["schema"]["maximum"]) == (1, 9)
