"""CaptionModel = encoder + decoder + vocabulary, stored as safetensors and JSON, never as a pickle."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as brief  # a stranger's file may hold megabytes where a number belongs
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from capcli.files import write_together
from capcli.model.decoders import AttentionDecoder, Decoder, ParInjectDecoder, PreInjectDecoder
from capcli.model.encoders import STRIDES, Encoder, make_encoder
from capcli.model.vocabulary import Vocabulary

FORMAT_VERSION = 1
DECODERS = ("pre-inject", "par-inject", "soft", "hard")
CONFIG_FILE, VOCABULARY_FILE, WEIGHTS_FILE = "config.json", "vocabulary.json", "model.safetensors"
CHECKPOINT_FILES = (CONFIG_FILE, VOCABULARY_FILE, WEIGHTS_FILE)
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
# Wider than anything worth training, and narrow enough that no checkpoint can ask for absurd amounts of memory.
LIMITS: dict[str, tuple[float, float]] = {
    "image_size": (32, 2048),
    "hidden_size": (1, 16384),
    "embedding_size": (1, 16384),
    "attention_size": (1, 16384),
    "dropout": (0, 0.99),
    "beam": (1, 1000),
    "length_penalty": (-10, 10),
    "max_length": (1, 1000),
    "no_repeat": (0, 1000),
}
CHOICES: dict[str, tuple[object, ...]] = {
    "encoder": tuple(STRIDES),
    "decoder": DECODERS,
}
WHOLE_CELLS = ("vgg16", "convnext_tiny")  # they drop the pixels that fill no cell; the others pad
KINDS: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool, "dict": dict}
MAX_CONFIG_BYTES, MAX_VOCABULARY_BYTES, MAX_HEADER_BYTES = 1 << 20, 16 << 20, 4 << 20
MAX_WORDS = 1_000_000
FLOAT_TYPES = ("F16", "BF16", "F32", "F64")


class ModelError(Exception):
    """A checkpoint that cannot be used; str() is one line naming the file and the reason."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the tensors' shapes, and what a user may want to know of their origin.

    encoder: a name of `encoders.STRIDES`; decoder: a name of DECODERS; feed_previous_word: see `decoders.Decoder`.
    encoder_stride: pixels per grid cell (32: 7×7 cells at 224 px; 16: 14×14). image_size: pixels; every photo is
    squashed to a square of this side. Sizes are channels. beam, length_penalty, max_length, no_repeat: the decoding
    chosen on dev. training, scores: records for the model card. Raises ValueError for a value of the wrong type or out
    of range.
    """

    encoder: str = "efficientnet_lite2"
    encoder_stride: int = 32
    image_size: int = 224
    decoder: str = "soft"
    feed_previous_word: bool = True
    hidden_size: int = 512
    embedding_size: int = 512
    attention_size: int = 512
    dropout: float = 0.5
    beam: int = 3
    length_penalty: float = 1.0
    max_length: int = 20
    no_repeat: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            name, value = entry.name, getattr(self, entry.name)
            kind = str(entry.type).partition("[")[0]
            if not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "bool"):
                raise ValueError(f"{name} is {brief(value)}, not of type {kind}")
            if name in CHOICES and value not in CHOICES[name]:
                raise ValueError(f"{name} is {brief(value)}; known: {', '.join(map(str, CHOICES[name]))}")
            low, high = LIMITS.get(name, (-math.inf, math.inf))
            if isinstance(value, (int, float)) and not low <= value <= high:
                raise ValueError(f"{name} is {brief(value)}, not between {low} and {high}")
        if self.encoder_stride not in STRIDES[self.encoder]:
            known = " or ".join(map(str, STRIDES[self.encoder]))
            raise ValueError(f"encoder_stride is {self.encoder_stride}; {self.encoder} has {known}")
        if self.encoder in WHOLE_CELLS and self.image_size % self.encoder_stride:
            raise ValueError(
                f"image_size is {self.image_size}; {self.encoder} takes multiples of {self.encoder_stride}"
            )
        check_records(self.training, self.scores)

    @property
    def decoding(self) -> dict[str, Any]:
        """How captions are searched for unless told otherwise, as `beam_search.BeamOptions` names it."""
        return {name: getattr(self, name) for name in ("beam", "length_penalty", "max_length", "no_repeat")}

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the annotation grid."""
        side = -(-self.image_size // self.encoder_stride)
        return side, side

    @classmethod
    def from_json(cls, values: Any, source: str) -> ModelConfig:
        """Check a decoded config.json. Raises ModelError naming source and the first value that is wrong."""
        if not isinstance(values, dict):
            raise ModelError(f"{source}: not a JSON object")
        check_version(values.get("format_version"), source)
        entries = {name: value for name, value in values.items() if name != "format_version"}
        unknown = entries.keys() - {entry.name for entry in dataclasses.fields(cls)}
        if unknown:
            raise ModelError(f"{source}: unknown entry {brief(min(unknown))}")
        try:
            return cls(**entries)
        except ValueError as error:
            raise ModelError(f"{source}: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """The content of config.json."""
        return {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}


class CaptionModel(nn.Module):
    """An encoder, a decoder and the decoder's words."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary) -> None:
        """Freshly initialised; `load` reads a trained one."""
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.encoder = make_encoder(config.encoder, config.encoder_stride)
        self.decoder = make_decoder(config, len(vocabulary), self.encoder)

    def save(self, folder: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
        """Write config.json, vocabulary.json, model.safetensors and the model card; on a full disk, none of them.

        dtype: number format of the stored floating-point tensors; None keeps them as they are. Raises OSError.
        """
        from safetensors.torch import save

        from capcli.checkpoints.card import CARD_FILE, model_card

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: tensor.to(dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
            for name, tensor in self.state_dict().items()
            if not name.endswith("num_batches_tracked")  # a training counter that nothing reads
        }
        write_together(
            {
                folder / WEIGHTS_FILE: save(tensors, metadata={"format": "pt"}),
                folder / VOCABULARY_FILE: json_bytes(self.vocabulary.words),
                folder / CONFIG_FILE: json_bytes(self.config.to_json()),
                folder / CARD_FILE: model_card(self).encode(),
            }
        )

    def save_description(self, folder: Path) -> None:
        """Write config.json and the model card alone, after the scores changed. Raises OSError."""
        from capcli.checkpoints.card import CARD_FILE, model_card

        write_together(
            {
                folder / CARD_FILE: model_card(self).encode(),
                folder / CONFIG_FILE: json_bytes(self.config.to_json()),  # last: by it a run knows that it was measured
            }
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> CaptionModel:
        """Read a checkpoint folder into a float32 model on the CPU, in evaluation mode.

        Nothing in the folder is run, and nothing is allocated before its size is known to agree with the rest. Raises
        ModelError naming the file where one is missing, damaged or does not fit the others.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ModelError(f"{folder}: no such checkpoint folder")
        check_files((path.name for path in folder.iterdir()), str(folder))
        config, vocabulary = read_config(folder), read_vocabulary(folder)
        # Shapes only: the file's tensors take the place of the initial values.
        with torch.device("meta"), NoInitialValues():
            model = cls(config, vocabulary)
        expected = {n: t for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
        tensors = read_tensors(folder / WEIGHTS_FILE, expected, len(vocabulary))
        model.load_state_dict(tensors, strict=False, assign=True)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.num_batches_tracked = torch.tensor(0)
        return model.eval()

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> CaptionModel:
        """Read a checkpoint folder or, where there is none of this name, the Hub's `user/name[@revision]`.

        revision: branch, tag or commit. token: True or None take the stored one, False none. cache_dir: None is the
        Hub's own cache. local_files_only: never go online. Raises ModelError.
        """
        from capcli.checkpoints.hub import find_checkpoint

        return cls.load(find_checkpoint(name, revision, token, cache_dir, local_files_only))

    def save_pretrained(self, folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> None:
        """`save`, under the name that Hub users look for."""
        self.save(folder, dtype)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | bool | None = None,
        commit_message: str = "Upload a captioner",
        dtype: torch.dtype | None = None,
    ) -> str:
        """Upload the checkpoint with its card to the Hub's `user/name`, made if need be; returns the commit's address.

        dtype: as `save` takes it. Raises ModelError, also where private is asked for and the repository is public.
        """
        from tempfile import TemporaryDirectory

        from capcli.checkpoints.hub import push

        with TemporaryDirectory() as folder:
            self.save(Path(folder), dtype)
            return push(Path(folder), repo_id, private, token, commit_message)


class NoInitialValues(TorchFunctionMode):
    """Leaves out what torch.nn.init would do: normal_ of a tensor without memory imports PyTorch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return None
        return func(*args, **(kwargs or {}))


def make_decoder(config: ModelConfig, vocabulary_size: int, encoder: Encoder) -> Decoder:
    """A fresh decoder for an encoder's features."""
    sizes = (config.hidden_size, config.embedding_size)
    if config.decoder == "pre-inject":
        return PreInjectDecoder(vocabulary_size, encoder.global_size, *sizes, config.dropout)
    if config.decoder == "par-inject":
        return ParInjectDecoder(vocabulary_size, encoder.global_size, *sizes, config.dropout, config.feed_previous_word)
    return AttentionDecoder(
        vocabulary_size,
        encoder.annotation_size,
        *sizes,
        config.attention_size,
        config.dropout,
        config.feed_previous_word,
        hard=config.decoder == "hard",
    )


def check_version(version: Any, source: str) -> None:
    """Raise ModelError, with what to do, unless this capcli reads checkpoints of this format version."""
    if not isinstance(version, int) or isinstance(version, bool):
        found = "no format_version" if version is None else f"format_version {brief(version)}"
        raise ModelError(f"{source}: {found}: not a capcli checkpoint")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{source}: format version {version} is newer than this capcli reads ({FORMAT_VERSION}): "
            "pip install --upgrade capcli"
        )
    if version < FORMAT_VERSION:
        raise ModelError(
            f"{source}: format version {version} is older than this capcli reads ({FORMAT_VERSION}): "
            "use the capcli that wrote it, or train again"
        )


def check_records(training: dict[str, Any], scores: dict[str, Any]) -> None:
    """Raise ValueError unless the model card can be written from these records."""
    if not isinstance(training.get("command"), str | None):
        raise ValueError(f"training.command is {brief(training['command'])}, not a text")
    rows = training.get("data", [])
    if not isinstance(rows, list) or not all(map(is_data_row, rows)):
        raise ValueError(f"training.data is {brief(rows)}, not a list of {{name, photos, captions, repeat}}")
    for name, figures in scores.items():
        if not isinstance(figures, dict) or not all(map(is_figure, figures.values())):
            raise ValueError(f"scores of {brief(name)} are {brief(figures)}, not figures with their names")


def is_data_row(row: Any) -> bool:
    """Whether this describes a data set of the training: its name, photos, captions and, if not 1, repeat."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and all(isinstance(count, int) for count in (row.get("photos"), row.get("captions"), row.get("repeat", 1)))
    )


def is_figure(value: Any) -> bool:
    """Whether this is a score or a remark beside the scores."""
    return isinstance(value, str) or (isinstance(value, int | float) and not abs(value) > 1e15)


def check_files(names: Iterable[str], source: str) -> None:
    """Raise ModelError unless a checkpoint's three files are among these names."""
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


def read_config(folder: Path) -> ModelConfig:
    """The checked config.json. Raises ModelError."""
    path = folder / CONFIG_FILE
    return ModelConfig.from_json(read_json(path, MAX_CONFIG_BYTES), str(path))


def read_vocabulary(folder: Path) -> Vocabulary:
    """The checked vocabulary.json. Raises ModelError."""
    path = folder / VOCABULARY_FILE
    words = read_json(path, MAX_VOCABULARY_BYTES)
    try:
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError("not a JSON array of words")
        if len(words) > MAX_WORDS:
            raise ValueError(f"{len(words):,} words, more than {MAX_WORDS:,}")
        # Words are printed: one with a line end or a terminal's escape sequence in it could pose as other output.
        bad = next((word for word in words if not word or not word.isprintable()), None)
        if bad is not None:
            raise ValueError(f"{brief(bad)} is not a word that can be printed")
        return Vocabulary(words)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None


def read_tensors(path: Path, expected: Mapping[str, Tensor], words: int) -> dict[str, Tensor]:
    """A safetensors file as float32, its header checked in full before a tensor is read.

    expected: tensors of the wanted shapes, on any device. words: size of the vocabulary. Raises ModelError.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_header(path)
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
            check_tensors(found, {name: tuple(tensor.shape) for name, tensor in expected.items()}, words, path)
            # Copied, because the file is mapped into memory and may be replaced while the model lives.
            tensors = {name: file.get_tensor(name).to(torch.float32, copy=True) for name in found}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: damaged or cut off: {reason(error)}") from None
    for name, tensor in tensors.items():
        if not math.isfinite(tensor.sum()):  # one bad term spoils it, and isfinite().all() takes far longer
            raise ModelError(f"{path}: tensor {name} holds values that are not finite")
    return tensors


def check_header(path: Path) -> None:
    """Raise ModelError unless the eight bytes that a safetensors file begins with, its header's length, make sense."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    size = path.stat().st_size
    if length > MAX_HEADER_BYTES:
        raise ModelError(f"{path}: not a safetensors file: its header would be {length:,} bytes long")
    if size < 8 + length:
        raise ModelError(f"{path}: damaged or cut off: {size:,} bytes, and the header alone would be {length:,}")


def check_tensors(
    found: Mapping[str, tuple[tuple[int, ...], str]],
    expected: Mapping[str, tuple[int, ...]],
    words: int,
    path: Path,
) -> None:
    """Raise ModelError unless names and shapes are exactly those expected, and all are floating-point numbers.

    found: shape and number format of each tensor. expected: shapes. words: size of the vocabulary.
    """
    for what, names in (("missing", expected.keys() - found.keys()), ("unknown", found.keys() - expected.keys())):
        if names:
            raise ModelError(f"{path}: {what} tensor {brief(min(names))} ({len(names)} in all)")
    for name, (shape, kind) in found.items():
        wanted = expected[name]
        if kind not in FLOAT_TYPES:
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
    """Decode a JSON file of at most limit bytes. Raises ModelError naming it."""
    try:
        if not path.is_file():  # a pipe would keep us waiting
            raise ValueError("not a file")
        if path.stat().st_size > limit:
            raise ValueError(f"{path.stat().st_size:,} bytes, more than the limit of {limit:,}")
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ModelError(f"{path}: nested too deeply") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {reason(error)}") from None


def json_bytes(value: Any) -> bytes:
    """JSON as a person reads it, UTF-8, with a line end."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def reason(error: BaseException) -> str:
    """An exception's message in one printable line, without the path that the caller names already."""
    text = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split()) or type(error).__name__
    return printable(text)


def printable(text: str) -> str:
    """Text without what could command a terminal; line ends and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
