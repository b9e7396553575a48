"""Is it worse than it was? Only where chance and a margin together do not explain it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lookalike.calibration.pairs import Floats, Ints
from lookalike.errors import InputError
from lookalike.evaluation.intervals import Interval, label_weights, mean_interval, query_weights

DEFAULT_MARGIN = 0.005
_FEW_LABELS = 20
# Only a loss is looked for, so 5 % of chance may lie on that side alone.
_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much a mean changed, query by query, with the interval of that.

    ``lost`` and ``won`` are the queries whose value fell and rose, ``queries`` those that both know.
    """

    interval: Interval
    lost: int
    won: int
    queries: int

    def as_dict(self) -> dict[str, float | int]:
        """Return the documented JSON shape."""
        return {
            "difference": self.interval.estimate,
            "low": self.interval.low,
            "high": self.interval.high,
            "lost": self.lost,
            "won": self.won,
            "queries": self.queries,
        }


def checked_margin(margin: float) -> float:
    """Return ``margin`` if it is one: a loss that is let pass, from 0 to below 1."""
    if not (math.isfinite(margin) and 0 <= margin < 1):
        raise InputError(f"a margin is from 0 to below 1, got {margin}; 0.005 is half a point")
    return margin


def paired(before: Floats, after: Floats, labels: Ints, seed: int = 0) -> Difference:
    """Return the mean of ``after - before`` (Q,), query by query, with its 95 % interval; NaN in either is left out."""
    return _difference(after - before, labels, query_weights(labels, seed=seed), 0.95)


def gated(before: Floats, after: Floats, labels: Ints, seed: int = 0) -> Difference:
    """Return the same with the 90 % interval of the gate, whose upper end is the 95 % bound of a loss.

    Whole labels are drawn: drawing queries in them again counts their chance twice, and a gate would miss what it is
    there for. Under 20 labels both are drawn, since whole labels are too few to tell.
    """
    few = len(np.unique(labels)) < _FEW_LABELS
    weights = (query_weights if few else label_weights)(labels, seed=seed)
    return _difference(after - before, labels, weights, _SHARE)


def is_regression(difference: Difference, margin: float = DEFAULT_MARGIN) -> bool:
    """Tell whether the whole interval lies below zero by more than ``margin``."""
    return difference.interval.high < -margin


def _difference(change: Floats, labels: Ints, weights: np.ndarray, share: float) -> Difference:
    if len(change) != len(labels):
        raise InputError(f"{len(labels)} labels need as many differences, got {len(change)}")
    known = change[~np.isnan(change)]
    if not len(known):
        raise InputError("no query has a value in both")
    return Difference(mean_interval(change, weights, share), int((known < 0).sum()), int((known > 0).sum()), len(known))
