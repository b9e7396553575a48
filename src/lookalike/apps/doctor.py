"""Say what is wrong with a gallery: copies, wrong labels, strangers, thin classes, bad pictures, hubs, drift."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lookalike import doctoring
from lookalike.errors import InputError
from lookalike.gallery import Gallery
from lookalike.images import read, walk
from lookalike.pipeline import embed_files, in_parallel
from lookalike.quality import measure
from lookalike.report_doctor import Map, Section, write_diagnosis
from lookalike.types import Embeddings, Float32, Item, Quality, Skipped

Progress = Callable[[int], None]

WRONG_LABEL = 0.2
"""A margin above it is a probable wrong label: with 5 % of the labels flipped most are found, and few others."""
STRANGE = 5.0
NEAR_COPY = 0.97
FEWEST_REFERENCES = 3
_SEPARABLE = 0.5
_HUB = 5
"""In so many times as many lists of neighbours as an item is on average, it is everyone's neighbour."""
_FEWEST_FOR_HUBS = 50
_ALIKE = 1.5
_DARK, _BRIGHT, _SOFT, _NOISY, _TINY = 0.08, 0.95, 3.0, 30.0, 64
_DRIFT = 2.0
AT_MOST = 20_000
"""So many items are looked at: all pairs are compared."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with some items: ``severity`` "high", "medium" or "low", what was seen, and what to do.

    ``items`` are (id, path), the worst first.
    """

    kind: str
    severity: str
    items: tuple[tuple[str, str | None], ...]
    told: str
    do: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, high ones first, and the numbers of the gallery."""

    findings: tuple[Finding, ...]
    items: int
    labels: int
    effective_number: float
    skipped: tuple[Skipped, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        findings = [
            {**asdict(one), "items": [{"id": id_, "path": path} for id_, path in one.items]} for one in self.findings
        ]
        return {
            "findings": findings,
            "items": self.items,
            "labels": self.labels,
            "effective_number": self.effective_number,
            "skipped": [asdict(one) for one in self.skipped],
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Gathered:
    """The items of a gallery with their vectors (N, D), labels and the quality of those whose file can be read."""

    items: tuple[Item, ...]
    vectors: Float32
    labels: tuple[str | None, ...]
    qualities: tuple[Quality | None, ...]

    def named(self, rows: Sequence[int]) -> tuple[tuple[str, str | None], ...]:
        return tuple((self.items[row].id, self.items[row].path) for row in rows)

    @property
    def labelled(self) -> list[int]:
        return [row for row, label in enumerate(self.labels) if label is not None]


def doctor(
    gallery: Gallery, queries: str | None = None, progress: Progress = lambda _: None, html: str | None = None
) -> Diagnosis:
    """Look at all items of a gallery, and at new ``queries`` (a folder), whether they are like it.

    With ``html`` a page shows the items of each finding and a map of the gallery. Nothing is changed.

    Raise InputError where the gallery is empty, or has more items than can be compared in pairs.
    """
    gathered, skipped = _gathered(gallery, progress)
    findings = [finding for look in _LOOKS for finding in look(gathered)]
    if queries is not None:
        findings += _drift(gathered, gallery, queries)
    order = {"high": 0, "medium": 1, "low": 2}
    findings.sort(key=lambda one: (order[one.severity], one.kind))
    labels = len({label for label in gathered.labels if label is not None})
    number = doctoring.effective_number(gathered.vectors)
    found = Diagnosis(tuple(findings), len(gathered.items), labels, number, skipped)
    if html is not None:
        _write(Path(html), found, gathered)
    return found


def _write(output: Path, found: Diagnosis, gathered: _Gathered) -> None:
    shown = {
        item.id: (item.path, item.path or item.id, label)
        for item, label in zip(gathered.items, gathered.labels, strict=True)
    }
    sections = [
        Section(one.kind, one.severity, one.told, one.do, tuple(shown[id_] for id_, _ in one.items))
        for one in found.findings
    ]
    summary = (
        f"{found.items} items of {found.labels} labels, as many as {found.effective_number:.0f} different ones; "
        f"{len(found.findings)} findings"
    )
    whole = Map(gathered.vectors, tuple(shown.values()))
    write_diagnosis(output, "What is wrong with this gallery", summary, sections, whole)


def _gathered(gallery: Gallery, progress: Progress) -> tuple[_Gathered, tuple[Skipped, ...]]:
    items = tuple(gallery.items())
    if not items:
        raise InputError("the gallery is empty: there is nothing to look at; lookalike index FOLDER fills it")
    if len(items) > AT_MOST:
        raise InputError(
            f"the gallery has {len(items)} items; all pairs of up to {AT_MOST} are compared: look at a part of it, "
            "indexed on its own"
        )
    vectors = gallery.embeddings([item.id for item in items]).vectors
    seen = list(in_parallel(_quality_of, items))
    progress(len(items))
    skipped = tuple(one for one in seen if isinstance(one, Skipped))
    qualities = tuple(None if isinstance(one, Skipped) else one for one in seen)
    labels = tuple(str(item.metadata["label"]) if item.metadata.get("label") is not None else None for item in items)
    return _Gathered(items, vectors, labels, qualities), skipped


def _quality_of(item: Item) -> Quality | Skipped | None:
    if item.path is None:
        return None
    try:
        return measure(read(item.path))
    except InputError as error:
        return Skipped(item.path, str(error))


def _copies(gathered: _Gathered) -> Iterator[Finding]:
    """The same file twice, and pictures that are nearly the same."""
    by_content: dict[str, list[int]] = defaultdict(list)
    for row, item in enumerate(gathered.items):
        if item.content:
            by_content[item.content].append(row)
    same = [rows for rows in by_content.values() if len(rows) > 1]
    if same:
        extra = [row for rows in same for row in rows[1:]]
        yield Finding(
            "copies", "medium", gathered.named([row for rows in same for row in rows]),
            f"{len(extra)} items are the same file as another item",
            "keep one of each: they count twice wherever neighbours are counted",
        )  # fmt: skip
    known = {tuple(sorted((i, j))) for rows in same for i in rows for j in rows if i < j}
    near = [
        (i, j, cosine) for i, j, cosine in doctoring.near_copies(gathered.vectors, NEAR_COPY) if (i, j) not in known
    ]
    if near:
        rows = list(dict.fromkeys(row for i, j, _ in near for row in (i, j)))
        yield Finding(
            "near copies", "low", gathered.named(rows),
            f"{len(near)} pairs have a cosine of {NEAR_COPY} or more, the nearest {near[0][2]:.3f}",
            "drop what adds nothing; across a training and a test set they are leaks",
        )  # fmt: skip
    across = [(i, j) for i, j, _ in near if gathered.labels[i] != gathered.labels[j]]
    if across:
        yield Finding(
            "copies under two labels", "high", gathered.named(list(dict.fromkeys(r for pair in across for r in pair))),
            f"{len(across)} pairs of near copies have different labels",
            "one of the two labels is wrong, or the labels overlap",
        )  # fmt: skip


def _wrong_labels(gathered: _Gathered) -> Iterator[Finding]:
    """Labels that the neighbours deny."""
    rows = gathered.labelled
    if len(rows) < 2:
        return
    margins = doctoring.label_margins(gathered.vectors[rows], [str(gathered.labels[row]) for row in rows])
    order = [int(at) for at in np.argsort(-margins, kind="stable") if margins[at] > WRONG_LABEL]
    if order:
        yield Finding(
            "probable wrong labels", "high", gathered.named([rows[at] for at in order]),
            f"{len(order)} items are nearer to another label than to their own, by up to {margins[order[0]]:.2f}",
            "look at them: correct the label, or keep it if the picture is an odd one of its kind",
        )  # fmt: skip


def _strangers(gathered: _Gathered) -> Iterator[Finding]:
    """Items that are like nothing else here."""
    strange = doctoring.strangeness(gathered.vectors)
    order = [int(row) for row in np.argsort(-strange, kind="stable") if strange[row] > STRANGE]
    if order:
        yield Finding(
            "strangers", "medium", gathered.named(order),
            f"{len(order)} items are further from their neighbours than is usual, by up to {strange[order[0]]:.0f} "
            "deviations",
            "remove what does not belong; what does belong needs company",
        )  # fmt: skip


def _classes(gathered: _Gathered) -> Iterator[Finding]:
    """Labels with too few or too alike references, and labels that cannot be told apart."""
    rows = gathered.labelled
    labels = [str(gathered.labels[row]) for row in rows]
    members: dict[str, list[int]] = defaultdict(list)
    for row, label in zip(rows, labels, strict=True):
        members[label].append(row)
    few = {label: found for label, found in members.items() if len(found) < FEWEST_REFERENCES}
    if few:
        yield Finding(
            "labels with few references", "medium", gathered.named([row for found in few.values() for row in found]),
            f"{len(few)} labels have fewer than {FEWEST_REFERENCES} items: {_some(few)}",
            f"add pictures: {FEWEST_REFERENCES} or more a label, from other days, lights and sides",
        )  # fmt: skip
    alike = [
        label
        for label, found in members.items()
        if len(found) >= FEWEST_REFERENCES and doctoring.effective_number(gathered.vectors[found]) < _ALIKE
    ]
    if alike:
        yield Finding(
            "labels whose references are alike", "low",
            gathered.named([row for label in alike for row in members[label]]),
            f"the items of {len(alike)} labels count as fewer than {_ALIKE} different ones: {_some(alike)}",
            "add pictures that differ, from other sides and in other light",
        )  # fmt: skip
    mixed = {} if len(members) < 2 else doctoring.separable(gathered.vectors[rows], labels)
    bad = sorted((share, label) for label, share in mixed.items() if share < _SEPARABLE)
    if bad:
        yield Finding(
            "labels that are not told apart", "high",
            gathered.named([row for _, label in bad for row in members[label]]),
            f"of {len(bad)} labels fewer than half of the items have one of their own as nearest: "
            f"{', '.join(f'{label} ({share:.0%})' for share, label in bad[:5])}",
            "no threshold separates them: use another encoder, learn the similarity, or merge the labels",
        )  # fmt: skip


def _bad_pictures(gathered: _Gathered) -> Iterator[Finding]:
    """Dark, bright, blurred, noisy and tiny pictures."""
    for kind, is_bad in _FAULTS.items():
        rows = [
            row
            for row, (item, quality) in enumerate(zip(gathered.items, gathered.qualities, strict=True))
            if quality is not None and is_bad(item, quality)
        ]
        if rows:
            yield Finding(
                f"{kind} pictures", "medium", gathered.named(rows),
                f"{len(rows)} {'items are' if len(rows) > 1 else 'item is'} {kind}",
                "replace them: they are near to other bad pictures, whatever they show",
            )  # fmt: skip


_FAULTS: dict[str, Callable[[Item, Quality], bool]] = {
    "dark": lambda _item, quality: quality.brightness < _DARK,
    "overexposed": lambda _item, quality: quality.brightness > _BRIGHT,
    "blurred": lambda _item, quality: quality.blur > _SOFT,
    "noisy": lambda _item, quality: quality.noise > _NOISY,
    "tiny": lambda item, _quality: min(item.width or _TINY, item.height or _TINY) < _TINY,
}


def _hubs(gathered: _Gathered) -> Iterator[Finding]:
    """Items that are everyone's neighbour."""
    count = len(gathered.items)
    if count < _FEWEST_FOR_HUBS:
        return
    often = doctoring.hubness(gathered.vectors)
    limit = _HUB * often.mean()
    rows = [int(row) for row in np.argsort(-often, kind="stable") if often[row] > limit]
    if rows:
        yield Finding(
            "hubs", "low", gathered.named(rows),
            f"{len(rows)} items are among the ten nearest of more than {limit:.0f} others, one of {often[rows[0]]}",
            "they turn up wherever nothing fits: thresholds that adapt (lookalike calibrate) discount them",
        )  # fmt: skip


