"""Textures and objects: how unlike the good pictures a picture is, in three ways that see different defects.

    patches   each patch of the encoder's two middle layers against the nearest in a bank of good patches, whatever its
              place (PatchCore: Roth et al., CVPR 2022)
    whole     the mean features of the picture against those of the good ones, by Mahalanobis distance with the
              covariance shrunk as Ledoit and Wolf (2004) say: for a texture that is another one everywhere, whose every
              patch might pass
    detail    fine detail that its surroundings do not explain (lookalike.inspecting.detail)

A good picture is scored by what was learned from others only (folds), so that its score is what a new one's would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import ConfigError
from lookalike.inspecting.bank import MOST_PATCHES, Bank, coreset
from lookalike.inspecting.detail import SIDE, WINDOW, Moments, moments, unexplained
from lookalike.inspecting.mask import Mask, cells
from lookalike.inspecting.planes import box_mean, box_of, enlarged, grey
from lookalike.protocols import Encoder, FeatureMaps
from lookalike.types import Float32, Image

Float64: TypeAlias = NDArray[np.float64]

TESTS = ("patches", "whole", "detail")
FOLDS = 5
_COARSEST, _FINEST = 10, 40
_LAYERS = 2
_AROUND = 3
_TILE = 448
_MOST_TILES = 4
_A_PICTURE = 160
"""So many patches of a picture stand for all of its; the bank is drawn from those of all pictures, at most half."""
LEAST_SIDE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What is kept of a picture: ``patches`` (h, w, C), the mean of them (C,), its luma, and its size in pixels.

    Patches are float16 and the luma is in whole levels, uint8, since hundreds are held at a time. One pixel of the luma
    stands for ``box`` x ``box``. ``mask`` says what of the picture is inspected, None all of it.
    """

    patches: NDArray[np.float16]
    mean: Float64
    levels: NDArray[np.uint8]
    box: int
    size: tuple[int, int]
    mask: Mask | None = None

    @property
    def plane(self) -> Float32:
        """The luma (H, W) in levels."""
        return self.levels.astype(np.float32)

    @property
    def inside(self) -> Mask:
        """Which patches (h, w) are inspected."""
        return _inside(self.mask, self.patches.shape[:2])


