"""Query expansion: the first few that came are added to the query, each by how sure it is, and all is compared again.

Alpha query expansion: Radenovic, Tolias, Chum: Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI 2019.
Those that were found are compared again, which is what a large gallery allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.types import Float32


@dataclass(frozen=True, slots=True)
class QueryExpansion:
    """The first ``count`` are added, each weighed by its cosine to the power of ``alpha``; a negative cosine is none.

    The paper's alpha is 3; with few pictures a label the first ones are often wrong, and 6 did less harm (tried once).
    """

    count: int = 3
    alpha: float = 6.0

    @property
    def name(self) -> str:
        """The name under which it is asked for."""
        return "query-expansion"

    def rerank(self, query: Float32, candidates: Float32) -> NDArray[np.float64]:
        """Return (N,) how close the candidates (N, D), best first, are to the query (D,): a cosine."""
        rows = candidates.astype(np.float64)
        first = rows[: self.count]
        expanded = query + np.clip(first @ query, 0, 1) ** self.alpha @ first
        length = float(np.linalg.norm(expanded))
        closeness: NDArray[np.float64] = rows @ (expanded / length if length > 0 else expanded)
        return closeness
