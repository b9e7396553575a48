"""Euclidean distance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.blocks import differences, dots
from lookalike.types import Float32


class Euclidean:
    """sqrt(sum (a - b)^2), not squared, at least 0; on unit vectors at most 2, and ordered as cosine is."""

    name = "euclidean"
    higher_is_closer = False
    follows_cosine = True

    def matrix(self, queries: NDArray[Any], gallery: NDArray[Any]) -> NDArray[Any]:
        """Return the (Q, G) distances of (Q, D) and (G, D), from the differences themselves."""
        # |q|^2 + |g|^2 - 2 q.g would be faster and loses all digits where the two are close.
        scores = np.empty((len(queries), len(gallery)), dtype=np.result_type(queries, gallery))
        for rows, difference in differences(queries, gallery):
            scores[rows] = np.sqrt(np.einsum("gd,gd->g", difference, difference))
        return scores

    def unit_matrix(self, queries: Float32, gallery: Float32) -> Float32:
        """Return the (Q, G) distances of rows of length 1: sqrt(2 - 2 q.g), near 0 to about 1e-3."""
        scores = dots(queries, gallery)
        scores *= -2.0
        scores += 2.0
        # 2 - 2 q.g can dip below 0 by rounding.
        np.maximum(scores, 0.0, out=scores)
        return np.sqrt(scores, out=scores)
