"""One body over every policy, and each by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike import registry
from lookalike.calibration.alarms import AlarmTable
from lookalike.calibration.fusion import FUSIONS
from lookalike.deciding import METRICS
from lookalike.errors import ConfigError, InputError
from lookalike.policies.calibrated import Calibrated, percent
from lookalike.policies.gap import cut_at_gap
from lookalike.policies.scores import checked, identical, rises, turned
from lookalike.policies.threshold import Threshold
from lookalike.policies.uncalibrated import Uncalibrated
from lookalike.protocols import Policy
from lookalike.types import Context, Decision, Verdict
from worlds import calibration

ORDER = [Verdict.NO_MATCH, Verdict.UNSURE, Verdict.MATCH]
SHIFTS = {"cosine": 0.35, "euclidean": -1.1, "manhattan": -3.6}


@dataclass(frozen=True)
class Case:
    """A policy, what decides, and what it is asked in: the gallery's size, the pictures' own levels."""

    policy: Policy
    decides: str
    items: int | None = None
    shifts: Mapping[str, float] = field(default_factory=dict)

    def decide(self, closeness: float, *problems: str) -> Decision:
        """Decide on a pair whose closeness is so much, by every metric, above the pictures' levels."""
        scores = {name: turned(name, closeness + self.shifts.get(name, 0.0)) for name in (*METRICS, *FUSIONS)}
        return self.policy.decide(scores, Context(self.shifts, problems, self.items))


CASES = {
    "threshold on cosine": Case(Threshold("cosine", 0.8, margin=0.05), "cosine"),
    "threshold on euclidean": Case(Threshold("euclidean", 0.8, margin=0.05), "euclidean"),
    "threshold without a margin": Case(Threshold("cosine", 0.8), "cosine"),
    "uncalibrated": Case(Uncalibrated(), ""),
    **{
        f"calibrated, {'adapting' if adapting else 'fixed'}, {decides}, {'search' if items else 'pair'}": Case(
            Calibrated(calibration(adapting, decides)), decides, items, SHIFTS if adapting else {}
        )
        for adapting in (True, False)
        for decides in ("cosine", "euclidean", "learned", "any_of")
        for items in (None, 42, 10_000)
    },
}
GRID = np.unique(np.concatenate([np.linspace(-6, 6, 121), np.linspace(-0.3, 0.6, 91)]))


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


# The contract


def test_a_policy_is_a_policy(case: Case) -> None:
    assert isinstance(case.policy, Policy)


def test_every_decision_has_a_verdict_evidence_and_a_reason_and_numbers_only(case: Case) -> None:
    for closeness in GRID:
        found = case.decide(float(closeness))
        assert found.verdict in ORDER
        assert found.evidence
        assert found.reason
        rates = [
            found.false_positive_rate,
            found.false_alarm_rate,
            *(one.false_positive_rate for one in found.evidence),
        ]
        assert all(rate is None or 0 <= rate <= 1 for rate in rates)
        numbers = [found.score, found.threshold, *(x for one in found.evidence for x in (one.score, one.threshold))]
        assert all(value is None or math.isfinite(value) for value in numbers)
        assert found == case.decide(float(closeness))


def test_a_closer_pair_never_gets_a_worse_verdict_nor_a_higher_rate(case: Case) -> None:
    found = [case.decide(float(closeness)) for closeness in GRID]
    for farther, closer in pairwise(found):
        assert ORDER.index(closer.verdict) >= ORDER.index(farther.verdict)
        for name in ("false_positive_rate", "false_alarm_rate"):
            before, after = getattr(farther, name), getattr(closer, name)
            assert (before is None) == (after is None)
            assert before is None or after <= before + 1e-12


def test_unknown_wins_over_everything_and_names_every_problem(case: Case) -> None:
    for closeness in (-6.0, 0.0, 6.0):
        found = case.decide(closeness, "a.jpg cannot be judged: it is all black", "b.jpg is missing")
        assert found.verdict is Verdict.UNKNOWN
        assert found.reason == "a.jpg cannot be judged: it is all black; b.jpg is missing"
        assert found.evidence == case.decide(closeness).evidence


def test_the_evidence_of_what_decides_is_what_was_decided_by(case: Case) -> None:
    for closeness in GRID[::7]:
        found = case.decide(float(closeness))
        own = [one for one in found.evidence if one.metric == case.decides]
        if not case.decides:
            assert all(one.threshold is None and one.passed is None for one in found.evidence)
            continue
        assert [(found.score, found.threshold, found.false_positive_rate)] == [
            (one.score, one.threshold, one.false_positive_rate) for one in own
        ]
        if found.verdict is Verdict.MATCH:
            assert own[0].passed


