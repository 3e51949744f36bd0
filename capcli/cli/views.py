"""The views of a caption's attention that a command asks for: terminal, page and folders."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.cli.loading import require_attention
from capcli.cli.messages import fail, say

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.results import Caption, ImageError


@contextmanager
def open_views(
    captioner: Captioner,
    attention: Path | None,
    attention_size: int,
    attention_style: str,
    attention_scale: str,
    smooth: bool,
    gif: bool,
    show: bool,
    html: Path | None,
    num: int,
    overwrite: bool,
) -> Iterator[Callable[[Caption | ImageError], list[ImageError]]]:
    """A function that puts a result into every wanted view of the attention and returns what went wrong with it.

    Says what is wrong with the options before any work, and completes what was begun however the block is left. The
    function raises OutputError where nothing more can be written.
    """
    if not (attention or show or html):
        yield lambda result: []
        return
    from capcli.cli.run import collecting
    from capcli.files import OutputError
    from capcli.maps.folders import AttentionFolders
    from capcli.maps.overlay import SCALES, STYLES, OverlayOptions
    from capcli.maps.terminal import TerminalPictures, why_not
    from capcli.outputs.resume import check_output

    for option, value, known in (
        ("--attention-style", attention_style, STYLES),
        ("--attention-scale", attention_scale, SCALES),
    ):
        if value not in known:
            fail(f"{option} {value}: not one of {', '.join(known)}")
    if attention or show:
        require_attention(captioner, "--attention" if attention else "--show")
    if show and (reason := why_not(sys.stdout)):
        say(f"--show draws nothing: {reason}")
        show = False
    options = OverlayOptions(attention_size, attention_style, attention_scale, smooth, gif)

    views: list[TerminalPictures | AttentionFolders | HtmlReport] = []

    def put(result: Caption | ImageError) -> list[ImageError]:
        errors: list[ImageError] = []
        for opened in views:
            with collecting(errors, result.path, about=opened.path):
                opened.write(result)
        return errors

    def close(opened: AttentionFolders | HtmlReport) -> None:
        try:
            opened.close()
        except OutputError as error:
            fail(error, 1)

    with ExitStack() as stack:
        try:
            if show:
                views.append(TerminalPictures(sys.stdout, options))
            if html:
                check_output(html, "html", num, False, overwrite)  # another run may have made it meanwhile
                from capcli.maps.page import HtmlReport  # here, as nothing else needs Jinja

                page = HtmlReport(html, options, num)
                stack.callback(close, page)
                views.append(page)
            if attention:
                folders = AttentionFolders(attention, options, overwrite)
                stack.callback(close, folders)
                views.append(folders)
        except OutputError as error:
            fail(error)
        except OSError as error:
            fail(OutputError(error.filename or attention or "", error))
        yield put
