import errno
import itertools
import os
import re
import sys
from pathlib import Path

import pytest
from fakes import Found
from PIL import Image

from capcli.files import OutputError
from capcli.maps.folders import AttentionFolders
from capcli.maps.overlay import OverlayOptions
from capcli.outputs.existing import combine
from capcli.outputs.metadata import Metadata
from capcli.outputs.originals import HARD_LINKED, LEADS_OUT, READ_ONLY
from capcli.outputs.sidecars import Sidecars, common_root
from capcli.outputs.template import Template
from capcli.results import ImageError


def test_what_becomes_of_captions_already_there() -> None:
    for existing in ("skip", "overwrite", "append", "prepend", "fail"):
        assert combine("", "a cat", existing) == "a cat"
    assert combine("tags", "a cat", "skip") == "tags"
    assert combine("tags", "a cat", "overwrite") == "a cat"
    assert combine("tags", "a cat", "append") == "tags, a cat"
    assert combine("tags", "a cat", "prepend") == "a cat, tags"


@pytest.mark.parametrize("existing", ["append", "prepend"])
@pytest.mark.parametrize("old", ["", "tags", "My cat Tom.", "a cat!", "A cat."])
@pytest.mark.parametrize("new", ["a cat", "a cat!", "A cat.", "a cat. It sleeps."])
def test_adding_twice_is_adding_once(old: str, new: str, existing: str) -> None:
    """Also where the caption makes a sentence of the text that it is added to."""
    once = combine(old, new, existing)
    assert combine(once, new, existing) == once


@pytest.mark.parametrize("existing", ["skip", "overwrite", "append", "prepend"])
def test_doing_it_again_changes_nothing(existing: str) -> None:
    once = combine("tags", "a cat", existing)
    assert combine(once, "a cat", existing) == once


def test_after_a_sentence_a_caption_is_a_sentence() -> None:
    assert combine("My cat Tom.", "a cat", "append") == "My cat Tom. A cat."
    assert combine("My cat Tom!”", "a cat?", "append") == "My cat Tom!” A cat?"
    assert combine("My cat Tom.", "a cat", "prepend") == "A cat. My cat Tom."
    assert combine("A cat.", "a cat", "append") == "A cat."
    assert combine("My cat Tom.", "a cat\na dog", "append") == "My cat Tom., a cat\na dog"
    for existing in ("append", "prepend"):
        once = combine("My cat Tom.", "a cat", existing)
        assert combine(once, "a cat", existing) == once


def test_a_separator_of_ones_own_is_taken_as_it_is() -> None:
    assert combine("My cat Tom.", "a cat", "append", "\n") == "My cat Tom.\na cat"
    assert combine("tags", "a cat", "prepend", " | ") == "a cat | tags"
    assert combine("tags | a cat", "a cat", "append", " | ") == "tags | a cat"


def test_a_template_puts_the_text_that_is_there_into_its_place(tmp_path: Path) -> None:
    image = str(tmp_path / "a.jpg")
    sidecars = Sidecars("overwrite", Template("{caption}; {existing} (mine)"))
    sidecars.write(Found(image, "a cat"))  # type: ignore[arg-type]
    assert (tmp_path / "a.txt").read_text() == "a cat;  (mine)\n"
    for template, text in (
        ("{existing}, {caption}", "Tom, a cat"),  # where it is already, it is not put in again
        ("{caption}: {existing}", "a cat: Tom, a cat"),
        ("{existing}", "a cat: Tom, a cat"),
    ):
        (tmp_path / "a.txt").write_text("Tom\n") if "Tom" not in (tmp_path / "a.txt").read_text() else None
        sidecars = Sidecars("overwrite", Template(template))
        for _ in range(2):
            sidecars.write(Found(image, "a cat"))  # type: ignore[arg-type]
            assert (tmp_path / "a.txt").read_text() == text + "\n"
        assert sidecars.replaced == 0
    (tmp_path / "a.txt").unlink()
    Sidecars("overwrite", Template("{existing}, {caption}")).write(Found(image, "a cat"))  # type: ignore[arg-type]
    assert (tmp_path / "a.txt").read_text() == "a cat\n"


