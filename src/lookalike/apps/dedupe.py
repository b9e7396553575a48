"""Find the copies among the pictures of folders, say which one of each group to keep and why, and act on the others."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations, product
from typing import TextIO

from lookalike import acting, keeping, registry
from lookalike.acting import Drop, Plan
from lookalike.choosing import chosen
from lookalike.copies import VERSION, local_features
from lookalike.copies.cascade import DECODED_SIDE, DEFAULTS, Found, Source, Thresholds, Verdicts, find_links
from lookalike.copies.links import Level
from lookalike.copies.precision import recalibrated
from lookalike.duplicates import Duplicates, Leaks, LinkedPair
from lookalike.errors import ConfigError, InputError
from lookalike.gallery import Gallery
from lookalike.images import read
from lookalike.medical import is_dicom_file
from lookalike.scanning import Scan, scan
from lookalike.stores.seen import SeenStore
from lookalike.types import Skipped

Progress = Callable[[int], object]
Stages = Callable[[str, int, int], None]

_LEAST_PRECISION = 0.5
_COLUMNS = ("group", "path", "fate", "why", "kind", "change", "bytes", "width", "height", "evidence")


@dataclass(frozen=True, slots=True)
class Request:
    """What is looked for: how far, what is never dropped, and by which rule one of a group is kept.

    ``reference`` are protected folders: their pictures are compared too, and stay. ``encoder`` proposes candidates at
    the level ``edited``; what counts is proven otherwise. ``precision`` sets the threshold of that level on the folders
    themselves.
    """

    level: Level = Level.EDITED
    reference: tuple[str, ...] = ()
    keep: str = "best"
    encoder: str = registry.DEFAULT_ENCODER
    thresholds: Thresholds = DEFAULTS
    precision: float | None = None

    def __post_init__(self) -> None:
        keeping.check_rule(self.keep)
        if self.precision is not None and self.level is not Level.EDITED:
            raise ConfigError(f"a precision sets the threshold of the level edited; the level is {self.level.value}")
        if self.precision is not None and not _LEAST_PRECISION <= self.precision < 1:
            raise ConfigError(f"a precision is from {_LEAST_PRECISION} to below 1, got {self.precision:g}")


DEFAULT_REQUEST = Request()


def find_duplicates(
    *folders: str,
    request: Request = DEFAULT_REQUEST,
    gallery: Gallery | None = None,
    progress: Progress = lambda _: None,
    stages: Stages | None = None,
) -> Duplicates:
    """Return the copies among the pictures in and under ``folders``; nothing is changed.

    With a ``gallery`` what people marked there is honoured, and only new and changed files are decoded. Raises
    InputError where a folder is missing or there is no picture at all, MissingDependency where the level ``edited``
    lacks its extra.
    """
    if not folders:
        raise ConfigError("name at least one folder to look for copies in")
    verdicts = Verdicts() if gallery is None else _verdicts(gallery)
    with _seen(gallery) as seen:
        looked = _scanned((*request.reference, *folders), request, seen, progress)
        search = partial(_links, looked, request.level, verdicts=verdicts, stages=stages, seen=seen)
        found, set_on = search(thresholds=request.thresholds), None
        if request.precision is not None and looked.vectors is not None:
            set_on = recalibrated(
                looked.pictures, _source(looked), looked.vectors, found.links, request.precision,
                thresholds=request.thresholds,
            )  # fmt: skip
            found = search(thresholds=set_on.thresholds)
        protected = {file.path for file in looked.files if file.folder < len(request.reference)}
        groups, problems = chosen(looked, found.links, protected, request.keep, verdicts.different, seen)
    names = [file.path for file in looked.files]
    return Duplicates(
        groups,
        tuple(LinkedPair(names[link.a], names[link.b], link.kind, link.evidence) for link in found.links),
        (*looked.skipped, *_unread(looked, found), *problems),
        len(names),
        looked.decoded,
        tuple(names[row] for row in found.flat),
        tuple(names[row] for row in found.crowded),
        request.level,
        request.thresholds if set_on is None else set_on.thresholds,
        found.tested,
        set_on,
    )


def _scanned(
    folders: Sequence[str], request: Request, seen: SeenStore | None, progress: Progress, *, every_name: bool = False
) -> Scan:
    """Return the pictures of folders; raise InputError where there is none."""
    if request.level is Level.EDITED:
        local_features.require()
    encoder = registry.encoder(request.encoder) if request.level is Level.EDITED else None
    looked = scan(folders, encoder, seen, progress, every_name=every_name)
    if not looked.files:
        first = f"; left out first: {looked.skipped[0].path}: {looked.skipped[0].reason}" if looked.skipped else ""
        raise InputError(f"no picture in {', '.join(folders)}{first}")
    return looked


def _links(
    looked: Scan,
    level: Level,
    *,
    thresholds: Thresholds,
    verdicts: Verdicts | None = None,
    stages: Stages | None = None,
    seen: SeenStore | None = None,
) -> Found:
    return find_links(
        looked.pictures,
        _source(looked),
        looked.vectors,
        level=level,
        thresholds=thresholds,
        verdicts=verdicts,
        progress=stages,
        memory=seen,
    )


def _unread(looked: Scan, found: Found) -> Iterator[Skipped]:
    return (Skipped(looked.files[row].path, reason) for row, reason in found.unread.items())


@contextmanager
def _seen(gallery: Gallery | None) -> Iterator[SeenStore | None]:
    """Lend what was seen before; None where there is no gallery, or it cannot be written: all is looked at then."""
    if gallery is None:
        yield None
        return
    try:
        store = SeenStore(gallery.derived, VERSION)
    except (OSError, sqlite3.Error):
        yield None
        return
    try:
        yield store
    finally:
        store.close()


def _source(looked: Scan) -> Source:
    paths = [file.path for file in looked.files]
    return Source(
        lambda row: read(paths[row], DECODED_SIDE).pixels,
        lambda row: hashlib.sha256(read(paths[row]).pixels.tobytes()).hexdigest(),
    )


def _verdicts(gallery: Gallery) -> Verdicts:
    marks = list(gallery.marks())
    different, same = (frozenset(frozenset((m.a, m.b)) for m in marks if m.same is said) for said in (False, True))
    return Verdicts(different, same)


def plan_of(found: Duplicates, action: str, folders: Sequence[str], reference: Sequence[str] = ()) -> Plan:
    """Return what an action ("trash", "move:DIR", "hardlink") would do; only files of the same bytes are linked.

    Of DICOM files too only those of the same bytes go: further frames, other values under one window, and headers are
    not in the picture that was compared.
    """
    what = acting.Action.parse(action)
    drops = [
        Drop(one.path, one.sha256, group.keep, group.members[0].sha256, number)
        for number, group in enumerate(found.groups, 1)
        for one in group.drop
        if one.sha256 == group.members[0].sha256 or not (what.kind == "hardlink" or is_dicom_file(one.path))
    ]
    return Plan(tuple(drops), what, tuple(folders), tuple(reference))


def write_csv(found: Duplicates, output: TextIO) -> None:
    """Write one row a picture of a group; a cell never begins as a spreadsheet's formula does."""
    table = csv.writer(output)
    table.writerow(_COLUMNS)
    for number, group in enumerate(found.groups, 1):
        for one in group.members:
            evidence = json.dumps(dict(one.evidence))
            change = one.evidence.get("change", "")
            row = (number, one.path, one.fate, one.why, one.kind.value, change, one.bytes, *one.size, evidence)
            table.writerow([_cell(value) for value in row])


