"""A folder's photos: their captions as they are made, what was saved for them, and undoing it."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from capcli.captioner import Captioner
from capcli.decoding.options import DecodingOptions
from capcli.model.vocabulary import tokenize
from capcli.outputs.keywords import with_keywords
from capcli.outputs.originals import LEADS_OUT
from capcli.outputs.rows import as_candidate
from capcli.results import Candidate, Caption, ImageError
from capcli.serve.corrections import Corrections, Row
from capcli.serve.keeping import Keeper, Written
from capcli.serve.photos import Photo, content_of
from capcli.serve.saves import Save, Saved, Saves, Step

CANDIDATES = 5  # captions of a photo


class Album:
    """Hold a folder's photos. Safe in several threads."""

    def __init__(
        self,
        folder: str,
        corrections: Corrections,
        keeper: Keeper,
        score: Callable[[str, str], tuple[float, float]] | None = None,
        keywords: int = 0,
    ) -> None:
        """Begin without photos.

        corrections: earlier saves; takes new ones.
        keeper: writes beside photos and into them.
        score: log-probability and score of a person's sentence for a photo; None where nothing shows them.
        keywords: most that a saved caption gets.
        """
        self.folder, self.inside = folder, os.path.realpath(folder)
        self.corrections, self.keeper, self.score = corrections, keeper, score
        self.keywords = keywords
        self.run = secrets.token_hex(4)  # tells another run's versions from this one's
        self.lock, self.saving = threading.RLock(), threading.Lock()
        self.photos: list[Photo] = []
        self.saves = Saves()
        self.change = 0
        self.listed = self.complete = self.closed = False
        self.thread: threading.Thread | None = None

    # Captioning

    def start(
        self,
        images: Iterable[str | ImageError],
        captioner: Captioner,
        options: DecodingOptions,
        batch_size: int,
        max_pixels: int | None,
    ) -> None:
        """Caption the photos in a thread.

        images: paths, and ImageErrors for what cannot be listed.
        captioner, options, batch_size, max_pixels: as in `Captioner.stream`.
        """

        def work() -> None:
            paths = self.listing(images)
            batches = captioner.batches(paths, CANDIDATES, options, batch_size, max_pixels)
            number = 0
            for batch in batches:
                self.take(number, batch)
                number += len(batch)
                if self.closed:
                    break
            self.complete = True

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def listing(self, images: Iterable[str | ImageError]) -> Iterator[str | ImageError]:
        """Make a photo of each image first, then yield them all for captioning."""
        wanted: list[str | ImageError] = []
        for image in images:
            path = image.path if isinstance(image, ImageError) else image
            if isinstance(image, str) and not self.is_inside(image):
                image = ImageError(image, LEADS_OUT)
            row = self.corrections.row(path)
            with self.lock:
                self.change += 1
                name = os.path.relpath(path, self.folder)
                saved = None if row is None else row["captions"][0]
                self.photos.append(Photo(len(self.photos), path, name, saved=saved, changed=self.change))
            wanted.append(image)
            if self.closed:
                return
        self.listed = True
        yield from wanted

    def take(self, number: int, batch: Sequence[Caption | ImageError]) -> None:
        """Take the captions of photos from `number` on."""
        with self.lock:
            for photo, result in zip(self.photos[number:], batch, strict=False):
                self.change += 1
                photo.changed = self.change
                photo.content = content_of(photo.path)
                if isinstance(result, ImageError):
                    photo.error = result.reason
                else:
                    photo.candidates = [as_candidate(candidate) for candidate in result.candidates]
                    photo.unsure = result.unsure

    def close(self) -> None:
        """Stop captioning after the current batch, and release the corrections to other runs."""
        self.closed = True
        if self.thread is not None:
            self.thread.join(10)
        with self.saving:
            self.corrections.close()

    # What pages see

    def tag(self, photo: Photo) -> str:
        """Return a photo's version, for `If-Match`."""
        return f"{self.run}-{photo.version}"

    def shown(self, photo: Photo) -> dict[str, Any]:
        """Return a photo as pages see it."""
        return {
            "id": photo.number,
            "name": photo.name,
            "tag": self.tag(photo),
            "content": photo.content,
            "candidates": photo.candidates,
            "unsure": photo.unsure,
            "error": photo.error,
            "saved": photo.saved,
        }

    def since(self, change: int) -> dict[str, Any]:
        """Return the photos changed since an earlier answer's `change`; 0 gives all."""
        with self.lock:
            photos = [self.shown(photo) for photo in self.photos if photo.changed > change]
            done = sum(bool(photo.candidates or photo.error) for photo in self.photos)
            known = {"all": len(self.photos), "done": done, "listed": self.listed, "complete": self.complete}
            return {"run": self.run, "change": self.change, "photos": photos} | known

    def photo(self, number: int) -> Photo | None:
        """Return the photo with this number, or None."""
        with self.lock:
            return self.photos[number] if 0 <= number < len(self.photos) else None

    def is_inside(self, path: str) -> bool:
        """Return whether a file lies in the folder, links followed. A dangling link does, so that it is reported."""
        real = os.path.realpath(path)
        return os.path.commonpath([real, self.inside]) == self.inside

    def read(self, photo: Photo) -> bytes:
        """Return a photo's bytes. Raises ImageError, also if it leads out of the folder."""
        try:
            with open(photo.path, "rb", opener=without_waiting) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ImageError(photo.name, "not a regular file")
                # Checked once open, so that nobody can swap the file in between.
                real = os.path.realpath(photo.path)
                if not self.is_inside(real) or not os.path.samestat(os.fstat(file.fileno()), os.stat(real)):
                    raise ImageError(photo.name, LEADS_OUT)
                return file.read()
        except OSError as error:
            raise ImageError(photo.name, (error.strerror or str(error)).lower()) from None

    # Saving

    def save(self, wanted: Sequence[tuple[Photo, str, str]]) -> Saved:
        """Save captions; they are on disk on return.

        wanted: photos, the tags of the versions that the person saw, and captions.

        Raises CorrectionsError, OSError naming the file, or ImageError if a photo to score can no longer be read; then
        nothing is saved.
        """
        saved = Saved()
        with self.saving:
            self.refresh()
            chosen: list[tuple[Photo, str]] = []
            for photo, tag, text in wanted:
                if tag != self.tag(photo) or any(photo is other for other, _ in chosen):
                    saved.conflicts.append(photo)
                else:
                    chosen.append((photo, text))
            if not chosen:
                return saved
            before = [self.corrections.row(photo.path) for photo, _ in chosen]
            rows: dict[str, Row | None] = {}
            written = []
            with self.changing():
                for (photo, text), row in zip(chosen, before, strict=True):
                    rows[photo.path], files = self.write(photo, text, row, saved)
                    written.append(files)
                self.corrections.put(rows)
            steps = []
            with self.lock:
                for (photo, text), row, files in zip(chosen, before, written, strict=True):
                    state = photo.state
                    self.set(photo, text)
                    steps.append(Step(photo, state, photo.state, row, files))
                    saved.photos.append(photo)
            saved.save = self.saves.add(Save(steps))
        return saved

    def undo(self, number: int) -> Saved | None:
        """Restore what a save changed; return None if its number is no longer known.

        Raises CorrectionsError, or OSError naming the file; then nothing is undone.
        """
        saved = Saved(number)
        with self.saving:
            self.refresh()
            save = self.saves.kept.get(number)
            if save is None:
                return None
            saved.conflicts = [step.photo for step in save.steps if step.photo.state != step.since]
            if saved.conflicts:
                return saved
            with self.changing():
                for step in reversed(save.steps):
                    problems = self.keeper.take_back(step.files)
                    saved.problems += [f"{step.photo.name}: {problem}" for problem in problems]
                self.corrections.put({step.photo.path: step.row for step in save.steps})
            del self.saves.kept[number]
            with self.lock:
                for step in reversed(save.steps):
                    self.set(step.photo, None if step.row is None else step.row["captions"][0])
                    step.photo.state = step.before
                    saved.photos.append(step.photo)
        return saved

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Make the block's changes to files and list all or nothing; see `Journal`."""
        if not self.keeper.sinks:  # a single file is written completely or not at all anyway
            yield
            return
        ours = self.keeper.ours.copy()
        try:
            with self.corrections.journal.changing():
                yield
        except BaseException:
            self.keeper.ours = ours
            raise

    def refresh(self) -> None:
        """Take over others' changes to the corrections. Raises CorrectionsError and OSError."""
        if not self.corrections.read():
            return
        with self.lock:
            for photo in self.photos:
                row = self.corrections.row(photo.path)
                text = None if row is None else row["captions"][0]
                if text != photo.saved:
                    self.set(photo, text)

    def set(self, photo: Photo, text: str | None) -> None:
        """Note a photo's saved text."""
        self.change += 1
        photo.saved, photo.version, photo.changed = text, photo.version + 1, self.change
        photo.state = self.change

    def write(self, photo: Photo, text: str, before: Row | None, saved: Saved) -> tuple[Row, list[Written]]:
        """Write a caption to the sinks; return its new row and the files written.

        before: the row so far; all but its first caption stays.
        saved: gets the sinks' problems.

        Raises OSError as `Keeper.keep` does.
        """
        row = dict(before or {"file_path": self.corrections.name(photo.path)})
        row["captions"] = [text, *row.get("captions", [])[1:]]
        if photo.candidates:
            row["said"] = photo.candidates[0]["caption"]  # so that teaching can tell corrections from agreement
        if not self.keeper.sinks:
            return row, []
        known = self.paths(row.get("written"))
        files, problems = self.keeper.keep(self.as_caption(photo, text), known)
        saved.problems += [f"{photo.name}: {problem}" for problem in problems]
        if files:
            digests = known | {each.path: each.digest for each in files}
            row["written"] = {os.path.relpath(path, self.inside): digest for path, digest in digests.items()}
        return row, files

    def paths(self, written: Any) -> dict[str, str]:
        """Return a row's digests by absolute path; empty if a person put something else there."""
        known = written.items() if isinstance(written, dict) else ()
        return {os.path.normpath(os.path.join(self.inside, str(path))): str(digest) for path, digest in known}

    def as_caption(self, photo: Photo, text: str) -> Caption:
        """Return a saved text as a caption for the sinks."""
        found = next((each for each in photo.candidates if each["caption"] == text), None)
        if found is not None:
            log_prob, score = found["log_prob"], found["score"]
        else:
            log_prob, score = self.score(photo.path, text) if self.score else (0.0, 0.0)
        words = tuple(tokenize(text))
        caption = Caption(photo.path, (Candidate(text, words, (0.0,) * (len(words) + 1), log_prob, score),))
        return with_keywords(caption, 1, self.keywords) if self.keywords else caption  # the person is sure of each word


def without_waiting(path: str, flags: int) -> int:
    """Open a file without blocking, in case somebody put a pipe there."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
