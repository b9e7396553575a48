"""A cut where the hits stop standing out, so that a query of which the gallery has nothing returns nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cut_at_gap(closeness: NDArray[np.float64], least: float) -> int:
    """Return how many of (K,) falling closenesses come before the largest drop; 0 where no drop reaches ``least``.

    Strangers come in a dense row; what truly matches stands apart from them. ``least`` is the drop that strangers alone
    reach as often as false alarms are allowed.
    """
    if len(closeness) < 2:
        return len(closeness)
    drops = -np.diff(closeness)
    largest = int(drops.argmax())
    return largest + 1 if drops[largest] >= least else 0
