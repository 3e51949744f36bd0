"""Ray, known only here: it hands blocks to actors on a cluster's machines, and their reports back."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from capcli.distributed.actor import Actor, Orders, Report
from capcli.distributed.blocks import Block

LOCAL = "local"  # instead of an address: this machine alone, for the run
ANSWER_TIMEOUT = 4.0  # seconds
ROOM_TIMEOUT = 20.0  # seconds for a cluster to notice that a killed run's actors are gone
SECONDS_BETWEEN_LOOKS = 5.0
# What gRPC clients send first: HTTP/2's preface and an empty SETTINGS frame, whose kind is its fourth byte. A server
# answers with settings of its own (RFC 9113).
HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
OBJECT_STORE_BYTES = 200_000_000  # of a local cluster, for nothing but lists of paths
# Set before Ray is imported: no usage reports to its makers, and no lines from its C++ about what we say ourselves.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # raylets' lines on stdout about retried tasks
}


class ClusterError(Exception):
    """Report an unusable cluster; str() is one line."""


@dataclass
class Cluster:
    """Connect to a cluster, in a `with` block. address: HOST:PORT of its head, or LOCAL. say: prints lines."""

    address: str
    say: Callable[[str], object]
    ended: threading.Event = field(default_factory=threading.Event)
    cleanup: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Cluster:
        """Connect. Raises ClusterError."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if self.address == LOCAL:
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # as it listens on the network, whatever it is told
        else:
            check_address(self.address)
        import ray

        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        more: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        more = more if self.address == LOCAL else {}
        try:
            with silent_stderr():
                ray.init(
                    self.address,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    **(more if self.address == LOCAL else {}),
                )
        except Exception as error:
            raise ClusterError(f"{called(self.address)}: {first_line(error)}") from None
        finally:
            for number, handler in handlers.items():  # Ray sets its own
                with contextlib.suppress(ValueError):  # not the main thread
                    signal.signal(number, handler)
        watching = threading.Thread(target=self.watch, daemon=True)
        watching.start()
        self.cleanup.callback(ray.shutdown)
        self.cleanup.callback(watching.join)  # it calls into Ray's C++
        self.cleanup.callback(self.ended.set)
        # Ray prints pages of logs when a machine is lost; here one line says it.
        nowhere = self.cleanup.enter_context(open(os.devnull, "w", encoding="utf-8"))
        self.cleanup.enter_context(contextlib.redirect_stdout(nowhere))
        return self

    def __exit__(self, *_: object) -> None:
        self.cleanup.close()

    def count_actors(self, wanted: int | None, gpus: float) -> int:
        """Return the number of actors, each with one CPU.

        wanted: None for as many as there is room for.
        gpus: for each actor.

        Raises ClusterError if there is no room: Ray would wait without a word.
        """
        import ray

        deadline = time.monotonic() + ROOM_TIMEOUT
        while True:
            free = ray.available_resources()
            cpus, free_gpus = free.get("CPU", 0.0), free.get("GPU", 0.0)
            room = int(min(cpus, free_gpus / gpus + 1e-9) if gpus else cpus)
            if (wanted or 1) <= room:
                return wanted or room
            if time.monotonic() > deadline:
                break
            time.sleep(1)
        needs, has = ("1 CPU", "CPUs") if not gpus else (f"1 CPU and {gpus:g} GPU", f"CPUs and {free_gpus:g} GPUs")
        many = f"{wanted} actors need {needs} each" if wanted else f"an actor needs {needs}"
        raise ClusterError(f"{called(self.address)}: {many}; {cpus:g} {has} are free")

    def caption(self, blocks: Sequence[Block], orders: Orders, actors: int, gpus: float) -> Iterator[Report]:
        """Yield a report for each block as it is done; Ray reassigns lost machines' blocks.

        actors: processes, 1 or more.
        gpus: for each.

        Raises ClusterError.
        """
        import pyarrow
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        try:
            tables = [pyarrow.table({"block": pyarrow.array([pickle.dumps(b)], pyarrow.binary())}) for b in blocks]
            reports = ray.data.from_arrow(tables).map_batches(
                Actor,
                fn_constructor_args=(orders,),
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=min(actors, len(blocks))),
                num_cpus=1,
                num_gpus=gpus or None,
            )
            table: Any
            for table in reports.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield from map(pickle.loads, table["report"].to_pylist())
        except Exception as error:
            raise ClusterError(explained(error)) from None

    def watch(self) -> None:
        """Report lost machines, and when none is left, which Ray would wait out in silence. Runs in a thread."""
        import ray

        alive, waiting = 0, False
        while not self.ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                nodes = [node for node in ray.nodes() if node["Alive"]]
            except Exception:  # the run is ending, or reports the trouble itself
                continue
            if len(nodes) < alive:
                self.say(f"{alive - len(nodes)} of {alive} machines lost; others do what they were at again")
            alive = len(nodes)
            if waiting != (not any(node["Resources"].get("CPU") for node in nodes)):
                waiting = not waiting
                self.say("no machine with a CPU is left; waiting for one" if waiting else "going on")


def called(address: str) -> str:
    """Return a cluster's name for messages. address: HOST:PORT, or LOCAL."""
    return "this machine" if address == LOCAL else f"--address {address}"


def check_address(address: str) -> None:
    """Raise ClusterError unless a cluster answers at HOST:PORT: Ray itself would try for minutes."""
    said = called(address)
    host, _, port = address.rpartition(":")
    if "://" in address:
        raise ClusterError(f"{said}: run this on a machine of the cluster, with its address as HOST:PORT")
    if not host or not port.isdigit():
        raise ClusterError(f"{said}: must be HOST:PORT")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_TIMEOUT) as connection:
            connection.sendall(HTTP_2)
            answers = bool(os.environ.get("RAY_USE_TLS")) or connection.recv(4)[3:] == HTTP_2[-6:-5]
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ClusterError(f"{said}: no cluster answers: {reason}") from None
    if not answers:
        raise ClusterError(f"{said}: what answers there is not a Ray cluster")


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Drop output on stderr's descriptor, where Ray's C++ chatters before it heeds its log level."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def first_line(error: Any) -> str:
    """Return the first line of a Ray error; the rest is traces and advice."""
    lines = str(error[0] if isinstance(error, list) and error else error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def explained(error: Exception) -> str:
    """Return what ended a run, in one line."""
    text = str(error)
    if "No module named 'capcli'" in text:
        return "capcli is not installed on a machine of the cluster"
    return f"Ray: {first_line(error)}"
