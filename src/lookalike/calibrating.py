"""Pictures with labels, or in pairs, or alone with edited copies of themselves -> a calibration of one encoder."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lookalike import registry
from lookalike.calibration.alarms import AlarmTable
from lookalike.calibration.background import LARGEST_COHORT, Background, Mask, QualityShift, keys_of, offset_of
from lookalike.calibration.calibration import Calibration
from lookalike.calibration.fitting import Fit, fit_from, table_of
from lookalike.calibration.fusion import Fusion, fusion_of, learn
from lookalike.calibration.pairs import Floats, Ints, ScoredPairs, closeness, drawn
from lookalike.calibration.rates import RateTable
from lookalike.deciding import METRICS
from lookalike.edits import random_copy, random_degradation
from lookalike.errors import InputError
from lookalike.images import read, read_bytes
from lookalike.pipeline import contents_of, in_parallel, reason_of
from lookalike.protocols import Encoder
from lookalike.quality import measure, reduced
from lookalike.restoration import restored, usual_of
from lookalike.types import Embeddings, Float32, Image, Quality, Skipped, Space

Progress = Callable[[int], None]
Matrices = Mapping[str, Floats]
T = TypeVar("T")

_DEGRADED_PICTURES = 96
_DEGRADATIONS_EACH = 12


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """N pictures that could be read: names, vectors, qualities and the sha256 of the files; and what was left out."""

    names: tuple[str, ...]
    embeddings: Embeddings
    qualities: tuple[Quality, ...]
    contents: tuple[str, ...]
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

    def work(source: tuple[str, str]) -> tuple[str, Embeddings, Quality, str] | Skipped:
        name, path = source
        try:
            file = contents_of(path)
            image = read_bytes(file.data, path, encoder.at_least)
        except InputError as error:
            return Skipped(path, reason_of(error))
        quality = measure(image)
        if quality.problem:
            return Skipped(path, f"it cannot be judged: it is {quality.problem}")
        return name, encoder.encode([image]), quality, file.sha256

    found = list(_counted(in_parallel(work, sources), progress))
    skipped = tuple(one for one in found if isinstance(one, Skipped))
    good = [one for one in found if not isinstance(one, Skipped)]
    if not good:
        raise InputError(f"no picture to calibrate on{f': {skipped[0].path}: {skipped[0].reason}' if skipped else ''}")
    names, vectors, qualities, contents = zip(*good, strict=True)
    return Pictures(names, Embeddings.concatenate(vectors), qualities, contents, skipped)


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

    def work(row: int) -> list[tuple[Embeddings, Quality]] | None:
        try:
            image = read(paths[row], encoder.at_least)
        except InputError:  # it was there when it was looked at
            return None
        small = Image(reduced(image), image.size)
        own = np.random.default_rng([seed, row])
        variants = [small.pixels] + [random_degradation(small.pixels, own)[0] for _ in range(_DEGRADATIONS_EACH)]
        seen = []
        for pixels in variants:
            changed = Image(pixels, (pixels.shape[1], pixels.shape[0]))
            quality = measure(changed)
            seen.append((encoder.encode([restored(changed, quality, usual)]), quality))
        return seen

    seen = zip(chosen.tolist(), _counted(in_parallel(work, chosen.tolist()), progress), strict=True)
    found = {row: variants for row, variants in seen if variants is not None}
    if not found:
        raise InputError("the pictures vanished while they were looked at")
    vectors = np.stack([np.concatenate([e.vectors for e, _ in variants]) for variants in found.values()])
    qualities = [[quality for _, quality in variants] for variants in found.values()]
    shift = QualityShift.learn(
        vectors[:, 0], [many[0] for many in qualities], vectors[:, 1:], [one for many in qualities for one in many[1:]]
    )
    corrected = shift.taken_off(pictures.embeddings.vectors[cohort], [pictures.qualities[row] for row in cohort])
    keys = keys_of(pictures.embeddings.vectors[cohort])
    background = Background(corrected, tuple(labels[row] for row in cohort), shift, usual, keys)
    rows = np.array(list(found))
    own = units[rows, None] == units[cohort]
    alike = background.like(pictures.embeddings.vectors[rows], [labels[row] for row in rows])
    return with_offsets(background, vectors, [one for many in qualities for one in many], own, alike)


def with_offsets(
    background: Background, vectors: Float32, qualities: Sequence[Quality], own: Mask, alike: Mask
) -> Background:
    """Return the background with what is left of quality in the scores, as :func:`offset_of` learns it.

    ``vectors`` (N, R + 1, dim) are as they came, of pictures and R degraded copies of each.
    """
    corrected = background.corrected(vectors.reshape(-1, vectors.shape[2]), qualities).reshape(vectors.shape)
    metrics = {name: registry.metric(name) for name in METRICS}
    found = in_parallel(lambda one: offset_of(background, one, corrected, qualities, own, alike), metrics.values())
    return replace(background, offsets=dict(zip(metrics, found, strict=True)))


def adapted(sample: Sample, background: Background | None, metrics: Sequence[str] = METRICS) -> dict[str, Floats]:
    """Return by metric the (N, N) closeness of picture i, a query of unknown label, to item j of a gallery.

    With a background that above the mean level of the two, as :func:`lookalike.deciding.above_levels` takes it: the
    query is corrected by its quality, the item is as it is stored, and its label is known. Other units are what will
    be met, so the cohort's of a query's unit are left out (with labels of no other groups, those of its label).
    """
    plain = sample.embeddings.vectors
    if background is None:
        return {name: _closeness(name, plain, plain) for name in metrics}
    vectors = background.corrected(plain, sample.qualities)
    own, like = _of_unit(sample, background), background.like(plain, sample.labels)
    matrices = {}
    for name in metrics:
        found, metric = _closeness(name, vectors, plain), registry.metric(name)
        found -= background.levels_apart(metric, vectors, own, like) / 2
        found -= background.levels_apart(metric, plain, like, own).T / 2
        matrices[name] = found - background.offset(name, sample.qualities)[:, None]
    return matrices


def either_way(matrix: Floats) -> Floats:
    """Return (N, N) symmetric: of i as query and j as item, and of the reverse, the one or the other, half of each."""
    rows = np.arange(len(matrix))
    forth = (rows[:, None] + rows + (rows[:, None] > rows)) % 2 == 0
    return np.where(forth, matrix, matrix.T)


def _closeness(name: str, a: NDArray[np.float32], b: NDArray[np.float32]) -> Floats:
    metric = registry.metric(name)
    return closeness(metric, metric.matrix(a, b)).astype(np.float64)


def _of_unit(sample: Sample, background: Background) -> Mask:
    """Return (N, C) who of the cohort belongs to the unit of each picture."""
    itself = background.itself(sample.embeddings.vectors)
    units = np.where(itself.any(axis=0), sample.units[itself.argmax(axis=0)], -1)
    return np.asarray(units == sample.units[:, None])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a calibration is to be: its target rate per pair, and which metric (or fusion) decides."""

    target: float
    decides: str = METRICS[0]
    source: str = "pictures"
    fusions: tuple[str, ...] = ("learned", "all_of", "any_of", "weighted")
    weights: Mapping[str, float] = field(default_factory=dict)


