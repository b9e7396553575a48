"""Several metrics made one: by hand, and against the gradient of what is to be largest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.calibration import ScoredPairs
from lookalike.calibration.fitting import fit, table_of
from lookalike.calibration.fusion import (
    FUSIONS,
    AllOf,
    AnyOf,
    Fusion,
    Learned,
    Weighted,
    fusion_from_dict,
    fusion_of,
    learn,
)
from lookalike.calibration.rates import RateTable
from lookalike.errors import ConfigError, InputError
from worlds import World, world

Scores = Mapping[str, Any]


def table(*closeness: float) -> RateTable:
    """Closeness at rates of .01, .1 and 1: strengths of 2, 1 and 0."""
    rates = np.array([0.01, 0.1, 1.0])
    return RateTable(np.array(closeness), rates, rates, rates, rates)


TABLES = {"cosine": table(0.9, 0.7, 0.0), "euclidean": table(-0.1, -0.5, -2.0)}
# Strengths by cosine: 2, 1, 1.5; by Euclidean: 1, 2, 1.
PAIRS = {"cosine": np.array([0.9, 0.7, 0.8]), "euclidean": np.array([-0.5, -0.1, -0.5])}


def two_metrics(seed: int, units: int = 14, each: int = 3) -> tuple[World, dict[str, Any]]:
    """One closeness twice, with errors of its own each."""
    sample, rng = world(seed, units, each), np.random.default_rng([seed, 8])
    noise = [rng.normal(scale=0.4, size=sample.closeness.shape) for _ in range(2)]
    return sample, {name: sample.closeness + n + n.T for name, n in zip(("cosine", "euclidean"), noise, strict=True)}


def kinds(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    sample, matrices = two_metrics(seed)
    upper = np.triu(np.ones_like(sample.same), 1)
    return tuple(  # type: ignore[return-value]
        {name: x[upper & mask] for name, x in matrices.items()} for mask in (~sample.same, sample.same)
    )


# Rules


def test_all_of_takes_the_weakest_any_of_the_strongest_and_weighted_the_mean() -> None:
    np.testing.assert_allclose(AllOf(TABLES).combine(PAIRS), [1, 1, 1])
    np.testing.assert_allclose(AnyOf(TABLES).combine(PAIRS), [2, 2, 1.5])
    np.testing.assert_allclose(Weighted(TABLES, {"cosine": 3, "euclidean": 1}).combine(PAIRS), [7 / 4, 5 / 4, 5.5 / 4])
    np.testing.assert_allclose(fusion_of("weighted", TABLES).combine(PAIRS), [1.5, 1.5, 1.25])


def test_a_learned_combination_is_the_log_odds_by_hand() -> None:
    fusion = Learned(
        {"cosine": 2.0, "euclidean": 0.5}, -1.0, {"cosine": 0.7, "euclidean": -0.5}, {"cosine": 0.1, "euclidean": 0.4}
    )
    np.testing.assert_allclose(fusion.combine(PAIRS), [3.0, -0.5, 1.0])
    assert fusion.metrics == ("cosine", "euclidean")


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_takes_arrays_of_any_shape_and_gives_the_like(name: str) -> None:
    fusion = learn(*kinds(0)) if name == "learned" else fusion_of(name, TABLES)
    assert fusion.metrics == ("cosine", "euclidean")
    square = {metric: np.resize(values, (4, 5)) for metric, values in PAIRS.items()}
    assert fusion.combine(square).shape == (4, 5)
    flat = fusion.combine({metric: values.ravel() for metric, values in square.items()})
    np.testing.assert_array_equal(fusion.combine(square).ravel(), flat)


@pytest.mark.parametrize("name", FUSIONS)
@given(step=st.floats(0, 3), which=st.sampled_from(["cosine", "euclidean", "both"]), start=st.floats(-3, 2))
def test_a_pair_that_is_closer_by_any_metric_is_never_less_close(
    name: str, step: float, which: str, start: float
) -> None:
    fusion = LEARNED if name == "learned" else fusion_of(name, TABLES)
    before = {metric: np.array([start]) for metric in TABLES}
    after = {metric: values + (step if which in {metric, "both"} else 0) for metric, values in before.items()}
    assert fusion.combine(after)[0] >= fusion.combine(before)[0] - 1e-12


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_survives_json_to_the_last_bit(name: str) -> None:
    sample, matrices = two_metrics(2)
    tables = {m: table_of(ScoredPairs.of_matrix(x, ~sample.same, sample.units)) for m, x in matrices.items()}
    fusion: Fusion = learn(*kinds(2)) if name == "learned" else fusion_of(name, tables)
    again = fusion_from_dict(json.loads(json.dumps(fusion.as_dict(), allow_nan=False)))
    assert type(again) is type(fusion)
    np.testing.assert_array_equal(again.combine(matrices), fusion.combine(matrices))


def test_an_unknown_name_or_weights_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="no fusion named 'some_of'; known: all_of, any_of, learned, weighted"):
        fusion_of("some_of", TABLES)
    with pytest.raises(ConfigError, match="some_of"):
        fusion_from_dict({"kind": "some_of", "tables": {"cosine": TABLES["cosine"].as_dict()}})
    with pytest.raises(InputError, match="one metric at the least"):
        fusion_from_dict({"kind": "any_of", "tables": {}})
    with pytest.raises(ConfigError, match="one weight is needed for each of cosine, euclidean, got 3"):
        fusion_of("weighted", TABLES, [1, 2, 3])


@pytest.mark.parametrize("weights", [(-1, 2), (0, 0), (np.nan, 1), (np.inf, 1)])
def test_weights_from_0_up_are_needed(weights: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="one number from 0 up for each"):
        fusion_of("weighted", TABLES, weights)
    with pytest.raises(ConfigError, match="one number from 0 up for each"):
        Weighted(TABLES, {"cosine": 1.0})


@pytest.mark.parametrize(
    "parts",
    [
        {"coefficients": {}, "means": {}, "scales": {}},
        {"coefficients": {"cosine": -0.1}},
        {"scales": {"cosine": 0.0}},
        {"means": {"euclidean": 0.0}},
        {"scales": {}},
    ],
)
def test_a_learned_combination_that_is_none_cannot_be_built(parts: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="learned combination"):
        Learned(
            **{
                "coefficients": {"cosine": 1.0},
                "intercept": 0.0,
                "means": {"cosine": 0.0},
                "scales": {"cosine": 1.0},
                **parts,
            }
        )


# Learning


def loss(different: Scores, same: Scores, fusion: Learned, beta: np.ndarray) -> float:
    """Return what is to be smallest: both kinds weighing alike, plus half the squared coefficients."""
    total, count = 0.0, len(next(iter(same.values()))) + len(next(iter(different.values())))
    for scores, sign in ((different, 1.0), (same, -1.0)):
        x = [(scores[name] - fusion.means[name]) / fusion.scales[name] for name in fusion.metrics]
        odds = beta[0] + sum(b * column for b, column in zip(beta[1:], x, strict=True))
        total += 0.5 * count * float(np.logaddexp(0, sign * odds).mean())
    return total + 0.5 * float((beta[1:] ** 2).sum())


@pytest.mark.parametrize("seed", range(4))
def test_the_coefficients_are_where_the_penalized_likelihood_is_largest(seed: int) -> None:
    different, same = kinds(seed)
    fusion = learn(different, same)
    beta = np.array([fusion.intercept, *fusion.coefficients.values()])
    at = loss(different, same, fusion, beta)
    for step in np.eye(len(beta)) * 1e-4:
        up, down = (loss(different, same, fusion, beta + sign * step) for sign in (1, -1))
        assert (up - down) / 2e-4 == pytest.approx(0, abs=1e-3)
        assert min(up, down) >= at - 1e-9


@pytest.mark.parametrize("seed", [267, 715])
def test_a_few_far_pairs_do_not_throw_the_fit_off(seed: int) -> None:
    """Seeds for which Newton's full steps go astray: scores whose tails are those of a Cauchy distribution."""
    rng = np.random.default_rng(seed)
    count, a, b = int(rng.integers(1, 4)), int(rng.integers(20, 400)), int(rng.integers(5, 200))
    freedom = rng.choice([1, 2])
    d = rng.standard_t(freedom, size=(a, count))
    s = rng.standard_t(freedom, size=(b, count)) + np.abs(rng.normal(size=count)) * 10 ** rng.uniform(0, 3)
    different, same = ({str(k): x[:, k] for k in range(count)} for x in (d, s))
    fusion = learn(different, same)
    assert len(fusion.metrics) == count
    beta = np.array([fusion.intercept, *fusion.coefficients.values()])
    at = loss(different, same, fusion, beta)
    assert all(at <= loss(different, same, fusion, beta + step) for step in (*np.eye(len(beta)), *-np.eye(len(beta))))


