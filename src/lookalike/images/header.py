"""What a file says of its picture before anything is decoded: size, format, compression, EXIF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lookalike.images import dicom
from lookalike.images.exif import Exif, parse_exif
from lookalike.images.formats import identify, open_picture
from lookalike.images.limits import Limits
from lookalike.images.refusal import damage_names, refusals_name

_LOSSLESS = ("BMP", "PNG", "PPM")
_TIFF_LOSSY = ("jpeg", "tiff_jpeg", "webp")

_TABLE_LENGTH = 64
_STANDARD_SUM = 3688  # of the luma table in Annex K of ITU-T T.81, which libjpeg scales by a quality of 1 to 100


@dataclass(frozen=True, slots=True)
class Header:
    """``width`` and ``height`` are upright, in pixels.

    ``lossless`` tells whether the format kept every pixel of what it was given; a GIF, of 256 colours, did not.
    ``jpeg_quality`` is the quality, 1 to 100, at which libjpeg would have chosen such a quantisation (told too high
    below 20, where its steps end at 255), None for another format.
    ``taken`` is the EXIF date as ``YYYY-MM-DDTHH:MM:SS``.
    """

    format: str
    width: int
    height: int
    lossless: bool
    jpeg_quality: int | None
    has_exif: bool
    taken: str | None


def read_header(data: bytes, source: str = "<bytes>") -> Header:
    """Return what the bytes of a file say of its picture; raise UnreadableImage where they are none, or too large."""
    with refusals_name(source):
        limits = Limits.from_environment()
        limits.check_bytes(len(data))
        kind = identify(data)
        if kind == "DICOM":
            size = dicom.size_of(data, limits)
            return Header(kind, size.width, size.height, size.lossless, None, False, None)
        with damage_names(kind):
            picture = open_picture(data, kind, limits)
            blob = picture.info.get("exif")
            exif = parse_exif(data) if kind == "TIFF" else parse_exif(blob) if isinstance(blob, bytes) else Exif()
            width, height = picture.size if exif.orientation <= 4 else picture.size[::-1]
            quality = _jpeg_quality(picture) if kind == "JPEG" else None
            has_exif = bool(blob) or exif.taken is not None
            return Header(kind, width, height, _is_lossless(kind, data, picture), quality, has_exif, exif.taken)


def _is_lossless(kind: str, data: bytes, picture: Any) -> bool:
    if kind == "TIFF":
        return picture.info.get("compression") not in _TIFF_LOSSY
    return kind in _LOSSLESS or (kind == "WEBP" and b"VP8L" in data[:64])


def _jpeg_quality(picture: Any) -> int | None:
    """Invert libjpeg's scaling of the standard table, in percent: 5000 / quality below 50, 200 - 2 quality above."""
    table: list[int] | None = picture.quantization.get(0)
    if table is None or len(table) != _TABLE_LENGTH:
        return None
    percent = 100 * sum(table) / _STANDARD_SUM
    quality = 5000 / percent if percent > 100 else (200 - percent) / 2
    return min(max(round(quality), 1), 100)
