"""What a recipe makes of a picture: Image -> float32 (3, H, W), or the layout and dtype that the recipe names.

Pictures are resized by cykooz.resizer, whose Catmull-Rom filter is Pillow's antialiased bicubic, six times faster;
where it is not installed Pillow resizes. The two give the same picture to within ``RESIZER_TOLERANCE``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike import augmentation, retouch
from lookalike.recipe import Recipe
from lookalike.types import Image

try:
    import cykooz_resizer as cykooz
except ImportError:  # no wheel for Linux on aarch64
    cykooz = None

__all__ = ["RESIZER_TOLERANCE", "Recipe", "prepare", "prepare_one", "prepare_views", "resize", "views"]

Pixels: TypeAlias = NDArray[np.uint8]
Input: TypeAlias = NDArray[Any]
"""float32 or uint8, as the recipe says."""
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, lower, in pixels of the source."""

RESIZER_TOLERANCE = {"mean": 0.15, "max": 2.0}
"""How far the two resizers may differ on a picture, in steps of 256: on average, and at the worst pixel."""


def prepare(images: Sequence[Image], recipe: Recipe) -> Input:
    """Return the network's input, C-contiguous: (N, 3, size, size) or (N, size, size, 3), float32 or uint8.

    Test-time views are not among them: ``prepare_views`` makes those of one picture.
    """
    side = recipe.size
    shape = (3, side, side) if recipe.layout == "nchw" else (side, side, 3)
    batch = np.empty((len(images), *shape), recipe.dtype)
    for row, image in zip(batch, images, strict=True):
        _write(resize(image, recipe), recipe, row)
    return batch


def prepare_one(image: Image, recipe: Recipe) -> Input:
    """Return the network's input for one picture, without the first axis."""
    row: Input = prepare([image], recipe)[0]
    return row


def prepare_views(image: Image, recipe: Recipe) -> Input:
    """Return the network's input for a picture and its test-time views, in the order of ``views``: (V, ...)."""
    return prepare(views(image, recipe), recipe.inside)


def views(image: Image, recipe: Recipe) -> list[Image]:
    """Return what the recipe takes of a picture and its test-time views, in pixels, before they are resized.

    The region is cut here, so that its mirror image is the region's and not what lies across the picture. For a recipe
    without ``region`` and ``augment`` it is the picture itself.
    """
    region = _region(image.pixels, recipe)
    made = [region, *(view for name in recipe.augment for view in _VIEWS[name](region))]
    return [replace(image, pixels=pixels) for pixels in made]


def resize(image: Image, recipe: Recipe) -> Pixels:
    """Return the picture fitted into (size, size, 3) uint8 and retouched, in RGB, before it is normalized."""
    content = _fitted(_region(image.pixels, recipe), recipe)
    for name in (recipe.denoise, recipe.white_balance, recipe.equalize):
        if name != "none":
            content = _RETOUCHES[name](content)
    framed = _framed(content, recipe) if recipe.fit == "pad" else content
    return retouch.grey(framed) if recipe.colour == "grey" else framed


def _write(pixels: Pixels, recipe: Recipe, target: Input) -> None:
    """Write (size, size, 3) RGB pixels into ``target`` in the order, layout and dtype of the recipe."""
    factor, shift = recipe.affine
    planes = target if recipe.layout == "nchw" else np.moveaxis(target, 2, 0)
    for i, plane in enumerate(planes):
        values = pixels[..., i if recipe.order == "rgb" else 2 - i]
        if recipe.dtype == "uint8":
            plane[:] = values
        else:
            np.multiply(values, factor[i], out=plane, dtype=np.float32)
            np.add(plane, shift[i], out=plane)


def _region(pixels: Pixels, recipe: Recipe) -> Pixels:
    """Return the recipe's region in whole pixels, at least one."""
    height, width = pixels.shape[:2]
    left, top, right, lower = recipe.region
    return pixels[_span(top, lower, height), _span(left, right, width)]


def _span(first: float, last: float, length: int) -> slice:
    start = min(round(first * length), length - 1)
    return slice(start, max(round(last * length), start + 1))


def _fitted(pixels: Pixels, recipe: Recipe) -> Pixels:
    """Return the picture in its final size, still without the frame of "pad"."""
    height, width = pixels.shape[:2]
    side, everything = recipe.size, (0.0, 0.0, width, height)
    if recipe.fit == "squash":
        return _resample(pixels, side, side, everything, recipe.filter)
    if recipe.fit == "crop":
        return _resample(pixels, side, side, _square(width, height, recipe), recipe.filter)
    scale = side / max(height, width)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    return _resample(pixels, w, h, everything, recipe.filter)


def _square(width: int, height: int, recipe: Recipe) -> Box:
    if recipe.resize is not None:
        return _square_of_resized(width, height, recipe.size, recipe.resize)
    side = recipe.crop * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _square_of_resized(width: int, height: int, side: int, shorter: int) -> Box:
    """Return what torchvision's ``Resize(shorter)`` and ``CenterCrop(side)`` leave, in pixels of the source."""
    least = min(width, height)
    w, h = shorter * width // least, shorter * height // least
    left, top = round((w - side) / 2), round((h - side) / 2)
    # Multiplied first: the edge of the resized picture is then exactly the edge of the source.
    return left * width / w, top * height / h, (left + side) * width / w, (top + side) * height / h


def _framed(content: Pixels, recipe: Recipe) -> Pixels:
    h, w = content.shape[:2]
    canvas = np.empty((recipe.size, recipe.size, 3), np.uint8)
    canvas[:] = recipe.fill
    left, top = (recipe.size - w) // 2, (recipe.size - h) // 2
    canvas[top : top + h, left : left + w] = content
    return canvas


def _resample(pixels: Pixels, width: int, height: int, box: Box, filter: str) -> Pixels:  # noqa: A002
    """Return the box of a picture as (height, width, 3), first along one direction and then along the other.

    Values are rounded and clipped in between, so that the order shows in the result. cykooz.resizer and the versions of
    Pillow choose it each in their own way; here it is rows first, but shrinking before growing.
    """
    if filter == "nearest":
        return _nearest(pixels, width, height, box)
    left, top, right, lower = box
    rows, columns = pixels.shape[:2]
    picture = _Picture.of(pixels)
    if rows > height and columns < width:
        between = picture.resized(columns, height, (0, top, columns, lower), filter)
        return between.resized(width, height, (left, 0, right, height), filter).pixels()
    between = picture.resized(width, rows, (left, 0, right, rows), filter)
    return between.resized(width, height, (0, top, width, lower), filter).pixels()


def _nearest(pixels: Pixels, width: int, height: int, box: Box) -> Pixels:
    """Return for each pixel the one of the source that its middle falls into."""
    left, top, right, lower = box
    rows = (top + (np.arange(height) + 0.5) * (lower - top) / height).astype(np.intp)
    columns = (left + (np.arange(width) + 0.5) * (right - left) / width).astype(np.intp)
    return pixels[rows][:, columns]


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


_FILTERS = {"bicubic": "catmull_rom", "bilinear": "bilinear", "lanczos": "lanczos3"}
_RETOUCHES = {
    "median": retouch.median,
    "gaussian": retouch.gaussian,
    "grey-world": retouch.grey_world,
    "clahe": retouch.clahe,
}
_VIEWS = {"flip": augmentation.flip, "crops": augmentation.crops, "rotations": augmentation.rotations}
_local = threading.local()
_Picture: type[_Cykooz] | type[_Pillow] = _Pillow if cykooz is None else _Cykooz
