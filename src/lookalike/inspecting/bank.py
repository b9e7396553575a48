"""A bank of good patches, bounded by a coreset, and how far a patch is from it (PatchCore: Roth et al., CVPR 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lookalike.types import Float32

MOST_PATCHES = 4000
_PROJECTED = 64
_NEIGHBOURS = 9
_ROWS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """``patches`` (M, C) float32: the good ones that stand for all. At least one."""

    patches: Float32
    _squares: Float32 = field(init=False)
    _near: list[np.ndarray] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_squares", np.einsum("mc,mc->m", self.patches, self.patches))

    def distances(self, patches: Float32) -> Float32:
        """Return (P,) the distance of each patch (P, C) to the bank, in units of one channel, re-weighted.

        The distance to the nearest good patch is multiplied by 1 minus the soft maximum, among that one's nine nearest,
        of the distance to it (equation 7 of the paper): beside a good patch that is rare itself, little is said.
        """
        found = [self._of(patches[at : at + _ROWS]) for at in range(0, len(patches), _ROWS)]
        return np.concatenate(found)

    def _of(self, patches: Float32) -> Float32:
        channels = patches.shape[1]
        closeness = patches @ self.patches.T
        squared = np.einsum("pc,pc->p", patches, patches)[:, None] - 2 * closeness + self._squares
        nearest = squared.argmin(axis=1)
        around = np.take_along_axis(squared, self._neighbourhoods()[nearest], axis=1)
        apart = np.sqrt(np.maximum(around, 0) / channels)
        distance = np.sqrt(np.maximum(squared[np.arange(len(patches)), nearest], 0) / channels)
        if apart.shape[1] == 1:
            return np.asarray(distance, np.float32)
        share = np.exp(distance - apart.max(axis=1)) / np.exp(apart - apart.max(axis=1, keepdims=True)).sum(axis=1)
        return np.asarray((1 - share) * distance, np.float32)

    def _neighbourhoods(self) -> np.ndarray:
        """Return (M, 9) which patches of the bank are nearest to each of it, itself among them."""
        if not self._near:
            count = min(_NEIGHBOURS, len(self.patches))
            rows = []
            for at in range(0, len(self.patches), _ROWS):
                part = self.patches[at : at + _ROWS]
                rows.append(np.argpartition(self._squares - 2 * part @ self.patches.T, count - 1, axis=1)[:, :count])
            self._near.append(np.concatenate(rows))
        return self._near[0]


def coreset(points: Float32, count: int, kept: int = 0, seed: int = 0) -> np.ndarray:
    """Return the rows of ``count`` points (N, C) of which no other point is far, in the order in which they were taken.

    Greedy k-centre: the next one is the point that is farthest from all taken so far, which is at most twice as far as
    the best choice leaves (Gonzalez 1985). Distances are those of a random projection to 64 numbers (Johnson and
    Lindenstrauss 1984). The first ``kept`` rows are taken beforehand; without any, the point nearest to the mean is.
    """
    if count >= len(points):
        return np.arange(len(points))
    projected = _projected(points, seed)
    squares = np.einsum("nc,nc->n", projected, projected)
    taken = list(range(min(kept, count)))
    if not taken:
        middle = projected.mean(axis=0)
        taken = [int(np.argmin(squares - 2 * projected @ middle))]
    apart = np.full(len(points), np.inf, np.float32)
    for one in taken:
        np.minimum(apart, _from(projected, squares, one), out=apart)
    while len(taken) < count:
        one = int(np.argmax(apart))
        taken.append(one)
        np.minimum(apart, _from(projected, squares, one), out=apart)
    return np.array(taken)


def _from(points: Float32, squares: Float32, one: int) -> Float32:
    return np.asarray(squares - 2 * (points @ points[one]) + squares[one])


def _projected(points: Float32, seed: int) -> Float32:
    if points.shape[1] <= _PROJECTED:
        return np.ascontiguousarray(points, np.float32)
    directions = np.random.default_rng(seed).normal(size=(points.shape[1], _PROJECTED)) / math.sqrt(_PROJECTED)
    return np.asarray(points @ directions.astype(np.float32), np.float32)
