"""Which formats are read, how they are told apart, and what is checked in them before Pillow sees them.

A format is told by its first bytes, never by its name, and each is opened by its own plug-in of Pillow: no other
plug-in gets a chance, least of all one that starts a program (EPS). JPEG and DICOM have their own modules.
"""

from __future__ import annotations

import ctypes
import io
import logging
import re
import struct
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import PIL.Image

from lookalike.errors import MissingDependency
from lookalike.images import dicom
from lookalike.images.limits import Limits
from lookalike.images.refusal import Refused

# format -> (module, class, bytes that decoding takes a pixel at its peak, the result not counted; measured)
_PLUGINS: dict[str, tuple[str, str, float]] = {
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile", 11),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile", 4),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile", 5),
    "HEIC": ("pillow_heif.as_plugin", "HeifImageFile", 8),
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile", 4),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile", 4),
    "PPM": ("PIL.PpmImagePlugin", "PpmImageFile", 4),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile", 5),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile", 15),
}

_SIGNATURES = {
    # First, since what comes before its own mark may look like another format: many begin as a TIFF does.
    "DICOM": dicom.SIGNATURE,
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "GIF": re.compile(rb"GIF8[79]a"),
    "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "BMP": re.compile(rb"BM"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "PPM": re.compile(rb"P[1-6][\s#]"),
}

# Not read, but worth a name in the reason.
_KNOWN_OTHERS = {
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"8BPS": "Photoshop",
    b"qoif": "QOI",
    b"DDS ": "DDS",
    b"\x00\x00\x01\x00": "ICO",
    b"icns": "ICNS",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"<svg": "SVG",
    b"PK\x03\x04": "ZIP",
}

_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")

# Pillow decodes these in Python, a million pixels a second or so.
_SLOW_CODECS = ("bmp_rle", "ppm", "ppm_plain")
_SLOW_PIXELS = 4_000_000
_SLOW_BYTES = 32 << 20

_MOST_CHUNKS = 10_000
_SMALLEST_USUAL_CHUNK = 512
_MOST_TIFF_VALUES = 1 << 20

# A library must not talk on its user's terminal; and a warning turned into an error would refuse a good picture.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


def identify(data: bytes) -> str:
    """Return the format of a file's bytes, a key of the table above or DICOM; refuse what is none of them."""
    if not data:
        raise Refused("empty file")
    for kind, signature in _SIGNATURES.items():
        if signature.match(data):
            return kind
    if data[4:8] == b"ftyp" and (brand := _heif_format(data)):
        return brand
    raise Refused(_not_a_picture(data))


def _heif_format(data: bytes) -> str | None:
    length = min(int.from_bytes(data[:4], "big"), 256)
    major, compatible = data[8:12], data[16:length]
    brands = [major] + [compatible[i : i + 4] for i in range(0, len(compatible) - 3, 4)]
    if major in _AVIF_BRANDS or (major in (b"mif1", b"msf1") and set(brands) & set(_AVIF_BRANDS)):
        return "AVIF"
    return "HEIC" if set(brands) & set(_HEIC_BRANDS) else None


def _not_a_picture(data: bytes) -> str:
    for start, name in _KNOWN_OTHERS.items():
        if data.startswith(start):
            return f"not a picture that can be read: {name}"
    if not any(data[:4096]):
        return "not a picture: starts with zeros"
    return f"not a picture: starts with {data[:8]!r}"


def open_picture(data: bytes, kind: str, limits: Limits) -> PIL.Image.Image:
    """Return Pillow's picture of these bytes, its header read and within the limits, its pixels not yet decoded."""
    checked = _CHECKS.get(kind, _unchanged)(data, limits)
    module, name, _ = _PLUGINS[kind]
    picture: PIL.Image.Image = _plugin(module, name)(io.BytesIO(checked))
    limits.check_pixels(*picture.size)
    _check_slow_codec(picture, len(data))
    return picture


def bytes_to_decode(kind: str, pixels: int) -> int:
    """Return how much memory decoding takes at its peak, the file and the result not counted."""
    return int(_PLUGINS[kind][2] * pixels)


def _plugin(module: str, name: str) -> Callable[[io.BytesIO], Any]:
    if module.startswith("PIL"):
        return _pillow_plugin(module, name)
    try:
        opener: Callable[[io.BytesIO], Any] = getattr(import_module(module), name)
    except ImportError as error:
        raise Refused(str(MissingDependency("reading HEIC", "heic"))) from error
    return opener


@cache
def _pillow_plugin(module: str, name: str) -> Callable[[io.BytesIO], Any]:
    if "Tiff" in name:
        _silence_libtiff()
    opener: Callable[[io.BytesIO], Any] = getattr(import_module(module), name)
    return opener


def _silence_libtiff() -> None:
    # libtiff prints its errors on the terminal; Pillow raises them as well. Where the symbol is hidden, it talks.
    try:
        imaging = ctypes.CDLL(import_module("PIL._imaging").__file__)
        for setter in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            getattr(imaging, setter).restype = ctypes.c_void_p
            getattr(imaging, setter)(None)
    except (AttributeError, ImportError, OSError):
        return


def _check_slow_codec(picture: PIL.Image.Image, length: int) -> None:
    tiles = getattr(picture, "tile", None) or []
    slow = any(tile[0] in _SLOW_CODECS for tile in tiles)
    if slow and (picture.width * picture.height > _SLOW_PIXELS or length > _SLOW_BYTES):
        raise Refused(
            f"too large: {picture.width * picture.height} pixels in a rare form of {picture.format} "
            f"that is slow to decode (at most {_SLOW_PIXELS}); save it as PNG"
        )


def _unchanged(data: bytes, _: Limits) -> bytes:
    return data


def _check_png(data: bytes, _: Limits) -> bytes:
    """Refuse a PNG made of countless tiny chunks: Pillow takes microseconds for each."""
    at, count, most = 8, 0, _MOST_CHUNKS + len(data) // _SMALLEST_USUAL_CHUNK
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IEND":
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        count += 1
        if count > most:
            raise Refused(f"damaged PNG: more than {most} chunks")
    return data


def _check_webp(data: bytes, limits: Limits) -> bytes:
    """Check the size before Pillow opens a WebP: it allocates the canvas at once."""
    if data[12:16] == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    limits.check_pixels(width, height)
    limits.check_memory(bytes_to_decode("WEBP", width * height))
    return data


def _check_tiff(data: bytes, limits: Limits) -> bytes:
    """Refuse tables and tiles that would fill the memory, however small the picture."""
    form = _BIG_TIFF if data[2:4] in (b"+\0", b"\0+") else _CLASSIC_TIFF
    order = "<" if data[:2] == b"II" else ">"
    directories, seen, tile = [_read_number(data, order + form.offset, form.first)], set(), [1, 1]
    while directories:
        start = directories.pop()
        if start in seen:
            continue
        seen.add(start)
        for tag, kind, count, value in _tiff_entries(data, order, form, start):
            if kind not in _TIFF_BYTE_KINDS and count > _MOST_TIFF_VALUES:
                raise Refused(f"damaged TIFF: tag {tag} claims {count} values")
            if tag in _TIFF_SUBDIRECTORIES:
                directories.append(value)
            if tag in _TIFF_TILE_SIDES:
                tile[tag - _TIFF_TILE_SIDES[0]] = value
    limits.check_pixels(max(tile[0], 1), max(tile[1], 1))
    limits.check_memory(bytes_to_decode("TIFF", tile[0] * tile[1]))
    return data


class _TiffForm:
    def __init__(self, first: int, offset: str, count: str, entry: str) -> None:
        self.first, self.offset, self.count, self.entry = first, offset, count, entry


_CLASSIC_TIFF = _TiffForm(4, "I", "H", "HHI4s")
_BIG_TIFF = _TiffForm(8, "Q", "Q", "HHQ8s")
_TIFF_BYTE_KINDS = (1, 2, 6, 7)
_TIFF_SHORT = 3
_TIFF_SUBDIRECTORIES = (34665, 34853, 40965)  # EXIF, GPS, interoperability
_TIFF_TILE_SIDES = (322, 323)
_MOST_TIFF_TAGS = 65_535


def _tiff_entries(data: bytes, order: str, form: _TiffForm, start: int) -> list[tuple[int, int, int, int]]:
    total = min(_read_number(data, order + form.count, start), _MOST_TIFF_TAGS)
    first, step = start + struct.calcsize(order + form.count), struct.calcsize(order + form.entry)
    entries = []
    for at in range(first, min(first + total * step, len(data) - step + 1), step):
        tag, kind, count, raw = struct.unpack_from(order + form.entry, data, at)
        value = struct.unpack_from(order + ("H" if kind == _TIFF_SHORT else "I"), raw)[0]
        if form is _BIG_TIFF and kind > _TIFF_SHORT + 1:
            value = struct.unpack(order + "Q", raw)[0]
        entries.append((tag, kind, count, value))
    return entries


def _read_number(data: bytes, form: str, at: int) -> int:
    if at + struct.calcsize(form) > len(data):
        return 0
    number: int = struct.unpack_from(form, data, at)[0]
    return number


_CHECKS: dict[str, Callable[[bytes, Limits], bytes]] = {
    "PNG": _check_png,
    "TIFF": _check_tiff,
    "WEBP": _check_webp,
}
