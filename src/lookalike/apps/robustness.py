"""How far each change of a picture moves it: recall@1 and mean score against the strength of the change."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lookalike import registry
from lookalike.changing import Point, Robustness, changed_point, viewpoint_points
from lookalike.edits import Edit
from lookalike.errors import ConfigError, InputError
from lookalike.images import read, walk
from lookalike.pairs import read_angles, read_labelled
from lookalike.pipeline import in_parallel, reason_of
from lookalike.protocols import Encoder
from lookalike.quality import reduced
from lookalike.report_robustness import write_robustness
from lookalike.tables import check_output
from lookalike.types import Float32, Image, Skipped
from lookalike.versions import versions

Progress = Callable[[int], None]

FEWEST = 10
AT_MOST = 200
"""So many pictures, by lot, are changed in every way: more move no figure by a point."""
_ANGLE = "angle"
_NAMED = 5

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


class _View(NamedTuple):
    path: str
    label: str
    angle: float


class _Asked(NamedTuple):
    """What is to be looked at; ``views`` are empty where no angles are known."""

    paths: list[str]
    views: list[_View]
    skipped: list[Skipped]


def robustness(
    source: str,
    encoders: Sequence[str] = (registry.DEFAULT_ENCODER,),
    progress: Progress = lambda _: None,
    *,
    angle: str | None = None,
    html: str | None = None,
) -> Robustness:
    """Change up to 200 pictures in every way, and see whether each encoder still finds what they were.

    ``source`` is a folder, or a CSV or JSONL with path, label and an angle in degrees, in the column ``angle`` unless
    another is named. Of such a file all pictures are also looked for from their other viewpoints. ``html`` names a page
    that is written.

    Raise InputError where there are under 10 pictures, or where labels and angles can tell nothing; UnknownComponent
    and ConfigError for encoders, for an angle of a folder, and for a page that cannot be written.
    """
    if html:
        check_output(Path(html), ".html", ".htm")
    made = _encoders(encoders)
    asked = _asked(os.path.expanduser(source), angle)
    images, skipped = _pictures(source, asked.paths)
    labels = {view.path: view.label for view in asked.views}
    points, different, unchanged = {}, {}, {}
    notes: list[str] = []
    viewed = 0
    for name, encoder in made.items():
        originals = _vectors(encoder, images)
        different[name] = _between_different(originals, [labels.get(image.source, image.source) for image in images])
        unchanged[name] = changed_point("none", 0, originals, originals)
        points[name] = tuple(_changed_points(encoder, images, originals, progress))
        if asked.views:
            there, vectors, unreadable = _seen(encoder, asked.views, progress)
            skipped += unreadable
            notes, viewed = _checked_views(source, there), len(there)
            points[name] += viewpoint_points(vectors, [one.label for one in there], [one.angle for one in there])
    # A picture may be read for its changes, and again for each encoder.
    left_out = tuple({one.path: one for one in (*asked.skipped, *skipped)}.values())
    command = _command(source, encoders, angle)
    found = Robustness(
        source, points, different, unchanged, len(images), viewed, tuple(notes), versions(), command, left_out
    )
    if html:
        write_robustness(Path(html), found)
    return found


def _encoders(names: Sequence[str]) -> dict[str, Encoder]:
    if not names:
        raise ConfigError(f"name at least one encoder; known: {', '.join(registry.names('encoder'))}")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"encoder {twice!r} is named twice; name each once")
    return {name: registry.encoder(name) for name in names}


def _command(source: str, encoders: Sequence[str], angle: str | None) -> str:
    of_angle = ["--angle", angle] if angle else []
    return shlex.join(["lookalike", "robustness", source, "--encoder", ",".join(encoders), *of_angle])


# What is looked at


def _asked(source: str, angle: str | None) -> _Asked:
    if os.path.isfile(source):
        return _asked_of_file(source, angle or _ANGLE)
    if angle and os.path.isdir(source):
        raise ConfigError(
            f"{source} is a folder, which tells no angles: name a CSV or JSONL with path, label and {angle}"
        )
    found = list(walk(source))
    skipped = [one for one in found if isinstance(one, Skipped)]
    return _Asked([one.path for one in found if not isinstance(one, Skipped)], [], skipped)


def _asked_of_file(file: str, column: str) -> _Asked:
    try:
        angles = read_angles(file, column)
    except InputError as error:
        raise InputError(f"{error}; degrees are taken from the column {column!r}: --angle names another") from error
    labelled = read_labelled(file)
    views = [_View(one.path, one.label, angles[one.path]) for one in labelled.items if not one.ignore]
    _checked_views(file, views)  # where they can tell nothing, this says so before the work
    return _Asked([one.path for one in views], views, list(labelled.skipped))


def _checked_views(source: str, views: Sequence[_View]) -> list[str]:
    """Return what is to be known of the viewpoints; raise InputError where they can tell nothing."""
    counts = Counter(view.label for view in views)
    alone = sorted(label for label, count in counts.items() if count == 1)
    if len(counts) < 2:
        raise InputError(
            f"{source} has pictures of {len(counts)} label: there is nothing else to take it for from another "
            "viewpoint; give at least two labels"
        )
    if len(alone) == len(counts):
        raise InputError(
            f"each label of {source} has one picture: nothing is seen from two viewpoints; give several angles a label"
        )
    if not alone:
        return []
    named = ", ".join(alone[:_NAMED]) + (f" and {len(alone) - _NAMED} more" if len(alone) > _NAMED else "")
    return [f"labels with one picture, which others may be taken for and which is not looked for itself: {named}"]


def _pictures(source: str, paths: Sequence[str]) -> tuple[list[Image], list[Skipped]]:
    order = np.random.default_rng(0).permutation(len(paths))[:AT_MOST]
    seen = list(in_parallel(_opened, [paths[row] for row in order]))
    images = [one for one in seen if isinstance(one, Image)]
    if len(images) < FEWEST:
        raise InputError(f"{len(images)} pictures in {source} are too few to measure on: at least {FEWEST}")
    return images, [one for one in seen if isinstance(one, Skipped)]


def _opened(path: str) -> Image | Skipped:
    try:
        # At the size at which encoders look: a blur of 4 pixels is then as much in every picture.
        pixels = reduced(read(path))
    except InputError as error:
        return Skipped(path, reason_of(error))
    return Image(pixels, (pixels.shape[1], pixels.shape[0]), path)


# What is measured


def _changed_points(
    encoder: Encoder, images: Sequence[Image], originals: Float32, progress: Progress
) -> Iterator[Point]:
    for change, steps in CHANGES.items():
        for number, (strength, edit) in enumerate(steps):
            yield changed_point(change, strength, originals, _vectors(encoder, images, edit, number))
            progress(len(images))


def _vectors(encoder: Encoder, images: Sequence[Image], edit: Edit | None = None, seed: int = 0) -> Float32:
    def work(row: int) -> Float32:
        image = images[row]
        if edit is not None:
            pixels = edit.apply(image.pixels, np.random.default_rng([seed, row]))
            image = Image(pixels, (pixels.shape[1], pixels.shape[0]), image.source)
        return encoder.encode([image]).vectors

    return np.concatenate(list(in_parallel(work, range(len(images)))))


def _seen(encoder: Encoder, views: Sequence[_View], progress: Progress) -> tuple[list[_View], Float32, list[Skipped]]:
    """Return the views that could be read, their vectors (N, D), and those that could not."""

    def work(view: _View) -> Float32 | Skipped:
        image = _opened(view.path)
        return image if isinstance(image, Skipped) else encoder.encode([image]).vectors

    there, vectors, skipped = [], [], []
    for view, outcome in zip(views, in_parallel(work, views), strict=True):
        if isinstance(outcome, Skipped):
            skipped.append(outcome)
        else:
            there.append(view)
            vectors.append(outcome)
        progress(1)
    return there, np.concatenate(vectors), skipped


def _between_different(vectors: Float32, labels: Sequence[str]) -> float:
    """Return the mean cosine of two pictures of different labels."""
    _, numbers = np.unique(labels, return_inverse=True)
    apart = numbers[:, None] != numbers
    # By lot all may be of one label.
    counted = apart if apart.any() else ~np.eye(len(labels), dtype=bool)
    return float((vectors @ vectors.T)[counted].mean())
