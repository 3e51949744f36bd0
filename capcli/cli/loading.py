"""A captioner for a command, and how it is to decode, or one line that says why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from capcli.cli.messages import fail
from capcli.cli.native import silence_libtiff

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.decoding.options import DecodingOptions


def load_captioner(model: str | None, device: str, precision: str, max_pixels: int | None = None) -> Captioner:
    """A captioner, or one line and exit status 2."""
    from capcli.captioner import Captioner
    from capcli.checkpoints.store import ModelError
    from capcli.cli.process import own_process

    silence_libtiff()
    own_process(max_pixels)
    try:
        return Captioner.load(model, device, precision)
    except (ModelError, ValueError) as error:
        fail(error)


def require_attention(captioner: Captioner, option: str) -> None:
    """One line and exit status 2 for a checkpoint that has nothing to show."""
    config = captioner.config
    if not config.decoder_kind.attends:
        fail(f"{option}: this checkpoint's decoder, {config.decoder}, has no attention to show")


def decoding_options(captioner: Captioner, values: dict[str, Any]) -> DecodingOptions:
    """The checkpoint's decoding, with those of a command's values that are named like its entries, and are not None, in
    their place."""
    from dataclasses import fields, replace

    asked = {field.name: values.get(field.name) for field in fields(captioner.options)}
    if asked["sample"] and asked["diversity"]:
        fail("--sample cannot be combined with --diversity")
    try:
        options = replace(captioner.options, **{name: value for name, value in asked.items() if value is not None})
    except ValueError as error:
        fail(error)
    if options.diversity and values["num"] < 2:
        fail("--diversity needs --num 2 or more")
    if not options.sample and (options.temperature != 1 or options.top_p != 1):
        fail("--temperature and --top-p need --sample")
    if options.attention_samples and not captioner.config.decoder_kind.samples_locations:
        fail(
            "--attention-samples needs a checkpoint with hard attention; this one's decoder is "
            f"{captioner.config.decoder}"
        )
    return options
