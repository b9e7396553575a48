"""Structural similarity: SSIM (Wang, Bovik, Sheikh, Simoncelli 2004) and MS-SSIM (Wang, Simoncelli, Bovik 2003).

Every window of 11 x 11 pixels, weighted by a Gaussian of sigma 1.5, gives means u, variances v and a covariance, and

    SSIM = (2 u_a u_b + C1) (2 v_ab + C2) / ((u_a^2 + u_b^2 + C1) (v_a + v_b + C2)),  C1 = (.01 R)^2, C2 = (.03 R)^2

with R the ``data_range``; the score is the mean over all windows that lie in the picture. That is scikit-image's
``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)``, to 1e-12. Scores do not
depend on which picture comes first, are 1.0 for equal pictures, and are never NaN.

In float32 a tile is computed again in float64 where so much of it is flat that rounding would show in the score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike, NDArray

from lookalike.errors import InputError
from lookalike.metrics.ssim_windows import RADIUS, WINDOW, Windows
from lookalike.types import Float32, Image, PairScore

Plane: TypeAlias = NDArray[Any]
"""One channel of a picture, (H, W)."""
Mask: TypeAlias = NDArray[np.bool_]

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first: Wang, Simoncelli, Bovik 2003, section 3.2."""

_FURTHEST = 1e6
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Wang's own code


@dataclass(frozen=True, slots=True, eq=False)
class Structural:
    """SSIM of a pair, where it comes from, and of what it is made.

    ``map`` is (H, W) float32, the SSIM of the window around each pixel; at the border the pictures are mirrored.
    ``score`` is the mean over the windows that lie in the picture, as are ``luminance`` (do the means agree?),
    ``contrast`` (the standard deviations?) and ``structure`` (the correlation), whose product is SSIM in each window.
    """

    score: float
    map: Float32
    luminance: float
    contrast: float
    structure: float


@dataclass(frozen=True)
class Ssim:
    """SSIM of two pictures of one size, in [-1, 1]: the mean over R, G and B, or that of the luma."""

    grey: bool = False
    name = "ssim"
    higher_is_closer = True

    def score(self, a: Image, b: Image) -> PairScore:
        """Return the SSIM and its map."""
        found = structural(*_pixels(a, b, self.grey))
        return PairScore(found.score, found.map)


@dataclass(frozen=True)
class MsSsim:
    """MS-SSIM of two pictures of one size, in [0, 1]: the mean over R, G and B, or that of the luma."""

    grey: bool = False
    name = "ms-ssim"
    higher_is_closer = True

    def score(self, a: Image, b: Image) -> PairScore:
        """Return the MS-SSIM; it has no map."""
        return PairScore(ms_ssim(*_pixels(a, b, self.grey)))


