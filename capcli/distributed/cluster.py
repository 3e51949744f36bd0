"""Ray: the only file that knows it. It hands blocks to actors on the machines of a cluster, and their reports back."""

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

LOCAL = "local"  # instead of an address: a cluster of this machine alone, for as long as the run lasts
ANSWER_TIMEOUT = 4.0  # seconds
ROOM_TIMEOUT = 20.0  # seconds, in which a cluster notices that the actors of a killed run are gone
SECONDS_BETWEEN_LOOKS = 5.0
# What gRPC's clients begin with, HTTP/2's preface and an empty SETTINGS frame, whose kind is its fourth byte. A server
# answers with settings of its own (RFC 9113).
HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
OBJECT_STORE_BYTES = 200_000_000  # of a local cluster, which keeps nothing but lists of paths in it
# Before Ray is imported: no reports of its use to its makers, and no lines of its C++ about what we say ourselves.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what raylets say of tasks that failed and are tried again, on stdout
}


class ClusterError(Exception):
    """Report a cluster that cannot be used; str() is one line."""


@dataclass
class Cluster:
    """Be connected to a cluster, in a `with` block.

    address: HOST:PORT of its head, or LOCAL.
    say: is given lines for people.
    """

    address: str
    say: Callable[[str], object]
    ended: threading.Event = field(default_factory=threading.Event)
    cleanup: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Cluster:
        """Connect. Raises ClusterError."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if self.address == LOCAL:
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # as it listens to the network, whatever it is told
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
        self.cleanup.callback(watching.join)  # it asks Ray, in C++
        self.cleanup.callback(self.ended.set)
        # Where Ray prints pages of its logs when a machine is lost, which is said in one line here.
        nowhere = self.cleanup.enter_context(open(os.devnull, "w", encoding="utf-8"))
        self.cleanup.enter_context(contextlib.redirect_stdout(nowhere))
        return self

    def __exit__(self, *_: object) -> None:
        self.cleanup.close()

    def count_actors(self, wanted: int | None, gpus: float) -> int:
        """Return how many actors there are to be, each with one CPU: as many as there is room for, unless told.

        wanted: how many; None for all that there is room for.
        gpus: for each actor.

        Raises ClusterError if there is no room for them: Ray would wait for it without a word.
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
        """Yield a report for each block, as they are done; Ray has blocks of machines that are lost done by others.

        blocks: what is to be captioned.
        orders: how.
        actors: how many processes caption, 1 or more.
        gpus: for each of them.

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
        """Say that machines are lost, and that none is left, which Ray would wait out in silence. Runs in a thread."""
        import ray

        alive, waiting = 0, False
        while not self.ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                nodes = [node for node in ray.nodes() if node["Alive"]]
            except Exception:  # the run is ending, or it says itself what is wrong
                continue
            if len(nodes) < alive:
                self.say(f"{alive - len(nodes)} of {alive} machines lost; others do what they were at again")
            alive = len(nodes)
            if waiting != (not any(node["Resources"].get("CPU") for node in nodes)):
                waiting = not waiting
                self.say("no machine with a CPU is left; waiting for one" if waiting else "going on")


def called(address: str) -> str:
    """Return what messages call a cluster. address: HOST:PORT, or LOCAL."""
    return "this machine" if address == LOCAL else f"--address {address}"


def check_address(address: str) -> None:
    """Raise ClusterError unless a cluster answers: Ray itself would try for minutes. address: HOST:PORT."""
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
    """Drop what is printed on stderr's descriptor, where Ray's C++ tells what it does before it heeds its log level."""
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
    """Return the first line of an error of Ray's, whose others are traces and advice."""
    lines = str(error[0] if isinstance(error, list) and error else error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def explained(error: Exception) -> str:
    """Return what ended a run, in one line."""
    text = str(error)
    if "No module named 'capcli'" in text:
        return "capcli is not installed on a machine of the cluster"
    return f"Ray: {first_line(error)}"
