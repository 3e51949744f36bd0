import csv
import io
import json
import os
import re

import pytest
from fakes import BAD, CAT, DOG, STRANGE, Found, write

from capcli.outputs.formats import FORMATS, format_by_ending
from capcli.outputs.rows import Layout
from capcli.outputs.template import Template
from capcli.results import Kind


def test_text() -> None:
    assert write("text", CAT, BAD, DOG) == 'cat.jpg\ta cat\nb/dog.jpg\ta "dog", brown\n'
    assert write("text", CAT, names_images=False) == "a cat\n"
    assert write("text", STRANGE) == 'tab\\t, "line\\nend \udcff é.jpg\ta man\n'
    two = Found("cat.jpg", "a cat", candidates=[CAT, DOG])
    assert write("text", two, names_images=False, num=2) == '-0.5000\ta cat\n-2.0000\ta "dog", brown\n'


@pytest.mark.skipif(os.sep == "\\", reason="there a backslash separates folders")
def test_a_name_can_be_told_from_its_line() -> None:
    names = ["x\ny.jpg", "x\\ny.jpg", "x\\\ny.jpg", "x\\\\ny.jpg", "\t\r\\", "\\t", "\n\n", "é\udcff.jpg"]
    lines = write("text", *(Found(name, "a cat") for name in names)).split("\n")
    assert len(set(lines)) == len(names) + 1
    meant = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}
    shown = [line.removesuffix("\ta cat") for line in lines[:-1]]
    assert [re.sub(r"\\.", lambda found: meant[found[0]], text) for text in shown] == names
    # A name inside a template breaks no line either.
    assert write(
        "text", Found("x\ny.jpg", "a cat"), names_images=False, template=Template("{name}: {caption} ({path})")
    ) == ("x\\ny: a cat (x\\ny.jpg)\n")


def test_json_lines() -> None:
    rows = [json.loads(line) for line in write("jsonl", CAT, BAD, STRANGE).splitlines()]
    assert rows == [
        {"path": "cat.jpg", "caption": "a cat", "log_prob": -3.25, "score": -0.5},
        {"path": "bad.jpg", "error": "the file is empty"},
        {"path": STRANGE.path, "caption": "a man", "log_prob": -3.25, "score": -0.5},
    ]


def test_json() -> None:
    assert json.loads(write("json")) == []
    assert [row["path"] for row in json.loads(write("json", CAT, BAD))] == ["cat.jpg", "bad.jpg"]


