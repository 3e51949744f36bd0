"""Pictures that capcli drew are told from those that a person has."""

import os
from pathlib import Path

import pytest

from capcli.images.drawn import safe_name
from capcli.images.find import (
    walk,
)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}", b"[]", b"\xff", b'{"heads": 8}', b'{"path": "a.jpg", "caption": "mine"}',
        b'{"path": "a.jpg", "caption": "", "grid": [1, 1], "words": 3}', b'{"path": ' + 100_000 * b"[", None,
    ],
)  # fmt: skip
def test_a_persons_own_attention_json_hides_nothing(tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        if not hasattr(os, "mkfifo"):
            pytest.skip("no pipes with names on this system")
        os.mkfifo(tmp_path / "attention.json")  # nobody writes to it
    else:
        (tmp_path / "attention.json").write_bytes(content)
    names = ["00_a.png", "attention.png", "b.jpg", "sub/c.jpg"]
    (tmp_path / "sub").mkdir()
    for name in names:
        (tmp_path / name).touch()
    assert list(walk(str(tmp_path))) == [str(tmp_path / name) for name in names]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("dog", "dog"), ("'s", "_s"), ("t-shirt", "t-shirt"), ("<unk>", "_unk_"), ("../../etc", "_.._etc"),
        ("café", "café"), ("a/b\\c:d", "a_b_c_d"), ("", "_"), ("...", "_"), ("CON", "_CON"), ("lpt1.txt", "_lpt1.txt"),
        ("-rf", "rf"), ("new\nline\x00", "new_line_"), ("강아지", "강아지"), ("\udcff", "_"), ("🐕", "_"),
    ],
)  # fmt: skip
def test_names_are_safe(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_long_names_are_cut() -> None:
    assert len(safe_name("é" * 300).encode()) <= 80
