import json
from pathlib import Path

import pytest
import torch

from capcli.model.vocabulary import END, PAD, START, Vocabulary
from capcli.training.datasets import (
    DataError,
    Photo,
    encode_captions,
    epoch_batches,
    mirror,
    read_data_set,
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_flickr_layout(tmp_path: Path) -> None:
    touch(tmp_path, "Flicker8k_Dataset/a.jpg", "Flicker8k_Dataset/b.jpg", "Flicker8k_Dataset/c.jpg")
    (tmp_path / "Flickr8k.token.txt").write_text(
        "a.jpg#0\tA dog .\na.jpg#1\tOne dog .\nb.jpg#0\tA cat .\nc.jpg#0\tX .\n"
    )
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("a.jpg\n")
    (tmp_path / "Flickr_8k.devImages.txt").write_text("b.jpg\n")
    data_set = read_data_set(f"{tmp_path}=3")
    assert data_set.repeat == 3
    assert data_set.split("train") == [Photo(tmp_path / "Flicker8k_Dataset/a.jpg", ("A dog .", "One dog ."), "train")]
    assert [p.captions for p in data_set.split("dev")] == [("A cat .",)]


def test_karpathy_json(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "b.jpg", "val2014/c.jpg")
    rows = [
        {"filename": "a.jpg", "split": "restval", "sentences": [{"raw": "A dog."}, {"raw": "Dogs."}]},
        {"filename": "b.jpg", "split": "val", "sentences": [{"raw": "A cat."}]},
        {"filename": "c.jpg", "filepath": "val2014", "split": "test", "sentences": [{"raw": "A bus."}]},
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"images": rows, "dataset": "coco"}))
    for argument in (str(tmp_path), str(tmp_path / "dataset.json")):
        photos = read_data_set(argument).photos
        assert [(p.split, len(p.captions)) for p in photos] == [("train", 2), ("dev", 1), ("test", 1)]
        assert [p.path.relative_to(tmp_path) for p in photos] == [
            Path("images/a.jpg"),
            Path("b.jpg"),
            Path("val2014/c.jpg"),
        ]


def test_a_plain_list_holds_some_photos_out(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(40)]
    touch(tmp_path, *names)
    (tmp_path / "mine.json").write_text(json.dumps([{"file_path": n, "captions": ["a photo"]} for n in names]))
    data_set = read_data_set(str(tmp_path / "mine.json"))
    assert (len(data_set.split("train")), len(data_set.split("dev"))) == (38, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"data\.json: not JSON \(Expecting property name.*\); captioned photos are .*file_path"),
        ("7", "not a list of captioned photos, .*file_path"),
        ('{"annotations": []}', "not a list of captioned photos, .*file_path"),
        ('["a.jpg"]', "'a.jpg' where a photo should be"),
        ('[{"path": "a.jpg", "captions": ["x"]}]', "a row has no 'file_path'"),
        ('[{"file_path": "a.jpg"}]', "a row has no 'captions'"),
        ('[{"file_path": 7, "captions": ["x"]}]', "7 where a photo's name should be"),
        ('{"images": [{"file_name": "a.jpg"}]}', "a row has no 'filename'"),
        ('{"images": [{"filename": "a.jpg"}]}', "a row has no 'sentences'"),
        ('{"images": [{"filename": "a.jpg", "sentences": [7]}]}', "a caption of a.jpg has no word: 7"),
        ('[{"file_path": "a.jpg", "captions": ["x"], "split": ["dev"]}]', r"split \['dev'\] of a.jpg; known"),
        ('[{"file_path": "a.jpg", "captions": ["x"], "split": "holdout"}]', "split 'holdout'"),
        ("[]", "no captioned photos"),
    ],
)
def test_bad_data_says_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_data_set(str(tmp_path / "data.json"))


def test_what_is_no_json_is_told_what_captions_are_read_from(tmp_path: Path) -> None:
    (tmp_path / "data.dat").write_bytes(b"file,caption\na.jpg,a cat\n")
    with pytest.raises(DataError) as raised:
        read_data_set(str(tmp_path / "data.dat"))
    form = '[{"file_path": "a.jpg", "captions": ["a cat", …]}, …]'
    said = f"not JSON; captioned photos are {form} or a folder in the Flickr8k layout"
    assert str(raised.value) == f"{tmp_path / 'data.dat'}: {said}"
    (tmp_path / "Flickr8k.token.txt").write_bytes(b"a.jpg#0\ta \xff\n")
    with pytest.raises(DataError, match=r"token\.txt: not text in UTF-8$"):
        read_data_set(str(tmp_path))


