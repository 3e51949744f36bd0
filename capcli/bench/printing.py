"""`capcli bench`'s figures for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from capcli.bench.measuring import STAGES


def as_lines(result: dict[str, Any]) -> Iterable[str]:
    """Yield the figures as lines for a person."""
    device = f"cpu ({result['cores']} cores)" if result["device"] == "cpu" else result["device"]
    yield f"{result['images']} images, batches of {result['batch_size']}, on {device} in {result['precision']}"
    if "load_seconds" in result:
        yield f"{'load':10}{result['load_seconds']:10.2f} s"
    for stage in STAGES:
        yield f"{stage:10}{result['images_per_second'][stage]:10.1f} images/s alone  {result['shares'][stage]:6.1%}"
    yield f"{'together':10}{result['images_per_second']['together']:10.1f} images/s"
    yield f"bound by: {result['bound']}"
