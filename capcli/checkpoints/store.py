"""A checkpoint folder's files: safetensors and JSON, never pickles, checked before a tensor is read."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as brief  # an untrusted file may hold megabytes where a number belongs
from typing import TYPE_CHECKING, Any

from capcli.files import write_whole
from capcli.model.config import ModelConfig
from capcli.model.vocabulary import Vocabulary

if TYPE_CHECKING:
    import numpy as np

FORMAT_VERSION = 1
CONFIG_FILE, VOCABULARY_FILE, WEIGHTS_FILE = "config.json", "vocabulary.json", "model.safetensors"
CHECKPOINT_FILES = (CONFIG_FILE, VOCABULARY_FILE, WEIGHTS_FILE)
MEMORY_FILE = "memory.safetensors"  # only `capcli teach` reads it, see training/teaching/memory.py
KINDS_FILE = "kinds.safetensors"  # see kinds.py
LICENSE_FILE = "LICENSE"  # where there are terms of use
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
MAX_CONFIG_BYTES, MAX_VOCABULARY_BYTES, MAX_HEADER_BYTES = 1 << 20, 16 << 20, 4 << 20
MAX_WORDS = 1_000_000
# How numpy reads tensors' number formats.
NUMPY_TYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}


class ModelError(Exception):
    """Report an unusable checkpoint; str() is one line with the file and the reason."""


def copy_beside(source: Path, target: Path, names: Iterable[str] = (KINDS_FILE, MEMORY_FILE)) -> None:
    """Copy files that a checkpoint may have, and that belong to its encoder, from folder to folder."""
    for name in names:
        if (source / name).is_file():
            write_whole(target / name, (source / name).read_bytes())


def check_version(version: Any, source: str) -> None:
    """Raise ModelError, with advice, unless this capcli can read the format version.

    version: from a config.json, unchecked; None if missing.
    source: file name for the message.
    """
    if not isinstance(version, int) or isinstance(version, bool):
        found = "no format_version" if version is None else f"format_version {brief(version)}"
        raise ModelError(f"{source}: {found}: not a capcli checkpoint")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{source}: format version {version} is newer than this capcli reads ({FORMAT_VERSION}): upgrade capcli"
        )
    if version < FORMAT_VERSION:
        raise ModelError(
            f"{source}: format version {version} is older than this capcli reads ({FORMAT_VERSION}): "
            "use the capcli that wrote it, or train again"
        )


def check_files(names: Iterable[str], source: str) -> None:
    """Raise ModelError unless a checkpoint's three files are there.

    names: of files in a folder or repository.
    source: its name, for the message.
    """
    names = set(names)
    missing = [name for name in CHECKPOINT_FILES if name not in names]
    pickles = sorted(name for name in names if name.lower().endswith(PICKLE_SUFFIXES))
    if WEIGHTS_FILE in missing and pickles:
        raise ModelError(
            f"{source}: the only weights are {brief(pickles[0])}, a pickle: opening one can run any program hidden in "
            f"it, so capcli reads {WEIGHTS_FILE} alone"
        )
    if missing:
        raise ModelError(f"{source}: no {', no '.join(missing)}: not a capcli checkpoint")


@dataclass
class Checkpoint:
    """Hold a checkpoint folder's content.

    config, vocabulary: checked.
    tensors: of model.safetensors, by name, in float32.
    """

    config: ModelConfig
    vocabulary: Vocabulary
    tensors: dict[str, np.ndarray]


def read_checkpoint(
    folder: str | os.PathLike[str], shapes: Callable[[ModelConfig, Vocabulary], Mapping[str, tuple[int, ...]]]
) -> Checkpoint:
    """Return a checkpoint folder's content, checked.

    No code in the folder runs, and no tensor gets memory before its shape is checked.

    shapes: returns each tensor's right shape by name.

    Raises ModelError, with the file's name, for a file that is missing, damaged or at odds with the others.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such checkpoint folder")
    check_files((path.name for path in folder.iterdir()), str(folder))
    config, vocabulary = read_config(folder), read_vocabulary(folder)
    if config.words_before is not None and config.words_before > len(vocabulary):
        raise ModelError(f"{folder}: words_before is {config.words_before}, but there are {len(vocabulary)} words")
    tensors = read_tensors(folder / WEIGHTS_FILE, shapes(config, vocabulary), len(vocabulary))
    return Checkpoint(config, vocabulary, tensors)


def read_config(folder: Path) -> ModelConfig:
    """Return a folder's checked config.json. Raises ModelError with the file and the first bad value."""
    path = folder / CONFIG_FILE
    return parse_config(read_json(path, MAX_CONFIG_BYTES), str(path))


def parse_config(values: Any, source: str) -> ModelConfig:
    """Return a decoded config.json as a ModelConfig.

    values: decoded JSON, unchecked.
    source: file name for the message.

    Raises ModelError with the first bad value.
    """
    if not isinstance(values, dict):
        raise ModelError(f"{source}: not a JSON object")
    check_version(values.get("format_version"), source)
    entries = {name: value for name, value in values.items() if name != "format_version"}
    unknown = entries.keys() - {entry.name for entry in dataclasses.fields(ModelConfig)}
    if unknown:
        raise ModelError(f"{source}: unknown entry {brief(min(unknown))}")
    try:
        return ModelConfig(**entries)
    except ValueError as error:
        raise ModelError(f"{source}: {error}") from None


