from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest
from folders import make_photos, photo_bytes

from capcli.files import OutputError
from capcli.outputs.cache import INSERT, CaptionCache, as_json, check_cache, from_json, look
from capcli.results import Candidate, Caption, ImageError, Kind

ONE, OTHER = b"1" * 32, b"2" * 32


def said(path: str, text: str = "a cat") -> Caption:
    best = Candidate(text, ("a", "cat"), (-0.1, -1 / 3, -1e-9), -0.1 - 1 / 3 - 1e-9, -0.123456789012345)
    more = Candidate("un café ☕", ("un",), (-2.0,), -2.0, -2.0)
    return Caption(path, (best, more), 1.5, 0.42, True, kinds=(Kind("polar bear", 0.825),))


def plain(caption: Caption | ImageError) -> object:
    """What compares."""
    if isinstance(caption, ImageError):
        return caption.path, caption.reason
    sentences = [vars(candidate) for candidate in caption.candidates]
    return caption.path, sentences, caption.gain, caption.confidence, caption.unsure, caption.kinds


def given(cache: CaptionCache, *images: str | ImageError) -> list[object]:
    """What goes to the captioner: names, and whatever takes their places."""
    return list(cache.recall(map(look, images)))


def results(cache: CaptionCache, *results: Caption | ImageError) -> list[object]:
    return [plain(result) for batch in cache.remember([list(results)]) for result in batch]


def test_a_caption_is_the_same_afterwards() -> None:
    caption = said("")
    assert plain(from_json(as_json(caption))) == plain(caption)  # type: ignore[arg-type]
    nothing = Caption("", (Candidate("", (), (-5.0,), -5.0, -5.0),))
    assert plain(from_json(as_json(nothing))) == plain(nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"text":"a cat"', '"text":"a cat\\nb.jpg\\tforged"'), ('"text":"a cat"', '"text":"\\u001b[2J"'),
        ('"text":"a cat"', '"text":7'), ('"text":"a cat"', '"text":' + 100_000 * "["), ('["a","cat"]', '"a"'),
        ('["a","cat"]', '["a\\n","cat"]'), ('["a","cat"]', '["a",["cat"]]'), ('"score":-1.5', '"score":"high"'),
        ('"score":-1.5', '"score":NaN'), ('"log_prob":-3.0', '"log_prob":null'), ("[-1.0,-1.0,-1.0]", "[-1.0]"),
        ("[-1.0,-1.0,-1.0]", "[[],-1.0,-1.0]"), ('"gain":0.5', '"gain":"0.5"'), ('"unsure":false', '"unsure":"no"'),
        ('"unsure":false', '"unsure":[]'), ('"confidence":null', '"confidence":"0.9"'),
        ('"kinds":[]', '"kinds":["cat"]'), ('"kinds":[]', '"kinds":[["a\\nb",0.5]]'),
        ('"score":-1.5', '"score":1e999'), ('"score":-1.5', f'"score":{10**400}'),
    ],
)  # fmt: skip
def test_rows_that_are_not_ours_are_captioned_anew(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"photo")
    image = str(tmp_path / "a.jpg")
    caption = Caption(image, (Candidate("a cat", ("a", "cat"), (-1.0, -1.0, -1.0), -3.0, -1.5),), 0.5)
    text = as_json(caption)
    assert old in text
    for row, expected in ((text.replace(old, new), image), (text, caption.text)):
        cache = CaptionCache(str(tmp_path / "kept.db"), b"model")
        with cache.connection:
            cache.connection.execute(INSERT, (b"model", look(image).content, row))
        (given,) = cache.recall([look(image)])
        assert (given.text if isinstance(given, Caption) else given) == expected
        cache.close()


@pytest.mark.parametrize("pragma", ["user_version = 7", "auto_vacuum = 1; VACUUM", "application_id = 1"])
def test_a_database_of_another_program_is_left_alone(tmp_path: Path, pragma: str) -> None:
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(f"PRAGMA {pragma}")
    before = path.read_bytes()
    assert before
    for attempt in (check_cache, lambda path: CaptionCache(path, b"model")):
        with pytest.raises(OutputError, match="a database of another program"):
            attempt(str(path))
    assert path.read_bytes() == before


