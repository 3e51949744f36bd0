"""The checkpoint in the box, on photos that nobody trained on."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fakes import PHOTOS
from PIL import Image
from typer.testing import CliRunner

from capcli import Captioner
from capcli.checkpoints.card import data_line, data_of, license_of
from capcli.checkpoints.hub import bundled_checkpoint
from capcli.checkpoints.store import read_config
from capcli.cli.app import app
from capcli.explaining.reading import explain, ranked
from capcli.images.decode import open_square, to_pixels
from capcli.model.encoders import fold_batch_norm


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner.load(device="cpu")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("chelsea", {"cat", "kitten"}),
        ("coffee", {"cup", "coffee", "mug", "drink", "bowl"}),  # it takes the cup for a bowl, and says so in the card
        ("astronaut", {"woman", "man", "person", "girl", "lady"}),
    ],
)
def test_it_names_what_the_sample_photos_show(captioner: Captioner, name: str, shown: set[str]) -> None:
    words = captioner.caption(PHOTOS / f"{name}.jpg").words
    assert shown & set(words), words
    assert not {"dog", "dogs", "puppy"} & set(words), words


def test_it_is_unsure_of_noise_and_of_what_it_sees_wrongly(captioner: Captioner) -> None:
    generator = torch.Generator().manual_seed(1)
    noise = [torch.randint(low, high, (64, 64, 3), generator=generator) for low, high in ((0, 256), (100, 110))]
    pictures = [Image.fromarray(pixels.byte().numpy()) for pixels in noise] + [Image.linear_gradient("L")]
    assert [c.unsure for c in captioner.caption(pictures)] == [True, True, True]
    # The astronaut, a woman in orange, is "a man in a red shirt", and that it is unsure of.
    assert [c.unsure for c in captioner.caption(sorted(PHOTOS.glob("*.jpg")))] == [True, False, False]


def test_it_explains_what_the_cat_is_not(captioner: Captioner) -> None:
    sentences = ["a cat", "a dog sitting on a table", "a dog", "a horse", "a bear", "a car"]
    read = explain(captioner, PHOTOS / "chelsea.jpg", sentences)
    assert ranked(read)[0].text == "a cat"
    assert not any(read[0].doubted[:2])
    for each in read[1:] if captioner.kinds else read[1:3]:  # what only the encoder rules out needs its kinds
        assert each.doubted[1], each.text


def test_its_card_and_config_agree() -> None:
    folder = bundled_checkpoint()
    card = (folder / "README.md").read_text("utf-8")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert card.startswith("---\n")
    assert "capcli train" in card
    assert f"unsure: below a gain of {config['unsure_below']:g}" in card
    for scores in config["scores"].values():
        assert f"{scores['cider']:g}" in card
        assert f"{scores['bleu_4']:g}" in card
    assert sum(path.stat().st_size for path in folder.iterdir()) < 42e6


def test_its_licence_and_all_its_data_are_told_where_it_is_first_mentioned() -> None:
    folder = bundled_checkpoint()
    card, terms = ((folder / name).read_text("utf-8") for name in ("README.md", "LICENSE"))
    head = yaml.safe_load(card.split("---\n")[1])
    assert (head["license"], head["license_name"], head["license_link"]) == (
        "other",
        "research use, no warranty",
        "LICENSE",
    )
    config = read_config(folder)
    rows = data_of(config.training)
    assert [row["name"] for row in rows] == ["flickr8k", "coco", "web"]
    for row in rows:
        assert f"- {data_line(row)}" in card
    assert license_of({"data": [], "begun_from": config.training}) == head["license_name"]  # what is taught from it
    info = CliRunner().invoke(app, ["info"]).stdout
    assert "\nlicence      research use, no warranty\n" in info
    assert f"trained on   {data_line(rows[2])}" in info
    for text in (terms, card):
        for name in ("Flickr8k", "COCO", "CC BY 4.0", "9,277", "EfficientNet-Lite2", "Apache", "warranty"):
            assert name in text, name
    root = Path(__file__).parents[2]
    readme = (root / "README.md").read_text("utf-8")
    assert "weights/LICENSE" in readme[: readme.index("## Install")]
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "MIT AND LicenseRef-capcli-weights"
    assert all((root / name).is_file() for name in project["license-files"])
    assert "weights/LICENSE" in project["license-files"]


def test_half_precision_keeps_the_annotation_vectors() -> None:
    full, half = (Captioner.load(device="cpu", precision=name, engine="torch") for name in ("fp32", "bf16"))
    size = full.config.image_size
    photos = np.stack([to_pixels(open_square(path, size)) for path in sorted(PHOTOS.glob("*.jpg"))])
    rounded = fold_batch_norm(full.engine.model.encoder).bfloat16()  # all of it, as `half` is not

    with torch.inference_mode():
        exact = full.engine.encode(photos).annotations

        def error(annotations: torch.Tensor) -> float:
            return float((annotations.float() - exact).norm() / exact.norm())

        tensor = torch.from_numpy(photos).permute(0, 3, 1, 2)
        assert error(half.engine.encode(photos).annotations) < 0.8 * error(rounded(tensor).annotations)


def test_half_precision_keeps_the_probabilities_of_words() -> None:
    full, half = (Captioner.load(device="cpu", precision=name, engine="torch") for name in ("fp32", "bf16"))
    for path in sorted(PHOTOS.glob("*.jpg")):
        sentence = full.caption(path).text
        (exact,), (rounded,) = (explain(captioner, path, [sentence]) for captioner in (full, half))
        assert rounded.word_log_probs == pytest.approx(exact.word_log_probs, abs=0.1)
        assert rounded.word_log_probs != exact.word_log_probs
