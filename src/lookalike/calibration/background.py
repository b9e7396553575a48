"""What makes a threshold adapt to the pictures at hand: what they score against strangers, and what their quality does.

A picture's *level* is the mean closeness of the strangers nearest to it, 20 of a cohort of 256 of the gallery's own
pictures (T-norm takes the mean of the whole cohort: Auckenthaler et al. 2000). A blurred or dark picture, or one of a
kind that everything resembles, has another level than a sharp one of something rare; what counts is how far a pair is
above it.

A bad picture is also moved as a whole: noise moves all pictures' vectors in about the same direction. How far and where
is learned from the gallery's own pictures, degraded, against their measured quality (:class:`QualityShift`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.pairs import Floats, closeness, numbered
from lookalike.errors import InputError
from lookalike.protocols import Metric
from lookalike.types import Float32, Quality, Usual

NEAREST = 0.08
"""Which share of the cohort makes the level, the nearest: the strangers that could be taken for the thing itself."""
LARGEST_COHORT = 256
_RIDGE = 3.0
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
        moved = vectors - ((responses(qualities) - self.usual) @ self.weights).astype(np.float32)
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        return np.asarray(moved / np.where(lengths > 0, lengths, 1), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """The cohort: (C, dim) unit vectors with a label each (None: not known), and what quality does, if it was learned.

    The vectors are already of usual quality: :meth:`QualityShift.taken_off` was applied to them. ``usual`` says how
    noisy and soft the gallery's pictures are: worse ones are restored before they are embedded.
    """

    vectors: Float32
    labels: tuple[str | None, ...]
    shift: QualityShift | None = None
    usual: Usual | None = None

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.labels) or not len(self.vectors):
            raise InputError(
                f"a background is at least one vector with a label each, got {self.vectors.shape} vectors and "
                f"{len(self.labels)} labels"
            )

    def corrected(self, vectors: Float32, qualities: Sequence[Quality | None]) -> Float32:
        """Return (N, dim) unit vectors with what their quality did taken off; unknown quality counts as usual."""
        known = [row for row, quality in enumerate(qualities) if quality is not None]
        if self.shift is None or not known:
            return vectors
        out = vectors.copy()
        out[known] = self.shift.taken_off(vectors[known], [q for q in qualities if q is not None])
        return out

    def levels(self, metric: Metric, vectors: Float32, without: Sequence[str | None] = ()) -> Floats:
        """Return (N,) the mean closeness of the nearest of the cohort, leaving out those labelled ``without[i]``.

        A vector of the cohort itself is left out too: it is no stranger to itself.
        """
        return _means_of_nearest(-np.sort(-self._strangers(metric, vectors, without), axis=1))

    def levels_against(
        self, metric: Metric, vectors: Float32, others: Sequence[str | None], own: Sequence[str | None] = ()
    ) -> Floats:
        """Return (N, M): the level of picture i, leaving out those labelled as what it is compared with, ``others[j]``.

        And, where it is known, those labelled as itself, ``own[i]``. A decision knows the label of the item that a
        picture is compared with, and a calibration both: were the like of j kept in when the level of i is taken, pairs
        of known labels would seem further above it than pairs of unknown ones are.
        """
        strangers = self._strangers(metric, vectors, own)
        order = np.argsort(-strangers, axis=1, kind="stable")
        ranked = np.take_along_axis(strangers, order, axis=1)
        labels = numbered(self.labels)[order]
        levels = np.repeat(_means_of_nearest(ranked)[:, None], len(others), axis=1)
        number = {label: row for row, label in enumerate(dict.fromkeys(self.labels))}
        of_others = np.array([number.get(label, -1) if label is not None else -1 for label in others])
        for label in np.unique(of_others[of_others >= 0]):
            levels[:, of_others == label] = _means_of_nearest(ranked, labels != label)[:, None]
        return levels

    def _strangers(self, metric: Metric, vectors: Float32, without: Sequence[str | None]) -> Floats:
        """Return (N, C) closeness to the cohort; -inf where that is the picture itself or has its label."""
        found = closeness(metric, metric.matrix(vectors, self.vectors)).astype(np.float64)
        found[self._known(vectors, without)] = -np.inf
        return np.asarray(found)

    def _known(self, vectors: Float32, without: Sequence[str | None]) -> NDArray[np.bool_]:
        itself = vectors @ self.vectors.T >= 1 - 1e-5
        if not without:
            return np.asarray(itself)
        own = np.array(self.labels, object)
        same = np.array([(own == label) if label is not None else np.zeros(len(own), bool) for label in without])
        return np.asarray(itself | same.astype(bool))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object; vectors are kept as float16."""
        return {
            "vectors": packed(self.vectors),
            "dim": self.vectors.shape[1],
            "labels": list(self.labels),
            "shift": None
            if self.shift is None
            else {"weights": packed(self.shift.weights), "usual": self.shift.usual.tolist()},
            "usual": None if self.usual is None else asdict(self.usual),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Background:
        """Return the background of such an object."""
        dim, shift = int(data["dim"]), data["shift"]
        learned = None
        if shift is not None:
            learned = QualityShift(unpacked(shift["weights"], dim), np.asarray(shift["usual"], np.float64))
        usual = None if data["usual"] is None else Usual(**data["usual"])
        return cls(unpacked(data["vectors"], dim), tuple(data["labels"]), learned, usual)


def _means_of_nearest(ranked: Floats, counted: NDArray[np.bool_] | None = None) -> Floats:
    """Return (N,) the mean of the nearest of each row of (N, C), which falls; where a row has none, the others' median.

    The nearest are a share of those that count, not a number, so that leaving some out does not lower the mean.
    """
    alive = np.isfinite(ranked) if counted is None else counted & np.isfinite(ranked)
    place = np.cumsum(alive, axis=1)
    wanted = np.maximum(1, np.rint(NEAREST * place[:, -1:]))
    nearest = alive & (place <= wanted)
    totals = np.where(nearest, ranked, 0.0).sum(axis=1)
    numbers = nearest.sum(axis=1)
    levels = totals / np.maximum(1, numbers)
    alone = numbers == 0  # all of the cohort is of its own kind
    levels[alone] = np.median(levels[~alone]) if (~alone).any() else 0.0
    return np.asarray(levels)


def packed(values: Float32) -> str:
    """Return (N, dim) numbers as text: base64 of little-endian float16."""
    return base64.b64encode(np.ascontiguousarray(values, "<f2").tobytes()).decode()


def unpacked(text: str, dim: int) -> Float32:
    """Return the (N, dim) float32 of such text."""
    return np.frombuffer(base64.b64decode(text), "<f2").reshape(-1, dim).astype(np.float32)