def look(image: Image, encoder: Encoder, mask: Mask | None = None) -> Look:
    """Return what is kept of a picture, already filled where ``mask`` says that nothing is inspected.

    Large ones are looked at in tiles, so that small defects stay in sight.
    """
    if not isinstance(encoder, FeatureMaps):
        raise ConfigError(
            f"encoder {encoder.space.encoder} shows no feature maps, by which defects are found; "
            "take efficientnet-lite0"
        )
    pixels = image.pixels
    tiles = min(_MOST_TILES, max(1, min(pixels.shape[:2]) // _TILE))
    rows, columns = (np.linspace(0, length, tiles + 1).round().astype(int).tolist() for length in pixels.shape[:2])
    lines = []
    for top, bottom in pairwise(rows):
        crops = [image.crop(a, top, b - a, bottom - top) for a, b in pairwise(columns)]
        found = [_middle(maps, encoder.space.encoder) for maps in encoder.maps(crops)]
        lines.append(np.concatenate(found, axis=2))
    features = np.concatenate(lines, axis=1)
    # The mean is that of all patches as they are, before neighbours are averaged.
    mean = features[:, _inside(mask, features.shape[1:])].mean(axis=1, dtype=np.float64)
    around = np.stack([box_mean(plane, _AROUND) for plane in features], axis=-1)
    levels = np.rint(grey(image, SIDE)).astype(np.uint8)
    size = pixels.shape[1], pixels.shape[0]
    return Look(around.astype(np.float16), mean, levels, box_of(image, SIDE), size, mask)


def _inside(mask: Mask | None, shape: tuple[int, ...]) -> Mask:
    return np.ones(shape, np.bool_) if mask is None else cells(mask, *shape)


def _middle(maps: dict[str, Float32], name: str) -> Float32:
    """Return (C, h, w): the two finest of the maps that are neither too fine nor too coarse, at the finer's places."""
    middle = [m for m in maps.values() if min(m.shape[1:]) >= _COARSEST and max(m.shape[1:]) <= _FINEST]
    if not middle:
        sizes = ", ".join(f"{m.shape[1]}x{m.shape[2]}" for m in maps.values())
        raise ConfigError(f"encoder {name} has no middle layers ({_COARSEST} to {_FINEST} places a side), only {sizes}")
    chosen = sorted(middle, key=lambda m: -m.shape[1])[:_LAYERS]
    shape = chosen[0].shape[1:]
    return np.concatenate([m if m.shape[1:] == shape else enlarged(m, *shape) for m in chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What was learned of good pictures.

    ``scales`` (C,) divides each channel; ``means`` (n, C) are those of the good pictures.
    """

    scales: Float32
    bank: Bank
    means: Float64
    moments: Moments

    def scores(self, seen: Look) -> Float64:
        """Return (3,) how unlike the good pictures one is, in the order of ``TESTS``."""
        patches, detail = self.heats(seen)
        return np.array([patches.max(), self.whole(seen), detail.max()], np.float64)

    def heats(self, seen: Look) -> tuple[Float32, Float32]:
        """Return how unlike each patch (h, w) and the detail around each pixel (H, W) are."""
        return _patch_heat(self.bank, self.scales, seen), unexplained(seen.plane, self.moments.weights())

    def whole(self, seen: Look) -> float:
        """Return the Mahalanobis distance of the mean features, divided by the root of their number."""
        return mahalanobis(self.means / self.scales, seen.mean / self.scales)


def fit(looks: Sequence[Look]) -> tuple[Model, Float64]:
    """Return what is learned of good pictures, at least two, and their scores (n, 3), each by the others' model."""
    scales = _scales(looks)
    parts = [_thinned(one, scales, number) for number, one in enumerate(looks)]
    sums = [moments(one.plane) for one in looks]
    means = np.stack([one.mean for one in looks])
    folds = np.arange(len(looks)) % min(FOLDS, len(looks))
    scores = np.empty((len(looks), len(TESTS)))
    for fold in range(folds.max() + 1):
        others = np.flatnonzero(folds != fold).tolist()
        model = _model(scales, [parts[i] for i in others], means[others], [sums[i] for i in others])
        for row in np.flatnonzero(folds == fold).tolist():
            scores[row] = model.scores(looks[row])
    return _model(scales, parts, means, sums), scores


def grown(model: Model, looks: Sequence[Look]) -> tuple[Model, Float64]:
    """Return the model with more good pictures, and their scores (n, 3), each by the model before any of them."""
    scores = np.stack([model.scores(one) for one in looks])
    parts = [_thinned(one, model.scales, len(model.means) + number) for number, one in enumerate(looks)]
    patches = np.concatenate([model.bank.patches, *parts])
    # What is in the bank was chosen among far more: half of it may have to go once it is full.
    kept = len(model.bank.patches) if len(model.bank.patches) < MOST_PATCHES else MOST_PATCHES // 2
    chosen = coreset(patches, _bank_size(len(patches)), kept)
    sums = model.moments
    for one in looks:
        sums = sums + moments(one.plane)
    means = np.concatenate([model.means, np.stack([one.mean for one in looks])])
    return Model(model.scales, Bank(patches[np.sort(chosen)]), means, sums), scores


def mahalanobis(means: Float64, mean: Float64) -> float:
    """Return how far ``mean`` (C,) is from those of ``means`` (n, C), n ≥ 1, divided by the root of C."""
    centre = means.mean(axis=0)
    centred, away = means - centre, mean - centre
    shrinkage, scale = _ledoit_wolf(centred)
    # (1-a) X'X/n + a s I, inverted in the n dimensions that the pictures span (Woodbury): n may be far below C.
    base = max(shrinkage * scale, 1e-9)
    inner = centred @ away
    gram = centred @ centred.T
    weight = (1 - shrinkage) / len(means)
    corrected = weight * inner @ np.linalg.solve(np.eye(len(means)) * base + weight * gram, inner)
    return float(np.sqrt(max(0.0, (away @ away - corrected) / base) / len(away)))


def _ledoit_wolf(centred: Float64) -> tuple[float, float]:
    """Return the shrinkage in [0, 1] and the mean variance of centred rows (n, C)."""
    n, width = centred.shape
    gram = centred @ centred.T
    scale = float(np.trace(gram)) / n / width
    if scale <= 0:
        return 1.0, 1e-9
    # |S|^2 and the sum over pictures of |x x' - S|^2, both from the products of pictures.
    squared = float((gram**2).sum()) / n**2
    spread = (float((np.diag(gram) ** 2).sum()) / n - squared) / n
    apart = squared - width * scale**2
    return (min(1.0, max(spread / apart, 1e-3)) if apart > 0 else 1.0), scale


def _model(scales: Float32, parts: Sequence[Float32], means: Float64, sums: Sequence[Moments]) -> Model:
    patches = np.concatenate(parts)
    total = sums[0]
    for one in sums[1:]:
        total = total + one
    return Model(scales, Bank(patches[coreset(patches, _bank_size(len(patches)))]), means, total)


def _bank_size(patches: int) -> int:
    return min(MOST_PATCHES, max(_A_PICTURE, patches // 2))


def _thinned(seen: Look, scales: Float32, seed: int) -> Float32:
    """Return the few patches of a picture that stand for all of its."""
    patches = _flat(seen, scales)
    return np.asarray(patches[coreset(patches, _A_PICTURE, seed=seed)], np.float32)


def _scales(looks: Sequence[Look]) -> Float32:
    """Return (C,) the deviation of each channel over all patches of all pictures; 1 where there is none."""
    total = np.stack([one.patches[one.inside].mean(axis=0, dtype=np.float64) for one in looks])
    square = np.stack([(one.patches[one.inside].astype(np.float64) ** 2).mean(axis=0) for one in looks])
    deviation = np.sqrt(np.maximum(square.mean(axis=0) - total.mean(axis=0) ** 2, 0))
    return np.asarray(np.where(deviation > 1e-6, deviation, 1.0), np.float32)


def _flat(seen: Look, scales: Float32) -> Float32:
    """Return (P, C) the patches that are inspected."""
    return np.asarray(seen.patches[seen.inside].astype(np.float32) / scales, np.float32)


def _patch_heat(bank: Bank, scales: Float32, seen: Look) -> Float32:
    heat = np.zeros(seen.patches.shape[:2], np.float32)
    heat[seen.inside] = bank.distances(_flat(seen, scales))
    return heat


def detail_margin(box: int) -> int:
    """Return by how many pixels a spot of unexplained detail is larger than what caused it, on each side."""
    return box * (WINDOW // 2)
