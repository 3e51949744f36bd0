"""A checkpoint that an engine runs: images in, captions out, in a stream of bounded memory."""

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

Pictures = tuple[Image.Image, Image.Image | None]  # the square for the model, and the photo if it is kept
Opened = tuple[str, Pictures | Caption | ImageError]  # its name, and what became of it
BATCHES_AHEAD = 4  # of those that are worked on
RIGHT_OR_WRONG = 0.5  # the confidence below which a caption is more likely wrong than right
BLANK = 127  # the grey of a picture with nothing on it, halfway between black and white


class Captioner:
    """Captions images with one engine; several threads may use one captioner at the same time."""

    def __init__(
        self, engine: Engine, workers: int = 1, folder: Path | None = None, kinds: Kinds | None = None
    ) -> None:
        """Make a captioner.

        workers: as `load` takes them.
        folder: of the engine's checkpoint, if it came from one.
        kinds: what the encoder tells apart by itself; None names none.

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
        device: auto, cpu, cuda, cuda:1, mps …; auto takes a GPU where there is one.
        precision: fp32, bf16, fp16 (not on a CPU), or auto: fp32 in ONNX Runtime; in PyTorch bf16 where the device
            multiplies bfloat16 numbers itself, else fp32. In bf16 and fp16 what an image gives depends a little on the
            others in its batch.
        workers: batches that are worked on side by side, each in a thread. ONNX Runtime shares the cores among them;
            in PyTorch each has as many threads for its tensors as `torch.set_num_threads` says.
        engine: onnx, torch, or auto: ONNX Runtime on a CPU in fp32 for the bundled kind of encoder, else PyTorch; see
            `engines.choose`.

        Raises ModelError for a checkpoint that cannot be used and ValueError for what is not there.
        """
        load = engine_loader(engine, device, precision, workers)  # before the Hub is asked for anything
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
        """Caption one image, or each image of a sequence.

        images: paths, Pillow images, and encoded images as bytes or open binary files.
        num: candidates per image, 1 or more.
        options: how to decode; None takes those that the checkpoint was tuned to.

        Raises ImageError for the first image that cannot be read, TypeError for anything that is no image, and
        ValueError for options that cannot be followed.
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

        Images are listed and decoded in threads. At most as many batches as there are workers, plus four (plus one if
        photos are kept), are ahead of the captions, so the memory needed does not grow with the number of images.

        images: as `caption` takes them, and Captions and ImageErrors, which are passed on. An open file is read whole
            when its turn comes, and never closed.
        num: candidates per image, 1 or more.
        options: how to decode; None takes those that the checkpoint was tuned to.
        batch_size: images that go through the model together, 1 or more; fewer at first, so that the first caption
            comes at once.
        max_pixels: larger images are refused, and so are those above twice Pillow's own Image.MAX_IMAGE_PIXELS; None
            is 100 million.
        photo_side: captions keep their photo, scaled down so that no side is longer than this, in pixels; 0 keeps none.

        Raises ValueError for options that cannot be followed, and TypeError for anything that is no image.
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
        """Yield what `stream` yields, in lists of those that are ready together.

        images, num, options, batch_size, max_pixels, photo_side: as `stream` takes them.

        Raises what `stream` raises.
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

        at_once = 1 if options.draws else self.workers  # what is drawn is drawn in one order
        # With a seed every batch is to draw the same numbers again, so it has to hold the same images.
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
        """Return an image's name, and either its pictures or the ImageError of one that cannot be read.

        image: as `caption` takes it, or a Caption or an ImageError, which are passed on.
        photo_side, max_pixels: as `stream` takes them.

        Raises TypeError for what is no image.
        """
        try:
            if isinstance(image, ImageError):
                raise image
            if isinstance(image, Caption):
                return image.path, image
            return name_of(image), open_square_and_upright(image, self.config.image_size, photo_side, max_pixels)
        except ImageError as error:  # kept as a value: its traceback would keep the image
            return error.path, error.with_traceback(None)

    def caption_opened(
        self, batch: list[Opened | Exception], num: int, options: DecodingOptions, generator: Any
    ) -> list[Caption | ImageError]:
        """Return a caption for each picture that was opened, and the Captions and ImageErrors as they are.

        batch: the images as opened; an exception among them is raised.
        num: candidates per image, 1 or more.
        options: how to decode.
        generator: the engine's, for random draws; None makes one from the options' seed.
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
        names: what the captions give as their paths.
        generator: the engine's, of what is drawn; None makes one by the options' seed.
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
                unsure=plain
                or (least is not None and gain is not None and gain < least)
                or (likely is not None and likely < RIGHT_OR_WRONG),
                kinds=told,
            )
            for name, several, gain, likely, plain, told in zip(
                names, candidates, gains, sure, one_colour, kinds, strict=True
            )
        ]

    def confidence(self, candidate: Candidate, gain: float | None, kinds: Sequence[Kind]) -> float | None:
        """Return how likely a caption is right, 0 to 1; None where the checkpoint cannot tell.

        candidate: the caption.
        gain: what its image adds to its log-probability; None where that is not known.
        kinds: what the image shows above all.
        """
        if not self.config.confidence or gain is None:
            return None
        return confidence(self.clues(candidate, gain, kinds), self.config.confidence)

    def clues(self, candidate: Candidate, gain: float, kinds: Sequence[Kind]) -> list[float]:
        """Return what tells how likely a caption is right, see `model.confidence`."""
        return clues_of(candidate, gain, kinds, self.kinds.by_name if self.kinds else {})

    def ranked(self, found: Hypotheses[np.ndarray], features: Any, options: DecodingOptions) -> Hypotheses[np.ndarray]:
        """Return hypotheses, best first, after what `added` says was added to their scores.

        features: the engine's, of the photos.
        options: say how much agreement and restraint count.
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
        """Return what is added to the scores of sentences once they are found, (images, sentences); None for nothing.

        features: the engine's, of the images.
        words: as `Engine.agree` takes them.
        options: say how much agreement and restraint count.
        """
        parts = []
        if options.agreement and self.config.agreement_size is not None and words.shape[2]:
            parts.append(options.agreement * self.engine.agree(features, words))
        if options.restraint:
            parts.append(-options.restraint * cost(words, self.content))
        return sum(parts[1:], parts[0]) if parts else None

    @functools.cached_property
    def content(self) -> np.ndarray:
        """Return which words of the vocabulary name something."""
        return content_words(self.vocabulary)

    def gains(self, sentences: Sequence[Candidate]) -> list[float]:
        """Return for each how much more likely its image makes it than a blank picture, in natural logarithms."""
        ids = self.vocabulary.ids
        words = [[*(ids[word] for word in sentence.words), END] for sentence in sentences]
        gains = [sentence.log_prob for sentence in sentences]
        state = self.engine.start(self.blank)
        beams, begun = [0] * len(words), {(0, START): 0}  # sentences that begin alike share a beam: half the work
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
        """Return a digest of all that captions depend on beside the image, unless they are drawn at random.

        These are the checkpoint's files, the decoding options, num, the engine, the number format, the kind of device
        and capcli's version.

        num: candidates per image, 1 or more.
        options: how to decode.

        Raises OSError if the checkpoint's files cannot be read, and ValueError if the model came from none.
        """
        import hashlib
        import json

        if self.folder is None:
            raise ValueError("this captioner was not loaded from a checkpoint folder")
        device = self.device.partition(":")[0]
        how = asdict(options) | {"seed": None}
        how |= {"num": num, "engine": self.engine.name, "precision": self.precision, "device": device}
        digest = hashlib.sha256(json.dumps(how | {"version": __version__}, sort_keys=True).encode())
        for name in (*CHECKPOINT_FILES, *([KINDS_FILE] if self.kinds else [])):
            with open(self.folder / name, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.digest()

    @functools.cached_property
    def blank(self) -> Any:
        """Return the engine's features of a picture without anything on it."""
        size = self.config.image_size
        return self.engine.encode(np.full((1, size, size, 3), BLANK, np.uint8))


def candidates_of(found: Hypotheses[np.ndarray], vocabulary: Vocabulary, config: ModelConfig) -> list[list[Candidate]]:
    """Return hypotheses as candidates, best first, for each image.

    Their arrays are copies: a view would keep, and pickle, its whole batch, and could not be changed in place.

    vocabulary, config: of the model that found them.
    """
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
    """Yield images, open files among them read now: they may be closed before a thread gets to them.

    images: as `Captioner.stream` takes them; an ImageError takes the place of a file that cannot be read.
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
    """Yield images, and have the engine get ready while the first that it is needed for is opened.

    images: as `Captioner.stream` takes them.
    preparing: gets the engine ready.
    """
    for image in images:
        if not isinstance(image, (Caption, ImageError)):
            preparing.start()
        yield image
