"""A recipe as data, and what it makes of a picture: Image -> float32 (3, H, W).

``Recipe.digest`` is the ``Space.preprocess`` of the encoder that owns the recipe: vectors made by two recipes are never
compared. Pictures are resized by cykooz.resizer, whose Catmull-Rom filter is Pillow's antialiased bicubic, six times
faster; where it is not installed Pillow resizes. The two give the same picture to within ``RESIZER_TOLERANCE``.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import ConfigError
from lookalike.types import Float32, Image

try:
    import cykooz_resizer as cykooz
except ImportError:  # no wheel for Linux on aarch64
    cykooz = None

Pixels: TypeAlias = NDArray[np.uint8]
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, lower, in pixels of the source."""

RESIZER_TOLERANCE = {"mean": 0.15, "max": 2.0}
"""How far the two resizers may differ on a picture, in steps of 256: on average, and at the worst pixel."""

# Raise it when the same fields begin to give other pixels: old vectors then live in another space.
_REVISION = 1
_FITS = ("squash", "crop", "pad")


@dataclass(frozen=True)
class Recipe:
    """How a picture becomes the ``size`` x ``size`` input of a network.

    ``fit`` "squash" ignores the aspect ratio; "crop" takes the middle square, ``crop`` of the shorter side; "pad" keeps
    the whole picture on a background of ``fill`` (RGB, 0 to 255). ``filter`` is antialiased. A value v in [0, 255]
    becomes ``(v / 255 - mean) / std``, per channel R, G, B.
    """

    size: int
    fit: Literal["squash", "crop", "pad"] = "squash"
    crop: float = 1.0
    filter: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    fill: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"a recipe's size is at least 1 pixel, got {self.size}")
        if self.fit not in _FITS:
            raise ConfigError(f"no fit named {self.fit!r}; known: {', '.join(_FITS)}")
        if self.filter not in _FILTERS:
            raise ConfigError(f"no filter named {self.filter!r}; known: {', '.join(_FILTERS)}")
        if not 0 < self.crop <= 1:
            raise ConfigError(f"crop is a share of the shorter side, in (0, 1], got {self.crop}")
        if min(self.std) <= 0:
            raise ConfigError(f"std must be positive, got {self.std}")

    @cached_property
    def digest(self) -> str:
        """A short stable hash over all fields, such as ``squash224-1a2b3c4d``."""
        text = json.dumps([_REVISION, asdict(self)], sort_keys=True)
        return f"{self.fit}{self.size}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def at_least(self) -> int:
        """How many pixels a side a picture must keep when it is decoded reduced: twice what is taken from it."""
        return math.ceil(2 * self.size / self.crop) if self.fit == "crop" else 2 * self.size

    @cached_property
    def _scale_and_shift(self) -> tuple[Float32, Float32]:
        mean, std = (np.array(v, np.float64)[:, None, None] for v in (self.mean, self.std))
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)


def prepare(images: Sequence[Image], recipe: Recipe) -> Float32:
    """Return the network's input, (N, 3, size, size) float32, C-contiguous."""
    batch = np.empty((len(images), 3, recipe.size, recipe.size), np.float32)
    scale, shift = recipe._scale_and_shift
    for i, image in enumerate(images):
        np.multiply(resize(image, recipe).transpose(2, 0, 1), scale, out=batch[i])
        batch[i] += shift
    return batch


def prepare_one(image: Image, recipe: Recipe) -> Float32:
    """Return the network's input for one picture, (3, size, size) float32."""
    row: Float32 = prepare([image], recipe)[0]
    return row


def resize(image: Image, recipe: Recipe) -> Pixels:
    """Return the picture fitted into (size, size, 3) uint8, before it is normalized."""
    height, width = image.pixels.shape[:2]
    side = recipe.size
    if recipe.fit == "pad":
        return _padded(image.pixels, recipe)
    box = _middle_square(width, height, recipe.crop) if recipe.fit == "crop" else (0.0, 0.0, width, height)
    return _resample(image.pixels, side, side, box, recipe.filter)


