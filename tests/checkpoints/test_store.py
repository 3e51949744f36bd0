"""Checkpoints: what is saved comes back, and whatever else lies in a folder gives one clear error."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import TINY, WORDS
from safetensors.torch import load_file, save_file

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.card import read_card
from capcli.checkpoints.store import CHECKPOINT_FILES, ModelError
from capcli.files import write_together
from capcli.model.vocabulary import Vocabulary


def edit_config(**entries: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return edit


def drop_config_entry(name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != name}))

    return edit


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def edit_tensors(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        edit(tensors)
        save_file(tensors, folder / "model.safetensors")

    return change


def remove(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def cut_off(keep: float) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        path = folder / "model.safetensors"
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content))])

    return cut


def only_pickles(folder: Path) -> None:
    remove(*CHECKPOINT_FILES)(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def pickle_in_disguise(folder: Path) -> None:
    torch.save({"w": torch.zeros(3)}, folder / "model.safetensors")


NAME = "decoder.output_bias"
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no files": (remove(*CHECKPOINT_FILES), "no config.json, no vocabulary.json, no model.safetensors"),
    "no weights": (remove("model.safetensors"), "no model.safetensors"),
    "no vocabulary": (remove("vocabulary.json"), "no vocabulary.json"),
    "pickles": (only_pickles, "'pytorch_model.bin', a pickle: opening one can run any program"),
    "pickle in disguise": (pickle_in_disguise, "model.safetensors: not a safetensors file"),
    "config is no JSON": (write("config.json", b"{"), "config.json: Expecting property name"),
    "config is no UTF-8": (write("config.json", b"\xff\xfe\xfa"), "config.json: "),
    "config is a list": (write("config.json", b"[]"), "config.json: not a JSON object"),
    "config nested deeply": (write("config.json", b"[" * 200_000), "config.json: nested too deeply"),
    "config too big": (write("config.json", b" " * 2_000_000), "config.json: 2,000,000 bytes, more than the limit"),
    "no version": (drop_config_entry("format_version"), "config.json: no format_version: not a capcli checkpoint"),
    "version a text": (edit_config(format_version="1"), "format_version '1': not a capcli checkpoint"),
    "newer": (edit_config(format_version=2), "format version 2 is newer than this capcli reads (1): upgrade capcli"),
    "older": (edit_config(format_version=0), "format version 0 is older than this capcli reads (1): use the capcli"),
    "unknown entry": (edit_config(colour="red"), "config.json: unknown entry 'colour'"),
    "unknown encoder": (edit_config(encoder="../../etc/passwd"), "encoder is '../../etc/passwd'; known: eff"),
    "unknown decoder": (edit_config(decoder="gpt"), "decoder is 'gpt'; known: pre-inject, par-inject, soft, hard"),
    "size a text": (edit_config(hidden_size="16"), "hidden_size is '16', not of type int"),
    "size a truth": (edit_config(hidden_size=True), "hidden_size is True, not of type int"),
    "size null": (edit_config(hidden_size=None), "hidden_size is None, not of type int"),
    "size a fraction": (edit_config(hidden_size=16.5), "hidden_size is 16.5, not of type int"),
    "size zero": (edit_config(hidden_size=0), "hidden_size is 0, not between 1 and 16384"),
    "size absurd": (edit_config(hidden_size=10**12), "hidden_size is 1000000000000, not between"),
    "picture absurd": (edit_config(image_size=10**6), "image_size is 1000000, not between 32 and 2048"),
    "beam absurd": (edit_config(beam=10**6), "beam is 1000000, not between 1 and 100"),
    "dropout": (edit_config(dropout=1.5), "dropout is 1.5, not between 0 and 0.99"),
    "not a number": (edit_config(length_penalty=float("nan")), "length_penalty is nan, not between -10 and 10"),
    "infinite": (edit_config(length_penalty=float("inf")), "length_penalty is inf, not between -10 and 10"),
    "unsure below a text": (edit_config(unsure_below="7"), "unsure_below is '7', not of type float | None"),
    "unsure below nothing": (edit_config(unsure_below=float("nan")), "unsure_below is nan, not between -1000 and 1000"),
    "sizes disagree": (edit_config(hidden_size=17), "has shape"),
    "data of the wrong form": (edit_config(training={"data": [1]}), "training.data is [1], not a list of"),
    "command of the wrong form": (edit_config(training={"command": 3}), "training.command is 3, not a text"),
    "scores of the wrong form": (edit_config(scores={"dev": [1]}), "scores of 'dev' are [1], not figures"),
    "vocabulary an object": (write("vocabulary.json", b"{}"), "vocabulary.json: not a JSON array of words"),
    "vocabulary of numbers": (write("vocabulary.json", b"[1]"), "vocabulary.json: not a JSON array of words"),
    "vocabulary headless": (write("vocabulary.json", b'["a"]'), "vocabulary.json: a vocabulary begins with <pad>"),
    "word twice": (write("vocabulary.json", json.dumps([*WORDS[:-1], "cat"]).encode()), "a word occurs twice"),
    "words that command a terminal": (
        write("vocabulary.json", json.dumps([*WORDS[:-1], "\x1b[2J"]).encode()),
        r"vocabulary.json: '\x1b[2J' is not a word that can be printed",
    ),
    "half a character": (
        write("vocabulary.json", json.dumps([*WORDS[:-1], "\ud800"]).encode()),
        r"'\ud800' is not a word that can be printed",
    ),
    "words missing": (
        write("vocabulary.json", json.dumps(WORDS[:-1]).encode()),
        "vocabulary.json: 11 words, but model.safetensors was trained with 12 words",
    ),
    "words too many": (
        write("vocabulary.json", json.dumps([*WORDS, "bird"]).encode()),
        "vocabulary.json: 13 words, but model.safetensors was trained with 12 words",
    ),
    "empty weights": (write("model.safetensors", b""), "model.safetensors: damaged or cut off"),
    "weights cut off": (cut_off(0.7), "model.safetensors: damaged or cut off"),
    "header cut off": (cut_off(0.0005), "model.safetensors: damaged or cut off"),
    "10 GB header": (
        write("model.safetensors", struct.pack("<Q", 10_000_000_000) + b"{}"),
        "model.safetensors: not a safetensors file: its header would be 10,000,000,000 bytes long",
    ),
    "header of garbage": (write("model.safetensors", struct.pack("<Q", 9) + b"{garbage}"), "damaged or cut off"),
    "tensor missing": (edit_tensors(lambda t: t.pop(NAME)), f"missing tensor '{NAME}' (1 in all)"),
    "tensor extra": (
        edit_tensors(lambda t: t.update({"\x1b[31m": torch.zeros(1)})),
        r"unknown tensor '\x1b[31m' (1 in all)",
    ),
    "tensor of another shape": (
        edit_tensors(lambda t: t.update({"decoder.gate.bias": torch.zeros(2)})),
        "tensor decoder.gate.bias has shape (2,) instead of (1,)",
    ),
    "tensor of integers": (
        edit_tensors(lambda t: t.update({NAME: t[NAME].long()})),
        f"tensor {NAME} holds I64, not floating-point numbers",
    ),
    "tensor not finite": (
        edit_tensors(lambda t: t[NAME].fill_(float("nan"))),
        f"tensor {NAME} holds values that are not finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_checkpoint_is_one_clear_line(tiny_copy: Path, case: str) -> None:
    damage, words = BROKEN[case]
    damage(tiny_copy)
    with pytest.raises(ModelError) as caught:
        CaptionModel.load(tiny_copy)
    message = str(caught.value)
    assert words in message
    assert message.startswith(str(tiny_copy))
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 500


def test_a_hostile_pickle_beside_the_weights_is_never_opened(tiny_copy: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    for name in ("pytorch_model.bin", "model.pt", "last.ckpt"):
        (tiny_copy / name).write_bytes(pickle.dumps(Trap()))
    CaptionModel.load(tiny_copy)
    (tiny_copy / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError):
        CaptionModel.load(tiny_copy)
    assert not (tmp_path / "sprung").exists()


def test_random_damage_gives_an_error_or_a_model(tiny_model: CaptionModel, tmp_path: Path) -> None:
    tiny_model.save(tmp_path, torch.float16)
    rng = random.Random(5)
    messages = []
    for name in CHECKPOINT_FILES:
        path = tmp_path / name
        whole = path.read_bytes()
        # Of the weights' ten megabytes, the header's beginning and end matter most.
        header = 8 + int.from_bytes(whole[:8], "little") if name.endswith(".safetensors") else len(whole)
        for _ in range(60):
            damaged = bytearray(whole)
            for _ in range(rng.choice((1, 1, 3))):
                damaged[rng.randrange(header)] = rng.randrange(256)
            path.write_bytes(damaged)
            try:
                CaptionModel.load(tmp_path)
            except ModelError as error:
                messages.append(str(error))
        path.write_bytes(whole)
    assert len(messages) > 60
    assert all(map(str.isprintable, messages))
    CaptionModel.load(tmp_path)


def test_a_full_disk_leaves_the_old_checkpoint_whole(tiny_model: CaptionModel, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="no limits on file sizes on this system")
    tiny_model.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() >= set(CHECKPOINT_FILES)
    other = CaptionModel(dataclasses.replace(TINY, hidden_size=24), Vocabulary([*WORDS, "bird"]))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))  # the system refuses to write on, as when full
    try:
        with pytest.raises(OSError, match=r"model\.safetensors"):
            other.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
@pytest.mark.parametrize("name", ["config.json", "vocabulary.json", "model.safetensors", "README.md"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_regular_files_are_read(tiny_model: CaptionModel, tmp_path: Path, name: str, kind: str) -> None:
    """A pipe would be waited for, and a device never ends: the limit on a test's time would be reached."""
    tiny_model.save(tmp_path)
    (tmp_path / name).unlink()
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    if name == "README.md":
        assert read_card(tmp_path) is None
    else:
        with pytest.raises(ModelError, match=rf"{name}: not a file$"):
            CaptionModel.load(tmp_path)


def test_files_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OSError, match="absent"):
        write_together({tmp_path / "a": b"new", tmp_path / "absent" / "b": b"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"
