# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Plots of the HTML page as geometry: where every mark, label and tick lies. The template draws them as SVG.

Positions are SVG units with y down; a plot is `WIDTH` x `HEIGHT` of them and is scaled to its place by the browser.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from matplotlib.ticker import LogLocator, MaxNLocator

WIDTH, HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 40
_LETTER, _LINE = 5.9, 12
"""Width of a letter and height of a line of a label."""
_LOG_FROM = 4.0
"""Costs that span more than this factor get a logarithmic axis."""
CURVE_POINTS = 120
"""A curve has at most so many points: more cannot be told apart."""

Side = Literal["paper", "ours"]


@dataclass(frozen=True)
class Point:
    """A value to be drawn.

    Attributes:
        x: in the axis' unit.
        y: likewise.
        side: the paper's points are hollow, ours filled.
        colour: number of a colour of the style sheet.
        label: beside the mark, where there is room.
        title: shown on hover.
        low: lower end of the interval of y, where there is one.
        high: its upper end.
    """

    x: float
    y: float
    side: Side
    colour: int
    label: str
    title: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Curve:
    """A line to be drawn; points in the axes' units."""

    points: Sequence[tuple[float, float]]
    colour: int
    label: str
    dots: bool = False


@dataclass(frozen=True)
class Mark:
    """A placed point. Attributes as of `Point`, in SVG units; `anchor` is empty where its label found no room."""

    x: float
    y: float
    side: Side
    colour: int
    label: str
    title: str
    low: float | None
    high: float | None
    label_x: float = 0.0
    label_y: float = 0.0
    anchor: str = ""


@dataclass(frozen=True)
class Path:
    """A placed curve: `line` is the points attribute of a polyline."""

    line: str
    colour: int
    label: str
    dots: Sequence[tuple[float, float, str]] = ()


@dataclass(frozen=True)
class Tick:
    """A line of the grid at `at`, with its number."""

    at: float
    text: str


@dataclass(frozen=True)
class Plot:
    """A placed plot.

    Attributes:
        title: what it shows, for people and screen readers.
    """

    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    marks: Sequence[Mark] = ()
    paths: Sequence[Path] = ()
    width: int = WIDTH
    height: int = HEIGHT
    frame: tuple[int, int, int, int] = field(default=(_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM))
    """left, top, right, bottom of the area between the axes"""


