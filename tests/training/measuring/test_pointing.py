import json
import random
from pathlib import Path

import pytest
import torch
from PIL import Image

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.engines.torch import TorchEngine
from capcli.training.data.datasets import DataError, read_data_set
from capcli.training.measuring.pointing import (
    as_lines,
    cells_inside,
    corners,
    covered,
    inside,
    measure_pointing,
    read_boxes,
    seen_in_view,
)


def test_boxes_are_cut_at_the_edges(tmp_path: Path) -> None:
    assert corners(0.5, 0.5, 0.2, 0.4) == pytest.approx((0.4, 0.3, 0.6, 0.7))
    assert corners(0.0, 1.0, 0.2, 0.4) == pytest.approx((0, 0.8, 0.1, 1))
    path = tmp_path / "boxes.json"
    path.write_text('{"a.jpg": [[0.5, 0.5, 1, 1]]}')
    assert read_boxes(path) == {"a.jpg": [(0, 0, 1, 1)]}
    for content in ("[1]", "{", '{"a.jpg": [[1, 2]]}', '{"a.jpg": [["x", 1, 1, 1]]}'):
        path.write_text(content)
        with pytest.raises(DataError, match=r"boxes\.json"):
            read_boxes(path)
    with pytest.raises(DataError, match="no such file"):
        read_boxes(tmp_path / "absent.json")
    (tmp_path / "boxes.csv").write_text("a.jpg,0.5,0.5,1,1")
    with pytest.raises(DataError, match=r"boxes\.csv: not JSON; boxes are \{"):
        read_boxes(tmp_path / "boxes.csv")


def test_cells_whose_place_lies_in_a_box() -> None:
    assert cells_inside([(0.5, 0.0, 1.0, 0.4)], 2, 2, 0.0).tolist() == [False, True, False, False]
    # The cells describe places at 0.45 and 0.95 now.
    assert cells_inside([(0.4, 0.4, 0.5, 0.5)], 2, 2, 0.4).tolist() == [True, False, False, False]
    assert cells_inside([], 2, 2, 0.0).tolist() == [False] * 4


def test_boxes_move_with_the_view() -> None:
    (whole,) = seen_in_view([(0.1, 0.2, 0.3, 0.6)], (0, 0, 1, 1), mirrored=False)
    assert whole == pytest.approx((0.1, 0.2, 0.3, 0.6))
    (mirrored,) = seen_in_view([(0.1, 0.2, 0.3, 0.6)], (0, 0, 1, 1), mirrored=True)
    assert mirrored == pytest.approx((0.7, 0.2, 0.9, 0.6))
    # The right lower quarter shows the box's own corner only, or nothing of it.
    (cut,) = seen_in_view([(0.25, 0.25, 0.75, 1)], (0.5, 0.5, 1, 1), mirrored=False)
    assert cut == pytest.approx((0, 0, 0.5, 1))
    (gone,) = seen_in_view([(0.1, 0.2, 0.3, 0.4)], (0.5, 0.5, 1, 1), mirrored=False)
    assert covered([gone]) == 0


def test_overlapping_boxes_count_once() -> None:
    assert covered([]) == 0
    assert covered([(0, 0, 0.5, 0.5), (0.25, 0.25, 0.75, 0.75)]) == pytest.approx(0.25 + 0.25 - 0.0625)
    rng = random.Random(2)
    boxes = [corners(*(rng.random() for _ in range(4))) for _ in range(5)]
    points = [(rng.random(), rng.random()) for _ in range(20000)]
    assert covered(boxes) == pytest.approx(sum(inside(x, y, boxes) for x, y in points) / len(points), abs=0.02)


def test_hits_are_counted_per_word(tiny_model: CaptionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    rows, boxes = [], {}
    # A 2×2 grid whose second cell is always looked at; one photo in three has its person there.
    places = [[[0.9, 0.4, 0.2, 0.3]], [[0.2, 0.2, 0.2, 0.2]], [[0.5, 0.5, 0.3, 0.3], [0.1, 0.9, 0.1, 0.1]]]
    for index, several in enumerate([*places, [[0.5, 0.5, 0.9, 0.9]], []]):
        name = f"{index}.png"
        Image.effect_noise((40, 40), 90).convert("RGB").save(tmp_path / "images" / name)
        rows.append({"filename": name, "split": "dev", "sentences": [{"raw": "x"}]})
        boxes[name] = several
    (tmp_path / "dataset.json").write_text(json.dumps({"images": rows}))
    (tmp_path / "boxes").write_text(json.dumps(boxes))

    def planted(hidden: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.1, 0.7, 0.1, 0.1]).expand(*hidden.shape[:2], -1)

    monkeypatch.setattr(tiny_model.decoder.attention, "distribution", planted)
    tiny_model.decoder.output_bias.data[tiny_model.vocabulary.ids["man"]] = 30.0  # says nothing else
    captioner = Captioner(TorchEngine(tiny_model, torch.device("cpu"), "fp32"))
    data_set = read_data_set(str(tmp_path))
    result = measure_pointing(captioner, data_set, "dev", read_boxes(tmp_path / "boxes"), captioner.options, 2)
    assert result["photos"] == 3
    assert result["skipped"] == 1
    assert result["words"] % 3 == 0
    assert result["hits"] == pytest.approx(100 / 3)
    assert result["centre"] == pytest.approx(100 / 3)
    assert result["chance"] == pytest.approx(100 * (0.1 * 2 * 0.3 - 0.0 + 0.04 + 0.09 + 0.01) / 3, abs=2)
    assert {row["path"][-5:] for row in result["misses"]} == {"1.png", "2.png"}
    assert [(row["up_to"], row["hits"]) for row in result["sizes"]] == [(5, 0), (10, 50)]
    assert "largest up to  10 %     50.0 % of" in "\n".join(as_lines(result))
    assert "points at a person" in "\n".join(as_lines(result))
    with pytest.raises(DataError, match=r"no photos in split 'train'; there are dev \(5\)"):
        measure_pointing(captioner, data_set, "train", read_boxes(tmp_path / "boxes"), captioner.options, 2)
    with pytest.raises(DataError, match="no photo in split 'dev' has boxes"):
        measure_pointing(captioner, data_set, "dev", {}, captioner.options, 2)
