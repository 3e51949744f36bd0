"""`--cache`: the same photo under another name, in another folder or twice is captioned once."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from fakes import PHOTOS
from folders import ENVIRONMENT, capcli, capcli_apart, captions, command, make_photos, photo_bytes
from typer.testing import CliRunner

from capcli.checkpoints.caption_model import CaptionModel
from capcli.cli.app import app
from capcli.engines.onnx import OnnxEngine
from capcli.engines.torch import TorchEngine

PAGE = (Path(__file__).parents[2] / "docs" / "folders.md").read_text("utf-8")
KILLS = 20 if os.environ.get("CAPCLI_FULL_TESTS") else 3


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images go through the model, for each of its batches."""
    counts: list[int] = []
    for engine in (OnnxEngine, TorchEngine):

        def encode(self, pixels: np.ndarray, encode=engine.encode):
            counts.append(len(pixels))
            return encode(self, pixels)

        monkeypatch.setattr(engine, "encode", encode)
    return counts


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    make_photos(tmp_path / "photos", 5)
    return tmp_path / "photos"


def caption(checkpoint: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["caption", "--model", str(checkpoint), "--device", "cpu", *map(str, arguments)])


def kept(cache: Path) -> list[dict]:
    """The captions in a cache that is whole."""
    with contextlib.closing(sqlite3.connect(cache)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [json.loads(text) for (text,) in database.execute("SELECT caption FROM captions")]


def test_renamed_moved_and_doubled_photos_are_captioned_once(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path, looked_at: list[int]
) -> None:
    for i in range(5):
        shutil.copy(photos / f"photo{i}.jpg", photos / f"photo{i} copy.jpg")
    (photos / "bad.jpg").write_bytes(b"no photo")
    shutil.copy(photos / "bad.jpg", photos / "worse.jpg")
    cache = tmp_path / "kept.db"
    plain = caption(tiny_checkpoint, photos)
    looked_at.clear()
    first = caption(tiny_checkpoint, photos, "--cache", cache)
    assert (sum(looked_at), first.exit_code, first.stdout) == (5, 1, plain.stdout)
    assert f"capcli: 5 captions taken from {cache}\n" in first.stderr
    assert f"capcli: {photos / 'worse.jpg'}: not an image" in first.stderr
    assert len(kept(cache)) == 5
    looked_at.clear()
    (tmp_path / "holiday" / "2024").mkdir(parents=True)
    for i in range(5):
        (photos / f"photo{i}.jpg").rename(tmp_path / "holiday" / "2024" / f"{5 - i}.JPEG")
    moved = caption(tiny_checkpoint, tmp_path / "holiday", "--cache", cache)
    assert (looked_at, moved.exit_code) == ([], 0)
    assert moved.stderr == f"capcli: 5 captions taken from {cache}\n"
    said = [line.split("\t")[1] for line in plain.stdout.splitlines()]
    assert [line.split("\t")[1] for line in moved.stdout.splitlines()] == said[-2::-2]
    make_photos(photos, 7)  # two more
    caption(tiny_checkpoint, photos, "--cache", cache)
    assert sum(looked_at) == 2
    assert caption(tiny_checkpoint, photos, "--cache", cache, "--quiet").stderr.count("\n") == 2  # the two bad ones


def test_the_network_is_not_made_ready_where_all_is_known(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = caption(tiny_checkpoint, photos, "--cache", tmp_path / "kept.db").stdout
    monkeypatch.delattr(OnnxEngine, "make_session")
    assert caption(tiny_checkpoint, photos, "--cache", tmp_path / "kept.db").stdout == expected


MISSES = [
    ["--beam", 2],
    ["--num", 4],
    ["--num", 2, "--diversity", 1],
    ["--set", "max_length=5"],
    ["--set", "length_penalty=0"],
    ["--set", "no_repeat=2"],
    ["--set", "no-echo=false"],
    ["--ban", "cat"],
    ["--engine", "torch"],
    ["--engine", "torch", "--precision", "bf16"],
]
HITS = [
    ["--num", 3],
    ["--beam", 3],
    ["--batch-size", 2],
    ["--set", "seed=4"],
    ["--max-pixels", 7000],
    ["--keywords", 3],
]


@pytest.mark.parametrize("options", MISSES, ids=lambda options: "".join(map(str, options)))
def test_captions_that_would_differ_are_made_anew(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path, looked_at: list[int], options: list[object]
) -> None:
    caption(tiny_checkpoint, photos, "--cache", tmp_path / "kept.db")
    looked_at.clear()
    expected = caption(tiny_checkpoint, photos, *options)
    done = caption(tiny_checkpoint, photos, "--cache", tmp_path / "kept.db", *options)
    assert (sum(looked_at), done.exit_code, done.stdout) == (10, 0, expected.stdout)
    again = caption(tiny_checkpoint, photos, "--cache", tmp_path / "kept.db", *options)
    assert (sum(looked_at), again.stdout) == (10, expected.stdout)


def test_captions_that_would_be_the_same_are_not(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path, looked_at: list[int]
) -> None:
    cache = tmp_path / "kept.db"
    caption(tiny_checkpoint, photos, "--cache", cache)
    looked_at.clear()
    for options in HITS:
        assert caption(tiny_checkpoint, photos, "--format", "jsonl", "--cache", cache, *options).exit_code == 0
    shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    caption(tmp_path / "copy", photos, "--cache", cache)
    assert looked_at == []
    config = tmp_path / "copy" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"unsure_below": 0.5}))
    caption(tmp_path / "copy", photos, "--cache", cache)
    assert looked_at


