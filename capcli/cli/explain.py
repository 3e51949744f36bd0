"""`capcli explain`: how well a person's own sentence fits a photo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from capcli.cli.loading import load_captioner
from capcli.cli.messages import absent, fail, say, show_lines
from capcli.cli.options import ModelOptions, Only, Views, grouped
from capcli.cli.views import open_views

if TYPE_CHECKING:
    from capcli.explaining.reading import Explanation
    from capcli.results import Caption


@grouped
def explain(
    model: Annotated[ModelOptions, Only("model")],
    views: Annotated[Views, Only("attention", "html")],
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="Image file, or - for stdin.")],
    sentence: Annotated[
        list[str] | None, typer.Argument(metavar="SENTENCE", help="Your description of it.", show_default=False)
    ] = None,
    text_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compare many sentences, one per line.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with the weights of every word.")] = False,
    existing: Annotated[
        str | None,
        typer.Option(metavar="overwrite", help="Replace an existing page or existing overlays.", show_default=False),
    ] = None,
) -> None:
    """Check your own sentence against a photo, word by word.

    Prints `fit<TAB>gain<TAB>log_prob<TAB>sentence`. The gain is the log-probability that the photo adds to the
    sentence; fit is the gain per word, plus twice the agreement with the photo if the model can tell it. Then, for each
    word, its probability given the words before it, the natural logarithm of that, and the ratio to its probability
    with a blank picture. A ? marks nouns in whose place others fit better, and other words that the photo makes less
    than half as likely; words missing from the model's vocabulary are named. The last line says what the encoder alone
    sees, if the model can tell. Sentences of --text-file are ranked by fit, one per line.

    Doubt is a hint: over 200 dev photos 8 % of the right nouns in people's captions were doubted, and 66 % of the wrong
    nouns put in their place; the right sentence ranked first in 88 %.

    Exit status: 0 done, 1 the photo cannot be read, 2 usage error.
    """
    from capcli.cli.run import collecting
    from capcli.explaining.printing import as_kinds, as_line, as_row, as_table
    from capcli.explaining.reading import explain as read_sentences
    from capcli.explaining.reading import ranked
    from capcli.files import OutputError
    from capcli.outputs.formats import dump
    from capcli.outputs.resume import check_output
    from capcli.results import ImageError

    overwrite = existing == "overwrite"
    if existing and not overwrite:
        fail(f"--existing {existing}: explain only takes overwrite")
    if (not sentence) == (text_file is None):
        fail("give either a sentence or --text-file")
    if sentence and len(sentence) > 1 and any(len(part.split()) > 1 for part in sentence):
        fail(f"{len(sentence)} sentences: give one, or several with --text-file")
    if text_file is None:
        sentences = [" ".join(sentence or [])]
    else:
        try:
            sentences = [line.strip() for line in text_file.read_text("utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeError) as error:
            fail(f"{text_file}: {getattr(error, 'strerror', None) or error}")
        if not sentences:
            fail(f"{text_file}: holds no sentence")
    if photo != "-" and not os.path.exists(photo):
        fail(absent(photo, "file"))
    try:
        check_output(views.html, overwrite)
    except OutputError as error:
        fail(error)
    captioner = load_captioner(model)
    by_caption: dict[Caption, Explanation] = {}

    def show_own(caption: Caption) -> dict[str, Any]:
        from capcli.explaining.showing import with_table  # here, as nothing else needs Jinja

        return with_table(by_caption[caption])

    with open_views(captioner, views, len(sentences), overwrite, show_own) as opened:
        try:
            photo_side = max((view.photo_side for view in opened), default=0)
            explained = ranked(read_sentences(captioner, photo, sentences, photo_side))
            by_caption.update((e.caption, e) for e in explained)
        except ImageError as error:
            fail(error, 1)
        except ValueError as error:
            fail(error)
        if as_json:
            rows = [as_row(e) for e in explained]
            show_lines(dump(rows if text_file else rows[0]))
        else:
            for e in explained:
                show_lines(as_line(e))
                for line in () if text_file else as_table(e):
                    show_lines(line)
            if kinds := as_kinds(explained[0].caption.kinds):
                (say if text_file else show_lines)(kinds)
        wrong: list[ImageError] = []
        try:
            for e in explained:
                for view in opened:
                    with collecting(wrong, e.path, about=view.path):
                        view.write(e.caption)
        except OutputError as error:
            fail(error, 1)
        for problem in wrong:
            say(problem)
        if wrong:
            raise typer.Exit(1)
