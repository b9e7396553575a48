"""All that faiss does here: an approximate index for large galleries, and a fast Manhattan scan.

The index is an inverted file over 8-bit vectors. It only proposes candidates; the store rescores them from the matrix.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import ConfigError, MissingDependency
from lookalike.stores.durable import replace_durably, sync_file
from lookalike.stores.snapshot import Stamp, newest_first, remove_older
from lookalike.types import Float32

Keys: TypeAlias = NDArray[np.int64]
Progress: TypeAlias = Callable[[int, int], None]

SUFFIX = ".ann"
_INDEX = ".faiss"
ANN_ABOVE = 100_000

_FORMAT = 1
_TARGET = 0.98
_TUNED_FOR = (10, 100)
_CANDIDATES = 10
_CANDIDATES_AT_LEAST = 100
_PER_LIST = 40
_TRIALS = 200
_BLOCK_ROWS = 1 << 15
_ENDS_BYTES = 1 << 20


def installed() -> bool:
    """Tell whether faiss can be imported, without importing it."""
    return find_spec("faiss") is not None


def ann_above() -> int:
    """Return above how many vectors a search may be approximate: ``LOOKALIKE_ANN_ABOVE``, else 100,000."""
    text = os.environ.get("LOOKALIKE_ANN_ABOVE", "").strip()
    if not text:
        return ANN_ABOVE
    if not text.isdecimal():
        raise ConfigError(f"LOOKALIKE_ANN_ABOVE is a number of vectors, got {text!r}")
    return int(text)


def nearest_by_manhattan(queries: Float32, gallery: Float32, k: int) -> tuple[Float32, Keys]:
    """Return the (Q, k) smallest sums of absolute differences, ascending, and their rows in (G, D) ``gallery``."""
    faiss = _faiss("a Manhattan scan by faiss")
    distances, rows = faiss.knn(queries, gallery, k, metric=faiss.METRIC_L1)
    return distances, rows


def nearest_of_each(vectors: Float32, k: int) -> tuple[Keys, Float32]:
    """Return for each of (N, D) unit vectors the (N, k) rows nearest by cosine, itself among them, and the cosines.

    Approximate, by an index in memory over 8-bit vectors that probes as many lists as its trials need.
    """
    faiss = _faiss("the nearest of so many pictures")
    keys = np.arange(len(vectors), dtype=np.int64)
    rng = np.random.default_rng(0)
    index = _trained(faiss, vectors, rng)
    index.add_with_ids(vectors, keys)
    probes, _ = _tuned(index, vectors, keys, rng)
    params = faiss.SearchParametersIVF(nprobe=max(probes.values()))
    cosines, rows = index.search(vectors, k, params=params)
    return rows, cosines


@dataclass(frozen=True, slots=True, eq=False)
class AnnIndex:
    """Proposes candidates. ``probes`` and ``recall`` are as measured when it was built, by k."""

    stamp: Stamp
    rows: int
    probes: Mapping[int, int]
    recall: Mapping[int, float]
    index: Any

    def serves(self, k: int) -> bool:
        """Tell whether recall was measured for this many answers."""
        return k <= max(self.probes)

    def candidates(self, queries: Float32, k: int) -> Keys:
        """Return (Q, C) item keys among which the k nearest by cosine are with the recall measured; -1 is none."""
        return _search(self.index, queries, k, self.probes[min(n for n in self.probes if n >= k)])


def build(
    directory: Path, prefix: str, stamp: Stamp, vectors: Float32, keys: Keys, progress: Progress | None = None
) -> AnnIndex:
    """Build an index over (N, D) unit vectors, measure its recall on queries like its rows, and write it.

    Memory: a byte a dimension and row, and a sample. Raises MissingDependency without faiss, OSError without a disk.
    """
    faiss = _faiss("an approximate index")
    rng = np.random.default_rng(0)
    index = _trained(faiss, vectors, rng)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        index.add_with_ids(vectors[start : start + _BLOCK_ROWS], keys[start : start + _BLOCK_ROWS])
        if progress:
            progress(min(start + _BLOCK_ROWS, len(vectors)), len(vectors))
    probes, recall = _tuned(index, vectors, keys, rng)
    made = AnnIndex(stamp, len(vectors), probes, recall, index)
    name = f"{prefix}-{stamp.seq:012d}-{secrets.token_hex(4)}"
    _write(faiss, directory, name, made)
    remove_older(directory, prefix, SUFFIX, stamp.seq, keep=name + SUFFIX)
    remove_older(directory, prefix, _INDEX, stamp.seq, keep=name + _INDEX)
    # Mapped from the file it takes no memory of its own.
    return _loaded(directory / (name + SUFFIX)) or made


def read(directory: Path, prefix: str) -> Iterator[AnnIndex]:
    """Yield the whole indexes there are, newest first; one that is torn or damaged is passed over."""
    if not installed():
        return
    for path in newest_first(directory, prefix, SUFFIX):
        index = _loaded(path)
        if index is not None:
            yield index


def _faiss(what: str) -> Any:
    try:
        import faiss  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise MissingDependency(what, "ann") from error
    return faiss


def _trained(faiss: Any, vectors: Float32, rng: np.random.Generator) -> Any:
    dim = vectors.shape[1]
    lists = max(1, int(2 * math.sqrt(len(vectors))))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim), dim, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.min_points_per_centroid = 1
    index.cp.max_points_per_centroid = _PER_LIST
    sample = np.sort(rng.choice(len(vectors), min(len(vectors), _PER_LIST * lists), replace=False))
    index.train(vectors[sample])
    return index


def _tuned(
    index: Any, vectors: Float32, keys: Keys, rng: np.random.Generator
) -> tuple[dict[int, int], dict[int, float]]:
    """Return for each k the fewest lists to probe that reach the target, and the recall measured with them."""
    queries = _trials(vectors, rng)
    probes, recall = {}, {}
    for k in _TUNED_FOR:
        truth = _true_nearest(queries, vectors, keys, min(k, len(vectors)))
        n = 1
        while (found := _recall(_search(index, queries, k, n), truth)) < _TARGET and n < index.nlist:
            n = min(2 * n, index.nlist)
        probes[k], recall[k] = n, found
    return probes, recall


def _trials(vectors: Float32, rng: np.random.Generator) -> Float32:
    """Queries that are no rows: rows pulled towards another one, with noise."""
    some, others = rng.choice(len(vectors), (2, min(_TRIALS, len(vectors))))
    noise = rng.standard_normal((len(some), vectors.shape[1])) / math.sqrt(vectors.shape[1])
    mixed = vectors[some] + 0.4 * vectors[others] + 0.3 * noise
    unit: Float32 = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _true_nearest(queries: Float32, vectors: Float32, keys: Keys, k: int) -> Keys:
    best_keys, best = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        scores = queries @ vectors[start : start + _BLOCK_ROWS].T
        all_keys = np.broadcast_to(keys[start : start + _BLOCK_ROWS], scores.shape)
        best = np.concatenate([best, scores], axis=1)
        best_keys = np.concatenate([best_keys, all_keys], axis=1)
        order = np.argsort(-best, axis=1)[:, :k] if k >= best.shape[1] else np.argpartition(-best, k, axis=1)[:, :k]
        best, best_keys = np.take_along_axis(best, order, 1), np.take_along_axis(best_keys, order, 1)
    return best_keys


def _search(index: Any, queries: Float32, k: int, probes: int) -> Keys:
    faiss = _faiss("an approximate index")
    wanted = max(_CANDIDATES_AT_LEAST, _CANDIDATES * k)
    found: Keys = index.search(queries, wanted, params=faiss.SearchParametersIVF(nprobe=probes))[1]
    return found


def _recall(found: Keys, truth: Keys) -> float:
    hits = [len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)]
    return float(np.mean(hits))


def _write(faiss: Any, directory: Path, name: str, made: AnnIndex) -> None:
    """Write the index, then the manifest that vouches for it."""
    directory.mkdir(exist_ok=True)
    path, new = directory / (name + _INDEX), directory / (name + _INDEX + ".new")
    manifest, new_manifest = directory / (name + SUFFIX), directory / (name + SUFFIX + ".new")
    try:
        try:
            faiss.write_index(made.index, os.fspath(new))
        except RuntimeError as error:
            raise OSError(str(error)) from error
        with new.open("rb+") as file:
            sync_file(file)
        replace_durably(new, path)
        facts = {
            "format": _FORMAT,
            "stamp": asdict(made.stamp),
            "rows": made.rows,
            "probes": made.probes,
            "recall": made.recall,
            "bytes": path.stat().st_size,
            "ends": _ends(path),
        }
        with new_manifest.open("w", encoding="utf-8") as text:
            json.dump(facts, text)
            sync_file(text)
        replace_durably(new_manifest, manifest)
    except BaseException:
        for half in (new, new_manifest):
            with contextlib.suppress(OSError):
                half.unlink(missing_ok=True)
        raise


def _loaded(manifest: Path) -> AnnIndex | None:
    path = manifest.with_suffix(_INDEX)
    try:
        facts = json.loads(manifest.read_text(encoding="utf-8"))
        # faiss trusts what it reads: a torn file could crash it.
        if facts["format"] != _FORMAT or path.stat().st_size != facts["bytes"] or _ends(path) != facts["ends"]:
            return None
        faiss = _faiss("an approximate index")
        index = faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        probes = {int(k): int(n) for k, n in facts["probes"].items()}
        recall = {int(k): float(r) for k, r in facts["recall"].items()}
        return AnnIndex(Stamp(**facts["stamp"]), int(facts["rows"]), probes, recall, index)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, MissingDependency):
        return None


def _ends(path: Path) -> int:
    """Return a checksum of the beginning and the end of a file, where faiss keeps what it trusts."""
    with path.open("rb") as file:
        first = file.read(_ENDS_BYTES)
        file.seek(max(0, path.stat().st_size - _ENDS_BYTES))
        return zlib.crc32(file.read(), zlib.crc32(first))
