"""Results: what our own encoders find on seven kinds of real pictures, as ``lookalike benchmark`` measures it.

Who asks whom is as in ``benchmarks.encoders``: *grocery*, shelf photos among catalogue pictures; *coil100*, *clothing*,
*emoji_vendors*, each among all others; *scene_pairs*, without other scenes of the family; *bccd*, without the cells of
the same slide; and *imagenet_photos*, an edited copy of each among all originals. Cosine; all intervals are those of
95 % that the verb states. ``shape-and-colour`` is ``encoders join efficientnet-lite0 color-histogram --weights 2,1``.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.encoders import SETS, embedded, relevance, rows_of
from benchmarks.harness import Report, parser, say
from benchmarks.photos import SHARED
from lookalike import registry
from lookalike.apps.encoders import add, join, quantize
from lookalike.benchmarking import evaluated
from lookalike.calibration.pairs import Ints
from lookalike.edits import random_copy
from lookalike.encoders.catalog import entry
from lookalike.evaluation.intervals import query_weights
from lookalike.evaluation.truth import Truth
from lookalike.images import read
from lookalike.installed import table
from lookalike.pipeline import in_parallel
from lookalike.report_benchmark import interval_text
from lookalike.types import Float32, Image

FIGURES = ("recall@1", "recall@10", "map@10", "auc", "tpr@fpr=0.01")
JOINED = "shape-and-colour"
_COPIES = "imagenet_photos"
_PHOTOS = SHARED / _COPIES
_V3 = SHARED.parent / "models" / "mobilenet_v3_small.tflite"


@dataclass(frozen=True, eq=False)
class MaskedTruth(Truth):
    """Labels, and for each query (Q, G) which items count at all."""

    counts: NDArray[np.bool_] = field(default_factory=lambda: np.empty((0, 0), bool))

    def excluded(self, query: int) -> Ints:
        found: Ints = np.flatnonzero(~self.counts[query])
        return found


def main() -> None:
    arguments = parser(__doc__, "results")
    arguments.add_argument("--sets", nargs="+", choices=(*SETS, _COPIES), default=(*SETS, _COPIES), help="which (all)")
    options = arguments.parse_args()
    report = Report("Results: our encoders by set", packages=("numpy", "onnxruntime", "pillow"))
    sets = [name for name in options.sets if (SHARED / name / "groundtruth.csv").is_file()]
    if not sets:
        report.text("The labelled sets are not at hand (../shared/data); nothing was measured.")
        return report.print()
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as home:
        os.environ["LOOKALIKE_ENCODERS"] = home
        _make()
        names = ["color-histogram", "efficientnet-lite0"] if options.quick else registry.names("encoder")
        for which in sets[:1] if options.quick else sets:
            rows = []
            for name in names:
                say(f"{which}, {name}")
                truth, queries, gallery = _copies(name) if which == _COPIES else asked(which, name)
                found = evaluated(registry.metric("cosine"), queries, gallery, truth, query_weights(truth.labels))
                rows.append((name, *(interval_text(found.figures[figure]) for figure in FIGURES)))
            report.section(f"{which}: {len(queries):,} queries, {len(gallery):,} pictures")
            report.table(("encoder", *FIGURES), rows)
    return report.print()


def _make() -> None:
    join({"efficientnet-lite0": 2.0, "color-histogram": 1.0}, JOINED)
    if _PHOTOS.is_dir():
        quantize("efficientnet-lite0", str(_PHOTOS), "efficientnet-lite0-int8")
    if _V3.is_file():
        known = entry("mobilenet-v3-small")
        recipe = Path(os.environ["LOOKALIKE_ENCODERS"], "recipe.toml")
        recipe.write_text(table("", known.recipe))
        add(str(_V3), str(recipe), known.name)


def asked(which: str, name: str) -> tuple[MaskedTruth, Float32, Float32]:
    """Return who asks whom in a set, and the vectors of the queries and of all pictures."""
    rows = rows_of(which)
    paths = [str(SHARED / which / row["path"]) for row in rows]
    vectors = embedded(name, tuple(paths))
    rows = [row for row, path in zip(rows, paths, strict=True) if path in vectors]
    gallery = np.concatenate([vectors[path].vectors for path in paths if path in vectors])
    labels = np.array([row["label"] for row in rows])
    relevant, counts = relevance(which, rows, labels)
    queries = np.flatnonzero((relevant & counts).any(axis=1))
    numbers = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    return MaskedTruth(numbers[queries], numbers, counts=counts[queries]), gallery[queries], gallery


def _copies(name: str) -> tuple[Truth, Float32, Float32]:
    """Return each photo as its own label, an edited copy of it as the query."""
    paths = [str(_PHOTOS / row["path"]) for row in rows_of(_COPIES)]
    vectors = embedded(name, tuple(paths))
    paths = [path for path in paths if path in vectors]
    encoder = registry.encoder(name)

    def copy(path: str) -> Float32:
        pixels = random_copy(read(path).pixels, np.random.default_rng(zlib.crc32(Path(path).name.encode())))[0]
        return encoder.encode([Image(pixels, (pixels.shape[1], pixels.shape[0]))]).vectors

    numbers = np.arange(len(paths))
    queries = np.concatenate(list(in_parallel(copy, paths)))
    return Truth(numbers, numbers), queries, np.concatenate([vectors[path].vectors for path in paths])


if __name__ == "__main__":
    main()
