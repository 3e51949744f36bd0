"""The checkpoint in the box, on photos that nobody trained on."""

import json

import pytest
from conftest import PHOTOS

from capcli import Captioner
from capcli.captioner import bundled_checkpoint


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner.load(device="cpu")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("chelsea", {"cat", "kitten"}),
        ("coffee", {"cup", "coffee", "mug", "drink"}),
        ("astronaut", {"woman", "man", "person", "girl", "lady"}),
    ],
)
def test_it_names_what_the_sample_photos_show(captioner: Captioner, name: str, shown: set[str]) -> None:
    words = captioner.caption(PHOTOS / f"{name}.jpg").words
    assert shown & set(words), words
    assert not {"dog", "dogs", "puppy"} & set(words), words


def test_its_card_and_config_agree() -> None:
    folder = bundled_checkpoint()
    card = (folder / "README.md").read_text("utf-8")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert card.startswith("---\n")
    assert "capcli train" in card
    for scores in config["scores"].values():
        assert f"{scores['cider']:g}" in card
        assert f"{scores['bleu_4']:g}" in card
    assert sum(path.stat().st_size for path in folder.iterdir()) < 40e6
