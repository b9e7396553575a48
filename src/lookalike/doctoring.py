"""What is wrong with labelled vectors: labels that the neighbours deny, strangers, hubs, too little diversity.

Pure numbers: unit vectors (N, D) and a label each in, numbers a vector out. What to make of them is for
:mod:`lookalike.apps.doctor`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lookalike.types import Float32

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

NEIGHBOURS = 3
"""A class is as near as its so many nearest members, on average: one odd member then decides nothing."""
_SHRINKAGE = 0.5
_TRUSTED = 0.9
_SHARPNESS = 20.0
_MAD = 1.4826
"""Makes the median absolute deviation of normal numbers their standard deviation."""
_HUB_NEIGHBOURS = 10


def label_margins(vectors: Float32, labels: Sequence[str]) -> Floats:
    """Return (N,) how much nearer the nearest other class is than the label says, in cosine of whitened vectors.

    Above 0 a neighbour class fits better; well above 0 the label is probably wrong. -inf where there is one class only,
    or nobody else of the label: neighbours then say nothing. Directions in which pictures of one label vary are shrunk
    first (within-class covariance normalization: Hatch et al., Interspeech 2006, shrunk by half towards a sphere), each
    picture counting as much as its label is believed; then those of the tenth that fits worst whose label is denied are
    no neighbours any more.
    """
    numbers = np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.int64)
    if len(vectors) < 2 or numbers.max() == 0:
        return np.full(len(vectors), -np.inf)
    rows = vectors.astype(np.float64)
    first = _margins(_centred(rows), numbers, np.ones(len(rows), bool))
    belief = 1 / (1 + np.exp(np.clip(_SHARPNESS * first, -30, 30)))
    whitened = _whitened(rows, numbers, belief)
    again = _margins(whitened, numbers, np.ones(len(rows), bool))
    last = _margins(whitened, numbers, (again <= np.quantile(again, _TRUSTED)) | (again <= 0))
    return np.where(np.isfinite(last), last, again)  # nobody of its label may be left


def strangeness(vectors: Float32) -> Floats:
    """Return (N,) how many deviations each vector is further from its three nearest than is usual (robust: MAD)."""
    if len(vectors) < 2:
        return np.zeros(len(vectors))
    near = _nearest(vectors, NEIGHBOURS).mean(axis=1)
    middle = np.median(near)
    spread = _MAD * np.median(np.abs(near - middle))
    return np.asarray((middle - near) / max(float(spread), 1e-6))


def hubness(vectors: Float32) -> Ints:
    """Return (N,) for how many others each vector is among the ten nearest (k-occurrence: Radovanovic et al. 2010)."""
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    count = min(_HUB_NEIGHBOURS, len(vectors) - 1)
    nearest = np.argpartition(-similar, count - 1, axis=1)[:, :count] if count > 0 else np.empty((0, 0), np.int64)
    return np.bincount(nearest.ravel(), minlength=len(vectors)).astype(np.int64)


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


def near_copies(vectors: Float32, least: float) -> list[tuple[int, int, float]]:
    """Return (i, j, cosine), i < j, of all pairs with a cosine of ``least`` or more, nearest first."""
    found = []
    for start in range(0, len(vectors), 1024):
        block = vectors[start : start + 1024] @ vectors.T
        rows, columns = np.nonzero(block >= least)
        found += [
            (start + int(i), int(j), float(block[i, j])) for i, j in zip(rows, columns, strict=True) if start + i < j
        ]
    return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))


def separable(vectors: Float32, labels: Sequence[str]) -> dict[str, float]:
    """Return for each label the share of its pictures whose nearest other picture has it; labels of two or more."""
    names = np.asarray(labels)
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    right = names[similar.argmax(axis=1)] == names
    known, counts = np.unique(names, return_counts=True)
    return {
        str(name): float(right[names == name].mean()) for name, count in zip(known, counts, strict=True) if count > 1
    }


def _nearest(vectors: Float32, count: int) -> Floats:
    """Return (N, up to ``count``) the highest cosines to others, falling."""
    similar = vectors.astype(np.float64) @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    return np.asarray(-np.sort(-similar, axis=1)[:, : min(count, len(vectors) - 1)])


def _margins(rows: Floats, numbers: Ints, counted: Mask) -> Floats:
    """Return (N,) nearness of the nearest other class minus that of the own; only ``counted`` rows are neighbours."""
    similar = rows @ rows.T
    np.fill_diagonal(similar, -np.inf)
    similar[:, ~counted] = -np.inf
    nearness = np.stack([_class_nearness(similar[:, numbers == k]) for k in range(numbers.max() + 1)], axis=1)
    index = np.arange(len(rows))
    own = nearness[index, numbers]
    nearness[index, numbers] = -np.inf
    best = nearness.max(axis=1)
    return np.where(np.isfinite(own) & np.isfinite(best), best - np.where(np.isfinite(own), own, 0), -np.inf)


def _class_nearness(similar: Floats) -> Floats:
    """Return (N,) the mean of the nearest three members; -inf where there is none."""
    ranked = -np.sort(-similar, axis=1)[:, :NEIGHBOURS]
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
