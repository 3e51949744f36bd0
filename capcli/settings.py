"""Settings, each declared once beside the dataclass that uses it: name, type, range, default and help.

Command line, HTTP API and its description, and checks are derived from them.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from reprlib import repr as brief  # a value from an untrusted file may hold megabytes
from typing import Any, get_args, get_origin, get_type_hints

KEY = "setting"  # of a field's metadata


@dataclass(frozen=True)
class Setting:
    """Describe a setting.

    help: a sentence for people.
    low, high: bounds of a number, inclusive.
    metavar: the value's placeholder in help.
    flags: names on the command line, if not its own.
    several: whether the command line takes it repeatedly.
    choices: names to choose from; empty for free values.
    open_end: what other names may begin with, besides choices; empty for none.
    told: the default as help tells it; empty for the value itself.
    panel: of the command line's help, in which it is an option; empty where --set takes it.
    """

    help: str
    low: float = -math.inf
    high: float = math.inf
    metavar: str = "N"
    flags: tuple[str, ...] = ()
    several: bool = False
    choices: tuple[str, ...] = ()
    open_end: str = ""
    told: str = ""
    panel: str = ""


def setting(default: Any, help: str, low: float = -math.inf, high: float = math.inf, **more: Any) -> Any:
    """Return a dataclass field that is a setting; for all but its default see Setting."""
    return dataclasses.field(default=default, metadata={KEY: Setting(help, low, high, **more)})


def same_setting(kind: type, name: str, panel: str = "", told: str = "") -> Any:
    """Return a field for another dataclass's setting, None where that one's value stays. panel, told: see Setting."""
    declared = settings(kind)[name]
    declared = dataclasses.replace(declared, panel=panel, told=told or declared.told)
    return dataclasses.field(default=None, metadata={KEY: declared})


def settings(kind: type) -> dict[str, Setting]:
    """Return a dataclass's settings by name, in order."""
    return {field.name: field.metadata[KEY] for field in dataclasses.fields(kind) if KEY in field.metadata}


def check_ranges(values: Any) -> None:
    """Check that a dataclass's numbers are in range; None always is.

    Raises ValueError for the first that is out of range or no number.
    """
    for name, declared in settings(type(values)).items():
        value = getattr(values, name)
        if isinstance(value, int | float) and not declared.low <= value <= declared.high:  # true of NaN too
            raise ValueError(f"{name} is {brief(value)}, not {range_of(declared)}")


def check_types(values: Any) -> None:
    """Check the types of a dataclass's settings. Raises ValueError for the first wrong one."""
    hints = get_type_hints(type(values))
    for name in settings(type(values)):
        value, kinds = getattr(values, name), get_args(hints[name]) or (hints[name],)
        if get_origin(hints[name]) is tuple:
            fits = isinstance(value, tuple) and all(isinstance(part, str) for part in value)
        else:
            fits = type(value) in kinds or (type(value) is int and float in kinds)
        if not fits:
            raise ValueError(f"{name} is {brief(value)}, not of type {kinds[0].__name__}")


def range_of(declared: Setting) -> str:
    """Return a setting's range of numbers in a few words."""
    if math.isinf(declared.high):
        return "a finite number" if math.isinf(declared.low) else f"{declared.low} or more"
    return f"between {declared.low} and {declared.high}"
