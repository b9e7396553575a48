"""What the doctor looks at: the items of a gallery, or the pictures of a folder, with vectors, labels and condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lookalike.condition import PRINT_SIZE, Condition, condition_of
from lookalike.errors import InputError
from lookalike.gallery import Gallery
from lookalike.images import read, read_bytes, walk
from lookalike.pipeline import contents_of, in_parallel, reason_of
from lookalike.protocols import Encoder
from lookalike.types import Float32, Item, Skipped

Progress = Callable[[int], None]
AT_MOST = 20_000
"""So many pictures are looked at: all pairs are compared."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """N items: unit vectors (N, D), a label each or None, and the condition of those whose file can be read."""

    items: tuple[Item, ...]
    vectors: Float32
    labels: tuple[str | None, ...]
    conditions: tuple[Condition | None, ...]

    def named(self, rows: Sequence[int]) -> tuple[tuple[str, str | None], ...]:
        """Return (id, path) of some rows."""
        return tuple((self.items[row].id, self.items[row].path) for row in rows)

    @property
    def labelled(self) -> list[int]:
        """The rows that have a label."""
        return [row for row, label in enumerate(self.labels) if label is not None]

    @cached_property
    def prints(self) -> Float32:
        """(N, 768) the prints of the pictures; zeros where the file could not be read."""
        return prints_of(self.conditions)


@dataclass(frozen=True, eq=False)
class Queries:
    """Q new pictures of a folder: paths, contents (sha256), unit vectors (Q, D) and conditions."""

    folder: str
    paths: tuple[str, ...]
    contents: tuple[str, ...]
    vectors: Float32
    conditions: tuple[Condition, ...]

    @cached_property
    def prints(self) -> Float32:
        """(Q, 768) the prints of the pictures."""
        return prints_of(self.conditions)


def gather(gallery: Gallery, progress: Progress) -> tuple[Gathered, tuple[Skipped, ...]]:
    """Return all items of a gallery, and those whose file could not be read; raise InputError if none or too many."""
    items = tuple(gallery.items())
    if not items:
        raise InputError("the gallery is empty: there is nothing to look at; lookalike index FOLDER fills it")
    if len(items) > AT_MOST:
        raise InputError(
            f"the gallery has {len(items)} items; all pairs of up to {AT_MOST} are compared: look at a part of it, "
            "indexed on its own"
        )
    vectors = gallery.embeddings([item.id for item in items]).vectors
    seen: list[Condition | Skipped | None] = []
    for one in in_parallel(_condition_of, items):
        seen.append(one)
        progress(len(seen))
    skipped = tuple(one for one in seen if isinstance(one, Skipped))
    conditions = tuple(None if isinstance(one, Skipped) else one for one in seen)
    labels = tuple(str(item.metadata["label"]) if item.metadata.get("label") is not None else None for item in items)
    return Gathered(items, vectors, labels, conditions), skipped


def gather_queries(folder: str, encoder: Encoder) -> tuple[Queries, tuple[Skipped, ...]]:
    """Return the pictures of a folder, and what was left out; raise InputError where none can be read, or too many."""
    walked = list(walk(folder))
    paths = [one.path for one in walked if not isinstance(one, Skipped)]
    if len(paths) > AT_MOST:
        raise InputError(f"{folder} has {len(paths)} files; up to {AT_MOST} are compared: name a part of it")
    seen = list(in_parallel(lambda path: _query(path, encoder), paths))
    good = [one for one in seen if not isinstance(one, Skipped)]
    skipped = [one for one in (*walked, *seen) if isinstance(one, Skipped)]
    if not good:
        why = f": {skipped[0].path}: {skipped[0].reason}" if skipped else ": it is empty"
        raise InputError(f"no picture in {folder} could be read{why}")
    contents, vectors, conditions = zip(*(one[1:] for one in good), strict=True)
    queries = Queries(folder, tuple(one[0] for one in good), contents, np.stack(vectors), conditions)
    return queries, tuple(skipped)


def prints_of(conditions: Sequence[Condition | None]) -> Float32:
    """Return (N, 768) the prints of some conditions, zeros where there is none."""
    nothing = np.zeros(PRINT_SIZE, np.float32)
    return np.stack([nothing if one is None else one.look for one in conditions])


def _condition_of(item: Item) -> Condition | Skipped | None:
    if item.path is None:
        return None
    try:
        return condition_of(read(item.path))
    except InputError as error:
        return Skipped(item.path, reason_of(error))


def _query(path: str, encoder: Encoder) -> tuple[str, str, Float32, Condition] | Skipped:
    try:
        found = contents_of(path)
        vector = encoder.encode([read_bytes(found.data, path, encoder.at_least)]).vectors[0]
        return path, found.sha256, vector, condition_of(read_bytes(found.data, path))
    except InputError as error:
        return Skipped(path, reason_of(error))
