"""The interface of engines: pixels in, sentences out, both as numpy arrays.

An engine knows no files or photos, and several threads may use it at once. Its features and states are only handed back
to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from capcli.checkpoints.facts import Facts
    from capcli.decoding.hypotheses import Hypotheses
    from capcli.decoding.options import DecodingOptions
    from capcli.model.config import ModelConfig
    from capcli.model.vocabulary import Vocabulary


@dataclass
class SentencesRead:
    """Hold a decoder's reading of given sentences.

    logits: (images, sentences, time, vocabulary) of the next word, `<unk>` included.
    attention: (images, sentences, time, locations), or None.
    gates: (images, sentences, time), Xu et al.'s β_t, or None.
    """

    logits: np.ndarray
    attention: np.ndarray | None
    gates: np.ndarray | None


class Engine(ABC):
    """A checkpoint's network on a device.

    name: as in `--engine`.
    device: such as cpu or cuda:1.
    precision: number format of computing.
    """

    name: str
    config: ModelConfig
    vocabulary: Vocabulary
    device: str
    precision: str

    @property
    @abstractmethod
    def facts(self) -> Facts:
        """Return facts about the checkpoint."""

    @property
    @abstractmethod
    def threads(self) -> int:
        """Return the number of threads per batch; may be set before the first one."""

    @threads.setter
    @abstractmethod
    def threads(self, number: int) -> None: ...

    @abstractmethod
    def prepare(self) -> None:
        """Get ready for the first batch; calls in the meantime wait for as much as they need."""

    @abstractmethod
    def encode(self, pixels: np.ndarray) -> Any:
        """Return a batch's features. pixels: (batch, size, size, 3) uint8, RGB."""

    @abstractmethod
    def search(
        self, features: Any, count: int, options: DecodingOptions, generator: Any = None
    ) -> Hypotheses[np.ndarray]:
        """Return at least count sentences per image, best first, found or drawn as the options say.

        generator: from `make_generator`, for draws; None makes one from options.seed. Raises ValueError for sampling
            attention that is not hard, one sentence to be diverse, or all words banned.
        """

    @abstractmethod
    def make_generator(self, seed: int | None) -> Any:
        """Return a random generator for `search`; None is a random seed."""

    @abstractmethod
    def start(self, features: Any) -> Any:
        """Return the decoder's state before the first word, one beam per image."""

    @abstractmethod
    def step(self, words: np.ndarray, state: Any, parents: np.ndarray) -> tuple[np.ndarray, Any]:
        """Go one word further; return log-probabilities, (batch, beams, vocabulary), and the new state.

        words: (batch, beams) ids, `<start>` first.
        parents: (batch, beams), the state's beam that each continues.
        """

    @abstractmethod
    def read(self, features: Any, words: np.ndarray) -> SentencesRead:
        """Read sentences over each image (teacher forcing). words: (sentences, time) ids from `<start>` on."""

    @abstractmethod
    def agree(self, features: Any, words: np.ndarray) -> np.ndarray:
        """Return the agreement of sentences with their images, (images, sentences), −1 to 1.

        It is 0 for images that a taught decoder captions in its own words. Only for checkpoints with an agreement_size.

        words: (images, sentences, time) ids without `<start>` and `<end>`, padded with `<pad>`.
        """

    @abstractmethod
    def vectors(self, features: Any) -> np.ndarray:
        """Return the encoder's global vectors, (images, channels), in float32."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the device is done."""
