"""A folder per image: a picture per word, contact sheet, animation, and weights as JSON."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from capcli.files import LockedFolder, write_whole
from capcli.images.decode import STANDARD_INPUT
from capcli.images.drawn import ANIMATION, RECORD, SHEET, drawn_pictures, picture_names, read_record, safe_name
from capcli.locks import TEMPORARY
from capcli.maps.overlay import OverlayOptions, draw_overlay, heatmaps
from capcli.maps.photo import photo_of
from capcli.maps.sheet import animate, contact_sheet, encode
from capcli.outputs.formats import dump
from capcli.outputs.sink import Sink
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.results import Candidate, Caption


def attention_record(path: str, candidate: Candidate) -> dict[str, Any]:
    """Return `{"path", "caption", "grid": [rows, columns], "words": [{"word", "log_prob", "gate", "weights"}]}`.

    A word's weights are row by row and sum to 1. Without attention, grid and weights are None; without a gate, gate is.

    path: of the image.
    """
    weights: list[list[float] | None] = [None] * len(candidate.words)
    grid = None
    if candidate.attention is not None:
        exact = candidate.attention.astype(float)
        grid = list(exact.shape[1:])
        weights = [[round(w, 7) for w in (each / each.sum()).flatten().tolist()] for each in exact]
    gates = [None] * len(weights) if candidate.gates is None else [round(g, 4) for g in candidate.gates.tolist()]
    words = [
        {"word": word, "log_prob": round(log_prob, 4), "gate": gate, "weights": each}
        for word, log_prob, gate, each in zip(candidate.words, candidate.word_log_probs, gates, weights, strict=False)
    ]
    return {"path": path, "caption": candidate.text, "grid": grid, "words": words}


def write_overlays(candidate: Candidate, photo: Image.Image, path: str, folder: Path, options: OverlayOptions) -> None:
    """Write attention.json, `00_word.png` …, attention.png and, if asked for, attention.gif into a folder.

    Each is written completely or not at all; pictures of an earlier caption are removed.

    photo: upright, RGB, no side longer than options.size.
    path: of the image, for attention.json.
    folder: must exist.

    Raises OSError if a file cannot be written, and ValueError without attention.
    """
    names = picture_names(candidate.words)
    # Before the record that names them is replaced, so that a killed run leaves no unrecorded picture.
    for old in drawn_pictures(folder) - {*names, SHEET, *([ANIMATION] if options.gif else [])}:
        (folder / old).unlink(missing_ok=True)
    # Before the pictures, as it marks the folder as this image's.
    write_whole(folder / RECORD, (dump(attention_record(path, candidate)) + "\n").encode(), durable=False)
    overlays = [
        draw_overlay(photo, heat, candidate.cell_offset, options.style, options.smooth)
        for heat in heatmaps(candidate, options.scale)
    ]
    for name, overlay in zip(names, overlays, strict=True):
        write_whole(folder / name, encode(overlay), durable=False)
    sheet = contact_sheet(photo, overlays, candidate.words, candidate.word_log_probs, candidate.text)
    write_whole(folder / SHEET, encode(sheet), durable=False)
    if options.gif:
        write_whole(folder / ANIMATION, animate(photo, overlays, candidate.words), durable=False)


class AttentionFolders(Sink):
    """Write a folder of overlays per caption, named after its image; one run at a time."""

    path: Path

    def __init__(self, folder: Path, options: OverlayOptions, replace: bool = False) -> None:
        """Create the parent folder, if need be, and lock it.

        replace: whether to replace an image's existing overlays.

        Raises OSError, also if another run writes into it.
        """
        self.path, self.options, self.replace, self.photo_side = folder, options, replace, options.size
        self.names_used: set[str] = set()
        self.numbers: dict[str, int] = {}
        self.lock = LockedFolder(folder)

    def write(self, result: Caption | ImageError) -> None:
        """Draw a caption's overlays, and nothing for a failure.

        Raises ImageError if the image is no longer readable, or its overlays must not be replaced, and OSError if they
        cannot be written.
        """
        if not isinstance(result, ImageError):
            photo = photo_of(result, self.options.size)
            write_overlays(result.best, photo, result.path, self.claim(result.path), self.options)

    def claim(self, path: str) -> Path:
        """Return a folder for one image alone: the one from an earlier run, `name` or, if taken, `name-2`, ….

        path: of the image.

        Raises ImageError if its overlays exist and must not be replaced, and OSError if no folder can be created.
        """
        base = "stdin" if path == STANDARD_INPUT else safe_name(Path(path).stem)
        for number in itertools.count(self.numbers.get(base.casefold(), 1)):
            folder = self.path / (base if number == 1 else f"{base}-{number}")
            if folder.name.casefold() in self.names_used:
                continue
            try:
                folder.mkdir()
            except FileExistsError:
                if (read_record(folder) or {}).get("path") != path and not is_abandoned(folder):
                    continue
                if not self.replace and (folder / SHEET).exists():  # or they were never finished
                    raise ImageError(path, "its overlays exist; use --existing overwrite, or another folder") from None
            self.numbers[base.casefold()] = number + 1
            self.names_used.add(folder.name.casefold())
            return folder
        raise AssertionError  # count() has no end

    def close(self) -> None:
        """Unlock the folder; if it was created for nothing, remove it."""
        self.lock.close()


def is_abandoned(folder: Path) -> bool:
    """Return whether a folder holds only a killed run's unfinished files."""
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return bool(names) and all(map(TEMPORARY.fullmatch, names))
