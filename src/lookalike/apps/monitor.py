"""Watch a source: frames -> a line for each region of each, events with pictures, a timeline, a memory."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
import os
import re
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lookalike import registry
from lookalike.apps.frames import Frame, Idle, arrivals
from lookalike.errors import ConfigError, InputError, StoreError
from lookalike.images import Found, read, thumbnail, walk
from lookalike.report_monitor import write_timeline
from lookalike.states.monitor import Monitor
from lookalike.states.observing import Observation, States
from lookalike.states.regions import Region
from lookalike.states.remembering import Memory
from lookalike.states.timeline import Timeline
from lookalike.tables import check_output, replacing
from lookalike.types import Image, Skipped, Verdict

_COLUMNS = ("name", "cx", "cy", "w", "h", "angle")
_REWRITTEN = 30.0
_REMEMBERED = 60.0
_MOST_NAMES = 200_000
_PICTURE = 320


@dataclass(frozen=True, slots=True)
class Request:
    """What is watched for. ``levels`` are "name=level" pairs; see ``cli_monitor`` for the rest."""

    states: str | None = None
    regions: str | None = None
    levels: Mapping[str, float] = field(default_factory=dict)
    view: str | None = None
    encoder: str = "efficientnet-lite0"
    dwell: int = 3
    every: int = 1
    budget_ms: float | None = None
    register: bool = True
    adapt: bool = True
    memory: str | None = None
    pictures: str | None = None
    html: str | None = None
    once: bool = False
    stall: float = 60.0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"every is how many frames there are for one that is looked at, got {self.every}")
        if self.budget_ms is not None and not self.budget_ms > 0:
            raise ConfigError(f"a budget is in milliseconds of CPU a frame, above 0, got {self.budget_ms:g}")
        if not self.stall > 0:
            raise ConfigError(f"a camera is said to have stopped after some seconds, above 0, got {self.stall:g}")


@dataclass
class Watched:
    """What a run saw: frames that came, that were looked at, that were passed over for the budget; files left out."""

    came: int = 0
    looked: int = 0
    passed: int = 0
    events: int = 0
    skipped: int = 0


Emit = Callable[[Mapping[str, Any]], None]
Tell = Callable[[str], None]


def monitor(source: str, request: Request, emit: Emit, tell: Tell, stdin: BinaryIO | None = None) -> Watched:
    """Watch until the source ends, ``once`` is through, or it is interrupted; what is remembered is then written.

    ``emit`` takes the documented JSON object of each region of each frame, ``tell`` a sentence for people. Raise
    InputError or ConfigError where a setting is wrong; a picture that is wrong is told, and the loop goes on.
    """
    if request.html:
        check_output(Path(request.html), ".html", ".htm")
    if request.memory:
        _check_memory(Path(request.memory))
    run = _Run(source, request, emit, tell)
    try:
        for arrival in arrivals(source, once=request.once, done=run.done, stdin=stdin):
            if isinstance(arrival, Skipped):
                run.skip(arrival)
            elif isinstance(arrival, Idle):
                run.idle(arrival.seconds)
            else:
                run.frame(arrival)
    finally:
        run.close()
    return run.watched


class _Run:
    """One run of the verb."""

    def __init__(self, source: str, request: Request, emit: Emit, tell: Tell) -> None:
        self._source, self._request, self._emit, self._tell = source, request, emit, tell
        self.watched, self.done = Watched(), set[str]()
        self._timeline = Timeline()
        self._stopped, self._balance = False, 0.0
        self._drawn = self._remembered = time.monotonic()
        self._passed_since = 0
        states = None if request.states is None else states_of(request.states, request.levels, tell)
        self._monitor = Monitor(
            states,
            encoder=registry.encoder(request.encoder),
            regions=regions_of(request.regions) if request.regions else (),
            view=read(request.view) if request.view else None,
            dwell=request.dwell,
            adapt=request.adapt,
            register=request.register,
        )
        if request.view or not request.regions:
            self._monitor.fit()  # else references may show the whole view, which the first frame tells
        if request.pictures:
            _made(request.pictures)
        self._unwritten = set[Path]()
        self._take_up()

    def frame(self, frame: Frame) -> None:
        self.watched.came += 1
        if self._stopped:
            self._stopped = False
            self._say(frame.time, "resumed", "pictures come again")
        if not self._affordable():
            self.watched.passed += 1
            self._passed_since += 1
            return
        began = time.process_time()
        seen = self._monitor.update(frame.image, frame.time)
        self._timeline.add(seen)
        for one in seen:
            self._emit(self._as_dict(one, frame))
        self._passed_since = 0
        self.watched.looked += 1
        if self._request.budget_ms is not None:
            self._balance -= 1000 * (time.process_time() - began)
        self._keep()

    def skip(self, skipped: Skipped) -> None:
        self.watched.skipped += 1
        self._tell(f"skipped {skipped.path}: {skipped.reason}")

    def idle(self, seconds: float) -> None:
        if seconds >= self._request.stall and not self._stopped:
            self._stopped = True
            reason = f"no new picture for {seconds:.0f} s: has the camera stopped?"
            self._tell(reason)
            self._say(time.time(), "stopped", reason)
        self._keep()

    def close(self) -> None:
        self._keep(now=True)

    def _affordable(self) -> bool:
        """Tell whether the next frame may be looked at: one of ``every``, and within the budget so far."""
        request = self._request
        if request.budget_ms is not None:
            # Saved up for at most ten frames, so that a quiet hour does not pay for a busy minute.
            self._balance = min(self._balance + request.budget_ms, 10 * request.budget_ms)
            if self._balance < 0:
                return False
        return (self.watched.came - 1) % request.every == 0

    def _as_dict(self, one: Observation, frame: Frame) -> dict[str, Any]:
        made = observation_as_dict(one, frame.source)
        if self._passed_since:
            made["passed_over"] = self._passed_since
        if one.event is not None:
            self.watched.events += 1
            made["event"].update(self._saved(one))
        return made

    def _saved(self, one: Observation) -> dict[str, str]:
        """Write an event's two pictures where that was asked for; return their paths."""
        folder = self._request.pictures
        if folder is None or one.event is None:
            return {}
        name = f"{_compact(one.time)}-{re.sub(r'[^A-Za-z0-9_.-]', '_', one.region)[:60]}-{self.watched.events}"
        saved = {}
        for which, pixels in (("before", one.event.picture_before), ("after", one.event.picture_after)):
            path = Path(folder) / f"{name}-{which}.jpg"
            if self._written(path, functools.partial(_save, pixels=pixels)):
                saved[f"picture_{which}"] = str(path)
        return saved

    def _written(self, path: Path, write: Callable[[Path], None]) -> bool:
        """Write a file; where that fails, tell it once, and go on: a full disk does not stop a camera."""
        try:
            write(path)
        except StoreError as error:
            if path not in self._unwritten:
                self._tell(f"{error}; going on without it")
            self._unwritten.add(path)
            return False
        self._unwritten.discard(path)
        return True

    def _say(self, at: float, event: str, reason: str) -> None:
        nothing = ("region", "settled", "score", "level", "level_interval", "change", "change_from_first", "quality")
        told = {"time": _iso(at), "source": self._source, "state": "unknown", "verdict": Verdict.UNKNOWN.value}
        self._emit({**told, **dict.fromkeys(nothing), "event": {"kind": event}, "reason": reason})

    # What outlives the run

    def _take_up(self) -> None:
        path = self._request.memory
        if path is None or not os.path.exists(path):
            return
        try:
            memory = _read_memory(path)
            self._monitor.recall(memory)
        except InputError as error:
            self._tell(f"{path} is not used, and will be written anew: {error}")
            return
        if memory.about.get("source") == self._source:
            self.done.update(memory.about.get("done", ()))

    def _keep(self, *, now: bool = False) -> None:
        clock = time.monotonic()
        if self._request.html and (now or clock - self._drawn > _REWRITTEN):
            self._put(Path(self._request.html), lambda path: write_timeline(path, self._timeline, self._source), now)
            self._drawn = clock
        if self._request.memory and (now or clock - self._remembered > _REMEMBERED):
            self._put(Path(self._request.memory), self._remember, now)
            self._remembered = clock

    def _put(self, path: Path, write: Callable[[Path], None], now: bool) -> None:
        """Write a file now, at the end, or else if it can be written."""
        if now:
            write(path)
        else:
            self._written(path, write)

    def _remember(self, path: Path) -> None:
        memory = self._monitor.remember()
        if memory is None:
            return
        about = {**memory.about, "source": self._source, "done": sorted(self.done)[-_MOST_NAMES:]}
        data = io.BytesIO()
        np.savez_compressed(data, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **_plain(memory.arrays))
        with replacing(path) as file:
            file.write(data.getvalue())


