"""Whole units on one side: what is learned from, what it is stopped by, and what it is judged on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.calibration.pairs import Ints, numbered
from lookalike.connected import connected
from lookalike.errors import InputError

FEWEST_UNITS = 6
"""So that each third has two of them."""
TURNS = 3
_STOPS = 4
"""Of the units that do not judge, every fourth tells when to stop."""


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """The rows (rising) of each side; no unit is on two of them."""

    train: Ints
    validation: Ints
    test: Ints

    @property
    def known(self) -> Ints:
        """The rows that may be learned from in any way: all but those that judge."""
        return np.sort(np.concatenate([self.train, self.validation]))


def units_of(named: Sequence[str], links: Iterable[tuple[int, int]]) -> Ints:
    """Return (N,) units: rows of one name, and rows that are linked (copies of one another), belong together."""
    first: dict[str, int] = {}
    alike = [(row, first.setdefault(name, row)) for row, name in enumerate(named)]
    return numbered(list(connected(range(len(named)), [*alike, *links]).values()))


def turns(units: Ints, names: Sequence[str], seed: int = 0) -> tuple[Sides, ...]:
    """Return three splits in which the thirds of the units take turns to judge; a quarter of the others stops learning.

    The lot of a unit hangs on the least name of its rows and on the seed, so that it is the same on every machine and
    in any order. Raise InputError for fewer than six units.
    """
    count = len(np.unique(units))
    if count < FEWEST_UNITS:
        raise InputError(
            f"there are {count} classes (or groups) that can be kept apart, and at least {FEWEST_UNITS} are needed to "
            "learn from some and to judge by others; add classes, or pictures of other groups"
        )
    least: dict[int, str] = {}
    for unit, name in zip(units.tolist(), names, strict=True):
        least[unit] = min(name, least.get(unit, name))
    order = sorted(least, key=lambda unit: _lot(seed, least[unit]))
    return tuple(_sides(units, order, turn) for turn in range(TURNS))


def _sides(units: Ints, order: Sequence[int], turn: int) -> Sides:
    others = [unit for place, unit in enumerate(order) if place % TURNS != turn]
    judged, stopped = np.isin(units, order[turn::TURNS]), np.isin(units, others[::_STOPS])
    return Sides(np.flatnonzero(~judged & ~stopped), np.flatnonzero(stopped), np.flatnonzero(judged))


def _lot(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()
