"""Vectors alone, for other tools."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.errors import InputError
from lookalike.images import walk
from lookalike.indexing import Progress
from lookalike.pipeline import embed_files
from lookalike.protocols import Encoder
from lookalike.tables import Values, Vectors, check_output, write_npz, write_parquet, written
from lookalike.types import Embeddings, Skipped, Space, display_path


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """How many pictures were embedded, where their vectors are, and what was skipped."""

    embedded: int
    output: str
    space: Space
    skipped: tuple[Skipped, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "embedded": self.embedded,
            "output": self.output,
            "space": self.space.as_dict(),
            "skipped": [asdict(skipped) for skipped in self.skipped],
        }


def embed(images: Sequence[str], encoder: Encoder, output: Path, progress: Progress) -> EmbedResult:
    """Embed pictures and folders of pictures into an .npz or .parquet file, in the order given, in bounded memory.

    The columns are ``paths``, ``vectors`` (N, dim) float32 of length 1, ``norms`` (N,) and ``space``; in Parquet
    ``path``, ``vector`` and ``norm`` a row. Raises InputError where no picture at all could be read.
    """
    check_output(output, ".npz", ".parquet")
    skipped: list[Skipped] = []
    done = _embedded(images, encoder, skipped, progress)
    with written(output), tempfile.TemporaryFile() as rows:
        paths, norms = [], []
        for path, embedding in done:
            paths.append(path)
            norms.append(float(embedding.norms[0]))
            rows.write(embedding.vectors.tobytes())
        if not paths:
            reasons = "; ".join(f"{display_path(s.path)}: {s.reason}" for s in skipped[:3])
            raise InputError(f"no picture to embed{': ' + reasons if reasons else ''}")
        space = encoder.space
        if output.suffix.lower() == ".npz":
            write_npz(output, paths, rows, norms, space.as_dict())
        else:
            write_parquet(output, _batches(paths, rows, norms, space), {"spaces": {"vector": space.as_dict()}})
    return EmbedResult(len(paths), os.fspath(output), encoder.space, tuple(skipped))


def _embedded(
    images: Sequence[str], encoder: Encoder, skipped: list[Skipped], progress: Progress
) -> Iterator[tuple[str, Embeddings]]:
    for outcome in embed_files(_files(images, skipped), encoder):
        progress(1)
        if isinstance(outcome, Skipped):
            skipped.append(outcome)
        else:
            yield outcome


def _files(images: Iterable[str], skipped: list[Skipped]) -> Iterator[str]:
    for image in images:
        try:
            for found in walk(image):
                if isinstance(found, Skipped):
                    skipped.append(found)
                else:
                    yield found.path
        except InputError as error:
            skipped.append(Skipped(image, str(error)))


def _batches(paths: list[str], rows: Any, norms: list[float], space: Space) -> Iterator[dict[str, Any]]:
    at_once = 1024
    rows.seek(0)
    for start in range(0, len(paths), at_once):
        part = paths[start : start + at_once]
        block = np.frombuffer(rows.read(len(part) * space.dim * 4), dtype=np.float32).reshape(len(part), space.dim)
        yield {
            "path": Values("string", [os.fsencode(path).decode("utf-8", "replace") for path in part]),
            "vector": Vectors(block),
            "norm": Values("float32", norms[start : start + at_once]),
        }
