"""Connections to the database of a gallery, and the one place where SQLite's errors are translated."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lookalike.errors import StoreError
from lookalike.stores import schema

DATABASE = "lookalike.db"
BUSY_WAIT_S = 10.0

_READ_ONLY_CODES = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN}
_BUSY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Connections:
    """A pool: each user gets a connection of its own, so that threads neither share nor wait."""

    def __init__(self, directory: Path, *, read_only: bool) -> None:
        self.directory = directory
        self.read_only = read_only
        self._free: list[sqlite3.Connection] = []
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection in autocommit mode; errors inside come out as StoreError."""
        with translated(self.directory):
            db = self._take()
            try:
                yield db
            finally:
                self._give_back(db)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of one statement; a lean way for what is asked once a file."""
        try:
            db = self._take()
            try:
                return db.execute(sql, parameters).fetchall()
            finally:
                self._give_back(db)
        except sqlite3.Error as error:
            raise StoreError(_explain(self.directory, error)) from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside one read transaction: everything read there is of one moment."""
        with self.use() as db:
            db.execute("BEGIN")
            yield db

    def close(self) -> None:
        """Close all connections; those in use are closed when they come back."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for db in free:
            db.close()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreError(f"the gallery {self.directory} was closed; open it again")
            if self._free:
                return self._free.pop()
        return connect(self.directory / DATABASE, read_only=self.read_only)

    def _give_back(self, db: sqlite3.Connection) -> None:
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
        except sqlite3.Error:
            db.close()
            return
        with self._lock:
            if not self._closed:
                self._free.append(db)
                return
        db.close()


def connect(database: Path, *, read_only: bool = False, create: bool = False) -> sqlite3.Connection:
    """Open one connection with the settings that durability rests on."""
    if read_only:
        return _connect_to_read(database)
    db = _open(database, "rwc" if create else "rw")
    try:
        if create:
            db.execute(f"PRAGMA page_size = {schema.PAGE_SIZE}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        db.close()
        raise
    return db


def _connect_to_read(database: Path) -> sqlite3.Connection:
    db = _open(database, "ro")
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        db.close()
        if _code(error) not in _READ_ONLY_CODES or _has_log(database) or os.access(database.parent, os.W_OK):
            raise
        # A reader of WAL must make files beside the database. Where nobody can, nobody changes it either.
        return _open(database, "ro&immutable=1")
    except sqlite3.Error:
        db.close()
        raise
    return db


def _open(database: Path, mode: str) -> sqlite3.Connection:
    location = f"file:{quote(os.fsencode(database.absolute()))}?mode={mode}"
    return sqlite3.connect(
        location, uri=True, timeout=BUSY_WAIT_S, isolation_level=None, check_same_thread=False, cached_statements=256
    )


def _has_log(database: Path) -> bool:
    log = database.with_name(database.name + "-wal")
    return log.exists() and log.stat().st_size > 0


@contextmanager
def translated(directory: Path) -> Iterator[None]:
    """Turn SQLite's errors, and the operating system's, into a StoreError that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(_explain(directory, error)) from error
    except OSError as error:
        raise StoreError(_explain_os(directory, error)) from error


def damaged(directory: Path, detail: str) -> StoreError:
    """Return the error for a gallery whose database does not hold together."""
    return StoreError(
        f"the gallery {directory} is damaged ({detail}); put back a copy of {DATABASE}, "
        "or move the directory away and index the pictures again"
    )


def _explain(directory: Path, error: sqlite3.Error) -> str:
    code = _code(error)
    if code == sqlite3.SQLITE_FULL:
        return _full(directory)
    if code in _DAMAGED_CODES or code is None:
        return str(damaged(directory, str(error)))
    if code in _BUSY_CODES:
        return f"the gallery {directory} is locked by another process ({error}); try again when that is done"
    if code in _READ_ONLY_CODES:
        return f"the gallery {directory} cannot be opened or written ({error}); check its permissions and its disk"
    if code == sqlite3.SQLITE_IOERR:
        name = getattr(error, "sqlite_errorname", "I/O error")
        return (
            f"the disk failed or is full under the gallery {directory} ({error}, {name}); "
            "everything acknowledged until now is kept: check the disk and run again"
        )
    return f"the gallery {directory} cannot be used: {error}"


def _explain_os(directory: Path, error: OSError) -> str:
    if error.errno in _FULL_ERRNOS:
        return _full(directory)
    return f"the gallery {directory} cannot be used: {error}"


def _full(directory: Path) -> str:
    return (
        f"no space left on the disk that holds the gallery {directory}; "
        "everything acknowledged until now is kept: free some space and run again"
    )


def _code(error: sqlite3.Error) -> int | None:
    """Return the primary result code; None where SQLite was never asked, as for text that does not decode."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
