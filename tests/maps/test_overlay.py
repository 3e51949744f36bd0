import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import GREY, candidate_of
from photo_files import save_photo
from PIL import Image, ImageChops

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.engines.torch import TorchEngine
from capcli.maps.folders import AttentionFolders
from capcli.maps.overlay import OverlayOptions, color_table, draw_overlay, heatmaps, spread, upsample
from capcli.model.config import ModelConfig
from capcli.model.vocabulary import SPECIAL_WORDS, Vocabulary

SHAPES = {"portrait": (150, 400), "landscape": (500, 210), "square": (300, 300), "rotated": (420, 200)}


def brightest(image: Image.Image) -> tuple[float, float]:
    """Where an overlay shines most, the middle of the place: x and y in fractions of the picture."""
    grey = image.convert("L")
    highest = grey.getextrema()[1]
    left, top, right, bottom = grey.point([255 * (value == highest) for value in range(256)]).getbbox()
    return (left + right) / 2 / grey.width, (top + bottom) / 2 / grey.height


def model_with_grid(stride: int, decoder: str = "soft") -> CaptionModel:
    sizes = {"hidden_size": 8, "embedding_size": 8, "attention_size": 8}
    config = ModelConfig(encoder_stride=stride, decoder=decoder, beam=1, max_length=2, **sizes)
    torch.manual_seed(3)
    return CaptionModel(config, Vocabulary([*SPECIAL_WORDS, "a", "cat"]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stride", [32, 16])
@pytest.mark.parametrize("kind", ["soft", "raw", "hard"])
def test_planted_attention_shines_in_its_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, stride: int, kind: str
) -> None:
    """From a file through model, search and overlay back to a file: the brightest point lies in the planted cell."""
    model = model_with_grid(stride, "hard" if kind == "hard" else "soft")
    rows, columns = model.config.grid
    cells = [(0, columns - 1), (rows - 1, 0), (rows // 2, 1)]
    steps = iter(cells)

    def planted(hidden: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        row, column = next(steps, cells[-1])
        weights = torch.rand(keys.shape[1], generator=torch.Generator().manual_seed(row))
        weights[row * columns + column] = 3.0
        return (weights / weights.sum()).expand(*hidden.shape[:2], -1)

    monkeypatch.setattr(model.decoder.attention, "distribution", planted)
    width, height = SHAPES[shape]
    save_photo(tmp_path / "photo.png", Image.new("RGB", (width, height), GREY), shape == "rotated")
    captioner = Captioner(TorchEngine(model, torch.device("cpu"), "fp32"))
    folders = AttentionFolders(tmp_path / "out", OverlayOptions(size=300, smooth=kind != "raw"))
    (caption,) = captioner.stream([str(tmp_path / "photo.png")])
    folders.write(caption)
    pictures = sorted((tmp_path / "out" / "photo").glob("0*.png"))
    assert pictures
    for path, (row, column) in zip(pictures, cells, strict=False):
        picture = Image.open(path)
        assert max(picture.size) == 300
        assert picture.width / picture.height == pytest.approx(width / height, rel=0.02)
        x, y = brightest(picture)
        assert column / columns <= x <= (column + 1) / columns
        assert row / rows <= y <= (row + 1) / rows
        if kind == "hard":  # one region, nothing around it
            difference = ImageChops.difference(picture, Image.new("RGB", picture.size, GREY)).convert("L")
            left, top, right, bottom = difference.getbbox()
            assert len(set(difference.crop((left, top, right, bottom)).tobytes())) == 1
            assert (right - left) * (bottom - top) < 2 * (
                1 + 2 * 0.35
            ) * picture.width * picture.height / rows / columns


@pytest.mark.parametrize("shape", SHAPES)
def test_overlays_lie_where_the_picture_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    """Attention that looks at whatever differs from a plain photo finds a patch again, so nothing is turned, mirrored
    or moved between the pixels that the encoder sees and the overlay."""
    model = model_with_grid(32)
    width, height = SHAPES[shape]
    plain = Image.new("RGB", (width, height), GREY)
    captioner = Captioner(TorchEngine(model, torch.device("cpu"), "fp32"))
    reference = []

    def look(hidden: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        if not reference:
            reference.append(keys)
        distance = (keys - reference[0]).norm(dim=2)
        return (distance / distance.sum().clamp(min=1e-9)).unsqueeze(1)

    monkeypatch.setattr(model.decoder.attention, "distribution", look)
    monkeypatch.setattr(model.decoder, "annotation", torch.nn.Identity())
    model.decoder.initial = torch.nn.Sequential(torch.nn.Linear(1280, 16))
    model.decoder.lstm = torch.nn.LSTMCell(8 + 1280, 8)
    model.decoder.output_context = torch.nn.Linear(1280, 8, bias=False)
    model.decoder.attention.key = torch.nn.Identity()
    captioner.caption(plain)
    for x, y in ((0.2, 0.2), (0.8, 0.3), (0.4, 0.75)):
        photo = plain.copy()
        patch = width // 6, height // 6
        noise = Image.frombytes("RGB", patch, random.Random(4).randbytes(3 * patch[0] * patch[1]))
        photo.paste(noise, (round((x - 1 / 12) * width), round((y - 1 / 12) * height)))
        save_photo(tmp_path / "photo.png", photo, shape == "rotated")
        caption = captioner.caption(str(tmp_path / "photo.png"))
        heat = heatmaps(caption.best, "word")[0]
        found_x, found_y = brightest(draw_overlay(Image.new("RGB", (width, height), GREY), heat, caption.cell_offset))
        assert math.dist((found_x, found_y), (x, y)) < 1.2 / 7


def test_interpolation_keeps_the_peak_and_never_exceeds_it() -> None:
    heat = torch.rand(7, 7, generator=torch.Generator().manual_seed(0)).numpy()
    for offset in (0.0, 0.35, -0.35):
        drawn = upsample(heat, 224, 448, offset)
        assert drawn.shape == (448, 224)
        assert drawn.max() <= heat.max() + 1e-6
        row, column = divmod(int(drawn.argmax()), 224)
        assert divmod(int(heat.argmax()), 7) == (
            round((row + 0.5) / 64 - 0.5 - offset), round((column + 0.5) / 32 - 0.5 - offset)
        )  # fmt: skip
        assert spread(7, 100, offset, True).sum(1) == pytest.approx(np.ones(100))
    raw = upsample(heat, 70, 70, smooth=False)
    assert np.array_equal(raw[::10, ::10], heat)
    assert np.array_equal(raw[9::10, 9::10], heat)


def test_colours_grow_lighter_and_more_opaque() -> None:
    heat = color_table("heat")
    lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b, _ in heat]
    assert lightness == sorted(lightness)
    assert [c[3] for c in heat] == sorted(c[3] for c in heat)
    assert heat[0][3] == 0
    assert heat[255][3] < 200  # the photo stays visible
    spotlight = [c[3] for c in color_table("spotlight")]
    assert spotlight == sorted(spotlight, reverse=True)
    assert spotlight[255] == 0


def test_words_that_look_nowhere_are_pale_on_the_captions_scale() -> None:
    flat, sharp = np.full((2, 2), 0.25), np.array([[0.97, 0.01], [0.01, 0.01]])
    weights = np.stack([flat, sharp, sharp])
    candidate = candidate_of(weights, "a cat of", np.array([0.5, 1.0, 0.1]))
    on_words, on_caption = heatmaps(candidate, "word"), heatmaps(candidate, "caption")
    assert on_words.max((1, 2)).tolist() == [1, 1, 1]
    assert on_caption.max((1, 2)).tolist() == pytest.approx([0.25 * 0.5 / 0.97, 1, 0.1])
    photo = Image.new("RGB", (60, 60), GREY)
    strongest = [
        max(high for _, high in ImageChops.difference(photo, draw_overlay(photo, heat)).getextrema())
        for heat in on_caption
    ]
    assert strongest[0] < strongest[1] / 4
    assert strongest[2] < strongest[1] / 4
    no_gates = heatmaps(candidate_of(weights, "a cat of"), "caption")
    assert no_gates.max((1, 2)).tolist() == pytest.approx([0.25 / 0.97, 1, 1])


def test_no_attention_is_a_plain_error() -> None:
    with pytest.raises(ValueError, match="no attention"):
        heatmaps(candidate_of(None), "word")
