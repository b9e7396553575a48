"""Local features: what two pictures have in common, how the one lies on the other, and whether it is the same shot.

    features      SIFT (Lowe 2004), RootSIFT (Arandjelović, Zisserman 2012), at most ``SIDE`` pixels on the longer side
    mirror        the descriptors of the mirrored picture are those of the picture with their bins in another order
    first look    ORB corners, in a tenth of the time that features take: most candidates have nothing in common, and
                  most copies agree as soon as corners are tracked to fractions of a pixel (Lucas, Kanade 1981)
    matches       each other's nearest, and clearly nearer than the second nearest
    geometry      every match proposes a similarity by its own scale and angle; the best are refined by least squares.
                  No draw is random: the same features give the same answer
    chance        the number of false alarms of AC-RANSAC (Moisan, Stival 2004), as its negative logarithm
    agreement     the correlation of small windows after the one picture was laid on the other: another photo of the
                  same scene has as many inliers as a copy, but no part of it agrees to the pixel

The only module that knows OpenCV.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.copies.agreement import Agreement, agreement
from lookalike.errors import MissingDependency
from lookalike.types import Float32

Pixels: TypeAlias = NDArray[np.uint8]
Matrix: TypeAlias = NDArray[np.float64]

SIDE = 256
"""The longer side, in pixels, at which features are found; smaller pictures are enlarged to it, at most twice."""
MOST_FEATURES = 400

IN_COMMON = 1.0
"""The significance below which corners that two pictures have in common are chance."""
_MOST_CORNERS, _LOOKED_AT = 300, 900
_CELLS = 6  # a side
_FARTHEST_CORNER = 64  # of 256 bits
_PLAIN = 6.0  # a significance with which the mirrored picture need not be tried
_TRACKED_IN = 15  # pixels: the side of the window that is looked for
_ASTRAY = 6.0  # pixels: what was tracked further was lost
_TRACKING_TOLERANCES = (2.0, 1.0, 1.0)
_EVENED_IN = 31

_CONTRAST = 0.02  # half of Lowe's: a copy may have lost half of its contrast
_RATIO = 0.85  # of the distances to the nearest and second nearest
_FEWEST = 5
_HYPOTHESES = 6
_TOLERANCES = (14.0, 8.0, 5.0, 3.5, 3.0, 3.0)  # pixels at SIDE: a hypothesis from one match is rough
_AFFINE_FROM = 10
_CLEARLY_MORE = 1.15
_LARGEST_SCALE = 6.0
_MOST_STRETCHED = 1.6

_SMALLEST = 8
_NOTABLY = 1.2
_SOFT = 1.2

# The score: copies with few inliers have few because they are small or blurred; another photo, because it is another.
_FEW, _MANY = 10.0, 50.0
_DISCOUNT_FEW, _DISCOUNT = 0.17, 0.1
_SHARED = 0.8
_STRETCHED = 1.03


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Up to ``MOST_FEATURES`` local features of a picture.

    ``points`` is (n, 2) float32, x and y in pixels of ``grey``; ``scales`` (n,) and ``angles`` (n,) in radians;
    ``descriptors`` (n, 128) uint8; ``grey`` (h, w) uint8. ``reduction`` is how many pixels of the given picture are one
    of ``grey``.
    """

    points: Float32
    scales: Float32
    angles: Float32
    descriptors: NDArray[np.uint8]
    grey: Pixels
    reduction: float

    def __len__(self) -> int:
        return len(self.points)

    @property
    def nbytes(self) -> int:
        """Return the memory that this takes, in bytes."""
        return self.points.nbytes + 2 * self.scales.nbytes + self.descriptors.nbytes + self.grey.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A picture as features are found in it: ``grey`` (h, w) uint8, ``reduction`` pixels of the given one each."""

    grey: Pixels
    reduction: float


@dataclass(frozen=True, slots=True, eq=False)
class Corners:
    """Up to 300 corners (ORB: Rublee et al. 2011) of a picture: as in ``Features``, with ``bits`` (n, 32) uint8.

    ``found`` are OpenCV's own, for :func:`mirrored`.
    """

    points: Float32
    scales: Float32
    angles: Float32
    bits: NDArray[np.uint8]
    grey: Pixels
    reduction: float
    found: tuple[Any, ...]

    @property
    def nbytes(self) -> int:
        """Return the memory that this takes, in bytes; about 100 of each corner are OpenCV's."""
        return self.points.nbytes + 2 * self.scales.nbytes + self.bits.nbytes + self.grey.nbytes + 100 * len(self.found)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What a first look found: ``significance`` as in ``Geometry``, and ``geometry``, None where nothing speaks for a
    copy, or corners do not tell how the one lies on the other.
    """

    significance: float
    geometry: Geometry | None


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """How picture b lies on picture a.

    ``matched`` features, of which ``inliers`` follow the geometry. ``overlap_a`` and ``overlap_b`` are the shares of
    the areas that the other picture shows too. ``scale`` is the size of b's content relative to a's,
    ``rotation_degrees`` counter-clockwise as seen, from a to b, after the mirroring if ``mirrored``. ``matrix`` (2, 3)
    takes points of a to points of b, in pixels of the pictures as given; ``stretch`` is 1 where it keeps proportions.
    ``significance`` is -log10 of the number of such geometries that chance would give. ``agreement``
    (:class:`Agreement`) is how well the two agree where they overlap, over ``blocks`` blocks.
    """

    matched: int
    inliers: int
    overlap_a: float
    overlap_b: float
    scale: float
    rotation_degrees: float
    mirrored: bool
    matrix: Matrix
    stretch: float
    significance: float
    agreement: float
    blocks: int

    @property
    def score(self) -> float:
        """Return what a threshold is set on: the agreement, less where a copy would have left more inliers, where
        sides are stretched, and where neither picture lies within the other.
        """
        few = min(1.0, max(0.0, (_MANY - self.significance) / (_MANY - _FEW)))
        stretched = self.stretch > _STRETCHED
        astray = max(self.overlap_a, self.overlap_b) < _SHARED
        return self.agreement - _DISCOUNT_FEW * few - _DISCOUNT * (stretched + astray)


def require() -> None:
    """Raise MissingDependency unless OpenCV is installed: before hours of other work, not after."""
    if find_spec("cv2") is None:
        raise MissingDependency("the search for edited copies", "dedupe")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let OpenCV work in this thread alone meanwhile: on pictures so small its threads cost more than they win."""
    cv2 = _opencv()
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _opencv() -> Any:
    try:
        import cv2  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise MissingDependency("the search for edited copies", "dedupe") from error
    return cv2