def test_the_reason_holds_the_numbers(case: Case) -> None:
    for closeness in GRID[::7]:
        found = case.decide(float(closeness))
        if found.score is None or found.threshold is None:
            continue
        assert case.decides in found.reason
        assert f"{found.score:.4g}" in found.reason
        assert f"{found.threshold:.4g}" in found.reason
        if found.false_alarm_rate is not None:
            assert "for a false alarm rate of 5 %: " in found.reason
            assert f"among {case.items} items {percent(found.false_alarm_rate)} of queries" in found.reason
        elif found.false_positive_rate is not None:
            assert "for a false positive rate of 10 %: " in found.reason
            assert f"{percent(found.false_positive_rate)} of pairs of different things" in found.reason


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_an_error_not_a_verdict(case: Case, bad: float) -> None:
    with pytest.raises(InputError, match="the cosine of a pair is a number"):
        case.policy.decide({"cosine": bad, "euclidean": 1.0, "learned": 0.0, "any_of": 1.0}, Context())


def test_without_the_score_that_it_decides_by_there_is_an_error_that_names_what_there_is(case: Case) -> None:
    if case.decides:
        with pytest.raises(ConfigError, match=f"by '{case.decides}'; there are only manhattan, ssim"):
            case.policy.decide({"manhattan": 1.0, "ssim": 0.5}, Context())


# A threshold that a person chose


@pytest.mark.parametrize(
    ("score", "verdict", "passed"),
    [
        (0.9, Verdict.MATCH, True),
        (0.85, Verdict.MATCH, True),
        (0.84, Verdict.UNSURE, True),
        (0.8, Verdict.UNSURE, True),
        (0.76, Verdict.UNSURE, False),
        (0.74, Verdict.NO_MATCH, False),
    ],
)
def test_within_the_margin_a_threshold_is_unsure(score: float, verdict: Verdict, passed: bool) -> None:
    found = Threshold("cosine", 0.8, margin=0.0499).decide({"cosine": score, "ssim": 0.1}, Context())
    assert (found.verdict, found.evidence[0].passed, len(found.evidence)) == (verdict, passed, 1)
    assert (found.false_positive_rate, found.false_alarm_rate) == (None, None)
    assert "whose error rate is not known" in found.reason
    turned_round = Threshold("euclidean", 0.8, margin=0.0499).decide({"euclidean": 1.6 - score}, Context())
    assert turned_round.verdict is verdict


def test_without_a_margin_the_threshold_itself_is_a_match() -> None:
    for metric in ("cosine", "euclidean", "ssim"):
        assert Threshold(metric, 0.8).decide({metric: 0.8}, Context()).verdict is Verdict.MATCH


@pytest.mark.parametrize("numbers", [(math.nan, 0), (math.inf, 0), (0.5, -0.1), (0.5, math.nan), (0.5, math.inf)])
def test_a_threshold_or_margin_that_is_none_is_refused(numbers: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=r"a (threshold|margin) is"):
        Threshold("cosine", *numbers)


# Nothing calibrated


def test_uncalibrated_tells_every_score_and_says_how_to_calibrate() -> None:
    found = Uncalibrated().decide({"cosine": 0.99, "euclidean": 0.1}, Context())
    assert found.verdict is Verdict.UNSURE
    assert found.reason == "not calibrated: `lookalike calibrate` makes thresholds with stated rates"
    assert [(one.metric, one.score) for one in found.evidence] == [("cosine", 0.99), ("euclidean", 0.1)]
    assert (found.score, found.threshold, found.false_positive_rate) == (None, None, None)


# Calibrated


@pytest.mark.parametrize("decides", ["cosine", "euclidean", "learned"])
@pytest.mark.parametrize("items", [None, 300])
def test_between_the_two_thresholds_it_is_unsure(decides: str, items: int | None) -> None:
    made = calibration(False, decides)
    # Queries of one unit that all have the same stranger: two thresholds, since they count as fewer than they are.
    units = np.repeat(np.arange(14), 3)
    alarms = AlarmTable(units / 15 - 2, np.zeros(42), np.full(42, 39.0), units, 0.05)
    made = replace(made, alarms=dict.fromkeys(made.fits, alarms))
    case = Case(Calibrated(made), decides, items)
    if items is None:
        limit, loosest = made.fits[decides].threshold, made.fits[decides].plug_in
    else:
        limit, loosest = (f(0.05, items) for f in (made.alarms[decides].threshold, made.alarms[decides].plug_in))
    assert loosest < limit
    assert case.decide(limit).verdict is Verdict.MATCH
    assert case.decide(math.nextafter(limit, -9)).verdict is Verdict.UNSURE
    assert case.decide(loosest).verdict is Verdict.UNSURE
    assert case.decide(math.nextafter(loosest, -9)).verdict is Verdict.NO_MATCH
    assert "others of the kind might not" in case.decide(loosest).reason
    assert case.decide(limit).threshold == turned(decides, limit)


