import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import PHOTOS
from tiny_runs import SMALL, SMALLER, train

from capcli.captioner import Captioner
from capcli.training import loop
from capcli.training.options import TrainOptions
from capcli.training.setup import set_up


@pytest.mark.parametrize("box", [[0.2, 0.2, 0.3, 0.3], [0.8, 0.2, 0.3, 0.3]])
def test_attention_learns_where_people_are(tmp_path: Path, box: list[float]) -> None:
    shutil.copy(PHOTOS / "chelsea.jpg", tmp_path)
    rows = [{"file_path": "chelsea.jpg", "captions": ["a man looks"] * 2, "split": "train"}]
    (tmp_path / "one.json").write_text(json.dumps(rows))
    (tmp_path / "boxes.json").write_text(json.dumps({"chelsea.jpg": [box]}))
    # Of three words in all, those that may follow are so few that short sentences would fill the beam.
    more = ["--set", "no_echo=false", "--epochs", 1, "--captions-per-batch", 4, "--learning-rate", "0.003"]
    more += ["--set", f"attention_boxes={tmp_path / 'boxes.json'}", *SMALL]
    result = train(f"{tmp_path / 'one.json'}=60", "--output", tmp_path / "run", *more)
    assert result.exit_code == 0, result.stderr
    caption = Captioner.load(tmp_path / "run", "cpu").caption(PHOTOS / "chelsea.jpg")
    assert caption.words[:2] == ("a", "man")
    # 3×3 cells, whose places are 0.35 of a cell right of and below their middles
    assert int(caption.attention[1].argmax()) == (0 if box[0] < 0.5 else 2)
    assert caption.attention[1].max() > 0.8


@pytest.mark.parametrize("decoder", ["pre-inject", "par-inject", "hard"])
def test_every_decoder_learns(pair: Path, tmp_path: Path, decoder: str) -> None:
    more = ["--decoder", decoder, "--epochs", 2, "--captions-per-batch", 4, "--learning-rate", "0.005"]
    result = train(f"{pair}=240", "--output", tmp_path / "run", *more, *SMALL)
    assert result.exit_code == 0, result.stderr
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[1]["cider"] > 900  # both captions by heart; hard attention's last epoch draws its locations


def test_hard_attention_begins_with_expected_contexts(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = SMALLER | {"image_size": 96}
    options = TrainOptions((f"{pair}=20",), decoder="hard", epochs=3, captions_per_batch=4, **sizes)
    setup = set_up(options, tmp_path / "run", torch.device("cpu"))
    monkeypatch.setattr(loop, "set_up", lambda *_: setup)
    drawn: list[bool] = []
    setup.model.decoder.register_forward_hook(lambda _, __, reading: drawn.append(bool((reading.attention == 1).any())))
    loop.train(options, tmp_path / "run", torch.device("cpu"))
    first, second = (len(list(setup.batches(epoch))) for epoch in (0, 1))
    assert first > 0
    assert not any(drawn[:first])
    assert any(drawn[first : first + second])
