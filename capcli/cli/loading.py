"""What commands do first: load a captioner and take its decoding options, or exit with one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from capcli.cli.messages import fail, say
from capcli.cli.native import silence_libtiff

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.cli.options import Decoding, ModelOptions
    from capcli.decoding.options import DecodingOptions
    from capcli.model.vocabulary import Vocabulary


def load_captioner(options: ModelOptions, max_pixels: int | None = None) -> Captioner:
    """Return a captioner, or exit with status 2 and one line.

    max_pixels: refuse larger images; None takes the usual limit.
    """
    from capcli.cli.process import set_up_process, spare_numpy_threads

    if options.engine != "torch":
        spare_numpy_threads()
    from capcli.captioner import Captioner
    from capcli.checkpoints.store import ModelError

    silence_libtiff()
    set_up_process(max_pixels)
    try:
        return Captioner.load(options.model, options.device, options.precision, engine=options.engine)
    except (ModelError, ValueError) as error:
        fail(error)


def require_attention(captioner: Captioner, option: str) -> None:
    """Exit with status 2 and a line, naming the option, if the checkpoint has no attention."""
    config = captioner.config
    if not config.decoder_kind.attends:
        fail(f"{option}: this checkpoint's decoder, {config.decoder}, has no attention to show")


def require_confidence(captioner: Captioner, asked: float | None) -> None:
    """Exit with a line if a checkpoint cannot tell its captions' confidence. asked: the least; 0 or None for any."""
    from capcli.captioner import CANNOT_JUDGE

    if asked and not captioner.config.confidence:
        fail(f"--min-confidence: {CANNOT_JUDGE}")


def decoding_options(captioner: Captioner, asked: Decoding, num: int) -> DecodingOptions:
    """Return a checkpoint's decoding options with changes, or exit with status 2 and one line.

    asked: the changes.
    num: candidates per image, 1 or more.
    """
    from dataclasses import replace

    from capcli.decoding.rules import Rules
    from capcli.settings import check_types

    if asked.get("sample") and asked.get("diversity"):
        fail("--sample cannot be combined with --diversity")
    try:
        options = replace(captioner.options, **asked)
        check_types(options)
        options = replace(options, ban=check_ban(options.ban, captioner.vocabulary))
        Rules.of(options, captioner.vocabulary)
    except ValueError as error:
        fail(f"--{error}" if str(error).startswith("ban ") else error)
    if options.diversity and num < 2:
        fail("--diversity needs --num 2 or more")
    if not options.sample and (options.temperature != 1 or options.top_p != 1):
        fail("temperature and top-p need --sample")
    if options.attention_samples and not captioner.config.decoder_kind.samples_locations:
        fail(
            "attention-samples needs a checkpoint with hard attention; this one's decoder is "
            f"{captioner.config.decoder}"
        )
    return options


def check_ban(words: Sequence[str], vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the words to ban, as typed; report those that the model never says."""
    from capcli.model.vocabulary import tokenize

    for word in words:
        several = tokenize(word)
        if len(several) <= 1 and not vocabulary.find([word]):
            known = vocabulary.find(several) and f"; it knows {several[0]}"
            say(f"--ban {word}: the model does not know this word, so it never says it{known or ''}")
    return tuple(words)
