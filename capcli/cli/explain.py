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
    from capcli.captioner import Captioner
    from capcli.explaining.reading import Explanation
    from capcli.outputs.sink import Sink
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
    from capcli.files import OutputError
    from capcli.outputs.resume import check_output

    overwrite = existing == "overwrite"
    if existing and not overwrite:
        fail(f"--existing {existing}: explain only takes overwrite")
    sentences = read_sentences(sentence, text_file)
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
        explanations = explain_all(captioner, photo, sentences, opened)
        by_caption.update((explanation.caption, explanation) for explanation in explanations)
        print_explanations(explanations, as_json, is_list=text_file is not None)
        write_views(explanations, opened)


def read_sentences(sentence: list[str] | None, text_file: Path | None) -> list[str]:
    """Return the sentences to explain, at least one, or exit with a line.

    sentence: the words of the command line.
    text_file: --text-file.
    """
    if (not sentence) == (text_file is None):
        fail("give either a sentence or --text-file")
    if sentence and len(sentence) > 1 and any(len(part.split()) > 1 for part in sentence):
        fail(f"{len(sentence)} sentences: give one, or several with --text-file")
    if text_file is None:
        return [" ".join(sentence or [])]
    try:
        sentences = [line.strip() for line in text_file.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeError) as error:
        fail(f"{text_file}: {getattr(error, 'strerror', None) or error}")
    if not sentences:
        fail(f"{text_file}: holds no sentence")
    return sentences


def explain_all(captioner: Captioner, photo: str, sentences: list[str], views: list[Sink]) -> list[Explanation]:
    """Return explanations, best first, with a photo as large as the views need, or exit with a line."""
    from capcli.explaining.reading import explain, ranked
    from capcli.results import ImageError

    try:
        return ranked(explain(captioner, photo, sentences, max((view.photo_side for view in views), default=0)))
    except ImageError as error:
        fail(error, 1)
    except ValueError as error:
        fail(error)


def print_explanations(explanations: list[Explanation], as_json: bool, is_list: bool) -> None:
    """Print explanations. is_list: whether they are of a file's sentences, a line for each."""
    from capcli.explaining.printing import as_kinds, as_line, as_row, as_table
    from capcli.outputs.formats import dump

    if as_json:
        rows = [as_row(explanation) for explanation in explanations]
        show_lines(dump(rows if is_list else rows[0]))
        return
    for explanation in explanations:
        show_lines(as_line(explanation))
        for line in () if is_list else as_table(explanation):
            show_lines(line)
    if kinds := as_kinds(explanations[0].caption.kinds):
        (say if is_list else show_lines)(kinds)


def write_views(explanations: list[Explanation], views: list[Sink]) -> None:
    """Write explanations to the page and the overlays; exit with status 1 if that fails."""
    from capcli.cli.run import collecting
    from capcli.files import OutputError
    from capcli.results import ImageError

    wrong: list[ImageError] = []
    try:
        for explanation in explanations:
            for view in views:
                with collecting(wrong, explanation.path, about=view.path):
                    view.write(explanation.caption)
    except OutputError as error:
        fail(error, 1)
    for problem in wrong:
        say(problem)
    if wrong:
        raise typer.Exit(1)
