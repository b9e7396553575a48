"""Several metrics made one: all of them, any of them, weighted, or as labelled pairs teach.

Each takes the closeness of every metric and gives one closeness, which is then calibrated like any metric's. So a
fused decision has a rate of its own, and not a product of rates that are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lookalike.calibration.kept import by_name, number
from lookalike.calibration.pairs import Floats
from lookalike.calibration.rates import RateTable
from lookalike.errors import ConfigError, InputError

_RIDGE = 1.0
_STEPS = 50
_CONVERGED = 1e-10
_NEXT_TO_NOTHING = 1e-3


class Fusion(Protocol):
    """A rule that makes one closeness of several."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that it needs."""
        ...

    def combine(self, closeness: Mapping[str, Floats]) -> Floats:
        """Return the fused closeness, an array like each of ``closeness``."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object that :func:`fusion_from_dict` reads."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class AllOf:
    """The weakest metric speaks: a pair passes where every metric would let it pass at that rate.

    Metrics are put on one scale by what strangers score: closeness becomes -log10 of the rate of impostors.
    """

    tables: Mapping[str, RateTable]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that it needs."""
        return tuple(self.tables)

    def combine(self, closeness: Mapping[str, Floats]) -> Floats:
        """Return the least of the strengths."""
        return np.asarray(np.min(_strengths(self.tables, closeness), axis=0))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {"kind": "all_of", "tables": _as_dicts(self.tables)}


@dataclass(frozen=True, slots=True, eq=False)
class AnyOf:
    """The strongest metric speaks: a pair passes where one metric would let it pass at that rate."""

    tables: Mapping[str, RateTable]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that it needs."""
        return tuple(self.tables)

    def combine(self, closeness: Mapping[str, Floats]) -> Floats:
        """Return the greatest of the strengths."""
        return np.asarray(np.max(_strengths(self.tables, closeness), axis=0))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {"kind": "any_of", "tables": _as_dicts(self.tables)}


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """The mean of the strengths, weighted; equal weights make it Fisher's way of combining p-values."""

    tables: Mapping[str, RateTable]
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        values = self.weights.values()
        if set(self.weights) != set(self.tables) or not min(values, default=-1) >= 0 or not 0 < sum(values) < math.inf:
            raise ConfigError(
                f"weights are one number from 0 up for each of {', '.join(self.tables)}, got {self.weights}"
            )

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that it needs."""
        return tuple(self.tables)

    def combine(self, closeness: Mapping[str, Floats]) -> Floats:
        """Return the weighted mean of the strengths."""
        weights = [self.weights[name] for name in self.tables]
        return np.asarray(np.average(_strengths(self.tables, closeness), axis=0, weights=weights))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {"kind": "weighted", "tables": _as_dicts(self.tables), "weights": dict(self.weights)}


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """The log odds that a pair is of one thing: intercept + sum of coefficient x (closeness - mean) / scale.

    ``coefficients``, ``means`` and ``scales`` are by metric; coefficients are of standardized closeness, so that their
    sizes compare. Fitted by :func:`learn`.
    """

    coefficients: Mapping[str, float]
    intercept: float
    means: Mapping[str, float]
    scales: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.coefficients or not set(self.coefficients) == set(self.means) == set(self.scales):
            raise InputError(
                "a learned combination needs a mean and a scale for each coefficient, and one at the least"
            )
        if min(self.coefficients.values()) < 0 or min(self.scales.values()) <= 0:
            raise InputError("in a learned combination no coefficient is below 0, and scales are above it")

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that it needs."""
        return tuple(self.coefficients)

    def combine(self, closeness: Mapping[str, Floats]) -> Floats:
        """Return the log odds, at equal numbers of same and different pairs."""
        terms = [
            coefficient * (np.asarray(closeness[name]) - self.means[name]) / self.scales[name]
            for name, coefficient in self.coefficients.items()
        ]
        return np.asarray(self.intercept + np.sum(terms, axis=0))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "kind": "learned",
            "coefficients": dict(self.coefficients),
            "intercept": self.intercept,
            "means": dict(self.means),
            "scales": dict(self.scales),
        }


