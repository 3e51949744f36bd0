import json
import math
import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.engines.torch import TorchEngine
from capcli.images.decode import open_upright
from capcli.images.drawn import safe_name
from capcli.images.find import find_images
from capcli.maps.folders import AttentionFolders, attention_record
from capcli.maps.overlay import OverlayOptions, color_table, draw_overlay, heatmaps, spread, upsample
from capcli.maps.sheet import contact_sheet
from capcli.model.config import ModelConfig
from capcli.model.vocabulary import SPECIAL_WORDS, Vocabulary
from capcli.results import AttentionMap, Candidate, Caption, ImageError

GREY = (110, 110, 110)
SHAPES = {"portrait": (150, 400), "landscape": (500, 210), "square": (300, 300), "rotated": (420, 200)}


def save_photo(path: Path, image: Image.Image, rotated: bool) -> None:
    """As a camera held upright or on its side stores it."""
    exif = Image.Exif()
    if rotated:
        exif[0x0112] = 6  # to be turned a quarter to the right
        image = image.transpose(Image.Transpose.ROTATE_90)
    image.save(path, exif=exif)


def brightest(image: Image.Image) -> tuple[float, float]:
    """Where an overlay shines most, the middle of the place: x and y in fractions of the picture."""
    grey = image.convert("L")
    highest = grey.getextrema()[1]
    left, top, right, bottom = grey.point([255 * (value == highest) for value in range(256)]).getbbox()
    return (left + right) / 2 / grey.width, (top + bottom) / 2 / grey.height


def candidate_of(
    attention: np.ndarray | None, words: str = "a cat 's t-shirt", gates: np.ndarray | None = None
) -> Candidate:
    split = tuple(words.split())
    return Candidate(
        text=words, words=split, word_log_probs=(-0.5,) * (len(split) + 1), log_prob=-2.5, score=-0.5,
        attention_map=None if attention is None else AttentionMap(attention, gates, 0.0),
    )  # fmt: skip


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


def test_records_sum_to_one_row_by_row() -> None:
    weights = np.random.default_rng(0).random((4, 3, 2), np.float32)
    weights /= weights.sum((1, 2), keepdims=True)
    record = attention_record("p\udcff.jpg", candidate_of(weights, gates=np.full(4, 0.5)))
    assert record["grid"] == [3, 2]
    assert [set(word) for word in record["words"]] == [{"word", "log_prob", "gate", "weights"}] * 4
    for word, expected in zip(record["words"], weights, strict=True):
        assert sum(word["weights"]) == pytest.approx(1, abs=1e-5)
        assert word["weights"] == pytest.approx((expected / expected.sum()).flatten().tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("dog", "dog"), ("'s", "_s"), ("t-shirt", "t-shirt"), ("<unk>", "_unk_"), ("../../etc", "_.._etc"),
        ("café", "café"), ("a/b\\c:d", "a_b_c_d"), ("", "_"), ("...", "_"), ("CON", "_CON"), ("lpt1.txt", "_lpt1.txt"),
        ("-rf", "rf"), ("new\nline\x00", "new_line_"), ("강아지", "강아지"), ("\udcff", "_"), ("🐕", "_"),
    ],
)  # fmt: skip
def test_names_are_safe(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_long_names_are_cut() -> None:
    assert len(safe_name("é" * 300).encode()) <= 80


def test_folders_never_collide_and_are_found_again(tmp_path: Path) -> None:
    def claim_all() -> list[str]:
        folders = AttentionFolders(tmp_path / "out", OverlayOptions())
        names: list[str] = []
        for path in ("a/x.jpg", "b/x.jpg", "b/X.png", "a/x-2.jpg", "-", "a/x.jpg", "c/con.jpg", "d/..jpg"):
            folder = folders.claim(path)
            (folder / "attention.json").write_text(json.dumps({"path": path, "caption": "", "grid": None, "words": []}))
            names.append(folder.name)
        folders.close()
        return names

    first = claim_all()
    assert first == ["x", "x-2", "X-3", "x-2-2", "stdin", "x-4", "_con", "_"]
    assert len({name.casefold() for name in first}) == len(first)
    assert claim_all() == first
    (tmp_path / "out" / "holiday").mkdir()  # somebody else's
    (tmp_path / "out" / "holiday" / "attention.json").write_text('{"path": "holiday.jpg", "heads": 8}')
    assert AttentionFolders(tmp_path / "out", OverlayOptions()).claim("holiday.jpg").name == "holiday-2"


def draw(folder: Path, options: OverlayOptions, caption: Caption, replace: bool = False) -> None:
    """As a run does for one caption."""
    with closing(AttentionFolders(folder, options, replace)) as folders:
        folders.write(caption)


def test_a_folder_holds_what_this_caption_needs_and_no_more(tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), GREY).save(tmp_path / "x.png")
    attention = np.random.default_rng(0).random((4, 7, 7))
    first = Caption(str(tmp_path / "x.png"), (candidate_of(attention),))
    draw(tmp_path / "out", OverlayOptions(gif=True), first)
    folder = tmp_path / "out" / "x"
    words = ["00_a.png", "01_cat.png", "02__s.png", "03_t-shirt.png"]
    assert sorted(p.name for p in folder.iterdir()) == [*words, "attention.gif", "attention.json", "attention.png"]
    with Image.open(folder / "attention.gif") as gif:
        assert gif.n_frames == 5
    kept = ["00_beach.png", "notes.txt"]  # a person's
    for name in kept:
        (folder / name).touch()
    second = replace(first, candidates=(candidate_of(attention[:2], "a dog"),))
    with pytest.raises(ImageError, match="its overlays exist"):
        draw(tmp_path / "out", OverlayOptions(), second)
    assert (folder / "attention.gif").exists()
    draw(tmp_path / "out", OverlayOptions(), second, replace=True)
    assert sorted(p.name for p in folder.iterdir()) == [
        "00_a.png", kept[0], "01_dog.png", "attention.json", "attention.png", kept[1]
    ]  # fmt: skip
    passed_over: list[str] = []
    found = list(find_images([str(tmp_path)], pass_over=lambda path, *_: passed_over.append(path)))
    assert found == [str(tmp_path / "x.png"), str(folder / kept[0])]  # overlays are not captioned
    assert passed_over == [str(folder / name) for name in ("00_a.png", "01_dog.png", "attention.png")]
    (tmp_path / "x.png").unlink()
    with pytest.raises(ImageError, match="no such file"):
        draw(tmp_path / "out", OverlayOptions(), second, replace=True)


