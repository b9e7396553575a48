"""The two things wanted from EXIF: which way is up, and when the picture was taken. Nothing else is looked at."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ORIENTATION, _DATETIME, _EXIF_IFD, _DATETIME_ORIGINAL = 0x0112, 0x0132, 0x8769, 0x9003
_ASCII, _SHORT, _LONG = 2, 3, 4
_UPRIGHT, _LAST_ORIENTATION = 1, 8
_DATE = re.compile(rb"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class Exif:
    """``orientation`` is 1..8 (an invalid one counts as 1); ``taken`` is ``YYYY-MM-DDTHH:MM:SS`` or None."""

    orientation: int = _UPRIGHT
    taken: str | None = None


def parse_exif(blob: bytes) -> Exif:
    """Return what an EXIF block (or the head of a TIFF file) says; damage in it counts as silence."""
    blob = blob.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(blob[:2])
    if order is None:
        return Exif()
    main = _directory(blob, order, _number(blob, order + "I", 4))
    details = _directory(blob, order, main.get(_EXIF_IFD))
    orientation = main.get(_ORIENTATION)
    return Exif(
        orientation if isinstance(orientation, int) and _UPRIGHT <= orientation <= _LAST_ORIENTATION else _UPRIGHT,
        _iso(details.get(_DATETIME_ORIGINAL)) or _iso(main.get(_DATETIME)),
    )


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return (H, W, 3) pixels turned as EXIF orientation 1..8 asks, C-contiguous."""
    if orientation == _UPRIGHT:
        return pixels
    # One item a pixel: numpy then copies three bytes at a time, four times faster.
    whole: NDArray[Any] = np.ascontiguousarray(pixels).view("V3")[:, :, 0]
    if orientation > 4:
        whole = whole.T
    flip_columns = orientation in (2, 3, 6, 7)
    flip_rows = orientation in (3, 4, 7, 8)
    turned = np.ascontiguousarray(whole[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])
    return turned.view(np.uint8).reshape(*turned.shape, 3)


def _directory(blob: bytes, order: str, start: int | bytes | None) -> dict[int, int | bytes]:
    found: dict[int, int | bytes] = {}
    count = _number(blob, order + "H", start)
    if not isinstance(start, int) or count is None:
        return found
    for at in range(start + 2, min(start + 2 + 12 * count, len(blob) - 11), 12):
        tag, kind, length = struct.unpack_from(order + "HHI", blob, at)
        if tag in (_ORIENTATION, _EXIF_IFD) and kind in (_SHORT, _LONG):
            found[tag] = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), blob, at + 8)[0]
        elif tag in (_DATETIME, _DATETIME_ORIGINAL) and kind == _ASCII:
            offset = struct.unpack_from(order + "I", blob, at + 8)[0]
            found[tag] = blob[offset : offset + min(length, 32)]
    return found


def _number(blob: bytes, form: str, at: int | bytes | None) -> int | None:
    if not isinstance(at, int) or at + struct.calcsize(form) > len(blob):
        return None
    number: int = struct.unpack_from(form, blob, at)[0]
    return number


def _iso(text: int | bytes | None) -> str | None:
    match = _DATE.match(text) if isinstance(text, bytes) else None
    if match is None:
        return None
    try:
        return datetime(*map(int, match.groups())).isoformat()  # type: ignore[arg-type]
    except ValueError:
        return None
