"""Checkpoints by name, against a server on loopback that speaks the Hub's endpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer

from capcli.checkpoints.hub import find_checkpoint
from capcli.checkpoints.store import CHECKPOINT_FILES, ModelError

FILES = [*CHECKPOINT_FILES, "README.md"]


def python(code: str, *arguments: str, environment: dict[str, str]) -> list[str]:
    """Lines that a new interpreter prints; the Hub's address is fixed when huggingface_hub is imported."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


SCRIPT = """
import json, sys
from capcli import CaptionModel, ModelError
for folder, name, options in json.loads(sys.argv[1]):
    try:
        if folder:
            print(CaptionModel.from_pretrained(folder).push_to_hub(name, **options))
        else:
            print("loaded", len(CaptionModel.from_pretrained(name, **options).vocabulary))
    except ModelError as error:
        print(error)
"""


def load(*asked: str | tuple[str, dict[str, object]], environment: dict[str, str]) -> list[str]:
    """What loading each of these gives, its number of words or an error. asked: names, some with options."""
    each = [(one, {}) if isinstance(one, str) else one for one in asked]
    return python(SCRIPT, json.dumps([[None, name, options] for name, options in each]), environment=environment)


def test_a_folder_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("user/name") == Path("user/name")
    assert find_checkpoint(tmp_path / "user" / "name") == tmp_path / "user" / "name"