def _cell(value: object) -> object:
    # A spreadsheet runs what begins so; an apostrophe makes it text (OWASP: CSV injection).
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def find_leaks(
    train: str,
    test: str,
    request: Request = DEFAULT_REQUEST,
    progress: Progress = lambda _: None,
    stages: Stages | None = None,
) -> Leaks:
    """Return the pairs of copies across two sets. Raise InputError where either has no picture, or they are one.

    A file that lies in both, under two names or one, is a leak too.
    """
    inner, outer = sorted((os.path.realpath(train), os.path.realpath(test)), key=len, reverse=True)
    if os.path.commonpath([inner, outer]) == outer:
        raise ConfigError(f"{train} and {test} lie in one another: name two folders that are apart")
    looked = _scanned((train, test), request, None, progress, every_name=True)
    found = _links(looked, request.level, thresholds=request.thresholds, stages=stages)
    counts = [sum(file.folder == number for file in looked.files) for number in (0, 1)]
    for folder, count in zip((train, test), counts, strict=True):
        if not count:
            raise InputError(f"no picture in {folder}")
    skipped = (*looked.skipped, *_unread(looked, found))
    return Leaks(train, test, tuple(_across(looked, found)), (counts[0], counts[1]), skipped)


def _across(looked: Scan, found: Found) -> Iterator[LinkedPair]:
    """Yield the linked pairs of a file of the first folder and one of the second.

    A link is between contents: it holds of all files that have them.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, picture in enumerate(looked.pictures):
        rows[picture.sha256].append(row)
    links = {frozenset((looked.pictures[link.a].sha256, looked.pictures[link.b].sha256)): link for link in found.links}
    for contents, link in links.items():
        of_a, *of_b = (rows[content] for content in sorted(contents))
        for one, other in product(of_a, *of_b) if of_b else combinations(of_a, 2):
            a, b = sorted((looked.files[one], looked.files[other]), key=lambda file: file.folder)
            if a.folder != b.folder:
                yield LinkedPair(a.path, b.path, link.kind, link.evidence)
