"""How well a threshold tells pairs of the same thing from others: ROC and DET, rates, precision and recall.

A pair is a query with one of its candidates. Where every picture is both, each pair counts twice: no rate changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.pairs import Floats
from lookalike.errors import InputError
from lookalike.types import Float32

RATES = (0.1, 0.01, 0.001)
"""The false positive rates for which a threshold is reported."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """How many pairs of the same label and of others pass each of L thresholds, falling; the last column is all.

    ``genuine`` and ``impostor`` are (..., L + 1): one row, or one a draw, weighted. At the levels the rates are those
    counted; between them they are taken to be straight, which counts ties half.
    """

    levels: Float32
    genuine: NDArray[Any]
    impostor: NDArray[Any]

    def __post_init__(self) -> None:
        if self.genuine.shape != self.impostor.shape or self.genuine.shape[-1] != len(self.levels) + 1:
            raise InputError(f"{len(self.levels)} levels need one count more, got {self.genuine.shape}")

    @property
    def true_positive_rate(self) -> Floats:
        """(..., L + 2) share of the pairs of the same label that pass: from 0 to 1. NaN where there are none."""
        return _shares(self.genuine)

    @property
    def false_positive_rate(self) -> Floats:
        """(..., L + 2) share of the other pairs that pass: from 0 to 1. NaN where there are none."""
        return _shares(self.impostor)

    @property
    def precision(self) -> Floats:
        """(..., L + 1) share of the same label among the pairs that pass; 1 where none passes."""
        passed = self.genuine + self.impostor
        shares: Floats = np.where(passed > 0, self.genuine / np.where(passed > 0, passed, 1), 1.0)
        return shares

    def auc(self) -> Floats:
        """Return (...) the area under the ROC: how often a pair of the same label is closer than another; ties half."""
        x, y = self.false_positive_rate, self.true_positive_rate
        area: Floats = (np.diff(x) * (y[..., 1:] + y[..., :-1]) / 2).sum(axis=-1)
        return area

    def equal_error_rate(self) -> Floats:
        """Return (...) the rate at which as many others pass as ones of the same label do not."""
        x = self.false_positive_rate
        gap = x - (1 - self.true_positive_rate)  # rises from -1 to 1
        after = np.maximum(1, (gap >= 0).argmax(axis=-1))[..., None]
        (g0, g1), (x0, x1) = (
            (np.take_along_axis(some, after - 1, -1)[..., 0], np.take_along_axis(some, after, -1)[..., 0])
            for some in (gap, x)
        )
        rate: Floats = x0 + (x1 - x0) * -g0 / (g1 - g0)
        return rate

    def average_precision(self) -> Floats:
        """Return (...) precisions weighted by what each level adds in recall (no interpolation, as is usual)."""
        added: Floats = (np.diff(self.true_positive_rate) * self.precision).sum(axis=-1)
        return added

    def level_at(self, rate: float) -> int | None:
        """Return the place of the loosest level that at most a share of ``rate`` of the others passes, or None.

        That is the rate on these very pairs: no promise for others, which `lookalike calibrate` makes.
        """
        fits = np.flatnonzero(self.false_positive_rate[1:-1] <= rate)
        return int(fits[-1]) if len(fits) else None

    def true_positives_at(self, rate: float) -> Floats:
        """Return (...) the share of the same label that passes where a share of ``rate`` of the others does."""
        x, y = (np.atleast_2d(some) for some in (self.false_positive_rate, self.true_positive_rate))
        shares = np.array([_last_at(a, b, rate) for a, b in zip(x, y, strict=True)])
        return shares.reshape(self.genuine.shape[:-1])

    def false_positives_at(self, threshold: float) -> float:
        """Return the share of the others that is at least as close as ``threshold``: straight between two levels."""
        return float(np.interp(-threshold, -self.levels.astype(np.float64), self.false_positive_rate[1:-1]))


def curve_of(levels: Float32, genuine: NDArray[Any], impostor: NDArray[Any], weights: NDArray[Any]) -> Curve:
    """Return the curve of counts (Q, L + 1) of Q queries that weigh ``weights`` (Q,) or, one row a draw, (Q, D)."""
    return Curve(levels, _weighed(weights, genuine), _weighed(weights, impostor))


def det_points(curve: Curve) -> list[tuple[float, float]]:
    """Return (false positive rate, false negative rate) at the levels at which neither is 0 or 1."""
    x, y = curve.false_positive_rate, 1 - curve.true_positive_rate
    return [(float(a), float(b)) for a, b in zip(x, y, strict=True) if 0 < a < 1 and 0 < b < 1]


def thinned(count: int, at_most: int) -> Sequence[int]:
    """Return at most ``at_most`` of the numbers below ``count``, spread evenly, first and last among them."""
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, at_most)).round())]


def _weighed(weights: NDArray[Any], counts: NDArray[Any]) -> Floats:
    """Return ``weights.T @ counts`` in float64, a slice at a time: no large copy of the counts."""
    step = 1024
    parts = (
        weights[at : at + step].T.astype(np.float64) @ counts[at : at + step] for at in range(0, len(counts), step)
    )
    return np.asarray(sum(parts, start=np.zeros(1)))


def _shares(counts: NDArray[Any]) -> Floats:
    total = counts[..., -1:]
    with np.errstate(invalid="ignore"):  # 0 / 0: there are no such pairs, and NaN says so
        shares = counts / np.where(total > 0, total, np.nan)
    return np.concatenate([0 * shares[..., :1], shares], axis=-1)


def _last_at(x: Floats, y: Floats, rate: float) -> float:
    """Return y where x is ``rate``, below 1: straight between points, the highest y where x stands still."""
    if np.isnan(x[-1]):
        return math.nan
    after = int(np.searchsorted(x, rate, side="right"))
    share = (rate - x[after - 1]) / (x[after] - x[after - 1])
    return float(y[after - 1] + share * (y[after] - y[after - 1]))
