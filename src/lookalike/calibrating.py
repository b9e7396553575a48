"""Pictures with labels, or in pairs, or alone with edited copies of themselves -> a calibration of one encoder."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lookalike import registry
from lookalike.calibration.alarms import AlarmTable
from lookalike.calibration.background import LARGEST_COHORT, Background, QualityShift
from lookalike.calibration.calibration import Calibration
from lookalike.calibration.fitting import Fit, fit_from, table_of
from lookalike.calibration.fusion import Fusion, fusion_of, learn
from lookalike.calibration.pairs import Floats, Ints, ScoredPairs, closeness, drawn
from lookalike.calibration.rates import RateTable
from lookalike.deciding import METRICS
from lookalike.edits import random_copy, random_degradation
from lookalike.errors import InputError
from lookalike.images import read
from lookalike.pipeline import in_parallel, reason_of
from lookalike.protocols import Encoder
from lookalike.quality import measure, reduced
from lookalike.restoration import restored, usual_of
from lookalike.types import Embeddings, Image, Quality, Skipped, Space

Progress = Callable[[int], None]
Mask = NDArray[np.bool_]
Matrices = Mapping[str, Floats]
T = TypeVar("T")

_DEGRADED_PICTURES = 96
_DEGRADATIONS_EACH = 12


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """N pictures that could be read: their names, vectors and qualities; and what was left out."""

    names: tuple[str, ...]
    embeddings: Embeddings
    qualities: tuple[Quality, ...]
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What a calibration is made of: N unit vectors, who is a stranger to whom, and who shows the same thing.

    ``impostor`` and ``genuine`` are (N, N) and symmetric; ``units`` (N,) says who belongs together; ``labels`` is what
    each shows, where that is known; ``alarmed`` (N,) which of them stand for queries.
    """

    embeddings: Embeddings
    qualities: tuple[Quality | None, ...]
    impostor: Mask
    genuine: Mask
    units: Ints
    labels: tuple[str | None, ...]
    alarmed: Mask

    def only(self, rows: Ints) -> Sample:
        """Return the sample of some of the pictures."""
        vectors = Embeddings(self.embeddings.vectors[rows], self.embeddings.norms[rows], self.embeddings.space)
        both = np.ix_(rows, rows)
        return Sample(
            vectors,
            tuple(self.qualities[row] for row in rows),
            self.impostor[both],
            self.genuine[both],
            self.units[rows],
            tuple(self.labels[row] for row in rows),
            self.alarmed[rows],
        )


def look_at(sources: Sequence[tuple[str, str]], encoder: Encoder, progress: Progress) -> Pictures:
    """Read, embed and measure pictures (name, path) on every core; one that cannot be read is skipped."""

    def work(source: tuple[str, str]) -> tuple[str, Embeddings, Quality] | Skipped:
        name, path = source
        try:
            image = read(path, encoder.at_least)
            return name, encoder.encode([image]), measure(image)
        except InputError as error:
            return Skipped(path, reason_of(error))

    good, skipped = [], []
    for outcome in in_parallel(work, sources):
        progress(1)
        if isinstance(outcome, Skipped):
            skipped.append(outcome)
        elif outcome[2].problem:
            skipped.append(Skipped(outcome[0], f"it cannot be judged: {outcome[2].problem}"))
        else:
            good.append(outcome)
    if not good:
        raise InputError(f"no picture to calibrate on{': ' + skipped[0].reason if skipped else ''}")
    names, vectors, qualities = zip(*good, strict=True)
    return Pictures(names, Embeddings.concatenate(vectors), qualities, tuple(skipped))


def copies_of(
    sources: Sequence[tuple[str, str]], encoder: Encoder, seed: int, progress: Progress
) -> list[Embeddings | None]:
    """Return the embedding of one edited copy of each picture (name, path); None where it cannot be read."""

    def work(numbered: tuple[int, tuple[str, str]]) -> Embeddings | None:
        number, (_, path) = numbered
        try:
            pixels = reduced(read(path, encoder.at_least))
        except InputError:
            return None
        copy, _ = random_copy(pixels, np.random.default_rng([seed, number]))
        return encoder.encode([Image(copy, (copy.shape[1], copy.shape[0]))])

    return list(_counted(in_parallel(work, enumerate(sources)), progress))


