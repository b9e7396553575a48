"""What is wrong with labelled vectors: labels that the neighbours deny, strangers, hubs, too little diversity.

Pure numbers: unit vectors (N, D) and a label each in, numbers a vector out. What to make of them is for
:mod:`lookalike.apps.doctor`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.robust import deviation
from lookalike.types import Float32

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

NEIGHBOURS = 3
"""A class is as near as its so many nearest members, on average: one odd member then decides nothing."""
_SHRINKAGE = 0.5
_TRUSTED = 0.9
_SHARPNESS = 20.0
_HUB_NEIGHBOURS = 10
_COPY_COSINE, _COPY_PRINT, _EITHER = 0.97, 0.95, 0.9
"""Either cosine that high makes a copy, or both of them above the third: light edits of photos stay above these."""
_MOST_COPIES = 20
_BLOCK = 1024


def label_margins(vectors: Float32, labels: Sequence[str]) -> Floats:
    """Return (N,) how much nearer the nearest other class is than the label says, in cosine of whitened vectors.

    Above 0 a neighbour class fits better; well above 0 the label is probably wrong. -inf where there is one class only,
    or nobody else of the label: neighbours then say nothing. Directions in which pictures of one label vary are shrunk
    first (within-class covariance normalization: Hatch et al., Interspeech 2006, shrunk by half towards a sphere), each
    picture counting as much as its label is believed; then those of the tenth that fits worst whose label is denied are
    no neighbours any more. A neighbour counts for less where everything around it is close (:func:`_crowding`): else a
    compact class draws the odd pictures of a loose one.
    """
    numbers = np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.int64)
    if len(vectors) < 2 or numbers.max() == 0:
        return np.full(len(vectors), -np.inf)
    rows = vectors.astype(np.float64)
    everyone = np.ones(len(rows), bool)
    first = _margins(_centred(rows), numbers, everyone)
    belief = 1 / (1 + np.exp(np.clip(_SHARPNESS * first, -30, 30)))
    whitened = _whitened(rows, numbers, belief)
    again = _margins(whitened, numbers, everyone)
    last = _margins(whitened, numbers, (again <= np.quantile(again, _TRUSTED)) | (again <= 0))
    return np.where(np.isfinite(last), last, again)  # nobody of its label may be left


def strangeness(vectors: Float32) -> Floats:
    """Return (N,) how many deviations each vector is further from its three nearest than is usual (robust: MAD)."""
    if len(vectors) < 2:
        return np.zeros(len(vectors))
    near = _nearest(vectors, NEIGHBOURS).mean(axis=1)
    middle = np.median(near)
    return np.asarray((middle - near) / max(deviation(near), 1e-6))


def nearest(vectors: Float32) -> Floats:
    """Return (N,) the cosine of each vector to its nearest other; -inf for a single one."""
    return _nearest(vectors, 1)[:, 0] if len(vectors) > 1 else np.full(len(vectors), -np.inf)


def nearest_of(queries: Float32, vectors: Float32) -> Floats:
    """Return (Q,) the cosine of each query to its nearest vector."""
    return np.concatenate([(queries[start : start + _BLOCK] @ vectors.T).max(axis=1) for start in _starts(queries)])


def usual_reach(near: Floats) -> float:
    """Return the cosine above which a nearest neighbour is as near as is usual: two deviations under the median."""
    return float(np.median(near) - 2 * max(deviation(near), 1e-6))


def upper_limit(values: Floats, deviations: float) -> float:
    """Return what lies so many robust deviations (MAD) above the median."""
    return float(np.median(values) + deviations * deviation(values))


def hubness(vectors: Float32) -> Ints:
    """Return (N,) for how many others each vector is among the ten nearest (k-occurrence: Radovanovic et al. 2010)."""
    often = np.zeros(len(vectors), np.int64)
    count = min(_HUB_NEIGHBOURS, len(vectors) - 1)
    if count > 0:
        for _, similar in _blocks(vectors):
            found = np.argpartition(-similar, count - 1, axis=1)[:, :count]
            often += np.bincount(found.ravel(), minlength=len(vectors))
    return often


def effective_number(vectors: Float32) -> float:
    """Return how many different things there are, 1 to N: the Vendi score (Friedman and Dieng, TMLR 2023).

    It is the exponential of the entropy of the eigenvalues of the cosine matrix divided by N.
    """
    if not len(vectors):
        return 0.0
    rows = vectors.astype(np.float64)
    small = rows.T @ rows if rows.shape[1] < len(rows) else rows @ rows.T
    values = np.linalg.eigvalsh(small) / len(rows)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def near_copies(vectors: Float32, prints: Float32) -> list[tuple[int, int, float]]:
    """Return (i, j, how sure in [0, 1]), i < j, of pairs that are nearly the same picture, the surest first.

    ``prints`` are (N, P) what :func:`lookalike.condition.print_of` made of the pixels, zeros where there are none; an
    encoder alone moves further for JPEG blocks in a small picture than between two things of a kind. Sure is the higher
    of the cosines of vectors and of prints. Of each i only the 20 surest j are kept: all pairs of the frames of a still
    camera would not fit in memory.
    """
    found = []
    for start in _starts(vectors):
        cosines = vectors[start : start + _BLOCK] @ vectors.T
        looks = prints[start : start + _BLOCK] @ prints.T
        alike = np.triu(_is_copy(cosines, looks), start + 1)
        for row in np.flatnonzero(alike.any(axis=1)):
            others = np.flatnonzero(alike[row])
            sure = np.clip(np.maximum(cosines[row, others], looks[row, others]), 0, 1)
            surest = np.argsort(-sure, kind="stable")[:_MOST_COPIES]
            found += [(start + int(row), int(others[at]), float(sure[at])) for at in surest]
    return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))


def copies_of(vector: Float32, look: Float32, vectors: Float32, prints: Float32) -> Mask:
    """Return (N,) which pictures are nearly the same as the one with this vector (D,) and print (P,)."""
    return _is_copy(vectors @ vector, prints @ look)


def separable(vectors: Float32, labels: Sequence[str]) -> dict[str, float]:
    """Return for each label the share of its pictures whose nearest other picture has it; labels of two or more."""
    names = np.asarray(labels)
    if not len(names):
        return {}
    right = names[np.concatenate([similar.argmax(axis=1) for _, similar in _blocks(vectors)])] == names
    known, counts = np.unique(names, return_counts=True)
    return {
        str(name): float(right[names == name].mean()) for name, count in zip(known, counts, strict=True) if count > 1
    }


def redundant(vectors: Float32, labels: Sequence[str | None], gone: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Return up to ``count`` (row, the row that stands for it): those whose loss is felt least, one after the other.

    What is felt is the facility location, the sum over all items of the cosine to the nearest kept one of their label
    (Krause and Golovin, Submodular Function Maximization, 2014); what is ``gone`` already is kept no more. The last
    kept of a label is never dropped.
    """
    groups = _numbered(labels)
    kept = np.ones(len(vectors), bool)
    kept[list(gone)] = False
    best = np.empty((len(vectors), 2), np.int64)
    close = np.empty((len(vectors), 2))
    _find_two(vectors, groups, kept, np.arange(len(vectors)), best, close)
    dropped: list[tuple[int, int]] = []
    while len(dropped) < count:
        losses = np.full(len(vectors), np.inf)
        losses[kept] = np.bincount(best[:, 0], close[:, 0] - close[:, 1], len(vectors))[kept]
        row = int(np.argmin(losses))
        if not np.isfinite(losses[row]):
            break
        kept[row] = False
        touched = np.flatnonzero((best == row).any(axis=1))
        _find_two(vectors, groups, kept, touched, best, close)
        dropped.append((row, int(best[row, 0])))
    return dropped


