"""CaptionModel = encoder + decoder + vocabulary, stored as safetensors and JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from capcli.decoders import SoftAttentionDecoder
from capcli.encoders import EfficientNetLite2
from capcli.files import write_whole
from capcli.vocabulary import Vocabulary

FORMAT_VERSION = 1
CONFIG_FILE, VOCABULARY_FILE, WEIGHTS_FILE = "config.json", "vocabulary.json", "model.safetensors"


class ModelError(Exception):
    """A checkpoint that cannot be used; str() is one line naming the file and the reason."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the tensors' shapes, and what a user may want to know of their origin.

    encoder_stride: pixels per grid cell (32: 7×7 cells at 224 px; 16: 14×14). image_size: pixels; every photo is
    squashed to a square of this side. Sizes are channels. beam, length_penalty, max_length: the decoding chosen on dev.
    training, scores: free-form records for the model card.
    """

    encoder: str = "efficientnet_lite2"
    encoder_stride: int = 32
    image_size: int = 224
    decoder: str = "soft"
    hidden_size: int = 512
    embedding_size: int = 512
    attention_size: int = 512
    dropout: float = 0.5
    beam: int = 3
    length_penalty: float = 1.0
    max_length: int = 20
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

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
        values = dict(values)
        version = values.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise ModelError(f"{source}: format version {version!r}; this capcli reads version {FORMAT_VERSION}")
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for name, value in values.items():
            if name not in fields:
                raise ModelError(f"{source}: unknown entry {name!r}")
            wanted = str(fields[name].type)
            kinds = {"int": int, "float": (int, float), "str": str}.get(wanted, dict)
            if not isinstance(value, kinds) or isinstance(value, bool):  # type: ignore[arg-type]
                raise ModelError(f"{source}: {name} is {value!r}, not of type {wanted.split('[')[0]}")
            if wanted == "int" and not 1 <= value <= 65536:
                raise ModelError(f"{source}: {name} is {value}, not between 1 and 65536")
        config = cls(**values)
        for name, value, known in (
            ("encoder", config.encoder, ("efficientnet_lite2",)),
            ("encoder_stride", config.encoder_stride, (16, 32)),
            ("decoder", config.decoder, ("soft",)),
        ):
            if value not in known:
                raise ModelError(f"{source}: {name} is {value!r}; known: {', '.join(map(str, known))}")
        if not 0 <= config.dropout < 1:
            raise ModelError(f"{source}: dropout is {config.dropout}, not in [0, 1)")
        return config

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
        self.encoder = EfficientNetLite2(config.encoder_stride)
        self.decoder = SoftAttentionDecoder(
            len(vocabulary),
            self.encoder.annotation_size,
            config.hidden_size,
            config.embedding_size,
            config.attention_size,
            config.dropout,
        )

    def save(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write config.json, vocabulary.json and model.safetensors, each whole or not at all.

        dtype: number format of the stored floating-point tensors; None keeps them as they are.
        """
        from safetensors.torch import save

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: tensor.to(dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
            for name, tensor in self.state_dict().items()
            if not name.endswith("num_batches_tracked")  # a training counter that nothing reads
        }
        write_whole(folder / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
        write_whole(folder / VOCABULARY_FILE, json_bytes(self.vocabulary.words))
        self.save_config(folder)

    def save_config(self, folder: Path) -> None:
        """Write config.json alone, after the scores changed."""
        write_whole(folder / CONFIG_FILE, json_bytes(self.config.to_json()))

    @classmethod
    def load(cls, folder: Path) -> CaptionModel:
        """Read a checkpoint folder into a float32 model on the CPU, in evaluation mode.

        Raises ModelError naming the file where one is missing, damaged or does not fit the others.
        """
        import safetensors
        from safetensors.torch import load_file

        if not folder.is_dir():
            raise ModelError(f"{folder}: no such checkpoint folder")
        config = ModelConfig.from_json(read_json(folder / CONFIG_FILE), str(folder / CONFIG_FILE))
        words = read_json(folder / VOCABULARY_FILE)
        try:
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise ValueError("not a JSON array of words")
            vocabulary = Vocabulary(words)
        except ValueError as error:
            raise ModelError(f"{folder / VOCABULARY_FILE}: {error}") from None
        path = folder / WEIGHTS_FILE
        try:
            tensors = load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise ModelError(f"{path}: {reason(error)}") from None
        with torch.device("meta"):  # shapes only: the file's tensors take the place of the initial values
            model = cls(config, vocabulary)
        expected = {n: t for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
        check_tensors(tensors, expected, path)
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False, assign=True)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.num_batches_tracked = torch.tensor(0)
        return model.eval()


def check_tensors(tensors: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    """Raise ModelError unless names and shapes are exactly those expected."""
    for what, names in (("missing", expected.keys() - tensors.keys()), ("unknown", tensors.keys() - expected.keys())):
        if names:
            raise ModelError(f"{path}: {what} tensor {min(names)} ({len(names)} in all)")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
            raise ModelError(f"{path}: tensor {name} has shape {shapes}")


def read_json(path: Path) -> Any:
    """Decode a JSON file. Raises ModelError naming it."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {reason(error)}") from None


def json_bytes(value: Any) -> bytes:
    """JSON as a person reads it, UTF-8, with a line end."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def reason(error: Exception) -> str:
    """An exception's message in one line, without the path that the caller names already."""
    return (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
