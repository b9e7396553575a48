"""Measure how well encoders and metrics find what is alike, on labelled pictures."""

from __future__ import annotations

import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from lookalike import installed, registry
from lookalike.apps.baseline import Baseline, Gate, check_against, read_baseline, write_baseline, write_junit
from lookalike.benchmarking import (
    VERIFIED,
    Compared,
    Configuration,
    Costs,
    LabelledSet,
    by_label,
    compared,
    confusions,
    evaluated,
    is_pareto,
    labelled_set,
    names_in,
    peak_memory,
    sampled_queries,
    search_seconds,
)
from lookalike.calibration.pairs import Floats
from lookalike.encoders import catalog, folder
from lookalike.errors import ConfigError, InputError
from lookalike.evaluation.gate import DEFAULT_MARGIN, checked_margin
from lookalike.evaluation.intervals import Interval, query_weights
from lookalike.evaluation.retrieval import METRICS
from lookalike.evaluation.verification import RATES, thinned
from lookalike.images import read_bytes
from lookalike.pairs import read_labelled
from lookalike.pipeline import contents_of, in_parallel, reason_of
from lookalike.protocols import Encoder, Metric, Reranker
from lookalike.registry import DEFAULT_ENCODER, DEFAULT_METRIC
from lookalike.report_benchmark import View, write_report
from lookalike.splits import Split
from lookalike.tables import check_output
from lookalike.types import Embeddings, Float32, LabelledPicture, Skipped
from lookalike.versions import versions

Progress = Callable[[int], None]

_POINTS = 64


@dataclass(frozen=True, slots=True)
class BenchmarkRequest:
    """What is measured: every encoder with every metric, as it is and with each of ``reranks``.

    ``split`` says who asks whom (:class:`lookalike.splits.Split`). ``save`` and ``against`` are .json, ``junit`` is
    .xml.
    """

    encoders: tuple[str, ...] = (DEFAULT_ENCODER,)
    metrics: tuple[str, ...] = (DEFAULT_METRIC,)
    html: str | None = None
    save: str | None = None
    against: str | None = None
    margin: float = DEFAULT_MARGIN
    junit: str | None = None
    reranks: tuple[str, ...] = ()
    split: str | None = None

    def __post_init__(self) -> None:
        if self.split is not None:
            Split.parse(self.split)
        checked_margin(self.margin)
        for kind, chosen in (("encoder", self.encoders), ("metric", self.metrics), ("reranker", self.reranks)):
            if not chosen and kind != "reranker":
                raise ConfigError(f"a benchmark needs at least one {kind}; known: {', '.join(registry.names(kind))}")
            if twice := next((name for name in chosen if chosen.count(name) > 1), None):
                raise ConfigError(f"{kind} {twice!r} is named twice; name each once")
        if self.junit and not self.against:
            raise ConfigError("a JUnit file tells what became worse than a baseline: name one with --against")
        for output, endings in ((self.html, (".html", ".htm")), (self.save, (".json",)), (self.junit, (".xml",))):
            if output:
                check_output(Path(output), *endings)


@dataclass(frozen=True, slots=True, eq=False)
class BenchmarkReport:
    """What was measured on which set, with which versions; ``differences`` are to the first configuration."""

    of: LabelledSet
    configurations: tuple[Configuration, ...]
    differences: tuple[Compared, ...]
    versions: Mapping[str, str]
    command: str
    skipped: tuple[Skipped, ...]
    gate: Gate | None = None

    @property
    def without_relevant(self) -> int:
        """How many queries have nothing relevant in the gallery: they count in no retrieval metric."""
        return int((~self.configurations[0].measured.judged.answerable).sum())

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "configurations": [_configuration_as_dict(one, self.of) for one in self.configurations],
            "differences": [
                {
                    "encoder": one.encoder,
                    "metric": one.metric,
                    "rerank": one.rerank,
                    "figure": one.figure,
                    **one.difference.as_dict(),
                }
                for one in self.differences
            ],
            "source": self.of.source,
            "queries": len(self.of.queries),
            "gallery": len(self.of.gallery),
            "labels": len(self.of.labels),
            "ignored": self.of.ignored,
            "without_relevant": self.without_relevant,
            "notes": list(self.of.notes),
            "gate": None if self.gate is None else self.gate.as_dict(),
            "versions": dict(self.versions),
            "command": self.command,
            "skipped": [asdict(skipped) for skipped in self.skipped],
        }