def most_covering(candidates: Float32, vectors: Float32, allowed: Mask) -> Iterator[tuple[int, float]]:
    """Yield (row, gain) of the allowed candidates, each time the one that adds most coverage to ``vectors`` and those
    before it.

    Coverage is the facility location of all candidates: the sum of their cosines to the nearest picture there is. It is
    submodular, so gains only fall, and an old gain is a bound (lazy greedy: Minoux 1978).
    """
    covered = nearest_of(candidates, vectors)
    gains = np.concatenate(
        [
            np.maximum(0, candidates[start : start + _BLOCK] @ candidates.T - covered).sum(axis=1)
            for start in _starts(candidates)
        ]
    )
    waiting = [(-float(gains[row]), int(row)) for row in np.flatnonzero(allowed)]
    heapq.heapify(waiting)
    while waiting:
        _, row = heapq.heappop(waiting)
        similar = candidates @ candidates[row]
        gain = float(np.maximum(0, similar - covered).sum())
        if waiting and -gain > waiting[0][0]:
            heapq.heappush(waiting, (-gain, row))
            continue
        yield row, gain
        covered = np.maximum(covered, similar)


def _is_copy(cosines: Float32, looks: Float32) -> Mask:
    return np.asarray(
        (cosines >= _COPY_COSINE) | (looks >= _COPY_PRINT) | ((cosines >= _EITHER) & (looks >= _EITHER)), bool
    )


def _numbered(labels: Sequence[str | None]) -> Ints:
    """Return (N,) a number a label; None is one of its own."""
    order = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return np.array([order[label] for label in labels], np.int64)


