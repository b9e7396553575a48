"""What was done to files, in the order in which it was done: JSON lines that are only ever added, each synced.

    {"lookalike_journal": 1, "action", "drops", "started"}      the first line
    {"intent": n, "path", "sha256", ...}                        before a file is touched
    {"done": n, "where"}  or  {"left": n, "reason"}             after it
    {"finished": true}                                          all files had their turn, or the crash has been told
    {"undoing": n, "spare"}, {"undone": n}, {"undo_finished"}   likewise, on the way back

A line that a crash cut off says nothing; a line before it that cannot be read is damage.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lookalike.acting.placing import make_folders, sync_names, write_all
from lookalike.errors import InputError, StoreError

ENDING = ".jsonl"
_MARK = "lookalike_journal"
_VERSION = 1
_CUT_OFF = b"\0"  # ends a line that a crash cut off; JSON never holds it, and a power failure leaves the same
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be done to one file; paths are absolute.

    ``target`` is where it is moved to, else None. ``spare`` and ``aside`` are names that may be left by a crash.
    ``mode`` and ``mtime_ns`` are those of the file; ``at`` is now, in seconds since 1970.
    """

    path: str
    sha256: str
    keep_path: str
    keep_sha256: str
    group: int | str | None
    target: str | None
    spare: str
    aside: str
    mode: int
    mtime_ns: int
    at: float


@dataclass(frozen=True, slots=True)
class Step:
    """One file's story: ``state`` is pending, done, left, undoing or undone; ``where`` is the file's new place."""

    number: int
    intent: Intent
    state: str = "pending"
    where: str | None = None
    undo_spare: str | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """All that a journal tells."""

    path: str
    action: str
    drops: int
    started: str
    steps: tuple[Step, ...]
    finished: bool
    undo_cut_off: bool


class Journal:
    """A journal that is written to."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: str, action: str, drops: int) -> Journal:
        """Begin a journal at a path where there is no file yet; raise InputError, StoreError."""
        try:
            make_folders(os.path.dirname(path))
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _BINARY, 0o600)
        except FileExistsError as error:
            raise InputError(f"the journal {path} exists already; name a new file") from error
        except OSError as error:
            raise _unwritable(path, error) from error
        journal = cls(path, descriptor)
        try:
            journal.add({_MARK: _VERSION, "action": action, "drops": drops, "started": _now()})
            sync_names(path)
        except (OSError, StoreError) as error:
            journal.close()
            raise _unwritable(path, error) from error
        return journal

    @classmethod
    def resume(cls, path: str) -> Journal:
        """Open a journal to add to it; raise StoreError."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | _BINARY)
        except OSError as error:
            raise _unwritable(path, error) from error
        journal = cls(path, descriptor)
        if not Path(path).read_bytes().endswith(b"\n"):
            journal._write(_CUT_OFF + b"\n")
        return journal

    def add(self, line: Mapping[str, Any]) -> None:
        """Add a line, on the disk when this returns; raise StoreError where it cannot be."""
        self._write(json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._descriptor, data)
            os.fsync(self._descriptor)
        except OSError as error:
            raise _unwritable(self.path, error) from error


def intent_line(number: int, intent: Intent) -> dict[str, Any]:
    """Return the line that announces what is about to be done."""
    return {"intent": number, **asdict(intent)}


def read_journal(path: str) -> Story:
    """Return what a journal tells; raise InputError where it is none, or damaged."""
    try:
        text = Path(path).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise InputError(f"cannot read the journal {path}: {error.strerror or error}") from error
    lines = _lines(path, text)
    head = lines[0] if lines else {}
    if head.get(_MARK) != _VERSION:
        raise InputError(f"{path} is not a journal of lookalike (version {_VERSION})")
    try:
        return Story(
            path,
            str(head["action"]),
            int(head["drops"]),
            str(head["started"]),
            _steps(lines),
            finished=any("finished" in line for line in lines),
            undo_cut_off=_last(lines, "undoing") > _last(lines, "undo_finished"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the journal {path} is damaged: {type(error).__name__} {error}") from error


def _lines(path: str, text: str) -> list[dict[str, Any]]:
    found = []
    whole, _, _cut_off = text.rpartition("\n")
    for number, line in enumerate(whole.split("\n"), 1):
        try:
            value = json.loads(line)
            found.append(value if isinstance(value, dict) else {})
        except ValueError as error:
            if number == 1 or not line.endswith(_CUT_OFF.decode()):
                raise InputError(f"{path} is not a journal of lookalike, or damaged in line {number}") from error
    return found


def _last(lines: list[dict[str, Any]], key: str) -> int:
    return max((number for number, line in enumerate(lines) if key in line), default=-1)


def _steps(lines: list[dict[str, Any]]) -> tuple[Step, ...]:
    steps: dict[int, Step] = {}
    names = [field.name for field in fields(Intent)]
    for line in lines:
        if "intent" in line:
            steps[line["intent"]] = Step(line["intent"], Intent(**{name: line[name] for name in names}))
        for state in ("done", "left", "undoing", "undone"):
            if state in line:
                step = steps[line[state]]
                where, spare = line.get("where", step.where), line.get("spare", step.undo_spare)
                steps[step.number] = replace(step, state=state, where=where, undo_spare=spare)
    return tuple(steps.values())


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unwritable(path: str, error: OSError | StoreError) -> StoreError:
    if isinstance(error, StoreError):
        return error
    return StoreError(
        f"cannot write the journal {path}: {error.strerror or error}; without a journal no file is touched: "
        "make room, or name another file with --journal"
    )
