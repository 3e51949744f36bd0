"""A captioning run: results to the output and to the places, counted, stoppable, and in a state to go on from."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from capcli.cli.messages import say
from capcli.cli.signals import Interrupt, Stop
from capcli.cli.streams import NoOutput, StandardOutput
from capcli.cli.summary import Summary
from capcli.files import OutputError, OutputFile
from capcli.outputs.formats import Writer, is_rejected
from capcli.outputs.sidecars import HOPELESS, CaptionedAlready, Place
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.cli.progress import Bar
    from capcli.results import Caption

REASONS_SHOWN = 20


@dataclass
class Run:
    """What is to be done, and how far it is.

    file: what the writer writes to. places: where captions go besides. view: puts a result into the pictures of the
    attention that are wanted and returns what went wrong. resumable: whether a later run may take the rows in the
    output for what is done. finished: path → whether it has a caption, for the images in an output that is continued.
    summary: takes note of each image that is skipped or fails.
    found, failed, skipped, rejected, unsure: images so far; reasons: of failures; drawn: overlays passed over so far,
    first_drawn: the first of them.
    """

    writer: Writer
    file: OutputFile
    places: tuple[Place, ...] = ()
    view: Callable[[Caption | ImageError], list[ImageError]] = lambda result: []
    resumable: bool = False
    finished: dict[str, bool] = field(default_factory=dict)
    min_score: float | None = None
    stop_at_failure: bool = False
    summary: Summary = field(default_factory=Summary)
    found: int = 0
    failed: int = 0
    skipped: int = 0
    rejected: int = 0
    unsure: int = 0
    drawn: int = 0
    first_drawn: str = ""
    reasons: Counter[str] = field(default_factory=Counter)

    def pass_over(self, path: str) -> None:
        """Count a picture that capcli drew."""
        self.summary.skip(path, "drawn by capcli itself")
        self.drawn += 1
        self.first_drawn = self.first_drawn or path

    def to_do(self, images: Iterable[str | ImageError]) -> Iterator[str | ImageError]:
        """The images that are not captioned everywhere yet; those that cannot be come as their ImageError."""
        for image in images:
            if isinstance(image, ImageError):
                yield image
                continue
            wrong: list[ImageError] = []
            reason = None
            with collecting(wrong, image):
                reason = self.why_skipped(image)
            if reason is None:
                yield wrong[0] if wrong else image
            else:
                self.skipped += 1
                self.summary.skip(image, reason)

    def why_skipped(self, image: str) -> str | None:
        """Return why there is no work left, None where there is. Raises ImageError."""
        # All of them are asked: sidecars have to know who else was there.
        wanted = [self.is_wanted_by(place, image) for place in self.places]
        if image not in self.finished:
            where = ", ".join(place.where(image) for place in self.places)
            return None if any(wanted) or not wanted else f"captioned already in {where}"
        if not self.finished[image]:
            return "its caption scored too low, and would again"
        # An interrupted run may have got as far as the output with an image, and not to these.
        if any(wants and not place.has(image) for wants, place in zip(wanted, self.places, strict=True)):
            return None
        return f"captioned already in {os.fspath(self.file.path)}"

    def targets(self, image: str) -> list[str]:
        """Return where the caption of an image is to go. Raises ImageError."""
        output = [os.fspath(self.file.path)] if self.file.path and image not in self.finished else []
        return output + [place.where(image) for place in self.places if self.is_wanted_by(place, image)]

    def is_wanted_by(self, place: Place, image: str) -> bool:
        """Whether there is work left in one place. Raises ImageError."""
        try:
            return place.wants(image)
        except CaptionedAlready:
            if image in self.finished:  # by the run that is continued
                return False
            raise

    def execute(self, batches: Iterable[list[Caption | ImageError]], bar: Bar, quiet: bool) -> int:
        """Work through the batches; the exit status: 0 all captioned, 1 some failed or the output did, 128 and the
        number of the signal that stopped it."""
        stopped = 0
        try:
            with Interrupt(patience=True) as interrupt:
                try:
                    for batch in batches:
                        with bar.aside():
                            self.summary.tell()
                            goes_on = self.keep(batch)
                        bar.update(self.found + self.skipped, self.failed)
                        stopped = interrupt.number and 128 + interrupt.number
                        if stopped or not goes_on:
                            break
                except Stop as stop:  # the second one
                    stopped = stop.code
                finally:
                    bar.close()
                    self.summary.tell()
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
        captions = [result for result in batch if not isinstance(result, ImageError)]
        self.rejected += sum(is_rejected(caption, self.min_score) for caption in captions)
        self.unsure += sum(caption.unsure for caption in captions)
        errors = [[result] if isinstance(result, ImageError) else [] for result in batch]
        results = list(zip(batch, errors, strict=True))
        # A row is what says that an image is done, so it comes last, but for the places that say so themselves: those
        # --resume looks at again, while it could not give back a row lost between them.
        silent = [place for place in self.places if self.resumable and not place.remembers]
        try:
            for result, wrong in results:
                self.put(result, silent, wrong)
                if self.resumable:
                    wrong += self.view(result)
            for result, wrong in results:
                if result.path not in self.finished:
                    with collecting(wrong, result.path), self.writing():
                        self.writer.write(wrong[0] if wrong else result)
            with self.writing():
                self.file.flush()
            for result, wrong in results:
                self.put(result, [place for place in self.places if place not in silent], wrong)
                if not self.resumable:
                    wrong += self.view(result)
        finally:
            for wrong in errors:
                self.fail(wrong)
        return not (self.stop_at_failure and self.failed)

    def put(self, result: Caption | ImageError, places: Iterable[Place], wrong: list[ImageError]) -> None:
        """Keep a caption in places, and add what goes wrong."""
        if not isinstance(result, ImageError):
            for place in places:
                with collecting(wrong, result.path):
                    place.put(result)

    def fail(self, errors: list[ImageError]) -> None:
        """Count an image that failed, if any, and say why: one line on stderr for each reason."""
        self.failed += bool(errors)
        for line in dict.fromkeys(str(error) for error in errors):
            say(line)
        for path, reason in dict.fromkeys((error.path, error.reason) for error in errors):
            self.summary.fail(path, reason)
        for kind in dict.fromkeys(error.kind for error in errors):
            if len(self.reasons) < 1000 or kind in self.reasons:
                self.reasons[kind] += 1

    @property
    def captioned(self) -> int:
        """How many images have got a caption so far, in all places where it was to go."""
        return self.found - self.failed

    @property
    def replaced(self) -> int:
        """How many texts that were there gave way to a caption that says something else."""
        return sum(place.replaced for place in self.places)

    def counts(self) -> dict[str, int]:
        """Return what --summary counts."""
        return {
            "captioned": self.captioned,
            "unsure": self.unsure,
            "below_min_score": self.rejected,
            "failed": self.failed,
            "skipped": self.skipped,
            "drawn_by_capcli": self.drawn,
            "earlier_captions_replaced": self.replaced,
        }

    def summarise(self, quiet: bool) -> None:
        """Say on stderr what failed and why, and what was left out."""
        if quiet:
            return
        if isinstance(self.file, NoOutput):
            say(f"{count(self.captioned, 'image')} captioned")
        if self.skipped:
            say(f"{count(self.skipped, 'image')} skipped: captioned already")
        if self.drawn:
            say(f"{count(self.drawn, 'picture')} passed over, drawn by capcli itself; the first is {self.first_drawn}")
        if self.replaced:
            say(f"{count(self.replaced, 'earlier caption')} replaced")
        if self.rejected:
            say(f"{count(self.rejected, 'caption')} left empty: score below {self.min_score:g}")
        if self.unsure:
            say(f"{count(self.unsure, 'caption')} unsure: the model finds next to nothing in the image")
        if self.failed and self.found > 1:
            say(f"{self.failed} of {self.found} images failed")
            for reason, times in self.reasons.most_common(REASONS_SHOWN):
                say(f"{times:5} × {reason}")
            if len(self.reasons) > REASONS_SHOWN:
                say(f"      and {len(self.reasons) - REASONS_SHOWN} other reasons")


@contextlib.contextmanager
def collecting(errors: list[ImageError], path: str, about: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Turn what goes wrong with one image into its ImageError, so that the others go on.

    about: the file that an OSError means when it does not say. Raises OutputError for what the others would meet as
    well, and BrokenPipeError.
    """
    try:
        yield
    except ImageError as error:
        errors.append(error)
    except (BrokenPipeError, OutputError):
        raise
    except OSError as error:
        named = os.fsdecode(error.filename or about or path)
        if error.errno in HOPELESS:
            raise OutputError(named, error) from None
        reason = (error.strerror or str(error)).lower()
        errors.append(ImageError(path, reason if named == path else f"{named}: {reason}", reason))
    except Exception as error:  # ours, and no reason to leave the rest of the folder uncaptioned
        here = traceback.extract_tb(error.__traceback__)[-1]
        name = f"a defect of capcli: {type(error).__name__} at {os.path.basename(here.filename)}:{here.lineno}"
        message = " ".join(str(error).split())
        errors.append(ImageError(path, f"{name}: {message}" if message else name, name))


def count(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
