"""The part of a picture that is inspected: white in a mask that lies over the whole picture.

What is left out cannot count: on a surface it is filled with the mean colour of the rest before anything looks at it;
of a difference to a template nothing is kept there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.types import Image

Mask: TypeAlias = NDArray[np.bool_]

_WHITE = 128
_SAME_SHAPE = 0.02


def inspected(mask: Image) -> Mask:
    """Return (H, W) which pixels of a mask are white, on any channel; raise InputError where none is, or all are."""
    white: Mask = mask.pixels.max(axis=2) >= _WHITE
    if not white.any():
        raise InputError(f"the mask {mask.source} has nothing white, which is what is inspected")
    if white.all():
        raise InputError(
            f"the mask {mask.source} is white all over and leaves nothing out: paint black what is not inspected "
            "(what is transparent counts as white)"
        )
    return white


def over(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Return the mask at another size: what becomes smaller is inspected where any of its pixels is.

    Raise InputError where the sides are in another proportion.
    """
    height, width = shape[:2]
    stretch = (width / height) / (mask.shape[1] / mask.shape[0])
    if not 1 - _SAME_SHAPE <= stretch <= 1 + _SAME_SHAPE:
        raise InputError(f"it is {width}x{height} pixels, and the mask {mask.shape[1]}x{mask.shape[0]}: another shape")
    return cells(mask, height, width)


def cells(mask: Mask, height: int, width: int) -> Mask:
    """Return (height, width) whether any pixel of the mask in each cell of a grid over it is inspected."""
    rows, columns = (np.arange(n) * length // n for n, length in zip((height, width), mask.shape, strict=True))
    # Where the grid is finer than the mask a row comes more than once: then reduceat gives the row itself.
    return np.asarray(np.logical_or.reduceat(np.logical_or.reduceat(mask, rows, axis=0), columns, axis=1))


def filled(image: Image, mask: Mask) -> Image:
    """Return the picture with the mean colour of what is inspected wherever nothing is."""
    inside = over(mask, image.pixels.shape)
    pixels = image.pixels.copy()
    pixels[~inside] = np.rint(image.pixels[inside].mean(axis=0)).astype(np.uint8)
    return replace(image, pixels=pixels)
