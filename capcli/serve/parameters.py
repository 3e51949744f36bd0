"""Parameters of requests, named like the command line's options."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from capcli.captioner import CANNOT_JUDGE, Captioner
from capcli.decoding.options import DecodingOptions
from capcli.decoding.rules import Rules
from capcli.maps.overlay import SCALES, STYLES
from capcli.outputs.replacements import Replacements
from capcli.outputs.wording import Wording
from capcli.serve.limits import MAX_SENTENCES, MAX_TEXT, Refusal
from capcli.settings import Setting, range_of, settings


@dataclass(frozen=True)
class Parameter:
    """Describe a parameter.

    kind: int, float, bool or str.
    declared: its help and range.
    choices: of a text; empty allows any.
    default: what holds without it; None where nothing does, or the model says.
    """

    kind: type
    declared: Setting
    choices: tuple[str, ...] = ()
    default: Any = None

    def read(self, name: str, text: str) -> Any:
        """Return a text's value. Raises Refusal."""
        if self.kind is str:
            if self.choices and text not in self.choices:
                raise Refusal(400, f"{name} is {text!r}, not one of {', '.join(self.choices)}")
            if len(text) > MAX_TEXT:
                raise Refusal(413, f"{name} has more than {MAX_TEXT} characters")
            return text
        if self.kind is bool:
            known = {"": True, "true": True, "1": True, "false": False, "0": False}
            if text.lower() not in known:
                raise Refusal(400, f"{name} is {text!r}, not true or false")
            return known[text.lower()]
        try:
            value = self.kind(text[:40])
        except ValueError:
            wanted = "an integer" if self.kind is int else "a number"
            raise Refusal(400, f"{name} is {text[:40]!r}, not {wanted}") from None
        if not math.isfinite(value):
            raise Refusal(400, f"{name} is {text[:40]!r}, not a finite number")
        if not self.declared.low <= value <= self.declared.high:
            raise Refusal(400, f"{name} is {value}, not {range_of(self.declared)}")
        return value


def parameters_of(kind: type) -> dict[str, Parameter]:
    """Return a dataclass's settings as parameters. kind: its fields are plain values or None."""
    plain: dict[Any, type] = {int | None: int, float | None: float, tuple[str, ...]: str}
    hints = get_type_hints(kind)
    return {n: Parameter(plain.get(hints[n], hints[n]), declared) for n, declared in settings(kind).items()}


DECODING = {
    "num": Parameter(int, Setting("Give the N best captions.", 1, 20), default=1),
    **parameters_of(DecodingOptions),
}
WRITING = parameters_of(Wording)
DRAWING = {
    "attention_size": Parameter(int, Setting("Longest side of a word's picture, in pixels.", 16, 1280), default=640),
    "attention_style": Parameter(str, Setting("Colour where the model looks, or darken the rest."), STYLES, "heat"),
    "attention_scale": Parameter(str, Setting("Scale heat by word or by caption."), SCALES, "word"),
    "smooth": Parameter(bool, Setting("Interpolate between the cells of the grid."), default=True),
}
NAME = {"name": Parameter(str, Setting("What the answer calls an image that is sent as the body."), default="image")}
SENTENCES = {"sentence": Parameter(str, Setting("A description to read over the photo.", several=True))}


def read_parameters(
    given: Iterable[tuple[str, str]], known: Mapping[str, Parameter], captioner: Captioner
) -> dict[str, Any]:
    """Return the given parameters' values, repeatable ones as lists.

    given: names and texts; `max-length` means `max_length`.
    known: the parameters allowed.
    captioner: its decoding options, changed as asked, become `options`; `replace` becomes Replacements.

    Raises Refusal.
    """
    found: dict[str, Any] = {}
    for given_name, text in given:
        name = given_name.replace("-", "_")
        if name not in known:
            listed = ", ".join(key.replace("_", "-") for key in known)
            raise Refusal(400, f"unknown parameter {given_name[:40]!r}; there are {listed}")
        parameter = known[name]
        value = parameter.read(given_name, text)
        if not parameter.declared.several:
            if name in found:
                raise Refusal(400, f"{given_name} is given more than once")
            found[name] = value
            continue
        found.setdefault(name, []).append(value)
        if len(found[name]) > MAX_SENTENCES:
            raise Refusal(413, f"more than {MAX_SENTENCES} of {given_name}")
    if "min_keyword_score" in found and "keywords" not in found:
        raise Refusal(400, "min-keyword-score needs keywords")
    try:
        found["replace"] = Replacements(found.get("replace", []))
    except ValueError as error:
        raise Refusal(400, f"replace: {error}") from None
    if found.get("min_confidence") and not captioner.config.confidence:
        raise Refusal(400, f"min-confidence: {CANNOT_JUDGE}")
    found["options"] = decoding_options(found, captioner)
    return found


def decoding_options(found: Mapping[str, Any], captioner: Captioner) -> DecodingOptions:
    """Return a captioner's options with the changes asked for. Raises Refusal if they contradict."""
    ours = {field.name for field in fields(DecodingOptions)}
    changes = {name: value for name, value in found.items() if name in ours}
    changes["ban"] = (*captioner.options.ban, *found.get("ban", ()))
    try:
        options = replace(captioner.options, **changes)
        Rules.of(options, captioner.vocabulary)
    except ValueError as error:
        raise Refusal(400, str(error)) from None
    if options.diversity and found.get("num", 1) < 2:
        raise Refusal(400, "diversity needs num=2 or more")
    if not options.sample and (options.temperature != 1 or options.top_p != 1):
        raise Refusal(400, "temperature and top-p need sample")
    if options.attention_samples and not captioner.config.decoder_kind.samples_locations:
        raise Refusal(400, "attention-samples needs a checkpoint with hard attention")
    return options
