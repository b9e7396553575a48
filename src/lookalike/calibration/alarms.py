"""The rate per query: how often the best of N strangers passes, quite another number than the rate per pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.pairs import Floats, Ints
from lookalike.calibration.rates import Rate
from lookalike.calibration.resampling import DRAWS, efron_weights
from lookalike.errors import InputError

_TAIL = 10
"""How many of a query's closest strangers tell how fast closeness falls off there."""


@dataclass(frozen=True, slots=True, eq=False)
class AlarmTable:
    """For each of Q queries the closeness of its best stranger among ``sizes`` (Q,) others, and its unit.

    ``gaps`` (Q,) is the largest drop among the closest strangers. ``spacing`` is the scale of the tail: among e times
    as many strangers the best is closer by about so much (Gumbel; Coles 2001, ch. 3), which carries the numbers over
    to galleries of another size.
    """

    best: Floats
    gaps: Floats
    sizes: Floats
    units: Ints
    spacing: float

    @classmethod
    def of_matrix(cls, closeness: Floats, stranger: Any, units: Ints) -> AlarmTable:
        """Return the table of the rows of (Q, G) ``closeness``, where ``stranger`` (Q, G) tells who counts."""
        rows = np.flatnonzero(stranger.sum(axis=1) > 0)
        if not len(rows):
            raise InputError("no query has a stranger to be compared with; calibrate on two labels or more")
        ranked = -np.sort(-np.where(stranger[rows], closeness[rows], -np.inf), axis=1)[:, : _TAIL + 1]
        sizes = stranger[rows].sum(axis=1).astype(np.float64)
        finite = np.where(np.isfinite(ranked), ranked, ranked[:, :1])
        gaps = -np.diff(finite, axis=1).min(axis=1, initial=0.0)
        return cls(ranked[:, 0].astype(np.float64), gaps, sizes, units[rows], _spacing(ranked))

    def at_size(self, size: int) -> Floats:
        """Return (Q,) how close the best stranger would be in a gallery of ``size`` items."""
        return self.best + self.spacing * np.log(max(1, size) / self.sizes)

    def rate(self, closeness: float, size: int) -> Rate:
        """Return the share of the queries without a true match of which an item is at least so close, by resampling."""
        passed = (self.at_size(size) >= closeness).astype(np.float64)
        draws = self._shares(passed[:, None])[:, 0]
        return Rate(self._cautious(float(passed.mean())), *map(float, np.quantile(draws, [0.025, 0.975])))

    def gap(self, target: float) -> float:
        """Return the drop among its hits that a share of ``target`` of the queries without a true match reach."""
        return float(np.quantile(self.gaps, 1 - target))

    def plug_in(self, target: float, size: int) -> float:
        """Return the closeness that a share of ``target`` of these very queries reaches.

        With one query more in the count, as conformal prediction has it: the next query is as likely to take any rank.
        """
        best = np.sort(self.at_size(size))[::-1]
        rank = target * (len(best) + 1) - 1
        if rank < 0:  # beyond the closest: the tail goes on as it fell
            return float(best[0] - self.spacing * math.log(rank + 1))
        return float(np.interp(rank, np.arange(len(best)), best))

    def threshold(self, target: float, size: int) -> float:
        """Return a closeness that hardly more than ``target`` of such queries reach, of other units too.

        Each resample of units would set its own threshold; three in four would not set a higher one.
        """
        best = self.at_size(size)
        order = np.argsort(-best, kind="stable")
        weights = _resampled(self.units.tobytes())[order]
        passed = np.cumsum(weights, axis=0) / np.maximum(weights.sum(axis=0), 1e-9)
        rows = (passed <= target).sum(axis=0)
        of_draws = best[order][np.minimum(rows, len(best) - 1)]
        return max(self.plug_in(target, size), float(np.quantile(of_draws, _CAUTION)))

    def _cautious(self, rate: float) -> float:
        return (rate * len(self.best) + 1) / (len(self.best) + 1)

    def _shares(self, passed: Floats) -> Floats:
        weights = _resampled(self.units.tobytes())
        shares: Floats = (weights.T @ passed) / np.maximum(weights.sum(axis=0), 1e-9)[:, None]
        return shares

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "best": [float(f"{value:.7g}") for value in self.best],
            "gaps": [float(f"{value:.7g}") for value in self.gaps],
            "sizes": self.sizes.tolist(),
            "units": self.units.tolist(),
            "spacing": self.spacing,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Sequence[float] | float]) -> AlarmTable:
        """Return the table of such an object."""
        return cls(
            np.asarray(data["best"], np.float64),
            np.asarray(data["gaps"], np.float64),
            np.asarray(data["sizes"], np.float64),
            np.asarray(data["units"], np.int64),
            float(np.asarray(data["spacing"])),
        )


_CAUTION = 0.75


@lru_cache(maxsize=16)
def _resampled(units: bytes) -> NDArray[np.float32]:
    """Return (Q, draws) how often each query comes when units are drawn anew; kept, since every hit asks for it."""
    return efron_weights(np.frombuffer(units, np.int64), DRAWS, np.random.default_rng(0))


def _spacing(ranked: Floats) -> float:
    """Return the mean by which the closest strangers exceed the one after them: the scale of an exponential tail."""
    finite = ranked[np.isfinite(ranked).all(axis=1)]
    if finite.shape[1] < 2 or not len(finite):
        return 0.0
    return float((finite[:, :-1] - finite[:, -1:]).mean())
