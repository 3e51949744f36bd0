"""CaptionModel: encoder, decoder and vocabulary in one module, kept in folders and on the Hub."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from capcli.checkpoints.card import CARD_FILE, checkpoint_card, model_card
from capcli.checkpoints.facts import Facts
from capcli.checkpoints.hub import check_repository, find_checkpoint, upload
from capcli.checkpoints.store import (
    CONFIG_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    ModelError,
    config_bytes,
    json_bytes,
    read_checkpoint,
)
from capcli.files import write_together
from capcli.model.agreement import Agreement
from capcli.model.config import ENCODERS, ModelConfig
from capcli.model.decoders import make_decoder
from capcli.model.taught import TaughtDecoder
from capcli.model.timm_encoders import check_network, encoder_of
from capcli.model.vocabulary import Vocabulary


class CaptionModel(nn.Module):
    """Hold a captioning model: configuration, encoder, decoder and vocabulary.

    agreement: compares sentences with photos; None before `capcli agree`.
    """

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary) -> None:
        """Make an untrained model; `load` reads a trained one.

        config: names encoder, decoder and sizes.
        vocabulary: the decoder's words.
        """
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.encoder = encoder_of(config)
        make = make_decoder if config.words_before is None else TaughtDecoder.build
        self.decoder = make(config, len(vocabulary), self.encoder)
        self.agreement: Agreement | None = None
        if config.agreement_size is not None:
            words = len(vocabulary) if config.words_before is None else config.words_before
            self.agreement = Agreement(words, self.encoder.kind.global_size, config.agreement_size)

    @property
    def facts(self) -> Facts:
        """Return the facts on the model card."""
        encoder, decoder = (sum(p.numel() for p in part.parameters()) for part in (self.encoder, self.decoder))
        return Facts(self.config, len(self.vocabulary), encoder, decoder)

    def save(self, folder: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
        """Write config.json, vocabulary.json, model.safetensors and the model card: all, or none on a full disk.

        folder: made if missing.
        dtype: of the stored floats; None keeps theirs.

        Raises OSError.
        """
        from safetensors.torch import save

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: tensor.to(dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
            for name, tensor in self.state_dict().items()
            if not name.endswith("num_batches_tracked")  # a counter that nothing reads
        }
        # If killed, this leaves words and settings, which the next run may replace, or a whole checkpoint.
        write_together(
            {
                folder / VOCABULARY_FILE: json_bytes(self.vocabulary.words),
                folder / CONFIG_FILE: config_bytes(self.config),
                folder / WEIGHTS_FILE: save(tensors, metadata={"format": "pt"}),
                folder / CARD_FILE: model_card(self.facts).encode(),
            }
        )

    def save_description(self, folder: Path) -> None:
        """Write only config.json and the model card, for new scores. Raises OSError."""
        write_together(
            {
                folder / CARD_FILE: model_card(self.facts).encode(),
                folder / CONFIG_FILE: config_bytes(self.config),  # last: its scores tell a resumed run what is done
            }
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> CaptionModel:
        """Return a folder's model, in float32, on the CPU, in evaluation mode.

        Raises ModelError as `store.read_checkpoint` does.
        """
        model: CaptionModel

        def shapes(config: ModelConfig, vocabulary: Vocabulary) -> dict[str, tuple[int, ...]]:
            nonlocal model
            # Only shapes are made here: the file's tensors replace the initial values.
            try:
                check_network(config)
                with torch.device("meta"), NoInitialValues():
                    model = cls(config, vocabulary)
            except ValueError as error:  # timm, or its network, is missing
                raise ModelError(f"{folder}: {error}") from None
            named = model.state_dict().items()
            return {name: tuple(t.shape) for name, t in named if not name.endswith("num_batches_tracked")}

        tensors = read_checkpoint(folder, shapes).tensors
        if model.config.encoder not in ENCODERS:  # timm computes some tensors that are in no file
            with NoInitialValues():
                model.encoder = encoder_of(model.config)
        model.load_state_dict({n: torch.from_numpy(a) for n, a in tensors.items()}, strict=False, assign=True)
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
        """Return the model in a folder or Hub repository; see `load`.

        name: a folder, which comes first, a repository as `user/name[@revision]`, or `bundled` for capcli's own.
        revision: branch, tag or commit; None takes the name's, or the main branch.
        token: for private repositories; True and None take the stored one, False none.
        cache_dir: for downloads; None takes the Hub's usual cache.
        local_files_only: whether to stay offline.

        Raises ModelError for a checkpoint that cannot be found, downloaded or used.
        """
        return cls.load(find_checkpoint(name, revision, token, cache_dir, local_files_only))

    def save_pretrained(self, folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> None:
        """Write the model to a folder: `save`, under the name users of the Hub expect."""
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
        """Upload the model and its card to the Hub, and return the commit's URL.

        repo_id: `user/name`, created if missing.
        private: create a private repository, and refuse a public one.
        token: True and None take the stored one.
        commit_message: of the commit.
        dtype: see `save`.

        Raises ModelError for any failure.
        """
        with TemporaryDirectory() as folder:
            self.save(Path(folder), dtype)
            return push(Path(folder), repo_id, private, token, commit_message)


class NoInitialValues(TorchFunctionMode):
    """Skip torch.nn.init: normal_ on a tensor without memory would import PyTorch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return None
        return func(*args, **(kwargs or {}))


def push(
    folder: Path, repository: str, private: bool = False, token: str | bool | None = None, message: str = "Upload"
) -> str:
    """Check a checkpoint folder, upload it to the Hub's main branch, and return the commit's URL.

    An unedited model card is generated anew with the repository's name.

    repository: `user/name`, created if missing.
    private, token: see `CaptionModel.push_to_hub`.
    message: of the commit.

    Raises ModelError for any failure.
    """
    check_repository(repository)
    card = checkpoint_card(CaptionModel.load(folder).facts, folder, repository)
    return upload(folder, card, repository, private, token, message)
