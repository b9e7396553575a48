"""Decoding that may end its process, in a process of its own: gdcm throws past Python over some damaged streams.

One child serves this process. It is started when it is first needed and anew where it ended; over a pipe it gets the
bytes of a DICOM file and the number of a frame, and answers with the values as .npy, or with what went wrong.
"""

from __future__ import annotations

import atexit
import io
import os
import struct
import subprocess
import sys
import threading
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

ASKED = struct.Struct(">IQ")
"""A frame's number, from 0, and how many bytes of a file follow."""
ANSWERED = struct.Struct(">?Q")
"""Whether it was decoded, and how many bytes of .npy, or else of text, follow."""


class Ended(RuntimeError):
    """The decoder ended over a file."""


class Child:
    """A process that decodes, one frame at a time."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        atexit.register(self.stop)

    def decode(self, data: bytes, number: int) -> NDArray[Any]:
        """Return the values of frame ``number`` of a DICOM file; raise RuntimeError with what was wrong."""
        with self._turn:
            try:
                decoded, payload = self._ask(data, number)
            except BaseException:
                self.stop()  # it ended, or an answer nobody waits for is on its way
                raise
        if not decoded:
            raise RuntimeError(payload.decode("utf-8", "replace"))
        values: NDArray[Any] = np.load(io.BytesIO(payload), allow_pickle=False)
        return values

    def stop(self) -> None:
        """End the process; the next frame starts another."""
        process, self._process = self._process, None
        # What a fork inherits belongs to its parent.
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.communicate()

    def _ask(self, data: bytes, number: int) -> tuple[bool, bytes]:
        process = self._running()
        to, back = process.stdin, process.stdout
        if to is None or back is None:
            raise Ended("its decoder has no pipe")
        try:
            to.write(ASKED.pack(number, len(data)))
            to.write(data)
            to.flush()
        except OSError as error:
            raise Ended("its decoder ended over it") from error
        decoded, length = ANSWERED.unpack(_exactly(back, ANSWERED.size))
        return bool(decoded), _exactly(back, length)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and (self._owner != os.getpid() or self._process.poll() is not None):
            self.stop()
        if self._process is None:
            self._process = subprocess.Popen(
                # -P: what lies in the folder that one is in is no module of ours.
                [sys.executable, "-P", "-m", "lookalike.images.dicom_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._owner = os.getpid()
        return self._process


def _exactly(stream: BinaryIO | Any, count: int) -> bytes:
    found: bytes = stream.read(count)
    if len(found) < count:
        raise Ended("its decoder ended over it")
    return found