def _check_memory(path: Path) -> None:
    """Raise ConfigError where a memory must not be written: what is there may be something else."""
    check_output(path, path.suffix.lower())
    if path.is_file() and path.stat().st_size:
        try:
            begins = path.read_bytes()[:2]
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
        if begins != b"PK":
            raise ConfigError(f"{path} is no memory of a monitor, and would be overwritten; name another file")


def _plain(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("/", "|"): value for name, value in arrays.items()}


def _read_memory(path: str) -> Memory:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name.replace("|", "/"): file[name] for name in file.files}
        about = json.loads(arrays.pop("about").tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"it cannot be read ({error})") from error
    return Memory(about, arrays)


def observation_as_dict(one: Observation, source: str) -> dict[str, Any]:
    """Return the documented JSON shape of what one frame says of one region."""
    return {
        "time": _iso(one.time),
        "source": source,
        "region": one.region,
        "state": one.state,
        "settled": one.settled,
        "verdict": one.verdict.value,
        "score": _rounded(one.score),
        "level": _rounded(one.level),
        "level_interval": None if one.level_interval is None else [_rounded(x) for x in one.level_interval],
        "change": _rounded(one.change),
        "change_from_first": _rounded(one.change_from_first),
        "quality": one.quality.as_dict(),
        "event": None
        if one.event is None
        else {"kind": one.event.kind, "from": one.event.before, "to": one.event.after},
        "reason": one.reason,
    }


