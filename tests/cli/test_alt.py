"""`capcli alt`, from the command line to the files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import Result
from fakes import PHOTOS
from PIL import Image
from typer.testing import CliRunner

from capcli.captioner import Captioner
from capcli.cli.app import app

PAGE = b'<p>\r\n<IMG SRC=/img/coffee.jpg><img src="img/gone.jpg"><img src="x.jpg" alt="">\r\n</p>'


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PHOTOS, "site/img")
    Path("site/index.html").write_bytes(PAGE)
    Path("site/readme.md").write_text("`![](img/coffee.jpg)` ![](img/coffee.jpg) ![](img/chelsea.jpg)")
    return Path("site")


@pytest.fixture
def alt(tiny_checkpoint: Path):
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(
            app, ["alt", *map(str, arguments), "--model", str(tiny_checkpoint), "--min-confidence", "0"]
        )

    return run


def test_alt_texts_are_written_and_nothing_else(
    site: Path, alt, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = Captioner.load(tiny_checkpoint, "cpu")
    coffee, cat = (captioner.caption(site / "img" / name).text for name in ("coffee.jpg", "chelsea.jpg"))
    asked: list[str] = []
    stream = Captioner.stream
    monkeypatch.setattr(
        Captioner, "stream", lambda self, images, *rest: stream(self, asked.extend(images) or images, *rest)
    )
    done = alt(site)
    assert done.exit_code == 1
    assert done.stderr == "capcli: site/index.html:2: img/gone.jpg: no such file\n"
    assert done.stdout.splitlines() == [
        f"site/index.html:2: /img/coffee.jpg: {coffee}",
        f"site/readme.md:1: img/coffee.jpg: {coffee}",
        f"site/readme.md:1: img/chelsea.jpg: {cat}",
    ]
    assert (site / "index.html").read_bytes() == PAGE.replace(b"<IMG", f'<IMG alt="{coffee}"'.encode())
    assert (
        site / "readme.md"
    ).read_text() == f"`![](img/coffee.jpg)` ![{coffee}](img/coffee.jpg) ![{cat}](img/chelsea.jpg)"
    assert [Path(image).name for image in asked] == ["coffee.jpg", "chelsea.jpg"]
    assert sorted(path.name for path in site.iterdir()) == ["img", "index.html", "readme.md"]
    again = alt(site / "readme.md")
    assert (again.exit_code, again.output) == (0, "")


def test_a_dry_run_and_a_check_write_nothing(site: Path, alt) -> None:
    done = alt(site, "--dry-run")
    assert done.exit_code == 1
    assert done.stdout.startswith("--- a/site/index.html\n+++ b/site/index.html\n@@ -1,3 +1,3 @@\n")
    assert "\n+<IMG alt=" in done.stdout
    done = alt(site, "--check", "--model", "nowhere")  # for which no model is loaded
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "site/index.html:2: /img/coffee.jpg: no alt text",
        "site/index.html:2: img/gone.jpg: no alt text",
        "site/readme.md:1: img/coffee.jpg: no alt text",
        "site/readme.md:1: img/chelsea.jpg: no alt text",
    ]
    assert (site / "index.html").read_bytes() == PAGE
    (site / "index.html").write_text("<img src=/img/coffee.jpg>")
    assert alt(site / "index.html", "--check", "--root", "site").exit_code == 1
    assert alt("--check", site, "--exclude", "*.html", "--exclude", "*.md").exit_code == 0


def test_texts_that_say_nothing_are_listed_after_missing_ones_and_left(site: Path, alt) -> None:
    Image.new("RGB", (1, 1)).save(site / "img" / "dot.gif")
    page = "<img src=a.jpg alt='photo'>\n<a href=b><img src=img/coffee.jpg></a>\n<img src=img/dot.gif>"
    (site / "index.html").write_text(page)
    (site / "readme.md").write_text("![Cup](img/coffee.jpg)")
    done = alt(site, "--check")
    assert (done.exit_code, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        "site/index.html:2: img/coffee.jpg: no alt text; "
        "it is in a link, where an alt text says what the link leads to",
        'site/index.html:3: img/dot.gif: no alt text; it only fills space, for which alt="" is right',
        'site/index.html:1: a.jpg: its alt text says nothing: "photo"',
    ]
    annotations = alt(site, "--check", "--format", "github").stdout.splitlines()
    assert [line.partition(",")[0] for line in annotations] == [
        *["::error file=site/index.html"] * 2,
        "::warning file=site/index.html",
    ]
    assert len(json.loads(alt(site, "--check", "--format", "sarif").stdout)["runs"][0]["results"]) == 3
    done = alt(site)
    assert done.exit_code == 1
    assert done.stderr.endswith(
        "capcli: 1 alt text says nothing, and is left as before; --check lists what and where\n"
    )
    assert (site / "index.html").read_text() == page
    (site / "index.html").write_text("<img src=a.jpg alt='photo'>")
    assert [alt(site, *check).exit_code for check in ([], ["--check"])] == [0, 1]


def test_the_hook_is_that_check() -> None:
    hook = (Path(__file__).parents[2] / ".pre-commit-hooks.yaml").read_text("utf-8")
    assert "\n  entry: capcli alt --check\n" in hook
    assert "\n  types_or: [html, markdown, astro, nunjucks, php, svelte, vue]\n" in hook


@pytest.mark.slow
def test_pre_commit_runs_the_hook(site: Path, tmp_path: Path) -> None:
    if not (shutil.which("pre-commit") and shutil.which("git") and shutil.which("capcli")):
        pytest.skip("no pre-commit, git or capcli on the PATH")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@localhost"]

    def commit(folder: Path) -> str:
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a"]):
            subprocess.run([*git, *words], cwd=folder, check=True)
        return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=folder, text=True).strip()

    (tmp_path / "hooks").mkdir()
    shutil.copy(Path(__file__).parents[2] / ".pre-commit-hooks.yaml", tmp_path / "hooks")
    hooks = {"repo": str(tmp_path / "hooks"), "rev": commit(tmp_path / "hooks"), "hooks": [{"id": "capcli-alt"}]}
    (site / ".pre-commit-config.yaml").write_text(json.dumps({"repos": [hooks]}))  # which is YAML as well
    (site / "a.vue").write_text("<img src=a.jpg alt=photo>")
    commit(site)
    run = ["pre-commit", "run", "--all-files"]
    environment = os.environ | {"PRE_COMMIT_HOME": str(tmp_path / "home")}
    done = subprocess.run(run, cwd=site, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'a.vue:1: a.jpg: its alt text says nothing: "photo"\n' in done.stdout
    for page in ("a.vue", "index.html", "readme.md"):
        (site / page).write_text("")
    done = subprocess.run(run, cwd=site, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_name_with_a_line_end_is_one_line(site: Path, alt) -> None:
    try:
        (site / "two\nlines.html").write_text("<img src='img/coffee\n.jpg'>")
    except OSError:
        pytest.skip("this file system has no such names")
    done = alt(site / "two\nlines.html", "--check")
    assert done.stdout == "site/two\\nlines.html:1: img/coffee\\n.jpg: no alt text\n"


def test_what_is_left_is_said_once(site: Path, tiny_checkpoint: Path) -> None:
    Image.new("RGB", (30, 30), "green").save(site / "img" / "plain.png")
    (site / "img" / "drawing.svg").write_text("<svg/>")
    (site / "index.html").write_text("<img src=img/plain.png><img src=img/drawing.svg>\n" * 2)
    before = (site / "index.html").read_bytes()
    command = ["alt", str(site / "index.html"), "--model", str(tiny_checkpoint)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    unsure, drawing = done.stderr.splitlines()
    assert unsure.startswith("capcli: site/index.html:1: img/plain.png: left as it is; the caption is unsure: ")
    assert drawing == "capcli: site/index.html:1: img/drawing.svg: not an image in a format that can be read"
    assert (site / "index.html").read_bytes() == before
    done = CliRunner().invoke(app, [*command, "--min-confidence", "0", "--max-chars", "1"])
    assert "img/plain.png: left as it is; no caption has 1 characters or fewer" in done.stderr
    done = CliRunner().invoke(app, [*command, "--min-confidence", "0.4"])
    assert done.exit_code == 2
    assert done.stderr == "capcli: --min-confidence: this checkpoint cannot tell how likely a caption is right\n"
    assert len(CliRunner().invoke(app, [*command, "--min-confidence", "0"]).stdout.splitlines()) == 2
    config = tiny_checkpoint / "config.json"
    known = {"unsure_below": -100.0, "confidence": [0.0, 0.0, 0.0, 0.0, 1.0]}  # 73 %
    config.write_text(json.dumps(json.loads(config.read_text()) | known))
    (site / "index.html").write_text("<img src=img/coffee.jpg>\n")
    assert "the caption is unsure" in CliRunner().invoke(app, [*command, "--min-confidence", "0.8"]).stderr
    assert CliRunner().invoke(app, command).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent"], "absent: no such file or folder"),
        (["site/img/coffee.jpg"], "site/img/coffee.jpg: neither a folder nor HTML or Markdown, by its ending"),
        (["site", "--root", "absent"], "--root absent: no such folder"),
        (["empty", "--check"], "no HTML or Markdown in empty"),
        (["site", "empty", "--check"], "no HTML or Markdown in empty"),
        (["site", "--format", "sarif"], "--format sarif is for --check"),
        (["site", "--check", "--dry-run"], "--check writes nothing, so it cannot be combined with --dry-run"),
    ],
)
def test_what_cannot_be_followed_is_one_line(site: Path, alt, arguments: list[str], said: str) -> None:
    Path("empty").mkdir()
    done = alt(*arguments)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"capcli: {said}\n")


def test_languages_that_are_not_read_are_counted(site: Path, alt) -> None:
    Path("docs").mkdir()
    for name in ("a.mdx", "b.rst", "c.adoc"):
        Path("docs", name).write_text("![](a.jpg)")
    done = alt("docs", "--check")
    assert (done.exit_code, done.output) == (2, "capcli: no HTML or Markdown in docs\n")
    Path("docs/b.md").touch()
    done = alt("docs", "--check")
    said = "capcli: 3 files are not read, as MDX, reStructuredText and AsciiDoc are not: docs/a.mdx\n"
    assert (done.exit_code, done.output) == (0, said)
    assert alt("docs", "--check", "--exclude", "*.mdx").exit_code == 0


def test_what_cannot_be_filled_in_is_said(site: Path, alt) -> None:
    shutil.copy("site/img/coffee.jpg", "site/my photo.jpg")
    Path("site/readme.md").write_text("![](my photo.jpg)\n![[my photo.jpg]]\n![](img/coffee.jpg){alt=mine}")
    page = "<img src=img/coffee.jpg {{ rest }}>\n{% set x = \"<img src='img/coffee.jpg'>\" %}"
    Path("site/index.html").write_text(page)
    done = alt("site", "--check")
    in_code = (
        "capcli: 2 images are left alone, as code in the page may give an alt text; the first is at site/index.html:1\n"
    )
    assert (done.exit_code, done.stderr) == (1, in_code)
    assert done.stdout == ("site/readme.md:1: my photo.jpg: no alt text\nsite/readme.md:2: my photo.jpg: no alt text\n")
    done = alt("site")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "capcli: site/readme.md:1: my photo.jpg: left as it is: "
        "Markdown takes a name with spaces only as ![](<a b.jpg>) or with %20\n"
        "capcli: site/readme.md:2: my photo.jpg: left as it is: "
        f"programs differ in where its alt text belongs, as in ![[a.jpg|text]]\n{in_code}"
    )
    done = alt("site/index.html", "--check")
    assert (done.exit_code, done.stderr) == (0, in_code)
    assert Path("site/index.html").read_text() == page


def test_a_pipe_that_is_named_is_refused(site: Path, alt) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    os.mkfifo("pipe.html")
    done = alt("pipe.html", "site/readme.md", "--check")
    assert done.exit_code == 1
    assert done.stderr == "capcli: pipe.html: not a regular file\n"
    assert len(done.stdout.splitlines()) == 2


def test_a_name_that_looks_like_a_tag_is_a_name(site: Path, alt) -> None:
    shutil.copy("site/img/coffee.jpg", "site/img/a b.jpg")
    Path("site/readme.md").write_text("![](<img/a b.jpg>)")
    done = alt("site/readme.md")
    assert (done.exit_code, done.stderr) == (0, "")
    assert Path("site/readme.md").read_text().endswith("](<img/a b.jpg>)")
    assert not Path("site/readme.md").read_text().startswith("![]")


def test_pages_that_cannot_be_changed_cost_a_line(site: Path, alt) -> None:
    (site / "index.html").chmod(0o444)
    (site / "bad.html").write_bytes(b"\xff\xfe<\0")
    os.symlink("/nowhere", site / "dangling.html")
    done = alt(site)
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert "capcli: site/bad.html: not text in UTF-8 or another extension of ASCII" in lines
    assert "capcli: site/dangling.html: no such file or directory" in lines
    assert "capcli: site/index.html: it is read-only" in lines
    assert (site / "index.html").read_bytes() == PAGE
    assert "![](" not in (site / "readme.md").read_text().replace("`![]", "")
