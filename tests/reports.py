"""Reports of captions that no model made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from capcli.maps.overlay import OverlayOptions
from capcli.maps.page import HtmlReport
from capcli.results import AttentionMap, Candidate, Caption, ImageError


def make_caption(path: Path, text: str, seed: int = 0) -> Caption:
    words = tuple(text.split())
    weights = np.random.default_rng(seed).random((len(words), 7, 7)) ** 4
    weights /= weights.sum((1, 2), keepdims=True)
    seen = AttentionMap(weights, np.linspace(0.1, 1, len(words)), 0.35)
    candidate = Candidate(text.replace(" '", "'"), words, (-0.7,) * (len(words) + 1), -3.0, -0.5, seen)
    return Caption(str(path), (candidate, replace(candidate, score=-0.9)))


def write_report(page: Path, results: list[Caption | ImageError], num: int = 1, scale: str = "word") -> str:
    report = HtmlReport(page, OverlayOptions(scale=scale), num)
    for result in results:
        report.write(result)
    assert not page.exists()  # the old page stays until the new one is complete
    report.close()
    return page.read_text("utf-8")
