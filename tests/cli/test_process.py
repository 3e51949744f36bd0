import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from capcli.cli.process import one_thread_each, spare_numpy_threads

TESTS = Path(__file__).parents[1]
SCRIPT = """
import io, struct, sys
import torch
from PIL import Image
from fakes import TINY, WORDS
from capcli import CaptionModel, Captioner, DecodingOptions, ImageError
from capcli.engines.torch import TorchEngine
from capcli.images.decode import open_square
from capcli.model.vocabulary import Vocabulary
from capcli.cli.process import one_core_per_batch, set_up_process

set_up_process(800)
png = io.BytesIO()
Image.new("RGB", (30, 30)).save(png, "PNG")
icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(png.getvalue()), 22)
for content in (png.getvalue(), icon + png.getvalue()):
    try:
        open_square(content, 32)
    except ImageError as error:
        print(error.reason)
set_up_process(900)
open_square(png, 32)  # Pillow would warn of more than half as many

torch.set_num_threads(3)
captioner = Captioner(TorchEngine(CaptionModel(TINY, Vocabulary(WORDS)), torch.device("cpu")))
one_core_per_batch(captioner, DecodingOptions(sample=True))
print(captioner.workers, torch.get_num_threads())
one_core_per_batch(captioner, captioner.options)
print(captioner.workers, torch.get_num_threads())
"""


@pytest.mark.slow
def test_what_the_command_line_sets_for_its_process() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=1800, cwd=TESTS)
    limit = "900 pixels, more than the limit of 800"
    assert (done.stdout, done.stderr) == (f"{limit}\n{limit}\n1 3\n3 1\n", "")


@pytest.mark.parametrize(("theirs", "ours"), [(None, "1"), ("3", "3")])
def test_numpy_starts_no_threads_that_nobody_asked_for(
    monkeypatch: pytest.MonkeyPatch, theirs: str | None, ours: str
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", theirs or "")
    if theirs is None:
        monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    spare_numpy_threads()
    assert os.environ["OPENBLAS_NUM_THREADS"] == ours


def test_teaching_gives_each_learner_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    assert (one_thread_each(), asked) == (4, [1])
