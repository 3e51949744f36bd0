"""What is said of a missing package can be typed where capcli is installed."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from capcli import installing
from capcli.installing import PACKAGES, install_line

ROOT = Path(__file__).parent.parent


def test_a_hint_fits_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = tmp_path / "my tools" / "capcli"
    prefix.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setattr(installing, "find_spec", lambda name: object())
    assert install_line("serve") == "pip install starlette uvicorn python-multipart"
    monkeypatch.setattr(installing, "find_spec", lambda name: None)
    assert install_line("parquet") == f"uv pip install --python '{prefix}' pyarrow"
    (prefix / "pipx_metadata.json").touch()
    assert install_line("ray") == "pipx inject capcli 'ray[data]' pyarrow 'fsspec[http]'"


def test_hints_name_what_the_extras_have() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for extra, needed in extras.items():
        names = {re.split("[>=]", name)[0] for name in needed}
        if extra not in ("test", "docs"):  # which are for who works on capcli
            hinted = set(PACKAGES[extra].replace("'", "").split())
            assert names - {"capcli[parquet]"} <= hinted, extra
    for file in (ROOT / "capcli").rglob("*.py"):
        assert "capcli[" not in file.read_text("utf-8"), file  # which is no package, and would fetch PyTorch
