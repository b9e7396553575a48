"""DICOM -> pixels. The only module that imports pydicom, and only when a DICOM file is read.

Only the elements that pixels need are parsed; of the patient nothing is, unless :func:`fields` is asked for it by name.

    modality       rescale slope and intercept, or a lookup table
    window         a lookup table (VOI LUT), else center and width (PS3.3 C.11.2.1.2: linear, linear exact, sigmoid),
                   else the smallest value becomes 0 and the largest 255; 8 bits and 1 bit without a window stay
    MONOCHROME1    is inverted, since in it low values are bright
    colour         palette, RGB and YBR lead to RGB; more than 8 bits are scaled by the bits that are stored

Frames count from 1, as the standard does; ``scan.dcm#3`` names the third, and without a number the first is read.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError, MissingDependency
from lookalike.images.dicom_apart import Child
from lookalike.images.limits import Limits
from lookalike.images.refusal import Refused, damage_names, plain, refusals_name

Values = NDArray[Any]

SIGNATURE = re.compile(
    rb".{128}DICM"
    # Without the preamble: group 8, its length or its first elements, in little endian, with types or without.
    rb"|\x08\0\0\0(\x04\0\0\0|UL\x04\0)|\x08\0[\x05\x08\x12\x13\x14\x16\x18\x20]\0(CS|DA|TM|UI)",
    re.DOTALL,
)
BYTES_A_PIXEL = 40
"""What decoding takes at its peak, the file not counted: values in 8 bytes, and copies of them."""

_FRAME = re.compile(r"(.+)#([1-9]\d{0,6})", re.DOTALL)
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_EXTENDED_JPEG, _BITS_OF_JPEG = "1.2.840.10008.1.2.4.51", 8
_BY_PILLOW = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 90, 91)}  # JPEG, JPEG 2000
_UNPACKED_AT_ONCE = 1 << 20
_JPEG_2000 = b"\xff\x4f\xff\x51"
_MARK = 0xFF
_FRAME_MARKS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF of JPEG and of JPEG-LS; the three are tables
_SIZ = 42  # the mark, and what it says of the whole picture
_BARE_MARKS = {0x01, *range(0xD0, 0xD9)}
_LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91")
_NAMES = """
    Rows Columns SamplesPerPixel PhotometricInterpretation PlanarConfiguration BitsAllocated BitsStored HighBit
    PixelRepresentation NumberOfFrames RescaleSlope RescaleIntercept ModalityLUTSequence WindowCenter WindowWidth
    VOILUTFunction VOILUTSequence PresentationLUTShape PixelPaddingValue PixelPaddingRangeLimit
    RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor
    RedPaletteColorLookupTableData GreenPaletteColorLookupTableData BluePaletteColorLookupTableData
    SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
    SegmentedBluePaletteColorLookupTableData PixelData FloatPixelData DoubleFloatPixelData
    ExtendedOffsetTable ExtendedOffsetTableLengths SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
