"""`capcli serve`: the page and the HTTP API."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capcli.cli.again import command_again
from capcli.cli.messages import fail, say
from capcli.cli.options import BATCH_SIZE, ModelOptions, Only, Sources, Writing, grouped
from capcli.installing import install_line

if TYPE_CHECKING:
    import socket

    from capcli.captioner import Captioner
    from capcli.serve.access import Access
    from capcli.serve.album import Album
    from capcli.serve.teaching import Teaching


@dataclass(frozen=True)
class Server:
    corrections: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Save to FILE, a list that `capcli train` and `teach` read.  [default: FOLDER/corrections.json]",
            show_default=False,
        ),
    ] = None
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Listen on this address for other machines; needs --token. Others on the network can read the "
            "traffic: an SSH tunnel is safer.",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 takes a free one.")] = 8765
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            envvar="CAPCLI_TOKEN",
            show_envvar=False,
            show_default=False,
            help="Token for programs and other browsers; 16 characters or more. CAPCLI_TOKEN in the environment is "
            "safer, as other users can see a command's arguments.  [default: a new one for each run]",
        ),
    ] = None
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Answer to this name too, as passed on by a proxy; may be given several times. Give only a name you "
            "own: whoever controls it can use the server through browsers that are logged in under it. Whoever reaches "
            "the proxy reaches the server: let it use HTTPS.",
            show_default=False,
        ),
    ] = None
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False

    def rules(self) -> Iterator[tuple[object, str]]:
        """Yield rules about who may ask."""
        from capcli.serve.access import LEAST_TOKEN, is_loopback, name_in

        token = self.token
        weak = token is not None and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable())
        yield weak, f"--token: {LEAST_TOKEN} characters or more, and only ASCII, such as `openssl rand -hex 16` makes"
        open_to_all = token is None and not is_loopback(self.host)
        yield open_to_all, f"--host {self.host} needs --token TEXT, or CAPCLI_TOKEN in the environment"
        for name in self.allow_host or ():
            alone = name_in(name) == name.lower()
            yield not alone, f"--allow-host {name}: not a bare host name, such as photos.example.org"


@grouped
def serve(
    context: typer.Context,
    server: Server,
    sources: Annotated[Sources, Only("exclude", "max_pixels")],
    writing: Annotated[
        Writing, Only("sidecar", "output_dir", "write_metadata", "xmp", "fields", "existing", "template")
    ],
    model: Annotated[ModelOptions, Only("model")],
    folder: Annotated[
        str | None, typer.Argument(metavar="FOLDER", help="Photos to go through.", show_default=False)
    ] = None,
) -> None:
    """Serve a page to caption photos on, and an HTTP API.

    With FOLDER, the page shows its photos as they are captioned, the least sure first, for you to correct. Corrections
    are saved to FOLDER/corrections.json and, with --sidecar, --xmp or --write-metadata, where `capcli caption` writes.
    Without FOLDER, the page takes photos that are dropped on it.

    Prints an address that lets in one browser, once; another needs the token. Only this machine can reach the server,
    unless --host says otherwise. Ctrl-C ends it.

    Exit status: 1 if the address is in use, 2 for a usage error, 130 after Ctrl-C (128 plus the number of the signal).
    """
    from capcli.cli.rules import place_rules, refuse
    from capcli.engines.choose import are_installed

    if not are_installed("starlette", "uvicorn", "python_multipart"):
        fail(f"serve needs Starlette, uvicorn and python-multipart: {install_line('serve')}")
    from capcli.serve.server import listen

    refuse(server.rules(), place_rules(writing), folder_rules(folder, writing, server.corrections))
    try:
        listening = listen(server.host, server.port)
    except OSError as error:
        fail(error.strerror, 1)
    with listening:
        run_server(listening, server, folder, sources, writing, model, printed(context, folder, server, model))


def run_server(
    listening: socket.socket,
    server: Server,
    folder: str | None,
    sources: Sources,
    writing: Writing,
    model: ModelOptions,
    commands: Sequence[str],
) -> None:
    """Serve until a signal.

    folder: of photos; None for the page without one.
    commands: that the page shows.
    """
    from capcli.cli.served import first_captioner, open_cache, teaching_of
    from capcli.images.find import find_images
    from capcli.serve.access import Access
    from capcli.serve.api import Api
    from capcli.serve.app import make_app
    from capcli.serve.folder_page import FolderPage
    from capcli.serve.limits import Gate
    from capcli.serve.server import make_server

    most = sources.max_pixels
    taught = None if folder is None else taught_folder(folder, server.corrections)
    captioner, chosen = first_captioner(model, most, taught)
    album = None if folder is None else open_album(folder, writing, server.corrections)
    access = Access(server.host, listening.getsockname()[1], server.token, server.allow_host or ())
    api = Api(captioner, Gate(), most, BATCH_SIZE)
    page = None
    if album is not None and taught is not None:
        page = FolderPage(api, album, most, commands, teaching_of(album, commands[0], model, taught, chosen))
        images = find_images([album.folder], sources.selection)
        album.start(images, captioner, BATCH_SIZE, most, open_cache(album, captioner))
    with contextlib.ExitStack() as until_the_end:
        if album is not None:
            until_the_end.callback(album.close)
        until_the_end.callback(api.close)
        if page is not None and page.teaching is not None:
            until_the_end.callback(tell_of_teaching, page.teaching)
        tell = functools.partial(tell_address, listening, access, server, until_the_end)
        make_server(make_app(api, access, say, page), tell).run([listening])


def tell_of_teaching(teaching: Teaching) -> None:
    """Print that teaching goes on, if it does."""
    if teaching.is_going():
        say(f"teaching goes on: the page shows it again; {teaching.folder} gets the model")


def printed(context: typer.Context, folder: str | None, server: Server, model: ModelOptions) -> list[str]:
    """Return the commands that teach a model what is saved, and serve the folder with it; none without a folder.

    context: of this command, whose options the second one keeps; a token that was typed is not shown.
    """
    if folder is None:
        return []
    from capcli.serve.corrections import FILE

    file = os.path.realpath(server.corrections or Path(folder, FILE))
    taught = str(taught_folder(folder, server.corrections))
    # Training reads photos below the list's folder only, unless it is told to.
    inside = Path(os.path.realpath(folder)).is_relative_to(os.path.dirname(file))
    init = [] if model.model is None else ["--init", model.model]
    teach = ["capcli", "teach", file, "--output", taught, *init, *([] if inside else ["--allow-outside"])]
    given = context.get_parameter_source("token")
    token = {"token": "TOKEN"} if given is not None and given.name == "COMMANDLINE" else {}
    return [shlex.join(teach), command_again(context, model=taught, **token)]


def taught_folder(folder: str, corrections: Path | None) -> Path:
    """Return the folder of the model that the page teaches, beside the list of corrections."""
    from capcli.serve.corrections import FILE, model_of

    return Path(model_of(os.path.realpath(corrections or Path(folder, FILE))))


def tell_address(listening: socket.socket, access: Access, server: Server, until_the_end: contextlib.ExitStack) -> None:
    """Print the server's address, and open the page if asked. until_the_end: keeps the browser's file."""
    shown, port = listening.getsockname()[:2]
    named = "127.0.0.1" if shown in ("0.0.0.0", "::") else f"[{shown}]" if ":" in shown else shown
    address = f"http://{named}:{port}/?token={access.once}"
    say(f"open {address} (works once)")
    if server.token is None:
        say(f"token for programs and other browsers: {access.token}")
    if server.open_page:
        until_the_end.enter_context(browsing(address))


@contextlib.contextmanager
def browsing(address: str) -> Iterator[None]:
    """Open an address in the browser, by a file that is kept until the block ends.

    The address lets in, and all users can read a command's arguments; the file, only this one.
    """
    import tempfile
    import webbrowser

    with tempfile.TemporaryDirectory(prefix="capcli-", ignore_cleanup_errors=True) as private:
        page = Path(private, "open.html")
        page.write_text(f'<!doctype html><title>capcli</title><meta http-equiv="refresh" content="0; url={address}">\n')
        webbrowser.open(page.as_uri())
        yield


def folder_rules(folder: str | None, writing: Writing, corrections: Path | None) -> Iterator[tuple[object, str]]:
    """Yield rules about options that need the folder."""
    places = "--sidecar, --xmp and --write-metadata"
    yield folder is None and writing.into_images, f"{places} need FOLDER"
    yield folder is None and corrections, "--corrections needs FOLDER"
    if folder is not None:
        why = "is not a folder" if os.path.exists(folder) else "no such folder"
        yield not os.path.isdir(folder), f"{folder}: {why}"


def open_album(folder: str, writing: Writing, corrections: Path | None) -> Album:
    """Return a folder's photos, not yet listed, or exit with a line.

    corrections: their file; None for the one in the folder.
    """
    from capcli.cli.rules import uses_keywords
    from capcli.cli.writing import open_places, read_template
    from capcli.files import is_writable
    from capcli.outputs.keywords import MOST
    from capcli.outputs.sidecars import ENDING, Beside
    from capcli.serve.album import Album
    from capcli.serve.corrections import FILE, Corrections, CorrectionsError
    from capcli.serve.keeping import Keeper

    file = corrections or Path(folder, FILE)
    if not is_writable(os.path.dirname(os.path.realpath(file))):
        fail(f"{file}: cannot create files there; name another place with --corrections FILE", 1)
    template = read_template(writing.template)
    if "existing" in template.fields:
        fail("{existing} in --template is for capcli caption: here a text may be corrected several times")
    replacing = replace(writing, existing="overwrite" if writing.into_images else None)
    sinks = [open_places([folder], each, {"--corrections": file}, template, 1) for each in (writing, replacing)]
    for sink in sinks[0] + sinks[1]:
        if isinstance(sink, Beside):
            sink.keep_off(os.fspath(file), "the corrections")
    places = [(folder, "")] + ([(writing.output_dir, ENDING)] if writing.output_dir else [])
    try:
        opened = Corrections(file, places)
    except (CorrectionsError, OSError) as error:
        if isinstance(error, OSError):
            fail(f"{error.filename or file}: {(error.strerror or str(error)).lower()}", 1)
        fail(error, 1)
    for line in opened.left:
        say(f"{line}; an interrupted save may have written there")
    shows_scores = bool({"score", "log_prob"} & set(template.fields))
    keeper = Keeper(sinks[0], sinks[1], writing.existing)
    everywhere = replace(writing, sidecar=True, xmp=writing.xmp is not False, write_metadata=True)
    readers = open_places([folder], everywhere, {}, template, 1)
    score = score_of if shows_scores else None
    return Album(folder, opened, keeper, score, MOST if uses_keywords(writing, template) else 0, readers)


def score_of(captioner: Captioner, path: str, text: str) -> tuple[float, float]:
    """Return log-probability and score of a person's sentence about the photo at a path."""
    from capcli.explaining.reading import explain

    explained = explain(captioner, path, [text])[0]
    return explained.log_prob, explained.score
