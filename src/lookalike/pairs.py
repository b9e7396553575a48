"""Files in which people say what is alike: pairs of pictures, and pictures with labels."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from lookalike.errors import InputError
from lookalike.images import Found, walk
from lookalike.images.files import kind_of
from lookalike.metadata import told_by_file
from lookalike.tabular import Row, at_line, place_of, read_rows
from lookalike.types import Labelled, LabelledPicture, Pair, Skipped

_TRUTH = {"0": False, "1": True, "false": False, "true": True}
_OPTIONAL = ("group", "role", "ignore")


@dataclass(frozen=True, slots=True)
class PairsFile:
    """The pairs that a file names, in its order, with absolute paths, and the rows that were left out."""

    file: str
    pairs: tuple[Pair, ...]
    skipped: tuple[Skipped, ...] = ()

    def without_missing(self) -> PairsFile:
        """Return the pairs of which both pictures are there; each picture that lacks is skipped, with its line.

        Raises InputError where no pair is left.
        """
        why_missing = cache(_why_missing)  # a picture may stand in many pairs
        there: list[Pair] = []
        skipped: list[Skipped] = []
        for pair in self.pairs:
            lacking = [
                Skipped(path, f"{reason}; {self.file} line {pair.line} is left out")
                for path in (pair.a, pair.b)
                if (reason := why_missing(path))
            ]
            skipped += lacking
            if not lacking:
                there.append(pair)
        if not there:
            raise InputError(f"no pair of {self.file} has both of its pictures: {_first(skipped)}")
        return PairsFile(self.file, tuple(there), (*self.skipped, *skipped))


def read_pairs(file: str | os.PathLike[str]) -> PairsFile:
    """Read a CSV or JSONL of pairs: columns ``a``, ``b`` (paths) and ``same`` (0 or 1, false or true), others ignored.

    Paths are relative to the file, absolute, or begin with ``~``. A row that says a pair again is skipped. Raises
    InputError, naming file and line, for a value that lacks or is wrong, a pair of a picture with itself, and a pair
    that is said to be same and different. Whether the pictures are there shows in :meth:`PairsFile.without_missing`.
    """
    path = Path(os.path.expanduser(file))
    pairs: dict[frozenset[str], Pair] = {}
    skipped = []
    for line, row in read_rows(path, ["a", "b", "same"], what="a list of pairs"):
        with at_line(path, line):
            pair = Pair(_place(path, row, "a"), _place(path, row, "b"), _truth(row, "same"), line)
            before = pairs.setdefault(frozenset((pair.a, pair.b)), pair)
            if before.same != pair.same:
                raise InputError(
                    f"{row['a']} and {row['b']} are {_word(pair.same)} here and {_word(before.same)} in line "
                    f"{before.line}; keep one of the two lines"
                )
            if before is not pair:
                skipped.append(Skipped(pair.a, f"{path} line {line} says again what line {before.line} says"))
    if not pairs:
        raise InputError(f"{path} holds no pair; one row a pair, with a, b and same (0 or 1)")
    return PairsFile(os.fspath(path), tuple(pairs.values()), tuple(skipped))


def read_labelled(source: str | os.PathLike[str]) -> Labelled:
    """Read labelled pictures: a folder, or a CSV or JSONL with ``path`` and ``label``.

    In a folder the label is the name of the folder directly under the root; pictures that lie in the root itself are
    skipped. A file may also have the columns ``group``, ``role`` (``query`` or ``gallery``) and ``ignore`` (0 or 1);
    all others are ignored, pictures that are not there are skipped. Raises InputError, naming file and line, for a row
    that lacks its path or label or holds a wrong value, and for two rows that say different things of one picture;
    likewise where there is no labelled picture at all.
    """
    path = os.path.expanduser(os.fspath(source))
    labelled = _labelled_folder(path) if os.path.isdir(path) else _labelled_rows(Path(path))
    if not labelled.items:
        raise InputError(f"{path} holds no labelled picture: {_first(labelled.skipped)}")
    return labelled


def read_angles(file: str | os.PathLike[str], column: str) -> dict[str, float]:
    """Return for each path of a file of labelled pictures its angle in degrees, from the column of that name.

    Raises InputError, naming file and line, where the column or a value lacks, is no number, or is said otherwise of
    the same picture elsewhere.
    """
    path = Path(os.path.expanduser(file))
    angles: dict[str, tuple[float, int]] = {}
    for line, row in read_rows(path, ["path", "label", column], what="pictures with labels and angles"):
        with at_line(path, line):
            angle, place = _number(row, column), _place(path, row, "path")
            before = angles.setdefault(place, (angle, line))
            if before[0] != angle:
                raise InputError(f"{row['path']} has another {column!r} in line {before[1]}; keep one of the two")
    return {place: angle for place, (angle, _) in angles.items()}


def _labelled_folder(root: str) -> Labelled:
    items, skipped = [], []
    for found in walk(root):
        if isinstance(found, Skipped):
            skipped.append(found)
        elif label := _label_of(found):
            items.append(LabelledPicture(found.path, label))
        else:
            skipped.append(Skipped(found.path, "it has no label: put it into a folder named by its label"))
    return Labelled(tuple(items), tuple(skipped))


def _label_of(found: Found) -> str | None:
    # As indexing does it, so that a folder and a gallery made of it agree.
    return told_by_file(found.relative, None).get("label")


def _labelled_rows(file: Path) -> Labelled:
    rows: dict[str, LabelledPicture] = {}
    skipped = []
    for line, row in read_rows(file, ["path", "label"], what="labelled data"):
        with at_line(file, line):
            _refuse_near_misses(row)
            item = _labelled_picture(file, row, line)
            before = rows.setdefault(item.path, item)
            if replace(before, line=line) != item:
                raise InputError(f"{row['path']} is described otherwise in line {before.line}; keep one of the two")
            if before is not item:
                skipped.append(Skipped(item.path, f"{file} line {line} says again what line {before.line} says"))
    there = []
    for item in rows.values():
        if reason := _why_missing(item.path):
            skipped.append(Skipped(item.path, f"{reason}; {file} line {item.line} is left out"))
        else:
            there.append(item)
    return Labelled(tuple(there), tuple(skipped))


def _labelled_picture(file: Path, row: Row, line: int) -> LabelledPicture:
    label = _text(row, "label")
    ignored = row.get("ignore") not in (None, "") and _truth(row, "ignore")
    return LabelledPicture(
        _place(file, row, "path"), label, _text_or_none(row, "group"), _text_or_none(row, "role"), ignored, line
    )


def _refuse_near_misses(row: Row) -> None:
    """A group that nobody reads would put pictures of one thing on both sides of a split."""
    for name in row:
        meant = name.strip().lower()
        if meant in _OPTIONAL and name != meant:
            raise InputError(f"the column {name!r} is not known; write {meant!r}, or give it another name")


def _place(file: Path, row: Row, column: str) -> str:
    return place_of(file, _text(row, column))


def _text(row: Row, column: str) -> str:
    text = _text_or_none(row, column)
    if text is None:
        raise InputError(f"no value for the column {column!r}")
    return text


def _text_or_none(row: Row, column: str) -> str | None:
    value = row.get(column)
    if value is None or value == "":
        return None
    # JSON may write the label 7 without quotes; true is an int for Python, and no text for anybody.
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise InputError(f"{column!r} is a text, got {value!r}")
    return str(value)


def _number(row: Row, column: str) -> float:
    value: Any = row.get(column)
    if value is None or value == "":
        raise InputError(f"no value for the column {column!r}")
    try:
        # true is an int for Python, and no angle for anybody.
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{column!r} is a number, got {value!r}")
    return number


def _truth(row: Row, column: str) -> bool:
    value: Any = row.get(column)
    if value is None or value == "":
        raise InputError(f"no value for the column {column!r}")
    truth = _TRUTH.get(str(value).strip().lower())
    if truth is None:
        raise InputError(f"{column!r} is 0 or 1 (or false, true), got {value!r}")
    return truth


def _why_missing(path: str) -> str | None:
    """Return why there can be no picture at ``path``, None where there may be one."""
    try:
        kind = kind_of(os.stat(path).st_mode)
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return f"the file cannot be looked at: {error.strerror}"
    return f"{kind}, not a file" if kind else None


def _word(same: bool) -> str:
    return "the same" if same else "different"


def _first(skipped: Sequence[Skipped]) -> str:
    return f"{skipped[0].path}: {skipped[0].reason}" if skipped else "it is empty"
