"""What a monitor knows and says: the references, what is remembered of a place, and what a frame says of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import ConfigError, InputError
from lookalike.states.evidence import Look, Noise, differences, moved
from lookalike.states.level import Level
from lookalike.states.past import Past
from lookalike.states.regions import Region
from lookalike.states.settling import Settling
from lookalike.types import Float32, Image, Quality, Verdict

MOST_REFERENCES = 10
_OLDEST = 60
"""A place that does not change is embedded anew after so many frames: slow change is seen too."""


@dataclass(frozen=True, slots=True)
class Event:
    """A place changed its settled state. The pictures (H, W, 3) uint8 show it as it had settled, and as it is."""

    kind: str
    before: str
    after: str
    picture_before: NDArray[np.uint8]
    picture_after: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Observation:
    """What one frame says of one region.

    ``state`` is what this frame shows, ``settled`` what it is taken for after hysteresis; ``score`` is the margin by
    which it is told from the next state (0 halfway, 1 as clear as a mean reference), or None without states; ``level``
    lies in [0, 1]; ``change`` is that against the last settled look and ``change_from_first`` that against the first, 1
    being the threshold.
    """

    time: float
    region: str
    state: str
    settled: str | None
    verdict: Verdict
    score: float | None
    level: float | None
    level_interval: tuple[float, float] | None
    change: float | None
    change_from_first: float | None
    quality: Quality
    reason: str
    event: Event | None = None
    picture: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class States:
    """The references: pictures by state, in order, and the level of states that have one."""

    pictures: Mapping[str, Sequence[Image]]
    levels: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, pictures in self.pictures.items():
            if not 1 <= len(pictures) <= MOST_REFERENCES:
                raise InputError(
                    f"state {name!r} has {len(pictures)} reference pictures; give each 1 to {MOST_REFERENCES}, "
                    "as different in light and content as they come"
                )
        for name, level in self.levels.items():
            if name not in self.pictures:
                raise ConfigError(f"a level for {name!r}, but the states are {', '.join(self.pictures)}")
            if not 0 <= level <= 1:
                raise ConfigError(f"a level is from 0 to 1, got {name}={level:g}")


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """One region of one frame: as it is, in the view's light, how much of it is in the frame, and its look.

    ``age`` is how many frames ago its vector was taken.
    """

    pixels: NDArray[np.uint8]
    lit: NDArray[np.uint8]
    inside: float
    look: Look
    age: int = 0


@dataclass
class Place:
    """What is remembered of one region.

    Looks: ``first`` of all; ``settled`` when its state last settled; ``proposed``, the last that spoke for another one.
    ``learned`` (D,) is the unit vector that was last learned, ``picture`` (H, W, 3) uint8 the settled one in the view's
    light; ``level`` is that of a look, and ``compared`` holds the last three comparisons, (now, before, differences).
    """

    region: Region
    settling: Settling
    noise: Noise = field(default_factory=Noise)
    past: Past = field(default_factory=Past)
    glance: Glance | None = None
    level: tuple[Look, Level] | None = None
    first: Look | None = None
    settled: Look | None = None
    proposed: Look | None = None
    learned: Float32 | None = None
    picture: NDArray[np.uint8] | None = None
    compared: deque[tuple[Look, Look, tuple[float, float, float]]] = field(default_factory=lambda: deque(maxlen=3))

    def differences(self, now: Look, before: Look) -> tuple[float, float, float]:
        """Return how two looks differ; looked up where just these two were compared before."""
        for a, b, found in self.compared:
            if a is now and b is before:
                return found
        found = differences(now, before)
        self.compared.append((now, before, found))
        return found

    def unchanged(self, thumb: NDArray[np.uint8], noise: float) -> Look | None:
        """Return its look where it has not changed beyond the noise since it was embedded; None otherwise."""
        last = self.glance
        if last is None or last.age >= _OLDEST or moved(thumb, last.look.pixels, noise, self.region.area):
            return None
        return last.look
