from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image
from serving import BEARER, CHELSEA, COFFEE, PATIENCE, Running, form, row

from capcli.captioner import Captioner
from capcli.explaining.printing import as_row
from capcli.explaining.reading import explain, ranked
from capcli.maps.folders import attention_record
from capcli.serve.limits import MAX_FILES


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


def test_what_is_no_picture_is_told_how_to_send_one(server: Running) -> None:
    answer = server.ask("/v1/caption", b'{"image": "aGk="}', BEARER | {"Content-Type": "application/json"})
    assert answer.status == 400
    assert "an image is sent as it is, not as JSON: curl --data-binary @photo.jpg" in answer.json["error"]


def test_a_ban_of_several_words_is_refused_as_in_the_command(server: Running) -> None:
    answer = server.ask("/v1/caption?ban=hot%20dog", COFFEE)
    assert answer.status == 400
    assert answer.json == {"error": "ban hot dog: 2 words to the model, hot, dog: ban one of them"}


def test_the_page_about_the_api_shows_the_real_address_samples_and_defaults(server: Running) -> None:
    page = server.ask("/docs").body.decode()
    assert f"{server.address}/v1/caption?num=3" in page
    assert "8765" not in page
    described = server.ask("/openapi.json").json["paths"]
    parameters = {each["name"]: each["schema"] for each in described["/v1/caption"]["post"]["parameters"]}
    assert parameters["beam"]["default"] == server.api.captioner.options.beam
    assert (parameters["num"]["default"], parameters["seed"]) == (1, {"type": "integer"})
    for path in ("caption", "explain", "attention"):
        content = described[f"/v1/{path}"]["post"]["responses"]["200"]["content"]["application/json"]
        sample = content["example"]
        row = sample[0] if isinstance(sample, list) else sample
        schema = content["schema"].get("items", content["schema"])
        assert row["path"] == "photo.jpg"
        assert set(schema["properties"]) >= set(row) if path == "caption" else "words" in row
