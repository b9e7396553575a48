"""What changes of pictures do to an encoder: recall@1, score and margin by strength, and what to switch on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.types import Float32, Skipped

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

VIEWPOINT = "viewpoint"
"""The kind of change that nobody makes: pictures of a thing from other sides. Its strength is in degrees."""

_STEPS = 8
_WIDTHS = (0.1, 1, 2, 5, 10, 15, 30)
LEAST_GAIN = 0.01
ERRORS = 3
"""A gain is told from so many standard errors on: with a dozen changes and several encoders, two are often chance."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a change of one strength does: ``recall`` is the share of changed pictures nearest to what they were.

    ``score`` is the mean cosine to that, ``margin`` how much it is above the nearest other picture, on average.
    ``found`` holds for each changed picture whether it counts, ``units`` what it is of: its number, or its label's.
    """

    change: str
    strength: float
    recall: float
    score: float
    margin: float
    found: tuple[bool, ...] = field(repr=False)
    units: tuple[int, ...] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {"change": self.change, "strength": self.strength, **self.figures(), "pictures": len(self.found)}

    def figures(self) -> dict[str, float]:
        """Return what was measured."""
        return {"recall@1": self.recall, "score": self.score, "margin": self.margin}


@dataclass(frozen=True, slots=True)
class Best:
    """The encoder that gains most on the first one by a change: in recall@1, and the standard error of that."""

    change: str
    encoder: str
    gain: float
    error: float


@dataclass(frozen=True, slots=True)
class Robustness:
    """For each encoder its points; between ``pictures`` different pictures the mean cosine, and all without any change.

    ``viewed`` pictures were looked for from another viewpoint: 0 where no angles are known.
    """

    source: str
    points: Mapping[str, tuple[Point, ...]]
    different: Mapping[str, float]
    unchanged: Mapping[str, Point]
    pictures: int
    viewed: int
    notes: tuple[str, ...]
    versions: Mapping[str, str]
    command: str
    skipped: tuple[Skipped, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        encoders = [
            {
                "encoder": name,
                "different": self.different[name],
                "unchanged": self.unchanged[name].figures(),
                "points": [point.as_dict() for point in points],
            }
            for name, points in self.points.items()
        ]
        return {
            "encoders": encoders,
            "best": [asdict(one) for one in winners(self.points)],
            "source": self.source,
            "pictures": self.pictures,
            "viewed": self.viewed,
            "notes": list(self.notes),
            "versions": dict(self.versions),
            "command": self.command,
            "skipped": [asdict(one) for one in self.skipped],
        }


# Points


def changed_point(change: str, strength: float, originals: Float32, changed: Float32) -> Point:
    """Return how changed pictures (N, D) find what they were (N, D), among all of these; rows are unit vectors."""
    rows = np.arange(len(originals))
    return _point(change, strength, changed.astype(np.float64) @ originals.T, rows, rows)


def viewpoint_points(vectors: Float32, labels: Sequence[str], angles: Sequence[float]) -> tuple[Point, ...]:
    """Return how pictures (N, D) find their label's reference among the references of all labels, by angle between.

    A label's reference is its picture with the angle nearest to 0. The strength is the circular difference to that, 0
    to 180 degrees, as it occurs, or rounded where there are more than 8. The references themselves are not looked for.
    """
    of_label = references(labels, angles)
    held = list(of_label.values())
    place = {label: number for number, label in enumerate(of_label)}
    queries = np.array([row for row in range(len(labels)) if row != of_label[labels[row]]], dtype=np.intp)
    own = np.array([place[labels[row]] for row in queries], dtype=np.intp)
    degrees = np.array([_between(angles[row], angles[of_label[labels[row]]]) for row in queries])
    scores = vectors[queries].astype(np.float64) @ vectors[held].T
    rounded = steps(degrees)
    return tuple(
        _point(VIEWPOINT, float(step), scores[rounded == step], own[rounded == step], own[rounded == step])
        for step in np.unique(rounded)
    )


def references(labels: Sequence[str], angles: Sequence[float]) -> dict[str, int]:
    """Return of each label the row of the picture with the angle nearest to 0; of 30 and 330 degrees, 30."""
    found: dict[str, int] = {}
    for row in sorted(range(len(labels)), key=lambda row: (_between(angles[row], 0), angles[row] % 360, row)):
        found.setdefault(labels[row], row)
    return found


def steps(degrees: Floats) -> Floats:
    """Return angles rounded to a tenth of a degree, or as much more as leaves at most 8 different ones."""
    for width in _WIDTHS:
        rounded: Floats = np.round(np.floor(degrees / width + 0.5) * width, 1)
        if len(np.unique(rounded)) <= _STEPS:
            break
    return rounded


def _between(a: float, b: float) -> float:
    apart = abs(a - b) % 360
    return min(apart, 360 - apart)


def _point(change: str, strength: float, scores: Floats, own: Rows, units: Rows) -> Point:
    """Return the point of (Q, G) cosines, where ``own`` (Q,) is the column of what each picture should find."""
    rows = np.arange(len(own))
    to_own = scores[rows, own]
    others = scores.copy()
    others[rows, own] = -np.inf
    best_other = others.max(axis=1)
    # Equally near is not found: what decides then is the order of the files.
    found = to_own > best_other
    return Point(
        change,
        strength,
        float(found.mean()),
        float(to_own.mean()),
        float((to_own - best_other).mean()),
        tuple(found.tolist()),
        tuple(units.tolist()),
    )


# By kind of change


class Means(NamedTuple):
    """What a kind of change does on average over its strengths; every changed picture counts the same."""

    recall: float
    score: float
    margin: float


def by_change(points: Iterable[Point]) -> dict[str, Means]:
    """Return the means of each kind of change, in the order in which they come."""
    of_kind = _by_kind(points)
    return {
        change: Means(*np.average(_values(steps), axis=0, weights=_counts(steps))) for change, steps in of_kind.items()
    }


def over_all(points: Iterable[Point]) -> Means:
    """Return the means over all kinds of change; every kind counts the same."""
    return Means(*np.mean(list(by_change(points).values()), axis=0))


def gained(first: Sequence[Point], other: Sequence[Point], change: str | None = None) -> tuple[float, float]:
    """Return what another encoder gains in recall@1 by a change, or by all of them, and its standard error.

    Both saw the same pictures, so their differences are taken picture by picture; those of one unit (what was made of
    one picture; the views of one label) are summed before their variance is, since they are not independent.
    """
    before, after = _by_kind(first), _by_kind(other)
    kinds = [change] if change else list(before)
    of_unit: dict[tuple[bool, int], float] = defaultdict(float)
    estimates = []
    for kind in kinds:
        units = [unit for point in before[kind] for unit in point.units]
        differences = _found(after[kind]) - _found(before[kind])
        estimates.append(float(differences.mean()))
        for unit, difference in zip(units, differences - estimates[-1], strict=True):
            # Pictures and labels are numbered apart.
            of_unit[kind == VIEWPOINT, unit] += difference / len(units) / len(kinds)
    spread = sum(value * value for value in of_unit.values()) * len(of_unit) / max(1, len(of_unit) - 1)
    return float(np.mean(estimates)), math.sqrt(spread)


def winners(points: Mapping[str, Sequence[Point]]) -> tuple[Best, ...]:
    """Return of each kind of change the encoder that gains most on the first one, where that is more than chance."""
    first = next(iter(points))
    found = (_best(points, change) for change in by_change(points[first]))
    return tuple(one for one in found if one is not None)


def _best(points: Mapping[str, Sequence[Point]], change: str | None) -> Best | None:
    first, *others = points
    tried = [Best(change or "", name, *gained(points[first], points[name], change)) for name in others]
    sure = [one for one in tried if one.gain >= LEAST_GAIN and one.gain > ERRORS * one.error]
    return max(sure, key=lambda one: one.gain, default=None)


def _by_kind(points: Iterable[Point]) -> dict[str, list[Point]]:
    of_kind: dict[str, list[Point]] = {}
    for point in points:
        of_kind.setdefault(point.change, []).append(point)
    return of_kind


def _values(points: Sequence[Point]) -> list[tuple[float, float, float]]:
    return [(point.recall, point.score, point.margin) for point in points]


def _counts(points: Sequence[Point]) -> list[int]:
    return [len(point.found) for point in points]


def _found(points: Sequence[Point]) -> Floats:
    return np.array([found for point in points for found in point.found], dtype=np.float64)


# In words


def advice(points: Mapping[str, Sequence[Point]]) -> list[str]:
    """Return what to switch on, in sentences; the first encoder is what the others are held against."""
    first, *others = points
    if not others:
        return [
            f"Only {first} was measured: make variants of it with `lookalike encoders vary`, and name them beside it, "
            "to see what to switch on."
        ]
    return [_overall(points), _by_kinds(points)]


def _overall(points: Mapping[str, Sequence[Point]]) -> str:
    first = next(iter(points))
    best, before = _best(points, None), over_all(points[first]).recall
    if best is None:
        return f"Over all changes nothing finds more than {first} ({before:.3f} recall@1) beyond chance."
    after = over_all(points[best.encoder]).recall
    return f"Over all changes {best.encoder} finds most: {after:.3f} recall@1, {best.gain:+.3f} against {first}."


def _by_kinds(points: Mapping[str, Sequence[Point]]) -> str:
    first = next(iter(points))
    of_encoder: dict[str, list[str]] = {}
    for one in sorted(winners(points), key=lambda one: -one.gain):
        of_encoder.setdefault(one.encoder, []).append(f"{one.change} ({one.gain:+.3f})")
    if not of_encoder:
        return f"By no single change is anything better than {first} by a point and more than chance."
    told = "; ".join(f"{name} for {', '.join(changes)}" for name, changes in of_encoder.items())
    return f"Switch on {told}. By every other change nothing is better than {first} beyond chance."
