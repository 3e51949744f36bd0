"""Checkpoints by name: a folder, or `user/name[@revision]` on the Hugging Face Hub or in its cache."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from capcli import __version__
from capcli.checkpoints.card import CARD_FILE
from capcli.checkpoints.kinds import KINDS_FILE
from capcli.checkpoints.store import (
    CHECKPOINT_FILES,
    CONFIG_FILE,
    LICENSE_FILE,
    MEMORY_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    ModelError,
    check_files,
    one_line,
    read_config,
)
from capcli.progress import download_bars

# No part of a name begins with a dot, so none can lead out of the cache; the Hub's own rules are stricter.
PART = r"\w[\w.-]*"
REPOSITORY = re.compile(rf"{PART}/{PART}", re.ASCII)
REVISION = re.compile(rf"{PART}(?:/{PART})*", re.ASCII)
HTTP_CLIENTS = ("httpx", "httpx2", "requests")  # used by huggingface_hub; their errors mean a network problem
BUNDLED = "bundled"  # the bundled checkpoint as a --model, unless a folder has this name
# Before huggingface_hub is imported: each request would tell more of this machine than the Hub needs.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
LOG_IN = "set HF_TOKEN or run `hf auth login`"


def bundled_checkpoint() -> Path:
    """Return the folder of capcli's own checkpoint: in the package, or beside it in a checkout.

    Raises ModelError if it is missing.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "weights", package.parent / "weights"):
        if folder.is_dir():
            return folder
    raise ModelError(f"{package / 'weights'}: the bundled checkpoint is missing")


def find_checkpoint(
    name: str | os.PathLike[str] | None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return a checkpoint's folder, downloaded if it is neither a folder nor in the Hub's cache.

    name: a folder, which takes precedence, `user/name[@revision]`, or None or BUNDLED for capcli's own.
    revision, token, cache_dir, local_files_only: see `CaptionModel.from_pretrained`.

    Raises ModelError for a checkpoint that cannot be found or downloaded.
    """
    if name is None:
        return bundled_checkpoint()
    if os.path.isdir(name):
        return Path(name)
    if name == BUNDLED:
        return bundled_checkpoint()
    if os.path.exists(name):
        raise ModelError(f"{name}: not a folder; name the folder that holds {', '.join(CHECKPOINT_FILES)}")
    repository, at, rest = str(name).partition("@")
    if not REPOSITORY.fullmatch(repository):
        raise ModelError(f"{name}: no such checkpoint folder, and not a Hub id (user/name or user/name@revision)")
    revision = revision or (rest if at else "main")
    if not REVISION.fullmatch(revision):
        raise ModelError(f"{name}: {revision!r} is not the name of a revision (a branch, a tag or a commit)")
    return download(repository, revision, token, cache_dir, local_files_only)


def download(
    repository: str,
    revision: str,
    token: str | bool | None,
    cache_dir: str | Path | None,
    local_files_only: bool,
) -> Path:
    """Return a repository's cache folder, after downloading missing files: the checkpoint's three and its card.

    repository: `user/name`.
    revision: branch, tag or commit.
    token, cache_dir, local_files_only: see `CaptionModel.from_pretrained`.

    Raises ModelError for any failure.
    """
    from huggingface_hub import list_repo_files, snapshot_download

    shown = repository if revision == "main" else f"{repository}@{revision}"

    def fetch(files: list[str], revision: str) -> Path:
        with download_bars() as bar_class:
            snapshot = snapshot_download(
                repository,
                revision=revision,
                allow_patterns=files,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                library_name="capcli",
                library_version=__version__,
                tqdm_class=bar_class,
            )
        folder = Path(snapshot)
        if not all((folder / file).is_file() for file in files if file in CHECKPOINT_FILES):
            check_files(list_repo_files(repository, revision=folder.name, token=token), shown)
        return folder

    try:
        # Weights come last, so that another library's model is refused before its gigabytes are downloaded.
        folder = fetch([CONFIG_FILE, VOCABULARY_FILE, CARD_FILE], revision)
        read_config(folder)
        return fetch([KINDS_FILE, WEIGHTS_FILE], folder.name)
    except ModelError:
        raise
    except Exception as error:  # huggingface_hub's HTTP client, and so its exceptions, differ between releases
        denied = "no repository on the Hub has this name, or your token does not open it"
        raise_model_error(error, shown, f"{shown}: no such folder, not in the cache, and ", denied)


def check_repository(name: str) -> None:
    """Raise ModelError for an impossible repository name."""
    if not REPOSITORY.fullmatch(name):
        raise ModelError(f"{name}: not the name of a Hub repository (user/name)")


def upload(folder: Path, card: str, repository: str, private: bool, token: str | bool | None, message: str) -> str:
    """Upload a checkpoint to the Hub's main branch in one commit, and return its URL.

    card: text of the model card.
    repository: `user/name`, created if missing.
    private: create a private repository, and refuse a public one.
    token: True or None for the stored one.
    message: of the commit.

    Raises ModelError for any failure.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=token, library_name="capcli", library_version=__version__)
    try:
        api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise ModelError(f"{repository}: exists and is public; make it private in its settings first")
        operations = [CommitOperationAdd(CARD_FILE, card.encode())]
        files = (*CHECKPOINT_FILES, KINDS_FILE, MEMORY_FILE, LICENSE_FILE)
        sent = [file for file in files if (folder / file).is_file()]
        operations += [CommitOperationAdd(file, folder / file) for file in sent]
        return str(api.create_commit(repository, operations, commit_message=message).commit_url)
    except ModelError:
        raise
    except Exception as error:  # see `download`
        raise_model_error(error, repository, f"{repository}: ", "you have no token that may write there")


