"""The embedded store: a gallery is one directory, and the SQLite database in it is the only truth."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout

from lookalike.errors import InputError, SpaceMismatch, StoreError, UnknownId
from lookalike.protocols import Metric
from lookalike.stores import ann, schema
from lookalike.stores.ann import Progress
from lookalike.stores.connections import DATABASE, Connections, connect, damaged, translated
from lookalike.stores.durable import replace_durably
from lookalike.stores.matrix import Keys, Matrix, decoded, off_unit
from lookalike.stores.topk import Question
from lookalike.stores.where import Sql, compile_where
from lookalike.types import NO_METADATA, Embeddings, FileStamp, Float32, Hit, Hits, Item, Space

DERIVED = "derived"
WRITE_LOCK = "write.lock"
WRITER_WAIT_S = 10.0

_NEW = f"{DATABASE}.new"
_OURS = re.compile(rf"{re.escape(DERIVED)}|{re.escape(WRITE_LOCK)}|{re.escape(_NEW)}(-wal|-shm|-journal)?")
_PAGE = 1000
_QUERIES_AT_ONCE = 256
_ITEM = "key, id, root, path, size, mtime_ns, content, width, height, metadata, given"


class SqliteStore:
    """Items and vectors of one gallery, durable; may be used from several threads.

    Every writing method is one transaction, on disk when it returns. Readers see whole transactions and never wait.
    """

    def __init__(self, directory: Path, connections: Connections) -> None:
        self.directory = directory
        self._connections = connections
        self._gallery = ""
        self._session = ""
        self._matrices: dict[int, Matrix] = {}
        self._matrices_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._writers = 0
        self._writers_lock = threading.Lock()
        self._file_lock = _writer_lock(directory)

    # Opening and closing

    @staticmethod
    def exists(directory: str | os.PathLike[str]) -> bool:
        """Tell whether there is a gallery in ``directory``; whether it is sound shows when it is opened."""
        return (Path(directory) / DATABASE).is_file()

    @classmethod
    def create(cls, directory: str | os.PathLike[str]) -> Self:
        """Make a new gallery in ``directory``, which must be missing or empty."""
        path = Path(directory).absolute()
        _refuse_to_overwrite(path)
        with translated(path):
            path.mkdir(parents=True, exist_ok=True)
            with _locked(path, WRITER_WAIT_S):
                _refuse_to_overwrite(path)
                _make_database(path)
        return cls.open(path)

    @classmethod
    def open(cls, directory: str | os.PathLike[str], *, read_only: bool = False) -> Self:
        """Open the gallery in ``directory``; one of an older schema is migrated first."""
        path = Path(directory).absolute()
        _refuse_other_things(path)
        connections = Connections(path, read_only=read_only)
        try:
            with connections.use() as db:
                _check_database(path, db)
                found = schema.version(db)
            if found < schema.SCHEMA:
                _migrate(path)
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
                _acquire(self._file_lock, self.directory, wait_s)
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
        _check_upsert(items, embeddings)
        if not items:
            return
        with self._transaction() as (db, seq):
            before = _known(db, [item.id for item in items])
            _free_paths(db, items, before)
            keys = [_put_item(db, item, before.get(item.id), seq) for item in items]
            spaces = {self._space_key(db, part.space): part for part in embeddings}
            if spaces:
                changed = [
                    (key, item.id)
                    for key, item in zip(keys, items, strict=True)
                    if item.id in before and before[item.id][1] != item.content
                ]
                _drop_vectors(db, changed, list(spaces), seq)
            for space, part in spaces.items():
                _put_vectors(db, space, keys, part, seq)

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items with their vectors; return how many there were."""
        with self._transaction() as (db, seq):
            gone = [(known[0], id_) for id_, known in _known(db, list(ids)).items()]
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
        rows = [(*_file_key(f), f.size, f.mtime_ns, reader, why) for f, why in skips if f.mtime_ns is not None]
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
            found = [db.execute(f"SELECT {_ITEM} FROM items WHERE id = ?", (_text(i),)).fetchone() for i in ids]
        missing = [id_ for id_, row in zip(ids, found, strict=True) if row is None]
        if missing:
            raise UnknownId(missing)
        return [_item(row) for row in found]

    def has(self, id_: str) -> bool:
        """Tell whether there is an item with this id."""
        return bool(self._connections.rows("SELECT 1 FROM items WHERE id = ?", (_text(id_),)))

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
            f"SELECT {_ITEM} FROM items WHERE root = ? AND path = ?", (os.fsencode(root), os.fsencode(path))
        )
        return _item(rows[0]) if rows else None

    def in_root(self, root: str) -> Iterator[Item]:
        """Yield the items whose file lies under this root, in the order of their paths' bytes."""
        sql = f"SELECT {_ITEM} FROM items WHERE root = ? AND path > ? ORDER BY path LIMIT {_PAGE}"
        after = b""
        while rows := self._connections.rows(sql, (os.fsencode(root), after)):
            after = rows[-1][3]
            yield from map(_item, rows)

    def by_content(self, sha256: str) -> list[Item]:
        """Return the items whose file had this content, in the order in which they came first."""
        rows = self._connections.rows(f"SELECT {_ITEM} FROM items WHERE content = ? ORDER BY key", (sha256,))
        return [_item(row) for row in rows]

    def lacking(self, space: Space) -> Iterator[Item]:
        """Yield the items without a vector in ``space``."""
        with self._connections.use() as db:
            key = _find_space(db, space)
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
            rows = [db.execute(sql, (*named, _text(id_))).fetchone() for id_ in ids]
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
            facts["bytes"] = sum(_size(self.directory / (DATABASE + tail)) for tail in ("", "-wal"))
            derived = self.directory / DERIVED
            facts["derived_bytes"] = sum(map(_size, derived.iterdir())) if derived.is_dir() else 0
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
        _refuse_off_unit(queries, "a query")
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
            allowed = None if condition is None else _keys_where(db, condition)
            probable = view.probably_nearest(question) if allowed is None and not exact else None
            found = view.nearest(question, allowed) if probable is None else probable
            return [(_hits(db, keys, scores, question.k), probable is None) for keys, scores in found]

    def _matrix(self, space: Space) -> Matrix | None:
        with self._connections.use() as db:
            key = _find_space(db, space)
            if key is None:
                others = [
                    str(Space(*row)) for row in db.execute("SELECT encoder, version, preprocess, dim FROM spaces")
                ]
                if others:
                    raise SpaceMismatch(" or ".join(others), space, "index the gallery with that encoder first")
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
        for space in self.spaces():
            matrix = self._matrix(space)
            if matrix is None:
                continue
            with matrix.lock, self._connections.reading() as db:
                matrix.view(db)
                wanted = matrix.lacks_ann()
            if wanted and ann.installed():
                with contextlib.suppress(StoreError):
                    self.build_ann(space, progress)

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
            raise StoreError(f"the gallery {self.directory} was opened for reading only; open it for writing")

    def _space_key(self, db: sqlite3.Connection, space: Space) -> int:
        key = _find_space(db, space)
        if key is None:
            row = (space.encoder, space.version, space.preprocess, space.dim)
            db.execute("INSERT INTO spaces (encoder, version, preprocess, dim) VALUES (?, ?, ?, ?)", row)
            key = _find_space(db, space)
            assert key is not None
        return key

    def _paged(self, condition: str, parameters: list[Any]) -> Iterator[Item]:
        sql = f"SELECT {_ITEM} FROM items WHERE key > ? AND {condition} ORDER BY key LIMIT {_PAGE}"
        after = -1
        while rows := self._connections.rows(sql, (after, *parameters)):
            after = rows[-1][0]
            yield from map(_item, rows)


