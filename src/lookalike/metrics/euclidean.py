"""Euclidean distance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.blocks import differences


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
