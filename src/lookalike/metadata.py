"""What is known of a picture besides its pixels: what the file tells, and what a person gave."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lookalike.errors import InputError
from lookalike.tabular import at_line, place_of, read_rows
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
    except (ValueError, RecursionError):
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
        self._from_headers: dict[str, dict[str, Any]] = {}
        self._unused: set[str] = set()
        self.sidecar: str | None = None
        if isinstance(source, Mapping):
            self._for_all = checked(source)
        elif source is not None:
            self.sidecar = os.fspath(source)
            self._by_path = _read_sidecar(Path(os.path.expanduser(source)))
            self._unused = set(self._by_path)

    def __bool__(self) -> bool:
        return bool(self._for_all) or bool(self._by_path) or bool(self._from_headers)

    def of(self, path: str) -> Mapping[str, Any]:
        """Return what was given for the picture at this absolute path."""
        key = os.path.normpath(path)
        self._unused.discard(key)
        return {**self._from_headers.get(key, {}), **self._for_all, **self._by_path.get(key, {})}

    def unused(self) -> tuple[Skipped, ...]:
        """Return the rows of the sidecar that nobody asked for."""
        reason = f"named in {self.sidecar}, but no such picture was indexed"
        return tuple(Skipped(path, reason) for path in sorted(self._unused))

    def and_for_all(self, extra: Mapping[str, Any]) -> Given:
        """Add metadata for every picture; what the sidecar says of one picture wins."""
        self._for_all = {**self._for_all, **checked(extra)}
        return self

    def and_from_headers(self, by_path: Mapping[str, Mapping[str, Any]]) -> Given:
        """Add what files say in their headers, by absolute path, as a person asked; all else that was given wins."""
        self._from_headers |= {os.path.normpath(path): checked(told) for path, told in by_path.items()}
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
    for line, row in read_rows(file, [_RESERVED], what="metadata", cell=typed):
        with at_line(file, line):
            path = row.pop(_RESERVED, None)
            if not isinstance(path, str) or not path:
                raise InputError("no value for the column 'path'")
            rows[place_of(file, path)] = checked(row)
    return rows


def _printable(name: str) -> str:
    """Undecodable bytes cannot live in JSON text; they become U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")