# The directory


def _refuse_to_overwrite(path: Path) -> None:
    with translated(path):
        if path.is_dir():
            others = sorted(entry.name for entry in path.iterdir() if not _OURS.fullmatch(entry.name))
            if DATABASE in others:
                raise StoreError(f"{path} is a gallery already; open it, or choose another directory")
            if others:
                raise StoreError(
                    f"{path} holds other things ({others[0]!r}) and is not made into a gallery; choose a new directory"
                )
        elif path.exists() or path.is_symlink():
            raise StoreError(f"{path} is a file, not a gallery; choose a directory")


def _refuse_other_things(path: Path) -> None:
    with translated(path):
        if path.is_dir() and (path / DATABASE).is_file():
            return
        if not path.exists() or (path.is_dir() and all(_OURS.fullmatch(entry.name) for entry in path.iterdir())):
            raise StoreError(f"no gallery at {path}; make one with `lookalike index FOLDER --gallery {path}`")
        kind = "is a directory without a gallery in it" if path.is_dir() else "is a file, not a gallery"
        raise StoreError(f"{path} {kind}; make one elsewhere with `lookalike index FOLDER --gallery DIRECTORY`")


def _make_database(path: Path) -> None:
    # Under another name first, so that a gallery is there in full or not at all.
    for tail in ("", "-wal", "-shm", "-journal"):
        (path / (_NEW + tail)).unlink(missing_ok=True)
    db = connect(path / _NEW, create=True)
    try:
        schema.migrate(db)
    finally:
        db.close()
    replace_durably(path / _NEW, path / DATABASE)


