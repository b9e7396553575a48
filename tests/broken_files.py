"""Makes a folder of broken, hostile and odd files, as people have them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image


def photo(width: int = 64, height: int = 48) -> PIL.Image.Image:
    """A smooth coloured picture that no flip or turn leaves as it is."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1)
    blue = 127 + 120 * np.sin(x / 9) * np.cos(y / 7)
    return PIL.Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def encoded(picture: PIL.Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_claiming(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG whose header claims a size; its data is only ``body``."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(body)) + png_chunk(b"IEND", b"")


def tiff(*entries: tuple[int, int, int, int]) -> bytes:
    """A little-endian TIFF of one directory: (tag, type, count, value) each."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


_JPEG = encoded(photo(), "JPEG")
_PNG = encoded(photo(), "PNG")
_LZW = encoded(photo(), "TIFF", compression="tiff_lzw")
_SIZE_OF_ONE = ((256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1))

BROKEN: dict[str, bytes] = {
    "empty.jpg": b"",
    "text.jpg": b"Hello world, this is no picture.\n",
    "zeros.png": bytes(5000),
    "half.jpg": _JPEG[: len(_JPEG) // 2],
    "head.jpg": _JPEG[:20],
    "scan-missing.jpg": _JPEG[: _JPEG.index(b"\xff\xda")],
    "half.png": _PNG[: len(_PNG) // 2],
    "half.gif": encoded(photo(), "GIF")[:900],
    "half.webp": encoded(photo(), "WEBP")[:300],
    "half.tif": encoded(photo(), "TIFF")[:400],
    "half.bmp": encoded(photo(), "BMP")[:400],
    "bomb.png": png_claiming(100_000, 100_000),
    "bomb.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 65000, 65000, 1, 24, 0, 0, 0, 0, 0, 0),
    "bomb.gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";",
    "bomb.webp": b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\x3f\0\xff\x3f\0",
    "bomb.jpg": _JPEG.replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 65000, 65000), 1),
    "bomb-tile.tif": tiff(*_SIZE_OF_ONE, (322, 4, 1, 60000), (323, 4, 1, 60000)),
    "bomb-table.tif": tiff(*_SIZE_OF_ONE, (273, 4, 2**31, 0)),
    "noisy-samples.tif": tiff(*_SIZE_OF_ONE[:-1], (277, 3, 1, 65535)),
    "noisy-tag.tif": tiff(*_SIZE_OF_ONE, (270, 2, 5000, 100_000)),
    "noisy-lzw.tif": _LZW[:30] + b"\xff" * 170 + _LZW[200:],
    "slow.ppm": b"P3 3000 3000 255\n" + b"1 " * 1000,
    "many-chunks.png": _PNG[:33] + png_chunk(b"prIv", b"") * 200_000 + _PNG[33:],
    "many-markers.jpg": _JPEG[:2] + b"\xff\xfe\0\2" * 200_000 + _JPEG[2:],
    "empty-frame.jpg": _JPEG.replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 0, 0), 1),
    "document.pdf.jpg": b"%PDF-1.4\n",
    "program.eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "old.ico": b"\x00\x00\x01\x00\x01\x00",
}
"""name -> bytes of files that are no picture; each is refused with a reason."""


def write_broken_files(folder: Path) -> list[Path]:
    """Write all of ``BROKEN`` into ``folder``; return the paths, sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in BROKEN.items():
        (folder / name).write_bytes(data)
    return sorted(folder / name for name in BROKEN)
