"""What a benchmark measured, for people: one page (.html) that needs no network and runs no script."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

from lookalike import __version__
from lookalike.benchmarking import (
    VERIFIED,
    Compared,
    Configuration,
    Costs,
    LabelledSet,
    best_of,
    by_label,
    confusions,
    worst_queries,
)
from lookalike.evaluation.intervals import Interval
from lookalike.evaluation.retrieval import MEANINGS, METRICS
from lookalike.evaluation.verification import Curve, det_points, thinned
from lookalike.pipeline import in_parallel
from lookalike.plots import Axis, Plot, Series, plot, style, ticks
from lookalike.report import picture_uri, short_name, templates
from lookalike.tables import replacing
from lookalike.types import LabelledPicture, Skipped, display_path

COST_NAMES = ("pictures/s", "query p50", "query p99", "vector", "model", "peak memory")
_WORST = 16
_CAME = 6
_ROWS = 25
_POINTS = 200
_VERIFIED_MEANINGS = {
    "auc": "how often a pair of one label is closer than a pair of two; .5 is chance",
    "eer": "the rate at which as many pairs of two labels pass as pairs of one do not",
    "average_precision": "precision over all pairs at each threshold, weighted by what it adds in recall",
    "tpr@fpr=x": "share of the pairs of one label that passes where a share x of the others does",
}


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a page shows: a set, what was measured on it and with what, and what a gate said, in lines.

    ``changes`` are rows of a table, the first its head, of what learning changed: costs are not measured then.
    """

    of: LabelledSet
    configurations: Sequence[Configuration]
    differences: Sequence[Compared]
    gate: Sequence[str]
    versions: Mapping[str, str]
    command: str
    skipped: Sequence[Skipped]
    title: str | None = None
    changes: Sequence[Sequence[str]] = ()


def write_report(output: Path, view: View) -> None:
    """Write the page. Nothing from a picture or a file name is trusted: text is escaped, pictures are drawn anew."""
    best = best_of(view.configurations)
    of, judged = view.of, best.measured.judged
    labels = sorted(by_label(of, judged).items(), key=lambda item: (item[1]["map@10"], item[0]))
    confused = confusions(of, judged)
    asked = {label: int(told["queries"]) for label, told in labels}
    page = templates().get_template("benchmark.html")
    text = page.render(
        title=display_path(view.title or f"Benchmark of {of.source}"),
        lines=_shown([_size_line(view), *of.notes]),
        best=best.name,
        retrieval=_figures_table(view, tuple(METRICS)),
        verification=_figures_table(view, VERIFIED),
        costs=[["", *COST_NAMES], *([_marked(one), *costs_row(one.costs)] for one in view.configurations)],
        differences=[list(compared_row(one)) for one in view.differences],
        changes=view.changes,
        first=view.configurations[0].name,
        gate=_shown(view.gate),
        meanings=[*MEANINGS.items(), *_VERIFIED_MEANINGS.items()],
        plots=_plots(view.configurations),
        labels=[_label_row(label, told) for label, told in labels[:_ROWS]],
        more_labels=len(labels) - _ROWS,
        confusions=[
            [
                display_path(one.label),
                display_path(one.taken_for),
                str(one.queries),
                f"{one.queries / asked[one.label]:.0%}",
            ]
            for one in confused[:_ROWS]
        ],
        more_confusions=len(confused) - _ROWS,
        worst=_worst(of, best),
        spaces=_shown([f"{one.encoder}: {one.space}" for one in view.configurations]),
        versions=_shown([f"{name} {value}" for name, value in view.versions.items()]),
        command=display_path(view.command),
        skipped=_shown([f"{one.path}: {one.reason}" for one in view.skipped[:_ROWS]]),
        more_skipped=len(view.skipped) - _ROWS,
        version=__version__,
    )
    with replacing(output) as file:
        file.write(text.encode("utf-8", "replace"))


# What stands in tables, here and in the terminal


def interval_text(found: Interval) -> str:
    """Return an estimate and its interval, three digits each; a dash where there is nothing to measure it by."""
    if math.isnan(found.estimate):
        return "-"
    return f"{_short(found.estimate)} ({_short(found.low)} {_short(found.high)})"


def figures_row(one: Configuration, names: Sequence[str]) -> tuple[str, ...]:
    """Return figures of a configuration, each with its interval."""
    return tuple(interval_text(one.measured.figures[name]) for name in names)


def costs_row(costs: Costs) -> tuple[str, ...]:
    """Return what a configuration costs, under ``COST_NAMES``."""
    return (
        f"{costs.images_a_second:.0f}",
        f"{costs.latency_p50 * 1000:.1f} ms",
        f"{costs.latency_p99 * 1000:.1f} ms",
        _bytes(costs.vector_bytes),
        _bytes(costs.model_bytes),
        _bytes(costs.peak_memory),
    )


