"""The vectors of one space as a matrix to scan: rows written lately stand in a tail, removed ones are masked."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lookalike.protocols import Metric
from lookalike.stores import ann, snapshot
from lookalike.stores.ann import AnnIndex
from lookalike.stores.connections import Connections, damaged
from lookalike.stores.snapshot import Snapshot, Stamp
from lookalike.stores.topk import Block, Question, Rows, block_rows, candidates, merged, rescored
from lookalike.types import Float32, Space

Keys: TypeAlias = NDArray[np.int64]
_Scalar = TypeVar("_Scalar", bound=np.generic)

# Fewer rows are read from the database sooner than a file is looked for.
SNAPSHOT_FROM = 4000
_LOOKED_AT = 16
_TAIL_AT_LEAST = 4096
_TAIL_SHARE = 8
_PAGE_ROWS = 512
_RESCORE_ROWS = 4096
_GATHER_SHARE = 4
_UNIT_TOLERANCE = 1e-3


def decoded(directory: Path, blobs: Sequence[bytes], dim: int) -> Float32:
    """Return stored vectors as (N, dim) float32; raise StoreError where one cannot have been stored so."""
    if not blobs:
        return np.empty((0, dim), np.float32)
    whole = b"".join(blobs)
    if len(whole) != len(blobs) * dim * 4:
        raise damaged(directory, "a vector of the wrong length")
    vectors = np.frombuffer(whole, "<f4").reshape(len(blobs), dim).astype(np.float32, copy=False)
    if len(off_unit(vectors)[1]):
        raise damaged(directory, "a vector that is not of length 1")
    return vectors


def off_unit(vectors: Float32) -> tuple[Rows, Rows]:
    """Return the rows of (N, D) that are zero, and those that are neither zero nor of length 1."""
    squares = np.einsum("nd,nd->n", vectors, vectors)
    zero = squares == 0
    return np.flatnonzero(zero), np.flatnonzero(~(np.abs(squares - 1) < 2 * _UNIT_TOLERANCE) & ~zero)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """(N, D) vectors and their items' keys; ``out`` marks rows that are gone, ``zeros`` lists those of length 0."""

    vectors: Float32
    keys: Keys
    zeros: Rows
    out: NDArray[np.bool_]
    ascending: bool = True

    def of_keys(self, keys: Keys) -> Rows:
        """Return the living rows of these item keys, ascending."""
        if not self.ascending or not len(self.keys):
            return np.flatnonzero(np.isin(self.keys, keys, kind="sort") & ~self.out)
        keys = np.unique(keys)
        rows: Rows = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        rows = rows[self.keys[rows] == keys]
        return rows[~self.out[rows]]

    def blocks(self, queries: int, allowed: Keys | None) -> Iterator[Block]:
        """Yield what is to be scanned: without the zeros, which no fast scan orders rightly."""
        rows = None if allowed is None else np.setdiff1d(self.of_keys(allowed), self.zeros, assume_unique=True)
        if rows is not None and len(rows) * _GATHER_SHARE < len(self.keys):
            yield from self._gathered(queries, rows)
        else:
            yield from self._masked(queries, rows)

    def living_zeros(self, allowed: Keys | None) -> Rows:
        """Return the rows of length 0 that count."""
        rows = self.zeros[~self.out[self.zeros]]
        return rows if allowed is None else rows[np.isin(self.keys[rows], allowed)]

    def rescored(self, question: Question, i: int, rows: Rows) -> Iterator[tuple[Keys, Float32]]:
        """Yield keys and scores of these rows for query i, in pieces."""
        for start in range(0, len(rows), _RESCORE_ROWS):
            some = rows[start : start + _RESCORE_ROWS]
            yield self.keys[some], rescored(question.queries[i], self.vectors[some], question.metric)

    def _gathered(self, queries: int, rows: Rows) -> Iterator[Block]:
        step = min(block_rows(queries), 1 << 14)
        for start in range(0, len(rows), step):
            chosen = rows[start : start + step]
            yield Block(self.vectors[chosen], rows=chosen)

    def _masked(self, queries: int, rows: Rows | None) -> Iterator[Block]:
        out = self.out if rows is None else _all_but(len(self.keys), rows)
        if rows is None and len(self.zeros):
            out = out.copy()
            out[self.zeros] = True
        step = block_rows(queries)
        for start in range(0, len(self.keys), step):
            hidden = np.flatnonzero(out[start : start + step])
            vectors = self.vectors[start : start + step]
            if len(hidden) < len(vectors):
                yield Block(vectors, start, out=hidden if len(hidden) else None)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The matrix at one moment; later writes do not show in it."""

    parts: tuple[Part, ...]
    seq: int
    ann: AnnIndex | None = None
    fresh: Keys = field(default_factory=lambda: np.empty(0, np.int64))

    def nearest(self, question: Question, allowed: Keys | None = None) -> list[tuple[Keys, Float32]]:
        """Return for each query the item keys and scores of its k nearest, best first, and of ties with the last."""
        lots = [candidates(question, part.blocks(len(question.queries), allowed)) for part in self.parts]
        zeros = [part.living_zeros(allowed) for part in self.parts]
        return [self.ranked(question, i, [lot[i] for lot in lots], zeros) for i in range(len(question.queries))]

    def probably_nearest(self, question: Question) -> list[tuple[Keys, Float32]] | None:
        """Return the same by the approximate index and a scan of what is newer; None where that cannot answer."""
        if self.ann is None or not question.follows_cosine or not self.ann.serves(question.k):
            return None
        base, tail = self.parts[0], self.parts[1:]
        proposed = self.ann.candidates(question.queries, question.k)
        newer = [candidates(question, part.blocks(len(question.queries), None)) for part in tail]
        zeros = [part.living_zeros(None) for part in self.parts]
        answers = []
        for i, keys in enumerate(proposed):
            rows = base.of_keys(np.union1d(keys, self.fresh))
            near = base.vectors[rows] @ question.queries[i]
            keys_found, scores = self.ranked(question, i, [(rows, near), *(lot[i] for lot in newer)], zeros)
            if len(keys_found) < question.k:
                return None
            answers.append((keys_found, scores))
        return answers

    def ranked(
        self, question: Question, i: int, lots: Sequence[tuple[Rows, Float32]], zeros: Sequence[Rows]
    ) -> tuple[Keys, Float32]:
        """Rescore what was found for query i in each part, and the zeros; return keys and scores, best first."""
        starts = np.cumsum([0, *(len(part.keys) for part in self.parts)])
        shifted = [(rows + start, near) for (rows, near), start in zip(lots, starts, strict=False)]
        rows, _ = merged(shifted, question.k, question.how)
        found: list[tuple[Keys, Float32]] = []
        for part, start, blank in zip(self.parts, starts, zeros, strict=False):
            own = rows[(rows >= start) & (rows < start + len(part.keys))] - start
            found += part.rescored(question, i, np.concatenate([own, blank]))
        return _best_first(found, question.k, question.metric)


class Matrix:
    """Keeps the view of one space up to date with the database. Guard it with ``lock``."""

    def __init__(self, connections: Connections, derived: Path, space: Space, key: int) -> None:
        self.lock = threading.Lock()
        self._connections = connections
        self._derived = derived
        self._space = space
        self._key = key
        self.prefix = str(key)
        self._base: Part | None = None
        self._tail = _Tail(space.dim)
        self._seq = -1
        self._changes = 0
        self._ann: AnnIndex | None = None
        self._fresh = np.empty(0, np.int64)

    def view(self, db: sqlite3.Connection) -> View:
        """Return the matrix as ``db`` sees it, which must be in a transaction that has not read yet."""
        base = self._prepared()
        seq = int(db.execute("SELECT seq FROM clock").fetchone()[0])
        if seq != self._seq:
            base = self._base = self._caught_up(db, base)
            self._seq = seq
        parts = (base, self._tail.part()) if self._tail.size else (base,)
        return View(parts, seq, self._ann, self._fresh)

    def settled(self) -> tuple[Part, Stamp]:
        """Return the matrix with nothing beside it, and its stamp, made anew if need be."""
        with self._connections.reading() as db:
            view = self.view(db)
            stamp = Stamp.now(db, self._space)
        if len(view.parts) > 1 or view.parts[0].out.any():
            (self._base, self._seq), self._tail = self._built(), _Tail(self._space.dim)
            self._changes = 0
            return self.settled()
        return view.parts[0], stamp

    def use(self, index: AnnIndex) -> None:
        """Search by this index from now on."""
        self._ann, self._fresh = index, self._newer_than(index)

    def lacks_ann(self) -> bool:
        """Tell whether there are enough vectors for an approximate index, and none that fits."""
        base = self._prepared()
        return len(base.keys) > max(0, ann.ann_above()) and self._ann is None

    def _prepared(self) -> Part:
        if self._base is None or self._changes > _bearable(len(self._base.keys)):
            self._base, self._seq = self._from_snapshot() or self._built()
            self._changes = 0
            self._tail = _Tail(self._space.dim)
            self._ann = self._from_ann(len(self._base.keys))
            self._fresh = np.empty(0, np.int64) if self._ann is None else self._newer_than(self._ann)
        return self._base

    def _from_ann(self, rows: int) -> AnnIndex | None:
        if rows <= ann.ann_above():
            return None
        with self._connections.reading() as db:
            for found in ann.read(self._derived, self.prefix):
                if found.stamp.holds(db, self._space) and self._changed_since(db, found.stamp.seq) <= _bearable(rows):
                    return found
        return None

    def _newer_than(self, index: AnnIndex) -> Keys:
        rows = self._connections.rows(
            "SELECT item FROM vectors WHERE space = ? AND seq > ?", (self._key, index.stamp.seq)
        )
        return np.array([row[0] for row in rows], np.int64)

    def _changed_since(self, db: sqlite3.Connection, seq: int) -> int:
        return int(
            db.execute(
                "SELECT (SELECT count(*) FROM vectors WHERE space = ? AND seq > ?) "
                "+ (SELECT count(*) FROM tombstones WHERE seq > ?)",
                (self._key, seq, seq),
            ).fetchone()[0]
        )

    def _from_snapshot(self) -> tuple[Part, int] | None:
        with self._connections.reading() as db:
            for found in snapshot.read(self._derived, self.prefix, self._space.dim):
                if self._fits(db, found):
                    return _part(found), found.stamp.seq
        return None

    def _fits(self, db: sqlite3.Connection, found: Snapshot) -> bool:
        """Tell whether a snapshot is of this gallery, not far behind, and the same as the database where looked at."""
        if not found.stamp.holds(db, self._space):
            return False
        changes = self._changed_since(db, found.stamp.seq)
        return changes <= _bearable(len(found.keys)) and all(
            self._same(db, found, row) for row in np.linspace(0, len(found.keys) - 1, _LOOKED_AT, dtype=int).tolist()
        )

    def _same(self, db: sqlite3.Connection, found: Snapshot, row: int) -> bool:
        stored = db.execute(
            "SELECT vector FROM vectors WHERE space = ? AND item = ? AND seq <= ?",
            (self._key, int(found.keys[row]), found.stamp.seq),
        ).fetchone()
        return stored is None or stored[0] == found.vectors[row].astype("<f4").tobytes()

    def _built(self) -> tuple[Part, int]:
        with self._connections.reading() as db:
            stamp = Stamp.now(db, self._space)
            count = int(db.execute("SELECT count(*) FROM vectors WHERE space = ?", (self._key,)).fetchone()[0])
        if count >= SNAPSHOT_FROM:
            # Where the disk is full or not ours, the matrix stays in memory.
            with contextlib.suppress(OSError):
                pages = self._pages(stamp.seq)
                if made := snapshot.write(self._derived, self.prefix, stamp, self._space.dim, pages):
                    return _part(made), stamp.seq
        return self._in_memory(stamp.seq, count), stamp.seq

    def _in_memory(self, seq: int, count: int) -> Part:
        vectors, keys = np.empty((count, self._space.dim), np.float32), np.empty(count, np.int64)
        zeros, n = [np.empty(0, np.int64)], 0
        for page_keys, page, page_zeros in self._pages(seq):
            vectors[n : n + len(page)], keys[n : n + len(page)] = page, page_keys
            zeros.append(page_zeros + n)
            n += len(page)
        return Part(vectors[:n], keys[:n], np.concatenate(zeros), np.zeros(n, bool))

    def _pages(self, seq: int) -> Iterator[tuple[Keys, Float32, Rows]]:
        """Yield the rows of transaction ``seq`` and before, by ascending key, in pages that are each read at once.

        A row that is written meanwhile is missing: its number is above ``seq``, so that catching up brings it.
        """
        after = -1
        while rows := self._connections.rows(
            "SELECT item, vector, seq FROM vectors WHERE space = ? AND item > ? ORDER BY item LIMIT ?",
            (self._key, after, _PAGE_ROWS),
        ):
            after = rows[-1][0]
            kept = [row for row in rows if row[2] <= seq]
            if kept:
                vectors = self._decoded([row[1] for row in kept])
                yield np.array([row[0] for row in kept], np.int64), vectors, off_unit(vectors)[0]

    def _decoded(self, blobs: Sequence[bytes]) -> Float32:
        return decoded(self._connections.directory, blobs, self._space.dim)

    def _caught_up(self, db: sqlite3.Connection, base: Part) -> Part:
        gone = db.execute(
            "SELECT item FROM tombstones WHERE seq > ? AND (space IS NULL OR space = ?)", (self._seq, self._key)
        ).fetchall()
        changed = db.execute(
            "SELECT item, vector FROM vectors WHERE space = ? AND seq > ? ORDER BY seq, item", (self._key, self._seq)
        ).fetchall()
        keys = np.array([row[0] for row in changed], np.int64)
        stale = np.concatenate([keys, np.array([row[0] for row in gone], np.int64)])
        self._changes += len(stale)
        self._tail.remove(stale)
        if changed:
            self._tail.append(keys, self._decoded([row[1] for row in changed]))
        rows = base.of_keys(stale)
        if not len(rows):
            return base
        out = base.out.copy()
        out[rows] = True
        return Part(base.vectors, base.keys, base.zeros, out)


@dataclass(slots=True)
class _Tail:
    """Rows written after the base. Views handed out before stay as they were: rows are only added behind them."""

    dim: int
    size: int = 0
    _vectors: Float32 = field(init=False)
    _keys: Keys = field(init=False)
    _out: NDArray[np.bool_] = field(init=False)
    _rows: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._vectors, self._keys = np.empty((0, self.dim), np.float32), np.empty(0, np.int64)
        self._out = np.empty(0, bool)

    def part(self) -> Part:
        vectors = self._vectors[: self.size]
        return Part(vectors, self._keys[: self.size], off_unit(vectors)[0], self._out[: self.size], False)

    def remove(self, keys: Keys) -> None:
        rows = [row for key in keys.tolist() if (row := self._rows.pop(key, None)) is not None]
        if rows:
            self._out = self._out.copy()
            self._out[rows] = True

    def append(self, keys: Keys, vectors: Float32) -> None:
        need = self.size + len(keys)
        if need > len(self._keys):
            room = max(64, 2 * need)
            self._vectors = _grown(self._vectors, room)
            self._keys = _grown(self._keys, room)
            self._out = _grown(self._out, room)
        self._vectors[self.size : need], self._keys[self.size : need] = vectors, keys
        self._rows.update(zip(keys.tolist(), range(self.size, need), strict=True))
        self.size = need


def _bearable(rows: int) -> int:
    """Return how many changes a matrix takes beside it before it is made anew."""
    return max(_TAIL_AT_LEAST, rows // _TAIL_SHARE)


def _part(found: Snapshot) -> Part:
    return Part(found.vectors, found.keys, found.zeros, np.zeros(len(found.keys), bool))


def _grown(array: NDArray[_Scalar], room: int) -> NDArray[_Scalar]:
    grown = np.zeros((room, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


def _all_but(n: int, rows: Rows) -> NDArray[np.bool_]:
    out = np.ones(n, bool)
    out[rows] = False
    return out


def _best_first(lots: Sequence[tuple[Keys, Float32]], k: int, metric: Metric) -> tuple[Keys, Float32]:
    if not lots:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    keys, scores = np.concatenate([keys for keys, _ in lots]), np.concatenate([scores for _, scores in lots])
    near = scores if metric.higher_is_closer else -scores
    order = np.argsort(-near, kind="stable")
    if len(order) > k:
        order = order[: np.searchsorted(-near[order], -near[order[k - 1]], side="right")]
    return keys[order], scores[order]
