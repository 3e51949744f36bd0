"""`capcli serve`: the page and the HTTP API."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capcli.cli.loading import decoding_options, load_captioner
from capcli.cli.messages import fail, say
from capcli.cli.options import BatchSize, Choosing, Decoding, ModelOptions, Placing, Writing, grouped
from capcli.cli.writing import check_keywords, check_placing, open_places, read_template
from capcli.installing import install_line

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.serve.album import Album


@grouped
def serve(
    model: ModelOptions,
    decoding: Decoding,
    choosing: Choosing,
    placing: Placing,
    folder: Annotated[
        str | None, typer.Argument(metavar="FOLDER", help="Photos to go through.", show_default=False)
    ] = None,
    corrections: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keep what is saved in FILE, a list that `capcli train` and `teach` read.  "
            "[default: FOLDER/corrections.json]",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Listen there, so that other machines can reach the server; needs --token. What goes over the network "
            "can be read on its way: an SSH tunnel is safer.",
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 takes a free one.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            envvar="CAPCLI_TOKEN",
            show_envvar=False,
            show_default=False,
            help="What programs and other browsers have to send; 16 characters or more. CAPCLI_TOKEN in the "
            "environment is safer, as others see what a command was given.  [default: a new one for each run]",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Answer to this name too, as a proxy passes it on; may be given several times. Only a name of your "
            "own: whoever decides where it leads can use the server through browsers that were let in under it. And "
            "whoever reaches the proxy reaches the server: have it speak HTTPS.",
            show_default=False,
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    batch_size: BatchSize = 32,
) -> None:
    """Serve a page to caption photos on, and an HTTP API.

    With FOLDER, the page shows its photos as they are captioned, the least sure first, to be corrected. What is saved
    goes to FOLDER/corrections.json and, with --sidecar, --xmp or --write-metadata, to the places that `capcli caption`
    writes to. Without FOLDER, the page takes photos that are dropped on it.

    Prints an address that lets in one browser, once; another needs the token. Only this machine can reach the server,
    unless --host says otherwise. Ctrl-C ends it.

    Exit status: 1 if the address is in use, 2 for a usage error, 130 after Ctrl-C (128 plus the number of the signal).
    """
    from capcli.engines.choose import are_installed

    if not are_installed("starlette", "uvicorn", "python_multipart"):
        fail(f"serve needs Starlette, uvicorn and python-multipart: {install_line('serve')}")
    from capcli.cli.process import one_core_per_batch
    from capcli.images.find import find_images
    from capcli.serve.access import LEAST_TOKEN, Access, is_loopback, name_in
    from capcli.serve.api import Api
    from capcli.serve.app import make_app
    from capcli.serve.folder_page import FolderPage
    from capcli.serve.limits import Gate
    from capcli.serve.server import listen, make_server

    if token is not None and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        fail(f"--token: {LEAST_TOKEN} characters or more, and only ASCII, such as `openssl rand -hex 16` makes")
    if token is None and not is_loopback(host):
        fail(f"--host {host} needs --token TEXT, or CAPCLI_TOKEN in the environment")
    for name in allow_host or ():
        if name_in(name) != name.lower():
            fail(f"--allow-host {name}: not a name alone, such as photos.example.org")
    check_folder(folder, placing, corrections)
    try:
        listening = listen(host, port)
    except OSError as error:
        fail(error.strerror, 1)
    with listening, contextlib.ExitStack() as until_the_end:
        captioner = load_captioner(model, choosing.max_pixels)
        captioner.options = decoding_options(captioner, decoding, 2)
        one_core_per_batch(captioner, captioner.options)
        captioner.engine.prepare()
        album = None if folder is None else open_album(folder, placing, corrections, captioner)
        shown, port = listening.getsockname()[:2]
        access = Access(host, port, token, allow_host or ())
        api = Api(captioner, Gate(), choosing.max_pixels, batch_size)
        named = "127.0.0.1" if shown in ("0.0.0.0", "::") else f"[{shown}]" if ":" in shown else shown
        address = f"http://{named}:{port}/?token={access.once}"

        def tell() -> None:
            say(f"open {address} (works once)")
            if token is None:
                say(f"token for programs and other browsers: {access.token}")
            if open_page:
                until_the_end.enter_context(browsing(address))

        page = None
        if album is not None:
            page = FolderPage(api, album, choosing.max_pixels)
            images = find_images([album.folder], choosing.selection)
            album.start(images, captioner, captioner.options, batch_size, choosing.max_pixels)
        try:
            make_server(make_app(api, access, say, page), tell).run([listening])
        finally:
            api.close()
            if album is not None:
                album.close()


@contextlib.contextmanager
def browsing(address: str) -> Iterator[None]:
    """Open an address in the browser, which still has what it needs for that until the block is left.

    What a command is given can be read by every user of the machine, and the address lets in. So the browser is given
    a file that leads there, and that nobody else can read.
    """
    import tempfile
    import webbrowser

    with tempfile.TemporaryDirectory(prefix="capcli-", ignore_cleanup_errors=True) as private:
        page = Path(private, "open.html")
        page.write_text(f'<!doctype html><title>capcli</title><meta http-equiv="refresh" content="0; url={address}">\n')
        webbrowser.open(page.as_uri())
        yield


def check_folder(folder: str | None, placing: Placing, corrections: Path | None) -> None:
    """Refuse what contradicts itself.

    folder, placing, corrections: the argument and the options.
    """
    check_placing(placing)
    if folder is None:
        places = "--sidecar, --xmp and --write-metadata"
        for option, given in ((places, placing.into_images), ("--corrections", corrections)):
            if given:
                fail(f"{option} {'need' if ' and ' in option else 'needs'} FOLDER")
    elif not os.path.isdir(folder):
        fail(f"{folder}: {'is not a folder' if os.path.exists(folder) else 'no such folder'}")


def open_album(folder: str, placing: Placing, corrections: Path | None, captioner: Captioner) -> Album:
    """Return the photos of a folder, not listed yet, or exit with a line about what is wrong.

    folder: its path.
    placing: where captions go.
    corrections: the file of these; None for the one in the folder.
    captioner: scores sentences, where a template shows scores.
    """
    from dataclasses import replace

    from capcli.explaining.reading import explain
    from capcli.files import is_writable
    from capcli.outputs.sidecars import ENDING, Beside
    from capcli.serve.album import Album
    from capcli.serve.corrections import FILE, Corrections, CorrectionsError
    from capcli.serve.keeping import Keeper

    file = corrections or Path(folder, FILE)
    if not is_writable(os.path.dirname(os.path.realpath(file))):
        fail(f"{file}: cannot create files there; name another place with --corrections FILE", 1)
    template = read_template(placing.template)
    if "existing" in template.fields:
        fail("{existing} in --template is for capcli caption: here a text may be corrected several times")
    keywords = check_keywords(Writing(**vars(placing)), template, None)
    sinks = [
        open_places([folder], Writing(**vars(each)), {"--corrections": file}, template, 1)
        for each in (placing, replace(placing, existing="overwrite" if placing.into_images else None))
    ]
    for sink in sinks[0] + sinks[1]:
        if isinstance(sink, Beside):
            sink.keep_off(os.fspath(file), "the corrections")
    shows_scores = bool({"score", "log_prob"} & set(template.fields))

    def score(path: str, text: str) -> tuple[float, float]:
        explained = explain(captioner, path, [text])[0]
        return explained.log_prob, explained.score

    places = [(folder, "")] + ([(placing.output_dir, placing.sidecar_ext or ENDING)] if placing.output_dir else [])
    try:
        opened = Corrections(file, places)
    except (CorrectionsError, OSError) as error:
        if isinstance(error, OSError):
            fail(f"{error.filename or file}: {(error.strerror or str(error)).lower()}", 1)
        fail(error, 1)
    for line in opened.left:
        say(f"{line}; a save that was interrupted may have written there")
    keeper = Keeper(sinks[0], sinks[1], placing.existing or "skip")
    return Album(folder, opened, keeper, score if shows_scores else None, keywords)
