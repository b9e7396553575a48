"""Derived files: a matrix of vectors to map into memory. Never the truth: what does not fit is ignored and made again.

0       a JSON header, padded to 4096 bytes
4096    (N, D) float32, little-endian
then    (N,) int64 item keys, ascending; (Z,) int64 rows that are zero
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lookalike.stores.durable import replace_durably, sync_file
from lookalike.types import Float32, Space

SUFFIX = ".matrix"

_FORMAT = 1
_HEADER = 4096
_NEW = ".new"
_ABANDONED_AFTER_S = 3600.0


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a derived file was made from: which gallery and space, after which transaction, in whose session."""

    gallery: str
    space: str
    seq: int
    session: str

    @classmethod
    def now(cls, db: sqlite3.Connection, space: Space) -> Stamp:
        """Return the stamp of what ``db`` sees."""
        seq, gallery = db.execute("SELECT seq, gallery FROM clock").fetchone()
        return cls(gallery, str(space), seq, _session(db, seq))

    def holds(self, db: sqlite3.Connection, space: Space) -> bool:
        """Tell whether the gallery once was as this says: not another's, and not of a time that a backup undid."""
        now = Stamp.now(db, space)
        same = (self.gallery, self.space) == (now.gallery, now.space)
        return same and self.seq <= now.seq and self.session == _session(db, self.seq)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """(N, D) unit vectors mapped from a file, (N,) item keys ascending, and the (Z,) rows that are zero."""

    stamp: Stamp
    vectors: Float32
    keys: np.ndarray[Any, np.dtype[np.int64]]
    zeros: np.ndarray[Any, np.dtype[np.int64]]


def write(
    directory: Path, prefix: str, stamp: Stamp, dim: int, pages: Iterable[tuple[Any, Float32, Any]]
) -> Snapshot | None:
    """Write a snapshot from pages of (keys, vectors, rows that are zero) and map it; OSError where that cannot be."""
    directory.mkdir(exist_ok=True)
    _sweep(directory, prefix)
    name = f"{prefix}-{stamp.seq:012d}-{secrets.token_hex(4)}{SUFFIX}"
    new = directory / (name + _NEW)
    try:
        with new.open("wb") as file:
            _fill(file, stamp, dim, pages)
            sync_file(file)
        replace_durably(new, directory / name)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    remove_older(directory, prefix, SUFFIX, stamp.seq, keep=name)
    return _mapped(directory / name, dim)


def read(directory: Path, prefix: str, dim: int) -> Iterator[Snapshot]:
    """Yield the whole snapshots there are, newest first."""
    for path in newest_first(directory, prefix, SUFFIX):
        snapshot = _mapped(path, dim)
        if snapshot is not None:
            yield snapshot


def newest_first(directory: Path, prefix: str, suffix: str) -> list[Path]:
    """Return the derived files of one space, by falling sequence."""
    try:
        return sorted(directory.glob(f"{prefix}-*{suffix}"), reverse=True)
    except OSError:
        return []


def remove_older(directory: Path, prefix: str, suffix: str, seq: int, *, keep: str) -> None:
    """Remove the files that one of ``seq`` makes useless; one that is in use on Windows stays until the next time."""
    for path in newest_first(directory, prefix, suffix):
        if path.name != keep and path.name < f"{prefix}-{seq + 1:012d}":
            with contextlib.suppress(OSError):
                path.unlink()


def _sweep(directory: Path, prefix: str) -> None:
    for path in directory.glob(f"{prefix}-*{_NEW}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                path.unlink()


def _fill(file: BinaryIO, stamp: Stamp, dim: int, pages: Iterable[tuple[Any, Float32, Any]]) -> None:
    keys, zeros, n = [np.empty(0, "<i8")], [np.empty(0, "<i8")], 0
    file.write(b"\0" * _HEADER)
    for page_keys, vectors, page_zeros in pages:
        file.write(np.ascontiguousarray(vectors, "<f4").data)
        keys.append(page_keys.astype("<i8"))
        zeros.append(page_zeros.astype("<i8") + n)
        n += len(vectors)
    tail = np.concatenate(keys + zeros).tobytes()
    file.write(tail)
    header = {
        "format": _FORMAT,
        "stamp": asdict(stamp),
        "rows": n,
        "dim": dim,
        "zeros": sum(map(len, zeros)),
        "crc": zlib.crc32(tail),
    }
    text = json.dumps(header).encode()
    if len(text) > _HEADER:
        raise OSError(f"the name of the space is too long for a snapshot: {stamp.space[:80]}")
    file.seek(0)
    file.write(text.ljust(_HEADER))


def _mapped(path: Path, dim: int) -> Snapshot | None:
    """Return the snapshot in ``path``, or None if it is torn, damaged or of another make."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(_HEADER))
            n, z = int(header["rows"]), int(header["zeros"])
            if header["format"] != _FORMAT or header["dim"] != dim or n < 1:
                return None
            file.seek(_HEADER + n * dim * 4)
            tail = file.read()
        if len(tail) != (n + z) * 8 or zlib.crc32(tail) != header["crc"]:
            return None
        numbers = np.frombuffer(tail, "<i8").astype(np.int64, copy=False)
        # A plain array over the mapping: slices of a memmap cost microseconds each.
        vectors = np.asarray(np.memmap(path, "<f4", "r", _HEADER, (n, dim)))
        return Snapshot(Stamp(**header["stamp"]), vectors, numbers[:n], numbers[n:])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _session(db: sqlite3.Connection, seq: int) -> str:
    row = db.execute(
        "SELECT token FROM sessions WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT 1", (seq,)
    ).fetchone()
    return "" if row is None else str(row[0])