def _check_database(path: Path, db: sqlite3.Connection) -> None:
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


def _migrate(path: Path) -> None:
    with translated(path), _locked(path, WRITER_WAIT_S):
        db = connect(path / DATABASE)
        try:
            schema.migrate(db)
        finally:
            db.close()


def _writer_lock(path: Path) -> FileLock:
    return FileLock(path / WRITE_LOCK, thread_local=False)


def _acquire(lock: FileLock, path: Path, wait_s: float) -> None:
    try:
        with translated(path):
            lock.acquire(timeout=wait_s)
    except Timeout as error:
        raise StoreError(
            f"another process is writing to the gallery {path} (waited {wait_s:g} s); try again when it is done"
        ) from error


@contextmanager
def _locked(path: Path, wait_s: float) -> Iterator[None]:
    lock = _writer_lock(path)
    _acquire(lock, path, wait_s)
    try:
        yield
    finally:
        lock.release()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


# Rows


def _check_upsert(items: Sequence[Item], embeddings: Sequence[Embeddings]) -> None:
    if len({item.id for item in items}) != len(items):
        raise InputError("one call stores an id once; the ids given are not unique")
    files = [_file_key(item.file) for item in items if item.file]
    if len(set(files)) != len(files):
        raise InputError("a file belongs to one item; two of the items given share one")
    if len({part.space for part in embeddings}) != len(embeddings):
        raise InputError("one call stores one vector an item and space; the spaces given are not unique")
    for part in embeddings:
        if len(part) != len(items):
            raise InputError(f"{len(items)} items need {len(items)} vectors, got {len(part)} in {part.space}")
        _refuse_off_unit(part, "an embedding")


def _refuse_off_unit(embeddings: Embeddings, what: str) -> None:
    wrong = off_unit(embeddings.vectors)[1]
    if len(wrong):
        length = float(np.linalg.norm(embeddings.vectors[wrong[0]]))
        raise InputError(f"{what} is of length 1 or 0, got {length:g} in row {wrong[0]}; use Embeddings.from_raw")


def _known(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, tuple[int, str | None, bytes | None, bytes | None]]:
    """Return id -> (key, content, root, path) of those that are there."""
    found = {}
    for id_ in ids:
        row = db.execute("SELECT key, content, root, path FROM items WHERE id = ?", (_text(id_),)).fetchone()
        if row is not None:
            found[id_] = row
    return found


