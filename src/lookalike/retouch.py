"""What a recipe may do to a picture once it has its size: (H, W, 3) uint8 -> (H, W, 3) uint8."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]

_MEDIAN_OF_NINE = (
    *((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8)),  # three sorted rows
    *((0, 3), (5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2)),
)
"""Which two change places where the first is larger, until the fifth is the median (Devillard, 1998)."""
_TILES = 8
_CLIP_LIMIT = 2.0
"""How many times the mean count of a level a tile's histogram may hold; OpenCV's example, as its tiles are."""


def grey(pixels: Pixels) -> Pixels:
    """Return the luma (ITU-R 601) in all three channels."""
    return np.repeat(_luma(pixels)[..., None], 3, axis=2)


def median(pixels: Pixels) -> Pixels:
    """Return the median of 3 x 3 neighbours, channel by channel; beyond an edge its pixels repeat."""
    height, width = pixels.shape[:2]
    wide = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), "edge")
    nine = [wide[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    for a, b in _MEDIAN_OF_NINE:
        nine[a], nine[b] = np.minimum(nine[a], nine[b]), np.maximum(nine[a], nine[b])
    return nine[4]


def gaussian(pixels: Pixels) -> Pixels:
    """Return the picture under the kernel (1 2 1) x (1 2 1) / 16, rounded; beyond an edge its pixels repeat."""
    wide = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), "edge").astype(np.uint16)
    rows = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    both = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]
    rounded: Pixels = ((both + 8) >> 4).astype(np.uint8)
    return rounded


def grey_world(pixels: Pixels) -> Pixels:
    """Return the picture with each channel's mean brought to the mean of all three; a black channel stays black."""
    means = pixels.mean(axis=(0, 1))
    gains = np.where(means > 0, means.mean() / np.where(means > 0, means, 1), 1)
    levels = np.clip(np.rint(np.arange(256)[:, None] * gains), 0, 255).astype(np.uint8)
    return np.stack([levels[pixels[..., c], c] for c in range(3)], axis=2)


def clahe(pixels: Pixels) -> Pixels:
    """Return the picture with the contrast of its luma equalized in 8 x 8 tiles, and its colours as they were.

    Contrast-limited adaptive histogram equalization (Zuiderveld, Graphics Gems IV, 1994) as OpenCV does it, with a clip
    limit of 2: what a histogram holds above the limit is spread over all levels, and a pixel's new level lies between
    those of the four nearest tiles. What the luma gains is added to each channel: Cb and Cr do not change.
    """
    luma = _luma(pixels)
    gain = _equalized(luma).astype(np.int16) - luma
    return np.clip(pixels + gain[..., None], 0, 255).astype(np.uint8)


def _luma(pixels: Pixels) -> Pixels:
    r, g, b = np.moveaxis(pixels.astype(np.uint32), 2, 0)
    luma: Pixels = ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16).astype(np.uint8)
    return luma


def _equalized(luma: Pixels) -> Pixels:
    height, width = luma.shape
    tall, broad = -(-height // _TILES), -(-width // _TILES)
    padded = np.pad(luma, ((0, tall * _TILES - height), (0, broad * _TILES - width)), "reflect")
    tiles = padded.reshape(_TILES, tall, _TILES, broad).swapaxes(1, 2).reshape(_TILES, _TILES, tall * broad)
    levels = np.array([[_levels(tile) for tile in row] for row in tiles], np.float32)
    above, below, down = _nearest_tiles(height, tall)
    left, right, across = _nearest_tiles(width, broad)
    down = down[:, None]
    upper = levels[above[:, None], left, luma] * (1 - across) + levels[above[:, None], right, luma] * across
    lower = levels[below[:, None], left, luma] * (1 - across) + levels[below[:, None], right, luma] * across
    blended: Pixels = np.clip(np.rint(upper * (1 - down) + lower * down), 0, 255).astype(np.uint8)
    return blended


def _levels(tile: Pixels) -> Pixels:
    """Return what each of the 256 levels becomes in a tile."""
    counts = np.bincount(tile, minlength=256)
    limit = max(1, int(_CLIP_LIMIT * tile.size / 256))
    excess = int(np.maximum(counts - limit, 0).sum())
    counts = np.minimum(counts, limit) + excess // 256
    if rest := excess % 256:
        counts[:: max(256 // rest, 1)][:rest] += 1
    # In float32, as OpenCV does it: ties round to the same side.
    levels = np.cumsum(counts).astype(np.float32) * np.float32(255 / tile.size)
    rounded: Pixels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return rounded


def _nearest_tiles(length: int, side: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return for each pixel along one direction the tiles before and after it, and how near it is to the second."""
    place = np.arange(length, dtype=np.float32) * np.float32(1 / side) - np.float32(0.5)
    before = np.floor(place).astype(np.intp)
    share: NDArray[np.float32] = (place - before).astype(np.float32)
    return np.maximum(before, 0), np.minimum(before + 1, _TILES - 1), share