def test_what_passes_has_no_higher_rate_than_was_asked_for() -> None:
    for items in (None, 42, 5000):
        for decides in ("cosine", "manhattan", "weighted"):
            case = Case(Calibrated(calibration(True, decides), 0.1), decides, items)
            for closeness in GRID:
                found = case.decide(float(closeness))
                rate = found.false_positive_rate if items is None else found.false_alarm_rate
                assert rate is not None
                assert found.verdict is not Verdict.MATCH or rate <= 0.1 + 1e-9 or closeness >= identical(decides)


@settings(deadline=None)  # the first example makes its calibration
@given(st.sampled_from(METRICS), st.floats(-3, 3), st.floats(-1, 1), st.booleans(), st.sampled_from([None, 10, 1000]))
def test_a_score_passes_its_threshold_where_closeness_passes_the_limit(
    decides: str, score: float, shift: float, adapting: bool, items: int | None
) -> None:
    """The threshold moves by what the pictures score with strangers, in the metric's own units and direction."""
    made = calibration(adapting, decides)
    others = dict.fromkeys(METRICS, 0.0)
    found = Calibrated(made).decide(others | {decides: score}, Context({decides: shift}, items=items))
    own = next(one for one in found.evidence if one.metric == decides)
    assert own.threshold is not None
    up = registry.metric(decides).higher_is_closer
    assert own.passed == (score >= own.threshold if up else score <= own.threshold)
    assert own.passed == (found.verdict is Verdict.MATCH)
    limit = made.fits[decides].threshold if items is None else made.alarms[decides].threshold(0.05, items)
    limit = min(limit, identical(decides) - shift)
    closeness = (score if up else -score) - shift
    if abs(closeness - limit) > 1e-9:
        assert own.passed == (closeness >= limit)
    assert own.threshold == pytest.approx(limit + shift if up else -limit - shift, abs=1e-12)
    assert own.false_positive_rate == pytest.approx(made.fits[decides].impostors.at(closeness).estimate)


@pytest.mark.parametrize("items", [None, 400])
def test_only_how_far_a_pair_is_above_its_level_counts(items: int | None) -> None:
    policy, dyadic = Calibrated(calibration()), {"cosine": 0.25, "euclidean": -1.5, "manhattan": -4.0}
    for closeness in np.arange(-1, 2, 1 / 64):
        plain = Case(policy, "cosine", items).decide(float(closeness))
        shifted = Case(policy, "cosine", items, dyadic).decide(float(closeness))
        assert shifted.verdict is plain.verdict
        assert shifted.false_positive_rate == plain.false_positive_rate
        assert shifted.false_alarm_rate == plain.false_alarm_rate
        assert (shifted.score, shifted.threshold) == pytest.approx((plain.score + 0.25, plain.threshold + 0.25))  # type: ignore[operator]


@pytest.mark.parametrize("items", [None, 40])
@pytest.mark.parametrize(("metric", "best"), [("cosine", 1.0), ("euclidean", 0.0)])
def test_no_threshold_lies_beyond_what_a_picture_reaches_with_itself(
    metric: str, best: float, items: int | None
) -> None:
    """A picture whose strangers are near copies has a level so high that nothing could pass."""
    policy = Calibrated(calibration(decides=metric))
    scores = {"cosine": 1.0, "euclidean": 0.0, "manhattan": 0.0}
    context = Context({name: 1.4 if name == "cosine" else 0.5 for name in scores}, (), items)
    found = policy.decide(scores, context)
    assert (found.verdict, found.score) == (Verdict.MATCH, best)
    assert "to the encoder the two are identical" in found.reason
    assert found.threshold == pytest.approx(best, abs=2e-3)
    near = {name: 0.999 if name == "cosine" else 0.01 for name in scores}
    assert policy.decide(near, context).verdict is not Verdict.MATCH


