"""The colours of a picture, as a vector that goes beside another encoder's: which there are, wherever they are.

Colours are counted in CIE L*a*b* (D65), where distances are about those that people see, and each pixel is shared out
to the eight nearest cells by how near they are, so that a little more light does not move it to another cell whole. The
square root of each share is taken: the cosine of two vectors is then the Bhattacharyya coefficient of their histograms.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lookalike.types import Embeddings, Image, Space

_SIDE = 32
"""So many rows and columns of pixels are counted, evenly spaced: a sample of colours needs no resizing."""
_CELLS = (4, 9, 9)
_LOWEST, _HIGHEST = np.array([0.0, -80.0, -80.0]), np.array([100.0, 80.0, 80.0])
"""L*, a*, b* of the first and the last cell; the few colours beyond count for the last."""
_BITS = 4
"""Colours are told apart by the upper bits of each channel: the table of their cells then has 4,096 rows."""
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Of linear sRGB (IEC 61966-2-1)."""


class Colours:
    """Counts colours; (N, 252) vectors. Deterministic, a tenth of a millisecond a picture."""

    @property
    def space(self) -> Space:
        """Where the vectors live."""
        return _space()

    @property
    def at_least(self) -> int:
        """How many pixels a side a picture must keep when it is decoded reduced."""
        return _SIDE

    def encode(self, images: Sequence[Image]) -> Embeddings:
        """Return the embeddings of ``images``, in order. May be called from several threads at once."""
        cells, shares, dim = _table()
        vectors = np.empty((len(images), dim), np.float32)
        for row, image in zip(vectors, images, strict=True):
            seen = _numbers(_sampled(image.pixels))
            row[:] = np.sqrt(np.bincount(cells[seen].ravel(), shares[seen].ravel(), dim) / len(seen))
        return Embeddings(vectors, np.ones(len(vectors), np.float32), self.space)  # shares sum to 1


def _sampled(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (_SIDE * _SIDE, 3): the pixels at the middles of a grid."""
    height, width = pixels.shape[:2]
    rows, columns = ((2 * np.arange(_SIDE) + 1) * side // (2 * _SIDE) for side in (height, width))
    found: NDArray[np.uint8] = pixels[rows][:, columns].reshape(-1, 3)
    return found


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (..., 3) L* in [0, 100], a* and b* of sRGB in [0, 1], with white as the grey that has a* = b* = 0."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ (_TO_XYZ / _TO_XYZ.sum(axis=1, keepdims=True)).T
    step = 6 / 29
    x, y, z = np.moveaxis(np.where(xyz > step**3, np.cbrt(xyz), xyz / (3 * step**2) + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _numbers(rgb: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return which row of the table each of (P, 3) pixels is."""
    r, g, b = (rgb >> (8 - _BITS)).T.astype(np.intp)
    found: NDArray[np.intp] = r << 2 * _BITS | g << _BITS | b
    return found


@cache
def _space() -> Space:
    return Space("colours", "1", f"grid{_SIDE}", _table()[2])


@cache
def _table() -> tuple[NDArray[np.int16], NDArray[np.float32], int]:
    """Return for every colour its eight cells and its share of each (they sum to 1), and how many cells there are.

    Cells that no colour reaches are left out.
    """
    steps = 1 << _BITS
    rgb = np.moveaxis(np.indices((steps, steps, steps)), 0, -1).reshape(-1, 3) / (steps - 1)
    last = np.array(_CELLS) - 1
    places = ((lab(rgb) - _LOWEST) / (_HIGHEST - _LOWEST) * last).clip(0, last)
    below = np.minimum(places.astype(np.intp), last - 1)
    corners = np.moveaxis(np.indices((2, 2, 2)), 0, -1).reshape(-1, 3)
    nearness = np.where(corners, (places - below)[:, None], 1 - (places - below)[:, None])
    shares = nearness.prod(axis=2)
    cells = np.ravel_multi_index(tuple(np.moveaxis(below[:, None] + corners, -1, 0)), _CELLS)
    used = np.unique(cells[shares > 0])
    found = np.searchsorted(used, cells).clip(0, len(used) - 1)
    return found.astype(np.int16), shares.astype(np.float32), len(used)