def _find_two(vectors: Float32, groups: Ints, kept: Mask, rows: Ints, best: Ints, close: Floats) -> None:
    """Set for some rows the two nearest kept items of their group, the nearer first, and their cosines, else -inf."""
    for number in np.unique(groups[rows]):
        mine = rows[groups[rows] == number]
        there = np.flatnonzero((groups == number) & kept)
        for start in _starts(mine):
            some = mine[start : start + _BLOCK]
            similar = vectors[some].astype(np.float64) @ vectors[there].T
            similar[some[:, None] == there[None]] = 1.0  # rounding must not make another one nearer than itself
            padded = np.pad(similar, ((0, 0), (0, 2)), constant_values=-np.inf)
            order = np.argsort(-padded, axis=1, kind="stable")[:, :2]
            close[some] = np.take_along_axis(padded, order, 1)
            best[some] = np.append(there, [len(vectors)] * 2)[order] if len(there) < 2 else there[order]


def _starts(rows: NDArray[Any]) -> range:
    return range(0, len(rows), _BLOCK)


def _blocks(rows: Float32 | Floats) -> Iterator[tuple[int, Floats]]:
    """Yield (first row, (B, N) its and the next rows' cosines to all); that to itself is -inf."""
    for start in _starts(rows):
        similar = rows[start : start + _BLOCK].astype(np.float64) @ rows.T
        own = np.arange(len(similar))
        similar[own, start + own] = -np.inf
        yield start, similar


def _nearest(vectors: Float32, count: int) -> Floats:
    """Return (N, up to ``count``) the highest cosines to others, falling."""
    return np.concatenate([_highest(similar, min(count, len(vectors) - 1)) for _, similar in _blocks(vectors)])


def _highest(values: Floats, count: int) -> Floats:
    """Return (N, up to ``count``) the highest of each row, falling."""
    if count < values.shape[1]:
        values = -np.partition(-values, count - 1, axis=1)[:, :count]
    return np.asarray(-np.sort(-values, axis=1))


def _margins(rows: Floats, numbers: Ints, counted: Mask) -> Floats:
    """Return (N,) nearness of the nearest other class minus that of the own; only ``counted`` rows are neighbours."""
    places = [np.flatnonzero((numbers == k) & counted) for k in range(numbers.max() + 1)]
    crowding = _crowding(rows, counted)
    margins = np.empty(len(rows))
    for start, similar in _blocks(rows):
        corrected = similar - crowding / 2
        nearness = np.stack([_class_nearness(corrected[:, place]) for place in places], axis=1)
        index, own_class = np.arange(len(nearness)), numbers[start : start + len(nearness)]
        own = nearness[index, own_class]
        nearness[index, own_class] = -np.inf
        best = nearness.max(axis=1)
        known = np.isfinite(own) & np.isfinite(best)
        margins[start : start + len(nearness)] = np.where(known, best - np.where(known, own, 0), -np.inf)
    return margins


def _crowding(rows: Floats, counted: Mask) -> Floats:
    """Return (N,) the mean cosine to the three nearest counted others: how crowded it is around each row.

    Half of it is taken off a neighbour's cosine, as cross-domain similarity local scaling does (Conneau et al., Word
    Translation Without Parallel Data, ICLR 2018; the half of the row itself is the same for all its neighbours).
    """
    means = []
    for _, similar in _blocks(rows):
        similar[:, ~counted] = -np.inf
        means.append(_class_nearness(similar))
    return np.nan_to_num(np.concatenate(means), neginf=0.0)


def _class_nearness(similar: Floats) -> Floats:
    """Return (N,) the mean of the nearest three members; -inf where there is none."""
    if not similar.shape[1]:
        return np.full(len(similar), -np.inf)
    ranked = _highest(similar, NEIGHBOURS)
    there = np.isfinite(ranked)
    total = np.where(there, ranked, 0).sum(axis=1)
    count = there.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), -np.inf)


def _whitened(rows: Floats, numbers: Ints, weights: Floats) -> Floats:
    """Return unit vectors in which the pictures of one label vary alike in all directions, half way."""
    means = np.zeros((numbers.max() + 1, rows.shape[1]))
    np.add.at(means, numbers, rows * weights[:, None])
    totals = np.bincount(numbers, weights, minlength=len(means))
    means /= np.maximum(totals, 1e-9)[:, None]
    apart = (rows - means[numbers]) * np.sqrt(weights)[:, None]
    within = apart.T @ apart / weights.sum()
    sphere = np.trace(within) / len(within)
    shrunk = (1 - _SHRINKAGE) * within + _SHRINKAGE * max(sphere, 1e-9) * np.eye(len(within))
    values, directions = np.linalg.eigh(shrunk)
    return _unit((rows - rows.mean(axis=0)) @ (directions / np.sqrt(values)))


def _centred(rows: Floats) -> Floats:
    return _unit(rows - rows.mean(axis=0))


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1))
