"""What a build takes from others is named exactly enough that it cannot change unseen."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NATIVE = "torch torchvision pillow safetensors numpy onnx onnxruntime pillow-heif pyarrow rawpy ray".split()


def test_actions_are_pinned_by_digest() -> None:
    used = [
        line
        for workflow in ROOT.glob(".github/workflows/*.yml")
        for line in re.findall(r"uses: (.*)", workflow.read_text("utf-8"))
    ]
    if not used:
        pytest.skip("no workflows here")
    for line in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v[\d.]+", line), line


def test_dependencies_with_native_code_have_upper_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *(each for more in project["optional-dependencies"].values() for each in more)]
    bounds = dict(re.fullmatch(r"([\w-]+)(?:\[.*\])?(.*)", each).groups() for each in wanted)  # type: ignore[union-attr]
    for name in NATIVE:
        assert re.fullmatch(r">=[\d.]+,<\d+", bounds[name]), name
