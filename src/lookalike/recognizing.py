"""Which label a picture has, or none of those that are known: a vote of the nearest references of each label.

Pure numbers: unit vectors (N, D) and a label each in, scores a label out. Directions in which the pictures of one label
vary are shrunk first (:class:`Whitening`). A label is as near as its few nearest references on average, whatever their
number, so that a label with many gains nothing by having them; what more references add by chance is taken off by the
label's own level with strangers. How near strangers come is learned by leaving labels out of the gallery itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.alarms import AlarmTable
from lookalike.calibration.background import means_of_nearest
from lookalike.types import Float32, Skipped, Verdict

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VOTERS = 3
"""A label is as near as its so many nearest references, on average: one odd reference then decides nothing."""
WRONG = 0.05
"""At the margin that is asked for, at most so many of the gallery's own pictures that are named are named wrongly."""
_SHRINKAGE = 0.5
_FOLDS = 16
_STRANGERS = 600
"""So many of the gallery's pictures, of all labels in turn, stand for strangers."""
_MOST_OF_ONE = 2
"""A label gives at most so many times as many of them as the median label: its pictures do not meet it as strangers,
and a label with many is the one that strangers come nearest to."""
_NOTHING = 1e-5
_LEARNED_FROM = 600
"""Whitening is learned from so many pictures at most; more tell the same and take minutes."""
_HALF_CENTRED = 2
"""Of so many labels and one half of their mean is taken off."""
_HALF_WHITENED = 4
"""With so many labels and one directions are shrunk by the root of what they would be: few labels do not tell how
pictures vary, and the fewer they are, the more the directions in which they differ are those that tell them apart."""
_HALF_TRUSTED = 4
"""Of a label with so many references half of its own level counts, and half of what is common to all."""


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """Makes pictures of one label vary alike in all directions: what is ``mean`` (D,) is taken off, then the part along
    each of the orthonormal ``directions`` (R, D) is multiplied by its ``gain`` (R,) in (0, 1].

    Within-class covariance normalization (Hatch et al., Interspeech 2006), shrunk by half towards a sphere; with few
    labels not the whole way, and with two not at all.
    """

    mean: Floats
    directions: Floats
    gains: Floats

    @classmethod
    def learn(cls, vectors: Float32, numbers: Ints) -> Whitening:
        """Learn from (N, D) vectors with the number of a label each.

        What varies within labels is known as far as labels have several pictures; the rest is taken to vary as labels
        do. With n pictures of c labels the first counts (n - c) / n: nothing where each label has one picture.
        """
        rows = _by_turns(numbers, _LEARNED_FROM)
        wide, numbers = vectors[rows].astype(np.float64), np.unique(numbers[rows], return_inverse=True)[1]
        counts = np.bincount(numbers)
        means = np.zeros((len(counts), wide.shape[1]))
        np.add.at(means, numbers, wide)
        means /= counts[:, None]
        middle = means.mean(axis=0)
        # The mean of few labels tells what is common to all pictures from what is common to these.
        others = (len(counts) - 1) ** 2
        centre = middle * others / (others + _HALF_CENTRED**2)
        within = (wide - means[numbers]) / np.sqrt(len(wide))
        between = (means - middle) / np.sqrt(len(wide))
        spread = np.concatenate([within, between])
        values, sides = np.linalg.eigh(spread @ spread.T)
        there = values > 1e-9 * max(float(values.max()), 1e-12)
        values, sides = values[there], sides[:, there]
        if not len(values):
            return cls(centre, np.zeros((0, wide.shape[1])), np.zeros(0))
        directions = (spread.T @ sides / np.sqrt(values)).T
        sphere = _SHRINKAGE * values.sum() / wide.shape[1]
        gains = np.sqrt(sphere / ((1 - _SHRINKAGE) * values + sphere))
        # Two labels differ in one direction, the very one that tells them apart.
        trusted = others / (others + _HALF_WHITENED**2) if len(counts) > 2 else 0.0
        return cls(centre, directions, gains**trusted)

    def apply(self, vectors: Float32) -> Float32:
        """Return (N, D) unit vectors; one that is the mean stays zero."""
        rows = vectors - self.mean.astype(np.float32)
        directions = self.directions.astype(np.float32)
        rows += ((rows @ directions.T) * (self.gains - 1).astype(np.float32)) @ directions
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(lengths > _NOTHING, lengths, 1), np.float32)


