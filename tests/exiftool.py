"""ExifTool, the reader and writer of metadata that everyone else uses, where it is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


def needs_exiftool(test: Callable[..., None]) -> Callable[..., None]:
    """Skip a test where there is no ExifTool, and mark it slow: it takes a third of a second to start."""
    reason = "no exiftool (Debian's libimage-exiftool-perl)"
    return pytest.mark.slow(pytest.mark.skipif(shutil.which("exiftool") is None, reason=reason)(test))


def read(path: Path, *options: str) -> dict[str, str]:
    """What ExifTool finds in a file: `group:tag` → text, as it prints it."""
    command = ["exiftool", "-j", "-G1", "-a", "-charset", "filename=utf8", *options, str(path)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=1800)
    return {tag: str(value) for tag, value in json.loads(done.stdout)[0].items()}


def write(path: Path, *settings: str) -> None:
    """Have ExifTool set tags: `-IPTC:Caption-Abstract=…`."""
    command = ["exiftool", "-q", "-overwrite_original", *settings, str(path)]
    subprocess.run(command, capture_output=True, check=True, timeout=1800)


def complaints(path: Path) -> set[str]:
    """What ExifTool finds wrong with a file, apart from what a photo out of no camera lacks."""
    command = ["exiftool", "-j", "-validate", "-warning", "-error", "-a", "-struct", str(path)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=1800)
    found = json.loads(done.stdout)[0]
    said = [found.get(key, []) for key in ("Warning", "Error")]
    lines = {line for value in said for line in ([value] if isinstance(value, str) else value)}
    return {re.sub(r"APP\d+", "APP", line) for line in lines if "Missing required" not in line}
