"""How far changes move pictures, for people: one page (.html) of curves that needs no network and runs no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lookalike import __version__
from lookalike.changing import VIEWPOINT, Best, Point, Robustness, advice, by_change, gained, over_all, winners
from lookalike.plots import Axis, Plot, Series, plot, style, ticks
from lookalike.report import templates
from lookalike.tables import check_output, replacing
from lookalike.types import display_path

_WIDTH, _HEIGHT = 230, 120
_ROWS = 25
_NOT_CHANGED = "none"


class _Strength(NamedTuple):
    """What the strengths of a change are, and which of them changes nothing."""

    name: str
    nothing: float | None


STRENGTHS: Mapping[str, _Strength] = {
    "darker": _Strength("gamma", 1),
    "lighter": _Strength("1 / gamma", 1),
    "brightness": _Strength("times as light", 1),
    "warm light": _Strength("more red and less blue, share", 0),
    "noise": _Strength("sigma, levels of 255", 0),
    "blur": _Strength("sigma, pixels of 224", 0),
    "jpeg": _Strength("quality", 100),
    "scale": _Strength("share of each side", 1),
    "rotation": _Strength("degrees", 0),
    "crop": _Strength("share of the area that is left", 1),
    "occlusion": _Strength("share of the area that is hidden", 0),
    "mirror": _Strength("mirrored or not", 0),
    "grey": _Strength("grey or not", 0),
    VIEWPOINT: _Strength("degrees from the reference", None),
}


class _Card(NamedTuple):
    recall: Plot
    score: Plot


def write_robustness(output: Path, found: Robustness) -> None:
    """Write the page; raise ConfigError or StoreError where it cannot be written. Names of files are escaped."""
    check_output(output, ".html", ".htm")
    best = {one.change: one for one in winners(found.points)}
    cards = _cards(found)
    page = templates().get_template("robustness.html").render(
        title=f"Robustness on {display_path(found.source)}",
        lines=[_size_line(found), *map(display_path, found.notes)],
        advice=[display_path(line) for line in advice(found.points)],
        summary=_summary(found),
        by_change=_by_change(found, best),
        first=display_path(next(iter(found.points))),
        several=len(found.points) > 1,
        cards=cards,
        viewed=found.viewed,
        versions=[display_path(f"{name} {value}") for name, value in found.versions.items()],
        command=display_path(found.command),
        skipped=[display_path(f"{one.path}: {one.reason}") for one in found.skipped[:_ROWS]],
        more_skipped=len(found.skipped) - _ROWS,
        version=__version__,
    )  # fmt: skip
    with replacing(output) as file:
        file.write(page.encode("utf-8", "replace"))


def _size_line(found: Robustness) -> str:
    kinds = len({point.change for points in found.points.values() for point in points} - {VIEWPOINT})
    viewed = f"; {found.viewed:,} seen from several viewpoints" if found.viewed else ""
    left_out = f"; {len(found.skipped):,} left out" if found.skipped else ""
    return f"{found.pictures:,} pictures, each changed in {kinds} ways, from mildly to severely{viewed}{left_out}"


# Tables


class _Cell(NamedTuple):
    text: str
    best: bool = False


def _summary(found: Robustness) -> list[list[str]]:
    first = next(iter(found.points))
    several = len(found.points) > 1
    gain = [f"against {display_path(first)}"] if several else []
    head = ["", "recall@1", *gain, "score", "margin", "different", "unchanged", "worst change", "its recall@1"]
    rows = []
    for name, points in found.points.items():
        means = over_all(points)
        worst, of_worst = min(by_change(points).items(), key=lambda item: item[1].recall)
        against = [_gain(found.points[first], points)] if several else []
        figures = map(_short, (means.score, means.margin, found.different[name], found.unchanged[name].recall))
        rows.append([display_path(name), _short(means.recall), *against, *figures, worst, _short(of_worst.recall)])
    return [head, *rows]


def _gain(first: Sequence[Point], other: Sequence[Point]) -> str:
    if other is first:
        return ""
    gain, error = gained(first, other)
    return f"{gain:+.3f} ± {error:.3f}".replace("0.", ".")


def _by_change(found: Robustness, best: Mapping[str, Best]) -> list[list[_Cell]]:
    means = {name: by_change(points) for name, points in found.points.items()}
    first = next(iter(means))
    rows = [[_Cell(""), *(_Cell(display_path(name)) for name in means)]]
    for change in means[first]:
        wins = best[change].encoder if change in best else None
        cells = [
            _Cell(f"{_short(of[change].recall)} / {_short(of[change].score)}", name == wins)
            for name, of in means.items()
        ]
        rows.append([_Cell(change), *cells])
    return rows


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)


# Curves


def _cards(found: Robustness) -> list[_Card]:
    """Return two plots a kind of change, recall@1 above mean score; all of a kind share their scale."""
    every = [point for points in found.points.values() for point in points]
    recall = _scale("recall@1", [point.recall for point in (*every, *found.unchanged.values())])
    score = _scale("mean score", [*(point.score for point in every), *found.different.values()])
    changes = dict.fromkeys(point.change for point in every)
    return [_card(found, change, recall, score) for change in changes]


def _scale(name: str, values: Sequence[float]) -> Axis:
    """Return an axis from a round number below all values up to 1."""
    lowest = min(values)
    step = 0.05 if lowest >= 0.85 else 0.1 if lowest >= 0.6 else 0.2 if lowest >= 0 else 0.5
    count = max(1, math.ceil((1 - lowest) / step - 1e-9))
    low = 1 - count * step
    return Axis(
        name,
        lambda value: (value - low) / (1 - low),
        ticks([round(1 - number * step, 2) for number in range(count + 1)]),
    )


def _card(found: Robustness, change: str, recall: Axis, score: Axis) -> _Card:
    curves = {name: _curve(found, name, change) for name in found.points}
    x = _x_axis(change, [strength for strength, _ in next(iter(curves.values()))])
    recalls = [_series(number, name, x, _recalls(curve)) for number, (name, curve) in enumerate(curves.items())]
    scores = [
        _series(number, name, x, _scores(curve))._replace(level=found.different[name])
        for number, (name, curve) in enumerate(curves.items())
    ]
    return _Card(
        plot(change, x._replace(name=""), recall, recalls, _WIDTH, _HEIGHT),
        plot("", x, score, scores, _WIDTH, _HEIGHT, "different pictures"),
    )


_Curve = list[tuple[float, Point]]


def _curve(found: Robustness, name: str, change: str) -> _Curve:
    """Return the points of a change by strength, with that of no change in its place."""
    curve = [(point.strength, point) for point in found.points[name] if point.change == change]
    nothing = STRENGTHS[change].nothing
    if nothing is None:
        return curve
    weaker = [at for at in curve if at[0] < nothing]
    # Brightness goes both ways from where nothing changes; all else begins there.
    both_ways = 0 < len(weaker) < len(curve)
    place = len(weaker) if both_ways else 0
    return [*curve[:place], (nothing, found.unchanged[name]), *curve[place:]]


def _x_axis(change: str, strengths: Sequence[float]) -> Axis:
    """Return an axis on which strengths are equally far apart; degrees of a viewpoint are where they are."""
    strength = STRENGTHS[change]
    if strength.nothing is None:
        last = max(*strengths, 1)
        return Axis(strength.name, lambda value: value / last, ticks(strengths))

    def name(value: float) -> str:
        if value == strength.nothing:
            return _NOT_CHANGED
        # A change without strengths is made or not.
        return change if len(strengths) == 2 else f"{value:g}"

    return Axis(
        strength.name,
        lambda value: strengths.index(value) / (len(strengths) - 1),
        [(value, name(value)) for value in strengths],
    )


def _recalls(curve: _Curve) -> list[tuple[float, float]]:
    return [(strength, point.recall) for strength, point in curve]


def _scores(curve: _Curve) -> list[tuple[float, float]]:
    return [(strength, point.score) for strength, point in curve]


def _series(number: int, name: str, x: Axis, points: Sequence[tuple[float, float]]) -> Series:
    shown = display_path(name)
    told = [f"{shown}, {text}: {value:.3f}" for (_, value), (_, text) in zip(points, x.ticks, strict=True)]
    return Series(shown, style(number), points, told)
