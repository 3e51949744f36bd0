"""Line charts as numbers for an SVG, drawn by the page's template."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

TICKS = 5  # roughly the most along an axis


class Tick(NamedTuple):
    """Hold a mark on an axis. place: in the chart's units."""

    place: float
    text: str


class Point(NamedTuple):
    """Hold a line's point, in the chart's units, and its tooltip."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Line:
    """Hold a chart's line.

    name: for the legend.
    points: (step, value), in order of steps; values that are not finite are not drawn.
    """

    name: str
    points: Sequence[tuple[int, float]]

    @property
    def finite(self) -> list[tuple[int, float]]:
        """Return the points to draw."""
        return [(step, value) for step, value in self.points if math.isfinite(value)]


@dataclass(frozen=True)
class Chart:
    """Hold a chart of lines over a run's steps.

    steps: name of a step, such as epoch.
    last: number of the run's last step; the first is 1.
    lines: at least one, each with a finite value.
    kept: the step to mark, if any.

    Units are CSS pixels on a phone; left, right, top and bottom are the plot's edges.
    """

    width: ClassVar = 360
    height: ClassVar = 212
    left: ClassVar = 44
    right: ClassVar = 346
    top: ClassVar = 8
    bottom: ClassVar = 178

    title: str
    steps: str
    last: int
    lines: Sequence[Line]
    kept: int | None = None

    @cached_property
    def ys(self) -> list[float]:
        """Return the y axis's tick values, which enclose all lines."""
        values = [value for line in self.lines for _, value in line.finite]
        low, high = min(values), max(values)
        if high - low < 1e-12 * max(1.0, abs(high)):
            low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
        step = round_step((high - low) / (TICKS - 1))
        first, last = math.floor(low / step), math.ceil(high / step)
        return [round(step * i, 12) for i in range(first, last + 1)]

    def x(self, step: float) -> float:
        """Return a step's x; a single step is in the middle."""
        share = (step - 1) / (self.last - 1) if self.last > 1 else 0.5
        return round(self.left + share * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Return a value's y, downwards."""
        low, high = self.ys[0], self.ys[-1]
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - self.top), 1)

    def x_ticks(self) -> Iterator[Tick]:
        """Yield ticks for the first and last step and, if there is room, round numbers between."""
        step = max(1, math.ceil(round_step(max(1, self.last - 1) / TICKS)))
        between = [i for i in range(step, self.last, step) if i - 1 >= step / 2 and self.last - i >= step / 2]
        for number in dict.fromkeys([1, *between, self.last]):
            yield Tick(self.x(number), f"{number}")

    def y_ticks(self) -> Iterator[Tick]:
        """Yield the y axis's ticks."""
        for value in self.ys:
            yield Tick(self.y(value), f"{value:.4g}")

    def drawn(self) -> Iterator[list[Point]]:
        """Yield each line's points."""
        for line in self.lines:
            name = f"{line.name}, {self.steps}"
            yield [Point(self.x(step), self.y(value), f"{name} {step}: {figure(value)}") for step, value in line.finite]

    def summary(self) -> str:
        """Describe the chart in words: where each line began and stands."""
        told = [self.title]
        for line in self.lines:
            (first, begin), (last, end) = line.finite[0], line.finite[-1]
            beginning = f"{line.name}: {figure(begin)} in {self.steps} {first}"
            told.append(f"{beginning}, {figure(end)} in {self.steps} {last}" if last > first else beginning)
        return "; ".join(told)


def round_step(least: float) -> float:
    """Return the smallest 1, 2 or 5 times a power of ten not below this. least: above 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def figure(value: float) -> str:
    """Format a figure for people: whole numbers in full, others to four digits, small ones as 3.000e-05."""
    return f"{value:,}" if isinstance(value, int) else f"{value:#.4g}" if value else "0"
