"""The seven labelled sets of ``../shared/data`` as vectors: of each picture as it is, degraded, and in random variants.

A picture is embedded as a query is: its quality is measured, and it is restored where that is far worse than is
usual in its set. ``plain`` vectors are those without restoration. All chance is by the picture's path, so that a set
gives the same vectors on every run; with ``cache`` they are kept in a folder.
"""

from __future__ import annotations

import csv
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import say
from benchmarks.photos import SHARED
from lookalike.calibration.pairs import numbered
from lookalike.edits import Edit, random_copy, random_degradation
from lookalike.images import read
from lookalike.pipeline import in_parallel
from lookalike.protocols import Encoder
from lookalike.quality import measure, reduced
from lookalike.restoration import restored, usual_of
from lookalike.types import Image, Quality, Usual

VARIANTS = 12
DEGRADATIONS: dict[str, Edit] = {
    **{f"gamma {g}": Edit("gamma", {"exponent": g}) for g in (0.4, 0.63, 1.6, 2.5)},
    **{f"brightness {f}": Edit("brightness", {"factor": f}) for f in (0.5, 1.5)},
    **{f"noise {s}": Edit("noise", {"sigma": s}) for s in (5, 10, 20, 40)},
    **{f"blur {s}": Edit("blur", {"sigma": s}) for s in (1, 2, 4)},
}
STRONG = ("noise 20", "noise 40", "blur 2", "blur 4")
_EDITED = 300

