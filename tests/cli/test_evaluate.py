import json
import shutil
from pathlib import Path

import pytest
from fakes import PHOTOS
from typer.testing import CliRunner

from capcli.cli.app import app

pytest.importorskip("pycocoevalcap", reason="the train extra is not installed")
pytestmark = pytest.mark.usefixtures("no_java")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three photos of a dev split, and what people said of them."""
    said = {
        "chelsea": ["a cat", "a cat on grass"],
        "coffee": ["a dog", "a man 's dog"],
        "astronaut": ["a man", "a man"],
    }
    for name in said:
        shutil.copy(PHOTOS / f"{name}.jpg", tmp_path)
    rows = [{"file_path": f"{n}.jpg", "captions": c, "split": "dev"} for n, c in said.items()]
    path = tmp_path / "data.json"
    path.write_text(json.dumps(rows))
    return path


def evaluate(data: Path, model: Path, *more: str) -> str:
    done = CliRunner().invoke(app, ["evaluate", str(data), "--model", str(model), "--device", "cpu", *more])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_scores_with_intervals_calibration_and_extremes(data: Path, tiny_checkpoint: Path) -> None:
    lines = evaluate(data, tiny_checkpoint).splitlines()
    result = json.loads(evaluate(data, tiny_checkpoint, "--json"))
    assert lines[0].startswith(f"{data.parent.name} dev: 3 photos")
    low, high = result["scores"]["intervals"]["bleu_1"]
    assert f"BLEU-1{result['scores']['bleu_1']:34.2f}  ({low:.1f} to {high:.1f})" in lines
    tokenizer = next(line for line in lines if line.startswith("tokenizer"))
    assert tokenizer.endswith("capcli  (no Java that works: no METEOR)")
    assert any(line.startswith("AUC of --min-score") for line in lines)
    first = result["calibration"]["thresholds"][0]
    assert f"  --min-score {first['min_score']:.2f} keeps 75%, whose CIDEr is {first['cider']:.1f}" in lines
    least = result["calibration"]["unsure_below"]
    assert any(line.startswith(f"gain of 98 % of the captions{least:12.2f}  (pictures of one colour") for line in lines)
    assert 0 <= result["calibration"]["one_colour_below"] <= 1
    assert min(row["gain"] for row in result["captions"]) <= least <= max(row["gain"] for row in result["captions"])
    assert {Path(row["path"]).name for row in result["captions"]} == {"chelsea.jpg", "coffee.jpg", "astronaut.jpg"}
    worst, best = lines.index("worst by CIDEr"), lines.index("best by CIDEr")
    ranked = sorted(row["cider"] for row in result["captions"])
    assert [float(line.split()[0]) for line in lines[worst + 1 : best - 1 : 2]] == pytest.approx(ranked, abs=0.06)
    assert [float(line.split()[0]) for line in lines[best + 1 :: 2]] == pytest.approx(ranked[::-1], abs=0.06)


def test_cider_of_a_single_photo_is_undefined(data: Path, tiny_checkpoint: Path) -> None:
    data.write_text(json.dumps(json.loads(data.read_text())[:1]))
    lines = evaluate(data, tiny_checkpoint).splitlines()
    assert any(line.split() == "CIDEr — (takes two photos or more)".split() for line in lines)
    assert not any("--min-score" in line or "nan" in line for line in lines)
    result = json.loads(evaluate(data, tiny_checkpoint, "--json"))
    assert "cider" not in result["scores"]
    assert [row["cider"] for row in result["captions"]] == [None]
    assert (result["calibration"]["auc"], result["calibration"]["thresholds"]) == (None, [])


def test_candidates_are_compared(data: Path, tiny_checkpoint: Path) -> None:
    scores = json.loads(evaluate(data, tiny_checkpoint, "--json", "--num", "3"))["scores"]
    assert 0 < scores["self_cider"] <= 1
    assert 0 < scores["distinct_share"] <= 100


def test_a_split_without_photos_is_one_line(data: Path, tiny_checkpoint: Path) -> None:
    rows = json.loads(data.read_text())
    data.write_text(json.dumps([rows[0] | {"split": "test"}, *rows[1:]]))
    (data.parent / "boxes").write_text("{}")
    for more in ([], ["--pointing", str(data.parent / "boxes")]):
        command = ["evaluate", str(data), "--model", str(tiny_checkpoint), "--split", "banana", *more]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 2
        assert done.stderr == f"capcli: {data.parent.name}: no photos in split 'banana'; there are dev (2), test (1)\n"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_number_format_is_said_first(data: Path, tiny_checkpoint: Path, precision: str) -> None:
    command = ["evaluate", str(data), "--model", str(tiny_checkpoint), "--device", "cpu", "--precision", precision]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert done.stderr == f"captioning 3 photos on cpu in {precision}\n"
