"""Labelled pictures that ``fakes.Counting`` tells apart: each label has its colours, each picture its own noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

SIDE = 32


def picture(label: int, number: int = 0, side: int = SIDE) -> np.ndarray:
    """Return (side, side, 3) uint8: 4 x 4 blocks of the label's colours, a little changed in each picture."""
    colors = np.random.default_rng(label).integers(0, 256, (4, 4, 3))
    own = np.random.default_rng([label, number])
    blocks = colors + own.normal(0, 14, colors.shape)
    pixels = blocks.repeat(side // 4, axis=0).repeat(side // 4, axis=1) + own.normal(0, 4, (side, side, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def save(pixels: np.ndarray, path: Path) -> Path:
    """Write pixels as a file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    return path


def labelled(root: Path, labels: int = 24, each: int = 3) -> Path:
    """Make a folder with a folder for each label, ``l00`` up, with pictures ``0.png`` up, and return it."""
    for label in range(labels):
        for number in range(each):
            save(picture(label, number), root / f"l{label:02}" / f"{number}.png")
    return root