def _middle_square(width: int, height: int, share: float) -> Box:
    side = share * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _padded(pixels: Pixels, recipe: Recipe) -> Pixels:
    height, width = pixels.shape[:2]
    scale = recipe.size / max(height, width)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = np.empty((recipe.size, recipe.size, 3), np.uint8)
    canvas[:] = recipe.fill
    left, top = (recipe.size - w) // 2, (recipe.size - h) // 2
    canvas[top : top + h, left : left + w] = _resample(pixels, w, h, (0.0, 0.0, width, height), recipe.filter)
    return canvas


def _resample(pixels: Pixels, width: int, height: int, box: Box, filter: str) -> Pixels:  # noqa: A002
    """Return the box of a picture as (height, width, 3), first along one direction and then along the other.

    Values are rounded and clipped in between, so that the order shows in the result. cykooz.resizer and the versions of
    Pillow choose it each in their own way; here it is rows first, but shrinking before growing.
    """
    left, top, right, lower = box
    rows, columns = pixels.shape[:2]
    picture = _Picture.of(pixels)
    if rows > height and columns < width:
        between = picture.resized(columns, height, (0, top, columns, lower), filter)
        return between.resized(width, height, (left, 0, right, height), filter).pixels()
    between = picture.resized(width, rows, (left, 0, right, rows), filter)
    return between.resized(width, height, (0, top, width, lower), filter).pixels()


class _Cykooz:
    """A picture in cykooz.resizer's memory."""

    def __init__(self, data: Any) -> None:
        self._data = data

    @classmethod
    def of(cls, pixels: Pixels) -> _Cykooz:
        """Return a copy of an array."""
        height, width = pixels.shape[:2]
        return cls(cykooz.ImageData(width, height, cykooz.PixelType.U8x3, pixels.tobytes()))

    def resized(self, width: int, height: int, box: Box, filter: str) -> _Cykooz:  # noqa: A002
        """Return the box of this picture as a picture of the given size."""
        left, top, right, lower = box
        options = cykooz.ResizeOptions(
            resize_alg=cykooz.ResizeAlg.convolution(getattr(cykooz.FilterType, _FILTERS[filter])),
            crop_box=cykooz.CropBox(left, top, right - left, lower - top),
        )
        target = cykooz.ImageData(width, height, cykooz.PixelType.U8x3)
        _resizer().resize(self._data, target, options)
        return _Cykooz(target)

    def pixels(self) -> Pixels:
        """Return a copy as an array."""
        return np.frombuffer(self._data.get_buffer(), np.uint8).reshape(self._data.height, self._data.width, 3)


class _Pillow:
    """A picture in Pillow's memory."""

    def __init__(self, picture: Any) -> None:
        self._picture = picture

    @classmethod
    def of(cls, pixels: Pixels) -> _Pillow:
        """Return a copy of an array."""
        from PIL import Image as pillow  # noqa: N813, PLC0415 - only where cykooz.resizer is missing

        return cls(pillow.fromarray(pixels))

    def resized(self, width: int, height: int, box: Box, filter: str) -> _Pillow:  # noqa: A002
        """Return the box of this picture as a picture of the given size."""
        from PIL.Image import Resampling  # noqa: PLC0415

        return _Pillow(self._picture.resize((width, height), Resampling[filter.upper()], box))

    def pixels(self) -> Pixels:
        """Return a copy as an array."""
        return np.asarray(self._picture)


def _resizer() -> Any:
    # A Resizer holds scratch memory: with one each, threads neither share it nor wait for it.
    try:
        return _local.resizer
    except AttributeError:
        _local.resizer = cykooz.Resizer()
        return _local.resizer


_FILTERS = {"bicubic": "catmull_rom", "bilinear": "bilinear"}
_local = threading.local()
_Picture: type[_Cykooz] | type[_Pillow] = _Pillow if cykooz is None else _Cykooz
