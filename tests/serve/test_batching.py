"""Requests that come together are captioned together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from serving import CHELSEA, COFFEE, Running

from capcli.captioner import Captioner


def test_requests_share_batches(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the workers are busy, what comes in waits, and is then captioned together."""
    sizes: list[int] = []
    here, go_on = threading.Semaphore(0), threading.Event()
    original = Captioner.caption_pixels

    def counted(captioner: Captioner, pixels: np.ndarray, names: list[str], *arguments: object) -> object:
        sizes.append(len(names))
        if len(sizes) <= captioner.workers:
            here.release()
            go_on.wait(1800)
        return original(captioner, pixels, names, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Captioner, "caption_pixels", counted)
    with ThreadPoolExecutor(20) as threads:
        busy = []
        for _ in range(server.api.captioner.workers):
            busy.append(threads.submit(server.ask, "/v1/caption", COFFEE))
            assert here.acquire(timeout=1800)
        others = [threads.submit(server.ask, "/v1/caption", CHELSEA) for _ in range(12)]
        others += [threads.submit(server.ask, "/v1/caption?num=2", CHELSEA) for _ in range(3)]
        while server.api.gate.images < len(busy) + len(others):
            pass
        go_on.set()
        answers = [each.result().json for each in (*busy, *others)]
    assert all(len(answer) == 1 and answer[0]["caption"] for answer in answers)
    assert sum(sizes) == len(answers)
    assert len(sizes) < len(answers)
    assert max(sizes) > 1
