"""Registration: how picture b lies on picture a by shift, rotation and scale, and what SSIM says when it is laid there.

    grey, locally normalized    each pixel minus its surroundings' mean, over their deviation: light drops out
    rotation and scale          Fourier-Mellin (Reddy, Chatterji 1996): spectra do not see shifts, and in log-polar
                                coordinates rotation and scale are shifts, found by phase correlation
    shift                       phase correlation (Kuglin, Hines 1975), for each of the best few of these
    refinement                  Gauss-Newton, inverse compositional (Baker, Matthews 2004), from coarse to fine
    validation                  the correlation where the two overlap has to be far above what chance gives

Rotation may be anything, and scale up to 2.6 either way once both have the same longest side. Perspective and depth
are not modelled. The centre of the first pixel is the point (0, 0). A matrix is 3 x 3 and takes points (x, y, 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.metrics.structural import Mask, Structural, luma, ms_ssim, ssim, structural, whole_windows
from lookalike.types import Float32, Image, Registration

Matrix: TypeAlias = NDArray[np.float64]

COMPARED_SIDE = 1024
"""The longest side, in pixels, at which two pictures are compared that had to be aligned."""

_COARSE, _FINE = 96, 256
_FOLLOWED, _SURELY = 192, 0.6
_LEAST_SIDE = 16
_SOFT, _LOCAL, _NOISE = 0.7, 5.0, 3.0
_FLAT = 0.01

_SPECTRUM = 256
_ANGLES, _RADII = 180, 128
_LOWEST, _HIGHEST = 6.0, 100.0
_LARGEST_SCALE = 2.6
_TURNS, _SHIFTS, _REFINED = 5, 2, 3
_STEPS, _SMALL_STEP, _DAMPING = 12, 0.01, 1e-3

_COARSER = 1.1
_UNMOVED = 0.5
_BETTER = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class StructuralComparison:
    """What SSIM and MS-SSIM say of two pictures, and how the one was laid on the other.

    Where ``aligned``, b was laid on a first: ``structural`` and ``ms_ssim`` are those of the part that both show, at
    the resolution of the coarser of the two and at most ``COMPARED_SIDE`` pixels; ``mask`` (of the map's shape) is
    True where both have pixels. Else the pictures were compared as they are, at full size. Both scores are None where
    neither could be done. ``reason`` says in one plain sentence which it was.
    """

    registration: Registration
    aligned: bool
    reason: str
    structural: Structural | None = None
    ms_ssim: float | None = None
    mask: Mask | None = None


def register(a: Image, b: Image) -> Registration:
    """Return how b lies on a, found from their luma; ``found`` is False where chance could have given as much.

    ``shift`` is how far what lies in the middle of a lies from the middle of b. ``agreement`` is the correlation after
    local normalization, at most 256 pixels a side.
    """
    first, second = _Pyramid(a), _Pyramid(b)
    most = min(first.longest, second.longest)
    coarse, fine = (_Pair(first.level(min(side, most)), second.level(min(side, most))) for side in (_COARSE, _FINE))
    if problem := fine.problem():
        return Registration(False, f"no alignment found: {problem}")
    matrix = _best_start(coarse, fine)
    pair = _matched(first, second, matrix)
    matrix = pair.refined(matrix)
    agreement, pixels = pair.agreement(matrix)
    if agreement < _chance(pixels):
        enough = f"{_chance(pixels):.2f} would be enough" if pixels else "they do not overlap"
        return Registration(False, f"no alignment found: best agreement {agreement:.2f}, {enough}")
    return _found(a, b, matrix, agreement, pixels / pair.a.plane.size)


class View:
    """The view of a fixed camera, to which its frames are registered: a few ms a frame, from where the last one lay."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self._fine, self._coarse = _level_of(image, _FOLLOWED), _level_of(image, _COARSE)

    def follow(self, frame: Image, start: Registration | None = None, *, search: bool = True) -> Registration:
        """Return how ``frame`` lies on the view, as :func:`register` does, for a camera that was nudged.

        It is looked for near ``start``, then by shift alone, and last, where ``search`` is true, by :func:`register`.
        """
        pair = _Pair(self._fine, _level_of(frame, _FOLLOWED))
        if problem := pair.problem():
            return Registration(False, f"no alignment found: {problem}")
        first = np.eye(3) if start is None or start.matrix is None else _three_rows(start)
        matrix = pair.refined(first)
        agreement, pixels = pair.agreement(matrix)
        if agreement < _SURELY:
            coarse = _Pair(self._coarse, _level_of(frame, _COARSE))
            shifted = [
                pair.refined(coarse.outer(shift))
                for shift in _shifts(coarse.a.plane, coarse.b.plane, coarse.inner(np.eye(3)))
            ]
            matrix = _best(pair, [matrix, *shifted])[0]
            agreement, pixels = pair.agreement(matrix)
        if agreement < _chance(pixels):
            if search:
                return register(self.image, frame)
            return Registration(False, f"no alignment found: best agreement {agreement:.2f}")
        return _found(self.image, frame, matrix, agreement, pixels / pair.a.plane.size)


def align(b: Image, registration: Registration, shape: tuple[int, int]) -> tuple[NDArray[np.uint8], Mask]:
    """Return b as it looks in the frame of a, whose (height, width) is ``shape``, and where it has pixels.

    The pixels (height, width, 3) are interpolated bilinearly, from b averaged down where it is much larger; they are
    black where the mask is False.
    """
    if registration.matrix is None:
        raise InputError(f"there is nothing to align {b.source} by: {registration.reason}")
    pixels, mask = _laid(b.pixels, _three_rows(registration), shape)
    return np.rint(pixels).astype(np.uint8), mask


def compare_structure(a: Image, b: Image) -> StructuralComparison:
    """Return SSIM and MS-SSIM of two pictures of any size, colour by colour, aligned where that makes them more alike.

    Pictures of one size are compared as they are, unless they agree better when b is laid on a. Of pictures of two
    sizes that cannot be aligned nothing is said.
    """
    registration = register(a, b)
    same_size = a.pixels.shape == b.pixels.shape
    if registration.found and not (same_size and _hardly_moves(registration, a)):
        pixels, laid, mask = _aligned(a, b, registration)
        if whole_windows(mask).any():
            found = structural(pixels, laid, dtype=np.float32, mask=mask)
            if not same_size or found.score > _unaligned_score(a, b, max(mask.shape)) + _BETTER:
                score = ms_ssim(pixels, laid, dtype=np.float32, mask=mask)
                reason = "compared where they overlap, after alignment"
                return StructuralComparison(registration, True, reason, found, score, mask)
    if not same_size:
        reason = "they overlap too little" if registration.found else registration.reason
        return StructuralComparison(registration, False, f"not compared, since their sizes differ: {reason}")
    found = structural(a.pixels, b.pixels, dtype=np.float32)
    score = ms_ssim(a.pixels, b.pixels, dtype=np.float32)
    reason = "compared as they are" + ("" if registration.found else f"; {registration.reason}")
    return StructuralComparison(registration, False, reason, found, score)


# Comparison


def _aligned(a: Image, b: Image, registration: Registration) -> tuple[Float32, Float32, Mask]:
    """Return a, and b laid on it, at the resolution of the coarser of the two, and where b has pixels."""
    longest = max(a.pixels.shape[:2])
    scale = registration.scale or 1.0
    side = longest if scale * _COARSER > 1 else max(1, round(longest * scale))
    pixels, into = _shrunk(a.pixels, min(side, COMPARED_SIDE))
    laid, mask = _laid(b.pixels, _three_rows(registration) @ np.linalg.inv(into), pixels.shape[:2])
    return pixels, laid, mask


def _unaligned_score(a: Image, b: Image, side: int) -> float:
    """Return the SSIM of two pictures of one size as they are, at the size of the aligned ones."""
    return ssim(_shrunk(a.pixels, side)[0], _shrunk(b.pixels, side)[0], dtype=np.float32)


def _hardly_moves(registration: Registration, a: Image) -> bool:
    """Tell whether no corner of a moves by half a pixel, at the size at which the two would be compared."""
    height, width = a.pixels.shape[:2]
    corners = np.array([(x, y, 1.0) for x in (0, width - 1) for y in (0, height - 1)]).T
    moves = np.abs((_three_rows(registration) - np.eye(3)) @ corners).max()
    return bool(moves * min(1.0, COMPARED_SIDE / max(height, width)) < _UNMOVED)


# Registration


@dataclass(frozen=True, slots=True)
class _Level:
    """A picture at one size: ``plane``, its luma locally normalized; ``into`` takes its own pixels to those of that."""

    plane: Float32
    into: Matrix


class _Pyramid:
    """A picture at several sizes."""

    def __init__(self, image: Image) -> None:
        self.longest = max(image.pixels.shape[:2])
        pixels, self._into = _shrunk(image.pixels, min(self.longest, 2 * _FINE))
        self._luma = luma(pixels).astype(np.float32)
        self._levels: dict[int, _Level] = {}

    def level(self, side: int) -> _Level:
        """Return the picture with a longest side of ``side`` pixels, or as few as can be registered."""
        side = max(side, _LEAST_SIDE)
        if side not in self._levels:
            plane, into = _shrunk(self._luma, side)
            self._levels[side] = _Level(_normalized(plane), into @ self._into)
        return self._levels[side]


def _level_of(image: Image, side: int) -> _Level:
    plane, into = _shrunk(image.pixels, side)
    return _Level(_normalized(luma(plane).astype(np.float32)), into)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two pictures at one size. The matrices that it takes and gives are those of the pictures' own pixels."""

    a: _Level
    b: _Level

    def problem(self) -> str | None:
        """Return why the two cannot be registered, or None."""
        for which, level in (("first", self.a), ("second", self.b)):
            if min(level.plane.shape) < _LEAST_SIDE:
                height, width = level.plane.shape
                return f"too small or narrow, the {which} has {width}x{height} pixels when both have one size"
            if level.plane.std() < _FLAT:
                return f"the {which} picture shows nothing to align by"
        return None

    def inner(self, matrix: Matrix) -> Matrix:
        """Return the matrix in the pixels of this size."""
        return self.b.into @ matrix @ np.linalg.inv(self.a.into)

    def outer(self, matrix: Matrix) -> Matrix:
        """Return the matrix in the pictures' own pixels."""
        return np.linalg.inv(self.b.into) @ matrix @ self.a.into

    def agreement(self, matrix: Matrix) -> tuple[float, int]:
        """Return the correlation of the overlap, in [-1, 1], and how many pixels it has."""
        laid, mask = _bilinear(self.b.plane, self.inner(matrix), self.a.plane.shape)
        if not mask.any():
            return 0.0, 0
        x, y = self.a.plane[mask], laid[mask]
        x, y = x - x.mean(), y - y.mean()
        norm = math.sqrt(_product(x, x) * _product(y, y))
        return (_product(x, y) / norm if norm > 0 else 0.0), x.size

    def refined(self, matrix: Matrix) -> Matrix:
        """Return the similarity near ``matrix`` at which the two correlate best."""
        return self.outer(_refined(self.a.plane, self.b.plane, self.inner(matrix)))


def _matched(first: _Pyramid, second: _Pyramid, matrix: Matrix) -> _Pair:
    """Return the two at sizes at which ``matrix`` neither enlarges nor shrinks."""
    scale = _scale(matrix)
    share = min(1.0, scale, _FINE / first.longest, _FINE * scale / second.longest)
    return _Pair(first.level(round(first.longest * share)), second.level(round(second.longest * share / scale)))


def _best_start(coarse: _Pair, fine: _Pair) -> Matrix:
    """Return the matrix that explains the coarse pair best, by trying the likeliest turns and shifts."""
    starts = [
        coarse.outer(shifted)
        for turn in _turns(fine.a.plane, fine.b.plane)
        for shifted in _shifts(coarse.a.plane, coarse.b.plane, coarse.inner(fine.outer(turn)))
    ]
    refined = [coarse.refined(start) for start in _best(coarse, starts)[:_REFINED]]
    return _best(coarse, refined)[0]


def _best(pair: _Pair, matrices: list[Matrix]) -> list[Matrix]:
    def surprise(matrix: Matrix) -> float:
        agreement, pixels = pair.agreement(matrix)
        return agreement - _chance(pixels)

    return sorted(matrices, key=surprise, reverse=True)


def _chance(pixels: int) -> float:
    """Return the agreement in an overlap of so many pixels that chance does not reach, by search among all matrices.

    Measured on pairs of different photos at 24 to 320 pixels a side: ``python -m benchmarks.structural``.
    """
    return 0.33 + 13 / math.sqrt(pixels) if pixels else 1.0


def _found(a: Image, b: Image, matrix: Matrix, agreement: float, overlap: float) -> Registration:
    scale = _scale(matrix)
    x, y = ((matrix @ (*_middle(a.pixels), 1.0))[:2] - _middle(b.pixels)) / scale
    first, second = ((float(row[0]), float(row[1]), float(row[2])) for row in matrix[:2])
    return Registration(
        found=True,
        reason=f"aligned: agreement {agreement:.2f} where they overlap, {overlap:.0%} of {a.source}",
        shift=(float(x), float(y)),
        rotation=math.degrees(math.atan2(first[1] - second[0], first[0] + second[1])),
        scale=scale,
        agreement=min(agreement, 1.0),
        overlap=overlap,
        matrix=(first, second),
    )


def _turns(a: Float32, b: Float32) -> Iterator[Matrix]:
    """Yield the likeliest rotations and scales as matrices, each also upside down: a spectrum cannot tell."""
    step = math.log(_HIGHEST / _LOWEST) / (_RADII - 1)
    furthest = int(math.log(_LARGEST_SCALE) / step)
    surface = _correlation(_log_polar_spectrum(a), _log_polar_spectrum(b), (_ANGLES, 2 * _RADII))
    likely = np.roll(surface, furthest, axis=1)[:, : 2 * furthest + 1]
    for angle, radius in [(0, furthest), *_peaks(likely, _TURNS, 4)]:
        turn = _turned(-math.pi * angle / _ANGLES, math.exp((furthest - radius) * step))
        yield turn
        yield turn * (-1, -1, 1)


def _shifts(a: Float32, b: Float32, matrix: Matrix) -> Iterator[Matrix]:
    """Yield the likeliest matrices with the linear part of the given one."""
    height, width = a.shape
    top, left = height // 2, width // 2
    turn = _turned(0, 1)
    turn[:2, :2] = matrix[:2, :2]
    centred = _moved(*_middle(b)) @ turn @ np.linalg.inv(_moved(*_middle(a)))
    # b turned, in a frame twice as large as that of a, with that in its middle.
    laid, mask = _bilinear(b, centred @ _moved(-left, -top), (2 * height, 2 * width))
    surface = _correlation(a, laid * mask, laid.shape)
    for y, x in _peaks(surface, _SHIFTS, 2):
        yield centred @ _moved(_wrapped(x - left, width), _wrapped(y - top, height))


def _correlation(a: Float32, b: Float32, shape: tuple[int, ...]) -> Float32:
    """Return how well a agrees with b moved back by (row, column), half whitened, in a circle of ``shape``."""
    cross = np.fft.rfft2(a, shape).conj() * np.fft.rfft2(b, shape)
    size = np.abs(cross)
    # Fully whitened, as in phase correlation, noise counts as much as the picture does.
    return np.fft.irfft2(cross / np.sqrt(size + 1e-6 * size.max() + 1e-30), shape).astype(np.float32)


def _peaks(surface: Float32, count: int, radius: int) -> Iterator[tuple[int, int]]:
    """Yield the (row, column) of the highest points, none within ``radius`` of a higher one; rows wrap around."""
    surface = surface.copy()
    around = np.arange(-radius, radius + 1)
    for _ in range(count):
        row, column = map(int, np.unravel_index(np.argmax(surface), surface.shape))
        yield row, column
        near = np.clip(column + around, 0, surface.shape[1] - 1)
        surface[np.ix_((row + around) % len(surface), near)] = -np.inf


def _log_polar_spectrum(plane: Float32) -> Float32:
    """Return the log magnitude spectrum as (angles over half a turn, radii in equal steps of their logarithm)."""
    height, width = plane.shape
    window = np.sqrt(np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]))
    windowed = (plane - np.average(plane, weights=window)) * window
    spectrum = np.log1p(np.abs(np.fft.rfft2(windowed, (_SPECTRUM, _SPECTRUM)))).astype(np.float32)
    angles = np.arange(_ANGLES) * math.pi / _ANGLES
    radii = _LOWEST * (_HIGHEST / _LOWEST) ** (np.arange(_RADII) / (_RADII - 1))
    # The half with negative columns is not stored: it is that with positive ones, mirrored.
    sign = np.where(np.cos(angles) < 0, -1, 1)[:, None]
    columns, rows = sign * np.outer(np.cos(angles), radii), sign * np.outer(np.sin(angles), radii)
    # Rows run from -half to half, so that none wraps around between two that are interpolated.
    polar, _ = _sampled(np.fft.fftshift(spectrum, axes=0), columns, rows + _SPECTRUM // 2)
    polar -= polar.mean(axis=0)
    return polar * np.sqrt(np.hanning(_RADII + 2)[1:-1]).astype(np.float32)


def _refined(a: Float32, b: Float32, matrix: Matrix) -> Matrix:
    """Return the similarity near ``matrix`` at which b correlates best with a (ECC: Evangelidis, Psarakis 2008)."""
    height, width = a.shape
    middle_x, middle_y = _middle(a)
    unit = max(height, width) / 2
    x = ((np.arange(width) - middle_x) / unit).astype(np.float32)
    y = ((np.arange(height) - middle_y) / unit).astype(np.float32)[:, None]
    down, right = np.gradient(a)
    # How a changes as it grows, as it turns, and as it moves right and down.
    slopes = np.stack([right * x + down * y, right * y - down * x, right, down])
    to_middle, from_middle = _moved(-middle_x, -middle_y), _moved(middle_x, middle_y)
    for _ in range(_STEPS):
        laid, mask = _bilinear(b, matrix, a.shape)
        step = _step(a[mask], laid[mask], slopes[:, mask]) if mask.any() else None
        if step is None or np.abs(step).max() > unit / 2:
            break
        grow, turn, move_x, move_y = step / (unit, unit, 1, 1)
        change = np.array([(1 + grow, turn, move_x), (-turn, 1 + grow, move_y), (0, 0, 1)])
        matrix = matrix @ np.linalg.inv(from_middle @ change @ to_middle)
        if np.abs(step).max() < _SMALL_STEP:
            break
    return matrix


def _step(x: Float32, y: Float32, slopes: Float32) -> Matrix | None:
    """Return by how many pixels a (its values ``x``) has to grow, turn and move to look as b (``y``), up to light."""
    x, y = x - x.mean(), y - y.mean()
    square, product = _product(x, x), _product(x, y)
    if product <= 0:
        return None
    # Where light changes, a's values move by a constant and along themselves: that says nothing of motion.
    slopes -= slopes.mean(axis=1, keepdims=True)
    slopes -= np.outer(_products(slopes, x) / square, x)
    curvature = np.array([_products(slopes, slope) for slope in slopes])
    curvature += np.diag(_DAMPING * np.diag(curvature) + 1e-9)
    return np.asarray(np.linalg.solve(curvature, _products(slopes, y * (square / product) - x)))


def _products(rows: Float32, x: Float32) -> Matrix:
    return np.array([_product(row, x) for row in rows])


def _product(x: Float32, y: Float32) -> float:
    return float(np.einsum("i,i->", x, y))


# Pixels


def _normalized(plane: Float32) -> Float32:
    """Return each pixel minus the mean around it, over the deviation around it (plus a little, lest noise grow)."""
    soft = _blurred(plane, _SOFT)
    detail = soft - _blurred(soft, _LOCAL)
    return np.asarray(detail / (np.sqrt(_blurred(detail * detail, _LOCAL)) + _NOISE), np.float32)


def _blurred(plane: Float32, sigma: float) -> Float32:
    """Return the Gaussian blur; at the border the weights are those of the pixels that there are."""
    return _blurred_down(_blurred_down(plane, sigma).T, sigma).T


def _blurred_down(plane: Float32, sigma: float) -> Float32:
    # Sums of shifted rows: a product of matrices would set the threads of BLAS on each other where a core is busy.
    radius, height = math.ceil(3 * sigma), len(plane)
    rows = np.pad(np.column_stack([plane, np.ones(height, np.float32)]), ((radius, radius), (0, 0)))
    total = rows[radius : radius + height].copy()
    for offset in range(1, radius + 1):
        above, below = rows[radius - offset :][:height], rows[radius + offset :][:height]
        total += np.float32(math.exp(-0.5 * (offset / sigma) ** 2)) * (above + below)
    return np.asarray(total[:, :-1] / total[:, -1:], np.float32)


def _shrunk(pixels: NDArray[Any], side: int) -> tuple[Float32, Matrix]:
    """Return (H, W) or (H, W, C) averaged down to a longest side of ``side``, never enlarged, and the matrix to it."""
    longest = max(pixels.shape[:2])
    if longest <= side:
        return np.asarray(pixels, np.float32), np.eye(3)
    planes = np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), 2, 0)
    sizes = [max(1, round(length * side / longest)) for length in planes.shape[1:]]
    factors = [min(longest // side, length) for length in planes.shape[1:]]
    planes = _boxed(planes, *factors)
    kept = [size / (length * factor) for size, length, factor in zip(sizes, planes.shape[1:], factors, strict=True)]
    planes = _averaged(_averaged(planes, sizes[0]).swapaxes(1, 2), sizes[1])
    # In coordinates of edges, where the first pixel begins at 0, it is a mere scale.
    into = _moved(-0.5, -0.5) @ np.diag([kept[1], kept[0], 1.0]) @ _moved(0.5, 0.5)
    return np.ascontiguousarray(planes.T).reshape(*sizes, *pixels.shape[2:]), into


def _boxed(planes: NDArray[Any], tall: int, wide: int) -> Float32:
    """Return the means of whole boxes of ``tall`` x ``wide`` pixels of (C, H, W); what is left over is dropped."""
    height, width = planes.shape[1] // tall, planes.shape[2] // wide
    total = np.zeros((len(planes), height, width), np.float32)
    for y in range(tall):
        for x in range(wide):
            total += planes[:, y : height * tall : tall, x : width * wide : wide]
    total /= tall * wide
    return total


def _averaged(planes: Float32, size: int) -> Float32:
    """Return (C, size, W) from (C, H, W): each new row is the mean of the old rows that it covers, in part or whole."""
    length = planes.shape[1]
    edges = np.linspace(0, length, size + 1)
    first = edges[:-1].astype(np.intp)
    total = np.zeros((len(planes), size, planes.shape[2]), np.float32)
    for row in (first + ahead for ahead in range(math.ceil(length / size) + 1)):
        covered = np.minimum(edges[1:], row + 1) - np.maximum(edges[:-1], row)
        share = (np.maximum(covered, 0) * (size / length)).astype(np.float32)
        total += planes[:, np.minimum(row, length - 1)] * share[:, None]
    return total


def _laid(pixels: NDArray[np.uint8], matrix: Matrix, shape: tuple[int, ...]) -> tuple[Float32, Mask]:
    """Return (H, W, 3) pixels in a frame from whose points ``matrix`` leads to theirs, 0 where they do not reach."""
    scale = _scale(matrix)
    if scale > _COARSER:
        smaller, into = _shrunk(pixels, max(1, round(max(pixels.shape[:2]) / scale)))
        laid, mask = _bilinear(smaller, into @ matrix, shape)
    else:
        laid, mask = _bilinear(pixels, matrix, shape)
    laid[~mask] = 0
    return laid, mask


def _bilinear(pixels: NDArray[Any], matrix: Matrix, shape: tuple[int, ...]) -> tuple[Float32, Mask]:
    x, y = np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32)[:, None]
    to_x, to_y = ([float(factor) for factor in row] for row in matrix[:2])
    return _sampled(pixels, to_x[0] * x + (to_x[1] * y + to_x[2]), to_y[0] * x + (to_y[1] * y + to_y[2]))


def _sampled(pixels: NDArray[Any], x: NDArray[Any], y: NDArray[Any]) -> tuple[Float32, Mask]:
    """Return (H, W) or (H, W, C) at the points (x, y), interpolated, and which of these lie in it."""
    height, width = pixels.shape[:2]
    slack = 1e-3
    mask = (x >= -slack) & (x <= width - 1 + slack) & (y >= -slack) & (y <= height - 1 + slack)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.minimum(x.astype(np.intp), max(width - 2, 0)), np.minimum(y.astype(np.intp), max(height - 2, 0))
    channels = (..., *[None] * (pixels.ndim - 2))
    to_right, to_lower = (x - left).astype(np.float32)[channels], (y - top).astype(np.float32)[channels]
    flat = np.asarray(pixels, np.float32).reshape(height * width, *pixels.shape[2:])
    first, right, lower = top * width + left, min(1, width - 1), width * min(1, height - 1)
    upper, below = (
        flat[corner] + to_right * (flat[corner + right] - flat[corner]) for corner in (first, first + lower)
    )
    return upper + to_lower * (below - upper), mask


def _turned(angle: float, scale: float) -> Matrix:
    """Return the rotation by ``angle``, counter-clockwise as seen with y pointing down, and scale about (0, 0)."""
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([(c, s, 0.0), (-s, c, 0.0), (0.0, 0.0, 1.0)])


def _moved(x: float, y: float) -> Matrix:
    return np.array([(1.0, 0.0, x), (0.0, 1.0, y), (0.0, 0.0, 1.0)])


def _middle(pixels: NDArray[Any]) -> tuple[float, float]:
    height, width = pixels.shape[:2]
    return (width - 1) / 2, (height - 1) / 2


def _wrapped(distance: int, length: int) -> int:
    return distance - 2 * length if distance >= length else distance


def _scale(matrix: Matrix) -> float:
    return math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))


def _three_rows(registration: Registration) -> Matrix:
    return np.vstack([np.array(registration.matrix, np.float64), (0.0, 0.0, 1.0)])
