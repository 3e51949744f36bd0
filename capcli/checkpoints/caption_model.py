"""CaptionModel: encoder, decoder and vocabulary as one module, from and to a checkpoint folder or the Hub."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from capcli.checkpoints.card import CARD_FILE, Facts, checkpoint_card, model_card
from capcli.checkpoints.hub import check_repository, find_checkpoint, upload
from capcli.checkpoints.store import (
    CONFIG_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    ModelError,
    check_files,
    config_bytes,
    json_bytes,
    read_config,
    read_tensors,
    read_vocabulary,
)
from capcli.files import write_together
from capcli.model.config import ModelConfig
from capcli.model.decoders import make_decoder
from capcli.model.encoders import make_encoder
from capcli.model.vocabulary import Vocabulary


class CaptionModel(nn.Module):
    """An encoder, a decoder and the decoder's words."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary) -> None:
        """Freshly initialised; `load` reads a trained one."""
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.encoder = make_encoder(config.encoder, config.encoder_stride)
        self.decoder = make_decoder(config, len(vocabulary), self.encoder)

    @property
    def facts(self) -> Facts:
        """What the model card says of it."""
        encoder, decoder = (sum(p.numel() for p in part.parameters()) for part in (self.encoder, self.decoder))
        return Facts(self.config, len(self.vocabulary), encoder, decoder)

    def save(self, folder: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
        """Write config.json, vocabulary.json, model.safetensors and the model card; on a full disk, none of them.

        dtype: number format of the stored floating-point tensors; None keeps them as they are. Raises OSError.
        """
        from safetensors.torch import save

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
                folder / CONFIG_FILE: config_bytes(self.config),
                folder / CARD_FILE: model_card(self.facts).encode(),
            }
        )

    def save_description(self, folder: Path) -> None:
        """Write config.json and the model card alone, after the scores changed. Raises OSError."""
        write_together(
            {
                folder / CARD_FILE: model_card(self.facts).encode(),
                folder / CONFIG_FILE: config_bytes(self.config),  # last: by it a run knows that it was measured
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
        """Read a checkpoint folder or, where there is none of this name, the Hub's `user/name[@revision]` (`bundled`:
        the one that came with capcli).

        revision: branch, tag or commit. token: True or None take the stored one, False none. cache_dir: None is the
        Hub's own cache. local_files_only: never go online. Raises ModelError.
        """
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
        with TemporaryDirectory() as folder:
            self.save(Path(folder), dtype)
            return push(Path(folder), repo_id, private, token, commit_message)


class NoInitialValues(TorchFunctionMode):
    """Leaves out what torch.nn.init would do: normal_ of a tensor without memory imports PyTorch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return None
        return func(*args, **(kwargs or {}))


def push(
    folder: Path, repository: str, private: bool = False, token: str | bool | None = None, message: str = "Upload"
) -> str:
    """Upload a checkpoint folder, checked first, to the Hub's main branch; return the commit's address.

    repository: `user/name`, made if need be. private, token: as `CaptionModel.push_to_hub` takes them. message: of the
    commit. A card that nobody edited is written anew, with the repository's name. Raises ModelError, also where
    private is asked for and the repository is public.
    """
    check_repository(repository)
    card = checkpoint_card(CaptionModel.load(folder).facts, folder, repository)
    return upload(folder, card, repository, private, token, message)
