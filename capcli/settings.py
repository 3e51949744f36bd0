"""Settings, each declared once: name, type, range, default and help stand beside the dataclass that uses them.

The command line, the HTTP API and its description, and the checks of values are derived from these declarations.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from reprlib import repr as brief  # a value from an untrusted file may hold megabytes
from typing import Any, get_args, get_origin, get_type_hints

KEY = "setting"  # of a field's metadata


@dataclass(frozen=True)
class Setting:
    """Describe a setting.

    help: a sentence for people.
    low, high: the least and the greatest number that it takes.
    metavar: what help shows in place of a value.
    flags: how the command line spells it, where that is not its name.
    several: whether the command line takes it more than once.
    choices: the names that it takes; empty where it takes others.
    told: what help says of the default; empty for the value itself.
    """

    help: str
    low: float = -math.inf
    high: float = math.inf
    metavar: str = "N"
    flags: tuple[str, ...] = ()
    several: bool = False
    choices: tuple[str, ...] = ()
    told: str = ""

    @property
    def in_short(self) -> str:
        """Return the first clause of the help."""
        return re.split("[.;](?: |$)", self.help)[0]


def setting(default: Any, help: str, low: float = -math.inf, high: float = math.inf, **more: Any) -> Any:
    """Return a field of a dataclass that is a setting. default: its value; the others: see Setting."""
    return dataclasses.field(default=default, metadata={KEY: Setting(help, low, high, **more)})


def same_setting(kind: type, name: str) -> Any:
    """Return a field that is another dataclass's setting, but None where it is left to that. kind, name: which one."""
    return dataclasses.field(default=None, metadata={KEY: settings(kind)[name]})


def settings(kind: type) -> dict[str, Setting]:
    """Return the settings of a dataclass by name, in their order."""
    return {field.name: field.metadata[KEY] for field in dataclasses.fields(kind) if KEY in field.metadata}


def check_ranges(values: Any) -> None:
    """Check that the numbers in a dataclass are in their ranges; None is.

    Raises ValueError for the first one that is not, and for one that is no number.
    """
    for name, declared in settings(type(values)).items():
        value = getattr(values, name)
        if isinstance(value, int | float) and not declared.low <= value <= declared.high:  # true of NaN too
            raise ValueError(f"{name} is {brief(value)}, not {range_of(declared)}")


def check_types(values: Any) -> None:
    """Check that the settings in a dataclass have their types. Raises ValueError for the first one that has not."""
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
    """Return in a few words what numbers a setting takes."""
    if math.isinf(declared.high):
        return "a finite number" if math.isinf(declared.low) else f"{declared.low} or more"
    return f"between {declared.low} and {declared.high}"
