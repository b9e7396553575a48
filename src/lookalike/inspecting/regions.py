"""Heat -> boxes: what is connected above one level and reaches a higher one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.types import Float32

Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Region:
    """A box (left, top, width, height) in pixels of the picture, and the highest score in it."""

    box: tuple[int, int, int, int]
    score: float
    test: str

    def as_dict(self) -> dict[str, object]:
        """Return the documented JSON shape."""
        return {"box": list(self.box), "score": self.score, "test": self.test}


@dataclass(frozen=True, slots=True)
class Spot:
    """A connected part of a plane: rows [top, bottom), columns [left, right), and the highest heat in it."""

    top: int
    bottom: int
    left: int
    right: int
    score: float


def spots(heat: Float32, low: float, high: float) -> list[Spot]:
    """Return the parts of ``heat`` above ``low`` that reach above ``high``, hottest first.

    Pixels are connected across corners too. Two levels, as in Canny 1986: the high one tells whether, the low where.
    """
    runs, roots = _runs(heat > low)
    found: dict[int, Spot] = {}
    for number, (row, start, stop) in enumerate(runs):
        peak = float(heat[row, start:stop].max())
        root = _root(roots, number)
        old = found.get(root)
        found[root] = (
            Spot(row, row + 1, start, stop, peak)
            if old is None
            else Spot(old.top, row + 1, min(old.left, start), max(old.right, stop), max(old.score, peak))
        )
    hot = [spot for spot in found.values() if spot.score > high]
    return sorted(hot, key=lambda spot: (-spot.score, spot.top, spot.left))


def _runs(mask: Mask) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Return the runs (row, start, stop) of a mask, row by row, and a forest that joins those that touch."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, stops = np.nonzero(edges == -1)
    runs = list(zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True))
    roots, above = list(range(len(runs))), 0
    for number, (row, start, stop) in enumerate(runs):
        while runs[above][0] < row - 1 or (runs[above][0] == row - 1 and runs[above][2] < start):
            above += 1
        other = above
        while other < number and runs[other][0] == row - 1 and runs[other][1] <= stop:
            a, b = _root(roots, number), _root(roots, other)
            roots[max(a, b)] = min(a, b)
            other += 1
    return runs, roots


def _root(roots: list[int], number: int) -> int:
    while roots[number] != number:
        roots[number] = roots[roots[number]]
        number = roots[number]
    return number