def test_sidecars_end_as_they_are_told(tmp_path: Path) -> None:
    image = str(tmp_path / "a.jpg")
    found = Found(image, "a cat", candidates=[Found(image, "a cat"), Found(image, "a dog")])
    Sidecars(num=2, ending=".caption", separator=" / ").write(found)  # type: ignore[arg-type]
    assert (tmp_path / "a.caption").read_text() == "a cat / a dog\n"
    Sidecars(num=2, tree=str(tmp_path / "b"), root=str(tmp_path), ending=".cap").write(found)  # type: ignore[arg-type]
    assert (tmp_path / "b" / "a.cap").read_text() == "a cat\na dog\n"


def test_sidecars_are_written_beside_the_images(tmp_path: Path) -> None:
    image = str(tmp_path / "a.b.jpg")
    sidecars = Sidecars(template=Template("{caption}, photo"))
    assert sidecars.wants(image)
    sidecars.write(Found(image, "a cat"))  # type: ignore[arg-type]
    assert (tmp_path / "a.b.txt").read_text() == "a cat, photo\n"
    assert not sidecars.wants(image)
    assert os.listdir(tmp_path) == ["a.b.txt"]
    (tmp_path / "a.b.txt").write_text("")
    assert sidecars.wants(image)  # an empty file holds no caption
    (tmp_path / "a.b.txt").write_text("mine")
    sidecars.write(Found(image, "a cat"))  # type: ignore[arg-type]
    assert (tmp_path / "a.b.txt").read_text() == "mine"
    with pytest.raises(ImageError, match=r"a\.b\.txt exists"):
        Sidecars("fail").wants(image)
    Sidecars("append").write(Found(image, "a cat"))  # type: ignore[arg-type]
    assert (tmp_path / "a.b.txt").read_text() == "mine, a cat\n"


def test_keywords_have_a_place_in_the_template(tmp_path: Path) -> None:
    found = Found(str(tmp_path / "a.jpg"), "a cat", keywords=("cat", "sofa"))
    Sidecars(template=Template("{caption}, {keywords}")).write(found)  # type: ignore[arg-type]
    assert (tmp_path / "a.txt").read_text() == "a cat, cat, sofa\n"


def test_candidates_take_a_line_each(tmp_path: Path) -> None:
    image = str(tmp_path / "a.jpg")
    one, two, three = (Found(image, text, score) for text, score in (("one", -1), ("two", -2), ("three", -3)))
    one.candidates = [one, two, three]
    Sidecars(num=3).write(one)  # type: ignore[arg-type]
    assert (tmp_path / "a.txt").read_text() == "one\ntwo\nthree\n"


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are of another kind here")
def test_a_sidecar_keeps_its_permissions_and_its_link(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    real, link = tmp_path / "texts" / "a.txt", tmp_path / "a.txt"
    real.write_text("mine")
    real.chmod(0o600)
    link.symlink_to(real)
    Sidecars("append").write(Found(str(tmp_path / "a.jpg"), "a cat"))  # type: ignore[arg-type]
    assert link.is_symlink()
    assert real.read_text() == "mine, a cat\n"
    assert real.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are of another kind here")
def test_a_sidecar_that_is_not_ours_to_write_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    outside = tmp_path / "outside.txt"
    for name in ("read-only", "hard-linked"):
        (folder / f"{name}.txt").write_text("mine")
    outside.write_text("mine")
    (folder / "read-only.txt").chmod(0o444)
    os.link(folder / "hard-linked.txt", tmp_path / "other.txt")
    (folder / "linked.txt").symlink_to(outside)
    for name, reason in (("read-only", READ_ONLY), ("hard-linked", HARD_LINKED), ("linked", LEADS_OUT)):
        sidecars = Sidecars("overwrite", folders=[str(folder)])
        image = str(folder / f"{name}.jpg")
        for attempt in (lambda: sidecars.wants(image), lambda: sidecars.write(Found(image, "a cat"))):  # type: ignore[arg-type] # noqa: B023
            with pytest.raises(ImageError, match=re.escape(f"{name}.txt: {reason}")):
                attempt()
        assert (folder / f"{name}.txt").read_text() == "mine"
        assert sidecars.replaced == 0
        assert Sidecars("skip").wants(image) is False  # nothing is to be written there
    assert Sidecars("append", folders=[str(tmp_path)]).wants(str(folder / "linked.jpg"))


def test_texts_that_gave_way_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    for existing, replaced in (("skip", 0), ("append", 0), ("overwrite", 1)):
        sidecars = Sidecars(existing)
        for _ in range(2):
            sidecars.write(Found(str(tmp_path / "a.jpg"), "a cat"))  # type: ignore[arg-type]
        sidecars.write(Found(str(tmp_path / "new.jpg"), "a cat"))  # type: ignore[arg-type]
        assert sidecars.replaced == replaced
        (tmp_path / "new.txt").unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="every file name is Unicode here")