@dataclass(frozen=True)
class _Axis:
    """From values to SVG units."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, value: float) -> float:
        a, b, v = (math.log(t) for t in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return round(self.start + (v - a) / (b - a) * (self.end - self.start), 1)

    def ticks(self) -> list[Tick]:
        """Round numbers inside the axis."""
        locator = LogLocator(subs=(1, 2, 5)) if self.log else MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])
        inside = [float(v) for v in locator.tick_values(self.low, self.high)]
        slack = 1e-9 * (self.high - self.low)
        return [Tick(self(v), f"{v:g}") for v in inside if self.low - slack <= v <= self.high + slack]


def scatter(points: Sequence[Point], title: str, x_label: str, y_label: str = "AP") -> Plot | None:
    """Points with their labels and intervals; None where there are fewer than two.

    Args:
        points: costs above 0 on x.
        title: what it shows.
        x_label: with its unit.
        y_label: likewise.
    """
    points = [p for p in points if p.x > 0 and math.isfinite(p.y)]
    if len(points) < 2:
        return None
    xs = [p.x for p in points]
    ys = [y for p in points for y in (p.y, p.low, p.high) if y is not None and math.isfinite(y)]
    x_axis = _axis(xs, _LEFT, WIDTH - _RIGHT, log=max(xs) / min(xs) > _LOG_FROM, floor=0.0, least=0.1)
    y_axis = _axis(ys, HEIGHT - _BOTTOM, _TOP, floor=0.0)
    marks = [
        Mark(
            x_axis(p.x), y_axis(p.y), p.side, p.colour, p.label, p.title,
            None if p.low is None or not math.isfinite(p.low) else y_axis(p.low),
            None if p.high is None or not math.isfinite(p.high) else y_axis(p.high),
        )
        for p in points
    ]  # fmt: skip
    return Plot(title, x_label, y_label, x_axis.ticks(), y_axis.ticks(), _labelled(marks))


def curves(lines: Sequence[Curve], title: str, y_label: str, log: bool = False) -> Plot | None:
    """Curves over training steps; None where there is nothing to draw.

    Args:
        lines: y above 0 where `log`.
        title: what they are.
        y_label: with its unit.
        log: logarithmic y.
    """
    cut = [replace(c, points=_thinned([p for p in c.points if _drawable(p[1], log)])) for c in lines]
    cut = [c for c in cut if c.points]
    if not cut:
        return None
    x_axis = _axis([x for c in cut for x, _ in c.points], _LEFT, WIDTH - _RIGHT)
    ys = [y for c in cut for _, y in c.points]
    y_axis = _axis(ys, HEIGHT - _BOTTOM, _TOP, log=log and max(ys) / min(ys) > _LOG_FROM, floor=0.0)
    paths: list[Path] = []
    for c in cut:
        placed = [(x_axis(x), y_axis(y)) for x, y in c.points]
        dots = [(*at, f"{c.label}: {y:.3g} at step {x:g}") for at, (x, y) in zip(placed, c.points, strict=True)]
        paths.append(Path(" ".join(f"{x:g},{y:g}" for x, y in placed), c.colour, c.label, dots if c.dots else ()))
    return Plot(title, "training step", y_label, x_axis.ticks(), y_axis.ticks(), paths=paths)


def _drawable(y: float, log: bool) -> bool:
    return math.isfinite(y) and (y > 0 or not log)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most CURVE_POINTS points, each the mean of its neighbours, so that noise is not picked at random."""
    each = -(-len(points) // CURVE_POINTS) if points else 1
    groups = [points[i : i + each] for i in range(0, len(points), each)]
    return [(math.fsum(x for x, _ in g) / len(g), math.fsum(y for _, y in g) / len(g)) for g in groups]


def _axis(
    values: Sequence[float],
    start: float,
    end: float,
    log: bool = False,
    floor: float | None = None,
    least: float = 0.0,
) -> _Axis:
    """An axis with a margin around its values, which does not reach below `floor` unless they do.

    The margin is at least the share `least` of the highest value, so that costs that are all but equal look so.
    """
    low, high = min(values), max(values)
    if log:
        room = max((high / low) ** 0.08, 1.05)
        return _Axis(low / room, high * room, start, end, True)
    room = max(0.08 * (high - low), least * abs(high)) or 0.1 * abs(high) or 1.0
    bottom = low - room
    if floor is not None and low >= floor:
        bottom = max(bottom, floor)
    return _Axis(bottom, high + room, start, end, False)


# --- labels --------------------------------------------------------------------------------------------------------

_Box = tuple[float, float, float, float]


def _labelled(marks: Sequence[Mark]) -> list[Mark]:
    """Each label beside its mark, where it covers no other label and no mark; else it is left to hover and table."""
    taken: list[_Box] = [(m.x - 4, m.y - 4, m.x + 4, m.y + 4) for m in marks]
    found: list[Mark] = []
    for mark in marks:
        place = next((p for p in _places(mark) if _free(p[3], taken)), None)
        if place:
            taken.append(place[3])
            mark = replace(mark, label_x=round(place[0], 1), label_y=round(place[1], 1), anchor=place[2])
        found.append(mark)
    return found


def _places(mark: Mark) -> list[tuple[float, float, str, _Box]]:
    wide = _LETTER * len(mark.label)
    found: list[tuple[float, float, str, _Box]] = []
    for dy in (3.5, -7.0, 14.0):
        for dx, anchor in ((8.0, "start"), (-8.0, "end")):
            x, y = mark.x + dx, mark.y + dy
            left = x if anchor == "start" else x - wide
            found.append((x, y, anchor, (left, y - _LINE + 2, left + wide, y + 2)))
    return found


def _free(box: _Box, taken: Sequence[_Box]) -> bool:
    inside = box[0] >= _LEFT and box[2] <= WIDTH - 2 and box[1] >= 0 and box[3] <= HEIGHT - _BOTTOM
    return inside and not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken)
