"""Parts of a listing: every image is in exactly one, wherever and whenever it is asked for."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from capcli.images.shards import Shard, parse_shard


def names(number: int) -> list[str]:
    """Paths of all kinds of characters, some of them not UTF-8."""
    draw = random.Random(0)
    kinds = ["photo {}.jpg", "a/b/ünï{}.png", "日本/{}.webp", "dots.in.{}/x", "no-ending-{}", "new\nline{}.jpg"]
    paths = [draw.choice(kinds).format(i) for i in range(number)]
    return [*paths, *(f"raw\udcff\udce9{i}.jpg" for i in range(number if os.name == "posix" else 0))]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 100])
def test_every_name_is_in_exactly_one_shard(count: int) -> None:
    shards = [Shard(index, count) for index in range(1, count + 1)]
    taken = [0] * count
    for name in names(2000):
        found = [shard.index for shard in shards if shard.takes(name)]
        assert len(found) == 1, name
        taken[found[0] - 1] += 1
    mean = sum(taken) / count
    assert all(abs(n - mean) < 6 * mean**0.5 for n in taken)  # as even as chance has it


@pytest.mark.slow
def test_a_name_stays_where_it_is() -> None:
    """In every version of Python, on every platform, with every seed of hash()."""
    known = {"photos/a.jpg": 1, "photos/b.jpg": 6, "./photos/a.jpg": 1, "ünï.png": 8, "-": 2}
    for name, index in known.items():
        assert [i for i in range(1, 9) if Shard(i, 8).takes(name)] == [index], name
    code = "from capcli.images.shards import Shard; print([Shard(2, 3).takes(f'photos/{i}.jpg') for i in range(99)])"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1")
    }
    assert len(printed) == 1


def test_separators_of_windows_divide_as_slashes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Shard(1, 2).takes(f"a.b/photo{i}.jpg") for i in range(50)]
    monkeypatch.setattr(os, "sep", "\\")
    assert [Shard(1, 2).takes(f"a.b\\photo{i}.jpg") for i in range(50)] == found


def test_images_that_would_share_a_sidecar_meet() -> None:
    for i in range(50):
        assert Shard(1, 7).takes(f"{i}.jpg") == Shard(1, 7).takes(f"{i}.png")


def test_shards_are_read_and_sort() -> None:
    assert parse_shard("3/8") == Shard(3, 8)
    shown = [str(Shard(index, 12)) for index in range(1, 13)]
    assert shown[2] == "03-of-12"
    assert shown == sorted(shown)


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "1/0", "-1/8", "1/8/2", "1 / 8", "a/b", "1/8\n", "²/3"])
def test_bad_shards_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_shard(text)
