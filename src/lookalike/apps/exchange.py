"""A gallery as a Parquet file and back; also vectors that were made elsewhere.

One row an item. Columns: ``id``, ``path`` (absolute, for people), ``metadata`` (JSON), ``vector`` and ``norm`` of the
gallery's own space, ``vector:NAME`` and ``norm:NAME`` of any other, and what only lookalike reads: ``given`` (JSON),
``root`` and ``file`` (bytes, since names need not be UTF-8), ``size``, ``mtime_ns``, ``content``, ``width`` and
``height``. The spaces are kept in the file's schema.

A file made elsewhere needs a column ``vector`` and a column ``id`` or ``path``; every other column becomes metadata.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lookalike import registry
from lookalike.errors import InputError
from lookalike.gallery import Gallery, Settling
from lookalike.indexing import Progress
from lookalike.metadata import checked
from lookalike.tables import ParquetTable, Values, Vectors, check_output, write_parquet
from lookalike.types import Embeddings, FileStamp, Float32, Item, Skipped, Space

_AT_ONCE = 1024
_ROUNDING = 1e-5
_OWN = frozenset({"metadata", "given", "root", "file", "size", "mtime_ns", "content", "width", "height"})


@dataclass(frozen=True, slots=True)
class ExportResult:
    """How many items were written, and where."""

    exported: int
    output: str

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ImportResult:
    """How many items came in new, how many replaced one of the same id, and the rows that were left out."""

    added: int
    updated: int
    skipped: tuple[Skipped, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {"added": self.added, "updated": self.updated, "skipped": [asdict(s) for s in self.skipped]}


def export(gallery: Gallery, output: Path, progress: Progress) -> ExportResult:
    """Write all items with their metadata and vectors to a Parquet file, in bounded memory."""
    check_output(output, ".parquet")
    spaces = _columns(gallery)
    notes = {"spaces": {column: space.as_dict() for column, space in spaces.items()}, "metric": gallery.metric}
    return ExportResult(write_parquet(output, _exported(gallery, spaces, progress), notes), os.fspath(output))


def import_(
    file: Path, gallery_path: Path, *, encoder: str | None, progress: Progress, settling: Settling | None = None
) -> ImportResult:
    """Bring the rows of a Parquet file into a gallery, making it where there is none.

    ``encoder`` names what made the vectors, where the file does not say: an encoder known here, or any other name (such
    items can be searched by their own vectors). Raises SpaceMismatch where the gallery holds others. A bad row is
    skipped with its number; a row whose id is taken replaces that item.
    """
    table = ParquetTable(file)
    spaces = _spaces_of(table, encoder)
    with Gallery.for_spaces(gallery_path, list(spaces.values()), table.notes.get("metric")) as gallery:
        result = _Import(gallery, table, spaces, progress).run()
        gallery.settle(settling)
        return result


def _columns(gallery: Gallery) -> dict[str, Space]:
    others = [space for space in gallery.spaces if space != gallery.space]
    return {"vector": gallery.space} | {f"vector:{space.encoder}": space for space in others}


def _exported(gallery: Gallery, spaces: Mapping[str, Space], progress: Progress) -> Iterator[dict[str, Any]]:
    for items in _chunks(gallery.items()):
        ids = [item.id for item in items]
        columns: dict[str, Any] = {
            "id": Values("string", ids),
            "path": Values("string", [_readable(item.path) for item in items]),
            "metadata": Values("string", [json.dumps(dict(item.metadata)) for item in items]),
        }
        for column, space in spaces.items():
            vectors, norms = _vectors_or_nan(gallery, ids, space)
            columns |= {column: Vectors(vectors), _norm_of(column): Values("float32", norms.tolist())}
        stamps = [item.file for item in items]
        columns |= {
            "given": Values("string", [json.dumps(dict(item.given)) for item in items]),
            "root": Values("binary", [os.fsencode(s.root) if s else None for s in stamps]),
            "file": Values("binary", [os.fsencode(s.path) if s else None for s in stamps]),
            "size": Values("int64", [s.size if s else None for s in stamps]),
            "mtime_ns": Values("int64", [s.mtime_ns if s else None for s in stamps]),
            "content": Values("string", [item.content for item in items]),
            "width": Values("int64", [item.width for item in items]),
            "height": Values("int64", [item.height for item in items]),
        }
        yield columns
        progress(len(items))


def _vectors_or_nan(gallery: Gallery, ids: Sequence[str], space: Space) -> tuple[Float32, Float32]:
    try:
        whole = gallery.embeddings(ids, space)
    except InputError:
        return _one_by_one(gallery, ids, space)
    return whole.vectors, whole.norms


def _one_by_one(gallery: Gallery, ids: Sequence[str], space: Space) -> tuple[Float32, Float32]:
    """Some items have no vector in this space: their rows are NaN."""
    vectors = np.full((len(ids), space.dim), np.nan, dtype=np.float32)
    norms = np.full(len(ids), np.nan, dtype=np.float32)
    for row, id_ in enumerate(ids):
        try:
            one = gallery.embeddings([id_], space)
        except InputError:
            continue
        vectors[row], norms[row] = one.vectors[0], one.norms[0]
    return vectors, norms


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    item: Item
    vectors: Mapping[str, Embeddings]


class _Import:
    def __init__(self, gallery: Gallery, table: ParquetTable, spaces: Mapping[str, Space], progress: Progress) -> None:
        self._gallery, self._table, self._spaces, self._progress = gallery, table, spaces, progress
        self._row = 0
        self._seen: set[str] = set()
        self._skipped: list[Skipped] = []

    def run(self) -> ImportResult:
        added = updated = 0
        for batch in self._table.batches(_AT_ONCE):
            rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
            good = [row for row in map(self._checked, rows) if row is not None]
            known = {row.item.id for row in good if self._gallery.has(row.item.id)}
            stored = self._put(good)
            updated += sum(row.item.id in known for row in stored)
            added += sum(row.item.id not in known for row in stored)
            self._progress(len(rows))
        return ImportResult(added, updated, tuple(self._skipped))

    def _put(self, rows: Sequence[_Row]) -> Sequence[_Row]:
        """Store the rows and return them; where they do not fit together, one by one, and return those that did."""
        try:
            for column in self._spaces:
                with_vector = [row for row in rows if column in row.vectors]
                if with_vector:
                    vectors = Embeddings.concatenate([row.vectors[column] for row in with_vector])
                    self._gallery.put([row.item for row in with_vector], [vectors])
        except InputError as error:
            if len(rows) == 1:
                self._skip(rows[0].number, error)
                return ()
            return [row for one in rows for row in self._put([one])]
        return rows

    def _checked(self, row: dict[str, Any]) -> _Row | None:
        self._row += 1
        try:
            # Only the first space must be there for every item.
            first = next(iter(self._spaces))
            vectors = {
                column: _embedding(row, column, space)
                for column, space in self._spaces.items()
                if column == first or not _is_blank(row[column])
            }
            return _Row(self._row, self._first(_item(row, self._table, set(self._spaces))), vectors)
        except InputError as error:
            self._skip(self._row, error)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self._skip(self._row, InputError(f"a value is not of the kind that its column should hold: {error}"))
        return None

    def _skip(self, number: int, error: InputError) -> None:
        self._skipped.append(Skipped(f"{self._table.path} row {number}", str(error)))

    def _first(self, item: Item) -> Item:
        if item.id in self._seen:
            raise InputError(f"the id {item.id!r} came before in this file")
        self._seen.add(item.id)
        return item


def _spaces_of(table: ParquetTable, encoder: str | None) -> dict[str, Space]:
    """Which columns hold vectors of which spaces: as the file says, or as the user says of its column ``vector``."""
    if "vector" not in table.columns:
        raise InputError(f"{table.path} has no column 'vector'; its columns are {', '.join(table.columns)}")
    if "spaces" in table.notes:
        return _noted_spaces(table)
    if encoder is None:
        raise InputError(
            f"{table.path} does not say which encoder made its vectors; say so with --encoder NAME "
            f"(one of {', '.join(registry.names('encoder'))}, or any other name)"
        )
    return {"vector": _foreign_space(table, encoder)}


def _noted_spaces(table: ParquetTable) -> dict[str, Space]:
    try:
        spaces = {column: Space(**fields) for column, fields in table.notes["spaces"].items()}
    except (AttributeError, TypeError) as error:
        raise InputError(f"{table.path} is damaged: its spaces are not as lookalike writes them ({error})") from error
    if missing := sorted(spaces.keys() - set(table.columns)):
        raise InputError(f"{table.path} is damaged: it has no column {', '.join(map(repr, missing))}")
    return spaces


def _foreign_space(table: ParquetTable, encoder: str) -> Space:
    lengths = (
        len(vector) for batch in table.batches(1) for vector in batch["vector"] if isinstance(vector, list) and vector
    )
    dim = next(lengths, 0)
    if not dim:
        raise InputError(f"the column 'vector' of {table.path} holds no vector")
    if encoder not in registry.names("encoder"):
        return Space(encoder, "external", "external", dim)
    space = registry.encoder(encoder).space
    if space.dim != dim:
        raise InputError(f"{encoder} makes vectors of {space.dim} numbers, {table.path} holds {dim}")
    return space


def _is_blank(vector: Sequence[float] | None) -> bool:
    return vector is None or bool(np.isnan(vector).all())


def _embedding(row: Mapping[str, Any], column: str, space: Space) -> Embeddings:
    """The row's vector; where the file gives a norm, it is the length that the vector had."""
    vector = np.asarray(row[column] if row[column] is not None else [], dtype=np.float64)
    if vector.shape != (space.dim,):
        raise InputError(f"{column!r} has {vector.size} numbers, not {space.dim}")
    if not np.isfinite(vector).all():
        raise InputError(f"{column!r} holds NaN or infinite values")
    embedding = Embeddings.from_raw(vector[None, :], space)
    norm = row.get(_norm_of(column))
    if norm is None:
        return embedding
    # What has length 1 already is taken bit by bit, so that what was exported comes back the same.
    is_unit = abs(float(embedding.norms[0]) - 1) < _ROUNDING
    vectors = vector[None, :].astype(np.float32) if is_unit else embedding.vectors
    return Embeddings(vectors, np.array([norm], dtype=np.float32), space)


