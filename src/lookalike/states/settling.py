"""Readings of one place, one after another -> its settled state, and the moment at which it changed.

A reading that says something else than what is settled begins a proposal. It becomes an event when it is read
``dwell`` times in a row and the place stands still meanwhile: a hand, a cat or a shadow that passes does neither. What
cannot be judged neither speaks for a proposal nor against it.
"""

from __future__ import annotations

from dataclasses import dataclass

from lookalike.errors import ConfigError

_PATIENCE = 6
"""A state that is read so many dwells long, though the pictures hardly differ, is believed: it crept in."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one frame says: a state, or None where it cannot be judged.

    ``changed``: it looks different from what is settled, or is told clearly; ``still``: it looks as the proposal did.
    """

    state: str | None
    changed: bool
    still: bool


@dataclass
class Settling:
    """The settled state of a place, and what is proposed instead; plain values, so that they survive a restart."""

    dwell: int
    settled: str | None = None
    proposed: str | None = None
    count: int = 0
    waited: int = 0

    def __post_init__(self) -> None:
        if self.dwell < 1:
            raise ConfigError(f"a state must be read at least once before it counts, got dwell={self.dwell}")

    def update(self, reading: Reading) -> tuple[str | None, str] | None:
        """Return (state before or None, state now) where it settled just now, else None."""
        if reading.state is None:
            return None
        if reading.state == self.settled:
            self._drop()
            return None
        if reading.state != self.proposed or not reading.still:
            self.proposed, self.count = reading.state, 0
        self.count += 1
        self.waited = self.waited + 1 if self.settled is not None and not reading.changed else 0
        creeping = 0 < self.waited < _PATIENCE * self.dwell
        if self.count < self.dwell or creeping:
            return None
        before, self.settled = self.settled, reading.state
        self._drop()
        return before, reading.state

    def _drop(self) -> None:
        self.proposed, self.count, self.waited = None, 0, 0
