"""A stream of JPEG and PNG files, one right after another -> the bytes of each.

That is what ``ffmpeg … -f image2pipe -c:v mjpeg -`` writes. Where a picture ends is read from its own structure, so a
thumbnail inside of it ends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from lookalike.errors import InputError

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_MOST = 256 * 1024 * 1024
_ALONE = {0x01, *range(0xD0, 0xD8)}
_SCAN, _END = 0xDA, 0xD9


def pictures(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of each picture; raise InputError where something else comes, or one is cut off by the end."""
    reader = _Reader(stream)
    while (start := reader.peek(2)) != b"":
        reader.begin()
        if start == _JPEG:
            _jpeg(reader)
        elif reader.peek(8) == _PNG:
            _png(reader)
        else:
            raise InputError(f"stdin holds neither a JPEG nor a PNG where one should begin, but {start!r}")
        yield reader.taken()


def _jpeg(reader: _Reader) -> None:
    reader.take(2)
    while True:
        marker = reader.take(2)
        while marker == b"\xff\xff":  # fill bytes
            marker = b"\xff" + reader.take(1)
        if marker[0] != 0xFF:
            raise InputError("stdin holds a damaged JPEG: no marker where one should be")
        if marker[1] == _END:
            return
        if marker[1] in _ALONE:
            continue
        reader.take(int.from_bytes(reader.take(2), "big") - 2)
        if marker[1] == _SCAN:
            reader.skip_scan()


def _png(reader: _Reader) -> None:
    reader.take(8)
    kind = b""
    while kind != b"IEND":
        length, kind = int.from_bytes(reader.take(4), "big"), reader.take(4)
        reader.take(length + 4)


class _Reader:
    """A stream with a buffer that begins where the picture at hand does."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._buffer, self._at = stream, bytearray(), 0

    def begin(self) -> None:
        del self._buffer[: self._at]
        self._at = 0

    def taken(self) -> bytes:
        return bytes(self._buffer[: self._at])

    def peek(self, count: int) -> bytes:
        while len(self._buffer) < self._at + count and self._more():
            pass
        return bytes(self._buffer[self._at : self._at + count])

    def take(self, count: int) -> bytes:
        found = self.peek(max(count, 0))
        if len(found) < count or count < 0:
            raise InputError("stdin ended in the middle of a picture")
        self._at += count
        return found

    def skip_scan(self) -> None:
        """Go to the next marker that is no restart and no escaped byte."""
        while True:
            at = self._buffer.find(b"\xff", self._at)
            if at < 0 or at + 1 >= len(self._buffer):
                self._at = len(self._buffer) if at < 0 else at
                if not self._more():
                    raise InputError("stdin ended in the middle of a picture")
            elif self._buffer[at + 1] == 0 or self._buffer[at + 1] in _ALONE:
                self._at = at + 2
            else:
                self._at = at
                return

    def _more(self) -> bool:
        read = getattr(self._stream, "read1", self._stream.read)
        data = read(65536)
        self._buffer += data
        if len(self._buffer) > _MOST:
            raise InputError(f"stdin holds a picture of more than {_MOST:,} bytes")
        return bool(data)
