"""Where frames come from: a watched folder, pictures on stdin, a video file, a camera, a stream."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, TypeAlias

from lookalike.errors import InputError
from lookalike.images import Found, read, read_bytes, walk
from lookalike.images.piped import pictures
from lookalike.images.video import frames
from lookalike.types import Image, Skipped

POLL = 0.5
"""How often a watched folder is looked at, in seconds."""
_PATIENCE, _PATIENCE_ONCE = 10.0, 2.0
_RETRIES, _LONGEST_WAIT = 5, 30.0
_SMALL = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".avif", ".jp2", ".ppm", ".pgm"}


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture, when it was taken (seconds since 1970, or into a video file), and what it is called."""

    image: Image
    time: float
    source: str


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing new came for so many seconds."""

    seconds: float


Arrival: TypeAlias = Frame | Skipped | Idle


def arrivals(source: str, *, once: bool, done: set[str], stdin: BinaryIO | None = None) -> Iterator[Arrival]:
    """Yield what comes from a source, without end unless ``once`` or the source ends.

    ``done`` are the names in a folder that were taken before; new ones join it, those that are gone leave it.
    """
    if source == "-":
        return _piped(stdin or sys.stdin.buffer)
    if source.startswith("camera:") or re.match(r"[a-z]+://", source):
        return _live(source, once)
    path = Path(source).expanduser()
    if path.is_dir():
        return _Folder(str(path), once, done).run()
    if not path.exists():
        raise InputError(
            f"no such source: {source}; name a folder, a video file, camera:0, an address such as rtsp://…, or - for "
            "pictures on stdin"
        )
    if path.suffix.lower() in _SMALL:
        return iter([_frame(str(path), str(path))])
    return _video_file(str(path))


def _piped(stdin: BinaryIO) -> Iterator[Arrival]:
    coming, number = pictures(stdin), 0
    while True:
        try:
            data = next(coming, None)
        except InputError as error:
            # What wrote them was stopped, or wrote something else: what came before was looked at all the same.
            if not number:
                raise
            yield Skipped(f"stdin:{number + 1}", f"{error}; nothing after it can be read")
            return
        if data is None:
            break
        number += 1
        name = f"stdin:{number}"
        try:
            image = read_bytes(data, name)
        except InputError as error:
            yield Skipped(name, str(getattr(error, "reason", error)))
        else:
            yield Frame(image, time.time(), name)
    if not number:
        raise InputError("no picture came on stdin; it takes JPEG and PNG files, one right after another")


def _video_file(path: str) -> Iterator[Arrival]:
    for number, (image, at) in enumerate(frames(path)):
        yield Frame(image, float(number) if at is None else at, f"{path}#{number}")


def _live(source: str, once: bool) -> Iterator[Arrival]:
    """Yield the frames of what goes on without end; when it breaks off, it is opened again, after ever longer waits."""
    number = failed = 0
    came = time.monotonic()
    while True:
        try:
            for image, _ in frames(source):
                failed = 0
                number += 1
                came = time.monotonic()
                yield Frame(image, time.time(), f"{source}#{number}")
                if once:
                    return
            reason = "the stream ended"
        except InputError as error:
            reason = str(error)
            if once or (not number and failed >= _RETRIES):
                raise
        failed += 1
        wait = min(_LONGEST_WAIT, 2.0**failed)
        yield Skipped(source, f"{reason}; trying again in {wait:.0f} s")
        time.sleep(wait)
        yield Idle(time.monotonic() - came)


class _Folder:
    """A watched folder: new files in the order of their names, each when it is whole."""

    def __init__(self, folder: str, once: bool, done: set[str]) -> None:
        self._folder, self._once, self._done = folder, once, done
        self._patience = _PATIENCE_ONCE if once else _PATIENCE
        self._gone = False
        self._bad: dict[str, tuple[int, int] | None] = {}

    def run(self) -> Iterator[Arrival]:
        came = time.monotonic()
        found_any = bool(self._done)
        while True:
            for arrival in self._new():
                found_any = True
                came = time.monotonic()
                yield arrival
            if self._once:
                if not found_any:
                    raise InputError(f"{self._folder} holds no picture; name a folder that does")
                return
            yield Idle(time.monotonic() - came)
            time.sleep(POLL)

    def _new(self) -> Iterator[Arrival]:
        entries = self._listed()
        if entries is None:
            if not self._gone:
                yield Skipped(self._folder, "the folder is gone; waiting for it")
            self._gone = True
            return
        self._gone = False
        self._done &= {entry.relative if isinstance(entry, Found) else entry.path for entry in entries}
        for entry in entries:
            name = entry.relative if isinstance(entry, Found) else entry.path
            if name in self._done and not self._mended(name, entry):
                continue
            arrival = entry if isinstance(entry, Skipped) else self._whole(entry)
            if isinstance(arrival, Skipped) and isinstance(entry, Found):
                self._bad[name] = _stamp(entry.path)
            yield arrival
            self._done.add(name)  # only now: what was waited for, or looked at, at an interrupt comes again

    def _mended(self, name: str, entry: Found | Skipped) -> bool:
        """Tell whether a file that could not be read was written again since."""
        if name not in self._bad or isinstance(entry, Skipped) or _stamp(entry.path) == self._bad[name]:
            return False
        del self._bad[name]
        return True

    def _listed(self) -> list[Found | Skipped] | None:
        try:
            return sorted(walk(self._folder), key=lambda e: e.relative if isinstance(e, Found) else e.path)
        except InputError:
            return None

    def _whole(self, found: Found) -> Arrival:
        """Return the picture of a file, waited for while it is still being written."""
        stamp, since, changed = _stamp(found.path), time.monotonic(), False
        while True:
            try:
                return _frame(found.path, found.relative)
            except InputError as error:
                now = _stamp(found.path)
                if now != stamp:
                    stamp, since, changed = now, time.monotonic(), True
                # What was written long ago, and is left alone now, will not become whole. The time on a file that is
                # being copied is no witness: some programs set it to that of their source.
                old = not changed and now is not None and time.time() - now[1] / 1e9 > self._patience
                if now is None or old or time.monotonic() - since > self._patience:
                    return Skipped(found.relative, str(getattr(error, "reason", error)))
            time.sleep(POLL / 5)


def _frame(path: str, name: str) -> Frame:
    image = read(path)
    return Frame(image, _taken(image) or os.path.getmtime(path), name)


def _taken(image: Image) -> float | None:
    try:
        return datetime.fromisoformat(image.taken).timestamp() if image.taken else None
    except ValueError:
        return None


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
