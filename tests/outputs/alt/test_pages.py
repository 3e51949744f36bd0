"""Pages as files: which file an image is, what is written by the byte, and which files are pages."""

from __future__ import annotations

import os
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

from capcli.images.find import Selection
from capcli.outputs.alt.pages import Page, find_pages
from capcli.results import ImageError


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("site/a.jpg", "site/sub/b c%é.jpg", "site/sub/d.jpg", "e.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return Path("site")


def files(page: Path, content: str | bytes, root: str = "site") -> list[str]:
    page.write_bytes(content.encode() if isinstance(content, str) else content)
    return [missing.file.replace(os.sep, "/") for missing in Page.read(str(page), root).missing]


@pytest.mark.parametrize(
    ("html", "file"),
    [
        ("<img src=d.jpg>", "site/sub/d.jpg"),
        ("<img src=../a.jpg?v=1#x>", "site/a.jpg"),
        ("<img src=/a.jpg>", "site/a.jpg"),
        ("<img src='..\\a.jpg'>", "site/a.jpg"),
        ("<img src='b%20c%25%C3%A9.jpg'>", "site/sub/b c%é.jpg"),
        ("<img src='b c%é.jpg'>", "site/sub/b c%é.jpg"),
        ("<img src=../../e.jpg>", "e.jpg"),
        ("<base href=/><img src=a.jpg>", "site/a.jpg"),
        ("<base href=../index.html><img src=a.jpg>", "site/a.jpg"),
        ("<img src=no.webp srcset='no.avif, d.jpg 2x'>", "site/sub/d.jpg"),
        ("<img src=https://example.org/x.jpg srcset='no.jpg'>", "site/sub/no.jpg"),
    ],
)
def test_an_image_leads_to_its_file(site: Path, html: str, file: str) -> None:
    assert files(site / "sub" / "page.html", html) == [file]


@pytest.mark.parametrize(
    "address",
    [
        *("https://example.org/a.jpg", "//example.org/a.jpg", "data:image/png;base64,AA", "cid:1", "{{ photo }}"),
        *("<?php echo 1 ?>", "${photo}", "", "#a", "?a", "a%00.jpg", "http://[", "C:\\a.jpg"),
    ],
)
def test_what_is_elsewhere_is_left_alone(site: Path, address: str) -> None:
    assert files(site / "page.html", f'<img src="{address}">') == []
    assert files(site / "page.html", '<base href="https://example.org/"><img src="a.jpg">') == []


def test_bytes_around_stay_whatever_they_mean(site: Path) -> None:
    (site / "caf\u00e9.jpg").touch()
    page = site / "page.htm"
    for content in (
        b"\xef\xbb\xbf<p>\r\n\xc3\xa9<img src=a.jpg>\r\r\n\x0c",
        b"<meta charset=windows-1252>\x80\x85\xa0<img src='caf\xe9.jpg'>\xff\r\n",
        "<meta charset=shift_jis>表<img src=a.jpg>ソ".encode("shift_jis"),
    ):
        (file,) = files(page, content)
        assert Path(file).exists()
        read = Page.read(str(page), "site")
        read.write(read.filled({read.missing[0].file: "é & 表"}), ["site"])
        alt = b'alt="\xc3\xa9 &amp; \xe8\xa1\xa8"' if b"\xbb" in content[:3] else b'alt="&#233; &amp; &#34920;"'
        assert page.read_bytes() == content.replace(b"<img", b"<img " + alt)


@pytest.mark.parametrize(("page", "disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_is_found_however_its_accents_are_spelt(site: Path, page: str, disk: str) -> None:
    there = Path("site", *(unicodedata.normalize(disk, name) for name in ("dé", "sub", "caf\u00e9.jpg")))
    there.parent.mkdir(parents=True)
    there.touch()
    (file,) = files(site / "page.html", f"<img src='{unicodedata.normalize(page, 'dé/sub/café.jpg')}'>")
    assert Path(file).exists()
    assert files(site / "page.html", "<img src='dé/sub/ö.jpg'>") == ["site/dé/sub/ö.jpg"]
    assert [len(files(site / "page.html", f"<img src='{'é/' * count}'>")) for count in (2000, 7000)] == [1, 0]


def test_a_pipe_is_refused(site: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    os.mkfifo(site / "page.html")
    with pytest.raises(ImageError, match=r"page\.html: not a regular file"):
        Page.read("site/page.html", "site")


def test_a_page_that_is_too_large_is_refused(site: Path) -> None:
    with open("site/page.html", "wb") as file:
        file.truncate(100_000_001)
    with pytest.raises(ImageError, match="more than the limit of 100 MB for a page"):
        Page.read("site/page.html", "site")


def test_lines_and_code_are_counted(site: Path) -> None:
    files(
        site / "page.html",
        "\n<img src=a.jpg>\n{{ '<img>' }}\n<img src=a.jpg {{ b }}>\n<img src=a.jpg><img src=http://a {{ b }}>",
    )
    page = Page.read("site/page.html", "site")
    assert ([missing.line for missing in page.missing], page.in_code) == ([2, 5], [3, 4])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_what_does_not_extend_ascii_is_refused(site: Path, encoding: str) -> None:
    with pytest.raises(ImageError, match=r"page\.html: not text in UTF-8 or another extension of ASCII"):
        files(site / "page.html", "<img src=a.jpg>".encode(encoding))


def test_a_page_that_was_changed_meanwhile_stays(site: Path) -> None:
    files(site / "page.html", "<img src=a.jpg>")
    page = Page.read(str(site / "page.html"), "site")
    (site / "page.html").write_text("mine")
    with pytest.raises(ImageError, match="was changed meanwhile"):
        page.write("ours", ["site"])
    assert (site / "page.html").read_text() == "mine"
    os.link(site / "page.html", site / "other.html")
    with pytest.raises(ImageError, match="hard links"):
        Page.read(str(site / "page.html"), "site").write("ours", ["site"])
    assert sorted(path.name for path in site.iterdir()) == ["a.jpg", "other.html", "page.html", "sub"]


@pytest.mark.parametrize(
    "content",
    [
        *("a\r\n<img src=a.jpg>\nb\x0c\n", "<img src=a.jpg>", "é\n" * 9 + "<img src=a.jpg>\n" + "x\n" * 9),
        *("<img src=a.jpg>\n" * 3 + "x\n" * lines + "<img src=a.jpg>\ny" for lines in (5, 6, 7, 8)),
    ],
)
def test_a_diff_can_be_applied(site: Path, content: str) -> None:
    if shutil.which("git") is None:
        pytest.skip("no git")
    files(site / "page.html", content)
    page = Page.read("site/page.html", "site")
    new = page.filled({page.missing[0].file: "a cat"})
    subprocess.run(["git", "apply", "-"], input=page.diff(new), check=True, env={**os.environ, "GIT_DIR": "/"})
    assert (site / "page.html").read_bytes() == new.encode() == content.replace("<img", '<img alt="a cat"').encode()
    assert page.diff(page.text) == b""


def test_pages_come_in_natural_order(site: Path) -> None:
    for name in ("p10.html", "p2.MD", "q.txt", ".hidden.html", "sub/r.xhtml", "sub/s.markdown", ".git/t.md", "z/u.htm"):
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).touch()

    def found(selection: Selection) -> list[str]:
        return [path.replace(os.sep, "/") for path, root in find_pages(["site", "q.md"], selection, print, print)]

    assert found(Selection()) == [
        *("site/p2.MD", "site/p10.html", "site/sub/r.xhtml", "site/sub/s.markdown", "site/z/u.htm", "q.md")
    ]
    assert found(Selection(recursive=False, include=("*.md",))) == ["site/p2.MD", "q.md"]
    assert found(Selection(exclude=("sub", "p*"))) == ["site/z/u.htm", "q.md"]
    assert {root for _, root in find_pages(["site", "q.md"], Selection(), print, print)} == {"site", os.curdir}
