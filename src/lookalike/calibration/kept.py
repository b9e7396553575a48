"""Numbers that were kept as JSON, read again: what is damaged must not decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lookalike.calibration.pairs import Floats, Ints
from lookalike.errors import InputError

_LARGEST = 1e300


def number(value: Any) -> float:
    """Return a number; raise InputError where it is none, infinite, or absurd."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST < value < _LARGEST:
        raise InputError(f"{value!r} is no number")
    return float(value)


def numbers(values: Sequence[Any]) -> Floats:
    """Return (N,) numbers."""
    return np.array([number(value) for value in values], np.float64)


def whole_numbers(values: Sequence[Any]) -> Ints:
    """Return (N,) whole numbers."""
    found = numbers(values)
    if (found != np.rint(found)).any() or (np.abs(found) > 2**53).any():
        raise InputError("there is a fraction, or too large a number, where whole numbers belong")
    return found.astype(np.int64)


def by_name(values: Mapping[str, Any]) -> dict[str, float]:
    """Return a number for each name."""
    return {name: number(value) for name, value in values.items()}
