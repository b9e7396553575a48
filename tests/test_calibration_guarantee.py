"""What is proven, against published bounds, exact sums, and samples of a population that is known."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.calibration.guarantee import (
    Guarantee,
    _needed,
    _places,
    clopper_pearson_upper,
    disjoint_closeness,
    guarantee,
)
from lookalike.calibration.pairs import ScoredPairs
from worlds import world


def naive_cdf(successes: int, trials: int, rate: float) -> float:
    p = Fraction(rate)
    return float(sum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(successes + 1)))


# The bound


@pytest.mark.parametrize(
    ("successes", "trials", "upper"),
    [
        # No success: 1 - .05^(1/n), the exact "rule of three" (Hanley and Lippman-Hand, JAMA 1983; Louis 1981).
        (0, 10, 0.2589),
        (0, 59, 0.0495),
        (0, 299, 0.00997),
        (0, 2995, 0.0009997),
        # One-sided 95 % = the upper end of two-sided 90 %: k of 10 in the tables of Clopper and Pearson 1934.
        (1, 10, 0.3942),
        (2, 10, 0.5069),
        (5, 10, 0.7776),
        (9, 10, 0.9949),
    ],
)
def test_the_bound_is_the_published_one(successes: int, trials: int, upper: float) -> None:
    assert clopper_pearson_upper(successes, trials) == pytest.approx(upper, rel=1e-3)


def test_the_upper_end_of_a_two_sided_interval_is_the_published_one() -> None:
    # 10 of 100: (.0490, .1762) (Agresti and Coull, The American Statistician 1998).
    assert clopper_pearson_upper(10, 100, 0.975) == pytest.approx(0.1762, abs=5e-5)


@given(st.integers(1, 60), st.data(), st.floats(0.5, 0.999))
def test_at_the_bound_so_few_successes_have_the_probability_that_is_left(
    trials: int, data: st.DataObject, level: float
) -> None:
    successes = data.draw(st.integers(0, trials - 1))
    upper = clopper_pearson_upper(successes, trials, level)
    assert naive_cdf(successes, trials, upper) == pytest.approx(1 - level, rel=1e-6)


def test_all_successes_bound_nothing_and_many_trials_stay_finite() -> None:
    assert clopper_pearson_upper(7, 7) == 1.0
    assert clopper_pearson_upper(0, 0) == 1.0
    assert clopper_pearson_upper(1023, 50_000) == pytest.approx(1023 / 50_000, rel=0.06)


# Disjoint pairs


@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=60),
    st.lists(st.integers(0, 5), min_size=12, max_size=12),
    st.integers(0, 3),
)
def test_disjoint_pairs_are_pairs_of_which_no_two_share_a_unit(
    named: list[tuple[int, int]], units: list[int], seed: int
) -> None:
    named = [pair for pair in named if pair[0] != pair[1]]
    i, j = np.array(named, int).reshape(-1, 2).T
    closeness = np.arange(len(named), dtype=float)  # so that a closeness names its pair
    found = disjoint_closeness(ScoredPairs(i, j, closeness, np.array(units)), seed)
    used = [units[picture] for value in found for picture in named[int(value)]]
    assert len(set(used)) == 2 * len(found)
    assert (np.diff(found) <= 0).all()
    free = {(units[a], units[b]) for a, b in named if units[a] != units[b]}
    assert not [pair for pair in free if not set(pair) & set(used)]  # no further pair would have fitted in


def test_all_units_but_an_odd_one_are_paired_where_all_pairs_are_there() -> None:
    assert len(disjoint_closeness(world(0, units=9, each=2).impostors())) == 4


def test_which_pair_stands_for_two_units_does_not_depend_on_how_close_it_is() -> None:
    units = np.array([0] * 10 + [1] * 10)
    closeness = np.add.outer(np.arange(20.0), np.arange(20.0))
    pairs = ScoredPairs.of_matrix(closeness, units[:, None] != units[None], units)
    found = [disjoint_closeness(pairs, seed)[0] for seed in range(200)]
    assert np.mean(found) == pytest.approx(pairs.closeness.mean(), abs=4 * pairs.closeness.std() / 200**0.5)


def test_which_units_are_paired_is_by_lot() -> None:
    units = np.arange(4)
    pairs = ScoredPairs.of_matrix(np.add.outer(10 * units, units).astype(float), np.ones((4, 4), bool), units)
    found = {tuple(disjoint_closeness(pairs, seed).tolist()) for seed in range(60)}
    assert found == {(23.0, 1.0), (13.0, 2.0), (12.0, 3.0)}


# The guarantee


def test_a_guarantee_by_hand() -> None:
    # 8 disjoint pairs at 8, 7, … 1: one place (the closest), so all of the error is its own.
    units = np.arange(16)
    pairs = ScoredPairs(units[::2], units[1::2], np.arange(1.0, 9.0), units)
    bound = 1 - 0.05 ** (1 / 8)
    assert guarantee(pairs, 8.0, 0.05) == Guarantee(pytest.approx(bound), pytest.approx(bound), 8, 72)
    assert guarantee(pairs, 7.99, 0.05).rate == 1.0
    assert guarantee(pairs, 100.0, 0.05).rate == pytest.approx(bound)


def test_of_several_places_the_strictest_that_the_threshold_reaches_bounds_it() -> None:
    # 40 pairs: the closest and the fourth closest, at 97.5 % each.
    units = np.arange(80)
    pairs = ScoredPairs(units[::2], units[1::2], np.arange(1.0, 41.0), units)
    first, fourth = clopper_pearson_upper(0, 40, 0.975), clopper_pearson_upper(3, 40, 0.975)
    rates = [guarantee(pairs, threshold, 0.05).rate for threshold in (41, 40, 39.9, 37, 36.9)]
    assert rates == pytest.approx([first, first, fourth, fourth, 1.0])
    assert guarantee(pairs, 41, 0.05).smallest == pytest.approx(first)


def test_without_a_pair_of_two_units_nothing_is_guaranteed() -> None:
    inside = ScoredPairs(np.array([0]), np.array([1]), np.array([0.5]), np.array([3, 3]))
    assert guarantee(inside, 0.9, 0.01) == Guarantee(1.0, 1.0, 0, 408)


@given(st.floats(1e-4, 0.3))
def test_so_many_pairs_as_are_said_to_be_needed_do_prove_the_target(target: float) -> None:
    needed = _needed(target)
    level = 1 - 0.05 / len(_places(needed))
    assert clopper_pearson_upper(0, needed, level) <= target * (1 + 1e-9)
    assert needed < 2.1 * math.log(0.05) / math.log1p(-target) + 2


def test_a_guarantee_survives_json() -> None:
    found = guarantee(world(1).impostors(), -1.0, 0.01)
    assert Guarantee.from_dict(found.as_dict()) == found


@pytest.mark.parametrize(("share", "units"), [(0.02, 30), (0.1, 90)])
def test_a_guaranteed_rate_is_broken_no_oftener_than_it_says(share: float, units: int) -> None:
    """A threshold that is chosen on the very pairs, as strictly or as loosely as it may be."""
    population = world(999, units=1200, each=1)
    truth = np.sort(population.closeness[np.triu_indices(1200, 1)])
    broken = []
    for seed in range(300):
        pairs = world(seed, units=units, each=2).impostors()
        threshold = pairs.closeness[int(share * len(pairs))]
        rate = 1 - np.searchsorted(truth, threshold) / len(truth)
        broken.append(rate > guarantee(pairs, threshold, 0.01, seed).rate)
    assert np.mean(broken) <= 0.05 + 2 * (0.05 * 0.95 / 300) ** 0.5


@pytest.mark.parametrize("place", [1, 4])
def test_the_bound_is_no_looser_than_it_has_to_be(place: int) -> None:
    """At the very place that it is made for it is broken about as often as its share of the error says."""
    m, trials = 40, 4000
    level = 1 - 0.05 / len(_places(m))
    uniform = np.sort(np.random.default_rng(0).random((trials, m)), axis=1)  # rates of the k-th closest pairs
    broken = (uniform[:, place - 1] > clopper_pearson_upper(place - 1, m, level)).mean()
    assert broken == pytest.approx(1 - level, abs=3 * (0.025 / trials) ** 0.5)
