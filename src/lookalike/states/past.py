"""What a place itself looked like in each state: a second witness beside the references, which show other places.

A place that was empty an hour ago, and looks nearly as it did, is empty, whatever a few references of other places and
days say; and one that looks quite unlike that is not, though none of the references shows that very car. So, of a place
of which something is known, two numbers join what the discriminant says:

own look   how near it is to the nearest look that the place had in a state
own drop   how far the discriminant's margin fell below what is usual for the place in its settled state

Each is 1 where nothing differs, 0 at a bound and negative beyond. The bounds are shares of what lies between the
states, raised to what most places show in the same frame (median and one robust deviation), or, of a single place, to
what it showed lately: light that changes everywhere is no change of a state. A shift that all vectors share is taken
away first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lookalike.robust import deviation
from lookalike.states.discriminant import Told
from lookalike.types import Float32

KEPT = 6
"""How many looks a place keeps of each state."""
_NOVEL = 0.05
_SHARE, _LEAST_DROP = 0.4, 0.4
_LOOK_WEIGHT, _DROP_WEIGHT = 0.35, 0.2
_LOWEST = -1.5
_MANY = 8


@dataclass
class Past:
    """The looks of a place by state, (D,) unit vectors, and the margins of the state in which it is settled."""

    looks: dict[str, list[Float32]] = field(default_factory=dict)
    margins: deque[float] = field(default_factory=lambda: deque(maxlen=32))

    def learn(self, state: str, vector: Float32) -> None:
        """Keep a look, unless one that is kept is nearly the same; the oldest of too many leaves."""
        kept = self.looks.setdefault(state, [])
        if not kept or 1 - float((np.array(kept) @ vector).max()) > _NOVEL:
            kept.append(np.asarray(vector, np.float32))
            del kept[:-KEPT]

    def nearest(self, state: str | None, vector: Float32) -> Float32 | None:
        """Return the look of a state that is nearest to a vector, if any is known."""
        kept = self.looks.get(state or "")
        return None if not kept else kept[int(np.argmax(np.array(kept) @ vector))]

    def drop(self, told: Told) -> float | None:
        """Return by how much the margin of the settled state, which ``told`` names, fell below the usual one."""
        return float(np.median(self.margins)) - min(1.0, told.margin) if self.margins else None


@dataclass(frozen=True, slots=True)
class Drift:
    """What a frame does to all places: a shift of their vectors, and up to where look and margin have not changed."""

    shift: NDArray[np.float64]
    distance: float
    drop: float


def drift(places: Sequence[tuple[Past, str | None]], seen: Sequence[tuple[Float32, Told]], apart: float) -> Drift:
    """Return what the places that are told to be as they were settled have in common; nothing where they are few.

    ``places`` are their pasts and settled states, ``seen`` the vector (D,) of each and what was told of it; ``apart``
    is the distance (1 - cosine) between references of different states.
    """
    same = [
        (past, near, vector, told)
        for (past, settled), (vector, told) in zip(places, seen, strict=True)
        if told.state == settled and (near := past.nearest(settled, vector)) is not None
    ]
    least = max(_SHARE * apart, 1e-3)  # references of two states may be one picture
    if len(same) < _MANY:
        return Drift(np.zeros(1), least, _LEAST_DROP)
    moved = np.array([vector - near for _, near, vector, _ in same], np.float64)
    shift = np.median(moved, axis=0)
    drops = [drop for past, _, _, told in same if (drop := past.drop(told)) is not None]
    distances = ((moved - shift) ** 2).sum(axis=1) / 2
    return Drift(shift, max(least, _usual(distances)), max(_LEAST_DROP, _usual(np.array(drops or [0.0]))))


def _usual(values: NDArray[np.float64]) -> float:
    return float(np.median(values) + deviation(values))


@dataclass(frozen=True, slots=True)
class Judged:
    """The state that references and past tell together, and its margin: 0 halfway to the next state, 1 most clear."""

    state: str
    margin: float


def judged(
    told: Told, vector: Float32, past: Past, settled: str | None, common: Drift, noise: Sequence[float] = ()
) -> Judged:
    """Return what references and past say together; ``noise`` are the place's own distances while nothing changed."""
    supports = {state: max(-1.0, support) for state, support in told.supports.items()}
    total = 1.0
    distance = max(common.distance, _usual(np.array(noise))) if len(noise) >= _MANY else common.distance
    looks = {state: _closeness(past, state, vector - common.shift, distance) for state in past.looks}
    if looks:
        total += _LOOK_WEIGHT
        for state, closeness in looks.items():
            supports[state] += _LOOK_WEIGHT * closeness / min(2, len(looks))
    if past.margins and settled in supports:
        total += _DROP_WEIGHT
        fallen = max(0.0, float(np.median(past.margins)) - _lead(told.supports, settled))
        supports[settled] += _DROP_WEIGHT * max(_LOWEST, 1 - fallen / common.drop)
    first, second = sorted(supports.values(), reverse=True)[:2]
    best = max(supports, key=lambda state: supports[state])
    return Judged(best, (first - second) / total)


def _closeness(past: Past, state: str, vector: NDArray[np.float64], bound: float) -> float:
    """Return 1 at a look of the state, 0 at the bound."""
    distance = min(float(((vector - look) ** 2).sum()) for look in past.looks[state]) / 2
    return max(_LOWEST, 1 - distance / bound)


def _lead(supports: Mapping[str, float], state: str) -> float:
    """Return by how much the references put a state before the best other one, -1 to 1."""
    other = max(support for name, support in supports.items() if name != state)
    return float(np.clip(supports[state] - other, -1, 1))
