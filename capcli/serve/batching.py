"""Batches shared by all requests: a free worker takes whatever waits through the model together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue

from capcli.captioner import BATCHES_AHEAD, Captioner, Opened
from capcli.decoding.options import DecodingOptions
from capcli.results import Caption, ImageError
from capcli.streaming import LookAhead, Workers

PATIENCE = 0.005  # seconds that a small batch waits to fill: little to one request, a full batch to many


@dataclass(frozen=True, eq=False)
class Job:
    """Hold an image that waits for its caption.

    name: the caption's path.
    content: the encoded image.
    num, options, photo_side: as in `Captioner.stream`.
    future: gets the caption or an ImageError.
    """

    name: str
    content: bytes
    num: int
    options: DecodingOptions
    photo_side: int = 0
    future: Future[Caption] = field(default_factory=Future)

    @property
    def batch_key(self) -> object:
        """Return what jobs must share to be captioned together; seeded sampling runs alone, to be repeatable."""
        alone = self.options.draws and self.options.seed is not None
        return (self.num, self.options, self.future if alone else None)


Read = tuple[Job, Opened | Exception]


class SharedBatches:
    """Caption the images of any number of requests in one captioner's batches."""

    def __init__(self, captioner: Captioner, batch_size: int = 32, max_pixels: int | None = None) -> None:
        """Start the threads that open and caption images.

        batch_size: most images in a batch, 1 or more.
        max_pixels: as in `Captioner.stream`.
        """
        self.captioner, self.max_pixels = captioner, max_pixels
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        limit = (BATCHES_AHEAD + captioner.workers) * batch_size
        ahead = LookAhead(self.open, iter(self.jobs.get, None), limit, patience=PATIENCE)
        self.workers = Workers(captioner.workers, ahead, batch_size, self.work)
        threading.Thread(target=self.drain, daemon=True).start()

    def submit(self, job: Job) -> Future[Caption]:
        """Queue a job and return its future; cancelled before its turn, it costs nothing."""
        self.jobs.put(job)
        return job.future

    def open(self, job: Job) -> Read:
        """Open a job's image; any exception but ImageError is kept for its future."""
        try:
            if job.future.cancelled():
                return job, ImageError(job.name, "cancelled")
            _, pictures = self.captioner.open(job.content, job.photo_side, self.max_pixels)
            if isinstance(pictures, ImageError):
                pictures = ImageError(job.name, pictures.reason, pictures.kind)
            return job, (job.name, pictures)
        except Exception as error:  # a bug of ours should not fail other requests
            return job, error

    def work(self, batch: list[Read | Exception]) -> Sequence[None]:
        """Caption a batch, grouped by `batch_key`, and answer each job."""
        groups: dict[object, list[Read]] = {}
        for item in batch:
            assert not isinstance(item, Exception)  # as `open` raises none
            if item[0].future.set_running_or_notify_cancel():
                groups.setdefault(item[0].batch_key, []).append(item)
        for group in groups.values():
            self.answer(group)
        return [None] * len(batch)

    def answer(self, group: list[Read]) -> None:
        """Caption jobs together and answer each."""
        opened = []
        for job, outcome in group:
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                opened.append((job, outcome))
        if not opened:
            return
        first = opened[0][0]
        try:
            results = self.captioner.caption_opened([outcome for _, outcome in opened], first.num, first.options, None)
        except Exception as error:
            for job, _ in opened:
                job.future.set_exception(error)
            return
        for (job, _), result in zip(opened, results, strict=True):
            if isinstance(result, ImageError):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

    def drain(self) -> None:
        """Consume the workers' results, all None, to keep them going. Runs in a thread."""
        for _ in self.workers:
            pass

    def finish(self) -> None:
        """End the threads once all jobs have been answered."""
        self.jobs.put(None)

    def close(self) -> None:
        """End the threads after their current batch; waiting jobs are never answered."""
        self.jobs.put(None)
        self.workers.close()