def test_overlays_that_were_never_finished_are_drawn_in_the_same_folder(tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), GREY).save(tmp_path / "x.png")
    caption = Caption(str(tmp_path / "x.png"), (candidate_of(np.full((4, 7, 7), 1 / 49)),))
    folder = tmp_path / "out" / "x"
    folder.mkdir(parents=True)
    (folder / ".capcli-0123abcd.tmp").write_text('{"path"')  # killed in its first file
    draw(tmp_path / "out", OverlayOptions(), caption)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["x"]
    whole = sorted(p.name for p in folder.iterdir())
    assert not any(name.startswith(".") for name in whole)
    (folder / "attention.png").unlink()  # killed before its last file
    draw(tmp_path / "out", OverlayOptions(), caption)
    assert sorted(p.name for p in folder.iterdir()) == whole


def test_a_folder_of_overlays_has_one_writer(tmp_path: Path) -> None:
    first = AttentionFolders(tmp_path / "out", OverlayOptions())
    with pytest.raises(OSError, match="in use by another run of capcli; wait until") as caught:
        AttentionFolders(tmp_path / "out", OverlayOptions())
    assert caught.value.filename == str(tmp_path / "out")
    first.close()
    assert not (tmp_path / "out").exists()  # made for nothing


@pytest.mark.parametrize("size", [(40, 400), (1000, 60), (300, 300), (300, 200), (1, 1)])
@pytest.mark.parametrize("count", [1, 9, 30])
def test_sheets_hold_every_word_at_their_width(size: tuple[int, int], count: int) -> None:
    photo = Image.new("RGB", size, GREY)
    words = ["word", "antidisestablishmentarianism" * 3][: count if count < 2 else 2] * count
    sheet = contact_sheet(photo, [photo] * count, words[:count], [-1.0] * (count + 1), "many words " * count)
    assert sheet.width == 1200
    assert sheet.height < 6000
    # the last rows of the sheet are its margin, and the paper shows between the tiles
    assert sheet.crop((0, sheet.height - 20, 1200, sheet.height)).getcolors() == [(24000, (255, 255, 255))]


def test_upright_pictures_keep_their_shape_and_are_bounded(tmp_path: Path) -> None:
    photo = Image.new("RGB", (400, 100), GREY)
    photo.paste((255, 0, 0), (0, 0, 50, 100))
    save_photo(tmp_path / "x.png", photo, rotated=True)
    upright = open_upright(tmp_path / "x.png", 200)
    assert upright.size == (200, 50)
    assert upright.getpixel((3, 25))[0] > 200
    assert open_upright(photo, 1000).size == (400, 100)
    assert open_upright(Image.new("RGB", (20000, 10)), 100).size == (100, 1)
