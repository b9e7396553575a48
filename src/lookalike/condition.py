"""What the doctor reads from a picture's pixels: quality, exposure, and a small print that tells copies.

A plain border is no fault: a product on white is not overexposed, and an object on black is not dark. So exposure is
judged within what stands out from pure white or black.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lookalike.preprocess import Recipe, resize
from lookalike.quality import measure, reduced
from lookalike.types import Float32, Image, Quality

PRINT_SIDE = 16
PRINT_SIZE = PRINT_SIDE * PRINT_SIDE * 3
_PLAIN = 0.04
"""Tones (luma in [0, 1]) so near to black or white are taken for it: JPEG moves them."""
_CONTENT = 0.002
_SPECKS = 0.02
"""So much of the content on each side does not count for how far it reaches."""
_ALL_PALE, _ALL_DARK = 0.85, 0.15
_LOST, _BACKGROUND, _OF_A_PHOTO = 0.5, 0.5, 0.4


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """``exposure`` is "dark", "overexposed" or None where it is neither; ``look`` is (768,), see :func:`print_of`;
    ``shorter`` the pixels of the shorter side.
    """

    quality: Quality
    exposure: str | None
    look: Float32
    shorter: int


def condition_of(image: Image) -> Condition:
    """Return what the doctor needs to know of a picture's pixels."""
    luma: Float32 = reduced(image).astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
    return Condition(measure(image), _exposure(luma / np.float32(255)), print_of(image), min(image.pixels.shape[:2]))


def print_of(image: Image) -> Float32:
    """Return (768,) float32 of length 1: the picture in 16x16 pixels, each colour without its mean.

    It is 0 where all is one colour. The cosine of two prints is blind to brightness and contrast, and hardly moved by
    scale, JPEG and noise.
    """
    small = resize(image, Recipe(PRINT_SIDE)).astype(np.float32)
    apart = (small - small.mean(axis=(0, 1))).ravel()
    length = float(np.linalg.norm(apart))
    return np.asarray(apart / length if length > 1 else np.zeros_like(apart), np.float32)


def _exposure(luma: Float32) -> str | None:
    content = _reach(luma > _PLAIN)
    if content is None or np.quantile(luma[content], 0.9) < _ALL_DARK:
        return "dark"
    white = luma >= 1 - _PLAIN
    content = _reach(~white)
    if content is None or np.quantile(luma[content], 0.1) > _ALL_PALE:
        return "overexposed"
    # White that runs along most of the border is a background, and with black it is a drawing; elsewhere it is detail
    # that the light has eaten.
    eaten = (
        white.mean() > _LOST
        and white[_border(luma.shape)].mean() < _BACKGROUND
        and np.median(luma[~white]) > _OF_A_PHOTO
    )
    return "overexposed" if eaten else None


def _reach(content: np.ndarray) -> tuple[slice, slice] | None:
    """Return the box that holds the content of (H, W) but for specks; None where there is none."""
    if content.mean() < _CONTENT:
        return None
    spans = []
    for places in np.nonzero(content):
        first, last = np.quantile(places, [_SPECKS, 1 - _SPECKS])
        spans.append(slice(int(first), int(last) + 1))
    return spans[0], spans[1]


def _border(shape: tuple[int, ...]) -> np.ndarray:
    """Return (H, W) which pixels lie within a twentieth of the shorter side from the border."""
    width = max(1, min(shape) // 20)
    border = np.ones(shape, bool)
    border[width : shape[0] - width, width : shape[1] - width] = False
    return border
