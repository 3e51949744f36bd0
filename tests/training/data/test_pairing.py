"""Sentences without photos: each is lent the photo whose captions are nearest."""

from pathlib import Path

import pytest
import torch

from capcli.training.data.datasets import DataError, Photo
from capcli.training.data.pairing import MOST, lend_photos, read_sentences
from capcli.training.learning.options import TrainOptions
from capcli.training.learning.setup import Setup, set_up

pytest.importorskip("scipy", reason="the extra `train` is not installed")

SAID = (
    ("a black dog runs on grass", "the dog is running"),
    ("a brown horse in a field", "a horse eats grass"),
    ("two boats on a lake", "boats and a pier"),
    ("a horse and a dog", "a pier"),
    ("a black boat", "running water and a field"),
)
PHOTOS = [Photo(Path(f"{number}.jpg"), captions, "train") for number, captions in enumerate(SAID)]


def test_a_sentence_is_lent_the_photo_of_its_words() -> None:
    lent = lend_photos(["A black dog, running!", "a brown horse", "xylophones", "two boats on a lake"], PHOTOS)
    assert lent[0] == ["a black dog running"]
    assert lent[1] == ["a brown horse"]
    assert sum(map(len, lent)) == 2, "a sentence without a known word, and a photo's own caption, are left out"


def test_no_photo_takes_all_sentences() -> None:
    sentences = [f"a brown horse {number}" for number in range(3 * MOST)]
    lent = lend_photos(sentences, PHOTOS)
    assert len(lent[1]) == MOST
    assert all(len(own) <= MOST for own in lent)
    assert lent == lend_photos(sentences, PHOTOS)


def test_a_missing_file_of_sentences_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        read_sentences([str(tmp_path / "none.txt")])


@pytest.fixture
def with_sentences(pair: Path, tmp_path: Path) -> Setup:
    text = tmp_path / "sentences.txt"
    text.write_text("".join(f"the cat looks at number {word}\n" for word in "one two three four five six".split()))
    sizes = {"image_size": 64, "hidden_size": 8, "embedding_size": 8, "attention_size": 8, "views": 1}
    options = TrainOptions(
        (str(pair),), epochs=3, sentences=(str(text),), sentence_epochs=2, min_count=1, precision="fp32", **sizes
    )
    return set_up(options, tmp_path / "run", torch.device("cpu"))


def test_sentences_are_read_once_in_the_first_epochs(with_sentences: Setup) -> None:
    setup, words = with_sentences, with_sentences.model.vocabulary.words
    assert "six" in words, "the vocabulary has the sentences' words too"
    read: list[list[str]] = []
    for epoch in range(3):
        sentences = []
        for batch in setup.batches(epoch):
            assert set(batch.photos.tolist()) <= set(range(len(setup.photos)))
            sentences += [" ".join(words[i] for i in ids if i > 3) for ids in batch.targets.flatten(0, 1).tolist()]
        read.append(sorted(sentence for sentence in sentences if "number" in sentence))
    assert len(read[0]) + len(read[1]) == 6
    assert len({*read[0], *read[1]}) == 6
    assert read[2] == []
    assert [len(setup.shown(epoch)) - len(setup.order) for epoch in range(3)] == [1, 1, 0]
