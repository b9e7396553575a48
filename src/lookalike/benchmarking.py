"""Labelled vectors -> what each configuration (an encoder and a metric) is worth, and what it costs."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.pairs import Floats, Ints, closeness, numbered, of_closeness
from lookalike.errors import InputError
from lookalike.evaluation.gate import Difference, paired
from lookalike.evaluation.intervals import Interval, mean_intervals, percentiles, query_weights
from lookalike.evaluation.judging import KEPT, Closeness, Judged, judge
from lookalike.evaluation.retrieval import METRICS
from lookalike.evaluation.truth import NONE, Truth
from lookalike.evaluation.verification import RATES, Curve, curve_of
from lookalike.gallery import RERANKED
from lookalike.protocols import FollowsCosine, Metric, Reranker
from lookalike.types import Float32, LabelledPicture, Skipped, Space

VERIFIED = ("auc", "eer", "average_precision", *(f"tpr@fpr={rate:g}" for rate in RATES))
COMPARED = ("recall@1", "map@10")
"""The figures in which configurations are compared with one another and with a baseline."""
_SEARCHED = 64
_FEW_LABELS = 10
# Retrieval alone is judged.
_NO_LEVELS = np.zeros(1, np.float32)
# Timings differ by so much from run to run: less is no reason to prefer one.
_FASTER = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """N labelled pictures, and which of them ask and answer.

    ``names`` are their paths relative to ``source``'s folder; ``queries`` (Q,) and ``gallery`` (G,) are places among
    the pictures, rising; ``ignored`` counts the pictures that are to be ignored. ``notes`` say what a reader of the
    figures has to know.
    """

    source: str
    pictures: tuple[LabelledPicture, ...]
    names: tuple[str, ...]
    queries: Ints
    gallery: Ints
    ignored: int
    notes: tuple[str, ...]
    truth: Truth = field(init=False)

    def __post_init__(self) -> None:
        labels = numbered([picture.label for picture in self.pictures])
        groups = _numbered_groups(self.pictures)
        place = np.full(len(self.pictures), NONE, np.int64)
        place[self.gallery] = np.arange(len(self.gallery))
        queries, gallery = self.queries, self.gallery
        object.__setattr__(
            self,
            "truth",
            Truth(labels[queries], labels[gallery], place[queries], groups[queries], groups[gallery]),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, by their numbers in ``truth``."""
        return tuple(dict.fromkeys(picture.label for picture in self.pictures))

    def noting(self, notes: Sequence[str]) -> LabelledSet:
        """Return the set with these notes added."""
        return replace(self, notes=(*self.notes, *notes))

    def query(self, number: int) -> LabelledPicture:
        """Return the picture of a query."""
        return self.pictures[int(self.queries[number])]

    def item(self, number: int) -> LabelledPicture:
        """Return the picture of an item of the gallery."""
        return self.pictures[int(self.gallery[number])]


def labelled_set(
    source: str, pictures: Sequence[LabelledPicture], skipped: Sequence[Skipped], ignored: int
) -> LabelledSet:
    """Return the set of the pictures that could be read and are not ignored.

    Those whose role is left open are queries and gallery both. Raises InputError where no query, no gallery, one label
    alone, or nothing relevant to any query is left: figures of such a set would say nothing.
    """
    left_out = f"; left out: {skipped[0].path}: {skipped[0].reason}" if skipped else ""
    if not pictures:
        raise InputError(f"no picture of {source} can be used{left_out}")
    roles = [picture.role for picture in pictures]
    queries = np.array([place for place, role in enumerate(roles) if role != "gallery"], np.int64)
    gallery = np.array([place for place, role in enumerate(roles) if role != "query"], np.int64)
    for what, some, other in (("query", queries, "gallery"), ("gallery", gallery, "query")):
        if not len(some):
            raise InputError(
                f"{source} has no picture left with the role {what!r}: all {len(roles)} have the role {other!r}"
                f"{_ignored(ignored)}; give some {what!r}, or leave the column empty for both{left_out}"
            )
    if len({picture.label for picture in pictures}) == 1:
        raise InputError(
            f"all {len(pictures)} pictures of {source} have the label {pictures[0].label!r}, so every answer would be "
            f"right; a benchmark needs at least two labels{_ignored(ignored)}{left_out}"
        )
    found = LabelledSet(source, tuple(pictures), names_in(source, pictures), queries, gallery, ignored, ())
    return _checked(found, left_out)


