"""Model cards: what they say, and that the Hub can read their head."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.card import as_text, checkpoint_card, describe_checkpoint, model_card

SCORES = {
    "cider": 91.25,
    "bleu_4": 24.5,
    "cider_interval": "88.0 to 94.5",
    "tokenizer": "PTB",
    "precision": "bf16",
    "distinct_words": 310,
}


@pytest.fixture
def trained(tiny_model: CaptionModel) -> CaptionModel:
    data = [{"name": 'birds: "wild"', "photos": 1200, "captions": 6000, "repeat": 2}]
    training = {"command": "capcli train birds=2 -o run", "data": data, "options": {"epochs": 4, "seed": 1}}
    scores = {'birds: "wild"': SCORES}
    tiny_model.config = dataclasses.replace(tiny_model.config, training=training, scores=scores, unsure_below=7.25)
    return tiny_model


def head(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_tells_data_command_and_scores(trained: CaptionModel) -> None:
    card = model_card(trained.facts, "me/birds")
    for text in (
        "capcli caption --model me/birds photo.jpg",
        'Captioner.load("me/birds")',
        '- birds: "wild": 1,200 photos, 6,000 captions, counted 2 times',
        "capcli train birds=2 -o run",
        "epochs 4, seed 1.",
        "| CIDEr | 91.25 (88.0 to 94.5) |",
        "| BLEU-4 | 24.5 |",
        "bootstrap",
        "PTB tokenizer, bf16",
        "12 words",
        "- unsure: below a gain of 7.25, the log-probability that",
    ):
        assert text in card


def test_the_hub_finds_what_it_looks_for(trained: CaptionModel) -> None:
    entries = head(model_card(trained.facts, "me/birds"))
    assert entries["pipeline_tag"] == "image-to-text"
    assert entries["library_name"] == "capcli"
    (index,) = entries["model-index"]
    assert index["name"] == "birds"
    (result,) = index["results"]
    assert result["dataset"]["name"] == 'birds: "wild"'
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {"bleu": 24.5, "cider": 91.25}


def test_a_checkpoint_without_records_has_a_card_too(tiny_model: CaptionModel) -> None:
    card = model_card(tiny_model.facts)
    assert "model-index" not in head(card)
    assert "## Scores" not in card
    assert "## Data" not in card
    assert "## Training" not in card


def test_an_edited_card_is_kept_and_a_generated_one_gets_the_name(trained: CaptionModel, tmp_path: Path) -> None:
    trained.save(tmp_path)
    assert checkpoint_card(trained.facts, tmp_path, "me/birds") == model_card(trained.facts, "me/birds")
    (tmp_path / "README.md").write_text("# Mine\n")
    assert checkpoint_card(trained.facts, tmp_path, "me/birds") == "# Mine\n"
    (tmp_path / "README.md").unlink()
    assert checkpoint_card(trained.facts, tmp_path, "me/birds") == model_card(trained.facts, "me/birds")


def test_a_description_ends_with_the_card_and_cannot_command_a_terminal(trained: CaptionModel, tmp_path: Path) -> None:
    trained.save(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Birds \x1b[2J of the \x9b31m wild\n")
    text = as_text(describe_checkpoint(trained.facts, tmp_path, "torch", "cpu"), card=True)
    assert 'dev scores   birds: "wild": BLEU-4 24.5, CIDEr 91.2' in text
    assert text.endswith("# Birds �[2J of the �31m wild")
    assert "license" not in text
    assert text.replace("\n", "").isprintable()
