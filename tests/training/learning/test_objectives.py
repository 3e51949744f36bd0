import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fakes import PHOTOS, SMALL, SMALLER, train

from capcli.captioner import Captioner
from capcli.model.vocabulary import END, SPECIAL_WORDS, START, UNKNOWN, Vocabulary
from capcli.training.data.datasets import Batch, Photo
from capcli.training.learning import loop, objectives
from capcli.training.learning.objectives import CrossEntropy, SelfCritical
from capcli.training.learning.options import TrainOptions
from capcli.training.learning.ranks import Ranks
from capcli.training.learning.setup import set_up


@pytest.mark.slow
@pytest.mark.parametrize("box", [[0.2, 0.2, 0.3, 0.3], [0.8, 0.2, 0.3, 0.3]])
def test_attention_learns_where_people_are(tmp_path: Path, box: list[float]) -> None:
    shutil.copy(PHOTOS / "chelsea.jpg", tmp_path)
    rows = [{"file_path": "chelsea.jpg", "captions": ["a man looks"] * 2, "split": "train"}]
    (tmp_path / "one.json").write_text(json.dumps(rows))
    (tmp_path / "boxes.json").write_text(json.dumps({"chelsea.jpg": [box]}))
    # Of three words in all, those that may follow are so few that short sentences would fill the beam.
    more = ["--set", "no_echo=false", "--epochs", 1, "--set", "captions_per_batch=4", "--learning-rate", "0.003"]
    more += ["--set", f"attention_boxes={tmp_path / 'boxes.json'}", *SMALL]
    result = train(f"{tmp_path / 'one.json'}=60", "--output", tmp_path / "run", *more)
    assert result.exit_code == 0, result.stderr
    caption = Captioner.load(tmp_path / "run", "cpu").caption(PHOTOS / "chelsea.jpg")
    assert caption.words[:2] == ("a", "man")
    # 3×3 cells, whose places are 0.35 of a cell right of and below their middles
    assert int(caption.attention[1].argmax()) == (0 if box[0] < 0.5 else 2)
    assert caption.attention[1].max() > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["pre-inject", "par-inject", "hard"])
def test_every_decoder_learns(pair: Path, tmp_path: Path, decoder: str) -> None:
    more = ["--decoder", decoder, "--epochs", 2, "--set", "captions_per_batch=4", "--learning-rate", "0.005"]
    result = train(f"{pair}=240", "--output", tmp_path / "run", *more, *SMALL)
    assert result.exit_code == 0, result.stderr
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[1]["cider"] > 900  # both captions by heart; hard attention's last epoch draws its locations


@pytest.mark.slow
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


def test_words_that_no_caption_of_the_photo_holds_cost_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = [Photo(Path("a.jpg"), ("a cat on a sofa", "a cat"), "train"), Photo(Path("b.jpg"), ("a dog",), "train")]
    drawn = torch.tensor([[[4, 5, END], [4, 6, END]]] * 2)  # "a cat" and "a dog", of both photos
    model = SimpleNamespace(vocabulary=Vocabulary([*SPECIAL_WORDS, "a", "cat", "dog"]), config=SimpleNamespace())
    model.config.max_length, model.decoder = 20, lambda features, words: SimpleNamespace(logits=None)
    rewards: list[torch.Tensor] = []
    monkeypatch.setattr(objectives, "sample_captions", lambda *_: drawn)
    monkeypatch.setattr(objectives, "policy_loss", lambda *_: torch.zeros(()))
    monkeypatch.setattr(objectives, "advantages", lambda given: rewards.append(given.clone()) or given)
    batch = Batch(torch.tensor([0, 1]), torch.tensor([0, 0]), drawn, drawn)
    for penalty in (0.0, 0.5):
        SelfCritical(photos, None, Ranks(), penalty)(model, None, batch)  # type: ignore[arg-type]
    assert (rewards[0] - rewards[1]).tolist() == [[0, 0.5], [0.5, 0]]


def test_words_that_are_dropped_are_read_as_unknown() -> None:
    torch.manual_seed(1)
    read: list[torch.Tensor] = []

    def decoder(features: object, words: torch.Tensor) -> SimpleNamespace:
        read.append(words)
        return SimpleNamespace(logits=torch.zeros(*words.shape, 9), distribution=None)

    words = torch.tensor([[[START, *range(4, 9)] * 40]])
    options = TrainOptions(("none",), word_dropout=0.25)
    batch = Batch(torch.tensor([0]), torch.tensor([0]), words, words)
    CrossEntropy(options, None, Ranks()).read(decoder, None, batch, words, words)  # type: ignore[arg-type]
    assert (read[0] == UNKNOWN).float().mean() == pytest.approx(0.25 * 5 / 6, abs=0.06)
    assert torch.equal(read[0] == START, words == START)
    assert torch.equal(read[0][read[0] != UNKNOWN], words[read[0] != UNKNOWN])
