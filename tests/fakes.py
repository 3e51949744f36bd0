"""Made up, so that every test can afford it: small models, results without a model, training runs that take seconds."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from typer.testing import CliRunner, Result

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.store import Checkpoint
from capcli.cli.app import app
from capcli.model.config import ModelConfig
from capcli.model.vocabulary import SPECIAL_WORDS
from capcli.outputs.formats import FORMATS
from capcli.outputs.rows import Layout
from capcli.results import AttentionMap, Candidate, ImageError, Kind

PHOTOS = Path(__file__).parent / "photos"
TINY = ModelConfig(
    image_size=64, hidden_size=16, embedding_size=16, attention_size=16, beam=3, max_length=6, length_penalty=0.7
)
WORDS = (*SPECIAL_WORDS, "a", "cat", "dog", "man", "'s", "on", "grass", "t-shirt")

# What people say of two photos.
SAID = {
    "chelsea.jpg": ["a cat looks into the camera", "a cat looks into the camera"],
    "coffee.jpg": ["a cup of coffee on a wooden table", "a cup of coffee on a wooden table"],
}
SMALL = ["--image-size", "96", "--set", "hidden_size=64", "--set", "embedding_size=64", "--set", "attention_size=32"]
SMALL += [
    "--set",
    "min_count=1",
    "--set",
    "views=1",
    "--set",
    "label_smoothing=0",
    "--set",
    "dropout=0",
    "--device",
    "cpu",
]
SMALLER = {"image_size": 64, "hidden_size": 8, "embedding_size": 8, "attention_size": 8, "min_count": 1, "views": 1}


def train(*arguments: object) -> Result:
    """Run `capcli train` in this process."""
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@dataclass
class Found:
    """As much of a Caption as writers look at."""

    path: str
    text: str
    score: float = -0.5
    log_prob: float = -3.25
    candidates: list = field(default_factory=list)
    unsure: bool = False
    keywords: tuple[str, ...] | None = None
    confidence: float | None = None
    kinds: tuple[Kind, ...] = ()
    by: str = ""

    def __post_init__(self) -> None:
        self.candidates = self.candidates or [self]


CAT, DOG = Found("cat.jpg", "a cat"), Found("b/dog.jpg", 'a "dog", brown', -2.0, -9.0)
BAD = ImageError("bad.jpg", "the file is empty")
STRANGE = Found('tab\t, "line\nend \udcff é.jpg', "a man")


class Terminal(io.StringIO):
    """A text file that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


KINDS = {
    "pre-inject": {"decoder": "pre-inject"},
    "par-inject": {"decoder": "par-inject"},
    "par-inject, image alone": {"decoder": "par-inject", "feed_previous_word": False},
    "soft": {"decoder": "soft"},
    "soft, 4×4": {"decoder": "soft", "encoder_stride": 16, "image_size": 80},
    "soft, image alone": {"decoder": "soft", "feed_previous_word": False},
    "hard": {"decoder": "hard", "encoder_stride": 16},
    "soft, refined": {"decoder": "soft", "refine": True, "encoder_stride": 16},
    "hard, refined": {"decoder": "hard", "refine": True, "encoder_stride": 16},
    "soft, refined, taught": {"decoder": "soft", "refine": True, "words_before": len(WORDS) - 2},
    "soft, taught": {"decoder": "soft", "words_before": len(WORDS) - 2},
    "pre-inject, taught": {"decoder": "pre-inject", "words_before": len(WORDS)},
    "soft, agreement": {"decoder": "soft", "agreement_size": 9},
    "soft, taught, agreement": {"decoder": "soft", "agreement_size": 8, "words_before": len(WORDS) - 2},
}


def checkpoint_of(model: CaptionModel) -> Checkpoint:
    """What its folder would say, if it were stored."""
    tensors = {n: t.numpy() for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    return Checkpoint(model.config, model.vocabulary, tensors)


class Text(io.StringIO):
    """An output whose text is there after it was closed."""

    path = "out"

    def close(self) -> None: ...


def write(name: str, *results: object, heading: bool = True, **layout: object) -> str:
    file = Text(newline="")
    rows = FORMATS[name](file, Layout(**layout), {} if heading else {"an earlier image": True})  # type: ignore[arg-type]
    for result in results:
        rows.write(result)  # type: ignore[arg-type]
    rows.close()
    return file.getvalue()


GREY = (110, 110, 110)


def candidate_of(
    attention: np.ndarray | None, words: str = "a cat 's t-shirt", gates: np.ndarray | None = None
) -> Candidate:
    split = tuple(words.split())
    return Candidate(
        text=words, words=split, word_log_probs=(-0.5,) * (len(split) + 1), log_prob=-2.5, score=-0.5,
        attention_map=None if attention is None else AttentionMap(attention, gates, 0.0),
    )  # fmt: skip
