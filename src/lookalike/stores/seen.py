"""What a search for copies has seen: files, contents, pairs. Derived: it may be deleted at any moment.

All goes by content (sha256), so that a renamed or copied file is not decoded again. One SQLite file in the ``derived``
folder of a gallery; a damaged one, or one of another version, is emptied.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.types import Float32

NAME = "copies.db"
_FORMAT = 1
_TABLES = """
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE contents (sha256 TEXT PRIMARY KEY, width INTEGER NOT NULL, height INTEGER NOT NULL, inside REAL NOT NULL,
    packed BLOB NOT NULL);
CREATE TABLE notes (sha256 TEXT NOT NULL, name TEXT NOT NULL, told TEXT NOT NULL, PRIMARY KEY (sha256, name));
CREATE TABLE vectors (sha256 TEXT NOT NULL, space TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (sha256, space));
CREATE TABLE pairs (a TEXT NOT NULL, b TEXT NOT NULL, test TEXT NOT NULL, told TEXT, PRIMARY KEY (a, b, test));
"""


@dataclass(frozen=True, slots=True)
class Content:
    """Of a content: the upright (width, height) in pixels, the share inside of a frame, and its fingerprint, packed."""

    size: tuple[int, int]
    inside: float
    packed: bytes


class SeenStore:
    """Open with a folder, close when done; ``version`` is that of what made the contents and pairs."""

    def __init__(self, folder: Path, version: str) -> None:
        self._path = folder / NAME
        self._version = f"{_FORMAT}/{version}"
        self._lock = threading.Lock()  # several threads ask at once
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._opened()
        except sqlite3.DatabaseError:
            for ending in ("", "-wal", "-shm"):
                self._path.with_name(NAME + ending).unlink(missing_ok=True)
            self._db = self._opened()

    def close(self) -> None:
        """Write what is waiting."""
        with suppress(sqlite3.Error):
            self._db.commit()
        self._db.close()

    def sha256_of(self, path: str, size: int, mtime_ns: int) -> str | None:
        """Return the content of a file that looked so when it was last read, or None."""
        row = self._row("SELECT sha256 FROM files WHERE path = ? AND size = ? AND mtime_ns = ?", path, size, mtime_ns)
        return None if row is None else str(row[0])

    def content(self, sha256: str) -> Content | None:
        """Return what is known of a content, or None."""
        row = self._row("SELECT width, height, inside, packed FROM contents WHERE sha256 = ?", sha256)
        return None if row is None else Content((int(row[0]), int(row[1])), float(row[2]), bytes(row[3]))

    def vector(self, sha256: str, space: str) -> Float32 | None:
        """Return the vector (D,) of a content in a space, or None."""
        row = self._row("SELECT vector FROM vectors WHERE sha256 = ? AND space = ?", sha256, space)
        return None if row is None else np.frombuffer(row[0], np.float32)

    def pair(self, a: str, b: str, test: str) -> tuple[str | None] | None:
        """Return (what a test told of two contents,), None where it said nothing, or None where it was not made."""
        row = self._row("SELECT told FROM pairs WHERE a = ? AND b = ? AND test = ?", a, b, test)
        return None if row is None else (row[0],)

    def note(self, sha256: str, name: str) -> str | None:
        """Return the note of this name on a content, or None."""
        row = self._row("SELECT told FROM notes WHERE sha256 = ? AND name = ?", sha256, name)
        return None if row is None else str(row[0])

    def put_note(self, sha256: str, name: str, told: str) -> None:
        """Keep a note on a content."""
        self._put("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", [(sha256, name, told)])

    def put_files(self, files: Mapping[str, tuple[int, int, str]]) -> None:
        """Keep of each path (size, mtime_ns, sha256)."""
        self._put("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", ((path, *seen) for path, seen in files.items()))

    def put_contents(self, contents: Mapping[str, Content]) -> None:
        """Keep what was made of contents."""
        rows = ((sha256, *one.size, one.inside, one.packed) for sha256, one in contents.items())
        self._put("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?)", rows)

    def put_vectors(self, space: str, vectors: Mapping[str, Float32]) -> None:
        """Keep vectors of contents in a space."""
        rows = ((sha256, space, vector.astype(np.float32).tobytes()) for sha256, vector in vectors.items())
        self._put("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

    def put_pairs(self, pairs: Mapping[tuple[str, str, str], str | None]) -> None:
        """Keep what tests told, by (a, b, test)."""
        rows = ((*key, told) for key, told in pairs.items())
        self._put("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?, ?)", rows)

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=10, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("CREATE TABLE IF NOT EXISTS version (told TEXT NOT NULL)")
        if db.execute("SELECT told FROM version").fetchall() != [(self._version,)]:
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'version'"):
                db.execute(f"DROP TABLE {name}")
            db.executescript(_TABLES)
            db.execute("DELETE FROM version")
            db.execute("INSERT INTO version VALUES (?)", (self._version,))
        db.commit()
        return db

    def _row(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        try:
            with self._lock:
                row: tuple[Any, ...] | None = self._db.execute(sql, values).fetchone()
        except (sqlite3.Error, UnicodeEncodeError):  # a name that is no Unicode is not remembered
            return None
        return row

    def _put(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        # What cannot be kept (a full disk, a damaged file) is made again the next time.
        with suppress(sqlite3.Error, UnicodeEncodeError), self._lock:
            self._db.executemany(sql, rows)
            self._db.commit()
