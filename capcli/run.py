"""A captioning run: results to the output and to the places, counted, stoppable, and in a state to go on from."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from capcli.files import OutputError, OutputFile, StandardOutput
from capcli.images import ImageError
from capcli.messages import say
from capcli.sidecars import Place
from capcli.signals import Interrupt, Stop
from capcli.writers import Writer, is_unsure

if TYPE_CHECKING:
    from capcli.captioner import Caption
    from capcli.progress import Bar

REASONS_SHOWN = 20


@dataclass
class Run:
    """What is to be done, and how far it is.

    file: what the writer writes to. places: where captions go besides. view: puts a result into the pictures of the
    attention that are wanted and returns how many failed. finished: path → whether it has a caption, for
    the images in an output that is continued. found, failed, skipped, unsure: images so far; reasons: of failures;
    drawn: overlays passed over so far, first_drawn: the first of them.
    """

    writer: Writer
    file: OutputFile
    places: tuple[Place, ...] = ()
    view: Callable[[Caption | ImageError], int] = lambda result: 0
    finished: dict[str, bool] = field(default_factory=dict)
    min_score: float | None = None
    stop_at_failure: bool = False
    found: int = 0
    failed: int = 0
    skipped: int = 0
    unsure: int = 0
    drawn: int = 0
    first_drawn: str = ""
    reasons: Counter[str] = field(default_factory=Counter)

    def pass_over(self, path: str) -> None:
        """Count a picture that capcli drew."""
        self.drawn += 1
        self.first_drawn = self.first_drawn or path

    def to_do(self, images: Iterable[str | ImageError]) -> Iterator[str | ImageError]:
        """The images that are not captioned everywhere yet; those that cannot be come as their ImageError."""
        for image in images:
            try:
                wanted = isinstance(image, ImageError) or self.is_wanted(image)
            except ImageError as error:
                yield error
                continue
            if wanted:
                yield image
            else:
                self.skipped += 1

    def is_wanted(self, image: str) -> bool:
        """Whether there is work left. Raises ImageError."""
        if self.finished.get(image) is False:  # it was unsure, and would be again
            return False
        wanted = [place.wants(image) for place in self.places]
        # An interrupted run may have got as far as the output with an image, and not to the places.
        return any(wanted) or (image not in self.finished and not wanted)

    def execute(self, batches: Iterable[list[Caption | ImageError]], bar: Bar, quiet: bool) -> int:
        """Work through the batches; the exit status: 0 all captioned, 1 some failed or the output did, 128 and the
        number of the signal that stopped it."""
        stopped = 0
        try:
            with Interrupt(patience=True) as interrupt:
                try:
                    for batch in batches:
                        with bar.aside():
                            goes_on = self.keep(batch)
                        bar.update(self.found + self.skipped, self.failed)
                        stopped = interrupt.number and 128 + interrupt.number
                        if stopped or not goes_on:
                            break
                except Stop as stop:  # the second one
                    stopped = stop.code
                finally:
                    bar.close()
                with self.writing():
                    if self.found or isinstance(self.file, StandardOutput):
                        self.writer.close()
                        self.file.close()
                    else:  # without a row there is no output
                        self.file.discard()
        except BrokenPipeError:  # the reader has what it wanted
            self.file.discard()
            return 0
        except BaseException as error:
            self.file.discard()
            if not isinstance(error, (OSError, OutputError)):
                raise
            say(error)
            return 1
        self.summarise(quiet)
        return stopped or (1 if self.failed else 0)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turns what goes wrong into OutputError, but for a closed pipe."""
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(self.file.path, error) from None

    def keep(self, batch: list[Caption | ImageError]) -> bool:
        """Put a batch where it belongs; whether to go on."""
        if self.stop_at_failure:
            failures = [i for i, result in enumerate(batch) if isinstance(result, ImageError)]
            batch = batch[: failures[0] + 1] if failures else batch
        self.found += len(batch)
        for result in batch:
            if isinstance(result, ImageError):
                self.fail(result)
            elif is_unsure(result, self.min_score):
                self.unsure += 1
        # The output first: --resume looks at the places again, but could not give back a lost row.
        with self.writing():
            for result in batch:
                if result.path not in self.finished:
                    self.writer.write(result)
            self.file.flush()
        for result in batch:
            if not isinstance(result, ImageError):
                try:
                    for place in self.places:
                        place.put(result)
                except ImageError as error:
                    self.fail(error)
            self.failed += self.view(result)
        return not (self.stop_at_failure and self.failed)

    def fail(self, error: ImageError) -> None:
        """One line on stderr."""
        self.failed += 1
        if len(self.reasons) < 1000 or error.reason in self.reasons:
            self.reasons[error.reason] += 1
        say(error)

    def summarise(self, quiet: bool) -> None:
        """Say on stderr what failed and why, and what was left out."""
        if quiet:
            return
        if self.skipped:
            say(f"{count(self.skipped, 'image')} skipped: captioned already")
        if self.drawn:
            say(f"{count(self.drawn, 'picture')} passed over, drawn by capcli itself; the first is {self.first_drawn}")
        if self.unsure:
            say(f"{count(self.unsure, 'caption')} left empty: score below {self.min_score:g}")
        if self.failed and self.found > 1:
            say(f"{self.failed} of {self.found} images failed")
            for reason, times in self.reasons.most_common(REASONS_SHOWN):
                say(f"{times:5} × {reason}")
            if len(self.reasons) > REASONS_SHOWN:
                say(f"      and {len(self.reasons) - REASONS_SHOWN} other reasons")


def count(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
