"""Recognize: how often a few references give the right label, and are pictures of unknown things told from known ones.

A draw leaves a third of the labels out of the gallery and takes 1, 3 or 5 references of each other label by lot. All
other pictures are queries: of known labels and of unknown ones (bccd: none of a slide that a reference is of).

- *right*: the share of known queries whose best label is theirs; beside it that of the plainest way, the label of the
  nearest reference by cosine.
- *AUROC*: of the best label's score, known against unknown queries; likewise for the nearest reference.
- *false alarms*: the share of unknown queries that get a label at a promised rate of 5 %. *named*: the share of known
  queries that do, and *right of named* the share of these that get theirs.

Of the default encoder also with 3, 5 and 8 labels in the gallery, three references each. What a picture costs is the
median time of one thread, pictures in memory, the encoders by turns.

Means over the draws, in brackets the lowest and the highest; for false alarms the 95 % interval of the mean over draws
(draws share pictures, so it is somewhat too narrow). Fewer than five references in all promise nothing and name
nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.encoders import embedded, rows_of
from benchmarks.harness import Report, Target, interleaved, medians, parser, say, seconds
from benchmarks.photos import SHARED
from lookalike import registry
from lookalike.apps.encoders import join, vary
from lookalike.apps.recognize import FEWEST_REFERENCES
from lookalike.images import read
from lookalike.recognizing import Ints, Recognition, votes
from lookalike.types import Float32

SETS = {
    "grocery, fine": ("grocery", "label"),
    "grocery, coarse": ("grocery", "coarse_label"),
    "bccd": ("bccd", "label"),
    "emoji_vendors": ("emoji_vendors", "label"),
}
DEFAULT = "efficientnet-lite0"
ENCODERS = (DEFAULT, "shape-and-colour", "lite0-views", "views-and-lite2")
REFERENCES = (1, 3, 5)
FEW_LABELS, FEW_REFERENCES = (3, 5, 8), 3
RATE = 0.05
_REPETITIONS, _TIMED = 5, 12

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Vectors (N, D), the number of the label and the unit that each belongs to."""

    vectors: Float32
    labels: Ints
    units: NDArray[np.str_]


@dataclass(frozen=True)
class Outcome:
    """What one draw gave, as shares."""

    right: float
    plain_right: float
    auroc: float
    plain_auroc: float
    alarms: float
    named: float
    right_of_named: float


def main() -> None:
    arguments = parser(__doc__, "recognize")
    arguments.add_argument("--draws", type=int, default=20, help="how many (20)")
    options = arguments.parse_args()
    draws = 2 if options.quick else options.draws
    report = Report("Recognize: a few references a label, a third of the labels unknown")
    sets = {name: where for name, where in SETS.items() if (SHARED / where[0] / "groundtruth.csv").is_file()}
    if not sets:
        report.text("The labelled sets are not at hand (../shared/data); nothing was measured.")
        return report.print()
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as home:
        os.environ["LOOKALIKE_ENCODERS"] = home
        _make(Path(home))
        for name, (folder, column) in sets.items():
            rows = []
            for encoder in ENCODERS:
                pictures = _pictures(folder, column, encoder)
                for references in REFERENCES:
                    if references >= np.bincount(pictures.labels).min():
                        continue
                    say(f"{name}, {encoder}, {references} references")
                    found = [_draw(pictures, references, seed) for seed in range(draws)]
                    rows.append((encoder, str(references), *_row(found)))
                    _targets(report, f"{name}, {encoder}, {references} a label", found)
            report.section(name)
            report.table(("encoder", "references", *_HEADER), rows)
        report.section(f"Few labels: {DEFAULT}, {FEW_REFERENCES} references each")
        report.table(("set", "labels", *_HEADER), [row for name in sets for row in _few_labels(name, draws)])
        _cost(report, SHARED / next(iter(sets.values()))[0])
    return report.print()


def _make(home: Path) -> None:
    """Make the encoders that are not built in."""
    recipe = home / "views.toml"
    recipe.write_text('size = 224\naugment = ["flip", "crops"]\n')
    vary(DEFAULT, str(recipe), "lite0-views")
    join({DEFAULT: 2.0, "color-histogram": 1.0}, "shape-and-colour")
    join({"lite0-views": 1.0, "efficientnet-lite2": 1.0}, "views-and-lite2")


_HEADER = (
    "right",
    "nearest reference: right",
    "AUROC",
    "nearest reference: AUROC",
    "false alarms, promised .05",
    "named",
    "right of named",
)


def _few_labels(name: str, draws: int) -> list[tuple[str, ...]]:
    pictures = _pictures(*SETS[name], DEFAULT)
    rows = []
    for labels in FEW_LABELS:
        if labels < pictures.labels.max():
            say(f"{name}, {labels} labels")
            found = [_draw(pictures, FEW_REFERENCES, seed, labels) for seed in range(draws)]
            rows.append((name, str(labels), *_row(found)))
    return rows


