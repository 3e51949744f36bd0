"""The interface of what runs the network: pixels in, sentences out, both in numpy arrays.

An engine knows neither files nor photos, nor how many batches are worked on side by side: several threads may use it at
once. What lies between pixels and sentences, features and states, is the engine's own and only handed back to it.
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
    """Hold what a decoder says of given sentences.

    logits: (images, sentences, time, vocabulary) of the next word, `<unk>` among them.
    attention: (images, sentences, time, locations), or None.
    gates: (images, sentences, time), Xu et al.'s β_t, or None.
    """

    logits: np.ndarray
    attention: np.ndarray | None
    gates: np.ndarray | None


class Engine(ABC):
    """A checkpoint's network on a device.

    name: what `--engine` calls it.
    device: its name, such as cpu or cuda:1.
    precision: the number format that it computes in.
    """

    name: str
    config: ModelConfig
    vocabulary: Vocabulary
    device: str
    precision: str

    @property
    @abstractmethod
    def facts(self) -> Facts:
        """Return what describes the checkpoint."""

    @property
    @abstractmethod
    def threads(self) -> int:
        """Return how many threads work on one batch; may be set before the first one."""

    @threads.setter
    @abstractmethod
    def threads(self, number: int) -> None: ...

    @abstractmethod
    def prepare(self) -> None:
        """Get ready for the first batch; what is called meanwhile waits for as much of it as it needs."""

    @abstractmethod
    def encode(self, pixels: np.ndarray) -> Any:
        """Return the features of a batch. pixels: (batch, size, size, 3) uint8, RGB."""

    @abstractmethod
    def search(
        self, features: Any, count: int, options: DecodingOptions, generator: Any = None
    ) -> Hypotheses[np.ndarray]:
        """Return at least count sentences for each image, best first, found or drawn as the options say.

        generator: from `make_generator`, of what is drawn; None makes one by options.seed. Raises ValueError if
        attention is to be sampled and the decoder's is not hard, one sentence is to be diverse, or all words are
        banned.
        """

    @abstractmethod
    def make_generator(self, seed: int | None) -> Any:
        """Return a generator of random numbers for `search`; seed None takes one at random."""

    @abstractmethod
    def start(self, features: Any) -> Any:
        """Return the decoder's state before the first word, with one beam for each image."""

    @abstractmethod
    def step(self, words: np.ndarray, state: Any, parents: np.ndarray) -> tuple[np.ndarray, Any]:
        """Go one word further; return log-probabilities of the next, (batch, beams, vocabulary), and the new state.

        words: (batch, beams) ids of the previous words, `<start>` first.
        parents: (batch, beams), which of the state's beams each continues.
        """

    @abstractmethod
    def read(self, features: Any, words: np.ndarray) -> SentencesRead:
        """Read sentences over each image (teacher forcing). words: (sentences, time) ids, each from `<start>` on."""

    @abstractmethod
    def agree(self, features: Any, words: np.ndarray) -> np.ndarray:
        """Return how well sentences agree with their images, (images, sentences), −1 to 1.

        0 for images that a taught decoder captions, whose words are its own. Only for a checkpoint with an
        agreement_size.

        words: (images, sentences, time) ids without `<start>` and `<end>`, `<pad>` after the last word.
        """

    @abstractmethod
    def vectors(self, features: Any) -> np.ndarray:
        """Return the encoder's global vectors of images, (images, channels), in float32."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
