"""Captioned photos: read from the Flickr8k layout, Karpathy's JSON or a plain list, and put into batches."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import torch
from torch import Tensor

from capcli.model.vocabulary import END, PAD, START, Vocabulary, tokenize
from capcli.training.captions import METADATA, ROWS, read_rows, read_sidecars

PHOTO_FOLDERS = ("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", ".")
SPLITS = {"train": "train", "restval": "train", "dev": "dev", "val": "dev", "test": "test"}
FLICKR_SPLITS = {"train": "*trainImages.txt", "dev": "*devImages.txt", "test": "*testImages.txt"}
HELD_OUT = 20  # one photo in this many becomes a dev photo, if a data set names no splits
CAPTIONS_AT_ONCE = 5
PLAIN_LIST = '[{"file_path": "a.jpg", "captions": ["a cat", …]}, …]'
MIRRORED = {"left": "right", "right": "left"}


class DataError(Exception):
    """Report training data that cannot be used; str() is one line with the file and the reason."""


@dataclass(frozen=True)
class Photo:
    """Hold a photo and what people say about it.

    path: of the image file.
    captions: one or more.
    split: train, dev, test, or "" while it is unknown.
    """

    path: Path
    captions: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class DataSet:
    """Hold a named set of photos.

    name: that of its folder.
    photos: of all splits.
    repeat: how often an epoch shows each of its training photos, 1 or more.
    """

    name: str
    photos: list[Photo]
    repeat: int = 1

    def split(self, name: str) -> list[Photo]:
        """Return the photos of one split, in the order of the files that list them."""
        return [photo for photo in self.photos if photo.split == name]

    def require(self, name: str) -> list[Photo]:
        """Return the photos of one split. Raises DataError, which lists the other splits, if there are none."""
        if photos := self.split(name):
            return photos
        counts = Counter(photo.split for photo in self.photos)
        known = ", ".join(f"{split} ({counts[split]})" for split in FLICKR_SPLITS if counts[split])
        raise DataError(f"{self.name}: no photos in split {name!r}; there are {known}")


def read_data_set(argument: str, hold_out: bool = True) -> DataSet:
    """Return the data set that a command line argument names.

    PATH is a folder in the Flickr8k layout (`*.token.txt`, `*trainImages.txt`, `*devImages.txt`), a folder with one
    JSON file, or a JSON file: `{"images": [{"filename", "split", "sentences": [{"raw"}]}]}` or
    `[{"file_path", "captions"}]`. Photos are in `images/`, in `Flicker8k_Dataset/` or beside the file. It is also what
    capcli writes: JSON Lines, CSV or TSV, a folder with ImageFolder's `metadata.jsonl` or `metadata.csv`, or a folder
    of photos with sidecars. If no photo names its split, every twentieth is held out as a dev photo.

    argument: `PATH` or `PATH=N`, where N is how often an epoch shows each photo.
    hold_out: whether to hold photos out as dev where none names its split; else all are train.

    Raises DataError, also for photos that are missing.
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
    if path.is_dir() and (tokens := sorted(path.glob("*.token.txt"))):
        photos = read_flickr(tokens[0])
    elif path.is_dir() and (metadata := [path / name for name in METADATA if (path / name).is_file()]):
        photos = read_caption_rows(metadata[0])
    elif path.suffix.lower() in ROWS and path.is_file():
        photos = read_caption_rows(path)
    elif path.is_dir() and not any(path.glob("*.json")):
        photos = read_captioned_folder(path)
    else:
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if path.is_dir() and (path / "dataset.json") in files:
            files = [path / "dataset.json"]
        if len(files) != 1:
            raise DataError(f"{path}: {len(files)} JSON files and no *.token.txt; name the JSON file itself")
        photos = read_photo_json(files[0])
    if not photos:
        raise DataError(f"{path}: no captioned photos")
    missing = [photo.path for photo in photos if not photo.path.is_file()]
    if missing:
        several = f"{len(missing)} photos are missing, the first of them" if len(missing) > 1 else "a photo is missing:"
        raise DataError(f"{path}: {several} {missing[0]}")
    if hold_out and not any(photo.split for photo in photos):
        photos = [replace(p, split="dev" if i % HELD_OUT == 0 else "train") for i, p in enumerate(photos)]
    photos = [p if p.split else replace(p, split="train") for p in photos]
    return DataSet((path if path.is_dir() else path.parent).resolve().name, photos, repeat)