def _checked(found: LabelledSet, left_out: str) -> LabelledSet:
    """Raise InputError where no query has anything relevant; else say of how many that is so."""
    truth = found.truth
    lacking = []
    for query in range(len(found.queries)):
        relevant = truth.relevant(query)
        relevant[truth.excluded(query)] = False
        if not relevant.any():
            lacking.append(query)
    if len(lacking) == len(found.queries):
        raise InputError(
            f"no query of {found.source} has another picture of its label in the gallery (outside of its group): "
            f"{len(found.labels)} labels, {len(found.pictures)} pictures; give each label at least two{left_out}"
        )
    few = [] if len(found.labels) >= _FEW_LABELS else [_few(len(found.labels))]
    if not lacking:
        return found.noting(few)
    labels = sorted({found.query(query).label for query in lacking})
    told = ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
    note = (
        f"{len(lacking)} of {len(found.queries)} queries have nothing relevant in the gallery and count in no "
        f"retrieval metric: those of {told}"
    )
    return found.noting([note, *few])


def _few(labels: int) -> str:
    return f"intervals from only {labels} labels are a rough guide: what other labels would bring, so few cannot tell"


def _ignored(count: int) -> str:
    return f" ({count} more are ignored: set their 'ignore' to 0 to use them)" if count else ""


def names_in(source: str, pictures: Sequence[LabelledPicture]) -> tuple[str, ...]:
    """Return the paths of pictures relative to a folder, or to the folder of a file."""
    full = os.path.abspath(os.path.expanduser(source))
    base = full if os.path.isdir(full) else os.path.dirname(full)
    return tuple(os.path.relpath(os.path.abspath(picture.path), base) for picture in pictures)


def _numbered_groups(pictures: Sequence[LabelledPicture]) -> Ints:
    named = [picture.group for picture in pictures]
    groups = numbered(named)
    groups[[name is None for name in named]] = NONE
    return groups


