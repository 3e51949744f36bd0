"""What a configuration can be."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from fakes import TINY

from capcli.checkpoints.store import parse_config
from capcli.model.config import ModelConfig


@pytest.mark.parametrize(
    ("entry", "value"),
    [("hidden_size", 0), ("encoder_stride", 8), ("dropout", -0.1), ("beam", 2.0), ("encoder", "vgg99"), ("scores", [])],
)
def test_a_config_cannot_be_made_that_could_not_be_loaded(entry: str, value: Any) -> None:
    with pytest.raises(ValueError, match=entry):
        dataclasses.replace(TINY, **{entry: value})


def test_defaults_fill_in_for_entries_that_an_older_file_lacks() -> None:
    assert parse_config({"format_version": 1, "hidden_size": 8}, "x") == ModelConfig(hidden_size=8)
