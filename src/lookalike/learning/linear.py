"""A linear map under which pictures of one label come together: whitening, and its refinement by neighbours.

Both are found in the span of the examples; whatever lies outside is left as it is, so that what no example shows is
neither lost nor blown up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lookalike.errors import InputError
from lookalike.learning.examples import Examples, Mask
from lookalike.types import Float32

TEMPERATURE = 0.1
RATE = 0.003
CHECKED = (5, 10, 20, 40, 80)
"""After so many steps the refinement is looked at."""
RANK = 128
"""A learned map is kept as the identity and a change of this rank."""
_SPARE, _POWERS = 16, 2
_ROUNDING = 1e-5
_WIDEST = 256
_MOST_ROWS = 2000
_TINY = 1e-12
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """v -> (v - ``mean``) @ ``components``, at length 1 again: (D,) and (D, D) float32."""

    mean: Float32
    components: Float32

    def apply(self, vectors: Float32) -> Float32:
        """Return (N, D) unit vectors."""
        return unit(self.moved(vectors))

    def moved(self, vectors: Float32) -> Float32:
        """Return (N, D), of any length."""
        moved: Float32 = np.subtract(vectors, self.mean, dtype=np.float32) @ self.components
        return moved

    def then(self, other: Float32) -> Linear:
        """Return the same map with another (D, D) one after it."""
        both: Float32 = self.components @ other
        return Linear(self.mean, both)


def compact(examples: Examples) -> tuple[Examples, Float32]:
    """Return the examples in coordinates of their own span, and its basis (D, k): a map found there can be lifted."""
    variance, directions = _spectrum(examples.vectors)
    basis = directions[:, variance > variance.max() * _NOTHING]
    return examples.moved(examples.vectors @ basis), basis


def lifted(found: Linear, basis: Float32) -> Linear:
    """Return a map of coordinates as one of whole vectors, which leaves what lies outside of the span as it is."""
    whole = spread(found.components, basis)
    mean: Float32 = basis @ found.mean
    return Linear(mean, whole)


def spread(matrix: Float32, basis: Float32) -> Float32:
    """Return (D, D): ``matrix`` (k, k) inside of a ``basis`` (D, k), and no change outside of it."""
    change = np.subtract(matrix, np.eye(len(matrix), dtype=np.float32), dtype=np.float32)
    whole = np.add(np.eye(len(basis), dtype=np.float32), basis @ change @ basis.T, dtype=np.float32)
    return np.asarray(whole)


def factored(components: Float32, rank: int = RANK) -> tuple[Float32, Float32]:
    """Return (D, r) and (r, D) whose product, added to the identity, is nearest to ``components`` of all of r <= rank.

    A map that changes few directions is then applied at a tenth of the cost: what counts is how many numbers are read.
    By a random sample of its range and two power iterations (Halko, Martinsson and Tropp, SIAM Review 2011).
    """
    change = np.subtract(components, np.eye(len(components), dtype=np.float32), dtype=np.float32)
    drawn = np.random.default_rng(0).normal(size=(len(change), min(len(change), rank + _SPARE))).astype(np.float32)
    basis = np.linalg.qr(change @ drawn)[0]
    for _ in range(_POWERS):
        basis = np.linalg.qr(change @ np.linalg.qr(change.T @ basis)[0])[0]
    directions, sizes, back = np.linalg.svd(basis.T @ change, full_matrices=False)
    kept = min(rank, int((sizes > max(float(sizes[0]), _TINY) * _ROUNDING).sum()))
    return np.asarray(basis @ directions[:, :kept], np.float32), np.asarray(
        sizes[:kept, None] * back[:kept], np.float32
    )


def unit(vectors: Float32) -> Float32:
    """Return rows at length 1; a zero row stays."""
    made: Float32 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(_TINY)
    return made


def centred(examples: Examples) -> Linear:
    """Return the map that takes away the mean, each label counting as one."""
    means = [examples.vectors[examples.labels == label].mean(axis=0) for label in np.unique(examples.labels)]
    width = examples.vectors.shape[1]
    return Linear(np.mean(means, axis=0).astype(np.float32), np.eye(width, dtype=np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Scatter:
    """How pictures of one label differ: variances (k,) in directions (D, k), about a mean (D,)."""

    mean: Float32
    variance: Float32
    directions: Float32

    @classmethod
    def of(cls, examples: Examples, crossing: bool = False) -> Scatter:
        """Return it, each label counting as one; ``crossing`` takes the differences of queries to their answers.

        Raise InputError where no two examples share a label.
        """
        differences = _differences(examples, crossing)
        if not len(differences):
            raise InputError("no two pictures show the same thing, so there is nothing to learn from")
        return cls(centred(examples).mean, *_spectrum(differences))

    def whitening(self, strength: float) -> Linear:
        """Return the map that shrinks the directions in which pictures of one label differ.

        With m the largest variance divided by ``strength``, a direction of variance s becomes sqrt(m / (s + m)) as
        long: within-class covariance normalization (Hatch et al., Interspeech 2006) with a floor, which is what
        shrinkage towards a sphere does; ``strength`` 0 shrinks nothing.
        """
        floor = np.float32(max(float(self.variance.max()), _TINY) / max(strength, _TINY))
        scale = np.sqrt(floor / (self.variance + floor))
        return Linear(self.mean, spread(np.diag(scale).astype(np.float32), self.directions))


def refined(examples: Examples, start: Linear, seed: int = 0) -> Iterator[Linear]:
    """Yield the map after each of ``CHECKED`` steps up the likelihood that neighbours show the same.

    Neighbourhood components analysis (Goldberger et al., NIPS 2004) on cosines: example i picks neighbour j with
    probability softmax_j(cos_ij / .1), and what is maximized is the mean log probability of picking one of its label,
    in at most 256 directions of the examples, by Adam from ``start``. The steps that are taken are the regularizer.
    """
    examples = _at_most(examples, seed)
    given = start.moved(examples.vectors)
    basis = basis_of(given)
    inside: Float32 = given @ basis
    outside: Float32 = np.sqrt(np.maximum((given**2).sum(axis=1) - (inside**2).sum(axis=1), 0))
    allowed, same = _neighbours(examples)
    matrix = np.eye(basis.shape[1], dtype=np.float32)
    adam = _Adam(matrix)
    for step in range(1, CHECKED[-1] + 1):
        matrix = adam.step(matrix, _gradient(inside, outside, matrix, allowed, same))
        if step in CHECKED:
            yield start.then(spread(matrix, basis))


def likelihood(vectors: Float32, allowed: Mask, same: Mask) -> float:
    """Return the mean -log probability (natural) that a neighbour by :func:`refined`'s softmax is of the same label."""
    chances = _softmax(vectors, allowed)
    rows = np.asarray(same.any(axis=1))
    picked = (chances * same)[rows].sum(axis=1)
    return float(-np.log(np.maximum(picked, _TINY)).mean())


