"""Parameters of requests are those of the command, with its ranges."""

from __future__ import annotations

import pytest
from fakes import PHOTOS
from serving import COFFEE, Running, form, row

from capcli.captioner import Captioner
from capcli.outputs.keywords import with_keywords
from capcli.outputs.rows import as_row as caption_row


def test_parameters_are_those_of_the_command(server: Running, tiny_captioner: Captioner) -> None:
    wanted = {"num": 2, "beam": 4, "max_length": 3, "length_penalty": 0.0, "no_repeat": 1}
    expected = [row(tiny_captioner, "coffee.jpg", "image", **wanted)]  # type: ignore[arg-type]
    query = "num=2&beam=4&max-length=3&length-penalty=0&no-repeat=1"
    assert server.ask(f"/v1/caption?{query}", COFFEE).json == expected
    body, headers = form(("image", COFFEE), fields={name: str(value) for name, value in wanted.items()})
    assert server.ask("/v1/caption", body, headers).json == expected
    refused = server.ask("/v1/caption?min-confidence=0.5", COFFEE)
    reason = "min-confidence: this checkpoint cannot tell how likely a caption is right"
    assert (refused.status, refused.json["error"]) == (400, reason)


def test_keywords_and_replacements_are_those_of_the_command(server: Running, tiny_captioner: Captioner) -> None:
    beam = tiny_captioner.options.beam
    caption = with_keywords(tiny_captioner.caption(PHOTOS / "coffee.jpg", beam), 1, 2, 0.0)
    assert caption.keywords
    answer = server.ask("/v1/caption?keywords=2&min-keyword-score=0", COFFEE).json
    assert answer == [caption_row(caption, 1) | {"path": "image"}]
    old, *_ = caption.words
    (reworded,) = server.ask(f"/v1/caption?replace={old}%3DANOTHER", COFFEE).json
    assert reworded["caption"].split()[0] == "ANOTHER"
    assert "keywords" not in reworded


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("min-keyword-score=0.5", "min-keyword-score needs keywords"),
        ("replace=cat", "replace: 'cat' is not of the form OLD=NEW"),
        ("nmu=2", "unknown parameter 'nmu'; there are name, num, beam"),
        ("num=0", "num is 0, not between 1 and 20"),
        ("num=two", "num is 'two', not an integer"),
        ("num=1&num=2", "num is given more than once"),
        ("length-penalty=nan", "length-penalty is 'nan', not a finite number"),
        ("sample=perhaps", "sample is 'perhaps', not true or false"),
        ("diversity=1", "diversity needs num=2 or more"),
        ("temperature=2", "temperature and top-p need sample"),
        ("sample=1&diversity=1&num=2", "sample cannot be combined with diversity"),
        ("attention-samples=2", "attention-samples needs a checkpoint with hard attention"),
        ("max-length=100000", "max-length is 100000, not between 1 and 100"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(server: Running, query: str, said: str) -> None:
    answer = server.ask(f"/v1/caption?{query}", COFFEE)
    assert answer.status == 400
    assert said in answer.json["error"]
