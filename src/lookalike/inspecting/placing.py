"""Where a finding lies: regions and heat of the tests' planes, in pixels of the picture and over the whole of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.inspecting import surface
from lookalike.inspecting.aligned import AlignedView
from lookalike.inspecting.planes import enlarged
from lookalike.inspecting.regions import Region, Spot, spots
from lookalike.types import Float32, Image

_FLAT = 1e-6
_WHERE = 0.5
_HEAT_SIDE = 256
_MOST_REGIONS = 100


def regions_of(image: Image, seen: Any, unit: Mapping[str, Float32], limit: float) -> tuple[Region, ...]:
    """Return where planes in multiples of the usual spread, by test, reach the ``limit``: the strongest first."""
    found = []
    for name, heat in unit.items():
        # Where the defect ends: half way from the usual to the threshold, or to the strongest where that is more.
        low = max(_WHERE * limit, 0.0)
        for spot in spots(heat, low, limit):
            found.append(Region(_box(image, seen, spot, heat.shape), spot.score, name))
    ordered = sorted(found, key=lambda region: (-region.score, region.box))
    return tuple(_apart(ordered)[:_MOST_REGIONS])


def heat_of(image: Image, seen: Any, unit: Mapping[str, Float32], limit: float) -> Float32:
    """Return the heat over the picture (h, w), .5 at the threshold, 0 at the usual and below, 1 at twice and above."""
    height, width = image.pixels.shape[:2]
    share = min(1.0, _HEAT_SIDE / max(height, width))
    h, w = max(1, round(height * share)), max(1, round(width * share))
    total = np.zeros((h, w), np.float32)
    for plane in unit.values():
        scaled = np.clip(plane / (2 * max(limit, _FLAT)), 0, 1)
        laid = _laid(scaled, seen.matrix, (h, w), share) if isinstance(seen, AlignedView) else _resized(scaled, h, w)
        np.maximum(total, laid, out=total)
    return total


def _box(image: Image, seen: Any, spot: Spot, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the box in pixels of the picture's file."""
    if isinstance(seen, AlignedView):
        height, width = image.pixels.shape[:2]
        box = seen.box(spot, (width, height))
        return _scaled(box, image)
    across, down = seen.size[0] / shape[1], seen.size[1] / shape[0]
    margin = 0 if shape == seen.patches.shape[:2] else surface.detail_margin(seen.box)
    left, width = _shrunk(spot.left * across, spot.right * across, margin)
    top, height = _shrunk(spot.top * down, spot.bottom * down, margin)
    return _scaled((left, top, width, height), image)


def _shrunk(first: float, last: float, margin: int) -> tuple[int, int]:
    """Return where a span begins and how long it is, without the margin on both sides, as far as a third is left."""
    inner = min(margin, int((last - first) / 3))
    start = round(first) + inner
    return start, max(1, round(last) - inner - start)


def _scaled(box: tuple[int, int, int, int], image: Image) -> tuple[int, int, int, int]:
    """Return a box in pixels of the picture as it was decoded in those of its file."""
    x = image.size[0] / image.pixels.shape[1]
    y = image.size[1] / image.pixels.shape[0]
    return round(box[0] * x), round(box[1] * y), max(1, round(box[2] * x)), max(1, round(box[3] * y))


def _apart(regions: Sequence[Region]) -> list[Region]:
    """Return the regions without those that two tests tell alike: the middle of one lies in a stronger one."""
    kept: list[Region] = []
    for region in regions:
        x, y = region.box[0] + region.box[2] / 2, region.box[1] + region.box[3] / 2
        covered = any(
            one.test != region.test
            and one.box[0] <= x <= one.box[0] + one.box[2]
            and one.box[1] <= y <= one.box[1] + one.box[3]
            for one in kept
        )
        if not covered:
            kept.append(region)
    return kept


def _resized(plane: Float32, height: int, width: int) -> Float32:
    """Return the plane at another size: what becomes smaller keeps its peaks."""
    rows, columns = (max(1, -(-n // m)) for n, m in zip(plane.shape, (height, width), strict=True))
    if rows > 1 or columns > 1:
        padded = np.pad(plane, ((0, -plane.shape[0] % rows), (0, -plane.shape[1] % columns)), mode="edge")
        blocks = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns)
        plane = blocks.max(axis=(1, 3))
    return enlarged(plane, height, width)


def _laid(plane: Float32, matrix: NDArray[np.float64], shape: tuple[int, int], share: float) -> Float32:
    """Return heat in the template's frame as it lies over the picture, nearest pixel by nearest pixel."""
    inverse = np.linalg.inv(matrix)
    y, x = (np.indices(shape) + 0.5) / share - 0.5
    to_x, to_y = (np.rint(row[0] * x + row[1] * y + row[2]).astype(np.intp) for row in inverse[:2])
    inside = (to_x >= 0) & (to_y >= 0) & (to_x < plane.shape[1]) & (to_y < plane.shape[0])
    found = plane[np.clip(to_y, 0, plane.shape[0] - 1), np.clip(to_x, 0, plane.shape[1] - 1)]
    return np.where(inside, found, np.float32(0)).astype(np.float32)
