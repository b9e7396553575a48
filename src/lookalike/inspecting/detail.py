"""The fine detail that its surroundings do not explain.

On good pictures each pixel's luma is predicted from the 24 around it by least squares (a linear autoregressive model of
texture; Haralick 1979). What is left over on a picture, squared and averaged over a small window, is small wherever the
texture goes on as it should, however it is laid; a scratch, a knot, a speck of dust is what could not be predicted.
A network that sees 224 pixels a side does not see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.inspecting.planes import box_mean
from lookalike.types import Float32

Matrix: TypeAlias = NDArray[np.float64]

REACH = 2
WINDOW = 9
NEIGHBOURS = (2 * REACH + 1) ** 2 - 1
SIDE = 640
"""Pictures are averaged down to about this longest side first."""
_DAMPING = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums over pixels: ``products`` (24, 24) of neighbours with each other, ``answers`` (24,) with the pixel."""

    products: Matrix
    answers: Matrix

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.products + other.products, self.answers + other.answers)

    def __sub__(self, other: Moments) -> Moments:
        return Moments(self.products - other.products, self.answers - other.answers)

    def weights(self) -> Float32:
        """Return (24,) how each neighbour counts in the prediction."""
        ridge = _DAMPING * max(float(np.trace(self.products)) / NEIGHBOURS, 1.0)
        return np.asarray(np.linalg.solve(self.products + ridge * np.eye(NEIGHBOURS), self.answers), np.float32)


def moments(plane: Float32) -> Moments:
    """Return the sums of one plane (H, W), its own mean taken off."""
    around = np.stack(list(_neighbours(plane - plane.mean()))).reshape(NEIGHBOURS, -1)
    pixel = (plane - plane.mean())[REACH:-REACH, REACH:-REACH].ravel()
    # Each picture counts alike, whatever its size.
    return Moments(np.asarray(around @ around.T, np.float64) / pixel.size, np.asarray(around @ pixel) / pixel.size)


def unexplained(plane: Float32, weights: Float32) -> Float32:
    """Return (H, W), in levels: the root mean square of what is left over in the window around each pixel."""
    centred = plane - plane.mean()
    left = centred[REACH:-REACH, REACH:-REACH].copy()
    for weight, around in zip(weights, _neighbours(centred), strict=True):
        left -= weight * around
    return np.pad(np.sqrt(np.maximum(box_mean(left * left, WINDOW), 0)), REACH, mode="edge")


def _neighbours(plane: Float32) -> list[Float32]:
    height, width = plane.shape
    return [
        plane[REACH + down : height - REACH + down, REACH + right : width - REACH + right]
        for down in range(-REACH, REACH + 1)
        for right in range(-REACH, REACH + 1)
        if (down, right) != (0, 0)
    ]