def test_another_checkpoint_has_captions_of_its_own(
    tiny_checkpoint: Path, tiny_model: CaptionModel, photos: Path, tmp_path: Path, looked_at: list[int]
) -> None:
    tiny_model.decoder.requires_grad_(False)
    for parameter in tiny_model.decoder.parameters():
        parameter.neg_()
    tiny_model.save(tmp_path / "other")
    cache = tmp_path / "kept.db"
    expected = [caption(model, photos).stdout for model in (tiny_checkpoint, tmp_path / "other")]
    assert expected[0] != expected[1]
    for _ in range(2):
        assert [caption(m, photos, "--cache", cache).stdout for m in (tiny_checkpoint, tmp_path / "other")] == expected
    assert sum(looked_at) == 4 * 5


@pytest.mark.parametrize(
    "options",
    [
        ["--format", "jsonl", "--num", 2, "--keywords", 4],
        ["--format", "json", "--replace", "a=one", "--replace", "cat=tiger", "--min-confidence", 0.731],
        ["--format", "csv", "--num", 3, "--min-confidence", 0.731],
        ["--template", "{caption} ({score:.9f}, {keywords}), {folder}/{name}"],
    ],
    ids=str,
)
def test_what_is_written_does_not_depend_on_where_a_caption_is_from(
    judging_checkpoint: Path, photos: Path, tmp_path: Path, looked_at: list[int], options: list[object]
) -> None:
    def write(number: int, *more: object) -> dict[Path, bytes]:
        shutil.rmtree(photos)
        for i, path in enumerate(make_photos(photos, 4)):
            os.utime(path, (i, i))
        shutil.copytree(PHOTOS, photos / "more", ignore=shutil.ignore_patterns("*.md"))
        words = [photos, "-o", tmp_path / f"out{number}", "--sidecar", "--xmp", "--write-metadata", *options, *more]
        done = caption(judging_checkpoint, *words, *([] if "--format" in options else ["--format", "text"]))
        assert done.exit_code == 0, done.stderr
        files = {path.relative_to(photos): path.read_bytes() for path in photos.rglob("*") if path.is_file()}
        return files | {Path("out"): (tmp_path / f"out{number}").read_bytes()}

    plain = write(0)
    assert len([path for path in plain if path.suffix == ".txt"]) >= 4
    looked_at.clear()
    assert write(1, "--cache", tmp_path / "kept.db") == plain
    assert looked_at
    looked_at.clear()
    assert write(2, "--cache", tmp_path / "kept.db") == plain
    assert looked_at == []