def _drift(gathered: _Gathered, gallery: Gallery, folder: str) -> Iterator[Finding]:
    """New queries that are less like the gallery than its own items are like one another."""
    paths = [one.path for one in walk(folder) if not isinstance(one, Skipped)]
    found = [one[1] for one in embed_files(paths, gallery.encoder()) if not isinstance(one, Skipped)]
    if not found:
        raise InputError(f"no picture in {folder} could be read")
    queries = Embeddings.concatenate(found).vectors
    own = gathered.vectors @ gathered.vectors.T
    np.fill_diagonal(own, -np.inf)
    usual, new = own.max(axis=1), (queries @ gathered.vectors.T).max(axis=1)
    moved = float((np.median(usual) - np.median(new)) / max(1e-6, np.median(np.abs(usual - np.median(usual)))))
    if moved > _DRIFT:
        yield Finding(
            "drift", "high", (),
            f"the {len(queries)} pictures in {folder} are {moved:.1f} deviations further from the gallery than its "
            f"items are from one another (median nearest cosine {np.median(new):.2f} against {np.median(usual):.2f})",
            "index pictures of this kind, and calibrate anew",
        )  # fmt: skip


def _some(names: Sequence[str] | dict[str, Any] | Counter[str]) -> str:
    first = list(names)[:5]
    return ", ".join(first) + (", …" if len(names) > len(first) else "")


_LOOKS: tuple[Callable[[_Gathered], Iterator[Finding]], ...] = (
    _copies,
    _wrong_labels,
    _strangers,
    _classes,
    _bad_pictures,
    _hubs,
)
