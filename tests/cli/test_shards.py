"""`capcli caption --shard I/N`: the parts of a folder, captioned one by one, make the whole."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from folders import capcli_apart, make_photos, rows
from typer.testing import CliRunner

from capcli.cli.app import app

COUNT = 3


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command that runs in this process."""
    done = CliRunner().invoke(app, ["caption", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def listed(output: str) -> list[str]:
    return [line.split("\t")[1] for line in output.splitlines()]


def test_parts_make_the_whole(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 30)  # or a part could be empty: the folder is not named alike each time
    (photos[0].parent / "bad.jpg").write_text("not a photo")
    common = (photos[0].parent, "--model", tiny_checkpoint, "--sidecar")
    found = []
    for index in range(1, COUNT + 1):
        output = tmp_path / "part-{shard}.jsonl"
        summary = tmp_path / "{shard}.json"
        status, _, errors = run(*common, "--shard", f"{index}/{COUNT}", "-o", output, "--summary", summary)
        part = rows(tmp_path / f"part-{index}-of-{COUNT}.jsonl")
        assert status == any("error" in row for row in part), errors
        assert (tmp_path / f"{index}-of-{COUNT}.json").exists()
        found += [row["path"] for row in part]
    assert sorted(found) == sorted(map(str, [*photos, photos[0].with_name("bad.jpg")]))
    assert all(photo.with_suffix(".txt").exists() for photo in photos)


def test_a_shard_is_gone_on_with(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 12)
    output = tmp_path / "part-1-of-2.jsonl"
    common = (photos[0].parent, "--model", tiny_checkpoint, "--shard", "1/2")
    run(*common, "-o", tmp_path / "part-{shard}.jsonl")
    whole = output.read_text()
    output.write_text(whole[: len(whole) // 2])
    assert run(*common, "--dry-run", "--resume", "-o", tmp_path / "part-{shard}.jsonl")[0] == 0
    assert run(*common, "--resume", "-o", tmp_path / "part-{shard}.jsonl")[0] == 0
    assert output.read_text() == whole


@pytest.mark.slow
def test_a_dry_run_lists_each_image_in_one_shard(tmp_path: Path) -> None:
    names = [f"absent{i}.jpg" for i in range(40)] + ["raw\udcff.jpg"] * (os.name == "posix")
    photos = [str(photo) for photo in make_photos(tmp_path / "photos", 20)]
    (tmp_path / "names").write_bytes(os.fsencode("\n".join(names)))
    everything: list[str] = []
    for index in range(1, COUNT + 1):
        done = capcli_apart(
            *(tmp_path / "photos", "--files-from", tmp_path / "names", "--dry-run", "--shard", f"{index}/{COUNT}"),
            *("-o", tmp_path / "{shard}.csv"),
        )
        assert f"{index}-of-{COUNT}.csv" in done.stdout
        everything += listed(done.stdout)
    assert sorted(everything) == sorted([*names, *photos])


def test_pictures_that_capcli_drew_are_counted_once(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 2)
    run(photos[0].parent, "--model", tiny_checkpoint, "--attention", tmp_path / "photos" / "looked")
    parts = [run(photos[0].parent, "--dry-run", "--shard", f"{i}/{COUNT}")[1] for i in range(1, COUNT + 1)]
    skipped = [[line for line in part.splitlines() if line.startswith("skip")] for part in parts]
    whole = [line for line in run(photos[0].parent, "--dry-run")[1].splitlines() if line.startswith("skip")]
    assert len(whole) > 2
    assert sorted(line for part in skipped for line in part) == sorted(whole)


def test_the_bar_counts_its_shard_alone(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    totals: list[int] = []
    photos = make_photos(tmp_path / "photos", 12)

    class Bar:
        """As much of a CaptionBar as a run calls."""

        def __init__(self, shown: bool, count: object) -> None:
            totals.append(count())  # type: ignore[operator]

        aside = staticmethod(contextlib.nullcontext)

        def update(self, done: int, failed: int) -> None:
            totals.append(done)

        def close(self) -> None:
            pass

    monkeypatch.setattr("capcli.cli.plan.CaptionBar", Bar)
    run(photos[0].parent, "--model", tiny_checkpoint, "--shard", "1/2", "-q", "-o", tmp_path / "o.jsonl")
    assert 0 < totals[0] < 12
    assert totals[-1] == totals[0]


def test_an_empty_shard_is_no_failure(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (photo,) = make_photos(tmp_path / "photos", 1)
    ends = [run(photo.parent, "--model", tiny_checkpoint, "--shard", f"{i}/2", "-q") for i in (1, 2)]
    assert [status for status, _, _ in ends] == [0, 0]
    assert sorted(len(output.splitlines()) for _, output, _ in ends) == [0, 1]
    assert any("no image of the listing is in shard" in errors for _, _, errors in ends)
    assert run(tmp_path, "--shard", "1/2", "--include", "*.png", "--model", tiny_checkpoint)[0] == 1


@pytest.mark.parametrize("value", ["3", "0/8", "9/8", "1/0", "a/b"])
def test_bad_values_are_one_line(tmp_path: Path, value: str) -> None:
    status, _, errors = run(tmp_path, "--shard", value)
    assert status == 2
    assert errors.startswith(f"capcli: --shard {value}: ")
    assert errors.count("\n") == 1


def test_the_placeholder_needs_a_shard(tmp_path: Path) -> None:
    status, _, errors = run(tmp_path, "-o", "part-{shard}.jsonl")
    assert (status, errors) == (2, "capcli: --output part-{shard}.jsonl: {shard} needs --shard I/N\n")


def test_shards_do_not_replace_each_other(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 4)
    common = (photos[0].parent, "--model", tiny_checkpoint, "--existing", "overwrite", "-q")
    for option, name in (("--output", tmp_path / "o.jsonl"), ("--html", tmp_path / "page.html")):
        status, _, errors = run(*common, "--shard", "1/2", option, name)
        said = "each shard would replace the one before; put {shard} into the name"
        assert (status, errors) == (2, f"capcli: {option} {name}: {said}\n")
        assert not name.exists()
    assert run(*common, "--shard", "1/2", "-o", tmp_path / "{shard}.jsonl")[0] == 0
    assert run(*common, "-o", tmp_path / "o.jsonl")[0] == 0
