"""Resampling, against theory, naive loops, and samples of a population that is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.calibration.fitting import fit_from, table_of
from lookalike.calibration.pairs import ScoredPairs
from lookalike.calibration.resampling import (
    _carried_over,
    _rates,
    _unit_counts,
    bayesian_weights,
    efron_weights,
    shortest_interval,
    spread,
)
from worlds import world

SIMULATIONS = 150
TARGET = 0.1


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# The weights


@pytest.mark.parametrize(("units", "each"), [(30, 1), (20, 4), (6, 10)])
def test_efron_weights_have_the_moments_of_drawing_units_and_in_them_pictures_with_replacement(
    units: int, each: int
) -> None:
    of = np.repeat(np.arange(units), each)
    weights = efron_weights(of, 3000, rng())
    assert (weights == np.rint(weights)).all()
    assert weights.sum(axis=0).tolist() == [len(of)] * 3000  # units are of one size
    assert weights.mean() == pytest.approx(1)
    # The unit comes c times (multinomial, variance 1 - 1/u); then a picture is hit c m times with chance 1/m.
    assert weights.var() == pytest.approx((1 - 1 / units) + (1 - 1 / each), rel=0.03)


def test_a_unit_comes_whole_times_its_size_in_efron_draws() -> None:
    of = np.array([5, 5, 5, 2, 2, 9])  # sizes 1, 2, 3; numbers need not be dense
    weights = efron_weights(of, 500, rng())
    for unit, size in ((5, 3), (2, 2), (9, 1)):
        assert (weights[of == unit].sum(axis=0) % size == 0).all()
    assert ((weights > 0).astype(int).T @ np.eye(6)).shape == (500, 6)


def test_no_efron_draw_is_of_one_unit_alone_for_then_there_are_no_pairs() -> None:
    assert _unit_counts(2, 50, rng()).tolist() == [[1] * 50] * 2
    assert (np.count_nonzero(_unit_counts(3, 500, rng()), axis=0) > 1).all()
    assert _unit_counts(1, 4, rng()).tolist() == [[1] * 4]


@pytest.mark.parametrize("units", [3, 5, 12, 40])
def test_bayesian_weights_give_a_mean_the_variance_of_an_unbiased_estimate(units: int) -> None:
    values = rng(1).exponential(size=units)
    weights = bayesian_weights(np.arange(units), 20_000, rng())
    means = values @ weights / weights.sum(axis=0)
    assert means.mean() == pytest.approx(values.mean(), abs=5 * means.std() / 141)
    assert means.var() == pytest.approx(values.var(ddof=1) / units, rel=0.06)


def test_bayesian_weights_of_a_unit_sum_to_its_own_times_its_size() -> None:
    of = np.array([0, 0, 0, 0, 1, 2, 2])
    weights = bayesian_weights(of, 4000, rng())
    totals = np.array([weights[of == unit].sum(axis=0) for unit in range(3)])
    assert (weights > 0).all()
    # Gamma of shape (3 - 2) / 3, times the unit's size.
    np.testing.assert_allclose(totals.mean(axis=1), np.array([4, 1, 2]) / 3, rtol=0.1)


def test_no_bayesian_weight_is_so_small_that_a_product_of_two_vanishes() -> None:
    assert bayesian_weights(np.arange(3), 1_000_000, rng()).min() > 1e-13


def test_weights_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    of = np.repeat(np.arange(5), 3)
    for draw in (efron_weights, bayesian_weights):
        np.testing.assert_array_equal(draw(of, 7, rng(4)), draw(of, 7, rng(4)))
        assert (draw(of, 7, rng(4)) != draw(of, 7, rng(5))).any()


# Rates of a draw


def test_the_rates_of_a_draw_equal_a_naive_loop_in_which_a_pair_inside_a_unit_counts_the_unit_once() -> None:
    units = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    closeness = rng(2).normal(size=(8, 8))
    pairs = ScoredPairs.of_matrix(closeness, np.ones((8, 8), bool), units)
    weights = bayesian_weights(units, 6, rng(3))
    ranks = np.array([1, 2, 5, 13, 28])
    got = _rates(pairs, ranks, weights)
    for draw in range(6):
        own = [float(weights[units == unit, draw].mean()) for unit in range(4)]
        masses = []
        for i, j in zip(pairs.i, pairs.j, strict=True):
            mass = float(weights[i, draw]) * float(weights[j, draw])
            masses.append(mass / own[units[i]] if units[i] == units[j] else mass)
        want = [sum(masses[:rank]) / sum(masses) for rank in ranks]
        np.testing.assert_allclose(got[draw], want, rtol=1e-5)


def test_a_draw_in_which_no_pair_is_left_has_no_rate() -> None:
    pairs = ScoredPairs(np.array([0]), np.array([1]), np.array([0.5]), np.array([0, 1, 2]))
    weights = np.array([[1, 0], [1, 2], [0, 1]], np.float32)
    assert _rates(pairs, np.array([1]), weights)[0, 0] == 1
    assert np.isnan(_rates(pairs, np.array([1]), weights)[1, 0])


def test_many_pairs_are_weighted_in_pieces_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = world(3).impostors()
    ranks, weights = np.array([1, 50, len(pairs)]), efron_weights(pairs.units, 20, rng())
    whole = _rates(pairs, ranks, weights)
    monkeypatch.setattr("lookalike.calibration.resampling._CHUNK", 100)
    np.testing.assert_allclose(_rates(pairs, ranks, weights), whole, rtol=1e-5)


# The spread


def test_a_threshold_set_on_one_draw_is_carried_to_another_by_hand() -> None:
    # .1 lies halfway, in logarithms, between the rates .05 and .2 of the setting draw: so does its threshold.
    setting, nominal = np.array([[0.05, 0.2, 1.0]]), np.array([0.1, 0.2, 1.0])
    draws = _carried_over(setting, np.array([[0.2, 0.5, 1.0], [0.0, 0.1, 1.0]]), nominal)
    np.testing.assert_allclose(draws[0], [0.35, 0.5, 1.0])
    np.testing.assert_allclose(draws[1], [0.05, 0.1, 1.0])


@given(st.lists(st.integers(0, 6), min_size=6, max_size=40))
def test_equally_close_pairs_pass_together(scores: list[int]) -> None:
    n = len(scores)
    pairs = ScoredPairs(np.arange(n), np.arange(n) + n, np.array(scores, float), np.arange(2 * n))
    found = spread(pairs)
    assert (np.diff(found.closeness) < 0).all()
    for closeness, nominal in zip(found.closeness, found.nominal, strict=True):
        assert nominal == sum(score >= closeness for score in scores) / n


def test_the_spread_begins_at_the_closest_pair_and_ends_at_all() -> None:
    pairs = world(1).impostors()
    found = spread(pairs)
    assert found.closeness[0] == pairs.closeness[0]
    assert found.closeness[-1] == pairs.closeness[-1]
    assert found.nominal[[0, -1]].tolist() == [1 / len(pairs), 1]
    assert np.isfinite(found.draws).all()
    assert ((found.draws >= 0) & (found.draws <= 1 + 1e-9)).all()
    assert (np.diff(found.draws, axis=1) >= -1e-12).all()


def test_the_spread_is_the_same_on_every_run() -> None:
    pairs = world(1).impostors()
    np.testing.assert_array_equal(spread(pairs).draws, spread(pairs).draws)


@pytest.mark.parametrize("units", [[0, 1], [0, 0]])
def test_one_pair_has_a_spread_without_nan(units: list[int]) -> None:
    found = spread(ScoredPairs(np.array([0]), np.array([1]), np.array([0.5]), np.array(units)))
    assert found.nominal.tolist() == [1.0]
    assert np.isfinite(found.draws).all()


# What it promises


@pytest.fixture(scope="module")
def outcomes() -> dict[str, np.ndarray]:
    """Of many samples: what is promised of impostors and misses, and what a fresh sample of units gives."""
    impostors, misses = [], []
    for seed in range(SIMULATIONS):
        sample, fresh = world(seed), world(seed + 10_000)
        found = fit_from(sample.impostors(), sample.genuine(), table_of(sample.impostors()), TARGET)
        assert found.missed is not None
        met = fresh.impostors().rate_at(found.threshold)
        missed = 1 - fresh.genuine().rate_at(found.threshold)
        impostors.append((*found.rate, met))
        misses.append((*found.missed, missed))
    return {"impostors": np.array(impostors), "misses": np.array(misses)}


@pytest.mark.parametrize("kind", ["impostors", "misses"])
def test_the_rate_of_a_fresh_sample_lies_in_the_stated_interval(outcomes: dict[str, np.ndarray], kind: str) -> None:
    _, low, high, met = outcomes[kind].T
    assert ((low <= met) & (met <= high)).mean() >= 0.9


def test_the_threshold_keeps_the_target_on_average(outcomes: dict[str, np.ndarray]) -> None:
    estimate, _, _, met = outcomes["impostors"].T
    assert met.mean() <= TARGET + 2 * met.std() / SIMULATIONS**0.5
    assert (estimate <= TARGET).all()
    assert met.mean() == pytest.approx(estimate.mean(), abs=0.015)


def test_misses_are_estimated_without_bias(outcomes: dict[str, np.ndarray]) -> None:
    estimate, _, _, met = outcomes["misses"].T
    assert met.mean() == pytest.approx(estimate.mean(), abs=0.03)


def test_the_interval_is_no_wider_than_promised(outcomes: dict[str, np.ndarray]) -> None:
    _, low, high, _ = outcomes["impostors"].T
    assert ((high - low) <= 3 * TARGET + 1e-12).all()


# The shortest interval


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(0.05, 1))
def test_the_shortest_interval_is_that_of_brute_force(values: list[float], share: float) -> None:
    low, high = shortest_interval(np.array(values)[:, None], share)
    best = min(
        b - a for a in values for b in values if a <= b and sum(a <= v <= b for v in values) >= share * len(values)
    )
    assert high[0] - low[0] == pytest.approx(best, abs=1e-12)
    assert sum(low[0] <= v <= high[0] for v in values) >= share * len(values)


def test_each_column_has_its_own_shortest_interval() -> None:
    draws = np.array([[0.0, 9.0], [1.0, 8.0], [10.0, 0.0]])
    low, high = shortest_interval(draws, 0.6)
    assert (low.tolist(), high.tolist()) == ([0.0, 8.0], [1.0, 9.0])
