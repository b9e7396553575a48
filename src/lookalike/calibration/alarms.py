"""The rate per query: how often the best of N strangers passes, quite another number than the rate per pair."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.kept import number, numbers, whole_numbers
from lookalike.calibration.pairs import Floats, Ints
from lookalike.calibration.rates import Rate, rounded_up
from lookalike.calibration.resampling import DRAWS, efron_weights
from lookalike.errors import InputError

HITS = 50
"""Among so many of a query's closest items gaps are looked for."""
_TAIL = 10
"""How many of a query's closest strangers tell how fast closeness falls off there."""
_FURTHEST = 10
"""A rate so many times smaller than one in all queries is taken from the tail, and no smaller one."""


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

    def __post_init__(self) -> None:
        if not len(self.best) or not len(self.best) == len(self.gaps) == len(self.sizes) == len(self.units):
            raise InputError("a table of alarms needs as many gaps, sizes and units as queries, at least one")
        if self.spacing < 0 or self.gaps.min() < 0 or self.sizes.min() < 1:
            raise InputError("in a table of alarms a query has one stranger or more, and no gap or spacing is below 0")

    @classmethod
    def of_matrix(cls, closeness: Floats, stranger: Any, units: Ints) -> AlarmTable:
        """Return the table of the rows of (Q, G) ``closeness``, where ``stranger`` (Q, G) tells who counts."""
        rows = np.flatnonzero(stranger.any(axis=1))
        if not len(rows):
            raise InputError("no query has a stranger to be compared with; calibrate on two labels or more")
        ranked = -np.sort(-np.where(stranger[rows], closeness[rows], -np.inf).astype(np.float64), axis=1)[:, :HITS]
        finite = np.where(np.isfinite(ranked), ranked, ranked[:, :1])  # after the last a rise, which is no drop
        gaps = np.maximum(0, -np.diff(finite, axis=1).min(axis=1, initial=0.0))
        sizes = stranger[rows].sum(axis=1).astype(np.float64)
        return cls(ranked[:, 0], gaps, sizes, units[rows], _spacing(ranked[:, : _TAIL + 1]))

    def at_size(self, size: int) -> Floats:
        """Return (Q,) how close the best stranger would be in a gallery of ``size`` items."""
        return self.best + self.spacing * np.log(max(1, size) / self.sizes)

    def independent(self) -> float:
        """Return as how many independent queries these count; those of one unit may all have the same neighbour.

        By Kish's design effect (Survey Sampling, 1965), taken where it is seen best: at the median.
        """
        best = self.at_size(1)
        above = (best >= np.median(best)) - (best >= np.median(best)).mean()
        of_units = np.bincount(np.unique(self.units, return_inverse=True)[1], weights=above)
        squares = max(float((of_units**2).sum()), 1e-9)
        return float(np.clip(len(best) * (above**2).sum() / squares, len(of_units), len(best)))

    def plug_in(self, target: float, size: int) -> float:
        """Return the closeness that a share of ``target`` of these very queries reaches, and one query more."""
        return self._reached(target, size, len(self.best))

    def threshold(self, target: float, size: int) -> float:
        """Return a closeness that a share of ``target`` of such queries reach on average, of other units too."""
        return self._reached(target, size, self.independent())

    def check(self, target: float) -> None:
        """Raise InputError where these queries cannot support a false alarm rate of ``target``."""
        count = self.independent()
        smallest = 1 / (_FURTHEST * (count + 1))
        if target < smallest:
            raise InputError(
                f"{len(self.best)} queries, which count as {count:.0f} independent ones, cannot support a false alarm "
                f"rate of {target:g}: the smallest they can promise is about {rounded_up(smallest):g}; "
                f"for {target:g} about {math.ceil(len(self.best) * smallest / target)} pictures are needed"
            )

    def _reached(self, target: float, size: int, count: float) -> float:
        """Return the closeness that the next query reaches with probability ``target``, after ``count`` like it.

        Conformal prediction (Vovk et al. 2005): the next is as likely to take any rank among them. So of ``count`` + 1
        queries as many may pass as the target says, the next one being one of them.
        """
        best = -np.sort(-self.at_size(size))
        may_pass = target * (count + 1)
        if may_pass < 1:  # beyond the closest: the tail goes on as it fell
            found, allowed = float(best[0] - self.spacing * math.log(may_pass)), 0
        else:
            rank = (may_pass - 1) / count * len(best)
            found, allowed = float(np.interp(rank, np.arange(len(best)), best)), math.floor(rank + 1e-9) + 1
        # Where more are equally close than may pass, none of them does.
        return found if (best >= found).sum() <= allowed else math.nextafter(found, math.inf)

    def rate(self, closeness: float, size: int) -> Rate:
        """Return the share of the queries without a true match of which an item is at least so close.

        The inverse of :meth:`threshold`; the 95 % interval is by resampling units.
        """
        best = self.at_size(size)
        passed = (best >= closeness).astype(np.float64)
        weights = _resampled(self.units.tobytes())
        low, high = np.quantile((passed @ weights) / weights.sum(axis=0), [0.025, 0.975])
        estimate = self._share(-np.sort(-best), closeness)
        return Rate(estimate, min(float(low), estimate), max(float(high), estimate))

    def _share(self, best: Floats, closeness: float) -> float:
        passed, count = int((best >= closeness).sum()), self.independent()
        if passed == 0:
            beyond = min(closeness - best[0], self.spacing * math.log(_FURTHEST))
            return math.exp(-beyond / self.spacing if self.spacing > 0 else 0.0) / (count + 1)
        if passed == len(best):
            return 1.0
        rank = passed - 1 + (best[passed - 1] - closeness) / (best[passed - 1] - best[passed])
        return float((rank / len(best) * count + 1) / (count + 1))

    def gap(self, target: float) -> float:
        """Return the drop among its hits that a share of ``target`` of the queries without a true match reach."""
        found = float(np.quantile(self.gaps, 1 - target, method="higher"))
        return found if (self.gaps >= found).mean() <= target + 1 / len(self.gaps) else math.nextafter(found, math.inf)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "best": self.best.tolist(),
            "gaps": self.gaps.tolist(),
            "sizes": self.sizes.tolist(),
            "units": self.units.tolist(),
            "spacing": self.spacing,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AlarmTable:
        """Return the table of such an object."""
        best, gaps, sizes = (numbers(data[name]) for name in ("best", "gaps", "sizes"))
        return cls(best, gaps, sizes, whole_numbers(data["units"]), number(data["spacing"]))


@lru_cache(maxsize=16)
def _resampled(units: bytes) -> NDArray[np.float32]:
    """Return (Q, draws) how often each query comes when units are drawn anew; kept, since every hit asks for it."""
    return efron_weights(np.frombuffer(units, np.int64), DRAWS, np.random.default_rng(0))


def _spacing(ranked: Floats) -> float:
    """Return the mean by which the closest strangers exceed the one after them: the scale of an exponential tail.

    ``ranked`` (Q, K) falls, -inf where there are no more. Where nobody has two, the best of the queries tell it.
    """
    if np.isfinite(ranked).sum(axis=1).max() < 2:
        ranked = -np.sort(-ranked[:, :1], axis=0)[: _TAIL + 1].T
    finite = np.isfinite(ranked)
    last = finite.sum(axis=1, keepdims=True) - 1
    excess = np.where(finite, ranked - np.take_along_axis(ranked, last, axis=1), 0.0)
    return float(excess.sum() / max(1, last.sum()))
