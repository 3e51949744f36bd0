"""Parameters of requests, which are called as the options of the command line are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from capcli.captioner import Captioner
from capcli.decoding.options import DecodingOptions
from capcli.decoding.rules import Rules
from capcli.maps.overlay import SCALES, STYLES
from capcli.outputs.replacements import Replacements
from capcli.serve.limits import MAX_SENTENCES, MAX_TEXT, Refusal


@dataclass(frozen=True)
class Parameter:
    """Describe a parameter.

    kind: int, float, bool or str.
    description: for the page about the API.
    least, most: of a number; None where there is no limit.
    choices: of a text; empty where any will do.
    several: whether it may be given more than once.
    """

    kind: type
    description: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    several: bool = False

    def read(self, name: str, text: str) -> Any:
        """Return the value of a text. Raises Refusal."""
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
        if (self.least is not None and value < self.least) or (self.most is not None and value > self.most):
            least = "" if self.least is None else f"{self.least:g} or more"
            most = "" if self.most is None else f"at most {self.most:g}"
            raise Refusal(400, f"{name} is {value}, not {' and '.join(filter(None, (least, most)))}")
        return value


DECODING = {
    "num": Parameter(int, "Give the N best captions.", 1, 20),
    "beam": Parameter(int, "Width of the beam search.", 1, 50),
    "max_length": Parameter(int, "Stop after N words.", 1, 100),
    "length_penalty": Parameter(float, "α in score = log_prob / nᵅ + W × agreement.", -10, 10),
    "no_repeat": Parameter(int, "Never repeat a sequence of N words; 0 allows repeats.", 0, 100),
    "no_echo": Parameter(bool, "Never say “red red”, “red and red” or “red and a red”."),
    "agreement": Parameter(float, "W in score: what the caption's agreement with the photo, −1 to 1, counts.", 0, 100),
    "ban": Parameter(str, "Find captions without this word, besides those that the server bans.", several=True),
    "sample": Parameter(bool, "Draw words at random instead of searching."),
    "temperature": Parameter(float, "With sample: below 1 favours likely words.", 0.01, 100),
    "top_p": Parameter(float, "With sample: draw from the likeliest words that add up to P.", 0.01, 1),
    "diversity": Parameter(float, "With num: make the captions differ.", 0, 100),
    "attention_samples": Parameter(int, "With hard attention: average over N sampled locations.", 0, 50),
    "seed": Parameter(int, "Makes random draws repeatable.", -(2**63), 2**64 - 1),
}
WRITING = {
    "min_score": Parameter(float, "Leave a caption empty if its score is below S."),
    "keywords": Parameter(int, "Give up to N keywords: nouns and attributes of the best captions.", 1, 100),
    "min_keyword_score": Parameter(float, "With keywords: leave out those whose probability is below P.", 0, 1),
    "replace": Parameter(str, "OLD=NEW: write NEW wherever the caption says OLD.", several=True),
}
DRAWING = {
    "attention_size": Parameter(int, "Longest side of a word's picture, in pixels.", 16, 1280),
    "attention_style": Parameter(str, "Colour where the model looks, or darken the rest.", choices=STYLES),
    "attention_scale": Parameter(str, "Scale heat by word or by caption.", choices=SCALES),
    "smooth": Parameter(bool, "Interpolate between the cells of the grid."),
}
NAME = {"name": Parameter(str, "What the answer calls an image that is sent as the body.")}
SENTENCES = {"sentence": Parameter(str, "A description to read over the photo.", several=True)}


def read_parameters(
    given: Iterable[tuple[str, str]], known: Mapping[str, Parameter], captioner: Captioner
) -> dict[str, Any]:
    """Return the values of those parameters that are given; those that may be given several times as lists.

    given: names and texts, from the address and the fields of a form; `max-length` is the same as `max_length`.
    known: what may be given.
    captioner: whose own way to decode is changed by the parameters, which gives `options`; `replace` is Replacements.

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
        if not parameter.several:
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
    found["options"] = decoding_options(found, captioner)
    return found


def decoding_options(found: Mapping[str, Any], captioner: Captioner) -> DecodingOptions:
    """Return a captioner's options with the changes that were asked for. Raises Refusal if they contradict."""
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