def test_a_name_that_is_not_utf_8_goes_into_a_sidecar_as_it_is(tmp_path: Path) -> None:
    sidecars = Sidecars("append", Template("{name}: {caption}"))
    for _ in range(2):
        sidecars.write(Found(str(tmp_path / "a\udcff.jpg"), "a cat"))  # type: ignore[arg-type]
    assert (tmp_path / "a\udcff.txt").read_bytes() == b"a\xff: a cat\n"


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_a_sidecar_keeps_its_encoding(tmp_path: Path, codec: str) -> None:
    sidecar = tmp_path / "a.txt"
    sidecar.write_bytes("mine, é\r\n".encode(codec))
    for existing, expected in (
        ("append", "mine, é, a cat"), ("prepend", "a cat, mine, é, a cat"), ("prepend", "a cat, mine, é, a cat"),
    ):  # fmt: skip
        Sidecars(existing).write(Found(str(tmp_path / "a.jpg"), "a cat"))  # type: ignore[arg-type]
        assert sidecar.read_bytes() == (expected + "\n").encode(codec)
    Sidecars("overwrite").write(Found(str(tmp_path / "a.jpg"), "a dog"))  # type: ignore[arg-type]
    assert sidecar.read_bytes() == b"a dog\n"


def test_encodings_are_not_mixed(tmp_path: Path) -> None:
    sidecar = tmp_path / "a.txt"
    sidecar.write_bytes("mine, é".encode("cp1252"))
    Sidecars("append").write(Found(str(tmp_path / "a.jpg"), "a cat"))  # type: ignore[arg-type]
    assert sidecar.read_bytes() == "mine, é, a cat\n".encode("cp1252")
    with pytest.raises(ImageError, match="not UTF-8, and the caption would be"):
        Sidecars("append").write(Found(str(tmp_path / "a.jpg"), "a café"))  # type: ignore[arg-type]
    assert sidecar.read_bytes() == "mine, é, a cat\n".encode("cp1252")


def test_what_is_no_text_is_no_sidecar(tmp_path: Path) -> None:
    sidecar = tmp_path / "a.txt"
    Image.new("RGB", (8, 8)).save(sidecar, "PNG")
    for content in (sidecar.read_bytes(), "mine".encode("utf-16-le"), b"\xff\xfe\0"):
        sidecar.write_bytes(content)
        for existing in ("overwrite", "append"):
            sidecars = Sidecars(existing)
            for attempt in (sidecars.wants, lambda image: sidecars.write(Found(image, "a cat"))):  # type: ignore[arg-type] # noqa: B023
                with pytest.raises(ImageError, match="not a text file"):
                    attempt(str(tmp_path / "a.jpg"))
            assert sidecar.read_bytes() == content


def test_two_images_never_share_a_sidecar(tmp_path: Path) -> None:
    sidecars = Sidecars("overwrite")
    assert sidecars.wants(str(tmp_path / "a.jpg"))
    assert sidecars.wants(str(tmp_path / "a.jpg"))
    assert sidecars.wants(str(tmp_path / "b" / "c.jpg"))  # folders may take turns
    assert sidecars.wants(str(tmp_path / "a.jpg"))
    with pytest.raises(ImageError, match=r"it would share its sidecar .* with .*a\.jpg"):
        sidecars.wants(str(tmp_path / "a.png"))
    with pytest.raises(ImageError, match="an image from stdin cannot have a sidecar"):
        sidecars.wants("-")
    with pytest.raises(ImageError, match="it would be its own sidecar"):
        sidecars.wants(str(tmp_path / "picture.txt"))


