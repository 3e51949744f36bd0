"""Facts about a model, whichever engine runs it."""

from __future__ import annotations

from dataclasses import dataclass

from capcli.model.config import ModelConfig


@dataclass(frozen=True)
class Facts:
    """Hold the facts that describe a model.

    config: with its records of training.
    words: size of the vocabulary, special words included.
    encoder_parameters, decoder_parameters: numbers of parameters.
    """

    config: ModelConfig
    words: int
    encoder_parameters: int
    decoder_parameters: int
