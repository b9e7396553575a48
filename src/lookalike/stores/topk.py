"""The best k of a scan: candidates by fast float32, scores and order by float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.manhattan import Manhattan
from lookalike.protocols import FollowsCosine, Metric
from lookalike.stores import ann
from lookalike.types import Float32

Rows: TypeAlias = NDArray[np.int64]
Scan: TypeAlias = Callable[[Float32, Float32], Float32]
Nearest: TypeAlias = Callable[[Float32, Float32, int], tuple[Float32, Rows]]

_BLOCK_ROWS = 1 << 17
_BLOCK_SCORES = 1 << 24
_SPARE = 64
_NEAREST_SHARE = 16
_ROUNDING = 2.0**-24


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows of a gallery to scan: (B, D) ``vectors``, their row numbers (``rows``, or counted from ``start``).

    ``out`` holds the places of those that do not count.
    """

    vectors: Float32
    start: int = 0
    rows: Rows | None = None
    out: Rows | None = None


@dataclass(frozen=True, slots=True)
class Closeness:
    """How a metric is scanned: ``scan`` gives (Q, G) float32 that grow with closeness.

    ``nearest``, where there is one, finds the smallest distances faster than a scan and a selection.
    A score may be wrong by rounding, so the k best are sought among all within ``margin(kth)`` of the k-th.
    """

    scan: Scan
    absolute: float
    relative: float
    nearest: Nearest | None = None

    def margin(self, kth: float) -> float:
        """Return how far below the k-th closeness one of the true k best can seem."""
        return self.absolute + self.relative * abs(kth)


def closeness(metric: Metric, dim: int, *, unit: bool = True) -> Closeness:
    """Return how to scan rows of length 1 by ``metric``; ``unit=False`` where a query is not of length 1."""
    # A float32 sum of D products of unit vectors is wrong by at most D roundings, whatever the order of adding.
    rounding = 2 * (dim + 4) * _ROUNDING
    if unit and _follows_cosine(metric):
        return Closeness(_dots, rounding, 0.0)
    fast = ann.nearest_by_manhattan if isinstance(metric, Manhattan) and ann.installed() else None
    return Closeness(_towards(metric, metric.matrix), rounding, rounding, fast)


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """(Q, D) queries, each of length 1 or 0, the number of answers wanted, and the metric."""

    queries: Float32
    k: int
    metric: Metric
    how: Closeness = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "how", closeness(self.metric, self.queries.shape[1], unit=self._unit))

    @property
    def follows_cosine(self) -> bool:
        """Tell whether the order wanted is that of cosine."""
        return self._unit and _follows_cosine(self.metric)

    @property
    def _unit(self) -> bool:
        # The fast ways of a metric hold for length 1 only.
        return bool(self.queries.any(axis=1).all())


def candidates(question: Question, blocks: Iterable[Block]) -> list[tuple[Rows, Float32]]:
    """Return for each query rows with their closeness, among them all that can be of the k best."""
    found: list[list[tuple[Rows, Float32]]] = [[] for _ in question.queries]
    for block in blocks:
        lots = _by_nearest(question, block) or _by_scan(question, block)
        for of_one, (places, near) in zip(found, lots, strict=True):
            of_one.append((block.rows[places] if block.rows is not None else places + block.start, near))
    return [merged(parts, question.k, question.how) for parts in found]


def _by_scan(question: Question, block: Block) -> list[tuple[Rows, Float32]]:
    scores = question.how.scan(question.queries, block.vectors)
    if block.out is not None:
        scores[:, block.out] = -np.inf
    lots = [best(mine, question.k, question.how) for mine in scores]
    return [(places, mine[places]) for places, mine in zip(lots, scores, strict=True)]


def _by_nearest(question: Question, block: Block) -> list[tuple[Rows, Float32]] | None:
    """Return what a scan would, or None where it takes a scan: many rows are out, or many tie with the k-th."""
    out = np.empty(0, np.int64) if block.out is None else block.out
    wanted = question.k + len(out) + _SPARE
    if question.how.nearest is None or wanted * _NEAREST_SHARE > len(block.vectors):
        return None
    lots = []
    for distances, places in zip(*question.how.nearest(question.queries, block.vectors, wanted), strict=True):
        counts = ~np.isin(places, out)
        near, kept = -distances[counts], places[counts]
        if near[-1] >= near[question.k - 1] - question.how.margin(float(near[question.k - 1])):
            return None
        chosen = best(near, question.k, question.how)
        lots.append((kept[chosen], near[chosen]))
    return lots


def best(scores: Float32, k: int, how: Closeness) -> Rows:
    """Return the places of the k highest of (N,) ``scores`` and of all within the margin of the k-th; -inf never."""
    if k < len(scores):
        kth = float(np.partition(scores, len(scores) - k)[len(scores) - k])
        if np.isfinite(kth):
            return np.flatnonzero(scores >= np.float32(kth - how.margin(kth)))
    return np.flatnonzero(scores > -np.inf)


def rescored(query: Float32, vectors: Float32, metric: Metric) -> Float32:
    """Return the (C,) scores of (D,) against (C, D): float64 within, so that neither batch nor place shows."""
    scores = metric.matrix(query[None].astype(np.float64), vectors.astype(np.float64))[0]
    # 0.0 is added so that -0.0 does not differ from 0.0.
    rounded: Float32 = np.asarray(scores, dtype=np.float32) + np.float32(0.0)
    return rounded


def merged(parts: Sequence[tuple[Rows, Float32]], k: int, how: Closeness) -> tuple[Rows, Float32]:
    """Return of several lots of candidates those that can still be of the k best."""
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    rows = np.concatenate([rows for rows, _ in parts])
    scores = np.concatenate([scores for _, scores in parts])
    kept = best(scores, k, how)
    return rows[kept], scores[kept]


def block_rows(queries: int) -> int:
    """Return how many rows are scanned at once, so that the (Q, rows) scores stay small."""
    return max(1, min(_BLOCK_ROWS, _BLOCK_SCORES // max(1, queries)))


def _dots(queries: Float32, gallery: Float32) -> Float32:
    if len(queries) == 1:
        # A matrix-vector product is memory-bound and no slower than reading the gallery once.
        product: Float32 = (gallery @ queries[0])[None]
        return product
    return queries @ gallery.T


def _follows_cosine(metric: Metric) -> bool:
    return isinstance(metric, FollowsCosine) and metric.follows_cosine


def _towards(metric: Metric, matrix: Callable[[Any, Any], NDArray[Any]]) -> Scan:
    def scan(queries: Float32, gallery: Float32) -> Float32:
        scores: Float32 = np.asarray(matrix(queries, gallery), dtype=np.float32)
        return scores if metric.higher_is_closer else -scores

    return scan
