"""Captioning folders, as a user does it."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from folders import capcli, capcli_apart, captions, make_photos, photo_bytes, rows
from PIL import Image
from typer.testing import CliRunner

from capcli.cli.app import app
from capcli.outputs.existing import FIELDS
from capcli.outputs.metadata import read_caption, read_image
from capcli.outputs.metadata.texts import ShownTexts
from capcli.outputs.metadata.xmp import texts

FULL = bool(os.environ.get("CAPCLI_FULL_TESTS"))


def test_a_folder_in_every_format(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 12)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"not a photo")
    (tmp_path / "photos" / "sub").mkdir()
    (tmp_path / "photos" / "sub" / "x.png").write_bytes(photo_bytes(99, "PNG"))
    (tmp_path / "photos" / "notes.txt").touch()
    order = [str(p) for p in (photos[0].with_name("bad.jpg"), *photos, tmp_path / "photos" / "sub" / "x.png")]
    done = capcli(tmp_path / "photos", "--model", tiny_checkpoint, "--format", "jsonl")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["path"] for row in found] == order
    assert found[0] == {"path": order[0], "error": "not an image in a format that can be read"}
    assert all(row.keys() == {"path", "caption", "log_prob", "score"} for row in found[1:])
    assert len({row["caption"] for row in found[1:]}) > 2
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"capcli: {order[0]}: not an image in a format that can be read",
        "capcli: 1 of 14 images failed",
        "capcli:     1 × not an image in a format that can be read",
    ]
    for name in ("out.txt", "out.tsv", "out.json"):
        output = tmp_path / name
        done = capcli(tmp_path / "photos", "--model", tiny_checkpoint, "-o", output, "--quiet")
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1
        text = output.read_text()
        if name == "out.txt":
            assert text.splitlines() == [f"{row['path']}\t{row['caption']}" for row in found[1:]]
        elif name == "out.json":
            assert [row.get("caption") for row in json.loads(text)] == [row.get("caption") for row in found]
        else:
            table = list(csv.DictReader(text.splitlines(), delimiter="\t"))
            assert [row["caption"] or None for row in table] == [row.get("caption") for row in found]
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_captions_do_not_depend_on_what_else_is_in_the_batch(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 30)
    for size in (1, 7):
        capcli(tmp_path / "photos", "--model", tiny_checkpoint, "-o", tmp_path / f"{size}.jsonl", "--batch-size", size)
    assert captions(tmp_path / "1.jsonl") == captions(tmp_path / "7.jsonl")
    assert list(captions(tmp_path / "1.jsonl")) == [str(p) for p in photos]


@pytest.mark.slow
def test_names_from_a_list_and_what_is_chosen_from_a_folder(tiny_checkpoint: Path, tmp_path: Path) -> None:
    odd = ["quote'\".jpg", "new\nline.jpg", "emoji 🐈.jpg", "tab\t.jpg", os.fsdecode(b"byte\xff.jpg"), " -x.jpg"]
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(odd):
        (folder / name).write_bytes(photo_bytes(i))
    names = b"".join(os.fsencode(folder / name) + b"\0" for name in [*odd, "gone\n\x1b[31m.jpg"])
    done = capcli_apart(
        "--files-from", "-", "--model", tiny_checkpoint, "--format", "jsonl",
        input=names.decode(errors="surrogateescape"),
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["path"] for row in found] == [str(folder / name) for name in [*odd, "gone\n\x1b[31m.jpg"]]
    assert [row.get("error") for row in found] == [None] * 6 + ["no such file or directory"]
    assert done.stderr.splitlines()[0] == f"capcli: {folder}/gone\\n\\x1b[31m.jpg: no such file or directory"
    # The same by a folder, into a table, and then once more with --resume: nothing is left to do.
    table = tmp_path / "out.csv"
    for resume in ((), ("--resume",)):
        done = capcli_apart(folder, "--model", tiny_checkpoint, "-o", table, "--exclude", "emoji*", *resume)
        assert done.returncode == 0, done.stderr
        with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            assert {row["path"] for row in csv.DictReader(file)} == {str(folder / n) for n in odd if "emoji" not in n}
    assert done.stderr == "capcli: 5 images skipped: already captioned\n"


def test_sidecars_templates_and_metadata(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 4)
    (tmp_path / "photos" / "photo1.txt").write_text("my own words\n")
    (tmp_path / "photos" / "anim.gif").write_bytes(photo_bytes(5, "GIF"))
    common = (tmp_path / "photos", "--model", tiny_checkpoint)
    done = capcli(*common, "--sidecar", "--template", "{caption}, photo", "--include", "*.jpg")
    assert done.returncode == 0, done.stderr
    printed = dict(line.split("\t") for line in done.stdout.splitlines())
    assert list(printed) == [str(photos[i]) for i in (0, 2, 3)]
    assert done.stderr == "capcli: 1 image skipped: already captioned\n"
    for i in (0, 2, 3):
        text = photos[i].with_suffix(".txt").read_text()
        assert text == printed[str(photos[i])] + "\n"
        assert text.endswith(", photo\n")
    assert photos[1].with_suffix(".txt").read_text() == "my own words\n"

    done = capcli(*common, "--sidecar", "--output-dir", tmp_path / "tree", "--write-metadata", "-q")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"capcli: {tmp_path / 'photos' / 'anim.gif'}: captions can be written into JPEG, PNG, WebP and TIFF files "
        "only; with --xmp they go beside any image"
    ]
    for photo in photos:
        assert read_caption(str(photo)) + "\n" == (tmp_path / "tree" / photo.name).with_suffix(".txt").read_text()

    done = capcli(*common, "--sidecar", "--existing", "prepend", "--include", "photo1*", "-q")
    assert done.returncode == 0
    assert photos[1].with_suffix(".txt").read_text() == done.stdout.split("\t")[1].strip() + ", my own words\n"


def test_xmp_sidecars(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 2)
    anim = tmp_path / "photos" / "anim.gif"
    anim.write_bytes(photo_bytes(5, "GIF"))
    twin = photos[1].with_suffix(".png")
    twin.write_bytes(photo_bytes(6, "PNG"))
    common = (tmp_path / "photos", "--model", tiny_checkpoint)
    listed = capcli(*common, "--xmp", "--dry-run")
    assert f"caption\t{anim}\tstandard output, {anim}.xmp" in listed.stdout.splitlines()
    done = capcli(*common, "--xmp", "--template", "{name}: {caption}", "--include", "photo*", "--write-metadata")
    assert (done.returncode, done.stderr) == (0, "")
    for photo in (*photos, twin):
        packet = Path(f"{photo}.xmp").read_bytes()
        description, by, _ = texts(packet)
        assert (description.text, by.text[:12]) == (read_caption(str(photo)), "capcli tiny ")
    done = capcli(*common, "--xmp", "--summary", tmp_path / "summary.json")
    assert done.stderr == "capcli: 3 images skipped: already captioned\n"
    skipped = json.loads((tmp_path / "summary.json").read_text())["skipped"]
    assert {"path": str(photos[0]), "reason": f"already captioned in {photos[0]}.xmp"} in skipped

    Path(f"{photos[0]}.xmp").write_bytes(b"mine")
    done = capcli(*common, "--xmp", "--existing", "overwrite")
    assert done.returncode == 1
    assert f"capcli: {photos[0]}: {photos[0]}.xmp: damaged XMP\n" in done.stderr
    assert "capcli: 2 earlier captions replaced\n" in done.stderr
    assert Path(f"{photos[0]}.xmp").read_bytes() == b"mine"

    done = capcli(*common, "--xmp-adobe", "--existing", "overwrite")
    assert done.returncode == 1
    assert f"it would share its sidecar {photos[1].with_suffix('.xmp')} with {photos[1]}\n" in done.stderr
    Path(f"{anim}.xmp").unlink()
    refused = capcli(*common, "--xmp", "-o", f"{anim}.xmp", "--format", "text", "--include", "*.gif")
    assert f"it would share its sidecar {anim}.xmp with --output\n" in refused.stderr


def test_keywords_and_fields(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 3)
    common = (tmp_path / "photos", "--model", tiny_checkpoint, "-q")
    plain = capcli(*common, "--format", "jsonl")
    done = capcli(*common, "--keywords", 9, "-o", tmp_path / "a.jsonl")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert all(set(row["keywords"]) <= {"cat", "dog", "man", "grass", "t-shirt"} for row in found)
    assert any(row["keywords"] for row in found)
    # The captions are those of a run without keywords.
    assert [{**row, "keywords": None} for row in found] == [
        {**json.loads(line), "keywords": None} for line in plain.stdout.splitlines()
    ]
    for arguments in (("--num", 2, "--keywords", 2), ("--keywords", 1)):
        limited = [json.loads(line) for line in capcli(*common, *arguments, "--format", "jsonl").stdout.splitlines()]
        assert all(len(row["keywords"]) <= 2 for row in limited)
        assert all(len(row.get("candidates", ())) in (0, 2) for row in limited)

    options = ("--sidecar", "--xmp", "--write-metadata", "--template", "{keywords}: {caption}", "--keywords", 9)
    done = capcli(*common, *options, "--fields", "alt,keywords")
    assert done.returncode == 0, done.stderr
    for photo, row in zip(photos, found, strict=True):
        text = f"{', '.join(row['keywords'])}: {row['caption']}"
        assert photo.with_suffix(".txt").read_text() == text + "\n"
        for shown in (read_image(str(photo)).shown, ShownTexts(*texts_of(Path(f"{photo}.xmp")))):
            assert shown == ShownTexts("", text, tuple(row["keywords"]))


def texts_of(sidecar: Path) -> tuple[str, str, tuple[str, ...]]:
    found = {field: [each.text for each in texts(sidecar.read_bytes()) if each.field == field] for field in FIELDS}
    return "".join(found["description"]), "".join(found["alt"]), tuple(found["keywords"])


@pytest.mark.slow
def test_names_that_are_not_utf8_cost_themselves_only(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 2)
    odd = tmp_path / "photos" / os.fsdecode(b"byte\xff.jpg")
    odd.write_bytes(photo_bytes(7))
    options = ("--write-metadata", "--sidecar", "--template", "{name}: {caption}", "--html", tmp_path / "page.html")
    done = capcli_apart(tmp_path / "photos", "--model", tiny_checkpoint, *options)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"capcli: {odd}: its name is not UTF-8, so the template cannot write it into metadata",
        "capcli: 1 of 3 images failed",
        "capcli:     1 × its name is not UTF-8, so the template cannot write it into metadata",
    ]
    assert odd.with_suffix(".txt").read_bytes().startswith(b"byte\xff: ")
    for photo in photos:
        assert read_caption(str(photo)).startswith(f"{photo.stem}: ")


def test_a_read_only_folder_is_noticed_before_captioning(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 3)
    (tmp_path / "photos").chmod(0o555)
    if os.access(tmp_path / "photos", os.W_OK):
        pytest.skip("whoever runs this may write everywhere")
    try:
        done = capcli(tmp_path / "photos", "--model", tiny_checkpoint, "--sidecar")
        moved = capcli(photos[0], "--model", tiny_checkpoint, "--sidecar", "--output-dir", tmp_path / "photos" / "new")
    finally:
        (tmp_path / "photos").chmod(0o755)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-2:] == [
        "capcli: 3 of 3 images failed",
        "capcli:     3 × its folder cannot be written to",
    ]
    assert (moved.returncode, moved.stdout) == (2, "")
    assert moved.stderr == f"capcli: --output-dir {tmp_path / 'photos' / 'new'}: cannot create files there\n"


def test_captions_and_times_of_a_person_are_kept_in_images(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    photos = make_photos(folder, 3)
    for photo, text in ((photos[0], "Grandma"), (photos[1], "SONY DSC")):
        exif = Image.Exif()
        exif[0x010E] = text
        with Image.open(photo) as image:
            image.save(photo, exif=exif)
    for photo in photos:
        os.utime(photo, (10**9, 10**9))
    common = (folder, "--model", tiny_checkpoint, "--write-metadata", "--template", "{name}: {caption}")
    done = capcli(*common)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "capcli: 1 image skipped: already captioned\n"
    assert read_caption(str(photos[0])) == "Grandma"
    assert read_caption(str(photos[1])).startswith("photo1: ")
    assert [photo.stat().st_mtime for photo in photos] == [10**9] * 3

    done = capcli(*common, "--existing", "overwrite")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "capcli: 1 earlier caption replaced\n"
    assert [photo.stat().st_mtime for photo in photos] == [10**9] * 3


def test_low_confidence_and_failures(judging_checkpoint: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 3)
    (tmp_path / "photos" / "photo1.jpg").write_bytes(b"")
    done = capcli(
        *(tmp_path / "photos", "--model", judging_checkpoint, "--format", "jsonl"),
        *("--min-confidence", "1", "--keep-unsure", "--sidecar", "--keywords", 3),
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found[0]["caption"] is None
    assert found[0]["confidence"] < 1
    assert found[0]["keywords"] == []
    assert found[1]["error"] == "the file is empty"
    assert len(found) == 3
    assert done.returncode == 1
    assert list((tmp_path / "photos").glob("*.txt")) == []
    done = capcli(
        tmp_path / "photos",
        "--model",
        judging_checkpoint,
        "--format",
        "csv",
        "--max-pixels",
        "6299",
        "--exclude",
        "*1.jpg",
    )
    assert done.returncode == 1
    assert done.stderr.count("90×70 pixels, more than the limit of 6,299\n") == 2
    assert "2 × more than the limit of 6,299\n" in done.stderr


def test_unsure_captions_go_only_where_they_are_marked_or_asked_for(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 2)
    sky = tmp_path / "photos" / "sky.png"
    Image.new("RGB", (40, 30), "skyblue").save(sky)
    common = (tmp_path / "photos", "--model", tiny_checkpoint)
    summary = tmp_path / "summary.json"
    places = ("--sidecar", "--xmp", "--write-metadata")
    done = capcli(*common, *places, "-o", tmp_path / "all.jsonl", "--summary", summary)
    assert done.returncode == 0, done.stderr
    said = "1 caption unsure: more likely wrong than right"
    assert f"capcli: {said}; left out where they cannot be marked: --keep-unsure writes them\n" in done.stderr
    counts = json.loads(summary.read_text())["counts"]
    assert (counts["captioned"], counts["unsure"], counts["unsure_left_out"]) == (3, 1, 1)
    assert [row.get("unsure", False) for row in rows(tmp_path / "all.jsonl")] == [False, False, True]
    assert rows(tmp_path / "all.jsonl")[2]["caption"]
    written = sorted(path.name for path in (tmp_path / "photos").iterdir())
    assert written == [
        "photo0.jpg",
        "photo0.jpg.xmp",
        "photo0.txt",
        "photo1.jpg",
        "photo1.jpg.xmp",
        "photo1.txt",
        "sky.png",
    ]
    assert [bool(read_caption(str(photo))) for photo in (*photos, sky)] == [True, True, False]
    # Where all of them are marked, none is left out.
    assert capcli(*common, "--format", "csv").stderr == f"capcli: {said}\n"

    text = {name: done.stdout for name, done in (("", capcli(*common)), ("keep", capcli(*common, "--keep-unsure")))}
    assert text[""].splitlines()[:2] == text["keep"].splitlines()[:2]
    assert text[""].splitlines()[2] == f"{sky}\t"
    assert len(text["keep"].splitlines()[2]) > len(f"{sky}\t")
    capcli(*common, "--format", "imagefolder", "-o", tmp_path / "photos")
    assert len((tmp_path / "photos" / "metadata.jsonl").read_text().splitlines()) == 2

    merged = CliRunner().invoke(app, ["write", str(tmp_path / "all.jsonl"), "--format", "text"])
    assert (merged.exit_code, merged.stdout) == (0, text[""])
    assert merged.stderr.endswith("capcli: 1 unsure caption left out: --keep-unsure writes them\n")

    done = capcli(*common, *places, "--existing", "overwrite", "--keep-unsure")
    assert done.returncode == 0, done.stderr
    assert sky.with_suffix(".txt").read_text().strip() == read_caption(str(sky)) == done.stdout.split("\t")[-1].strip()
    assert "left out" not in done.stderr


@pytest.mark.slow
def test_a_folder_with_bad_files_among_many(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A thousand images with 50 bad ones (CAPCLI_FULL_TESTS=1; otherwise a fifth of that)."""
    number = 950 if FULL else 190
    folder = tmp_path / "photos"
    folder.mkdir()
    formats = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
    for i in range(number):
        format = formats[i % len(formats)]
        (folder / f"{i}.{format.lower()}").write_bytes(photo_bytes(i % 60, format))
    whole, empty = photo_bytes(1), tmp_path / "gone"
    bad = {
        "empty{}.jpg": b"",
        "text{}.jpg": b"Dear diary",
        "cut{}.jpg": whole[:-300],
        "cut{}.png": photo_bytes(1, "PNG")[:-90],
        "zeros{}.jpg": bytes(5000),
    }
    for i in range(number // 95):
        for name, content in bad.items():
            (folder / name.format(i)).write_bytes(content)
    (folder / "zeros0.jpg").unlink()
    (folder / "zeros0.jpg").symlink_to(empty)
    done = capcli(folder, "--model", tiny_checkpoint, "-o", tmp_path / "out.jsonl")
    found = rows(tmp_path / "out.jsonl")
    failed = number // 95 * 5
    assert done.returncode == 1
    assert sum("caption" in row for row in found) == number
    assert sum("error" in row for row in found) == failed
    lines = done.stderr.splitlines()
    assert lines[failed] == f"capcli: {failed} of {number + failed} images failed"
    assert sum(int(line.split(" × ")[0].split()[-1]) for line in lines[failed + 1 :]) == failed
    assert done.stdout == ""
