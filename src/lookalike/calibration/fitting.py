"""Scored pairs -> a threshold for a target rate, what is estimated and what is proven of it, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lookalike.calibration.guarantee import Guarantee, clopper_pearson_upper, guarantee
from lookalike.calibration.pairs import ScoredPairs
from lookalike.calibration.rates import Rate, RateTable, checked_target
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
    genuine: RateTable | None
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
            "genuine": None if self.genuine is None else self.genuine.as_dict(),
            "guaranteed": self.guaranteed.as_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fit:
        """Return the fit of such an object."""
        return cls(
            data["target"],
            data["threshold"],
            data["plug_in"],
            Rate(*data["rate"]),
            None if data["missed"] is None else Rate(*data["missed"]),
            RateTable.from_dict(data["impostors"]),
            None if data["genuine"] is None else RateTable.from_dict(data["genuine"]),
            Guarantee(**data["guaranteed"]),
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
    of_genuine = RateTable.of(spread(genuine, seed, carried=False)) if genuine is not None and len(genuine) else None
    return Fit(
        target,
        threshold,
        min(threshold, table.plug_in(target)),
        Rate(float(table.estimate[row]), float(table.low[row]), float(table.high[row])),
        None if of_genuine is None or genuine is None else _missed(of_genuine.at(threshold), genuine.unit_count),
        table,
        of_genuine,
        guarantee(impostors, threshold, target, seed),
    )


def _enough(impostors: ScoredPairs) -> ScoredPairs:
    if len(impostors) < FEWEST_PAIRS or impostors.unit_count < FEWEST_UNITS:
        raise InputError(
            f"{len(impostors)} pairs of different things, from {impostors.unit_count} labels, are too few to calibrate "
            f"on: at least {FEWEST_PAIRS} pairs from {FEWEST_UNITS} labels (scenes, slides) are needed"
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
    pictures = max(
        math.ceil(_ODD_ONE / target),
        math.ceil(impostors.pictures * math.sqrt(FEWEST_PAIRS / (len(impostors) * target))),
    )
    # An interval's width falls with the root of the number of units, in proportion to the rate.
    units = max(FEWEST_UNITS, math.ceil(impostors.unit_count * max(1.0, (table.smallest_target() / target)) ** 2))
    return (
        f"{len(impostors)} pairs of different things ({impostors.pictures} pictures of {impostors.unit_count} labels) "
        f"cannot support a false positive rate of {target:g}: the smallest they can promise is about {smallest:.2g}; "
        f"for {target:g} about {max(pictures, impostors.pictures)} pictures of "
        f"{max(units, impostors.unit_count)} labels are needed"
    )


def _missed(passed: Rate, units: int) -> Rate:
    """Return the rate of those below; that no unit was below does not prove that none ever is (the rule of three)."""
    return Rate(1 - passed.estimate, 1 - passed.high, max(1 - passed.low, clopper_pearson_upper(0, units)))
