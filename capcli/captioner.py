"""An engine with a checkpoint: images in, captions out, in a stream of bounded memory."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from capcli import __version__
from capcli.checkpoints.hub import find_checkpoint
from capcli.checkpoints.kinds import KINDS_FILE, read_kinds
from capcli.checkpoints.store import CHECKPOINT_FILES
from capcli.decoding.hypotheses import Hypotheses
from capcli.decoding.options import DecodingOptions
from capcli.decoding.restraint import content_words, cost
from capcli.engines.choose import engine_loader
from capcli.engines.engine import Engine
from capcli.images.decode import (
    Source,
    check_source,
    is_source,
    name_of,
    open_square_and_upright,
    read_whole,
    to_pixels,
)
from capcli.model.confidence import clues_of, confidence
from capcli.model.config import ModelConfig
from capcli.model.kinds import Kinds
from capcli.model.vocabulary import END, START, Vocabulary
from capcli.results import AttentionMap, Candidate, Caption, ImageError, Kind
from capcli.streaming import Aside, LookAhead, Workers

Pictures = tuple[Image.Image, Image.Image | None]  # the square for the model, and the photo if kept
Opened = tuple[str, Pictures | Caption | ImageError]  # name and outcome
BATCHES_AHEAD = 4  # ahead of those in progress
RIGHT_OR_WRONG = 0.5  # the confidence below which a caption is more likely wrong than right
CANNOT_JUDGE = "this checkpoint cannot tell how likely a caption is right"
BLANK = 127  # the grey of a blank picture, halfway between black and white


class Captioner:
    """Caption images with one engine; safe to use from several threads."""

    def __init__(
        self, engine: Engine, workers: int = 1, folder: Path | None = None, kinds: Kinds | None = None
    ) -> None:
        """Make a captioner.

        workers: see `load`.
        folder: of the engine's checkpoint, if from one.
        kinds: for the encoder to name; None names none.

        Raises ValueError for less than one worker.
        """
        if workers < 1:
            raise ValueError(f"workers is {workers}, not 1 or more")
        self.engine, self.workers, self.folder, self.kinds = engine, workers, folder, kinds
        self.config, self.vocabulary = engine.config, engine.vocabulary
        self.device, self.precision = engine.device, engine.precision
        self.options = DecodingOptions(**engine.config.decoding)

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        workers: int = 1,
        engine: str = "auto",
    ) -> Captioner:
        """Return a captioner for a checkpoint.

        model: a folder, or the Hub's `user/name[@revision]`; None or `bundled` is capcli's own.
        device: auto, cpu, cuda, cuda:1, mps …; auto prefers a GPU.
        precision: fp32, bf16, fp16 (not on a CPU), or auto: fp32 in ONNX Runtime; in PyTorch bf16 where native, else
            fp32. In bf16 and fp16 an image's result depends slightly on the rest of its batch.
        workers: batches in progress at once, each in a thread. ONNX Runtime shares the cores among them; in PyTorch
            each has as many threads as `torch.set_num_threads` says.
        engine: onnx, torch, or auto: ONNX Runtime on a CPU in fp32 for the bundled kind of encoder, else PyTorch; see
            `engines.choose`.

        Raises ModelError for an unusable checkpoint and ValueError for what is not there.
        """
        load = engine_loader(engine, device, precision, workers)  # before asking the Hub for anything
        folder = find_checkpoint(model)
        ready = load(folder)
        return cls(ready, workers, folder, read_kinds(folder, ready.config.encoder_kind.global_size))

    @overload  # a str is a sequence of str to the type checker, but always one path here
    def caption(  # type: ignore[overload-overlap]
        self, images: Source, num: int = ..., options: DecodingOptions | None = ...
    ) -> Caption: ...

    @overload
    def caption(
        self, images: Sequence[Source], num: int = ..., options: DecodingOptions | None = ...
    ) -> list[Caption]: ...

    def caption(
        self, images: Source | Sequence[Source], num: int = 1, options: DecodingOptions | None = None
    ) -> Caption | list[Caption]:
        """Caption one image, or each of a sequence.

        images: paths, Pillow images, or encoded images as bytes or open binary files.
        num: candidates per image, 1 or more.
        options: how to decode; None takes the checkpoint's tuned ones.

        Raises ImageError for the first unreadable image, TypeError for what is no image, and ValueError for options
        that cannot be followed.
        """
        one = is_source(images)
        captions = []
        for result in self.stream([images] if one else images, num, options):  # type: ignore[list-item, arg-type]
            if isinstance(result, ImageError):
                raise result
            captions.append(result)
        return captions[0] if one else captions

    def stream(
        self,
        images: Iterable[Source | Caption | ImageError],
        num: int = 1,
        options: DecodingOptions | None = None,
        batch_size: int = 32,
        max_pixels: int | None = None,
        photo_side: int = 0,
    ) -> Iterator[Caption | ImageError]:
        """Yield a caption for each image, lazily and in order, or an ImageError if it cannot be read.

        Threads list and decode images ahead of the captions, at most a batch per worker plus four (plus one if photos
        are kept), so memory does not grow with the number of images.

        images: as for `caption`; Captions and ImageErrors are passed on. An open file is read whole in its turn, and
            never closed.
        num: candidates per image, 1 or more.
        options: how to decode; None takes the checkpoint's tuned ones.
        batch_size: images per pass through the model, 1 or more; fewer at first, for an early first caption.
        max_pixels: larger images are refused, as are those above twice Pillow's own Image.MAX_IMAGE_PIXELS; None is 100
            million.
        photo_side: longest side in pixels of photos kept in captions; 0 keeps none.

        Raises ValueError for options that cannot be followed, and TypeError for what is no image.
        """
        for batch in self.batches(images, num, options, batch_size, max_pixels, photo_side):
            yield from batch

    def batches(
        self,
        images: Iterable[Source | Caption | ImageError],
        num: int = 1,
        options: DecodingOptions | None = None,
        batch_size: int = 32,
        max_pixels: int | None = None,
        photo_side: int = 0,
    ) -> Iterator[list[Caption | ImageError]]:
        """Yield what `stream` yields, in lists as they become ready.

        Parameters and errors are those of `stream`.
        """
        if num < 1 or batch_size < 1:
            raise ValueError(f"num is {num} and batch_size {batch_size}; both are 1 or more")
        if is_source(images):
            raise TypeError("expected several images, got one; put it into a list")
        if hasattr(images, "__array__") or not isinstance(images, Iterable):
            check_source(images)
        options = options or self.options
        generator = self.engine.make_generator(options.seed) if options.draws else None

        def open_image(image: Source | Caption | ImageError) -> Opened:
            return self.open(image, photo_side, max_pixels)

        def work(batch: list[Opened | Exception]) -> list[Caption | ImageError]:
            return self.caption_opened(batch, num, options, generator)

        at_once = 1 if options.draws else self.workers  # draws are in one order
        # With a seed every batch must draw the same numbers again, and so hold the same images.
        limit = ((1 if photo_side else BATCHES_AHEAD) + at_once) * batch_size
        preparing = Aside(self.engine.prepare)
        sources = preparing_at_first(with_files_read(images), preparing)
        ahead = LookAhead(open_image, sources, limit, options.seed is not None)
        workers = Workers(at_once, ahead, batch_size, work)
        try:
            yield from workers
        finally:
            workers.close()
            preparing.close()

    def open(self, image: Source | Caption | ImageError, photo_side: int = 0, max_pixels: int | None = None) -> Opened:
        """Return an image's name with its pictures, or the ImageError of an unreadable one.

        Parameters are those of `stream`; a Caption or ImageError is passed on.

        Raises TypeError for what is no image.
        """
        try:
            if isinstance(image, ImageError):
                raise image
            if isinstance(image, Caption):
                return image.path, image
            return name_of(image), open_square_and_upright(image, self.config.image_size, photo_side, max_pixels)
        except ImageError as error:  # without its traceback, which would keep the image
            return error.path, error.with_traceback(None)

    def caption_opened(
        self, batch: list[Opened | Exception], num: int, options: DecodingOptions, generator: Any
    ) -> list[Caption | ImageError]:
        """Return a caption for each opened picture; Captions and ImageErrors stay as they are.

        batch: opened images; an exception among them is raised.
        num: candidates per image, 1 or more.
        generator: see `caption_pixels`.
        """
        outcomes: list[Caption | ImageError | None] = []
        names, photos, pixels = [], [], []
        for opened in batch:
            if isinstance(opened, Exception):
                raise opened
            name, outcome = opened
            if isinstance(outcome, (Caption, ImageError)):
                outcomes.append(outcome)
                continue
            square, photo = outcome
            outcomes.append(None)
            names.append(name)
            photos.append(photo)
            pixels.append(to_pixels(square))
        found = self.caption_pixels(np.stack(pixels), names, num, options, generator) if pixels else []
        captions = (replace(caption, photo=photo) for caption, photo in zip(found, photos, strict=True))
        return [outcome or next(captions) for outcome in outcomes]

    def caption_pixels(
        self, pixels: np.ndarray, names: list[str], num: int, options: DecodingOptions, generator: Any = None
    ) -> list[Caption]:
        """Return a caption for each picture.

        pixels: (batch, size, size, 3) uint8.
        names: the captions' paths.
        generator: the engine's, for draws; None makes one from the options' seed.
        """
        features = self.engine.encode(pixels)
        found = self.engine.search(features, num, options, generator)
        candidates = candidates_of(self.ranked(found, features, options), self.vocabulary, self.config)
        least = self.config.unsure_below
        gains = [None] * len(names) if least is None else self.gains([several[0] for several in candidates])
        kinds = [()] * len(names) if self.kinds is None else self.kinds.told(self.engine.vectors(features))
        sure = [
            self.confidence(several[0], gain, told)
            for several, gain, told in zip(candidates, gains, kinds, strict=True)
        ]
        one_colour = (pixels == pixels[:, :1, :1]).all((1, 2, 3)).tolist()
        return [
            Caption(
                name,
                tuple(several[:num]),
                gain,
                confidence=likely,
                unsure=plain or (is_less(gain, least) if likely is None else likely < RIGHT_OR_WRONG),
                kinds=told,
            )
            for name, several, gain, likely, plain, told in zip(
                names, candidates, gains, sure, one_colour, kinds, strict=True
            )
        ]

    def confidence(self, candidate: Candidate, gain: float | None, kinds: Sequence[Kind]) -> float | None:
        """Return how likely a caption is right, 0 to 1; None if the checkpoint cannot tell.

        gain: in nats; None if unknown.
        kinds: shown in the image.
        """
        if not self.config.confidence or gain is None:
            return None
        return confidence(self.clues(candidate, gain, kinds), self.config.confidence)

    def clues(self, candidate: Candidate, gain: float, kinds: Sequence[Kind]) -> list[float]:
        """Return the clues to whether a caption is right, see `model.confidence`."""
        return clues_of(candidate, gain, kinds, self.kinds.by_name if self.kinds else {})

    def ranked(self, found: Hypotheses[np.ndarray], features: Any, options: DecodingOptions) -> Hypotheses[np.ndarray]:
        """Re-rank hypotheses, best first, with `added` on top of their scores.

        features: the engine's, of the photos.
        """
        added = self.added(features, found.words, options)
        if added is None:
            return found
        scores = found.scores + added
        order = np.argsort(-scores, axis=1, kind="stable")
        rows = np.arange(len(order))[:, None]
        arrays = vars(found) | {"scores": scores}
        return Hypotheses(**{name: None if array is None else array[rows, order] for name, array in arrays.items()})

    def added(self, features: Any, words: np.ndarray, options: DecodingOptions) -> np.ndarray | None:
        """Return what agreement and restraint add to sentences' scores, (images, sentences); None for nothing.

        features: the engine's, of the images.
        words: see `Engine.agree`.
        """
        parts = []
        if options.agreement and self.config.agreement_size is not None and words.shape[2]:
            agreed = self.engine.agree(features, words)
            if self.config.usual_agreement is not None:  # so that scores of both decoders are on one scale
                agreed = np.where((agreed == 0).all(1, keepdims=True), self.config.usual_agreement, agreed)
            parts.append(options.agreement * agreed)
        if options.restraint:
            parts.append(-options.restraint * cost(words, self.content))
        return sum(parts[1:], parts[0]) if parts else None

    @functools.cached_property
    def content(self) -> np.ndarray:
        """Return which words of the vocabulary name something."""
        return content_words(self.vocabulary)

    def gains(self, sentences: Sequence[Candidate]) -> list[float]:
        """Return how much likelier, in nats, each sentence's image makes it than a blank picture."""
        ids = self.vocabulary.ids
        words = [[*(ids[word] for word in sentence.words), END] for sentence in sentences]
        gains = [sentence.log_prob for sentence in sentences]
        state = self.engine.start(self.blank)
        beams, begun = [0] * len(words), {(0, START): 0}  # sentences that begin alike share a beam, for half the work
        for time in range(max(map(len, words), default=0)):
            parents, previous = np.array(list(begun)).T[:, None]
            log_probs, state = self.engine.step(previous, state, parents)
            begun = {}
            for row, sentence in enumerate(words):
                if time < len(sentence):
                    gains[row] -= float(log_probs[0, beams[row], sentence[time]])
                    beams[row] = begun.setdefault((beams[row], sentence[time]), len(begun))
        return gains

    def fingerprint(self, num: int, options: DecodingOptions) -> bytes:
        """Return a digest of all that captions depend on besides the image, unless drawn at random.

        That is the checkpoint's files, decoding options, num, engine, number format, kind of device and capcli's
        version.

        Raises OSError for unreadable files of the checkpoint, and ValueError if the model came from none.
        """
        import hashlib
        import json

        device = self.device.partition(":")[0]
        how = asdict(options) | {"seed": None}
        how |= {"num": num, "engine": self.engine.name, "precision": self.precision, "device": device}
        how |= {"version": __version__, "files": self.files_digest.hex()}
        return hashlib.sha256(json.dumps(how, sort_keys=True).encode()).digest()

    @functools.cached_property
    def files_digest(self) -> bytes:
        """Return the SHA-256 of the checkpoint's files. Raises as `version` does."""
        import hashlib

        if self.folder is None:
            raise ValueError("this captioner was not loaded from a checkpoint folder")
        digest = hashlib.sha256()
        for name in (*CHECKPOINT_FILES, *([KINDS_FILE] if self.kinds else [])):
            with open(self.folder / name, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.digest()

    @functools.cached_property
    def version(self) -> str:
        """Return what tells the checkpoint from others, also of its name: 8 hexadecimal digits of its files' SHA-256.

        Raises OSError for unreadable files, and ValueError if the model came from no folder.
        """
        return self.files_digest.hex()[:8]

    @functools.cached_property
    def blank(self) -> Any:
        """Return the engine's features of a blank picture."""
        size = self.config.image_size
        return self.engine.encode(np.full((1, size, size, 3), BLANK, np.uint8))


def is_less(gain: float | None, least: float | None) -> bool:
    """Return whether a gain is below the least; None is not known."""
    return gain is not None and least is not None and gain < least


def candidates_of(found: Hypotheses[np.ndarray], vocabulary: Vocabulary, config: ModelConfig) -> list[list[Candidate]]:
    """Return hypotheses as candidates, best first, per image. vocabulary, config: of the model that found them."""
    words, lengths, scores = found.words.tolist(), found.lengths.tolist(), found.scores.tolist()
    log_probs = found.word_log_probs.tolist()
    weights = None
    if found.attention is not None:
        weights = found.attention.reshape(*found.attention.shape[:3], *config.grid)
    images = []
    for i in range(len(words)):
        candidates = []
        for j, length in enumerate(lengths[i]):
            if not length:  # fewer sentences exist than the beam is wide
                continue
            ids, each = words[i][j][:length], log_probs[i][j][: length + 1]
            attention_map = None
            if weights is not None:
                # Copies: a view would keep, and pickle, its whole batch, and could not be changed in place.
                attention_map = AttentionMap(
                    weights[i, j, :length].copy(),
                    None if found.gates is None else found.gates[i, j, :length].copy(),
                    config.encoder_kind.cell_offset,
                )
            candidates.append(
                Candidate(
                    vocabulary.decode(ids),
                    tuple(vocabulary.words[index] for index in ids),
                    tuple(each),
                    sum(each),
                    scores[i][j],
                    attention_map,
                )
            )
        images.append(candidates)
    return images


def with_files_read(images: Iterable[Source | Caption | ImageError]) -> Iterator[Source | Caption | ImageError]:
    """Yield images, open files already read: they may be closed before a thread gets to them.

    images: see `Captioner.stream`; an unreadable file becomes an ImageError.
    """
    for image in images:
        if not isinstance(image, (Caption, ImageError, str, os.PathLike, bytes, Image.Image)):
            check_source(image)
            try:
                image = read_whole(image)
            except ImageError as error:
                image = error
        yield image


def preparing_at_first(
    images: Iterable[Source | Caption | ImageError], preparing: Aside
) -> Iterator[Source | Caption | ImageError]:
    """Yield images, preparing the engine while the first image that needs it is opened.

    images: see `Captioner.stream`.
    """
    for image in images:
        if not isinstance(image, (Caption, ImageError)):
            preparing.start()
        yield image
