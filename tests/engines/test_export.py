"""An exported checkpoint is loaded again, and says what it said before."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import KINDS, PHOTOS, TINY, WORDS
from typer.testing import CliRunner

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.cli.app import app
from capcli.decoding.options import DecodingOptions
from capcli.engines.onnx import ENCODED_AT_ONCE, OnnxEngine
from capcli.engines.runtime import onnxruntime
from capcli.images.decode import open_square, to_pixels
from capcli.model.vocabulary import END, START, Vocabulary

CHELSEA = PHOTOS / "chelsea.jpg"


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    torch.manual_seed(5)
    model = CaptionModel(dataclasses.replace(TINY, **KINDS[request.param]), Vocabulary(WORDS))
    for parameter in model.decoder.parameters():
        parameter.data.mul_(3)
    for name, parameter in model.decoder.named_parameters():
        if name.endswith("output_bias"):
            parameter.data[END] -= 3  # no empty sentence, which capcli's own search never gives
    model.eval().save(folder)
    return folder


@pytest.fixture(scope="module")
def out(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is exported of it."""
    folder = tmp_path_factory.mktemp("exported") / "out"
    done = CliRunner().invoke(app, ["export", str(checkpoint), "--output", str(folder)])
    assert done.exit_code == 0, done.output
    assert sorted(done.stdout.splitlines()) == sorted(map(str, folder.iterdir()))
    return folder


def test_the_graphs_are_loaded_again(checkpoint: Path, out: Path) -> None:
    engine = OnnxEngine.load(checkpoint, threads=1)
    photos = sorted(PHOTOS.glob("*.jpg"))[:ENCODED_AT_ONCE]  # as many as the engine takes: others are rounded otherwise
    pixels = np.stack([to_pixels(open_square(path, engine.config.image_size)) for path in photos])
    features = engine.encode(pixels)
    start, step = (onnxruntime.InferenceSession(out / name) for name in ("start.onnx", "step.onnx"))
    found = start.run(None, {"pixels": pixels})
    if engine.config.agreement_size is not None:
        *found, photo = found
        words = np.array([[4, 5, 0], [6, 7, 8]])
        (rows,) = onnxruntime.InferenceSession(out / "sentences.onnx").run(None, {"words": words})
        expected = engine.agree(features, np.broadcast_to(words, (len(pixels), *words.shape)))
        np.testing.assert_allclose(photo @ rows.T, expected, atol=1e-6)
    for mine, theirs in zip(features.arrays(), found, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    words = np.full((len(pixels), 1), START)
    names = [entry.name for entry in step.get_inputs()]
    log_probs, *_ = step.run(None, dict(zip(names, [words, *found], strict=True)))
    np.testing.assert_array_equal(log_probs, engine.advance(words, features).log_probs)
    for session in (start, step):  # every size is a number or has a name
        entries = [*session.get_inputs(), *session.get_outputs()]
        assert {size for entry in entries for size in entry.shape if isinstance(size, str)} <= {"batch", "beams"}
        assert not any(size is None for entry in entries for size in entry.shape)
    assert json.loads((out / "vocabulary.json").read_text()) == list(WORDS)


@pytest.mark.slow
def test_the_readmes_program_captions(checkpoint: Path, out: Path, tmp_path: Path) -> None:
    text = (out / "README.md").read_text("utf-8")
    program = re.findall(r"```python\n(.*?)```", text, re.S)[0]
    photo = tmp_path / "photo.png"  # of the model's size, as capcli resizes a larger one a little differently
    size = json.loads((checkpoint / "config.json").read_text())["image_size"]
    open_square(CHELSEA, size).save(photo)
    done = subprocess.run(
        [sys.executable, "-c", program, str(photo)], cwd=out, capture_output=True, text=True, check=False, timeout=1800
    )
    greedy = DecodingOptions(1, TINY.max_length, no_echo=False)
    expected = Captioner(OnnxEngine.load(checkpoint, threads=1)).caption(photo, options=greedy)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected.text + "\n", "")
    assert ("`weights` are where the model looked" in text) == (expected.attention is not None)


def test_what_is_in_the_folder_is_not_replaced(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    arguments = ["export", str(tiny_checkpoint), "--output", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert done.stderr == f"capcli: {tmp_path / 'README.md'}: exists; name another folder\n"
    assert (tmp_path / "README.md").read_text() == "mine"
    assert not (tmp_path / "start.onnx").exists()


def test_what_cannot_be_exported_is_one_line(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for model, output, said in (
        (tmp_path / "absent", tmp_path / "out", "absent"),
        (tiny_checkpoint, tmp_path / "file", "file: "),
    ):
        done = CliRunner().invoke(app, ["export", str(model), "--output", str(output)])
        assert done.exit_code in (1, 2)
        assert done.stderr.startswith("capcli: ")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
