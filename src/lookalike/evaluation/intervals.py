"""How far a mean over queries may be off on other labels: labels are resampled, then the queries in them.

Queries of one label fail together, so an interval that takes them for independent is too narrow. Drawing twice counts
the chance of the queries twice: these intervals are rather too wide where labels have many queries, and with few labels
(under ten) no resampling tells much.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.pairs import Floats, Ints
from lookalike.calibration.resampling import efron_weights

DRAWS = 1000
SHARE = 0.95


class Interval(NamedTuple):
    """An estimate, and the ends of the interval around it."""

    estimate: float
    low: float
    high: float


def query_weights(labels: Ints, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float32]:
    """Return (Q, draws): how often each query comes where labels, then queries in them, are drawn with replacement."""
    return efron_weights(labels, draws, np.random.default_rng(seed))


def label_weights(labels: Ints, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float32]:
    """Return (Q, draws): how often each query comes where whole labels are drawn with replacement."""
    numbers = np.unique(labels, return_inverse=True)[1]
    weights = efron_weights(np.unique(numbers), draws, np.random.default_rng(seed))
    return weights[numbers]


def mean_intervals(values: Floats, weights: NDArray[np.float32], share: float = SHARE) -> list[Interval]:
    """Return for each row of (M, Q) ``values`` its mean, and the interval of the means of all draws of ``weights``.

    A query that is NaN in any row is left out of all.
    """
    known = ~np.isnan(values).any(axis=0)
    values, weights = values[:, known], weights[known]
    total = weights.sum(axis=0, dtype=np.float64)
    drawn = total > 0
    means = (values.astype(np.float32) @ weights)[:, drawn] / total[drawn]
    return [percentiles(float(row.mean()), draws, share) for row, draws in zip(values, means, strict=True)]


def mean_interval(values: Floats, weights: NDArray[np.float32], share: float = SHARE) -> Interval:
    """Return the same of (Q,) ``values``."""
    return mean_intervals(values[None], weights, share)[0]


def percentiles(estimate: float, draws: NDArray[Any], share: float = SHARE) -> Interval:
    """Return the interval that leaves out as many ``draws`` (D,) below as above; NaN draws do not count."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return Interval(estimate, estimate, estimate)
    low, high = np.quantile(known, [(1 - share) / 2, (1 + share) / 2])
    return Interval(estimate, float(low), float(high))