@functools.cache
def _sift() -> Any:
    return _opencv().SIFT_create(MOST_FEATURES, contrastThreshold=_CONTRAST)


@functools.cache
def _orb() -> Any:
    return _opencv().ORB_create(_LOOKED_AT, scaleFactor=1.3, nlevels=7, fastThreshold=8)


def prepared(pixels: Pixels) -> Prepared:
    """Return (H, W, 3) uint8 pixels as features are found in them. Raises MissingDependency without OpenCV."""
    cv2 = _opencv()
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    longest = max(grey.shape)
    size = min(SIDE, 2 * longest)
    if size != longest:
        height, width = (max(1, round(size * side / longest)) for side in grey.shape)
        how = cv2.INTER_AREA if size < longest else cv2.INTER_CUBIC
        grey = cv2.resize(grey, (width, height), interpolation=how)
    return Prepared(grey, longest / size)


def extract(picture: Pixels | Prepared) -> Features:
    """Return the local features of (H, W, 3) uint8 pixels, or of such as were prepared."""
    ready = picture if isinstance(picture, Prepared) else prepared(picture)
    found, raw = _sift().detectAndCompute(ready.grey, None)
    raw = np.empty((0, 128), np.float32) if raw is None else raw[:MOST_FEATURES]
    return Features(*_places(found[:MOST_FEATURES]), _root(raw), ready.grey, ready.reduction)


def corners(ready: Prepared) -> Corners:
    """Return the corners of a prepared picture."""
    found, bits = _orb().detectAndCompute(ready.grey, None)
    if bits is None:
        return Corners(*_places(()), np.empty((0, 32), np.uint8), ready.grey, ready.reduction, ())
    spread = _spread(found, ready.grey)
    kept = tuple(found[place] for place in spread)
    return Corners(*_places(kept), bits[spread], ready.grey, ready.reduction, kept)


