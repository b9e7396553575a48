"""The directory of a gallery: made in full or not at all, never over other things, written by one process at a time."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lookalike.errors import StoreError
from lookalike.stores import schema
from lookalike.stores.connections import DATABASE, connect, damaged, translated
from lookalike.stores.durable import replace_durably

DERIVED = "derived"
WRITE_LOCK = "write.lock"
WRITER_WAIT_S = 10.0

_NEW = f"{DATABASE}.new"
_OURS = re.compile(rf"{re.escape(DERIVED)}|{re.escape(WRITE_LOCK)}|{re.escape(_NEW)}(-wal|-shm|-journal)?")


def refuse_to_overwrite(path: Path) -> None:
    """Raise StoreError unless ``path`` is missing or empty, but for our own leftovers."""
    with translated(path):
        if not (path.exists() or path.is_symlink()):
            return
        if path.is_dir():
            others = sorted(entry.name for entry in path.iterdir() if not _OURS.fullmatch(entry.name))
            if DATABASE in others:
                raise StoreError(f"{path} is a gallery already; open it, or choose another directory")
            if others:
                raise StoreError(
                    f"{path} holds other things ({others[0]!r}) and is not made into a gallery; choose a new directory"
                )
        else:
            raise StoreError(f"{path} is a file, not a gallery; choose a directory")


def refuse_other_things(path: Path) -> None:
    """Raise StoreError, saying what is there instead, unless ``path`` is a gallery."""
    with translated(path):
        if path.is_dir() and (path / DATABASE).is_file():
            return
        if not path.exists() or (path.is_dir() and all(_OURS.fullmatch(entry.name) for entry in path.iterdir())):
            raise StoreError(f"no gallery at {path}; make one with `lookalike index FOLDER --gallery {path}`")
        kind = "is a directory without a gallery in it" if path.is_dir() else "is a file, not a gallery"
        raise StoreError(f"{path} {kind}; make one elsewhere with `lookalike index FOLDER --gallery DIRECTORY`")


def make_database(path: Path) -> None:
    """Make an empty database in ``path``; the caller holds the lock."""
    # Under another name first, so that a gallery is there in full or not at all.
    for tail in ("", "-wal", "-shm", "-journal"):
        (path / (_NEW + tail)).unlink(missing_ok=True)
    db = connect(path / _NEW, create=True)
    try:
        schema.migrate(db)
    finally:
        db.close()
    replace_durably(path / _NEW, path / DATABASE)


def check_database(path: Path, db: sqlite3.Connection) -> None:
    """Raise StoreError if ``db`` is not ours, or newer than this program."""
    found = schema.version(db)
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if application != schema.APPLICATION_ID:
        raise damaged(path, f"{DATABASE} was not made by lookalike")
    if found > schema.SCHEMA:
        raise StoreError(
            f"the gallery {path} was made by a newer lookalike (schema {found}, this one knows {schema.SCHEMA}): "
            "upgrade with: pip install --upgrade lookalike"
        )
    db.execute("SELECT seq FROM clock").fetchone()[0]


def migrate(path: Path) -> None:
    """Bring the gallery to the schema of this program."""
    with translated(path), locked(path, WRITER_WAIT_S):
        db = connect(path / DATABASE)
        try:
            schema.migrate(db)
        finally:
            db.close()


def writer_lock(path: Path) -> FileLock:
    """Return the lock that the one writing process holds; the system releases it when that is killed."""
    return FileLock(path / WRITE_LOCK, thread_local=False)


def acquire(lock: FileLock, path: Path, wait_s: float) -> None:
    """Take the lock, waiting ``wait_s`` at most; raise StoreError after that."""
    with translated(path):
        try:
            lock.acquire(timeout=wait_s)
        # A Timeout is an OSError too, and would be taken for a broken disk.
        except Timeout as error:
            raise StoreError(
                f"another process is writing to the gallery {path} (waited {wait_s:g} s); try again when it is done"
            ) from error


@contextmanager
def locked(path: Path, wait_s: float) -> Iterator[None]:
    """Hold the writer lock meanwhile."""
    lock = writer_lock(path)
    acquire(lock, path, wait_s)
    try:
        yield
    finally:
        lock.release()


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
