"""What an export is tried on: pictures drawn here, since a user's machine need not have any, and texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from lookalike.types import Image

TEXTS = (
    "a red bicycle in the snow",
    "It's 42 degrees & they'll go, café!",
    "two dogs_and 3 CATS (at night), they don't sleep",
    "Straße, 日本, 😀",
    "a",
)
_SIZES = ((300, 400), (400, 300), (301, 203), (97, 130))


def pictures() -> list[Image]:
    """Return a few pictures with smooth parts, edges, texture and all colours, upright and wide, odd and even."""
    return [Image(_drawn(height, width, seed), (width, height)) for seed, (height, width) in enumerate(_SIZES)]


def as_pil(image: Image) -> Any:
    """Return the picture as the source libraries take it."""
    from PIL import Image as pillow  # noqa: N813, PLC0415

    return pillow.fromarray(image.pixels)


def _drawn(height: int, width: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    canvas = np.stack([127 + 127 * np.sin(x / a + y / b) for a, b in rng.uniform(20, 90, (3, 2))], axis=-1)
    for _ in range(12):
        top, left = rng.integers(0, height), rng.integers(0, width)
        radius = rng.integers(8, 60)
        canvas[(y - top) ** 2 + (x - left) ** 2 < radius**2] = rng.integers(0, 256, 3)
    return (canvas + rng.normal(0, 6, canvas.shape)).clip(0, 255).astype(np.uint8)
