from __future__ import annotations

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from fakes import PHOTOS
from PIL import Image
from serving import BEARER, CHELSEA, COFFEE, PATIENCE, Running, form

from capcli.captioner import Captioner
from capcli.explaining.printing import as_row
from capcli.explaining.reading import explain, ranked
from capcli.maps.folders import attention_record
from capcli.outputs.keywords import with_keywords
from capcli.outputs.rows import as_row as caption_row
from capcli.serve.limits import MAX_FILES


def row(captioner: Captioner, photo: str, name: str, num: int = 1, **options: object) -> dict[str, object]:
    """What `--format json` writes for a photo of this name."""
    caption = captioner.caption(PHOTOS / photo, num, replace(captioner.options, **options))  # type: ignore[arg-type]
    return caption_row(caption, num) | {"path": name}


def test_a_body_is_captioned(server: Running, tiny_captioner: Captioner) -> None:
    answer = server.ask("/v1/caption", COFFEE)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == [row(tiny_captioner, "coffee.jpg", "image")]
    assert server.ask("/v1/caption?name=cup", COFFEE).json[0]["path"] == "cup"


def test_the_files_of_a_form_are_captioned_in_their_order(server: Running, tiny_captioner: Captioner) -> None:
    answer = server.ask("/v1/caption?num=3", *form(("b ü.jpg", CHELSEA), ("bad.jpg", b"no picture"), ("a.jpg", COFFEE)))
    assert answer.status == 200
    assert answer.json == [
        row(tiny_captioner, "chelsea.jpg", "b ü.jpg", 3),
        {"path": "bad.jpg", "error": "not an image in a format that can be read"},
        row(tiny_captioner, "coffee.jpg", "a.jpg", 3),
    ]


def test_parameters_are_those_of_the_command(server: Running, tiny_captioner: Captioner) -> None:
    wanted = {"num": 2, "beam": 4, "max_length": 3, "length_penalty": 0.0, "no_repeat": 1}
    expected = [row(tiny_captioner, "coffee.jpg", "image", **wanted)]  # type: ignore[arg-type]
    query = "num=2&beam=4&max-length=3&length-penalty=0&no-repeat=1"
    assert server.ask(f"/v1/caption?{query}", COFFEE).json == expected
    body, headers = form(("image", COFFEE), fields={name: str(value) for name, value in wanted.items()})
    assert server.ask("/v1/caption", body, headers).json == expected
    assert server.ask("/v1/caption?min-score=9", COFFEE).json[0]["caption"] is None


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


def test_a_seed_repeats_what_is_drawn(server: Running, tiny_captioner: Captioner) -> None:
    drawn = [server.ask("/v1/caption?sample=1&seed=3", COFFEE).json for _ in range(2)]
    assert drawn[0] == drawn[1] == [row(tiny_captioner, "coffee.jpg", "image", sample=True, seed=3)]


def test_images_that_cannot_be_read(server: Running) -> None:
    bad = server.ask("/v1/caption", b"no picture")
    assert (bad.status, list(bad.json[0])) == (422, ["path", "error"])
    assert server.ask("/v1/explain?sentence=a+cat", b"no picture").status == 422
    assert server.ask("/v1/attention?name=x.png", b"no picture").json == {
        "path": "x.png",
        "error": "not an image in a format that can be read",
    }
    assert server.ask("/v1/caption", b"").status == 400
    assert "holds no image" in server.ask("/v1/caption", *form(fields={"num": "2"})).json["error"]


def test_explain_ranks_sentences(server: Running, tiny_captioner: Captioner) -> None:
    sentences = ["a dog on grass", "a cat", "a zebra"]
    body, headers = form(("c.jpg", CHELSEA))
    query = "&".join(f"sentence={sentence.replace(' ', '+')}" for sentence in sentences)
    expected = [as_row(e) | {"path": "c.jpg"} for e in ranked(explain(tiny_captioner, CHELSEA, sentences))]
    assert server.ask(f"/v1/explain?{query}", body, headers).json == expected
    assert server.ask("/v1/explain", CHELSEA).status == 400
    assert server.ask("/v1/explain?sentence=...", CHELSEA).status == 422
    assert server.ask("/v1/explain?sentence=a", *form(("a", CHELSEA), ("b", COFFEE))).status == 400


