"""The help of commands."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("arguments", [["--help"], ["caption", "--help"]])
def test_help_waits_for_nothing(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom capcli.cli.app import app\ntry:\n    app()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'huggingface_hub', 'safetensors', 'numpy', 'PIL', 'rich'} & set(sys.modules)\n"
        "print(heavy, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=1800, check=True)
    assert done.stderr == "set()\n"
