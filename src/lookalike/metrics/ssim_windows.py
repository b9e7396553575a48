"""Gaussian-weighted moments of every window of a pair of planes, tile by tile.

With s = a + b and d = a - b, four blurs do for SSIM instead of five: of s, d, s^2 and d^2. A blur along one axis is a
product with a banded matrix, within tiles that fit the cache: BLAS multiplies by the zeros of a narrow band faster
than numpy adds up shifted copies.

A tile's own level is taken out first, since a variance is a small difference of large squares. In float32 that is not
always enough: where a and b have flat parts at several levels, rounding errors there have one sign and add up. Such a
tile is computed again in float64, as are small pictures, in which errors do not average out.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lookalike.errors import ConfigError

Array: TypeAlias = NDArray[Any]
Place: TypeAlias = tuple[slice, slice]

WINDOW = 11
RADIUS = WINDOW // 2

_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03
_TILE = (128, 256)
_PLANES = 5
_BLOCK = 8
_FEW_WINDOWS = 1 << 14
_SAMPLED, _SPARSE = 16, 3
_FLOAT32_STEP = float(np.finfo(np.float32).eps)
_SHIFTED = 3e-6  # as if all errors had one sign; of that, a fifth was the most that was seen


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the windows of a tile: squared means and variances of s and d, and their covariance where it was asked for.

    ``c1`` and ``c2`` are twice SSIM's constants, since means and variances of s and d are: u_s^2 - u_d^2 = 4 u_a u_b,
    u_s^2 + u_d^2 = 2 (u_a^2 + u_b^2), and the same with variances.
    """

    mean_s: Array
    mean_d: Array
    var_s: Array
    var_d: Array
    covariance: Array | None
    c1: float
    c2: float

    def luminance(self) -> Array:
        """Return (2 u_a u_b + C1) / (u_a^2 + u_b^2 + C1)."""
        return _ratio(self.mean_s, self.mean_d, self.c1)

    def contrast_structure(self) -> Array:
        """Return (2 v_ab + C2) / (v_a + v_b + C2)."""
        return _ratio(self.var_s, self.var_d, self.c2)

    def contrast_and_structure(self) -> tuple[Array, Array]:
        """Return the two factors of :meth:`contrast_structure`: of standard deviations, and the correlation."""
        assert self.covariance is not None
        both, difference = self.var_s + self.var_d, 2 * self.covariance  # 2 (v_a + v_b), 2 (v_a - v_b)
        deviations = np.sqrt(np.maximum(both + difference, 0) * np.maximum(both - difference, 0)) + self.c2
        return deviations / (both + self.c2), (self.var_s - self.var_d + self.c2) / deviations


def _ratio(s: Array, d: Array, c: float) -> Array:
    """Return (s - d + c) / (s + d + c)."""
    below = s + c
    ratio = below - d
    below += d
    ratio /= below
    return ratio


