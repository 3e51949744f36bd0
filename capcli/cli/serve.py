"""`capcli serve`: the page and the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer

from capcli.cli.loading import decoding_options, load_captioner
from capcli.cli.messages import fail, say
from capcli.cli.options import BatchSize, Choosing, Decoding, ModelOptions, grouped

INSTALL = "pip install 'capcli[serve]'"


@grouped
def serve(
    model: ModelOptions,
    decoding: Decoding,
    choosing: Choosing,
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
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    batch_size: BatchSize = 32,
) -> None:
    """Serve a page to caption photos on, and an HTTP API.

    Prints an address that lets in one browser, once; another needs the token. Only this machine can reach the server,
    unless --host says otherwise. Ctrl-C ends it.

    Exit status: 1 if the address is in use, 2 for a usage error, 130 after Ctrl-C (128 plus the number of the signal).
    """
    from capcli.engines.choose import are_installed

    if not are_installed("starlette", "uvicorn", "python_multipart"):
        fail(f"serve needs Starlette, uvicorn and python-multipart: {INSTALL}")
    import webbrowser

    from capcli.cli.process import one_core_per_batch
    from capcli.serve.access import LEAST_TOKEN, Access, is_loopback
    from capcli.serve.api import Api
    from capcli.serve.app import make_app
    from capcli.serve.limits import Gate
    from capcli.serve.server import listen, make_server

    if token is not None and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        fail(f"--token: {LEAST_TOKEN} characters or more, and only ASCII, such as `openssl rand -hex 16` makes")
    if token is None and not is_loopback(host):
        fail(f"--host {host} needs --token TEXT, or CAPCLI_TOKEN in the environment")
    try:
        listening = listen(host, port)
    except OSError as error:
        fail(error.strerror, 1)
    with listening:
        captioner = load_captioner(model, choosing.max_pixels)
        captioner.options = decoding_options(captioner, decoding, 2)
        one_core_per_batch(captioner, captioner.options)
        captioner.engine.prepare()
        shown, port = listening.getsockname()[:2]
        access = Access(host, port, token)
        api = Api(captioner, Gate(), choosing.max_pixels, batch_size)
        named = "127.0.0.1" if shown in ("0.0.0.0", "::") else f"[{shown}]" if ":" in shown else shown
        address = f"http://{named}:{port}/?token={access.once}"

        def tell() -> None:
            say(f"open {address} (works once)")
            if token is None:
                say(f"token for programs and other browsers: {access.token}")
            if open_page:
                webbrowser.open(address)

        try:
            make_server(make_app(api, access, say), tell).run([listening])
        finally:
            api.close()