def learn(different: Mapping[str, Floats], same: Mapping[str, Floats]) -> Learned:
    """Fit a logistic regression on the closeness of pairs, (P,) arrays by metric, both kinds weighing alike.

    Penalized by half the sum of the squared coefficients, which keeps those of pairs that can be told apart finite;
    by Newton's method. Metrics whose coefficients would be negative are left out, so that none ever speaks against a
    closer pair; where none is left, all speak alike, and next to nothing.
    """
    names = list(different)
    if not all(len(values) for values in (*different.values(), *same.values())):
        raise InputError("a learned combination needs pairs of the same and pairs of different things")
    x = np.stack([np.concatenate([different[name], same[name]]) for name in names], axis=1).astype(np.float64)
    y = np.concatenate([np.zeros(len(different[names[0]])), np.ones(len(same[names[0]]))])
    means, scales = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
    standardized = (x - means) / scales
    balance = np.where(y > 0, 0.5 / y.sum(), 0.5 / (1 - y).sum()) * len(y)
    kept = np.arange(len(names))
    while len(kept):
        beta = _logistic(standardized[:, kept], y, balance)
        if beta[1:].min() >= 0:
            break
        kept = np.delete(kept, beta[1:].argmin())
    else:
        kept, beta = np.arange(len(names)), np.array([0.0, *[_NEXT_TO_NOTHING] * len(names)])
    return Learned(
        {names[k]: float(b) for k, b in zip(kept, beta[1:], strict=True)},
        float(beta[0]),
        {names[k]: float(means[k]) for k in kept},
        {names[k]: float(scales[k]) for k in kept},
    )


def _logistic(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Return the intercept and the coefficients that make the penalized likelihood largest."""
    design = np.column_stack([np.ones(len(x)), x])
    penalty = np.diag([0.0, *[_RIDGE] * x.shape[1]])

    def likelihood(beta: Floats) -> float:
        odds = design @ beta
        return float(weights @ (y * odds - np.logaddexp(0, odds)) - beta @ penalty @ beta / 2)

    beta = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -500, 500)))
        gradient = design.T @ (weights * (y - p)) - penalty @ beta
        curvature = (design * (weights * p * (1 - p))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(beta)), gradient)
        while likelihood(beta + step) < likelihood(beta) and np.abs(step).max() > _CONVERGED:
            step = step / 2  # a few far pairs can make Newton's step too long
        beta = beta + step
        if np.abs(step).max() < _CONVERGED:
            break
    return np.asarray(beta)


def fusion_from_dict(data: Mapping[str, Any]) -> Fusion:
    """Return the fusion of such an object."""
    if data["kind"] == "learned":
        means, scales = by_name(data["means"]), by_name(data["scales"])
        return Learned(by_name(data["coefficients"]), number(data["intercept"]), means, scales)
    tables = {name: RateTable.from_dict(columns) for name, columns in data["tables"].items()}
    if not tables:
        raise InputError("a combination is of one metric at the least")
    return Weighted(tables, by_name(data["weights"])) if data["kind"] == "weighted" else fusion_of(data["kind"], tables)


def fusion_of(name: str, tables: Mapping[str, RateTable], weights: Sequence[float] = ()) -> Fusion:
    """Return the fusion of this name that needs nothing but what strangers score: all_of, any_of, weighted."""
    if name == "all_of":
        return AllOf(tables)
    if name == "any_of":
        return AnyOf(tables)
    if name == "weighted":
        if weights and len(weights) != len(tables):
            raise ConfigError(f"one weight is needed for each of {', '.join(tables)}, got {len(weights)}")
        return Weighted(tables, dict(zip(tables, weights or [1.0] * len(tables), strict=True)))
    raise ConfigError(f"no fusion named {name!r}; known: {', '.join(FUSIONS)}")


FUSIONS = ("all_of", "any_of", "learned", "weighted")


def _strengths(tables: Mapping[str, RateTable], closeness: Mapping[str, Floats]) -> Floats:
    return np.stack([table.strength(np.asarray(closeness[name])) for name, table in tables.items()])


def _as_dicts(tables: Mapping[str, RateTable]) -> dict[str, Any]:
    return {name: table.as_dict() for name, table in tables.items()}