@pytest.mark.parametrize(("name", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_tables_read_back(name: str, delimiter: str) -> None:
    text = write(name, CAT, BAD, DOG, STRANGE)
    assert text.startswith(
        delimiter.join(["path", "caption", "log_prob", "score", "error", "unsure", "confidence", "kinds"]) + "\n"
    )
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    assert [row["path"] for row in rows] == [r.path for r in (CAT, BAD, DOG, STRANGE)]
    assert [row["caption"] for row in rows] == ["a cat", "", 'a "dog", brown', "a man"]
    assert [row["error"] for row in rows] == ["", "the file is empty", "", ""]
    assert float(rows[2]["score"]) == -2.0
    assert write(name, CAT, heading=False).startswith("cat.jpg" + delimiter)


def test_a_carriage_return_in_a_name_ends_no_record() -> None:
    (row,) = csv.DictReader(io.StringIO(write("csv", Found("a\rb.jpg", "a cat")), newline=""))
    assert (row["path"], row["caption"]) == ("a\rb.jpg", "a cat")


def test_tables_have_columns_for_every_candidate() -> None:
    two = Found("cat.jpg", "a cat", candidates=[CAT, DOG])
    one = Found("x.jpg", "x")  # a beam may find fewer
    rows = list(csv.reader(io.StringIO(write("csv", two, one, BAD, num=2))))
    names = ["path", "caption", "log_prob", "score", "caption_2", "log_prob_2", "score_2", "error", "unsure"]
    assert rows[0] == [*names, "confidence", "kinds"]
    assert rows[1] == ["cat.jpg", "a cat", "-3.25", "-0.5", 'a "dog", brown', "-9.0", "-2.0", "", "", "", ""]
    assert rows[2] == ["x.jpg", "x", "-3.25", "-0.5", "", "", "", "", "", "", ""]
    assert rows[3] == ["bad.jpg", *[""] * 6, "the file is empty", "", "", ""]


def test_confidence_and_kinds_are_in_every_format_that_has_room_for_them() -> None:
    kinds = (Kind("polar bear", 0.82149), Kind("bear", 0.0622))
    bear = Found("bear.jpg", "a bear", confidence=0.8, kinds=kinds)
    row = json.loads(write("jsonl", bear))
    assert row["confidence"] == 0.8
    assert row["kinds"] == [{"name": "polar bear", "probability": 0.8215}, {"name": "bear", "probability": 0.0622}]
    assert not {"confidence", "kinds"} & json.loads(write("jsonl", CAT)).keys()
    for name, delimiter in (("csv", ","), ("tsv", "\t")):
        text = write(name, bear, CAT)
        found = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
        assert [each["confidence"] for each in found] == ["0.8", ""]
        assert [each["kinds"] for each in found] == ["polar bear 0.8215, bear 0.0622", ""]
        record = text.splitlines(keepends=True)[1].encode()
        assert FORMATS[name].read_row(record, Layout()) == row


def test_keywords_are_in_every_format_that_has_room_for_them() -> None:
    cat, none = Found("cat.jpg", "a cat", keywords=("cat", "t-shirt")), Found("x.jpg", "x", -2.0, keywords=())
    rows = [json.loads(line) for line in write("jsonl", cat, none, BAD).splitlines()]
    assert [row.get("keywords") for row in rows] == [["cat", "t-shirt"], [], None]
    assert (
        json.loads(write("jsonl", Found("x", "x", keywords=("x",), confidence=0.4), min_confidence=0.5))["keywords"]
        == []
    )
    assert "keywords" not in write("jsonl", CAT)
    for name, delimiter in (("csv", ","), ("tsv", "\t")):
        text = write(name, cat, none, BAD, keywords=True, num=2)
        table = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
        assert [row["keywords"] for row in table] == ["cat, t-shirt", "", ""]
        assert list(table[0])[-2:] == ["kinds", "keywords"]
    assert write("text", cat, template=Template("{caption} ({keywords})")) == "cat.jpg\ta cat (cat, t-shirt)\n"


def test_what_the_model_is_unsure_of_is_said() -> None:
    grey = Found("grey.png", "a man in a blue shirt", unsure=True)
    rows = [json.loads(line) for line in write("jsonl", CAT, grey).splitlines()]
    assert "unsure" not in rows[0]
    assert rows[1]["unsure"] is True
    assert rows[1]["caption"] == "a man in a blue shirt"  # nothing is hidden
    assert json.loads(write("json", grey))[0]["unsure"] is True
    table = list(csv.DictReader(io.StringIO(write("csv", CAT, grey, BAD))))
    assert [row["unsure"] for row in table] == ["", "true", ""]
    # People get a mark, and programs, for which text has none, only what they can rely on, unless they want all of it.
    assert write("text", CAT, grey) == "cat.jpg\ta cat\ngrey.png\t\n"
    assert write("text", CAT, grey, keeps_unsure=True) == "cat.jpg\ta cat\ngrey.png\ta man in a blue shirt\n"
    assert write("text", CAT, grey, marks_unsure=True) == "cat.jpg\ta cat\ngrey.png\ta man in a blue shirt\t(unsure)\n"
    two = Found("grey.png", "a man", candidates=[CAT, DOG], unsure=True)
    assert (
        write("text", two, num=2, names_images=False, marks_unsure=True)
        == '-0.5000\ta cat\t(unsure)\n-2.0000\ta "dog", brown\n'
    )


def test_too_little_confidence_leaves_the_caption_empty() -> None:
    dog, bird = Found("b/dog.jpg", "a dog", -2.0, -9.0, confidence=0.5), Found("bird.jpg", "a bird", confidence=0.6)
    assert write("text", CAT, dog, bird, min_confidence=0.6) == "cat.jpg\ta cat\nb/dog.jpg\t\nbird.jpg\ta bird\n"
    rows = [json.loads(line) for line in write("jsonl", CAT, dog, min_confidence=0.6).splitlines()]
    assert [(row["caption"], row.get("confidence")) for row in rows] == [("a cat", None), (None, 0.5)]
    assert "b/dog.jpg,,-9.0,-2.0," in write("csv", dog, min_confidence=0.6)
    two = Found("b/dog.jpg", "a dog", candidates=[CAT, DOG], confidence=0.5)
    assert [each["caption"] for each in json.loads(write("jsonl", two, num=2, min_confidence=0.6))["candidates"]] == [
        None
    ] * 2


def test_the_ending_says_the_format() -> None:
    assert format_by_ending(None) == "text"
    assert [format_by_ending("x" + e) for e in (".txt", ".CSV", ".tsv", ".json", ".jsonl", ".ndjson", ".xml")] == [
        "text", "csv", "tsv", "json", "jsonl", "jsonl", None,
    ]  # fmt: skip
