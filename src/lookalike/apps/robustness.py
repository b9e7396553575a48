"""How far each change of a picture moves it: recall@1 and mean score against the strength of the change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lookalike import registry
from lookalike.edits import Edit
from lookalike.errors import InputError
from lookalike.images import read, walk
from lookalike.pipeline import in_parallel
from lookalike.protocols import Encoder
from lookalike.quality import reduced
from lookalike.types import Float32, Image, Skipped

Progress = Callable[[int], None]

FEWEST = 10
AT_MOST = 200
"""So many pictures, by lot, are changed in every way: more move no figure by a point."""

CHANGES: Mapping[str, tuple[tuple[float, Edit], ...]] = {
    "darker": tuple((g, Edit("gamma", {"exponent": g})) for g in (1.3, 1.6, 2.0, 2.5)),
    "lighter": tuple((g, Edit("gamma", {"exponent": 1 / g})) for g in (1.3, 1.6, 2.0, 2.5)),
    "brightness": tuple((f, Edit("brightness", {"factor": f})) for f in (0.5, 0.75, 1.25, 1.5)),
    "warm light": tuple((s, Edit("color cast", {"red": 1 + s, "green": 1, "blue": 1 - s})) for s in (0.1, 0.25, 0.4)),
    "noise": tuple((s, Edit("noise", {"sigma": s})) for s in (5, 10, 20, 40)),
    "blur": tuple((s, Edit("blur", {"sigma": s})) for s in (0.5, 1, 2, 4)),
    "jpeg": tuple((q, Edit("jpeg", {"quality": q})) for q in (80, 50, 30, 10)),
    "scale": tuple((s, Edit("scale", {"share": s})) for s in (0.5, 0.25, 0.125)),
    "rotation": tuple((d, Edit("rotation", {"degrees": d})) for d in (4, 8, 15, 30)),
    "crop": tuple((a, Edit("crop", {"area": a})) for a in (0.9, 0.75, 0.5, 0.25)),
    "occlusion": tuple((a, Edit("occlusion", {"area": a})) for a in (0.1, 0.2, 0.3, 0.5)),
    "mirror": ((1, Edit("mirror")),),
    "grey": ((1, Edit("grey")),),
}
"""Kind of change -> (strength, edit), from mild to severe; strengths are in the edit's own units."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a change of one strength does: ``recall`` is the share of changed pictures nearest to what they were.

    ``score`` is the mean cosine to that, ``margin`` how much it is above the nearest other picture, on average.
    """

    change: str
    strength: float
    recall: float
    score: float
    margin: float

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        told = asdict(self)
        return {"change": self.change, "strength": self.strength, "recall@1": self.recall} | {
            name: told[name] for name in ("score", "margin")
        }


@dataclass(frozen=True, slots=True)
class Robustness:
    """For each encoder its points, and between ``pictures`` different pictures the mean cosine without any change."""

    points: Mapping[str, tuple[Point, ...]]
    different: Mapping[str, float]
    pictures: int
    skipped: tuple[Skipped, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        encoders = [
            {"encoder": name, "different": self.different[name], "points": [point.as_dict() for point in points]}
            for name, points in self.points.items()
        ]
        return {"encoders": encoders, "pictures": self.pictures, "skipped": [asdict(one) for one in self.skipped]}


def robustness(
    folder: str, encoders: Sequence[str] = (registry.DEFAULT_ENCODER,), progress: Progress = lambda _: None
) -> Robustness:
    """Change up to 200 pictures of a folder in every way, and see whether each encoder still finds what they were.

    Raise InputError where there are under 10 pictures; UnknownComponent, ConfigError for encoders.
    """
    made = {name: registry.encoder(name) for name in encoders}
    images, skipped = _pictures(folder)
    points, different = {}, {}
    for name, encoder in made.items():
        originals = _vectors(encoder, images)
        alike = originals @ originals.T
        different[name] = float(alike[~np.eye(len(images), dtype=bool)].mean())
        found = []
        for change, steps in CHANGES.items():
            for number, (strength, edit) in enumerate(steps):
                found.append(_point(change, strength, originals, _vectors(encoder, images, edit, number)))
                progress(len(images))
        points[name] = tuple(found)
    return Robustness(points, different, len(images), skipped)


def _pictures(folder: str) -> tuple[list[Image], tuple[Skipped, ...]]:
    paths = [one.path for one in walk(folder) if not isinstance(one, Skipped)]
    order = np.random.default_rng(0).permutation(len(paths))[:AT_MOST]

    def opened(row: int) -> Image | Skipped:
        try:
            # At the size at which encoders look: a blur of 4 pixels is then as much in every picture.
            pixels = reduced(read(paths[row]))
        except InputError as error:
            return Skipped(paths[row], str(error))
        return Image(pixels, (pixels.shape[1], pixels.shape[0]), paths[row])

    seen = list(in_parallel(opened, order.tolist()))
    images = [one for one in seen if isinstance(one, Image)]
    if len(images) < FEWEST:
        raise InputError(f"{len(images)} pictures in {folder} are too few to measure on: at least {FEWEST}")
    return images, tuple(one for one in seen if isinstance(one, Skipped))


def _vectors(encoder: Encoder, images: Sequence[Image], edit: Edit | None = None, seed: int = 0) -> Float32:
    def work(row: int) -> Float32:
        image = images[row]
        if edit is not None:
            pixels = edit.apply(image.pixels, np.random.default_rng([seed, row]))
            image = Image(pixels, (pixels.shape[1], pixels.shape[0]), image.source)
        return encoder.encode([image]).vectors

    return np.concatenate(list(in_parallel(work, range(len(images)))))


def _point(change: str, strength: float, originals: Float32, changed: Float32) -> Point:
    scores = changed.astype(np.float64) @ originals.T
    own = scores.diagonal().copy()
    np.fill_diagonal(scores, -np.inf)
    best_other = scores.max(axis=1)
    # Equally near is not found: what decides then is the order of the files.
    return Point(
        change, strength, float((own > best_other).mean()), float(own.mean()), float((own - best_other).mean())
    )