def mirrored(a: Corners) -> Corners:
    """Return the corners of what a picture looks like in a mirror (x -> w - 1 - x): the same, described anew."""
    cv2 = _opencv()
    grey = np.ascontiguousarray(a.grey[:, ::-1])
    if not a.found:
        return Corners(a.points, a.scales, a.angles, a.bits, grey, a.reduction, ())
    last = grey.shape[1] - 1
    there = [
        cv2.KeyPoint(last - one.pt[0], one.pt[1], one.size, (180 - one.angle) % 360, one.response, one.octave)
        for one in a.found
    ]
    found, bits = _orb().compute(grey, there)
    return Corners(*_places(found), bits, grey, a.reduction, ())


def _spread(found: Sequence[Any], grey: Pixels) -> NDArray[np.intp]:
    """Return the places of the strongest corners of each cell of the picture, in turns: words on it have the most."""
    strengths = np.array([point.response for point in found], np.float32)
    x, y = _opencv().KeyPoint_convert(found).T
    cells = (x * _CELLS // grey.shape[1]).astype(np.intp) * _CELLS + (y * _CELLS // grey.shape[0]).astype(np.intp)
    order = np.lexsort((-strengths, cells))
    firsts = np.searchsorted(cells[order], cells[order])
    turns = np.arange(len(order)) - firsts
    return np.sort(order[np.lexsort((-strengths[order], turns))[:_MOST_CORNERS]])


def _places(found: Sequence[Any]) -> tuple[Float32, Float32, Float32]:
    points = np.array([point.pt for point in found], np.float32).reshape(-1, 2)
    scales = np.array([point.size for point in found], np.float32)
    return points, scales, np.radians(np.array([point.angle for point in found], np.float32))


def first_look(a: Corners, b: Corners, in_a_mirror: Callable[[], Corners]) -> Look:
    """Return what corners tell of two pictures; ``in_a_mirror`` gives those of a there, where they are needed."""
    one, is_mirrored = _Matched.of(a, b), False
    if one.significance < _PLAIN:
        other = _Matched.of(in_a_mirror(), b)
        if other.significance > one.significance:
            one, is_mirrored = other, True
    return Look(one.significance, None if one.significance < IN_COMMON else one.geometry(a, is_mirrored))


@dataclass(frozen=True, slots=True, eq=False)
class _Matched:
    """Corners of a and, row by row, those of b that look like them, clearly before all others of a."""

    a: Corners
    b: Corners
    here: NDArray[np.intp]
    there: NDArray[np.intp]
    significance: float

    @classmethod
    def of(cls, a: Corners, b: Corners) -> _Matched:
        nothing = np.empty(0, np.intp)
        if min(len(a.points), len(b.points)) < _FEWEST:
            return cls(a, b, nothing, nothing, 0.0)
        cv2 = _opencv()
        distances, nearest = cv2.batchDistance(b.bits, a.bits, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=2)
        clear = (distances[:, 0] < _RATIO * distances[:, 1]) & (distances[:, 0] < _FARTHEST_CORNER)
        there, here = np.flatnonzero(clear), nearest[clear, 0]
        if len(there) < 3:
            return cls(a, b, nothing, nothing, 0.0)
        residuals = _residuals(*_placed(a, b, here, there))
        agreeing = int((residuals < _TOLERANCES[0]).sum(axis=1).max())
        chance = math.pi * _TOLERANCES[0] ** 2 / b.grey.size
        return cls(a, b, here, there, _significance(len(here), agreeing, min(chance, 1.0)))

    def geometry(self, a: Corners, is_mirrored: bool) -> Geometry | None:
        """Return how b lies on ``a``, of which these are the corners, or those in a mirror."""
        matrix, inside = _similarity(*_placed(self.a, self.b, self.here, self.there))
        if matrix is None:
            return None
        points, others = self.a.points[self.here][inside], self.b.points[self.there][inside]
        count = _distinct(points, others)
        if count < _FEWEST:
            return None
        significance = _significance(len(self.here), count, math.pi * _TOLERANCES[-1] ** 2 / self.b.grey.size)
        matrix = _tracked(self.a.grey, self.b.grey, matrix, points)
        if matrix is None or not _plausible(matrix):
            return None
        matrix = _unmirrored(matrix, a.grey.shape[1]) if is_mirrored else matrix
        return _geometry(a, self.b, matrix, len(self.here), count, is_mirrored, significance)


def _placed(
    a: Corners, b: Corners, here: NDArray[np.intp], there: NDArray[np.intp]
) -> tuple[Float32, Float32, Float32, Float32]:
    """Return the points of matches in a and in b, and by how much each is larger and turned in b."""
    return a.points[here], b.points[there], b.scales[there] / a.scales[here], b.angles[there] - a.angles[here]


def _tracked(a: Pixels, b: Pixels, matrix: Matrix, points: Float32) -> Matrix | None:
    """Return a more exact ``matrix`` from a to b: what lies at ``points`` of a is looked for in b, laid on a by it."""
    cv2 = _opencv()
    size, flags = (a.shape[1], a.shape[0]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(b, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    window = (_TRACKED_IN, _TRACKED_IN)
    found, ok, _ = cv2.calcOpticalFlowPyrLK(
        _evened(a), _evened(laid), points[:, None], None, winSize=window, maxLevel=1
    )
    found = found[:, 0]
    inside = (ok[:, 0] == 1) & (np.hypot(*(found - points).T) < _ASTRAY)
    others = np.asarray(found @ matrix[:, :2].T + matrix[:, 2], np.float32)
    for tolerance in _TRACKING_TOLERANCES:
        if inside.sum() < _FEWEST:
            return None
        fit = _affine_fit if inside.sum() >= _AFFINE_FROM else _similarity_fit
        matrix = fit(points[inside], others[inside])
        inside &= np.hypot(*(points @ matrix[:, :2].T + matrix[:, 2] - others).T) < tolerance
    return matrix


def _evened(grey: Pixels) -> Pixels:
    """Return (h, w) with the mean and contrast of its surroundings taken out: tracking takes light to stay the same."""
    cv2 = _opencv()
    wide = grey.astype(np.float32)
    mean = cv2.blur(wide, (_EVENED_IN, _EVENED_IN))
    deviation = np.sqrt(np.maximum(cv2.blur(wide * wide, (_EVENED_IN, _EVENED_IN)) - mean * mean, 1.0))
    evened: Pixels = np.clip(128 + 40 * (wide - mean) / (deviation + 4), 0, 255).astype(np.uint8)
    return evened


def _unmirrored(matrix: Matrix, width: int) -> Matrix:
    """Return the map from points of a picture, given that from points of what it looks like in a mirror."""
    mirror = np.array([(-1, 0, width - 1), (0, 1, 0), (0, 0, 1.0)])
    unmirrored: Matrix = (np.vstack([matrix, (0, 0, 1)]) @ mirror)[:2]
    return unmirrored


def _root(raw: Float32) -> NDArray[np.uint8]:
    """Return RootSIFT in 8 bits: the dot product of two then is the Hellinger kernel of the histograms."""
    shares = np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-9))
    rooted: NDArray[np.uint8] = np.rint(np.minimum(shares * 512, 255)).astype(np.uint8)
    return rooted


# 4 x 4 cells of 8 directions: mirrored across the feature's own direction, the rows come in reverse, and so do the
# directions but for the first.
_MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1][:, :, (-np.arange(8)) % 8].ravel()


