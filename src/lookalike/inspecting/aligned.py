"""Parts that always look the same: a picture is laid on a golden template, and what differs is what shows.

registration   shift, rotation and scale (lookalike.registration)
light          gain, offset and a slope across the picture, by least squares of the picture on the template
blur           the template is blurred as much as the picture is, or the other way round: the best of a few
difference     how far a pixel lies outside what the template holds within two pixels of it, and the template outside
               what the picture holds there; the larger of the two, averaged over a small window. Edges that moved by
               a pixel or two, which registration and JPEG leave behind, lie inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.inspecting.mask import Mask, over
from lookalike.inspecting.planes import blurred, box_mean, box_of, highest, lowest
from lookalike.inspecting.regions import Spot
from lookalike.registration import align, register
from lookalike.types import Float32, Image, Registration

Matrix: TypeAlias = NDArray[np.float64]

TOLERANCE = 2
"""How many pixels an edge may have moved."""
WINDOW = 5
LEAST = 5.0
"""A smaller difference, in levels, is none: JPEG and rounding make it. All good pictures below it are alike."""
SIDE = 1024
_EDGE_REACH, _EDGE_SLACK = 2 * TOLERANCE, 0.1
_SOFT = 0.8
_BLURS = (-1.4, 0.0, 0.9, 1.4, 2.0)
_STEP = 3
_TRIMMED = 0.9
_LEAST_GAIN, _MOST_GAIN = 0.15, 6.0
_LEAST_OVERLAP = 0.7
_FEWEST_LIT = 50
_BORDER = TOLERANCE + WINDOW // 2 + 4  # beyond its border a picture may have been blurred with anything
_CANDIDATES = 3
_COARSE_SOFT = 2.0
_FLAT_SHARE, _MOST_PIXELS, _FEWEST_PIXELS, _ROUNDS = 0.7, 40_000, 500, 3
_FURTHEST = 8.0  # pixels: further than that registration was not wrong, and this is
_SMALL = 32


@dataclass(frozen=True, slots=True, eq=False)
class AlignedView:
    """How a picture differs from its template.

    ``heat`` (H, W), in levels of the template's and at least ``LEAST``, lies in the template's frame; ``matrix`` (3, 3)
    takes its points to pixels of the picture. ``template`` is the name of the one that was used; of what is inspected
    in it the share ``seen`` lies in the picture.
    """

    heat: Float32
    matrix: Matrix
    template: str
    registration: Registration
    seen: float

    @property
    def score(self) -> float:
        """The strongest difference."""
        return float(self.heat.max())

    def box(self, spot: Spot, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the box around a part of the heat in a picture of ``size`` (width, height).

        It is grown by what the tolerance took from the defect's rim, and by half a window, lest it cut into that.
        """
        grow = TOLERANCE + WINDOW // 2
        x = (spot.left - 0.5 - grow, spot.right - 0.5 + grow)
        y = (spot.top - 0.5 - grow, spot.bottom - 0.5 + grow)
        corners = self.matrix @ np.array([(a, b, 1.0) for a in x for b in y]).T
        low, high = corners[:2].min(axis=1) + 0.5, corners[:2].max(axis=1) + 0.5
        left, top = (int(v) for v in np.clip(np.floor(low), 0, np.array(size) - 1))
        right, bottom = (int(v) for v in np.clip(np.ceil(high), (left + 1, top + 1), size))
        return left, top, right - left, bottom - top


class TemplateSet:
    """The golden templates: pictures of parts without a defect."""

    def __init__(self, templates: Sequence[Image]) -> None:
        if not templates:
            raise InputError("no golden template was given")
        self.images = tuple(templates)
        self._small = np.stack([_thumbnail(image) for image in templates])

    def view(self, image: Image, template: Image | None = None, mask: Mask | None = None) -> AlignedView | str:
        """Return how a picture differs from ``template``, else from the one of these that it fits best.

        ``mask`` says which part of the template is compared, None all of it; all of it is laid on the picture.
        Where it fits none, or its light cannot be told, return why in one plain sentence.
        """
        candidates = [template] if template is not None else self._likeliest(image)
        found = [(register(_reduced(one), _reduced(image)), one) for one in candidates]
        registration, best = max(found, key=lambda pair: pair[0].agreement or -1.0)
        if not registration.found:
            return f"it does not lie on its template: {registration.reason}"
        return _view(best, image, registration, mask)

    def _likeliest(self, image: Image) -> list[Image]:
        """Return the few templates that look most like the picture when both are tiny."""
        order = np.argsort(-(self._small @ _thumbnail(image)), kind="stable")
        return [self.images[row] for row in order[:_CANDIDATES]]


