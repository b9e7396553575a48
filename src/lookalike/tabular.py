"""Rows of a CSV or JSONL file that a person or another program wrote, each with its line."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, TypeAlias

from lookalike.errors import InputError

Row: TypeAlias = dict[str, Any]


def read_rows(
    file: Path, columns: Sequence[str], *, what: str, cell: Callable[[str], Any] = str
) -> Iterator[tuple[int, Row]]:
    """Yield (the line on which it begins, its values) for each row of a .csv or .jsonl file in UTF-8.

    All of ``columns`` must stand in the header of a CSV; a JSONL row may lack some, as a CSV row may. An empty cell of
    a CSV says nothing and is left out, the text of any other becomes a value by ``cell``; those of ``columns`` stay
    text. ``what`` is what the file is said to hold where it is refused. Raises InputError that names file and line.
    """
    ending = file.suffix.lower()
    if ending not in {".csv", ".jsonl", ".ndjson"}:
        if not file.exists():
            raise InputError(f"no such file or folder: {file}; {what} comes as .csv or .jsonl")
        raise InputError(f"{what} comes as .csv or .jsonl, got {file}")
    text = _text(file, what)
    return _csv_rows(file, text, columns, cell) if ending == ".csv" else _json_rows(file, text)


def place_of(file: Path, path: str) -> str:
    """Return the absolute path that ``path`` in ``file`` means: relative to the file, absolute, or with ``~``."""
    if "\0" in path:
        raise InputError(f"no path holds a NUL character, got {path!r}")
    return os.path.normpath(file.parent.absolute() / os.path.expanduser(path))


@contextmanager
def at_line(file: Path, line: int) -> Iterator[None]:
    """Say in an InputError in which line of ``file`` it came up."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file} line {line}: {error}") from error


def _text(file: Path, what: str) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {what} {file}: {error.strerror or error}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"cannot read {what} {file} line {line}: it is not UTF-8; save it as UTF-8 text") from error


def _csv_rows(file: Path, text: str, columns: Sequence[str], cell: Callable[[str], Any]) -> Iterator[tuple[int, Row]]:
    records = _records(file, text)
    header = next(records, (0, []))[1]
    if missing := [name for name in columns if name not in header]:
        known = ", ".join(map(repr, header)) or "none"
        raise InputError(f"{file} has no column {', '.join(map(repr, missing))}; its first line names: {known}")
    if twice := next((name for name in header if name and header.count(name) > 1), None):
        raise InputError(f"{file} has two columns {twice!r}; keep one")
    for line, cells in records:
        if len(cells) > len(header):
            raise InputError(f"{file} line {line}: more values than columns ({len(cells)} under {len(header)})")
        # A short row lacks its last values.
        values = {name: text for name, text in zip(header, cells, strict=False) if text}
        yield line, {name: text if name in columns else cell(text) for name, text in values.items()}


def _records(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each record begins, and its cells; a record in quotes may take several lines."""
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{file} line {line}: {error}; is a quote not closed, or not doubled?") from error
        if cells:
            yield line, cells


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(StringIO(text, newline=""), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file} line {number}: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{file} line {number}: one JSON object a line, got {line.strip()[:40]!r}")
        yield number, row
