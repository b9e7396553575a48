"""What a monitor saw over time, small enough to keep for months: runs of one state, levels, and the last events."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from lookalike.states.observing import Observation
from lookalike.types import Verdict

MOST_EVENTS = 200
_MOST_RUNS = 2000
_MOST_POINTS = 2000


@dataclass(slots=True)
class Run:
    """A stretch of time in which a region was told to be in one state."""

    start: float
    end: float
    state: str


@dataclass
class Track:
    """One region's runs, and its levels as (time, level, low, high); NaN where it could not be judged for a while."""

    runs: deque[Run] = field(default_factory=lambda: deque(maxlen=_MOST_RUNS))
    levels: list[tuple[float, float, float, float]] = field(default_factory=list)
    every: int = 1
    count: int = 0


@dataclass
class Timeline:
    """The tracks by region and the last events with their pictures."""

    tracks: dict[str, Track] = field(default_factory=dict)
    events: deque[Observation] = field(default_factory=lambda: deque(maxlen=MOST_EVENTS))
    frames: int = 0
    all_events: int = 0

    def add(self, seen: list[Observation]) -> None:
        """Take in what one frame said."""
        self.frames += 1
        for one in seen:
            track = self.tracks.setdefault(one.region, Track())
            state = "unknown" if one.verdict is Verdict.UNKNOWN else one.settled or one.state
            if track.runs and track.runs[-1].state == state:
                track.runs[-1].end = max(track.runs[-1].end, one.time)
            else:
                if track.runs:
                    track.runs[-1].end = max(track.runs[-1].end, one.time)
                track.runs.append(Run(one.time, one.time, state))
            self._add_level(track, one)
            if one.event is not None:
                self.all_events += 1
                self.events.append(one)

    def _add_level(self, track: Track, one: Observation) -> None:
        if one.level is None or one.level_interval is None:
            if track.levels and not math.isnan(track.levels[-1][1]):
                track.levels.append((one.time, math.nan, math.nan, math.nan))
            return
        track.count += 1
        if track.count % track.every == 0:
            track.levels.append((one.time, one.level, *one.level_interval))
        if len(track.levels) > _MOST_POINTS:  # half as many, and from now on half as often
            del track.levels[::2]
            track.every *= 2
