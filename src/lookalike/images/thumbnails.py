"""A small JPEG of a picture, to be shown beside others."""

from __future__ import annotations

import io

import PIL.Image

from lookalike.errors import InputError
from lookalike.types import Image

_QUALITY = 80


def thumbnail(image: Image, side: int) -> bytes:
    """Return ``image`` as the bytes of a JPEG whose longer side is at most ``side`` pixels; it is never enlarged."""
    if side < 1:
        raise InputError(f"a thumbnail needs at least one pixel a side, got side={side}")
    picture = PIL.Image.fromarray(image.pixels)
    picture.thumbnail((side, side), PIL.Image.Resampling.BICUBIC, reducing_gap=2.0)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()
