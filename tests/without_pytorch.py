"""Use an installation without PyTorch, as docs/install.md has it; the gate runs this in an environment of its own.

python tests/without_pytorch.py
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

PHOTOS = Path(__file__).parent / "photos"
CHELSEA, MISSING = str(PHOTOS / "chelsea.jpg"), "pip install torch torchvision"


def capcli(*arguments: object, status: int = 0) -> str:
    """Run a command; return what it prints, or if it is to fail, the one line that says why."""
    command = [sys.executable, "-m", "capcli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == status, (command, done.stderr)
    if status:
        assert done.stderr.startswith("capcli: "), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr if status else done.stdout


def main() -> None:
    assert importlib.util.find_spec("torch") is None, "this is for an environment without PyTorch"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        caption = capcli("caption", CHELSEA)
        assert "cat" in caption
        capcli("caption", PHOTOS, "-o", folder / "rows.jsonl", "--num", 3, "--diversity", 0.5)
        rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
        assert [len(row["candidates"]) for row in rows] == [3] * len(list(PHOTOS.glob("*.jpg")))
        assert capcli("caption", CHELSEA, "--sample", "--set", "seed=1", "--set", "top_p=0.9")
        shown = folder / "page.html"
        capcli("caption", CHELSEA, "--attention", folder / "looked", "--html", shown)
        assert (folder / "looked" / "chelsea" / "attention.png").exists()
        assert caption.strip() in shown.read_text("utf-8")
        assert "doubted: running" in capcli("explain", CHELSEA, "a running cat")
        assert "engine       onnx" in capcli("info")
        assert "bundled" in capcli("models")
        assert "images/s" in capcli("bench", PHOTOS)
        assert "step.onnx" in capcli("export", "bundled", "-o", folder / "graphs")
        program = f"from capcli import Captioner; print(Captioner.load().caption({CHELSEA!r}).text)"
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert said == caption
        for needs_pytorch in (
            ("caption", CHELSEA, "--engine", "torch"),
            ("caption", CHELSEA, "--precision", "bf16"),
            ("caption", CHELSEA, "--device", "cuda"),
            ("train", folder, "-o", folder / "run"),
            ("evaluate", folder),
            ("push", folder, "user/name"),
        ):
            assert MISSING in capcli(*needs_pytorch, status=2), needs_pytorch
        done = subprocess.run(
            [sys.executable, "-c", "from capcli import CaptionModel"], capture_output=True, text=True, check=False
        )
        assert done.stderr.splitlines()[-1] == f"ImportError: CaptionModel needs PyTorch: {MISSING}", done.stderr
    print("everything works without PyTorch that is to")


if __name__ == "__main__":
    main()
