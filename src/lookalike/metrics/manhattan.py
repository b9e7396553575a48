"""Manhattan distance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.blocks import differences


class Manhattan:
    """Sum of the absolute differences, at least 0; on unit vectors of D dimensions at most 2 sqrt(D)."""

    name = "manhattan"
    higher_is_closer = False

    def matrix(self, queries: NDArray[Any], gallery: NDArray[Any]) -> NDArray[Any]:
        """Return the (Q, G) distances of (Q, D) and (G, D)."""
        dtype = np.result_type(queries, gallery)
        scores = np.empty((len(queries), len(gallery)), dtype=dtype)
        ones = np.ones(gallery.shape[1], dtype=dtype)
        for rows, difference in differences(queries, gallery):
            # The sum as a product with ones: BLAS adds rows several times faster than a reduction does.
            np.matmul(np.abs(difference, out=difference), ones, out=scores[rows])
        return scores
