"""A captioning run: a loop hands results to the sinks and counts them; it can be stopped and resumed."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from capcli.cli.messages import say
from capcli.cli.signals import Interrupt, Stop
from capcli.cli.streams import NoOutput, StandardOutput
from capcli.cli.summary import Summary
from capcli.files import OutputError
from capcli.images.find import DRAWN
from capcli.outputs.rows import Rows, is_rejected
from capcli.outputs.sink import FATAL_ERRORS, CaptionedAlready, Sink
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.images.watch import Watch
    from capcli.outputs.cache import CaptionCache
    from capcli.progress import CaptionBar
    from capcli.results import Caption

REASONS_SHOWN = 20


@dataclass
class Run:
    """Hold a run's sinks and counts.

    rows: the output.
    others: the other sinks, in writing order; whoever opened them closes them.
    summary: told of each skipped or failed image.
    cache: gives and keeps captions.
    banned: whether any word is banned.
    watch: what waits for images, if they go on coming.
    found: images with a result, caption or failure.
    skipped: images already captioned.
    rejected: captions left out for confidence below --min-confidence.
    drawn: pictures skipped because capcli drew them.
    system_folders: folders passed over as the system's own.
    first_drawn, first_system_folder: path of the first of these, or empty.
    reasons: failed images by reason, for the first 1,000 reasons.
    """

    rows: Rows
    others: Sequence[Sink] = ()
    summary: Summary = field(default_factory=Summary)
    cache: CaptionCache | None = None
    banned: bool = False
    watch: Watch | None = None
    found: int = 0
    failed: int = 0
    skipped: int = 0
    rejected: int = 0
    unsure: int = 0
    drawn: int = 0
    first_drawn: str = ""
    system_folders: int = 0
    first_system_folder: str = ""
    reasons: Counter[str] = field(default_factory=Counter)

    def pass_over(self, path: str, reason: str) -> None:
        """Count a picture drawn by capcli, or a system folder. reason: from `find_images`."""
        self.summary.skip(path, reason)
        if reason == DRAWN:
            self.drawn += 1
            self.first_drawn = self.first_drawn or path
        else:
            self.system_folders += 1
            self.first_system_folder = self.first_system_folder or path

    def to_do(self, images: Iterable[str | ImageError]) -> Iterator[str | ImageError]:
        """Yield images that some sink still needs, and ImageErrors for those that one cannot take.

        images: may hold ImageErrors, which pass through.
        """
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
        """Return why an image needs no captioning, or None. Raises ImageError if a sink cannot take it."""
        # Every sink is asked, as sidecars must know of every image.
        wanted = {sink: self.is_wanted_by(sink, image) for sink in (self.rows, *self.others)}
        done = [sink for sink, wants in wanted.items() if wants is False]
        if self.rows not in done:
            reached = any(wanted.values()) or not done
            return None if reached else f"already captioned in {', '.join(sink.where(image) for sink in done)}"
        if not self.rows.has(image):
            return "the confidence of its caption was below --min-confidence, and would be again"
        # An interrupted run may have written an image's row, but not to the other sinks.
        if any(wants and not sink.has(image) for sink, wants in wanted.items()):
            return None
        return f"already captioned in {self.rows.where(image)}"

    def targets(self, image: str) -> list[str]:
        """Return where an image's caption would go. Raises ImageError if a sink cannot take it."""
        sinks = [sink for sink in (self.rows, *self.others) if self.is_wanted_by(sink, image) is not False]
        return [place for place in (sink.where(image) for sink in sinks) if place]

    def is_wanted_by(self, sink: Sink, image: str) -> bool | None:
        """Return `Sink.wants`, and raise ImageError as it does.

        An image that the continued run had finished may have a caption, even with `--existing fail`.
        """
        try:
            return sink.wants(image)
        except CaptionedAlready:
            if self.rows.has_row(image):
                return False
            raise

    def execute(self, batches: Iterable[list[Caption | ImageError]], bar: CaptionBar, quiet: bool) -> int:
        """Hand batches to the sinks until they end or the run is stopped.

        batches: captions, and ImageErrors for unreadable images.
        bar: closed at the end.
        quiet: print no summary.

        Returns the exit status: 0 if all images were captioned, 1 if some, the output or the cache failed, 128 plus the
        number of a signal that stopped it.
        """
        stopped = 0
        try:
            with Interrupt(True, self.watch.stop if self.watch else bool) as interrupt:
                try:
                    for batch in batches:
                        with bar.aside():
                            self.summary.tell()
                            self.keep(batch)
                        bar.update(self.found + self.skipped, self.failed)
                        stopped = interrupt.number and 128 + interrupt.number
                        if stopped:
                            break
                    if self.watch:  # which a signal ends between batches, too
                        stopped = interrupt.number and 128 + interrupt.number
                except Stop as stop:  # second signal
                    stopped = stop.code
                finally:
                    bar.close()
                    self.summary.tell()
                self.end_rows(stopped)
        except BrokenPipeError:  # the reader has enough
            self.rows.discard()
            return 0
        except BaseException as error:
            self.rows.discard()
            if not isinstance(error, (OSError, OutputError)):
                raise
            say(error)
            return 1
        self.summarise(quiet)
        return stopped or (1 if self.failed or (self.cache and self.cache.failed) else 0)

    def end_rows(self, stopped: int) -> None:
        """Complete the output; without a row there is none. stopped: the exit status if the run was stopped, or 0."""
        if self.found or isinstance(self.rows.file, StandardOutput):
            self.rows.close()
        else:
            self.rows.discard()

    def keep(self, batch: list[Caption | ImageError]) -> None:
        """Hand a batch to the sinks."""
        self.found += len(batch)
        captions = [result for result in batch if not isinstance(result, ImageError)]
        self.rejected += sum(is_rejected(caption, self.rows.layout.min_confidence) for caption in captions)
        self.unsure += sum(caption.unsure for caption in captions)
        results = [(result, [result] if isinstance(result, ImageError) else []) for result in batch]
        try:
            for sink in self.in_order():
                for result, wrong in results:
                    if self.leaves_out(sink, result):
                        continue
                    with collecting(wrong, result.path, about=sink.path):
                        # A row marks an image as done, so it must not hide an earlier failure.
                        sink.write(wrong[0] if wrong and sink is self.rows else result)
                sink.flush()
        finally:
            for result, wrong in results:
                self.fail(wrong)
                if self.watch:
                    self.watch.written(result.path)

    def leaves_out(self, sink: Sink, result: Caption | ImageError) -> bool:
        """Return whether a caption is empty, or too unsure for this sink; rows get all, and decide themselves."""
        if sink is self.rows or isinstance(result, ImageError):
            return False
        if sink.marks_unsure or not result.text:
            return not result.text
        layout = self.rows.layout
        return (result.unsure and not layout.keeps_unsure) or is_rejected(result, layout.min_confidence)

    def in_order(self) -> list[Sink]:
        """Return the sinks in writing order.

        A row marks an image as done, so it follows sinks that cannot tell by themselves. Those that can come last:
        --resume asks them again, and writes what is missing there.
        """
        return sorted((self.rows, *self.others), key=lambda sink: sink.remembers or not self.rows.remembers)

    def fail(self, errors: list[ImageError]) -> None:
        """Count an image as failed if it has errors, and print each once."""
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
        """Return how many images have their caption in every place so far."""
        return self.found - self.failed

    @property
    def replaced(self) -> int:
        return sum(sink.replaced for sink in self.others)

    @property
    def left_out(self) -> int:
        """Return how many unsure captions were left out where they could not be marked."""
        rows = [] if isinstance(self.rows.file, NoOutput) else [self.rows]
        marked = all(sink.marks_unsure for sink in (*rows, *self.others))
        return 0 if marked or self.rows.layout.keeps_unsure else self.unsure

    def counts(self) -> dict[str, int]:
        return {
            "captioned": self.captioned,
            "unsure": self.unsure,
            "unsure_left_out": self.left_out,
            "below_min_confidence": self.rejected,
            "failed": self.failed,
            "skipped": self.skipped,
            "drawn_by_capcli": self.drawn,
            "system_folders": self.system_folders,
            "earlier_captions_replaced": self.replaced,
        }

    def summarise(self, quiet: bool) -> None:
        """Print failures with their reasons, and omissions, on stderr, unless quiet."""
        if quiet:
            return
        if isinstance(self.rows.file, NoOutput):
            say(f"{count(self.captioned, 'image')} captioned")
        elif self.found and not isinstance(self.rows.file, StandardOutput) and sys.stderr.isatty():
            say(f"{count(self.captioned, 'caption')} in {os.fspath(self.rows.path)}")
        if self.cache and self.cache.recalled:
            source = self.cache.path or "images with the same content"
            say(f"{count(self.cache.recalled, 'caption')} taken from {source}")
        if self.skipped:
            say(f"{count(self.skipped, 'image')} skipped: already captioned")
        if self.drawn:
            say(f"{count(self.drawn, 'picture')} skipped: drawn by capcli; the first is {self.first_drawn}")
        if self.system_folders:
            first = self.first_system_folder
            say(f"{count(self.system_folders, 'system folder')} skipped; to include one, name it: {first}")
        if self.replaced:
            say(f"{count(self.replaced, 'earlier caption')} replaced")
        if self.rejected:
            say(f"{count(self.rejected, 'caption')} left empty: confidence below {self.rows.layout.min_confidence:g}")
        if self.unsure:
            left_out = "; left out where they cannot be marked: --keep-unsure writes them" if self.left_out else ""
            why = "more likely wrong than right" + (", perhaps because of --ban" if self.banned else "")
            say(f"{count(self.unsure, 'caption')} unsure: {why}{left_out}")
        if self.failed and self.found > 1:
            say(f"{self.failed} of {self.found} images failed")
            for reason, times in self.reasons.most_common(REASONS_SHOWN):
                say(f"{times:5} × {reason}")
            if len(self.reasons) > REASONS_SHOWN:
                say(f"      and {len(self.reasons) - REASONS_SHOWN} other reasons")


