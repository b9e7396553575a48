"""Which pictures may be copies, by their embeddings: the nearest few of each, and more wherever copies turn up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.stores import ann
from lookalike.types import Float32

Rows: TypeAlias = NDArray[np.int64]

EXACT_UP_TO = 20_000
"""How many pictures are compared each with each; above, faiss proposes the nearest where it is installed."""

_BLOCK = 512
_LISTED = 64
_FIRST = 4


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The nearest of each picture, best first: ``rows`` (N, K), -1 where there are no more, ``cosines`` (N, K)."""

    rows: Rows
    cosines: Float32

    def walk(self) -> list[int]:
        """Return all places, those near one another close together: what was read for one still is at hand for them."""
        order: list[int] = []
        seen = np.zeros(len(self.rows), bool)
        for start in range(len(self.rows)):
            ahead = [start]
            while ahead:
                place = ahead.pop()
                if not seen[place]:
                    seen[place] = True
                    order.append(place)
                    ahead += [int(other) for other in self.rows[place, ::-1] if other >= 0 and not seen[other]]
        return order

    def windows(self) -> Iterator[slice]:
        """Yield which places of the lists to look at one after another: 4, then as many as before each time."""
        begin, end = 0, _FIRST
        while begin < self.rows.shape[1]:
            yield slice(begin, end)
            begin, end = end, 2 * end


def nearest(vectors: Float32, at_least: float, listed: int = _LISTED) -> Nearest:
    """Return for each row of (N, D) unit vectors the others with a cosine of ``at_least``, up to ``listed``."""
    count = len(vectors)
    wanted = min(listed, max(count - 1, 0))
    if count > EXACT_UP_TO and ann.installed():
        found, cosines = ann.nearest_of_each(vectors, wanted + 1)
        rows, cosines = _without_itself(found, cosines, wanted)
    else:
        rows, cosines = _exactly(vectors, wanted)
    rows[cosines < at_least] = -1
    return Nearest(rows, cosines)


def _exactly(vectors: Float32, wanted: int) -> tuple[Rows, Float32]:
    rows, cosines = np.empty((len(vectors), wanted), np.int64), np.empty((len(vectors), wanted), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = slice(start, start + _BLOCK)
        scores = vectors[block] @ vectors.T
        scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = -2.0
        rows[block], cosines[block] = _best(scores, wanted)
    return rows, cosines


def _best(scores: Float32, wanted: int) -> tuple[Rows, Float32]:
    """Return the places and values of the highest scores of each row; of equal ones, the first place first."""
    if wanted == 0:
        return np.empty((len(scores), 0), np.int64), np.empty((len(scores), 0), np.float32)
    if wanted < scores.shape[1]:
        places = np.sort(np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted], axis=1)
    else:
        places = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    values = np.take_along_axis(scores, places, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(places, order, 1), np.take_along_axis(values, order, 1)


def _without_itself(found: Rows, cosines: Float32, wanted: int) -> tuple[Rows, Float32]:
    own = found == np.arange(len(found))[:, None]
    # Where copies push a picture out of its own list, the last one goes instead.
    own[~own.any(axis=1), -1] = True
    return found[~own].reshape(-1, wanted), cosines[~own].reshape(-1, wanted)


def beyond(vectors: Float32, row: int, listed: Sequence[int], at_least: float) -> list[tuple[int, float]]:
    """Return all other rows with a cosine of ``at_least`` that are not ``listed``, nearest first."""
    cosines = vectors @ vectors[row]
    cosines[[row, *listed]] = -2.0
    places = np.flatnonzero(cosines >= at_least)
    order = places[np.argsort(-cosines[places], kind="stable")]
    return [(int(place), float(cosines[place])) for place in order]
