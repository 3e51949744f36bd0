"""What `caption` refuses before any work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from folders import capcli


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to caption"),
        (("absent.jpg",), "absent.jpg: no such file or folder"),
        (("absent\n.jpg",), "absent\\n.jpg: no such file or folder"),
        (("--files-from", "absent"), "absent: no such file or folder"),
        (("-", "--files-from", "-"), "stdin cannot be both"),
        (("-", "-"), "- stands for one image on stdin, and can be given only once"),
        ((".", "--format", "xml"), "--format xml: not one of text, json, jsonl, csv, tsv"),
        ((".", "--existing", "keep", "--sidecar"), "--existing keep: not one of skip, overwrite"),
        ((".", "--existing", "append"), "--existing append needs --sidecar, --write-metadata or --xmp\n"),
        (
            (".", "--existing", "overwrite"),
            "--existing overwrite needs --sidecar, --write-metadata or --xmp, or an --out",
        ),
        (("https://a.org/b.jpg",), "https://a.org/b.jpg: URLs are not fetched; curl -s URL | capcli caption -"),
        ((".", "--output-dir", "x"), "--output-dir needs --sidecar"),
        ((".", "--sidecar", "--output-dir", "page.html/x"), "--output-dir page.html/x: cannot create files there"),
        (("--files-from", "."), "--files-from .: is a folder"),
        ((".", "-o", "a.JPG", "--format", "csv"), "--output a.JPG: has an image's ending"),
        (
            ("--files-from", "there.csv", "-o", "./there.csv"),
            "--files-from and --output are the same file, ./there.csv",
        ),
        ((".", "-o", "new.html", "--format", "csv", "--html", "new.html"), "--output and --html are the same file"),
        ((".", "--resume"), "--resume needs --output FILE"),
        ((".", "--resume", "-o", "a.json"), "--resume needs --output FILE"),
        ((".", "-o", "."), ".: is a folder; name a file in it, or add --format parquet or imagefolder"),
        ((".", "-o", "new/"), "new/: is a folder; name a file in it, or add --format parquet or imagefolder"),
        ((".", "-o", "a.xml"), "a.xml: unknown ending; choose a format with --format text|json"),
        ((".", "--template", "{words}"), "--template '{words}': unknown field {words}"),
        (
            (".", "--template", "{caption}!", "-o", "a.jsonl"),
            "--template applies to text, imagefolder, --sidecar, --write-metadata and --xmp",
        ),
        (
            (".", "--keep-unsure", "--format", "csv"),
            "--keep-unsure is for text, imagefolder, --sidecar, --write-metadata",
        ),
        ((".", "--fields", "alt"), "--fields alt needs --write-metadata or --xmp"),
        (
            (".", "--xmp", "--fields", "alt,title"),
            "--fields alt,title: 'title' is not one of description, alt, keywords",
        ),
        (
            (".", "--keywords", "3"),
            "--keywords has no place in text: put {keywords} into --template, choose another --format, or add --html",
        ),
        ((".", "--html", "page.html"), "page.html: exists; use --existing overwrite"),
        (
            (".", "--html", "new.html", "--resume", "-o", "a.csv"),
            "a page shows one run: --html cannot be combined with --resume",
        ),
        ((".", "-o", "absent/a.csv"), "absent/a.csv: no such file or directory"),
        ((".", "-o", "there.csv"), "there.csv: exists; use --resume or --existing overwrite"),
        ((".", "-o", "there.csv", "--resume"), "there.csv: not csv as this command writes it; left as it is"),
    ],
)
def test_wrong_usage_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "there.csv").write_text("my,own,table\n")
    (tmp_path / "page.html").write_text("mine")
    monkeypatch.chdir(tmp_path)
    done = capcli(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("capcli: " + message)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert (tmp_path / "there.csv").read_text() == "my,own,table\n"
    assert (tmp_path / "page.html").read_text() == "mine"


@pytest.mark.slow
def test_usage_errors_do_not_wait_for_pytorch() -> None:
    code = "import sys, capcli.cli.app as c\ntry: c.app(['caption', '.', '--on-error', 'x'])\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'rich', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=1800)
    assert done.stdout == "[]\n"
