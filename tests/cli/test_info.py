"""`capcli info`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folders import process

pytestmark = pytest.mark.slow


def test_info_tells_the_facts_and_the_card(tiny_checkpoint: Path) -> None:
    (tiny_checkpoint / "README.md").write_text("---\nlicense: mit\n---\n# Of cats\n")
    shown = process("info", str(tiny_checkpoint), "--card")
    assert shown.returncode == 0, shown.stderr
    assert f"checkpoint   {tiny_checkpoint} (" in shown.stdout
    assert "vocabulary   12 words" in shown.stdout
    assert shown.stdout.endswith("device       cpu\n\n# Of cats\n")
    facts = json.loads(process("info", str(tiny_checkpoint), "--json").stdout)
    assert facts["vocabulary"] == 12
    assert facts["card"].endswith("# Of cats\n")
    assert facts["bytes"] > 5_000_000
