"""Structural similarity and registration: speed and differences against scikit-image, memory, alignments found.

- *speed*: SSIM of one grey pair, scikit-image and ours taking turns; a figure is the median of the rounds. The ratios
  are scikit-image's float64 time over ours. piq and pytorch-msssim are measured too where they can be imported.
- *memory*: the most that one SSIM at 12 megapixels adds to a process that holds both pictures.
- *differences*: the largest over photos and their edits, and over pictures made to let rounding errors add up.
- *registration*: photos against copies that were shifted (to 15 %), turned (to 15 degrees), scaled (.7 to 1.4), changed
  in light by gamma and gain, given noise and saved as JPEG (quality 30 to 90): found means that no corner of the photo
  is off by more than 1 % of its longest side. And pairs of different photos, in which any alignment is false.
- *scene_pairs*: how many pairs of the same scene are aligned, a look only: their changes are no similarities.
"""

from __future__ import annotations

import csv
import functools
import importlib.util
import io
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from benchmarks.harness import Report, Target, interleaved, medians, parser, say, seconds, subprocess_output
from benchmarks.photos import SHARED, mosaic, photo_files, photos
from lookalike.images import read
from lookalike.metrics.structural import ms_ssim, ssim, structural
from lookalike.registration import register
from lookalike.types import Image, Registration

Pixels = NDArray[np.uint8]
Pair = tuple[Pixels, Pixels]

_SCIKIT_IMAGE = "scikit-image, float64"
_PEERS = ("piq", "pytorch_msssim")
_SIDE = 320
_MEMORY = """
import sys
import numpy as np
from lookalike.metrics.structural import ms_ssim, ssim, structural
from skimage.metrics import structural_similarity
def status(name):
    return int(next(l.split()[1] for l in open("/proc/self/status") if l.startswith(name)))
def run(a, b):
    return eval(sys.argv[1])
small = np.zeros((2, 64, 64), np.uint8)
run(*small)
a, b = np.random.default_rng(0).integers(0, 256, (2, int(sys.argv[3]), int(sys.argv[2])), np.uint8)
before = status("VmRSS:")
run(a, b)
print((status("VmHWM:") - before) / 1024)
"""
_SKIMAGE_CALL = (
    "structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)"
)


def main() -> None:
    options = parser(__doc__, "structural").parse_args()
    report = Report("Structural similarity and registration", ("numpy", "scikit-image", "scipy", "pillow"))
    large = (1000, 750) if options.quick else (4000, 3000)
    _speed(report, (256, 256), rounds=5 if options.quick else 25, calls=10)
    _speed(report, large, rounds=2 if options.quick else 5, calls=1)
    _memory(report, large)
    _differences(report, few=options.quick)
    _registration(report, edits=10 if options.quick else 200, others=20 if options.quick else 800)
    _scenes(report, few=options.quick)
    report.print()


# Speed and memory


def _speed(report: Report, size: tuple[int, int], rounds: int, calls: int) -> None:
    width, height = size
    a, b = _noisy_pair(size)
    work: dict[str, Callable[[], object]] = {
        _SCIKIT_IMAGE: lambda: _reference(a, b),
        "scikit-image, float32": lambda: _reference(a.astype(np.float32), b.astype(np.float32)),
        "ssim, float64": lambda: ssim(a, b),
        "ssim, float32": lambda: ssim(a, b, dtype=np.float32),
        "structural (map and terms), float64": lambda: structural(a, b),
        "structural (map and terms), float32": lambda: structural(a, b, dtype=np.float32),
        "ms_ssim, float64": lambda: ms_ssim(a, b),
        "ms_ssim, float32": lambda: ms_ssim(a, b, dtype=np.float32),
        **_peers(a, b),
    }
    say(f"speed at {width}x{height}")
    for once in work.values():
        once()
    routes = {name: functools.partial(_each, once, calls) for name, once in work.items()}
    ms = {name: 1000 * s for name, s in medians(interleaved(routes, rounds, quiet=calls > 1)).items()}
    report.section(f"Speed, {width}x{height}, grey")
    rows = [(name, f"{value:.3g}", f"{ms[_SCIKIT_IMAGE] / value:.1f}") for name, value in ms.items()]
    report.table(("", "ms, median", f"times as fast as {_SCIKIT_IMAGE}"), rows)
    for name in _PEERS:
        if importlib.util.find_spec(name) is None:
            report.text(f"{name}: not installed.")
    for dtype, bound in (("float64", 2), ("float32", 5)):
        what = f"{width}x{height}: SSIM in {dtype}, times scikit-image"
        report.target(Target(what, ms[_SCIKIT_IMAGE] / ms[f"ssim, {dtype}"], bound))


