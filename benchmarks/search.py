"""Search: exact against numpy and FAISS at 100,000 vectors; the approximate index at 1,000,000 x 512.

The vectors are made from real embeddings (see ``vectors``) and put into a real gallery on disk; the queries are made
likewise and are no rows. A search is ``Gallery.search_each`` with one vector, k = 10: validation, the scan, rescoring,
ids, paths and metadata. Latencies are medians of single warm queries, and the routes take turns query by query.

- *numpy*: ``matrix @ q`` on the same rows in memory, ``argpartition`` and a sort of the ten.
- *FAISS L1*: ``faiss.knn`` with METRIC_L1 on the same rows in memory, with as many threads as the process may use.
- *without [ann]*: the same gallery in a process in which faiss cannot be imported.

Recall is the share of the ten nearest by numpy (float32, the best rescored in float64) that a search finds, over 200
queries. With a filter the ten nearest are those among the rows for which it holds.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import (
    Report,
    Route,
    Target,
    environment,
    interleaved,
    medians,
    parser,
    say,
    seconds,
    spread,
    subprocess_output,
)
from benchmarks.vectors import Source, Vectors, real_source
from lookalike import registry
from lookalike.gallery import Gallery
from lookalike.stores.sqlite import SqliteStore
from lookalike.types import Embeddings, Hits, Item, Space

_K = 10
_BATCH = 5000
_SHELVES = 1000
_MIB = 1 << 20
_METRICS = ("cosine", "euclidean", "manhattan")
_FILTERS = {"10 %": ("shelf < 100", 100), "1 %": ("shelf < 10", 10), "0.1 %": ("shelf < 1", 1)}


@dataclass(frozen=True)
class Filled:
    """A gallery on disk and the same vectors in memory; row i is the item whose id is i."""

    path: Path
    space: Space
    matrix: Vectors
    seconds: float

    def where_shelf_below(self, shelves: int) -> NDArray[np.int64]:
        return np.flatnonzero(np.arange(len(self.matrix)) % _SHELVES < shelves)


def main() -> None:
    arguments = parser(__doc__, "search")
    arguments.add_argument("--rows", type=int, metavar="N", help="how many vectors for the exact searches (100000)")
    arguments.add_argument("--ann-rows", type=int, metavar="N", help="how many for the index (1000000; 0: none)")
    arguments.add_argument("--queries", type=int, default=40, metavar="N", help="how many single queries a route (40)")
    arguments.add_argument("--without-faiss", nargs=3, metavar=("GALLERY", "FILE", "COUNT"), help=argparse.SUPPRESS)
    arguments.add_argument("--memory-of", nargs=2, metavar=("GALLERY", "FILE"), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.without_faiss:
        return _print_latencies_without_faiss(*options.without_faiss)
    if options.memory_of:
        return _print_memory(*options.memory_of)
    rows = options.rows if options.rows is not None else (5000 if options.quick else 100_000)
    ann_rows = options.ann_rows if options.ann_rows is not None else (20_000 if options.quick else 1_000_000)
    report = Report("Search", ("numpy", "faiss-cpu"))
    source = real_source()
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as scratch:
        for dim in (512, 1280) if rows else ():
            _exact(report, source.reduced(dim), rows, options.queries, Path(scratch))
        if ann_rows:
            with environment(LOOKALIKE_ANN_ABOVE=str(min(100_000, ann_rows - 1))):  # lower than that only by --quick
                _approximate(report, source.reduced(512), ann_rows, options.queries, Path(scratch))
    report.print()
    return None


# Exact search


def _exact(report: Report, source: Source, rows: int, count: int, scratch: Path) -> None:
    filled = _fill(scratch / f"exact-{source.dim}.gallery", source, rows)
    queries = _queries(source, count, scratch / f"queries-{source.dim}.npy")
    report.section(f"Exact search, {rows:,} x {source.dim}, k = {_K}")
    with Gallery.open(filled.path, create=False) as gallery:
        first = seconds(lambda: _ask(gallery, queries[:1], "cosine", exact=True))
        routes: dict[str, Route] = {metric: _ours(gallery, metric, queries) for metric in _METRICS}
        routes |= {"numpy": _timed(functools.partial(_numpy, filled.matrix), queries)}
        routes |= {"FAISS L1": _timed(functools.partial(_faiss_l1, filled.matrix), queries)}
        found = _measured(routes, count)
        for metric in _METRICS:
            _check(gallery, filled, queries, metric)
    say("without faiss")
    without = _latencies_without_faiss(filled.path, scratch / f"queries-{source.dim}.npy", count)
    _report_exact(report, source.dim, found, without)
    report.text(
        f"Filling took {filled.seconds:.1f} s ({rows / filled.seconds:,.0f} vectors/s, {-(-rows // _BATCH)} batches "
        f"acknowledged); the first search, which makes the matrix, {first:.2f} s."
    )


def _report_exact(report: Report, dim: int, found: dict[str, list[float]], without: dict[str, list[float]]) -> None:
    ms, ms_without = medians(found), medians(without)
    rows = [_row(name, ms[name], found[name], ms[name] / ms["numpy"], ms[name] / ms["FAISS L1"]) for name in found]
    for name, values in without.items():
        row = _row(f"{name}, without [ann]", ms_without[name], values, ms_without[name] / ms_without["cosine"])
        rows.append((*row[:-1], f"{row[-1]} x cosine", ""))
    report.table(("route", "ms, median", "lowest to highest", "times numpy", "times FAISS L1"), rows)
    report.text("Without [ann] the times are of the cosine in the same process.")
    for metric in ("cosine", "euclidean"):
        _at_most(report, f"{dim} dims: {metric}, times numpy", ms[metric] / ms["numpy"], 1.3)
    _at_most(report, f"{dim} dims: manhattan, times FAISS L1", ms["manhattan"] / ms["FAISS L1"], 1.3)
    slow = ms_without["manhattan"] / ms_without["cosine"]
    _at_most(report, f"{dim} dims: manhattan without [ann], times cosine", slow, 5)


def _row(name: str, median: float, values: Sequence[float], *ratios: float) -> tuple[str, ...]:
    return name, f"{median:.2f}", spread(values), *(f"{ratio:.2f}" for ratio in ratios)


def _at_most(report: Report, what: str, value: float, bound: float) -> None:
    report.target(Target(what, value, bound, at_least=False, unit="x"))


def _numpy(matrix: Vectors, query: Vectors) -> NDArray[np.int64]:
    scores = matrix @ query
    nearest = np.argpartition(scores, len(scores) - _K)[len(scores) - _K :]
    return nearest[np.argsort(-scores[nearest])]


def _faiss_l1(matrix: Vectors, query: Vectors) -> Any:
    return faiss.knn(query[None], matrix, _K, metric=faiss.METRIC_L1)


def _check(gallery: Gallery, filled: Filled, queries: Vectors, metric: str) -> None:
    """What is fast and wrong is not measured."""
    for query, hits in zip(queries[:2], _ask(gallery, queries[:2], metric, exact=True), strict=True):
        expected = _true_scores(filled.matrix, query, metric)[:_K]
        assert hits.exact, f"{metric}: asked for exact"
        assert np.abs(np.array([hit.score for hit in hits]) - expected).max() < 1e-4, f"{metric}: wrong neighbours"


def _true_scores(matrix: Vectors, query: Vectors, metric: str) -> NDArray[np.float64]:
    """Return all scores by the definitions, in float64, best first."""
    if metric == "cosine":
        return np.sort(matrix.astype(np.float64) @ query)[::-1]
    difference = matrix.astype(np.float64) - query
    return np.sort(np.abs(difference).sum(axis=1) if metric == "manhattan" else np.linalg.norm(difference, axis=1))


def _latencies_without_faiss(gallery: Path, queries: Path, count: int) -> dict[str, list[float]]:
    command = [sys.executable, "-m", "benchmarks.search", "--without-faiss", str(gallery), str(queries), str(count)]
    return cast("dict[str, list[float]]", json.loads(subprocess_output(command)))


def _print_latencies_without_faiss(path: str, queries_file: str, count: str) -> None:
    sys.modules["faiss"] = None  # type: ignore[assignment] # from now on it cannot be imported
    queries = np.load(queries_file)
    with Gallery.open(path, create=False) as gallery:
        routes = {metric: _ours(gallery, metric, queries) for metric in ("cosine", "manhattan")}
        print(json.dumps(_measured(routes, int(count))))


# The approximate index


def _approximate(report: Report, source: Source, rows: int, count: int, scratch: Path) -> None:
    filled = _fill(scratch / "ann.gallery", source, rows)
    queries_file = scratch / "ann-queries.npy"
    queries = _queries(source, 200, queries_file)
    say("building the index")
    with SqliteStore.open(filled.path) as store:
        store.search(Embeddings.from_raw(queries[:1], filled.space), 1, _cosine(), exact=True)
        took = seconds(lambda: store.build_ann(filled.space))
    report.section(f"The approximate index, {rows:,} x {source.dim}, k = {_K}")
    with Gallery.open(filled.path, create=False) as gallery:
        approximate = _ask(gallery, queries, "cosine")
        say("the truth")
        recall = _recall(approximate, _nearest(filled.matrix, queries))
        routes: dict[str, Route] = {
            "with the index": _ours(gallery, "cosine", queries, exact=False),
            "exact": _ours(gallery, "cosine", queries),
            "numpy": _timed(functools.partial(_numpy, filled.matrix), queries),
        }
        found = _measured(routes, count)
        filtered = {name: _filtered(gallery, filled, queries, *how) for name, how in _FILTERS.items()}
    _report_approximate(report, found, recall, approximate, filtered)
    _report_cost(report, filled, took, queries_file)


def _report_approximate(
    report: Report,
    found: dict[str, list[float]],
    recall: float,
    answers: Sequence[Hits],
    filtered: dict[str, tuple[float, float, float]],
) -> None:
    ms = medians(found)
    report.table(
        ("route", "ms, median", "lowest to highest", "exact takes … times as long"),
        [(name, f"{ms[name]:.2f}", spread(found[name]), f"{ms['exact'] / ms[name]:.1f}") for name in found],
    )
    said = sum(not hits.exact for hits in answers)
    report.text(f"recall@{_K} {recall:.4f}; {said} of {len(answers)} answers say that they are not exact.")
    report.table(
        ("filter lets through", "recall@10", "ms, a new filter", "ms, the same again"),
        [(name, f"{r:.4f}", f"{new:.1f}", f"{again:.1f}") for name, (r, new, again) in filtered.items()],
    )
    report.target(Target("index: recall@10", recall if said else None, 0.95, why_not="the index was not used"))
    report.target(Target("index: times faster than exact", ms["exact"] / ms["with the index"], 20, unit="x"))
    report.target(Target("index: lowest recall@10 with a filter", min(r for r, _, _ in filtered.values()), 1))


def _report_cost(report: Report, filled: Filled, took: float, queries: Path) -> None:
    derived = {path.suffix: path.stat().st_size for path in (filled.path / "derived").iterdir()}
    command = [sys.executable, "-m", "benchmarks.search", "--memory-of", str(filled.path), str(queries)]
    memory = json.loads(subprocess_output(command))
    sizes = ", ".join(f"{suffix} {size / _MIB:.0f}" for suffix, size in sorted(derived.items()))
    report.text(
        f"Building took {took:.0f} s, filling the gallery {filled.seconds:.0f} s. Derived files, MiB: {sizes}. "
        f"A process that opens the gallery and asks {memory['queries']} times holds {memory['RssAnon']:.0f} MiB and "
        f"{memory['RssFile']:.0f} MiB mapped from files; the first answer comes after {memory['first']:.2f} s."
    )


def _filtered(
    gallery: Gallery, filled: Filled, queries: Vectors, where: str, shelves: int
) -> tuple[float, float, float]:
    """Return the recall, the ms of the first query with a filter, and the median of the next ones."""
    say(f"filtered by {where}")
    rows = filled.where_shelf_below(shelves)
    some = queries[:50]

    def ask(queries: Vectors) -> list[Hits]:
        return _ask(gallery, queries, "cosine", where=where)

    new, *again = [1000 * seconds(functools.partial(ask, query[None])) for query in some]
    truth = rows[_nearest(filled.matrix[rows], some)]
    return _recall(ask(some), truth), new, statistics.median(again)


def _print_memory(path: str, queries_file: str) -> None:
    queries = np.load(queries_file)[:50]
    with Gallery.open(path, create=False) as gallery:
        first = seconds(lambda: _ask(gallery, queries[:1], "cosine"))
        for query in queries[1:]:
            _ask(gallery, query[None], "cosine")
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in status if line.startswith(("RssAnon", "RssFile"))}
    print(json.dumps({"queries": len(queries), "first": first, **{name: n / 1024 for name, n in kib.items()}}))


# Filling, asking, measuring


def _fill(path: Path, source: Source, rows: int) -> Filled:
    say(f"filling a gallery with {rows:,} x {source.dim}")
    space = Space("benchmark", "1", "none", source.dim)
    rng = np.random.default_rng(1)
    matrix = np.empty((rows, source.dim), np.float32)
    took = 0.0
    with Gallery.for_spaces(path, [space]) as gallery:
        for start in range(0, rows, _BATCH):
            part = Embeddings.from_raw(source.draw(min(_BATCH, rows - start), rng), space)
            matrix[start : start + len(part)] = part.vectors
            items = [Item(f"{i:08d}", {"shelf": i % _SHELVES}) for i in range(start, start + len(part))]
            took += seconds(functools.partial(gallery.put, items, [part]))
    return Filled(path, space, matrix, took)


def _queries(source: Source, count: int, file: Path) -> Vectors:
    queries = source.draw(count, np.random.default_rng(2))
    np.save(file, queries)
    return queries


def _cosine() -> Any:
    return registry.metric("cosine")


def _ask(
    gallery: Gallery, queries: Vectors, metric: str, *, where: str | None = None, exact: bool = False
) -> list[Hits]:
    return gallery.search_each(Embeddings.from_raw(queries, gallery.space), _K, metric=metric, where=where, exact=exact)


def _ours(gallery: Gallery, metric: str, queries: Vectors, *, exact: bool = True) -> Route:
    each = itertools.cycle([Embeddings.from_raw(query[None], gallery.space) for query in queries])
    return lambda: 1000 * seconds(lambda: gallery.search_each(next(each), _K, metric=metric, exact=exact))


def _timed(search: Any, queries: Vectors) -> Route:
    each: Iterator[Vectors] = itertools.cycle(queries)
    return lambda: 1000 * seconds(lambda: search(next(each)))


def _measured(routes: dict[str, Route], count: int) -> dict[str, list[float]]:
    """Return ms a query of each route, after two queries that warm up."""
    interleaved(routes, 2, quiet=True)
    return interleaved(routes, count, quiet=True)


def _nearest(matrix: Vectors, queries: Vectors) -> NDArray[np.int64]:
    """Return the (Q, k) rows nearest by cosine: more than k by float32, then the best by float64."""
    more = min(len(matrix), 3 * _K)
    answers = np.empty((len(queries), min(_K, len(matrix))), np.int64)
    for answer, query in zip(answers, queries, strict=True):
        scores = matrix @ query
        some = np.argpartition(scores, len(scores) - more)[len(scores) - more :]
        sure = matrix[some].astype(np.float64) @ query.astype(np.float64)
        answer[:] = some[np.argsort(-sure)][: len(answer)]
    return answers


def _recall(answers: Sequence[Hits], truth: NDArray[np.int64]) -> float:
    found = [len({int(hit.id) for hit in hits} & set(rows.tolist())) for hits, rows in zip(answers, truth, strict=True)]
    return sum(found) / truth.size


if __name__ == "__main__":
    main()
