"""What is known of a picture besides its pixels: what the file tells, and what a person gave."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lookalike.errors import InputError
from lookalike.types import NO_METADATA, Item, Skipped

_RESERVED = "path"


def told_by_file(relative: str, taken: str | None) -> dict[str, Any]:
    """Return ``label`` (the folder directly under the root), ``taken`` and ``year`` (EXIF), if known."""
    folder, _, rest = relative.replace(os.sep, "/").partition("/")
    told: dict[str, Any] = {"label": _printable(folder)} if rest else {}
    return told | told_by_picture(taken)


def told_by_picture(taken: str | None) -> dict[str, Any]:
    """Return ``taken`` and ``year``, if the date is known."""
    return {"taken": taken, "year": int(taken[:4])} if taken else {}


def told_before(item: Item) -> dict[str, Any]:
    """Return what the picture of an item told when it was read, as far as nothing that was given hides it."""
    return {name: item.metadata[name] for name in ("taken", "year") if name in item.metadata.keys() - item.given.keys()}


def parse_assignments(assignments: tuple[str, ...]) -> dict[str, Any]:
    """Return ``{"year": 2020}`` for ``("year=2020",)``; numbers, true, false and null are typed, all else is text."""
    metadata = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name.strip():
            raise InputError(f"metadata is given as NAME=VALUE, got {assignment!r}")
        metadata[name.strip()] = typed(value)
    return metadata


def typed(text: str) -> Any:
    """Return ``text`` as number, boolean or None where it is written exactly so in JSON ("007" stays text)."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, float) and not math.isfinite(value):
        return text
    return value if value is None or isinstance(value, bool | int | float) else text


class Given:
    """The metadata a person gave: the same for every picture, or by path from a CSV or JSONL sidecar."""

    def __init__(self, source: Mapping[str, Any] | str | os.PathLike[str] | None) -> None:
        """``source`` is a mapping for every picture, or the path of a sidecar with a column ``path``."""
        self._for_all: Mapping[str, Any] = NO_METADATA
        self._by_path: dict[str, dict[str, Any]] = {}
        self._unused: set[str] = set()
        self.sidecar: str | None = None
        if isinstance(source, Mapping):
            self._for_all = checked(source)
        elif source is not None:
            self.sidecar = os.fspath(source)
            self._by_path = _read_sidecar(Path(source).expanduser())
            self._unused = set(self._by_path)

    def __bool__(self) -> bool:
        return bool(self._for_all) or bool(self._by_path)

    def of(self, path: str) -> Mapping[str, Any]:
        """Return what was given for the picture at this absolute path."""
        key = os.path.normpath(path)
        self._unused.discard(key)
        return {**self._for_all, **self._by_path.get(key, {})}

    def unused(self) -> tuple[Skipped, ...]:
        """Return the rows of the sidecar that nobody asked for."""
        reason = f"named in {self.sidecar}, but no such picture was indexed"
        return tuple(Skipped(path, reason) for path in sorted(self._unused))

    def and_for_all(self, extra: Mapping[str, Any]) -> Given:
        """Add metadata for every picture; what the sidecar says of one picture wins."""
        self._for_all = {**self._for_all, **checked(extra)}
        return self


def checked(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy; raise InputError unless it is JSON with text keys and finite numbers."""
    plain = dict(metadata)
    for key in plain:
        if not isinstance(key, str) or not key:
            raise InputError(f"a metadata name is a non-empty text, got {key!r}")
    try:
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"metadata holds what JSON cannot: {error}") from error
    return plain


def _read_sidecar(file: Path) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    base = file.parent.absolute()
    for line, row in _rows(file):
        path = row.pop(_RESERVED, None)
        if not isinstance(path, str) or not path:
            raise InputError(f"{file} line {line}: no value for the column 'path'")
        try:
            rows[os.path.normpath(base / path)] = checked(row)
        except InputError as error:
            raise InputError(f"{file} line {line}: {error}") from error
    return rows


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if file.suffix.lower() not in {".csv", ".jsonl", ".ndjson"}:
        raise InputError(f"metadata comes as .csv or .jsonl, got {file}")
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            yield from _csv_rows(file, lines) if file.suffix.lower() == ".csv" else _json_rows(file, lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read metadata {file}: {error}") from error


def _csv_rows(file: Path, lines: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(lines)
    if _RESERVED not in (reader.fieldnames or []):
        raise InputError(f"{file} has no column 'path'; its columns are {reader.fieldnames}")
    for row in reader:
        if None in row:
            raise InputError(f"{file} line {reader.line_num}: more values than columns")
        # An empty cell says nothing; it is not the text "".
        values = {name: typed(value) for name, value in row.items() if value and name != _RESERVED}
        yield reader.line_num, {**values, _RESERVED: row[_RESERVED]}


def _json_rows(file: Path, lines: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{file} line {number}: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{file} line {number}: one JSON object a line, got {line.strip()[:40]!r}")
        yield number, row


def _printable(name: str) -> str:
    """Undecodable bytes cannot live in JSON text; they become U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")
