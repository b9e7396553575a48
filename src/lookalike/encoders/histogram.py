"""A colour histogram: an encoder without weights, and the floor of every benchmark.

Colours are counted in the whole picture and in its four quarters (a spatial pyramid of two levels), and the square root
of each share is taken, so that the cosine of two vectors is the mean Bhattacharyya coefficient of their histograms
(Hellinger's kernel: Arandjelovic and Zisserman, CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lookalike.preprocess import Recipe, resize
from lookalike.types import Embeddings, Image, Space

_RECIPE = Recipe(size=64, filter="bilinear")
_HUES, _SATURATIONS, _VALUES, _GREYS = 12, 3, 3, 8
_COLOURS = _HUES * _SATURATIONS * _VALUES + _GREYS
_GREY_BELOW = 0.15
"""A saturation under which the hue is noise."""
_QUARTERS = 4
_BITS = 5
"""Colours are told apart by the upper bits of each channel: the table that names their bin then has 32,768 entries."""


class ColorHistogram:
    """Counts colours; (N, 580) vectors. Deterministic, a fraction of a millisecond a picture."""

    def __init__(self) -> None:
        dim = _COLOURS * (1 + _QUARTERS)
        self._space = Space("color-histogram", "1", _RECIPE.digest, dim)

    @property
    def space(self) -> Space:
        """Where the vectors live."""
        return self._space

    @property
    def at_least(self) -> int:
        """How many pixels a side a picture must keep when it is decoded reduced."""
        return _RECIPE.at_least

    def encode(self, images: Sequence[Image]) -> Embeddings:
        """Return the embeddings of ``images``, in order. May be called from several threads at once."""
        raw = np.empty((len(images), self._space.dim))
        for i, image in enumerate(images):
            raw[i] = _pyramid(_bins(resize(image, _RECIPE)))
        return Embeddings.from_raw(raw, self._space)


def _pyramid(bins: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the root of the share of each colour, in the whole and in each quarter, as one vector of length 1."""
    counts = np.bincount((bins + _COLOURS * _quarter()).ravel(), minlength=_COLOURS * _QUARTERS)
    quarters = counts.reshape(_QUARTERS, _COLOURS) / counts.sum()
    shares = np.concatenate([quarters.sum(axis=0), quarters.ravel()]) / 2
    roots: NDArray[np.float64] = np.sqrt(shares)
    return roots


def _bins(rgb: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return which colour each pixel has: (H, W, 3) -> (H, W), in [0, _COLOURS)."""
    r, g, b = np.moveaxis(rgb >> (8 - _BITS), 2, 0).astype(np.intp)
    bins: NDArray[np.intp] = _table()[r << 2 * _BITS | g << _BITS | b]
    return bins


@cache
def _quarter() -> NDArray[np.intp]:
    """Return which quarter each pixel lies in: (size, size), 0 to 3."""
    half = (np.arange(_RECIPE.size) >= _RECIPE.size / 2).astype(np.intp)
    return 2 * half[:, None] + half


@cache
def _table() -> NDArray[np.intp]:
    """Return the bin of every colour of ``_BITS`` bits a channel: hue, saturation, value; for greys the value alone."""
    steps = 1 << _BITS
    rgb = np.indices((steps, steps, steps)).reshape(3, -1) / (steps - 1)
    value, least = rgb.max(axis=0), rgb.min(axis=0)
    spread = value - least
    saturation = spread / np.where(value > 0, value, 1)
    hue = _hue(rgb, value, spread)
    h = (np.round(hue * _HUES)).astype(np.intp) % _HUES
    s = _step((saturation - _GREY_BELOW) / (1 - _GREY_BELOW), _SATURATIONS)
    colour = (h * _SATURATIONS + s) * _VALUES + _step(value, _VALUES)
    grey = _COLOURS - _GREYS + _step(value, _GREYS)
    return np.where((saturation < _GREY_BELOW) | (value < 1 / _GREYS), grey, colour)


def _hue(rgb: NDArray[np.float64], value: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the hue of each colour, in [0, 1); red is 0."""
    r, g, b = rgb
    safe = np.where(spread > 0, spread, 1)
    sixths = np.select([value == r, value == g], [(g - b) / safe, 2 + (b - r) / safe], 4 + (r - g) / safe)
    turns: NDArray[np.float64] = (sixths / 6) % 1
    return turns


def _step(share: NDArray[np.float64], steps: int) -> NDArray[np.intp]:
    """Return which of ``steps`` equal parts of [0, 1] a share lies in."""
    return np.clip((share * steps).astype(np.intp), 0, steps - 1)
