"""The bytes of one file, whole and of one moment."""

from __future__ import annotations

import io
import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

from lookalike.images.dicom import split_frame
from lookalike.images.limits import Limits
from lookalike.images.refusal import Refused, refusals_name

_YOUNG_NS = 2_000_000_000  # the coarsest clock of a common file system (FAT) ticks every two seconds
_TRIES = 2
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class FileBytes(NamedTuple):
    """What a file held, its size in bytes, and when it was last changed.

    ``mtime_ns`` is None where the file was so young when it was read that a later change might carry the same time.
    """

    data: bytes
    size: int
    mtime_ns: int | None


def read_file(path: str | os.PathLike[str]) -> FileBytes:
    """Return the bytes of a regular file; raise UnreadableImage where there is none, or it is too large.

    A file that changes while it is read is read once more, then given up. Pipes and devices are never opened. Of
    ``scan.dcm#3``, where there is no such file, the bytes are those of ``scan.dcm``.
    """
    name = os.fspath(path)
    if not os.path.exists(name):
        name = split_frame(name)[0]
    with refusals_name(os.fspath(path)):
        try:
            for _ in range(_TRIES):
                found = _read_once(name, Limits.from_environment())
                if found is not None:
                    return found
        except (OSError, ValueError) as error:
            raise Refused(_why(error)) from error
        raise Refused("changed while it was read")


def kind_of(mode: int) -> str | None:
    """Return what a thing that is no regular file is ("a folder", "a socket", ...), None for a regular file."""
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "not a regular file")


def _read_once(name: str, limits: Limits) -> FileBytes | None:
    _check(Path(name).stat(), limits)  # before opening: to open a device may do something
    with open(os.open(name, _OPEN), "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        _check(before, limits)
        data = _read_up_to(file, before.st_size + 1)
        after = os.fstat(file.fileno())
        now = time.time_ns()
    if len(data) != before.st_size or _stamp(before) != _stamp(after):
        return None
    old_enough = now - after.st_mtime_ns >= _YOUNG_NS
    return FileBytes(data, after.st_size, after.st_mtime_ns if old_enough else None)


def _check(status: os.stat_result, limits: Limits) -> None:
    if kind := kind_of(status.st_mode):
        raise Refused(f"{kind}, not a file")
    limits.check_bytes(status.st_size)


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _read_up_to(file: io.FileIO, count: int) -> bytes:
    data = file.read(count) or b""
    if len(data) in (count - 1, 0):
        return data
    parts = [data]
    while data and sum(map(len, parts)) < count:
        data = file.read(count - sum(map(len, parts))) or b""
        parts.append(data)
    return b"".join(parts)


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return f"the file cannot be read: {error.strerror}"
    return f"the file cannot be read: {error}"
