"""A few reference vectors a state -> which state a vector shows, how clearly, and whether it shows any of them.

discriminant   Gaussian classes with one shared covariance, shrunk toward a sphere (Fisher 1936; Ledoit, Wolf 2004):
               x S^-1 m_c - m_c S^-1 m_c / 2, S = (1 - l) W + l s^2 I. W has as many dimensions as there are
               references, so S^-1 is taken by Woodbury's identity, in the space of the references
adapting       vectors that were told for sure while it runs join the references of their state, at most ``KEPT`` a
               state: self-training. The references themselves always stay
open set       a vector that is much further from all states than their own members are from each other shows none
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.types import Float32

KEPT = 48
"""How many vectors a state keeps of those that were told for sure while it runs."""
_SHRINKAGE = 0.5
_LEAST_VARIANCE = 1e-6
_STRANGE = 1.6
_ROOM = 0.15


@dataclass(frozen=True, slots=True)
class Told:
    """``margin`` is 0 halfway between the nearest two states and 1 at the nearest's mean.

    ``position`` is how far from the first state to the last, 0 to 1 at their means; ``strangeness`` the distance to the
    nearest state over the largest that is usual: above 1 it shows none of them. ``supports`` is the margin of each
    state against the one that is told: 0 for that one, negative for the others.
    """

    state: str
    margin: float
    position: float
    strangeness: float
    supports: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Discriminant:
    """The states in order, and the vectors of each: (n, D) unit rows, ``views`` of one picture one after another."""

    references: Mapping[str, Float32]
    views: int = 1
    adapted: dict[str, list[Float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.references) < 1 or any(len(rows) == 0 for rows in self.references.values()):
            raise InputError("a state needs at least one reference picture")
        self.adapted = {name: list(self.adapted.get(name, ())) for name in self.references}
        self._fit()

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the states, in order."""
        return tuple(self.references)

    @property
    def apart(self) -> float:
        """How far (1 - cosine) pictures of different states are apart: the median over the references."""
        plain = [rows[:: self.views] for rows in self.references.values()]
        pairs = [1 - (a @ b.T).ravel() for k, a in enumerate(plain) for b in plain[:k]]
        return float(np.median(np.concatenate(pairs))) if pairs else 0.0

    def tell(self, vector: Float32) -> Told:
        """Return what state a unit vector (D,) shows."""
        distances = np.linalg.norm(self._means - vector, axis=1)
        strangeness = float((distances / self._usual).min())
        if len(self._means) == 1:
            return Told(self.states[0], 2 * (1 - strangeness), 0.0, strangeness)
        scores = self._weights @ vector - self._offsets
        order = np.argsort(-scores, kind="stable")
        best, second = int(order[0]), int(order[1])
        margin = float((scores[best] - scores[second]) / (self._apart[best, second] / 2))
        first, last = 0, len(scores) - 1
        position = 0.5 + float((scores[last] - scores[first]) / self._apart[first, last])
        halves = np.maximum(self._apart[best] / 2, 1e-9)
        supports = dict(zip(self.states, map(float, (scores - scores[best]) / halves), strict=True))
        return Told(self.states[best], margin, position, strangeness, supports)

    def adapt(self, told: Sequence[tuple[str, Float32]]) -> None:
        """Let vectors that were told for sure join their states, the oldest of too many leaving."""
        for state, vector in told:
            kept = self.adapted[state]
            kept.append(np.asarray(vector, np.float32))
            del kept[:-KEPT]
        if told:
            self._fit()

    def _fit(self) -> None:
        classes = [self._rows(name) for name in self.states]
        means = np.array([rows.mean(axis=0) for rows in classes], np.float64)
        within = np.concatenate([rows - mean for rows, mean in zip(classes, means, strict=True)]).astype(np.float64)
        variance = max(float((within**2).mean()), _LEAST_VARIANCE / within.shape[1])
        count = len(within)
        ridge = _SHRINKAGE * variance * count / (1 - _SHRINKAGE)
        inner = within @ within.T + ridge * np.eye(count)
        weights = (means - np.linalg.solve(inner, within @ means.T).T @ within) / (_SHRINKAGE * variance)
        self._means, self._weights = means, weights
        self._offsets = 0.5 * np.einsum("cd,cd->c", weights, means)
        products = weights @ means.T
        squares = np.diag(products)
        self._apart = np.maximum(squares[:, None] + squares[None] - products - products.T, 1e-9)
        self._usual = self._usual_distances(classes, means)

    def _rows(self, name: str) -> Float32:
        adapted = self.adapted[name]
        return np.concatenate([self.references[name], np.array(adapted)]) if adapted else self.references[name]

    def _usual_distances(self, classes: Sequence[Float32], means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far from a state's mean its pictures may be: a few references are nearer than others will be."""
        spreads = [np.linalg.norm(rows - mean, axis=1) for rows, mean in zip(classes, means, strict=True)]
        widest = max(float(np.quantile(spread, 0.95)) for spread in spreads)
        return np.array([_STRANGE * max(widest, float(spread.max())) + _ROOM for spread in spreads])
