"""Views of a picture whose vectors are averaged: (H, W, 3) uint8 -> more of them."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.recipe import CROP_SHARE

Pixels: TypeAlias = NDArray[np.uint8]

_DEGREES = 8


def flip(pixels: Pixels) -> list[Pixels]:
    """Return the picture mirrored left to right."""
    return [pixels[:, ::-1]]


def crops(pixels: Pixels) -> list[Pixels]:
    """Return 7/8 of each side at the upper left, upper right, lower left and lower right corner and in the middle."""
    height, width = pixels.shape[:2]
    h, w = max(1, round(CROP_SHARE * height)), max(1, round(CROP_SHARE * width))
    bottom, right = height - h, width - w
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    return [pixels[top : top + h, left : left + w] for top, left in corners]


def rotations(pixels: Pixels) -> list[Pixels]:
    """Return the picture turned by 8 degrees to the left and to the right, its size kept; edges repeat beyond it."""
    return [_turned(pixels, _DEGREES), _turned(pixels, -_DEGREES)]


def _turned(pixels: Pixels, degrees: float) -> Pixels:
    from PIL import Image  # noqa: PLC0415 - only where a recipe asks for it

    height, width = pixels.shape[:2]
    sine = math.sin(math.radians(abs(degrees)))
    # So wide that the turned frame lies inside, with a pixel for the interpolation.
    rows, columns = math.ceil(width / 2 * sine) + 1, math.ceil(height / 2 * sine) + 1
    wide = np.pad(pixels, ((rows, rows), (columns, columns), (0, 0)), "edge")
    turned = np.asarray(Image.fromarray(wide).rotate(degrees, Image.Resampling.BILINEAR))
    return turned[rows : rows + height, columns : columns + width]
