"""Items, vectors and hits <-> rows of the tables; every function works inside the caller's transaction."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lookalike.errors import InputError
from lookalike.stores.matrix import Keys, off_unit
from lookalike.stores.where import Sql
from lookalike.types import NO_METADATA, Embeddings, FileStamp, Float32, Hit, Item, Space

COLUMNS = "key, id, root, path, size, mtime_ns, content, width, height, metadata, given"

_INSERT = (
    "INSERT INTO items (root, path, size, mtime_ns, content, width, height, metadata, given, seq, id) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE = (
    "UPDATE items SET root = ?, path = ?, size = ?, mtime_ns = ?, content = ?, width = ?, height = ?, "
    "metadata = ?, given = ?, seq = ? WHERE key = ?"
)


def check_upsert(items: Sequence[Item], embeddings: Sequence[Embeddings]) -> None:
    """Raise InputError unless ids, files and spaces are unique and every item has its vectors."""
    if len({item.id for item in items}) != len(items):
        raise InputError("one call stores an id once; the ids given are not unique")
    files = [file_key(item.file) for item in items if item.file]
    if len(set(files)) != len(files):
        raise InputError("a file belongs to one item; two of the items given share one")
    if len({part.space for part in embeddings}) != len(embeddings):
        raise InputError("one call stores one vector an item and space; the spaces given are not unique")
    for part in embeddings:
        if len(part) != len(items):
            raise InputError(f"{len(items)} items need {len(items)} vectors, got {len(part)} in {part.space}")
        refuse_off_unit(part, "an embedding")


def refuse_off_unit(embeddings: Embeddings, what: str) -> None:
    """Raise InputError where a vector is neither zero nor of length 1; scans rely on it."""
    wrong = off_unit(embeddings.vectors)[1]
    if len(wrong):
        length = float(np.linalg.norm(embeddings.vectors[wrong[0]]))
        raise InputError(f"{what} is of length 1 or 0, got {length:g} in row {wrong[0]}; use Embeddings.from_raw")


def known_items(
    db: sqlite3.Connection, ids: Sequence[str]
) -> dict[str, tuple[int, str | None, bytes | None, bytes | None]]:
    """Return id -> (key, content, root, path) of those that are there."""
    found = {}
    for id_ in ids:
        row = db.execute("SELECT key, content, root, path FROM items WHERE id = ?", (id_text(id_),)).fetchone()
        if row is not None:
            found[id_] = row
    return found


def free_paths(db: sqlite3.Connection, items: Sequence[Item], before: Mapping[str, tuple[Any, ...]]) -> None:
    """Take the files from those items that will have another one."""
    # Two items may swap their files in one call.
    moved = [
        (before[item.id][0],)
        for item in items
        if item.id in before and before[item.id][2:] != (file_key(item.file) if item.file else (None, None))
    ]
    db.executemany("UPDATE items SET root = NULL, path = NULL WHERE key = ?", moved)


def put_item(db: sqlite3.Connection, item: Item, before: tuple[Any, ...] | None, seq: int) -> int:
    """Insert an item, or update the one there was ``before``; return its key."""
    file = (None,) * 4 if item.file is None else (*file_key(item.file), item.file.size, item.file.mtime_ns)
    described = _json(item.metadata, item.id), _json(item.given, item.id)
    values = (*file, item.content, item.width, item.height, *described, seq)
    try:
        if before is not None:
            db.execute(_UPDATE, (*values, before[0]))
            key = int(before[0])
        else:
            key = db.execute(_INSERT, (*values, item.id)).lastrowid or 0
    except sqlite3.IntegrityError as error:
        owner = db.execute("SELECT id FROM items WHERE root = ? AND path = ?", file[:2]).fetchone()
        if owner is None:
            raise
        raise InputError(
            f"the file {item.path!r} belongs to item {owner[0]!r} and cannot be given to {item.id!r}; "
            "remove that one, or move both in one call"
        ) from error
    if item.file is not None:
        db.execute("DELETE FROM skips WHERE root = ? AND path = ?", file[:2])
    return key


def put_vectors(db: sqlite3.Connection, space: int, keys: Sequence[int], part: Embeddings, seq: int) -> None:
    """Insert or replace the vectors of these items in one space."""
    vectors = np.ascontiguousarray(part.vectors, dtype="<f4")
    db.executemany(
        "INSERT INTO vectors (item, space, vector, norm, seq) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (space, item) DO UPDATE SET vector = excluded.vector, norm = excluded.norm, seq = excluded.seq",
        [
            (key, space, vector.tobytes(), norm, seq)
            for key, vector, norm in zip(keys, vectors, part.norms.tolist(), strict=True)
        ],
    )


def drop_vectors(db: sqlite3.Connection, items: Sequence[tuple[int, str]], kept: Sequence[int], seq: int) -> None:
    """Remove the vectors of (key, id) items in all spaces but those ``kept``."""
    others = [row[0] for row in db.execute("SELECT key FROM spaces") if row[0] not in kept]
    for space in others:
        for key, id_ in items:
            if db.execute("DELETE FROM vectors WHERE space = ? AND item = ?", (space, key)).rowcount:
                db.execute("INSERT INTO tombstones (item, space, id, seq) VALUES (?, ?, ?, ?)", (key, space, id_, seq))


def find_space(db: sqlite3.Connection, space: Space) -> int | None:
    """Return the key of a space, or None."""
    row = db.execute(
        "SELECT key FROM spaces WHERE encoder = ? AND version = ? AND preprocess = ? AND dim = ?",
        (space.encoder, space.version, space.preprocess, space.dim),
    ).fetchone()
    return None if row is None else int(row[0])


def keys_where(db: sqlite3.Connection, condition: Sql) -> Keys:
    """Return the keys of the items for which a condition holds, ascending."""
    rows = db.execute(f"SELECT key FROM items WHERE {condition[0]} ORDER BY key", condition[1])
    return np.fromiter((row[0] for row in rows), np.int64)


def hits_of(db: sqlite3.Connection, keys: Keys, scores: Float32, k: int) -> tuple[Hit, ...]:
    """Return the first k of (K,) keys and scores, best first; equal scores are put in the order of their ids."""
    if not len(keys):
        return ()
    ids: dict[int, str] = dict(
        db.execute(
            "SELECT key, id FROM items WHERE key IN (SELECT value FROM json_each(?))", (json.dumps(keys.tolist()),)
        )
    )
    blocks = np.concatenate([[0], np.cumsum(np.diff(scores) != 0)]).tolist()
    ranked = sorted(zip(blocks, map(ids.__getitem__, keys.tolist()), keys.tolist(), scores.tolist(), strict=True))[:k]
    chosen = json.dumps([key for _, _, key, _ in ranked])
    rows = db.execute(
        f"SELECT {COLUMNS} FROM items WHERE key IN (SELECT value FROM json_each(?))", (chosen,)
    ).fetchall()
    items = {row[0]: item_of(row) for row in rows}
    return tuple(Hit(id_, items[key].path, score, items[key].metadata) for _, id_, key, score in ranked)


def item_of(row: tuple[Any, ...]) -> Item:
    """Return the item of a row of ``COLUMNS``."""
    _, id_, root, path, size, mtime_ns, content, width, height, metadata, given = row
    file = None if path is None else FileStamp(os.fsdecode(root), os.fsdecode(path), size, mtime_ns)
    return Item(id_, _parsed(metadata), _parsed(given), file, content, width, height)


def file_key(file: FileStamp) -> tuple[bytes, bytes]:
    """Return root and path as bytes: names need not be UTF-8."""
    return os.fsencode(file.root), os.fsencode(file.path)


def id_text(id_: str) -> str:
    """Return the id if it can be stored as text; raise InputError if not."""
    try:
        id_.encode()
    except UnicodeEncodeError:
        raise InputError(f"an id must be valid Unicode, got {id_!r}") from None
    return id_


def _json(values: Mapping[str, Any], id_: str) -> str:
    try:
        text = json.dumps(dict(values), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the metadata of item {id_!r} cannot be kept as JSON: {error}") from error
    # Undecodable bytes of a file name are lone surrogates, which no UTF-8 holds.
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _parsed(text: str) -> Mapping[str, Any]:
    return NO_METADATA if text == "{}" else json.loads(text)