def test_means_and_scales_are_those_of_all_pairs() -> None:
    different, same = kinds(1)
    fusion = learn(different, same)
    for name in fusion.metrics:
        values = np.concatenate([different[name], same[name]])
        assert fusion.means[name] == pytest.approx(values.mean())
        assert fusion.scales[name] == pytest.approx(values.std())


def test_two_metrics_with_errors_of_their_own_tell_more_together() -> None:
    different, same = kinds(3)
    fusion = learn(different, same)
    for name in fusion.metrics:
        alone = np.mean(same[name][:, None] > different[name])
        assert np.mean(fusion.combine(same)[:, None] > fusion.combine(different)) > alone


def test_pairs_that_can_be_told_apart_give_finite_coefficients() -> None:
    different = {"cosine": np.linspace(0, 0.3, 500), "euclidean": np.linspace(-2, -1, 500)}
    same = {"cosine": np.linspace(0.8, 0.9, 4), "euclidean": np.linspace(-0.2, -0.1, 4)}
    fusion = learn(different, same)
    assert np.isfinite([fusion.intercept, *fusion.coefficients.values()]).all()
    assert max(fusion.coefficients.values()) < 50
    assert fusion.combine(same).min() > 0 > fusion.combine(different).max()


@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([1, 2, 50]))
def test_no_coefficient_is_negative_and_all_are_finite_whatever_the_pairs(seed: int, freedom: int, few: int) -> None:
    rng = np.random.default_rng(seed)
    names = ["cosine", "euclidean", "manhattan"][: rng.integers(1, 4)]
    different = {name: rng.standard_t(freedom, size=200) for name in names}
    same = {name: rng.standard_t(freedom, size=few) + rng.normal(scale=20) for name in names}
    fusion = learn(different, same)
    assert fusion.metrics
    assert min(fusion.coefficients.values()) >= 0
    assert np.isfinite(fusion.combine(same)).all()
    if len(fusion.metrics) == len(names) and min(fusion.coefficients.values()) > 2e-3:
        beta = np.array([fusion.intercept, *fusion.coefficients.values()])
        for step in np.eye(len(beta)) * 1e-3:
            assert loss(different, same, fusion, beta) <= loss(different, same, fusion, beta + step) + 1e-6


