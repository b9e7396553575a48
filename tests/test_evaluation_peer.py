"""Beside scikit-learn: what both measure is the same number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from lookalike.evaluation import retrieval
from lookalike.evaluation.judging import judge
from lookalike.evaluation.truth import Truth
from lookalike.evaluation.verification import Curve, curve_of

ROUNDED = st.integers(-8, 8).map(lambda n: n / 4)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[bool], list[float]]:
    """Pairs of both kinds with scores, many of them tied."""
    count = draw(st.integers(2, 60))
    same = draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(lambda some: 0 < sum(some) < len(some)))
    return same, draw(st.lists(ROUNDED, min_size=count, max_size=count))


def curve(same: list[bool], scores: list[float]) -> Curve:
    row = np.array([scores], np.float32)
    judged = judge(lambda _first, _last: row.copy(), Truth(np.array([1]), np.array(same, np.int64)))
    return curve_of(judged.levels, judged.genuine, judged.impostor, np.ones(1))


@settings(max_examples=150, deadline=None)
@given(pairs())
def test_roc_area_and_average_precision(given_pairs: tuple[list[bool], list[float]]) -> None:
    same, scores = given_pairs
    made = curve(same, scores)
    assert float(made.auc()) == pytest.approx(metrics.roc_auc_score(same, scores))
    assert float(made.average_precision()) == pytest.approx(metrics.average_precision_score(same, scores))
    x, y, thresholds = metrics.roc_curve(same, scores, drop_intermediate=False)
    assert made.false_positive_rate[:-1] == pytest.approx(x)
    assert made.true_positive_rate[:-1] == pytest.approx(y)
    assert made.levels == pytest.approx(thresholds[1:])


@settings(max_examples=150, deadline=None)
@given(pairs())
def test_det(given_pairs: tuple[list[bool], list[float]]) -> None:
    same, scores = given_pairs
    made = curve(same, scores)
    rates = zip(made.false_positive_rate[1:-1], 1 - made.true_positive_rate[1:-1], strict=True)
    ours = dict(zip(made.levels.tolist(), rates, strict=True))
    for x, y, threshold in zip(*metrics.det_curve(same, scores), strict=True):
        if np.isfinite(threshold):
            assert ours[float(threshold)] == pytest.approx((x, y))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=40).filter(any))
def test_ndcg_and_average_precision_of_a_ranking(hits: list[bool]) -> None:
    ranks: Any = np.flatnonzero(hits) + 1
    falling = [np.arange(len(hits), 0, -1)]
    assert retrieval.ndcg(ranks, 10) == pytest.approx(metrics.ndcg_score([hits], falling, k=10))
    # With k past the end both have the denominator R.
    assert retrieval.average_precision(ranks, len(hits)) == pytest.approx(
        metrics.average_precision_score(hits, falling[0])
    )
    assert retrieval.reciprocal_rank(ranks) == pytest.approx(
        1 if ranks[0] == 1 else metrics.label_ranking_average_precision_score([_first_only(hits)], falling)
    )


def _first_only(hits: list[bool]) -> list[bool]:
    """The ranking with its first hit alone: its average precision is the reciprocal rank."""
    return [place == hits.index(True) for place in range(len(hits))]