def test_attention_as_weights_and_pictures(server: Running, tiny_captioner: Captioner) -> None:
    best = tiny_captioner.caption(CHELSEA).best
    answer = server.ask("/v1/attention?format=json&name=c.jpg", CHELSEA)
    assert answer.json == attention_record("c.jpg", best)
    sheet = server.ask("/v1/attention", CHELSEA)
    assert (sheet.status, sheet.headers["content-type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(sheet.body)).width == 1200
    word = server.ask("/v1/attention?word=0&attention-size=100&attention-style=spotlight", CHELSEA)
    picture = Image.open(io.BytesIO(word.body))
    assert max(picture.size) == 100
    assert np.asarray(picture.convert("L")).std() > 1
    assert server.ask("/v1/attention?word=99", CHELSEA).status == 400
    mine = server.ask("/v1/attention?sentence=a+cat&format=json", CHELSEA).json
    assert (mine["caption"], len(mine["words"])) == ("a cat", 2)


def test_requests_share_batches(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the workers are busy, what comes in waits, and is then captioned together."""
    sizes: list[int] = []
    here, go_on = threading.Semaphore(0), threading.Event()
    original = Captioner.caption_pixels

    def counted(captioner: Captioner, pixels: np.ndarray, names: list[str], *arguments: object) -> object:
        sizes.append(len(names))
        if len(sizes) <= captioner.workers:
            here.release()
            go_on.wait(1800)
        return original(captioner, pixels, names, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Captioner, "caption_pixels", counted)
    with ThreadPoolExecutor(20) as threads:
        busy = []
        for _ in range(server.api.captioner.workers):
            busy.append(threads.submit(server.ask, "/v1/caption", COFFEE))
            assert here.acquire(timeout=1800)
        others = [threads.submit(server.ask, "/v1/caption", CHELSEA) for _ in range(12)]
        others += [threads.submit(server.ask, "/v1/caption?num=2", CHELSEA) for _ in range(3)]
        while server.api.gate.images < len(busy) + len(others):
            pass
        go_on.set()
        answers = [each.result().json for each in (*busy, *others)]
    assert all(len(answer) == 1 and answer[0]["caption"] for answer in answers)
    assert sum(sizes) == len(answers)
    assert len(sizes) < len(answers)
    assert max(sizes) > 1


def test_a_mistake_of_ours_costs_one_answer_and_shows_no_trace(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret/path")

    with monkeypatch.context() as breaking:
        breaking.setattr(Captioner, "caption_pixels", broken)
        answer = server.ask("/v1/caption", COFFEE)
    assert (answer.status, answer.json) == (500, {"error": "a bug in capcli; its terminal says more"})
    until = time.monotonic() + PATIENCE
    while not server.reports and time.monotonic() < until:  # which is written once the answer is on its way
        pass
    assert [line.startswith("a bug in capcli: RuntimeError at test_api.py:") for line in server.reports] == [True]
    assert server.ask("/v1/caption", COFFEE).status == 200


def test_health_needs_no_token(server: Running) -> None:
    answer = server.ask("/health", headers=None)
    assert (answer.status, answer.json["status"]) == (200, "ok")


def test_the_description_names_every_parameter_and_needs_no_other_server(server: Running) -> None:
    description = server.ask("/openapi.json", headers=None).json
    assert description["openapi"].startswith("3.1")
    parameters = {p["name"]: p for p in description["paths"]["/v1/caption"]["post"]["parameters"]}
    assert {
        "num",
        "beam",
        "max-length",
        "length-penalty",
        "top-p",
        "seed",
        "min-score",
        "keywords",
        "replace",
    } <= parameters.keys()
    for name in parameters:
        assert "unknown" not in server.ask(f"/v1/caption?{name}=x", COFFEE).body.decode(), name
    page = server.ask("/docs", headers=None).body.decode()
    for address in description["paths"]:
        assert address in page
    assert "max-length" in page
    assert "https://" not in page
    assert "<script" not in page


def test_what_is_not_there(server: Running) -> None:
    assert (server.ask("/nothing").status, server.ask("/nothing").json) == (404, {"error": "there is nothing here"})
    assert server.ask("/v1/caption").status == 405
    assert server.ask("/static/../app.py").status == 404
    assert server.ask("/static/%2e%2e%2fapp.py").status == 404


def test_more_images_than_one_request_may_have(server: Running) -> None:
    answer = server.ask("/v1/caption", *form(*[("a", b"x")] * (MAX_FILES + 1)))
    assert (answer.status, answer.json) == (413, {"error": f"more than {MAX_FILES} images in one request"})


def test_the_answer_to_head_has_no_body(server: Running) -> None:
    assert (server.ask("/health", method="HEAD").status, server.ask("/health", method="HEAD").body) == (200, b"")
    assert server.ask("/", headers=BEARER, method="HEAD").status in (200, 303)
