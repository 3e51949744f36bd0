import json
from pathlib import Path

import pytest
import torch

from capcli.model.vocabulary import END, PAD, START, Vocabulary
from capcli.training.data.datasets import (
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


def write_coco(folder: Path, part: str, names: list[str]) -> None:
    """COCO's own file, and empty photos; the last photo has no caption."""
    touch(folder.parent if folder.name == "annotations" else folder, *(f"{part}/{name}" for name in names))
    folder.mkdir(exist_ok=True)
    images = [{"id": i, "file_name": name, "height": 8} for i, name in enumerate(names)]
    rows = [{"image_id": i, "id": i + 9 * j, "caption": "A cat.\n"} for j in (0, 1) for i in range(len(names) - 1)]
    rows.append({"image_id": 0, "id": 99, "caption": "."})
    content = {"info": {}, "images": images, "licenses": [], "annotations": rows}
    (folder / f"captions_{part}.json").write_text(json.dumps(content))


def test_cocos_own_files(tmp_path: Path) -> None:
    places = tmp_path / "annotations"
    write_coco(places, "train2017", ["1.jpg", "2.jpg", "3.jpg"])
    write_coco(places, "val2017", ["7.jpg", "8.jpg"])
    (places / "instances_val2017.json").write_text("{}")
    photos = read_data_set(str(tmp_path)).photos
    found = [(photo.path.relative_to(tmp_path).as_posix(), photo.split) for photo in photos]
    assert found == [("train2017/1.jpg", "train"), ("train2017/2.jpg", "train"), ("val2017/7.jpg", "dev")]
    assert {photo.captions for photo in photos} == {("A cat.", "A cat.")}
    alone = read_data_set(str(places / "captions_train2017.json"), allow_outside=True)
    assert [len(alone.split(name)) for name in ("train", "dev")] == [1, 1]  # which one holds out
    with pytest.raises(DataError, match=r"1\.jpg: not below .*annotations, once links .*; --allow-outside reads it"):
        read_data_set(str(places / "captions_train2017.json"))
    write_coco(places, "train2014", ["1.jpg", "2.jpg"])
    with pytest.raises(DataError, match=r"3 JSON files and no .*; name the JSON file itself"):
        read_data_set(str(tmp_path))


def test_cocos_own_file_beside_its_photos(tmp_path: Path) -> None:
    write_coco(tmp_path, "train2017", ["1.jpg", "2.jpg", "3.jpg"])
    assert len(read_data_set(str(tmp_path)).photos) == len(
        read_data_set(str(tmp_path / "captions_train2017.json")).photos
    )


def test_a_list_of_images_in_a_file_for_each_split(tmp_path: Path) -> None:
    touch(tmp_path, "images/val2014/a.jpg", "b.jpg", "c.jpg")
    for split, rows in {
        "train": [{"image": "val2014/a.jpg", "caption": "a cat", "image_id": "coco_1"}] * 2,
        "val": [{"image": "b.jpg", "caption": ["a dog", "dogs"]}],
        "test": [{"image": "c.jpg", "caption": "a boat"}],
    }.items():
        (tmp_path / f"coco_karpathy_{split}.json").write_text(json.dumps(rows))
    photos = read_data_set(str(tmp_path)).photos
    assert {photo.path.name: (photo.split, photo.captions) for photo in photos} == {
        "a.jpg": ("train", ("a cat", "a cat")),
        "b.jpg": ("dev", ("a dog", "dogs")),
        "c.jpg": ("test", ("a boat",)),
    }
    (tmp_path / "coco_karpathy_test.json").write_text('[{"image": "b.jpg", "caption": "a dog"}]')
    with pytest.raises(DataError, match=r"b\.jpg is marked test and dev|b\.jpg is marked dev and test"):
        read_data_set(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [{"id": 1}], "annotations": []}, "a row has no 'file_name'"),
        ({"images": [{"file_name": "a.jpg"}], "annotations": []}, "a row has no 'id'"),
        ({"images": [7], "annotations": []}, "7 where a photo should be"),
        ({"images": [], "annotations": [7]}, "7 where a caption should be"),
        ({"images": [], "annotations": [{"bbox": []}]}, "a row has no 'caption'"),
        ({"images": [{"id": [], "file_name": "a.jpg"}], "annotations": []}, "no captioned photos"),
        ([{"image": "a.jpg"}], "no caption or text of a.jpg"),
        ([{"image": "a.jpg", "caption": None}], "the captions of a.jpg are not a list with at least one"),
        ([{"image": 7, "caption": "a cat"}], "no path, file_name or image"),
    ],
)
def test_bad_rows_of_others(tmp_path: Path, content: object, message: str) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "data.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_data_set(str(tmp_path / "data.json"))


def outside(form: str, folder: Path, secret: Path) -> Path:
    """Write a stranger's data set that names a file elsewhere; return what to name."""
    folder.mkdir()
    if form == "photo linked":
        (folder / "me.jpg").symlink_to(secret / "me.jpg")
        (folder / "me.txt").write_text("a cat")
    elif form == "sidecar linked":
        touch(folder, "a.jpg")
        (folder / "a.txt").symlink_to(secret / "diary.txt")
    elif form == "list linked":
        (folder / "metadata.jsonl").symlink_to(secret / "metadata.jsonl")
        touch(folder, "me.jpg")
    elif form == "folder linked":
        (folder / "images").symlink_to(secret)
        (folder / "dataset.json").write_text('[{"file_path": "me.jpg", "captions": ["a cat"]}]')
    elif form == "split linked":
        touch(folder, "me.jpg")
        (folder / "a.token.txt").write_text("me.jpg#0\ta cat\n")
        (folder / "trainImages.txt").symlink_to(secret / "names.txt")
    else:
        name = str(secret / "me.jpg") if form.startswith("absolute") else "../secret/me.jpg"
        row = {"file_name": name, "text": "a cat"} if form.endswith("row") else {"file_path": name, "captions": ["a"]}
        (folder / ("metadata.jsonl" if form.endswith("row") else "dataset.json")).write_text(
            json.dumps(row if form.endswith("row") else [row])
        )
    return folder


@pytest.mark.parametrize(
    "form",
    [
        *("photo linked", "sidecar linked", "list linked", "folder linked", "split linked"),
        *("absolute row", "relative row", "absolute path", "relative path"),
    ],
)
def test_a_strangers_data_set_stays_in_its_folder(tmp_path: Path, form: str) -> None:
    secret = tmp_path / "secret"
    touch(secret, "me.jpg")
    (secret / "diary.txt").write_text("dear diary")
    (secret / "names.txt").write_text("me.jpg\n")
    (secret / "metadata.jsonl").write_text('{"file_name": "me.jpg", "text": "a cat"}')
    try:
        named = outside(form, tmp_path / "stranger", secret)
    except OSError:
        pytest.skip("links need a permission here")
    with pytest.raises(DataError, match=r"not below .*stranger, once links are followed; --allow-outside reads it"):
        read_data_set(str(named))
    assert len(read_data_set(str(named), allow_outside=True).photos) == 1


def test_links_inside_a_data_set_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.jpg")
    try:
        (tmp_path / "images").symlink_to(tmp_path / "real")
    except OSError:
        pytest.skip("links need a permission here")
    (tmp_path / "dataset.json").write_text('[{"file_path": "a.jpg", "captions": ["a cat"]}]')
    assert read_data_set(str(tmp_path)).photos[0].path == tmp_path / "images" / "a.jpg"
