"""Rates per query: against naive counting, by hand, and in galleries that are simulated."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.calibration.alarms import AlarmTable
from lookalike.errors import InputError

SIMULATIONS = 200


def table(best: Any, spacing: float = 0.0, sizes: Any = None, units: Any = None, gaps: Any = None) -> AlarmTable:
    best = np.asarray(best, float)
    n = len(best)
    return AlarmTable(
        best,
        np.zeros(n) if gaps is None else np.asarray(gaps, float),
        np.full(n, 10.0) if sizes is None else np.asarray(sizes, float),
        np.arange(n) if units is None else np.asarray(units),
        spacing,
    )


def exponential(seed: int, queries: int, size: int, units: int | None = None, scale: float = 0.2) -> AlarmTable:
    """Queries that see strangers of exponential closeness; those of one unit see much the same."""
    rng = np.random.default_rng([seed, 5])
    closeness = rng.exponential(scale, size=(queries, size))
    of = np.arange(queries) if units is None else np.arange(queries) % units
    if units is not None:
        closeness[:, 0] += rng.exponential(scale, size=units)[of]
    return AlarmTable.of_matrix(closeness, np.ones_like(closeness, bool), of)


# The table


def test_the_table_holds_the_best_stranger_of_each_query_that_has_one() -> None:
    closeness = np.array([[0.5, 0.6, 0.7, 0.8], [0.9, 0.5, 0.1, 0.3], [0.2, 0.8, 0.7, 0.4]], np.float32)
    stranger = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [1, 0, 1, 1]], bool)
    made = AlarmTable.of_matrix(closeness, stranger, np.array([9, 7, 8]))
    assert made.best.tolist() == pytest.approx([0.5, 0.7])
    assert (made.sizes.tolist(), made.units.tolist()) == ([3, 3], [7, 8])
    assert made.gaps.tolist() == pytest.approx([0.2, 0.3])  # .5 .3 .1 and .7 .4 .2
    # How far the closer ones are above the last: .4 and .2; .5 and .2.
    assert made.spacing == pytest.approx((0.4 + 0.2 + 0.5 + 0.2) / 4)
    assert made.best.dtype == made.gaps.dtype == np.float64


def test_gaps_are_looked_for_among_fifty_and_the_tail_among_eleven() -> None:
    row = np.concatenate([np.linspace(1, 0.9, 30), np.linspace(0.5, 0.4, 19), np.linspace(0.2, 0, 20), [-50.0]])
    made = AlarmTable.of_matrix(row[None], np.ones((1, 70), bool), np.array([0]))
    assert made.gaps[0] == pytest.approx(0.4)
    assert made.spacing == pytest.approx(np.mean(row[:10] - row[10]))
    short = AlarmTable.of_matrix(row[None, :3], np.ones((1, 3), bool), np.array([0]))
    assert short.gaps[0] == pytest.approx(row[0] - row[1])
    assert short.spacing == pytest.approx((row[0] + row[1] - 2 * row[2]) / 2)


@pytest.mark.parametrize("strangers", [2, 3, 12, 200])
def test_the_spacing_of_exponential_strangers_is_their_scale_however_few_a_query_has(strangers: int) -> None:
    closeness = np.random.default_rng(0).exponential(0.3, size=(3000, strangers))
    made = AlarmTable.of_matrix(closeness, np.ones_like(closeness, bool), np.arange(3000))
    assert made.spacing == pytest.approx(0.3, rel=0.05)


def test_where_every_query_has_one_stranger_the_best_of_them_tell_the_tail() -> None:
    closeness = np.random.default_rng(1).exponential(0.3, size=(4000, 1))
    made = AlarmTable.of_matrix(closeness, np.ones_like(closeness, bool), np.arange(4000))
    assert made.spacing == pytest.approx(np.mean(np.sort(closeness[:, 0])[-10:] - np.sort(closeness[:, 0])[-11]))
    assert not made.gaps.any()
    assert AlarmTable.of_matrix(np.ones((1, 1)), np.ones((1, 1), bool), np.array([0])).spacing == 0


def test_without_strangers_there_is_no_table() -> None:
    with pytest.raises(InputError, match="two labels or more"):
        AlarmTable.of_matrix(np.ones((2, 2)), np.zeros((2, 2), bool), np.arange(2))


def test_a_larger_gallery_has_a_closer_stranger_by_the_spacing_for_e_times_as_many() -> None:
    made = table([0.1, 0.2], spacing=0.5, sizes=[10, 20])
    assert made.at_size(10).tolist() == pytest.approx([0.1, 0.2 - 0.5 * math.log(2)])
    assert made.at_size(20).tolist() == pytest.approx([0.1 + 0.5 * math.log(2), 0.2])
    assert np.isfinite(made.at_size(0)).all()


# How many queries they count as


def test_queries_of_one_unit_each_count_in_full_and_queries_that_agree_as_one() -> None:
    best = np.random.default_rng(0).normal(size=400)
    assert table(best).independent() == pytest.approx(400, rel=0.01)
    assert table(np.repeat(best[:20], 20), units=np.repeat(np.arange(20), 20)).independent() == pytest.approx(20)
    assert table(best, units=np.arange(400) % 20).independent() > 200  # units that have nothing to do with it
    assert table(np.ones(30), units=np.arange(30) % 5).independent() == 5


def test_half_agreement_lies_between() -> None:
    rng = np.random.default_rng(2)
    counts = []
    for _ in range(40):
        of = np.repeat(np.arange(40), 10)
        counts.append(table(rng.normal(size=40)[of] + rng.normal(size=400), units=of).independent())
    # The signs of two normals of correlation 1/2 correlate by (2 / pi) arcsin(1/2) = 1/3 (Sheppard 1899).
    assert np.mean(counts) == pytest.approx(400 / (1 + 9 / 3), rel=0.1)


# Thresholds


def test_the_plug_in_threshold_is_the_conformal_rank_by_hand() -> None:
    made = table(np.arange(19.0))  # 19 queries and the next: of 20, one may pass at .05, two at .1
    assert made.plug_in(0.05, 10) == 18
    assert made.plug_in(0.1, 10) == 17
    assert made.plug_in(0.075, 10) == pytest.approx(17.5)


def test_beyond_the_closest_the_tail_goes_on() -> None:
    made = table(np.arange(9.0), spacing=0.5)
    assert made.plug_in(0.1, 10) == 8
    assert made.plug_in(0.05, 10) == pytest.approx(8 + 0.5 * math.log(2))
    assert made.plug_in(0.02, 10) == pytest.approx(8 + 0.5 * math.log(5))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.floats(0.02, 0.49))
def test_no_more_of_these_queries_reach_it_than_may_also_where_many_are_equally_close(
    best: list[int], target: float
) -> None:
    n = len(best)
    found = table(best, spacing=0.1).plug_in(target, 10)
    assert sum(value >= found for value in best) <= target * (n + 1) + 1e-6


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=40),
    st.integers(1, 5),
    st.floats(0, 1),
    st.floats(0.005, 0.45),
    st.integers(1, 10_000),
)
def test_thresholds_rise_with_the_gallery_and_with_strictness(
    best: list[float], units: int, spacing: float, target: float, size: int
) -> None:
    made = table(best, spacing, units=np.arange(len(best)) % units)
    assert made.plug_in(target, size) <= made.threshold(target, size) < math.inf
    assert made.threshold(target, size) <= made.threshold(target, 3 * size)
    assert made.threshold(target * 1.1, size) <= made.threshold(target, size)
    rates = [made.rate(closeness, size) for closeness in np.linspace(-2, 3, 12)]
    assert all(0 <= b.estimate <= a.estimate <= 1 for a, b in pairwise(rates))
    assert all(0 <= rate.low <= rate.estimate <= rate.high <= 1 for rate in rates)
    assert made.rate(0.5, 3 * size).estimate >= made.rate(0.5, size).estimate


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=40, unique=True),
    st.integers(1, 5),
    st.floats(0.01, 1),
    st.floats(0.06, 0.45),
)
def test_the_rate_at_the_threshold_is_the_target(best: list[float], units: int, spacing: float, target: float) -> None:
    apart = np.unique(np.round(best, 3))  # of equals all pass or none
    made = table(apart, spacing, units=np.arange(len(apart)) % units)
    threshold = made.threshold(target, 50)
    if threshold >= made.at_size(50).min():
        assert made.rate(threshold, 50).estimate == pytest.approx(target, rel=1e-6)


def test_the_rate_by_hand() -> None:
    made = table(np.arange(9.0), spacing=0.5)
    assert made.rate(8, 10).estimate == pytest.approx(0.1)  # as the first of ten
    assert made.rate(7, 10).estimate == pytest.approx(0.2)
    assert made.rate(7.5, 10).estimate == pytest.approx(0.15)
    assert made.rate(8 + 0.5 * math.log(2), 10).estimate == pytest.approx(0.05)
    assert made.rate(1000, 10).estimate == pytest.approx(0.01)  # the tail tells no smaller rate
    assert made.rate(-1, 10) == (1.0, 1.0, 1.0)


def test_without_a_tail_nothing_is_told_beyond_the_closest() -> None:
    made = table([1.0, 0.5, 0.2])
    assert made.plug_in(0.1, 10) == math.nextafter(1.0, 2)
    assert made.rate(5.0, 10).estimate == pytest.approx(1 / 4)


def test_the_interval_of_a_rate_is_that_of_resampled_units() -> None:
    of = np.repeat(np.arange(20), 10)
    made = table(np.where(of < 4, 1.0, 0.0), units=of)  # a fifth of the units pass, with all that they have
    rate = made.rate(0.5, 10)
    assert rate.low <= rate.estimate <= rate.high
    spread = 1.96 * (0.2 * 0.8 / 20) ** 0.5
    assert (rate.low, rate.high) == pytest.approx((0.2 - spread, 0.2 + spread), abs=0.03)
    assert made.rate(0.5, 10) == rate


def test_a_target_that_so_few_queries_cannot_support_is_refused_with_what_they_can() -> None:
    made = table(np.arange(99.0), spacing=1.0)
    made.check(0.05)
    made.check(0.0011)
    with pytest.raises(InputError) as caught:
        made.check(0.0005)
    assert "99 queries, which count as 99 independent ones, cannot support a false alarm rate of 0.0005" in str(
        caught.value
    )
    assert "about 0.001; for 0.0005 about 198 pictures are needed" in str(caught.value)
    table(np.arange(199.0), spacing=1.0).check(0.0005)
    table(np.arange(4.0)).check(0.05)


# Gaps


def test_the_gap_is_a_drop_that_a_share_of_the_queries_reach() -> None:
    made = table(np.zeros(99), gaps=np.arange(1.0, 100))
    assert made.gap(0.05) == 95  # five of 99, and the next is one of 100
    assert made.gap(0.5) == pytest.approx(50, abs=1)
    assert (made.gaps >= made.gap(0.05)).mean() <= 0.05 + 1 / 99


def test_where_many_gaps_are_alike_none_of_them_reaches_it() -> None:
    assert table(np.zeros(20), gaps=np.full(20, 0.3)).gap(0.05) == math.nextafter(0.3, 1)
    assert table(np.zeros(20)).gap(0.05) > 0  # no drop at all stands out nowhere


# Simulated galleries


@pytest.mark.parametrize(("larger", "slack"), [(1, 0.004), (4, 0.01)])
def test_of_queries_without_a_match_the_target_share_alarms_also_in_a_larger_gallery(larger: int, slack: float) -> None:
    rng, alarms = np.random.default_rng(9), []
    for seed in range(SIMULATIONS):
        threshold = exponential(seed, queries=60, size=100).threshold(0.05, 100 * larger)
        best = rng.exponential(0.2, size=(400, 100 * larger)).max(axis=1)
        alarms.append((best >= threshold).mean())
    noise = np.std(alarms) / SIMULATIONS**0.5
    assert np.mean(alarms) <= 0.05 + slack + 2 * noise
    assert np.mean(alarms) >= 0.05 - slack - 2 * noise


def test_queries_of_a_few_units_that_agree_keep_the_target_too() -> None:
    alarms, plain = [], []
    for seed in range(SIMULATIONS):
        rng = np.random.default_rng([seed, 6])
        made = exponential(seed, queries=120, size=50, units=12)
        closeness = rng.exponential(0.2, size=(200, 50))
        closeness[:, 0] += rng.exponential(0.2, size=200)  # each of a unit of its own that was not seen
        best = closeness.max(axis=1)
        alarms.append((best >= made.threshold(0.05, 50)).mean())
        plain.append((best >= made.plug_in(0.05, 50)).mean())
    assert np.mean(alarms) <= 0.055 + 2 * np.std(alarms) / SIMULATIONS**0.5
    assert np.mean(alarms) < np.mean(plain)


# What is kept


def test_a_table_that_was_written_decides_as_the_one_that_was_made() -> None:
    made = exponential(3, queries=30, size=40, units=7)
    again = AlarmTable.from_dict(json.loads(json.dumps(made.as_dict(), allow_nan=False)))
    for size in (1, 40, 1000):
        assert again.threshold(0.05, size) == made.threshold(0.05, size)
        assert again.plug_in(0.05, size) == made.plug_in(0.05, size)
        assert again.rate(0.9, size) == made.rate(0.9, size)
    assert again.gap(0.05) == made.gap(0.05)


@pytest.mark.parametrize(
    "parts",
    [
        {"best": [], "gaps": [], "sizes": [], "units": []},
        {"gaps": [0.0]},
        {"units": [0]},
        {"sizes": [0, 3]},
        {"gaps": [-0.1, 0.1]},
        {"spacing": -0.1},
    ],
)
def test_a_table_that_is_none_cannot_be_built(parts: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="table of alarms"):
        table(**{"best": [0.1, 0.2], **parts})
