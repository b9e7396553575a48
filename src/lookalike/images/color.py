"""Whatever a decoder made -> (H, W, 3) uint8 sRGB on white. Works in strips: the peak is one picture and its result.

What is done to the samples:

- 16-bit grey is divided by 257, so that 0..65535 spans 0..255. (Of 16-bit colour Pillow keeps the high byte.)
- 32-bit integers and floats have no agreed range: the smallest value of the picture becomes 0, the largest 255.
- An ICC profile leads to sRGB; one that is damaged, or meant for another kind of pixels, is ignored.
- CMYK without a profile is converted plainly: R = (255 - C)(255 - K) / 255.
- What is transparent shows ``BACKGROUND``; the colour stored under full transparency never shows.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms

BACKGROUND = (255, 255, 255)
"""The sRGB colour on which transparent pictures are laid."""

_STRIP_PIXELS = 1 << 18
_LARGEST_PROFILE = 16 << 20
_SAME_COLOR = 2  # of 255: a profile that moves no colour further than this is sRGB in all but name
_INTENT = ImageCms.Intent.PERCEPTUAL
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")

ToGrey = Callable[[NDArray[Any]], NDArray[np.uint8]]
Transform = ImageCms.ImageCmsTransform


def rgb_pixels(picture: PIL.Image.Image, shrink: int = 1) -> NDArray[np.uint8]:
    """Return a loaded picture as (ceil(H / shrink), ceil(W / shrink), 3) uint8 sRGB; shrinking averages boxes."""
    width, height = picture.size
    rows = max(1, _STRIP_PIXELS // width // shrink) * shrink
    to_grey = _to_grey(picture)
    profile = picture.info.get("icc_profile")
    out = np.empty((-(-height // shrink), -(-width // shrink), 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = picture if bottom - top == height else picture.crop((0, top, width, bottom))
        pixels = _strip_pixels(strip, to_grey, profile)
        out[top // shrink : -(-bottom // shrink)] = _shrunk(pixels, shrink)
    return out


def apply_profile(pixels: NDArray[np.uint8], profile: bytes | None) -> NDArray[np.uint8]:
    """Return (H, W, 3) pixels led from an RGB ``profile`` to sRGB, in place where there is something to do."""
    transform = transform_to_srgb(profile, "RGB")
    if transform is None:
        return pixels
    rows = max(1, _STRIP_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        strip = PIL.Image.fromarray(pixels[top : top + rows])
        pixels[top : top + rows] = np.asarray(transform.apply(strip))
    return pixels


def transform_to_srgb(profile: object, mode: str) -> Transform | None:
    """Return what leads pixels of ``mode`` (L, RGB, CMYK) to sRGB, or None where they are to be taken as they are."""
    if not isinstance(profile, bytes) or not 0 < len(profile) <= _LARGEST_PROFILE:
        return None
    return _transform(profile, mode)


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> Transform | None:
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")  # lcms raises where the profile is for other pixels than these
        transform = ImageCms.buildTransform(opened, srgb, mode, "RGB", _INTENT)
        return None if mode != "CMYK" and _changes_nothing(transform, mode) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _changes_nothing(transform: Transform, mode: str) -> bool:
    levels = np.linspace(0, 255, 16).astype(np.uint8)
    colors = np.stack(np.meshgrid(*[levels] * len(mode)), axis=-1).reshape(1, -1, len(mode))
    before = PIL.Image.fromarray(colors[:, :, 0] if mode == "L" else colors)
    moved = np.asarray(transform.apply(before)).astype(int) - np.asarray(before.convert("RGB"))
    return int(np.abs(moved).max()) <= _SAME_COLOR


def _strip_pixels(strip: PIL.Image.Image, to_grey: ToGrey | None, profile: object) -> NDArray[np.uint8]:
    alpha = _alpha(strip)
    if to_grey is not None:
        strip = PIL.Image.fromarray(to_grey(np.asarray(strip)))
    elif alpha is not None:
        is_grey = strip.mode in ("1", "L", "LA", "La")
        rgba = strip.convert("RGBA")
        strip = rgba.getchannel("R") if is_grey else rgba.convert("RGB")
    colors = _srgb(strip, profile)
    return np.asarray(colors if alpha is None else on_background(colors, alpha))


def _alpha(strip: PIL.Image.Image) -> PIL.Image.Image | None:
    key = strip.info.get("transparency")
    if strip.mode.startswith("I"):
        return PIL.Image.fromarray(np.asarray(strip) != key).convert("L") if isinstance(key, int) else None
    if strip.mode in _WITH_ALPHA or _has_color_key(strip):
        return strip.convert("RGBA").getchannel("A")
    return None


def _has_color_key(strip: PIL.Image.Image) -> bool:
    key = strip.info.get("transparency")
    if strip.mode == "P":
        return key is not None
    if strip.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # The key of 16-bit colour: Pillow kept the high bytes of the pixels only.
        strip.info["transparency"] = tuple(value >> 8 for value in key)
    return (strip.mode in ("1", "L") and isinstance(key, int)) or (strip.mode == "RGB" and isinstance(key, tuple))


def _srgb(strip: PIL.Image.Image, profile: object) -> PIL.Image.Image:
    if strip.mode not in ("L", "RGB", "CMYK"):
        strip = strip.convert("RGB")
    transform = transform_to_srgb(profile, strip.mode)
    return strip.convert("RGB") if transform is None else transform.apply(strip)


def on_background(colors: PIL.Image.Image, alpha: PIL.Image.Image) -> PIL.Image.Image:
    """Return an RGB picture laid on ``BACKGROUND`` by its alpha (L): 0 is transparent, 255 opaque."""
    ground = PIL.Image.new("RGB", colors.size, BACKGROUND)
    ground.paste(colors, mask=alpha)
    return ground


def _to_grey(picture: PIL.Image.Image) -> ToGrey | None:
    """Return how samples wider than 8 bits become grey, None where the picture has none."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        return _sixteen_bits
    if picture.mode in ("I", "F"):
        low, high = _finite_range(picture)
        return lambda samples: _stretched(samples, low, high)
    return None


def _sixteen_bits(samples: NDArray[Any]) -> NDArray[np.uint8]:
    grey: NDArray[np.uint8] = ((np.clip(samples, 0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)
    return grey


def _stretched(samples: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    if high <= low:
        return np.zeros(samples.shape, np.uint8)
    # Halved, so that the span of the widest floats does not overflow.
    unit = (samples.astype(np.float64) / 2 - low / 2) / (high / 2 - low / 2)
    return np.asarray(np.rint(255 * np.clip(np.nan_to_num(unit, nan=0.0), 0, 1)), np.uint8)


def _finite_range(picture: PIL.Image.Image) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    rows = max(1, _STRIP_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        strip = np.asarray(picture.crop((0, top, picture.width, min(top + rows, picture.height))))
        finite = strip[np.isfinite(strip)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return low, high


def _shrunk(pixels: NDArray[np.uint8], shrink: int) -> NDArray[np.uint8]:
    return pixels if shrink == 1 else np.asarray(PIL.Image.fromarray(pixels).reduce(shrink))
