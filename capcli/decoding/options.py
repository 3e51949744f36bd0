"""Options of decoding; PyTorch is not needed."""

from __future__ import annotations

from dataclasses import dataclass

from capcli.model.config import DECODE, TunedDecoding
from capcli.settings import check_ranges, setting


@dataclass(frozen=True)
class BeamOptions(TunedDecoding):
    """Hold the settings of a beam search: those of TunedDecoding, and a ban.

    ban: words never to say, spelt as in the vocabulary; others have no effect.
    """

    ban: tuple[str, ...] = setting(
        (), "Find captions without this word, spelt exactly like this.", metavar="WORD", several=True, panel=DECODE
    )


@dataclass(frozen=True)
class DecodingOptions(BeamOptions):
    """Hold the settings of decoding, see BeamOptions: beam search, unless sample or diversity is set.

    The defaults are not a checkpoint's tuned settings. To change one and keep the rest, use
    `dataclasses.replace(captioner.options, beam=5)`.

    sample: whether to draw words at random instead of searching; see `sample`.
    temperature: divides logits when sampling; far below 0.01 every log-probability would become minus infinity.
    top_p: when sampling, draw only from the most probable words that together reach this probability.
    diversity: penalty for repeating another candidate's word; 0 is plain beam search. See `diverse_beams`. Excludes
        sample.
    attention_samples: locations drawn per beam and word, for hard attention only; 0 takes the most probable. See
        SampledAttention.
    seed: of random numbers, a 64-bit integer; None takes one at random.

    Raises ValueError for a value out of range, and for sample with diversity.
    """

    sample: bool = setting(False, "Draw words at random, by their probability, instead of searching.", panel=DECODE)
    temperature: float = setting(
        1.0, "With sample: below 1 favours likely words, above 1 unlikely ones.", 0.01, 100, metavar="T"
    )
    top_p: float = setting(
        1.0,
        "With sample: draw only from the likeliest words whose probabilities add up to P.",
        0.01,
        1,
        metavar="P",
    )
    diversity: float = setting(
        0.0,
        "With num: make the captions differ, by diverse beam search; try 0.5 (Vijayakumar et al. 2018).",
        0,
        100,
        metavar="D",
        panel=DECODE,
    )
    attention_samples: int = setting(
        0, "With hard attention: average over N sampled locations; 0 takes the likeliest one.", 0, 10_000
    )
    seed: int | None = setting(None, "Seed that makes random draws repeatable.", -(2**63), 2**64 - 1)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.sample and self.diversity:
            raise ValueError("sample cannot be combined with diversity")

    def found(self, num: int) -> int:
        """Return how many captions of an image are found anyway for a `num` of 1 or more.

        A search finds one per beam; drawing more would change them.
        """
        return num if self.sample or self.diversity else max(num, self.beam)

    @property
    def draws(self) -> bool:
        """Return whether decoding is random."""
        return self.sample or self.attention_samples > 0
