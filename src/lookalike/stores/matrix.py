"""The vectors of one space as a matrix to scan: rows written lately stand in a tail, removed ones are masked."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lookalike.protocols import Metric
from lookalike.stores.connections import Connections, damaged
from lookalike.stores.topk import Block, Question, Rows, block_rows, candidates, merged, rescored
from lookalike.types import Float32, Space

Keys: TypeAlias = NDArray[np.int64]
_Scalar = TypeVar("_Scalar", bound=np.generic)

_TAIL_AT_LEAST = 4096
_TAIL_SHARE = 8
_PAGE_ROWS = 2048
_RESCORE_ROWS = 4096
_GATHER_SHARE = 4
_UNIT_TOLERANCE = 1e-3


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

    def of_keys(self, keys: Keys) -> Rows:
        """Return the living rows of these item keys, ascending."""
        return np.flatnonzero(np.isin(self.keys, keys, kind="sort") & ~self.out)

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

    def nearest(self, question: Question, allowed: Keys | None = None) -> list[tuple[Keys, Float32]]:
        """Return for each query the item keys and scores of its k nearest, best first, and of ties with the last."""
        lots = [candidates(question, part.blocks(len(question.queries), allowed)) for part in self.parts]
        zeros = [part.living_zeros(allowed) for part in self.parts]
        return [self.ranked(question, i, [lot[i] for lot in lots], zeros) for i in range(len(question.queries))]

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
        self._base: Part | None = None
        self._base_seq = -1
        self._tail = _Tail(space.dim)
        self._seq = -1

    def view(self, db: sqlite3.Connection) -> View:
        """Return the matrix as ``db`` sees it, which must be in a transaction that has not read yet."""
        base = self._prepared()
        seq = int(db.execute("SELECT seq FROM clock").fetchone()[0])
        if seq != self._seq:
            base = self._base = self._caught_up(db, base)
            self._seq = seq
        parts = (base, self._tail.part()) if self._tail.size else (base,)
        return View(parts, seq)

    def _prepared(self) -> Part:
        if self._base is None or self._tail.size > max(_TAIL_AT_LEAST, len(self._base.keys) // _TAIL_SHARE):
            self._base, self._seq = self._loaded()
            self._base_seq = self._seq
            self._tail = _Tail(self._space.dim)
        return self._base

    def _loaded(self) -> tuple[Part, int]:
        with self._connections.reading() as db:
            seq = int(db.execute("SELECT seq FROM clock").fetchone()[0])
            count = int(db.execute("SELECT count(*) FROM vectors WHERE space = ?", (self._key,)).fetchone()[0])
        vectors = np.empty((count, self._space.dim), np.float32)
        keys = np.empty(count, np.int64)
        n = 0
        for page_keys, page in self._pages(seq):
            vectors[n : n + len(page)], keys[n : n + len(page)] = page, page_keys
            n += len(page)
        vectors, keys = vectors[:n], keys[:n]
        return Part(vectors, keys, off_unit(vectors)[0], np.zeros(n, bool)), seq

    def _pages(self, seq: int) -> Iterator[tuple[Keys, Float32]]:
        """Yield the rows of transaction ``seq`` and before, by ascending key, in pages that are each read at once.

        A row that is written meanwhile is missing: its number is above ``seq``, so that catching up brings it.
        """
        after = -1
        while True:
            with self._connections.use() as db:
                rows = db.execute(
                    "SELECT item, vector, seq FROM vectors WHERE space = ? AND item > ? ORDER BY item LIMIT ?",
                    (self._key, after, _PAGE_ROWS),
                ).fetchall()
            if not rows:
                return
            after = rows[-1][0]
            kept = [row for row in rows if row[2] <= seq]
            if kept:
                yield np.array([row[0] for row in kept], np.int64), self._decoded([row[1] for row in kept])

    def _decoded(self, blobs: Sequence[bytes]) -> Float32:
        whole = b"".join(blobs)
        if len(whole) != len(blobs) * self._space.dim * 4:
            raise damaged(self._connections.directory, "a vector of the wrong length")
        vectors = np.frombuffer(whole, "<f4").reshape(len(blobs), self._space.dim).astype(np.float32, copy=False)
        if len(off_unit(vectors)[1]):
            raise damaged(self._connections.directory, "a vector that is not of length 1")
        return vectors

    def _caught_up(self, db: sqlite3.Connection, base: Part) -> Part:
        gone = db.execute(
            "SELECT item FROM tombstones WHERE seq > ? AND (space IS NULL OR space = ?)", (self._seq, self._key)
        ).fetchall()
        changed = db.execute(
            "SELECT item, vector FROM vectors WHERE space = ? AND seq > ? ORDER BY seq, item", (self._key, self._seq)
        ).fetchall()
        keys = np.array([row[0] for row in changed], np.int64)
        stale = np.concatenate([keys, np.array([row[0] for row in gone], np.int64)])
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
        return Part(vectors, self._keys[: self.size], off_unit(vectors)[0], self._out[: self.size])

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