def _unit(descriptors: NDArray[np.uint8]) -> Float32:
    wide = descriptors.astype(np.float32)
    unit: Float32 = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-9)
    return unit


def compare(a: Features, b: Features) -> Geometry | None:
    """Return how b lies on a, or None where nothing speaks for it; the picture and its mirror are both tried."""
    if min(len(a), len(b)) < _FEWEST:
        return None
    first, second = _unit(a.descriptors), _unit(b.descriptors)
    found = [_aligned(a, b, first, second, mirrored) for mirrored in (False, True)]
    return max((one for one in found if one is not None), key=lambda one: one.significance, default=None)


def _aligned(a: Features, b: Features, first: Float32, second: Float32, mirrored: bool) -> Geometry | None:
    """Mirrored, a is taken as it looks in a mirror (x -> w - 1 - x)."""
    rows, columns = _matches(first[:, _MIRRORED] if mirrored else first, second)
    if len(rows) < _FEWEST:
        return None
    points, angles = a.points[rows], a.angles[rows]
    if mirrored:
        points = np.stack([a.grey.shape[1] - 1 - points[:, 0], points[:, 1]], axis=1)
        angles = math.pi - angles
    matrix, inside = _similarity(
        points, b.points[columns], b.scales[columns] / a.scales[rows], b.angles[columns] - angles
    )
    if matrix is None:
        return None
    count = _distinct(points[inside], b.points[columns][inside])
    if count < _FEWEST:
        return None
    if mirrored:
        matrix = _unmirrored(matrix, a.grey.shape[1])
    area = b.grey.shape[0] * b.grey.shape[1]
    significance = _significance(len(rows), count, math.pi * _TOLERANCES[-1] ** 2 / area)
    return _geometry(a, b, matrix, len(rows), count, mirrored, significance)


