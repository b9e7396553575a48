"""ROC, rates, precision and recall: published examples, and loops over all pairs and all thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.errors import InputError
from lookalike.evaluation.judging import judge
from lookalike.evaluation.truth import Truth
from lookalike.evaluation.verification import Curve, curve_of, det_points, thinned


def curve(genuine: Any, impostor: Any) -> Curve:
    """The curve of one query to which the items of its label have the scores ``genuine``, all levels exact."""
    scores = np.array([*genuine, *impostor], np.float32)
    truth = Truth(np.array([1]), np.array([1] * len(genuine) + [0] * len(impostor)))
    judged = judge(lambda _first, _last: scores[None].copy(), truth)
    return curve_of(judged.levels, judged.genuine, judged.impostor, np.ones(1))


def test_the_example_of_scikit_learn() -> None:
    # sklearn.metrics.roc_curve, roc_auc_score, average_precision_score: y = [0, 0, 1, 1], scores [.1, .4, .35, .8].
    made = curve([0.35, 0.8], [0.1, 0.4])
    assert made.false_positive_rate.tolist() == [0, 0, 0.5, 0.5, 1, 1]
    assert made.true_positive_rate.tolist() == [0, 0.5, 0.5, 1, 1, 1]
    assert float(made.auc()) == pytest.approx(0.75)
    assert float(made.average_precision()) == pytest.approx(0.8333333)
    assert made.precision.tolist() == pytest.approx([1, 0.5, 2 / 3, 0.5, 0.5])


def test_the_equal_error_rate_by_hand() -> None:
    # At .5 one of four others passes and one of four of the same does not.
    assert float(curve([0.9, 0.8, 0.5, 0.2], [0.6, 0.4, 0.3, 0.1]).equal_error_rate()) == pytest.approx(0.25)
    assert float(curve([0.9, 0.8], [0.2, 0.1]).equal_error_rate()) == 0
    assert float(curve([0.1, 0.2], [0.8, 0.9]).equal_error_rate()) == 1


def test_scores_that_are_all_equal_tell_nothing() -> None:
    made = curve([0.5, 0.5], [0.5, 0.5, 0.5])
    assert float(made.auc()) == 0.5
    assert float(made.equal_error_rate()) == 0.5


SCORES = st.lists(st.integers(0, 12).map(float), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(SCORES, SCORES)
def test_area_rates_and_thresholds_agree_with_loops_over_all_pairs(genuine: list[float], impostor: list[float]) -> None:
    made = curve(genuine, impostor)
    wins = sum((g > i) + (g == i) / 2 for g in genuine for i in impostor)
    assert float(made.auc()) == pytest.approx(wins / len(genuine) / len(impostor))
    for level, x, y in zip(made.levels, made.false_positive_rate[1:-1], made.true_positive_rate[1:-1], strict=True):
        assert x == pytest.approx(sum(i >= level for i in impostor) / len(impostor))
        assert y == pytest.approx(sum(g >= level for g in genuine) / len(genuine))
        assert made.false_positives_at(float(level)) == pytest.approx(x)
    for rate in (0.0, 0.1, 0.3, 0.5):
        fitting = [t for t in {*genuine, *impostor} if sum(i >= t for i in impostor) / len(impostor) <= rate]
        place = made.level_at(rate)
        assert (None if place is None else made.levels[place]) == (min(fitting) if fitting else None)
    ordered = sorted({*genuine, *impostor}, reverse=True)
    recalls = [0.0] + [sum(g >= t for g in genuine) / len(genuine) for t in ordered]
    precisions = [sum(g >= t for g in genuine) / sum(s >= t for s in [*genuine, *impostor]) for t in ordered]
    expected = sum((b - a) * p for a, b, p in zip(recalls, recalls[1:], precisions, strict=False))
    assert float(made.average_precision()) == pytest.approx(expected)


@settings(max_examples=100, deadline=None)
@given(SCORES, SCORES)
def test_an_increasing_change_of_scores_changes_no_rate(genuine: list[float], impostor: list[float]) -> None:
    one = curve(genuine, impostor)
    other = curve([g**3 for g in genuine], [i**3 for i in impostor])
    assert float(one.auc()) == pytest.approx(float(other.auc()))
    assert float(one.equal_error_rate()) == pytest.approx(float(other.equal_error_rate()))
    assert float(one.true_positives_at(0.1)) == pytest.approx(float(other.true_positives_at(0.1)))


def test_levels_drawn_from_many_scores_tell_the_area_to_a_thousandth() -> None:
    rng = np.random.default_rng(1)
    queries, items = 300, 400
    labels, of = rng.integers(0, 5, queries), rng.integers(0, 5, items)
    matrix = (rng.normal(size=(queries, items)) + 1.5 * (labels[:, None] == of)).astype(np.float32)
    judged = judge(lambda first, last: matrix[first:last].copy(), Truth(labels, of))
    made = curve_of(judged.levels, judged.genuine, judged.impostor, np.ones(queries))
    same = labels[:, None] == of
    ranks = np.empty(matrix.size)
    ranks[np.argsort(matrix, axis=None)] = np.arange(matrix.size)
    wins = ranks[same.ravel()].sum() - same.sum() * (same.sum() - 1) / 2  # Mann-Whitney's U
    assert float(made.auc()) == pytest.approx(wins / same.sum() / (~same).sum(), abs=1e-3)
    assert len(judged.levels) < 400


def test_a_query_that_weighs_nothing_is_as_good_as_not_there() -> None:
    rng = np.random.default_rng(2)
    levels = np.array([2, 1], np.float32)
    genuine, impostor = (np.sort(rng.integers(1, 9, (4, 3)), axis=1).astype(np.int32) for _ in range(2))
    weights = np.array([[1, 0], [2, 1], [0, 1], [1, 3]], np.float32)
    both = curve_of(levels, genuine, impostor, weights)
    for draw in range(2):
        rows = np.repeat(np.arange(4), weights[:, draw].astype(int))
        one = curve_of(levels, genuine[rows], impostor[rows], np.ones(len(rows)))
        for name in ("auc", "equal_error_rate", "average_precision"):
            assert getattr(both, name)()[draw] == pytest.approx(float(getattr(one, name)()))
        assert both.true_positives_at(0.3)[draw] == pytest.approx(float(one.true_positives_at(0.3)))


def test_without_pairs_of_one_kind_nothing_is_said() -> None:
    alone = Curve(np.array([1.0], np.float32), np.array([1, 2]), np.array([0, 0]))
    assert np.isnan(alone.auc())
    assert np.isnan(alone.equal_error_rate())
    assert np.isnan(alone.true_positives_at(0.1))
    assert alone.level_at(0.1) is None


def test_det_points_are_those_at_which_both_rates_can_be_drawn() -> None:
    assert det_points(curve([0.9, 0.8, 0.5, 0.2], [0.6, 0.4, 0.3, 0.1])) == [
        (0.25, 0.5),
        (0.25, 0.25),
        (0.5, 0.25),
        (0.75, 0.25),
    ]


def test_counts_that_do_not_fit_the_levels_are_refused() -> None:
    with pytest.raises(InputError, match="2 levels need one count more"):
        Curve(np.array([2.0, 1.0], np.float32), np.zeros(2), np.zeros(2))


def test_thinning_keeps_the_ends() -> None:
    assert thinned(100, 5) == [0, 25, 50, 74, 99]
    assert thinned(3, 5) == [0, 1, 2]
