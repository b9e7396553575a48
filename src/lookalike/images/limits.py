"""How large a picture may be. Checked from the header, before anything is decoded."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from lookalike.errors import ConfigError
from lookalike.images.refusal import Refused

_PREFIX = "LOOKALIKE_"
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest picture that is read: its pixels, the bytes of its file, the bytes that decoding it may take.

    Each can be raised by an environment variable: LOOKALIKE_MAX_PIXELS, LOOKALIKE_MAX_BYTES, LOOKALIKE_MAX_MEMORY.
    ``max_memory`` also bounds what all threads of the process together take for decoding: a picture that would not
    fit beside those in work waits for them.
    """

    max_pixels: int = 100_000_000
    max_bytes: int = 512 * _MIB
    max_memory: int = 900 * _MIB

    @classmethod
    def from_environment(cls) -> Limits:
        """Return the limits in force; a variable that is no positive whole number raises ConfigError."""
        return cls(**{f.name: _positive(_PREFIX + f.name.upper()) for f in fields(cls) if _is_set(f.name)})

    def check_bytes(self, count: int) -> None:
        """Refuse a file of ``count`` bytes where that is too many."""
        if count > self.max_bytes:
            raise Refused(f"too large: {count} bytes; raise LOOKALIKE_MAX_BYTES (now {self.max_bytes})")

    def check_pixels(self, width: int, height: int) -> None:
        """Refuse a picture of this size where it has too many pixels, or none."""
        if width < 1 or height < 1:
            raise Refused(f"a picture without pixels ({width}x{height})")
        if width * height > self.max_pixels:
            raise Refused(f"too large: {width * height} pixels; raise LOOKALIKE_MAX_PIXELS (now {self.max_pixels})")

    def check_memory(self, count: int) -> None:
        """Refuse a picture whose decoding takes ``count`` bytes where that is too many."""
        if count > self.max_memory:
            raise Refused(
                f"too large: decoding it takes about {count // _MIB} MiB; "
                f"raise LOOKALIKE_MAX_MEMORY (now {self.max_memory} bytes)"
            )

    @contextmanager
    def memory(self, count: int) -> Iterator[None]:
        """Hold ``count`` bytes of the process's decoding memory: wait for them, or refuse what can never fit."""
        self.check_memory(count)
        with _decoding.hold(count, self.max_memory):
            yield


class _Budget:
    """Bytes shared by all threads that decode."""

    def __init__(self) -> None:
        self._used = 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, count: int, total: int) -> Iterator[None]:
        # One waits at a time, so that a stream of small pictures cannot starve a large one.
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + count <= total)
            self._used += count
        try:
            yield
        finally:
            with self._changed:
                self._used -= count
                self._changed.notify_all()


_decoding = _Budget()


def _is_set(name: str) -> bool:
    return bool(os.environ.get(_PREFIX + name.upper()))


def _positive(variable: str) -> int:
    text = os.environ[variable]
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ConfigError(f"{variable} must be a positive whole number, got {text!r}")
    return int(text)
