"""Places in a view: boxes, turned or not, cut out of a frame wherever it lies on the view; neighbours count less."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.types import Float32, Registration

Pixels: TypeAlias = NDArray[np.uint8]

SIDE = 224
"""The longest side of what is cut out, in pixels."""
_LEAST_SIDE = 128  # a smaller region is enlarged: an encoder does it anyway, and crops of all sizes then meet alike
_MOST_GROWTH = 4.0
_FADE = 0.2


@dataclass(frozen=True, slots=True)
class Region:
    """A box about (cx, cy), w by h pixels, turned clockwise (as seen) by ``angle`` degrees, in pixels of the view."""

    name: str
    cx: float
    cy: float
    w: float
    h: float
    angle: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.cx, self.cy, self.w, self.h, self.angle)
        if not all(map(math.isfinite, numbers)) or min(self.w, self.h) < 1:
            raise InputError(
                f"region {self.name!r} needs finite numbers and sides of at least one pixel, got {numbers}"
            )
        if not self.name:
            raise InputError("a region needs a name")

    @property
    def area(self) -> float:
        """Its size in square pixels of the view."""
        return self.w * self.h

    @property
    def corners(self) -> NDArray[np.float64]:
        """The four corners, (4, 2), in pixels of the view."""
        x, y = self._grid(np.array([-0.5, 0.5]), np.array([-0.5, 0.5]))
        return np.stack([x.ravel(), y.ravel()], axis=1)

    def cut(self, pixels: Pixels, registration: Registration | None = None, side: int = SIDE) -> tuple[Pixels, float]:
        """Return the region upright, at most ``side`` pixels a side, and the share of it that lies in the frame.

        ``pixels`` (H, W, 3) is a frame and ``registration`` how it lies on the view (None: as the view does). What lies
        outside is the nearest pixel inside.
        """
        longest = max(self.w, self.h)
        scale = max(min(1.0, side / longest), min(_LEAST_SIDE / longest, _MOST_GROWTH))
        width, height = (max(1, round(length * scale)) for length in (self.w, self.h))
        u, v = (np.arange(width) + 0.5) / width - 0.5, (np.arange(height) + 0.5) / height - 0.5
        x, y = self._grid(u, v)
        if registration is not None and registration.matrix is not None:
            (a, b, c), (d, e, f) = registration.matrix
            x, y = a * x + b * y + c, d * x + e * y + f
        rows, columns = pixels.shape[:2]
        inside = (x > -1) & (x < columns) & (y > -1) & (y < rows)
        # Means of blocks where the region is shrunk, so that nothing between two samples is missed.
        block = min(math.floor(1 / scale + 0.1), rows, columns)
        if block > 1:
            x, y = (x + 0.5) / block - 0.5, (y + 0.5) / block - 0.5
        source = _block_means(pixels, block) if block > 1 else pixels
        cut = np.rint(_bilinear(source, x.astype(np.float32), y.astype(np.float32)))
        return cut.astype(np.uint8), float(inside.mean())

    def _grid(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return where points of the box, as shares of its sides from its middle, lie in the view: (V, U) each."""
        cosine, sine = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        across, down = u[None] * self.w, v[:, None] * self.h
        return self.cx + across * cosine - down * sine, self.cy + across * sine + down * cosine


def whole(pixels: Pixels, name: str = "view") -> Region:
    """Return the region that is all of a view."""
    height, width = pixels.shape[:2]
    return Region(name, (width - 1) / 2, (height - 1) / 2, width, height)


def faded(pixels: Pixels) -> Pixels:
    """Return a region (H, W, 3) whose outer fifth fades to its own mean colour, in which the middle counts most.

    A box has neighbours: what reaches into it from beside is seen less than what it was drawn about.
    """
    across, down = (_tent(length) for length in (pixels.shape[1], pixels.shape[0]))
    weight = (down[:, None] * across[None])[..., None]
    mean = (pixels * weight).sum(axis=(0, 1)) / weight.sum()
    blended: Pixels = np.rint(pixels * weight + mean * (1 - weight)).astype(np.uint8)
    return blended


def _tent(length: int) -> Float32:
    """Return weights (length,) that rise from 0 at both ends to 1 at ``_FADE`` of the length."""
    place = (np.arange(length, dtype=np.float32) + np.float32(0.5)) / np.float32(length)
    return np.asarray(np.minimum(np.minimum(place, 1 - place) / _FADE, 1), np.float32)


def _block_means(pixels: Pixels, block: int) -> Float32:
    """Return the means of ``block`` x ``block`` pixels; rows and columns beyond the last whole block are left out."""
    rows, columns = (length // block for length in pixels.shape[:2])
    whole_ = pixels[: rows * block, : columns * block].reshape(rows, block, columns * block * 3)
    sums = whole_.sum(axis=1, dtype=np.uint16 if block < 256 else np.uint32)
    across = sums.reshape(rows, columns, block, 3)
    total = across[:, :, 0].astype(np.float32)
    for k in range(1, block):
        total += across[:, :, k]
    return np.asarray(total / np.float32(block * block), np.float32)


def _bilinear(pixels: Pixels | Float32, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = pixels.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = x.astype(np.intp), y.astype(np.intp)
    right, low = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = (x - left)[..., None], (y - top)[..., None]
    flat = pixels.reshape(-1, 3)
    top, low = top * width, low * width
    upper = flat[top + left] * (1 - across) + flat[top + right] * across
    lower = flat[low + left] * (1 - across) + flat[low + right] * across
    return np.asarray(upper * (1 - down) + lower * down, np.float32)
