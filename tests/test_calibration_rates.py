"""Tables of rates by hand, thresholds, and what is said where pairs cannot support a target."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lookalike.calibration import Fit, ScoredPairs, fit
from lookalike.calibration.fitting import fit_from, table_of
from lookalike.calibration.rates import Rate, RateTable, checked_target, rounded_up
from lookalike.calibration.resampling import Spread
from lookalike.errors import InputError
from worlds import world

FOUR = table_of(world(4).impostors())


def table(**columns: Any) -> RateTable:
    """Four rows; what is not said is as follows."""
    rows = {
        "closeness": [0.9, 0.7, 0.5, 0.0],
        "nominal": [0.01, 0.1, 0.2, 1.0],
        "estimate": [0.02, 0.12, 0.22, 1.0],
        "low": [0.0, 0.04, 0.1, 1.0],
        "high": [0.05, 0.2, 0.4, 1.0],
        **columns,
    }
    return RateTable(*(np.array(rows[name]) for name in ("closeness", "nominal", "estimate", "low", "high")))


def refused(pairs: ScoredPairs, target: float) -> str:
    with pytest.raises(InputError) as caught:
        fit(pairs, None, target)
    return str(caught.value)


# The table


def test_rates_between_rows_are_interpolated_and_clamped_beyond_them() -> None:
    assert table().at(0.7) == Rate(0.12, 0.04, 0.2)
    assert table().at(0.6) == pytest.approx((0.17, 0.07, 0.3))
    assert table().at(5.0) == Rate(0.02, 0.0, 0.05)  # closer than any seen: what the closest allows
    assert table().at(-5.0) == Rate(1.0, 1.0, 1.0)


def test_the_loosest_row_that_keeps_the_target_with_a_narrow_interval_fits() -> None:
    assert table().fitting(0.12) == 1  # .12 <= .12; .2 - .04 <= 3 x .12
    assert table().fitting(0.119) == 0
    assert table().fitting(0.02) == 0  # .05 <= .06
    assert table().fitting(0.019) is None
    assert table(high=[0.05, 0.41, 0.5, 1.0]).fitting(0.12) == 0  # .37 is wider than .36
    assert table(high=[0.3, 0.4, 0.6, 1.0], low=[0, 0.1, 0.1, 1]).fitting(0.22) == 2


def test_the_plug_in_threshold_is_where_the_target_is_reached_among_these_very_pairs() -> None:
    assert table().plug_in(0.1) == pytest.approx(0.7)
    assert table().plug_in(0.15) == pytest.approx(0.6)
    assert table().plug_in(0.001) == pytest.approx(0.9)


def test_the_smallest_target_by_hand() -> None:
    # Of the rows: max(.02, .05/3), max(.12, .16/3), max(.22, .1), 1.
    assert table().smallest_target() == pytest.approx(0.02)
    assert table(high=[0.3, 0.3, 0.4, 1.0]).smallest_target() == pytest.approx(0.1)


def test_the_growth_that_a_target_takes_by_hand() -> None:
    # The first row has .02 and a width of .05: half the rate takes sqrt(2) times the units, by the number of pairs; its
    # width, 2.5 rates there, 2.5 sqrt(2) at the target, takes (2.5 sqrt(2) / 3)^2 times.
    assert table().growth(0.01) == pytest.approx(max(2**0.5, 2.5**2 * 2 / 9))
    assert table(high=[0.08, 0.2, 0.4, 1.0]).growth(0.01) == pytest.approx(4**2 * 2 / 9)
    assert table(high=[0.2, 0.2, 0.4, 1.0]).growth(0.05) == pytest.approx((4 / 3) ** 2)


def test_strength_is_minus_the_logarithm_of_the_rate_and_goes_on_beyond_the_pairs() -> None:
    got = table().strength(np.array([0.9, 0.7, 0.8, 0.0, 1.0, -0.1]))
    # Above: as from .7 to .9 (1 to 2). Below: as over all (0 to 2 in .9).
    np.testing.assert_allclose(got, [2.0, 1.0, 1.5, 0.0, 2.5, -0.2 / 0.9], atol=1e-12)


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=20, unique=True))
def test_strength_rises_with_closeness_everywhere(places: list[float]) -> None:
    assume(min(np.diff(sorted(places))) > 1e-6)
    strengths = FOUR.strength(FOUR.closeness[0] + np.sort(places) * np.ptp(FOUR.closeness))
    assert (np.diff(strengths) > 0).all()


def test_strength_of_a_table_of_one_row_still_rises() -> None:
    one = RateTable(*(np.array([value]) for value in (0.5, 1.0, 1.0, 1.0, 1.0)))
    np.testing.assert_allclose(one.strength(np.array([0.4, 0.5, 0.7])), [-0.1, 0, 0.2])


def test_a_table_of_draws_rises_and_holds_its_means() -> None:
    # In the first column one draw of four is large: the shortest interval of 95 % takes all, that of three would not.
    draws = np.array([[0.0, 0.2], [0.0, 0.1], [0.0, 0.3], [0.4, 0.1]])
    made = RateTable.of(Spread(np.array([0.1, 0.5]), np.array([2.0, 1.0]), draws))
    assert made.estimate.tolist() == pytest.approx([0.1, 0.175])
    assert (made.low.tolist(), made.high.tolist()) == ([0.0, 0.1], [0.4, 0.4])


def test_the_interval_holds_the_mean_where_a_few_draws_are_large() -> None:
    draws = np.array([[0.0]] * 97 + [[1.0]] * 3)
    made = RateTable.of(Spread(np.array([0.01]), np.array([2.0]), draws))
    assert (made.low[0], made.estimate[0], made.high[0]) == (0.0, 0.03, 0.03)
    made = RateTable.of(Spread(np.array([0.99]), np.array([2.0]), 1 - draws))
    assert (made.low[0], made.estimate[0], made.high[0]) == (0.97, 0.97, 1.0)


@pytest.mark.parametrize(
    "columns",
    [
        {"closeness": [0.7, 0.7, 0.5, 0.0]},
        {"closeness": [0.5, 0.7, 0.5, 0.0]},
        {"nominal": [0.1, 0.01, 0.2, 1.0]},
        {"nominal": [0.0, 0.01, 0.2, 1.0]},
        {"nominal": [0.1, 0.2, 0.3, 1.5]},
        {"low": [0.03, 0.04, 0.1, 1.0]},
        {"low": [-0.1, 0.04, 0.1, 1.0]},
        {"high": [0.01, 0.2, 0.4, 1.0]},
        {"high": [0.05, 0.2, 0.4, 1.2]},
        {"estimate": [0.02, math.nan, 0.22, 1.0]},
        {"high": [0.05, 0.2, 0.4]},
        {"closeness": [], "nominal": [], "estimate": [], "low": [], "high": []},
    ],
)
def test_a_table_that_is_none_cannot_be_built(columns: dict[str, list[float]]) -> None:
    with pytest.raises(InputError, match="table of rates"):
        table(**columns)


@given(st.integers(0, 50))
def test_a_table_survives_json_to_the_last_bit(seed: int) -> None:
    made = table_of(world(seed, units=5, each=2).impostors())
    again = RateTable.from_dict(json.loads(json.dumps(made.as_dict(), allow_nan=False)))
    for name in ("closeness", "nominal", "estimate", "low", "high"):
        np.testing.assert_array_equal(getattr(again, name), getattr(made, name))


@pytest.mark.parametrize("target", [0, 0.5, 1, -0.1, math.nan, math.inf, "0.01", None, True])
def test_a_target_that_is_no_rate_is_refused(target: Any) -> None:
    with pytest.raises(InputError, match=re.escape(f"got {target!r}")):
        checked_target(target)
    assert checked_target(np.float32(0.25)) == 0.25


@given(st.floats(1e-9, 1))
def test_a_rate_is_rounded_up_to_two_digits(rate: float) -> None:
    rounded = rounded_up(rate)
    assert rate * (1 - 1e-9) <= rounded <= rate * 1.11
    assert len(f"{rounded:.12e}".split("e")[0].rstrip("0").replace(".", "")) <= 2


# The fit


def test_a_fit_holds_its_target_and_says_what_is_between_the_two_thresholds() -> None:
    pairs = world(3).impostors()
    made = fit(pairs, world(3).genuine(), 0.1)
    assert made.rate.low <= made.rate.estimate <= 0.1
    assert made.rate.high - made.rate.low <= 0.3
    assert made.threshold in pairs.closeness
    assert made.plug_in <= made.threshold
    assert pairs.rate_at(made.plug_in) == pytest.approx(0.1, abs=2 / len(pairs))
    assert made.impostors.at(made.threshold) == made.rate


def test_the_misses_are_the_share_of_genuine_pairs_below_the_threshold() -> None:
    sample = world(5)
    made = fit(sample.impostors(), sample.genuine(), 0.1)
    assert made.missed is not None
    below = [c for c in sample.genuine().closeness if c < made.threshold]
    assert made.missed.estimate == pytest.approx(len(below) / len(sample.genuine()))
    assert made.missed.low <= made.missed.estimate <= made.missed.high


def test_that_no_genuine_pair_was_missed_does_not_prove_that_none_is() -> None:
    pairs, units = world(3).impostors(), world(3).units
    near = ScoredPairs(np.arange(0, 36, 3), np.arange(1, 36, 3), np.linspace(5, 6, 12), units)
    made = fit(pairs, near, 0.1)
    assert made.missed is not None
    assert (made.missed.estimate, made.missed.low) == (0.0, 0.0)
    assert 1 / 12 < made.missed.high < 0.6
    far = ScoredPairs(near.i, near.j, near.closeness - 100, units)
    assert fit(pairs, far, 0.1).missed == Rate(1.0, 1.0, 1.0)


@pytest.mark.parametrize("genuine", [None, ScoredPairs(*(np.array([], int),) * 2, np.array([]), np.arange(36))])
def test_without_genuine_pairs_misses_are_not_known(genuine: ScoredPairs | None) -> None:
    assert fit(world(3).impostors(), genuine, 0.1).missed is None


def test_stricter_targets_have_stricter_thresholds() -> None:
    pairs = world(6, units=20).impostors()
    made = table_of(pairs)
    fits = [fit_from(pairs, None, made, target) for target in (0.02, 0.05, 0.1, 0.2, 0.4)]
    for stricter, looser in pairwise(fits):
        assert stricter.threshold > looser.threshold
        assert stricter.plug_in > looser.plug_in
        assert stricter.rate.estimate <= looser.rate.estimate


def test_a_fit_survives_json() -> None:
    for genuine in (world(3).genuine(), None):
        made = fit(world(3).impostors(), genuine, 0.1)
        again = Fit.from_dict(json.loads(json.dumps(made.as_dict(), allow_nan=False)))
        assert again.as_dict() == made.as_dict()
        assert (again.threshold, again.plug_in, again.rate, again.missed, again.guaranteed) == (
            made.threshold,
            made.plug_in,
            made.rate,
            made.missed,
            made.guaranteed,
        )


# Refusals


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        (world(0, units=3, each=5).impostors(), "75 pairs of different things, 3 things in all"),
        (ScoredPairs(np.arange(4), np.arange(4) + 4, np.arange(4.0), np.arange(8)), "4 pairs of different things"),
        (ScoredPairs(*(np.array([], int),) * 2, np.array([]), np.arange(3)), "0 pairs of different things, 0 things"),
    ],
)
def test_too_few_pairs_to_tell_anything_are_refused(pairs: ScoredPairs, why: str) -> None:
    message = refused(pairs, 0.1)
    assert why in message
    assert "at least 5 pairs of 4 things" in message


def test_equally_close_pairs_are_refused_for_no_threshold_tells_them_apart() -> None:
    sample = world(0)
    pairs = ScoredPairs.of_matrix(np.full_like(sample.closeness, 0.5), ~sample.same, sample.units)
    assert "the smallest they can promise is not even 0.5" in refused(pairs, 0.1)


def test_where_half_of_the_pairs_are_equally_close_no_smaller_rate_is_promised() -> None:
    sample = world(0, units=20)
    pairs = sample.impostors()
    tied = ScoredPairs(pairs.i, pairs.j, np.minimum(pairs.closeness, np.quantile(pairs.closeness, 0.7)), pairs.units)
    message = refused(tied, 0.1)
    smallest = float(re.search(r"promise is about ([\d.]+);", message)[1])  # type: ignore[index]
    assert smallest >= 0.3
    made = fit(tied, None, smallest)
    assert made.rate.estimate == pytest.approx(tied.rate_at(made.threshold), abs=0.05)


def test_a_refusal_names_what_there_is_what_it_supports_and_what_is_needed() -> None:
    pairs = world(2, units=10, each=3).impostors()
    message = refused(pairs, 0.004)
    assert message.startswith("405 pairs of different things (30 pictures of 10 things) cannot support a false")
    assert "rate of 0.004: the smallest they can promise is about 0.0" in message
    assert re.search(r"; for 0.004 about \d+ pictures of \d+ things are needed$", message)


@pytest.mark.parametrize(("seed", "units", "each"), [(0, 6, 6), (1, 12, 1), (2, 10, 3), (3, 30, 1)])
def test_what_a_refusal_says_that_they_support_they_do_support(seed: int, units: int, each: int) -> None:
    pairs = world(seed, units, each).impostors()
    smallest = float(re.search(r"promise is about ([\d.]+);", refused(pairs, 0.0005))[1])  # type: ignore[index]
    assert fit(pairs, None, smallest).rate.estimate <= smallest
    assert "cannot support" in refused(pairs, smallest * 0.85)


@pytest.mark.parametrize(("units", "each", "target"), [(5, 8, 0.005), (12, 1, 0.05), (20, 2, 0.004), (8, 3, 0.01)])
def test_as_many_as_a_refusal_says_are_needed_do_support_the_target(units: int, each: int, target: float) -> None:
    supported = []
    for seed in range(6):
        message = refused(world(seed, units, each).impostors(), target)
        pictures = int(re.search(r"about (\d+) pictures", message)[1])  # type: ignore[index]
        things = int(re.search(r"of (\d+) things are", message)[1]) if each > 1 else pictures  # type: ignore[index]
        assert pictures == pytest.approx(things * each, abs=each)
        try:
            supported.append(fit(world(seed + 50, things, each).impostors(), None, target).rate.estimate <= target)
        except InputError:
            supported.append(False)
    assert sum(supported) >= 4


def test_a_rate_that_one_odd_picture_would_break_is_refused() -> None:
    pairs = world(0, units=100, each=1).impostors()
    assert table_of(pairs).fitting(0.0021) is not None
    assert len(pairs) * 0.0021 > 5
    # One that resembles a third of the other 99 makes 33 of 4,950 pairs: three times .0022.
    assert "promise is about 0.0023; for 0.0021 about 106 pictures are needed" in refused(pairs, 0.0021)
    assert fit(pairs, None, 0.0023).rate.estimate <= 0.0023


def test_a_target_beyond_what_a_calibration_ever_looks_at_says_so() -> None:
    message = refused(world(2, units=10, each=3).impostors(), 1e-5)
    assert message.endswith("things are needed, more than the 1200 that a calibration looks at")


def test_float32_scores_are_fitted_as_float64_ones() -> None:
    sample = world(3)
    single = ScoredPairs.of_matrix(sample.closeness.astype(np.float32), ~sample.same, sample.units)
    assert fit(single, None, 0.1).threshold == pytest.approx(fit(sample.impostors(), None, 0.1).threshold, abs=1e-6)
