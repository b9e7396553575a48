"""What the policies share: scores that are there and are numbers, turned so that higher is closer."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lookalike import registry
from lookalike.errors import ConfigError, InputError

_ROUNDING = 1e-6
"""How far below 1 the cosine of a vector with itself may come out; on unit vectors |a - b|^2 = 2 - 2 cos."""


def checked(scores: Mapping[str, float], needed: str | None = None) -> Mapping[str, float]:
    """Return the scores; raise where one is no number, or the one ``needed`` is missing."""
    for name, score in scores.items():
        if not math.isfinite(score):
            raise InputError(f"the {name} of a pair is a number, got {score}: a metric or an encoder is broken")
    if needed is not None and needed not in scores:
        raise ConfigError(f"this is decided by {needed!r}; there are only {', '.join(scores)}")
    return scores


def rises(name: str) -> bool:
    """Tell whether a higher score is closer: a metric says so itself, and what is no metric of vectors rises."""
    return name not in registry.names("metric") or registry.metric(name).higher_is_closer


def turned(name: str, score: float) -> float:
    """Return a score as closeness, or closeness as a score: the negative, for a distance."""
    return score if rises(name) else -score


def identical(name: str) -> float:
    """Return the closeness from which on two vectors differ by rounding only: no threshold may lie beyond it.

    It is infinite for what is no metric of vectors, and has no closest value.
    """
    if name not in registry.names("metric"):
        return math.inf
    return 1 - _ROUNDING if rises(name) else -math.sqrt(2 * _ROUNDING)
