"""Batches that all requests share: whatever waits when a worker is free goes through the model together."""

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

PATIENCE = 0.005  # seconds that a small batch waits for more: next to nothing for one request, a full batch for many


@dataclass(frozen=True, eq=False)
class Job:
    """Hold an image that waits for its caption.

    name: what the caption gives as its path.
    content: the encoded image.
    num, options, photo_side: as `Captioner.stream` takes them.
    future: gets the caption, or the ImageError of an image that cannot be read.
    """

    name: str
    content: bytes
    num: int
    options: DecodingOptions
    photo_side: int = 0
    future: Future[Caption] = field(default_factory=Future)

    @property
    def batch_key(self) -> object:
        """Return what jobs have to share to be captioned together; what a seed makes repeatable is captioned alone."""
        alone = self.options.draws and self.options.seed is not None
        return (self.num, self.options, self.future if alone else None)


Read = tuple[Job, Opened | Exception]


class SharedBatches:
    """Caption the images of any number of requests, in the batches of one captioner."""

    def __init__(self, captioner: Captioner, batch_size: int = 32, max_pixels: int | None = None) -> None:
        """Start the threads that open images and caption them.

        captioner: its workers work on batches side by side.
        batch_size: the most images that go through the model together, 1 or more.
        max_pixels: as `Captioner.stream` takes it.
        """
        self.captioner, self.max_pixels = captioner, max_pixels
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        limit = (BATCHES_AHEAD + captioner.workers) * batch_size
        ahead = LookAhead(self.open, iter(self.jobs.get, None), limit, patience=PATIENCE)
        self.workers = Workers(captioner.workers, ahead, batch_size, self.work)
        threading.Thread(target=self.drain, daemon=True).start()

    def submit(self, job: Job) -> Future[Caption]:
        """Queue a job, and return its future; one that is cancelled before its turn costs nothing."""
        self.jobs.put(job)
        return job.future

    def open(self, job: Job) -> Read:
        """Open a job's image; an exception that is no ImageError is kept for its future."""
        try:
            if job.future.cancelled():
                return job, ImageError(job.name, "cancelled")
            _, pictures = self.captioner.open(job.content, job.photo_side, self.max_pixels)
            if isinstance(pictures, ImageError):
                pictures = ImageError(job.name, pictures.reason, pictures.kind)
            return job, (job.name, pictures)
        except Exception as error:  # of ours, and no reason for other requests to fail
            return job, error

    def work(self, batch: list[Read | Exception]) -> Sequence[None]:
        """Caption a batch, those together that can be, and answer each job."""
        groups: dict[object, list[Read]] = {}
        for item in batch:
            assert not isinstance(item, Exception)  # as `open` raises none
            if item[0].future.set_running_or_notify_cancel():
                groups.setdefault(item[0].batch_key, []).append(item)
        for group in groups.values():
            self.answer(group)
        return [None] * len(batch)

    def answer(self, group: list[Read]) -> None:
        """Caption the images of jobs that are captioned together, and answer the jobs."""
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
        """Take what the workers give, which are Nones, so that they go on. Runs in a thread."""
        for _ in self.workers:
            pass

    def close(self) -> None:
        """End the threads, each after the batch that it is working on; jobs that still wait are never answered."""
        self.jobs.put(None)
        self.workers.close()
