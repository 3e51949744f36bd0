"""Processes that train one model together, started by torchrun; each is called a rank.

All make the same batches from the same data, and each takes its photos of every batch. Results are weighted by the
rank's share of the batch, so that their sum is what one process would compute. Only rank 0 prints and writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

import torch
from torch import Tensor, distributed
from torch.nn import Parameter

from capcli.training.data.datasets import Batch, DataError

PATIENCE = timedelta(minutes=10)  # for a batch; an ended rank is noticed at once
GLANCE = 0.2  # seconds between two looks for rank 0
FAILED = "capcli/failed"  # key in torchrun's store: the first rank to fail
LED = "capcli/led"  # key, with a number: rank 0 has done what others wait for


class RankLost(Exception):
    """Report that another process of the run has ended or can't be reached."""


class Ranks:
    """Hold a process's place in a run; one alone waits for nothing.

    rank: 0 to count − 1.
    """

    def __init__(self, rank: int = 0, count: int = 1, here: int = 0) -> None:
        """Set this process's place; alone by default. here: its rank on this machine."""
        self.rank, self.count, self.here = rank, count, here
        self.store: distributed.Store | None = None
        self.waits = 0  # for rank 0, so far

    @classmethod
    def started(cls) -> Ranks:
        """Return this process's place in torchrun's run, or that of one alone. Raises RankLost."""
        if not distributed.is_available() or not distributed.is_torchelastic_launched():
            return cls()
        ranks = cls(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
        if ranks.count == 1:
            return ranks
        if ranks.here < torch.cuda.device_count():
            torch.cuda.set_device(ranks.here)  # now, so that no process uses another's GPU
        try:
            ranks.store = next(distributed.rendezvous("env://"))[0]
        except RuntimeError as error:
            raise RankLost(f"torchrun cannot be reached: {error}") from None
        return ranks

    @contextlib.contextmanager
    def meet(self, device: torch.device) -> Iterator[torch.device]:
        """Connect the ranks for a `with` block and yield this one's device.

        device: as asked for; with cuda, each rank takes the GPU of its number on this machine.

        Raises ValueError for a device that several processes can't train on, and RankLost.
        """
        if self.count == 1:
            yield device
            return
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f"device {device} cannot train in several processes; cpu and cuda can")
        if device.type == "cuda":
            if device.index is not None:
                raise ValueError(f"device {device} is one for several processes; give cuda, and each takes its own")
            if self.here >= torch.cuda.device_count():
                raise ValueError(f"more processes than GPUs on a machine; it has {torch.cuda.device_count()}")
            device = torch.device("cuda", self.here)
        # The optimiser imports this module, whose functions take the current group as a default. A group made earlier
        # would outlive destroy_process_group, with threads that can abort the process as Python ends.
        importlib.import_module("torch.distributed.nn")
        try:
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                timeout=PATIENCE,
                store=self.store,
                rank=self.rank,
                world_size=self.count,
            )
        except RuntimeError as error:
            raise RankLost(f"the processes of this run cannot reach each other: {error}") from None
        try:
            yield device
        except BaseException:
            self.first_to_fail()  # before the others notice that this one is gone
            raise
        finally:
            distributed.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Return whether this process prints and writes."""
        return self.rank == 0

    def wait_for_leader(self) -> None:
        """Wait, for hours if need be, until rank 0 calls this too. Raises RankLost."""
        if self.store is None:
            return
        self.waits += 1
        key = f"{LED}/{self.waits}"
        try:
            if self.leads:
                self.store.set(key, "")
            while not self.leads and not self.store.check([key]):
                time.sleep(GLANCE)  # the store's own wait would hold up signals
        except RuntimeError:
            raise RankLost("torchrun has ended") from None

    def part(self, batch: Batch) -> Batch:
        """Return this rank's photos of a batch: every count-th, as neighbours have captions of similar length.

        Ranks without a photo compute with one that does not count.
        """
        if self.count == 1:
            return batch
        idle = self.rank >= len(batch.photos)
        rows = slice(0, 1) if idle else slice(self.rank, None, self.count)
        photos = batch.photos[rows]
        return replace(
            batch,
            photos=photos,
            views=batch.views[rows],
            words=batch.words[rows],
            targets=batch.targets[rows],
            elsewhere=len(batch.photos) - len(photos),
            idle=idle,
        )

    def share(self, counted: Tensor, batch: Batch) -> float:
        """Return the weight, 0 to 1, of a mean over this part in that over the whole batch.

        counted: bool, the words or captions averaged.
        batch: the part.

        Raises RankLost.
        """
        if self.count == 1:
            return 1.0
        here = 0 if batch.idle else int(counted.sum())
        return here / max(self.total(here), 1)

    def total(self, figure: float) -> float:
        """Return the sum of a figure over all ranks. Raises RankLost."""
        return float(self.add(torch.tensor(figure, dtype=torch.float64))) if self.count > 1 else figure

    def add(self, tensor: Tensor) -> Tensor:
        """Add the other ranks' tensors in place, and return the sum. Raises RankLost."""
        if self.count > 1:
            try:
                distributed.all_reduce(tensor)
            except RuntimeError:
                raise RankLost("another process of this run has ended, or stands still") from None
        return tensor

    def add_gradients(self, parameters: Iterable[Parameter]) -> None:
        """Add the other ranks' gradients, all at once. Raises RankLost."""
        # Here, not by DistributedDataParallel, which wraps one module: encoder and decoder are called separately.
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        sums = self.add(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, total in zip(gradients, sums.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def require_alike(self, *facts: object) -> None:
        """Check that all ranks have the same facts. facts: JSON values. Raises DataError and RankLost."""
        digest = hashlib.sha256(json.dumps(facts).encode()).digest()
        mine = torch.tensor(list(digest))
        if not torch.equal(self.add(mine.clone()), mine * self.count):
            raise DataError("the processes of this run do not see the same data and snapshot; all need the same files")

    def first_to_fail(self) -> bool:
        """Return whether this rank is the first to call this, so that only one reports the failure."""
        if self.store is None:
            return self.leads
        try:
            return bool(self.store.compare_set(FAILED, "", str(self.rank)) == str(self.rank).encode())
        except RuntimeError:  # torchrun has gone
            return self.leads
