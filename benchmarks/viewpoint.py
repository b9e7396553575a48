"""Viewpoint: what recipes, test-time views, colour beside shape and re-ranking add where things are seen anew.

- *coil100*: one reference view an object, all other views ask; each of the angles is the reference once.
- *scene_pairs*: every picture among all others, without other scenes of its family.

Errors are queries whose first answer is of another label. A way is an encoder made by ``encoders vary`` and ``join``:
``flip`` averages the mirrored picture in, ``views`` also crops and small rotations, ``colour`` joins color-histogram,
one part to two. Cost is the time from pixels to the order of the answers, one thread, in times of plain Lite0.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.encoders import rows_of
from benchmarks.harness import Report, Target, interleaved, medians, parser, say, seconds
from benchmarks.photos import SHARED
from benchmarks.results import asked
from lookalike import registry
from lookalike.apps.encoders import join, recipe_of, vary
from lookalike.benchmarking import evaluated, search_seconds
from lookalike.evaluation.truth import Truth
from lookalike.images import read
from lookalike.types import Float32

_PLAIN, _COLOUR = "efficientnet-lite0", "color-histogram"
_VIEWS: Mapping[str, tuple[str, ...]] = {"flip": ("flip",), "views": ("flip", "crops", "rotations")}
WAYS = {
    "plain": _PLAIN,
    "flip": "flip",
    "views": "views",
    "colour": "plain-colour",
    "flip, colour": "flip-colour",
    "views, colour": "views-colour",
}
BEST = "flip, colour"
_RERANKED = (None, "k-reciprocal", "query-expansion")
_TIMED = 12


def main() -> None:
    options = parser(__doc__, "viewpoint").parse_args()
    report = Report("Viewpoint", packages=("numpy", "onnxruntime"))
    if not all((SHARED / name / "groundtruth.csv").is_file() for name in ("coil100", "scene_pairs")):
        report.text("coil100 and scene_pairs are not at hand (../shared/data); nothing was measured.")
        return report.print()
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as home:
        os.environ["LOOKALIKE_ENCODERS"] = home
        _make(Path(home))
        ways = dict(list(WAYS.items())[:1]) if options.quick else WAYS
        errors = {}
        for way, name in ways.items():
            for rerank in _RERANKED:
                say(f"{way}, {rerank or 'as it is'}")
                errors[way, rerank] = (_coil(name, rerank), _scenes(name, rerank))
        costs = _costs(ways)
    _tell(report, errors, costs)
    return report.print()


def _make(home: Path) -> None:
    for name, views in _VIEWS.items():
        recipe = home / "recipe.toml"
        recipe.write_text(f"{recipe_of(_PLAIN)}augment = {list(views)}\n".replace("'", '"'))
        vary(_PLAIN, str(recipe), name)
    for base, name in ((_PLAIN, "plain-colour"), ("flip", "flip-colour"), ("views", "views-colour")):
        join({base: 2.0, _COLOUR: 1.0}, name)


def _coil(name: str, rerank: str | None) -> tuple[int, int]:
    rows = rows_of("coil100")
    _, _, vectors = asked("coil100", name)
    angles = np.array([int(row["angle_deg"]) for row in rows])
    labels = np.unique([row["label"] for row in rows], return_inverse=True)[1]
    wrong = count = 0
    for angle in np.unique(angles):
        gallery, queries = np.flatnonzero(angles == angle), np.flatnonzero(angles != angle)
        truth = Truth(labels[queries], labels[gallery])
        wrong += _wrong(vectors[queries], vectors[gallery], truth, rerank)
        count += len(queries)
    return wrong, count


def _scenes(name: str, rerank: str | None) -> tuple[int, int]:
    truth, queries, gallery = asked("scene_pairs", name)
    return _wrong(queries, gallery, truth, rerank), len(queries)


def _wrong(queries: Float32, gallery: Float32, truth: Truth, rerank: str | None) -> int:
    reranker = None if rerank is None else registry.reranker(rerank)
    draws = np.ones((len(queries), 1), np.float32)
    found = evaluated(registry.metric("cosine"), queries, gallery, truth, draws, reranker)
    return int((found.judged.values["recall@1"] == 0).sum())


def _costs(ways: Mapping[str, str]) -> dict[tuple[str, str | None], float]:
    """Return the milliseconds of a query, encoding and ordering the answers."""
    paths = [str(SHARED / "scene_pairs" / row["path"]) for row in rows_of("scene_pairs")[:_TIMED]]
    images = [read(path) for path in paths]
    encoders = {way: registry.encoder(name) for way, name in ways.items()}
    routes = {
        way: (lambda encoder=encoder: seconds(lambda: [encoder.encode([image]) for image in images]))
        for way, encoder in encoders.items()
    }
    took = medians(interleaved(routes, 3, quiet=True))
    costs = {}
    for way, name in ways.items():
        _, queries, gallery = asked("scene_pairs", name)
        for rerank in _RERANKED:
            reranker = None if rerank is None else registry.reranker(rerank)
            search = np.median(search_seconds(registry.metric("cosine"), queries[:_TIMED], gallery, reranker))
            costs[way, rerank] = 1000 * (took[way] / len(images) + float(search))
    return costs


def _tell(
    report: Report,
    errors: Mapping[tuple[str, str | None], tuple[tuple[int, int], tuple[int, int]]],
    costs: Mapping[tuple[str, str | None], float],
) -> None:
    plain, plain_cost = errors["plain", None], costs["plain", None]
    rows = []
    for (way, rerank), found in errors.items():
        gone = [1 - wrong / max(1, before) for (wrong, _), (before, _) in zip(found, plain, strict=True)]
        cells = [f"{wrong} ({share:+.0%})" for (wrong, _), share in zip(found, gone, strict=True)]
        cost = costs[way, rerank]
        rows.append((way, rerank or "-", *cells, f"{cost:.1f}", f"{cost / plain_cost:.2f}"))
        if way == BEST:
            for share, name in zip(gone, ("coil100", "scene_pairs"), strict=True):
                how = f"{way}{f', {rerank}' if rerank else ''}"
                if rerank != "query-expansion":
                    report.target(Target(f"{name}: share of the errors removed by {how}", share, 1 / 3))
    (_, objects), (_, scenes) = plain
    head = (f"coil100, errors of {objects:,}", f"scene_pairs, errors of {scenes}")
    report.table(("way", "re-ranked by", *head, "ms a query", "times plain"), rows)


if __name__ == "__main__":
    main()
