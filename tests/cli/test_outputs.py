"""What every command does to outputs that exist, are shared, cannot be written, or are left by killed runs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from folders import ENVIRONMENT, capcli, captions, command, make_photos
from PIL import Image
from typer.testing import CliRunner

from capcli.cli.app import app
from capcli.locks import clear_leftovers

OUTPUTS = ("o.csv", "o.tsv", "o.jsonl", "o.txt", "o.json", "o.html", "looked")
PATIENCE = 1800  # seconds, a guard against hanging


@pytest.fixture(autouse=True)
def every_folder_is_new() -> None:
    """A process clears a folder once; here one process plays several."""
    clear_leftovers.cache_clear()


def to(output: Path) -> list[str]:
    """The option that writes this output."""
    option = {".html": "--html", "": "--attention"}.get(output.suffix, "--output")
    return [option, str(output)]


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command that runs in this process."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def everything(folder: Path) -> dict[str, bytes | None]:
    """All files with their content, and all folders."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


class Fed:
    """A run that captions the photos it is given one by one, and waits for the next in between."""

    def __init__(self, checkpoint: Path, folder: Path, *options: object, **popen: object) -> None:
        self.photos = iter(make_photos(folder, 9))
        arguments = command("--files-from", "-", "--model", checkpoint, "--sidecar", "--batch-size", 1, *options)
        popen = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
        self.process = subprocess.Popen(arguments, env=ENVIRONMENT, stdin=subprocess.PIPE, **popen)  # type: ignore[call-overload]

    def caption(self) -> Path:
        """Give it a photo, and return when that is captioned."""
        photo = next(self.photos)
        self.name(photo)
        while not photo.with_suffix(".txt").exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.01)
                raise AssertionError(self.process.communicate())
        return photo

    def name(self, photo: Path) -> None:
        self.process.stdin.write(f"{photo}\n".encode())
        self.process.stdin.flush()

    def stop(self, number: int) -> None:
        """Send a signal, and a photo after it, as a run that waits for one does not end before it comes."""
        self.process.send_signal(number)
        with contextlib.suppress(BrokenPipeError):
            self.name(next(self.photos))

    def end(self) -> tuple[int, str]:
        """Exit status and stderr, once there are no more photos."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, (errors or b"").decode()


@pytest.fixture
def fed() -> Iterator[list[Fed]]:
    """Runs that end with the test."""
    runs: list[Fed] = []
    yield runs
    for each in runs:
        each.process.kill()
        each.process.communicate()


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_refused_command_changes_nothing(tiny_checkpoint: Path, tmp_path: Path, name: str, old: bool) -> None:
    (photo,) = make_photos(tmp_path / "photos", 1)
    output, folder = tmp_path / "out" / name, tmp_path / "out"
    folder.mkdir()
    (folder / "file").touch()
    if old:
        assert run("caption", photo, "--model", tiny_checkpoint, *to(output))[0] == 0
    (folder / "broken.jsonl").write_text("mine\n")
    before = everything(folder)
    model = ["--model", str(tiny_checkpoint)]
    for refused in (
        ["--model", "nosuch"],
        [*model, "--set", "attention-samples=3"],  # known to be wrong once the model is there
        [*model, "--precision", "x", "--html", str(tmp_path / "other.html")],
        [*model, *(to(folder / "file") if name != "looked" else to(folder / "absent" / "o.html"))],
    ):
        options = to(output) + refused
        if name in ("o.html", "looked"):
            options += ["-o", str(folder / "new.csv")]
        status, printed, errors = run("caption", photo, *options, "--existing", "overwrite")
        assert (status, printed, errors.count("\n")) == (2, "", 1), errors
        assert everything(folder) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "photos", "tiny"]


@pytest.mark.parametrize("name", OUTPUTS)
def test_without_an_image_there_is_no_output(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    (photo,) = make_photos(tmp_path / "photos", 1)
    (tmp_path / "empty").mkdir()
    for prepared in (False, True):
        if prepared:
            assert run("caption", photo, "--model", tiny_checkpoint, *to(tmp_path / name))[0] == 0
        before = everything(tmp_path)
        options = [*to(tmp_path / name), "--existing", "overwrite"]
        assert run("caption", tmp_path / "empty", "--model", tiny_checkpoint, *options)[0] == 1
        assert everything(tmp_path) == before


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_exists_is_replaced_only_if_that_is_wanted(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    first, second = make_photos(tmp_path / "photos", 2)
    caption = ["caption", "--model", str(tiny_checkpoint), *to(tmp_path / name)]
    assert run(*caption, first)[0] == 0
    before = everything(tmp_path)
    status, _, errors = run(*caption, first)
    assert status == (1 if name == "looked" else 2)  # overlays are refused image by image
    assert errors.count("\n") == 1
    assert "exist" in errors
    assert "use --" in errors
    assert "--existing overwrite" in errors
    assert everything(tmp_path) == before
    if name in ("o.html", "looked"):
        explain = ["explain", str(first), "a cat", "--model", str(tiny_checkpoint), *to(tmp_path / name)]
        status, _, errors = run(*explain)
        assert status == (1 if name == "looked" else 2)
        assert errors.count("\n") == 1
        assert "use --existing overwrite" in errors
        assert everything(tmp_path) == before
        assert run(*explain, "--existing", "append")[0] == 2
        assert run(*explain, "--existing", "overwrite")[0] == 0
        assert everything(tmp_path) != before
        before = everything(tmp_path)
    status, _, errors = run(*caption, first, second, "--existing", "overwrite")
    assert (status, errors) == (0, "")
    assert everything(tmp_path) != before
    assert not list(tmp_path.rglob(".capcli*"))


def test_texts_that_no_person_wrote_are_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "Oplus_16908288"
    exif.get_ifd(0x8769)[0x9286] = b'ASCII\0\0\0{"mirror":false}'
    photo, mine = tmp_path / "a.jpg", tmp_path / "mine.jpg"
    Image.new("RGB", (80, 80), "red").save(photo, exif=exif)
    exif[0x010E] = "Grandma"
    Image.new("RGB", (80, 80), "red").save(mine, exif=exif)
    status, _, errors = run("caption", photo, mine, "--model", tiny_checkpoint, "--write-metadata", "--verbose")
    assert status == 0
    by_machine = "written by a camera or a program, not by a person"
    named = [line.removeprefix("capcli: ") for line in errors.splitlines() if by_machine in line]
    assert named == [
        f"{photo}: {by_machine}: Oplus_16908288",
        f'{photo}: {by_machine}: {{"mirror":false}}',
        f'{mine}: {by_machine}: {{"mirror":false}}',
    ]
    assert f"{mine}: skipped: already captioned in its metadata" in errors


@pytest.mark.skipif(os.name != "posix", reason="permissions are of another kind here")
@pytest.mark.parametrize("name", ["o.csv", "o.json", "o.html", "summary.json", "merged.json", "parts"])
def test_what_is_read_only_is_not_replaced(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    (photo,) = make_photos(tmp_path / "photos", 1)
    part, output = tmp_path / "part.jsonl", tmp_path / name
    arguments = ["caption", photo, "--model", tiny_checkpoint, "--existing", "overwrite", *to(output)]
    if name == "summary.json":
        arguments = ["caption", photo, "--model", tiny_checkpoint, "--summary", output]
    if name == "merged.json":
        assert run("caption", photo, "--model", tiny_checkpoint, "-o", part)[0] == 0
        arguments = ["write", part, "-o", output, "--existing", "overwrite"]
    if name == "parts":
        pytest.importorskip("pyarrow", reason="no pyarrow")
        arguments[-2:] = ["--format", "parquet", "-o", f"{output}/"]
    assert run(*arguments)[0] == 0
    file = output / "part-000001.parquet" if name == "parts" else output
    file.chmod(0o444)
    before = everything(tmp_path)
    status, _, errors = run(*arguments)
    assert (status, errors) == (2, f"capcli: {file}: it is read-only\n")
    assert everything(tmp_path) == before
    assert file.stat().st_mode & 0o777 == 0o444
    file.chmod(0o600)
    assert run(*arguments)[0] == 0
    assert name == "parts" or file.stat().st_mode & 0o777 == 0o600  # what was private stays so


def test_an_input_is_never_an_output(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photo, *_ = make_photos(tmp_path / "photos", 2)
    odd = photo.rename(photo.with_name("photo"))  # an image without an ending
    page = Path(shutil.copy(odd, tmp_path / "page.html"))
    names = tmp_path / "photos" / "photo1.txt"  # which would be the sidecar of photo1.jpg
    names.write_text(f"{odd}\n{odd.with_name('photo1.jpg')}\n{page}\n")
    before = everything(tmp_path)
    overwrite = ("--model", tiny_checkpoint, "--existing", "overwrite")
    listed = ("caption", "--files-from", names, *overwrite)
    for arguments in (
        ("caption", odd, *overwrite, "--format", "csv", "-o", odd),
        ("caption", odd, page, *overwrite, "--html", page),
        (*listed, "--format", "jsonl", "-o", odd),
        (*listed, "--format", "json", "-o", odd),
        (*listed, "--html", page),
        ("caption", odd, *overwrite, "-o", tiny_checkpoint / "config.json"),
    ):
        status, printed, errors = run(*arguments)
        assert (status, printed, errors.count("\n")) == (2, "", 1), errors
        assert everything(tmp_path) == before
    status, _, errors = run(*listed, "--sidecar")
    assert status == 1
    assert "it would share its sidecar" in errors
    assert "with --files-from" in errors
    assert names.read_text() == before["photos/photo1.txt"].decode()  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_has_one_writer(tiny_checkpoint: Path, tmp_path: Path, name: str, fed: list[Fed]) -> None:
    fed.append(first := Fed(tiny_checkpoint, tmp_path / "photos", *to(tmp_path / name)))
    photos = [first.caption()]
    assert not any(p.suffix == ".tmp" for p in tmp_path.iterdir()) or name in ("o.json", "o.html")
    other = make_photos(tmp_path / "others", 1)
    for more in (["--existing", "overwrite"], ["--resume"] if name in ("o.csv", "o.tsv", "o.jsonl") else []):
        if not more:
            continue
        status, printed, errors = run("caption", *other, "--model", tiny_checkpoint, *to(tmp_path / name), *more)
        assert (status, printed) == (2, "")
        assert (
            errors
            == f"capcli: {tmp_path / name}: in use by another run of capcli; wait until that run ends, or stop it\n"
        )
    photos.append(first.caption())
    status, errors = first.end()
    assert (status, errors) == (0, "")
    if name == "o.jsonl":
        assert list(captions(tmp_path / name)) == [*map(str, photos)]
    if name == "o.json":
        assert [row["path"] for row in json.loads((tmp_path / name).read_text())] == [*map(str, photos)]
    if name == "looked":
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["photo0", "photo1"]
    assert not list(tmp_path.rglob(".capcli*"))
    status, _, errors = run(
        "caption", *other, "--model", tiny_checkpoint, *to(tmp_path / name), "--existing", "overwrite"
    )
    assert (status, errors) == (0, "")


@pytest.mark.slow
def test_two_runs_over_the_same_folder_lose_and_double_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 40)
    for photo in photos:
        photo.with_suffix(".txt").write_text("mine\n")
    options = ("--model", tiny_checkpoint, "--sidecar", "--write-metadata", "--existing", "append", "--batch-size", 4)
    runs = [
        subprocess.Popen(
            command(tmp_path / "photos", *options, "--template", template),
            env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for template in ("left {name}", "right {name}", "right {name}")
    ]  # fmt: skip
    for each in runs:
        assert each.communicate(timeout=PATIENCE)[1] == b""
        assert each.returncode == 0
    for photo in photos:
        left, right = f"left {photo.stem}", f"right {photo.stem}"
        mine, *added = photo.with_suffix(".txt").read_text().strip().split(", ")
        assert mine == "mine"
        assert sorted(set(added)) == [left, right]
        assert added in ([left, right], [right, left], [right, left, right])
    assert not list(tmp_path.rglob(".capcli*"))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_later_run_clears_what_a_killed_one_left(
    tiny_checkpoint: Path, tmp_path: Path, name: str, fed: list[Fed]
) -> None:
    fed.append(killed := Fed(tiny_checkpoint, tmp_path / "photos", *to(tmp_path / name)))
    photo = killed.caption()
    killed.process.kill()
    killed.process.wait(PATIENCE)
    left = [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert bool(left) == (name in ("o.json", "o.html"))  # what grows has its lock in itself
    (tmp_path / "photos" / ".capcli-0123abcd.tmp").write_text("half a sidecar")
    done = capcli(
        photo, "--model", tiny_checkpoint, "--sidecar", "--existing", "overwrite", *to(tmp_path / name)
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.rglob(".capcli*"))


SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def as_in_a_terminal() -> None:
    """In a shell's background and under nohup signals are ignored, and would be here too."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes otherwise")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_run_after_its_batch(
    tiny_checkpoint: Path, tmp_path: Path, number: signal.Signals, fed: list[Fed]
) -> None:
    page, output = tmp_path / "x.html", tmp_path / "o.json"
    fed.append(stopped := Fed(tiny_checkpoint, tmp_path, *to(page), *to(output), preexec_fn=as_in_a_terminal))
    stopped.caption()
    stopped.caption()
    stopped.stop(number)
    status, errors = stopped.end()
    assert status == 128 + number
    again = "Ctrl-C again" if number == signal.SIGINT else "a second signal"
    assert errors == f"\ncapcli: stopping after this batch; {again} stops at once\ncapcli: interrupted\n"
    done = [Path(row["path"]).name for row in json.loads(output.read_text())]
    assert done in (["photo0.jpg", "photo1.jpg"], ["photo0.jpg", "photo1.jpg", "photo2.jpg"])
    assert page.read_text("utf-8").count('<li class="card"') == len(done)
    assert not list(tmp_path.rglob(".capcli*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes otherwise")
def test_a_second_signal_ends_it_at_once(tiny_checkpoint: Path, tmp_path: Path, fed: list[Fed]) -> None:
    output = tmp_path / "o.json"
    fed.append(stopped := Fed(tiny_checkpoint, tmp_path, *to(output), preexec_fn=as_in_a_terminal))
    stopped.caption()
    stopped.process.send_signal(signal.SIGTERM)
    assert stopped.process.stderr.readline() == b"\n"
    assert b"stopping after this batch" in stopped.process.stderr.readline()
    stopped.process.send_signal(signal.SIGTERM)  # no photo comes
    assert stopped.process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert len(json.loads(output.read_text())) == 1


@pytest.mark.slow
def test_a_closed_terminal_loses_nothing(tiny_checkpoint: Path, tmp_path: Path, fed: list[Fed]) -> None:
    fcntl = pytest.importorskip("fcntl", reason="no terminals of this kind on this system")
    import pty
    import termios

    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        as_in_a_terminal()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    options = {"stdout": theirs, "stderr": theirs, "start_new_session": True, "preexec_fn": take_terminal}
    fed.append(stopped := Fed(tiny_checkpoint, tmp_path, *to(tmp_path / "o.json"), **options))
    os.close(theirs)
    stopped.caption()
    os.close(ours)  # the system sends SIGHUP, and takes no more text
    stopped.name(next(stopped.photos))
    assert stopped.end()[0] == 128 + signal.SIGHUP
    # Two signals may come, for the session and for its foreground, and the second ends it at once.
    assert len(json.loads((tmp_path / "o.json").read_text())) in (1, 2)


@pytest.mark.slow
def test_what_is_advised_after_ctrl_c_works(tiny_checkpoint: Path, tmp_path: Path, fed: list[Fed]) -> None:
    page, output = tmp_path / "x.html", tmp_path / "o.csv"
    fed.append(stopped := Fed(tiny_checkpoint, tmp_path, *to(page), *to(output), preexec_fn=as_in_a_terminal))
    stopped.caption()
    stopped.stop(signal.SIGINT)
    status, errors = stopped.end()
    assert status == 130
    advice = "to continue, run the same command with --resume and without --html"
    assert errors.splitlines()[-1] == f"capcli: interrupted; {advice}"
    done = capcli(tmp_path, "--model", tiny_checkpoint, "--sidecar", *to(output), "--resume", "--exclude", "tiny")
    assert done.returncode == 0
    assert done.stderr in [f"capcli: {n} skipped: already captioned\n" for n in ("1 image", "2 images")]
    assert output.read_text().count("\n") == 10


FULL = (
    "import errno, resource, signal, sys\n"
    "import capcli.outputs.sidecars\n"
    "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"  # an error instead of the signal, as a full disk gives
    "capcli.outputs.sink.FATAL_ERRORS += (errno.EFBIG,)\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)\n"
    "from capcli.cli.app import main\n"
    "main()\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 20_000])
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_full_disk_is_one_line_and_leaves_the_old_output(
    tiny_checkpoint: Path, tmp_path: Path, name: str, room: int
) -> None:
    pytest.importorskip("resource", reason="no limits on file sizes on this system")
    make_photos(tmp_path / "photos", 3)
    output = tmp_path / name
    if old := room == 0 and name != "looked":
        output.write_text("old\n")
    elif room and name not in ("o.html", "looked"):
        return  # rows find room enough
    arguments = command(tmp_path / "photos", "--model", tiny_checkpoint, *to(output), "--existing", "overwrite")[3:]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(room), *arguments],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1
    where = str(output / "photo0") if name == "looked" else f"{output}:"
    assert done.stderr.startswith(f"capcli: {where}")
    assert done.stderr.endswith(f": {os.strerror(errno.EFBIG).lower()}\n")
    assert done.stderr.count("\n") == 1
    assert (output.read_text() if output.is_file() else None) == ("old\n" if old else None)
    assert not list(tmp_path.rglob(".capcli*"))