def compared_row(one: Compared) -> tuple[str, ...]:
    """Return how a configuration differs from the first one in a figure."""
    found = one.difference
    low, high = (f"{end:+.3f}" for end in found.interval[1:])
    told = f"{found.interval.estimate:+.3f} ({low} {high})"
    return one.name, one.figure, told, str(found.won), str(found.lost)


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.2f}"


def _bytes(count: int | None) -> str:
    if count is None:
        return "-"
    return f"{count:,} B" if count < 100_000 else f"{count / (1 << 20):,.1f} MiB"


def _figures_table(view: View, names: Sequence[str]) -> list[list[str]]:
    return [
        ["", *(_marked(one) for one in view.configurations)],
        *([name, *(interval_text(one.measured.figures[name]) for one in view.configurations)] for name in names),
    ]


def _marked(one: Configuration) -> str:
    return f"{one.name} *" if one.pareto else one.name


def _label_row(label: str, told: Mapping[str, float | int]) -> list[str]:
    figures = (_short(float(told[name])) for name in ("recall@1", "recall@10", "precision@5", "map@10", "r_precision"))
    return [display_path(label), str(told["queries"]), *figures]


def _size_line(view: View) -> str:
    of, answerable = view.of, view.configurations[0].measured.judged.answerable
    return (
        f"{len(of.queries):,} queries ({int((~answerable).sum()):,} with nothing relevant) in a gallery of "
        f"{len(of.gallery):,}, {len(of.labels):,} labels, {of.ignored:,} pictures ignored, "
        f"{len(view.skipped):,} left out"
    )


def _shown(lines: Sequence[str]) -> list[str]:
    return [display_path(line) for line in lines]


# The worst queries


class _Tile(NamedTuple):
    picture: str | None
    problem: str | None
    name: str
    label: str
    caption: str
    right: bool


def _worst(of: LabelledSet, best: Configuration) -> list[dict[str, object]]:
    """Return of each of the worst queries its picture, what came, and what should have come first."""
    judged = best.measured.judged
    queries = worst_queries(judged, _WORST)
    shown: dict[str, None] = {}
    rows = []
    for query in queries:
        asked = of.query(query)
        came = [of.item(int(place)) for place in judged.top[query, :_CAME] if place >= 0]
        expected = of.item(int(judged.expected[query]))
        shown |= dict.fromkeys(one.path for one in (asked, *came, expected))
        rows.append((query, asked, came, expected))
    drawn = dict(zip(shown, in_parallel(picture_uri, shown), strict=True))

    def tile(one: LabelledPicture, asked: LabelledPicture, caption: str) -> _Tile:
        name = short_name(one.path)
        return _Tile(*drawn[one.path], name, display_path(one.label), caption, one.label == asked.label)

    return [
        {
            "query": tile(asked, asked, f"map@10 {_short(float(judged.values['map@10'][query]))}"),
            "came": [tile(one, asked, f"{rank}.") for rank, one in enumerate(came, 1)],
            "expected": tile(expected, asked, f"came {judged.rank[query]:,}."),
        }
        for query, asked, came, expected in rows
    ]


# Curves


_LEAST, _MOST = 5e-4, 0.95


def _plots(configurations: Sequence[Configuration]) -> list[Plot]:
    even = Axis("", float, ticks((0, 0.25, 0.5, 0.75, 1)))
    false_positives, true_positives = (
        even._replace(name="false positive rate"),
        even._replace(name="true positive rate"),
    )
    recall, precision = even._replace(name="recall"), even._replace(name="precision")
    rare = ticks((0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.9))
    x, y = (Axis(f"false {kind} rate", _probit, rare) for kind in ("positive", "negative"))
    return [
        plot("ROC", false_positives, true_positives, _series(configurations, _roc)),
        plot("Precision and recall", recall, precision, _series(configurations, _precision_recall)),
        plot("DET (normal deviates)", x, y, _series(configurations, _det)),
    ]


def _series(
    configurations: Sequence[Configuration], points_of: Callable[[Curve], list[tuple[float, float]]]
) -> list[Series]:
    found = []
    for number, one in enumerate(configurations):
        points = points_of(one.measured.curve)
        kept = [points[place] for place in thinned(len(points), _POINTS)] if points else []
        found.append(Series(one.name, style(number), kept))
    return found


def _roc(curve: Curve) -> list[tuple[float, float]]:
    return _known(curve.false_positive_rate.tolist(), curve.true_positive_rate.tolist())


def _precision_recall(curve: Curve) -> list[tuple[float, float]]:
    return _known(curve.true_positive_rate[1:].tolist(), curve.precision.tolist())


def _det(curve: Curve) -> list[tuple[float, float]]:
    return [(a, b) for a, b in det_points(curve) if min(a, b) >= _LEAST and max(a, b) <= _MOST]


def _known(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    return [(a, b) for a, b in zip(x, y, strict=True) if not math.isnan(a + b)]


def _probit(rate: float) -> float:
    """Return where a rate lies between the least and the most that are drawn, in normal deviates."""
    low, here, high = map(NormalDist().inv_cdf, (_LEAST, rate, _MOST))
    return (here - low) / (high - low)
