"""Which URLs are fetched, and what becomes of those that are not."""

from __future__ import annotations

import os
import threading

import pytest

from capcli.distributed import reach
from capcli.distributed.reach import Reach, protocol_of
from capcli.results import ImageError

fsspec = pytest.importorskip("fsspec", reason="needs fsspec: pip install 'capcli[ray]'")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """memory:// as a store, with one image."""
    monkeypatch.setattr(reach, "STORES", ("memory",))
    fsspec.filesystem("memory").pipe_file("/bucket/a.jpg", b"image")


def test_paths_are_taken_from_the_folder() -> None:
    found = Reach(os.sep + "data")
    assert found.source("a.jpg") == os.path.join(os.sep, "data", "a.jpg")
    assert found.source(os.path.abspath("a.jpg")) == os.path.abspath("a.jpg")
    assert found.source("-") == os.path.join(os.sep, "data", "-")  # not stdin


@pytest.mark.usefixtures("bucket")
def test_urls_are_fetched() -> None:
    assert Reach("/").source("memory://bucket/a.jpg") == b"image"
    missing = Reach("/").source("memory://bucket/b.jpg")
    assert isinstance(missing, ImageError)
    assert str(missing) == "memory://bucket/b.jpg: no such file or directory"
    with Reach("/").open("memory://bucket/a.jpg") as file:
        assert file.read() == b"image"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://host/a.jpg", "https:// is fetched with --allow-https only"),
        ("http://host/a.jpg", "http:// is not fetched; known are s3://, gs://, https://"),
        ("file:///etc/passwd", "file:// is not fetched; known are s3://, gs://, https://"),
        ("ftp://host/a.jpg", "ftp:// is not fetched; known are s3://, gs://, https://"),
    ],
)
def test_other_urls_are_not(url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "file_system", lambda protocol: pytest.fail("it was asked"))
    refused = Reach("/").source(url)
    assert isinstance(refused, ImageError)
    assert refused.reason == said
    with pytest.raises(OSError, match=said.replace("?", "")):
        Reach("/").open(url)


@pytest.mark.usefixtures("bucket")
def test_a_url_cannot_bring_another_protocol_in() -> None:
    assert protocol_of("simplecache::https://host/a.jpg") is None
    chained = Reach("/").source("memory://bucket/a.jpg::file:///etc/hostname")
    assert isinstance(chained, ImageError)


def test_images_behind_urls_are_fetched_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'capcli[parquet]'")
    from capcli.distributed.blocks import Listed

    together = threading.Barrier(3, timeout=1800)

    class Store:
        """Answers once three ask at the same time."""

        def cat_file(self, url: str) -> bytes:
            together.wait()
            return url.encode()

    monkeypatch.setattr(reach, "file_system", lambda protocol: Store())
    urls = [f"s3://bucket/{i}" for i in range(6)]
    images = Listed(1, pyarrow.table({"path": urls})).images(Reach("/"))
    assert list(images) == [(url, url.encode()) for url in urls]
