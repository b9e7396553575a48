"""Differences of vectors in pieces that fit the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK_BYTES = 1 << 20


def differences(queries: NDArray[Any], gallery: NDArray[Any]) -> Iterator[tuple[tuple[int, slice], NDArray[Any]]]:
    """Yield ((query, slice of gallery rows), gallery minus query) in one buffer that is used again."""
    rows = max(1, _BLOCK_BYTES // max(1, gallery.shape[1] * gallery.itemsize))
    buffer = np.empty((min(rows, len(gallery)), gallery.shape[1]), dtype=np.result_type(queries, gallery))
    for i, query in enumerate(queries):
        for start in range(0, len(gallery), rows):
            part = gallery[start : start + rows]
            yield (i, slice(start, start + len(part))), np.subtract(part, query, out=buffer[: len(part)])
