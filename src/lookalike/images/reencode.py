"""What Pillow does to pixels (H, W, 3) uint8: a JPEG round trip, another size, a turn."""

from __future__ import annotations

import io
import math

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL.Image import Resampling

Pixels = NDArray[np.uint8]


def through_jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Return what is left of a picture that was saved as a JPEG of ``quality`` (1 to 100) and read again."""
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(PIL.Image.open(file))


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return the picture as (height, width, 3), by antialiased bicubic interpolation."""
    return np.array(PIL.Image.fromarray(pixels).resize((width, height), Resampling.BICUBIC))


def turned(pixels: Pixels, degrees: float) -> Pixels:
    """Return the picture turned counter-clockwise about its middle, cropped to the largest part of its own proportions
    that the turned picture fills; by bicubic interpolation.
    """
    height, width = pixels.shape[:2]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    share = min(height, width) / (abs(sine) * max(height, width) + abs(cosine) * min(height, width))
    w, h = max(1, int(share * width)), max(1, int(share * height))
    left = (width - cosine * w + sine * h) / 2  # where the upper left corner of the result lies in the picture
    top = (height - sine * w - cosine * h) / 2
    affine = (cosine, -sine, left, sine, cosine, top)
    return np.array(
        PIL.Image.fromarray(pixels).transform((w, h), PIL.Image.Transform.AFFINE, affine, Resampling.BICUBIC)
    )
