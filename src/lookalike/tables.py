"""Vectors and what belongs to them as files for other tools: .npz and .parquet. The only importer of pyarrow."""

from __future__ import annotations

import json
import os
import secrets
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from lookalike.errors import ConfigError, InputError, MissingDependency, StoreError

_NOTES = b"lookalike"


@dataclass(frozen=True, slots=True)
class Vectors:
    """A column of vectors: (N, dim) float32; a row of NaN stands for no vector."""

    values: np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Values:
    """A column of plain values, or None; ``kind`` is Arrow's name of their type: string, binary, int64, float32."""

    kind: str
    values: Sequence[Any]


Columns = Mapping[str, Values | Vectors]
"""Columns of one batch, all of one length."""


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of ``path`` when all is written, and leaves no trace when not."""
    # Named before it is made: an interrupt at the very moment at which it is made would leave it behind.
    temporary = path.absolute().parent / f".{path.name}.{secrets.token_hex(4)}"
    with written(path):
        try:
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Turn what the disk says while ``path`` is made into a StoreError that names it."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def write_npz(path: Path, paths: list[str], vectors: IO[bytes], norms: list[float], space: Mapping[str, Any]) -> None:
    """Write ``paths`` (N,), ``vectors`` (N, dim) float32, ``norms`` (N,) float32 and ``space`` (JSON text) as .npz.

    ``vectors`` is a file of raw float32 rows, so that they never have to fit in memory.
    """
    shape = (len(paths), int(space["dim"]))
    vectors.seek(0)
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in {
            "paths": np.array(paths, dtype=np.str_),
            "norms": np.array(norms, dtype=np.float32),
            "space": np.array(json.dumps(space)),
        }.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        with archive.open("vectors.npy", "w", force_zip64=True) as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            while chunk := vectors.read(1 << 20):
                member.write(chunk)


def write_parquet(path: Path, batches: Iterable[Columns], notes: Mapping[str, Any]) -> int:
    """Write the batches, one row group each; ``notes`` is JSON kept in the file's schema. Return the number of rows."""
    arrow, parquet = _pyarrow()
    rows, writer = 0, None
    with replacing(path) as file:
        try:
            for batch in batches:
                table = arrow.table({name: _column(arrow, column) for name, column in batch.items()})
                if writer is None:
                    schema = table.schema.with_metadata({_NOTES: json.dumps(notes).encode()})
                    writer = parquet.ParquetWriter(file, schema, compression="zstd")
                writer.write_table(table)
                rows += table.num_rows
            if writer is None:
                raise InputError(f"nothing to write to {path}: there is no row")
        finally:
            if writer is not None:
                writer.close()  # here, while the file is open
    return rows


class ParquetTable:
    """A .parquet file that is read batch by batch."""

    def __init__(self, path: Path) -> None:
        """Open the file; raise InputError where it is missing or not Parquet."""
        arrow, parquet = _pyarrow()
        self.path = path
        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, arrow.ArrowException) as error:
            raise InputError(f"cannot read {path} as Parquet: {error}") from error
        self.columns: list[str] = list(self._file.schema_arrow.names)
        kept = (self._file.schema_arrow.metadata or {}).get(_NOTES)
        try:
            self.notes: dict[str, Any] = dict(json.loads(kept)) if kept else {}
        except (TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged: what lookalike noted in it is no JSON ({error})") from error

    def batches(self, rows: int = 1024) -> Iterator[dict[str, list[Any]]]:
        """Yield columns of up to ``rows`` rows as lists of plain Python values."""
        arrow, _ = _pyarrow()
        try:
            for batch in self._file.iter_batches(batch_size=rows):
                yield batch.to_pydict()
        except (OSError, arrow.ArrowException) as error:
            raise InputError(f"{self.path} is damaged: {error}") from error


def check_output(path: Path, *suffixes: str) -> None:
    """Raise ConfigError unless ``path`` can be written, before work is spent on what goes there.

    It ends in one of ``suffixes``, so that a slip overwrites no picture, and lies in a folder that exists.
    """
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f"the name of the output tells its kind: it ends in {' or '.join(suffixes)}, got {path}")
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"cannot write {path}: its folder is not there")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def _column(arrow: Any, column: Values | Vectors) -> Any:
    if isinstance(column, Values):
        return arrow.array(column.values, type=getattr(arrow, column.kind)())
    dim = column.values.shape[1]
    flat = arrow.array(np.ascontiguousarray(column.values).reshape(-1))
    return arrow.FixedSizeListArray.from_arrays(flat, dim)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependency("reading and writing Parquet", "parquet") from error
    return pyarrow, pyarrow.parquet
