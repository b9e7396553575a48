"""Encoders: what each finds, how fast, how large; what int8 and shorter vectors cost.

Each encoder that is installed, and what is made here of the default one and of MobileNetV2: int8, its ranges measured
on imagenet_photos, and 64 to 512 numbers by PCA. Up to 200 numbers these are fitted on imagenet_photos, more on all of
../shared/data, the measured pictures among them, as a gallery's own would be. They rank six labelled sets by cosine:

- *grocery*: shelf photos among the catalogue pictures; *coil100*, *clothing*, *emoji_vendors*: each among all others;
  *scene_pairs*: other scenes of the same family do not count; *bccd*: other cells of the same slide do not count.

recall@1: the share of queries whose first hit is relevant. mAP: the mean over queries of the average precision over the
whole ranking (denominator: all that is relevant). FNR: the share of relevant pairs below the threshold that 1 % of the
others reach. Queries without anything relevant are not counted. Speed is that of one thread, pictures in memory:
preparing and encoding, and the same in a bare loop around the runtime, by turns.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Report, Target, interleaved, medians, parser, say, seconds
from benchmarks.photos import SHARED
from lookalike import installed, registry
from lookalike.apps.encoders import About, add, quantize, reduce
from lookalike.encoders.catalog import entry
from lookalike.encoders.onnx import OnnxEncoder, session
from lookalike.encoders.reduced import Reduced
from lookalike.images import read
from lookalike.pipeline import embed_files
from lookalike.preprocess import prepare
from lookalike.protocols import Encoder
from lookalike.types import Embeddings, Image, Skipped

SETS = ("grocery", "coil100", "scene_pairs", "clothing", "emoji_vendors", "bccd")
POOLED = SETS[:-1]
INT8 = {"efficientnet-lite0": "efficientnet-lite0-int8", "mobilenet-v2": "mobilenet-v2-int8"}
SIZES = (64, 128, 256, 512)
_PHOTOS = SHARED / "imagenet_photos"
_V3 = SHARED.parent / "models" / "mobilenet_v3_small.tflite"
_SSCD = 'size = 288\nlayout = "nhwc"\ndtype = "uint8"\n'
_REPETITIONS, _TIMED = 7, 24
_DRAWS = 2000

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """What an encoder finds in a set: for each counted query whether its first hit is relevant, and its label."""

    first: Floats
    labels: NDArray[np.str_]
    mean_precision: float
    missed: float


def main() -> None:
    arguments = parser(__doc__, "encoders")
    arguments.add_argument("--sscd", metavar="FILE", type=Path, help="sscd.onnx (int8, 288 pixels), to be listed too")
    arguments.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="which sets (all)")
    options = arguments.parse_args()
    report = Report("Encoders", packages=("numpy", "onnxruntime", "ai-edge-litert", "pillow"))
    sets = [name for name in options.sets if (SHARED / name / "groundtruth.csv").is_file()]
    if not sets or not _PHOTOS.is_dir():
        report.text("The labelled sets are not at hand (../shared/data); nothing was measured.")
        return report.print()
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as home:
        os.environ["LOOKALIKE_ENCODERS"] = home
        cosines = _make(options.sscd)
        names = registry.names("encoder")
        if options.quick:
            names, sets = ["color-histogram", "efficientnet-lite0"], sets[:1]
        found = {name: {which: _found(name, which) for which in sets} for name in names}
        _quality(report, found, sets)
        _int8(report, found, cosines)
        _speed(report, names)
    return report.print()


def _make(sscd: Path | None) -> dict[str, tuple[float, float]]:
    """Make what is not built in; return the cosine of each int8 encoder to its base, mean and least."""
    cosines = {}
    with tempfile.TemporaryDirectory() as place:
        recipe = Path(place, "recipe.toml")
        if _V3.is_file():
            say("mobilenet-v3-small")
            known = entry("mobilenet-v3-small")
            recipe.write_text(installed.table("", known.recipe))
            add(str(_V3), str(recipe), known.name, about=About(known.licence, known.source, known.good_for))
        if sscd is not None:
            recipe.write_text(_SSCD)
            add(str(sscd), str(recipe), "sscd-resnet50-int8", about=About("MIT (weights)"))
    for base, name in INT8.items():
        say(name)
        made = quantize(base, str(_PHOTOS), name)
        assert made.cosine is not None
        cosines[name] = made.cosine
    for dim in SIZES:
        say(f"efficientnet-lite0-{dim}")
        # Twice as many pictures as numbers: fewer do not tell directions apart.
        reduce("efficientnet-lite0", dim, f"efficientnet-lite0-{dim}", str(SHARED if dim > 200 else _PHOTOS))
    return cosines


# What is found


def _found(name: str, which: str) -> Found:
    say(f"{which}, {name}")
    rows = rows_of(which)
    paths = [str(SHARED / which / row["path"]) for row in rows]
    vectors = embedded(name, tuple(paths))
    rows = [row for row, path in zip(rows, paths, strict=True) if path in vectors]
    matrix = np.concatenate([vectors[path].vectors for path in paths if path in vectors]).astype(np.float64)
    labels = np.array([row["label"] for row in rows])
    relevant, counts = relevance(which, rows, labels)
    scores = matrix @ matrix.T
    asked = np.flatnonzero((relevant & counts).any(axis=1))
    first, precision = [], []
    for query in asked:
        order = np.argsort(-np.where(counts[query], scores[query], -np.inf), kind="stable")[: counts[query].sum()]
        hits = relevant[query, order]
        first.append(float(hits[0]))
        precision.append(float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()))
    counted = counts[asked]
    limit = np.quantile(scores[asked][counted & ~relevant[asked]], 0.99)
    missed = float((scores[asked][counted & relevant[asked]] < limit).mean())
    return Found(np.array(first), labels[asked], float(np.mean(precision)), missed)


@cache
def embedded(name: str, paths: tuple[str, ...]) -> dict[str, Embeddings]:
    """Return the vectors of the pictures that can be read, by path; each encoder sees a set once."""
    encoder = registry.encoder(name)
    if isinstance(encoder, Reduced):
        return {path: encoder.project(one) for path, one in embedded(installed.card(name).base or "", paths).items()}
    return dict(one for one in embed_files(paths, encoder) if not isinstance(one, Skipped))


def rows_of(which: str) -> list[dict[str, str]]:
    """Return the ground truth of a set."""
    with (SHARED / which / "groundtruth.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def relevance(which: str, rows: Sequence[Mapping[str, str]], labels: NDArray[np.str_]) -> tuple[Mask, Mask]:
    """Return (N, N): what is relevant to each, and what counts at all among its hits."""
    relevant = labels[:, None] == labels[None]
    counts = ~np.eye(len(rows), dtype=bool)
    if which == "grocery":
        iconic = np.array([row["kind"] == "iconic" for row in rows])
        counts &= ~iconic[:, None] & iconic[None]
    group = _group(which)
    if group is not None:
        groups = np.array([group(row) for row in rows])
        same = groups[:, None] == groups[None]
        counts &= ~same if which == "bccd" else ~same | relevant
    return relevant, counts


def _group(which: str) -> Callable[[Mapping[str, str]], str] | None:
    if which == "scene_pairs":
        return lambda row: row["family"]
    return (lambda row: "_".join(Path(row["path"]).name.split("_")[:2])) if which == "bccd" else None


def _quality(report: Report, found: Mapping[str, Mapping[str, Found]], sets: Sequence[str]) -> None:
    report.section("recall@1 / mAP / false negative rate at 1 % false positives")
    rows = []
    for name, of_sets in found.items():
        cells = [
            f"{one.first.mean():.3f} / {one.mean_precision:.3f} / {one.missed:.3f}"
            for one in (of_sets[which] for which in sets)
        ]
        rows.append((name, str(registry.encoder(name).space.dim), *cells))
    report.table(("encoder", "dim", *sets), rows)


def _int8(report: Report, found: Mapping[str, Mapping[str, Found]], cosines: Mapping[str, tuple[float, float]]) -> None:
    rows = []
    for base, name in INT8.items():
        if name not in found:
            continue
        pooled = [which for which in POOLED if which in found[name]]
        change = np.concatenate([found[name][which].first - found[base][which].first for which in pooled])
        labels = np.concatenate([[f"{which} {label}" for label in found[name][which].labels] for which in pooled])
        low, high = _interval(change, labels)
        mean, least = cosines[name]
        rows.append((name, f"{mean:.4f}", f"{least:.4f}", f"{100 * change.mean():+.2f} ({low:+.2f} to {high:+.2f})"))
        report.target(Target(f"{name}: cosine to fp32, mean", mean, 0.99))
        report.target(Target(f"{name}: change of recall@1, points, lower end", low, -2.0))
    if rows:
        report.section("int8 against fp32: cosine on pictures held back; recall@1 pooled over five sets, in points")
        report.table(("encoder", "cosine, mean", "least", "change of recall@1 (95 %, labels resampled)"), rows)


def _interval(change: Floats, labels: NDArray[np.str_]) -> tuple[float, float]:
    """Return the 95 % interval of the mean change in points, by drawing labels and, in them, queries anew."""
    names, which = np.unique(labels, return_inverse=True)
    members = [np.flatnonzero(which == number) for number in range(len(names))]
    rng = np.random.default_rng(0)
    means = []
    for _ in range(_DRAWS):
        drawn = [
            rng.choice(members[number], len(members[number])) for number in rng.integers(0, len(names), len(names))
        ]
        means.append(change[np.concatenate(drawn)].mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return 100 * float(low), 100 * float(high)


# How fast, how large


def _speed(report: Report, names: Sequence[str]) -> None:
    paths = sorted(str(path) for path in _PHOTOS.rglob("*.jpg"))[:_TIMED]
    times: dict[str, tuple[float, float | None]] = {}
    for name in names:
        say(f"speed, {name}")
        encoder = registry.encoder(name)
        images = [read(path, encoder.at_least) for path in paths]
        routes = {"ours": _ours(encoder, images)}
        bare = _bare(encoder, images)
        if bare is not None:
            routes["bare"] = bare
        for route in routes.values():
            route()
        timed = {route: partial(seconds, work) for route, work in routes.items()}
        found = medians(interleaved(timed, _REPETITIONS, quiet=True))
        times[name] = len(images) / found["ours"], len(images) / found["bare"] if bare else None
    report.section("Speed and size: one thread, pictures in memory")
    rows = []
    for name in names:
        known, (ours, loop) = entry(name), times[name]
        size = _bytes(name)
        rows.append(
            (
                name,
                f"{ours:.1f}",
                f"{loop:.1f}" if loop else "-",
                f"{ours / loop:.2f}" if loop else "-",
                f"{size / 2**20:.1f}",
                known.licence or "-",
            )
        )
    report.table(("encoder", "pictures a second", "bare loop", "ratio", "model MiB", "licence"), rows)
    ratios = [ours / loop for ours, loop in times.values() if loop]
    report.target(Target("throughput against a bare loop, worst encoder", min(ratios), 0.9))
    for base, name in INT8.items():
        if name in times:
            report.target(
                Target(f"{name}: speed of fp32 (1.7 with VNNI; {_vnni()})", times[name][0] / times[base][0], 1.7)
            )


def _ours(encoder: Encoder, images: Sequence[Image]) -> Callable[[], object]:
    return lambda: [encoder.encode([image]) for image in images]


def _bare(encoder: Encoder, images: Sequence[Image]) -> Callable[[], object] | None:
    """Return a loop that prepares and runs, and does nothing else; None where the runtime is not ONNX Runtime."""
    if not isinstance(encoder, OnnxEncoder):
        return None
    running = session(encoder.space.encoder, encoder.model())
    name = running.get_inputs()[0].name
    return lambda: [running.run(None, {name: prepare([image], encoder.recipe)}) for image in images]


def _bytes(name: str) -> int:
    if name in installed.names():
        folder = installed.home() / name
        return sum(file.stat().st_size for file in folder.iterdir() if file.name != installed.CARD)
    return entry(name).size or 0


def _vnni() -> str:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown here"
    return "this machine has it" if "vnni" in flags else "this machine has none"


if __name__ == "__main__":
    main()
