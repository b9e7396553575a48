"""What is proven, not estimated: bounds from pairs that share nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

import numpy as np

from lookalike.calibration.kept import number, whole_numbers
from lookalike.calibration.pairs import Floats, ScoredPairs

CONFIDENCE = 0.95
_STEPS = 60


@dataclass(frozen=True, slots=True)
class Guarantee:
    """With ``confidence`` the rate at the threshold is at most ``rate``; ``disjoint_pairs`` prove it.

    Holds for units drawn like these, each taken alike. ``smallest`` is the least rate that so many pairs can prove at
    any threshold; ``rate`` is 1 where the threshold is too loose for a proof. ``pairs_needed`` is how many disjoint
    pairs the target would take at least, none of which passes.
    """

    rate: float
    smallest: float
    disjoint_pairs: int
    pairs_needed: int
    confidence: float = CONFIDENCE

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Guarantee:
        """Return the guarantee of such an object."""
        pairs, needed = whole_numbers([data["disjoint_pairs"], data["pairs_needed"]]).tolist()
        return cls(number(data["rate"]), number(data["smallest"]), pairs, needed, number(data["confidence"]))


def guarantee(pairs: ScoredPairs, threshold: float, target: float, seed: int = 0) -> Guarantee:
    """Return what disjoint impostor pairs prove of the rate at ``threshold``, wherever that came from.

    The k-th closest of m independent pairs is a threshold whose rate exceeds the Clopper-Pearson bound for k - 1 of m
    with probability 1 - confidence at most (a tolerance limit; Wilks 1941). A few k are fixed beforehand and share the
    error between them, so that any threshold, chosen however, is covered by the loosest of them that it reaches.
    """
    closest = disjoint_closeness(pairs, seed)
    m = len(closest)
    places = _places(m)
    level = 1 - (1 - CONFIDENCE) / max(1, len(places))
    rates = [clopper_pearson_upper(k - 1, m, level) for k in places if closest[k - 1] <= threshold]
    smallest = clopper_pearson_upper(0, m, level) if m else 1.0
    return Guarantee(min(rates, default=1.0), smallest, m, _needed(target))


def disjoint_closeness(pairs: ScoredPairs, seed: int = 0) -> Floats:
    """Return the closeness, best first, of pairs of which no two share a unit, drawn by lot.

    Units are drawn, not pairs: which pair stands for two units does not depend on how close it is.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(pairs))
    a, b = pairs.units[pairs.i[shuffled]], pairs.units[pairs.j[shuffled]]
    low, high = np.minimum(a, b), np.maximum(a, b)
    base = int(pairs.units.max(initial=0)) + 1
    # The first of a shuffled lot is one by lot for any two units.
    keys, first = np.unique(low * base + high, return_index=True)
    by_units = dict(zip(keys.tolist(), shuffled[first].tolist(), strict=True))
    order = rng.permutation(np.union1d(low, high)).tolist()
    chosen: list[int] = []
    while len(order) > 1:
        unit = order.pop()
        for place in range(len(order) - 1, -1, -1):
            pair = by_units.get(min(unit, order[place]) * base + max(unit, order[place]))
            if pair is not None:
                chosen.append(pair)
                order.pop(place)
                break
    found: Floats = -np.sort(-pairs.closeness[chosen])
    return found


def clopper_pearson_upper(successes: int, trials: int, level: float = CONFIDENCE) -> float:
    """Return the rate that is exceeded with probability 1 - level at most, after ``successes`` of ``trials``.

    Clopper and Pearson 1934: the p at which so few successes, or fewer, have probability 1 - level.
    """
    if successes >= trials:
        return 1.0
    low, high = successes / trials, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _binomial_cdf(successes, trials, middle) > 1 - level else (low, middle)
    return high


def _binomial_cdf(k: int, n: int, p: float) -> float:
    if not 0 < p < 1:
        return float(p <= 0)
    logs = [
        math.lgamma(n + 1) - math.lgamma(x + 1) - math.lgamma(n - x + 1) + x * math.log(p) + (n - x) * math.log1p(-p)
        for x in range(k + 1)
    ]
    return min(1.0, math.fsum(math.exp(value) for value in logs))


def _places(m: int) -> list[int]:
    """Return 1, 4, 16, … up to an eighth of m: few, so that they share little error, and far apart."""
    return [k for k in (1, 4, 16, 64, 256, 1024) if k == 1 or k <= m // 8] if m else []


def _needed(target: float) -> int:
    """Return how many disjoint pairs prove ``target`` if none of them passes: each place has its share of the error."""
    for places in count(1):
        pairs = math.ceil(math.log((1 - CONFIDENCE) / places) / math.log1p(-target))
        if len(_places(pairs)) <= places:
            break
    return pairs
