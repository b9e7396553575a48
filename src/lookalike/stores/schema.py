"""The tables of a gallery, as numbered migrations; a migration that was released is never changed."""

from __future__ import annotations

import secrets
import sqlite3

APPLICATION_ID = 0x6C6B616C  # "lkal"

# A vector of 512 or 1280 dimensions fills 86 to 93 % of such a page; in 4 KiB pages half is waste.
PAGE_SIZE = 16384

_GALLERY = """
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL                  -- JSON
) WITHOUT ROWID;

CREATE TABLE clock (
    seq INTEGER NOT NULL,                -- the number of the last writing transaction
    gallery TEXT NOT NULL                -- a random name, so that no derived file serves another gallery
);

CREATE TABLE sessions (                  -- who wrote from which transaction on: a restored backup tells itself apart
    first_seq INTEGER PRIMARY KEY,
    token TEXT NOT NULL
);

CREATE TABLE spaces (
    key INTEGER PRIMARY KEY,
    encoder TEXT NOT NULL,
    version TEXT NOT NULL,
    preprocess TEXT NOT NULL,
    dim INTEGER NOT NULL,
    UNIQUE (encoder, version, preprocess, dim)
);

CREATE TABLE items (
    key INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used again after a removal
    id TEXT NOT NULL UNIQUE,
    root BLOB,                           -- bytes, since file names need not be UTF-8
    path BLOB,
    size INTEGER,
    mtime_ns INTEGER,
    content TEXT,                        -- sha256 of the file
    width INTEGER,
    height INTEGER,
    metadata TEXT NOT NULL,              -- JSON
    given TEXT NOT NULL,                 -- JSON
    seq INTEGER NOT NULL
);
CREATE UNIQUE INDEX items_by_path ON items (root, path) WHERE path IS NOT NULL;
CREATE INDEX items_by_content ON items (content) WHERE content IS NOT NULL;

CREATE TABLE vectors (
    key INTEGER PRIMARY KEY,
    item INTEGER NOT NULL,
    space INTEGER NOT NULL,
    vector BLOB NOT NULL,                -- dim x float32, little-endian, of length 1
    norm REAL NOT NULL,
    seq INTEGER NOT NULL
);
CREATE UNIQUE INDEX vectors_by_item ON vectors (space, item);
CREATE INDEX vectors_by_seq ON vectors (space, seq, item);

CREATE TABLE tombstones (                -- vectors that are gone; space is NULL where the whole item is
    key INTEGER PRIMARY KEY,
    item INTEGER NOT NULL,
    space INTEGER,
    id TEXT NOT NULL,
    seq INTEGER NOT NULL
);
CREATE INDEX tombstones_by_seq ON tombstones (seq);
"""

_SKIPS = """
CREATE TABLE skips (                     -- files that could not be read, and by which reader
    root BLOB NOT NULL,
    path BLOB NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    reader TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (root, path)
) WITHOUT ROWID;
"""

_MARKS = """
CREATE TABLE marks (                     -- what people said of two pictures
    a TEXT NOT NULL,                     -- sha256 of their files, the smaller first: a mark outlives items
    b TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('same', 'different')),
    said_at TEXT NOT NULL,               -- ISO 8601, UTC
    PRIMARY KEY (a, b),
    CHECK (a <= b)
) WITHOUT ROWID;

CREATE TABLE calibrations (
    space INTEGER NOT NULL,
    metric TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,                 -- JSON
    created TEXT NOT NULL,               -- ISO 8601, UTC
    PRIMARY KEY (space, metric, name)
) WITHOUT ROWID;
"""

# MIGRATIONS[n] leads from schema n to schema n + 1.
MIGRATIONS = (_GALLERY, _SKIPS, _MARKS)
SCHEMA = len(MIGRATIONS)


def version(db: sqlite3.Connection) -> int:
    """Return the number of the schema in ``db``; 0 where there is none."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection, upto: int = SCHEMA) -> None:
    """Bring ``db`` to schema ``upto``, one transaction a step, so that a step is there in full or not at all."""
    for step in range(version(db), upto):
        db.execute("BEGIN IMMEDIATE")
        try:
            _run(db, MIGRATIONS[step])
            if step == 0:
                db.execute("INSERT INTO clock VALUES (0, ?)", (secrets.token_hex(16),))
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {step + 1}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def _run(db: sqlite3.Connection, script: str) -> None:
    # executescript would commit first, and a half-made schema could stay behind.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            db.execute(statement)
            statement = ""
