"""What ``quality.measure`` finds of noise, blur and brightness that were applied to real photos, and what it costs.

Each set is judged on a sample, spread over it. Noise and blur are applied to the picture at its own size; blur in
proportion to the size, so that its sigma is the stated one where it is measured.

- *noise*: measured over applied, where applied is the standard deviation that the same noise has on a grey card of the
  same size, reduced likewise. Immerkaer's estimate (1996, over the whole picture, as published) is beside it.
- *blur*: measured sigma, in pixels at the measured size. Gaussians add in quadrature: what is to be found is
  sqrt(own^2 + applied^2), own being what is measured of the original. *ordered*: 0, 1, 2, 4 come out in order.
- *brightness*: measured over that of the original times the factor; above 1 it is cut off at white.
- *problem*: pictures that are said to be beyond judging, as they are and after the harshest degradations. Those that a
  degradation has left white or black (99 of 100 values are 255, or 0) do not count.

Cells are medians, with the tenth and ninetieth percentile. Time is processor time of one thread. The sets are looked
for in ``../shared/data`` beside the checkout; one that is missing is left out.
"""

from __future__ import annotations

import csv
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Report, Target, parser, say
from benchmarks.photos import SHARED
from lookalike.edits import Edit
from lookalike.images import read
from lookalike.quality import SIDE, measure, reduced
from lookalike.types import Image, Quality

_PHOTOS = ("grocery", "coil100", "scene_pairs", "clothing", "bccd", "imagenet_photos", "chest_xray")
_DRAWINGS = ("emoji_vendors", "deeppcb")
_NOISES, _BLURS, _FACTORS = (5, 10, 20, 40), (1, 2, 4), (0.5, 0.75, 1.25, 1.5)
_HARSH = (
    *(Edit("gamma", {"exponent": exponent}) for exponent in (0.4, 2.5)),
    *(Edit("brightness", {"factor": factor}) for factor in (0.5, 1.5)),
    Edit("noise", {"sigma": 40}),
    Edit("blur", {"sigma": 4}),
)
_MOST, _MOST_QUICK = 80, 5

Pixels = NDArray[np.uint8]
Values = list[float]


def main() -> None:
    arguments = parser(__doc__, "quality")
    arguments.add_argument("--most", type=int, default=_MOST, help=f"pictures of a set ({_MOST})")
    options = arguments.parse_args()
    report = Report("Quality of a picture: measured against applied", packages=("numpy", "pillow", "cykooz.resizer"))
    most = _MOST_QUICK if options.quick else options.most
    sets = {name: list(_pictures(name, most)) for name in (*_PHOTOS, *_DRAWINGS)}
    sets = {name: pictures for name, pictures in sets.items() if pictures}
    photos = {name: sets[name] for name in _PHOTOS if name in sets}
    _clean(report, sets)
    _noise(report, sets, photos)
    _blur(report, sets, photos)
    _brightness(report, sets)
    _problems(report, sets)
    _time(report, [picture for pictures in sets.values() for picture in pictures])
    report.print()


