"""What to show to somebody who likes some pictures and not others: relevance, then variety. Pure numbers.

Unit vectors in, places out. Several likes are several tastes and not one in the middle: a picture is as relevant as it
is close to the like it suits best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from lookalike.types import Float32

Floats = NDArray[np.float64]

SHARPNESS = 20.0
"""How much the nearest like outweighs the others in a soft maximum."""
_NEAREST = 10
LESS = 0.5
"""What closeness to a dislike takes off, in times what closeness to a like adds."""


def tastes(candidates: Float32, likes: Float32) -> Floats:
    """Return (N, L) the cosine of each candidate to each like, as if all likes had equally close neighbours.

    What the nearest ten are closer to one like than to the others is taken off: a like in a crowded place would else be
    served alone.
    """
    cosines = candidates.astype(np.float64) @ likes.T.astype(np.float64)
    levels = -np.sort(-cosines, axis=0)[:_NEAREST].mean(axis=0)
    return np.asarray(cosines - (levels - levels.mean()))


def relevance(of_likes: Floats, dislikes: Floats) -> Floats:
    """Return (N,): the soft maximum over :func:`tastes` (N, L), less half of that over (N, M) cosines to dislikes."""
    found = _soft_maximum(of_likes)
    return found - LESS * _soft_maximum(dislikes) if dislikes.shape[1] else found


def varied(
    relevant: Floats, vectors: Float32, diversity: float, refused: Callable[[int, list[int]], bool]
) -> Iterator[int]:
    """Yield places: each time the one with the highest (1 - d) relevance - d (cosine to the nearest of those yielded).

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), ``diversity`` d in [0, 1]; ties by place. The
    first has the highest relevance. ``refused`` is asked (place, those yielded) before one is.
    """
    left = np.ones(len(relevant), bool)
    nearest = np.zeros(len(relevant))
    chosen: list[int] = []
    while left.any():
        # Before anything is chosen all are equally new: relevance decides, even where it counts nothing after that.
        values = (1 - diversity) * relevant - diversity * nearest if chosen else relevant
        place = int(np.argmax(np.where(left, values, -np.inf)))
        left[place] = False
        if refused(place, chosen):
            continue
        cosines = vectors @ vectors[place]
        nearest = np.maximum(nearest, cosines) if chosen else cosines.astype(np.float64)
        chosen.append(place)
        yield place


def intra_list_diversity(vectors: Float32) -> float:
    """Return the mean of 1 - cosine over all pairs of (N, D), 0 for fewer than two (Ziegler et al., WWW 2005)."""
    count = len(vectors)
    if count < 2:
        return 0.0
    cosines = vectors.astype(np.float64) @ vectors.T
    return float(1 - (cosines.sum() - np.trace(cosines)) / (count * (count - 1)))


def _soft_maximum(values: Floats) -> Floats:
    """Return (N,) log(mean(exp(s x))) / s of the rows of (N, L): the value itself where all are equal."""
    highest = values.max(axis=1, keepdims=True)
    return np.asarray(highest[:, 0] + np.log(np.exp(SHARPNESS * (values - highest)).mean(axis=1)) / SHARPNESS)