Mask = NDArray[np.bool_]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """A picture of a set: its path, what it shows, what it belongs to, and whether it is to be an edited copy."""

    path: str
    label: str
    unit: str
    copy: bool = False


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """N pictures: labels, units, vectors and qualities.

    ``clean`` (N, D); ``degraded`` and ``plain`` by name (N, D), with and without restoration; ``variants`` (N, V + 1,
    D), the first unchanged; qualities in the same order.
    """

    name: str
    labels: NDArray[np.int64]
    units: NDArray[np.int64]
    clean: Vectors
    norms: Vectors
    clean_quality: list[Quality]
    degraded: dict[str, Vectors]
    plain: dict[str, Vectors]
    degraded_quality: dict[str, list[Quality]]
    variants: Vectors
    variant_quality: list[list[Quality]]

    def masks(self, rows: NDArray[np.int64]) -> tuple[Mask, Mask]:
        """Return who is an impostor of whom and who shows the same, (n, n), for some rows.

        What shares a unit but not a label counts as neither.
        """
        same = self.labels[rows][:, None] == self.labels[rows][None]
        apart = self.units[rows][:, None] != self.units[rows][None]
        return ~same & apart, same & ~np.eye(len(rows), dtype=bool)

    def halves(self, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of a random half of the units, and those of the other half."""
        units = np.unique(self.units)
        chosen = np.random.default_rng(seed).permutation(units)[: len(units) // 2]
        first = np.isin(self.units, chosen)
        return np.flatnonzero(first), np.flatnonzero(~first)


def available() -> list[str]:
    """Return the names of the sets that are at hand."""
    return [name for name in _ROWS if (SHARED / name / "groundtruth.csv").is_file()]


def load(name: str, encoder: Encoder, *, at_most: int | None = None, cache: Path | None = None) -> LabelledSet:
    """Return a set, embedded; ``at_most`` takes the pictures of the first units only."""
    rows = _ROWS[name](name)
    if at_most is not None:
        kept = list(dict.fromkeys(row.unit for row in rows))[: max(8, at_most // 4)]
        rows = [row for row in rows if row.unit in kept][:at_most]
    file = cache / f"{name}-{_digest(rows, encoder)}.npz" if cache else None
    if file is not None and file.is_file():
        return _set(name, rows, dict(np.load(file)))
    say(f"{name}: {len(rows)} pictures, each in {2 * len(DEGRADATIONS) + VARIANTS + 2} ways")
    arrays = _embedded(rows, encoder)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **arrays)
    return _set(name, rows, arrays)


def _embedded(rows: list[Row], encoder: Encoder) -> dict[str, NDArray[np.float64]]:
    pictures = [_picture(row) for row in rows]
    qualities = list(in_parallel(measure, pictures))
    usual = usual_of(qualities)
    found = list(in_parallel(lambda task: _one(*task, encoder, usual), list(zip(rows, pictures, strict=True))))
    return {key: np.stack([one[key] for one in found]) for key in found[0]}


def _one(row: Row, picture: Image, encoder: Encoder, usual: Usual) -> dict[str, NDArray[np.float64]]:
    clean = encoder.encode([picture])
    out = {"clean": clean.vectors[0], "norms": clean.norms[0], "clean_quality": _numbers(measure(picture))}
    for name, edit in DEGRADATIONS.items():
        changed = _image(edit.apply(picture.pixels, _rng(row, name)))
        quality = measure(changed)
        better = restored(changed, quality, usual)
        plain = encoder.encode([changed]).vectors[0]
        out[f"plain {name}"] = plain
        out[f"degraded {name}"] = plain if better is changed else encoder.encode([better]).vectors[0]
        out[f"quality {name}"] = _numbers(quality)
    vectors, numbers = [], []
    small = reduced(picture)
    rng = _rng(row, "variants")
    for pixels in [small] + [random_degradation(small, rng)[0] for _ in range(VARIANTS)]:
        quality = measure(_image(pixels))
        vectors.append(encoder.encode([restored(_image(pixels), quality, usual)]).vectors[0])
        numbers.append(_numbers(quality))
    return {**out, "variants": np.stack(vectors), "variant_quality": np.stack(numbers)}


def _set(name: str, rows: list[Row], arrays: dict[str, NDArray[np.float64]]) -> LabelledSet:
    return LabelledSet(
        name,
        numbered([row.label for row in rows]),
        numbered([row.unit for row in rows]),
        arrays["clean"],
        arrays["norms"],
        _qualities(arrays["clean_quality"]),
        {key: arrays[f"degraded {key}"] for key in DEGRADATIONS},
        {key: arrays[f"plain {key}"] for key in DEGRADATIONS},
        {key: _qualities(arrays[f"quality {key}"]) for key in DEGRADATIONS},
        arrays["variants"],
        [_qualities(numbers) for numbers in arrays["variant_quality"]],
    )


def _picture(row: Row) -> Image:
    picture = read(row.path)
    return _image(random_copy(picture.pixels, _rng(row, "copy"))[0]) if row.copy else picture


def _image(pixels: NDArray[np.uint8]) -> Image:
    return Image(pixels, (pixels.shape[1], pixels.shape[0]))


def _rng(row: Row, purpose: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{Path(row.path).name} {row.copy} {purpose}".encode()))


def _numbers(quality: Quality) -> NDArray[np.float64]:
    return np.array([quality.brightness, quality.contrast, quality.noise, quality.blur])


def _qualities(numbers: NDArray[np.float64]) -> list[Quality]:
    return [Quality(*map(float, row)) for row in numbers]


def _digest(rows: list[Row], encoder: Encoder) -> str:
    text = repr([(Path(row.path).name, row.label, row.unit, row.copy) for row in rows] + [str(encoder.space)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# What is a label, and what belongs together


def _truth(name: str) -> list[dict[str, str]]:
    with (SHARED / name / "groundtruth.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _by_label(name: str) -> list[Row]:
    return [Row(str(SHARED / name / row["path"]), row["label"], row["label"]) for row in _truth(name)]


def _by_family(name: str) -> list[Row]:
    return [Row(str(SHARED / name / row["path"]), row["label"], row["family"]) for row in _truth(name)]


def _by_slide(name: str) -> list[Row]:
    return [
        Row(str(SHARED / name / row["path"]), row["label"], "_".join(Path(row["path"]).name.split("_")[:2]))
        for row in _truth(name)
    ]


def _with_a_copy(name: str) -> list[Row]:
    paths = [str(SHARED / name / row["path"]) for row in _truth(name)]
    paths = sorted(paths, key=lambda path: zlib.crc32(Path(path).name.encode()))[:_EDITED]
    return [Row(path, Path(path).name, Path(path).name, copy) for path in paths for copy in (False, True)]


_ROWS: dict[str, Callable[[str], list[Row]]] = {
    "grocery": _by_label,
    "coil100": _by_label,
    "scene_pairs": _by_family,
    "clothing": _by_label,
    "emoji_vendors": _by_label,
    "imagenet_photos": _with_a_copy,
    "bccd": _by_slide,
}
