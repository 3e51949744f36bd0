"""Captioned photos, read from data sets and batched."""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from reprlib import repr as brief
from typing import Any, BinaryIO

import torch
from torch import Tensor

from capcli.images.find import PHOTO_FOLDERS, is_image
from capcli.model.vocabulary import END, PAD, START, Vocabulary, tokenize
from capcli.training.data.captions import METADATA, ROWS, TABLES, is_table, read_caption_row, read_rows, read_sidecars
from capcli.training.data.packed import SHARDS, Packed, read_parquet, read_tar

FLICKR30K_FOLDERS = ("flickr30k_images", "flickr30k-images")
COCO_FOLDERS = ("train2017", "val2017")  # whose photos Karpathy's file calls COCO_val2014_….jpg
KARPATHY = ("dataset.json", "dataset_coco.json", "dataset_flickr8k.json", "dataset_flickr30k.json")
COCO_LISTS = ("captions_*20??.json", "annotations/captions_*20??.json")
SPLITS = {"train": "train", "restval": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev"}
SPLITS |= {"test": "test"}
FLICKR_SPLITS = {"train": "*trainImages.txt", "dev": "*devImages.txt", "test": "*testImages.txt"}
SPLIT_IN_NAME = re.compile(r"(?<![a-z])(train|dev|val|valid|validation|test)(?![a-z])")  # of a file of one split
HELD_OUT = 20  # one photo in this many becomes a dev photo if a data set has no splits
CAPTIONS_AT_ONCE = 5
PLAIN_LIST = '[{"file_path": "a.jpg", "captions": ["a cat", …]}, …]'
SHARD_PATTERNS = [[pattern] for ending in SHARDS for pattern in (f"*{ending}", f"data/*{ending}")]
MIRRORED = {"left": "right", "right": "left"}


class DataError(Exception):
    """Report unusable training data; str() is one line with the file and the reason."""


@dataclass(frozen=True)
class Photo:
    """Hold a photo and people's captions of it.

    path: its file's, or its name behind that of the file that it is packed in.
    captions: one or more.
    split: train, dev, test, or "" if unknown.
    place: in a file that holds several photos; None for a file of its own.
    """

    path: Path
    captions: tuple[str, ...]
    split: str
    place: Packed | None = None

    def source(self) -> Path | BinaryIO:
        """Return what to decode. Raises OSError."""
        return self.place.open(str(self.path)) if self.place else self.path

    def stamp(self) -> tuple[str, int, int]:
        """Return what changes when the photo does: its path, the size in bytes of its file, and when that was changed.

        Raises OSError.
        """
        status = (self.place.file if self.place else self.path).stat()
        return str(self.path), status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class DataSet:
    """Hold a named set of photos.

    name: its folder's.
    photos: of all splits.
    repeat: showings of each training photo per epoch, 1 or more.
    """

    name: str
    photos: list[Photo]
    repeat: int = 1

    def split(self, name: str) -> list[Photo]:
        """Return one split's photos in listed order."""
        return [photo for photo in self.photos if photo.split == name]

    def limited(self, most: int | None) -> DataSet:
        """Return a set with at most so many photos of each split, spread evenly over it; None takes all."""
        splits = [self.split(name) for name in dict.fromkeys(photo.split for photo in self.photos)]
        counts = [len(photos) if most is None else min(most, len(photos)) for photos in splits]
        kept = [photos[i * len(photos) // n] for photos, n in zip(splits, counts, strict=True) for i in range(n)]
        return self if most is None else replace(self, photos=kept)

    def require(self, name: str) -> list[Photo]:
        """Return one split's photos. Raises DataError, listing the other splits, if there are none."""
        if photos := self.split(name):
            return photos
        counts = Counter(photo.split for photo in self.photos)
        known = ", ".join(f"{split} ({counts[split]})" for split in FLICKR_SPLITS if counts[split])
        raise DataError(f"{self.name}: no photos in split {name!r}; there are {known}")


def read_data_set(argument: str, hold_out: bool = True, allow_outside: bool = False) -> DataSet:
    """Return the data set named on the command line.

    PATH is a list (see `read_list`), a folder with lists (see `find_lists`), or a folder of photos with sidecars.
    Photos are in `images/`, `Flicker8k_Dataset/` or beside the list; COCO's in `train2017/` and the like.

    argument: `PATH` or `PATH=N`; an epoch shows each photo N times.
    hold_out: whether every twentieth photo becomes dev if none has a split; else all are train.
    allow_outside: whether files may lie outside the set's folder; a stranger's list or link could name a private photo.

    Raises DataError, also for missing photos.
    """
    name, _, count = argument.rpartition("=")
    repeat = 1
    if name and count.isdecimal() and not Path(argument).exists():
        argument, repeat = name, int(count)
        if repeat < 1:
            raise DataError(f"{argument}: a data set counts at least once")
    path = Path(argument)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    home = path if path.is_dir() else path.parent
    check = (lambda _: None) if allow_outside else stay_below(home)
    lists = find_lists(path) if path.is_dir() else [path]
    if path.is_dir():
        for file in lists:
            check(file)
    if len(lists) > 1:
        parts = [(split_in_name(file), photo) for file in lists for photo in read_list(file, check)]
        photos = join(path, (photo if photo.split else replace(photo, split=split) for split, photo in parts))
    else:
        photos = read_list(lists[0], check) if lists else read_captioned_folder(path, check)
    if not photos:
        raise DataError(f"{path}: no captioned photos")
    missing = [photo.path for photo in photos if not (photo.place or photo.path.is_file())]
    if missing:
        several = f"{len(missing)} photos are missing, the first of them" if len(missing) > 1 else "a photo is missing:"
        raise DataError(f"{path}: {several} {missing[0]}")
    for photo in photos:
        if not photo.place:
            check(photo.path)
    if hold_out and not any(photo.split for photo in photos):
        photos = [replace(p, split="dev" if i % HELD_OUT == 0 else "train") for i, p in enumerate(photos)]
    photos = [p if p.split else replace(p, split="train") for p in photos]
    return DataSet(home.resolve().name, photos, repeat)


def stay_below(home: Path) -> Callable[[Path], None]:
    """Return a check that raises DataError for files that, links followed, lie outside a folder."""
    root = os.path.realpath(home)
    real = cache(os.path.realpath)

    def check(path: Path) -> None:
        # Few files are links and many share a folder, so folders are resolved once.
        place = os.path.realpath(path) if path.is_symlink() else os.path.join(real(path.parent), path.name)
        if not Path(place).is_relative_to(root):
            raise DataError(f"{path}: not below {home}, once links are followed; --allow-outside reads it nevertheless")

    return check


def find_lists(folder: Path) -> list[Path]:
    """Return a folder's list of photos, or one per split; empty if there is none.

    The first of: `*.token.txt`; ImageFolder's metadata, there or in a folder for each split; Karpathy's file; Kaggle's
    `captions.txt` or `results.csv`; shards, of which there may be many, there or in `data/`; COCO's own files, there or
    in `annotations/`; any other JSON.

    Raises DataError for several JSON files that are not one per split.
    """
    tokens = sorted(filter(Path.is_file, folder.glob("*.token.txt")))
    first = tokens if any(folder.glob(FLICKR_SPLITS["train"])) else []
    first += [path for name in METADATA if (path := folder / name).is_file()]
    first += [path for name in KARPATHY if (path := folder / name).is_file()]
    first += [path for name in TABLES if is_table(path := folder / name)]
    if first or tokens:
        return (first or tokens)[:1]
    holds_photos = any(is_image(entry.name) for entry in os.scandir(folder))
    for several in (
        [f"{split}/{name}" for split in SPLITS for name in METADATA],
        *([] if holds_photos else SHARD_PATTERNS),
    ):
        if files := sorted({file for pattern in several for file in folder.glob(pattern) if file.is_file()}):
            return files
    files = sorted(file for pattern in COCO_LISTS for file in folder.glob(pattern)) or sorted(folder.glob("*.json"))
    files = list(filter(Path.is_file, files))  # a pipe would be waited for
    splits = {split_in_name(file) for file in files} - {""}
    if len(files) > 1 and len(splits) < len(files):
        raise DataError(f"{folder}: {len(files)} JSON files and no *.token.txt; name the JSON file itself")
    return files


def split_in_name(file: Path) -> str:
    """Return the split in the name of a file, as `captions_val2017.json`, or else of its folder, or ""."""
    found = SPLIT_IN_NAME.search(file.stem.lower())
    return SPLITS[found[1]] if found else SPLITS.get(file.parent.name.lower(), "")


def read_list(file: Path, check: Callable[[Path], None]) -> list[Photo]:
    """Return a list's photos: Flickr8k's, rows, shards, or JSON.

    check: raises DataError for a file that may not be read.

    Raises DataError.
    """
    if file.name.endswith(".token.txt"):
        return read_flickr(file, check)
    if file.suffix.lower() in SHARDS:
        return read_shard(file)
    if file.suffix.lower() in ROWS or is_table(file):
        return read_caption_rows(file, check)
    return read_photo_json(file)


def read_flickr(tokens: Path, check: Callable[[Path], None]) -> list[Photo]:
    """Return the photos of a Flickr8k list.

    tokens: lines of `name.jpg#0<TAB>caption`, with lists of each split's names beside it.
    check: see `read_list`.

    Raises DataError.
    """
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(read_lines(tokens), 1):
        name, tab, caption = line.partition("\t")
        if not tab:
            raise DataError(f"{tokens}: line {number} has no tab between name and caption")
        if not tokenize(caption):
            raise DataError(f"{tokens}: line {number} has no word after the tab")
        captions.setdefault(name.rpartition("#")[0], []).append(caption.strip())
    photos = divide(tokens, captions, check)
    if not photos:
        raise DataError(f"{tokens.parent}: no *trainImages.txt beside {tokens.name}")
    return photos


def divide(source: Path, captions: Mapping[str, Sequence[str]], check: Callable[[Path], None]) -> list[Photo]:
    """Return the photos in the lists of names, one per split, beside a file; none without lists.

    captions: by photo name.
    check: see `read_list`.

    Raises DataError.
    """
    photos = []
    for split, pattern in FLICKR_SPLITS.items():
        for listing in sorted(filter(Path.is_file, source.parent.glob(pattern))):
            check(listing)
            for name in filter(None, map(str.strip, read_lines(listing))):
                if name not in captions:
                    raise DataError(f"{listing}: {name} has no caption in {source.name}")
                photos.append(Photo(locate(source.parent, name), tuple(captions[name]), split))
    splits: dict[Path, str] = {}
    for photo in photos:
        if splits.setdefault(photo.path, photo.split) != photo.split:
            raise DataError(f"{source.parent}: {photo.path.name} is listed as {splits[photo.path]} and {photo.split}")
    return photos


def read_caption_rows(path: Path, check: Callable[[Path], None]) -> list[Photo]:
    """Return the photos in rows of capcli, ImageFolder, or Kaggle's Flickr8k or Flickr30k.

    Paths in capcli's rows are relative to where the command ran; photos not found there, and in other rows, are sought
    below the file's folder.

    check: see `read_list`.

    Raises DataError.
    """

    def place(name: str, relative: bool) -> Path:
        first = path.parent / name if relative else Path(name)
        return first if first.is_file() else locate(path.parent, name)

    try:
        rows = list(read_rows(path))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    by_name: dict[str, list[str]] = {}
    for name, captions, _ in rows:
        by_name.setdefault(name, []).extend(captions)
    return divide(path, by_name, check) or join(
        path, (Photo(place(name, relative), tuple(captions), "") for name, captions, relative in rows)
    )


def read_shard(file: Path) -> list[Photo]:
    """Return the photos in a WebDataset shard or a Parquet file, see `packed`. Raises DataError."""
    read = read_tar if file.suffix.lower() == ".tar" else read_parquet
    try:
        rows = [
            Photo(file / name, tuple(captions), split_of(split, name), place)
            for name, place, captions, split in read(file)
        ]
    except ValueError as error:
        raise DataError(f"{file}: {error}") from None
    except OSError as error:
        raise DataError(f"{file}: {(error.strerror or str(error)).lower()}") from None
    return join(file, rows)


def split_of(split: Any, name: str) -> str:
    """Return the split that a row names, "" for none. name: of its photo. Raises ValueError for one that is unknown."""
    if split and not (isinstance(split, str) and split in SPLITS):
        raise ValueError(f"split {split!r} of {name}; known: {', '.join(SPLITS)}")
    return SPLITS.get(split, "")


def read_captioned_folder(path: Path, check: Callable[[Path], None]) -> list[Photo]:
    """Return a folder's photos with sidecars.

    check: see `read_list`.

    Raises DataError, also if no photo has one.
    """
    try:
        photos = [Photo(photo, tuple(captions), "") for photo, captions in read_sidecars(path, check)]
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{error.filename or path}: {(error.strerror or str(error)).lower()}") from None
    if not photos:
        raise DataError(
            f"{path}: 0 JSON files and no *.token.txt, metadata.jsonl or photos with .txt or .caption files"
        )
    return photos


def read_photo_json(path: Path) -> list[Photo]:
    """Return the photos in a JSON file.

    Karpathy's `{"images": [{"filename", "split", "sentences": [{"raw"}]}]}`, COCO's own `{"images": [{"id",
    "file_name"}], "annotations": [{"image_id", "caption"}]}`, or a plain list, `[{"file_path", "captions"}]` or
    `[{"image", "caption"}]`.

    Raises DataError.
    """
    content = load_json(path, f"captioned photos are {PLAIN_LIST} or a folder in the Flickr8k layout")
    plain = not isinstance(content, dict)
    rows = content if plain else content.get("images")
    if not isinstance(rows, list):
        raise DataError(f"{path}: not a list of captioned photos, {PLAIN_LIST}")
    if not plain and isinstance(content.get("annotations"), list):
        return join(path, read_coco(path, rows, content["annotations"]))
    return join(path, (read_row(path.parent, row, plain) for row in rows))


def read_coco(path: Path, images: list[Any], annotations: list[Any]) -> Iterator[Photo]:
    """Yield the captioned photos of COCO's own file.

    They lie in the folder that its name ends in, such as `train2017/`, beside it or one level up, or else beside it.

    images, annotations: decoded rows, unchecked.

    Raises KeyError and ValueError.
    """
    captions: dict[str, list[str]] = {}
    for row in annotations:
        if not isinstance(row, dict) or not isinstance(row["caption"], str):
            raise ValueError(f"{brief(row)} where a caption should be")
        if tokenize(row["caption"]):
            captions.setdefault(repr(row["image_id"]), []).append(row["caption"].strip())
    part = path.stem.removeprefix("captions_")
    folder = next((home / part for home in path.parents[:2] if (home / part).is_dir()), path.parent)
    for row in images:
        if not isinstance(row, dict) or not isinstance(row["file_name"], str):
            raise ValueError(f"{brief(row)} where a photo should be")
        if said := captions.get(repr(row["id"])):  # photos for other tasks have none
            yield Photo(locate(folder, row["file_name"]), tuple(said), "")


def load_json(path: Path, wanted: str) -> Any:
    """Return a decoded JSON file. wanted: its expected content, for the error. Raises DataError."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError) as error:
        # Say where the mistake is only if the file was meant to be JSON.
        where = f" ({error})" if path.suffix.lower() == ".json" else ""
        raise DataError(f"{path}: not JSON{where}; {wanted}") from None


def join(source: Path, rows: Iterable[Photo]) -> list[Photo]:
    """Merge rows into one entry per photo, with all its captions.

    source: for error messages.

    Raises DataError for a photo in two splits or a bad row.
    """
    photos: dict[Path, Photo] = {}
    try:
        for row in rows:
            photo = photos.setdefault(row.path, row)
            if row.split != photo.split:
                raise ValueError(f"{row.path.name} is marked {photo.split or 'nothing'} and {row.split or 'nothing'}")
            if row is not photo:
                photos[row.path] = replace(photo, captions=photo.captions + row.captions)
    except KeyError as error:
        raise DataError(f"{source}: not a list of captioned photos (a row has no {error})") from None
    except ValueError as error:
        raise DataError(f"{source}: not a list of captioned photos ({error})") from None
    return list(photos.values())


def read_row(folder: Path, row: Any, plain: bool) -> Photo:
    """Return the photo in a JSON file's row.

    folder: the file's.
    row: decoded, unchecked.
    plain: whether the file is a plain list, for rows that fit both forms.

    Raises KeyError and ValueError for a row without a photo.
    """
    if not isinstance(row, dict):
        raise ValueError(f"{brief(row)} where a photo should be")
    if "image" in row and "file_path" not in row:
        name, captions, _ = read_caption_row(row)
        parts = [name]
    elif "file_path" in row or (plain and "filename" not in row):
        parts, captions = [row["file_path"]], row["captions"]
    else:
        parts, captions = [row.get("filepath", ""), row["filename"]], row["sentences"]
        if isinstance(captions, list):
            captions = [sentence.get("raw") if isinstance(sentence, dict) else sentence for sentence in captions]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{brief(parts[-1])} where a photo's name should be")
    name = str(Path(*parts))
    if not isinstance(captions, list) or not captions:
        raise ValueError(f"the captions of {name} are not a list with at least one caption")
    for caption in captions:
        if not isinstance(caption, str) or not tokenize(caption):
            raise ValueError(f"a caption of {name} has no word: {brief(caption)}")
    return Photo(locate(folder, name), tuple(captions), split_of(row.get("split", ""), name))


def locate(folder: Path, name: str) -> Path:
    """Return a photo's path, or where it should be, for the error. folder: the list's; name: in it."""
    candidates = [folder / place / name for place in (*FLICKR30K_FOLDERS, *PHOTO_FOLDERS)]
    if "COCO_" in name:
        candidates += [folder / place / name.rpartition("_")[2] for place in COCO_FOLDERS]
    there = (path for path in candidates if path.is_file())
    return next(there, next((path for path in candidates if path.parent.is_dir()), candidates[-1]))


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file. Raises DataError."""
    try:
        return path.read_text("utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeError:
        raise DataError(f"{path}: not text in UTF-8") from None


def mirror(caption: str) -> str:
    """Return the caption for the mirrored photo, with left and right swapped."""
    return " ".join(MIRRORED.get(word, word) for word in tokenize(caption))


@dataclass
class Batch:
    """Hold several captions of each of several photos.

    photos: (batch,) indices of training photos.
    views: (batch,) index of each photo's view.
    words: (batch, captions, time) ids: `<start>`, words, then `<pad>`.
    targets: (batch, captions, time) ids, one step later, ending with `<end>` unless cut.
    elsewhere: this batch's photos in other processes, see `ranks`.
    idle: whether these photos only fill an empty part and do not count.
    """

    photos: Tensor
    views: Tensor
    words: Tensor
    targets: Tensor
    elsewhere: int = 0
    idle: bool = False

    @property
    def size(self) -> int:
        """Return the number of photos in all processes."""
        return len(self.photos) + self.elsewhere


def behind_start(targets: Tensor) -> Tensor:
    """Return targets shifted by one step behind `<start>`: what the decoder reads to predict them.

    targets: (…, time) ids.
    """
    return torch.cat([torch.full_like(targets[..., :1], START), targets[..., :-1]], -1)


def encode_captions(photos: list[Photo], vocabulary: Vocabulary, max_length: int) -> list[list[tuple[list[int], ...]]]:
    """Return every caption's target ids, as [photo][0, or 1 for the mirrored photo][caption].

    max_length: longer captions are cut after max_length + 1 words, without `<end>`, lest the decoder learn to stop in
        mid-sentence.
    """

    def encode(caption: str) -> list[int]:
        return [*vocabulary.encode(caption), END][: max_length + 1]

    return [[tuple(map(encode, turned)) for turned in (p.captions, map(mirror, p.captions))] for p in photos]


def epoch_batches(
    captions: list[list[tuple[list[int], ...]]],
    order: list[int],
    mirrored_views: list[bool],
    captions_per_batch: int,
    seed: int,
    samples: int = 0,
) -> Iterator[Batch]:
    """Yield one epoch's batches, the same for the same seed.

    A photo's captions (at most five, drawn anew each epoch) share one pass over its annotation vectors, so all photos
    in a batch have equally many.

    captions: from `encode_captions`.
    order: indices of photos, one per showing.
    mirrored_views: per view to choose from, whether it is mirrored.
    captions_per_batch: at most, 1 or more.
    samples: captions to draw from the decoder per photo, which then count towards captions_per_batch instead; or 0.
    """
    rng = random.Random(seed)
    drawn = []
    for photo in order:
        view = rng.randrange(len(mirrored_views))
        all_captions = captions[photo][mirrored_views[view]]
        drawn.append(
            (photo, view, rng.sample(all_captions, min(len(all_captions), 1 if samples else CAPTIONS_AT_ONCE)))
        )
    rng.shuffle(drawn)
    batches: list[list[tuple[int, int, list[list[int]]]]] = []
    pool = 20 * captions_per_batch
    for begin in range(0, len(drawn), pool):
        last_count = 0
        # Large shuffled pools are sorted by caption length to save padding.
        for item in sorted(drawn[begin : begin + pool], key=lambda d: (len(d[2]), max(map(len, d[2])))):
            count = samples or len(item[2])
            if count != last_count or (len(batches[-1]) + 1) * count > captions_per_batch:
                batches.append([])
            batches[-1].append(item)
            last_count = count
    rng.shuffle(batches)
    for batch in batches:
        time = max(len(c) for _, _, several in batch for c in several)
        words = torch.full((len(batch), len(batch[0][2]), time), PAD)
        targets = words.clone()
        for row, (_, _, several) in enumerate(batch):
            for column, ids in enumerate(several):
                words[row, column, : len(ids)] = torch.tensor([START, *ids[:-1]])
                targets[row, column, : len(ids)] = torch.tensor(ids)
        yield Batch(torch.tensor([b[0] for b in batch]), torch.tensor([b[1] for b in batch]), words, targets)
