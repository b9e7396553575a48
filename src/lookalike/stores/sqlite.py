"""The embedded store: a gallery is one directory, and the SQLite database in it is the only truth."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lookalike.errors import InputError, SpaceMismatch, StoreError, UnknownId
from lookalike.protocols import Metric
from lookalike.stores import ann, marks, schema
from lookalike.stores.ann import Progress
from lookalike.stores.connections import DATABASE, Connections, translated
from lookalike.stores.directory import (
    DERIVED,
    WRITER_WAIT_S,
    acquire,
    check_database,
    locked,
    make_database,
    migrate,
    refuse_other_things,
    refuse_to_overwrite,
    size_of,
    writer_lock,
)
from lookalike.stores.matrix import SNAPSHOT_FROM, Keys, Matrix, decoded
from lookalike.stores.rows import (
    COLUMNS,
    check_upsert,
    drop_vectors,
    file_key,
    find_space,
    free_paths,
    hits_of,
    id_text,
    item_of,
    keys_where,
    known_items,
    put_item,
    put_vectors,
    refuse_off_unit,
)
from lookalike.stores.topk import Question
from lookalike.stores.where import Sql, compile_where
from lookalike.types import Embeddings, FileStamp, Hit, Hits, Item, Mark, Pair, Space, StoredCalibration

_PAGE = 1000
_QUERIES_AT_ONCE = 256
_FILTERS_KEPT = 8


class SqliteStore:
    """Items and vectors of one gallery, durable; may be used from several threads.

    Every writing method is one transaction, on disk when it returns. Readers see whole transactions and never wait.
    """

    def __init__(self, directory: Path, connections: Connections) -> None:
        self.directory = directory
        self._connections = connections
        self._session = ""
        self._matrices: dict[int, Matrix] = {}
        self._filtered: dict[tuple[int, str, tuple[Any, ...]], Keys] = {}
        self._matrices_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._writers = 0
        self._writers_lock = threading.Lock()
        self._file_lock = writer_lock(directory)

    # Opening and closing

    @staticmethod
    def exists(directory: str | os.PathLike[str]) -> bool:
        """Tell whether there is a gallery in ``directory``; whether it is sound shows when it is opened."""
        return (Path(directory) / DATABASE).is_file()

    @classmethod
    def create(cls, directory: str | os.PathLike[str]) -> Self:
        """Make a new gallery in ``directory``, which must be missing or empty."""
        path = Path(directory).absolute()
        refuse_to_overwrite(path)
        with translated(path):
            path.mkdir(parents=True, exist_ok=True)
            with locked(path, WRITER_WAIT_S):
                refuse_to_overwrite(path)
                make_database(path)
        return cls.open(path)

    @classmethod
    def open(cls, directory: str | os.PathLike[str], *, read_only: bool = False) -> Self:
        """Open the gallery in ``directory``; one of an older schema is migrated first.

        One that this user cannot write is opened for reading.
        """
        path = Path(directory).absolute()
        refuse_other_things(path)
        writable = all(os.access(p, os.W_OK) for p in (path, path / DATABASE))
        connections = Connections(path, read_only=read_only or not writable)
        try:
            with connections.use() as db:
                check_database(path, db)
                found = schema.version(db)
            if found < schema.SCHEMA:
                migrate(path)
            return cls(path, connections)
        except BaseException:
            connections.close()
            raise

    def close(self) -> None:
        """Close the gallery; what was acknowledged is on disk already."""
        self._connections.close()
        with self._matrices_lock:
            self._matrices.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Writing

    @contextmanager
    def writing(self, wait_s: float = WRITER_WAIT_S) -> Iterator[None]:
        """Be the gallery's only writer meanwhile, with all threads of this store; another process waits ``wait_s``.

        Every writing method does this for itself; hold it over a run that reads, computes and writes.
        """
        self._refuse_read_only()
        with self._writers_lock:
            if self._writers == 0:
                acquire(self._file_lock, self.directory, wait_s)
            self._writers += 1
        try:
            yield
        finally:
            with self._writers_lock:
                self._writers -= 1
                if self._writers == 0:
                    self._file_lock.release()

    def upsert(self, items: Sequence[Item], embeddings: Sequence[Embeddings] = ()) -> None:
        """Add or replace ``items`` in one transaction; row i of each of ``embeddings`` (one a space) is item i's.

        Without embeddings the vectors stay. With some, an item whose ``content`` changed loses its vectors in the
        other spaces, since they show another picture. A file (root, path) belongs to one item: naming another's is an
        InputError, unless that one moves away in the same call. Files that are stored are no longer skipped.
        """
        check_upsert(items, embeddings)
        if not items:
            return
        with self._transaction() as (db, seq):
            before = known_items(db, [item.id for item in items])
            free_paths(db, items, before)
            keys = [put_item(db, item, before.get(item.id), seq) for item in items]
            spaces = {self._space_key(db, part.space): part for part in embeddings}
            if spaces:
                changed = [
                    (key, item.id)
                    for key, item in zip(keys, items, strict=True)
                    if item.id in before and before[item.id][1] != item.content
                ]
                drop_vectors(db, changed, list(spaces), seq)
            for space, part in spaces.items():
                put_vectors(db, space, keys, part, seq)

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items with their vectors; return how many there were."""
        with self._transaction() as (db, seq):
            gone = [(known[0], id_) for id_, known in known_items(db, list(ids)).items()]
            spaces = [row[0] for row in db.execute("SELECT key FROM spaces")]
            for space in spaces:
                db.executemany("DELETE FROM vectors WHERE space = ? AND item = ?", [(space, key) for key, _ in gone])
            db.executemany("DELETE FROM items WHERE key = ?", [(key,) for key, _ in gone])
            db.executemany(
                "INSERT INTO tombstones (item, id, seq) VALUES (?, ?, ?)", [(key, id_, seq) for key, id_ in gone]
            )
        return len(gone)

    def add_space(self, space: Space) -> None:
        """Make room for vectors of ``space``; nothing happens where it is known."""
        with self._transaction() as (db, _):
            self._space_key(db, space)

    def set_setting(self, name: str, value: Any) -> None:
        """Keep a JSON value under ``name``."""
        text = json.dumps(value, allow_nan=False)
        with self._transaction() as (db, _):
            db.execute(
                "INSERT INTO settings VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, text),
            )

    def remember_skips(self, skips: Sequence[tuple[FileStamp, str]], reader: str) -> None:
        """Keep why files could not be read, until they change or another ``reader`` (a fingerprint) asks.

        A file whose stamp has no time is not kept: only reading it again can tell whether it changed.
        """
        rows = [(*file_key(f), f.size, f.mtime_ns, reader, why) for f, why in skips if f.mtime_ns is not None]
        if not rows:
            return
        with self._transaction() as (db, _):
            db.executemany("INSERT OR REPLACE INTO skips VALUES (?, ?, ?, ?, ?, ?)", rows)

    def forget_skips(self, root: str, paths: Iterable[str] | None = None) -> None:
        """Forget what was skipped under ``root``: these relative ``paths``, or all."""
        with self._transaction() as (db, _):
            if paths is None:
                db.execute("DELETE FROM skips WHERE root = ?", (os.fsencode(root),))
            else:
                db.executemany(
                    "DELETE FROM skips WHERE root = ? AND path = ?",
                    [(os.fsencode(root), os.fsencode(path)) for path in paths],
                )

    # Reading

    def get(self, ids: Sequence[str]) -> list[Item]:
        """Return the items with these ids, in this order; raise UnknownId for those that are not there."""
        with self._connections.reading() as db:
            found = [db.execute(f"SELECT {COLUMNS} FROM items WHERE id = ?", (id_text(i),)).fetchone() for i in ids]
        missing = [id_ for id_, row in zip(ids, found, strict=True) if row is None]
        if missing:
            raise UnknownId(missing)
        return [item_of(row) for row in found]

    def has(self, id_: str) -> bool:
        """Tell whether there is an item with this id."""
        return bool(self._connections.rows("SELECT 1 FROM items WHERE id = ?", (id_text(id_),)))

    def count(self, where: str | None = None) -> int:
        """Return how many items there are (for which ``where`` holds)."""
        condition, parameters = compile_where(where) if where is not None else ("1", [])
        return int(self._connections.rows(f"SELECT count(*) FROM items WHERE {condition}", parameters)[0][0])

    def items(self, where: str | None = None) -> Iterator[Item]:
        """Yield all items (for which ``where`` holds) in the order in which they came first.

        Read in pages: writers go on meanwhile, and what they add or remove behind the current page shows.
        """
        condition, parameters = compile_where(where) if where is not None else ("1", [])
        return self._paged(condition, parameters)

    def at_path(self, root: str, path: str) -> Item | None:
        """Return the item of this file (``path`` relative to ``root``), or None."""
        rows = self._connections.rows(
            f"SELECT {COLUMNS} FROM items WHERE root = ? AND path = ?", (os.fsencode(root), os.fsencode(path))
        )
        return item_of(rows[0]) if rows else None

    def in_root(self, root: str) -> Iterator[Item]:
        """Yield the items whose file lies under this root, in the order of their paths' bytes."""
        sql = f"SELECT {COLUMNS} FROM items WHERE root = ? AND path > ? ORDER BY path LIMIT {_PAGE}"
        after = b""
        while rows := self._connections.rows(sql, (os.fsencode(root), after)):
            after = rows[-1][3]
            yield from map(item_of, rows)

    def by_content(self, sha256: str) -> list[Item]:
        """Return the items whose file had this content, in the order in which they came first."""
        rows = self._connections.rows(f"SELECT {COLUMNS} FROM items WHERE content = ? ORDER BY key", (sha256,))
        return [item_of(row) for row in rows]

    def lacking(self, space: Space) -> Iterator[Item]:
        """Yield the items without a vector in ``space``."""
        with self._connections.use() as db:
            key = find_space(db, space)
        absent = "NOT EXISTS (SELECT 1 FROM vectors WHERE vectors.space = ? AND vectors.item = items.key)"
        return self._paged(absent, [key]) if key is not None else self._paged("1", [])

    def embeddings(self, ids: Sequence[str], space: Space) -> Embeddings:
        """Return these items' vectors in ``space``, in this order; raise UnknownId for those that have none there."""
        sql = (
            "SELECT vector, norm FROM vectors JOIN spaces ON spaces.key = vectors.space "
            "WHERE (encoder, version, preprocess, dim) = (?, ?, ?, ?) AND item = (SELECT key FROM items WHERE id = ?)"
        )
        named = (space.encoder, space.version, space.preprocess, space.dim)
        with self._connections.reading() as db:
            rows = [db.execute(sql, (*named, id_text(id_))).fetchone() for id_ in ids]
        if lacking := [id_ for id_, row in zip(ids, rows, strict=True) if row is None]:
            raise UnknownId(lacking)
        vectors = decoded(self.directory, [row[0] for row in rows], space.dim)
        return Embeddings(vectors, np.array([row[1] for row in rows], np.float32), space)

    def setting(self, name: str) -> Any:
        """Return the JSON value kept under ``name``, or None."""
        rows = self._connections.rows("SELECT value FROM settings WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

    def spaces(self) -> dict[Space, int]:
        """Return the spaces of this gallery, oldest first, with the number of vectors in each."""
        rows = self._connections.rows(
            "SELECT encoder, version, preprocess, dim, (SELECT count(*) FROM vectors WHERE space = spaces.key) "
            "FROM spaces ORDER BY key"
        )
        return {Space(*row[:4]): row[4] for row in rows}

    def known_skip(self, root: str, path: str, size: int, mtime_ns: int | None, reader: str) -> str | None:
        """Return why this unchanged file could not be read by this ``reader``, or None."""
        if mtime_ns is None:
            return None
        rows = self._connections.rows(
            "SELECT reason FROM skips WHERE root = ? AND path = ? AND size = ? AND mtime_ns = ? AND reader = ?",
            (os.fsencode(root), os.fsencode(path), size, mtime_ns, reader),
        )
        return str(rows[0][0]) if rows else None

    def info(self) -> dict[str, Any]:
        """Return ``schema``, ``seq`` (number of the last transaction), ``items``, ``bytes`` and ``derived_bytes``."""
        with self._connections.reading() as db:
            facts = {
                "schema": schema.version(db),
                "seq": int(db.execute("SELECT seq FROM clock").fetchone()[0]),
                "items": int(db.execute("SELECT count(*) FROM items").fetchone()[0]),
            }
        with translated(self.directory):
            facts["bytes"] = sum(size_of(self.directory / (DATABASE + tail)) for tail in ("", "-wal"))
            derived = self.directory / DERIVED
            facts["derived_bytes"] = sum(map(size_of, derived.iterdir())) if derived.is_dir() else 0
        return facts

    # Searching

    def search(
        self, queries: Embeddings, k: int, metric: Metric, where: str | None = None, *, exact: bool = False
    ) -> list[Hits]:
        """Return for each query its ``k`` nearest items in the queries' space, best first, ties by id.

        The ``query`` of each is its number, as text. With ``where`` the search is always exact.
        """
        if k < 1:
            raise InputError(f"k is at least 1, got {k}")
        refuse_off_unit(queries, "a query")
        condition = compile_where(where) if where is not None else None
        answers: list[Hits] = []
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            question = Question(queries.vectors[start : start + _QUERIES_AT_ONCE], k, metric)
            for hits, all_compared in self._search(question, queries.space, condition, exact):
                answers.append(Hits(hits, str(len(answers)), metric.name, queries.space, all_compared))
        return answers

    def _search(
        self, question: Question, space: Space, condition: Sql | None, exact: bool
    ) -> list[tuple[tuple[Hit, ...], bool]]:
        matrix = self._matrix(space)
        if matrix is None:
            return [((), True)] * len(question.queries)
        with self._connections.reading() as db:
            with matrix.lock:
                view = matrix.view(db)
            allowed = None if condition is None else self._allowed(db, condition, view.seq)
            probable = view.probably_nearest(question) if allowed is None and not exact else None
            found = view.nearest(question, allowed) if probable is None else probable
            return [(hits_of(db, keys, scores, question.k), probable is None) for keys, scores in found]

    def _allowed(self, db: sqlite3.Connection, condition: Sql, seq: int) -> Keys:
        """Return the keys of the items for which the condition holds; the last few answers are kept."""
        asked = (seq, condition[0], tuple(condition[1]))
        keys = self._filtered.get(asked)
        if keys is None:
            keys = keys_where(db, condition)
            with self._matrices_lock:
                if len(self._filtered) >= _FILTERS_KEPT:
                    self._filtered.clear()
                self._filtered[asked] = keys
        return keys

    def _matrix(self, space: Space) -> Matrix | None:
        with self._connections.use() as db:
            key = find_space(db, space)
            if key is None:
                if db.execute("SELECT 1 FROM spaces").fetchone():
                    raise _unknown_space(db, space)
                return None
        with self._matrices_lock:
            if key not in self._matrices:
                self._matrices[key] = Matrix(self._connections, self.directory / DERIVED, space, key)
            return self._matrices[key]

    def build_ann(self, space: Space, progress: Progress | None = None) -> None:
        """Build the approximate index of ``space``; ``progress`` is told (rows done, rows in all).

        Raises MissingDependency without the extra ``ann``. Above ``LOOKALIKE_ANN_ABOVE`` vectors (100,000) a search
        uses it, unless ``exact`` or filtered, until too much has changed.
        """
        matrix = self._matrix(space)
        if matrix is None:
            return
        with matrix.lock:
            base, stamp = matrix.settled()
        if not len(base.keys):
            return
        with translated(self.directory):
            index = ann.build(
                self.directory / DERIVED, matrix.prefix, stamp, base.vectors, base.keys, progress=progress
            )
        with matrix.lock:
            matrix.use(index)

    def settle(self, progress: Progress | None = None) -> None:
        """Bring the derived files up to date after much was written, so that the next search need not.

        Above ``LOOKALIKE_ANN_ABOVE`` vectors the approximate index is built, where the extra ``ann`` is installed and
        the index lacks or is too far behind. Where the disk is full or not ours, the truth is kept and nothing is said.
        """
        for space, vectors in self.spaces().items():
            matrix = self._matrix(space)
            # A search reads so few from the database itself.
            if matrix is None or vectors < min(SNAPSHOT_FROM, ann.ann_above()):
                continue
            with matrix.lock, self._connections.reading() as db:
                matrix.view(db)
                wanted = matrix.lacks_ann()
            if wanted and ann.installed():
                with contextlib.suppress(StoreError):
                    self.build_ann(space, progress)

    # What people say of pairs, and calibrations

    def put_marks(self, said: Sequence[Mark]) -> None:
        """Keep what was said of pairs of pictures; of the same two the last word wins."""
        if not said:
            return
        with self._transaction() as (db, _):
            marks.put_marks(db, said)

    def forget_mark(self, content_a: str, content_b: str) -> bool:
        """Forget what was said of the pictures with these contents, in either order; tell whether anything was."""
        with self._transaction() as (db, _):
            gone = db.execute("DELETE FROM marks WHERE a = ? AND b = ?", sorted((content_a, content_b)))
            return gone.rowcount > 0

    def mark_of(self, content_a: str, content_b: str) -> Mark | None:
        """Return what was said of the pictures with these contents, in either order, or None."""
        sql = f"SELECT {marks.COLUMNS} FROM marks WHERE a = ? AND b = ?"
        rows = self._connections.rows(sql, sorted((content_a, content_b)))
        return marks.mark_of(rows[0]) if rows else None

    def marks(self) -> Iterator[Mark]:
        """Yield all marks in the order of their contents, in pages, as :meth:`items` does."""
        sql = f"SELECT {marks.COLUMNS} FROM marks WHERE (a, b) > (?, ?) ORDER BY a, b LIMIT {_PAGE}"
        after = ("", "")
        while rows := self._connections.rows(sql, after):
            after = rows[-1][:2]
            yield from map(marks.mark_of, rows)

    def marked_pairs(self) -> list[Pair]:
        """Return the pairs of items (by id) whose contents are marked; of copies of one picture all combinations."""
        with self._connections.reading() as db:
            return marks.marked_pairs(db)

    def put_calibration(self, space: Space, metric: str, name: str, value: Any) -> None:
        """Keep a JSON value for this space, metric and name; what was kept there before is replaced.

        Raises SpaceMismatch where the gallery does not know the space: a calibration adds no space to it.
        """
        with self._transaction() as (db, _):
            key = find_space(db, space)
            if key is None:
                raise _unknown_space(db, space)
            marks.put_calibration(db, key, metric, name, value)

    def calibration(self, space: Space, metric: str, name: str) -> Any:
        """Return the JSON value kept for this space, metric and name, or None."""
        with self._connections.reading() as db:
            return marks.calibration(db, find_space(db, space), metric, name)

    def calibrations(self) -> list[StoredCalibration]:
        """Return all calibrations, by space (oldest first), metric and name."""
        with self._connections.reading() as db:
            return marks.calibrations(db)

    # Below: how the above is done

    @contextmanager
    def _transaction(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        with self.writing(), self._write_lock, self._connections.use() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                seq = int(db.execute("UPDATE clock SET seq = seq + 1 RETURNING seq").fetchall()[0][0])
                if not self._session:
                    token = secrets.token_hex(16)
                    db.execute("INSERT INTO sessions VALUES (?, ?)", (seq, token))
                yield db, seq
                db.execute("COMMIT")
                self._session = self._session or token
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def _refuse_read_only(self) -> None:
        if self._connections.read_only:
            raise StoreError(
                f"the gallery {self.directory} is open for reading only; check its permissions, or open it for writing"
            )

    def _space_key(self, db: sqlite3.Connection, space: Space) -> int:
        key = find_space(db, space)
        if key is None:
            row = (space.encoder, space.version, space.preprocess, space.dim)
            db.execute("INSERT INTO spaces (encoder, version, preprocess, dim) VALUES (?, ?, ?, ?)", row)
            key = find_space(db, space)
            assert key is not None
        return key

    def _paged(self, condition: str, parameters: list[Any]) -> Iterator[Item]:
        sql = f"SELECT {COLUMNS} FROM items WHERE key > ? AND {condition} ORDER BY key LIMIT {_PAGE}"
        after = -1
        while rows := self._connections.rows(sql, (after, *parameters)):
            after = rows[-1][0]
            yield from map(item_of, rows)


def _unknown_space(db: sqlite3.Connection, space: Space) -> SpaceMismatch:
    known = [str(Space(*row)) for row in db.execute("SELECT encoder, version, preprocess, dim FROM spaces")]
    return SpaceMismatch(" or ".join(known) or "no space yet", space, "index the gallery with that encoder first")
