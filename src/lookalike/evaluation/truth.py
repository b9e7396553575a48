"""Which item is what: the labels of queries and gallery, and which items may answer which query."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.pairs import Ints
from lookalike.errors import InputError

NONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Labels of Q queries and G items of a gallery, as numbers from 0 up.

    ``labels`` (Q,) and ``gallery_labels`` (G,) say what is relevant: the items of the query's label. ``own`` (Q,) is
    the query's own place in the gallery, ``groups`` and ``gallery_groups`` number what was taken together; -1 is none.
    A query itself and the items of its group are no candidates: they count neither for nor against.
    """

    labels: Ints
    gallery_labels: Ints
    own: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    groups: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    gallery_groups: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        for name, like in (("own", self.labels), ("groups", self.labels), ("gallery_groups", self.gallery_labels)):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(like), NONE, np.int64))
            if len(getattr(self, name)) != len(like):
                raise InputError(f"{len(like)} labels need as many {name}, got {len(getattr(self, name))}")
        if not len(self.labels) or not len(self.gallery_labels):
            raise InputError(f"{len(self.labels)} queries and {len(self.gallery_labels)} items: at least one of each")
        if self.own.max() >= len(self.gallery_labels):
            raise InputError(f"a query is item {self.own.max()} of a gallery of {len(self.gallery_labels)}")

    def excluded(self, query: int) -> Ints:
        """Return the places of the items that are no candidates for ``query``: itself, and its group."""
        group = self.groups[query]
        mates = np.flatnonzero(self.gallery_groups == group) if group != NONE else np.empty(0, np.int64)
        own = self.own[query]
        return mates if own == NONE else np.union1d(mates, [own])

    def relevant(self, query: int) -> NDArray[np.bool_]:
        """Return (G,) which items have the label of ``query``, whether or not they are candidates."""
        same: NDArray[np.bool_] = self.gallery_labels == self.labels[query]
        return same
