"""Why two pictures are alike: which regions carry the likeness, and which of them answer one another.

A region carries what the cosine loses when it is greyed out, and that is measured: ellipses that cover a fifth of the
picture are greyed one after another, first all over it and then around the worst, and the picture is encoded anew each
time. Where the embedding is the mean of a feature map, cosine is a sum over its positions,

    cos(a, b) = sum_i c_i,  c_i = f_i . g / (n |mean f|)

with the features f_i of a at n positions and the unit embedding g of b. The fifths where c_i is largest, and where the
cosine loses most without f_i, are tried too. The heat is the mean of all that was tried, weighted by what it cost.
``python -m benchmarks.explanation`` measures whether it points right.

Masking to see what matters: Zeiler and Fergus, ECCV 2014; searching for the worst mask of a given area: Fong, Patrick
and Vedaldi, ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.pipeline import in_parallel
from lookalike.preprocess import Recipe, resize
from lookalike.protocols import Encoder, FeatureMaps
from lookalike.types import Explanation, Float32, Image, Link

Float64: TypeAlias = NDArray[np.float64]

HEAT_SIDE = 28
"""Rows and columns of a heat."""
SHARE = 0.2
"""The part of a picture that is greyed at a time, by area."""
GREY = 128

_SHARP, _WIDE = 0.1, 1.0  # how far below the worst a loss counts, in standard deviations of all losses
_WIDE_PART, _DETAIL_PART = 0.3, 0.3
_EDGE = 6.0  # how hard the edge of an ellipse is
_SAME = 1e-3  # how far the mean of a map may lie from the embedding that it is
_MOST_LINKS = 6
_WEAKEST = 0.5  # a link that is weaker than this part of the strongest says little
_LINK_SIDE = 1 / 7

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, width and height, in [0, 1] of a picture."""

Losses: TypeAlias = Callable[[Iterable[Float64]], list[float]]
"""Tells what the cosine loses when the strongest fifth of each of these shapes is greyed."""


class _Ellipse(NamedTuple):
    """An ellipse of area ``SHARE`` around (x, y) in [0, 1]; ``stretch`` 1 is a circle, ``angle`` is in radians."""

    x: float
    y: float
    stretch: float = 1.0
    angle: float = 0.0


_PLACES = (0.2, 0.35, 0.5, 0.65, 0.8)
_CHECKERBOARD = tuple(_Ellipse(x, y) for i, y in enumerate(_PLACES) for j, x in enumerate(_PLACES) if (i + j) % 2 == 0)
_STEP = 0.075
_LONGER = 1.35


@dataclass(frozen=True, slots=True, eq=False)
class _Features:
    """The maps of one picture: the deepest, whose mean is the embedding, and a finer one, which tells places apart."""

    deep: Float32
    fine: Float32


def explain(a: Image, b: Image, encoder: Encoder) -> Explanation:
    """Return where two pictures are alike to ``encoder``, after about 25 looks at each.

    A heat lies over the whole picture, whatever its aspect ratio; it is zero where no fifth of the picture, greyed,
    lowers the cosine. Links need an encoder with feature maps whose mean is its embedding; others give none.
    """
    seen = [_squashed(image, encoder.at_least) for image in (a, b)]
    vectors = encoder.encode(seen).vectors.astype(np.float64)
    features = _features(seen, vectors, encoder)
    heats = []
    for this, other in ((0, 1), (1, 0)):
        losses = partial(_losses, seen[this], vectors[this], vectors[other], encoder)
        parts = _parts(features[this].deep, features[other].deep) if features else []
        heats.append(_heat(losses, parts))
    return Explanation(heats[0], heats[1], _links(*features) if features else ())


def contributions(features: NDArray[Any], other: NDArray[Any]) -> Float64:
    """Return (h, w), what each position of ``features`` (C, h, w) adds to the cosine of two pictures' mean features.

    ``other`` is (C, k, l). The sum is the cosine; all are zero where a mean is.
    """
    f, g = _flat(features), _flat(other)
    scale = len(f) * np.linalg.norm(f.mean(axis=0))
    added: Float64 = f @ _unit(g.mean(axis=0)) / (scale if scale > 0 else 1.0)
    return added.reshape(features.shape[1:])


def strongest(heat: NDArray[Any], height: int, width: int) -> NDArray[np.bool_]:
    """Return which pixels of a picture are the fifth where ``heat``, smoothly enlarged to its size, is strongest."""
    fine = _enlarged(heat, height, width).ravel()
    chosen = np.zeros(fine.size, np.bool_)
    count = round(SHARE * fine.size)
    chosen[np.argpartition(-fine, count)[:count]] = True
    return chosen.reshape(height, width)


