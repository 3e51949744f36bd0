"""A checkpoint on a device: images in, captions out, in a stream of bounded memory."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import torch
from PIL import Image
from torch import Generator, Tensor

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.hub import find_checkpoint
from capcli.decoding.beam_search import Hypotheses
from capcli.decoding.sampling import DecodingOptions, decode, make_generator
from capcli.images.decode import Source, check_source, is_source, name_of, open_square, read_whole, to_pixels
from capcli.model.encoders import Features, fold_batch_norm
from capcli.model.precision import PRECISIONS, choose_precision
from capcli.model.vocabulary import END, START
from capcli.results import AttentionMap, Candidate, Caption, ImageError
from capcli.streaming import LookAhead, Workers

Opened = tuple[str, Image.Image | ImageError]  # its name, and what became of it
BATCHES_AHEAD = 4  # of those that are worked on
ENCODED_AT_ONCE = 4  # images for each thread
BLANK = 127  # the grey of a picture with nothing on it, halfway between black and white
DEVICES = ("cuda", "mps", "cpu")


class Captioner:
    """Captions images with one model on one device; several threads may use one captioner at the same time."""

    def __init__(self, model: CaptionModel, device: torch.device, precision: str = "auto", workers: int = 1) -> None:
        """model: stays as it is but for the device; captions come from `encoder` and `decoder`, faster copies.

        precision, workers: as `load` takes them. Raises ValueError for a precision that this device does not have.
        """
        if workers < 1:
            raise ValueError(f"workers is {workers}, not 1 or more")
        self.workers = workers
        self.precision = choose_precision(precision, device)
        self.model = model.to(device).eval()
        dtype = PRECISIONS[self.precision]
        self.encoder = fold_batch_norm(model.encoder).in_number_format(dtype)
        self.encoder.to(memory_format=torch.channels_last)
        self.decoder = model.decoder if dtype == torch.float32 else model.decoder.in_number_format(dtype)
        self.device = device
        self.options = DecodingOptions(**model.config.decoding)

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        workers: int = 1,
    ) -> Captioner:
        """A captioner for a checkpoint folder or the Hub's `user/name[@revision]` (None or `bundled`: capcli's own).

        device: auto, cpu, cuda, cuda:1, mps …. precision: fp32, bf16, fp16 (not on a CPU), or auto: bf16 where the
        device multiplies bfloat16 numbers itself, else fp32; rounded so, what an image gives depends a little on the
        others in its batch. workers: batches that are worked on side by side, each in a thread with as many threads
        for its tensors as `torch.set_num_threads` says. Raises ModelError for a checkpoint that cannot be used and
        ValueError for a device or a precision that is not there.
        """
        chosen = choose_device(device)
        choose_precision(precision, chosen)  # before the Hub is asked for anything
        return cls(CaptionModel.load(find_checkpoint(model)), chosen, precision, workers)

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
        """Caption one image, or each of a list: paths, encoded images as bytes or open binary files, Pillow images.

        Raises ImageError for the first that cannot be read, and TypeError for what is none of these.
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
        images: Iterable[Source | ImageError],
        num: int = 1,
        options: DecodingOptions | None = None,
        batch_size: int = 32,
        max_pixels: int | None = None,
    ) -> Iterator[Caption | ImageError]:
        """Caption images in their order, lazily; an image that cannot be read comes out as its ImageError, and one that
        is an ImageError already as itself.

        images: as `caption` takes them; a file is read whole when its turn comes, and never closed. num: candidates per
        image. options: None takes those chosen for the checkpoint. batch_size: images that go through the model
        together, fewer at first so that the first caption comes at once. max_pixels: larger images are refused (None:
        100 million), and so are those above twice Pillow's own Image.MAX_IMAGE_PIXELS. The images are listed and
        decoded in threads. At most four batches more than there are workers are ahead of the captions given out, so the
        memory needed does not grow with the number of images. Raises ValueError for options that cannot be followed,
        and TypeError for what is no image.
        """
        for batch in self.batches(images, num, options, batch_size, max_pixels):
            yield from batch

    def batches(
        self,
        images: Iterable[Source | ImageError],
        num: int = 1,
        options: DecodingOptions | None = None,
        batch_size: int = 32,
        max_pixels: int | None = None,
    ) -> Iterator[list[Caption | ImageError]]:
        """As `stream`, in lists of what is known at a time."""
        if num < 1 or batch_size < 1:
            raise ValueError(f"num is {num} and batch_size {batch_size}; both are 1 or more")
        if is_source(images):
            raise TypeError("this is one image where several are expected; put it into a list")
        if hasattr(images, "__array__") or not isinstance(images, Iterable):
            check_source(images)
        options = options or self.options
        generator = make_generator(options.seed, self.device) if options.draws else None
        size = self.model.config.image_size

        def open_image(image: Source | ImageError) -> Opened:
            try:
                if isinstance(image, ImageError):
                    raise image
                return name_of(image), open_square(image, size, max_pixels)
            except ImageError as error:  # kept as a value: its traceback would keep the image
                return error.path, error.with_traceback(None)

        def work(batch: list[tuple[int, Opened | Exception]]) -> dict[int, Caption | ImageError]:
            return self.caption_opened(batch, num, options, generator)

        at_once = 1 if options.draws else self.workers  # what is drawn is drawn in one order
        # With a seed every batch is to draw the same numbers again, so it has to hold the same images.
        ahead = LookAhead(open_image, taken(images), (BATCHES_AHEAD + at_once) * batch_size, options.seed is not None)
        workers = Workers(at_once, ahead, batch_size, work)
        results: dict[int, Caption | ImageError] = {}
        given = 0
        try:
            for found in workers:
                results |= found
                # What is ready may lie behind an image that is not.
                ready = []
                while given in results:
                    ready.append(results.pop(given))
                    given += 1
                ahead.release(len(ready))
                if ready:
                    yield ready
        finally:
            workers.close()

    def caption_opened(
        self,
        batch: list[tuple[int, Opened | Exception]],
        num: int,
        options: DecodingOptions,
        generator: Generator | None,
    ) -> dict[int, Caption | ImageError]:
        """A caption for each picture, or its ImageError, by the picture's number."""
        found: dict[int, Caption | ImageError] = {}
        numbers, names, pixels = [], [], []
        for number, opened in batch:
            if isinstance(opened, Exception):
                raise opened
            name, outcome = opened
            if isinstance(outcome, ImageError):
                found[number] = outcome
            else:
                numbers.append(number)
                names.append(name)
                pixels.append(to_pixels(outcome))
        if pixels:
            captions = self.caption_pixels(torch.stack(pixels), names, num, options, generator)
            found.update(zip(numbers, captions, strict=True))
        return found

    def caption_pixels(
        self,
        pixels: Tensor,
        names: list[str],
        num: int,
        options: DecodingOptions,
        generator: Generator | None = None,
    ) -> list[Caption]:
        """pixels: (batch, 3, size, size) uint8 → a caption each."""
        with torch.inference_mode():
            found = decode(self.decoder, self.encode(pixels), num, options, generator)
        candidates = self.read(found)
        least = self.model.config.unsure_below
        gains = [None] * len(names) if least is None else self.gains([several[0] for several in candidates])
        one_colour = (pixels == pixels[:, :, :1, :1]).flatten(1).all(1).tolist()
        return [
            Caption(
                name,
                tuple(several[:num]),
                gain,
                unsure=plain or (least is not None and gain is not None and gain < least),
            )
            for name, several, gain, plain in zip(names, candidates, gains, one_colour, strict=True)
        ]

    @torch.inference_mode()
    def gains(self, sentences: Sequence[Candidate]) -> list[float]:
        """Return for each how much more likely its image makes it than a blank picture, in natural logarithms."""
        ids = self.model.vocabulary.ids
        words = [[*(ids[word] for word in sentence.words), END] for sentence in sentences]
        gains = [sentence.log_prob for sentence in sentences]
        state, previous = self.decoder.start(self.blank), torch.tensor([[START]], device=self.device)
        beams = [0] * len(words)  # sentences that begin alike share one, which is half the work
        for time in range(max(map(len, words), default=0)):
            step = self.decoder.step(previous, state)
            log_probs = step.logits[0].log_softmax(1)
            going = [row for row, sentence in enumerate(words) if time < len(sentence)]
            found = log_probs[[beams[row] for row in going], [words[row][time] for row in going]].tolist()
            begun: dict[tuple[int, int], int] = {}
            for row, log_prob in zip(going, found, strict=True):
                gains[row] -= log_prob
                beams[row] = begun.setdefault((beams[row], words[row][time]), len(begun))
            parents, previous = torch.tensor(list(begun), device=self.device).T[:, None]
            state = step.state.reorder(parents)
        return gains

    @functools.cached_property
    @torch.inference_mode()
    def blank(self) -> Features:
        """What the encoder says of a picture without anything on it."""
        size = self.model.config.image_size
        return self.encode(torch.full((1, 3, size, size), BLANK, dtype=torch.uint8))

    def encode(self, pixels: Tensor) -> Features:
        """pixels: (batch, 3, size, size) uint8 → features in this captioner's precision.

        On a CPU a few images at a time: what their layers give stays in its cache, and takes little memory.
        """
        cpu = self.device.type == "cpu"
        pieces = [
            self.encoder(piece.to(self.device, memory_format=torch.channels_last))
            for piece in pixels.split(ENCODED_AT_ONCE * torch.get_num_threads() if cpu else len(pixels))
        ]
        return Features(
            torch.cat([piece.annotations for piece in pieces]),
            torch.cat([piece.global_vector for piece in pieces]),
        )

    def read(self, found: Hypotheses) -> list[list[Candidate]]:
        """Hypotheses as candidates, best first, for each image.

        Their arrays are copies: a view would keep, and pickle, its whole batch, and could not be changed in place.
        """
        vocabulary = self.model.vocabulary
        words, lengths, scores = found.words.tolist(), found.lengths.tolist(), found.scores.tolist()
        log_probs = found.word_log_probs.tolist()
        rows, columns = self.model.config.grid
        weights = None if found.attention is None else found.attention.unflatten(3, (rows, columns)).cpu().numpy()
        gates = None if found.gates is None else found.gates.float().cpu().numpy()
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
                        None if gates is None else gates[i, j, :length].copy(),
                        self.model.encoder.kind.cell_offset,
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


def taken(images: Iterable[Source | ImageError]) -> Iterator[Source | ImageError]:
    """The images as they can be kept until a thread opens them: files are read now, while they are surely open."""
    for image in images:
        if not isinstance(image, (ImageError, str, os.PathLike, bytes, Image.Image)):
            check_source(image)
            try:
                image = read_whole(image)
            except ImageError as error:
                image = error
        yield image


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else Apple's MPS, else the CPU. Raises ValueError for an absent one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.partition(":")[0] not in DEVICES:  # PyTorch has twenty more, on most of which no model runs
        raise ValueError(f"device {name!r} cannot be used: not one of auto, {', '.join(DEVICES)}, {DEVICES[0]}:1 …")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except Exception as error:  # PyTorch raises RuntimeError, AssertionError and others here
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device