def test_views_fill_a_cache_and_do_not_read_it(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path, looked_at: list[int]
) -> None:
    cache = ("--cache", tmp_path / "kept.db")
    shutil.copy(photos / "photo0.jpg", photos / "photo0 copy.jpg")
    for number, view in enumerate(("--html", "--attention")):
        done = caption(tiny_checkpoint, photos, *cache, view, tmp_path / f"view{number}.html")
        assert (sum(looked_at), done.exit_code) == (6 * (number + 1), 0)
        assert len(kept(tmp_path / "kept.db")) == 5
    assert (tmp_path / "view1.html" / "photo0_copy" / "attention.png").exists()
    assert caption(tiny_checkpoint, photos, *cache).exit_code == 0
    assert sum(looked_at) == 12


@pytest.mark.slow
def test_a_photo_on_stdin_is_known_by_its_content(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (photo,) = make_photos(tmp_path, 1)
    options = ("--model", tiny_checkpoint, "--cache", tmp_path / "kept.db")
    expected = capcli_apart(photo, *options).stdout
    done = capcli_apart("-", *options, text=False, errors=None, input=photo.read_bytes())
    assert (done.stdout.decode(), done.stderr.count(b"taken from")) == (expected, 1)
    if os.path.exists("/dev/fd"):  # a pipe, which gives its bytes once
        shell = shlex.join(command(*options))
        piped = subprocess.run(
            ["bash", "-c", f"{shell} <(cat {shlex.quote(str(photo))})"], env=ENVIRONMENT, capture_output=True, text=True
        )
        assert (piped.stdout.split("\t")[-1], piped.stderr) == (expected, "")


def test_a_photo_that_changes_meanwhile_is_not_remembered(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photo,) = make_photos(tmp_path, 1)
    encode = OnnxEngine.encode

    def replaced(self, pixels):
        photo.write_bytes(photo_bytes(99) + b"more")
        return encode(self, pixels)

    monkeypatch.setattr(OnnxEngine, "encode", replaced)
    assert caption(tiny_checkpoint, photo, "--cache", tmp_path / "kept.db").exit_code == 0
    assert kept(tmp_path / "kept.db") == []


def test_what_draws_at_random_is_refused(tiny_checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    for options, reason in (
        (["--sample"], "sample: random draws differ each time"),
        (["--sample", "--set", "seed=1"], "sample: random draws differ each time"),
        (["--set", "attention-samples=2"], "attention-samples: random draws differ each time"),
    ):
        done = caption(tiny_checkpoint, photos, "--cache", tmp_path / "kept.db", *options)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == f"capcli: --cache cannot be combined with {reason}\n"
    assert not (tmp_path / "kept.db").exists()


def foreign(path: Path, script: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(script)


def test_other_files_are_refused_and_left_as_they_are(tiny_checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    caption(tiny_checkpoint, photos, "--cache", tmp_path / "whole.db")
    whole = (tmp_path / "whole.db").read_bytes()
    (tmp_path / "diary.txt").write_text("dear diary\n" * 1000)
    (tmp_path / "cut.db").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "head.db").write_bytes(b"x" * 100 + whole[100:])
    foreign(tmp_path / "browser.db", "CREATE TABLE moz_places (id INTEGER)")
    foreign(tmp_path / "empty.db", "PRAGMA application_id = 77; VACUUM")
    (tmp_path / "newer.db").write_bytes(whole)
    foreign(tmp_path / "newer.db", "PRAGMA user_version = 2")
    (tmp_path / "bare.db").write_bytes(whole)
    foreign(tmp_path / "bare.db", "DROP TABLE captions; CREATE TABLE others (id INTEGER)")
    for name, reason in (
        ("diary.txt", "cannot be used as a cache: file is not a database"),
        ("head.db", "cannot be used as a cache: file is not a database"),
        ("cut.db", "cannot be used as a cache: database disk image is malformed"),
        ("browser.db", "cannot be used as a cache: a database of another program"),
        ("empty.db", "cannot be used as a cache: a database of another program"),
        ("newer.db", "cannot be used as a cache: version 2, and this capcli knows version 1"),
        ("bare.db", "cannot be used as a cache: no such table: captions"),
        ("photos", "is a directory"),
        ("absent/kept.db", "no such file or directory"),
    ):
        path = tmp_path / name
        before = path.read_bytes() if path.is_file() else None
        for more in ([], ["--dry-run"]):
            done = caption(tiny_checkpoint, photos, "--cache", path, *more)
            assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"capcli: {path}: {reason}\n")
        assert (path.read_bytes() if path.is_file() else None) == before
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        done = caption(tiny_checkpoint, photos, "--cache", tmp_path / "pipe")
        assert done.stderr == f"capcli: {tmp_path / 'pipe'}: cannot be used as a cache: not a regular file\n"
    out = tmp_path / "out.csv"
    same = caption(tiny_checkpoint, photos, "--cache", out, "-o", out)
    assert same.stderr == f"capcli: --output and --cache are the same file, {out}\n"
    image = caption(tiny_checkpoint, photos, "--cache", "kept.jpg")
    assert image.stderr == "capcli: --cache kept.jpg: has an image's ending; name another file\n"
    assert sorted(path.name for path in tmp_path.glob("*-journal")) == []


def test_nothing_is_made_where_nothing_is_to_be_written(tiny_checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "kept.db"
    assert caption(tiny_checkpoint, photos, "--cache", cache, "--dry-run").exit_code == 0
    assert caption(tmp_path / "no model", photos, "--cache", cache).exit_code == 2
    assert not cache.exists()
    cache.touch()  # an empty file is no one's
    assert caption(tiny_checkpoint, photos, "--cache", cache).exit_code == 0
    assert len(kept(cache)) == 5


@pytest.mark.slow
def test_without_it_no_database_is_loaded(tiny_checkpoint: Path, photos: Path) -> None:
    code = (
        "import sys\nfrom capcli.cli.app import main\n"
        "try:\n    main()\nfinally:\n    print('sqlite3' in sys.modules, 'capcli.outputs.cache' in sys.modules)\n"
    )
    arguments = [photos / "photo0.jpg", "--model", tiny_checkpoint, "--engine", "onnx"]
    done = subprocess.run(
        [sys.executable, "-c", code, "caption", *map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[1:] == ["False False"], done.stderr


def test_a_cache_that_breaks_midway_costs_no_caption(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path, looked_at: list[int]
) -> None:
    cache = tmp_path / "kept.db"
    make_photos(photos, 40)
    expected = caption(tiny_checkpoint, photos, "--cache", cache).stdout
    whole = cache.read_bytes()
    good = 3 * 4096  # the pages of the header, and those that the table and its index begin with
    cache.write_bytes(whole[:good] + b"\xff" * (len(whole) - good))
    broken = cache.read_bytes()
    done = caption(tiny_checkpoint, photos, "--cache", cache)
    assert (done.exit_code, done.stdout) == (1, expected)
    reason = "database disk image is malformed; the run goes on without it"
    assert done.stderr == f"capcli: {cache}: {reason}\n"
    assert cache.read_bytes() == broken


def test_a_caption_that_cannot_be_read_is_made_again(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path, looked_at: list[int]
) -> None:
    cache = tmp_path / "kept.db"
    expected = caption(tiny_checkpoint, photos, "--cache", cache).stdout
    texts = ["{", "[]", '{"candidates": []}', '{"candidates": [{}]}', '{"candidates": 1}']
    with contextlib.closing(sqlite3.connect(cache)) as database, database:
        for number, text in enumerate(texts, 1):
            database.execute("UPDATE captions SET caption = ? WHERE rowid = ?", (text, number))
    looked_at.clear()
    assert caption(tiny_checkpoint, photos, "--cache", cache).stdout == expected
    assert sum(looked_at) == 5
    assert [len(each["candidates"]) for each in kept(cache)] == [3] * 5


@pytest.mark.slow
def test_a_full_disk_is_said_once_and_costs_no_caption(tiny_checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="no limits on file sizes on this system")
    photos = make_photos(tmp_path / "photos", 60)
    output, cache = tmp_path / "out.jsonl", tmp_path / "kept.db"
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"  # an error instead of the signal, as a full disk gives
        "resource.setrlimit(resource.RLIMIT_FSIZE, (33000, 33000))\n"
        "from capcli.cli.app import main\n"
        "sys.argv[0] = 'capcli'\n"
        "main()\n"
    )
    options = (tmp_path / "photos", "--model", tiny_checkpoint, "--batch-size", 4, "--cache", cache, "-o", output)
    done = subprocess.run(
        [sys.executable, "-c", script, *command(*options)[3:]], env=ENVIRONMENT, capture_output=True, text=True,
        timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(rf"capcli: {re.escape(str(cache))}: .*; no more captions are kept there\n", done.stderr)
    assert list(captions(output)) == [str(photo) for photo in photos]
    assert 0 < len(kept(cache)) < 60
    output.unlink()
    assert capcli(*options).returncode == 0
    assert len(kept(cache)) == 60


@pytest.mark.slow
def test_two_runs_share_a_cache(tiny_checkpoint: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 60)
    options = ("--model", tiny_checkpoint, "--batch-size", 4, "--cache", tmp_path / "kept.db")
    runs = [
        subprocess.Popen(
            command(tmp_path / "photos", *options, *more), env=ENVIRONMENT, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for more in (["--shard", "1/2"], ["--shard", "2/2"], [])
    ]  # fmt: skip
    ended = [run.communicate(timeout=1800) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], ended
    assert sorted((ended[0][0] + ended[1][0]).splitlines()) == sorted(ended[2][0].splitlines())
    assert len(kept(tmp_path / "kept.db")) == 60


@pytest.mark.slow
def test_killed_at_random_it_stays_whole(tiny_checkpoint: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 200)
    cache, rng = tmp_path / "kept.db", random.Random(1)
    again = command(tmp_path / "photos", "--model", tiny_checkpoint, "--batch-size", 4, "--cache", cache)
    found, kills = 0, 0
    while kills < KILLS:
        process = subprocess.Popen(again, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        for _ in range(rng.randrange(1, 60) + found):  # lines, which come after the captions are kept
            process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        kills += 1
        now = len(kept(cache))
        assert now >= found
        if now == 200:
            cache.unlink()
            now = 0
        found = now
    done = subprocess.run(again, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 200
    assert len(kept(cache)) == 200


def test_a_resumed_run_takes_what_was_renamed_from_the_cache(
    tiny_checkpoint: Path, photos: Path, tmp_path: Path, looked_at: list[int]
) -> None:
    options = ("-o", tmp_path / "out.jsonl", "--cache", tmp_path / "kept.db", "--resume")
    caption(tiny_checkpoint, photos, *options)
    looked_at.clear()
    (photos / "photo3.jpg").rename(photos / "cat.jpg")
    assert caption(tiny_checkpoint, photos, *options).exit_code == 0
    said = captions(tmp_path / "out.jsonl")
    assert said[str(photos / "cat.jpg")] == said[str(photos / "photo3.jpg")]
    assert looked_at == []


def test_its_page_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_at: list[int]) -> None:
    lines = [shlex.split(line, comments=True) for line in re.findall(r"^capcli .*--cache .*$", PAGE, re.M)]
    assert lines
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PHOTOS, "photos", ignore=shutil.ignore_patterns("*.md"))
    for _, *words in lines:
        looked_at.clear()
        done = CliRunner().invoke(app, [*words, "--device", "cpu"])
        assert done.exit_code == 0, done.stderr
        assert looked_at
        looked_at.clear()
        shutil.move("photos", "moved")
        Path(words[words.index("--output") + 1]).unlink()
        moved = [word.replace("photos/", "moved/") for word in words]
        assert CliRunner().invoke(app, [*moved, "--device", "cpu"]).exit_code == 0
        assert looked_at == []
        shutil.move("moved", "photos")


def test_a_bad_disk_is_named_as_others_are(tiny_checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    if os.name != "posix" or os.geteuid() == 0:
        pytest.skip("who may do anything is refused nothing")
    cache = tmp_path / "kept.db"
    (tmp_path / "closed").mkdir(mode=0o500)
    done = caption(tiny_checkpoint, photos, "--cache", tmp_path / "closed" / "kept.db")
    denied = os.strerror(errno.EACCES).lower()
    assert (done.exit_code, done.stderr) == (2, f"capcli: {tmp_path / 'closed' / 'kept.db'}: {denied}\n")
    caption(tiny_checkpoint, photos, "--cache", cache)
    cache.chmod(0o400)
    assert caption(tiny_checkpoint, photos, "--cache", cache).exit_code == 0  # all is known
    make_photos(photos, 7)
    done = caption(tiny_checkpoint, photos, "--cache", cache)
    assert (done.exit_code, done.stdout.count("\n")) == (1, 7)
    assert f"{cache}: attempt to write a readonly database; no more captions are kept there" in done.stderr
