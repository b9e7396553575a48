"""Readings of one place, one after another -> its settled state, and the moment at which it changed.

Each reading is evidence for its state and against all others but the settled one: a cumulative sum (Page 1954) that
never falls below zero. A clear reading weighs 1, a doubtful one less, and what cannot be judged nothing. A state
settles once it has gathered what ``dwell`` clear readings give, less half of one: fewer never settle it, whatever
passes before the camera, and one that is misread, which is seldom clear, does not begin the dwell anew. What moves
gathers nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lookalike.errors import ConfigError

_SLACK = 0.5


@dataclass(frozen=True, slots=True)
class Reading:
    """What one frame says: a state, or None where it cannot be judged, and how clearly, 0 to 1.

    ``still``: it looks as the picture before did that spoke for the same change.
    """

    state: str | None
    weight: float = 1.0
    still: bool = True


@dataclass
class Settling:
    """The settled state of a place, and what speaks for others; plain values, so that they survive a restart."""

    dwell: int
    settled: str | None = None
    evidence: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dwell < 1:
            raise ConfigError(f"a state must be read at least once before it counts, got dwell={self.dwell}")

    @property
    def proposed(self) -> str | None:
        """The state for which most speaks, beside the settled one; None where nothing does."""
        return max(self.evidence, key=lambda state: self.evidence[state]) if self.evidence else None

    def update(self, reading: Reading) -> tuple[str | None, str] | None:
        """Return (state before or None, state now) where it settled just now, else None."""
        if reading.state is None:
            return None
        self.evidence = {s: left for s, e in self.evidence.items() if (left := self._after(s, e, reading)) > 0}
        if reading.state not in (self.settled, *self.evidence) and reading.weight > 0:
            self.evidence[reading.state] = reading.weight
        if self.evidence.get(reading.state, 0) < self.dwell - _SLACK:
            return None
        before, self.settled = self.settled, reading.state
        self.evidence = {}
        return before, reading.state

    def _after(self, state: str, evidence: float, reading: Reading) -> float:
        if state != reading.state:
            return evidence - reading.weight
        return evidence + reading.weight if reading.still else evidence