@dataclass(frozen=True, slots=True)
class Costs:
    """What a configuration costs. Seconds, bytes; None where it is not known.

    ``images_a_second`` counts reading and embedding on all cores; ``latency_p50`` and ``latency_p99`` are of one query
    from file to hits, one at a time, over ``timed`` queries; ``vector_bytes`` of one picture in float32.
    ``peak_memory`` is the most that the process held until then: it never falls, so trust the first encoder's.
    """

    images_a_second: float
    latency_p50: float
    latency_p99: float
    timed: int
    vector_bytes: int
    model_bytes: int | None
    peak_memory: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What the scores are worth: each figure with its 95 % interval, by name, and what they were made of.

    ``levels`` are the thresholds of ``curve`` in the metric's own units.
    """

    judged: Judged
    figures: Mapping[str, Interval]
    curve: Curve
    levels: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """An encoder and a metric on a set: what they are worth and cost; ``pareto`` where no other is better in all.

    ``rerank`` names what put the nearest in a new order; None: nothing.
    """

    encoder: str
    metric: str
    space: Space
    measured: Measured
    costs: Costs
    pareto: bool = False
    rerank: str | None = None

    @property
    def way(self) -> str:
        """The metric, and what re-ranked."""
        return self.metric if self.rerank is None else f"{self.metric} + {self.rerank}"

    @property
    def name(self) -> str:
        """How it is called among others."""
        return f"{self.encoder}, {self.way}"


class Compared(NamedTuple):
    """By how much a configuration is better than the first one in a figure, paired by query."""

    encoder: str
    metric: str
    rerank: str | None
    figure: str
    difference: Difference

    @property
    def name(self) -> str:
        """How the configuration is called."""
        return ", ".join([self.encoder, " + ".join(filter(None, (self.metric, self.rerank)))])


class Confusion(NamedTuple):
    """How many queries of a label have an item of another one first."""

    label: str
    taken_for: str
    queries: int


def evaluated(
    metric: Metric,
    queries: Float32,
    gallery: Float32,
    truth: Truth,
    weights: NDArray[np.float32] | None = None,
    reranker: Reranker | None = None,
) -> Measured:
    """Judge (Q, D) queries against a (G, D) gallery, rows of length 1, with all figures and their intervals.

    ``weights`` (Q, draws) are the draws of the intervals; made here where they are not given. A ``reranker`` puts the
    nearest hundred candidates of each query in a new order: that changes retrieval, and verification, whose thresholds
    are the metric's, stays as it is.
    """
    if weights is None:
        weights = query_weights(truth.labels)
    scan, score_of = scanned(metric, queries, gallery)
    judged = judge(scan, truth)
    if reranker is not None:
        judged = judged.retrieved_as(judge(_reranked(scan, reranker, queries, gallery, truth), truth, _NO_LEVELS))
    intervals = mean_intervals(np.stack([judged.values[name] for name in METRICS]), weights)
    curve = curve_of(judged.levels, judged.genuine, judged.impostor, np.ones(len(queries)))
    drawn = curve_of(judged.levels, judged.genuine, judged.impostor, weights)
    verified = {
        name: percentiles(float(point), draws)
        for name, point, draws in zip(VERIFIED, _verified(curve), _verified(drawn), strict=True)
    }
    figures = {**dict(zip(METRICS, intervals, strict=True)), **verified}
    return Measured(judged, figures, curve, score_of(judged.levels))


def scanned(metric: Metric, queries: Float32, gallery: Float32) -> tuple[Closeness, Callable[[Float32], Floats]]:
    """Return how close queries are to the gallery, block by block, and what turns that into the metric's scores."""
    if isinstance(metric, FollowsCosine) and metric.follows_cosine and queries.any(axis=1).all():
        return lambda first, last: queries[first:last] @ gallery.T, lambda cosines: _of_cosines(metric, cosines)
    return (
        lambda first, last: np.array(closeness(metric, metric.matrix(queries[first:last], gallery)), np.float32),
        lambda near: np.array([of_closeness(metric, float(one)) for one in near.ravel()]).reshape(near.shape),
    )


def _reranked(scan: Closeness, reranker: Reranker, queries: Float32, gallery: Float32, truth: Truth) -> Closeness:
    """Return closeness in which the nearest candidates have a new order, and all others come after them."""

    def block(first: int, last: int) -> Float32:
        near = scan(first, last)
        for row, query in zip(near, range(first, last), strict=True):
            row[truth.excluded(query)] = -np.inf  # what may not answer may not help either
            best = _nearest(row, RERANKED)
            best = best[row[best] > -np.inf]
            if len(best):
                again = reranker.rerank(queries[query], gallery[best])
                row[:] += again.min() - 1 - row[best[0]]
                row[best] = again
        return near

    return block


def _of_cosines(metric: Metric, cosines: Float32) -> Floats:
    """Return the scores of unit vectors with these cosines: two numbers a vector are enough to have any."""
    wide = np.clip(cosines.ravel().astype(np.float64), -1, 1)
    vectors = np.stack([wide, np.sqrt(1 - wide**2)], axis=1)
    return np.asarray(metric.matrix(np.array([[1.0, 0.0]]), vectors)[0]).reshape(cosines.shape)


def _verified(curve: Curve) -> list[Floats]:
    rates = [curve.true_positives_at(rate) for rate in RATES]
    return [curve.auc(), curve.equal_error_rate(), curve.average_precision(), *rates]


