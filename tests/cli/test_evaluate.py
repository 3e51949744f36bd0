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
    assert any(line.startswith("AUC of the score") for line in lines)
    first = result["calibration"]["thresholds"][0]
    assert f"  score from {first['least']:.2f} keeps 75%, whose CIDEr is {first['cider']:.1f}" in lines
    least = result["calibration"]["unsure_below"]
    assert any(line.startswith(f"gain of 98 % of the captions{least:12.2f}  (pictures of one colour") for line in lines)
    assert 0 <= result["calibration"]["one_colour_below"] <= 1
    assert min(row["gain"] for row in result["captions"]) <= least <= max(row["gain"] for row in result["captions"])
    assert {Path(row["path"]).name for row in result["captions"]} == {"chelsea.jpg", "coffee.jpg", "astronaut.jpg"}
    worst, best = lines.index("worst by CIDEr"), lines.index("best by CIDEr")
    ranked = sorted(row["cider"] for row in result["captions"])
    assert [float(line.split()[0]) for line in lines[worst + 1 : best - 1 : 2]] == pytest.approx(ranked, abs=0.06)
    assert [float(line.split()[0]) for line in lines[best + 1 :: 2]] == pytest.approx(ranked[::-1], abs=0.06)


def test_confidence_is_compared_with_what_is_right(data: Path, judging_checkpoint: Path) -> None:
    lines = evaluate(data, judging_checkpoint).splitlines()
    result = json.loads(evaluate(data, judging_checkpoint, "--json"))
    assert result["calibration"]["by"] == "confidence"
    assert sum(row["captions"] for row in result["calibration"]["reliability"]) == 3
    assert all(0 < row["confidence"] < 1 for row in result["captions"])
    assert any(line.startswith("  --min-confidence ") for line in lines)
    assert any(line.startswith("  confidence ") and "captions, " in line for line in lines)


def test_cider_of_a_single_photo_is_undefined(data: Path, tiny_checkpoint: Path) -> None:
    data.write_text(json.dumps(json.loads(data.read_text())[:1]))
    lines = evaluate(data, tiny_checkpoint).splitlines()
    assert any(line.split() == "CIDEr — (takes two photos or more)".split() for line in lines)
    assert not any("AUC" in line or "nan" in line for line in lines)
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


