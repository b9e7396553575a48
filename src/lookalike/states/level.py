"""How far a place is from one state to another, 0 to 1: which share of it looks like what only the second has.

A picture of a half full bowl is a mixture of an empty and a full one: the counts of its colours and textures are
``(1 - t)`` times those of the one and ``t`` times those of the other. ``t`` is found by least squares, each bin
weighted by the inverse of its expected count (Pearson's chi square), over all reference pictures; its variance comes
from resampling tiles of the picture (Efron 1979) and from how far references of one state lie apart.

Three witnesses say it, each by itself: lightness, colour and texture. Their mean is the level, each weighted by the
inverse of its variance and of how much the three disagree beyond that (random effects: DerSimonian, Laird 1986); where
they disagree, its interval is wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.metrics.structural import luma
from lookalike.types import Float32

_TILES = 8
_LEVELS, _COLOURS, _TEXTURES = 6, 6, 3
_BINS = _LEVELS * _COLOURS * _COLOURS * _TEXTURES
_TEXTURE_STEPS = (0.03, 0.09)
_CHROMA = 0.12
_RARE = 0.002
_DRAWS = 64
_WIDTH = 1.96
_LEAST_VARIANCE, _ALIKE = 1e-4, 1e-9
_OF_THE_MODEL = 0.08  # that colours mix is a model, and one or two references do not show by how much it errs


@dataclass(frozen=True, slots=True)
class Level:
    """``value`` in [0, 1] and the 95 % interval around it, in [0, 1] too; ``raw`` may lie beyond."""

    value: float
    interval: tuple[float, float]
    raw: float


def tiles_of(pixels: NDArray[np.uint8]) -> Float32:
    """Return (64, bins) the share of each bin of lightness, colour and texture in 8 x 8 tiles of a picture.

    Lightness and colour are relative to the mean of the brightest fifth, so neither exposure nor the colour of the lamp
    counts.
    """
    values = pixels.astype(np.float32) + 1
    light = luma(values).astype(np.float32)
    bright = light >= np.quantile(light, 0.8)
    values = values / values[bright].mean(axis=0)
    light = luma(values).astype(np.float32)
    chroma_red = (values[..., 0] - values[..., 1]) / (values.sum(axis=2) / 3 + 0.1)
    chroma_blue = (values[..., 2] - (values[..., 0] + values[..., 1]) / 2) / (values.sum(axis=2) / 3 + 0.1)
    across = np.abs(np.diff(light, axis=1, append=light[:, -1:])) + np.abs(np.diff(light, axis=1, prepend=light[:, :1]))
    down = np.abs(np.diff(light, axis=0, append=light[-1:])) + np.abs(np.diff(light, axis=0, prepend=light[:1]))
    texture = np.digitize((across + down) / 4, _TEXTURE_STEPS)
    lightness = np.clip(light / 1.1 * _LEVELS, 0, _LEVELS - 1).astype(np.intp)
    red, blue = (
        np.clip((chroma / _CHROMA + _COLOURS / 2), 0, _COLOURS - 1).astype(np.intp)
        for chroma in (chroma_red, chroma_blue)
    )
    bins = ((lightness * _COLOURS + red) * _COLOURS + blue) * _TEXTURES + texture
    height, width = bins.shape
    rows = np.minimum(np.arange(height) * _TILES // height, _TILES - 1)[:, None]
    tile = rows * _TILES + np.minimum(np.arange(width) * _TILES // width, _TILES - 1)[None]
    counts = np.bincount((tile * _BINS + bins).ravel(), minlength=_TILES**2 * _BINS)
    shares: Float32 = (counts / bins.size).reshape(_TILES**2, _BINS).astype(np.float32)
    return shares


def witnesses(tiles: Float32) -> tuple[Float32, Float32, Float32]:
    """Return the counts of lightness (64, 6), of colour (64, 36) and of texture (64, 3) in the tiles of a picture."""
    bins = tiles.reshape(len(tiles), _LEVELS, _COLOURS**2, _TEXTURES)
    return bins.sum(axis=(2, 3)), bins.sum(axis=(1, 3)), bins.sum(axis=(1, 2))


class Mixture:
    """One witness: the line through the counts of all references, as the level grows."""

    def __init__(self, references: Mapping[float, Sequence[Float32]]) -> None:
        """``references`` are the counts of bins in tiles, (64, bins), of pictures by their level."""
        levels = np.array([level for level, some in references.items() for _ in some])
        counts = np.array([tiles.sum(axis=0) for some in references.values() for tiles in some], np.float64)
        design = np.stack([np.ones_like(levels), levels], axis=1)
        self._base, slope = np.linalg.lstsq(design, counts, rcond=None)[0]
        weighted = slope / (counts.mean(axis=0) + _RARE)
        # A witness to whom the states look alike says nothing: its level is 0 and its variance endless.
        told = float(weighted @ slope)
        self._weights = weighted / max(told, _ALIKE)
        residuals = (counts - self._base) @ self._weights - levels
        self._variance = float(np.mean(residuals**2)) if told > _ALIKE else np.inf

    def read(self, tiles: Float32) -> tuple[float, float]:
        """Return the level of a picture, of which ``tiles`` are the counts, and its variance."""
        shares = (tiles - self._base / len(tiles)) @ self._weights
        draws = shares[np.random.default_rng(0).integers(0, len(shares), (_DRAWS, len(shares)))].sum(axis=1)
        return float(shares.sum()), float(draws.var()) + self._variance


class Scale:
    """A scale between states that have a place on it."""

    def __init__(self, references: Mapping[float, Sequence[Float32]]) -> None:
        """``references`` are the tiles of pictures by their level; at least two levels are needed."""
        if len(references) < 2:
            raise InputError("a level lies between two states; give references of both")
        parts = {level: [witnesses(tiles) for tiles in some] for level, some in references.items()}
        self._mixtures = [Mixture({level: [one[k] for one in some] for level, some in parts.items()}) for k in range(3)]

    def read(self, tiles: Float32) -> Level:
        """Return the level of a picture, of which ``tiles`` are the counts."""
        told = [mixture.read(part) for mixture, part in zip(self._mixtures, witnesses(tiles), strict=True)]
        raw, variance = agreed([value for value, _ in told], [variance for _, variance in told])
        error = _WIDTH * float(np.sqrt(variance + _OF_THE_MODEL**2))
        low, value, high = (float(np.clip(x, 0, 1)) for x in (raw - error, raw, raw + error))
        return Level(value, (low, high), raw)


def agreed(values: Sequence[float], variances: Sequence[float]) -> tuple[float, float]:
    """Return the mean of what several witnesses say, and its variance: DerSimonian and Laird's random effects.

    A witness with endless variance says nothing; where none says anything, the level may be any: (0.5, inf).
    """
    said = np.isfinite(variances)
    if not said.any():
        return 0.5, np.inf
    y, v = np.array(values)[said], np.array(variances)[said] + _LEAST_VARIANCE
    w = 1 / v
    spread = float(w @ (y - w @ y / w.sum()) ** 2)
    scale = float(w.sum() - w @ w / w.sum())
    between = max(0.0, spread - (len(y) - 1)) / scale if scale > 0 else 0.0
    w = 1 / (v + between)
    return float(w @ y / w.sum()), float(1 / w.sum())
