"""k-reciprocal re-ranking: who has the same neighbours, and is a neighbour of them, is nearer than distance says.

Zhong, Zheng, Cao, Li: Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017. There all items of the
gallery are neighbours of one another; here those that were found are, which is what a large gallery allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.types import Float32

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class KReciprocal:
    """``k1`` neighbours say who somebody is, the sets of ``k2`` are averaged, ``distance`` is the distance's share.

    The paper's 20, 6 and .3 are for persons seen dozens of times; with fewer pictures a label these were better on
    products, scenes, clothes, signs and cells, equal on objects (tried once, unpaired; `benchmarks.viewpoint` prints
    what the chosen ones do).
    """

    k1: int = 6
    k2: int = 3
    distance: float = 0.5

    @property
    def name(self) -> str:
        """The name under which it is asked for."""
        return "k-reciprocal"

    def rerank(self, query: Float32, candidates: Float32) -> Floats:
        """Return (N,) how close the candidates (N, D) are to the query (D,): higher is closer, 0 is the highest."""
        rows = np.vstack([query, candidates]).astype(np.float64)
        similar = rows @ rows.T
        np.fill_diagonal(similar, np.inf)  # everybody is the first of its own neighbours, also beside a copy
        order = np.argsort(-similar, axis=1, kind="stable")
        np.fill_diagonal(similar, 1.0)
        apart = 2 - 2 * similar
        weights = np.where(self._neighbours(order), np.exp(-apart), 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
        weights = weights[order[:, : max(1, self.k2)]].mean(axis=1)
        # Rows sum to 1, so the sum of the larger ones is 2 minus that of the smaller ones.
        shared = np.minimum(weights[0], weights[1:]).sum(axis=1)
        jaccard = 1 - shared / (2 - shared)
        closeness: Floats = -((1 - self.distance) * jaccard + self.distance * apart[0, 1:])
        return closeness

    def _neighbours(self, order: NDArray[np.int64]) -> Mask:
        """Return (N, N) who is in whose k-reciprocal set, widened by the sets of members that are mostly inside."""
        mutual = _mutual(order, self.k1)
        half = _mutual(order, round(self.k1 / 2))
        inside = mutual.astype(np.float32) @ half.T.astype(np.float32)
        joining = mutual & (inside > 2 / 3 * half.sum(axis=1))
        widened: Mask = mutual | ((joining.astype(np.float32) @ half.astype(np.float32)) > 0)
        return widened


def _mutual(order: NDArray[np.int64], k: int) -> Mask:
    """Return (N, N) whether each is among the ``k`` nearest of the other; everybody is of its own."""
    near = np.zeros(order.shape, bool)
    np.put_along_axis(near, order[:, : k + 1], True, axis=1)
    return near & near.T
