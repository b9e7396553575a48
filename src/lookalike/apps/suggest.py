"""Which references of a gallery to drop, and what to add: suggestions of the doctor. Nothing is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from lookalike import doctoring
from lookalike.apps.gathering import Gathered, Queries
from lookalike.condition import Condition


@dataclass(frozen=True, slots=True)
class Drop:
    """An item that others stand for."""

    id: str
    path: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Add:
    """A new picture (``path``), or a ``label`` that needs pictures."""

    path: str | None
    label: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Suggestions:
    """Up to N of each, the most useful first."""

    drop: tuple[Drop, ...]
    add: tuple[Add, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {"drop": [asdict(one) for one in self.drop], "add": [asdict(one) for one in self.add]}


Faults = Callable[[Condition], bool]
Needs = list[tuple[str, str]]
"""Labels that need pictures, and why, the neediest first."""


def suggest(gathered: Gathered, queries: Queries | None, count: int, needs: Needs, is_bad: Faults) -> Suggestions:
    """Return up to ``count`` items to drop, and as many pictures (or, without queries, labels) to add.

    Copies are dropped first, then those whose loss is felt least (:func:`doctoring.redundant`). Pictures for which
    ``is_bad``, and copies of what is there, are not suggested.
    """
    if queries is None:
        add = tuple(Add(None, label, why) for label, why in needs[:count])
    else:
        add = tuple(islice(_pictures(gathered, queries, is_bad), count))
    return Suggestions(tuple(islice(_drops(gathered, count), count)), add)


def _drops(gathered: Gathered, count: int) -> Iterator[Drop]:
    gone: set[int] = set()
    stands: set[int] = set()  # for one that is gone: of a chain of copies not all may go
    for row, other, why in _copies(gathered):
        if row not in gone | stands and other not in gone:
            gone.add(row)
            stands.add(other)
            yield _drop(gathered, row, f"{why} {_name(gathered, other)}")
    for row, other in doctoring.redundant(gathered.vectors, gathered.labels, sorted(gone), count - len(gone)):
        cosine = float(gathered.vectors[row] @ gathered.vectors[other])
        yield _drop(gathered, row, f"{_name(gathered, other)} shows much of the same (cosine {cosine:.2f})")


def _copies(gathered: Gathered) -> Iterator[tuple[int, int, str]]:
    """Yield (row to drop, row to keep, why) of copies of one label, the same files first, then the surest."""
    pairs = doctoring.near_copies(gathered.vectors, gathered.prints)
    contents = [item.content for item in gathered.items]
    same = [contents[i] is not None and contents[i] == contents[j] for i, j, _ in pairs]
    for wanted, why in ((True, "the same file as"), (False, "nearly the same picture as")):
        for (i, j, _), is_same in zip(pairs, same, strict=True):
            if is_same == wanted and gathered.labels[i] == gathered.labels[j]:
                kept, dropped = sorted((i, j), key=lambda row: (-_pixels(gathered, row), row))
                yield dropped, kept, why


def _pictures(gathered: Gathered, queries: Queries, is_bad: Faults) -> Iterator[Add]:
    """Yield the pictures that add most coverage, no copies of the gallery's or of those before, and no bad ones."""
    known = {item.content for item in gathered.items}
    allowed = np.array(
        [
            content not in known and not is_bad(condition)
            for content, condition in zip(queries.contents, queries.conditions, strict=True)
        ]
    )
    near = doctoring.nearest_of(queries.vectors, gathered.vectors)
    taken: list[int] = []
    for row, gain in doctoring.most_covering(queries.vectors, gathered.vectors, allowed):
        if _is_copy(gathered, queries, row, taken):
            continue
        taken.append(row)
        yield Add(
            queries.paths[row],
            None,
            f"nearest item at a cosine of {near[row]:.2f}; brings the {len(queries.paths)} new pictures nearer by "
            f"{gain / len(queries.paths):.3f} on average",
        )


def _is_copy(gathered: Gathered, queries: Queries, row: int, taken: list[int]) -> bool:
    vector, look = queries.vectors[row], queries.prints[row]
    stored = doctoring.copies_of(vector, look, gathered.vectors, gathered.prints)
    before = doctoring.copies_of(vector, look, queries.vectors[taken], queries.prints[taken])
    return bool(stored.any() or before.any())


def needs_of(gathered: Gathered, fewest: int, shares: dict[str, float], alike: set[str], separable: float) -> Needs:
    """Return the labels that need company: the fewest items first, then what is not told apart, then what is alike."""
    counts = Counter(label for label in gathered.labels if label is not None)
    few = [
        (label, f"{count} of the {fewest} items or more that a label needs")
        for label, count in sorted(counts.items(), key=lambda one: (one[1], one[0]))
        if count < fewest
    ]
    mixed = [
        (label, f"only {share:.0%} of its items have one of their own as nearest")
        for label, share in sorted(shares.items(), key=lambda one: (one[1], one[0]))
        if share < separable
    ]
    like = [(label, "its items are alike: other sides, other light") for label in sorted(alike)]
    return list(dict(reversed([*few, *mixed, *like])).items())[::-1]


def _drop(gathered: Gathered, row: int, why: str) -> Drop:
    item = gathered.items[row]
    return Drop(item.id, item.path, why)


def _name(gathered: Gathered, row: int) -> str:
    item = gathered.items[row]
    return item.path or item.id


def _pixels(gathered: Gathered, row: int) -> int:
    item = gathered.items[row]
    return (item.width or 0) * (item.height or 0)