def _pictures(name: str, most: int) -> Iterator[Pixels]:
    table = SHARED / name / "groundtruth.csv"
    if not table.is_file():
        say(f"{name} is not at hand and is left out")
        return
    with table.open(newline="", encoding="utf-8") as rows:
        paths = [SHARED / name / row["path"] for row in csv.DictReader(rows)]
    for path in paths[:: max(1, len(paths) // most)][:most]:
        yield read(Path(path)).pixels


def _measured(pixels: Pixels) -> Quality:
    return measure(_image(pixels))


def _image(pixels: Pixels) -> Image:
    return Image(pixels, (pixels.shape[1], pixels.shape[0]))


def _rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _clean(report: Report, sets: dict[str, list[Pixels]]) -> None:
    report.section("As they are")
    rows = []
    for name, pictures in sets.items():
        found = [_measured(pixels) for pixels in pictures]
        columns = ([q.brightness for q in found], [q.contrast for q in found])
        rows.append((name, str(len(found)), *map(_cell, columns), *(_cell(v) for v in _noise_and_blur(found))))
    report.table(("set", "pictures", "brightness", "contrast", "noise", "blur"), rows)


def _noise_and_blur(found: Sequence[Quality]) -> tuple[Values, Values]:
    return [q.noise for q in found], [q.blur for q in found]


def _noise(report: Report, sets: dict[str, list[Pixels]], photos: dict[str, list[Pixels]]) -> None:
    report.section("Noise: measured / applied")
    rows, good = [], dict.fromkeys(_NOISES, 0)
    for name, pictures in sets.items():
        say(f"noise, {name}")
        for how, estimate in (("", _our_noise), (", Immerkaer", _immerkaer)):
            cells = []
            for sigma in _NOISES:
                ratios = [_noise_ratio(pixels, sigma, i, estimate) for i, pixels in enumerate(pictures)]
                cells.append(_cell(ratios))
                if name in photos and not how:
                    good[sigma] += sum(
                        _is_near(ratio, _on_grey_card(pixels.shape, sigma))
                        for ratio, pixels in zip(ratios, pictures, strict=True)
                    )
            rows.append((name + how, *cells))
    report.table(("set", *(f"sigma {sigma}" for sigma in _NOISES)), rows)
    count = sum(map(len, photos.values()))
    for sigma in _NOISES:
        share = good[sigma] / count if count else None
        report.target(Target(f"photos whose noise of sigma {sigma} is found within 20 % or 1 level", share, 0.9))
    clean = [_measured(pixels).noise for pictures in photos.values() for pixels in pictures]
    share = sum(noise < 3 for noise in clean) / count if count else None
    report.target(Target("clean photos with less noise than 3", share, 0.9))


def _is_near(ratio: float, applied: float) -> bool:
    return abs(ratio - 1) <= max(0.2, 1 / applied)


def _noise_ratio(pixels: Pixels, sigma: float, seed: int, estimate: Callable[[Pixels], float]) -> float:
    noisy = Edit("noise", {"sigma": sigma}).apply(pixels, _rng(seed))
    return estimate(noisy) / _on_grey_card(pixels.shape, sigma)


@functools.cache
def _on_grey_card(shape: tuple[int, ...], sigma: float) -> float:
    card = Edit("noise", {"sigma": sigma}).apply(np.full(shape, 128, np.uint8), _rng(0))
    return float(reduced(_image(card)).std())


def _our_noise(pixels: Pixels) -> float:
    return _measured(pixels).noise


def _immerkaer(pixels: Pixels) -> float:
    """Return sqrt(pi / 2) / 6 times the mean absolute response to [1 -2 1]' [1 -2 1], over all channels."""
    x = reduced(_image(pixels)).astype(np.float64)
    x = x[:-2] - 2 * x[1:-1] + x[2:]
    x = x[:, :-2] - 2 * x[:, 1:-1] + x[:, 2:]
    return math.sqrt(math.pi / 2) / 6 * float(np.abs(x).mean())


def _blur(report: Report, sets: dict[str, list[Pixels]], photos: dict[str, list[Pixels]]) -> None:
    report.section("Blur: measured sigma")
    rows: list[tuple[str, ...]] = []
    ratios: dict[int, Values] = {sigma: [] for sigma in _BLURS}
    for name, pictures in sets.items():
        say(f"blur, {name}")
        for noise in (0, 20, 40):
            values = {
                sigma: [_blur_found(p, sigma, noise, i) for i, p in enumerate(pictures)] for sigma in (0, *_BLURS)
            }
            ordered = sum(a <= b <= c <= d for a, b, c, d in zip(*values.values(), strict=True)) / len(pictures)
            rows.append((f"{name}, noise {noise}" if noise else name, *map(_cell, values.values()), f"{ordered:.0%}"))
            if name in photos and not noise:
                for sigma in _BLURS:
                    ratios[sigma] += [
                        b / math.hypot(own, sigma) for own, b in zip(values[0], values[sigma], strict=True)
                    ]
    report.table(("set", *(f"sigma {sigma}" for sigma in (0, *_BLURS)), "ordered"), rows)
    for sigma, found in ratios.items():
        share = sum(abs(ratio - 1) <= 0.25 for ratio in found) / len(found) if found else None
        report.target(Target(f"photos whose blur of sigma {sigma} is found within 25 %", share, 0.9))


def _blur_found(pixels: Pixels, sigma: float, noise: float, seed: int) -> float:
    scale = max(1.0, max(pixels.shape) / SIDE)
    blurred = Edit("blur", {"sigma": sigma * scale}).apply(pixels, _rng())
    return _measured(Edit("noise", {"sigma": noise}).apply(blurred, _rng(seed))).blur


def _brightness(report: Report, sets: dict[str, list[Pixels]]) -> None:
    report.section("Brightness: measured / (original x factor)")
    rows = []
    for name, pictures in sets.items():
        before = [_measured(pixels).brightness for pixels in pictures]
        cells = []
        for factor in _FACTORS:
            edit = Edit("brightness", {"factor": factor})
            after = [_measured(edit.apply(pixels, _rng())).brightness for pixels in pictures]
            cells.append(_cell([a / (factor * b) for a, b in zip(after, before, strict=True) if b > 0]))
        rows.append((name, *cells))
    report.table(("set", *(f"factor {factor}" for factor in _FACTORS)), rows)


def _problems(report: Report, sets: dict[str, list[Pixels]]) -> None:
    report.section("Pictures with a problem")
    rows, total = [], 0
    for name, pictures in sets.items():
        say(f"problems, {name}")
        changed = [pictures, *([edit.apply(p, _rng(0)) for p in pictures] for edit in _HARSH)]
        counts = [sum(_has_problem(pixels) for pixels in of_edit) for of_edit in changed]
        total += sum(counts)
        rows.append((name, *map(str, counts)))
    report.table(("set", "as they are", *map(str, _HARSH)), rows)
    report.target(Target("usable pictures said to be beyond judging", total if sets else None, 0, at_least=False))


def _has_problem(pixels: Pixels) -> bool:
    is_lost = max((pixels == level).mean() for level in (0, 255)) >= 0.99
    return not is_lost and _measured(pixels).problem is not None


def _time(report: Report, pictures: Sequence[Pixels]) -> None:
    rng = _rng(0)
    samples = [_image(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))]
    samples += [_image(pixels) for pixels in map(_square, pictures) if pixels is not None]
    costs = [min(_cost(image) for _ in range(5)) for image in samples[:50]]
    report.target(Target("a picture of 224 x 224 pixels", 1e3 * float(np.median(costs)), 3, at_least=False, unit=" ms"))


def _square(pixels: Pixels) -> Pixels | None:
    return pixels[:SIDE, :SIDE] if min(pixels.shape[:2]) >= SIDE else None


def _cost(image: Image) -> float:
    start = time.thread_time()
    measure(image)
    return time.thread_time() - start


def _cell(values: Sequence[float]) -> str:
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