def luma(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the luma .299 R + .587 G + .114 B of (H, W, 3) pixels as (H, W) float64, in their own range."""
    red, green, blue = (weight * pixels[..., channel] for channel, weight in enumerate(_LUMA))
    red += green
    red += blue
    return np.asarray(red, np.float64)


def ssim(a: Plane, b: Plane, *, data_range: float = 255.0, dtype: DTypeLike = np.float64) -> float:
    """Return the SSIM of two arrays (H, W) or (H, W, C), of C channels the mean; in [-1, 1].

    ``data_range`` is the span of possible values. In float32 the score is within 1e-6 of that in float64. It takes a
    few MiB beside the pictures, whatever their size. Along a side shorter than a window no window lies in the picture:
    there the picture is mirrored at its border, and the window around each pixel counts.
    """
    windows = Windows(data_range, dtype)
    return _mean([_mean_over(x, y, windows) for x, y in _channels(a, b, data_range)])


def structural(
    a: Plane, b: Plane, *, data_range: float = 255.0, dtype: DTypeLike = np.float64, mask: Mask | None = None
) -> Structural:
    """Return the SSIM of two arrays with its map and its terms; the other arguments are those of :func:`ssim`.

    With a ``mask`` (H, W) only windows count that hold no pixel at which it is False; there must be one.
    """
    windows = Windows(data_range, dtype)
    channels = list(_channels(a, b, data_range))
    height, width = a.shape[:2]
    counted = np.zeros((height, width), np.bool_)
    counted[_inner(height), _inner(width)] = True if mask is None else _scales((height, width), mask)[0]
    score_map = np.zeros((height, width), np.float32)
    sums = np.zeros(4)
    for x, y in channels:
        for place, moments in windows.over(_mirrored(x, RADIUS, RADIUS), _mirrored(y, RADIUS, RADIUS), covariance=True):
            luminance, (contrast, structure) = moments.luminance(), moments.contrast_and_structure()
            terms = luminance * moments.contrast_structure(), luminance, contrast, structure
            score_map[place] += terms[0] / len(channels)
            sums += [np.sum(term, where=counted[place], dtype=np.float64) for term in terms]
    means = sums / (len(channels) * np.count_nonzero(counted))
    return Structural(_mean([means[0]]), score_map, *map(float, means[1:]))


def ms_ssim(
    a: Plane, b: Plane, *, data_range: float = 255.0, dtype: DTypeLike = np.float64, mask: Mask | None = None
) -> float:
    """Return the multi-scale SSIM of two arrays (H, W) or (H, W, C), of C channels the mean; in [0, 1].

    Each scale halves the one before by means of 2 x 2 pixels (an odd last row or column is repeated, as in Wang's
    code). The score is the product of the mean contrast-structure term of every scale but the last and of the mean
    SSIM of the last, each to the power of its weight; a negative mean counts as 0. Where a picture is too small for
    five scales (a side has less than 161 pixels) there are as many as hold a window, and their weights are scaled to
    sum to 1. ``mask`` is that of :func:`structural`.
    """
    windows = Windows(data_range, dtype)
    channels = list(_channels(a, b, data_range))
    inside = _scales(a.shape[:2], mask)
    weights = np.array(MS_SSIM_WEIGHTS[: len(inside)])
    if len(inside) < len(MS_SSIM_WEIGHTS):
        weights /= weights.sum()
    return _mean([_product(x, y, windows, inside, weights) for x, y in channels])


def _product(x: Plane, y: Plane, windows: Windows, inside: list[Mask | None], weights: NDArray[np.float64]) -> float:
    product = 1.0
    for scale, weight in enumerate(weights):
        if scale:
            x, y = _halved(x, windows.dtype), _halved(y, windows.dtype)
        last = scale == len(weights) - 1
        term = _mean_over(x, y, windows, inside[scale], luminance=last)
        product *= max(term, 0.0) ** weight
    return product


def _mean_over(x: Plane, y: Plane, windows: Windows, inside: Mask | None = None, *, luminance: bool = True) -> float:
    """Return the mean SSIM, or that of its part without luminance, over all windows or those ``inside``."""
    total, count = 0.0, 0
    for place, moments in windows.over(_mirrored_where_short(x), _mirrored_where_short(y)):
        scores = moments.contrast_structure()
        if luminance:
            scores *= moments.luminance()
        if inside is not None:
            scores = scores[inside[place]]
        total += float(scores.sum())
        count += scores.size
    return total / count


def _scales(shape: tuple[int, ...], mask: Mask | None) -> list[Mask | None]:
    """Return which windows count (None: all) at each scale that holds any."""
    if mask is not None and mask.shape != tuple(shape):
        raise InputError(f"a mask has the shape of the pictures, {tuple(shape)}, got {mask.shape}")
    inside: list[Mask | None] = []
    while len(inside) < len(MS_SSIM_WEIGHTS) and (not inside or min(shape) >= WINDOW):
        windows = None if mask is None else whole_windows(mask)
        if windows is not None and not windows.any():
            break
        inside.append(windows)
        shape = tuple(-(-side // 2) for side in shape)
        mask = None if mask is None else np.equal(_halved(mask, np.dtype(np.float64)), 1)
    if not inside:
        raise InputError(
            f"no window of {WINDOW} x {WINDOW} pixels lies in the mask; compare pictures that overlap more"
        )
    return inside


def whole_windows(mask: Mask) -> Mask:
    """Return for every window that lies in the picture whether it lies in the mask too."""
    whole: Any = _mirrored_where_short(mask)
    whole = sliding_window_view(whole, WINDOW, axis=0).all(axis=-1)
    inside: Mask = np.asarray(sliding_window_view(whole, WINDOW, axis=1).all(axis=-1))
    return inside


def _halved(plane: Plane, dtype: np.dtype[Any]) -> Plane:
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    halved = even[::2, ::2].astype(dtype)
    for rows, columns in ((0, 1), (1, 0), (1, 1)):
        halved += even[rows::2, columns::2]
    halved /= 4
    return halved


def _mirrored_where_short(plane: Plane) -> Plane:
    if min(plane.shape) >= WINDOW:
        return plane
    return _mirrored(plane, *(0 if side >= WINDOW else RADIUS for side in plane.shape))


def _mirrored(plane: Plane, rows: int, columns: int) -> Plane:
    return np.pad(plane, ((rows, rows), (columns, columns)), mode="symmetric")


def _inner(side: int) -> slice:
    """Return the pixels along a side around which a window lies in the picture; all where none does."""
    return slice(RADIUS, side - RADIUS) if side >= WINDOW else slice(0, side)


def _channels(a: Plane, b: Plane, data_range: float) -> Iterator[tuple[Plane, Plane]]:
    if a.shape != b.shape or a.ndim not in (2, 3) or 0 in a.shape:
        raise InputError(
            f"SSIM compares two arrays of one shape, (H, W) or (H, W, C), got {a.shape} and {b.shape}; register the "
            "pictures (lookalike.registration.compare_structure) or resize one"
        )
    for pixels in (a, b):
        largest = max(float(pixels.max()), -float(pixels.min()))
        if not largest <= _FURTHEST * data_range:  # nor is NaN
            raise InputError(f"pixel values reach {largest:g}, which makes no sense with data_range={data_range:g}")
    yield from zip(_planes(a), _planes(b), strict=True)


def _planes(pixels: Plane) -> list[Plane]:
    return [pixels] if pixels.ndim == 2 else [pixels[..., channel] for channel in range(pixels.shape[2])]


def _pixels(a: Image, b: Image, grey: bool) -> tuple[Plane, Plane]:
    (height, width), (other_height, other_width) = a.pixels.shape[:2], b.pixels.shape[:2]
    if (height, width) != (other_height, other_width):
        raise InputError(
            f"SSIM compares pictures of one size, but {a.source} has {width}x{height} pixels and {b.source} "
            f"{other_width}x{other_height}; register them (lookalike.registration.compare_structure) or resize one"
        )
    return (luma(a.pixels), luma(b.pixels)) if grey else (a.pixels, b.pixels)


def _mean(scores: Sequence[float]) -> float:
    return min(float(np.mean(scores)), 1.0)  # rounding may pass it by an ulp
