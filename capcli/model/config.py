"""A checkpoint's configuration: kinds of encoder and decoder, sizes and decoding, checked without PyTorch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from reprlib import repr as brief  # an untrusted file may have megabytes for a number
from typing import Any

from capcli.model.confidence import CLUES
from capcli.settings import check_ranges, setting, settings


@dataclass(frozen=True)
class EncoderKind:
    """Describe a convolutional network as encoder.

    strides: on offer, in pixels per grid cell; the first is the default.
    annotation_size, global_size: channels of an annotation vector and of the global one.
    cell_offset: where an annotation vector looks, right of and below its cell's middle, in cells.
    whole_cells: whether the image size must be a multiple of the stride, because the network drops an incomplete cell's
        pixels; others pad it.
    """

    strides: tuple[int, ...]
    annotation_size: int
    global_size: int
    cell_offset: float = 0.0
    whole_cells: bool = False


# Why these offsets: each of Lite2's strided SAME convolutions is centred on the second of two pixels, which adds up to
# 0.48 cells; but the receptive field's outer parts count for little, and heat lies on people most often with an offset
# of 0.3 to 0.4. Torchvision pads both sides alike, centring strided convolutions on the first of two pixels; pooling
# and non-overlapping patches are centred. Only Lite2's offset is measured, the others are geometry.
ENCODERS = {
    "efficientnet_lite2": EncoderKind((32, 16), 1280, 1280, cell_offset=0.35),
    "vgg16": EncoderKind((16,), 512, 4096, whole_cells=True),
    "resnet50": EncoderKind((32,), 2048, 2048, cell_offset=-0.35),
    "resnet101": EncoderKind((32,), 2048, 2048, cell_offset=-0.35),
    "mobilenet_v3_large": EncoderKind((32,), 960, 960, cell_offset=-0.35),
    "convnext_tiny": EncoderKind((32,), 768, 768, whole_cells=True),
}
TIMM = re.compile(r"timm/[a-z0-9_]+(\.[a-z0-9_]+)?")  # other encoders: the networks of timm, see `timm_encoders`


@dataclass(frozen=True)
class DecoderKind:
    """Describe how the image enters the LSTM.

    seen: how each word sees the image, for people.
    attends: whether words have attention weights over the annotation grid.
    samples_locations: whether attention keeps one location, which can be drawn at random (Xu et al. 2015 §4.1).
    """

    seen: str
    attends: bool = False
    samples_locations: bool = False


DECODERS = {
    "pre-inject": DecoderKind("the image in the first cell"),
    "par-inject": DecoderKind("the image in every cell"),
    "soft": DecoderKind("a weight for each place", attends=True),
    "hard": DecoderKind("the likeliest place", attends=True, samples_locations=True),
}

REFINER_HEADS, REFINER_WIDTH = 8, 2  # heads, and inner over outer channels, see `refiner.Refiner`
FEATURE_WORDS = 3  # in a row, per feature of a sentence, see `agreement.Agreement`

# Wider than anything worth training, yet too narrow for a checkpoint to ask for absurd amounts of memory.
MOST_CHANNELS = 16384
DECODE = "How to decode"  # panel of help
CHOICES: dict[str, dict[str, Any]] = {"encoder": ENCODERS, "decoder": DECODERS}
TYPES: dict[str, Any] = {
    "int": int,
    "int | None": (int, type(None)),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "str": str,
    "bool": bool,
    "dict": dict,
    "list": list,
}


@dataclass(frozen=True)
class TunedDecoding:
    """Hold a checkpoint's tuned settings of beam search, the defaults of decoding.

    beam: hypotheses kept, and sentences returned, per image.
    max_length: the most words in a sentence, without `<end>`.
    length_penalty: α in score = log_prob / nᵅ + W × agreement, where n counts the words and `<end>`, and W is the
        setting agreement; 0 takes log_prob as it is.
    no_repeat: no sequence of this many words occurs twice in a sentence (Paulus et al. 2018 §2.5); 0 allows repeats.
    no_echo: no word follows itself, as in "a red red bus", even with "and", or "and" and an article, between, as in
        "broccoli and broccoli".
    agreement: weight of sentence and photo's cosine in the score of found sentences, if the checkpoint can compare
        them; see `model.agreement`.
    restraint: deduction then from the score per content word; see `decoding.restraint`.
    """

    beam: int = setting(3, "Width of the beam search, in sentences; 1 is greedy search.", 1, 100, panel=DECODE)
    max_length: int = setting(20, "Stop after N words.", 1, 100)
    length_penalty: float = setting(
        1.0,
        "α in score = log_prob / nᵅ + W × agreement, where n counts the words and <end> and W is agreement; 0 takes "
        "log_prob as it is.",
        -10,  # beyond these, powers of a sentence's length could overflow
        10,
        metavar="ALPHA",
    )
    no_repeat: int = setting(0, "Never repeat a sequence of N words; 0 allows repeats.", 0, 100)
    no_echo: bool = setting(
        True,
        'Never say "red red", "red and red" or "red and a red"; false allows it.',
    )
    agreement: float = setting(
        0.0,
        "Add W × the caption's agreement with the photo, −1 to 1, to its score, if the checkpoint has learnt it "
        "(`capcli agree`); 0 leaves it out.",
        0,
        100,
        metavar="W",
    )
    restraint: float = setting(
        0.0,
        "Take R from a caption's score for each noun, verb or attribute, and ten times that for a repeated one: "
        "captions say less.",
        0,
        1,
        metavar="R",
    )

    @property
    def decoding(self) -> dict[str, Any]:
        """Return these settings by name."""
        return {name: getattr(self, name) for name in settings(TunedDecoding)}


@dataclass(frozen=True)
class ModelConfig(TunedDecoding):
    """Hold what determines the tensors' shapes, how to decode (see TunedDecoding), and records of training.

    encoder: a key of ENCODERS, or `timm/NAME`.
    encoder_facts: of a network of timm's "layer", the feature map taken; "channels" of an annotation vector; and "mean"
        and "std" of the pixels, 0 to 1, by channel. Empty for others.
    encoder_stride: pixels per grid cell; 32 gives 7×7 cells at 224 px, 16 gives 14×14.
    image_size: side in pixels of the square that photos are squashed to, 32 to 2048.
    decoder: a key of DECODERS.
    refine: whether annotation vectors see each other before attention, see `refiner.Refiner`.
    feed_previous_word: see `decoders.Decoder`.
    hidden_size, embedding_size, attention_size: channels, 1 to 16384.
    dropout: probability, 0 to 0.99.
    agreement_size: channels in which sentences and photos are compared, see `agreement.Agreement`, 2 to 16384, or None.
    unsure_below: gain, in nats over a blank picture, below which a caption is unsure, see
        `training.calibration.least_gain`; None marks only captions of single-colour images.
    confidence: fitted weights of `confidence.CLUES` and a bias, or empty.
    words_before: size of the vocabulary before teaching, see `taught.TaughtDecoder`, or None.
    usual_agreement: of the old decoder's captions with their photos, which stands in for that of the taught one, whose
        words may be new; None for a checkpoint that was not taught.
    training, scores: records for the model card, see `check_records`.

    Raises ValueError for a wrong type or a value out of range.
    """

    encoder: str = "efficientnet_lite2"
    encoder_facts: dict[str, Any] = field(default_factory=dict)
    encoder_stride: int = 32
    image_size: int = setting(224, "Side of the square that photos are squashed to.", 32, 2048, metavar="PIXELS")
    decoder: str = "soft"
    refine: bool = False
    feed_previous_word: bool = True
    hidden_size: int = setting(512, "Size of the LSTM's state.", 1, MOST_CHANNELS)
    embedding_size: int = setting(512, "Size of the word embeddings.", 1, MOST_CHANNELS)
    attention_size: int = setting(512, "Size of attention's hidden layer.", 1, MOST_CHANNELS)
    dropout: float = setting(0.5, "Dropout probability in the decoder.", 0, 0.99, metavar="P")
    agreement_size: int | None = setting(None, "Size of the space of agreement.", 2, MOST_CHANNELS)
    unsure_below: float | None = setting(None, "The gain below which captions are unsure.", -1000, 1000)
    words_before: int | None = setting(None, "Words that were known before teaching.", 4, 1_000_000)
    usual_agreement: float | None = setting(None, "The agreement of captions by the taught decoder.", -1, 1)
    confidence: list[float] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            name, value = entry.name, getattr(self, entry.name)
            kind = str(entry.type).partition("[")[0]
            if not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
                raise ValueError(f"{name} is {brief(value)}, not of type {kind}")
            if name in CHOICES and value not in CHOICES[name] and not (name == "encoder" and TIMM.fullmatch(value)):
                raise ValueError(f"{name} is {brief(value)}; known: {', '.join(CHOICES[name])}")
        check_facts(self.encoder, self.encoder_stride, self.encoder_facts)
        check_ranges(self)
        if self.encoder_stride not in self.encoder_kind.strides:
            known = " or ".join(map(str, self.encoder_kind.strides))
            raise ValueError(f"encoder_stride is {self.encoder_stride}; {self.encoder} has {known}")
        if self.encoder_kind.whole_cells and self.image_size % self.encoder_stride:
            raise ValueError(
                f"image_size is {self.image_size}; {self.encoder} takes multiples of {self.encoder_stride}"
            )
        if self.refine and not self.decoder_kind.attends:
            raise ValueError(f"refine needs a decoder with attention; {self.decoder} has none")
        if self.refine and self.embedding_size % REFINER_HEADS:
            raise ValueError(
                f"embedding_size is {self.embedding_size}; with refine it has to be a multiple of {REFINER_HEADS}"
            )
        if self.confidence and not (
            len(self.confidence) == len(CLUES) + 1
            and all(type(weight) in (int, float) and abs(weight) <= 1000 for weight in self.confidence)
        ):
            raise ValueError(f"confidence is {brief(self.confidence)}, not {len(CLUES) + 1} numbers from -1000 to 1000")
        check_records(self.training, self.scores)

    @property
    def encoder_kind(self) -> EncoderKind:
        """Return facts about the encoder."""
        if self.encoder in ENCODERS:
            return ENCODERS[self.encoder]
        channels = self.encoder_facts["channels"]
        return EncoderKind((self.encoder_stride,), channels, channels, whole_cells=True)

    @property
    def decoder_kind(self) -> DecoderKind:
        """Return facts about the decoder."""
        return DECODERS[self.decoder]

    @property
    def grid(self) -> tuple[int, int]:
        """Return the annotation grid's (rows, columns)."""
        side = -(-self.image_size // self.encoder_stride)
        return side, side


def check_facts(encoder: str, stride: int, facts: dict[str, Any]) -> None:
    """Check what is told of an encoder. encoder, stride, facts: see ModelConfig. Raises ValueError."""
    if encoder in ENCODERS:
        fits = not facts
    else:
        three: list[Any] = [facts.get(name) for name in ("mean", "std")]
        fits = (
            1 <= stride <= 1024
            and facts.keys() == {"layer", "channels", "mean", "std"}
            and all(type(facts[name]) is int for name in ("layer", "channels"))
            and 0 <= facts["layer"] <= 1000
            and 1 <= facts["channels"] <= MOST_CHANNELS
            and all(isinstance(values, list) and len(values) == 3 for values in three)
            and all(type(value) in (int, float) and abs(value) <= 10 for values in three for value in values)
            and min(facts["std"]) >= 0.001
        )
    if not fits:
        raise ValueError(f"encoder_facts are {brief(facts)}, which do not fit the encoder {encoder}")


def check_records(training: dict[str, Any], scores: dict[str, Any]) -> None:
    """Check records for the model card.

    training: "command", the command line or None; "data", a list of data sets; "license", terms of use in a few words;
        "made_with", programs and their versions; "begun_from", the same for the earlier run. All may be missing.
    scores: figures and remarks by name, by data set.

    Raises ValueError for anything else.
    """
    for run in runs_of(training):
        for name in ("command", "license", "made_with"):
            if not isinstance(run.get(name), str | None):
                raise ValueError(f"training.{name} is {brief(run[name])}, not a text")
        rows = run.get("data", [])
        if not isinstance(rows, list) or not all(map(is_data_row, rows)):
            raise ValueError(f"training.data is {brief(rows)}, not a list of {{name, photos, captions, repeat}}")
    for name, figures in scores.items():
        if not isinstance(figures, dict) or not all(map(is_figure, figures.values())):
            raise ValueError(f"scores of {brief(name)} are {brief(figures)}, not figures with their names")


def runs_of(training: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each training run's record, last run first. training: see `check_records`."""
    run: Any = training
    while isinstance(run, dict):
        yield run
        run = run.get("begun_from")


def is_data_row(row: Any) -> bool:
    """Return whether a row describes a data set: name, photos, captions and, if not 1, repeat."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and all(isinstance(count, int) for count in (row.get("photos"), row.get("captions"), row.get("repeat", 1)))
    )


def is_figure(value: Any) -> bool:
    """Return whether a value is a score or a remark on one."""
    return isinstance(value, str) or (isinstance(value, int | float) and not abs(value) > 1e15)
