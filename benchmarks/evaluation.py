"""Evaluation: all metrics with intervals, times the plain top-k search of the same vectors; and the gate, simulated.

10,000 labelled vectors (drawn at random around a centre a label) are searched for their nearest ten, and judged:
retrieval metrics, verification, 95 % intervals. The gate sees 1,000 queries a world, losing and winning by chance.
"""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.harness import Report, Target, interleaved, medians, parser, peak_memory_mib, say, seconds
from lookalike import registry
from lookalike.benchmarking import evaluated
from lookalike.evaluation.gate import gated, is_regression
from lookalike.evaluation.truth import Truth
from lookalike.types import Float32

_KEPT = 10
_BLOCK = 400


def main() -> int:
    options = parser(__doc__, "evaluation").parse_args()
    report = Report("Evaluation", packages=("numpy",))
    count, worlds = (1000, 20) if options.quick else (10_000, 1000)
    _time(report, count, 3)
    _gate(report, worlds)
    report.print()
    return 0


def _time(report: Report, count: int, repetitions: int) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for dim, labels in ((512, 1000), (1280, 1000), (512, 20)):
        truth, vectors = _world(rng, count, dim, min(labels, count // 5))
        routes = {
            "top-k": lambda vectors=vectors: seconds(lambda: _plain(vectors)),
            "all metrics": lambda vectors=vectors, truth=truth: seconds(
                lambda: evaluated(registry.metric("cosine"), vectors, vectors, truth)
            ),
        }
        took = medians(interleaved(routes, repetitions))
        times = took["all metrics"] / took["top-k"]
        rows.append(
            (
                f"{dim} numbers, {labels} labels",
                f"{took['top-k']:.2f}",
                f"{took['all metrics']:.2f}",
                f"{times:.1f}",
                f"{peak_memory_mib():.0f}",
            )
        )
        report.target(Target(f"times plain top-k: {rows[-1][0]}", times, 10, at_least=False))
    report.section(f"{count:,} queries in {count:,} items, cosine")
    report.table(("vectors", "top-k, s", "all metrics with intervals, s", "times", "peak memory until then, MiB"), rows)


def _world(rng: np.random.Generator, count: int, dim: int, labels: int) -> tuple[Truth, Float32]:
    of = rng.integers(0, labels, count)
    raw = rng.normal(size=(labels, dim))[of] + 3 * rng.normal(size=(count, dim))
    vectors = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    return Truth(of, of, own=np.arange(count)), vectors


def _plain(vectors: Float32) -> None:
    """Find the nearest ten of each vector, as numpy does it: product, partition, sort."""
    for first in range(0, len(vectors), _BLOCK):
        scores = vectors[first : first + _BLOCK] @ vectors.T
        places = np.argpartition(-scores, _KEPT, axis=1)[:, :_KEPT]
        np.take_along_axis(places, np.argsort(-np.take_along_axis(scores, places, 1), axis=1), 1)


def _gate(report: Report, worlds: int) -> None:
    rows = []
    for each in (1, 5, 20):
        say(f"the gate, {each} queries a label, {worlds} worlds")
        labels = np.arange(1000) // each
        caught, alarms = (
            np.mean([_fails(np.random.default_rng(world), lost, won, labels) for world in range(worlds)])
            for lost, won in ((0.04, 0.01), (0.025, 0.025))
        )
        rows.append((f"{each}", f"{caught:.1%}", f"{alarms:.1%}"))
        report.target(Target(f"4 % lost, 1 % won, {each} a label: caught", float(caught), 0.95))
        report.target(Target(f"2.5 % lost and won, {each} a label: alarms", float(alarms), 0.05, at_least=False))
    report.section(f"The gate: 1,000 queries, a margin of half a point, {worlds:,} worlds")
    report.table(("queries a label", "4 % lost, 1 % won: caught", "2.5 % lost, 2.5 % won: alarms"), rows)


def _fails(rng: np.random.Generator, lost: float, won: float, labels: np.ndarray) -> bool:
    draw = rng.random(len(labels))
    before = np.where((draw >= lost) & (draw < lost + won), 0.0, 1.0)
    return is_regression(gated(before, np.where(draw < lost, 0.0, 1.0), labels))


if __name__ == "__main__":
    sys.exit(main())
