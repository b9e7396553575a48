"""Say what is wrong with a gallery: copies, wrong labels, strangers, thin classes, bad pictures, hubs, drift."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lookalike import doctoring
from lookalike.apps.gathering import Gathered, Progress, Queries, gather, gather_queries
from lookalike.apps.suggest import Needs, Suggestions, needs_of, suggest
from lookalike.condition import Condition
from lookalike.errors import ConfigError
from lookalike.gallery import Gallery
from lookalike.report_doctor import Map, Section, write_diagnosis
from lookalike.tables import check_output
from lookalike.types import Item, Skipped

SEVERITIES = ("high", "medium", "low")
WRONG_LABEL = 0.2
"""A margin above it is a probable wrong label: with 5 % of the labels flipped most are found, and few others."""
STRANGE = 5.0
_SURELY_COPIES = 0.97
"""So sure a pair of copies under two labels is a fault; below it may be two packages of one make."""
FEWEST_REFERENCES = 3
_SEPARABLE = 0.5
_HUB = 5
"""In so many times as many lists of neighbours as an item is on average, it is everyone's neighbour."""
_FEWEST_FOR_HUBS = 50
_ALIKE = 1.5
_SOFT, _SOFTER, _NOISY, _TINY = 3.0, 3.0, 30.0, 64
_DRIFT = 2.0


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
class Coverage:
    """Which share of the items, and of the new queries, has an item at least as near as is usual.

    ``reach`` is that cosine: two robust deviations under the median of the items' nearest neighbours.
    """

    reach: float
    items: float
    queries: float | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, high ones first, and the numbers of the gallery; ``coverage`` is None for a single item."""

    findings: tuple[Finding, ...]
    items: int
    labels: int
    effective_number: float
    coverage: Coverage | None
    suggestions: Suggestions | None
    skipped: tuple[Skipped, ...]

    def has(self, severity: str) -> bool:
        """Tell whether a finding is at least so severe."""
        return any(SEVERITIES.index(one.severity) <= SEVERITIES.index(severity) for one in self.findings)

    @property
    def summary(self) -> str:
        """The numbers of the gallery in one line."""
        parts = [
            f"{self.items} items of {self.labels} labels, as many as {self.effective_number:.0f} different ones",
            f"{len(self.findings)} findings",
        ]
        if self.coverage is not None:
            of = self.coverage
            new = "" if of.queries is None else f" and {of.queries:.0%} of the new pictures"
            told = f"{of.items:.0%} of the items{new} have an item as near as is usual (cosine {of.reach:.2f})"
            parts.insert(1, told)
        return "; ".join(parts)

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
            "coverage": self.coverage and asdict(self.coverage),
            "suggestions": self.suggestions and self.suggestions.as_dict(),
            "skipped": [asdict(one) for one in self.skipped],
        }


def doctor(
    gallery: Gallery,
    queries: str | None = None,
    progress: Progress = lambda _: None,
    html: str | None = None,
    suggestions: int | None = None,
) -> Diagnosis:
    """Look at all items of a gallery, and at new ``queries`` (a folder), whether they are like it.

    With ``html`` a page shows the items of each finding and a map of the gallery. With ``suggestions`` so many items
    to drop and pictures (or labels) to add are named. Nothing is changed.

    Raise InputError where the gallery is empty, or has more items than can be compared in pairs, or no query can be
    read.
    """
    if suggestions is not None and suggestions < 1:
        raise ConfigError(f"the number of suggestions is 1 or more, got {suggestions}")
    if html is not None:
        check_output(Path(html), ".html", ".htm")
    gathered, skipped = gather(gallery, progress)
    new, left_out = (None, ()) if queries is None else gather_queries(queries, gallery.encoder())
    near = doctoring.nearest(gathered.vectors)
    found = Diagnosis(
        _sorted([*examine(gathered), *(() if new is None else _drift(gathered, new, near))]),
        len(gathered.items),
        len({label for label in gathered.labels if label is not None}),
        doctoring.effective_number(gathered.vectors),
        _coverage(gathered, new, near),
        _suggestions(gathered, new, suggestions) if suggestions else None,
        (*skipped, *left_out),
    )
    if html is not None:
        _write(Path(html), found, gathered)
    return found


def examine(gathered: Gathered) -> tuple[Finding, ...]:
    """Return all findings on some items, high ones first."""
    return _sorted([finding for look in _LOOKS for finding in look(gathered)])


def _sorted(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), one.kind)))


def _coverage(gathered: Gathered, new: Queries | None, near: doctoring.Floats) -> Coverage | None:
    if len(near) < 2:
        return None
    reach = doctoring.usual_reach(near)
    queries = None if new is None else float((doctoring.nearest_of(new.vectors, gathered.vectors) >= reach).mean())
    return Coverage(reach, float((near >= reach).mean()), queries)


def _write(output: Path, found: Diagnosis, gathered: Gathered) -> None:
    shown = {
        item.id: (item.path, item.path or item.id, label)
        for item, label in zip(gathered.items, gathered.labels, strict=True)
    }
    sections = [
        Section(one.kind, one.severity, one.told, one.do, tuple(shown[id_] for id_, _ in one.items))
        for one in found.findings
    ]
    if found.suggestions is not None:
        sections += _suggested(found.suggestions, shown)
    whole = Map(gathered.vectors, tuple(shown.values()))
    write_diagnosis(output, "What is wrong with this gallery", found.summary, sections, whole)


def _suggested(found: Suggestions, shown: dict[str, tuple[str | None, str, str | None]]) -> Iterator[Section]:
    if found.drop:
        yield Section(
            "to drop", "suggestion",
            f"{_many(len(found.drop), 'item', 'items')} that others stand for, the least missed first",
            "lookalike remove forgets them; the files stay",
            tuple((*shown[one.id][:2], one.why) for one in found.drop),
        )  # fmt: skip
    if found.add:
        yield Section(
            "to add", "suggestion", f"{len(found.add)} that the gallery needs, the most needed first",
            "lookalike index FOLDER adds pictures",
            tuple((one.path, one.path or one.label or "", one.why) for one in found.add),
        )  # fmt: skip


def _copies(gathered: Gathered) -> Iterator[Finding]:
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
            f"{_many(len(extra), 'item is', 'items are')} the same file as another item",
            "keep one of each: they count twice wherever neighbours are counted",
        )  # fmt: skip
    contents = [item.content for item in gathered.items]
    near = [
        (i, j, sure)
        for i, j, sure in doctoring.near_copies(gathered.vectors, gathered.prints)
        if contents[i] is None or contents[i] != contents[j]
    ]
    if near:
        rows = list(dict.fromkeys(row for i, j, _ in near for row in (i, j)))
        yield Finding(
            "near copies", "low", gathered.named(rows),
            f"{len(rows)} items are nearly the same picture as another, or the same thing from nearly the same side",
            "drop what adds nothing; across a training and a test set they are leaks",
        )  # fmt: skip
    sure_ones = [(i, j) for i, j, sure in near if sure >= _SURELY_COPIES]
    sure_ones += [(rows[0], row) for rows in same for row in rows[1:]]
    across = [(i, j) for i, j in sure_ones if _is_conflict(gathered.labels[i], gathered.labels[j])]
    if across:
        rows = list(dict.fromkeys(row for pair in across for row in pair))
        yield Finding(
            "copies under two labels", "high", gathered.named(rows),
            f"{len(rows)} items are copies of an item with another label",
            "one of the two labels is wrong, or the labels overlap",
        )  # fmt: skip


def _is_conflict(label: str | None, other: str | None) -> bool:
    return label is not None and other is not None and label != other


def _wrong_labels(gathered: Gathered) -> Iterator[Finding]:
    """Labels that the neighbours deny."""
    rows = gathered.labelled
    if len(rows) < 2:
        return
    margins = doctoring.label_margins(gathered.vectors[rows], [str(gathered.labels[row]) for row in rows])
    order = [int(at) for at in np.argsort(-margins, kind="stable") if margins[at] > WRONG_LABEL]
    if order:
        yield Finding(
            "probable wrong labels", "high", gathered.named([rows[at] for at in order]),
            f"{_many(len(order), 'item is', 'items are')} nearer to another label than to the own, "
            f"by up to {margins[order[0]]:.2f}",
            "look at them: correct the label, or keep it if the picture is an odd one of its kind",
        )  # fmt: skip


def _strangers(gathered: Gathered) -> Iterator[Finding]:
    """Items that are like nothing else here."""
    strange = doctoring.strangeness(gathered.vectors)
    order = [int(row) for row in np.argsort(-strange, kind="stable") if strange[row] > STRANGE]
    if order:
        yield Finding(
            "strangers", "medium", gathered.named(order),
            f"{_many(len(order), 'item is', 'items are')} further from the neighbours than is usual, "
            f"by up to {strange[order[0]]:.0f} "
            "deviations",
            "remove what does not belong; what does belong needs company",
        )  # fmt: skip


def _classes(gathered: Gathered) -> Iterator[Finding]:
    """Labels with too few or too alike references, and labels that cannot be told apart."""
    members = _members(gathered)
    few = {label: found for label, found in members.items() if len(found) < FEWEST_REFERENCES}
    if few:
        yield Finding(
            "labels with few references", "medium", gathered.named([row for found in few.values() for row in found]),
            f"{_many(len(few), 'label has', 'labels have')} fewer than {FEWEST_REFERENCES} items: {_some(few)}",
            f"add pictures: {FEWEST_REFERENCES} or more a label, from other days, lights and sides",
        )  # fmt: skip
    alike = _alike(gathered, members)
    if alike:
        yield Finding(
            "labels whose references are alike", "low",
            gathered.named([row for label in alike for row in members[label]]),
            f"the items of {_many(len(alike), 'label', 'labels')} count as fewer than "
            f"{_ALIKE} different ones: {_some(alike)}",
            "add pictures that differ, from other sides and in other light",
        )  # fmt: skip
    mixed = _told_apart(gathered)
    bad = sorted((share, label) for label, share in mixed.items() if share < _SEPARABLE)
    if bad:
        yield Finding(
            "labels that are not told apart", "high",
            gathered.named([row for _, label in bad for row in members[label]]),
            f"of {_many(len(bad), 'label', 'labels')} fewer than half of the items have one of their own as nearest: "
            f"{', '.join(f'{label} ({share:.0%})' for share, label in bad[:5])}",
            "no threshold separates them: use another encoder, learn the similarity, or merge the labels",
        )  # fmt: skip


def _members(gathered: Gathered) -> dict[str, list[int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for row in gathered.labelled:
        members[str(gathered.labels[row])].append(row)
    return members


def _alike(gathered: Gathered, members: dict[str, list[int]]) -> list[str]:
    return [
        label
        for label, found in members.items()
        if len(found) >= FEWEST_REFERENCES and doctoring.effective_number(gathered.vectors[found]) < _ALIKE
    ]


def _told_apart(gathered: Gathered) -> dict[str, float]:
    rows = gathered.labelled
    labels = [str(gathered.labels[row]) for row in rows]
    return doctoring.separable(gathered.vectors[rows], labels) if len(set(labels)) > 1 else {}


def _needs(gathered: Gathered) -> Needs:
    alike = set(_alike(gathered, _members(gathered)))
    return needs_of(gathered, FEWEST_REFERENCES, _told_apart(gathered), alike, _SEPARABLE)


def _suggestions(gathered: Gathered, new: Queries | None, count: int) -> Suggestions:
    softest = _softest(gathered)

    def is_bad(one: Condition) -> bool:
        return one.shorter < _TINY or any(True for _ in _faults(one, softest))

    return suggest(gathered, new, count, _needs(gathered), is_bad)


def _unlabelled(gathered: Gathered) -> Iterator[Finding]:
    """Items whose label nobody gave: nothing is said of it."""
    rows = [row for row, label in enumerate(gathered.labels) if label is None]
    if rows:
        yield Finding(
            "items without a label", "low", gathered.named(rows),
            f"{len(rows)} of {len(gathered.items)} items have no label: nothing is said of labels there",
            "give the metadata 'label': a folder a label, a sidecar, or --set label=…",
        )  # fmt: skip


def _bad_pictures(gathered: Gathered) -> Iterator[Finding]:
    """Dark, overexposed, blurred, noisy and tiny pictures."""
    softest = _softest(gathered)
    bad: dict[str, list[int]] = defaultdict(list)
    for row, one in enumerate(gathered.conditions):
        for kind in () if one is None else _faults(one, softest):
            bad[kind].append(row)
    bad["tiny"] = [row for row, item in enumerate(gathered.items) if _shorter(item) < _TINY]
    for kind, rows in bad.items():
        if rows:
            yield Finding(
                f"{kind} pictures", "medium", gathered.named(rows),
                f"{_many(len(rows), 'item is', 'items are')} {kind}",
                "replace them: they are near to other bad pictures, whatever they show",
            )  # fmt: skip


def _faults(one: Condition, softest: float) -> Iterator[str]:
    if one.exposure is not None:
        yield one.exposure
    if one.quality.blur > softest:
        yield "blurred"
    if one.quality.noise > _NOISY:
        yield "noisy"


def _softest(gathered: Gathered) -> float:
    """Return the blur that is still usual here: where small pictures were enlarged, all are somewhat soft."""
    blurs = [one.quality.blur for one in gathered.conditions if one is not None]
    return max(_SOFT, doctoring.upper_limit(np.array(blurs), _SOFTER)) if blurs else _SOFT


def _shorter(item: Item) -> int:
    return min(item.width or _TINY, item.height or _TINY)


def _hubs(gathered: Gathered) -> Iterator[Finding]:
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
            f"{_many(len(rows), 'item is', 'items are')} among the ten nearest of more than "
            f"{limit:.0f} others, one of {often[rows[0]]}",
            "they turn up wherever nothing fits: thresholds that adapt (lookalike calibrate) discount them",
        )  # fmt: skip


def _drift(gathered: Gathered, queries: Queries, usual: doctoring.Floats) -> Iterator[Finding]:
    """New queries that are less like the gallery than its own items are like one another."""
    if len(usual) < 2:
        return
    new = doctoring.nearest_of(queries.vectors, gathered.vectors)
    moved = float((np.median(usual) - np.median(new)) / max(1e-6, np.median(np.abs(usual - np.median(usual)))))
    if moved > _DRIFT:
        yield Finding(
            "drift", "high", (),
            f"the {len(queries.paths)} pictures in {queries.folder} are {moved:.1f} deviations further from the "
            f"gallery than its items are from one another (median nearest cosine {np.median(new):.2f} against "
            f"{np.median(usual):.2f})",
            "index pictures of this kind, and calibrate anew",
        )  # fmt: skip


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _some(names: Sequence[str] | dict[str, Any] | Counter[str]) -> str:
    first = list(names)[:5]
    return ", ".join(first) + (", …" if len(names) > len(first) else "")


_LOOKS: tuple[Callable[[Gathered], Iterator[Finding]], ...] = (
    _copies,
    _wrong_labels,
    _strangers,
    _classes,
    _unlabelled,
    _bad_pictures,
    _hubs,
)