def _matches(first: Float32, second: Float32) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows of ``first`` and of ``second`` that are each other's nearest, clearly before the second nearest."""
    alike = first @ second.T
    nearest = alike.argmax(axis=1)
    rows = np.arange(len(first))
    mutual = alike.argmax(axis=0)[nearest] == rows
    rows = rows[mutual]
    columns = nearest[mutual]
    best = alike[rows, columns]
    others = alike[rows]
    others[np.arange(len(rows)), columns] = -1
    second_best = others.max(axis=1)
    clear = (1 - best) < _RATIO**2 * (1 - second_best)  # |x - y|^2 = 2 - 2 xy
    return rows[clear], columns[clear]


def _similarity(
    points: Float32, others: Float32, scales: Float32, turns: Float32
) -> tuple[Matrix | None, NDArray[np.bool_]]:
    """Return the (2, 3) map from (n, 2) ``points`` to ``others`` that most matches follow, and which do."""
    plausible = (scales > 1 / _LARGEST_SCALE) & (scales < _LARGEST_SCALE)
    residual = _residuals(points, others, scales, turns)
    support = np.where(plausible, (residual < _TOLERANCES[0]).sum(axis=1), 0)
    best: tuple[int, Matrix | None, NDArray[np.bool_]] = (0, None, np.zeros(len(points), bool))
    for h in np.argsort(-support, kind="stable")[:_HYPOTHESES]:
        if support[h] < max(3, best[0]):
            break
        if best[2][h]:  # it proposes what was tried
            continue
        matrix, inside = _refined(points, others, residual[h] < _TOLERANCES[0])
        if matrix is not None and inside.sum() > best[0]:
            best = (int(inside.sum()), matrix, inside)
    return best[1], best[2]


def _residuals(points: Float32, others: Float32, scales: Float32, turns: Float32) -> NDArray[np.float64]:
    """Return (n, n): how far the similarity that match h proposes takes point i from its match."""
    x, y = _complex(points), _complex(others)
    factors = scales * np.exp(1j * turns)
    moves = y - factors * x
    residuals: NDArray[np.float64] = np.abs(factors[:, None] * x[None] + moves[:, None] - y[None])
    return residuals


def _refined(points: Float32, others: Float32, inside: NDArray[np.bool_]) -> tuple[Matrix | None, NDArray[np.bool_]]:
    """Return the similarity that the matches lead to, or the affine map where clearly more of them follow it."""
    alike, followers = _fitted(_similarity_fit, points, others, inside)
    if alike is not None and followers.sum() >= _AFFINE_FROM:
        stretched, more = _fitted(_affine_fit, points, others, followers)
        if stretched is not None and more.sum() > _CLEARLY_MORE * followers.sum():
            alike, followers = stretched, more
    if alike is None or not _plausible(alike):
        return None, followers
    return alike, followers


def _fitted(
    fit: Callable[[Float32, Float32], Matrix], points: Float32, others: Float32, inside: NDArray[np.bool_]
) -> tuple[Matrix | None, NDArray[np.bool_]]:
    matrix = None
    for tolerance in _TOLERANCES[1:]:
        if inside.sum() < 3:
            return None, inside
        matrix = fit(points[inside], others[inside])
        inside = np.hypot(*(points @ matrix[:, :2].T + matrix[:, 2] - others).T) < tolerance
    return matrix, inside


