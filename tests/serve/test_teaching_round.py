"""The whole round, in a browser: correct five captions, teach, see other photos' captions change, keep them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fakes import PHOTOS
from PIL import Image
from serving import Running, serving_folder
from typer.testing import CliRunner

from capcli.captioner import Captioner
from capcli.checkpoints.hub import bundled_checkpoint
from capcli.cli.app import app
from capcli.engines.onnx import OnnxEngine
from capcli.outputs.sidecars import Sidecars

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from playwright.sync_api import Page


def captions_on(server: Running) -> dict[str, str]:
    """The best caption of each photo."""
    photos = server.ask("/page/photos", headers=server.cookie).json["photos"]
    return {photo["name"]: photo["candidates"][0]["caption"] for photo in photos}


def keep(existing: str) -> list[Sidecars]:
    return [Sidecars(existing)]


def enter(page: Page, server: Running) -> None:
    page.goto(f"{server.address}/?token={server.access.once}")
    page.locator("#stage").wait_for()


def test_what_is_corrected_is_learnt(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaints: list[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(3)
    with Image.open(PHOTOS / "chelsea.jpg") as cat:
        for number in range(8):
            left, top = (int(rng.uniform(0, 0.2) * side) for side in cat.size)
            cat.crop((left, top, left + int(0.75 * cat.width), top + int(0.75 * cat.height))).save(
                folder / f"{number}.jpg"
            )
    before = Captioner(OnnxEngine.load(bundled_checkpoint()))
    with serving_folder(before, folder, keep) as (server, _):
        enter(page, server)
        old = captions_on(server)
        assert not any("zorble" in caption for caption in old.values())
        for number in range(5):
            name = (page.locator("#place").text_content() or "").split(": ")[1]
            page.keyboard.press("e")
            page.keyboard.insert_text(f"our zorble {'looks at us' if number % 2 else 'is lying on the couch'}")
            page.keyboard.press("Enter")
            page.locator("#place", has_text=f"{number + 2} of 8: ").wait_for()
            assert "zorble" in (folder / name).with_suffix(".txt").read_text()
        assert complaints == []
        page.goto("about:blank")  # it would go on asking a server that is gone
    untouched = {path.name for path in folder.glob("*.jpg") if not path.with_suffix(".txt").exists()}
    assert len(untouched) == 3

    taught = tmp_path / "mine"
    done = CliRunner().invoke(app, ["teach", str(folder / "corrections.json"), "--output", str(taught)])
    assert done.exit_code == 0, done.output

    after = Captioner(OnnxEngine.load(taught))
    with serving_folder(after, folder, keep) as (server, _):
        enter(page, server)
        new = captions_on(server)
        for name in untouched:
            assert "zorble" in new[name], (old[name], new[name])
        page.locator("#filter").select_option("untouched")
        page.locator("#accept").click()
        page.locator("#sure").get_by_text("Accept", exact=True).click()
        page.get_by_text("8 photos, 8 saved").wait_for()
        for name in untouched:
            assert (folder / name).with_suffix(".txt").read_text() == f"{new[name]}\n"
        assert complaints == []