def _squashed(image: Image, at_least: int | None) -> Image:
    """Return the picture at the size that the encoder takes from it, which is half of what it wants decoded."""
    if at_least is None:
        return image
    side = max(at_least // 2, HEAT_SIDE)
    return Image(resize(image, Recipe(size=side)), (side, side), image.source)


def _features(images: Sequence[Image], vectors: Float64, encoder: Encoder) -> tuple[_Features, _Features] | None:
    """Return the features of the two pictures; None where the encoder has none of which its embedding is the mean."""
    if not isinstance(encoder, FeatureMaps):
        return None
    found = []
    for vector, maps in zip(vectors, encoder.maps(images), strict=True):
        *shallow, deep = maps.values()
        mean = deep.mean(axis=(1, 2), dtype=np.float64)
        if mean.shape != vector.shape or np.linalg.norm(_unit(mean) - vector) > _SAME:
            return None
        found.append(_Features(deep, next((fine for fine in reversed(shallow) if fine.shape[1] > deep.shape[1]), deep)))
    return found[0], found[1]


# Heat


def _heat(losses: Losses, parts: Sequence[Float64]) -> Float32:
    """Return (HEAT_SIDE, HEAT_SIDE) in [0, 1], 1 at its maximum; zeros where nothing that is greyed costs anything."""
    details = [_enlarged(part, HEAT_SIDE, HEAT_SIDE) for part in parts]
    guessed = [_soft_fifth(detail) for detail in details]
    searched = _search(losses)
    shapes = np.stack([*guessed, *map(_shape, searched)])
    cost = np.array([*losses(guessed), *searched.values()])
    if cost.max() <= 0:
        return np.zeros((HEAT_SIDE, HEAT_SIDE), np.float32)
    heat = _weighted(shapes, cost, _SHARP) + _WIDE_PART * _weighted(shapes, cost, _WIDE)
    if details:
        heat *= 1 - _DETAIL_PART * (1 - _to_unit_range(details[0]))
    return np.asarray(heat / heat.max(), np.float32)


def _search(losses: Losses) -> dict[_Ellipse, float]:
    """Return what it costs to grey ellipses all over the picture, then some around the worst, then some like it."""
    tried = dict(zip(_CHECKERBOARD, losses(map(_shape, _CHECKERBOARD)), strict=True))
    for neighbours in (_shifted, _stretched):
        new = neighbours(max(tried, key=lambda ellipse: tried[ellipse]))
        tried |= zip(new, losses(map(_shape, new)), strict=True)
    return tried


def _shifted(ellipse: _Ellipse) -> list[_Ellipse]:
    steps = (-_STEP, _STEP)
    return [ellipse._replace(x=ellipse.x + dx, y=ellipse.y + dy) for dy in steps for dx in steps]


def _stretched(ellipse: _Ellipse) -> list[_Ellipse]:
    forms = ((_LONGER, 0.0), (1 / _LONGER, 0.0), (_LONGER, np.pi / 4), (_LONGER, -np.pi / 4))
    return [ellipse._replace(stretch=stretch, angle=angle) for stretch, angle in forms]


def _losses(picture: Image, own: Float64, other: Float64, encoder: Encoder, shapes: Iterable[Float64]) -> list[float]:
    """Return by how much the cosine of ``own`` and ``other`` falls when the picture is greyed where each shape is."""

    def cosine(shape: Float64) -> float:
        pixels = picture.pixels.copy()
        pixels[strongest(shape, *pixels.shape[:2])] = GREY
        greyed = Image(pixels, picture.size, picture.source)
        return float(encoder.encode([greyed]).vectors[0].astype(np.float64) @ other)

    whole = float(own @ other)
    return [whole - one for one in in_parallel(cosine, shapes)]


def _parts(features: Float32, other: Float32) -> list[Float64]:
    """Return what each position adds to the cosine, and what the cosine loses without it: (h, w) each."""
    f, g = _flat(features), _unit(_flat(other).mean(axis=0))
    rest = f.sum(axis=0) - f
    lengths = np.linalg.norm(rest, axis=1)
    without = rest @ g / np.where(lengths > 0, lengths, 1.0)
    lost = float(_unit(f.mean(axis=0)) @ g) - without
    return [contributions(features, other), lost.reshape(features.shape[1:])]


def _weighted(shapes: Float64, cost: Float64, width: float) -> Float64:
    """Return the mean of the shapes, weighted by e to the power of their cost in ``width`` standard deviations."""
    spread = width * cost.std()
    weights = np.exp((cost - cost.max()) / (spread if spread > 0 else 1.0))
    mean: Float64 = np.tensordot(weights / weights.sum(), shapes, axes=1)
    return mean


def _shape(ellipse: _Ellipse) -> Float64:
    """Return an ellipse with a soft edge, in [0, 1]; within it is more than a half."""
    y, x = (np.indices((HEAT_SIDE, HEAT_SIDE)) + 0.5) / HEAT_SIDE
    dx, dy = x - ellipse.x, y - ellipse.y
    cos, sin = np.cos(ellipse.angle), np.sin(ellipse.angle)
    along, across = (cos * dx + sin * dy) / ellipse.stretch, (cos * dy - sin * dx) * ellipse.stretch
    return _logistic(_EDGE * (1 - np.hypot(along, across) / np.sqrt(SHARE / np.pi)))


def _soft_fifth(detail: Float64) -> Float64:
    """Return where a map is strongest as a shape with a soft edge, in [0, 1]."""
    spread = detail.std() / 4
    return _logistic((detail - np.quantile(detail, 1 - SHARE)) / (spread if spread > 0 else 1.0))


def _logistic(x: Float64) -> Float64:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))))


