"""METEOR, for which Java is asked."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from capcli.training.measuring import metrics
from capcli.training.measuring.java import have_java
from capcli.training.measuring.metrics import score_captions

REFERENCES = [["A cat sits on a sofa.", "a cat on a sofa"], ["Two dogs run!", "two dogs are running on grass"]]


def test_without_java_the_other_scores_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "have_java", lambda: False)
    scores = score_captions(["a cat on a sofa", "two dogs are running on grass"], REFERENCES)
    assert scores["tokenizer"] == "capcli"
    assert "meteor" not in scores
    assert scores["bleu_4"] > 90


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name, to be filled with lines of a shell; it comes first on PATH."""
    if os.name != "posix":
        pytest.skip("a shell's script is no program here")
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{java.parent}{os.pathsep}{os.environ['PATH']}")
    return java


@pytest.mark.parametrize("lines", ["exit 1", "cat", "kill -9 $$"])
def test_without_a_java_that_works_the_other_scores_remain(fake_java: Path, lines: str) -> None:
    fake_java.write_text(f"#!/bin/sh\n{lines}\n")
    scores = score_captions(["a cat on a sofa", "two dogs are running on grass"], REFERENCES)
    assert "meteor" not in scores
    assert scores["bleu_4"] > 90


@pytest.mark.slow
@pytest.mark.skipif(not have_java(), reason="needs Java")
def test_meteor_whatever_the_language_and_without_a_file_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=it -Duser.country=IT")
    monkeypatch.delattr("tempfile.NamedTemporaryFile")  # pycocoevalcap's would be in site-packages
    scores = score_captions(["a cat on a sofa", "two dogs are running on grass"], REFERENCES)
    assert scores["tokenizer"] == "PTB"
    assert scores["meteor"] == pytest.approx(100)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_meteor_too(fake_java: Path, name: str) -> None:
    pipe = fake_java.parent / "pipe"
    os.mkfifo(pipe)
    fake_java.write_text(f"#!/bin/sh\necho $$ > {pipe}\nexec cat 3>&1 > /dev/null\n")  # silent, its output open
    script = (
        "from capcli.cli.signals import Interrupt\n"
        "from capcli.training.measuring.java import meteor_scores\n"
        "with Interrupt():\n"
        "    meteor_scores(['a cat'], [['a cat']])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        # Where the tests run in a shell's background, Ctrl-C is ignored and would be here too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    java = int(pipe.read_text())
    process.send_signal(getattr(signal, name))
    assert process.wait(1800) == 128 + getattr(signal, name)
    with pytest.raises(ProcessLookupError):
        os.kill(java, 0)
