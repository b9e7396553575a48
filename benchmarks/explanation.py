"""Explanations: does the heat mark what the likeness rests on?

Of pairs that show the same, the strongest fifth of one picture is greyed, and it is measured how much the cosine to the
other falls; then the same the other way round. It should fall by more than when as much is greyed

- *elsewhere*: the same mask, shifted around at random, mean of several;
- *in the middle*: a disc in the middle of the picture;
- *by own saliency*: where the features of the picture alone, the other unseen, are longest (the norm of the last map).

Ratios are of the means over all pictures of a set. The interval is that of the ratio, by resampling the pairs (95 %).
The heat is found by filling with mid grey; filling with the picture's mean colour, which it never tried, checks it.

- *grocery*, *coil100*, *scene_pairs*, *clothing*: two pictures of one label (fine class, object, scene, category),
  drawn by seed, labels taking turns.
- *imagenet_photos*: a photo and an edited copy of it, the edits of ``benchmarks.retrieval`` taking turns.

*links*: of photos that were cropped, turned over, or pasted into another photo, the share of links that lie where they
should, to within .12 of a side.

The sets are looked for in ``../shared/data`` beside the checkout; one that is missing is left out.
"""

from __future__ import annotations

import csv
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from benchmarks.harness import Report, Target, parser, say
from benchmarks.photos import SHARED
from benchmarks.retrieval import _EDITS
from lookalike import registry
from lookalike.explain import GREY, SHARE, explain
from lookalike.images import read
from lookalike.preprocess import Recipe, resize
from lookalike.types import Image, Link

_ENCODER = "efficientnet-lite0"
_SIDE = 224
_DRAWS = 4
_PAIRS, _QUICK = 40, 4
_LABEL_SETS = ("grocery", "coil100", "scene_pairs", "clothing")
_EDIT_SET = "imagenet_photos"
_NEAR = 0.12

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Pair = tuple[Pixels, Pixels]
Losses = NDArray[np.float64]
"""What the cosine loses, a row a picture: by our heat, elsewhere, in the middle, by own saliency."""


@dataclass(frozen=True)
class Measured:
    """A set: the losses with both fills, two rows a pair, and the seconds that each explanation took."""

    grey: Losses
    mean_color: Losses
    times: list[float]


def main() -> None:
    arguments = parser(__doc__, "explanation")
    arguments.add_argument("--pairs", type=int, default=_PAIRS, help=f"of each set ({_PAIRS})")
    arguments.add_argument("--seed", type=int, default=0, help="which pairs are drawn (0)")
    options = arguments.parse_args()
    count = _QUICK if options.quick else options.pairs
    report = Report("Explanations: what the cosine loses when what they mark is greyed")
    measured = {}
    for name in (*_LABEL_SETS, _EDIT_SET):
        if not (SHARED / name / "groundtruth.csv").is_file():
            report.text(f"{name} is not at hand and was left out.")
            continue
        say(name)
        measured[name] = _measure(_pairs(name, count, options.seed), options.seed)
    _tell(report, measured)
    if _EDIT_SET in measured:
        report.section("links")
        report.table(("case", "links that lie right"), _links(2 if options.quick else 20, options.seed))
    report.print()


def _tell(report: Report, measured: dict[str, Measured]) -> None:
    for fill in ("grey", "mean_color"):
        report.section(f"filled with {'mid grey' if fill == 'grey' else 'the mean colour of the picture'}")
        rows = [_row(name, getattr(of_set, fill), of_set.times) for name, of_set in measured.items()]
        report.table(("set", "pairs", "ours", "elsewhere", "middle", "own", *_AGAINST, "median s"), rows)
    for name, of_set in measured.items():
        for column, (against, bound) in enumerate(_AGAINST.items(), 1):
            report.target(Target(f"{name}: {against}", _ratio(of_set.grey, column), bound))


_AGAINST = {"ours / elsewhere": 1.5, "ours / middle": 1.0, "ours / own": 1.0}


