"""What to switch on: recipes and test-time views against changes of pictures, and what each costs.

EfficientNet-Lite0 as it is and under other recipes (`lookalike encoders vary`), as `lookalike robustness` measures:

- *imagenet_photos*: photos by lot, each changed in 13 ways at up to four strengths, from mild to severe, and looked for
  among all of them. recall@1: the share of changed photos nearest to what they were; score: their mean cosine to that;
  margin: how much it is above the nearest other photo; different: the mean cosine of two photos.
- *coil100*: objects on a turntable; each view is looked for among one reference view an object, that nearest to 0
  degrees. recall@1: the share whose nearest reference is of the same object, by the angle between.

Every changed photo counts the same, and every kind of change. The gain is that of recall@1 on the plain encoder,
picture by picture, with its standard error. The cost is the time of a picture in memory, one thread, as a multiple of
the plain encoder's; the variants take turns.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Report, Route, interleaved, medians, parser, say, seconds
from benchmarks.photos import SHARED
from lookalike import registry
from lookalike.apps.encoders import recipe_of, vary
from lookalike.apps.robustness import robustness
from lookalike.changing import Point, Robustness, advice, by_change, gained, over_all, viewpoint_points
from lookalike.images import read
from lookalike.pairs import read_angles, read_labelled
from lookalike.pipeline import embed_files
from lookalike.preprocess import Recipe
from lookalike.protocols import Encoder
from lookalike.types import Skipped

BASE = "efficientnet-lite0"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "flip": {"augment": ("flip",)},
    "rotations": {"augment": ("rotations",)},
    "crops": {"augment": ("crops",)},
    "median": {"denoise": "median"},
    "grey-world": {"white_balance": "grey-world"},
    "clahe": {"equalize": "clahe"},
    "crop": {"fit": "crop", "crop": 0.875},
    "pad": {"fit": "pad", "fill": (127, 127, 127)},
}
_PHOTOS = 100
_QUICK = 12
_REPETITIONS, _TIMED = 5, 12


def main() -> None:
    arguments = parser(__doc__, "robustness")
    arguments.add_argument("--pictures", type=int, default=_PHOTOS, help=f"how many photos, by lot ({_PHOTOS})")
    options = arguments.parse_args()
    report = Report("Robustness: what to switch on")
    if not (SHARED / "imagenet_photos").is_dir():
        report.text("The photos are not at hand (../shared/data); nothing was measured.")
        return report.print()
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as scratch:
        os.environ["LOOKALIKE_ENCODERS"] = str(Path(scratch, "encoders"))
        names = _make(Path(scratch), list(VARIANTS)[:2] if options.quick else list(VARIANTS))
        photos = _photos(Path(scratch), _QUICK if options.quick else options.pictures)
        costs = _costs(photos, names)
        changed = _measured(photos, names)
        _overall(report, changed, costs)
        _by_change(report, changed)
        if (SHARED / "coil100" / "groundtruth.csv").is_file():
            _viewpoint(report, {name: _viewed(name) for name in names})
    return report.print()


def _make(scratch: Path, variants: list[str]) -> tuple[str, ...]:
    """Install the variants; return all names, the plain encoder's first."""
    plain = Recipe.from_toml(recipe_of(BASE))
    file = scratch / "recipe.toml"
    for name in variants:
        file.write_text(replace(plain, **VARIANTS[name]).to_toml(), encoding="utf-8")
        vary(BASE, str(file), name)
    return BASE, *variants


def _photos(scratch: Path, count: int) -> Path:
    """Return a folder with links to some of the photos, by lot."""
    files = sorted((SHARED / "imagenet_photos" / "images").iterdir())
    order = np.random.default_rng(0).permutation(len(files))[:count]
    folder = scratch / "photos"
    folder.mkdir()
    for row in order:
        (folder / files[row].name).symlink_to(files[row])
    return folder


# What is measured


def _measured(photos: Path, names: Sequence[str]) -> Robustness:
    say(f"imagenet_photos, {', '.join(names)}")
    return robustness(str(photos), names)


def _viewed(name: str) -> tuple[Point, ...]:
    say(f"coil100, {name}")
    file = SHARED / "coil100" / "groundtruth.csv"
    angles = read_angles(file, "angle_deg")
    pictures = read_labelled(file).items
    outcomes = embed_files([one.path for one in pictures], registry.encoder(name))
    vectors = dict(one for one in outcomes if not isinstance(one, Skipped))
    there = [one for one in pictures if one.path in vectors]
    matrix = np.concatenate([vectors[one.path].vectors for one in there])
    return viewpoint_points(matrix, [one.label for one in there], [angles[one.path] for one in there])


def _costs(photos: Path, names: Sequence[str]) -> dict[str, float]:
    """Return the ms of a picture of each encoder: the median of rounds in which they take turns."""
    images = [read(path) for path in sorted(photos.iterdir())[:_TIMED]]
    encoders = {name: registry.encoder(name) for name in names}
    for encoder in encoders.values():
        encoder.encode(images[:1])  # loads the model, which is not to be timed

    def route(encoder: Encoder) -> Route:
        return lambda: seconds(lambda: [encoder.encode([image]) for image in images]) / len(images) * 1000

    return medians(interleaved({name: route(one) for name, one in encoders.items()}, _REPETITIONS, quiet=True))


# What is printed


def _overall(report: Report, found: Robustness, costs: Mapping[str, float]) -> None:
    report.section(f"imagenet_photos, {found.pictures} photos, mean over 13 kinds of change")
    plain = found.points[BASE]
    rows = []
    for name, points in found.points.items():
        means = over_all(points)
        figures = means.recall, means.score, found.different[name], means.margin
        cells = *(f"{figure:.3f}" for figure in figures), _gain(plain, points)
        rows.append((name, *cells, f"{costs[name]:.1f}", f"{costs[name] / costs[BASE]:.2f}"))
    report.table(("recipe", "recall@1", "score", "different", "margin", "gain", "ms a picture", "times plain"), rows)
    for line in advice(found.points):
        report.text(line)


def _by_change(report: Report, found: Robustness) -> None:
    report.section("imagenet_photos, by kind of change: recall@1 / score")
    of_all = {name: by_change(points) for name, points in found.points.items()}
    rows = [
        (change, *(f"{means[change].recall:.3f} / {means[change].score:.3f}" for means in of_all.values()))
        for change in of_all[BASE]
    ]
    report.table(("change", *of_all), rows)


def _viewpoint(report: Report, points: Mapping[str, Sequence[Point]]) -> None:
    report.section("coil100, viewpoint: recall@1 by degrees from the reference")
    steps = [point.strength for point in points[BASE]]
    rows = []
    for name, of_name in points.items():
        means = over_all(of_name)
        cells = [f"{point.recall:.3f}" for point in of_name]
        rows.append((name, *cells, f"{means.recall:.3f}", f"{means.score:.3f}", _gain(points[BASE], of_name)))
    report.table(("recipe", *(f"{step:g}" for step in steps), "all", "score", "gain"), rows)


def _gain(plain: Sequence[Point], other: Sequence[Point]) -> str:
    if other is plain:
        return "-"
    gain, error = gained(plain, other)
    return f"{gain:+.3f} ± {error:.3f}"


if __name__ == "__main__":
    main()