def calibration_of(sample: Sample, background: Background | None, wanted: Wanted, space: Space) -> Calibration:
    """Return the calibration that this sample gives; raise InputError where it cannot support the target.

    A metric or fusion that does not decide, and for which it cannot, is left out.
    """
    sample = sample.only(drawn(sample.units))
    matrices = adapted(sample, background)
    fits, fusions = fit_all(sample, {name: either_way(matrix) for name, matrix in matrices.items()}, wanted)
    combined = {name: fusion.combine(matrices) for name, fusion in fusions.items()}
    alarms = {name: _alarms(sample, matrix) for name, matrix in {**matrices, **combined}.items() if name in fits}
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Calibration(space, wanted.decides, fits, alarms, wanted.source, now, fusions, background)


def fit_all(sample: Sample, matrices: Matrices, wanted: Wanted) -> tuple[dict[str, Fit], dict[str, Fusion]]:
    """Return the fit of every metric and fusion for which the sample supports the target, and the fusions."""

    def work(matrix: tuple[str, Floats]) -> tuple[str, RateTable, Fit | InputError]:
        name, of_pairs = matrix
        table, fit = _fitted(sample, of_pairs, wanted.target)
        if name == wanted.decides and isinstance(fit, InputError):
            raise fit
        return name, table, fit

    # On every core: numpy lets go of the interpreter while it sorts and multiplies.
    of_metrics = list(in_parallel(work, matrices.items()))
    fusions = _fusions(sample, matrices, {name: table for name, table, _ in of_metrics}, wanted)
    of_fusions = list(in_parallel(work, ((name, fusion.combine(matrices)) for name, fusion in fusions.items())))
    fits = {name: fit for name, _, fit in (*of_metrics, *of_fusions) if isinstance(fit, Fit)}
    return fits, {name: fusion for name, fusion in fusions.items() if name in fits}


def _fitted(sample: Sample, matrix: Floats, target: float) -> tuple[RateTable, Fit | InputError]:
    """Return the rates of one metric, and its fit, or why these pairs cannot support the target."""
    impostors, genuine = _pairs(sample, matrix, sample.impostor), _pairs(sample, matrix, sample.genuine)
    table = table_of(impostors)
    try:
        return table, fit_from(impostors, genuine if len(genuine) else None, table, target)
    except InputError as error:
        return table, error


def _fusions(sample: Sample, matrices: Matrices, tables: Mapping[str, RateTable], wanted: Wanted) -> dict[str, Fusion]:
    same, different = np.triu(sample.genuine, 1), np.triu(sample.impostor, 1)
    weights = [wanted.weights.get(metric, 1.0) for metric in tables]
    fusions = {name: fusion_of(name, tables, weights) for name in wanted.fusions if name != "learned"}
    if "learned" in wanted.fusions and same.any():
        fusions["learned"] = learn(
            {name: matrix[different] for name, matrix in matrices.items()},
            {name: matrix[same] for name, matrix in matrices.items()},
        )
    elif wanted.decides == "learned":
        raise InputError("a combination is learned from pairs of the same thing too, and there is none")
    return fusions


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
