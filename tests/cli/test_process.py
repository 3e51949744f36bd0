import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from capcli.cli.process import leave_busy_cores, spare_numpy_threads

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


@pytest.mark.parametrize(
    ("load", "cores", "threads"), [(0.2, 4, 4), (1.4, 4, 3), (9.0, 4, 1), (0.0, 64, 4), (60.9, 64, 3)]
)
def test_only_cores_that_are_free_get_a_thread(
    monkeypatch: pytest.MonkeyPatch, load: float, cores: int, threads: int
) -> None:
    asked = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)  # as many cores as this process may use
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    leave_busy_cores()
    assert asked == [threads]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    leave_busy_cores()
    assert asked == [threads]
