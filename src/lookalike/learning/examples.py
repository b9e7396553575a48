"""What is learned from: vectors, what each shows, and what is never torn apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.pairs import Floats, Ints
from lookalike.errors import InputError
from lookalike.evaluation.judging import Judged, judge
from lookalike.evaluation.truth import NONE, Truth
from lookalike.types import Float32

Mask = NDArray[np.bool_]
NO_LEVELS = np.zeros(1, np.float32)
"""Where retrieval alone is judged."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """N examples: unit ``vectors`` (N, D), ``labels`` (N,) as numbers, and ``units`` (N,).

    A unit (a class, a patient, copies of one picture) is never torn apart by a split. Those of one ``groups`` number
    (-1: none) are no answers to one another. ``asks`` and ``answers`` (N,) say who is a query, who is in the gallery;
    where they differ, what is learned brings queries to their answers.
    """

    vectors: Float32
    labels: Ints
    units: Ints
    groups: Ints
    asks: Mask
    answers: Mask

    def __post_init__(self) -> None:
        for name in ("labels", "units", "groups", "asks", "answers"):
            if len(getattr(self, name)) != len(self.vectors):
                raise InputError(f"{len(self.vectors)} vectors need as many {name}, got {len(getattr(self, name))}")

    @classmethod
    def of(cls, vectors: Float32, labels: Ints, units: Ints | None = None) -> Examples:
        """Return examples that all ask and answer; units are the labels where they are not given."""
        everyone = np.ones(len(vectors), bool)
        units = labels if units is None else units
        return cls(vectors, labels, units, np.full(len(vectors), NONE, np.int64), everyone, everyone)

    @property
    def crossing(self) -> bool:
        """Tell whether queries and answers are two kinds of pictures."""
        return not (self.asks & self.answers).any()

    def only(self, rows: Ints | Mask) -> Examples:
        """Return some of the examples."""
        return Examples(
            self.vectors[rows],
            self.labels[rows],
            self.units[rows],
            self.groups[rows],
            self.asks[rows],
            self.answers[rows],
        )

    def moved(self, vectors: Float32) -> Examples:
        """Return the same examples with other vectors."""
        return Examples(vectors, self.labels, self.units, self.groups, self.asks, self.answers)

    def truth(self) -> Truth:
        """Return which answers are right; raise InputError where nobody asks or answers."""
        asks, answers = np.flatnonzero(self.asks), np.flatnonzero(self.answers)
        place = np.full(len(self.labels), NONE, np.int64)
        place[answers] = np.arange(len(answers))
        return Truth(self.labels[asks], self.labels[answers], place[asks], self.groups[asks], self.groups[answers])

    def judged(self, levels: Float32 = NO_LEVELS) -> Judged:
        """Return what comes for each query by cosine, and how good that is; pairs are counted at cosines ``levels``."""
        queries, gallery = self.vectors[self.asks], self.vectors[self.answers]
        return judge(lambda first, last: queries[first:last] @ gallery.T, self.truth(), levels)

    def precision(self) -> Floats:
        """Return (Q,) MAP@R of each query by cosine, NaN where nothing is relevant; none where nobody can answer."""
        if not (self.asks.any() and self.answers.any()):
            return np.empty(0)
        return self.judged().values["map@r"]
