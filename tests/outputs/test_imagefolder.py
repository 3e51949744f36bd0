"""`--format imagefolder`, as the datasets library reads it."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import BAD, CAT, DOG, Found, Text

from capcli.outputs.formats import FORMATS
from capcli.outputs.imagefolder import ELSEWHERE
from capcli.outputs.rows import Layout
from capcli.outputs.template import Template
from capcli.results import ImageError


def test_image_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    two = Found("b/c/a.jpg", "a cat", candidates=[CAT, DOG])
    rows: Any = FORMATS["imagefolder"](Text(), Layout(2, 0.6, Template("{caption}, sks"), separator=" / "))
    rows.path = "b/metadata.jsonl"
    for result in (two, BAD, Found("b/d.jpg", "a dog", confidence=0.5)):
        assert result is BAD or rows.wants(result.path) is None
        rows.write(result)
    rows.layout = Layout(2)
    rows.write(two)
    rows.copy({"path": str(tmp_path / "b/é.jpg"), "caption": "a cup"})
    rows.close()
    assert list(map(json.loads, rows.file.getvalue().splitlines())) == [
        {"file_name": "c/a.jpg", "text": 'a cat, sks / a "dog", brown, sks'},  # the confidence of the third is too low
        {"file_name": "c/a.jpg", "text": 'a cat\na "dog", brown'},
        {"file_name": "é.jpg", "text": "a cup"},
    ]
    with pytest.raises(ImageError, match=ELSEWHERE):
        rows.wants("a.jpg")
    with pytest.raises(ImageError, match="not UTF-8"):
        rows.wants("b/\udcff.jpg")
    rows.finished = {"c/a.jpg": True}
    assert [rows.wants(name) for name in ("b/c/a.jpg", str(tmp_path / "b/c/a.jpg"), "b/d.jpg")] == [False, False, None]
