import io
import json

import pytest
from conftest import PHOTOS

from capcli.captioner import Captioner
from capcli.images import ImageError
from capcli.model import CaptionModel
from capcli.writers import FORMATS, make_writer


@pytest.fixture
def results(tiny_model: CaptionModel) -> list:
    import torch

    captioner = Captioner(tiny_model, torch.device("cpu"))
    caption = captioner.caption(PHOTOS / "coffee.jpg", num=2)
    return [caption, ImageError("bad\udcff.jpg", "the file is empty"), caption]


def write(name: str, results: list, several: bool = True, num: int = 1) -> str:
    file = io.StringIO()
    writer = make_writer(name, file, several, num)
    for result in results:
        writer.write(result)
    writer.close()
    return file.getvalue()


def test_text(results: list) -> None:
    caption = results[0]
    assert write("text", results) == f"{caption.path}\t{caption.text}\n" * 2
    assert write("text", results[:1], several=False) == f"{caption.text}\n"
    lines = write("text", results[:1], several=False, num=2).splitlines()
    assert lines == [f"{c.score:.4f}\t{c.text}" for c in caption.candidates]


def test_a_line_stays_a_line(results: list) -> None:
    from dataclasses import replace

    odd = replace(results[0], path="a\tb\nc\\d.jpg")
    assert write("text", [odd]) == f"a\\tb\\nc\\\\d.jpg\t{odd.text}\n"


@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_rows(results: list, name: str) -> None:
    text = write(name, results)
    rows = json.loads(text) if name == "json" else [json.loads(line) for line in text.splitlines()]
    keys = {"path", "caption", "log_prob", "score"}
    assert [set(row) for row in rows] == [keys, {"path", "error"}, keys]
    assert rows[1] == {"path": "bad\udcff.jpg", "error": "the file is empty"}
    assert rows[0]["log_prob"] == pytest.approx(results[0].log_prob, abs=1e-4)
    text = write(name, results[:1], num=2)
    (row,) = json.loads(text) if name == "json" else [json.loads(text)]
    assert [set(c) for c in row["candidates"]] == [{"caption", "log_prob", "score"}] * 2
    assert row["candidates"][0]["caption"] == row["caption"]


def test_nothing_is_still_an_array() -> None:
    assert json.loads(write("json", [])) == []
    assert set(FORMATS) == {"text", "json", "jsonl"}