def _view(template: Image, image: Image, registration: Registration, mask: Mask | None) -> AlignedView | str:
    golden, picture = _reduced(template), _reduced(image)
    registration = _refined(golden, picture, registration)
    laid, covered = align(picture, registration, golden.pixels.shape[:2])
    inspected = np.ones(covered.shape, np.bool_) if mask is None else over(mask, covered.shape)
    inside = _eroded(covered)
    if (compared := inside[inspected].mean()) < _LEAST_OVERLAP:
        return f"it covers only {compared:.0%} of {'its template' if mask is None else 'what is inspected'}"
    heat = np.full(covered.shape, LEAST, np.float32)
    for channel in range(1 if _is_grey(golden) and _is_grey(picture) else 3):
        planes = golden.pixels[..., channel], laid[..., channel]
        # What is inspected may be too small to tell the light by.
        pair = _matched(*planes, covered & inspected) or _matched(*planes, covered)
        if pair is None:
            return "its light cannot be matched to the template's: nearly no contrast, or the wrong way round"
        np.maximum(heat, difference(*pair, inspected), out=heat)
    heat[~(inside & inspected)] = LEAST
    rows = np.vstack([np.array(registration.matrix, np.float64), (0.0, 0.0, 1.0)])
    return AlignedView(
        heat, _scaling(box_of(image, SIDE)) @ rows, template.source, registration, float(covered[inspected].mean())
    )


def difference(template: Float32, picture: Float32, inspected: Mask | None = None) -> Float32:
    """Return (H, W), in levels, how far two planes differ by more than ``TOLERANCE`` pixels of shift explain."""
    apart = np.maximum(_outside(picture, template), _outside(template, picture))
    if inspected is not None:
        apart[~inspected] = 0
    return np.maximum(box_mean(apart, WINDOW), 0)


def _outside(plane: Float32, other: Float32) -> Float32:
    """Return how far each pixel lies above the highest or below the lowest that the other holds near it."""
    # Beside an edge, blur and JPEG leave a part of its height behind, further out than its shift.
    slack = _EDGE_SLACK * (highest(other, _EDGE_REACH) - lowest(other, _EDGE_REACH))
    above = plane - highest(other, TOLERANCE) - slack
    below = lowest(other, TOLERANCE) - plane - slack
    return np.asarray(np.maximum(np.maximum(above, below), 0), np.float32)


