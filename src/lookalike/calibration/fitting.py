"""Scored pairs -> a threshold for a target rate, what is estimated and what is proven of it, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lookalike.calibration.guarantee import Guarantee, guarantee
from lookalike.calibration.kept import number
from lookalike.calibration.pairs import AT_MOST_PICTURES, ScoredPairs
from lookalike.calibration.rates import LOOSEST, Rate, RateTable, checked_target, rounded_up
from lookalike.calibration.resampling import spread
from lookalike.errors import InputError

FEWEST_UNITS = 4
FEWEST_PAIRS = 5
"""So many of the impostor pairs must lie above a threshold at the target rate, or its place is a matter of luck."""
_ODD_ONE = 2 / 9


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What one metric's impostor pairs and genuine pairs say, in closeness.

    ``threshold`` keeps ``target`` on other samples; ``plug_in`` keeps it among these very pairs only: between the two
    lies what is unsure. ``rate`` is what is expected at ``threshold``, ``missed`` the share of genuine pairs below it.
    """

    target: float
    threshold: float
    plug_in: float
    rate: Rate
    missed: Rate | None
    impostors: RateTable
    guaranteed: Guarantee

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "target": self.target,
            "threshold": self.threshold,
            "plug_in": self.plug_in,
            "rate": list(self.rate),
            "missed": None if self.missed is None else list(self.missed),
            "impostors": self.impostors.as_dict(),
            "guaranteed": self.guaranteed.as_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fit:
        """Return the fit of such an object."""
        return cls(
            checked_target(data["target"]),
            number(data["threshold"]),
            number(data["plug_in"]),
            _rate(data["rate"]),
            None if data["missed"] is None else _rate(data["missed"]),
            RateTable.from_dict(data["impostors"]),
            Guarantee.from_dict(data["guaranteed"]),
        )


def fit(impostors: ScoredPairs, genuine: ScoredPairs | None, target: float, seed: int = 0) -> Fit:
    """Return the threshold for a false positive rate of ``target`` per pair, and what is known of it.

    Raises InputError where these pairs cannot support the target, saying what they can and how many it would take.
    """
    return fit_from(impostors, genuine, table_of(impostors, seed), target)


def table_of(impostors: ScoredPairs, seed: int = 0) -> RateTable:
    """Return closeness -> rate for these pairs; raise InputError where they are too few to tell anything."""
    return RateTable.of(spread(_enough(impostors), seed))


def fit_from(
    impostors: ScoredPairs, genuine: ScoredPairs | None, table: RateTable, target: float, seed: int = 0
) -> Fit:
    """Return the same from a table that was made before, since resampling is most of the work."""
    checked_target(target)
    row = table.fitting(target)
    if row is None or not _many_enough(impostors, target):
        raise InputError(_refusal(impostors, table, target))
    threshold = float(table.closeness[row])
    return Fit(
        target,
        threshold,
        min(threshold, table.plug_in(target)),
        Rate(float(table.estimate[row]), float(table.low[row]), float(table.high[row])),
        _missed(genuine, threshold, seed) if genuine is not None and len(genuine) else None,
        table,
        guarantee(impostors, threshold, target, seed),
    )


def _enough(impostors: ScoredPairs) -> ScoredPairs:
    if len(impostors) < FEWEST_PAIRS or impostors.unit_count < FEWEST_UNITS:
        raise InputError(
            f"{len(impostors)} pairs of different things, {impostors.unit_count} things in all, are too few to "
            f"calibrate on: at least {FEWEST_PAIRS} pairs of {FEWEST_UNITS} things (labels, scenes, slides) are needed"
        )
    return impostors


def _many_enough(impostors: ScoredPairs, target: float) -> bool:
    """Tell whether the target is no matter of single pairs and pictures.

    One odd picture that resembles a third of all others makes a rate of 2 / (3 n) among n pictures, wherever it is;
    it has to stay within the interval that a promise may have, 3 times the target.
    """
    return impostors.pictures >= _ODD_ONE / target and len(impostors) * target >= FEWEST_PAIRS


def _refusal(impostors: ScoredPairs, table: RateTable, target: float) -> str:
    smallest = max(table.smallest_target(), _ODD_ONE / impostors.pictures, FEWEST_PAIRS / len(impostors))
    times = max(
        table.growth(target),
        _ODD_ONE / (target * impostors.pictures),
        math.sqrt(FEWEST_PAIRS / (len(impostors) * target)),
    )
    pictures, units = (math.ceil(times * many) for many in (impostors.pictures, impostors.unit_count))
    return (
        f"{len(impostors)} pairs of different things ({_pictures(impostors.pictures, impostors.unit_count)}) "
        f"cannot support a false positive rate of {target:g}: {_smallest(smallest)}; "
        f"for {target:g} about {_pictures(pictures, units)} are needed{_too_many(pictures)}"
    )


def _pictures(pictures: int, units: int) -> str:
    """Return how many there are; where each shows a thing of its own, things are not spoken of."""
    return f"{pictures} pictures" if pictures == units else f"{pictures} pictures of {units} things"


def _smallest(rate: float) -> str:
    if rate >= LOOSEST:
        return f"the smallest they can promise is not even {LOOSEST}"
    return f"the smallest they can promise is about {rounded_up(rate):g}"


def _too_many(pictures: int) -> str:
    if pictures <= AT_MOST_PICTURES:
        return ""
    return f", more than the {AT_MOST_PICTURES} that a calibration looks at"


def _missed(genuine: ScoredPairs, threshold: float, seed: int) -> Rate:
    """Return the share of those below the threshold; its interval is that of far pairs, taken for close ones.

    The share is not corrected as that of impostors is: the threshold was not set where it suits these pairs.
    """
    share = 1 - genuine.rate_at(threshold)
    far = ScoredPairs(genuine.i, genuine.j, -genuine.closeness, genuine.units)
    _, low, high = RateTable.of(spread(far, seed)).at(-threshold)
    return Rate(share, min(low, share), max(high, share))


def _rate(values: Sequence[Any]) -> Rate:
    return Rate(*map(number, values))
