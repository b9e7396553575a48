"""What labels lack, said before anything is learned: too few, out of balance, probably wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.errors import InputError
from lookalike.learning.examples import Examples

ENOUGH_LABELS = 30
"""With fewer labels to judge by than a third of these an interval is wider than most gains."""
ENOUGH_EACH = 4
_UNBALANCED = 10


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to learn from: pictures, labels, units, and pairs of one label and of two that may be compared."""

    pictures: int
    labels: int
    units: int
    fewest: int
    most: int
    same_pairs: int
    different_pairs: int


def count(examples: Examples) -> Found:
    """Return what there is; raise InputError where it cannot be learned from: one label, or no two of any label."""
    _, each = np.unique(examples.labels, return_counts=True)
    if len(each) < 2:
        raise InputError(
            f"there is one label only, of {_pictures(len(examples.labels))}: what sets it apart from others cannot be "
            "learned; add pictures of other things, each kind in a folder of its own"
        )
    pairs = len(examples.labels) * (len(examples.labels) - 1) // 2
    same = int((each * (each - 1) // 2).sum())
    if not same:
        raise InputError(
            f"there is one picture of each of {len(each)} labels, and no two show the same thing: add pictures to "
            "them, or learn from edited copies of each: lookalike train --unlabeled FOLDER"
        )
    units = len(np.unique(examples.units))
    return Found(len(examples.labels), len(each), units, int(each.min()), int(each.max()), same, pairs - same)


def advice(found: Found, wrong: Sequence[str] = ()) -> Iterator[str]:
    """Yield what would help, one sentence each; ``wrong`` are pictures whose label is probably wrong."""
    if found.units < ENOUGH_LABELS:
        yield (
            f"{found.units} classes (or groups) are few: a third of them judges, and a small gain will not show; "
            f"about {ENOUGH_LABELS - found.units} more would tell"
        )
    lacking = ENOUGH_EACH - found.pictures / found.labels
    if lacking > 0:
        yield (
            f"{found.pictures / found.labels:.1f} pictures a label are few: how pictures of one thing differ is "
            f"what is learned; about {round(lacking * found.labels) or 1} more pictures, {ENOUGH_EACH} of each, "
            "would tell"
        )
    if found.most >= _UNBALANCED * found.fewest:
        yield (
            f"the largest label has {found.most} pictures and the smallest {found.fewest}: each label weighs the same "
            "in what is learned, so pictures of the small ones help most"
        )
    if wrong:
        named = ", ".join(wrong[:3])
        yield (
            f"{len(wrong)} {'label is' if len(wrong) == 1 else 'labels are'} probably wrong, the first: {named}; "
            "look at them, since what is learned follows them"
        )


def _pictures(number: int) -> str:
    return "1 picture" if number == 1 else f"{number} pictures"