def elsewhere(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text(json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_captions_made_elsewhere_are_scored_and_compared(data: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    made = json.loads(evaluate(data, tiny_checkpoint, "--json"))
    file = tmp_path / "made.json"
    file.write_text(json.dumps(made))
    good = elsewhere(
        tmp_path / "good.jsonl",
        {"path": "elsewhere/chelsea.jpg", "caption": "a cat"},
        {"path": str(tmp_path / "coffee.jpg"), "caption": "a dog"},
        {"file_name": "astronaut.jpg", "text": "a man"},
        {"path": "not-in-the-data.jpg", "caption": "a bus"},
    )
    runner = CliRunner()
    done = runner.invoke(app, ["evaluate", str(data), "--captions", str(file), "--json"])
    again = json.loads(done.stdout)
    assert done.stderr == ""  # no model is loaded
    assert again["scores"] == made["scores"]
    assert "calibration" not in again
    done = runner.invoke(app, ["evaluate", str(data), "--captions", str(good), "--against", str(file), "--json"])
    result = json.loads(done.stdout)
    assert result["scores"]["bleu_1"] == pytest.approx(100)
    assert result["against"]["scores"] == made["scores"]
    assert [row["caption"] for row in result["captions"]] == ["a cat", "a dog", "a man"]
    for row, other in zip(result["captions"], made["captions"], strict=True):
        assert row["against"]["caption"] == other["caption"]
        assert row["against"]["cider"] == other["cider"]
        assert row.keys() >= {"bleu_1", "bleu_4", "bleu_counts", "rouge_l", "cider"}
    for name, found in result["against"]["differences"].items():
        assert found["difference"] == pytest.approx(result["scores"][name] - made["scores"][name], abs=0.01)
        assert found["interval"][0] <= found["interval"][1]
    lines = evaluate(data, tiny_checkpoint, "--against", str(good)).splitlines()
    assert f"against {good}, on the same photos" in lines
    line = next(line for line in lines[lines.index(f"against {good}, on the same photos") :] if "CIDEr" in line)
    found = result["against"]["differences"]["cider"]
    assert float(line.split()[2]) == pytest.approx(-found["difference"], abs=0.02)
    assert line.endswith(f"p = {found['p']:.3f}")


def test_cocos_form_is_written_and_read(data: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    rows = json.loads(data.read_text())
    for number, row in enumerate(rows, 41):
        (tmp_path / row["file_path"]).rename(tmp_path / f"COCO_val2014_{number:012}.jpg")
        row["file_path"] = f"COCO_val2014_{number:012}.jpg"
    data.write_text(json.dumps(rows))
    shutil.copy(PHOTOS / "coffee.jpg", tmp_path / "nameless.jpg")
    results = tmp_path / "results.out"
    photos = [str(tmp_path / row["file_path"]) for row in rows] + [str(tmp_path / "nameless.jpg")]
    command = ["caption", *photos, "--model", str(tiny_checkpoint), "--format", "coco", "-o", str(results)]
    done = CliRunner().invoke(app, [*command, "--quiet"])
    assert done.exit_code == 1
    assert "nameless.jpg: its name does not end in a number" in done.stderr
    written = json.loads(results.read_text())
    assert [row["image_id"] for row in written] == [41, 42, 43]
    assert all(row.keys() == {"image_id", "caption"} for row in written)
    done = CliRunner().invoke(app, ["evaluate", str(data), "--captions", str(results), "--json"])
    assert [row["caption"] for row in json.loads(done.stdout)["captions"]] == [row["caption"] for row in written]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"image_id": 7, "caption": "a cat"}], "has no caption of 3 of 3 photos; the first is {}/chelsea.jpg"),
        ([7], "row 1: 7 where a caption should be; "),
        ([{"caption": "a cat"}], "row 1: {{'caption': 'a cat'}} names no photo; "),
        ([{"path": "a.jpg"}], "row 1: no caption of a.jpg; "),
        # two photos of one name: neither may have the other's caption
        (
            [{"path": f"{f}/{n}.jpg", "caption": "a"} for f in "ab" for n in ("chelsea", "coffee", "astronaut")],
            "has no caption of 3 of 3 photos",
        ),
    ],
)
def test_captions_that_do_not_fit_are_one_line(data: Path, tmp_path: Path, rows: list, reason: str) -> None:
    file = elsewhere(tmp_path / "given.json", *rows)
    done = CliRunner().invoke(app, ["evaluate", str(data), "--captions", str(file)])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"capcli: {file}: {reason.format(tmp_path)}")
    assert done.stderr.count("\n") == 1


def test_a_failed_photo_counts_as_an_empty_caption(data: Path, tmp_path: Path) -> None:
    rows = [{"path": "chelsea.jpg", "error": "x"}, {"path": "coffee.jpg", "caption": None}]
    file = elsewhere(tmp_path / "given.jsonl", *rows, {"path": "astronaut.jpg", "caption": "a man"})
    result = json.loads(CliRunner().invoke(app, ["evaluate", str(data), "--captions", str(file), "--json"]).stdout)
    assert [row["caption"] for row in result["captions"]] == ["", "", "a man"]
    assert [row["cider"] > 0 for row in result["captions"]] == [False, False, True]


def test_what_does_not_go_with_captions(data: Path) -> None:
    for more in (["--model", "x"], ["--num", "2"], ["--pointing", "x"]):
        done = CliRunner().invoke(app, ["evaluate", str(data), "--captions", "x", *more])
        assert (done.exit_code, done.stderr.startswith(f"capcli: {more[0]} is for a model's captions")) == (2, True)
