"""The places of what is relevant -> recall, precision and their like, one value a query.

``ranks`` are the places (1 is first) of ALL relevant candidates of a query, ascending; R is how many there are. Each
function wants R of at least 1: of a query to which nothing is relevant there is nothing to say, so such queries are
counted apart. All values lie in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from lookalike.calibration.pairs import Ints


def recall(ranks: Ints, k: int) -> float:
    """Return 1 if anything relevant is among the first ``k``, else 0: the mean is the share of queries with a hit.

    This is recall@k of metric learning (Jegou et al. 2011); for the share of all that is relevant, see :func:`found`.
    """
    return float(ranks[0] <= k)


def found(ranks: Ints, k: int) -> float:
    """Return the share of the R relevant ones that is among the first ``k``; the denominator is R, even where R > k."""
    return _within(ranks, k) / len(ranks)


def precision(ranks: Ints, k: int) -> float:
    """Return the share of the first ``k`` that is relevant; the denominator is ``k``, even where R < k."""
    return _within(ranks, k) / k


def average_precision(ranks: Ints, k: int) -> float:
    """Return the sum of the precisions at the relevant ones of the first ``k``, divided by min(R, k).

    So 1 is reached exactly where all of the first min(R, k) are relevant. One relevant of a hundred, at the first
    place of ten, is .1 here; .01 with the denominator R, and 1 with the number of those found, which rewards finding
    little.
    """
    inside = ranks[: _within(ranks, k)]
    return float((np.arange(1, len(inside) + 1) / inside).sum() / min(len(ranks), k))


def r_precision(ranks: Ints) -> float:
    """Return the share of the first R that is relevant."""
    return precision(ranks, len(ranks))


def average_precision_at_r(ranks: Ints) -> float:
    """Return the average precision of the first R, divided by R: MAP@R (Musgrave et al. 2020)."""
    return average_precision(ranks, len(ranks))


def reciprocal_rank(ranks: Ints) -> float:
    """Return 1 / the place of the first relevant one."""
    return float(1 / ranks[0])


def ndcg(ranks: Ints, k: int) -> float:
    """Return the discounted gain of the first ``k`` (1 / log2(place + 1) each), divided by the best that R allow."""
    gain = (1 / np.log2(ranks[: _within(ranks, k)] + 1.0)).sum()
    best = (1 / np.log2(np.arange(1, min(len(ranks), k) + 1) + 1.0)).sum()
    return float(gain / best)


def _within(ranks: Ints, k: int) -> int:
    return int(np.searchsorted(ranks, k, side="right"))


def _at(measure: Callable[[Ints, int], float], k: int) -> Callable[[Ints], float]:
    return lambda ranks: measure(ranks, k)


METRICS: Mapping[str, Callable[[Ints], float]] = MappingProxyType(
    {
        "recall@1": _at(recall, 1),
        "recall@5": _at(recall, 5),
        "recall@10": _at(recall, 10),
        "precision@5": _at(precision, 5),
        "precision@10": _at(precision, 10),
        "map@10": _at(average_precision, 10),
        "map@r": average_precision_at_r,
        "r_precision": r_precision,
        "mrr": reciprocal_rank,
        "ndcg@10": _at(ndcg, 10),
        "found@10": _at(found, 10),
    }
)
"""What is measured of each query, by the name under which it is reported."""

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "recall@k": "share of the queries with something relevant among the first k",
        "precision@k": "relevant ones among the first k, divided by k, even where fewer than k are relevant",
        "map@k": "precisions at the relevant ones of the first k, summed, divided by min(R, k)",
        "map@r": "the same of the first R, divided by R",
        "r_precision": "share of the first R that is relevant",
        "mrr": "1 / the place of the first relevant one",
        "ndcg@k": "discounted gain of the first k, divided by the best that R relevant ones allow",
        "found@k": "relevant ones among the first k, divided by R, even where R is above k",
    }
)
"""What each of them means; R is the number of candidates that are relevant to the query."""
