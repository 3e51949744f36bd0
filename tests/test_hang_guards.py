"""Limits of time in tests are guards against hanging, which no load of the machine reaches."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

TESTS = Path(__file__).parent
HALF_AN_HOUR = 1800


def test_no_test_is_stopped_for_being_slow() -> None:
    options = tomllib.loads((TESTS.parent / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]
    assert options["timeout"] >= HALF_AN_HOUR
    for file in TESTS.rglob("*.py"):
        for limit in re.findall(r"(?:timeout=|timeout\(|\.wait\()(\d[\d_]*)\b(?!\.)", file.read_text("utf-8")):
            assert int(limit) >= HALF_AN_HOUR or "benchmarks" in file.parts, (file.name, limit)
