"""Closeness of queries to a gallery -> what came for each query, and how good that was; block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.pairs import Floats, Ints
from lookalike.errors import InputError
from lookalike.evaluation.retrieval import METRICS
from lookalike.evaluation.truth import NONE, Truth
from lookalike.types import Float32

Closeness = Callable[[int, int], Float32]
"""(first, last) -> the (last - first, G) closeness of those queries to all items, higher is closer; a new array."""

KEPT = 10
_CELLS = 1 << 22
_RUN, _RUNS = 16, 16
_LEVELS = 160
_RAREST = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What came for Q queries.

    ``values`` holds (Q,) float64 of each retrieval metric, NaN where nothing is relevant. ``top`` (Q, K) are the places
    of the closest candidates, best first, -1 where there are fewer, and ``closeness`` (Q, K) theirs, NaN there.
    ``expected`` (Q,) is the place of the closest relevant candidate (-1: none) and ``rank`` (Q,) where it came (or 0).
    ``levels`` (L,) are thresholds, falling; ``genuine`` and ``impostor`` (Q, L + 1) count the candidates of the query's
    label and of other labels that are at least so close, the last column all.
    """

    values: dict[str, Floats]
    top: Ints
    closeness: Float32
    expected: Ints
    rank: Ints
    levels: Float32
    genuine: NDArray[np.int32]
    impostor: NDArray[np.int32]

    @property
    def answerable(self) -> NDArray[np.bool_]:
        """(Q,) for which queries anything is relevant."""
        return self.genuine[:, -1] > 0

    def retrieved_as(self, other: Judged) -> Judged:
        """Return the counts at thresholds of this one with what came, and how good that was, of another order."""
        return replace(
            self,
            values=other.values,
            top=other.top,
            closeness=other.closeness,
            expected=other.expected,
            rank=other.rank,
        )


def judge(closeness: Closeness, truth: Truth, levels: Float32 | None = None) -> Judged:
    """Judge all queries of ``truth``; equal closeness is ordered by place in the gallery.

    In memory are a block of closeness (16 MiB) and, for each query, its counts at the levels. ``levels`` are the
    thresholds at which verification is exact; without, they are drawn from the scores: all of them where they are few.
    Raises InputError where a closeness is NaN.
    """
    if levels is None:
        levels = drawn_levels(closeness, truth)
    ascending = np.ascontiguousarray(np.unique(levels))
    answers = _Answers.empty(len(truth.labels), len(ascending))
    step = max(1, _CELLS // len(truth.gallery_labels))
    for first in range(0, len(truth.labels), step):
        last = min(first + step, len(truth.labels))
        block = _candidates_only(closeness(first, last), truth, first)
        ordered = np.sort(block, axis=1)
        for query, row, sorted_row in zip(range(first, last), block, ordered, strict=True):
            answers.take(query, row, sorted_row, truth, ascending)
    return answers.judged(ascending[::-1])


def drawn_levels(closeness: Closeness, truth: Truth) -> Float32:
    """Return thresholds that follow the scores of some queries, falling: dense where impostors are rare.

    All distinct scores where there are few: rates are exact then.
    """
    count = len(truth.labels)
    genuine, impostor = [], []
    for first in _starts(count):
        block = _candidates_only(closeness(first, min(first + _RUN, count)), truth, first)
        for query, row in enumerate(block, first):
            same, there = truth.relevant(query), row > -np.inf
            genuine.append(row[same & there])
            impostor.append(row[~same & there])
    scores = np.concatenate(genuine), np.concatenate(impostor)
    distinct = np.unique(np.concatenate(scores))
    if count <= _RUN * _RUNS and len(distinct) <= 2 * _LEVELS:
        return distinct[::-1]
    even = np.linspace(0, 1, _LEVELS)
    rare = 1 - np.geomspace(_RAREST, 1, _LEVELS)
    parts = [np.quantile(some, shares) for some, shares in zip(scores, (even, rare), strict=True) if len(some)]
    return np.unique(np.concatenate(parts).astype(np.float32))[::-1]


def _starts(count: int) -> list[int]:
    """Return where runs of queries begin that are looked at: all where they are few, else spread evenly."""
    if count <= _RUN * _RUNS:
        return list(range(0, count, _RUN))
    return [int(start) for start in np.linspace(0, count - _RUN, _RUNS)]


def _candidates_only(block: Float32, truth: Truth, first: int) -> Float32:
    if np.isnan(block).any():
        raise InputError("the closeness of a query and an item is a number, got NaN")
    for row, query in enumerate(range(first, first + len(block))):
        block[row, truth.excluded(query)] = -np.inf
    return block


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """The arrays of a Judged, being filled, one query at a time."""

    values: dict[str, Floats]
    top: Ints
    closeness: Float32
    expected: Ints
    rank: Ints
    genuine: NDArray[np.int32]
    impostor: NDArray[np.int32]

    @classmethod
    def empty(cls, queries: int, levels: int) -> _Answers:
        return cls(
            {name: np.full(queries, np.nan) for name in METRICS},
            np.full((queries, KEPT), NONE, np.int64),
            np.full((queries, KEPT), np.nan, np.float32),
            np.full(queries, NONE, np.int64),
            np.zeros(queries, np.int64),
            np.zeros((queries, levels + 1), np.int32),
            np.zeros((queries, levels + 1), np.int32),
        )

    def take(self, query: int, row: Float32, ordered: Float32, truth: Truth, levels: Float32) -> None:
        """Fill in what came for one query, from its closeness as it stands and sorted."""
        candidates = len(ordered) - int(np.searchsorted(ordered, -np.inf, side="right"))
        places = np.flatnonzero(truth.relevant(query) & (row > -np.inf))
        self._keep_top(query, row, ordered, candidates)
        mine = np.sort(row[places])
        self.genuine[query] = _at_least(mine, levels, len(mine))
        self.impostor[query] = _at_least(ordered, levels, candidates) - self.genuine[query]
        if not len(places):
            return
        ranks = _ranks(row, ordered, places)
        first = int(ranks.argmin())
        self.expected[query], self.rank[query] = places[first], ranks[first]
        ranks = np.sort(ranks)
        for name, measure in METRICS.items():
            self.values[name][query] = measure(ranks)

    def _keep_top(self, query: int, row: Float32, ordered: Float32, candidates: int) -> None:
        kept = min(KEPT, candidates)
        if kept:
            near = np.flatnonzero(row >= ordered[len(ordered) - kept])
            near = near[np.argsort(-row[near], kind="stable")][:kept]
            self.top[query, :kept], self.closeness[query, :kept] = near, row[near]

    def judged(self, falling: Float32) -> Judged:
        return Judged(
            self.values, self.top, self.closeness, self.expected, self.rank, falling, self.genuine, self.impostor
        )


def _at_least(ordered: Float32, levels: Float32, total: int) -> NDArray[np.int64]:
    """Return how many of ``ordered`` reach each of the rising ``levels``, from the highest down, and then ``total``."""
    counts = len(ordered) - np.searchsorted(ordered, levels)[::-1]
    return np.append(counts, total)


def _ranks(row: Float32, ordered: Float32, places: Ints) -> Ints:
    """Return the place (1 is first) at which each of ``places`` comes; what is as close comes by place."""
    scores = row[places]
    up_to = np.searchsorted(ordered, scores, side="right")
    if (up_to - np.searchsorted(ordered, scores) == 1).all():
        return len(ordered) - up_to + 1
    ranks = np.empty(len(row), np.int64)
    ranks[np.argsort(-row, kind="stable")] = np.arange(1, len(row) + 1)
    return ranks[places]
