"""Pictures -> scores by every metric, and what their own level and quality add to them: what a policy decides from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lookalike import registry
from lookalike.calibration import Calibration
from lookalike.calibration.background import Background
from lookalike.calibration.pairs import Floats, closeness
from lookalike.protocols import Encoder
from lookalike.quality import measure
from lookalike.restoration import excess, restored
from lookalike.types import Context, Embeddings, Float32, Image, Quality

METRICS = ("cosine", "euclidean", "manhattan")
"""The metrics of vectors that are calibrated together, the first deciding where nothing else is said."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """N pictures as they are compared.

    ``embeddings`` are of the pictures as they are, ``corrected`` (N, dim) the unit vectors that they would have at the
    usual quality; the same where nothing is known of quality. ``labels`` say what is known of them.
    """

    embeddings: Embeddings
    corrected: Float32
    qualities: tuple[Quality | None, ...]
    labels: tuple[str | None, ...]

    @classmethod
    def stored(cls, embeddings: Embeddings, labels: Sequence[str | None]) -> Seen:
        """Return items of a gallery, which are taken to be of usual quality."""
        return cls(embeddings, embeddings.vectors, (None,) * len(embeddings), tuple(labels))


def look(image: Image, encoder: Encoder, background: Background | None, label: str | None = None) -> Seen:
    """Embed one picture and measure its quality; one much noisier or softer than is usual is restored first."""
    quality = measure(image)
    plain = encoder.encode([image])
    if background is None:
        return Seen(plain, plain.vectors, (quality,), (label,))
    vectors = plain.vectors
    if background.usual is not None and any(excess(quality, background.usual)):
        vectors = encoder.encode([restored(image, quality, background.usual)]).vectors
    return Seen(plain, background.corrected(vectors, [quality]), (quality,), (label,))


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """By metric and fusion, of one picture against N: ``scores`` (N,) in the metric's units, ``shifts`` (N,).

    closeness - shift is what was calibrated: without a background the shift is 0.
    """

    scores: Mapping[str, Floats]
    shifts: Mapping[str, Floats]

    def of(self, row: int) -> dict[str, float]:
        """Return the scores of one of the N."""
        return {name: float(values[row]) for name, values in self.scores.items()}

    def context(self, row: int, problems: Sequence[str] = (), items: int | None = None) -> Context:
        """Return what a policy has to know besides the scores of one of the N."""
        shifts = {name: float(values[row]) for name, values in self.shifts.items()}
        return Context(shifts, tuple(problems), items)

    def calibrated(self, name: str) -> Floats:
        """Return (N,) the closeness that was calibrated."""
        values = self.scores[name]
        rising = closeness(registry.metric(name), values) if name in registry.names("metric") else values
        return np.asarray(rising - self.shifts[name])


def scores_of(one: Seen, others: Seen, calibration: Calibration | None, metrics: Sequence[str] = METRICS) -> Scores:
    """Score one picture against N others by all ``metrics``, and by the fusions of the calibration."""
    background = calibration.background if calibration is not None else None
    scores: dict[str, Floats] = {}
    adapted: dict[str, Floats] = {}
    shifts: dict[str, Floats] = {}
    for name in metrics:
        metric = registry.metric(name)
        scores[name] = metric.matrix(one.embeddings.vectors, others.embeddings.vectors)[0].astype(np.float64)
        plain = closeness(metric, scores[name])
        adapted[name] = plain if background is None else above_levels(name, one, others, background)[0]
        shifts[name] = plain - adapted[name]
    for name, fusion in (calibration.fusions if calibration is not None else {}).items():
        if set(fusion.metrics) <= set(metrics):
            scores[name] = fusion.combine(adapted)
            shifts[name] = np.zeros(len(scores[name]))
    return Scores(scores, shifts)


def above_levels(name: str, ones: Seen, others: Seen, background: Background) -> Floats:
    """Return (N, M) how much closer each pair is than the mean level of the two, what quality adds taken off."""
    metric = registry.metric(name)
    found = closeness(metric, metric.matrix(ones.corrected, others.corrected)).astype(np.float64)
    # Neither is measured against pictures of what the other is said to show: those are no strangers if it is a match.
    like_ones = background.like(ones.corrected, ones.labels)
    like_others = background.like(others.corrected, others.labels)
    found -= background.levels_apart(metric, ones.corrected, like_ones, like_others) / 2
    found -= background.levels_apart(metric, others.corrected, like_others, like_ones).T / 2
    found -= background.offset(name, ones.qualities)[:, None] + background.offset(name, others.qualities)
    return np.asarray(found)