def benchmark(
    source: str, request: BenchmarkRequest = BenchmarkRequest(), progress: Progress = lambda _: None
) -> BenchmarkReport:
    """Measure each encoder with each metric on labelled pictures: a folder a class, or a CSV or JSONL.

    Every query is compared with every candidate: exactly, without a gallery on disk. With ``against``, the result is
    compared with a baseline (``report.gate``). Raises InputError for a set that can tell nothing, or another set than
    the baseline's; ConfigError for an encoder or a metric that is not there.
    """
    encoders = {name: registry.encoder(name) for name in request.encoders}
    metrics = {name: registry.metric(name) for name in request.metrics}
    rerankers: dict[str | None, Reranker | None] = {None: None}
    rerankers |= {name: registry.reranker(name) for name in request.reranks}
    before = _baseline(request)
    labelled = read_labelled(source)
    asked = [picture for picture in labelled.items if not picture.ignore]
    ignored = len(labelled.items) - len(asked)
    if not asked:
        raise InputError(f"all {ignored} pictures of {source} are ignored: set the 'ignore' of some to 0")
    if request.split is not None:
        asked = list(Split.parse(request.split).of(asked, names_in(source, asked)))
    labelled_set(source, asked, labelled.skipped, ignored)  # where it can tell nothing, this says so before the work
    looked = _look_at(asked, encoders, progress)
    skipped = (*labelled.skipped, *looked.skipped)
    found = labelled_set(source, looked.pictures, skipped, ignored)
    found = found.noting(_copies(found, looked.contents))
    measured = _measured(found, looked, encoders, metrics, rerankers)
    gate = None if before is None else check_against(before, found, looked.contents, measured, request.margin)
    command = _command(source, request)
    report = BenchmarkReport(found, measured, compared(measured, found.truth), versions(), command, skipped, gate)
    _write(report, request, looked.contents)
    return report


def _baseline(request: BenchmarkRequest) -> Baseline | None:
    """Return the baseline that is asked for; raise ConfigError where it lacks what is to be compared with it."""
    if request.against is None:
        return None
    before = read_baseline(request.against)
    for encoder in request.encoders:
        for metric in request.metrics:
            for rerank in (None, *request.reranks):
                before.of(encoder, metric, rerank)
    return before


def _measured(
    found: LabelledSet,
    looked: _Looked,
    encoders: Mapping[str, Encoder],
    metrics: Mapping[str, Metric],
    rerankers: Mapping[str | None, Reranker | None],
) -> tuple[Configuration, ...]:
    weights = query_weights(found.truth.labels)
    timed = sampled_queries(len(found.queries))
    configurations = []
    for name, encoder in encoders.items():
        queries, gallery = looked.vectors[name][found.queries], looked.vectors[name][found.gallery]
        encoding = np.array([_encoding_seconds(found.query(int(query)).path, encoder) for query in timed])
        for (of, metric), (rerank, reranker) in product(metrics.items(), rerankers.items()):
            judged = evaluated(metric, queries, gallery, found.truth, weights, reranker)
            searching = search_seconds(metric, queries[timed], gallery, reranker)
            costs = _costs(name, encoder, looked.rates[name], encoding + searching)
            configurations.append(Configuration(name, of, encoder.space, judged, costs, rerank=rerank))
    return tuple(replace(one, pareto=is_pareto(one, configurations)) for one in configurations)