def votes(similar: Floats, numbers: Ints, count: int, voters: int = VOTERS) -> Floats:
    """Return (Q, count): the mean of the ``voters`` highest of ``similar`` (Q, N) of each label, of fewer where it has
    fewer; -inf where it has none. ``numbers`` (N,) are the labels' numbers, 0 up; -inf in ``similar`` is nobody.
    """
    found = np.full((len(similar), count), -np.inf)
    for number, columns in _columns(numbers):
        highest = -np.sort(-similar[:, columns], axis=1)[:, :voters]
        there = np.isfinite(highest)
        known = there.any(axis=1)
        total = np.where(there, highest, 0).sum(axis=1)
        found[known, number] = total[known] / there.sum(axis=1)[known]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Recognition:
    """What a gallery of C labels knows: N references, and how near strangers come to it.

    ``references`` (N, D) are whitened unit vectors with their labels' ``numbers`` (N,); ``shifts`` (C,) is how much
    nearer than usual strangers come to each label, ``alarms`` how near they come to the nearest, that taken off;
    ``margin`` is how far the best label has to be ahead of the second.
    """

    whitening: Whitening
    references: Float32
    numbers: Ints
    shifts: Floats
    alarms: AlarmTable
    margin: float
    voters: int = VOTERS

    @classmethod
    def learn(cls, vectors: Float32, numbers: Ints, voters: int = VOTERS) -> Recognition:
        """Learn from (N, D) unit vectors of two labels or more, numbered 0 up."""
        count = int(numbers.max()) + 1
        rows = _by_turns(numbers, _STRANGERS, most=_MOST_OF_ONE * int(np.median(np.bincount(numbers))))
        whitening = Whitening.learn(vectors, numbers)
        references = whitening.apply(vectors)
        shifts = _shifts(votes(_to_others(references, rows), numbers, count, voters), numbers[rows], numbers, count)
        seen = _left_out(vectors, numbers, rows, voters)
        own = numbers[rows]
        alarms = AlarmTable.of_matrix(seen, own[:, None] != np.arange(count), own)
        return cls(whitening, references, numbers, shifts, alarms, _margin(seen, own), voters)

    def similar(self, vectors: Float32) -> Floats:
        """Return (Q, N) the cosines of pictures to the references, both whitened."""
        return (self.whitening.apply(vectors) @ self.references.T).astype(np.float64)

    def scores(self, similar: Floats) -> Floats:
        """Return (Q, C): how near each label is, in whitened cosine."""
        return votes(similar, self.numbers, len(self.shifts), self.voters)


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference that speaks for a label, and its cosine to the picture in the recognizer's own, whitened space."""

    id: str
    path: str | None
    score: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A label that a picture may have: its score, its own threshold (None: not calibrated), its nearest references."""

    label: str
    score: float
    threshold: float | None
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Recognized:
    """What was decided on one picture.

    ``label`` is that of a ``match``, the likeliest where it is ``unsure``, and None where it is ``unknown``. ``score``
    and ``threshold`` are the best label's, ``false_alarm_rate`` the share of pictures of unknown things that come as
    far. ``evidence`` are the best label and the runner-up.
    """

    path: str
    label: str | None
    verdict: Verdict
    score: float | None
    threshold: float | None
    false_alarm_rate: float | None
    reason: str
    evidence: tuple[Candidate, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {**asdict(self), "verdict": self.verdict.value, "evidence": [asdict(one) for one in self.evidence]}


@dataclass(frozen=True, slots=True)
class RecognizeResult:
    """A decision for each picture that could be read, in order, and those that could not.

    ``unlabelled`` is how many of the gallery's items have no label: they took no part.
    """

    decisions: tuple[Recognized, ...]
    skipped: tuple[Skipped, ...] = ()
    unlabelled: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "decisions": [one.as_dict() for one in self.decisions],
            "skipped": [asdict(one) for one in self.skipped],
            "unlabelled": self.unlabelled,
        }


def _left_out(vectors: Float32, numbers: Ints, rows: Ints, voters: int) -> Floats:
    """Return (M, C) how near each of some pictures is to each label, shifts taken off, as if its own were not known.

    Whitening is learned without a sixteenth of the labels at a time: what was learned from is no stranger. To its own
    label a picture is compared without itself, -inf where it is alone.
    """
    count = int(numbers.max()) + 1
    own = numbers[rows]
    seen = np.empty((len(rows), count))
    folds = np.random.default_rng(0).permutation(count) % min(count, _FOLDS)
    for fold in range(int(folds.max()) + 1):
        inside, out = folds[numbers] != fold, folds[own] == fold
        whitening = Whitening.learn(vectors[inside], numbers[inside])
        found = votes(_to_others(whitening.apply(vectors), rows), numbers, count, voters)
        seen[out] = found[out] - _shifts(found[~out], own[~out], numbers, count)
    return seen


def _to_others(references: Float32, rows: Ints) -> Floats:
    """Return (M, N) the cosines of some of the references to all; -inf to itself."""
    similar = (references[rows] @ references.T).astype(np.float64)
    similar[np.arange(len(rows)), rows] = -np.inf
    return np.asarray(similar)


def _shifts(found: Floats, of_rows: Ints, numbers: Ints, count: int) -> Floats:
    """Return (C,) how much nearer strangers come to each label than to the others: the level of its nearest strangers.

    ``found`` (M, C) are votes for pictures of the labels ``of_rows`` (M,). Shrunk towards 0, which is common to all,
    where a label has few references, whose ``numbers`` (N,) these are.
    """
    strange = np.where(of_rows[:, None] == np.arange(count), -np.inf, found)
    judged = np.isfinite(strange).any(axis=0)
    if judged.sum() < 2:
        return np.zeros(count)
    levels = means_of_nearest(-np.sort(-strange[:, judged].T, axis=1))
    shifts = np.zeros(count)
    shifts[judged] = levels - levels.mean()
    counts = np.bincount(numbers, minlength=count)
    return np.asarray(shifts * counts / (counts + _HALF_TRUSTED))


def _margin(seen: Floats, own: Ints) -> float:
    """Return how far the best label has to be ahead so that few of the gallery's own pictures are named wrongly.

    ``seen`` (M, C) is how near each of the labels is, ``own`` (M,) the right one. Where no label has two pictures,
    nobody can be named rightly: the margin is then what half of the strangers keep.
    """
    known = np.isfinite(seen[np.arange(len(seen)), own])
    if not known.any():
        return float(np.median(_ahead(seen))) if seen.shape[1] > 2 else 0.0
    margins = _ahead(seen[known])
    order = np.argsort(-margins, kind="stable")
    wrong = seen[known].argmax(axis=1)[order] != own[known][order]
    fits = np.flatnonzero(np.cumsum(wrong) <= WRONG * np.arange(1, len(order) + 1))
    if not len(fits):
        return float(margins.max())
    return 0.0 if fits[-1] == len(order) - 1 else float(margins[order[fits[-1]]])


def _ahead(seen: Floats) -> Floats:
    """Return (M,) by how much the best of (M, C) is ahead of the second."""
    two = -np.partition(-seen, 1, axis=1)[:, :2]
    return np.asarray(two[:, 0] - two[:, 1])


def _columns(numbers: Ints) -> Iterator[tuple[int, Ints]]:
    """Yield each label's number and its places."""
    order = np.argsort(numbers, kind="stable")
    known, starts = np.unique(numbers[order], return_index=True)
    yield from zip(known.tolist(), np.split(order, starts[1:]), strict=True)


def _by_turns(numbers: Ints, count: int, most: int | None = None) -> Ints:
    """Return at most ``count`` places, ascending, taken from the labels in turn, of each at most ``most``."""
    turn = np.empty(len(numbers), np.int64)
    for _, places in _columns(numbers):
        turn[places] = np.arange(len(places))
    order = np.argsort(turn, kind="stable")[:count]
    return np.sort(order if most is None else order[turn[order] < most])
