"""What light did between two pictures of one place, and what is left when it is taken back.

Brightness multiplies, a colour cast multiplies each channel, and gamma is a power: the logarithm of a channel becomes
``a + g`` times itself. Both numbers are found by least squares that lets go of what does not fit (iteratively
reweighted, Huber 1964), so that what truly changed in the picture does not count as light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.robust import deviation
from lookalike.types import Float32

_ROUNDS = 4
_DARK, _BRIGHT = 6.0, 249.0
_LEAST_SHARE = 0.05
_GAMMAS = (0.3, 3.3)
_SLOPE_WEIGHT = 0.01
_OFFSET = 4.0  # levels: the logarithm of black is bounded, and its noise with it


@dataclass(frozen=True, slots=True)
class Light:
    """Per channel the log gain and the gamma that make one picture's light the other's."""

    gains: tuple[float, float, float]
    gammas: tuple[float, float, float]

    def applied(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (H, W, 3) pixels in the other light."""
        levels = np.log(np.arange(256) + _OFFSET)
        tables = [
            np.clip(np.rint(np.exp(gain + gamma * levels) - _OFFSET), 0, 255).astype(np.uint8)
            for gain, gamma in zip(self.gains, self.gammas, strict=True)
        ]
        return np.stack([table[pixels[..., channel]] for channel, table in enumerate(tables)], axis=2)

    @property
    def brightness(self) -> float:
        """How many times as bright a middle grey becomes."""
        middle = np.log(128 + _OFFSET)
        factors = [np.exp(g + (k - 1) * middle) for g, k in zip(self.gains, self.gammas, strict=True)]
        return float(np.mean(factors))


NO_LIGHT = Light((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def light_between(pixels: NDArray[np.uint8] | Float32, other: NDArray[np.uint8] | Float32) -> Light:
    """Return what makes the light of ``pixels`` that of ``other``; both (H, W, 3), pixel on pixel, in levels.

    Where a channel has too few pixels that are neither black nor white in both, it is left as it is.
    """
    found = [_channel(pixels[..., c].ravel(), other[..., c].ravel()) for c in range(3)]
    return Light((found[0][0], found[1][0], found[2][0]), (found[0][1], found[1][1], found[2][1]))


def _channel(a: NDArray[np.uint8] | Float32, b: NDArray[np.uint8] | Float32) -> tuple[float, float]:
    usable = (a > _DARK) & (a < _BRIGHT) & (b > _DARK) & (b < _BRIGHT)
    if usable.mean() < _LEAST_SHARE:
        return 0.0, 1.0
    x, y = (np.log(plane[usable].astype(np.float64) + _OFFSET) for plane in (a, b))
    gain, gamma = float(np.median(y - x)), 1.0
    for _ in range(_ROUNDS):
        residual = y - gain - gamma * x
        scale = float(deviation(residual, 0.0)) + 0.02
        weight = 1 / (1 + (residual / scale) ** 2)  # Cauchy's: what is far off hardly counts
        total = weight.sum()
        middle_x, middle_y = (weight @ x) / total, (weight @ y) / total
        # A flat place says nothing of gamma: it is held at 1 there.
        spread = weight @ (x - middle_x) ** 2 + _SLOPE_WEIGHT * total
        product = weight @ ((x - middle_x) * (y - middle_y)) + _SLOPE_WEIGHT * total
        gamma = float(np.clip(product / spread, *_GAMMAS))
        gain = float(middle_y - gamma * middle_x)
    return gain, gamma