def _cost(report: Report, folder: Path) -> None:
    paths = [folder / row["path"] for row in rows_of(folder.name)[:_TIMED]]
    encoders = {name: registry.encoder(name) for name in ENCODERS}
    images = [read(path) for path in paths]
    for encoder in encoders.values():
        encoder.encode(images[:1])
    routes = {name: partial(seconds, partial(encoder.encode, images)) for name, encoder in encoders.items()}
    found = medians(interleaved(routes, _REPETITIONS, quiet=True))
    report.section("What a picture costs")
    rows = [
        (name, str(encoders[name].space.dim), f"{1000 * took / len(images):.1f}", f"{took / found[DEFAULT]:.1f}")
        for name, took in found.items()
    ]
    report.table(("encoder", "numbers", "ms a picture", "times the default"), rows)


def _pictures(folder: str, column: str, encoder: str) -> Pictures:
    rows = rows_of(folder)
    paths = [str(SHARED / folder / row["path"]) for row in rows]
    vectors = embedded(encoder, tuple(paths))
    there = [(row, path) for row, path in zip(rows, paths, strict=True) if path in vectors]
    labels = np.unique([row[column] for row, _ in there], return_inverse=True)[1].astype(np.int64)
    slides = ["_".join(os.path.basename(path).split("_")[:2]) if folder == "bccd" else path for _, path in there]
    return Pictures(np.concatenate([vectors[path].vectors for _, path in there]), labels, np.array(slides))


def _draw(pictures: Pictures, references: int, seed: int, labels: int | None = None) -> Outcome:
    """Draw ``labels`` of them for the gallery, two thirds where it is None, and their references; ask for the rest."""
    rng = np.random.default_rng(seed)
    count = int(pictures.labels.max()) + 1
    known = rng.permutation(count)[: labels or count - max(1, count // 3)]
    chosen = np.concatenate([rng.permutation(np.flatnonzero(pictures.labels == label))[:references] for label in known])
    number = np.full(count, -1)
    number[known] = np.arange(len(known))
    asked = np.flatnonzero(~np.isin(pictures.units, pictures.units[chosen]))
    truth, own = number[pictures.labels[asked]], number[pictures.labels[chosen]]
    of_known = truth >= 0
    recognition = Recognition.learn(pictures.vectors[chosen], own)
    adapted = recognition.scores(recognition.similar(pictures.vectors[asked])) - recognition.shifts
    plain = votes((pictures.vectors[asked] @ pictures.vectors[chosen].T).astype(np.float64), own, len(known), voters=1)
    best = adapted.max(axis=1)
    ahead = best - np.partition(adapted, -2, axis=1)[:, -2]
    limit = recognition.alarms.threshold(RATE, len(known)) if len(chosen) >= FEWEST_REFERENCES else np.inf
    named = (best >= limit) & (ahead >= recognition.margin)
    right = adapted.argmax(axis=1) == truth
    return Outcome(
        _share(right[of_known]),
        _share(plain.argmax(axis=1)[of_known] == truth[of_known]),
        _auroc(best[of_known], best[~of_known]),
        _auroc(plain.max(axis=1)[of_known], plain.max(axis=1)[~of_known]),
        _share(named[~of_known]),
        _share(named[of_known]),
        _share(right[of_known & named]),
    )


def _share(which: Mask) -> float:
    return float(which.mean()) if len(which) else float("nan")


def _auroc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Return the share of pairs in which the positive is higher, ties half (Mann and Whitney 1947)."""
    below = np.searchsorted(np.sort(negative), positive, "left")
    up_to = np.searchsorted(np.sort(negative), positive, "right")
    return float((below + up_to).mean() / 2 / len(negative))


def _row(found: Sequence[Outcome]) -> tuple[str, ...]:
    columns = {field.name: np.array([getattr(one, field.name) for one in found]) for field in fields(Outcome)}
    low, high = _interval(columns["alarms"])
    told = {name: _mean(values) for name, values in columns.items()}
    told["alarms"] = f"{columns['alarms'].mean():.3f} ({low:.3f} to {high:.3f})"
    return tuple(told.values())


def _mean(values: NDArray[np.float64]) -> str:
    if np.isnan(values).all():
        return "-"
    return f"{np.nanmean(values):.3f} ({np.nanmin(values):.3f} to {np.nanmax(values):.3f})"


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return max(0.0, float(values.mean() - half)), float(values.mean() + half)


def _targets(report: Report, what: str, found: Sequence[Outcome]) -> None:
    report.target(Target(f"{what}: AUROC", float(np.mean([one.auroc for one in found])), 0.90))
    alarms = float(np.mean([one.alarms for one in found]))
    report.target(Target(f"{what}: false alarms", alarms, RATE, at_least=False))


if __name__ == "__main__":
    main()
