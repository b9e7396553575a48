"""How far a rate may be off on other labels and other pictures.

Pairs share pictures, and pictures share labels, so pairs are not independent and no binomial interval holds. What is
resampled is therefore the unit (label, scene, slide), and in it the picture; a pair counts as often as both of its
pictures do. A rate is seen on one sample and met on another, so both are drawn: the threshold that gives the rate on
weights of the Bayesian bootstrap (Rubin 1981), which never lose a unit, the outcome on those of the ordinary one (Efron
1979), which do, so that "none at all" can come out where few units make all the false positives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.pairs import Floats, Ints, ScoredPairs

DRAWS = 400
_SHIFTS = 8
_LEVELS = 96
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """What a rate may become: for each of L nominal rates the draws (D, L), and the closeness that each stands for."""

    nominal: Floats
    closeness: Floats
    draws: Floats


def spread(pairs: ScoredPairs, seed: int = 0) -> Spread:
    """Return what share of the pairs of another sample passes a threshold that passes ``nominal`` of these."""
    rng = np.random.default_rng(seed)
    ranks = _ranks(pairs.closeness)
    nominal = ranks / len(pairs)
    outcome = _rates(pairs, ranks, efron_weights(pairs.units, DRAWS, rng))
    outcome = outcome[~np.isnan(outcome[:, -1])]
    setting = _rates(pairs, ranks, bayesian_weights(pairs.units, DRAWS, rng))
    return Spread(nominal, pairs.closeness[ranks - 1], _carried_over(setting, outcome, nominal))


def _ranks(closeness: Floats) -> Ints:
    """Return some numbers of pairs, 1 up to all, dense where they are few; pairs that are as close pass together."""
    ranks = np.geomspace(1, len(closeness), _LEVELS).round().astype(np.int64)
    return np.unique(np.searchsorted(-closeness, -closeness[ranks - 1], side="right"))


def bayesian_weights(units: Ints, draws: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (n, draws) weights of the pictures: gamma-distributed for each unit, and in it for each picture.

    The shape (u - 2) / u for u units gives the variance that an unbiased estimate from u units has.
    """
    inverse = np.unique(units, return_inverse=True)[1]
    count = int(inverse.max()) + 1
    of_units = rng.gamma(max(count - 2, 1) / count, size=(count, draws)) + 1e-12  # no product of two vanishes
    of_pictures = rng.gamma(1.0, size=(len(units), draws))
    sums = np.zeros((count, draws))
    np.add.at(sums, inverse, of_pictures)
    share = of_pictures / sums[inverse] * np.bincount(inverse)[inverse][:, None]
    return (of_units[inverse] * share).astype(np.float32)


def efron_weights(units: Ints, draws: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (n, draws) weights of the pictures: how often units drawn with replacement, and in them pictures, come."""
    order = np.argsort(units, kind="stable")
    sizes = np.unique(units, return_counts=True)[1]
    starts = np.cumsum(sizes) - sizes
    times = _unit_counts(len(sizes), draws, rng)
    weights = np.empty((len(units), draws), np.float32)
    for size in np.unique(sizes):
        alike = np.flatnonzero(sizes == size)
        # Each time that a unit comes, as many of its pictures are drawn as it has.
        drawn = rng.multinomial(times[alike] * size, np.full(size, 1 / size))
        weights[order[starts[alike][:, None] + np.arange(size)]] = drawn.transpose(0, 2, 1)
    return weights


def _unit_counts(count: int, draws: int, rng: np.random.Generator) -> Ints:
    """Return (count, draws) how often each unit comes; a draw of one unit alone has no pairs and is made again."""
    times = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    while count > 1 and len(alone := np.flatnonzero(times.max(axis=1) == count)):
        times[alone] = rng.multinomial(count, np.full(count, 1 / count), size=len(alone))
    return times.T


def _rates(pairs: ScoredPairs, ranks: Ints, weights: NDArray[np.float32]) -> Floats:
    """Return (draws, L): the weighted share of the pairs among the first ``ranks[l]``; NaN where all weigh 0."""
    inside = pairs.units[pairs.i] == pairs.units[pairs.j]
    weights = np.concatenate([weights, _inside_units(weights, pairs.units)])
    i, j = (rows + inside * len(pairs.units) for rows in (pairs.i, pairs.j))
    sums = np.zeros((len(ranks), weights.shape[1]))
    step = max(1, _CHUNK // weights.shape[1])
    starts = np.concatenate([[0], ranks[:-1]])
    for level, (first, last) in enumerate(zip(starts, ranks, strict=True)):
        for start in range(int(first), int(last), step):
            some = slice(start, min(start + step, int(last)))
            sums[level] += np.einsum("pd,pd->d", weights[i[some]], weights[j[some]])
    passed = np.cumsum(sums, axis=0)
    total = passed[-1]
    rates: Floats = np.where(total > 0, passed / np.where(total > 0, total, 1), np.nan).T
    return rates


def _inside_units(weights: NDArray[np.float32], units: Ints) -> NDArray[np.float32]:
    """Return (n, draws) weights for pairs inside one unit: as often as it comes, and not as the square of that."""
    inverse, sizes = np.unique(units, return_inverse=True, return_counts=True)[1:]
    totals = np.add.reduceat(weights[np.argsort(units, kind="stable")], np.cumsum(sizes) - sizes, axis=0)
    root = np.sqrt(totals / sizes[:, None])[inverse]
    return (weights / np.where(root > 0, root, 1)).astype(np.float32)


def _carried_over(setting: Floats, outcome: Floats, nominal: Floats) -> Floats:
    """Return (D, L): thresholds that pass ``nominal`` in a row of ``setting``, used in another row of ``outcome``."""
    last = len(nominal) - 1
    # The place on the grid, with a fraction, at which each row passes the nominal rates.
    logs = np.log(np.maximum(setting, 1e-300))
    at = np.stack([np.interp(np.log(nominal), row, np.arange(last + 1)) for row in logs])[:, None]
    low = at.astype(np.int64)
    rows = (np.arange(len(setting))[:, None, None] + np.arange(_SHIFTS)[:, None]) % len(outcome)
    below, above = outcome[rows, low], outcome[rows, np.minimum(low + 1, last)]
    return np.asarray(below + (at - low) * (above - below)).reshape(-1, last + 1)


def shortest_interval(draws: Floats, share: float = 0.95) -> tuple[Floats, Floats]:
    """Return for each column of (D, L) the lower and upper end of the shortest interval that holds ``share`` of it."""
    ordered = np.sort(draws, axis=0)
    inside = int(np.ceil(share * len(ordered)))
    widths = ordered[inside - 1 :] - ordered[: len(ordered) - inside + 1]
    first = widths.argmin(axis=0)
    columns = np.arange(ordered.shape[1])
    return ordered[first, columns], ordered[first + inside - 1, columns]