def search_seconds(metric: Metric, queries: Float32, gallery: Float32, reranker: Reranker | None = None) -> Floats:
    """Return how long it takes to find (and re-rank) the nearest items of each of a few queries, one at a time."""
    scan, _ = scanned(metric, queries, gallery)

    def search(query: int) -> None:
        best = _nearest(scan(query, query + 1)[0], KEPT if reranker is None else RERANKED)
        if reranker is not None:
            reranker.rerank(queries[query], gallery[best])

    return np.array([_timed(partial(search, query)) for query in range(len(queries))])


def sampled_queries(count: int) -> Ints:
    """Return the numbers of the queries that are timed, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, _SEARCHED)).astype(np.int64))


def _nearest(near: Float32, at_most: int) -> Ints:
    kept = min(at_most, len(near))
    best = np.argpartition(-near, kept - 1)[:kept]
    order: Ints = best[np.argsort(-near[best], kind="stable")]
    return order


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def by_label(found: LabelledSet, judged: Judged) -> dict[str, dict[str, float | int]]:
    """Return for each label of a query that has an answer how many there are, and the mean of each metric."""
    told: dict[str, dict[str, float | int]] = {}
    for number, label in enumerate(found.labels):
        rows = np.flatnonzero((found.truth.labels == number) & judged.answerable)
        if len(rows):
            means = {name: float(values[rows].mean()) for name, values in judged.values.items()}
            told[label] = {"queries": len(rows), **means}
    return told


def confusions(found: LabelledSet, judged: Judged) -> list[Confusion]:
    """Return which labels come first for queries of another one, most often first; ties by name."""
    counts = Counter(
        (found.query(query).label, found.item(int(first)).label)
        for query, first in enumerate(judged.top[:, 0])
        if judged.answerable[query]
    )
    wrong = [Confusion(*labels, count) for labels, count in counts.items() if labels[0] != labels[1]]
    return sorted(wrong, key=lambda one: (-one.queries, one.label, one.taken_for))


def worst_queries(judged: Judged, at_most: int) -> list[int]:
    """Return the queries with an answer that went worst, worst first: by map@10, then by where the first came."""
    rows = np.flatnonzero(judged.answerable & (judged.values["map@10"] < 1))
    order = np.lexsort([-judged.rank[rows], judged.values["map@10"][rows]])
    return [int(row) for row in rows[order][:at_most]]


def compared(configurations: Sequence[Configuration], truth: Truth) -> tuple[Compared, ...]:
    """Return how each configuration differs from the first one in what is compared."""
    first = configurations[0].measured.judged.values
    return tuple(
        Compared(
            one.encoder,
            one.metric,
            one.rerank,
            name,
            paired(first[name], one.measured.judged.values[name], truth.labels),
        )
        for one in configurations[1:]
        for name in COMPARED
    )


def best_of(configurations: Sequence[Configuration]) -> Configuration:
    """Return the configuration with the highest map@10, the first of equals."""
    return max(configurations, key=lambda one: one.measured.figures["map@10"].estimate)


def is_pareto(one: Configuration, others: Sequence[Configuration]) -> bool:
    """Tell whether no other is at least as good in map@10, latency, vector and model size, and better in one."""
    return not any(_dominates(other, one) for other in others if other is not one)


def _dominates(other: Configuration, one: Configuration) -> bool:
    mine, theirs = one.costs, other.costs
    better = [
        other.measured.figures["map@10"].estimate - one.measured.figures["map@10"].estimate,
        mine.latency_p50 * _FASTER - theirs.latency_p50,
        mine.vector_bytes - theirs.vector_bytes,
        _bytes(mine) - _bytes(theirs),
    ]
    slower = theirs.latency_p50 * _FASTER > mine.latency_p50
    return not slower and min(better[0], *better[2:]) >= 0 and max(better) > 0


def _bytes(costs: Costs) -> int:
    # A model of unknown size is taken for a large one, so that it dominates nobody for it.
    return sys.maxsize if costs.model_bytes is None else costs.model_bytes


def peak_memory() -> int | None:
    """Return the most bytes that this process ever held resident; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 - Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