def raise_model_error(error: Exception, shown: str, lead: str, denied: str) -> NoReturn:
    """Raise ModelError, saying in a line why the Hub could not be used.

    error: huggingface_hub's.
    shown: the repository, as the user wrote it.
    lead: begins the message if the Hub could not be asked, or denied access.
    denied: what an unknown repository or refused token means.
    """
    from huggingface_hub import constants, errors

    # If the Hub can't be asked, huggingface_hub looks in its cache, and reports that failure instead of the first.
    cause = (isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__) or error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(cause, errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{shown.partition('@')[0]}"
        text = f"{shown}: gated: ask for access at {page}, then {LOG_IN}"
    elif isinstance(cause, errors.RevisionNotFoundError):
        text = f"{shown}: the repository has no such revision"
    elif isinstance(cause, errors.RepositoryNotFoundError) or status in (401, 403):
        text = f"{lead}{denied}: {LOG_IN}"
    elif isinstance(cause, errors.OfflineModeIsEnabled):
        text = f"{lead}HF_HUB_OFFLINE forbids asking the Hub"
    elif isinstance(cause, errors.LocalEntryNotFoundError):
        text = f"{shown}: no such folder, and not whole in the cache"
    elif status is not None:
        text = f"{shown}: the Hub answers {status}: {one_line(cause)}"
    elif type(cause).__module__.partition(".")[0] in HTTP_CLIENTS:
        text = f"{lead}no connection to {constants.ENDPOINT}: {one_line(cause)}"
    else:
        text = f"{shown}: {one_line(cause)}"
    raise ModelError(text) from None


@dataclass(frozen=True)
class CachedCheckpoint:
    """Describe a checkpoint in the Hub's cache.

    name: to pass as --model.
    bytes: of its files together.
    """

    name: str
    folder: Path
    bytes: int


def cached_checkpoints() -> list[CachedCheckpoint]:
    """Return the checkpoints in the Hub's cache, one per revision, sorted by name."""
    # By the cache's documented layout: huggingface_hub's own scan omits repositories with a revision that was looked up
    # but not downloaded.
    from huggingface_hub import constants

    found = []
    for folder in Path(constants.HF_HUB_CACHE).glob("models--*--*/snapshots/*"):
        try:
            check_files(os.listdir(folder), str(folder))
            read_config(folder)
            size = sum((folder / file).stat().st_size for file in CHECKPOINT_FILES)
        except (ModelError, OSError):  # another library's model, or an incomplete download
            continue
        home = folder.parents[1]
        repository = home.name.removeprefix("models--").replace("--", "/")
        refs = [
            path for path in home.glob("refs/**/*") if path.is_file() and path.read_bytes() == os.fsencode(folder.name)
        ]
        for revision in [path.relative_to(home / "refs").as_posix() for path in refs] or [folder.name]:
            name = repository if revision == "main" else f"{repository}@{revision}"
            found.append(CachedCheckpoint(name, folder, size))
    return sorted(found, key=lambda checkpoint: checkpoint.name)
