"""Judge an encoder that was learned on what it never saw, and install it, with all that is told of it, if it helped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lookalike import installed, registry
from lookalike.apps.calibrate import write
from lookalike.apps.train_card import CALIBRATION, CARD, FIGURES_HEAD, PAGE, REPORT, card_text, figure_rows
from lookalike.apps.train_learn import Learned, Run
from lookalike.apps.train_loss import forget_checkpoints
from lookalike.apps.train_request import Trained
from lookalike.benchmarking import (
    Configuration,
    Costs,
    LabelledSet,
    Measured,
    evaluated,
    peak_memory,
    worst_queries,
)
from lookalike.calibrating import Sample, Wanted, calibration_of
from lookalike.calibration import Calibration
from lookalike.calibration.pairs import drawn
from lookalike.encoders.catalog import entry
from lookalike.errors import InputError
from lookalike.evaluation.truth import NONE
from lookalike.learning.gain import LEVELS, changes, is_gain
from lookalike.report_benchmark import View, write_report
from lookalike.types import Embeddings, Space
from lookalike.versions import versions

_TARGETS = (0.01, 0.02, 0.05, 0.1)
"""The lowest false positive rate that the pictures support is that of the thresholds in the new space."""
_WORST = 10


def judged(run: Run, learned: Sequence[Learned]) -> Trained:
    """Measure before and after on those that judge, and install the encoder of the first turn if it helped."""
    request, first = run.request, learned[0]
    held = [run.examples.only(side.test) for side in run.sides]
    changed = changes(
        [one.judged(LEVELS) for one in held],
        [one.moved(of.after.vectors).judged(LEVELS) for one, of in zip(held, learned, strict=True)],
        np.concatenate([one.units[one.asks] for one in held]),
        request.seed,
    )
    metric, test = registry.metric("cosine"), run.test
    measured = [
        evaluated(metric, vectors[test.queries], vectors[test.gallery], test.truth)
        for vectors in (held[0].vectors, first.after.vectors)
    ]
    calibration, why = _calibration(run, first.after)
    side = run.sides[0]
    trained = Trained(
        request,
        run.asked.source,
        run.found,
        run.advised,
        {"train": len(side.train), "validation": len(side.validation), "test": len(side.test)},
        first.told,
        changed,
        is_gain(changed),
        _worst(test, measured[1]),
        (*run.asked.notes, *test.notes, *why),
        None,
        calibration is not None,
        first.history,
        run.looked.skipped,
    )
    if not (trained.gained or request.keep_anyway):
        return trained
    with TemporaryDirectory(prefix="lookalike-train-") as temporary:
        files = _files(Path(temporary), run, trained, measured, calibration, first.after.space)
        installed.install(first.card, {first.card.model: first.data, **files})
    forget_checkpoints(request.name)
    return replace(trained, entry=entry(request.name))


def _calibration(run: Run, after: Embeddings) -> tuple[Calibration | None, tuple[str, ...]]:
    """Return thresholds in the new space, made on pictures that it was not learned from; or why there are none."""
    test = run.sides[0].test
    held = run.examples.only(test)
    same = held.labels[:, None] == held.labels[None]
    apart = held.units[:, None] != held.units[None]
    sample = Sample(
        after,
        (None,) * len(held.labels),
        ~same & apart,
        same & ~np.eye(len(held.labels), dtype=bool),
        held.units,
        tuple(run.looked.pictures[row].label for row in test),
        np.ones(len(held.labels), bool),
    )
    sample = sample.only(drawn(sample.units))
    told = f"the {len(test)} pictures that {run.request.name} was judged by"
    why: list[str] = []
    for target in _TARGETS:
        try:
            return calibration_of(sample, None, Wanted(target, source=told), after.space), tuple(why)
        except InputError as error:
            why = why or [f"thresholds of the new space are not for a false positive rate of {target:g}: {error}"]
    return None, tuple(why)


def _worst(test: LabelledSet, measured: Measured) -> tuple[Mapping[str, Any], ...]:
    """Return the queries that still go worst, with what came first and what should have."""
    told = []
    for query in worst_queries(measured.judged, _WORST):
        came, wanted = int(measured.judged.top[query, 0]), int(measured.judged.expected[query])
        told.append(
            {
                "query": test.query(query).path,
                "label": test.query(query).label,
                "came_first": test.item(came).path if came != NONE else None,
                "expected": test.item(wanted).path,
                "rank": int(measured.judged.rank[query]),
            }
        )
    return tuple(told)


def _files(
    place: Path,
    run: Run,
    trained: Trained,
    judged: Sequence[Measured],
    calibration: Calibration | None,
    space: Space,
) -> dict[str, Path | bytes]:
    """Return what lies beside the model: its card for people, the report, its page, and the calibration."""
    base = registry.encoder(run.request.encoder)
    files: dict[str, Path | bytes] = {
        REPORT: json.dumps({**trained.as_dict(), "saved": True}, indent=1, allow_nan=False).encode(),
        CARD: card_text(trained, entry(run.request.encoder), versions()).encode("utf-8", "replace"),
    }
    if calibration is not None:
        write(calibration, place / CALIBRATION)
        files[CALIBRATION] = place / CALIBRATION
    nothing = Costs(float("nan"), float("nan"), float("nan"), 0, 4 * base.space.dim, None, peak_memory())
    configurations = [
        Configuration(name, "cosine", of, one, nothing)
        for name, of, one in zip((run.request.encoder, run.request.name), (base.space, space), judged, strict=True)
    ]
    view = View(
        replace(run.test, notes=(trained.learned, *run.test.notes)),
        configurations,
        (),
        (),
        versions(),
        f"lookalike train --as {run.request.name}",
        trained.skipped,
        f"{run.request.name}, learned from {run.asked.source}: before and after",
        (FIGURES_HEAD, *figure_rows(trained)),
    )
    write_report(place / PAGE, view)
    files[PAGE] = place / PAGE
    return files
