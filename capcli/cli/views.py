"""The views of attention that a command can open: terminal, page and folders."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from capcli.cli.loading import require_attention
from capcli.cli.messages import fail, fail_to_open, say

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.cli.options import Views
    from capcli.outputs.sink import Sink
    from capcli.results import Caption


@contextmanager
def open_views(
    captioner: Captioner | None,
    wanted: Views,
    num: int,
    overwrite: bool,
    show_own: Callable[[Caption], dict[str, Any]] | None = None,
) -> Iterator[list[Sink]]:
    """Open the views asked for, and complete them when the block ends, whatever the reason.

    captioner: None where captions have no attention, and only the page is wanted.
    wanted: one that cannot be shown ends the program with a line.
    num: candidates per image, 1 or more.
    overwrite: replace an existing page or overlays.
    show_own: as in `HtmlReport`.
    """
    attention, html, show = wanted.attention, wanted.html, wanted.show
    if not (attention or show or html):
        yield []
        return
    from capcli.files import OutputError
    from capcli.maps.folders import AttentionFolders
    from capcli.maps.overlay import OverlayOptions
    from capcli.maps.terminal import TerminalPictures, why_no_pictures
    from capcli.outputs.resume import check_output

    if captioner is not None and (attention or show):
        require_attention(captioner, "--attention" if attention else "--show")
    if show and (reason := why_no_pictures(sys.stdout)):
        say(f"--show draws nothing: {reason}")
        show = False
    options = OverlayOptions()
    views: list[Sink] = []
    with ExitStack() as stack:
        try:
            if show:
                views.append(TerminalPictures(sys.stdout, options))
            if html:
                check_output(html, overwrite)  # another run may have written it meanwhile
                from capcli.maps.page import HtmlReport  # here, as nothing else needs Jinja

                views.append(HtmlReport(html, options, num, show_own))
                stack.callback(complete, views[-1])
            if attention:
                views.append(AttentionFolders(attention, options, overwrite))
                stack.callback(complete, views[-1])
        except OutputError as error:
            fail_to_open(error)
        except OSError as error:
            fail_to_open(OutputError(error.filename or attention or "", error))
        yield views


def complete(view: Sink) -> None:
    """Close a view, or exit with a line."""
    from capcli.files import OutputError

    try:
        view.close()
    except OutputError as error:
        fail(error, 1)
