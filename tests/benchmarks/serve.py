"""What `capcli serve` manages: 64 connections for a minute, against `capcli caption` of the same photos.

Also in processor time, which other programs on the machine change less.

python tests/benchmarks/serve.py PHOTOS [--seconds 60] [--connections 64]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TOKEN = "a-token-for-benchmarks"
CAPCLI = [sys.executable, "-m", "capcli"]


def start(*arguments: object) -> tuple[subprocess.Popen[str], int]:
    """A server, and its port."""
    command = [*CAPCLI, "serve", *map(str, arguments), "--port", "0"]
    environment = os.environ | {"CAPCLI_TOKEN": TOKEN}
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"http://[^:]+:(\d+)/", line):
            return server, int(found[1])
    raise SystemExit("the server did not start")


def peak_megabytes(process: int) -> float:
    """The most memory that a process has used."""
    return int(Path(f"/proc/{process}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def processor_seconds(process: int) -> float:
    """The processor time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def caption(names: Path, output: Path) -> tuple[float, float]:
    """Seconds, and processor seconds, that captioning the photos of a list takes."""
    began, before = time.monotonic(), sum(os.times()[2:4])
    subprocess.run([*CAPCLI, "caption", "--files-from", names, "-o", output, "--quiet"], check=True)
    return time.monotonic() - began, sum(os.times()[2:4]) - before


async def ask(port: int, bodies: itertools.cycle[bytes], until: float, seen: Counter[int], late: list[float]) -> None:
    """Send one photo after the other over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < until:
        body = next(bodies)
        head = f"POST /v1/caption HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        began = time.monotonic()
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", answer)[1])  # type: ignore[index]
        await reader.readexactly(length)
        seen[int(answer.split()[1])] += 1
        late.append(time.monotonic() - began)
    writer.close()


async def load(port: int, photos: list[bytes], connections: int, seconds: float) -> tuple[Counter[int], list[float]]:
    """The statuses, and how long answers took, of many connections at once."""
    seen: Counter[int] = Counter()
    late: list[float] = []
    bodies, until = itertools.cycle(photos), time.monotonic() + seconds
    await asyncio.gather(*(ask(port, bodies, until, seen, late) for _ in range(connections)))
    return seen, sorted(late)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--number", type=int, default=1000)
    given = parser.parse_args()
    paths = sorted(given.photos.glob("*.jpg"))[: given.number]
    with tempfile.TemporaryDirectory() as folder:
        one, names = Path(folder, "one"), Path(folder, "names")
        one.write_text(f"{paths[0]}\n")
        names.write_text("\n".join(map(str, paths)))
        begin = caption(one, Path(folder, "one.jsonl"))
        whole = caption(names, Path(folder, "names.jsonl"))
    seconds, work = (all_of_it - start_of_it for all_of_it, start_of_it in zip(whole, begin, strict=True))
    rate, cost = len(paths) / seconds, work / len(paths)
    print(f"capcli caption, {len(paths)} photos: {rate:.1f} images/s, {1000 * cost:.1f} ms of a processor each")
    server, port = start()
    try:
        contents = [path.read_bytes() for path in paths]
        asyncio.run(load(port, contents, 4, 3))  # to warm up
        began, before = time.monotonic(), processor_seconds(server.pid)
        seen, late = asyncio.run(load(port, contents, given.connections, given.seconds))
        served = seen[200] / (time.monotonic() - began)
        each = (processor_seconds(server.pid) - before) / seen[200]
        print(
            f"capcli serve, {given.connections} connections: {served:.1f} images/s, {served / rate:.2f} of that; "
            f"{1000 * each:.1f} ms of a processor each, {cost / each:.2f} of that"
        )
        print(
            f"answers: {json.dumps(dict(seen))}; half within {late[len(late) // 2]:.2f} s, all within {late[-1]:.2f} s"
        )
        print(f"peak memory: {peak_megabytes(server.pid):.0f} MB")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