def background_of(
    pictures: Pictures,
    paths: Sequence[str],
    units: Ints,
    labels: Sequence[str | None],
    encoder: Encoder,
    progress: Progress,
    seed: int = 0,
) -> Background:
    """Return what thresholds adapt by: a cohort of these pictures, and what degrading some of them does."""
    rng = np.random.default_rng(seed)
    usual = usual_of(pictures.qualities)
    cohort = _spread_over(units, LARGEST_COHORT, rng)
    chosen = _spread_over(units, _DEGRADED_PICTURES, rng)

    def work(row: int) -> list[tuple[Embeddings, Quality]]:
        image = read(paths[row], encoder.at_least)
        small = Image(reduced(image), image.size)
        own = np.random.default_rng([seed, row])
        variants = [small.pixels] + [random_degradation(small.pixels, own)[0] for _ in range(_DEGRADATIONS_EACH)]
        seen = []
        for pixels in variants:
            changed = Image(pixels, (pixels.shape[1], pixels.shape[0]))
            quality = measure(changed)
            seen.append((encoder.encode([restored(changed, quality, usual)]), quality))
        return seen

    found = list(_counted(in_parallel(work, chosen.tolist()), progress))
    vectors = np.stack([np.concatenate([e.vectors for e, _ in seen]) for seen in found])
    shift = QualityShift.learn(
        vectors[:, 0],
        [seen[0][1] for seen in found],
        vectors[:, 1:],
        [quality for seen in found for _, quality in seen[1:]],
    )
    corrected = shift.taken_off(pictures.embeddings.vectors[cohort], [pictures.qualities[row] for row in cohort])
    return Background(corrected, tuple(labels[row] for row in cohort), shift, usual)


def adapted(sample: Sample, background: Background | None, metrics: Sequence[str] = METRICS) -> dict[str, Floats]:
    """Return by metric the (N, N) closeness of all pairs; with a background that above the mean level of the two."""
    plain = sample.embeddings.vectors
    vectors = plain if background is None else background.corrected(plain, sample.qualities)
    matrices = {}
    for name in metrics:
        metric = registry.metric(name)
        found = closeness(metric, metric.matrix(vectors, vectors)).astype(np.float64)
        if background is not None:
            levels = background.levels(metric, vectors, sample.labels)
            found -= (levels[:, None] + levels[None]) / 2
        matrices[name] = found
    return matrices


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a calibration is to be: its target rate per pair, and which metric (or fusion) decides."""

    target: float
    decides: str = METRICS[0]
    source: str = "pictures"
    fusions: tuple[str, ...] = ("learned", "all_of", "any_of", "weighted")
    weights: Mapping[str, float] = field(default_factory=dict)


def calibration_of(sample: Sample, background: Background | None, wanted: Wanted, space: Space) -> Calibration:
    """Return the calibration that this sample gives; raise InputError where it cannot support the target."""
    sample = sample.only(drawn(sample.units))
    matrices = adapted(sample, background)
    fits, fusions = fit_all(sample, matrices, wanted)
    combined = {name: fusion.combine(matrices) for name, fusion in fusions.items()}
    alarms = {name: _alarms(sample, matrix) for name, matrix in {**matrices, **combined}.items()}
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Calibration(space, wanted.decides, fits, alarms, wanted.source, now, fusions, background)


def fit_all(sample: Sample, matrices: Matrices, wanted: Wanted) -> tuple[dict[str, Fit], dict[str, Fusion]]:
    """Return the fit of every metric and of every fusion that the sample allows, and the fusions."""
    tables = {name: table_of(_pairs(sample, matrix, sample.impostor)) for name, matrix in matrices.items()}
    fits = {name: _fit(sample, matrices[name], tables[name], wanted.target) for name in matrices}
    fusions = {name: _fusion(name, sample, matrices, tables, wanted) for name in wanted.fusions}
    made = {name: fusion for name, fusion in fusions.items() if fusion is not None}
    for name, fusion in made.items():
        combined = fusion.combine(matrices)
        fits[name] = _fit(sample, combined, table_of(_pairs(sample, combined, sample.impostor)), wanted.target)
    return fits, made


def _fusion(
    name: str, sample: Sample, matrices: Matrices, tables: Mapping[str, RateTable], wanted: Wanted
) -> Fusion | None:
    if name != "learned":
        return fusion_of(name, tables, [wanted.weights.get(metric, 1.0) for metric in tables])
    same, different = np.triu(sample.genuine, 1), np.triu(sample.impostor, 1)
    if not same.any():
        return None
    return learn({m: x[different] for m, x in matrices.items()}, {m: x[same] for m, x in matrices.items()})


def _fit(sample: Sample, matrix: Floats, table: RateTable, target: float) -> Fit:
    genuine = _pairs(sample, matrix, sample.genuine)
    return fit_from(_pairs(sample, matrix, sample.impostor), genuine if len(genuine) else None, table, target)


def _pairs(sample: Sample, matrix: Floats, mask: Mask) -> ScoredPairs:
    return ScoredPairs.of_matrix(matrix, mask, sample.units)


def _alarms(sample: Sample, matrix: Floats) -> AlarmTable:
    rows = np.flatnonzero(sample.alarmed)
    return AlarmTable.of_matrix(matrix[rows], sample.impostor[rows] & sample.alarmed[None], sample.units[rows])


def _spread_over(units: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Return at most ``count`` row numbers by lot, ascending, taken from the units in turn, so that all are there."""
    order = rng.permutation(len(units))
    turn = np.empty(len(units), np.int64)
    seen: dict[int, int] = {}
    for row in order.tolist():
        turn[row] = seen.get(int(units[row]), 0)
        seen[int(units[row])] = int(turn[row]) + 1
    return np.sort(order[np.argsort(turn[order], kind="stable")][:count])


def _counted(outcomes: Iterable[T], progress: Progress) -> Iterable[T]:
    for outcome in outcomes:
        progress(1)
        yield outcome
