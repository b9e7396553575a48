"""What makes a threshold adapt to the pictures at hand: what they score against strangers, and what their quality does.

A picture's *level* is the mean closeness of the strangers nearest to it, 20 of a cohort of 256 of the gallery's own
pictures (T-norm takes the mean of the whole cohort: Auckenthaler et al. 2000). A blurred or dark picture, or one of a
kind that everything resembles, has another level than a sharp one of something rare; what counts is how far a pair is
above it.

A bad picture is also moved as a whole: noise moves all pictures' vectors in about the same direction. How far and where
is learned from the gallery's own pictures, degraded, against their measured quality (:class:`QualityShift`). What
that leaves is learned once more where it counts, in the scores: the *offset* of a quality is how much closer to
strangers it makes a picture seem (:func:`offset_of`), and is taken off.

All is kept as float16, and used as it is kept, so that a calibration that was written decides as the one that was made.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.kept import by_name, number, numbers
from lookalike.calibration.pairs import Floats, Ints, closeness, numbered
from lookalike.errors import InputError
from lookalike.protocols import Metric
from lookalike.types import Float32, Quality, Usual

Mask = NDArray[np.bool_]

NEAREST = 0.08
"""Which share of the cohort makes the level, the nearest: the strangers that could be taken for the thing itself."""
LARGEST_COHORT = 256
_TAIL = 0.02
"""Which share of the strangers, the nearest, says how close strangers come: about that at which thresholds lie."""
_KEY = 32
_SAME_KEY = 1e-3
_SAME_DIRECTION = 1 - 1e-5
_RIDGE = 3.0
_RIDGE_OF_OFFSETS = 1.0
# Where the straight pieces of the learned response begin and end, for each measured quantity.
_NODES: Mapping[str, Sequence[float]] = {
    "brightness": (0.05, 0.15, 0.3, 0.45, 0.6, 0.8),
    "contrast": (0.03, 0.1, 0.2, 0.3),
    "noise": (1, 3, 6, 12, 20, 40),
    "blur": (0, 0.5, 1, 2, 4),
}
FEATURES = sum(len(nodes) - 1 for nodes in _NODES.values())


def responses(qualities: Sequence[Quality]) -> Floats:
    """Return (N, FEATURES) in [0, 1]: how far each measured quantity has gone along each piece of its range."""
    columns = []
    for name, nodes in _NODES.items():
        values = np.array([getattr(quality, name) for quality in qualities], np.float64)
        # Noise counts in octaves: from 3 to 6 is as much as from 20 to 40.
        scale = np.log1p if name == "noise" else np.asarray
        values, ends = scale(values), scale(np.array(nodes, np.float64))
        columns += [np.clip((values - a) / (b - a), 0, 1) for a, b in pairwise(ends)]
    return np.stack(columns, axis=1).reshape(len(qualities), FEATURES)


@dataclass(frozen=True, slots=True, eq=False)
class QualityShift:
    """How a picture's quality moves its vector: ``weights`` (FEATURES, dim), from ``usual`` (FEATURES,) quality."""

    weights: Float32
    usual: Floats

    def __post_init__(self) -> None:
        if self.weights.ndim != 2 or self.weights.shape[0] != FEATURES or self.usual.shape != (FEATURES,):
            raise InputError(
                f"what quality does is {FEATURES} rows of weights and as many numbers of what is usual, "
                f"got {self.weights.shape} and {self.usual.shape}"
            )
        object.__setattr__(self, "weights", _as_kept(self.weights))

    @classmethod
    def learn(
        cls, clean: Float32, of_clean: Sequence[Quality], degraded: Float32, of_degraded: Sequence[Quality]
    ) -> QualityShift:
        """Learn from (N, dim) vectors of pictures and (N, R, dim) of R degraded copies of each, by ridge regression.

        ``of_degraded`` has N x R qualities, those of the first picture first.
        """
        count, copies, dim = degraded.shape
        before = responses(of_clean)
        after = responses(of_degraded).reshape(count, copies, FEATURES)
        x = (after - before[:, None]).reshape(-1, FEATURES)
        y = (degraded - clean[:, None]).reshape(-1, dim).astype(np.float64)
        weights = np.linalg.solve(x.T @ x + _RIDGE * np.eye(FEATURES), x.T @ y)
        return cls(weights.astype(np.float32), before.mean(axis=0))

    def taken_off(self, vectors: Float32, qualities: Sequence[Quality]) -> Float32:
        """Return (N, dim) unit vectors as pictures of usual quality would have them."""
        return _unit(vectors - ((responses(qualities) - self.usual) @ self.weights).astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """The cohort: (C, dim) unit vectors with a label each (None: not known), and what quality does, if it was learned.

    The vectors are already of usual quality: :meth:`QualityShift.taken_off` was applied to them. ``usual`` says how
    noisy and soft the gallery's pictures are: worse ones are restored before they are embedded. ``keys`` are
    those of the vectors as they came (:func:`keys_of`): stored items, whose quality is not known, are recognized by it.
    ``offsets`` (FEATURES,) by metric is what quality adds to closeness above the levels (:func:`offset_of`).
    """

    vectors: Float32
    labels: tuple[str | None, ...]
    shift: QualityShift | None = None
    usual: Usual | None = None
    keys: Float32 | None = None
    offsets: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.labels) or not len(self.vectors):
            raise InputError(
                f"a background is at least one vector with a label each, got {self.vectors.shape} vectors and "
                f"{len(self.labels)} labels"
            )
        dim = self.vectors.shape[1]
        if self.shift is not None and self.shift.weights.shape[1] != dim:
            raise InputError(f"a background of {dim} dimensions got weights of {self.shift.weights.shape[1]}")
        if self.keys is not None and self.keys.shape != keys_of(self.vectors).shape:
            raise InputError(f"{len(self.vectors)} vectors of {dim} dimensions got keys of shape {self.keys.shape}")
        for metric, offset in self.offsets.items():
            if self.shift is None or offset.shape != (FEATURES,):
                raise InputError(f"the offset of {metric} is {FEATURES} numbers beside what quality does")
        object.__setattr__(self, "vectors", _unit(_as_kept(self.vectors)))

    def corrected(self, vectors: Float32, qualities: Sequence[Quality | None]) -> Float32:
        """Return (N, dim) unit vectors with what their quality did taken off; unknown quality counts as usual."""
        known = [row for row, quality in enumerate(qualities) if quality is not None]
        if self.shift is None or not known:
            return vectors
        out = vectors.copy()
        out[known] = self.shift.taken_off(vectors[known], [q for q in qualities if q is not None])
        return out

    def offset(self, metric: str, qualities: Sequence[Quality | None]) -> Floats:
        """Return (N,) how much closer to strangers their quality makes pictures seem; unknown quality counts as usual.

        It is what is left of it after correcting, above the levels.
        """
        offsets = np.zeros(len(qualities))
        known = [row for row, quality in enumerate(qualities) if quality is not None]
        if metric in self.offsets and self.shift is not None and known:
            moved = responses([q for q in qualities if q is not None]) - self.shift.usual
            offsets[known] = moved @ self.offsets[metric]
        return offsets

    def levels(self, metric: Metric, vectors: Float32, without: Sequence[str | None] = ()) -> Floats:
        """Return (N,) the mean closeness of the nearest of the cohort, leaving out those labelled ``without[i]``.

        A vector of the cohort itself is left out too: it is no stranger to itself.
        """
        strangers = self.strangers(metric, vectors, self.like(vectors, without))
        return means_of_nearest(-np.sort(-strangers, axis=1))

    def levels_against(
        self,
        metric: Metric,
        vectors: Float32,
        others: Sequence[str | None],
        own: Sequence[str | None] = (),
        beside: Float32 | None = None,
    ) -> Floats:
        """Return (N, M): the level of picture i, leaving out those labelled as what it is compared with, ``others[j]``.

        And, where it is known, those labelled as itself, ``own[i]``. A decision knows the label of the item that a
        picture is compared with, and a calibration both: were the like of j kept in when the level of i is taken, pairs
        of known labels would seem further above it than pairs of unknown ones are. ``beside`` (M, dim) are the vectors
        of the others: one of the cohort is recognized without a label.
        """
        of_others = self._labelled(others) if beside is None else self.like(beside, others)
        return self.levels_apart(metric, vectors, self.like(vectors, own), of_others)

    def levels_apart(self, metric: Metric, vectors: Float32, own: Mask, others: Mask) -> Floats:
        """Return (N, M): the level of picture i, leaving out of the cohort its ``own`` (N, C) and ``others[j]`` (M, C).

        Where nobody were left, others are kept in; where all are its own, that has to do.
        """
        strangers = self.strangers(metric, vectors, own)
        order = np.argsort(-strangers, axis=1, kind="stable")
        ranked = np.take_along_axis(strangers, order, axis=1)
        levels = np.empty((len(vectors), len(others)))
        masks, which = np.unique(others, axis=0, return_inverse=True)
        for kind, mask in enumerate(masks):
            levels[:, which.ravel() == kind] = means_of_nearest(ranked, ~mask[order])[:, None]
        return levels

    def strangers(self, metric: Metric, vectors: Float32, own: Mask) -> Floats:
        """Return (N, C) closeness to the cohort; -inf where ``own`` (N, C) says that one is no stranger."""
        found = closeness(metric, metric.matrix(vectors, self.vectors)).astype(np.float64)
        return np.where(own & ~own.all(axis=1, keepdims=True), -np.inf, found)

    def like(self, vectors: Float32, labels: Sequence[str | None] = ()) -> Mask:
        """Return (N, C): which of the cohort is the very picture, or has its label, given or known by the picture."""
        itself, kinds = self.itself(vectors), self._kinds_of_cohort()
        if not itself.any():
            return self._labelled(labels or (None,) * len(vectors))
        named = self._numbers(labels or (None,) * len(vectors))
        named = np.where((named < 0) & itself.any(axis=1), kinds[itself.argmax(axis=1)], named)
        return np.asarray(itself | (kinds == named[:, None]))

    def _labelled(self, labels: Sequence[str | None]) -> Mask:
        return np.asarray(self._kinds_of_cohort() == self._numbers(labels)[:, None])

    def itself(self, vectors: Float32) -> Mask:
        """Return (N, C): which of the cohort is the very picture, corrected as it is or as it came."""
        itself = vectors @ self.vectors.T >= _SAME_DIRECTION
        if self.keys is not None:
            apart = np.abs(keys_of(vectors)[:, None] - self.keys).max(axis=2)
            itself |= (apart < _SAME_KEY) & self.keys.any(axis=1)
        return np.asarray(itself)

    def _kinds_of_cohort(self) -> Ints:
        """Return (C,) numbers: alike for one label; who has none is a kind of its own."""
        return numbered([row if label is None else label for row, label in enumerate(self.labels)])

    def _numbers(self, labels: Sequence[str | None]) -> Ints:
        """Return (N,) the kind in the cohort that has the label; -1 where there is none."""
        of_label = dict(zip(self.labels, self._kinds_of_cohort().tolist(), strict=True)) | {None: -1}
        return np.array([of_label.get(label, -1) for label in labels], np.int64)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object; vectors are kept as float16."""
        shift = self.shift
        return {
            "vectors": packed(self.vectors),
            "dim": self.vectors.shape[1],
            "labels": list(self.labels),
            "shift": None if shift is None else {"weights": packed(shift.weights), "usual": shift.usual.tolist()},
            "usual": None if self.usual is None else asdict(self.usual),
            "keys": None if self.keys is None else packed(self.keys, "<f4"),
            "offsets": {metric: offset.tolist() for metric, offset in self.offsets.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Background:
        """Return the background of such an object."""
        dim, shift, keys, usual = int(number(data["dim"])), data["shift"], data["keys"], data["usual"]
        if not all(label is None or isinstance(label, str) for label in data["labels"]):
            raise InputError("a label in the background is no text")
        return cls(
            unpacked(data["vectors"], dim),
            tuple(data["labels"]),
            None if shift is None else QualityShift(unpacked(shift["weights"], dim), numbers(shift["usual"])),
            None if usual is None else Usual(**by_name(usual)),
            None if keys is None else unpacked(keys, keys_of(np.zeros((1, dim), np.float32)).shape[1], "<f4"),
            {str(metric): numbers(offset) for metric, offset in data["offsets"].items()},
        )


def offset_of(
    background: Background, metric: Metric, vectors: Float32, qualities: Sequence[Quality], own: Mask, alike: Mask
) -> Floats:
    """Return (FEATURES,) how much closer to strangers than the picture itself its degraded copies seem, by quality.

    ``vectors`` (N, R + 1, dim) are corrected, the first of each as it was, with N x (R + 1) qualities. ``own`` (N, C)
    says who of the cohort is of its unit, ``alike`` who shows the same: neither are strangers, but only the one is
    known to a decision. How close strangers come is the mean of the nearest 2 %, above the levels.
    """
    count, copies, dim = vectors.shape
    flat, own = vectors.reshape(-1, dim), np.repeat(own, copies, axis=0)
    kinds = background.like(background.vectors, background.labels)
    above = background.strangers(metric, flat, own | np.repeat(alike, copies, axis=0))
    above -= background.levels_apart(metric, flat, own, kinds) / 2
    above -= background.levels(metric, background.vectors, background.labels) / 2
    tails = means_of_nearest(-np.sort(-above, axis=1), share=_TAIL).reshape(count, copies)
    quality = responses(qualities).reshape(count, copies, FEATURES)
    x = (quality[:, 1:] - quality[:, :1]).reshape(-1, FEATURES)
    y = (tails[:, 1:] - tails[:, :1]).ravel()
    return np.asarray(np.linalg.solve(x.T @ x + _RIDGE_OF_OFFSETS * np.eye(FEATURES), x.T @ y))


def means_of_nearest(ranked: Floats, counted: Mask | None = None, share: float = NEAREST) -> Floats:
    """Return (N,) the mean of the nearest of each row of (N, C), which falls; of all where none is ``counted``.

    The nearest are a share of those that count, not a number, so that leaving some out does not lower the mean.
    """
    alive = np.isfinite(ranked)
    if counted is not None:
        alive = np.where((alive & counted).any(axis=1, keepdims=True), alive & counted, alive)
    place = np.cumsum(alive, axis=1)
    wanted = np.maximum(1, np.rint(share * place[:, -1:]))
    nearest = alive & (place <= wanted)
    return np.asarray(np.where(nearest, ranked, 0.0).sum(axis=1) / nearest.sum(axis=1))


def keys_of(vectors: Float32) -> Float32:
    """Return (N, up to 32) sums of neighbouring entries: few numbers by which a vector is recognized."""
    dim = vectors.shape[1]
    return np.asarray(np.add.reduceat(vectors, np.arange(0, dim, -(-dim // _KEY)), axis=1))


def packed(values: Float32, kind: str = "<f2") -> str:
    """Return (N, dim) numbers as text: base64 of little-endian float16, or of another ``kind``."""
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def unpacked(text: str, dim: int, kind: str = "<f2") -> Float32:
    """Return the (N, dim) float32 of such text; raise InputError where one is no number."""
    values = np.frombuffer(base64.b64decode(text, validate=True), kind).reshape(-1, dim).astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError("a packed number is NaN or infinite")
    return values


def _as_kept(values: Float32) -> Float32:
    return unpacked(packed(values), values.shape[1])


def _unit(vectors: Float32) -> Float32:
    """Return the vectors at length 1; a vector of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