def _gradient(inside: Float32, outside: Float32, matrix: Float32, allowed: Mask, same: Mask) -> Float32:
    """Return (k, k): how :func:`likelihood` changes with ``matrix``, which moves what is ``inside`` (N, k).

    ``outside`` (N,) are the lengths of what it does not move; cosines are of both, yet what lies outside is taken to
    be at a right angle between any two examples.
    """
    moved = inside @ matrix
    length = np.sqrt((moved**2).sum(axis=1) + outside**2).clip(_TINY)[:, None]
    vectors = moved / length
    chances = _softmax(vectors, allowed)
    rows = np.asarray(same.any(axis=1))
    mine = chances * same
    pull = np.where(rows[:, None], chances - mine / mine.sum(axis=1, keepdims=True).clip(_TINY), 0)
    pull = pull / (float(rows.sum()) * TEMPERATURE)  # a float64 of numpy would make everything float64
    toward = (pull + pull.T) @ vectors
    back = (toward - vectors * (toward * vectors).sum(axis=1, keepdims=True)) / length
    found: Float32 = (inside.T @ back).astype(np.float32)
    return found


def _softmax(vectors: Float32, allowed: Mask) -> Float32:
    scores = np.where(allowed, vectors @ vectors.T / np.float32(TEMPERATURE), -np.inf)
    with np.errstate(invalid="ignore"):  # a row in which nobody is allowed has no chances
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    raised = np.nan_to_num(raised)
    chances: Float32 = raised / raised.sum(axis=1, keepdims=True).clip(_TINY)
    return chances


