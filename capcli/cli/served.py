"""The models that `capcli serve` captions with: the one that was asked for, and the one that is taught on its page."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.cli.loading import load_captioner
from capcli.cli.messages import say

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.cli.options import ModelOptions
    from capcli.outputs.cache import CaptionCache
    from capcli.serve.album import Album
    from capcli.serve.teaching import Loaded, Teaching


def first_captioner(options: ModelOptions, max_pixels: int | None, taught: Path | None) -> tuple[Captioner, bool]:
    """Return the captioner to begin with, and whether it is the taught one, which the page chose; or exit with a line.

    max_pixels: as `load_captioner` takes it.
    taught: folder of the model that the page teaches; None without a page that does.
    """
    from capcli.serve.teaching import is_chosen

    chosen = taught is not None and options.model is None and is_chosen(taught)
    if chosen:
        say(f"captions by {taught}, as chosen on the page; --model bundled goes back")
        options = replace(options, model=str(taught))
    captioner = load_captioner(options, max_pixels)
    make_ready(captioner)
    return captioner, chosen


def make_ready(captioner: Captioner) -> None:
    """Give a captioner its threads, and load what it needs."""
    from capcli.cli.process import one_core_per_batch

    one_core_per_batch(captioner, captioner.options)
    captioner.engine.prepare()


def teaching_of(album: Album, command: str, options: ModelOptions, taught: Path, chosen: bool) -> Teaching:
    """Return a page's teaching, whose loader opens either model.

    command: teaches what the album saves; run in a process of its own.
    options: name the model as it was before.
    taught: folder of the taught model.
    chosen: whether the server begins with the taught model.
    """
    from capcli.captioner import Captioner
    from capcli.checkpoints.store import ModelError
    from capcli.serve.limits import Refusal
    from capcli.serve.teaching import Teaching

    def load(wants_taught: bool) -> Loaded:
        name = str(taught) if wants_taught else options.model
        try:
            captioner = Captioner.load(name, options.device, options.precision, engine=options.engine)
        except (ModelError, ValueError) as error:
            raise Refusal(500, str(error)) from None
        make_ready(captioner)
        return captioner, open_cache(album, captioner)

    program = [sys.executable, "-m", *shlex.split(command)]
    return Teaching(taught, program, options.model or "bundled", load, chosen)


def open_cache(album: Album, captioner: Captioner) -> CaptionCache | None:
    """Return the cache of an album's captions, beside its list; None, after a line, where it cannot be used."""
    from capcli.files import OutputError
    from capcli.outputs.cache import CaptionCache
    from capcli.serve.album import CANDIDATES

    path = album.corrections.path.with_name(f".{album.corrections.path.name}.cache")
    try:
        return CaptionCache(str(path), captioner.fingerprint(CANDIDATES, captioner.options), tell=say)
    except (OutputError, OSError) as error:
        say(f"{error}; captions are not kept for the next start")
    return None