def _row(name: str, losses: Losses, times: Sequence[float]) -> tuple[str, ...]:
    ratios = [f"{_ratio(losses, column):.2f} ({_interval(losses, column)})" for column in (1, 2, 3)]
    means = [f"{mean:.4f}" for mean in losses.mean(axis=0)]
    return name, str(len(losses) // 2), *means, *ratios, f"{np.median(times):.2f}"


def _ratio(losses: Losses, column: int) -> float:
    means = losses.mean(axis=0)
    return float(means[0] / means[column])


def _interval(losses: Losses, column: int) -> str:
    rng = np.random.default_rng(0)
    pairs = losses.reshape(-1, 2, losses.shape[1]).mean(axis=1)
    drawn = [_ratio(pairs[rng.integers(len(pairs), size=len(pairs))], column) for _ in range(1000)]
    return " to ".join(f"{bound:.2f}" for bound in np.quantile(drawn, (0.025, 0.975)))


def _measure(pairs: Sequence[Pair], seed: int) -> Measured:
    encoder = registry.encoder(_ENCODER)
    grey, mean_color, times = [], [], []
    for number, (a, b) in enumerate(pairs):
        start = time.perf_counter()
        found = explain(_image(a), _image(b), encoder)
        times.append(time.perf_counter() - start)
        rng = np.random.default_rng([seed, number])
        for picture, other, heat in ((a, b, found.heat_a), (b, a, found.heat_b)):
            masks = _masks(picture, heat, rng)
            grey.append(_losses(picture, other, masks, np.full(3, GREY)))
            mean_color.append(_losses(picture, other, masks, picture.mean(axis=(0, 1))))
    return Measured(np.array(grey), np.array(mean_color), times)


def _masks(picture: Pixels, heat: NDArray[np.float32], rng: np.random.Generator) -> list[Mask]:
    """Return what is greyed: ours, in the middle, by own saliency, and then ours shifted."""
    ours = _strongest(heat)
    y, x = np.mgrid[:_SIDE, :_SIDE] - (_SIDE - 1) / 2
    features = list(registry.encoder(_ENCODER).maps([_image(picture)])[0].values())[-1]  # type: ignore[attr-defined]
    own = _strongest(np.linalg.norm(features, axis=0))
    return [ours, _strongest(-np.hypot(x, y)), own, *_shifted(ours, rng)]


def _shifted(mask: Mask, rng: np.random.Generator) -> Iterator[Mask]:
    for _ in range(_DRAWS):
        down, right = rng.integers(_SIDE, size=2)
        yield np.roll(mask, (int(down), int(right)), (0, 1))


def _strongest(values: NDArray[np.floating]) -> Mask:
    """Return the fifth of the pixels where a map, enlarged by Pillow, is strongest: not with the code under test."""
    picture = PIL.Image.fromarray(values.astype(np.float32)).resize((_SIDE, _SIDE), PIL.Image.Resampling.BICUBIC)
    order = np.argsort(-np.asarray(picture).ravel(), kind="stable")
    mask = np.zeros(_SIDE * _SIDE, np.bool_)
    mask[order[: round(SHARE * mask.size)]] = True
    return mask.reshape(_SIDE, _SIDE)


def _losses(picture: Pixels, other: Pixels, masks: Sequence[Mask], fill: NDArray[np.floating]) -> list[float]:
    color = np.rint(fill).astype(np.uint8)
    pictures = [other, picture, *(np.where(mask[..., None], color, picture) for mask in masks)]
    vectors = registry.encoder(_ENCODER).encode([*map(_image, pictures)]).vectors.astype(np.float64)
    cosines = vectors[1:] @ vectors[0]
    ours, middle, own, *elsewhere = cosines[0] - cosines[1:]
    return [ours, float(np.mean(elsewhere)), middle, own]


# Pairs


def _pairs(name: str, count: int, seed: int) -> list[Pair]:
    with (SHARED / name / "groundtruth.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng([seed, len(rows)])
    if name == _EDIT_SET:
        return list(_edited([SHARED / name / row["path"] for row in rows], count, rng))
    members: dict[str, list[Path]] = {}
    for row in rows:
        members.setdefault(row["label"], []).append(SHARED / name / row["path"])
    return [(_pixels(a), _pixels(b)) for a, b in _in_turns(members, count, rng)]


def _in_turns(members: dict[str, list[Path]], count: int, rng: np.random.Generator) -> list[tuple[Path, Path]]:
    """Return pairs of one label each, a first one of every label before any second."""
    by_label = [[*itertools.combinations(paths, 2)] for paths in members.values() if len(paths) > 1]
    shuffled = [[pairs[i] for i in rng.permutation(len(pairs))] for pairs in by_label]
    rng.shuffle(shuffled)
    rounds = itertools.zip_longest(*shuffled)
    return [pair for one_round in rounds for pair in one_round if pair is not None][:count]


def _edited(paths: Sequence[Path], count: int, rng: np.random.Generator) -> Iterator[Pair]:
    edits = itertools.cycle(_EDITS.values())
    for number, edit in zip(rng.permutation(len(paths))[:count], edits, strict=False):
        original = PIL.Image.fromarray(read(paths[number]).pixels)
        yield _squashed(original), _squashed(edit(original, rng))


def _pixels(path: Path) -> Pixels:
    return resize(read(path), Recipe(size=_SIDE))


def _squashed(picture: PIL.Image.Image) -> Pixels:
    return resize(Image(np.asarray(picture), picture.size), Recipe(size=_SIDE))


def _image(pixels: Pixels) -> Image:
    return Image(pixels, (pixels.shape[1], pixels.shape[0]))


# Links

Place = Callable[[float, float], tuple[float, float]]
"""Where a point of the one picture lies in the other, in [0, 1]."""


def _links(count: int, seed: int) -> list[tuple[str, str]]:
    encoder = registry.encoder(_ENCODER)
    right: dict[str, list[bool]] = {}
    for name, a, b, place in _cases(count, seed):
        found = explain(_image(a), _image(b), encoder).links
        right.setdefault(name, []).extend(_lies_right(link, place) for link in found)
    return [(name, f"{np.mean(of_case):.2f} of {len(of_case)}") for name, of_case in right.items()]


def _lies_right(link: Link, place: Place) -> bool:
    (ax, ay), (bx, by) = ((x + width / 2, y + height / 2) for x, y, width, height in (link.a, link.b))
    x, y = place(ax, ay)
    return bool(np.hypot(bx - x, by - y) < _NEAR)


def _cases(count: int, seed: int) -> Iterator[tuple[str, Pixels, Pixels, Place]]:
    rng = np.random.default_rng([seed, 1])
    paths = sorted((SHARED / _EDIT_SET / "images").glob("*.jpg"))
    half = _SIDE // 2
    for number in rng.permutation(len(paths))[:count]:
        a = _pixels(paths[number])
        left, top = rng.integers(_SIDE // 3, size=2) / _SIDE
        crop = a[round(top * _SIDE) :, round(left * _SIDE) :]
        yield (
            "cropped",
            a,
            _squashed(PIL.Image.fromarray(crop)),
            lambda x, y, left=left, top=top: ((x - left) / (1 - left), (y - top) / (1 - top)),
        )
        yield "turned over", a, np.ascontiguousarray(a[:, ::-1]), lambda x, y: (1 - x, y)
        ground = _pixels(paths[rng.integers(len(paths))]).copy()
        across, down = (int(n) for n in rng.integers(half, size=2))
        ground[down : down + half, across : across + half] = PIL.Image.fromarray(a).resize((half, half))
        yield (
            "pasted, half as wide",
            a,
            ground,
            lambda x, y, across=across, down=down: (across / _SIDE + x / 2, down / _SIDE + y / 2),
        )


if __name__ == "__main__":
    main()
