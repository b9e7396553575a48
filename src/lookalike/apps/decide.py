"""Search, and say of each hit whether it matches: at a stated false alarm rate, cut where it stops matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lookalike import registry
from lookalike.apps.calibrate import kept, known_metric
from lookalike.apps.search import Request, SearchResult
from lookalike.calibration import Calibration
from lookalike.calibration.rates import checked_target
from lookalike.deciding import METRICS, Scores, Seen, look, scores_of
from lookalike.errors import ConfigError, InputError
from lookalike.gallery import Gallery
from lookalike.images import read
from lookalike.pipeline import in_parallel, reason_of
from lookalike.policies.calibrated import DEFAULT_FALSE_ALARM_RATE, Calibrated
from lookalike.policies.gap import cut_at_gap
from lookalike.policies.uncalibrated import Uncalibrated
from lookalike.protocols import Policy
from lookalike.types import Decision, Hit, Hits, Item, Skipped, Verdict

_CANDIDATES = 50
"""So many of the nearest are judged at least: the adapted order may differ from that of the scores."""


@dataclass(frozen=True, slots=True)
class Deciding:
    """How to decide: which share of queries without a true match may return something; whether to cut at gaps.

    A ``policy`` of one's own decides instead of the gallery's calibration, if there is one.
    """

    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE
    gap: bool = False
    policy: Policy | None = None

    def __post_init__(self) -> None:
        checked_target(self.false_alarm_rate, "a false alarm rate")


@dataclass(frozen=True, slots=True)
class DecidedHits:
    """The hits that match, best first, each with its decision; and the decision on the query: that of its best hit.

    Best is who is furthest above its threshold: with thresholds that adapt, scores need not fall. Where nothing
    decides, these are all hits.
    """

    hits: Hits
    decisions: tuple[Decision, ...]
    decision: Decision


@dataclass(frozen=True, slots=True)
class DecidedResult:
    """A search's result with decisions, one for each query.

    Scores are those of the result's ``metric``: of the one that decides, where there is a calibration.
    """

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


@dataclass(frozen=True, slots=True)
class _Query:
    """What is searched with: its name, the path of its picture, and how it is compared."""

    name: str
    picture: str | None
    seen: Seen

    @property
    def problems(self) -> list[str]:
        quality = self.seen.qualities[0]
        return [f"{self.name} cannot be judged: it is {quality.problem}"] if quality and quality.problem else []


def search_and_decide(
    gallery: Gallery,
    images: Sequence[str],
    request: Request,
    deciding: Deciding = Deciding(),
    *,
    like: Sequence[str] = (),
) -> DecidedResult:
    """Search with each picture file, or with the stored vectors of each item ``like``, and decide on the hits.

    Of a stored vector the quality is not known, and is taken to be usual. One bad query among several is skipped with
    its reason; a single one raises. Without a calibration (or policy) nothing is cut, and every verdict is ``unsure``.
    """
    if bool(images) == bool(like):
        raise ConfigError("name the pictures to search with, or items with --like ID: one of the two")
    if request.metric is not None:
        known_metric(request.metric)
    calibration = kept(gallery)
    if calibration is not None:
        calibration = calibration.decided_by(request.metric or calibration.decides)
    queries, skipped = _stored(gallery, like) if like else _looked_at(gallery, images, request, calibration)
    request = replace(request, metric=_searched_by(request, calibration, gallery))
    count = gallery.count(request.where)
    decided = tuple(_decided(gallery, query, request, calibration, deciding, count) for query in queries)
    metric = calibration.decides if calibration is not None else str(request.metric)
    pictures = tuple(query.picture for query in queries)
    result = SearchResult(metric, gallery.space, tuple(one.hits for one in decided), pictures, skipped)
    return DecidedResult(result, decided, calibration)


def _stored(gallery: Gallery, ids: Sequence[str]) -> tuple[list[_Query], tuple[Skipped, ...]]:
    vectors = gallery.embeddings(ids)
    return [
        _Query(name, item.path, Seen.stored(vectors[row : row + 1], [_label(item)]))
        for row, (name, item) in enumerate(zip(ids, gallery.get(ids), strict=True))
    ], ()


def _looked_at(
    gallery: Gallery, images: Sequence[str], request: Request, calibration: Calibration | None
) -> tuple[list[_Query], tuple[Skipped, ...]]:
    encoder = gallery.encoder()
    background = calibration.background if calibration is not None else None

    def work(image: str) -> _Query | InputError:
        try:
            picture = read(image, None if request.crop else encoder.at_least)
            cropped = picture.crop(*request.crop) if request.crop else picture
        except InputError as error:
            return error
        return _Query(image, image, look(cropped, encoder, background))

    outcomes = list(zip(images, in_parallel(work, images), strict=True))
    queries = [one for _, one in outcomes if isinstance(one, _Query)]
    bad = [(image, error) for image, error in outcomes if isinstance(error, InputError)]
    if not queries:
        raise bad[0][1]
    return queries, tuple(Skipped(image, reason_of(error)) for image, error in bad)


def _searched_by(request: Request, calibration: Calibration | None, gallery: Gallery) -> str:
    """Return the metric that finds the candidates: a fusion is no order that a store knows."""
    wanted = request.metric or (calibration.decides if calibration else gallery.metric)
    return wanted if wanted in registry.names("metric") else METRICS[0]


def _decided(
    gallery: Gallery, query: _Query, request: Request, calibration: Calibration | None, deciding: Deciding, count: int
) -> DecidedHits:
    judged = calibration is not None or deciding.policy is not None
    found = gallery.search_each(
        query.seen.embeddings,
        max(request.k, _CANDIDATES) if judged else request.k,
        metric=request.metric,
        where=request.where,
        exact=request.exact,
        names=[query.name],
    )[0]
    if not found.hits:
        problems = "; ".join(query.problems)
        verdict = Verdict.UNKNOWN if problems else Verdict.UNSURE
        return DecidedHits(found, (), Decision(verdict, None, None, problems or "there is no item to compare with"))
    items = Seen.stored(gallery.embeddings([hit.id for hit in found]), list(map(_label, found)))
    metrics = dict.fromkeys((str(request.metric), *(METRICS if judged else ())))
    scores = scores_of(query.seen, items, calibration, list(metrics))
    policy = deciding.policy or _policy(calibration, deciding)
    decisions = [policy.decide(scores.of(row), scores.context(row, query.problems, count)) for row in range(len(found))]
    if not judged:
        return DecidedHits(found, tuple(decisions), decisions[0])
    rows = list(range(len(found)))
    if calibration is not None:
        found, rows = _by_what_decides(found, scores, calibration)
    best = decisions[rows[0]]
    matching = [row for row in rows if decisions[row].verdict is Verdict.MATCH]
    if deciding.gap and calibration is not None:
        matching, best = _cut(matching, rows, best, scores, calibration, deciding)
    matching = matching[: request.k]
    hits = replace(found, hits=tuple(found.hits[row] for row in matching))
    return DecidedHits(hits, tuple(decisions[row] for row in matching), best)


def _policy(calibration: Calibration | None, deciding: Deciding) -> Policy:
    return Uncalibrated() if calibration is None else Calibrated(calibration, deciding.false_alarm_rate)


def _by_what_decides(found: Hits, scores: Scores, calibration: Calibration) -> tuple[Hits, list[int]]:
    """Return the hits with the scores of what decides, and their rows, the best first."""
    closeness = scores.calibrated(calibration.decides)
    rows = sorted(range(len(found)), key=lambda row: (-float(closeness[row]), found[row].id))
    if found.metric != calibration.decides:
        own = scores.scores[calibration.decides]
        hits = tuple(replace(hit, score=float(score)) for hit, score in zip(found, own, strict=True))
        found = replace(found, metric=calibration.decides, hits=hits)
    return found, rows


def _cut(
    matching: list[int],
    rows: list[int],
    best: Decision,
    scores: Scores,
    calibration: Calibration,
    deciding: Deciding,
) -> tuple[list[int], Decision]:
    """Return the rows before the gap, and the query's decision: no match where nothing stands out."""
    least = calibration.alarms[calibration.decides].gap(deciding.false_alarm_rate)
    standing_out = set(rows[: cut_at_gap(scores.calibrated(calibration.decides)[rows], least)])
    kept_rows = [row for row in matching if row in standing_out]
    if matching and not kept_rows:
        reason = f"{best.reason}; but no gap of {least:.2g} or more sets it apart from the other items"
        best = replace(best, verdict=Verdict.NO_MATCH, reason=reason)
    return kept_rows, best


def _label(known: Hit | Item) -> str | None:
    label = known.metadata.get("label")
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
