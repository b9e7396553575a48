"""The doctor: are planted faults found, and what else is called one?

Into grocery and bccd are planted, 20 times: 5 % flipped labels, 10 byte copies, 10 light edits (half size, half size
and back, JPEG 50, brightness 1.1 and .9, contrast .85, noise 4, blur 1), 10 pictures blurred by 4 pixels at 224, and
10 foreign pictures (imagenet_photos) under labels drawn at random. No picture has two faults. They go through what
the verb goes through: ``lookalike.apps.doctor.examine`` and the rankings behind it.

Precision at recall .8: of the pictures that come first until .8 of the planted are among them, the share of planted.
A foreign picture counts neither for nor against wrong labels, since its label is wrong as well. Plain nearest
neighbours: the cosine to the nearest picture of another label, minus that to the nearest of the own.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Report, Target, parser, say
from benchmarks.photos import SHARED
from lookalike import doctoring, registry
from lookalike.apps.doctor import examine
from lookalike.apps.gathering import Gathered
from lookalike.condition import Condition, condition_of
from lookalike.edits import Edit
from lookalike.images import read
from lookalike.images.reencode import resized
from lookalike.pipeline import in_parallel
from lookalike.protocols import Encoder
from lookalike.types import Float32, Image, Item

SETS = ("grocery", "bccd")
OTHERS = ("clothing", "coil100", "emoji_vendors")
FOREIGN = "imagenet_photos"
WRONG = {"grocery": 0.85, "bccd": 0.99}
LIGHT = (
    Edit("half size"),
    Edit("half size and back"),
    Edit("jpeg", {"quality": 50}),
    Edit("brightness", {"factor": 1.1}),
    Edit("brightness", {"factor": 0.9}),
    Edit("contrast", {"factor": 0.85}),
    Edit("noise", {"sigma": 4}),
    Edit("blur", {"sigma": 1}),
)
_EACH = 10
_FLIPPED = 0.05
_ENCODER_SIDE = 224
_BLUR = Edit("blur", {"sigma": 4})

Mask = NDArray[np.bool_]
Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pictures:
    """N real pictures of a set, embedded once."""

    paths: tuple[str, ...]
    labels: NDArray[np.str_]
    vectors: Float32
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, eq=False)
class World:
    """A set with planted faults, as the doctor gathers it; masks (N,) say which items have which."""

    gathered: Gathered
    flipped: Mask
    copies: Mask
    edited: Mask
    blurred: Mask
    foreign: Mask
    pairs: frozenset[tuple[int, int]]


def main() -> int:
    options = parser(__doc__, "doctor").parse_args()
    if not (SHARED / SETS[0]).is_dir():
        print("this benchmark needs the photos of ../shared/data; they are not here", file=sys.stderr)
        return 0
    seeds, at_most = (2, 120) if options.quick else (20, None)
    encoder = registry.encoder(registry.DEFAULT_ENCODER)
    report = Report("Doctor")
    foreign = _embedded(FOREIGN, encoder, at_most)
    _planted(report, {name: _embedded(name, encoder, at_most) for name in SETS}, foreign, encoder, seeds)
    _flips(report, {name: _embedded(name, encoder, at_most) for name in OTHERS}, seeds)
    report.print()
    return 0


def _planted(report: Report, sets: dict[str, Pictures], foreign: Pictures, encoder: Encoder, seeds: int) -> None:
    rows = []
    for name, real in sets.items():
        say(f"{name}: {seeds} times")
        start = time.perf_counter()
        found = [_figures(_world(real, foreign, encoder, np.random.default_rng([seed, 5]))) for seed in range(seeds)]
        took = (time.perf_counter() - start) / seeds
        mean = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        for target in _targets(name, mean):
            report.target(target)
        rows += [
            (name, what, *(f"{func([one[what] for one in found]):.3f}" for func in (np.mean, np.min, np.max)))
            for what in mean
        ]
        rows.append((name, "seconds a time, all in all", f"{took:.1f}", "", ""))
    report.section(f"Planted faults, {seeds} times")
    report.table(("set", "what", "mean", "lowest", "highest"), rows)


def _targets(name: str, mean: dict[str, float]) -> list[Target]:
    return [
        Target(f"{name}: byte copies found", mean["byte copies found"], 1.0),
        Target(f"{name}: light edits found", mean["light edits found"], 1.0),
        Target(
            f"{name}: wrong labels, precision at recall .8", mean["wrong labels: precision at recall .8"], WRONG[name]
        ),
        Target(f"{name}: foreign pictures, precision at recall .8", mean["foreign: precision at recall .8"], 0.8),
    ]


def _figures(world: World) -> dict[str, float]:
    gathered = world.gathered
    labels = np.array(gathered.labels)
    told = {one.kind: _rows(one.items) for one in examine(gathered)}
    margins = doctoring.label_margins(gathered.vectors, list(labels))
    plain = _nearest_margins(gathered.vectors, labels)
    known = ~world.foreign
    pairs = {(i, j) for i, j, _ in doctoring.near_copies(gathered.vectors, gathered.prints)}
    strange = doctoring.strangeness(gathered.vectors)
    wrong = told.get("probable wrong labels", set()) & set(np.flatnonzero(known))
    return {
        "byte copies found": _share(world.copies, told.get("copies", set())),
        "light edits found": _share(world.edited, told.get("near copies", set())),
        "copies, as told: share of the pairs that was planted": len(pairs & world.pairs) / max(1, len(pairs)),
        "wrong labels: precision at recall .8": precision_at(margins[known], world.flipped[known], 0.8),
        "wrong labels: precision at recall .9": precision_at(margins[known], world.flipped[known], 0.9),
        "wrong labels, plain nearest neighbours: precision at recall .8": precision_at(
            plain[known], world.flipped[known], 0.8
        ),
        "wrong labels, as told: precision": _precision(world.flipped, wrong),
        "wrong labels, as told: recall": _share(world.flipped, wrong),
        "foreign: precision at recall .8": precision_at(strange, world.foreign, 0.8),
        "foreign, as told: precision": _precision(world.foreign, told.get("strangers", set())),
        "foreign, as told: recall": _share(world.foreign, told.get("strangers", set())),
        "blurred, as told: recall": _share(world.blurred, told.get("blurred pictures", set())),
        "blurred, as told: others, share of all": _others(world, told.get("blurred pictures", set())),
        "dark or overexposed, as told: share of all": len(
            told.get("dark pictures", set()) | told.get("overexposed pictures", set())
        )
        / len(labels),
    }


def _flips(report: Report, sets: dict[str, Pictures], seeds: int) -> None:
    rows = []
    for name, real in sets.items():
        say(f"{name}: {seeds} times, labels only")
        found = []
        for seed in range(seeds):
            labels, flipped = _flip(real.labels, np.random.default_rng([seed, 5]))
            margins = doctoring.label_margins(real.vectors, list(labels))
            plain = _nearest_margins(real.vectors, labels)
            found.append([precision_at(score, flipped, at) for score in (margins, plain) for at in (0.8, 0.9)])
        rows.append((name, *(f"{value:.3f}" for value in np.mean(found, axis=0))))
    report.section(f"Flipped labels alone, {seeds} times: precision at recall .8 / .9")
    report.table(("set", "ours at .8", "ours at .9", "plain at .8", "plain at .9"), rows)


def precision_at(scores: Scores, planted: Mask, recall: float) -> float:
    """Return the share of planted among those that come first until ``recall`` of the planted are there."""
    hits = np.cumsum(planted[np.argsort(-scores, kind="stable")])
    needed = int(np.ceil(recall * planted.sum() - 1e-9))
    return needed / (int(np.searchsorted(hits, needed)) + 1)


def _nearest_margins(vectors: Float32, labels: NDArray[np.str_]) -> Scores:
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -1)
    same = labels[:, None] == labels[None]
    margins: Scores = np.where(same, -1, similar).max(axis=1) - np.where(same, similar, -1).max(axis=1)
    return margins


def _rows(items: Sequence[tuple[str, str | None]]) -> set[int]:
    return {int(id_) for id_, _ in items}


def _share(planted: Mask, told: set[int]) -> float:
    return sum(int(row) in told for row in np.flatnonzero(planted)) / max(1, int(planted.sum()))


def _precision(planted: Mask, told: set[int]) -> float:
    return sum(bool(planted[row]) for row in told) / len(told) if told else 1.0


def _others(world: World, told: set[int]) -> float:
    return sum(not world.blurred[row] for row in told) / len(world.blurred)


# Worlds


def _embedded(name: str, encoder: Encoder, at_most: int | None) -> Pictures:
    with (SHARED / name / "groundtruth.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:at_most]
    paths = tuple(str(SHARED / name / row["path"]) for row in rows)
    say(f"{name}: {len(paths)} pictures")
    found = list(in_parallel(lambda path: _looked_at(read(path), encoder), paths))
    labels = np.array([row["label"] for row in rows])
    return Pictures(paths, labels, np.stack([one[0] for one in found]), tuple(one[1] for one in found))


def _looked_at(image: Image, encoder: Encoder) -> tuple[Float32, Condition]:
    return encoder.encode([image]).vectors[0], condition_of(image)


def _flip(labels: NDArray[np.str_], rng: np.random.Generator) -> tuple[NDArray[np.str_], Mask]:
    names, flipped, changed = np.unique(labels), np.zeros(len(labels), bool), labels.copy()
    flipped[rng.permutation(len(labels))[: max(1, round(_FLIPPED * len(labels)))]] = True
    for row in np.flatnonzero(flipped):
        changed[row] = rng.choice(names[names != labels[row]])
    return changed, flipped


def _world(real: Pictures, foreign: Pictures, encoder: Encoder, rng: np.random.Generator) -> World:
    count = len(real.paths)
    labels, flipped = _flip(real.labels, rng)
    sound = rng.permutation(np.flatnonzero(~flipped))
    copied, edited, soft = sound[:_EACH], sound[_EACH : 2 * _EACH], sound[2 * _EACH : 3 * _EACH]
    strangers = rng.permutation(len(foreign.paths))[:_EACH]
    edits = [LIGHT[number % len(LIGHT)] for number in range(_EACH)]
    changed = [_changed(real.paths[row], edit.apply, encoder, rng) for row, edit in zip(edited, edits, strict=True)]
    blurred = [_changed(real.paths[row], _blurred, encoder, rng) for row in soft]
    vectors = np.concatenate(
        [real.vectors, real.vectors[copied], np.stack([one[0] for one in changed]), foreign.vectors[strangers]]
    )
    vectors[soft] = [one[0] for one in blurred]
    conditions = [*real.conditions, *(real.conditions[row] for row in copied), *(one[1] for one in changed)]
    conditions += [foreign.conditions[row] for row in strangers]
    for row, (_, condition) in zip(soft, blurred, strict=True):
        conditions[row] = condition
    drawn = rng.choice(np.unique(real.labels), _EACH)
    whole = np.concatenate([labels, labels[copied], labels[edited], drawn])
    contents = [*range(count), *copied, *range(count, count + 2 * _EACH)]
    items = tuple(Item(str(row), content=str(content)) for row, content in enumerate(contents))
    sources = [*copied, *edited]
    return World(
        Gathered(items, vectors, tuple(str(label) for label in whole), tuple(conditions)),
        flipped=_mask(len(whole), np.flatnonzero(flipped)),
        copies=_mask(len(whole), _added(count, 0)),
        edited=_mask(len(whole), _added(count, 1)),
        blurred=_mask(len(whole), soft),
        foreign=_mask(len(whole), _added(count, 2)),
        pairs=frozenset((int(source), count + at) for at, source in enumerate(sources)),
    )


def _added(count: int, kind: int) -> NDArray[np.int64]:
    return np.arange(_EACH) + count + kind * _EACH


def _mask(count: int, rows: NDArray[np.int64]) -> Mask:
    mask = np.zeros(count, bool)
    mask[rows] = True
    return mask


def _changed(
    path: str, change: Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]], encoder: Encoder,
    rng: np.random.Generator,
) -> tuple[Float32, Condition]:  # fmt: skip
    pixels = change(read(Path(path)).pixels, rng)
    return _looked_at(Image(pixels, (pixels.shape[1], pixels.shape[0])), encoder)


def _blurred(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur a picture whose longer side is as the encoder sees it."""
    scale = _ENCODER_SIDE / max(pixels.shape)
    return _BLUR.apply(resized(pixels, round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)), rng)


if __name__ == "__main__":
    sys.exit(main())