def test_photos_are_missed_where_they_belong(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"file_path": f"{name}.jpg", "captions": ["x"]} for name in "ab"]))
    with pytest.raises(DataError) as raised:
        read_data_set(str(path))
    assert str(raised.value) == f"{path}: 2 photos are missing, the first of them {tmp_path / 'a.jpg'}"
    touch(tmp_path, "a.jpg", "images/c.jpg")
    with pytest.raises(DataError) as raised:
        read_data_set(str(path))
    assert str(raised.value) == f"{path}: a photo is missing: {tmp_path / 'images' / 'b.jpg'}"


def test_absent_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_data_set(str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"0 JSON files and no \*.token.txt"):
        read_data_set(str(tmp_path))


@pytest.mark.parametrize("captions", ["a cat", [], ["a cat", ""], ["!"], [7]])
def test_captions_have_words(tmp_path: Path, captions: object) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"file_path": "a.jpg", "captions": captions}]))
    with pytest.raises(DataError, match=r"a\.json: not a list of captioned photos \(.*caption.* of a\.jpg"):
        read_data_set(str(tmp_path / "a.json"))


def test_a_caption_that_is_cut_off_has_no_end() -> None:
    photo = Photo(Path("a"), ("a b c d e", "a b c d", "a"), "train")
    vocabulary = Vocabulary.build(photo.captions, 1)
    a, b, c, d, e = (vocabulary.ids[word] for word in "abcde")
    assert encode_captions([photo], vocabulary, 4)[0][0] == ([a, b, c, d, e], [a, b, c, d, END], [a, END])


def test_mirrored_photos_swap_left_and_right() -> None:
    assert mirror("A man on the left, a dog right of him.") == "a man on the right a dog left of him"


def test_batches_show_every_photo_as_often_as_asked() -> None:
    counts = [5, 5, 1, 3, 7, 5, 1, 2]
    photos = [Photo(Path(str(i)), tuple(f"a b {'c ' * j}" for j in range(n)), "train") for i, n in enumerate(counts)]
    vocabulary = Vocabulary.build((c for p in photos for c in p.captions), 1)
    captions = encode_captions(photos, vocabulary, max_length=4)
    order = [0, 1, 2, 3, 4, 5, 6, 7, 7]
    shown: list[int] = []
    batches = list(epoch_batches(captions, order, [False, True], captions_per_batch=10, seed=1))
    for batch in batches:
        shown += batch.photos.tolist()
        rows, columns, time = batch.words.shape
        assert rows * columns <= 10
        assert time <= 5
        assert (batch.words[:, :, 0] == START).all()
        cut_off = (batch.targets != PAD).sum(2) == 5
        assert ((batch.targets == END).sum(2) == 1).logical_or(cut_off).all()
        inner = batch.words[:, :, 1:] != PAD  # each word was a target one step before
        assert torch.equal(batch.words[:, :, 1:][inner], batch.targets[:, :, :-1][inner])
        for photo in batch.photos.tolist():
            assert columns == min(counts[photo], 5)
    assert sorted(shown) == order
    again = list(epoch_batches(captions, order, [False, True], captions_per_batch=10, seed=1))
    assert all(
        torch.equal(a.words, b.words) and torch.equal(a.views, b.views) for a, b in zip(batches, again, strict=True)
    )
    other = list(epoch_batches(captions, order, [False, True], captions_per_batch=10, seed=2))
    assert [b.photos.tolist() for b in other] != [b.photos.tolist() for b in batches]


def test_rows_of_one_photo_are_one_photo(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(40)]
    touch(tmp_path, *names)
    rows = [{"file_path": n, "captions": [caption]} for caption in ("a photo", "a picture") for n in names]
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    data_set = read_data_set(str(tmp_path / "mine.json"))
    assert [len(data_set.split(name)) for name in ("train", "dev")] == [38, 2]
    assert all(photo.captions == ("a photo", "a picture") for photo in data_set.photos)


def test_a_photo_has_one_split(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    rows = [{"file_path": "a.jpg", "captions": ["a dog"], "split": split} for split in ("train", "val")]
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"a\.jpg is marked train and dev"):
        read_data_set(str(tmp_path / "mine.json"))
    (tmp_path / "Flickr8k.token.txt").write_text("a.jpg#0\tA dog .\n")
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("a.jpg\n")
    (tmp_path / "Flickr_8k.devImages.txt").write_text("a.jpg\n")
    with pytest.raises(DataError, match=r"a\.jpg is listed as train and dev"):
        read_data_set(str(tmp_path))
