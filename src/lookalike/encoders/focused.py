"""An encoder that looks at the middle of a picture, or has the picture's colours beside its own vector, or both.

Both cost next to nothing beside the network. Which of them help is learned (:mod:`lookalike.learning.choosing`): on a
shelf the product is in the middle, and a network that was taught to name things took colour for chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lookalike.encoders.colours import Colours
from lookalike.errors import ConfigError
from lookalike.protocols import Encoder
from lookalike.types import Embeddings, Float32, Image, Space


@dataclass(frozen=True, slots=True, order=True)
class Focus:
    """``cut``: how much of each side is left out, half of it at either end; ``colours``: their weight beside 1."""

    cut: float = 0.0
    colours: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.cut < 1:
            raise ConfigError(f"of a picture's sides 0 to less than 1 can be cut away, got {self.cut:g}")
        if not (math.isfinite(self.colours) and self.colours >= 0):
            raise ConfigError(f"a weight of colours is 0 or more, got {self.colours:g}")

    @property
    def told(self) -> str:
        """The focus in words; empty where the picture is taken as it is."""
        middle = f"the middle {1 - self.cut:.0%} of the picture's sides" if self.cut else ""
        beside = f"colours beside, weight {self.colours:g}" if self.colours else ""
        return ", ".join(part for part in (middle, beside) if part)


PLAIN = Focus()


def focused(base: Encoder, focus: Focus) -> Encoder:
    """Return ``base`` where the focus changes nothing, else an encoder that looks through it."""
    return base if focus == PLAIN else Focused(base, focus)


def side_by_side(seen: Float32, colours: Float32, weight: float) -> Float32:
    """Return (N, D + C) unit vectors of (N, D) and (N, C) unit vectors: their cosines are the weighted means."""
    total = 1 + weight
    return np.concatenate([np.sqrt(1 / total) * seen, np.sqrt(weight / total) * colours], axis=1).astype(np.float32)


class Focused:
    """Vectors of ``base`` of the middle of a picture, with those of its colours beside."""

    def __init__(self, base: Encoder, focus: Focus) -> None:
        self._base, self.focus = base, focus
        self._colours = Colours() if focus.colours else None

    @cached_property
    def space(self) -> Space:
        """Where the vectors live."""
        of, beside = self._base.space, self._colours.space if self._colours else None
        told = f"{of.preprocess}-cut{self.focus.cut:g}"
        if beside is not None:
            told += f"-{beside.encoder}{beside.version}.{beside.preprocess}x{self.focus.colours:g}"
        return Space(of.encoder, of.version, told, of.dim + (beside.dim if beside else 0))

    @property
    def at_least(self) -> int | None:
        """How many pixels a side a picture must keep when it is decoded reduced, so that its middle keeps enough."""
        needs = [part.at_least for part in (self._base, self._colours) if part is not None]
        if None in needs:
            return None
        return math.ceil(max(need for need in needs if need is not None) / (1 - self.focus.cut))

    def encode(self, images: Sequence[Image]) -> Embeddings:
        """Return the embeddings of ``images``, in order. May be called from several threads at once."""
        cut = [middle(image, self.focus.cut) for image in images]
        seen = self._base.encode(cut)
        if self._colours is None:
            return Embeddings(seen.vectors, seen.norms, self.space)
        beside = side_by_side(seen.vectors, self._colours.encode(cut).vectors, self.focus.colours)
        return Embeddings(beside, seen.norms, self.space)


def middle(image: Image, cut: float) -> Image:
    """Return a picture without ``cut`` of its height and width, half of that on either side; a pixel is left."""
    height, width = image.pixels.shape[:2]
    top, left = (min(round(side * cut / 2), (side - 1) // 2) for side in (height, width))
    return image.crop(left, top, width - 2 * left, height - 2 * top)