def _write(report: BenchmarkReport, request: BenchmarkRequest, contents: Sequence[str]) -> None:
    if request.save:
        write_baseline(Path(request.save), report.of, contents, report.configurations, report.versions)
    if request.junit and report.gate:
        write_junit(Path(request.junit), report.gate)
    if request.html:
        write_report(
            Path(request.html),
            View(
                report.of,
                report.configurations,
                report.differences,
                () if report.gate is None else report.gate.lines(),
                report.versions,
                report.command,
                report.skipped,
            ),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Looked:
    """The pictures that all encoders could read: (N, D) vectors and images a second by encoder, sha256 of each file."""

    pictures: tuple[LabelledPicture, ...]
    vectors: Mapping[str, Float32]
    rates: Mapping[str, float]
    contents: tuple[str, ...]
    skipped: tuple[Skipped, ...]


def _look_at(asked: Sequence[LabelledPicture], encoders: Mapping[str, Encoder], progress: Progress) -> _Looked:
    outcomes: dict[str, list[tuple[str, Embeddings] | Skipped]] = {}
    rates = {}
    for name, encoder in encoders.items():
        _embedded(asked[:1], encoder, lambda _: None)  # loads the model, which is not to be timed
        start = time.perf_counter()
        outcomes[name] = _embedded(asked, encoder, progress)
        rates[name] = len(asked) / (time.perf_counter() - start)
    read, skipped = [], []
    for place in range(len(asked)):
        of_all = [outcomes[name][place] for name in encoders]
        problem = next((one for one in of_all if isinstance(one, Skipped)), None)
        if problem is None:
            read.append(place)
        else:
            skipped.append(problem)
    good = {name: [one for place in read if not isinstance(one := outcomes[name][place], Skipped)] for name in encoders}
    first = next(iter(good.values()))
    vectors = {
        name: np.concatenate([one.vectors for _, one in rows]) if rows else np.empty((0, 0), np.float32)
        for name, rows in good.items()
    }
    return _Looked(
        tuple(asked[place] for place in read), vectors, rates, tuple(content for content, _ in first), tuple(skipped)
    )


def _embedded(
    asked: Sequence[LabelledPicture], encoder: Encoder, progress: Progress
) -> list[tuple[str, Embeddings] | Skipped]:
    """Return for each picture its file's sha256 and its embedding, or why it was left out."""

    def work(picture: LabelledPicture) -> tuple[str, Embeddings] | Skipped:
        try:
            contents = contents_of(picture.path)
            return contents.sha256, encoder.encode([read_bytes(contents.data, picture.path, encoder.at_least)])
        except InputError as error:
            return Skipped(picture.path, reason_of(error))

    found = []
    for outcome in in_parallel(work, asked):
        progress(1)
        found.append(outcome)
    return found


def _copies(found: LabelledSet, contents: Sequence[str]) -> list[str]:
    """Say how many pictures are the same file as another one, which makes figures better than they are, or wrong."""
    places = defaultdict(list)
    for place, content in enumerate(contents):
        places[content].append(place)
    copies = [some for some in places.values() if len(some) > 1]
    notes = []
    if count := sum(len(some) - 1 for some in copies):
        notes.append(
            f"pictures that are byte for byte another one, which makes them easy to find: {count} (the first: "
            f"{_two(found, copies[0])}); give copies one 'group' to leave them out"
        )
    torn = [some for some in copies if len({found.pictures[place].label for place in some}) > 1]
    if torn:
        labels = " and ".join(sorted({found.pictures[place].label for place in torn[0]}))
        notes.append(f"pictures with two labels: {len(torn)} (the first: {_two(found, torn[0])}, labelled {labels})")
    return notes


def _two(found: LabelledSet, places: Sequence[int]) -> str:
    return " and ".join(found.names[place] for place in places[:2])


# What it costs


def _encoding_seconds(path: str, encoder: Encoder) -> float:
    """Return how long it takes from file to vector."""
    start = time.perf_counter()
    encoder.encode([read_bytes(contents_of(path).data, path, encoder.at_least)])
    return time.perf_counter() - start


def _costs(name: str, encoder: Encoder, rate: float, latencies: Floats) -> Costs:
    p50, p99 = np.quantile(latencies, [0.5, 0.99])
    return Costs(rate, float(p50), float(p99), len(latencies), 4 * encoder.space.dim, _model_bytes(name), peak_memory())


def _model_bytes(name: str) -> int | None:
    """Return the size of the model's files: those of the folder where it was added, else what the catalog says."""
    if name in installed.names() and not registry.taken(name):
        own = sum(path.stat().st_size for path in (installed.home() / name).iterdir() if path.is_file())
        below = [_model_bytes(base) for base in folder.bases(installed.card(name))]
        return None if None in below else own + sum(size for size in below if size is not None)
    return next((one.size for one in catalog.catalog() if one.name == name), None)


# What is told


def _configuration_as_dict(one: Configuration, of: LabelledSet) -> dict[str, Any]:
    figures = one.measured.figures
    return {
        "encoder": one.encoder,
        "metric": one.metric,
        "rerank": one.rerank,
        "space": one.space.as_dict(),
        **{name: number(figures[name].estimate) for name in METRICS},
        **{name: number(figures[name].estimate) for name in VERIFIED},
        "intervals": {name: _ends(interval) for name, interval in figures.items()},
        "verification": _verification_as_dict(one),
        "speed": asdict(one.costs),
        "pareto": one.pareto,
        "by_label": by_label(of, one.measured.judged),
        "confusions": [confused._asdict() for confused in confusions(of, one.measured.judged)],
    }


def _verification_as_dict(one: Configuration) -> dict[str, Any]:
    curve, levels = one.measured.curve, one.measured.levels
    return {
        "genuine_pairs": int(curve.genuine[-1]),
        "impostor_pairs": int(curve.impostor[-1]),
        "thresholds": [
            {
                "false_positive_rate": rate,
                "threshold": None if (place := curve.level_at(rate)) is None else float(levels[place]),
                "true_positive_rate": number(float(curve.true_positives_at(rate))),
            }
            for rate in RATES
        ],
        "curve": [
            {
                "threshold": float(levels[place]),
                "false_positive_rate": number(float(curve.false_positive_rate[place + 1])),
                "true_positive_rate": number(float(curve.true_positive_rate[place + 1])),
                "precision": float(curve.precision[place]),
            }
            for place in thinned(len(levels), _POINTS)
        ],
    }


def _ends(interval: Interval) -> list[float | None]:
    return [number(interval.low), number(interval.high)]


def number(value: float) -> float | None:
    """Return the value, None where it is NaN: JSON has none."""
    return None if np.isnan(value) else value


def _command(source: str, request: BenchmarkRequest) -> str:
    parts = ["lookalike", "benchmark", source, "--encoder", ",".join(request.encoders)]
    parts += ["--metric", ",".join(request.metrics)]
    parts += ["--rerank", ",".join(request.reranks)] if request.reranks else []
    parts += ["--split", request.split] if request.split else []
    return shlex.join(parts)