def _each(once: Callable[[], object], calls: int) -> float:
    return seconds(lambda: [once() for _ in range(calls)]) / calls


def _peers(a: Pixels, b: Pixels) -> Mapping[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {}
    if importlib.util.find_spec("torch") is None:
        return found
    import torch  # noqa: PLC0415 - only where somebody installed it

    x, y = (torch.from_numpy(plane.astype(np.float32))[None, None] for plane in (a, b))
    if importlib.util.find_spec("piq"):
        import piq  # noqa: PLC0415

        found["piq, float32"] = lambda: piq.ssim(x, y, data_range=255.0, downsample=False)
    if importlib.util.find_spec("pytorch_msssim"):
        import pytorch_msssim  # noqa: PLC0415

        found["pytorch_msssim, float32"] = lambda: pytorch_msssim.ssim(x, y, data_range=255.0)
    return found


def _memory(report: Report, size: tuple[int, int]) -> None:
    calls = {
        _SCIKIT_IMAGE: _SKIMAGE_CALL,
        "ssim, float64": "ssim(a, b)",
        "ssim, float32": "ssim(a, b, dtype=np.float32)",
        "structural (map and terms), float64": "structural(a, b)",
        "ms_ssim, float64": "ms_ssim(a, b)",
    }
    mib = {}
    for name, call in calls.items():
        say(f"memory of {name}")
        mib[name] = float(subprocess_output([sys.executable, "-c", _MEMORY, call, *map(str, size)]))
    report.section(f"Peak memory above the two pictures, {size[0]}x{size[1]}, grey")
    report.table(("", "MiB"), [(name, f"{value:.0f}") for name, value in mib.items()])
    report.target(Target("memory of SSIM in float64 beside the pictures", mib["ssim, float64"], 32, False, " MiB"))


# Differences


def _differences(report: Report, *, few: bool) -> None:
    kinds = {"photos and their edits": _photo_pairs(5 if few else 40), "made to be hard": _hard_pairs()}
    rows = []
    worst = {np.float64: 0.0, np.float32: 0.0}
    for kind, pairs in kinds.items():
        say(f"differences, {kind}")
        count, largest = 0, {np.float64: 0.0, np.float32: 0.0}
        for count, (a, b) in enumerate(pairs, 1):  # noqa: B007
            want = _reference(a, b)
            largest = {dtype: max(was, abs(ssim(a, b, dtype=dtype) - want)) for dtype, was in largest.items()}
        rows.append((kind, str(count), f"{largest[np.float64]:.1e}", f"{largest[np.float32]:.1e}"))
        worst = {dtype: max(worst[dtype], largest[dtype]) for dtype in worst}
    report.section("Largest difference to scikit-image in float64")
    report.table(("pairs", "count", "float64", "float32"), rows)
    report.target(Target("SSIM in float64, difference to scikit-image", worst[np.float64], 1e-12, at_least=False))
    report.target(Target("SSIM in float32, difference to scikit-image", worst[np.float32], 1e-6, at_least=False))


def _photo_pairs(count: int) -> Iterator[Pair]:
    files = _spread(photo_files(), count)
    rng = np.random.default_rng(0)
    for path, other in zip(files, files[1:] + files[:1], strict=True):
        photo = read(path).pixels
        grey = photo[..., 1]
        yield grey, _eight_bits(grey + rng.normal(0, 10, grey.shape))
        yield grey, _eight_bits(grey * 1.2 + 10)
        yield grey, _jpeg(photo, 30)[..., 1]
        yield _same_size(grey, read(other).pixels[..., 1])


def _hard_pairs() -> Iterator[Pair]:
    rng = np.random.default_rng(1)
    white = np.full((301, 299), 255, np.uint8)
    yield white, white - 1
    yield white, white * 0
    ramp = np.linspace(0, 255, 300)[:, None] * np.ones(400)
    yield _eight_bits(ramp), _eight_bits(ramp + rng.normal(0, 2, ramp.shape))
    for height, width in ((20, 30), (61, 73), (256, 256), (430, 700)):
        for period, (low, high) in itertools.product((1, 2, 5, 8, 16, 24, 40, 100), ((20, 235), (100, 200), (0, 255))):
            odd = (np.arange(height)[:, None] // period + np.arange(width) // period) % 2
            board = np.where(odd == 1, high, low)
            noise = rng.normal(0, 6, board.shape).round()
            yield _eight_bits(board), _eight_bits(low + high - board)
            yield _eight_bits(board), _eight_bits(board + noise)
            yield _eight_bits(board + noise), _eight_bits(board - noise)
            yield _eight_bits(board + noise), _eight_bits(low + high - board + noise)


# Registration


def _registration(report: Report, edits: int, others: int) -> None:
    files = photo_files()
    rows, errors, times = [], [], []
    parameters: list[tuple[float, ...]] = []
    rng = np.random.default_rng(2)
    say(f"{edits} edited copies")
    for path in _spread(files, edits):
        photo = _small(path)
        copy, matrix, (rotation, scale, shift) = _edited(photo, rng)
        registrations: list[Registration] = []
        times.append(seconds(lambda: registrations.append(register(_image(photo), _image(copy)))))  # noqa: B023
        found = registrations[0]
        errors.append(_worst_corner(found, matrix, photo))
        if found.matrix is not None and errors[-1] < 0.01:
            off = np.abs(np.subtract(found.shift or (0, 0), shift)).max()
            parameters.append((off, abs((found.rotation or 0) - rotation), abs((found.scale or 1) / scale - 1)))
    share = float(np.mean(np.array(errors) < 0.01))
    report.section(f"Registration, photos of {_SIDE} pixels")
    for name, make in _COPIES.items():
        say(name)
        off = [
            _worst_corner(register(_image(p), _image(c)), m, p)
            for p in map(_small, _spread(files, edits // 4))
            for c, m in [make(p)]
        ]
        rows.append((name, str(len(off)), f"{np.mean(np.array(off) < 0.01):.3f}"))
    report.table(("copies", "count", "found"), [("edited", str(len(errors)), f"{share:.3f}"), *rows])
    names = ("shift, pixels", "rotation, degrees", "scale, share")
    quantiles = np.quantile(parameters, (0.5, 0.9, 1.0), axis=0)
    report.text("Errors of the edited copies that were found.")
    report.table(
        ("", "median", "90 %", "largest"),
        [(name, *(f"{value:.2g}" for value in column)) for name, column in zip(names, quantiles.T, strict=True)],
    )
    report.text(
        f"Time of one registration: median {1000 * np.median(times):.0f} ms, longest {1000 * max(times):.0f} ms."
    )
    report.target(Target("edited copies that are aligned", share, 0.95))
    report.target(Target("time of one registration", 1000 * float(np.median(times)), 150, at_least=False, unit=" ms"))
    report.target(Target("pairs of different photos that are aligned", _false_share(report, others), 0.01, False))


def _false_share(report: Report, count: int) -> float:
    rng = np.random.default_rng(3)
    files = [path for path in photo_files() if "imagenet" in str(path)] or photo_files()
    rows, total = [], 0
    for side, share in ((_SIDE, 0.6), (160, 0.2), (64, 0.2)):
        say(f"different photos of {side} pixels")
        pairs = [rng.choice(len(files), 2, replace=False) for _ in range(round(share * count))]
        false = sum(register(*(_image(_small(files[i], side)) for i in pair)).found for pair in pairs)
        rows.append((str(side), str(len(pairs)), str(false)))
        total += false
    report.text("Pairs of different photos.")
    report.table(("longest side", "pairs", "aligned"), rows)
    return total / sum(int(row[1]) for row in rows)


def _scenes(report: Report, *, few: bool) -> None:
    folder = SHARED / "scene_pairs"
    if not (folder / "groundtruth.csv").is_file():
        report.text("scene_pairs is not at hand and was left out.")
        return
    scenes: dict[tuple[str, str], list[Path]] = {}
    with (folder / "groundtruth.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            scenes.setdefault((row["change"], row["label"]), []).append(folder / row["path"])
    say("scene_pairs")
    aligned: dict[str, list[bool]] = {}
    for (change, _), paths in list(scenes.items())[:: 20 if few else 1]:
        for path in paths[1:]:
            aligned.setdefault(change, []).append(register(read(paths[0]), read(path)).found)
    report.section("scene_pairs: the first picture of a scene and each other one")
    rows = [(change, str(len(found)), str(sum(found))) for change, found in sorted(aligned.items())]
    report.table(("change", "pairs", "aligned"), rows)


def _edited(
    pixels: Pixels, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.float64], tuple[float, float, NDArray[np.float64]]]:
    """Return an edited copy, the matrix to it, and the rotation (degrees), scale and shift (pixels) that made it."""
    height, width = pixels.shape[:2]
    rotation, scale = rng.uniform(-15, 15), np.exp(rng.uniform(np.log(0.7), np.log(1.4)))
    shift = rng.uniform(-0.15, 0.15, 2) * (width, height)
    c, s = scale * np.cos(np.radians(rotation)), scale * np.sin(np.radians(rotation))
    turn, middle = np.array([(c, s), (-s, c)]), np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.column_stack([turn, middle + scale * shift - turn @ middle])
    back = np.linalg.inv(turn)
    # Pillow asks where a pixel of the copy comes from, and counts from the edge of the first pixel.
    offset = 0.5 - back @ (matrix[:, 2] + 0.5)
    fill = (int(rng.choice([0, 128, 255])),) * 3
    moved = PIL.Image.fromarray(pixels).transform(
        (width, height),
        PIL.Image.Transform.AFFINE,
        (*back[0], offset[0], *back[1], offset[1]),
        PIL.Image.Resampling.BICUBIC,
        fillcolor=fill,
    )
    light = 255 * (np.asarray(moved) / 255) ** rng.uniform(0.7, 1.4) * rng.uniform(0.8, 1.1) + rng.uniform(-15, 15)
    noisy = _eight_bits(light + rng.normal(0, rng.choice([0, 5, 10, 15]), light.shape))
    return _jpeg(noisy, int(rng.choice([30, 50, 90]))), matrix, (float(rotation), float(scale), shift)


def _resized(share: float, pixels: Pixels) -> tuple[Pixels, NDArray[np.float64]]:
    height, width = pixels.shape[:2]
    size = round(width * share), round(height * share)
    x, y = size[0] / width, size[1] / height
    copy = np.asarray(PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.LANCZOS))
    return copy, np.array([(x, 0, (x - 1) / 2), (0, y, (y - 1) / 2)])


def _cropped(share: float, pixels: Pixels) -> tuple[Pixels, NDArray[np.float64]]:
    height, width = pixels.shape[:2]
    top, left = round(height * (1 - share) / 3), round(width * (1 - share) / 3)
    copy = pixels[top : top + round(height * share), left : left + round(width * share)]
    return copy, np.array([(1, 0, -left), (0, 1, -top)])


def _quarter_turn(pixels: Pixels) -> tuple[Pixels, NDArray[np.float64]]:
    return np.rot90(pixels), np.array([(0, 1, 0), (-1, 0, pixels.shape[1] - 1)])


_COPIES: dict[str, Callable[[Pixels], tuple[Pixels, NDArray[np.float64]]]] = {
    "half the size": functools.partial(_resized, 0.5),
    "a fifth of the size": functools.partial(_resized, 0.2),
    "a crop of .7 of both sides": functools.partial(_cropped, 0.7),
    "a crop of .5 of both sides": functools.partial(_cropped, 0.5),
    "turned by 90 degrees": _quarter_turn,
}


def _worst_corner(found: Registration, matrix: NDArray[np.float64], pixels: Pixels) -> float:
    """Return by what share of a's longest side a corner of a is off, in the frame of a."""
    if found.matrix is None:
        return float("inf")
    height, width = pixels.shape[:2]
    corners = np.array([(x, y, 1) for x in (0, width - 1) for y in (0, height - 1)])
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    off = np.abs(corners @ (np.array(found.matrix) - matrix).T).max()
    return float(off / scale / max(height, width))


# Pictures


def _reference(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    score: float = structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    return score


def _noisy_pair(size: tuple[int, int]) -> Pair:
    rng = np.random.default_rng(0)
    a = mosaic(photos(), size, rng)[..., 1].copy()
    return a, _eight_bits(a + rng.normal(0, 10, a.shape))


def _small(path: Path, side: int = _SIDE) -> Pixels:
    picture = PIL.Image.fromarray(read(path).pixels)
    picture.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _image(pixels: Pixels) -> Image:
    return Image(np.ascontiguousarray(pixels), (pixels.shape[1], pixels.shape[0]))


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(file))


def _same_size(a: Pixels, b: Pixels) -> Pair:
    height, width = min(a.shape[0], b.shape[0]), min(a.shape[1], b.shape[1])
    return a[:height, :width], b[:height, :width]


def _eight_bits(values: NDArray[np.generic]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _spread(files: list[Path], count: int) -> list[Path]:
    """Return ``count`` of the files, evenly spread; more than there are, they come again."""
    return [files[i * len(files) // count % len(files)] for i in range(count)]


if __name__ == "__main__":
    main()
