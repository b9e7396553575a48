"""How far values spread, whatever a few of them do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_OF_NORMAL = 1.4826
"""Makes the median absolute deviation of normal numbers their standard deviation (Rousseeuw and Croux, JASA 1993)."""


def deviation(values: ArrayLike, middle: ArrayLike | None = None, axis: int | None = None) -> Any:
    """Return the median absolute deviation of (N, ...) values, in the units of a standard deviation.

    About their median along ``axis``, or about ``middle``: a float64 where ``axis`` is None, else an array without it.
    """
    given = np.asarray(values, np.float64)
    about = _median(given, axis) if middle is None else np.asarray(middle, np.float64)
    return _OF_NORMAL * _median(np.abs(given - about), axis)


def _median(values: NDArray[np.float64], axis: int | None) -> Any:
    return np.median(values) if axis is None else np.median(values, axis=axis)
