"""Scored pairs of pictures, and which of them share what: a picture, or the unit that pictures come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.protocols import Metric

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_FEW = 8
AT_MOST_PICTURES = 1200
"""How many pictures a calibration looks at: of more, whole units are drawn. 720,000 pairs tell all there is to tell."""


def closeness(metric: Metric, scores: NDArray[Any]) -> NDArray[Any]:
    """Return scores so turned that higher is closer."""
    return scores if metric.higher_is_closer else -scores


def of_closeness(metric: Metric, value: float) -> float:
    """Return closeness as a score in the metric's own units: the inverse of :func:`closeness`."""
    return value if metric.higher_is_closer else -value


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPairs:
    """Pairs (i, j) of n pictures with their closeness: (P,) arrays, best first.

    ``units`` (n,) says which pictures belong together (a label, a scene, a slide, a patient): another sample brings
    other units, so units are what is resampled.
    """

    i: Ints
    j: Ints
    closeness: Floats
    units: Ints

    def __post_init__(self) -> None:
        if not len(self.i) == len(self.j) == len(self.closeness):
            raise InputError(f"pairs need i, j and closeness: got {len(self.i)}, {len(self.j)}, {len(self.closeness)}")
        numbers = np.concatenate([self.i, self.j])
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self.units):
            raise InputError(f"pairs name pictures 0 to {len(self.units) - 1}, got {numbers.min()} to {numbers.max()}")
        if not np.isfinite(self.closeness).all():
            raise InputError("the closeness of a pair is a number, got NaN or infinity")
        order = np.argsort(-self.closeness, kind="stable")
        for name, dtype in (("i", np.int64), ("j", np.int64), ("closeness", np.float64)):
            object.__setattr__(self, name, getattr(self, name)[order].astype(dtype))

    @classmethod
    def of_matrix(cls, closeness: NDArray[Any], mask: NDArray[np.bool_], units: Ints) -> ScoredPairs:
        """Return the pairs above the diagonal of (n, n) ``closeness`` for which ``mask`` (n, n) is true."""
        i, j = np.nonzero(np.triu(mask, 1))
        return cls(i, j, closeness[i, j], units)

    def __len__(self) -> int:
        return len(self.i)

    @property
    def pictures(self) -> int:
        """How many pictures the pairs are made of."""
        return len(np.union1d(self.i, self.j))

    @property
    def unit_count(self) -> int:
        """How many units these pictures belong to."""
        return len(np.unique(self.units[np.union1d(self.i, self.j)]))

    def rate_at(self, threshold: float) -> float:
        """Return the share of the pairs that are at least as close as ``threshold``."""
        return float(np.searchsorted(-self.closeness, -threshold, side="right")) / max(1, len(self))


def numbered(names: Sequence[Any]) -> Ints:
    """Return for each name its number, 0 up, equal names alike: (n,)."""
    known: dict[Any, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)


def drawn(units: Ints, at_most: int = AT_MOST_PICTURES, seed: int = 0) -> Ints:
    """Return the numbers of at most ``at_most`` pictures, ascending: whole units by lot, all where they are few.

    Units so large that no eight of them would fit in (or not all, where they are fewer) give some pictures, by lot.
    """
    if len(units) <= at_most:
        return np.arange(len(units))
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.unique(units))
    largest = at_most // min(_FEW, len(order))
    chosen: list[int] = []
    for unit in order:
        pictures = rng.permutation(np.flatnonzero(units == unit))[:largest]
        if len(chosen) + len(pictures) > at_most:
            break
        chosen.extend(pictures.tolist())
    return np.sort(np.array(chosen, np.int64))
