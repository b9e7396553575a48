"""Vectors and what belongs to them as files for other tools: .npz and .parquet. The only importer of pyarrow."""

from __future__ import annotations

import json
import os
import tempfile
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


Columns = Mapping[str, Sequence[Any] | Vectors]
"""Columns of one batch, all of one length; text, whole numbers, bytes, None, or vectors."""


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of ``path`` when all is written, and leaves no trace when not."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
        raise


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
        for batch in batches:
            table = arrow.table({name: _column(arrow, values) for name, values in batch.items()})
            if writer is None:
                schema = table.schema.with_metadata({_NOTES: json.dumps(notes).encode()})
                writer = parquet.ParquetWriter(file, schema, compression="zstd")
            writer.write_table(table.cast(writer.schema))
            rows += table.num_rows
        if writer is None:
            raise InputError(f"nothing to write to {path}: there is no row")
        writer.close()
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
        self.notes: dict[str, Any] = json.loads(kept) if kept else {}

    def batches(self, rows: int = 1024) -> Iterator[dict[str, list[Any]]]:
        """Yield columns of up to ``rows`` rows as lists of plain Python values."""
        arrow, _ = _pyarrow()
        try:
            for batch in self._file.iter_batches(batch_size=rows):
                yield batch.to_pydict()
        except (OSError, arrow.ArrowException) as error:
            raise InputError(f"{self.path} is damaged: {error}") from error


def require_suffix(path: Path, *suffixes: str) -> None:
    """Raise ConfigError unless ``path`` ends in one of ``suffixes``: a slip overwrites no picture."""
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f"the name of the output tells its kind: it ends in {' or '.join(suffixes)}, got {path}")


def _column(arrow: Any, values: Sequence[Any] | Vectors) -> Any:
    if not isinstance(values, Vectors):
        return arrow.array(values)
    dim = values.values.shape[1]
    flat = arrow.array(np.ascontiguousarray(values.values).reshape(-1))
    return arrow.FixedSizeListArray.from_arrays(flat, dim)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependency("reading and writing Parquet", "parquet") from error
    return pyarrow, pyarrow.parquet


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
