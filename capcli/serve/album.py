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
from capcli.model.vocabulary import tokenize
from capcli.outputs.cache import CaptionCache, look
from capcli.outputs.keywords import with_keywords
from capcli.outputs.originals import LEADS_OUT
from capcli.outputs.rows import as_candidate
from capcli.outputs.sink import Sink
from capcli.results import Candidate, Caption, ImageError
from capcli.serve.corrections import Corrections, Row
from capcli.serve.keeping import Keeper, Known, Written
from capcli.serve.photos import Photo, content_of
from capcli.serve.saves import Save, Saved, Saves, Step
from capcli.serve.texts import first_text
from capcli.streaming import ahead

CANDIDATES = 5  # captions of a photo
LOOKED_AHEAD = 64  # photos that are looked up in the cache ahead


class Album:
    """Hold a folder's photos. Safe in several threads."""

    def __init__(
        self,
        folder: str,
        corrections: Corrections,
        keeper: Keeper,
        score: Callable[[Captioner, str, str], tuple[float, float]] | None = None,
        keywords: int = 0,
        readers: Sequence[Sink] = (),
    ) -> None:
        """Begin without photos.

        corrections: earlier saves; takes new ones.
        keeper: writes beside photos and into them.
        score: log-probability and score of a person's sentence for a photo; None where nothing shows them.
        keywords: most that a saved caption gets.
        """
        self.folder, self.inside = folder, os.path.realpath(folder)
        self.corrections, self.keeper, self.score = corrections, keeper, score
        self.keywords, self.readers = keywords, readers
        self.run = secrets.token_hex(4)  # tells another run's versions from this one's
        self.lock, self.saving = threading.RLock(), threading.Lock()
        self.photos: list[Photo] = []
        self.images: list[str | ImageError] = []  # what is captioned, photo by photo
        self.limits: tuple[int, int | None] = 32, None  # of a batch, and of an image's pixels
        self.round: object = None  # the captioning that counts
        self.captioner: Captioner | None = None
        self.saves = Saves()
        self.change = 0
        self.listed = self.complete = self.closed = False
        self.thread: threading.Thread | None = None

    # Captioning

    def start(
        self,
        images: Iterable[str | ImageError],
        captioner: Captioner,
        batch_size: int,
        max_pixels: int | None,
        cache: CaptionCache | None = None,
    ) -> None:
        """List the photos and caption them in a thread.

        images: paths, and ImageErrors for what cannot be listed.
        captioner, batch_size, max_pixels: as in `Captioner.stream`.
        cache: as `caption` takes it.
        """
        self.limits = batch_size, max_pixels
        self.caption(self.listing(images), captioner, cache)

    def caption(
        self, images: Iterable[str | ImageError], captioner: Captioner, cache: CaptionCache | None = None
    ) -> None:
        """Caption all photos in a thread; another such thread ends after its batch.

        images: the photos, as `listing` yields them.
        cache: gives captions and keeps those that are made; closed at the end. None for none.
        """
        with self.lock:
            self.round = mine = object()
            self.captioner, self.complete = captioner, False
            for photo in self.photos:
                photo.done = False
                if photo.candidates:
                    photo.before = photo.candidates[0]["caption"]

        def work() -> None:
            given = images if cache is None else cache.recall(ahead(look, images, LOOKED_AHEAD))
            batches = captioner.batches(given, CANDIDATES, captioner.options, *self.limits)
            number = 0
            with contextlib.closing(cache) if cache else contextlib.nullcontext():
                for batch in batches if cache is None else cache.remember(batches):
                    if self.closed or not self.take(number, batch, mine):
                        return
                    number += len(batch)
                if self.round is mine:
                    self.complete = True

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def listing(self, images: Iterable[str | ImageError]) -> Iterator[str | ImageError]:
        """Make a photo of each image first, then yield them all for captioning."""
        begin = len(self.images)
        for image in images:
            path = image.path if isinstance(image, ImageError) else image
            if isinstance(image, str) and not self.is_inside(image):
                image = ImageError(image, LEADS_OUT)
            row = self.corrections.row(path)
            with self.lock:
                self.change += 1
                name = os.path.relpath(path, self.folder)
                photo = Photo(len(self.photos), path, name, changed=self.change)
                photo.saved, photo.said = kept_in(row)
                self.photos.append(photo)
            self.images.append(image)
            if self.closed:
                return
        self.listed = True
        yield from self.images[begin:]

    def take(self, number: int, batch: Sequence[Caption | ImageError], taken_in: object = None) -> bool:
        """Take the captions of photos from `number` on; return whether they still count.

        taken_in: the round in which they were made; another round's do not count.
        """
        photos = self.photos[number : number + len(batch)]
        texts = [self.text_of(photo) for photo in photos]  # before the lock, as files are read
        with self.lock:
            if taken_in is not None and taken_in is not self.round:
                return False
            for photo, result, (text, place) in zip(photos, batch, texts, strict=False):
                self.change += 1
                photo.changed, photo.done = self.change, True
                photo.content = content_of(photo.path)
                if isinstance(result, ImageError):
                    photo.error = result.reason
                else:
                    photo.candidates = [as_candidate(candidate) for candidate in result.candidates]
                    photo.unsure, photo.confidence = result.unsure, result.confidence
                    photo.text, photo.place, photo.error = text, place, None
            return True

    def text_of(self, photo: Photo) -> tuple[str, str] | tuple[None, None]:
        """Return what a photo's files say of it, and where; None if they say nothing."""
        return first_text(self.readers, photo.path, self.corrections.journal.may_change) or (None, None)

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
            "confidence": photo.confidence,
            "before": photo.before,
            "error": photo.error,
            "text": photo.text,
            "place": photo.place,
            "saved": photo.saved,
            "said": photo.said,
        }

    def since(self, change: int) -> dict[str, Any]:
        """Return the photos changed since an earlier answer's `change`; 0 gives all."""
        with self.lock:
            photos = [self.shown(photo) for photo in self.photos if photo.changed > change]
            done = sum(photo.done for photo in self.photos)
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

    def save(self, wanted: Sequence[tuple[Photo, str, str | None]]) -> Saved:
        """Save captions; they are on disk on return.

        wanted: photos, the tags of the versions that the person saw, and captions; None removes what was saved.

        Raises CorrectionsError, OSError naming the file, or ImageError if a photo to score can no longer be read; then
        nothing is saved.
        """
        saved = Saved()
        with self.saving:
            self.refresh()
            chosen: list[tuple[Photo, str | None]] = []
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
                    change = self.remove(photo, row, saved) if text is None else self.write(photo, text, row, saved)
                    rows[photo.path], files = change
                    written.append(files)
                self.corrections.put(rows)
            steps = []
            with self.lock:
                for (photo, _), row, files in zip(chosen, before, written, strict=True):
                    state = photo.state
                    self.set(photo, rows[photo.path])
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
                    self.set(step.photo, step.row)
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
                if kept_in(row)[0] != photo.saved:
                    self.set(photo, row)

    def set(self, photo: Photo, row: Row | None) -> None:
        """Note what is saved for a photo."""
        self.change += 1
        photo.saved, photo.said = kept_in(row)
        photo.version, photo.changed, photo.state = photo.version + 1, self.change, self.change
        if row is None:
            photo.text, photo.place = self.text_of(photo)

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
        known = self.written(row)
        files, problems = self.keeper.keep(self.as_caption(photo, text), known, photo.text)
        saved.problems += [f"{photo.name}: {problem}" for problem in problems]
        if files:
            all_known = known | {each.path: each.known for each in files}
            row["written"] = {os.path.relpath(path, self.inside): each.noted for path, each in all_known.items()}
        return row, files

    def remove(self, photo: Photo, before: Row | None, saved: Saved) -> tuple[Row | None, list[Written]]:
        """Restore the files that saves of a photo wrote; return what is left of its row, and the files.

        before: the row so far; all but its first caption stays.
        saved: gets a line for each file that keeps the text.

        Raises OSError as `Keeper.remove` does.
        """
        row = dict(before or {})
        files, problems = self.keeper.remove(photo.path, self.written(row))
        saved.problems += [f"{photo.name}: {problem}" for problem in problems]
        row["captions"] = row.get("captions", [])[1:]
        for name in ("said", "written"):
            row.pop(name, None)
        return row if row["captions"] else None, files

    def written(self, row: Row) -> dict[str, Known]:
        """Return what a row says of the files that its caption went to, by absolute path."""
        noted = row.get("written")
        known = noted.items() if isinstance(noted, dict) else ()  # a person may have put something else there
        return {os.path.normpath(os.path.join(self.inside, str(path))): Known.of(each) for path, each in known}

    def as_caption(self, photo: Photo, text: str) -> Caption:
        """Return a saved text as a caption for the sinks."""
        found = next((each for each in photo.candidates if each["caption"] == text), None)
        if found is not None:
            log_prob, score = found["log_prob"], found["score"]
        else:
            log_prob, score = (0.0, 0.0)
            if self.score is not None and self.captioner is not None:
                log_prob, score = self.score(self.captioner, photo.path, text)
        words = tuple(tokenize(text))
        caption = Caption(photo.path, (Candidate(text, words, (0.0,) * (len(words) + 1), log_prob, score),))
        return with_keywords(caption, 1, self.keywords) if self.keywords else caption  # the person is sure of each word


def kept_in(row: Row | None) -> tuple[str | None, str | None]:
    """Return a row's caption, and what the model said when that was saved; None for what is not there."""
    if row is None:
        return None, None
    said = row.get("said")
    return row["captions"][0], said if isinstance(said, str) else None


def without_waiting(path: str, flags: int) -> int:
    """Open a file without blocking, in case somebody put a pipe there."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