def test_a_metric_that_speaks_against_close_pairs_is_left_out() -> None:
    different, same = kinds(0)
    against = {"manhattan": -different["cosine"]}, {"manhattan": -same["cosine"]}
    fusion = learn(different | against[0], same | against[1])
    plain = learn(different, same)
    assert fusion.metrics == ("cosine", "euclidean")
    assert fusion.coefficients == pytest.approx(plain.coefficients)


def test_where_close_pairs_are_no_likelier_the_same_all_speak_alike_and_next_to_nothing() -> None:
    different, same = kinds(0)
    fusion = learn(same, different)  # the wrong way round
    assert fusion.metrics == ("cosine", "euclidean")
    assert set(fusion.coefficients.values()) == {1e-3}
    assert np.abs(fusion.combine(same)).max() < 0.02
    assert len(np.unique(fusion.combine(different))) > 100  # still an order, so that it can be calibrated


def test_the_order_of_pairs_and_metrics_does_not_matter() -> None:
    different, same = kinds(2)
    order = np.random.default_rng(0).permutation(len(different["cosine"]))
    turned = learn(
        {name: different[name][order] for name in ("euclidean", "cosine")},
        {name: same[name][::-1] for name in ("euclidean", "cosine")},
    )
    plain = learn(different, same)
    assert turned.coefficients == pytest.approx(plain.coefficients, rel=1e-6)
    assert turned.intercept == pytest.approx(plain.intercept, rel=1e-6)


def test_a_metric_that_says_nothing_and_float32_do_no_harm() -> None:
    different, same = kinds(2)
    constant = learn(
        different | {"manhattan": np.full(len(different["cosine"]), 0.5)},
        same | {"manhattan": np.full(len(same["cosine"]), 0.5)},
    )
    plain = learn(different, same)
    assert {name: constant.coefficients[name] for name in plain.metrics} == pytest.approx(plain.coefficients, rel=1e-6)
    single = [{name: x.astype(np.float32) for name, x in kind.items()} for kind in (different, same)]
    assert learn(*single).coefficients == pytest.approx(plain.coefficients, rel=1e-4)
    far = learn(*({name: x + np.float32(1000) for name, x in kind.items()} for kind in single))
    assert far.coefficients == pytest.approx(plain.coefficients, rel=1e-3)
    assert far.scales == pytest.approx(plain.scales, rel=1e-4)


@pytest.mark.parametrize("which", [0, 1])
def test_pairs_of_one_kind_teach_nothing(which: int) -> None:
    both = list(kinds(0))
    both[which] = {name: np.array([]) for name in both[which]}
    with pytest.raises(InputError, match="pairs of the same and pairs of different things"):
        learn(*both)


LEARNED = learn(*kinds(0))


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fused_score_has_a_rate_of_its_own_that_holds(name: str) -> None:
    inside, achieved = [], []
    for seed in range(20):
        (sample, own), (fresh, met) = two_metrics(seed), two_metrics(seed + 500)
        tables = {m: table_of(ScoredPairs.of_matrix(x, ~sample.same, sample.units)) for m, x in own.items()}
        fusion: Fusion = learn(*kinds(seed)) if name == "learned" else fusion_of(name, tables)
        found = fit(ScoredPairs.of_matrix(fusion.combine(own), ~sample.same, sample.units), None, 0.1)
        rate = ScoredPairs.of_matrix(fusion.combine(met), ~fresh.same, fresh.units).rate_at(found.threshold)
        inside.append(found.rate.low <= rate <= found.rate.high)
        achieved.append(rate)
    assert np.mean(inside) >= 0.9
    assert np.mean(achieved) <= 0.1 + 2 * np.std(achieved) / 20**0.5