def config_bytes(config: ModelConfig) -> bytes:
    """Return config.json's content."""
    entries = dataclasses.asdict(config)
    if not config.encoder_facts:  # which earlier versions do not know
        del entries["encoder_facts"]
    return json_bytes({"format_version": FORMAT_VERSION, **entries})


def read_vocabulary(folder: Path) -> Vocabulary:
    """Return a folder's checked vocabulary.json. Raises ModelError."""
    path = folder / VOCABULARY_FILE
    words = read_json(path, MAX_VOCABULARY_BYTES)
    try:
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError("not a JSON array of words")
        if len(words) > MAX_WORDS:
            raise ValueError(f"{len(words):,} words, more than {MAX_WORDS:,}")
        # Captions are printed: a word with a line end or a terminal's escape sequence could pose as other output.
        bad = next((word for word in words if not word or not word.isprintable()), None)
        if bad is not None:
            raise ValueError(f"{brief(bad)} is not a word that can be printed")
        return Vocabulary(words)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None


def read_tensors(path: Path, expected: Mapping[str, tuple[int, ...]], words: int) -> dict[str, np.ndarray]:
    """Return a safetensors file's tensors as float32, after checking all of its header.

    expected: shapes by name.
    words: size of the vocabulary.

    Raises ModelError for a file that is damaged, does not fit, or holds values that are not finite.
    """
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        length = check_header(path)
        with safe_open(path, "np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
        check_tensors(found, expected, words, path)
        # Not by safetensors' own functions: numpy has no bfloat16, and a file mapped into memory may be replaced while
        # the model is in use.
        tensors = {}
        with path.open("rb") as raw:
            header = json.loads(raw.read(8 + length)[8:])
            for name, (shape, kind) in found.items():
                raw.seek(8 + length + header[name]["data_offsets"][0])
                stored = np.fromfile(raw, NUMPY_TYPES[kind], math.prod(shape))
                if kind == "BF16":  # the upper half of a float32
                    stored = (stored.astype(np.uint32) << 16).view(np.float32)
                with np.errstate(over="ignore"):  # too large values are found below
                    tensors[name] = stored.astype(np.float32, copy=False).reshape(shape)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path}: damaged or cut off: {one_line(error)}") from None
    for name, tensor in tensors.items():
        with np.errstate(all="ignore"):
            total = float(tensor.sum())  # shows any bad value, far faster than isfinite().all()
        if not math.isfinite(total):
            raise ModelError(f"{path}: tensor {name} holds values that are not finite")
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata in a safetensors header. Raises ModelError for a damaged file."""
    from safetensors import SafetensorError, safe_open

    try:
        check_header(path)
        with safe_open(path, "np") as file:
            return file.metadata() or {}
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path}: damaged or cut off: {one_line(error)}") from None


def check_header(path: Path) -> int:
    """Return the length of a safetensors header, from the first eight bytes.

    Raises ModelError for an implausible one.
    """
    if not path.is_file():  # opening a pipe would wait for ever, and a device may never end
        raise ModelError(f"{path}: not a file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    size = path.stat().st_size
    if length > MAX_HEADER_BYTES:
        raise ModelError(f"{path}: not a safetensors file: its header would be {length:,} bytes long")
    if size < 8 + length:
        raise ModelError(f"{path}: damaged or cut off: {size:,} bytes, and the header alone would be {length:,}")
    return length


def check_tensors(
    found: Mapping[str, tuple[tuple[int, ...], str]],
    expected: Mapping[str, tuple[int, ...]],
    words: int,
    path: Path,
) -> None:
    """Raise ModelError unless tensors have exactly the expected names and shapes, and are floats.

    found: shape and number format by name.
    expected: shape by name.
    words: size of the vocabulary.
    """
    for what, names in (("missing", expected.keys() - found.keys()), ("unknown", found.keys() - expected.keys())):
        if names:
            raise ModelError(f"{path}: {what} tensor {brief(min(names))} ({len(names)} in all)")
    for name, (shape, kind) in found.items():
        wanted = expected[name]
        if kind not in NUMPY_TYPES:
            raise ModelError(f"{path}: tensor {name} holds {kind}, not floating-point numbers")
        if shape == wanted:
            continue
        if wanted[:1] == (words,) and shape[1:] == wanted[1:]:
            trained = f"{shape[0]:,} words" if shape else "none"
            raise ModelError(
                f"{path.with_name(VOCABULARY_FILE)}: {words:,} words, but {path.name} was trained with {trained}"
            )
        raise ModelError(f"{path}: tensor {name} has shape {shape} instead of {wanted}")


def read_json(path: Path, limit: int) -> Any:
    """Return a decoded JSON file. Raises ModelError, also for more than limit bytes."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise ValueError("not a file")
        if path.stat().st_size > limit:
            raise ValueError(f"{path.stat().st_size:,} bytes, more than the limit of {limit:,}")
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ModelError(f"{path}: nested too deeply") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {one_line(error)}") from None


def json_bytes(value: Any) -> bytes:
    """Return a value as indented JSON in UTF-8, with a final line end."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def one_line(error: BaseException) -> str:
    """Return an exception's message in one printable line, without an OSError's path."""
    text = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split()) or type(error).__name__
    return replace_controls(text)


def replace_controls(text: str) -> str:
    """Replace every character that could command a terminal; line ends and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
