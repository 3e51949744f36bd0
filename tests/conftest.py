"""Small models, made here, that every test can afford."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from fakes import PHOTOS, SAID, TINY, WORDS
from hub_server import HubServer

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.store import CHECKPOINT_FILES, WEIGHTS_FILE
from capcli.model.vocabulary import Vocabulary

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from serving import Running

# Tests run side by side: threads that keep a core busy while they wait for each other would take it from the others.
# Workers and the commands that they start inherit this; PyTorch reads it when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Playwright turns off most of what a browser tells its makers, but not its look for updates.
BROWSER_ASKS_NOBODY = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs a browser as slow, and what is long."""
    if "browser" in getattr(item, "fixturenames", ()) or item.get_closest_marker("long"):
        item.add_marker("slow")


@pytest.fixture(scope="session")
def tiny_original() -> CaptionModel:
    """What `tiny_model` and `tiny_checkpoint` are copies of."""
    torch.manual_seed(7)
    model = CaptionModel(TINY, Vocabulary(WORDS)).eval()
    # Statistics of some noise, and larger weights, or every picture would get the same words.
    for module in model.encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1
    with torch.no_grad():
        model.encoder.train()(torch.rand(16, 3, 1, 1) * torch.rand(16, 3, 64, 64) * 255)
    for parameter in model.decoder.parameters():
        parameter.data.mul_(4)
    return model.eval()


@pytest.fixture
def tiny_model(tiny_original: CaptionModel) -> CaptionModel:
    """A captioner with random weights whose words depend on the picture."""
    torch.manual_seed(7)  # for what a test draws itself
    return copy.deepcopy(tiny_original)


@pytest.fixture(scope="session")
def tiny_files(tiny_original: CaptionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That model in a folder, which no test may change."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_original.save(folder)
    return folder


@pytest.fixture
def tiny_checkpoint(tiny_files: Path, tmp_path: Path) -> Iterator[Path]:
    """That model in a folder of the test's own; the weights are not copied, and no test may write into them."""
    weights = tiny_files / WEIGHTS_FILE
    before = weights.stat()
    folder = shutil.copytree(tiny_files, tmp_path / "tiny", ignore=shutil.ignore_patterns(WEIGHTS_FILE))
    os.link(weights, folder / WEIGHTS_FILE)
    yield folder
    after = weights.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns), "this test needs tiny_copy"


@pytest.fixture
def tiny_copy(tiny_files: Path, tmp_path: Path) -> Path:
    """A copy of that model, with which a test may do what it likes."""
    return shutil.copytree(tiny_files, tmp_path / "tiny")


@pytest.fixture
def judging_checkpoint(tiny_checkpoint: Path) -> Path:
    """That checkpoint, which knows by the score how likely a caption is right."""
    config = tiny_checkpoint / "config.json"
    known = {"unsure_below": -100.0, "confidence": [1.0, 0.0, 0.0, 0.0, 12.5]}
    config.write_text(json.dumps(json.loads(config.read_text()) | known))
    return tiny_checkpoint


@pytest.fixture
def checkpoint_files(tiny_files: Path) -> dict[str, bytes]:
    """The three files of the tiny checkpoint."""
    return {name: (tiny_files / name).read_bytes() for name in CHECKPOINT_FILES}


@pytest.fixture(scope="session")
def tiny_captioner(tiny_files: Path) -> Captioner:
    """A captioner with that model, as fast as it gets."""
    return Captioner.load(tiny_files, device="cpu", precision="fp32", workers=2)


@pytest.fixture
def server(tiny_captioner: Captioner) -> Iterator[Running]:
    """A server of pages and the API, without a folder."""
    from serving import running  # which skips where the extra is missing

    from capcli.serve.api import Api
    from capcli.serve.limits import Gate

    with running(Api(tiny_captioner, Gate())) as here:
        yield here


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium or Chrome; without one its tests are skipped."""
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    with playwright.sync_playwright() as driver:
        try:  # macOS and Windows have Chrome on no PATH, but Playwright knows where
            browser = driver.chromium.launch(
                executable_path=found, channel=None if found else "chrome", args=[BROWSER_ASKS_NOBODY]
            )
        except playwright.Error as error:
            if found:
                raise
            pytest.skip(f"no Chromium or Chrome: {error.message.splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(1_800_000)  # milliseconds, a guard against hanging
    yield context.new_page()
    context.close()


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """Console messages, entries in the browser's log and uncaught exceptions, as they come."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(error.message))
    return complaints


@pytest.fixture
def requests(page: Page) -> list[str]:
    """Addresses that are asked for, embedded data apart."""
    requests: list[str] = []
    page.on("request", lambda request: request.url.startswith("data:") or requests.append(request.url))
    return requests


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """An empty Hub on loopback."""
    server = HubServer()
    yield server
    server.stop()


@pytest.fixture
def hub_environment(hub: HubServer, tmp_path: Path) -> dict[str, str]:
    """For a subprocess: that Hub, an empty cache of its own, no token."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    # Xet, the Hub's other protocol for large files, is spoken by a service that this server does not have.
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    return environment | {"NO_PROXY": "127.0.0.1,localhost"}


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same scores everywhere, and no Java to start after each epoch, which takes longer than the epoch."""
    monkeypatch.setattr("capcli.training.measuring.metrics.have_java", lambda: False)


@pytest.fixture
def pair(tmp_path: Path, no_java: None) -> Path:
    """A data set of two photos, which are train, and as copies dev."""
    rows = []
    for name, captions in SAID.items():
        shutil.copy(PHOTOS / name, tmp_path / name)
        shutil.copy(PHOTOS / name, tmp_path / f"taught-{name}")
        rows.append({"file_path": f"taught-{name}", "captions": captions, "split": "train"})
        rows.append({"file_path": name, "captions": captions, "split": "dev"})
    (tmp_path / "pair.json").write_text(json.dumps(rows))
    return tmp_path / "pair.json"
