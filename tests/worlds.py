"""Worlds in which all is known: units with pictures that scatter around them, and how close these are."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.calibrating import Sample, Wanted, calibration_of
from lookalike.calibration import Background, Calibration, ScoredPairs
from lookalike.calibration.background import FEATURES, QualityShift, keys_of, responses
from lookalike.restoration import usual_of
from lookalike.types import Embeddings, Quality, Space


@dataclass(frozen=True)
class World:
    """``closeness`` (n, n) is minus the distance of pictures, ``units`` (n,) says which unit they belong to."""

    closeness: NDArray[np.float64]
    units: NDArray[np.int64]

    @property
    def same(self) -> NDArray[np.bool_]:
        return self.units[:, None] == self.units[None]

    def impostors(self) -> ScoredPairs:
        return ScoredPairs.of_matrix(self.closeness, ~self.same, self.units)

    def genuine(self) -> ScoredPairs:
        return ScoredPairs.of_matrix(self.closeness, self.same, self.units)


def world(seed: int, units: int = 12, each: int = 3, dim: int = 6) -> World:
    """Random effects: a unit has a place and a scatter of its own, a picture lies around its unit."""
    rng = np.random.default_rng([seed, 77])
    places, scatter = rng.normal(size=(units, dim)), 0.5 * np.exp(0.5 * rng.normal(size=units))
    of = np.repeat(np.arange(units), each)
    pictures = places[of] + scatter[of, None] * rng.normal(size=(len(of), dim))
    return World(-np.sqrt(((pictures[:, None] - pictures[None]) ** 2).sum(axis=2)), of)


SPACE = Space("tests", "1", "none", 16)


def sample(seed: int, units: int = 14, each: int = 3, labelled: bool = True) -> Sample:
    """Unit vectors around those of their units, with labels or without."""
    rng = np.random.default_rng([seed, 33])
    of = np.repeat(np.arange(units), each)
    vectors = rng.normal(size=(units, SPACE.dim))[of] + 0.6 * rng.normal(size=(len(of), SPACE.dim))
    same = of[:, None] == of[None]
    return Sample(
        Embeddings.from_raw(vectors, SPACE),
        tuple(Quality(*rng.uniform((0.3, 0.15, 1, 0), (0.6, 0.3, 4, 1)).tolist()) for _ in of),
        ~same,
        same & ~np.eye(len(of), dtype=bool),
        of,
        tuple(f"unit {unit}" if labelled else None for unit in of),
        np.ones(len(of), bool),
    )


def background(of: Sample, seed: int = 0) -> Background:
    """The first two of each three pictures as a cohort, and something that quality does."""
    rows = np.flatnonzero(np.arange(len(of.labels)) % 3 < 2)
    weights = 0.05 * np.random.default_rng(seed).normal(size=(FEATURES, SPACE.dim)).astype(np.float32)
    shift = QualityShift(weights, responses(of.qualities).mean(axis=0))
    plain = of.embeddings.vectors[rows]
    vectors = shift.taken_off(plain, [of.qualities[row] for row in rows if of.qualities[row] is not None])  # type: ignore[misc]
    labels = tuple(of.labels[row] for row in rows)
    rng = np.random.default_rng([seed, 5])
    offsets = {name: 0.01 * rng.normal(size=FEATURES) for name in ("cosine", "euclidean", "manhattan")}
    return Background(vectors, labels, shift, usual_of([q for q in of.qualities if q]), keys_of(plain), offsets)


@functools.cache
def calibration(adapting: bool = True, decides: str = "cosine", labelled: bool = True) -> Calibration:
    """A calibration of such a sample, with every fusion."""
    of = sample(0, labelled=labelled)
    wanted = Wanted(0.1, decides, "a world that is known")
    return calibration_of(of, background(of) if adapting else None, wanted, SPACE)