def _refined(golden: Image, picture: Image, registration: Registration) -> Registration:
    """Return the registration with the affine map that fits best near it (Lucas, Kanade 1981), at full size.

    The tenth of the pixels that fits worst is left out: defects have not moved.
    """
    shape = golden.pixels.shape[:2]
    template = blurred(golden.pixels.mean(axis=2, dtype=np.float32), _COARSE_SOFT)
    down, right = np.gradient(template)
    steep = np.hypot(down, right)
    # Flat places say nothing of motion; a few ten thousand pixels say enough.
    edges = np.flatnonzero(steep > np.quantile(steep, _FLAT_SHARE))
    edges = edges[:: max(1, len(edges) // _MOST_PIXELS)]
    y, x = np.unravel_index(edges, shape)
    u, v = x / shape[1] - 0.5, y / shape[0] - 0.5
    slopes = np.stack([right.ravel()[edges], down.ravel()[edges]])
    known = np.concatenate([slopes, slopes * u, slopes * v, [template.ravel()[edges]], [np.ones(len(edges))]])
    matrix = np.vstack([np.array(registration.matrix, np.float64), (0.0, 0.0, 1.0)])
    for _ in range(_ROUNDS):
        laid, mask = align(picture, _with_matrix(registration, matrix), shape)
        seen = blurred(laid.mean(axis=2, dtype=np.float32), _COARSE_SOFT).ravel()[edges]
        kept = mask.ravel()[edges]
        if kept.sum() < _FEWEST_PIXELS:
            return registration
        for _ in range(2):
            found = np.linalg.lstsq(known[:, kept].T, seen[kept], rcond=None)[0]
            left = np.abs(seen - found @ known)
            kept = mask.ravel()[edges] & (left <= np.quantile(left[kept], _TRIMMED))
        gain = found[6]
        if gain <= 0:
            return registration
        # The picture is gain * template(point + move) + offset: what lies at a point there lies further here.
        (move_x, move_y), (wide_x, wide_y), (tall_x, tall_y) = (found[0:2] / gain, found[2:4] / gain, found[4:6] / gain)
        moves = np.array([
            (1 + wide_x / shape[1], tall_x / shape[0], move_x - (wide_x + tall_x) / 2),
            (wide_y / shape[1], 1 + tall_y / shape[0], move_y - (wide_y + tall_y) / 2),
            (0.0, 0.0, 1.0),
        ])  # fmt: skip
        if np.abs(moves - np.eye(3))[:2] @ (shape[1], shape[0], 1.0) @ (1, 1) > _FURTHEST * 2:
            return registration
        matrix = matrix @ np.linalg.inv(moves)
    return _with_matrix(registration, matrix)


def _with_matrix(registration: Registration, matrix: Matrix) -> Registration:
    first, second = ((float(row[0]), float(row[1]), float(row[2])) for row in matrix[:2])
    return replace(registration, matrix=(first, second))


def _matched(template: NDArray[np.uint8], laid: NDArray[np.uint8], mask: Mask) -> tuple[Float32, Float32] | None:
    """Return the two planes equally soft and in the template's light; None where that cannot be had.

    Only pixels of ``mask`` tell the light.
    """
    if mask[::_STEP, ::_STEP].sum() < _FEWEST_LIT:
        return None
    plain = blurred(template.astype(np.float32), _SOFT), blurred(laid.astype(np.float32), _SOFT)
    fits = []
    for blur in _BLURS:
        golden = blurred(template.astype(np.float32), np.hypot(_SOFT, blur)) if blur > 0 else plain[0]
        picture = blurred(laid.astype(np.float32), np.hypot(_SOFT, blur)) if blur < 0 else plain[1]
        light, error = _light(golden, picture, mask)
        fits.append((error, golden, picture, light))
    _, golden, picture, light = min(fits, key=lambda fit: fit[0])
    if not _LEAST_GAIN <= light[0] <= _MOST_GAIN:
        return None
    return golden, np.asarray((picture - _slope(picture.shape) @ light[1:]) / light[0], np.float32)


def _light(golden: Float32, picture: Float32, mask: Mask) -> tuple[NDArray[np.float64], float]:
    """Return (4,) gain, offset and slopes at which the picture is the template, and what is left, in template levels.

    The tenth of the pixels that fits worst is left out: defects are no light.
    """
    chosen = mask[::_STEP, ::_STEP].ravel()
    surface = _slope(golden.shape)[::_STEP, ::_STEP].reshape(-1, 3)[chosen]
    known = np.column_stack([golden[::_STEP, ::_STEP].ravel()[chosen], surface]).astype(np.float64)
    seen = picture[::_STEP, ::_STEP].ravel()[chosen].astype(np.float64)
    kept = np.ones(len(seen), np.bool_)
    light: NDArray[np.float64] = np.zeros(4)
    left = np.zeros(len(seen))
    for _ in range(3):
        light = np.asarray(np.linalg.lstsq(known[kept], seen[kept], rcond=None)[0], np.float64)
        left = np.abs(seen - known @ light)
        kept = left <= np.quantile(left, _TRIMMED)
    return light, float(np.sqrt((left[kept] ** 2).mean()) / max(abs(light[0]), 1e-6))


def _slope(shape: tuple[int, ...]) -> Float32:
    y, x = np.indices(shape[:2], np.float32)
    return np.stack([np.ones(shape[:2], np.float32), x / shape[1] - 0.5, y / shape[0] - 0.5], axis=-1)


def _eroded(mask: Mask) -> Mask:
    """Return the mask without what lies near its border or the frame's: there the window looks outside."""
    bare = np.pad(mask, _BORDER)
    return np.asarray(lowest(bare.astype(np.float32), _BORDER)[_BORDER:-_BORDER, _BORDER:-_BORDER] > 0.5)


def _reduced(image: Image) -> Image:
    """Return the picture averaged down in whole boxes to about ``SIDE``."""
    box = box_of(image, SIDE)
    if box == 1:
        return image
    height, width = image.pixels.shape[0] // box, image.pixels.shape[1] // box
    blocks = image.pixels[: height * box, : width * box].reshape(height, box, width, box, 3)
    return Image(np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8), image.size, image.source)


def _scaling(box: int) -> Matrix:
    """Return the matrix from pixels of a picture reduced by ``box`` to its own."""
    return np.array([(box, 0.0, (box - 1) / 2), (0.0, box, (box - 1) / 2), (0.0, 0.0, 1.0)])


def _is_grey(image: Image) -> bool:
    pixels = image.pixels
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())


def _thumbnail(image: Image) -> Float32:
    """Return a tiny grey picture as (32 * 32,), its mean 0 and its length 1."""
    grey = image.pixels.mean(axis=2, dtype=np.float32)
    rows, columns = (np.array_split(np.arange(n), min(n, _SMALL)) for n in grey.shape)
    small = np.add.reduceat(np.add.reduceat(grey, [r[0] for r in rows], 0), [c[0] for c in columns], 1)
    small /= np.outer([len(r) for r in rows], [len(c) for c in columns])
    wide = np.zeros((_SMALL, _SMALL), np.float32)
    wide[: small.shape[0], : small.shape[1]] = small - small.mean()
    length = float(np.linalg.norm(wide))
    return wide.ravel() / (length if length > 0 else 1.0)
