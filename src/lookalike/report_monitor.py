"""What a monitor saw over time, for people: one page (.html) with a track a region and the events with pictures."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike import __version__
from lookalike.images import thumbnail
from lookalike.report import templates
from lookalike.states.observing import Observation
from lookalike.states.timeline import Timeline, Track
from lookalike.tables import check_output, replacing
from lookalike.types import Image, display_path

_COLOURS = (
    "#4b86b4",
    "#e0a030",
    "#2a9d5c",
    "#b0567f",
    "#7a68b3",
    "#3aa6a6",
    "#c8603f",
    "#8a8a3a",
    "#5c6f82",
    "#a0522d",
)
_UNKNOWN = "#9994"
_WIDTH, _CURVE = 1000.0, 60.0
_TICKS = 6
_HOURS, _WEEKS = 6 * 3600, 28 * 86400


def write_timeline(output: Path, timeline: Timeline, source: str) -> None:
    """Write the page; raise ConfigError where it must not be written. Text is escaped, pictures are drawn anew."""
    check_output(output, ".html", ".htm")
    states = sorted({run.state for track in timeline.tracks.values() for run in track.runs} - {"unknown"})
    colours = {state: _COLOURS[number % len(_COLOURS)] for number, state in enumerate(states)} | {"unknown": _UNKNOWN}
    times = [t for track in timeline.tracks.values() for run in track.runs for t in (run.start, run.end)]
    start, end = (min(times), max(times)) if times else (0.0, 1.0)
    span = max(end - start, 1e-9)
    page = templates().get_template("monitor.html").render(
        title="Timeline",
        summary=display_path(_summary(timeline, source, times)),
        legend=[(display_path(state), colour) for state, colour in colours.items()],
        tracks=[_track(name, track, colours, start, span) for name, track in timeline.tracks.items()],
        marks=[(round((one.time - start) / span * _WIDTH, 2), one.region) for one in timeline.events],
        ticks=[(round(100 * k / _TICKS, 1), _tick(start + span * k / _TICKS, span)) for k in range(_TICKS + 1)],
        events=[_event(one) for one in reversed(timeline.events)],
        more=timeline.all_events - len(timeline.events),
        version=__version__,
    )  # fmt: skip
    with replacing(output) as file:
        file.write(page.encode("utf-8", "replace"))


def _summary(timeline: Timeline, source: str, times: Sequence[float]) -> str:
    span = f", {_told(min(times))} to {_told(max(times))}" if times else ""
    events = f"{timeline.all_events:,} event{'' if timeline.all_events == 1 else 's'}"
    regions = f"{len(timeline.tracks):,} region{'' if len(timeline.tracks) == 1 else 's'}"
    frames = f"{timeline.frames:,} frame{'' if timeline.frames == 1 else 's'}"
    return f"{source}: {frames}, {regions}, {events}{span}"


def _track(name: str, track: Track, colours: dict[str, str], start: float, span: float) -> dict[str, Any]:
    def x(time: float) -> float:
        return round((time - start) / span * _WIDTH, 2)

    runs = [
        (x(run.start), max(round(x(run.end) - x(run.start), 2), 1.5), colours[run.state], display_path(run.state))
        for run in track.runs
    ]
    pieces = [
        list(piece)
        for judged, piece in itertools.groupby(track.levels, lambda point: not math.isnan(point[1]))
        if judged
    ]
    return {
        "name": display_path(name),
        "runs": runs,
        "curves": [_points((x(t), _y(level)) for t, level, _, _ in piece) for piece in pieces],
        "bands": [
            _points([(x(t), _y(high)) for t, _, _, high in piece] + [(x(t), _y(low)) for t, _, low, _ in piece[::-1]])
            for piece in pieces
        ],
        "now": display_path(track.runs[-1].state) if track.runs else "",
        "level": f"{track.levels[-1][1]:.0%}" if track.levels and not math.isnan(track.levels[-1][1]) else "",
    }


def _y(level: float) -> float:
    return round((1 - level) * _CURVE, 2)


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def _event(one: Observation) -> dict[str, Any]:
    assert one.event is not None
    return {
        "time": _told(one.time),
        "region": display_path(one.region),
        "before": display_path(one.event.before),
        "after": display_path(one.event.after),
        "reason": display_path(one.reason),
        "level": "" if one.level is None else f"level {one.level:.0%}",
        "pictures": [_uri(one.event.picture_before), _uri(one.event.picture_after)],
    }


def _uri(pixels: NDArray[np.uint8]) -> str:
    data = thumbnail(Image(np.ascontiguousarray(pixels), (pixels.shape[1], pixels.shape[0])), 160)
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _tick(time: float, span: float) -> str:
    """Return a time as short as the length of the line allows."""
    form = "%H:%M:%S" if span < _HOURS else "%d %b %H:%M" if span < _WEEKS else "%Y-%m-%d"
    return datetime.fromtimestamp(time, UTC).strftime(form)


def _told(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")