@pytest.mark.parametrize(
    "name",
    [
        "absent", "/absent/folder", "./user/name", "../user/name", "user/../name", "user/.name", "a/b/c", "user/", "",
        "user/name\n", "üser/name", "user\\name", "x" * 5000, "user/name@", "user/name@../../main", "user/name@/etc",
        "user/name@a/../b", "user/name@.git", "user/name@v1@v2", "user/name@a b", "user/na..me", "user/na--me",
        "user/name.git", "user/" + "x" * 200,
    ],
)  # fmt: skip
def test_no_name_leads_out_of_the_cache(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        find_checkpoint(name, cache_dir=tmp_path / "cache")
    assert "connection" not in str(caught.value)  # nobody was asked
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_a_checkpoint(tiny_checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="name the folder that holds"):
        find_checkpoint(tiny_checkpoint / "model.safetensors")


@pytest.mark.slow
def test_every_way_to_fail_is_one_clear_line(
    hub: HubServer, hub_environment: dict[str, str], checkpoint_files: dict[str, bytes]
) -> None:
    hub.add("user/private", checkpoint_files, private=True)
    hub.add("user/gated", checkpoint_files, gated=True)
    hub.add("user/pickles", {"config.json": b"{}", "pytorch_model.bin": b"\x80\x04."})
    hub.add("user/other", {"config.json": b'{"model_type": "x"}', "vocabulary.json": b"[]", "model.safetensors": b""})
    hub.add("user/empty", {".gitattributes": b""})
    hub.add("user/broken", checkpoint_files | {"model.safetensors": checkpoint_files["model.safetensors"][:-9]})
    hub.add("user/good", checkpoint_files)
    denied = "no repository on the Hub has this name, or your token does not open it: set HF_TOKEN or run"
    expected = {
        "user/absent": denied,
        "user/private": denied,
        "user/gated": f"gated: ask for access at {hub.url}/user/gated, then set HF_TOKEN",
        "user/good@v9": "user/good@v9: the repository has no such revision",
        "user/pickles": "user/pickles: the only weights are 'pytorch_model.bin', a pickle",
        "user/other": "config.json: no format_version: not a capcli checkpoint",
        "user/empty": "user/empty: no config.json, no vocabulary.json, no model.safetensors: not a capcli checkpoint",
        "user/broken": "model.safetensors: damaged or cut off",
        "user/good": "loaded 12",
    }
    asked = [(name, {}) for name in expected]
    asked += [(name, {"token": TOKEN}) for name in ("user/private", "user/gated")]
    *lines, private, gated = load(*asked, environment=hub_environment)
    for line, (name, words) in zip(lines, expected.items(), strict=True):
        assert words in line, name
    assert private == "loaded 12"
    assert "gated" in gated
    # Another library's weights are never asked for, and a pickle even less.
    assert not [r for r in hub.requests if "user/other/resolve" in r and "safetensors" in r]
    assert not [r for r in hub.requests if r.endswith(".bin")]


@pytest.mark.slow
def test_cache_offline_and_no_network(
    hub: HubServer, hub_environment: dict[str, str], checkpoint_files: dict[str, bytes]
) -> None:
    more = {"README.md": b"# A card", "training_args.bin": b"\x80\x04.", "last.safetensors": b"", "notes/a.txt": b""}
    repository = hub.add("user/good", checkpoint_files | more)
    repository.commit({}, "v1")
    first = repository.refs["main"]
    assert load("user/good", f"user/good@{first}", environment=hub_environment) == ["loaded 12"] * 2
    fetched = sorted(r.rpartition("/")[2] for r in hub.requests if r.startswith("HEAD"))
    assert fetched == sorted(FILES)
    hub.requests.clear()
    offline = hub_environment | {"HF_HUB_OFFLINE": "1"}
    cached, absent = load("user/good", "user/good@v1", environment=offline)
    assert cached == "loaded 12"
    assert absent == "user/good@v1: no such folder, not in the cache, and HF_HUB_OFFLINE forbids asking the Hub"
    assert hub.requests == []
    hub.stop()
    cached, absent = load("user/good", "user/new", environment=hub_environment)
    assert cached == "loaded 12"
    assert absent.startswith(f"user/new: no such folder, not in the cache, and no connection to {hub.url}: ")


@pytest.mark.slow
def test_what_is_pushed_comes_back(
    hub: HubServer, hub_environment: dict[str, str], tiny_checkpoint: Path, checkpoint_files: dict[str, bytes]
) -> None:
    hub.add("me/known-secret", {".gitattributes": b""})
    folder = str(tiny_checkpoint)
    steps = [
        [folder, "me/new", {"commit_message": "From Python"}],
        [folder, "me/secret", {"private": True}],
        [folder, "me/known-secret", {"private": True}],
        [folder, "you/new", {}],
        [folder, "new", {}],
        [folder, "me/new", {"token": False}],
        [None, "me/new", {"token": False}],
        [None, "me/secret", {}],
    ]
    address, secret, known, other, wrong, denied, *loaded = python(
        SCRIPT, json.dumps(steps), environment=hub_environment | {"HF_TOKEN": TOKEN}
    )
    new = hub.repositories["me/new"]
    assert address == f"{hub.url}/me/new/commit/{new.refs['main']}"
    files = new.commits[new.refs["main"]]
    assert files.keys() == set(FILES)
    assert {name: files[name] for name in CHECKPOINT_FILES} == checkpoint_files
    assert b"capcli caption --model me/new photo.jpg" in files["README.md"]
    assert not new.private
    assert secret.startswith(f"{hub.url}/me/secret/commit/")
    assert hub.repositories["me/secret"].private
    assert known == "me/known-secret: exists and is public; make it private in its settings first"
    assert list(hub.repositories["me/known-secret"].commits.values()) == [{".gitattributes": b""}]
    assert other == "you/new: you have no token that may write there: set HF_TOKEN or run `hf auth login`"
    assert wrong == "new: not the name of a Hub repository (user/name)"
    assert denied == "me/new: you have no token that may write there: set HF_TOKEN or run `hf auth login`"
    assert loaded == ["loaded 12"] * 2


@pytest.mark.slow
def test_the_hub_is_told_no_more_of_this_machine_than_it_needs(
    hub: HubServer, hub_environment: dict[str, str], checkpoint_files: dict[str, bytes]
) -> None:
    hub.add("user/name", checkpoint_files)
    load("user/name", environment=hub_environment)
    assert hub.agents
    for agent in hub.agents:
        assert {part.strip().partition("/")[0] for part in agent.split(";")} <= {
            "capcli",
            "hf_hub",
            "python",
            "unknown",
        }


@pytest.mark.slow
def test_a_local_checkpoint_needs_neither_network_nor_huggingface_hub(tiny_checkpoint: Path) -> None:
    code = (
        "import sys; from capcli import Captioner; Captioner.load(sys.argv[1], 'cpu')\n"
        "print(*[name for name in sys.modules if name.partition('.')[0] == 'huggingface_hub'] or ['none'])"
    )
    assert python(code, str(tiny_checkpoint), environment=dict(os.environ)) == ["none"]
