"""The page that training is watched by: whole, self-contained, and true to the log."""

from __future__ import annotations

import io
import json
import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from fakes import SMALLER
from markupsafe import escape
from PIL import Image
from rich.console import Console

from capcli.cli.learning import is_left_over
from capcli.maps.shown import sentence
from capcli.results import AttentionMap, Candidate
from capcli.training.data.datasets import Photo
from capcli.training.learning import loop
from capcli.training.learning.options import TrainOptions
from capcli.training.watching.curves import MOST_SHOWN, SCORES, describe_run, thin_out
from capcli.training.watching.watching import News, Watcher

if TYPE_CHECKING:
    from playwright.sync_api import Page

NASTY = '<script>alert("&\'")</script>'
CANVAS = "document.querySelector('canvas')?.toDataURL() ?? null"
VOID = {"meta", "img", "input", "path", "link"}


def said(text: str, seed: int) -> dict[str, Any]:
    words = tuple(text.split())
    weights = np.random.default_rng(seed).random((len(words), 7, 7)) ** 4
    weights /= weights.sum((1, 2), keepdims=True)
    return sentence(Candidate(text, words, (-0.7,) * (len(words) + 1), -3.0, -0.5, AttentionMap(weights, None, 0.35)))


def make_log(
    epochs: int, *sets: str, objective: str = "loss", caption: str = "a cat on seat{}"
) -> list[dict[str, Any]]:
    """Rows as of a run."""
    return [
        {
            "epoch": epoch,
            objective: 4 - epoch / 7,
            "seconds": 10.5 + epoch,
            "dev": {
                name: {score: (epoch * 7 + i) / 3 for i, score in enumerate(SCORES)} | {"distinct_words": 40 + epoch}
                for name in sets
            },
            "cider": 40.0 + epoch % 3,
            "learning_rate": 1e-3 / epoch,
            "examples": [said(caption.format(epoch), epoch), said("a dog 's tail", epoch)],
        }
        for epoch in range(1, epochs + 1)
    ]


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    names = ("one.png", f"{NASTY.replace('/', '⁄')}\udcff.png")
    for name in names:
        Image.linear_gradient("L").resize((400, 300)).convert("RGB").save(tmp_path / name)
    return [Photo(tmp_path / name, (f"{NASTY} a cat", "more"), "dev") for name in names]


def write(folder: Path, news: News) -> str:
    folder.mkdir(exist_ok=True)
    console = Console(file=io.StringIO())
    Watcher(folder, console).write(news)
    assert console.file.getvalue() == ""
    return (folder / "curves.html").read_text("utf-8")


def figures(text: str) -> list[list[float | None]]:
    """The table's rows: what it says beside each epoch, None where it says nothing."""
    body = text.partition("<tbody>")[2].partition("</tbody>")[0]
    cells = [re.findall(r"<td>(?:<data value=\"(.*?)\">.*?)?</td>", row) for row in body.split("</tr>")[:-1]]
    return [[float(value) if value else None for value in row] for row in cells]


