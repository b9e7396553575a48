"""How much of a picture is inside of an even frame: borders of one colour that were put around it."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]

_NEAR = 12
_ALMOST_ALL = 0.98
_THIN = 0.02


def inside_share(pixels: Pixels) -> float:
    """Return the share of the area, above 0 to 1, that is left of (H, W, 3) uint8 when even borders are cut off.

    A border is made of lines of which 98 % of the pixels are within 12 levels of the line's median, and that median
    within as much of the outermost one. 1 where all borders are thinner than 2 % of a side, or nothing would be left.
    """
    height, width = pixels.shape[:2]
    top, bottom = _margin(pixels), _margin(pixels[::-1])
    rest = pixels[top : height - bottom] if top + bottom < height else pixels[:0]
    if not len(rest):
        return 1.0
    left, right = _margin(rest.transpose(1, 0, 2)), _margin(rest.transpose(1, 0, 2)[::-1])
    if left + right >= width or max((top + bottom) / height, (left + right) / width) < _THIN:
        return 1.0
    return float((height - top - bottom) / height * (width - left - right) / width)


def _margin(lines: Pixels) -> int:
    """Return how many of the first lines, (N, M, 3), are of one colour."""
    wide = lines.astype(np.int16)
    medians = np.median(wide, axis=1).astype(np.int16)
    even = (np.abs(wide - medians[:, None]).max(axis=2) <= _NEAR).mean(axis=1) >= _ALMOST_ALL
    like_first = np.abs(medians - medians[0]).max(axis=1) <= _NEAR
    breaks = np.flatnonzero(~(even & like_first))
    return int(breaks[0]) if len(breaks) else len(lines)
