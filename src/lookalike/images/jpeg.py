"""JPEG by the fast route: libjpeg-turbo decodes straight into the result, reduced where that is enough.

Pillow remains the authority. What the fast route cannot do, or would complain about (CMYK, arithmetic coding, grey
with a profile, any damage), goes to Pillow, at the same reduction: where both can do it they give the same pixels, to
within 2 of 255 (0 where both are built on the same libjpeg-turbo).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from lookalike.images.color import apply_profile, transform_to_srgb
from lookalike.images.exif import Exif, parse_exif, upright
from lookalike.images.limits import Limits
from lookalike.images.refusal import Refused

_SCALES = (8, 4, 2)  # the reductions for which libjpeg-turbo has fast code, and which Pillow can ask for too
_MOST_MARKERS = 10_000
_MOST_PIXEL_SCANS = 20_000_000_000  # 200 scans of 100 megapixels; a usual file has 10
_START_OF_SCAN, _APP1, _APP2, _END = 0xDA, 0xE1, 0xE2, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_ICC = b"ICC_PROFILE\0"


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What stands before the first scan; ``width`` and ``height`` are as stored, not yet upright."""

    width: int
    height: int
    components: int
    process: int
    exif: Exif
    profile: bytes | None

    def scale(self, at_least: int | None) -> int:
        """Return by how much the picture may be reduced with both sides keeping ``at_least`` pixels: 1, 2, 4, 8."""
        if at_least is None:
            return 1
        side = min(self.width, self.height)
        return next((scale for scale in _SCALES if -(-side // scale) >= at_least), 1)

    def reduced(self, scale: int) -> tuple[int, int]:
        """Return the (width, height) that libjpeg gives at a reduction."""
        return -(-self.width // scale), -(-self.height // scale)

    @property
    def is_progressive(self) -> bool:
        """True where the whole picture's coefficients are held in memory while decoding."""
        return self.process not in (_BASELINE, _EXTENDED)

    def bytes_to_decode(self, scale: int) -> int:
        """Return how much memory decoding takes at its peak, the file not counted, on whichever route."""
        width, height = self.reduced(scale)
        coefficients = 2 * self.components * self.width * self.height if self.is_progressive else 0
        by_pillow = 4 if self.components == 4 else 0
        turned = 3 if self.exif.orientation > 1 else 0
        return coefficients + (3 + max(by_pillow, turned)) * width * height


def read_jpeg_header(data: bytes, limits: Limits) -> JpegHeader:
    """Walk the markers up to the first scan; refuse a picture that is too large, or too slow to decode."""
    frame, exif, profile = None, b"", []
    for marker, body in _segments(data):
        if marker in _FRAMES and frame is None and len(body) >= 6:
            frame = (marker, int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big"), body[5])
        elif marker == _APP1 and body.startswith(b"Exif\0\0"):
            exif += body[6:] if exif else body
        elif marker == _APP2 and body.startswith(_ICC):
            profile.append(body)
    if frame is None:
        raise Refused("damaged JPEG: no frame before the first scan")
    process, width, height, components = frame
    limits.check_pixels(width, height)
    header = JpegHeader(width, height, components, process, parse_exif(exif), _joined(profile))
    if header.is_progressive and data.count(b"\xff\xda") * width * height > _MOST_PIXEL_SCANS:
        raise Refused(f"too large: {data.count(bytes((0xFF, 0xDA)))} scans of {width * height} pixels")
    return header


def decode_fast(data: bytes, header: JpegHeader, scale: int) -> NDArray[np.uint8] | None:
    """Return upright (H, W, 3) sRGB pixels, or None where Pillow has to do it."""
    if header.components not in (1, 3) or header.process not in (_BASELINE, _EXTENDED, _PROGRESSIVE):
        return None
    if header.components == 1 and transform_to_srgb(header.profile, "L") is not None:
        return None
    width, height = header.reduced(scale) if scale > 1 else (0, 0)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", min_width=width, min_height=height)
    except ValueError:
        return None
    if pixels.shape[:2] != header.reduced(scale)[::-1]:
        return None
    return upright(apply_profile(pixels, header.profile), header.exif.orientation)


def _segments(data: bytes) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    at = 2
    for _ in range(_MOST_MARKERS):
        at = data.find(b"\xff", at)
        while 0 <= at < len(data) - 1 and data[at + 1] == 0xFF:
            at += 1
        if at < 0 or at + 1 >= len(data):
            raise Refused("truncated JPEG: it ends before the first scan")
        marker = data[at + 1]
        if marker == _START_OF_SCAN:
            return found
        if marker in _WITHOUT_LENGTH or marker == 0:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((marker, data[at + 4 : at + 2 + length]))
        at += 2 + max(length, 2)
    raise Refused(f"damaged JPEG: more than {_MOST_MARKERS} markers before the first scan")


def _joined(chunks: list[bytes]) -> bytes | None:
    return b"".join(chunk[14:] for chunk in sorted(chunks)) or None
