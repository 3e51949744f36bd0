"""Ray itself, in a network namespace of its own: it listens to the network, whatever it is told.

CAPCLI_FULL_TESTS=1 pytest tests/distributed/test_ray.py also kills a machine, with and without a replacement, and the
driver.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from folders import ENVIRONMENT, make_photos

from capcli.distributed.output import name_of_part

ISOLATED = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]  # nothing of it outlives its test


def can_isolate() -> bool:
    """Whether this process may make namespaces."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return (
        subprocess.run([*ISOLATED, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode == 0
    )


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'capcli[ray]'"),
    pytest.mark.skipif(not can_isolate(), reason="Ray listens to the network, and only root can keep it from that"),
]
long = pytest.mark.skipif(not os.environ.get("CAPCLI_FULL_TESTS"), reason="takes minutes: CAPCLI_FULL_TESTS=1 runs it")


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """For commands: Ray's files in a folder of the test's own, whose short name leaves room for those of sockets."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        yield ENVIRONMENT | {"RAY_TMPDIR": folder, "HOME": folder, "RAY_AUTH_MODE": "disabled"}


def isolated(script: str, environment: dict[str, str]) -> list[str]:
    """The lines printed by a shell script that has its own loopback and nothing else; the last is its status."""
    command = [*ISOLATED, "bash", "-c", f"ip link set lo up\n{script}\necho exit $?"]
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, env=environment, **out, text=True, timeout=1800, check=False)
    return done.stdout.splitlines()


def capcli(rows: int, *arguments: object) -> str:
    """A command that hands out so many images at a time."""
    script = (
        f"from capcli.distributed import listing; listing.BLOCK_ROWS = {rows}; from capcli.cli.app import main; main()"
    )
    return shlex.join(map(str, (sys.executable, "-c", script, "cluster", *arguments)))


def paths(folder: Path) -> Counter[str]:
    """How many rows each path has."""
    import pyarrow.parquet as pq

    return Counter(path for part in folder.glob("part-*.parquet") for path in pq.read_table(part)["path"].to_pylist())


def test_each_image_gets_one_row_and_the_address_is_checked(
    tiny_checkpoint: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    photos = make_photos(tmp_path / "photos", 60)
    photos[7].write_text("not a photo")
    common = (tmp_path / "photos", "--model", tiny_checkpoint, "-o", f"{tmp_path}/out/")
    said = isolated(f"timeout 300 {capcli(8, *common, '--address', '127.0.0.1:6379')}", environment)  # it takes 10 s
    assert said == ["capcli: --address 127.0.0.1:6379: no cluster answers: connection refused", "exit 2"]
    said = isolated(capcli(8, *common, "--actors", 99), environment)
    assert said[0].startswith("capcli: this machine: 99 actors need 1 CPU each; ")
    assert said[1:] == ["exit 2"]
    said = isolated(capcli(8, *common, "-q"), environment)
    assert said == [f"capcli: {photos[7]}: not an image in a format that can be read", "exit 1"]
    assert paths(tmp_path / "out") == Counter(map(str, photos))


# A head without CPUs, where the driver is, and two machines with one each, all of them this one. They come as long as
# the driver works: where it ends too early, the test is to fail instead of waiting.
CLUSTER = """
start() { ray start "$@" --object-store-memory 100000000 --disable-usage-stats >/dev/null 2>&1; }
machine() { start --address 127.0.0.1:6379 --num-cpus 1; pgrep -nx raylet; }
begin() { RUN & driver=$!; until [ "$(ls OUT 2>/dev/null | wc -l)" -ge 4 ] || ! kill -0 $driver; do sleep 0.02; done; }
start --head --port 6379 --num-cpus 0 --include-dashboard false
first=$(machine)
second=$(machine)
"""
COUNT, BLOCK = 405, 16
FAULTS = {
    "none": "RUN",
    "a machine is lost": "begin; kill -9 $first; wait $driver",
    "a machine is lost, and another comes": "begin; kill -9 $first; machine; wait $driver",
    "the driver is killed": "begin; kill -9 $driver; wait $driver; ls OUT | wc -l; RUN --resume",
    "what is written is cut short": "RUN; truncate -s -9 HALF; touch LEFT; RUN --resume",
}


@long
@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str, tmp_path: Path, environment: dict[str, str]) -> None:
    photos = make_photos(
        tmp_path / "photos", COUNT
    )  # with the bundled checkpoint, which takes long enough to be killed
    out = tmp_path / "out"
    run = capcli(BLOCK, tmp_path / "photos", "--address", "127.0.0.1:6379", "-o", f"{out}/")
    half = out / name_of_part(1_000_005)
    script = CLUSTER + FAULTS[fault]
    for name, value in {"RUN": run, "OUT": out, "HALF": half, "LEFT": out / f".{half.name}-0123abcd.tmp"}.items():
        script = script.replace(name, str(value))
    begun = time.monotonic()
    said = isolated(script, environment)
    print(f"\n{fault}: {time.monotonic() - begun:.0f} s; " + "; ".join(said))
    assert said[-1] == "exit 0"
    assert paths(out) == Counter(map(str, photos))
    assert not [line for line in said if "Traceback" in line or "raylet" in line.lower()]