def _to_unit_range(values: Float64) -> Float64:
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low if high > low else 1.0))


def _enlarged(values: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Return (..., h, w) values interpolated linearly to (..., height, width); a cell stands for its middle."""
    return _interpolated(_interpolated(values.swapaxes(-1, -2), height).swapaxes(-1, -2), width)


def _interpolated(values: NDArray[Any], size: int) -> NDArray[Any]:
    # Not as a product of matrices: the threads that BLAS starts for one would fight those that encode.
    last = values.shape[-1] - 1
    places = np.clip((np.arange(size) + 0.5) * (last + 1) / size - 0.5, 0, last)
    lower = places.astype(np.intp)
    upper, weight = np.minimum(lower + 1, last), places - lower
    return np.asarray(values[..., lower] * (1 - weight) + values[..., upper] * weight)


# Links


def _links(a: _Features, b: _Features) -> tuple[Link, ...]:
    """Return the pairs of places that are each the other's most alike, strongest first, none beside another.

    Strength is the cosine of the finer features at the two places times what the deep ones add there to the cosine of
    the pictures, relative to the most that any two places add. At most six, none weaker than half of the strongest.
    """
    alike = _unit(_flat(a.fine)) @ _unit(_flat(b.fine)).T
    added = _flat(_enlarged(a.deep, *a.fine.shape[1:])) @ _flat(_enlarged(b.deep, *b.fine.shape[1:])).T
    strength = np.clip(alike * added / (added.max() if added.max() > 0 else 1.0), 0, 1)
    to_b, to_a = alike.argmax(axis=1).tolist(), alike.argmax(axis=0).tolist()
    mutual = [(i, j) for i, j in enumerate(to_b) if to_a[j] == i and strength[i, j] > 0]
    least = _WEAKEST * max((strength[pair] for pair in mutual), default=0.0)
    strong = [pair for pair in mutual if strength[pair] >= least]
    links: list[Link] = []
    for i, j in sorted(strong, key=lambda pair: -strength[pair]):
        link = Link(_box(i, a.fine), _box(j, b.fine), float(strength[i, j]))
        if not any(_overlap(link.a, other.a) or _overlap(link.b, other.b) for other in links):
            links.append(link)
    return tuple(links[:_MOST_LINKS])


def _box(position: int, features: Float32) -> Box:
    """Return the box around a position of a map, moved inside where it would stick out."""
    row, column = divmod(position, features.shape[2])
    places = (column + 0.5) / features.shape[2], (row + 0.5) / features.shape[1]
    x, y = (min(max(place - _LINK_SIDE / 2, 0.0), 1 - _LINK_SIDE) for place in places)
    return x, y, _LINK_SIDE, _LINK_SIDE


def _overlap(one: Box, other: Box) -> bool:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) < _LINK_SIDE - 1e-9


def _flat(features: NDArray[Any]) -> Float64:
    """Return (C, h, w) features as (h * w, C) float64, a row a position."""
    return features.reshape(len(features), -1).T.astype(np.float64)


def _unit(vectors: Float64) -> Float64:
    """Return vectors at length 1, along the last axis; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))
