"""Is one picture the other, as a whole, perhaps turned and of another size? Told from pixels, without OpenCV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.copies.agreement import agreement, displacement, softened
from lookalike.copies.hashing import averaged, luma
from lookalike.types import Float32

Pixels: TypeAlias = NDArray[np.uint8]

SIDE = 192
"""The longest side, in pixels, at which two pictures are compared."""
_LEAST_SIDE = 16

_TURN: tuple[Callable[[Float32], Float32], ...] = (
    lambda x: x,
    lambda x: x[:, ::-1],
    lambda x: x[::-1],
    lambda x: x[::-1, ::-1],
    lambda x: x.T,
    lambda x: x.T[::-1],
    lambda x: x.T[:, ::-1],
    lambda x: x.T[::-1, ::-1],
)


@dataclass(frozen=True, slots=True)
class Nearness:
    """How well the whole of two pictures agrees, -1 to 1, over how many blocks, and by how many pixels it is moved."""

    agreement: float
    blocks: int
    motion: float


def small_luma(pixels: Pixels) -> Pixels:
    """Return (h, w) uint8 luma of (H, W, 3) pixels, at most ``SIDE`` on the longer side, for :func:`nearness`."""
    grey = luma(pixels)
    scale = min(1.0, SIDE / max(grey.shape))
    return np.rint(averaged(grey, *(max(1, round(side * scale)) for side in grey.shape))).astype(np.uint8)


def nearness(a: Pixels, b: Pixels, turn: int) -> Nearness:
    """Compare the small luma of a, after ``hashing.TURNS[turn]``, with that of b, at the size of the smaller."""
    turned, other = _TURN[turn](a.astype(np.float32)), b.astype(np.float32)
    smaller = turned if turned.size < other.size else other
    height, width = (max(_LEAST_SIDE, side) for side in smaller.shape)
    x, y = (softened(averaged(plane, height, width)) for plane in (turned, other))
    agreed = agreement(x, y)
    return Nearness(agreed.value, agreed.blocks, displacement(x, y))
