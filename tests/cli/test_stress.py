"""Short runs, many of them side by side: the process ends as documented whatever its threads are at.

CAPCLI_FULL_TESTS=1 pytest tests/cli/test_stress.py does 300 runs instead of 12, which takes minutes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from folders import ENVIRONMENT, command, make_photos, photo_bytes

pytestmark = pytest.mark.slow

RUNS = 300 if os.environ.get("CAPCLI_FULL_TESTS") else 12
AT_ONCE = 4 * (os.cpu_count() or 1)


def messy(folder: Path) -> Path:
    """A folder of photos, of which some are damaged."""
    for number, photo in enumerate(make_photos(folder, 48)):
        if number % 3 == 1:
            photo.write_bytes(photo_bytes(number)[: 50 * number])
        elif number % 3 == 2:
            photo.write_bytes(b"")
    return folder


def start(*arguments: object, stdout: object = subprocess.PIPE) -> subprocess.Popen[str]:
    # Where the tests run in a shell's background, Ctrl-C is ignored and would be here too.
    return subprocess.Popen(
        command(*arguments), env=ENVIRONMENT, stdout=stdout, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def to_the_end(*arguments: object) -> tuple[int, str]:
    process = start(*arguments)
    _, said = process.communicate()
    return process.returncode, said


def reader_leaves(*arguments: object) -> tuple[int, str]:
    process = start(*arguments)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    return process.wait(), said


def ctrl_c(*arguments: object) -> tuple[int, str]:
    process = start(*arguments)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
    process.stdout.read()
    said = process.stderr.read()
    return process.wait(), said


def full_disk(*arguments: object) -> tuple[int, str]:
    with open("/dev/full", "w") as full:
        process = start(*arguments, stdout=full)
        _, said = process.communicate()
    return process.returncode, said


@pytest.mark.timeout(7200)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_every_run_ends_with_a_documented_status(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    damaged, done = messy(tmp_path / "damaged"), messy(tmp_path / "done")
    to_the_end(done, "--write-metadata")
    # With the bundled checkpoint, whose sessions take longest to make.
    kinds: dict[str, tuple[Callable[..., tuple[int, str]], tuple[object, ...], set[int]]] = {
        "an image fails": (to_the_end, (tmp_path / "empty.jpg",), {1}),
        "nothing is left to do": (to_the_end, (done, "--write-metadata", "--existing", "skip"), {1}),
        "the reader leaves": (reader_leaves, (damaged,), {0}),
        "Ctrl-C": (ctrl_c, (damaged,), {130}),
        "the disk is full": (full_disk, (damaged,), {1}),
    }

    def run(number: int) -> tuple[str, int, str]:
        kind = list(kinds)[number % len(kinds)]
        function, arguments, _ = kinds[kind]
        return kind, *function(*arguments)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        ended = list(pool.map(run, range(RUNS)))
    print(Counter((kind, status) for kind, status, _ in ended))
    wrong = [(kind, status, said) for kind, status, said in ended if status not in kinds[kind][2] or "Fatal" in said]
    assert not wrong
