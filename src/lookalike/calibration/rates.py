"""Closeness -> rate, with the interval in which the rate of another sample lies: a table that can be kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lookalike.calibration.kept import numbers
from lookalike.calibration.pairs import Floats
from lookalike.calibration.resampling import Spread, shortest_interval
from lookalike.errors import InputError

LOOSEST = 0.5
"""A rate that is aimed at is below it."""
WIDEST = 3.0
"""A promise whose 95 % interval is wider than so many times the target is no promise."""


class Rate(NamedTuple):
    """An estimated rate, and the 95 % interval in which that of another sample of the same kind lies."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class RateTable:
    """Closeness, falling, with the share of pairs at least so close: (L,) arrays, the rates rising.

    ``nominal`` is the share among the very pairs it was made of, ``estimate`` the mean over other samples, which is
    mostly higher (a threshold is set where it suits these pairs); ``low`` and ``high`` bound 95 % of those samples, and
    the estimate.
    """

    closeness: Floats
    nominal: Floats
    estimate: Floats
    low: Floats
    high: Floats

    def __post_init__(self) -> None:
        rates = self.nominal, self.estimate, self.low, self.high
        if not len(self.closeness) or any(len(column) != len(self.closeness) for column in rates):
            raise InputError("a table of rates needs as many closenesses as rates, at least one")
        rising = (np.diff(-self.closeness) > 0).all() and all((np.diff(column) >= 0).all() for column in rates)
        ordered = np.diff([0 * self.low, self.low, self.estimate, self.high, 0 * self.low + 1], axis=0) >= 0
        if not rising or not ordered.all() or not ((self.nominal > 0) & (self.nominal <= 1)).all():
            raise InputError("in a table of rates closeness falls, rates rise from 0 to 1, each inside its interval")

    @classmethod
    def of(cls, spread: Spread) -> RateTable:
        """Return the table of what resampling gave."""
        low, high = shortest_interval(spread.draws)
        # Where nearly all draws are 0 and a few large, the mean lies above the interval.
        mean = np.clip(spread.draws.mean(axis=0), 0, 1)
        columns = mean, np.minimum(low, mean), np.clip(np.maximum(high, mean), 0, 1)
        return cls(spread.closeness, spread.nominal, *(np.maximum.accumulate(column) for column in columns))

    def at(self, closeness: float) -> Rate:
        """Return the rate of pairs at least so close; beyond the closest pair seen, what that one allows."""
        rates = self.estimate, self.low, self.high
        return Rate(*(float(np.interp(-closeness, -self.closeness, column)) for column in rates))

    def strength(self, closeness: Floats) -> Floats:
        """Return -log10 of the nominal rate at each closeness, going on beyond the closest pair seen as it went there.

        It rises with closeness without steps, so that two pairs which are both closer than all strangers still differ.
        """
        x, y = self.closeness[::-1], -np.log10(self.nominal[::-1])
        last = len(x) - 1
        up, down = (_slope(x, y, start) for start in (last - max(1, last // 8), 0))
        beyond = np.maximum(0, closeness - x[-1]) * up - np.maximum(0, x[0] - closeness) * down
        strengths: Floats = np.interp(closeness, x, y) + beyond
        return strengths

    def fitting(self, target: float) -> int | None:
        """Return the loosest row that keeps ``target`` on average, with an interval no wider than 3 times it."""
        fits = (self.estimate <= target) & (self.high - self.low <= WIDEST * target)
        return int(np.flatnonzero(fits)[-1]) if fits.any() else None

    def plug_in(self, target: float) -> float:
        """Return the closeness that a share of ``target`` of these very pairs reaches."""
        return float(np.interp(target, self.nominal, self.closeness))

    def smallest_target(self) -> float:
        """Return the least rate for which there is a row that fits."""
        return float(np.maximum(self.estimate, (self.high - self.low) / WIDEST).min())

    def growth(self, target: float) -> float:
        """Return about how many times as many units would make a row fit.

        The rarer, the wider an interval is for its rate, by the root; and it narrows with the root of the units.
        """
        within = np.flatnonzero(self.estimate <= target)
        row = int(within[-1]) if len(within) else 0
        rate = max(target, float(self.estimate[row]))
        width = float(self.high[row] - self.low[row]) / math.sqrt(rate * target)
        return max(math.sqrt(rate / target), (width / WIDEST) ** 2)

    def as_dict(self) -> dict[str, list[float]]:
        """Return the columns as lists."""
        return {name: getattr(self, name).tolist() for name in _COLUMNS}

    @classmethod
    def from_dict(cls, columns: Mapping[str, Sequence[float]]) -> RateTable:
        """Return the table of such columns."""
        return cls(*(numbers(columns[name]) for name in _COLUMNS))


_COLUMNS = "closeness", "nominal", "estimate", "low", "high"


def _slope(x: Floats, y: Floats, start: int) -> float:
    """Return how steeply y rises from ``start`` to the end; 1 where there is but one point."""
    return float((y[-1] - y[start]) / (x[-1] - x[start])) if len(x) > 1 else 1.0


def checked_target(target: Any, what: str = "a false positive rate") -> float:
    """Return ``target`` if it is a rate that can be aimed at."""
    if not isinstance(target, int | float | np.floating) or not 0 < target < LOOSEST:
        raise InputError(f"{what} is above 0 and below {LOOSEST}, got {target!r}; 0.01 is one in a hundred")
    return float(target)


def rounded_up(rate: float) -> float:
    """Return the rate with two digits, so that what is said to be enough is."""
    step = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return float(f"{math.ceil(rate / step) * step:.2g}")
