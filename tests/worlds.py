"""Worlds in which all is known: units with pictures that scatter around them, and how close these are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.pairs import ScoredPairs


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
