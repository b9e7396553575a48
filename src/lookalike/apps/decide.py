"""Search, and say of each hit whether it matches: at a stated false alarm rate, cut where it stops matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lookalike import registry
from lookalike.apps.calibrate import kept
from lookalike.apps.search import Request, SearchResult
from lookalike.calibration import Calibration
from lookalike.deciding import METRICS, Scores, Seen, look, scores_of
from lookalike.errors import ConfigError, InputError
from lookalike.gallery import Gallery
from lookalike.images import read
from lookalike.pipeline import in_parallel, reason_of
from lookalike.policies.calibrated import DEFAULT_FALSE_ALARM_RATE, Calibrated
from lookalike.policies.gap import cut_at_gap
from lookalike.policies.uncalibrated import Uncalibrated
from lookalike.protocols import Policy
from lookalike.types import Decision, Hit, Hits, Skipped, Verdict

_CANDIDATES = 50
"""So many of the nearest are judged at least: the adapted order may differ from that of the scores."""


@dataclass(frozen=True, slots=True)
class Deciding:
    """How to decide: which share of queries without a true match may return something; whether to cut at gaps."""

    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE
    gap: bool = False
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class DecidedHits:
    """The hits that match, best first, each with its decision; and the decision on the query: that of its best hit.

    Best is who is furthest above its threshold: with thresholds that adapt, scores need not fall.
    """

    hits: Hits
    decisions: tuple[Decision, ...]
    decision: Decision


@dataclass(frozen=True, slots=True)
class DecidedResult:
    """A search's result with decisions, one for each query."""

    result: SearchResult
    decided: tuple[DecidedHits, ...]
    calibration: Calibration | None

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape: that of a search, with the decisions in it."""
        plain = self.result.as_dict()
        for query, one in zip(plain["queries"], self.decided, strict=True):
            query.update(_as_dict(one.decision))
            for hit, decision in zip(query["hits"], one.decisions, strict=True):
                hit.update(_as_dict(decision))
        return plain


def search_and_decide(
    gallery: Gallery, images: Sequence[str], request: Request, deciding: Deciding = Deciding()
) -> DecidedResult:
    """Search with each picture file and decide on its hits.

    One bad query among several is skipped with its reason; a single one raises. Without a calibration nothing is cut,
    and every verdict is ``unsure``.
    """
    if not images:
        raise ConfigError("a decision is made on pictures: name the pictures to search with")
    calibration = kept(gallery)
    if calibration is not None:
        calibration = calibration.decided_by(request.metric or calibration.decides)
    looked = list(in_parallel(lambda image: _look(gallery, image, request, calibration), images))
    good = [(image, seen) for image, seen in zip(images, looked, strict=True) if isinstance(seen, Seen)]
    bad = [(image, error) for image, error in zip(images, looked, strict=True) if isinstance(error, InputError)]
    if not good:
        raise bad[0][1]
    metric = _searched_by(request, calibration, gallery)
    decided = tuple(
        _decided(gallery, image, seen, replace(request, metric=metric), calibration, deciding) for image, seen in good
    )
    names = tuple(image for image, _ in good)
    skipped = tuple(Skipped(image, reason_of(error)) for image, error in bad)
    result = SearchResult(metric, gallery.space, tuple(one.hits for one in decided), names, skipped)
    return DecidedResult(result, decided, calibration)


def _look(gallery: Gallery, image: str, request: Request, calibration: Calibration | None) -> Seen | InputError:
    encoder = gallery.encoder()
    try:
        picture = read(image, None if request.crop else encoder.at_least)
        cropped = picture.crop(*request.crop) if request.crop else picture
        return look(cropped, encoder, calibration.background if calibration else None)
    except InputError as error:
        return error


def _searched_by(request: Request, calibration: Calibration | None, gallery: Gallery) -> str:
    """Return the metric that finds the candidates: a fusion is no order that a store knows."""
    wanted = request.metric or (calibration.decides if calibration else gallery.metric)
    return wanted if wanted in registry.names("metric") else METRICS[0]


def _decided(
    gallery: Gallery, name: str, seen: Seen, request: Request, calibration: Calibration | None, deciding: Deciding
) -> DecidedHits:
    wanted = max(request.k, _CANDIDATES) if calibration is not None else request.k
    found = gallery.search_each(
        seen.embeddings, wanted, metric=request.metric, where=request.where, exact=request.exact, names=[name]
    )[0]
    problem = seen.qualities[0].problem if seen.qualities[0] else None
    problems = [f"{name} cannot be judged: it is {problem}"] if problem else []
    if not found.hits:
        reason = problems[0] if problems else "there is no item to compare with"
        return DecidedHits(found, (), Decision(Verdict.UNKNOWN if problems else Verdict.UNSURE, None, None, reason))
    policy = deciding.policy or _policy(calibration, deciding)
    items = Seen.stored(gallery.embeddings([hit.id for hit in found]), list(map(_label, found)))
    metrics = list(dict.fromkeys((request.metric or METRICS[0], *(METRICS if calibration else ()))))
    scores = scores_of(seen, items, calibration, metrics)
    count = gallery.count(request.where)
    decisions = [policy.decide(scores.of(row), scores.context(row, problems, count)) for row in range(len(found))]
    if calibration is None:
        return DecidedHits(found, tuple(decisions), decisions[0])
    order = _best_first(scores.calibrated(calibration.decides), found)
    best = decisions[order[0]]
    kept_rows = [row for row in order if decisions[row].verdict is Verdict.MATCH]
    if deciding.gap:
        kept_rows, best = _cut(kept_rows, order, best, scores, calibration, deciding)
    kept_rows = kept_rows[: request.k]
    hits = replace(found, hits=tuple(found.hits[row] for row in kept_rows))
    return DecidedHits(hits, tuple(decisions[row] for row in kept_rows), best)


def _policy(calibration: Calibration | None, deciding: Deciding) -> Policy:
    return Uncalibrated() if calibration is None else Calibrated(calibration, deciding.false_alarm_rate)


def _cut(
    rows: list[int], order: list[int], best: Decision, scores: Scores, calibration: Calibration, deciding: Deciding
) -> tuple[list[int], Decision]:
    """Return the rows before the gap, and the query's decision: no match where nothing stands out."""
    closeness = scores.calibrated(calibration.decides)[order]
    least = calibration.alarms[calibration.decides].gap(deciding.false_alarm_rate)
    standing_out = set(order[: cut_at_gap(closeness, least)])
    kept_rows = [row for row in rows if row in standing_out]
    if rows and not kept_rows:
        reason = f"{best.reason}; but no gap of {least:.2g} or more sets it apart from the other items"
        return kept_rows, replace(best, verdict=Verdict.NO_MATCH, reason=reason)
    return kept_rows, best


def _best_first(closeness: Any, found: Sequence[Hit]) -> list[int]:
    order = sorted(range(len(found)), key=lambda row: (-closeness[row], found[row].id))
    return [int(row) for row in np.asarray(order)]


def _label(hit: Hit) -> str | None:
    label = hit.metadata.get("label")
    return None if label is None else str(label)


def _as_dict(decision: Decision) -> dict[str, Any]:
    return {
        "verdict": decision.verdict.value,
        "threshold": decision.threshold,
        "false_positive_rate": decision.false_positive_rate,
        "false_alarm_rate": decision.false_alarm_rate,
        "reason": decision.reason,
        "evidence": [evidence.as_dict() for evidence in decision.evidence],
    }