def _item(row: Mapping[str, Any], table: ParquetTable, vectors: set[str]) -> Item:
    return _own_item(row) if "spaces" in table.notes and row.keys() >= _OWN else _foreign_item(row, table, vectors)


def _own_item(row: Mapping[str, Any]) -> Item:
    file = None
    if row["root"] is not None:
        file = FileStamp(os.fsdecode(row["root"]), os.fsdecode(row["file"]), row["size"], row["mtime_ns"])
    metadata, given = json.loads(row["metadata"]), json.loads(row["given"])
    return Item(row["id"], metadata, given, file, row["content"], row["width"], row["height"])


def _foreign_item(row: Mapping[str, Any], table: ParquetTable, vectors: set[str]) -> Item:
    path, id_ = row.get("path"), row.get("id")
    if not isinstance(path, str) and not isinstance(id_, str | int):
        raise InputError("neither 'id' nor 'path' has a value")
    own = {"id", "path", *vectors, *map(_norm_of, vectors)}
    values = {name: _plain(value) for name, value in row.items() if name not in own}
    given = checked({name: value for name, value in values.items() if value is not None})
    return Item(str(path if id_ is None else id_), given, given, _foreign_file(table, path) if path else None)


def _foreign_file(table: ParquetTable, path: str) -> FileStamp:
    folder = os.path.abspath(table.path.parent)
    absolute = os.path.normpath(os.path.join(folder, path))
    root = folder if absolute.startswith(os.path.join(folder, "")) else os.path.dirname(absolute)
    # Size -1 fits no file: when its folder is indexed, the file is read and the item brought up to date.
    return FileStamp(root, os.path.relpath(absolute, root), -1, None)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: a time as ISO text, NaN (which is how pandas says nothing) as None."""
    if isinstance(value, date | time):
        return value.isoformat()
    return None if isinstance(value, float) and math.isnan(value) else value


def _norm_of(column: str) -> str:
    return column.replace("vector", "norm", 1)


def _chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    while chunk := list(islice(items, _AT_ONCE)):
        yield chunk


def _readable(path: str | None) -> str | None:
    return None if path is None else os.fsencode(path).decode("utf-8", "replace")
