"""The views of a caption's attention that a command asks for: terminal, page and folders."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.cli.loading import require_attention
from capcli.cli.messages import fail, say

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.outputs.sink import Sink


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
) -> Iterator[list[Sink]]:
    """Open every view of the attention that is wanted.

    Says what is wrong with the options before any work, and completes what was begun however the block is left.
    """
    if not (attention or show or html):
        yield []
        return
    from capcli.files import OutputError
    from capcli.maps.folders import AttentionFolders
    from capcli.maps.overlay import SCALES, STYLES, OverlayOptions
    from capcli.maps.terminal import TerminalPictures, why_no_pictures
    from capcli.outputs.resume import check_output

    for option, value, known in (
        ("--attention-style", attention_style, STYLES),
        ("--attention-scale", attention_scale, SCALES),
    ):
        if value not in known:
            fail(f"{option} {value}: not one of {', '.join(known)}")
    if attention or show:
        require_attention(captioner, "--attention" if attention else "--show")
    if show and (reason := why_no_pictures(sys.stdout)):
        say(f"--show draws nothing: {reason}")
        show = False
    options = OverlayOptions(attention_size, attention_style, attention_scale, smooth, gif)

    views: list[Sink] = []

    def close(opened: Sink) -> None:
        try:
            opened.close()
        except OutputError as error:
            fail(error, 1)

    with ExitStack() as stack:
        try:
            if show:
                views.append(TerminalPictures(sys.stdout, options))
            if html:
                check_output(html, overwrite)  # another run may have made it meanwhile
                from capcli.maps.page import HtmlReport  # here, as nothing else needs Jinja

                views.append(HtmlReport(html, options, num))
                stack.callback(close, views[-1])
            if attention:
                views.append(AttentionFolders(attention, options, overwrite))
                stack.callback(close, views[-1])
        except OutputError as error:
            fail(error)
        except OSError as error:
            fail(OutputError(error.filename or attention or "", error))
        yield views