def _neighbours(examples: Examples) -> tuple[Mask, Mask]:
    """Return (N, N) who may be picked as whose neighbour, and who of them shows the same."""
    allowed = examples.asks[:, None] & examples.answers[None]
    allowed &= ~np.eye(len(examples.labels), dtype=bool)
    grouped = examples.groups >= 0
    allowed &= ~((examples.groups[:, None] == examples.groups[None]) & grouped[:, None])
    return allowed, allowed & (examples.labels[:, None] == examples.labels[None])


class _Adam:
    """Kingma and Ba, ICLR 2015, with their constants."""

    def __init__(self, like: Float32) -> None:
        self._first, self._second = np.zeros_like(like), np.zeros_like(like)
        self._steps = 0

    def step(self, matrix: Float32, gradient: Float32) -> Float32:
        self._steps += 1
        self._first = 0.9 * self._first + 0.1 * gradient
        self._second = 0.999 * self._second + 0.001 * gradient**2
        first, second = self._first / (1 - 0.9**self._steps), self._second / (1 - 0.999**self._steps)
        moved: Float32 = (matrix - RATE * first / (np.sqrt(second) + 1e-8)).astype(np.float32)
        return moved


def _differences(examples: Examples, crossing: bool) -> Float32:
    """Return rows whose mean outer product, summed, is the covariance within labels; each label weighs the same."""
    rows = []
    for label in np.unique(examples.labels):
        of = examples.labels == label
        if crossing:
            asking, answering = examples.vectors[of & examples.asks], examples.vectors[of & examples.answers]
            apart = (asking[:, None] - answering[None]).reshape(-1, examples.vectors.shape[1])
        else:
            mine = examples.vectors[of]
            apart = mine - mine.mean(axis=0) if len(mine) > 1 else mine[:0]
        if len(apart):
            rows.append(apart / np.sqrt(len(apart), dtype=np.float32))
    if not rows:
        return np.empty((0, examples.vectors.shape[1]), np.float32)
    found: Float32 = np.concatenate(rows) / np.sqrt(len(rows), dtype=np.float32)
    return found


def _spectrum(rows: Float32) -> tuple[Float32, Float32]:
    """Return the variances (k,) and the directions (D, k) of the sum of the rows' outer products."""
    if len(rows) < rows.shape[1]:
        _, lengths, directions = np.linalg.svd(rows, full_matrices=False)
        return lengths**2, directions.T
    variance, directions = np.linalg.eigh(rows.T.astype(np.float64) @ rows)
    return np.maximum(variance, 0).astype(np.float32), directions.astype(np.float32)


def basis_of(rows: Float32) -> Float32:
    """Return (D, k) orthonormal: the at most 256 directions in which the rows (N, D) are longest."""
    variance, directions = _spectrum(rows)
    order = np.argsort(-variance, kind="stable")[:_WIDEST]
    kept = order[variance[order] > variance.max() * 1e-6]
    return directions[:, kept]


def _at_most(examples: Examples, seed: int) -> Examples:
    """Return at most 2,000 examples, by lot: every pair of them is in memory."""
    if len(examples.labels) <= _MOST_ROWS:
        return examples
    return examples.only(np.sort(np.random.default_rng(seed).permutation(len(examples.labels))[:_MOST_ROWS]))