def _free_paths(db: sqlite3.Connection, items: Sequence[Item], before: Mapping[str, tuple[Any, ...]]) -> None:
    # Two items may swap their files in one call.
    moved = [
        (before[item.id][0],)
        for item in items
        if item.id in before and before[item.id][2:] != (_file_key(item.file) if item.file else (None, None))
    ]
    db.executemany("UPDATE items SET root = NULL, path = NULL WHERE key = ?", moved)


def _put_item(db: sqlite3.Connection, item: Item, before: tuple[Any, ...] | None, seq: int) -> int:
    file = (None,) * 4 if item.file is None else (*_file_key(item.file), item.file.size, item.file.mtime_ns)
    values = (
        *file,
        item.content,
        item.width,
        item.height,
        _json(item.metadata, item.id),
        _json(item.given, item.id),
        seq,
    )
    try:
        if before is not None:
            db.execute(
                "UPDATE items SET root = ?, path = ?, size = ?, mtime_ns = ?, content = ?, width = ?, height = ?, "
                "metadata = ?, given = ?, seq = ? WHERE key = ?",
                (*values, before[0]),
            )
            key = int(before[0])
        else:
            key = (
                db.execute(
                    "INSERT INTO items (root, path, size, mtime_ns, content, width, height, metadata, given, seq, id) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*values, item.id),
                ).lastrowid
                or 0
            )
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


def _put_vectors(db: sqlite3.Connection, space: int, keys: Sequence[int], part: Embeddings, seq: int) -> None:
    vectors = np.ascontiguousarray(part.vectors, dtype="<f4")
    db.executemany(
        "INSERT INTO vectors (item, space, vector, norm, seq) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (space, item) DO UPDATE SET vector = excluded.vector, norm = excluded.norm, seq = excluded.seq",
        [
            (key, space, vector.tobytes(), norm, seq)
            for key, vector, norm in zip(keys, vectors, part.norms.tolist(), strict=True)
        ],
    )


def _drop_vectors(db: sqlite3.Connection, items: Sequence[tuple[int, str]], kept: Sequence[int], seq: int) -> None:
    others = [row[0] for row in db.execute("SELECT key FROM spaces") if row[0] not in kept]
    for space in others:
        for key, id_ in items:
            if db.execute("DELETE FROM vectors WHERE space = ? AND item = ?", (space, key)).rowcount:
                db.execute("INSERT INTO tombstones (item, space, id, seq) VALUES (?, ?, ?, ?)", (key, space, id_, seq))


def _find_space(db: sqlite3.Connection, space: Space) -> int | None:
    row = db.execute(
        "SELECT key FROM spaces WHERE encoder = ? AND version = ? AND preprocess = ? AND dim = ?",
        (space.encoder, space.version, space.preprocess, space.dim),
    ).fetchone()
    return None if row is None else int(row[0])


def _keys_where(db: sqlite3.Connection, condition: Sql) -> Keys:
    rows = db.execute(f"SELECT key FROM items WHERE {condition[0]} ORDER BY key", condition[1])
    return np.fromiter((row[0] for row in rows), np.int64)


def _hits(db: sqlite3.Connection, keys: Keys, scores: Float32, k: int) -> tuple[Hit, ...]:
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
    rows = db.execute(f"SELECT {_ITEM} FROM items WHERE key IN (SELECT value FROM json_each(?))", (chosen,)).fetchall()
    items = {row[0]: _item(row) for row in rows}
    return tuple(Hit(id_, items[key].path, score, items[key].metadata) for _, id_, key, score in ranked)


def _item(row: tuple[Any, ...]) -> Item:
    _, id_, root, path, size, mtime_ns, content, width, height, metadata, given = row
    file = None if path is None else FileStamp(os.fsdecode(root), os.fsdecode(path), size, mtime_ns)
    return Item(id_, _parsed(metadata), _parsed(given), file, content, width, height)


def _file_key(file: FileStamp) -> tuple[bytes, bytes]:
    return os.fsencode(file.root), os.fsencode(file.path)


def _text(id_: str) -> str:
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
