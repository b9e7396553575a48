"""Two pictures laid on one another: do their parts agree to the pixel?

A copy agrees in every part that was not painted over, whatever was done to its light. Another photo of the same scene
agrees in some parts and not in others, and its detail is shifted by fractions of a pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.types import Float32

Mask: TypeAlias = NDArray[np.bool_]

_BLOCK = 8
_LEAST_DEVIATION = 4.0  # levels: flatter blocks tell nothing
_LOW, _HIGH = 0.25, 0.7
_EXACT, _PAINTED_OVER = 0.98, 0.25
_TRUSTED = 0.6
_FEWEST_BLOCKS = 12


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two pictures agree where both have detail: ``value`` is -1 to 1, over ``blocks`` blocks of 8 pixels.

    The mean of the lower quartile of the blocks' correlations and of what three in ten reach. Words and signs painted
    over a copy spoil the first and leave all other blocks exactly as they were: there it is the share of blocks with a
    correlation above .98, plus a quarter.
    """

    value: float
    blocks: int


def agreement(x: Float32, y: Float32, mask: Mask | None = None) -> Agreement:
    """Compare two (H, W) float32 in levels, where ``mask`` (H, W) is True."""
    correlations, _ = _correlations(x, y, mask)
    if len(correlations) < _FEWEST_BLOCKS:
        return Agreement(0.0, len(correlations))
    low, high = np.quantile(correlations, (_LOW, _HIGH))
    exact = float((correlations > _EXACT).mean())
    return Agreement(max(float(low + high) / 2, min(exact + _PAINTED_OVER, 1.0)), len(correlations))


def displacement(x: Float32, y: Float32) -> float:
    """Return by how many pixels, root mean square, the parts of y lie beside those of x, to first order (at most ~2).

    The affine motion that explains best what is left between the two after each block was brought to the same mean and
    contrast (one step of Lucas and Kanade, 1981).
    """
    height, width = (side // _BLOCK * _BLOCK for side in x.shape)
    x, y = x[:height, :width], y[:height, :width]
    correlation, use = _correlations(x, y, None)
    good = np.zeros(use.shape, bool)
    good[use] = correlation > _TRUSTED
    inner = np.zeros((_BLOCK, _BLOCK), bool)
    inner[1:-1, 1:-1] = True  # at its edge the slope of a block is that to the next, which was brought to another mean
    pixels = np.kron(good, inner)
    if good.sum() < _FEWEST_BLOCKS:
        return 0.0
    x, y = _normalized(x), _normalized(y)
    mean = (x + y) / 2
    down, across = np.gradient(mean, axis=0), np.gradient(mean, axis=1)
    every_v, every_u = np.meshgrid(*(np.linspace(-1, 1, side) for side in x.shape), indexing="ij")
    gx, gy, u, v, left = (plane[pixels] for plane in (across, down, every_u, every_v, y - x))
    design = np.stack([gx, gy, gx * u, gx * v, gy * u, gy * v], axis=1)
    squares = design.T @ design + 1e-6 * np.eye(design.shape[1])
    squared = [float(part) ** 2 for part in np.linalg.solve(squares, design.T @ left)]
    # Over the frame u and v have a mean of 0 and a mean square of 1/3.
    return math.sqrt(sum(squared[:2]) + sum(squared[2:]) / 3)


def softened(x: Float32) -> Float32:
    """Return (H, W) smoothed by [1 2 1] / 4 twice along both sides: noise and compression matter less."""
    for _ in range(2):
        x = _smoothed(_smoothed(x).T).T
    return x


def _smoothed(x: Float32) -> Float32:
    """Return (H, W) with each row mixed with those next to it; beyond the edge the last row goes on."""
    mixed = x * np.float32(0.5)
    quarter = x * np.float32(0.25)
    mixed[1:] += quarter[:-1]
    mixed[0] += quarter[0]
    mixed[:-1] += quarter[1:]
    mixed[-1] += quarter[-1]
    return mixed


def _blocks(x: NDArray[Any]) -> NDArray[Any]:
    """Return (rows, columns, 8, 8), of whole blocks only."""
    rows, columns = (side // _BLOCK for side in x.shape)
    cut = x[: rows * _BLOCK, : columns * _BLOCK]
    return cut.reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2)


def _correlations(x: Float32, y: Float32, mask: Mask | None) -> tuple[Float32, Mask]:
    """Return the correlation of each block with detail, and which of (rows, columns) blocks these are."""
    a, b = _blocks(x), _blocks(y)
    a, b = (part - part.mean(axis=(2, 3), keepdims=True) for part in (a, b))
    var_a, var_b = (np.einsum("rcij,rcij->rc", part, part) / _BLOCK**2 for part in (a, b))
    use = np.maximum(var_a, var_b) > _LEAST_DEVIATION**2
    if mask is not None:
        use &= _blocks(mask).all(axis=(2, 3))
    covariance = np.einsum("kij,kij->k", a[use], b[use]) / _BLOCK**2
    return covariance / np.sqrt(np.maximum(var_a[use], 1) * np.maximum(var_b[use], 1)), use


def _normalized(x: Float32) -> Float32:
    """Return whole blocks, each of mean 0 and deviation 1."""
    blocks = _blocks(x)
    middle, deviation = blocks.mean(axis=(2, 3), keepdims=True), blocks.std(axis=(2, 3), keepdims=True)
    even = (blocks - middle) / np.maximum(deviation, 1)
    normalized: Float32 = even.swapaxes(1, 2).reshape(x.shape)
    return normalized
