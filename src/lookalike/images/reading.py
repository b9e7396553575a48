"""Anything that is a picture -> Image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.images import dicom
from lookalike.images.color import on_background, rgb_pixels
from lookalike.images.exif import Exif, parse_exif, upright
from lookalike.images.files import read_file
from lookalike.images.formats import bytes_to_decode, identify, open_picture
from lookalike.images.jpeg import JpegHeader, decode_fast, read_jpeg_header
from lookalike.images.limits import Limits
from lookalike.images.refusal import damage_names, refusals_name
from lookalike.types import Image, ImageSource

_LARGE_PIXELS = 24_000_000  # above this a picture that need not stay whole is reduced at once, to save memory
_BOX_SCALES = (8, 4, 2)
_ARRAYS = (
    "an array of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) and of type uint8, uint16 (0 to 65535), "
    "bool, or float between 0 and 1"
)


def read(source: ImageSource, at_least: int | None = None) -> Image:
    """Return the picture of a path, the bytes of a file, an array, a PIL image; an Image is returned as it is.

    The result is upright, sRGB and opaque (transparency is laid on white): (H, W, 3) uint8. Of animations the first
    frame is read, of several pages the first, and of a DICOM file too, unless its path ends in the number of another
    (``scan.dcm#3``). With ``at_least=n`` a JPEG may be decoded reduced, and any picture of
    more than 24 megapixels too, as long as both sides keep n pixels; ``Image.size`` stays the full size.

    An array is (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA; uint8, uint16 (divided by 257), bool, or float in
    [0, 1]. Raises UnreadableImage for a file that is missing, damaged, too large or no picture, InputError for an
    array or object that is no picture.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, bytes):
        return read_bytes(source, "<bytes>", at_least)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, PIL.Image.Image):
        return _from_pil(source)
    if isinstance(source, (str, os.PathLike)):
        return _from_path(os.fsdecode(source), at_least)
    raise InputError(f"a picture is a path, the bytes of a file, an array or a PIL image, got {type(source).__name__}")


def read_bytes(data: bytes, source: str = "<bytes>", at_least: int | None = None) -> Image:
    """Return the picture in the bytes of a file; ``source`` names it in the Image and in errors. See :func:`read`."""
    with refusals_name(source):
        limits = Limits.from_environment()
        limits.check_bytes(len(data))
        kind = identify(data)
        with damage_names(kind):
            if kind == "JPEG":
                decoded = _decode_jpeg(data, at_least, limits)
            elif kind == "DICOM":
                decoded = _decode_dicom(data, source, limits)
            else:
                decoded = _decode(data, kind, at_least, limits)
        return Image(decoded.pixels, decoded.size, source, kind, decoded.exif.taken)


class _Decoded(NamedTuple):
    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    exif: Exif


def _from_path(path: str, at_least: int | None) -> Image:
    with refusals_name(path):
        expanded = os.fspath(Path(path).expanduser())
    return read_bytes(read_file(expanded).data, path, at_least)


def _decode_jpeg(data: bytes, at_least: int | None, limits: Limits) -> _Decoded:
    header = read_jpeg_header(data, limits)
    scale = header.scale(at_least)
    with limits.memory(len(data) + header.bytes_to_decode(scale)):
        pixels = decode_fast(data, header, scale)
        if pixels is None:
            pixels = _decode_jpeg_by_pillow(data, header, scale, limits)
    return _Decoded(pixels, _upright_size((header.width, header.height), header.exif), header.exif)


def _decode_jpeg_by_pillow(data: bytes, header: JpegHeader, scale: int, limits: Limits) -> NDArray[np.uint8]:
    picture = open_picture(data, "JPEG", limits)
    if scale > 1:
        picture.draft(None, (max(1, header.width // scale), max(1, header.height // scale)))
    picture.load()
    return upright(rgb_pixels(picture), header.exif.orientation)


def _decode(data: bytes, kind: str, at_least: int | None, limits: Limits) -> _Decoded:
    picture = open_picture(data, kind, limits)
    size = picture.size
    shrink = _box_scale(size, at_least)
    exif = parse_exif(data) if kind == "TIFF" else _exif_of(picture)
    with limits.memory(len(data) + bytes_to_decode(kind, size[0] * size[1]) + 3 * size[0] * size[1] // shrink**2):
        picture.load()
        pixels = rgb_pixels(picture, shrink)
    if kind == "TIFF":  # Pillow has turned it upright, and its size with it
        return _Decoded(pixels, picture.size, exif)
    del picture
    return _Decoded(upright(pixels, exif.orientation), _upright_size(size, exif), exif)


def _decode_dicom(data: bytes, source: str, limits: Limits) -> _Decoded:
    """Decode the frame that the name of the source ends in ("scan.dcm#3"), else the first."""
    size = dicom.size_of(data, limits)
    with limits.memory(len(data) + dicom.BYTES_A_PIXEL * size.width * size.height):
        pixels = dicom.decode(data, dicom.split_frame(source)[1], limits)
    return _Decoded(pixels, (pixels.shape[1], pixels.shape[0]), Exif())


def _box_scale(size: tuple[int, int], at_least: int | None) -> int:
    if at_least is None or size[0] * size[1] <= _LARGE_PIXELS:
        return 1
    return next((scale for scale in _BOX_SCALES if min(size) // scale >= at_least), 1)


def _exif_of(picture: PIL.Image.Image) -> Exif:
    blob = picture.info.get("exif")
    return parse_exif(blob) if isinstance(blob, bytes) else Exif()


def _upright_size(size: tuple[int, int], exif: Exif) -> tuple[int, int]:
    return size if exif.orientation <= 4 else (size[1], size[0])


def _from_pil(picture: PIL.Image.Image) -> Image:
    source = str(getattr(picture, "filename", "") or "<PIL image>")
    kind = picture.format or "PIL image"
    with refusals_name(source), damage_names(kind):
        Limits.from_environment().check_pixels(*picture.size)
        picture.load()
        exif = _exif_of(picture)
        pixels = upright(rgb_pixels(picture), exif.orientation)
        return Image(pixels, (pixels.shape[1], pixels.shape[0]), source, picture.format, exif.taken)


def _from_array(array: NDArray[Any]) -> Image:
    planes = 1 if array.ndim == 2 else array.shape[-1]
    if array.ndim not in (2, 3) or planes not in (1, 3, 4) or 0 in array.shape:
        raise InputError(f"a picture is {_ARRAYS}; got shape {array.shape}")
    samples = _eight_bits(np.asarray(array)).reshape(*array.shape[:2], planes)
    if planes == 4:
        rgba = PIL.Image.fromarray(samples)
        pixels = np.asarray(on_background(rgba.convert("RGB"), rgba.getchannel("A")))
    else:
        pixels = np.array(np.broadcast_to(samples, (*samples.shape[:2], 3)))  # a copy: the caller's array may change
    return Image(pixels, (pixels.shape[1], pixels.shape[0]))


def _eight_bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind != "f":
        raise InputError(f"a picture is {_ARRAYS}; got type {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # false for NaN, too
        raise InputError(f"a picture is {_ARRAYS}; got {array.dtype} values from {low:g} to {high:g}")
    levels: NDArray[np.uint8] = np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
    return levels


_ROUNDING = 1e-6
