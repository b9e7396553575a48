"""Marks and calibrations <-> rows of their tables; every function works inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from lookalike.errors import InputError
from lookalike.types import Mark, Pair, Space, StoredCalibration

COLUMNS = "a, b, verdict, said_at"

_SAME, _DIFFERENT = "same", "different"


def utc_now() -> str:
    """Return the time as ``YYYY-MM-DDTHH:MM:SSZ``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def put_marks(db: sqlite3.Connection, marks: Sequence[Mark]) -> None:
    """Insert marks, or replace what was said before of the same pictures; the last word wins."""
    db.executemany(
        f"INSERT OR REPLACE INTO marks ({COLUMNS}) VALUES (?, ?, ?, ?)",
        [(mark.a, mark.b, _SAME if mark.same else _DIFFERENT, mark.said_at) for mark in marks],
    )


def mark_of(row: tuple[Any, ...]) -> Mark:
    """Return the mark of a row of ``COLUMNS``."""
    a, b, verdict, said_at = row
    return Mark(a, b, verdict == _SAME, said_at)


def marked_pairs(db: sqlite3.Connection) -> list[Pair]:
    """Return the pairs of items whose contents are marked, by id; of copies of one picture all combinations."""
    rows = db.execute(
        "SELECT first.id, second.id, verdict FROM marks "
        "JOIN items AS first ON first.content = marks.a JOIN items AS second ON second.content = marks.b "
        "WHERE a < b OR first.key < second.key ORDER BY a, b, first.key, second.key"
    )
    return [Pair(first, second, verdict == _SAME) for first, second, verdict in rows]


def put_calibration(db: sqlite3.Connection, space: int, metric: str, name: str, value: Any) -> None:
    """Insert a calibration, or replace the one of this space, metric and name."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the calibration {name!r} of {metric} cannot be kept as JSON: {error}") from error
    db.execute(
        "INSERT OR REPLACE INTO calibrations (space, metric, name, value, created) VALUES (?, ?, ?, ?, ?)",
        (space, metric, name, text, utc_now()),
    )


def calibration(db: sqlite3.Connection, space: int | None, metric: str, name: str) -> Any:
    """Return the JSON value of a calibration, or None."""
    row = db.execute(
        "SELECT value FROM calibrations WHERE space = ? AND metric = ? AND name = ?", (space, metric, name)
    ).fetchone()
    return None if row is None else json.loads(row[0])


def calibrations(db: sqlite3.Connection) -> list[StoredCalibration]:
    """Return all calibrations, by space (oldest first), metric and name."""
    rows = db.execute(
        "SELECT encoder, version, preprocess, dim, metric, name, value, created FROM calibrations "
        "JOIN spaces ON spaces.key = calibrations.space ORDER BY spaces.key, metric, name"
    )
    return [StoredCalibration(Space(*row[:4]), row[4], row[5], json.loads(row[6]), row[7]) for row in rows]