@contextlib.contextmanager
def collecting(errors: list[ImageError], path: str, about: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Turn an image's error in the block into an ImageError, so that the run goes on.

    errors: gets it.
    path: of the image.
    about: file to blame for an OSError that names none; None for the image.

    Raises OutputError for errors that other images would meet too, and BrokenPipeError.
    """
    try:
        yield
    except ImageError as error:
        errors.append(error)
    except (BrokenPipeError, OutputError):
        raise
    except OSError as error:
        named = os.fsdecode(error.filename or about or path)
        if error.errno in FATAL_ERRORS:
            raise OutputError(named, error) from None
        reason = (error.strerror or str(error)).lower()
        errors.append(ImageError(path, reason if named == path else f"{named}: {reason}", reason))
    except Exception as error:  # a bug of ours should not stop the rest of the folder
        here = traceback.extract_tb(error.__traceback__)[-1]
        name = f"a bug in capcli: {type(error).__name__} at {os.path.basename(here.filename)}:{here.lineno}"
        message = " ".join(str(error).split())
        errors.append(ImageError(path, f"{name}: {message}" if message else name, name))


def tell_nothing_found(paths: Sequence[str], files_from: str | None) -> int:
    """Say that there are no images; return the exit status, 0 for a list alone, which may be empty."""
    say("no images in " + ", ".join([*paths, *([files_from] if files_from else [])]))
    return 0 if files_from and not paths else 1


def count(number: int, noun: str) -> str:
    """Return `1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
