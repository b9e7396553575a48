"""Several metrics made one: all of them, any of them, weighted, or as labelled pairs teach.

Each takes the closeness of every metric and gives one closeness, which is then calibrated like any metric's. So a
fused decision has a rate of its own, and not a product of rates that are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from lookalike.calibration.pairs import Floats
from lookalike.calibration.rates import RateTable
from lookalike.errors import ConfigError, InputError

_RIDGE = 1.0
_STEPS = 50
_CONVERGED = 1e-10


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
        if set(self.weights) != set(self.tables) or min(self.weights.values()) < 0 or not sum(self.weights.values()):
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
    means: Mapping[str, float] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)

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

    Ridge-penalized (1 standard deviation, prior weight of one pair), by Newton's method; coefficients are kept from
    going negative, so that no metric ever speaks against a closer pair.
    """
    names = list(different)
    if not all(len(values) for values in (*different.values(), *same.values())):
        raise InputError("a learned combination needs pairs of the same and pairs of different things")
    x = np.stack([np.concatenate([different[name], same[name]]) for name in names], axis=1)
    y = np.concatenate([np.zeros(len(different[names[0]])), np.ones(len(same[names[0]]))])
    means, scales = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
    balance = np.where(y > 0, 0.5 / max(1, y.sum()), 0.5 / max(1, (1 - y).sum())) * len(y)
    kept = list(range(len(names)))
    while True:
        beta = _logistic((x[:, kept] - means[kept]) / scales[kept], y, balance)
        negative = [kept[k] for k in range(len(kept)) if beta[k + 1] < 0]
        if not negative or len(kept) == 1:
            break
        kept.remove(min(negative, key=lambda k: beta[kept.index(k) + 1]))
    return Learned(
        {names[k]: float(b) for k, b in zip(kept, beta[1:], strict=True)},
        float(beta[0]),
        {names[k]: float(means[k]) for k in kept},
        {names[k]: float(scales[k]) for k in kept},
    )


def _logistic(x: Floats, y: Floats, weights: Floats) -> Floats:
    design = np.column_stack([np.ones(len(x)), x])
    penalty = np.diag([0.0, *[_RIDGE] * x.shape[1]])
    beta = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (weights * (y - p)) - penalty @ beta
        curvature = (design * (weights * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(beta)), gradient)
        beta = beta + step
        if np.abs(step).max() < _CONVERGED:
            break
    return np.asarray(beta)


def fusion_from_dict(data: Mapping[str, Any]) -> Fusion:
    """Return the fusion of such an object."""
    if data["kind"] == "learned":
        return Learned(data["coefficients"], data["intercept"], data["means"], data["scales"])
    tables = {name: RateTable.from_dict(columns) for name, columns in data["tables"].items()}
    if data["kind"] == "weighted":
        return Weighted(tables, data["weights"])
    return AllOf(tables) if data["kind"] == "all_of" else AnyOf(tables)


def fusion_of(name: str, tables: Mapping[str, RateTable], weights: Sequence[float] = ()) -> Fusion:
    """Return the fusion of this name that needs nothing but what strangers score: all_of, any_of, weighted."""
    if name == "all_of":
        return AllOf(tables)
    if name == "any_of":
        return AnyOf(tables)
    if name == "weighted":
        return Weighted(tables, dict(zip(tables, weights or [1.0] * len(tables), strict=True)))
    raise ConfigError(f"no fusion named {name!r}; known: {', '.join(FUSIONS)}")


FUSIONS = ("all_of", "any_of", "learned", "weighted")


def _strengths(tables: Mapping[str, RateTable], closeness: Mapping[str, Floats]) -> Floats:
    return np.stack([table.strength(np.asarray(closeness[name])) for name, table in tables.items()])


def _as_dicts(tables: Mapping[str, RateTable]) -> dict[str, Any]:
    return {name: table.as_dict() for name, table in tables.items()}