class WellFormed(HTMLParser):
    """Fails where an element is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, _: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, _: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_escaped_and_needs_nothing_else(tmp_path: Path, photos: list[Photo]) -> None:
    log = make_log(3, NASTY, "coco", caption=f"a {NASTY} {{}}")
    text = write(tmp_path / "run", describe_run(NASTY, log, 10, "loss", photos, timedelta(seconds=90)))
    parser = WellFormed()
    parser.feed(text)
    assert parser.open == []
    assert text.startswith("<!doctype html>\n")
    assert is_left_over(tmp_path / "run" / "curves.html")
    assert text.endswith("</html>\n")
    assert "<script>alert" not in text
    assert escape(NASTY) in text
    for address in re.findall(r"""(?:src|href|action|srcset)\s*=\s*["']?([^"'> ]*)""", text):
        assert address.startswith("data:image/jpeg;base64,")
    assert not re.search(r"url\(|fetch\(|import[ (]|XMLHttpRequest|https?:", text)
    assert "epoch 3 of 10 is over, about 0:01:30 left" in text
    assert list((tmp_path / "run").iterdir()) == [tmp_path / "run" / "curves.html"]


def test_its_figures_are_those_of_the_log(tmp_path: Path, photos: list[Photo]) -> None:
    log = make_log(5, "pets", "coco")
    del log[0]["learning_rate"], log[0]["dev"]["pets"]["loss"]  # as logs of older versions are
    del log[1]["dev"]["coco"]
    expected = [
        [
            row["loss"],
            *(row["dev"].get(name, {}).get(score) for name in ("pets", "coco") for score in SCORES),
            row.get("learning_rate"),
            row["seconds"],
        ]
        for row in log
    ]
    news = describe_run("run", log, 5, "loss", photos)
    assert figures(write(tmp_path / "run", news)) == expected
    loss, *_, rate = news.charts
    assert [line.name for line in loss.lines] == ["training", "pets dev", "coco dev"]
    assert loss.lines[1].points == [(row["epoch"], row["dev"]["pets"]["loss"]) for row in log[1:]]
    assert [chart.kept for chart in news.charts] == [None, 5, 5, None]
    assert len(rate.lines[0].points) == 4


def test_rewards_have_a_chart_of_their_own(photos: list[Photo]) -> None:
    news = describe_run("run", make_log(2, "pets", objective="reward"), 2, "reward", photos)
    assert [chart.title for chart in news.charts] == ["Reward", "Loss", "Scores of pets dev, %", "Learning rate"]


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_run_that_has_just_begun_or_has_no_dev_photos_has_a_page(tmp_path: Path, epochs: int) -> None:
    log = make_log(epochs)
    for row in log:
        row["examples"] = []
    text = write(tmp_path / "run", describe_run("run", log, 4, "loss", []))
    assert ("The first figures are still being worked on." in text) == (epochs == 0)
    assert ("epoch 1 of 4" in text) == ("reload every half minute" in text) is True
    assert "compare words" not in text
    assert "reload every" not in write(tmp_path / "run", describe_run("run", log, 1, "loss", [])) or not epochs


def test_captions_of_many_epochs_do_not_pile_up() -> None:
    log: list[dict[str, Any]] = []
    for row in make_log(200):
        log.append(row)
        thin_out(log)
    shown = [row["epoch"] for row in log if "examples" in row]
    assert MOST_SHOWN / 2 < len(shown) <= MOST_SHOWN
    assert (shown[0], shown[-1]) == (1, 200)
    assert [row["epoch"] for row in log] == list(range(1, 201))


def test_a_photo_that_is_gone_leaves_its_captions(tmp_path: Path, photos: list[Photo]) -> None:
    photos[0].path.unlink()
    text = write(tmp_path / "run", describe_run("run", make_log(2, "pets"), 2, "loss", photos))
    assert "one.png, which can’t be read any more" in text
    assert text.count('<li class="card">') == 2
    assert text.count("<img ") == 1


def test_what_cannot_be_written_costs_a_line(tmp_path: Path, photos: list[Photo]) -> None:
    console = Console(file=io.StringIO(), soft_wrap=True, width=40)
    watcher, news = Watcher(tmp_path, console), describe_run("run", make_log(1, "pets"), 2, "loss", photos)
    (tmp_path / "curves.html").mkdir()
    watcher.write(news)
    watcher.write(news)
    (tmp_path / "curves.html").rmdir()
    watcher.write(news)
    assert console.file.getvalue() == f"{tmp_path / 'curves.html'}: is a directory; training goes on without it\n"
    assert "epoch 1 of 2 is over" in (tmp_path / "curves.html").read_text()
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_a_run_goes_on_without_its_page_and_later_has_all_epochs_on_it(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options, run = TrainOptions((str(pair),), epochs=2, **SMALLER), tmp_path / "run"
    (run / "curves.html").mkdir(parents=True)
    write_snapshot = loop.write_snapshot

    def stop(folder: Path, setup: Any, log: list[dict[str, Any]]) -> None:
        write_snapshot(folder, setup, log)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_snapshot", stop)
    with pytest.raises(KeyboardInterrupt):
        loop.train(options, run, torch.device("cpu"))
    monkeypatch.setattr(loop, "write_snapshot", write_snapshot)
    assert "curves.html: is a directory; training goes on without it\n" in capsys.readouterr().err
    (run / "curves.html").rmdir()
    loop.train(options, run, torch.device("cpu"), resume=True)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in log] == [1, 2]
    assert "examples" not in log[0]
    text = (run / "curves.html").read_text()
    name = tmp_path.name
    assert figures(text) == [
        [row["loss"], *(row["dev"][name][score] for score in SCORES), row["learning_rate"], row["seconds"]]
        for row in log
    ]
    assert "all 2 epochs are over" in text
    assert text.count('<span class="score">epoch 1</span>') == 2  # of both photos
    assert text.count('<p class="when">epoch 2</p>') == 2
    assert 'data-heat="' in text


def test_in_a_browser(
    tmp_path: Path, photos: list[Photo], page: Page, complaints: list[str], requests: list[str]
) -> None:
    write(tmp_path / "run", describe_run("run", make_log(3, "pets"), 10, "loss", photos))
    address = (tmp_path / "run" / "curves.html").as_uri()
    page.goto(address)
    assert page.evaluate("document.querySelector('.card img').decode().then(() => true)")
    heat = []
    for place in (".text > .caption", ".others li:nth-child(1)", ".others li:nth-child(2)"):
        word = page.locator(f".card:has(img) {place} .w").nth(1)
        word.hover()
        heat.append(page.evaluate(CANVAS))
        assert page.evaluate("document.querySelector('.w.on').textContent") == "cat"
    assert len(set(heat)) == 3
    assert None not in heat
    page.keyboard.press("Escape")
    assert page.evaluate(CANVAS) is None
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    names = {(n.get("role", {}).get("value"), n.get("name", {}).get("value")) for n in nodes}
    assert (
        "image",
        "Loss; training: 3.857 in epoch 1, 3.571 in epoch 3; pets dev: 2.333 in epoch 1, 7.000 in epoch 3",
    ) in names

    page.clock.install()
    page.locator("#follow").check()
    with page.expect_navigation():
        page.clock.run_for(31_000)
    assert page.locator("#follow").is_checked()
    page.locator("#follow").uncheck()
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    assert complaints == []
    assert {request.partition("#")[0] for request in requests} == {address}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(tmp_path: Path, photos: list[Photo], page: Page, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    write(tmp_path / "run", describe_run("run", make_log(3, *"abcdef"), 10, "loss", photos))
    page.emulate_media(color_scheme=scheme)
    page.goto((tmp_path / "run" / "curves.html").as_uri())
    page.locator(".card .w").first.focus()
    found = axe.Axe().run(page).response["violations"]
    assert [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]] == []
