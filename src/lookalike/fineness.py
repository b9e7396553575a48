"""How much of its resolution a picture uses: an enlarged or blurred one has pixels, but no detail to fill them."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from lookalike.types import Image

WINDOW = 128
"""The side of the windows in which a picture is looked at, in pixels of its own."""

_BINS = 25
_COARSE = slice(2, 8)  # 5 to 16 % of the finest frequency: what every picture of this content has
_LEAST = 0.1
_FEWEST_PIXELS = 32
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def fineness(image: Image) -> float:
    """Return the finest detail that a picture holds, as a share of the finest that its pixels could hold, in (0, 1].

    It is where the power spectrum ends. The power of photos falls with the square of the frequency (Field, Relations
    between the statistics of natural images, 1987); what is left of it once that is taken out ends where the picture
    was enlarged or blurred: at 1/2 where it was doubled. Noise counts as detail. A picture too small or too flat to
    tell has 1. The picture must not have been decoded reduced.
    """
    if min(image.pixels.shape[:2]) < _FEWEST_PIXELS:
        return 1.0
    spectrum = _spectrum(image.pixels) * _FREQUENCIES**2
    least = _LEAST * float(np.median(spectrum[_COARSE]))
    if least <= 0:
        return 1.0
    return float(_FREQUENCIES[np.flatnonzero(spectrum >= least)[-1]] + 0.5 / _BINS)


def _spectrum(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean power at each distance from frequency 0, (25,), over nine windows spread over the picture."""
    height, width = pixels.shape[:2]
    side = min(height, width, WINDOW)
    tops, lefts = ({round(k * (length - side) / 2) for k in range(3)} for length in (height, width))
    windows = np.stack([pixels[top : top + side, left : left + side] for top in sorted(tops) for left in sorted(lefts)])
    luma = windows.astype(np.float32) @ _LUMA
    luma -= luma.mean(axis=(1, 2), keepdims=True)
    taper, rings, weights = _plan(side)
    power = (np.abs(np.fft.rfft2(luma * taper)) ** 2).mean(axis=0).ravel()
    sums, counts = (np.bincount(rings, values, _BINS + 1) for values in (power * weights, weights))
    means: NDArray[np.float64] = (sums / np.maximum(counts, 1))[:_BINS]
    return means


@functools.lru_cache(8)
def _plan(side: int) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float64]]:
    """Return the taper of a window, and of each value of its rfft2 the ring, and how often the whole fft2 has it."""
    taper = np.outer(np.hanning(side), np.hanning(side)).astype(np.float32)
    across = np.arange(side // 2 + 1)
    distance = np.hypot(np.fft.fftfreq(side)[:, None], across / side) / 0.5
    rings = np.minimum((distance * _BINS).astype(np.intp), _BINS)
    weights = np.where((across == 0) | (2 * across == side), 1.0, 2.0)
    return taper, rings.ravel(), np.broadcast_to(weights, rings.shape).ravel()


_FREQUENCIES = (np.arange(_BINS) + 0.5) / _BINS