def _plausible(matrix: Matrix) -> bool:
    """Tell whether a map is one that editing makes: no collapse, hardly sheared, sides stretched by little."""
    big, small = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(
        small > 1 / _LARGEST_SCALE
        and big < _LARGEST_SCALE
        and big / small < _MOST_STRETCHED
        and np.linalg.det(matrix[:, :2]) > 0
    )


def _complex(points: Float32) -> NDArray[np.complex128]:
    return points[:, 0].astype(np.float64) + 1j * points[:, 1]


def _similarity_fit(points: Float32, others: Float32) -> Matrix:
    x, y = _complex(points), _complex(others)
    middle, target = x.mean(), y.mean()
    spread = float((np.abs(x - middle) ** 2).sum())
    factor = ((y - target) * np.conj(x - middle)).sum() / max(spread, 1e-9)
    move = target - factor * middle
    return np.array([(factor.real, -factor.imag, move.real), (factor.imag, factor.real, move.imag)])


def _affine_fit(points: Float32, others: Float32) -> Matrix:
    middle, target = points.mean(axis=0, dtype=np.float64), others.mean(axis=0, dtype=np.float64)
    x, y = points - middle, others - target
    squares = x.T @ x
    squares += 1e-9 * np.trace(squares) * np.eye(2) + 1e-9 * np.eye(2)  # of points on one line nothing is told
    linear = np.linalg.solve(squares, x.T @ y).T
    return np.column_stack([linear, target - linear @ middle])


def _distinct(points: Float32, others: Float32) -> int:
    """Count matches at places of their own: several features of one spot are one witness."""
    return min(len(np.unique(np.rint(p / 4).astype(np.int64), axis=0)) for p in (points, others))


def _significance(n: int, k: int, share: float) -> float:
    """Return -log10 of the expected number of similarities that k of n random matches would follow."""
    if k <= 2:
        return 0.0
    logs = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + math.log((n - 2) * k * (k - 1) / 2)
    return max(0.0, -(logs + (k - 2) * math.log(share)) / math.log(10))


def _geometry(
    a: Features | Corners,
    b: Features | Corners,
    matrix: Matrix,
    matched: int,
    inliers: int,
    mirrored: bool,
    significance: float,
) -> Geometry:
    agreed, overlap_a, overlap_b = _agreement(a.grey, b.grey, matrix)
    linear = matrix[:, :2] @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    big, small = np.linalg.svd(linear, compute_uv=False)
    given = matrix.copy()
    given *= b.reduction
    given[:, :2] /= a.reduction
    return Geometry(
        matched,
        inliers,
        overlap_a,
        overlap_b,
        math.sqrt(big * small) * b.reduction / a.reduction,
        -math.degrees(math.atan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])),
        mirrored,
        given,
        big / small,
        significance,
        agreed.value,
        agreed.blocks,
    )


def _agreement(a: Pixels, b: Pixels, matrix: Matrix) -> tuple[Agreement, float, float]:
    """Return how well b, laid on a, agrees with it at the coarser resolution of the two, and the overlaps."""
    cv2 = _opencv()
    scale = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
    if scale < 1:
        height, width = (max(_SMALLEST, round(side * scale)) for side in a.shape)
        shrinking = np.diag([a.shape[1] / width, a.shape[0] / height, 1.0])
        small = cv2.resize(a, (width, height), interpolation=cv2.INTER_AREA)
        to_b = matrix @ shrinking
    else:
        small, to_b = a, matrix
        b = cv2.GaussianBlur(b, (0, 0), scale / 2) if scale > _NOTABLY else b
    size, flags = (small.shape[1], small.shape[0]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(b, to_b, size, flags=flags)
    mask = cv2.warpAffine(np.full_like(b, 255), to_b, size, flags=flags) > 250
    x, y = (cv2.GaussianBlur(plane.astype(np.float32), (0, 0), _SOFT) for plane in (small, laid))
    shared = float(mask.sum()) * abs(float(np.linalg.det(to_b[:, :2]))) / b.size
    return agreement(x, y, mask), float(mask.mean()), min(1.0, shared)
