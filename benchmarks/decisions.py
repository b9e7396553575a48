"""Decisions with stated rates: are they achieved, under bad light too, and what does each part of a decision add?

Every set is split at random into halves by label (scenes by family, blood cells by slide). The first half calibrates,
the second is what is then met. Impostor pairs are of different labels, genuine pairs of the same; what shares a unit
but not a label is neither.

- *Rates*: a threshold for a target false positive rate is set on one half; is the rate on the other half inside the
  stated 95 % interval, how wide is that, and how often is a guaranteed rate broken?
- *Bad light, noise, blur*: queries of the second half are degraded and compared with its pictures as they are. Drift is
  the mean |log2(rate / target)| of the false positive rate, over sets and degradations, at the threshold that passes
  the target rate of the first half's clean pairs. The false negative rate is taken at equal achieved false positive
  rate: each way's threshold is set anew where it gives the target rate on the very pairs; its change against fixed
  thresholds is the mean of the relative changes of all sets and degradations that miss 1 % or more. Strong are noise
  20 and 40, blur 2 and 4.
- *Queries without a match*: the gallery is the first half; queries from the second have no match there. At a false
  alarm rate of 5 % they should return nothing; each picture of the first half, left out in turn, should return a match.
- *Metrics and fusions*: the false negative rate of each at equal achieved rate on the second half.

The ways: *fixed* thresholds on plain scores; *cohort*: above the pictures' level with strangers; *quality*: vectors
corrected, and pictures restored, by measured quality (*shift*: corrected only); *offset*: what quality still adds to
the scores taken off. All together are what lookalike does.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Report, Target, cores, parser, say
from benchmarks.labelled_sets import DEGRADATIONS, STRONG, LabelledSet, available, load
from lookalike import registry
from lookalike.calibrating import Sample, adapted, either_way, with_offsets
from lookalike.calibration.alarms import AlarmTable
from lookalike.calibration.background import LARGEST_COHORT, Background, QualityShift, keys_of
from lookalike.calibration.fitting import fit_from, table_of
from lookalike.calibration.fusion import fusion_of, learn
from lookalike.calibration.pairs import ScoredPairs, closeness
from lookalike.deciding import Seen, above_levels
from lookalike.errors import InputError
from lookalike.policies.gap import cut_at_gap
from lookalike.types import Embeddings, Quality, Space

TARGETS = (0.05, 0.01, 0.001)
METRICS = ("cosine", "euclidean", "manhattan")
WAYS = ("fixed", "cohort", "quality", "cohort + shift", "cohort + quality", "cohort + quality + offset")
ALARMS = 0.05
_DRIFT_TARGET = 0.01
_DEGRADED = 96
_WORTH_CHANGING = 0.01

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


def main() -> None:
    arguments = parser(__doc__, "decisions")
    arguments.add_argument("--splits", type=int, default=100, help="random splits of each set for the rates (100)")
    arguments.add_argument("--sets", nargs="+", choices=available() or None, default=available(), help="which (all)")
    arguments.add_argument("--cache", type=Path, help="a folder in which vectors are kept from run to run")
    options = arguments.parse_args()
    splits, few, at_most = (4, 2, 80) if options.quick else (options.splits, max(4, options.splits // 5), None)
    report = Report("Decisions: are the stated rates achieved?")
    if not options.sets:
        report.text("No labelled set is at hand (../shared/data); nothing was measured.")
        return report.print()
    encoder = registry.encoder(registry.DEFAULT_ENCODER)
    sets = [load(name, encoder, at_most=at_most, cache=options.cache) for name in options.sets]
    _rates_section(report, sets, splits)
    _degraded_section(report, sets, few)
    _unmatched_section(report, sets, few)
    _metrics_section(report, sets, few)
    return report.print()


# The ways of scoring


@dataclass(frozen=True)
class Scorer:
    """How vectors become closeness: with which parts of the background."""

    background: Background | None = None
    cohort: bool = False
    restored: bool = False

    def seen(self, vectors: NDArray[np.float32], qualities: Sequence[Any]) -> Seen:
        """Return queries of unknown label."""
        corrected = vectors if self.background is None else self.background.corrected(vectors, qualities)
        return Seen(embeddings(vectors), corrected, tuple(qualities), (None,) * len(vectors))

    def closeness(self, metric: str, queries: Seen, items: Seen) -> Floats:
        """Return (Q, N) of queries against stored items."""
        if self.background is not None and self.cohort:
            return above_levels(metric, queries, items, self.background)
        part = registry.metric(metric)
        return closeness(part, part.matrix(queries.corrected, items.corrected)).astype(np.float64)

    def among(self, metrics: Sequence[str], data: LabelledSet, rows: Rows) -> dict[str, Floats]:
        """Return (n, n) closeness of labelled pictures, as a calibration takes it."""
        if self.background is not None and self.cohort:
            return adapted(sample(data, rows), self.background, metrics)
        queries = self.seen(data.clean[rows], qualities(data, rows))
        return {metric: self.closeness(metric, queries, stored(data, rows)) for metric in metrics}


def scorer(data: LabelledSet, rows: Rows, way: str, seed: int) -> Scorer:
    """Return the scorer that this half gives."""
    if way == "fixed":
        return Scorer()
    rng = np.random.default_rng(seed)
    some = rng.permutation(rows)[:_DEGRADED]
    chosen = np.sort(rng.permutation(rows)[:LARGEST_COHORT])
    variant_qualities = [quality for row in some for quality in data.variant_quality[row]]
    vectors, shift = data.clean[chosen], None
    if way != "cohort":
        shift = QualityShift.learn(
            data.variants[some, 0],
            [data.variant_quality[row][0] for row in some],
            data.variants[some, 1:],
            [quality for row in some for quality in data.variant_quality[row][1:]],
        )
        vectors = shift.taken_off(vectors, qualities(data, chosen))
    background = Background(vectors, tuple(names(data, chosen)), shift, keys=keys_of(data.clean[chosen]))
    if "offset" in way:
        own, alike = (which[some, None] == which[chosen] for which in (data.units, data.labels))
        background = with_offsets(background, data.variants[some], variant_qualities, own, alike)
    return Scorer(background, cohort="cohort" in way, restored="quality" in way)


def names(data: LabelledSet, rows: Rows) -> list[str]:
    """Return the labels, by which the cohort knows what is no stranger."""
    return [str(label) for label in data.labels[rows]]


def qualities(data: LabelledSet, rows: Rows) -> list[Quality]:
    return [data.clean_quality[row] for row in rows]


def embeddings(vectors: NDArray[np.float32]) -> Embeddings:
    space = Space("benchmark", "1", "none", vectors.shape[1])
    return Embeddings(np.ascontiguousarray(vectors), np.ones(len(vectors), np.float32), space)


def stored(data: LabelledSet, rows: Rows) -> Seen:
    """Return the items of a gallery."""
    return Seen.stored(embeddings(data.clean[rows]), names(data, rows))


def sample(data: LabelledSet, rows: Rows) -> Sample:
    """Return what a half calibrates on."""
    impostor, genuine = data.masks(rows)
    vectors, queries = embeddings(data.clean[rows]), np.ones(len(rows), bool)
    seen = tuple(qualities(data, rows))
    return Sample(vectors, seen, impostor, genuine, data.units[rows], tuple(names(data, rows)), queries)


def met(data: LabelledSet, rows: Rows, by: Scorer, metrics: Sequence[str] = METRICS) -> dict[str, Floats]:
    """Return (n, n) by metric: each picture of the other half as a query, against them all as items."""
    queries, items = by.seen(data.clean[rows], qualities(data, rows)), stored(data, rows)
    return {metric: by.closeness(metric, queries, items) for metric in metrics}


# Rates


@dataclass(frozen=True)
class RateOutcome:
    """What one split gave for one metric and target; ``achieved`` None where the target was refused."""

    metric: str
    target: float
    achieved: float | None = None
    low: float = 0.0
    high: float = 1.0
    guaranteed: float = 1.0
    missed: float | None = None


def rate_outcomes(data: LabelledSet, seed: int) -> list[RateOutcome]:
    first, second = data.halves(seed)
    by = scorer(data, first, WAYS[-1], seed)
    (impostor, genuine), (other, other_genuine) = data.masks(first), data.masks(second)
    matrices = {metric: either_way(found) for metric, found in by.among(METRICS, data, first).items()}
    others = met(data, second, by)
    upper, same = np.triu(impostor, 1), np.triu(genuine, 1)
    if same.any():
        fusion = learn({m: x[upper] for m, x in matrices.items()}, {m: x[same] for m, x in matrices.items()})
        matrices["fused"], others["fused"] = fusion.combine(matrices), fusion.combine(others)
    outcomes = []
    for metric, matrix in matrices.items():
        pairs = ScoredPairs.of_matrix(matrix, impostor, data.units[first])
        table = table_of(pairs)
        strange, missed = others[metric][other], others[metric][other_genuine]
        for target in TARGETS:
            try:
                fit = fit_from(pairs, None, table, target)
            except InputError:
                outcomes.append(RateOutcome(metric, target))
                continue
            outcomes.append(
                RateOutcome(
                    metric,
                    target,
                    float((strange >= fit.threshold).mean()),
                    fit.rate.low,
                    fit.rate.high,
                    fit.guaranteed.rate,
                    float((missed < fit.threshold).mean()) if len(missed) else None,
                )
            )
    return outcomes


def _rates_section(report: Report, sets: Sequence[LabelledSet], splits: int) -> None:
    rows = []
    worst_coverage: dict[float, list[float]] = {}
    widths: dict[float, list[float]] = {}
    broken = []
    for data in sets:
        say(f"rates, {data.name}: {splits} splits")
        outcomes = [one for many in _over(splits, functools.partial(rate_outcomes, data)) for one in many]
        for metric in (*METRICS, "fused"):
            for target in TARGETS:
                row, coverage, width, over = _rate_row(data.name, metric, target, outcomes)
                rows.append(row)
                if coverage is not None and width is not None:
                    worst_coverage.setdefault(target, []).append(coverage)
                    widths.setdefault(target, []).append(width)
                    broken.append(over)
    report.section("Rates on the other half")
    report.text(
        f"{splits} splits of each set. Inside: the share of splits with the achieved rate in the stated interval."
    )
    header = "set", "metric", "target", "supported", "achieved, mean", "inside", "interval width / target, median"
    report.table((*header, "guaranteed, median", "broken", "missed, mean"), rows)
    for target in TARGETS:
        if worst_coverage.get(target):
            report.target(Target(f"rate {target:g} inside the interval, worst row", min(worst_coverage[target]), 0.9))
            report.target(Target(f"width / target at {target:g}, worst row", max(widths[target]), 3.0, at_least=False))
    if broken:
        report.target(Target("guaranteed rate broken, worst row (says 5 %)", max(broken), 0.05, at_least=False))


def _rate_row(
    name: str, metric: str, target: float, outcomes: Iterable[RateOutcome]
) -> tuple[tuple[str, ...], float | None, float | None, float]:
    mine = [one for one in outcomes if one.metric == metric and one.target == target]
    kept = [one for one in mine if one.achieved is not None]
    supported = f"{len(kept)}/{len(mine)}"
    if not kept:
        return (name, metric, f"{target:g}", supported, *["-"] * 6), None, None, 0.0
    achieved = np.array([one.achieved for one in kept], float)
    inside = float(np.mean([one.low <= a <= one.high for one, a in zip(kept, achieved, strict=True)]))
    width = float(np.median([(one.high - one.low) / target for one in kept]))
    over = float(np.mean([a > one.guaranteed for one, a in zip(kept, achieved, strict=True)]))
    missed = [one.missed for one in kept if one.missed is not None]
    cells = (
        f"{achieved.mean():.4f}",
        f"{inside:.2f}",
        f"{width:.2f}",
        f"{np.median([one.guaranteed for one in kept]):.3f}",
        f"{over:.2f}",
        f"{np.mean(missed):.3f}" if missed else "-",
    )
    return (name, metric, f"{target:g}", supported, *cells), inside, width, over


# Bad light, noise, blur

Degraded = dict[tuple[str, str], tuple[float, float]]
"""(way, degradation) -> (false positive rate at the clean threshold, false negative rate at equal achieved rate)."""


def degraded_outcomes(data: LabelledSet, seed: int) -> Degraded:
    first, second = data.halves(seed)
    impostor = data.masks(first)[0]
    other, genuine = data.masks(second)
    if data.name == "imagenet_photos":
        genuine = genuine | np.eye(len(second), dtype=bool)  # a degraded photo against itself as it was
    out: Degraded = {}
    for way in WAYS:
        by = scorer(data, first, way, seed)
        threshold = np.quantile(by.among(["cosine"], data, first)["cosine"][impostor], 1 - _DRIFT_TARGET)
        for name in DEGRADATIONS:
            vectors = (data.degraded if by.restored else data.plain)[name][second]
            queries = by.seen(vectors, [data.degraded_quality[name][row] for row in second])
            found = by.closeness("cosine", queries, stored(data, second))
            impostors = found[other]
            equal = np.quantile(impostors, 1 - _DRIFT_TARGET)
            out[way, name] = float((impostors >= threshold).mean()), float((found[genuine] < equal).mean())
    return out


def _degraded_section(report: Report, sets: Sequence[LabelledSet], splits: int) -> None:
    cells: dict[tuple[str, str, str], tuple[float, float]] = {}
    smallest = {}
    for data in sets:
        say(f"degraded queries, {data.name}: {splits} splits")
        found = _over(splits, functools.partial(degraded_outcomes, data))
        smallest[data.name] = 0.5 / max(1, data.masks(data.halves(0)[1])[0].sum())
        for way in WAYS:
            for name in DEGRADATIONS:
                cells[data.name, way, name] = tuple(np.mean([one[way, name] for one in found], axis=0))
    report.section("Degraded queries: false positive rate at the clean threshold / false negative rate at equal rate")
    report.text(f"{splits} splits, cosine, target {_DRIFT_TARGET:g} per pair.")
    rows = [
        (
            data.name,
            way,
            *(f"{cells[data.name, way, d][0]:.4f} / {cells[data.name, way, d][1]:.3f}" for d in DEGRADATIONS),
        )
        for data in sets
        for way in WAYS
    ]
    report.table(("set", "way", *DEGRADATIONS), rows)
    report.section("Ablation of the dynamic threshold")
    summary = {way: _summary(cells, smallest, way, [data.name for data in sets]) for way in WAYS}
    report.table(
        (
            "way",
            "drift",
            "missed, against fixed: mean change, all",
            "strong noise and blur",
            "change of the sum, all",
            "strong noise and blur",
            "most points worse (where)",
        ),
        [
            (
                way,
                f"{s['drift']:.2f}",
                f"{s['all']:+.1%}",
                f"{s['strong']:+.1%}",
                f"{s['pooled']:+.1%}",
                f"{s['pooled strong']:+.1%}",
                f"{100 * s['worst']:+.1f} ({s['where']})",
            )
            for way, s in summary.items()
        ],
    )
    best = summary[WAYS[-1]]
    report.target(Target("drift, mean |log2(rate / target)|", best["drift"], 1.0, at_least=False))
    report.target(Target("drift / drift of fixed", best["drift"] / summary["fixed"]["drift"], 0.5, at_least=False))
    report.target(Target("missed at equal rate, lower by", -100 * best["all"], 10.0, unit=" %"))
    report.target(Target("the same, strong noise and blur", -100 * best["strong"], 25.0, unit=" %"))
    report.target(Target("most points worse anywhere", 100 * best["worst"], 2.0, at_least=False))


def _summary(
    cells: Mapping[tuple[str, str, str], tuple[float, float]],
    smallest: Mapping[str, float],
    way: str,
    sets: Sequence[str],
) -> dict[str, Any]:
    """Return the drift, and how the false negative rates changed against *fixed*: each in turn, and their sum."""
    drift, base, own, strong, where = [], [], [], [], []
    for name in sets:
        for degradation in DEGRADATIONS:
            rate, missed = cells[name, way, degradation]
            drift.append(abs(np.log2(max(rate, smallest[name]) / _DRIFT_TARGET)))
            base.append(cells[name, "fixed", degradation][1])
            own.append(missed)
            strong.append(degradation in STRONG)
            where.append(f"{name}, {degradation}")
    before, after, hard = np.array(base), np.array(own), np.array(strong)
    worst = int((after - before).argmax())
    return {
        "drift": float(np.mean(drift)),
        "all": _change(before, after),
        "strong": _change(before[hard], after[hard]),
        "pooled": float(after.sum() / max(1e-9, before.sum()) - 1),
        "pooled strong": float(after[hard].sum() / max(1e-9, before[hard].sum()) - 1),
        "worst": float((after - before)[worst]),
        "where": where[worst],
    }


def _change(before: Floats, after: Floats) -> float:
    """Return the mean of the relative changes, where there was anything to change."""
    some = before >= _WORTH_CHANGING
    return float((after[some] / before[some] - 1).mean()) if some.any() else 0.0


# Queries without a match

CUTS = ("threshold", "gap", "threshold + gap")


def unmatched_outcomes(data: LabelledSet, seed: int) -> dict[tuple[str, str], tuple[float, float]]:
    """Return by (way, cut) how many unmatched queries return nothing, and how many matched ones keep a match."""
    first, second = data.halves(seed)
    impostor, genuine = data.masks(first)
    out = {}
    for way in WAYS:
        by = scorer(data, first, way, seed)
        inside = by.among(["cosine"], data, first)["cosine"]
        alarms = AlarmTable.of_matrix(inside, impostor, data.units[first])
        limit, least = alarms.threshold(ALARMS, len(first)), alarms.gap(ALARMS)
        queries = by.seen(data.clean[second], qualities(data, second))
        strange = by.closeness("cosine", queries, stored(data, first))
        if data.name == "bccd":  # the classes are the same in both halves: only another class is no match
            strange = np.where(data.labels[second][:, None] == data.labels[first][None], -np.inf, strange)
        own = np.where(np.eye(len(first), dtype=bool), -np.inf, inside)
        for cut in CUTS:
            nothing = np.mean([not len(_returned(row, limit, least, cut)) for row in strange])
            asked = np.flatnonzero(genuine.any(axis=1))
            kept = [genuine[row, _returned(own[row], limit, least, cut)].any() for row in asked]
            out[way, cut] = float(nothing), float(np.mean(kept)) if len(asked) else float("nan")
    return out


def _returned(row: Floats, limit: float, least: float, cut: str) -> Rows:
    """Return which items a query returns."""
    order = np.argsort(-row, kind="stable")[:50]
    order = order[np.isfinite(row[order])]
    standing = order[: cut_at_gap(row[order], least)] if "gap" in cut else order
    return standing[row[standing] >= limit] if "threshold" in cut else standing


def _unmatched_section(report: Report, sets: Sequence[LabelledSet], splits: int) -> None:
    rows, least = [], []
    for data in sets:
        say(f"queries without a match, {data.name}: {splits} splits")
        found = _over(splits, functools.partial(unmatched_outcomes, data))
        for way in WAYS:
            means = {cut: np.mean([one[way, cut] for one in found], axis=0) for cut in CUTS}
            rows.append((data.name, way, *(f"{means[cut][0]:.3f} / {means[cut][1]:.3f}" for cut in CUTS)))
            if way == WAYS[-1]:
                least.append(float(means["threshold"][0]))
    report.section("Queries without a match return nothing / queries with one keep a match")
    report.text(f"{splits} splits, cosine, false alarm rate {ALARMS:g} per query; the gallery is the first half.")
    report.table(("set", "way", *CUTS), rows)
    report.target(Target("unmatched queries that return nothing, worst set", min(least), 0.93))


# Metrics and fusions


def metric_outcomes(data: LabelledSet, seed: int) -> dict[tuple[str, float], float]:
    """Return by (metric or fusion, rate) the false negative rate on the second half, at that achieved rate."""
    first, second = data.halves(seed)
    by = scorer(data, first, WAYS[-1], seed)
    (impostor, genuine), (other, same) = data.masks(first), data.masks(second)
    own = {metric: either_way(found) for metric, found in by.among(METRICS, data, first).items()}
    others = met(data, second, by)
    tables = {m: table_of(ScoredPairs.of_matrix(x, impostor, data.units[first])) for m, x in own.items()}
    fused = {f"fused, {name}": fusion_of(name, tables) for name in ("all_of", "any_of", "weighted")}
    upper, alike = np.triu(impostor, 1), np.triu(genuine, 1)
    if alike.any():
        learned = learn({m: x[upper] for m, x in own.items()}, {m: x[alike] for m, x in own.items()})
        fused["fused, learned"] = learned
    scores = {**others, **{name: fusion.combine(others) for name, fusion in fused.items()}, **_plain(data, second)}
    out = {}
    for name, matrix in scores.items():
        for rate in (0.05, 0.01):
            limit = np.quantile(matrix[other], 1 - rate)
            out[name, rate] = float((matrix[same] < limit).mean()) if same.any() else float("nan")
    return out


def _plain(data: LabelledSet, rows: Rows) -> dict[str, Floats]:
    """Return each metric's closeness without any adapting, and on vectors as long as they came."""
    vectors = data.clean[rows]
    raw = vectors * data.norms[rows][:, None]
    out = {}
    for name in METRICS:
        part = registry.metric(name)
        out[f"{name}, fixed"] = closeness(part, part.matrix(vectors, vectors)).astype(np.float64)
        if name != "cosine":
            out[f"{name}, fixed, not normalized"] = closeness(part, part.matrix(raw, raw)).astype(np.float64)
    return out


def _metrics_section(report: Report, sets: Sequence[LabelledSet], splits: int) -> None:
    found = {}
    for data in sets:
        say(f"metrics, {data.name}: {splits} splits")
        found[data.name] = _over(splits, functools.partial(metric_outcomes, data))
    report.section("Metrics and fusions: false negative rate at 5 % / 1 % achieved false positives")
    scored = list(dict.fromkeys(name for many in found.values() for name, _ in many[0]))
    rows = []
    for name in scored:
        cells = [
            " / ".join(f"{np.mean([one[name, rate] for one in many]):.3f}" for rate in (0.05, 0.01))
            for many in found.values()
        ]
        rows.append((name, *cells))
    report.text(f"{splits} splits; combinations were fitted on the first half. Means over splits of the second half.")
    report.table(("", *found), rows)


def _over(splits: int, work: Callable[[int], Any]) -> list[Any]:
    """Return ``work(seed)`` for each split, on every core."""
    with multiprocessing.get_context("fork").Pool(cores()) as pool:
        return pool.map(work, range(splits), chunksize=1)


if __name__ == "__main__":
    main()