"""
_NEEDED = _NAMES.split()
_APART = Child()
_NO_PIXELS = "a DICOM file without pixels (a report, a structure, a wave form)"
_SIZE = ["Rows", "Columns", "NumberOfFrames"]

warnings.filterwarnings("ignore", module=r"pydicom\.")
logging.getLogger("pydicom").addHandler(logging.NullHandler())


class Size(NamedTuple):
    """Width and height in pixels, and whether the file kept every bit of them."""

    width: int
    height: int
    lossless: bool


def split_frame(path: str) -> tuple[str, int | None]:
    """Return ``("scan.dcm", 3)`` for ``"scan.dcm#3"``, and a path without a number as it is, with None."""
    found = _FRAME.fullmatch(path)
    return (found[1], int(found[2])) if found else (path, None)


def decode(data: bytes, frame: int | None, limits: Limits) -> NDArray[np.uint8]:
    """Return a frame, from 1, of the bytes of a DICOM file as (H, W, 3) uint8; raise Refused, with what to do."""
    found = _parsed(data, _NEEDED)
    _check(found, frame, limits)
    number = (frame or 1) - 1
    values = _values(found, number, data)
    if str(found.PhotometricInterpretation) == "PALETTE COLOR":
        return _colour(_palette(found, values), None)
    if values.ndim == 3:
        return _colour(values, int(found.BitsStored))
    return _grey(found, values, number)


def size_of(data: bytes, limits: Limits) -> Size:
    """Return the size of the picture in the bytes of a DICOM file, from its header."""
    found = _parsed(data, _SIZE)
    width, height = int(found.get("Columns") or 0), int(found.get("Rows") or 0)
    if not width or not height:
        raise Refused(_NO_PIXELS)
    limits.check_pixels(width, height)
    return Size(width, height, str(_transfer_syntax(found)) not in _LOSSY)


def fields(data: bytes, names: Sequence[str], source: str = "<bytes>") -> dict[str, str | int | float]:
    """Return what the header of a DICOM file says under these keywords, such as ``BodyPartExamined``; no others.

    What is missing or empty is left out, several values are joined by a comma. Raise UnreadableImage for a file that
    is no DICOM, InputError for a name that the standard does not know, or whose values are no text or number.
    """
    check_fields(names)
    with refusals_name(source):
        found = _parsed(data, list(names))
        return {name: _plain_value(found.get(name)) for name in names if found.get(name) not in (None, "")}


def check_fields(names: Sequence[str]) -> None:
    """Raise InputError unless the standard knows these keywords, and their values are text or numbers."""
    tag_of = _pydicom("datadict").tag_for_keyword
    kind_of = _pydicom("datadict").dictionary_VR
    for name in names:
        tag = tag_of(name)
        if tag is None:
            raise InputError(f"DICOM has no field {name!r}; its keywords look like PatientAge or BodyPartExamined")
        if kind_of(tag).split(" ")[0] in ("SQ", "OB", "OW", "OD", "OF", "OL", "OV", "UN"):
            raise InputError(f"the DICOM field {name} holds no text or number")


def is_dicom(data: bytes) -> bool:
    """Tell whether the bytes, at least the first 132 of a file, are those of a DICOM file."""
    return SIGNATURE.match(data) is not None


def _parsed(data: bytes, names: Sequence[str]) -> Any:
    """Return the dataset with only these elements in it."""
    with damage_names("DICOM"):
        if _DEFLATED in data[:2048]:
            _check_deflated(data, Limits.from_environment())
        # Forced where there is no preamble; what the bytes are was looked at before.
        return _pydicom("").dcmread(io.BytesIO(data), force=True, specific_tags=list(names))


def _check_deflated(data: bytes, limits: Limits) -> None:
    """Refuse a deflated file that unpacks to more bytes than a file may have; what it unpacks to is not kept."""
    if data[132:138] != b"\x02\0\0\0UL":
        raise Refused("damaged DICOM: deflated, and it does not say where that begins")
    # What the file says of itself is not deflated; its first element is the length of the rest of that.
    left = data[144 + int.from_bytes(data[140:144], "little") :]
    unpacker, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while left and not unpacker.eof:
        total += len(unpacker.decompress(left, _UNPACKED_AT_ONCE))
        limits.check_bytes(total)
        left = unpacker.unconsumed_tail


def _check(found: Any, frame: int | None, limits: Limits) -> None:
    width, height = int(found.get("Columns") or 0), int(found.get("Rows") or 0)
    if not any(name in found for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")) or not width:
        raise Refused(_NO_PIXELS)
    limits.check_pixels(width, height)
    limits.check_memory(width * height * BYTES_A_PIXEL)
    frames = int(found.get("NumberOfFrames") or 1)
    if frame is not None and frame > frames:
        raise Refused(f"it has {frames} frame{'' if frames == 1 else 's'}, asked for number {frame}")


def raw_values(data: bytes, number: int) -> Values:
    """Return the samples of frame ``number``, from 0, of a compressed file, by any decoder that is there.

    Raise what pydicom raises; a decoder may end the process.
    """
    values: Values = np.asarray(_pydicom("pixels").pixel_array(_parsed(data, _NEEDED), index=number))
    return values


def _values(found: Any, number: int, data: bytes) -> Values:
    """Return a frame's samples (H, W) or (H, W, 3), colour in RGB."""
    if not _transfer_syntax(found):
        _suppose_plain(found)
    pixels = _pydicom("pixels")
    _check_stream(found, number)
    try:
        if _is_for_gdcm(found):
            return _APART.decode(data, number)
        values: Values = np.asarray(pixels.pixel_array(found, index=number, decoding_plugin=_plugin_for(found)))
    except (RuntimeError, NotImplementedError) as error:
        name = getattr(_transfer_syntax(found), "name", "unknown")
        if str(_transfer_syntax(found)) == _EXTENDED_JPEG and int(found.get("BitsStored") or 0) > _BITS_OF_JPEG:
            raise Refused(
                f"DICOM of {name} with {found.BitsStored} bits, which no decoder that is installed reads; "
                "pylibjpeg with pylibjpeg-libjpeg does (its licence is GPL)"
            ) from error
        if "missing dependencies" in str(error) or "missing required dependencies" in str(error):
            way = MissingDependency(f"decoding DICOM of {name}", "dicom")
            raise Refused(str(way)) from error
        raise Refused(f"damaged DICOM: {name} cannot be decoded: {plain(error)}") from error
    return values


