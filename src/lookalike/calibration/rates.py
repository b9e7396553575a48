"""Closeness -> rate, with the interval in which the rate of another sample lies: a table that can be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lookalike.calibration.pairs import Floats
from lookalike.calibration.resampling import Spread, shortest_interval
from lookalike.errors import InputError

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
    higher (a threshold is set where it suits these pairs); ``low`` and ``high`` bound 95 % of those samples.
    """

    closeness: Floats
    nominal: Floats
    estimate: Floats
    low: Floats
    high: Floats

    def __post_init__(self) -> None:
        if not len(self.closeness) or len({len(getattr(self, name)) for name in _COLUMNS}) != 1:
            raise InputError("a table of rates needs as many closenesses as rates, at least one")

    @classmethod
    def of(cls, spread: Spread) -> RateTable:
        """Return the table of what resampling gave."""
        low, high = shortest_interval(spread.draws)
        rising = [np.maximum.accumulate(rate) for rate in (spread.draws.mean(axis=0), low, high)]
        return cls(spread.closeness, spread.nominal, *rising)

    def at(self, closeness: float) -> Rate:
        """Return the rate of pairs at least so close; beyond the closest pair seen, what that one allows."""
        return Rate(*(float(np.interp(-closeness, -self.closeness, column)) for column in self._rates()))

    def strength(self, closeness: Floats) -> Floats:
        """Return -log10 of the nominal rate at each closeness, going on beyond the closest pair seen as it went there.

        It rises with closeness without steps, so that two pairs which are both closer than all strangers still differ.
        """
        x, y = self.closeness[::-1], -np.log10(self.nominal[::-1])
        x, first = np.unique(x, return_index=True)
        y = y[first]
        inside = np.interp(closeness, x, y)
        back = max(0, len(x) - 1 - len(x) // 8)
        slope = (y[-1] - y[back]) / (x[-1] - x[back]) if len(x) > 1 and x[-1] > x[back] else 1.0
        down = (y[-1] - y[0]) / (x[-1] - x[0]) if len(x) > 1 else 1.0
        beyond = np.maximum(0, closeness - x[-1]) * slope - np.maximum(0, x[0] - closeness) * down
        strengths: Floats = inside + beyond
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

    def as_dict(self) -> dict[str, list[float]]:
        """Return the columns as lists."""
        return {name: [float(f"{value:.9g}") for value in getattr(self, name)] for name in _COLUMNS}

    @classmethod
    def from_dict(cls, columns: Mapping[str, Sequence[float]]) -> RateTable:
        """Return the table of such columns."""
        return cls(*(np.asarray(columns[name], np.float64) for name in _COLUMNS))

    def _rates(self) -> tuple[Floats, ...]:
        return self.estimate, self.low, self.high


_COLUMNS: tuple[str, ...] = ("closeness", "nominal", "estimate", "low", "high")


def checked_target(target: Any, what: str = "a false positive rate") -> float:
    """Return ``target`` if it is a rate that can be aimed at."""
    if not isinstance(target, int | float) or not 0 < target < 0.5:
        raise InputError(f"{what} is above 0 and below 0.5, got {target!r}; 0.01 is one pair in a hundred")
    return float(target)
