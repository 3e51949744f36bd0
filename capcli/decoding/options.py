"""How captions are decoded; nothing here needs PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class BeamOptions:
    """Hold the settings of a beam search.

    beam: hypotheses kept, and sentences returned, per image, 1 or more.
    max_length: the most words in a sentence, not counting `<end>`, 1 or more.
    length_penalty: α in score = log_prob / nᵅ + W × agreement, where n counts the words and `<end>`; 0 takes log_prob
        as it is.
    no_repeat: no sequence of this many words occurs twice in a sentence (Paulus et al. 2018 §2.5); 0 allows repeats.
    no_echo: no word follows itself, as in "a red red bus", nor with "and", or "and" and an article, between, as in
        "broccoli and broccoli".
    agreement: W, what a sentence's agreement with the photo counts, 0 or more: so many times their cosine is added to
        the score once the sentences are found, if the checkpoint can compare them; see `model.agreement`.
    ban: words that are never said, spelt as the vocabulary spells them; others than its words have no effect.
    """

    beam: int = 3
    max_length: int = 20
    length_penalty: float = 1.0
    no_repeat: int = 0
    no_echo: bool = True
    agreement: float = 0.0
    ban: tuple[str, ...] = ()


@dataclass(frozen=True)
class DecodingOptions(BeamOptions):
    """Hold the settings for decoding: beam search, unless sample or diversity is set.

    The defaults are not what a checkpoint was tuned with. To change one setting and keep the rest, use
    `dataclasses.replace(captioner.options, beam=5)`.

    beam, max_length, length_penalty, no_repeat, no_echo, agreement, ban: see BeamOptions.
    sample: whether to draw words at random instead of searching for the best sentence; see `sample`.
    temperature: divides the logits when sampling, 0.01 or more.
    top_p: when sampling, draw only from the most probable words that together reach this probability; above 0, at
        most 1.
    diversity: the penalty for repeating another candidate's word, 0 or more; 0 is plain beam search. See
        `diverse_beams`. Cannot be combined with sample.
    attention_samples: locations drawn per beam and word, for hard attention only, 0 or more; 0 takes the most probable
        location. See SampledAttention.
    seed: of the random numbers, a 64-bit integer; None takes one at random.

    Raises ValueError for a value out of range.
    """

    sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    diversity: float = 0.0
    attention_samples: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("length_penalty", "temperature", "top_p", "diversity", "agreement"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}, not a finite number")
        if not -10 <= self.length_penalty <= 10:  # beyond these the power of a sentence's length could overflow
            raise ValueError(f"length_penalty is {self.length_penalty}, not between -10 and 10")
        if self.seed is not None and not -(2**63) <= self.seed < 2**64:
            raise ValueError(f"seed is {self.seed}, not an integer of 64 bits")
        for name, least in (
            ("beam", 1),
            ("max_length", 1),
            ("no_repeat", 0),
            ("diversity", 0),
            ("agreement", 0),
            ("attention_samples", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, not {least} or more")
        if self.temperature < 0.01:  # far below this, every log-probability would become minus infinity
            raise ValueError(f"temperature is {self.temperature}, not 0.01 or more; beam=1 takes the likeliest words")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, not above 0 and at most 1")
        if self.sample and self.diversity:
            raise ValueError("sample cannot be combined with diversity")

    def found(self, num: int) -> int:
        """Return how many captions of an image are found anyway where `num`, 1 or more, are asked for.

        A search finds as many as it has beams; to draw more would make others of them.
        """
        return num if self.sample or self.diversity else max(num, self.beam)

    @property
    def draws(self) -> bool:
        """Return whether decoding draws random numbers."""
        return self.sample or self.attention_samples > 0