def _plugin_for(found: Any) -> str:
    """Return which of pydicom's decoders reads it, "" for any: Pillow where it can, to the same values as gdcm.

    Damaged streams are an error to Pillow; gdcm may end the process over them.
    """
    syntax, deep = str(_transfer_syntax(found)), int(found.get("BitsStored") or 0) > _BITS_OF_JPEG
    beyond = deep and (syntax == _EXTENDED_JPEG or int(found.get("SamplesPerPixel") or 1) > 1)
    return "pillow" if syntax in _BY_PILLOW and not beyond else ""


def _is_for_gdcm(found: Any) -> bool:
    """Tell whether gdcm alone, or first of all, would read it."""
    syntax = _transfer_syntax(found)
    if not getattr(syntax, "is_encapsulated", False) or _plugin_for(found):
        return False
    return "gdcm" in _pydicom("pixels").get_decoder(syntax).available_plugins


def _check_stream(found: Any, number: int) -> None:
    """Refuse a compressed frame that claims to be another picture than the header says, by which memory was counted.

    What its decoder takes goes by what the frame claims; and gdcm ends the process over depths that it does not know.
    """
    syntax = _transfer_syntax(found)
    if not getattr(syntax, "is_encapsulated", False) or "PixelData" not in found:
        return
    with damage_names("DICOM"):
        offsets = found.get("ExtendedOffsetTable"), found.get("ExtendedOffsetTableLengths")
        frame = _pydicom("encaps").get_frame(
            found.PixelData,
            number,
            number_of_frames=int(found.get("NumberOfFrames") or 1),
            extended_offsets=None if None in offsets else offsets,
        )
    if (claimed := _claim_of(frame)) is None:
        return
    said = int(found.Columns), int(found.Rows), int(found.get("SamplesPerPixel") or 1)
    if claimed[:3] != said or claimed[3] > int(found.BitsAllocated):
        shown = "x".join(map(str, claimed[:3])), "x".join(map(str, said))
        raise Refused(
            f"damaged DICOM: its frame is {shown[0]} of {claimed[3]} bits, its header says {shown[1]} of "
            f"{found.BitsAllocated}"
        )


def _claim_of(frame: bytes) -> tuple[int, int, int, int] | None:
    """Return the width, height, samples and bits that a JPEG 2000, JPEG or JPEG-LS stream claims; None for others."""
    if not frame.startswith(b"\xff\xd8"):
        at = frame.find(_JPEG_2000)
        if at < 0 or len(frame) < at + _SIZ:
            return None
        right, bottom, left, top = struct.unpack_from(">4I", frame, at + 8)
        (samples,) = struct.unpack_from(">H", frame, at + 40)
        depths = frame[at + 42 : at + 42 + 3 * samples : 3]
        return right - left, bottom - top, samples, max((depth & 0x7F) + 1 for depth in depths or b"\x7f")
    at = 2
    while at + 10 <= len(frame):
        if frame[at] != _MARK or frame[at + 1] == _MARK:
            at += 1
            continue
        if frame[at + 1] in _FRAME_MARKS:
            bits, height, width, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return width, height, samples, bits
        at += 2 + (0 if frame[at + 1] in _BARE_MARKS else int.from_bytes(frame[at + 2 : at + 4], "big"))
    return None


def _transfer_syntax(found: Any) -> Any:
    return getattr(getattr(found, "file_meta", None), "TransferSyntaxUID", None)


def _suppose_plain(found: Any) -> None:
    """Suppose what the standard says of a file without meta information: implicit types, little endian."""
    pydicom = _pydicom("")
    found.file_meta = pydicom.dataset.FileMetaDataset()
    explicit = found.original_encoding[0] is False
    uid = pydicom.uid
    found.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if explicit else uid.ImplicitVRLittleEndian


# Grey


def _grey(found: Any, values: Values, number: int) -> NDArray[np.uint8]:
    shown = _windowed(found, values, number)
    inverted = str(found.PhotometricInterpretation) == "MONOCHROME1" or found.get("PresentationLUTShape") == "INVERSE"
    if inverted:
        shown = 1 - shown
    levels = np.rint(255 * np.clip(np.nan_to_num(shown), 0, 1)).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)


