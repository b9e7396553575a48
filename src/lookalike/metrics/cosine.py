"""Cosine similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Cosine:
    """A.B / (|A| |B|), in [-1, 1]; 1 is the same direction. A zero vector scores 0 against everything."""

    name = "cosine"
    higher_is_closer = True
    follows_cosine = True

    def matrix(self, queries: NDArray[Any], gallery: NDArray[Any]) -> NDArray[Any]:
        """Return the (Q, G) cosines of (Q, D) against (G, D), in the inputs' precision."""
        # |A.B| can pass |A||B| by rounding.
        clipped: NDArray[Any] = np.clip(_unit(queries) @ _unit(gallery).T, -1.0, 1.0)
        return clipped


def _unit(vectors: NDArray[Any]) -> NDArray[Any]:
    # The largest entry is taken out first, so that squares neither overflow nor vanish.
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    scaled = vectors / np.where(largest > 0, largest, 1.0).astype(vectors.dtype)
    norms = np.sqrt(np.einsum("nd,nd->n", scaled, scaled))[:, None]
    return np.asarray(scaled / np.where(norms > 0, norms, 1.0))
