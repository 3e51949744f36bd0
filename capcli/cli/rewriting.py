"""The run of `capcli write`: rows become captions, or lines that say what would change."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from capcli.cli.messages import fail, say, show_change
from capcli.cli.run import Run, collecting, count
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.outputs.merge import Merge
    from capcli.outputs.written import Written
    from capcli.results import Caption


BATCH = 64  # rows that are handed on together


class Earlier(ImageError):
    """Hold a failure that a row tells of, which is copied but is none of this run."""


@dataclass
class Rewriting(Run):
    """Write rows.

    moves: whether rows go to their photos, or on a page, and not just into another file.
    empty: rows without a caption.
    complete: whether all of them were read, and the output was written.
    written: knows which captions are a checkpoint's; None if nobody does.
    """

    moves: bool = False
    empty: int = 0
    complete: bool = False
    written: Written | None = None

    def fail(self, errors: list[ImageError]) -> None:
        """Count an image that failed, unless it did before; see `Run.fail`."""
        super().fail([error for error in errors if not isinstance(error, Earlier)])

    def end_rows(self, stopped: int) -> None:
        """Complete the output, unless it is not all there; see `Run.end_rows`."""
        if stopped:
            self.rows.discard()
        else:
            super().end_rows(stopped)
            self.complete = True

    def batches(self, merged: Merge) -> Iterator[list[Caption | ImageError]]:
        """Yield what is to be written. Raises OutputError."""
        batch: list[Caption | ImageError] = []
        for row, wrong in merged.rows():
            batch += self.results(row, wrong)
            if len(batch) >= BATCH:
                yield batch
                batch = []
        yield batch

    def results(self, row: dict[str, Any], wrong: str) -> Iterator[Caption | ImageError]:
        """Yield what is to be written for a row, if anything is. wrong: why its caption cannot be taken, or empty."""
        path = row["path"]
        if wrong:
            yield ImageError(path, wrong, "two captions that differ")
        elif "error" in row:
            yield Earlier(path, row["error"])
        elif self.moves and not os.path.exists(path):
            yield ImageError(path, "no such photo")
        else:
            if self.moves and not row["caption"]:
                self.empty += 1
                say(f"{path}: its caption is empty")
            for image in self.to_do([path]):
                yield image if isinstance(image, ImageError) else self.caption(row)

    def caption(self, row: dict[str, Any]) -> Caption:
        """Return a row as a caption, signed if a checkpoint said it; what a person wrote is not unsure."""
        caption = as_caption(row)
        by = self.written.signature(caption.path, caption.text) if self.written else ""
        unsure = caption.unsure and bool(caption.text) and (bool(by) or self.written is None)
        return replace(caption, by=by, unsure=unsure)


def as_caption(row: dict[str, Any]) -> Caption:
    """Return a row as a caption, whose numbers are NaN where the row has none."""
    from capcli.results import Candidate, Caption, Kind

    candidates = []
    for each in row.get("candidates", [row]):
        text = each["caption"] or ""
        log_prob, score = (math.nan if each[name] is None else each[name] for name in ("log_prob", "score"))
        candidates.append(Candidate(text, tuple(text.split()), (), log_prob, score))
    keywords = tuple(row["keywords"]) if "keywords" in row else None
    kinds = tuple(Kind(**kind) for kind in row.get("kinds", ()))
    return Caption(
        *(row["path"], tuple(candidates)),
        confidence=row.get("confidence"),
        unsure="unsure" in row,
        keywords=keywords,
        kinds=kinds,
    )


def show_changes(run: Rewriting, merged: Merge) -> int:
    """Print the old and the new text of each file that would change, and return the exit status."""
    from capcli.files import OutputError

    changed = 0
    try:
        for batch in run.batches(merged):
            run.found += len(batch)
            for result in batch:
                if isinstance(result, ImageError):
                    run.fail([result])
                    continue
                run.unsure += result.unsure
                wrong: list[ImageError] = []
                with collecting(wrong, result.path):
                    changed += show_changes_of(run, result)
                run.fail(wrong)
    except OutputError as error:
        fail(error, 1)
    say(", ".join([f"{count(changed, 'file')} would change", *others(run)]) + "; nothing was written")
    tell_left_out(run)
    return 1 if run.failed else 0


def show_changes_of(run: Rewriting, caption: Caption) -> int:
    """Print what would change for a caption, and return the number of files. Raises ImageError."""
    changed = 0
    for sink in run.others:
        if not run.leaves_out(sink, caption) and run.is_wanted_by(sink, caption.path) is not False:
            changes = list(sink.changes(caption))
            changed += bool(changes)
            for place, old, new in changes:
                show_change(caption.path, place, old, new)
    return changed


def others(run: Rewriting) -> list[str]:
    """Return how many photos were not written, and why."""
    counts = {"already captioned": run.skipped, "without a caption": run.empty, "failed": run.failed}
    return [f"{number} {what}" for what, number in counts.items() if number]


def summarise(run: Rewriting, merged: Merge) -> None:
    """Print on stderr what there was in the rows, and what became of them."""
    there = f"{count(merged.captions, 'caption')} and {count(merged.failures, 'failure')}"
    say(f"{there} from {count(len(merged.parts), 'file')}; {count(merged.dropped, 'duplicate')} left out")
    if run.moves:
        written = run.captioned - merged.failures - run.empty - run.left_out
        say(", ".join([f"{count(written, 'photo')} written", *others(run)]))
    if run.replaced:
        say(f"{count(run.replaced, 'earlier caption')} replaced")
    tell_left_out(run)


def tell_left_out(run: Rewriting) -> None:
    """Print on stderr how many captions are left out as they are unsure, if any."""
    unsure = 0 if run.moves and run.left_out == 0 else run.unsure
    if unsure and (run.left_out or run.rows.leaves_out({"unsure": True})):
        say(f"{count(unsure, 'unsure caption')} left out: --keep-unsure writes them")
