"""Scored pairs, and the choice of pictures where there are many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike import registry
from lookalike.calibration.pairs import ScoredPairs, closeness, drawn, numbered, of_closeness
from lookalike.errors import InputError


def test_pairs_of_a_matrix_are_those_above_the_diagonal_in_the_mask_best_first() -> None:
    matrix = np.array([[9.0, 0.3, 0.5], [0.3, 9.0, 0.4], [0.5, 0.4, 9.0]], np.float32)
    mask = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 1]], bool)
    pairs = ScoredPairs.of_matrix(matrix, mask, np.array([0, 0, 1]))
    assert (pairs.i.tolist(), pairs.j.tolist()) == ([0, 0], [2, 1])
    assert pairs.closeness.tolist() == [0.5, pytest.approx(0.3)]
    assert pairs.closeness.dtype == np.float64
    assert (len(pairs), pairs.pictures, pairs.unit_count) == (2, 3, 2)


def test_an_empty_mask_gives_no_pairs_and_a_rate_of_nothing() -> None:
    pairs = ScoredPairs.of_matrix(np.ones((3, 3)), np.zeros((3, 3), bool), np.arange(3))
    assert (len(pairs), pairs.pictures, pairs.unit_count, pairs.rate_at(0.5)) == (0, 0, 0, 0.0)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=20), st.integers(-4, 4))
def test_the_rate_at_a_threshold_counts_what_is_at_least_so_close(scores: list[int], threshold: int) -> None:
    rows = np.arange(len(scores))
    pairs = ScoredPairs(rows, rows + 1, np.array(scores, np.float32), np.arange(len(scores) + 1))
    assert pairs.rate_at(threshold) == sum(score >= threshold for score in scores) / len(scores)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_closeness_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="NaN or infinity"):
        ScoredPairs(np.array([0]), np.array([1]), np.array([bad]), np.arange(2))


def test_pairs_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(InputError, match="got 2, 1, 1"):
        ScoredPairs(np.array([0, 1]), np.array([1]), np.array([1.0]), np.arange(2))
    with pytest.raises(InputError, match="0 to 1, got 0 to 2"):
        ScoredPairs(np.array([0]), np.array([2]), np.array([1.0]), np.arange(2))


def test_a_distance_is_turned_and_turned_back() -> None:
    euclidean, cosine = registry.metric("euclidean"), registry.metric("cosine")
    assert closeness(euclidean, np.array([2.0])).tolist() == [-2.0]
    assert closeness(cosine, np.array([2.0])).tolist() == [2.0]
    assert (of_closeness(euclidean, -2.0), of_closeness(cosine, 0.5)) == (2.0, 0.5)


def test_names_are_numbered_in_the_order_in_which_they_come() -> None:
    assert numbered(["b", "a", "b", None]).tolist() == [0, 1, 0, 2]
    assert numbered([]).tolist() == []


# Drawing


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200), st.integers(20, 60), st.integers(0, 3))
def test_no_more_are_drawn_than_may_be_and_hardly_fewer(units: list[int], at_most: int, seed: int) -> None:
    of = numbered(units)
    chosen = drawn(of, at_most, seed)
    assert len(np.unique(chosen)) == len(chosen) <= at_most
    assert (np.diff(chosen) > 0).all()
    if len(units) <= at_most:
        assert len(chosen) == len(units)
        return
    largest = at_most // min(8, len(set(units)))
    for unit, size in zip(*np.unique(of[chosen], return_counts=True), strict=True):
        assert size == min(largest, (of == unit).sum())  # whole units, or as much as a unit may fill
    capped = sum(min(largest, int(size)) for size in np.bincount(of))
    assert len(chosen) > at_most - largest or len(chosen) == capped


def test_one_huge_unit_among_many_small_ones_leaves_room_for_them() -> None:
    of = np.concatenate([np.zeros(5000, int), np.arange(1, 3000)])
    for seed in range(20):
        chosen = of[drawn(of, 1200, seed)]
        assert len(chosen) > 1000
        assert len(np.unique(chosen)) > 800


def test_two_huge_units_give_half_each() -> None:
    of = np.repeat([0, 1], 5000)
    assert np.bincount(of[drawn(of, 100)]).tolist() == [50, 50]


def test_what_is_drawn_is_by_lot_and_the_same_on_every_run() -> None:
    of = np.arange(100)
    assert drawn(of, 10, 1).tolist() == drawn(of, 10, 1).tolist() != drawn(of, 10, 2).tolist()
    counts = sum(np.bincount(drawn(of, 10, seed), minlength=100) for seed in range(300))
    assert counts.min() > 5
    assert counts.max() < 70