def test_content_is_what_counts(tmp_path: Path) -> None:
    for name, seed in (("a.jpg", 1), ("b.png", 1), ("c.jpg", 2), ("a.nef", 1), ("A.NEF", 1)):
        (tmp_path / name).write_bytes(photo_bytes(seed))
    a, b, c, raw, raw_too = (look(str(tmp_path / n)).content for n in ("a.jpg", "b.png", "c.jpg", "a.nef", "A.NEF"))
    assert a == b
    assert raw == raw_too  # of these the preview is captioned
    assert len({a, c, raw}) == 3
    for nothing in (str(tmp_path), str(tmp_path / "absent.jpg"), "nul\0.jpg", ImageError("x.jpg", "gone")):
        looked = look(nothing)
        assert (looked.image, looked.content) == (nothing, None)


def test_what_is_alike_waits_for_the_first(tmp_path: Path) -> None:
    first, other = map(str, make_photos(tmp_path, 2))
    copy, third = tmp_path / "copy.jpg", tmp_path / "third.jpg"
    for path in (copy, third):
        path.write_bytes(Path(first).read_bytes())
    cache = CaptionCache(str(tmp_path / "kept.db"), ONE)
    error = ImageError("gone.jpg", "gone")
    names = given(cache, first, str(copy), other, error, str(third))
    assert [names[0], *names[2:4]] == [first, other, error]
    assert isinstance(names[1], Caption)
    assert results(cache, said(first), names[1], said(other, "a dog"), error, names[4]) == [  # type: ignore[arg-type]
        *map(plain, (said(first), said(str(copy)), said(other, "a dog"), error, said(str(third))))
    ]
    (known,) = given(cache, str(third))
    assert plain(known) == plain(said(str(third)))  # type: ignore[arg-type]
    assert results(cache, known) == [plain(known)]  # type: ignore[arg-type]
    assert cache.recalled == 3
    cache.close()


def test_failures_are_shared_and_not_kept(tmp_path: Path) -> None:
    first, copy = tmp_path / "a.jpg", tmp_path / "b.jpg"
    for path in (first, copy):
        path.write_bytes(b"no photo")
    cache = CaptionCache(str(tmp_path / "kept.db"), ONE)
    for _ in range(2):
        names = given(cache, str(first), str(copy))
        assert names[0] == str(first)
        failure = ImageError(str(first), "no photo")
        found = results(cache, failure, names[1])  # type: ignore[arg-type]
        assert found == [(str(first), "no photo"), (str(copy), "no photo")]
    assert (cache.recalled, cache.failed) == (0, False)
    cache.close()


def test_models_are_kept_apart_and_one_that_only_writes_reads_nothing(tmp_path: Path) -> None:
    (photo,) = map(str, make_photos(tmp_path, 1))
    path = str(tmp_path / "kept.db")
    for model, text in ((ONE, "a cat"), (OTHER, "a dog")):
        cache = CaptionCache(path, model)
        assert given(cache, photo) == [photo]
        results(cache, said(photo, text))
        cache.close()
    for model, text in ((ONE, "a cat"), (OTHER, "a dog")):
        cache = CaptionCache(path, model)
        assert [caption.text for caption in given(cache, photo)] == [text]  # type: ignore[attr-defined]
        cache.close()
    cache = CaptionCache(path, ONE, reads=False)
    assert given(cache, photo, photo) == [photo, photo]
    results(cache, said(photo, "a cow"), said(photo, "a cow"))
    cache.close()
    cache = CaptionCache(path, ONE)
    assert [caption.text for caption in given(cache, photo)] == ["a cow"]  # type: ignore[attr-defined]
    cache.close()


def test_names_that_mean_something_to_sqlite_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "file:a.db", "a b?mode=ro#.db"):
        CaptionCache(name, ONE).close()
        assert (tmp_path / name).stat().st_size


def test_many_may_begin_and_write_at_once(tmp_path: Path) -> None:
    photos = list(map(str, make_photos(tmp_path, 8)))
    failures: list[object] = []

    def write(photo: str) -> None:
        cache = CaptionCache(str(tmp_path / "kept.db"), ONE, tell=failures.append)
        for image in photos:
            given(cache, image)
            results(cache, said(image, photo))
        failures.extend([cache.failed] if cache.failed else [])
        cache.close()

    threads = [threading.Thread(target=write, args=(photo,)) for photo in photos]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    database = sqlite3.connect(tmp_path / "kept.db")
    assert database.execute("SELECT count(*) FROM captions").fetchall() == [(8,)]
    database.close()