class Windows:
    """The windows of planes with values in a span of ``data_range``, in float32 or float64."""

    def __init__(self, data_range: float, dtype: DTypeLike = np.float64) -> None:
        if not 0 < data_range < np.inf:
            raise ConfigError(f"data_range is the span of possible values, above 0, got {data_range}")
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ConfigError(f"SSIM is computed in float32 or float64, got dtype={self.dtype}")
        self._data_range = data_range
        self._c1, self._c2 = (2 * (k * data_range) ** 2 for k in (_K1, _K2))
        self._blur = _blur(self.dtype)

    def over(self, a: Array, b: Array, *, covariance: bool = False) -> Iterator[tuple[Place, Moments]]:
        """Yield the moments of all windows that lie in two planes of one size, in tiles.

        The place of a tile counts windows from the upper left. The arrays are good until the next tile is asked for.
        """
        height, width = a.shape[0] - 2 * RADIUS, a.shape[1] - 2 * RADIUS
        windows = self._exact if height * width < _FEW_WINDOWS else self
        for top in range(0, height, _TILE[0]):
            for left in range(0, width, _TILE[1]):
                bottom, right = min(top + _TILE[0], height), min(left + _TILE[1], width)
                pixels = slice(top, bottom + 2 * RADIUS), slice(left, right + 2 * RADIUS)
                place = slice(top, bottom), slice(left, right)
                yield place, windows._moments(a[pixels], b[pixels], covariance)

    def _moments(self, a: Array, b: Array, covariance: bool) -> Moments:
        level_a, level_b = self._level(a), self._level(b)
        inputs = self._blur.inputs(4 + covariance, *a.shape)
        s, d, ss, dd = inputs[:4]
        ss[...] = a
        dd[...] = b
        ss -= level_a
        dd -= level_b
        np.add(ss, dd, out=s)
        np.subtract(ss, dd, out=d)
        np.multiply(inputs[:2], inputs[:2], out=inputs[2:4])
        if covariance:
            np.multiply(s, d, out=inputs[4])
        blurred = self._blur.blurred(inputs)
        means, variances = blurred[:2], blurred[2:4]
        squares = means * means
        variances -= squares
        if self.dtype == np.float32 and self._loses_digits(squares, variances):
            return self._exact._moments(a, b, covariance)
        if covariance:
            blurred[4] -= means[0] * means[1]
        means[0] += level_a + level_b
        means[1] += level_a - level_b
        np.multiply(means, means, out=squares)
        both = blurred[4] if covariance else None
        return Moments(squares[0], squares[1], variances[0], variances[1], both, self._c1, self._c2)

    def _level(self, plane: Array) -> float:
        # A whole step of an 8-bit picture, so that its differences stay exact.
        step = self._data_range / 255
        sample = plane[::_SAMPLED, ::_SAMPLED]
        return round(float(sample.sum()) / sample.size / step) * step

    def _loses_digits(self, squares: Array, variances: Array) -> bool:
        """Tell whether rounding may show in the tile's mean: the last digit of what a variance is the difference of,
        times the slope of the contrast-structure term t = (v_s - v_d + c) / (v_s + v_d + c) by that variance.
        """
        (square_s, square_d), (var_s, var_d) = (planes[:, ::_SPARSE, ::_SPARSE] for planes in (squares, variances))
        var_s = var_s + np.float32(self._c2)
        below = var_s + var_d
        term = (var_s - var_d) / below
        shifts = (square_s * (1 - term) + square_d * (1 + term)) / below
        return float(shifts.mean()) * _FLOAT32_STEP > _SHIFTED

    @cached_property
    def _exact(self) -> Windows:
        return self if self.dtype == np.float64 else Windows(self._data_range)


class _Blur:
    """The Gaussian over each of up to five planes of one tile, in memory that is used again.

    Each array lies in one piece, whatever the tile's size: numpy is three times as fast on such ones.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._band = _band(dtype)
        size = _PLANES * (_TILE[0] + 2 * RADIUS) * (_TILE[1] + 2 * RADIUS)
        self._memory = np.empty((3, size), dtype)

    def inputs(self, planes: int, height: int, width: int) -> Array:
        """Return (planes, height, width) to write into."""
        return self._array(0, planes, height, width)

    def blurred(self, inputs: Array) -> Array:
        """Return the inputs' windows, (planes, H, W): fewer by two radii each way."""
        planes, height, width = inputs.shape
        between = self._array(1, planes, height - 2 * RADIUS, width)
        blurred = self._array(2, planes, width - 2 * RADIUS, height - 2 * RADIUS)
        self._down(inputs, between, self._memory[0])
        self._down(between.swapaxes(1, 2), blurred, self._memory[1])
        return blurred.swapaxes(1, 2)

    def _down(self, planes: Array, out: Array, memory: Array) -> None:
        """Blur the columns of ``planes``, which lie at the start of ``memory``, in overlapping blocks of rows."""
        count, rest = divmod(out.shape[1], _BLOCK)
        last = count * _BLOCK
        plane, row, pixel = planes.strides
        shape = (len(planes), count, _BLOCK + 2 * RADIUS, planes.shape[2])
        # What as_strided makes, in a tenth of its time.
        overlapping: Array = np.ndarray(shape, planes.dtype, memory, strides=(plane, _BLOCK * row, row, pixel))
        np.matmul(self._band, overlapping, out=out[:, :last].reshape(len(out), count, _BLOCK, out.shape[2]))
        np.matmul(self._band[:rest, : rest + 2 * RADIUS], planes[:, last:], out=out[:, last:])

    def _array(self, number: int, *shape: int) -> Array:
        return self._memory[number, : math.prod(shape)].reshape(shape)


def _blur(dtype: np.dtype[Any]) -> _Blur:
    # One a thread, kept: to touch new memory costs as much as to blur a small picture.
    kept: dict[str, _Blur] = _local.__dict__
    if dtype.char not in kept:
        kept[dtype.char] = _Blur(dtype)
    return kept[dtype.char]


def _band(dtype: np.dtype[Any]) -> Array:
    """Return (block, block + 2 radii): row i holds the Gaussian's weights from column i on."""
    offsets = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    band = np.zeros((_BLOCK, _BLOCK + 2 * RADIUS), dtype)
    for i in range(_BLOCK):
        band[i, i : i + WINDOW] = weights / weights.sum()
    return band


_local = threading.local()