def test_in_a_larger_gallery_and_at_a_stricter_rate_less_is_a_match() -> None:
    made = calibration(False)
    thresholds = [Case(Calibrated(made), "cosine", items).decide(0.3).threshold for items in (10, 100, 1000, 10_000)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[-1]
    rates = [Case(Calibrated(made, rate), "cosine", 100).decide(0.3).threshold for rate in (0.3, 0.1, 0.05, 0.03)]
    assert rates == sorted(rates)


def test_every_calibrated_metric_speaks_at_the_same_promise_and_others_just_tell() -> None:
    made = calibration(False)
    scores = {"cosine": 0.4, "euclidean": 1.0, "ssim": 0.3}
    for items in (None, 200):
        found = Calibrated(made).decide(scores, Context(items=items))
        by = {one.metric: one for one in found.evidence}
        assert list(by) == list(scores)
        assert (by["ssim"].threshold, by["ssim"].passed, by["ssim"].false_positive_rate) == (None, None, None)
        limit = made.fits["euclidean"].threshold if items is None else made.alarms["euclidean"].threshold(0.05, items)
        assert by["euclidean"].threshold == pytest.approx(-limit)


def test_the_rate_of_a_query_is_given_for_a_search_only() -> None:
    assert Case(Calibrated(calibration()), "cosine").decide(0.1).false_alarm_rate is None
    assert Case(Calibrated(calibration()), "cosine", 1).decide(0.1).false_alarm_rate is not None


@pytest.mark.parametrize(
    ("decides", "words"),
    [("cosine", ("passes", "is just below", "does not reach")), ("euclidean", ("passes", "is just above", "is above"))],
)
def test_the_reason_says_in_the_direction_of_the_metric_where_a_score_lies(
    decides: str, words: tuple[str, str, str]
) -> None:
    case = Case(Calibrated(calibration(False, decides)), decides)
    fit = calibration(False, decides).fits[decides]
    for closeness, word in zip((fit.threshold, fit.plug_in, fit.plug_in - 0.5), words, strict=True):
        assert re.match(rf"{decides} \S+ {word} \S+, the threshold of this pair", case.decide(closeness).reason)


@pytest.mark.parametrize("rate", [0, -0.1, 0.5, 1, math.nan])
def test_a_false_alarm_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match=r"a false alarm rate is above 0 .* 0\.01 is one in a hundred$"):
        Calibrated(calibration(), rate)


def test_a_false_alarm_rate_that_the_calibration_cannot_support_is_refused_to_a_search_and_to_no_pair() -> None:
    policy = Calibrated(calibration(), 1e-5)
    assert Case(policy, "cosine").decide(0.1) == Case(Calibrated(calibration()), "cosine").decide(0.1)
    with pytest.raises(InputError, match="cannot support a false alarm rate of 1e-05: the smallest"):
        Case(policy, "cosine", 42).decide(0.1)


# What they share


def test_metrics_tell_their_direction_and_what_is_no_metric_rises() -> None:
    assert [rises(name) for name in ("cosine", "euclidean", "manhattan", "learned", "ssim")] == [
        True,
        False,
        False,
        True,
        True,
    ]
    assert (turned("cosine", 0.3), turned("euclidean", 0.3), turned("learned", -2.0)) == (0.3, -0.3, -2.0)


def test_scores_that_are_fine_are_given_back() -> None:
    scores = {"cosine": 0.5}
    assert checked(scores) is scores
    assert checked(scores, "cosine") is scores


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (1.0, "100 %"),
        (0.996, "100 %"),
        (0.1, "10 %"),
        (0.0995, "10 %"),
        (0.0994, "9.9 %"),
        (0.01, "1 %"),
        (0.000123, "0.012 %"),
        (0.0, "0 %"),
    ],
)
def test_a_rate_in_words(rate: float, said: str) -> None:
    assert percent(rate) == said


# The cut at the gap


def counted(closeness: Any, least: float) -> int:
    return cut_at_gap(np.array(closeness, float), least)


def test_hits_are_cut_at_the_largest_drop_by_hand() -> None:
    assert counted([0.9, 0.88, 0.5, 0.45, 0.44], 0.1) == 2
    assert counted([0.9, 0.5, 0.48, 0.2], 0.1) == 1  # .4 before .28
    assert counted([0.9, 0.8, 0.7, 0.1], 0.1) == 3
    assert counted([0.5, 0.49, 0.47], 0.1) == 0  # strangers in a dense row
    assert counted([0.5, 0.25, 0.2], 0.25) == 1  # the least itself is enough
    assert counted([0.75, 0.5, 0.25], 0.1) == 1  # of equal drops the first
    assert counted([0.5, 0.5, 0.5], 0.1) == 0
    assert counted([0.5, 0.5], 0.0) == 1


def test_one_hit_has_nothing_to_stand_out_from_and_none_is_none() -> None:
    assert counted([0.3], 0.1) == 1
    assert counted([], 0.1) == 0


@given(st.lists(st.floats(-1, 1), max_size=30), st.floats(1e-6, 1))
def test_what_is_cut_off_begins_at_the_largest_drop(closeness: list[float], least: float) -> None:
    falling = sorted(closeness, reverse=True)
    found = counted(falling, least)
    drops = [a - b for a, b in pairwise(falling)]
    if drops and max(drops) >= least:
        assert drops[found - 1] == max(drops)
    else:
        assert found == (len(falling) if len(falling) < 2 else 0)
