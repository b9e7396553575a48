"""What is done to planes of pixels (H, W) float32: means, blurs, the lowest and the highest around."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.structural import luma
from lookalike.types import Float32, Image


def grey(image: Image, side: int) -> Float32:
    """Return the luma (H, W) in levels of 0 to 255, averaged down in whole boxes to a longest side of ``side`` or so.

    The box is the least that leaves at most 1.5 ``side``; what does not fill one is dropped at the right and below.
    """
    box = box_of(image, side)
    plane = luma(image.pixels).astype(np.float32)
    if box == 1:
        return plane
    height, width = plane.shape[0] // box, plane.shape[1] // box
    blocks = plane[: height * box, : width * box].reshape(height, box, width, box)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def box_of(image: Image, side: int) -> int:
    """Return how many pixels a side become one in :func:`grey`."""
    height, width = map(int, image.pixels.shape[:2])
    return max(1, min(math.ceil(max(height, width) / (1.5 * side)), height, width))


def box_mean(plane: Float32, size: int) -> Float32:
    """Return the mean of ``size`` x ``size`` pixels (odd) around each; beyond the border the last pixel goes on."""
    half = size // 2
    padded = np.pad(plane.astype(np.float64), ((half + 1, half), (half + 1, half)), mode="edge")
    sums = padded.cumsum(axis=0).cumsum(axis=1)
    total = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    return np.asarray(total / (size * size), np.float32)


def blurred(plane: Float32, sigma: float) -> Float32:
    """Return the Gaussian blur of deviation ``sigma`` pixels; beyond the border the last pixel goes on."""
    if sigma <= 0:
        return plane
    reach = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if axis == a else (0, 0) for a in (0, 1)]
        padded, length = np.pad(plane, pad, mode="edge"), plane.shape[axis]
        rows = [np.take(padded, range(at, at + length), axis) for at in range(2 * reach + 1)]
        plane = np.asarray(sum(np.float32(w) * row for w, row in zip(weights, rows, strict=True)), np.float32)
    return plane


def highest(plane: NDArray[Any], reach: int) -> NDArray[Any]:
    """Return the highest value within ``reach`` pixels across and down (a square)."""
    for axis in (0, 1):
        pad = [(reach, reach) if axis == a else (0, 0) for a in (0, 1)]
        padded, length, found = np.pad(plane, pad, mode="edge"), plane.shape[axis], plane
        for at in range(2 * reach + 1):
            part = padded[at : at + length] if axis == 0 else padded[:, at : at + length]
            found = np.maximum(found, part)
        plane = found
    return plane


def lowest(plane: Float32, reach: int) -> Float32:
    """Return the lowest value within ``reach`` pixels across and down (a square)."""
    return np.asarray(-highest(-plane, reach), np.float32)


def enlarged(values: NDArray[Any], height: int, width: int) -> Float32:
    """Return (..., h, w) interpolated linearly to (..., height, width); a cell stands for its middle."""
    across = _along_last(values, width)
    return np.asarray(_along_last(across.swapaxes(-1, -2), height).swapaxes(-1, -2), np.float32)


def _along_last(values: NDArray[Any], size: int) -> NDArray[Any]:
    last = values.shape[-1] - 1
    places = np.clip((np.arange(size) + 0.5) * (last + 1) / size - 0.5, 0, last)
    lower = places.astype(np.intp)
    upper, weight = np.minimum(lower + 1, last), (places - lower).astype(np.float32)
    return np.asarray(values[..., lower] * (1 - weight) + values[..., upper] * weight)
