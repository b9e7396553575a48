"""Curves of a page: axes, ticks and lines as numbers that ``templates/plots.html`` draws as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

# Okabe and Ito's colours, which people tell apart whatever colours they see.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("", "7 4", "2 3", "10 3 2 3")
_MARKS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.5-3.5h7v7h-7z",
    "M0-4.7 4.5 3.4h-9z",
    "M0-5 5 0 0 5-5 0z",
    "M0 4.7 4.5-3.4h-9z",
)


class Style(NamedTuple):
    """How a line looks; ``mark`` is the outline of its points, around (0, 0)."""

    color: str
    dash: str
    mark: str


def style(number: int) -> Style:
    """Return the look of the line of this number: sixty are told apart, the first twelve by colour and dash alone."""
    return Style(*(looks[number % len(looks)] for looks in (_COLORS, _DASHES, _MARKS)))


class Axis(NamedTuple):
    """What a side of a plot shows: its name, where a value lies on it (0 to 1), and what is written at which values."""

    name: str
    place: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]


def ticks(values: Sequence[float]) -> list[tuple[float, str]]:
    """Return values with themselves as text."""
    return [(value, f"{value:g}") for value in values]


class Mark(NamedTuple):
    """A point that is marked, in pixels, and what it tells where the pointer rests."""

    x: float
    y: float
    told: str


class Line(NamedTuple):
    """A line through ``points``, in pixels as SVG writes them; ``level`` is another, level one that belongs to it."""

    name: str
    style: Style
    points: str
    marks: Sequence[Mark] = ()
    level: float | None = None


class Plot(NamedTuple):
    """A plot of ``width`` x ``height`` pixels; ticks are (place in pixels, text), levels are ``level_name``."""

    title: str
    x_name: str
    y_name: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]
    width: int
    height: int
    level_name: str = ""


class Series(NamedTuple):
    """What a line shows: its points, what each of them tells (or nothing: then none is marked), and its level."""

    name: str
    style: Style
    points: Sequence[tuple[float, float]]
    told: Sequence[str] = ()
    level: float | None = None


def plot(
    title: str, x: Axis, y: Axis, series: Sequence[Series], width: int = 320, height: int = 260, level_name: str = ""
) -> Plot:
    """Return a plot of lines, which are drawn in their order."""

    def down(value: float) -> float:
        return round((1 - y.place(value)) * height, 1)

    def right(value: float) -> float:
        return round(x.place(value) * width, 1)

    lines = []
    for one in series:
        places = [(right(a), down(b)) for a, b in one.points]
        marks = [Mark(*place, told) for place, told in zip(places, one.told, strict=False)]
        drawn = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        lines.append(Line(one.name, one.style, drawn, marks, None if one.level is None else down(one.level)))
    x_ticks = [(right(value), text) for value, text in x.ticks]
    y_ticks = [(down(value), text) for value, text in y.ticks]
    return Plot(title, x.name, y.name, x_ticks, y_ticks, lines, width, height, level_name)
