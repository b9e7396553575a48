"""How different two pictures of one place are, by three witnesses, once light is taken back.

    embedding    1 - cosine of the encoder's vectors
    structure    1 - SSIM's contrast and structure (Wang et al. 2004) of the luma, at 64 pixels
    colour       the mean difference of 8 x 8 blocks, in shares of the full range

Each is divided by its threshold: a base, raised to what the recent past of the same state shows as its noise. The
change is the middle one of the three: two of them have to agree that something changed, and 1 is the threshold.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.structural import luma, structural
from lookalike.robust import deviation
from lookalike.states.light import light_between
from lookalike.types import Float32

SIDE = 64
BASE = (0.22, 0.45, 0.05)
"""The thresholds of embedding, structure and colour where nothing is known of the noise."""
_BLOCKS = 8
_SIGMAS, _MOST = 5.0, 2.5
_REMEMBERED, _ENOUGH = 64, 6
_LEAST_MOVE, _MOVE_SIGMAS = 1.0, 4.5  # levels; 4.5: the largest of 192 blocks lies beyond it once in 800 frames


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """How a place looked: its unit vector (D,) and its pixels, (64, 64, 3) uint8."""

    vector: Float32
    pixels: NDArray[np.uint8]


def small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W, 3) pixels in 64 x 64, by means of what falls on each."""
    means: NDArray[Any] = pixels
    for axis in (0, 1):
        length = means.shape[axis]
        first = np.minimum(np.linspace(0, length, SIDE + 1)[:-1].astype(np.intp), length - 1)
        sums = np.add.reduceat(means, first, axis=axis, dtype=np.float32)
        counts = np.maximum(np.diff(np.append(first, length)), 1)
        means = sums / counts.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    shrunk: NDArray[np.uint8] = np.rint(means).astype(np.uint8)
    return shrunk


def differences(now: Look, before: Look) -> tuple[float, float, float]:
    """Return what embedding, structure and colour say, each 0 where the two are alike."""
    matched = light_between(now.pixels, before.pixels).applied(now.pixels)
    a, b = matched.astype(np.float32), before.pixels.astype(np.float32)
    parts = structural(luma(a).astype(np.float32), luma(b).astype(np.float32), dtype=np.float32)
    blocks = np.abs(_blocks(a) - _blocks(b)).mean() / 255
    return float(1 - now.vector @ before.vector), 1 - parts.contrast * max(parts.structure, 0.0), float(blocks)


def moved(now: NDArray[np.uint8], before: NDArray[np.uint8], noise: float, area: float) -> bool:
    """Tell whether two pictures of one place, (64, 64, 3) in one light, differ by more than their noise.

    They do where the mean of any of 8 x 8 blocks does, in any channel. ``noise`` is the deviation of a pixel's noise in
    levels, ``area`` how many pixels the place has.
    """
    of_a_block = noise * np.sqrt(2 * _BLOCKS**2 / max(area, _BLOCKS**2))
    change = np.abs(_blocks(now.astype(np.float32)) - _blocks(before.astype(np.float32)))
    return bool(change.max() > max(_LEAST_MOVE, _MOVE_SIGMAS * of_a_block))


def _blocks(pixels: Float32) -> Float32:
    side = SIDE // _BLOCKS
    return np.asarray(pixels.reshape(_BLOCKS, side, _BLOCKS, side, 3).mean(axis=(1, 3)), np.float32)


@dataclass
class Noise:
    """What the differences were lately while nothing changed; the thresholds that follow from it."""

    seen: deque[tuple[float, float, float]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def thresholds(self) -> tuple[float, float, float]:
        """The median and five robust deviations above it, no lower than the base and at most 2.5 times that."""
        if len(self.seen) < _ENOUGH:
            return BASE
        values = np.array(self.seen)
        middle = np.median(values, axis=0)
        high = np.clip(middle + _SIGMAS * deviation(values, middle, axis=0), BASE, np.array(BASE) * _MOST)
        return float(high[0]), float(high[1]), float(high[2])

    def change(self, found: tuple[float, float, float]) -> float:
        """Return the middle one of the differences over their thresholds: from 1 on it is a change."""
        return float(np.median(np.array(found) / self.thresholds))

    def learn(self, found: tuple[float, float, float]) -> None:
        """Remember differences that were seen while nothing changed."""
        self.seen.append(found)