def test_a_sidecar_has_one_owner_however_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sidecars = Sidecars("overwrite")
    sidecars.keep_off("./c.txt", "--output")
    assert sidecars.wants("a.jpg")
    assert sidecars.wants("./a.jpg")  # the same image
    for image in ("a.png", "./a.png", str(tmp_path / "a.png")):
        with pytest.raises(ImageError, match=r"it would share its sidecar .*a\.txt with a\.jpg"):
            sidecars.wants(image)
    with pytest.raises(ImageError, match=r"it would share its sidecar .*c\.txt with --output"):
        sidecars.wants("c.jpg")


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX")
def test_what_is_no_file_is_no_sidecar(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")  # nobody writes to it
    os.symlink("a.txt", tmp_path / "b.txt")
    (tmp_path / "c.txt").mkdir()
    for name, existing in itertools.product("abc", ("overwrite", "append")):
        with pytest.raises(ImageError, match="not a regular file"):
            Sidecars(existing).wants(str(tmp_path / f"{name}.jpg"))


def test_a_folder_that_was_taken_away_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file or directory"):
        Sidecars().write(Found(str(tmp_path / "gone" / "a.jpg"), "a cat"))  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_another_tree_mirrors_the_images(tmp_path: Path) -> None:
    photos, tree = tmp_path / "photos", tmp_path / "tree"
    (photos / "sub").mkdir(parents=True)
    sidecars = Sidecars(tree=str(tree), root=common_root([str(photos)]))
    sidecars.write(Found(str(photos / "sub" / "a.jpg"), "a cat"))  # type: ignore[arg-type]
    assert (tree / "sub" / "a.txt").read_text() == "a cat\n"
    elsewhere = sidecars.sidecar("/elsewhere/b.jpg")
    assert elsewhere == str(tree / "elsewhere" / "b.txt")


def test_the_root_is_what_holds_everything(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "x.jpg").touch()
    assert common_root([str(tmp_path / "a")]) == str(tmp_path / "a")
    assert common_root([str(tmp_path / "a" / "x.jpg")]) == str(tmp_path / "a")
    assert common_root([str(tmp_path / "a" / "*.jpg"), str(tmp_path / "b")]) == str(tmp_path)
    assert common_root([]) == os.getcwd()


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, OutputError), (errno.EACCES, ImageError)])
def test_a_full_disk_ends_the_run_and_a_closed_folder_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(kind, match=r"a\.txt: " + os.strerror(number).lower()):
        Sidecars().write(Found(str(tmp_path / "a.jpg"), "a cat"))  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_folders_into_which_nothing_can_be_put_are_known_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = str(tmp_path / "closed")
    for folder in ("closed", "open"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / folder / "a.png")
    access = os.access
    # As for someone who is not root.
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(closed) and access(path, mode))
    image = os.path.join(closed, "a.png")
    places = [
        (Sidecars(), f"{closed}/a.txt: its folder cannot be written to"),
        (Sidecars(tree=os.path.join(closed, "new"), root=str(tmp_path)), "its folder cannot be written to"),
        (Metadata(), "its folder cannot be written to"),
    ]
    for place, reason in places:
        with pytest.raises(ImageError, match=reason) as error:
            place.wants(image)
        assert error.value.kind == "its folder cannot be written to"
    for place in (Sidecars(), Sidecars(tree=str(tmp_path / "open" / "new" / "tree"), root=closed), Metadata()):
        assert place.wants(str(tmp_path / "open" / "a.png"))
    (tmp_path / "closed" / "a.txt").write_text("mine")
    assert not Sidecars().wants(image)  # nothing is to be put there
    really_open = os.open

    def open_as_another(path: str, *rest: int) -> int:
        if str(path).startswith(closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return really_open(path, *rest)

    monkeypatch.setattr(os, "open", open_as_another)
    with pytest.raises(PermissionError, match=r"closed'$"):
        AttentionFolders(tmp_path / "closed", OverlayOptions())
