"""Self-critical sequence training: sampled captions are rewarded by their CIDEr-D.

After Rennie et al. 2017 (arXiv:1612.00563), but the baseline is the mean reward of the photo's other samples (Luo 2020,
arXiv:2003.09971), not the greedy caption's reward.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from capcli.decoding.sampling import draw
from capcli.model.decoders import Decoder
from capcli.model.encoders import Features
from capcli.model.vocabulary import END, NEVER_PRINTED, PAD, START

LONGEST_NGRAM = 4
SIGMA = 6.0  # of the length penalty, in words
# The temperature at which captions are drawn and the decoder is taught. At 1, label smoothing would make a tenth of all
# words random: most captions would have a stray one, and training would learn little more than to avoid those, as beam
# search does anyway.
TEMPERATURE = 0.6
Vectors = list[tuple[dict[tuple[str, ...], float], float]]  # for each n: (tf-idf by n-gram, the vector's norm)


class CiderD:
    """Compute CIDEr-D, with the references' tf-idf vectors computed once.

    Every sentence gets an end mark, counted as a word.

    Source: Vedantam et al. 2015 §8.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[str]]]) -> None:
        """Compute the vectors. references: sentences per photo, as lists of words."""
        seen: Counter[tuple[str, ...]] = Counter()
        for sentences in references:
            seen.update({gram for words in sentences for grams in count_ngrams(words) for gram in grams})
        self.idf_unseen = math.log(max(len(references), 2))
        self.idf = {gram: self.idf_unseen - math.log(count) for gram, count in seen.items()}
        self.references = [[(self.vectors(words), len(words)) for words in sentences] for sentences in references]

    def vectors(self, words: Sequence[str]) -> Vectors:
        """Return the tf-idf vectors of a sentence's n-grams, n from 1 to 4."""
        result = []
        for grams in count_ngrams(words):
            weights = {gram: count * self.idf.get(gram, self.idf_unseen) for gram, count in grams.items()}
            result.append((weights, math.sqrt(sum(w * w for w in weights.values()))))
        return result

    def score(self, words: Sequence[str], photo: int) -> float:
        """Return a sentence's CIDEr-D, 0 to 10. photo: index into the references."""
        ours, total = self.vectors(words), 0.0
        for theirs, length in self.references[photo]:
            penalty = math.exp(-((len(words) - length) ** 2) / (2 * SIGMA**2))
            for (a, norm_a), (b, norm_b) in zip(ours, theirs, strict=True):
                if norm_a and norm_b:
                    # Clipped, so that repeating a rare word does not pay.
                    product = sum(min(weight, b[gram]) * b[gram] for gram, weight in a.items() if gram in b)
                    total += penalty * product / (norm_a * norm_b)
        return 10 * total / (LONGEST_NGRAM * len(self.references[photo]))


def count_ngrams(words: Sequence[str]) -> list[Counter[tuple[str, ...]]]:
    """Return n-gram counts of a sentence with its end mark, n from 1 to 4."""
    # Without the end mark, a sentence cut after "with a" scores as high as a complete one, and training learns to stop
    # in mid-sentence.
    marked = (*words, "")
    return [Counter(marked[i : i + n] for i in range(len(marked) - n + 1)) for n in range(1, LONGEST_NGRAM + 1)]


@torch.no_grad()
def sample_captions(decoder: Decoder, features: Features, count: int, max_length: int) -> Tensor:
    """Return captions drawn word by word at TEMPERATURE, ids (batch, count, time).

    They end with `<end>`, then `<pad>`; at max_length there may be no `<end>`.

    decoder: in evaluation mode.
    count: per image, 1 or more.
    max_length: in words, 1 or more.
    """
    state = decoder.start(features, count)
    batch = features.annotations.shape[0]
    words = torch.full((batch, count), START, device=features.annotations.device)
    going = torch.ones_like(words, dtype=torch.bool)
    drawn = []
    for _ in range(max_length + 1):
        step = decoder.step(words, state)
        state = step.state
        words = draw((step.logits / TEMPERATURE).softmax(2)).masked_fill(~going, PAD)
        drawn.append(words)
        going = going & (words != END)
        if not going.any():
            break
    return torch.stack(drawn, 2)


def advantages(rewards: Tensor) -> Tensor:
    """Return each sample's reward less the mean of the photo's others, (batch, count).

    rewards: (batch, count), with a count of 2 or more.

    Source: Luo 2020 (arXiv:2003.09971).
    """
    count = rewards.shape[1]
    return (rewards - rewards.mean(1, keepdim=True)) * count / (count - 1)


def policy_loss(logits: Tensor, drawn: Tensor, advantage: Tensor) -> Tensor:
    """Return REINFORCE's loss, (), averaged over words: minus each log-probability times the caption's advantage.

    logits: (batch, count, time, vocabulary), of reading the drawn captions.
    drawn: (batch, count, time) ids, from `sample_captions`.
    advantage: (batch, count), from `advantages`.

    Source: Rennie et al. 2017 (arXiv:1612.00563).
    """
    logits = logits.float() / TEMPERATURE
    logits[..., NEVER_PRINTED] = -torch.inf  # as when the captions were drawn
    chosen = drawn.masked_fill(drawn == PAD, END)  # any possible word will do, as its loss is masked
    log_probs = logits.log_softmax(3).gather(3, chosen.unsqueeze(3)).squeeze(3)
    mask = drawn != PAD
    return -(log_probs * advantage.unsqueeze(2) * mask).sum() / mask.sum()