def read_flickr(tokens: Path) -> list[Photo]:
    """Return the photos of a data set in the Flickr8k layout.

    tokens: a file with lines `name.jpg#0<TAB>caption`, beside which there is a list of names for each split.

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
    photos = []
    for split, pattern in FLICKR_SPLITS.items():
        for listing in sorted(tokens.parent.glob(pattern)):
            for name in filter(None, map(str.strip, read_lines(listing))):
                if name not in captions:
                    raise DataError(f"{listing}: {name} has no caption in {tokens.name}")
                photos.append(Photo(locate(tokens.parent, name), tuple(captions[name]), split))
    if not photos:
        raise DataError(f"{tokens.parent}: no *trainImages.txt beside {tokens.name}")
    splits: dict[Path, str] = {}
    for photo in photos:
        if splits.setdefault(photo.path, photo.split) != photo.split:
            raise DataError(f"{tokens.parent}: {photo.path.name} is listed as {splits[photo.path]} and {photo.split}")
    return photos


def read_caption_rows(path: Path) -> list[Photo]:
    """Return the photos in rows that capcli or ImageFolder has written. Raises DataError.

    A path in capcli's rows is as it was given, relative to the folder where the command was run; where there is no such
    photo, it is looked for below the file's folder.
    """
    try:
        return join_rows(
            Photo(
                path.parent / name if relative else Path(name) if Path(name).is_file() else locate(path.parent, name),
                tuple(captions),
                "",
            )
            for name, captions, relative in read_rows(path)
        )
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def read_captioned_folder(path: Path) -> list[Photo]:
    """Return the photos of a folder that have sidecars. Raises DataError, also if none has one."""
    try:
        photos = [Photo(photo, tuple(captions), "") for photo, captions in read_sidecars(path)]
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
    """Return the photos in Karpathy's `{"images": […]}` or a plain `[{"file_path", "captions"}]`. Raises DataError."""
    content = load_json(path, f"captioned photos are {PLAIN_LIST} or a folder in the Flickr8k layout")
    plain = not isinstance(content, dict)
    rows = content if plain else content.get("images")
    if not isinstance(rows, list):
        raise DataError(f"{path}: not a list of captioned photos, {PLAIN_LIST}")
    try:
        return join_rows(read_row(path.parent, row, plain) for row in rows)
    except KeyError as error:
        raise DataError(f"{path}: not a list of captioned photos (a row has no {error})") from None
    except ValueError as error:
        raise DataError(f"{path}: not a list of captioned photos ({error})") from None


def load_json(path: Path, wanted: str) -> Any:
    """Return a decoded JSON file. wanted: says what the file should be. Raises DataError for any other file."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError) as error:
        # Where the mistake is matters only in a file that was meant to be JSON.
        where = f" ({error})" if path.suffix.lower() == ".json" else ""
        raise DataError(f"{path}: not JSON{where}; {wanted}") from None


def join_rows(rows: Iterable[Photo]) -> list[Photo]:
    """Return one entry per photo, with the captions of all its rows. Raises ValueError for a photo in two splits."""
    photos: dict[Path, Photo] = {}
    for row in rows:
        photo = photos.setdefault(row.path, row)
        if row.split != photo.split:
            raise ValueError(f"{row.path.name} is marked {photo.split or 'nothing'} and {row.split or 'nothing'}")
        if row is not photo:
            photos[row.path] = replace(photo, captions=photo.captions + row.captions)
    return list(photos.values())


def read_row(folder: Path, row: Any, plain: bool) -> Photo:
    """Return the photo in a row of a JSON file.

    folder: where the file is.
    row: a decoded row of either form, which may be anything.
    plain: whether the file has the plain form, which matters if the row fits both.

    Raises KeyError and ValueError for a row that describes no photo.
    """
    if not isinstance(row, dict):
        raise ValueError(f"{brief(row)} where a photo should be")
    if "file_path" in row or (plain and "filename" not in row):
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
    split = row.get("split", "")
    if split and not (isinstance(split, str) and split in SPLITS):
        raise ValueError(f"split {split!r} of {name}; known: {', '.join(SPLITS)}")
    return Photo(locate(folder, name), tuple(captions), SPLITS.get(split, ""))


def locate(folder: Path, name: str) -> Path:
    """Return the path of a photo; if it does not exist, where it should be, for the error message."""
    candidates = [folder / place / name for place in PHOTO_FOLDERS]
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
    """Return the caption for the mirrored photo: left and right are swapped."""
    return " ".join(MIRRORED.get(word, word) for word in tokenize(caption))


@dataclass
class Batch:
    """Hold several captions for each of several photos.

    photos: (batch,) indices of training photos.
    views: (batch,) indices, which view of each photo is shown.
    words: (batch, captions, time) ids, beginning with `<start>`, then padded with `<pad>`.
    targets: (batch, captions, time) ids, the same one step later: they end with `<end>`, unless the caption was cut.
    elsewhere: how many more photos of the batch other processes have, see `ranks`.
    idle: whether these photos are other processes' too, and do not count here.
    """

    photos: Tensor
    views: Tensor
    words: Tensor
    targets: Tensor
    elsewhere: int = 0
    idle: bool = False

    @property
    def size(self) -> int:
        """Return how many photos the batch has, in all processes."""
        return len(self.photos) + self.elsewhere


def behind_start(targets: Tensor) -> Tensor:
    """Return the ids that a decoder reads to predict others: `<start>`, and those one step earlier.

    targets: (…, time) ids.
    """
    return torch.cat([torch.full_like(targets[..., :1], START), targets[..., :-1]], -1)


def encode_captions(photos: list[Photo], vocabulary: Vocabulary, max_length: int) -> list[list[tuple[list[int], ...]]]:
    """Return the ids to predict for every caption, as [photo][0, or 1 for the mirrored photo][caption].

    photos: whose captions are encoded.
    vocabulary: gives the ids.
    max_length: longer captions are cut after max_length + 1 words and have no `<end>`, which would teach the decoder to
        stop in mid-sentence.
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
    """Yield one epoch's batches, which are the same for the same seed.

    All captions of a photo (at most five, drawn anew each epoch) share one pass over its annotation vectors, so the
    photos of a batch all have the same number of captions. Within large shuffled pools, photos whose captions have
    similar lengths are put together, so that there is little padding.

    captions: what `encode_captions` returned.
    order: indices of photos, one for each time that the epoch shows a photo.
    mirrored_views: for each view that can be chosen, whether it is mirrored.
    captions_per_batch: the most captions in a batch, 1 or more.
    seed: of the random numbers.
    samples: how many captions will be drawn from the decoder for each photo, which then count towards
        captions_per_batch instead; 0 for none.
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