def _windowed(found: Any, values: Values, number: int) -> Values:
    """Return the values in [0, 1], as the file says that they are to be shown."""
    slope, intercept = (_number(found, number, "PixelValueTransformationSequence", name) for name in _RESCALE)
    if "ModalityLUTSequence" in found:
        known = _looked_up(found.ModalityLUTSequence[0], values)
    else:
        known = values.astype(np.float64) * (1.0 if slope is None else slope) + (intercept or 0.0)
    if found.get("VOILUTSequence"):
        table = found.VOILUTSequence[0]
        return _looked_up(table, known) / (2.0 ** int(table.LUTDescriptor[2]) - 1)
    center, width = (_number(found, number, "FrameVOILUTSequence", name) for name in ("WindowCenter", "WindowWidth"))
    function = str(found.get("VOILUTFunction") or "LINEAR")
    if center is not None and width is not None and (width > 1 or (width > 0 and function != "LINEAR")):
        return window(known, center, width, function)
    bits = int(found.get("BitsStored") or 0)
    if bits in (1, 8) and not int(found.get("PixelRepresentation") or 0) and slope in (None, 1.0) and not intercept:
        return known / (2.0**bits - 1)
    return _stretched(known, _is_padding(found, values))


_RESCALE = ("RescaleSlope", "RescaleIntercept")


def window(values: Values, center: float, width: float, function: str = "LINEAR") -> Values:
    """Return values through a window in [0, 1]: PS3.3 C.11.2.1.2.1 and C.11.2.1.3."""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _looked_up(item: Any, values: Values) -> Values:
    """Return values by a table of the standard: entry 0 is for its first mapped value and all below."""
    length, first, bits = (int(part) for part in item.LUTDescriptor)
    length = length or 65536
    raw = item.LUTData
    if isinstance(raw, bytes):
        table = np.frombuffer(raw, "<u2" if len(raw) >= 2 * length else np.uint8)
    else:
        table = np.atleast_1d(np.asarray(raw, np.int64))
    table = table[:length].astype(np.float64) % 2.0**bits
    if first >= 1 << 15 and values.min() < 0:
        first -= 1 << 16
    return table[np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)]


def _stretched(values: Values, padding: NDArray[np.bool_] | None) -> Values:
    counted = values if padding is None or padding.all() else values[~padding]
    counted = counted[np.isfinite(counted)]
    low, high = (float(counted.min()), float(counted.max())) if counted.size else (0.0, 0.0)
    return np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros(values.shape)


def _is_padding(found: Any, values: Values) -> NDArray[np.bool_] | None:
    """Return which samples only fill the frame up, as the file says, None where it says nothing."""
    value = found.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = found.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    return np.asarray((values >= low) & (values <= high))


def _number(found: Any, number: int, group: str, name: str) -> float | None:
    """Return a number of the file, or of the frame's own functional group, or of that which all frames share."""
    own = list(found.get("PerFrameFunctionalGroupsSequence") or [])[number : number + 1]
    shared = list(found.get("SharedFunctionalGroupsSequence") or [])[:1]
    items = [part for item in (*own, *shared) for part in list(item.get(group) or [])[:1]]
    for item in (*items, found):
        value = item.get(name)
        if value not in (None, ""):
            # Several windows may be given: the first is the one to show.
            first = value if isinstance(value, int | float) or not hasattr(value, "__getitem__") else value[0]
            return float(first)
    return None


# Colour


def _palette(found: Any, values: Values) -> Values:
    coloured: Values = np.asarray(_pydicom("pixels").apply_color_lut(values, found))
    return coloured


def _colour(values: Values, bits: int | None) -> NDArray[np.uint8]:
    """Return colours (H, W, 3) of any width in 8 bits; without ``bits``, those of their type, or of their largest."""
    if bits is None:
        bits = 8 if values.dtype == np.uint8 or values.max() <= 255 else 16
    if bits <= 8 and values.dtype == np.uint8:
        return np.ascontiguousarray(values[..., :3])
    return np.rint(255 * np.clip(values[..., :3] / (2.0**bits - 1), 0, 1)).astype(np.uint8)


def _plain_value(value: Any) -> str | int | float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if np.isfinite(value) else str(value)
    if hasattr(value, "__iter__") and not isinstance(value, str) and type(value).__name__ == "MultiValue":
        return ", ".join(str(part) for part in value)
    return str(value)


def _pydicom(module: str) -> Any:
    try:
        import pydicom  # noqa: PLC0415 - an extra, and a third of a second
        import pydicom.datadict  # noqa: PLC0415
        import pydicom.encaps  # noqa: PLC0415
        import pydicom.pixels  # noqa: PLC0415
    except ImportError as error:
        raise Refused(str(MissingDependency("reading DICOM", "dicom"))) from error
    return getattr(pydicom, module) if module else pydicom