def states_of(folder: str, levels: Mapping[str, float], tell: Tell) -> States:
    """Return the references in a folder of folders, one a state; a picture that cannot be read is told and left out.

    Where no ``levels`` are given, a state whose name is a number or a percentage has that level; and of just two states
    the first by name has level 0 and the second 1.
    """
    if not os.path.isdir(folder):
        what = f"{folder} is no folder" if os.path.exists(folder) else f"no such folder of states: {folder}"
        raise InputError(f"{what}; it holds a folder a state, each with 1 to 10 pictures")
    entries = sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda entry: entry.name)
    names = [entry.name for entry in entries if entry.is_dir()]
    if not names:
        raise InputError(
            f"{folder} holds no state; make a folder a state in it, such as {folder}/empty and {folder}/food, with 1 "
            "to 10 pictures each, or leave --states out to watch for any change"
        )
    for entry in entries:
        if not entry.is_dir():
            tell(f"left out of the references: {entry.path}: it lies in no state's folder")
    if len(names) == 1:
        tell(f"there is one state only, {names[0]!r}: whatever else there is will be told as unknown")
    pictures = {name: list(_pictures(os.path.join(folder, name), tell)) for name in names}
    for name, found in pictures.items():
        if not found:
            raise InputError(f"state {name!r} has no picture that can be read in {os.path.join(folder, name)}")
    known = dict(levels) or _levels(names)
    if known and not levels and all(_number(name) is None for name in known):
        empty, full = known
        tell(f"by their names {empty!r} has level 0 and {full!r} level 1; --levels {full}=0,{empty}=1 turns that round")
    return States(pictures, known)


def _pictures(folder: str, tell: Tell) -> Iterator[Image]:
    for entry in walk(folder):
        if isinstance(entry, Found):
            try:
                yield read(entry.path)
            except InputError as error:
                tell(f"left out of the references: {error}")
        else:
            tell(f"left out of the references: {entry.path}: {entry.reason}")


def _levels(names: Sequence[str]) -> dict[str, float]:
    told = {name: level for name in names if (level := _number(name)) is not None}
    if len(told) > 1:
        return told
    return {names[0]: 0.0, names[1]: 1.0} if len(names) == 2 else {}


def _number(name: str) -> float | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", name.strip())
    if not match:
        return None
    value = float(match[1]) / (100 if match[2] or float(match[1]) > 1 else 1)
    return value if value <= 1 else None


def regions_of(path: str) -> list[Region]:
    """Return the boxes in a CSV file with the columns name, cx, cy, w, h and, if there is one, angle."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read regions from {path}: {getattr(error, 'strerror', None) or error}") from error
    if not rows:
        raise InputError(f"{path} holds no region; it is a CSV with the columns {', '.join(_COLUMNS)}")
    missing = [name for name in _COLUMNS[:-1] if name not in rows[0]]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}; it needs {', '.join(_COLUMNS)} (angle may be left out)")
    return [_region(row, f"{path}, line {line}") for line, row in enumerate(rows, 2)]


def _region(row: Mapping[str, str | None], where: str) -> Region:
    values = []
    for column in _COLUMNS[1:]:
        text = (row.get(column) or "").strip() or ("0" if column == "angle" else "")
        try:
            values.append(float(text))
        except ValueError:
            raise InputError(f"{where}: {column} is a number, got {text!r}") from None
    try:
        return Region((row["name"] or "").strip(), *values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def parse_levels(text: str | None) -> dict[str, float]:
    """Return the levels of "empty=0,full=1"."""
    levels = {}
    for part in filter(None, (text or "").split(",")):
        name, _, value = part.rpartition("=")
        try:
            levels[name.strip()] = float(value)
        except ValueError:
            raise ConfigError(f"levels are such as empty=0,full=1, got {part!r}") from None
    return levels


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    with replacing(path) as file:
        file.write(thumbnail(Image(np.ascontiguousarray(pixels), (pixels.shape[1], pixels.shape[0])), _PICTURE))


def _made(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write pictures to {folder}: {error.strerror or error}") from error


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _compact(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
