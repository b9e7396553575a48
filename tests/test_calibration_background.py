"""Levels against naive loops; what quality does, planted and recovered; what is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike import registry
from lookalike.calibration.background import (
    FEATURES,
    NEAREST,
    Background,
    QualityShift,
    keys_of,
    offset_of,
    packed,
    responses,
    unpacked,
)
from lookalike.errors import InputError
from lookalike.protocols import Metric
from lookalike.types import Quality, Usual

DIM = 48
LABELS = tuple("abcde"[row % 5] for row in range(40))


@pytest.fixture(params=["cosine", "euclidean", "manhattan"])
def metric(request: pytest.FixtureRequest) -> Metric:
    return registry.metric(request.param)


def unit(rows: int, seed: int, dim: int = DIM) -> np.ndarray:
    raw = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def quality(brightness: float = 0.45, contrast: float = 0.2, noise: float = 1, blur: float = 0.5) -> Quality:
    return Quality(brightness, contrast, noise, blur)


def naive_level(
    metric: Metric,
    vector: np.ndarray,
    cohort: np.ndarray,
    labels: Sequence[str | None],
    without: Sequence[str | None] = (),
    itself: Sequence[int] = (),
) -> float:
    """Return the mean closeness of the nearest 8 % (one at the least) of those that count."""
    left = [
        row for row in range(len(cohort)) if row not in itself and (labels[row] is None or labels[row] not in without)
    ]
    scores = [float(metric.matrix(vector[None], cohort[row][None])[0, 0]) for row in left or range(len(cohort))]
    near = sorted(scores, reverse=metric.higher_is_closer)[: max(1, round(NEAREST * len(scores)))]
    mean = math.fsum(near) / len(near)
    return mean if metric.higher_is_closer else -mean


# Levels


def test_the_level_is_the_mean_of_the_nearest_of_other_labels(metric: Metric) -> None:
    background, vectors = Background(unit(40, 0), LABELS), unit(7, 1)
    own = ["a", None, "c", "unknown", "e", "a", None]
    got = background.levels(metric, vectors, own)
    want = [naive_level(metric, v, background.vectors, LABELS, [o]) for v, o in zip(vectors, own, strict=True)]
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert got.dtype == np.float64
    alone = [background.levels(metric, v[None], [o])[0] for v, o in zip(vectors, own, strict=True)]
    np.testing.assert_allclose(got, alone, atol=1e-6)  # whatever else is asked with it


def test_a_picture_of_the_cohort_is_no_stranger_to_itself_nor_are_its_kind(metric: Metric) -> None:
    background = Background(unit(40, 0), LABELS)
    got = background.levels(metric, background.vectors[:6])
    want = [naive_level(metric, background.vectors[row], background.vectors, LABELS, [LABELS[row]]) for row in range(6)]
    np.testing.assert_allclose(got, want, atol=1e-5)
    unlabelled = Background(unit(40, 0), (None,) * 40)
    got = unlabelled.levels(metric, unlabelled.vectors[:6])
    want = [
        naive_level(metric, unlabelled.vectors[row], unlabelled.vectors, [None] * 40, (), [row]) for row in range(6)
    ]
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_picture_is_no_stranger_to_itself_under_another_label_either() -> None:
    cosine, background = registry.metric("cosine"), Background(unit(40, 0), LABELS)
    got = background.levels(cosine, background.vectors[:1], ["b"])[0]
    assert got == pytest.approx(naive_level(cosine, background.vectors[0], background.vectors, LABELS, ["b"], [0]))


def test_of_the_largest_cohort_twenty_make_the_level() -> None:
    cosine, background, vector = registry.metric("cosine"), Background(unit(256, 0), (None,) * 256), unit(1, 1)
    near = np.sort(vector @ background.vectors.T)[0, -20:]
    assert background.levels(cosine, vector)[0] == pytest.approx(near.mean(), abs=1e-6)


def test_the_level_against_another_leaves_out_what_both_are(metric: Metric) -> None:
    background, vectors = Background(unit(40, 0), LABELS), unit(5, 1)
    others, own = ["b", None, "b", "e", "unknown", "a"], ["a", None, "b", "unknown", "e"]
    got = background.levels_against(metric, vectors, others, own)
    assert got.shape == (5, 6)
    for i, vector in enumerate(vectors):
        for j, other in enumerate(others):
            want = naive_level(metric, vector, background.vectors, LABELS, [own[i], other])
            assert got[i, j] == pytest.approx(want, abs=1e-5)


def test_an_unlabelled_item_of_the_cohort_is_left_out_when_it_is_what_a_picture_is_compared_with() -> None:
    cosine = registry.metric("cosine")
    background, query = Background(unit(30, 0), (None,) * 30), unit(1, 1)
    nearest = int((query @ background.vectors.T).argmax())
    got = background.levels_against(cosine, query, [None, None], (), background.vectors[[nearest, 3]])
    for column, row in enumerate((nearest, 3)):
        want = naive_level(cosine, query[0], background.vectors, [None] * 30, (), [row])
        assert got[0, column] == pytest.approx(want, abs=1e-5)
    plain = background.levels_against(cosine, query, [None, None])
    assert plain[0, 0] > got[0, 0]


def test_a_stored_item_is_recognized_though_the_cohort_was_corrected() -> None:
    cosine, plain = registry.metric("cosine"), unit(30, 0)
    moved = plain + 0.1 * unit(1, 9)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    kept, blind = (Background(moved, (None,) * 30, keys=keys) for keys in (keys_of(plain), None))
    want = [naive_level(cosine, plain[row], kept.vectors, [None] * 30, (), [row]) for row in range(30)]
    np.testing.assert_allclose(kept.levels(cosine, plain), want, atol=1e-5)
    assert (blind.levels(cosine, plain) > np.array(want) + 0.1).all()
    stranger = unit(3, 5)
    np.testing.assert_array_equal(kept.levels(cosine, stranger), blind.levels(cosine, stranger))
    again = Background.from_dict(json.loads(json.dumps(kept.as_dict())))
    np.testing.assert_array_equal(again.levels(cosine, plain), kept.levels(cosine, plain))


@pytest.mark.parametrize("size", [1, 2, 3, 12, 19])
def test_a_cohort_of_a_few_has_a_level(metric: Metric, size: int) -> None:
    background, vectors = Background(unit(size, 0), (None,) * size), unit(4, 1)
    want = [naive_level(metric, v, background.vectors, (None,) * size) for v in vectors]
    np.testing.assert_allclose(background.levels(metric, vectors), want, atol=1e-5)


def test_where_all_of_the_cohort_is_of_its_own_kind_that_has_to_do(metric: Metric) -> None:
    background, vectors = Background(unit(20, 0), ("a",) * 20), unit(3, 1)
    got = background.levels(metric, vectors, ["a", "b", "a"])
    want = [naive_level(metric, v, background.vectors, ("a",) * 20) for v in vectors]
    np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_allclose(background.levels_against(metric, vectors, ["a"])[:, 0], want, atol=1e-5)
    itself = Background(unit(1, 0), (None,))
    assert np.isfinite(itself.levels(metric, itself.vectors)).all()


def test_vectors_of_zeros_have_finite_levels(metric: Metric) -> None:
    vectors = np.concatenate([np.zeros((2, DIM), np.float32), unit(4, 0)])
    background = Background(vectors, (None,) * 6, keys=keys_of(vectors))
    assert np.isfinite(background.levels(metric, vectors)).all()
    assert not background.vectors[:2].any()
    # Zeros recognize nothing: that two pictures have no vector does not make them one.
    assert not background.itself(vectors)[:2].any()


def test_no_vectors_have_no_levels(metric: Metric) -> None:
    background = Background(unit(20, 0), (None,) * 20)
    assert background.levels(metric, np.empty((0, DIM), np.float32)).shape == (0,)
    assert background.levels_against(metric, unit(2, 1), []).shape == (2, 0)


def test_levels_do_not_depend_on_the_order_of_the_cohort(metric: Metric) -> None:
    order, vectors = np.random.default_rng(3).permutation(40), unit(5, 1)
    one = Background(unit(40, 0), LABELS)
    other = Background(unit(40, 0)[order], tuple(LABELS[row] for row in order))
    for own in ((), ["a", "b", None, "c", "a"]):
        np.testing.assert_allclose(one.levels(metric, vectors, own), other.levels(metric, vectors, own), atol=1e-6)


@given(st.integers(1, 70), st.integers(0, 5))
def test_keys_tell_vectors_apart_and_know_them_again(dim: int, seed: int) -> None:
    vectors = unit(10, seed, dim + 2)
    keys = keys_of(vectors)
    assert keys.shape == (10, math.ceil((dim + 2) / math.ceil((dim + 2) / 32)))
    assert keys.shape[1] <= 32
    np.testing.assert_allclose(keys.sum(axis=1), vectors.sum(axis=1), atol=1e-5)
    background = Background(unit(10, seed + 100, dim + 2), (None,) * 10, keys=keys)
    itself = background.itself(vectors + np.float32(1e-6))
    assert itself.diagonal().all()
    assert (itself == np.eye(10, dtype=bool)).all() or dim + 2 < 6


def test_a_copy_that_is_hardly_changed_is_not_the_same_picture() -> None:
    vectors = unit(20, 0, 1280)
    near = vectors + 0.02 * unit(20, 1, 1280)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    assert ((near * vectors).sum(axis=1) > 0.9997).all()
    background = Background(unit(20, 2, 1280), (None,) * 20, keys=keys_of(vectors))
    assert not background.itself(near).any()
    assert background.itself(vectors).sum() == 20


# What quality does


def test_responses_go_from_0_to_1_along_each_piece() -> None:
    low, high = quality(0, 0, 0, 0), quality(1, 1, 127, 8)
    assert responses([low, high]).tolist() == [[0.0] * FEATURES, [1.0] * FEATURES]
    # Brightness .375: past .05-.15-.3, halfway to .45. Noise of sqrt(4 x 7) - 1: halfway from 3 to 6 in octaves.
    got = responses([quality(0.375, 0.15, math.sqrt(28) - 1, 0.25)])[0]
    np.testing.assert_allclose(got[:5], [1, 1, 0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(got[5:8], [1, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(got[8:13], [1, 0.5, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(got[13:], [0.5, 0, 0, 0], atol=1e-12)
    assert responses([]).shape == (0, FEATURES)


def planted(seed: int, pictures: int = 60, copies: int = 40) -> tuple[Any, ...]:
    """Pictures, and degraded copies whose vectors moved as a known matrix says (before they are normalized)."""
    rng = np.random.default_rng(seed)
    truth = 0.2 * rng.normal(size=(FEATURES, DIM)) / np.sqrt(DIM)
    clean, of_clean = unit(pictures, seed), [quality()] * pictures
    degraded_quality = [
        quality(rng.uniform(0, 1), rng.uniform(0, 0.35), np.exp(rng.uniform(0, 4)), rng.uniform(0, 5))
        for _ in range(pictures * copies)
    ]
    moves = (responses(degraded_quality) - responses([quality()])) @ truth
    degraded = clean[:, None] + moves.reshape(pictures, copies, DIM)
    return truth, clean, of_clean, degraded.astype(np.float32), degraded_quality


def test_a_planted_displacement_is_recovered() -> None:
    truth, clean, of_clean, degraded, of_degraded = planted(0)
    learned = QualityShift.learn(clean, of_clean, degraded, of_degraded)
    np.testing.assert_allclose(learned.weights, truth, atol=0.01)
    np.testing.assert_allclose(learned.usual, responses([quality()])[0], atol=1e-12)


def test_what_was_learned_takes_the_displacement_off_pictures_that_it_never_saw() -> None:
    _, clean, of_clean, degraded, of_degraded = planted(0)
    learned = QualityShift.learn(clean, of_clean, degraded, of_degraded)
    truth = planted(0)[0]
    fresh, bad = unit(20, 77), quality(0.1, 0.05, 30, 3)
    moved = (fresh + (responses([bad]) - responses([quality()])) @ truth).astype(np.float32)
    back = learned.taken_off(moved, [bad] * 20)
    np.testing.assert_allclose(back, fresh, atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-6)
    assert (np.linalg.norm(moved - fresh, axis=1) > 0.05).all()


def test_usual_quality_takes_nothing_off_and_unknown_quality_counts_as_usual() -> None:
    _, clean, of_clean, degraded, of_degraded = planted(1)
    background = Background(clean, (None,) * 60, QualityShift.learn(clean, of_clean, degraded, of_degraded))
    vectors = unit(3, 5)
    np.testing.assert_allclose(background.corrected(vectors, [quality()] * 3), vectors, atol=1e-6)
    bad = quality(0.1)
    mixed = background.corrected(vectors, [None, bad, None])
    np.testing.assert_array_equal(mixed[[0, 2]], vectors[[0, 2]])
    assert background.shift is not None
    np.testing.assert_array_equal(mixed[1:2], background.shift.taken_off(vectors[1:2], [bad]))
    assert Background(clean, (None,) * 60).corrected(vectors, [bad] * 3) is vectors


def test_what_moves_a_vector_onto_zero_leaves_zeros_and_no_nan() -> None:
    shift = QualityShift(np.zeros((FEATURES, DIM), np.float32), np.zeros(FEATURES))
    assert not shift.taken_off(np.zeros((1, DIM), np.float32), [quality()]).any()


def test_nothing_to_learn_from_moves_nothing() -> None:
    learned = QualityShift.learn(unit(3, 0), [quality()] * 3, np.empty((3, 0, DIM), np.float32), [])
    assert not learned.weights.any()


# What quality still adds to scores


def blurring(seed: int) -> tuple[Background, np.ndarray, list[Quality], np.ndarray]:
    """Pictures whose copies are drawn towards a picture of the cohort each, the more the softer they are."""
    rng = np.random.default_rng(seed)
    clean, cohort = unit(40, seed), unit(60, 1)
    softness = rng.uniform(0, 4, size=(40, 9))
    softness[:, 0] = 0.5
    toward = cohort[rng.integers(0, 60, 40)]
    vectors = clean[:, None] + 0.2 * (softness[..., None] - 0.5) * toward[:, None]
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    qualities = [quality(blur=float(s)) for s in softness.ravel()]
    shift = QualityShift(np.zeros((FEATURES, DIM), np.float32), responses([quality()])[0])
    return Background(cohort, (None,) * 60, shift), vectors.astype(np.float32), qualities, softness


def test_what_quality_adds_above_the_levels_is_learned_and_told(metric: Metric) -> None:
    background, vectors, qualities, _ = blurring(0)
    nobody = np.zeros((40, 60), bool)
    offsets = {metric.name: offset_of(background, metric, vectors, qualities, nobody, nobody)}
    knowing = replace(background, offsets=offsets)
    _, fresh, of_fresh, softness = blurring(50)
    flat = fresh.reshape(-1, DIM)
    others = unit(60, 1)  # the cohort itself stands for what is met
    found = naive_tails(metric, flat, background, others).reshape(40, 9)
    left = found - knowing.offset(metric.name, of_fresh).reshape(40, 9)
    soft = softness > 3
    before, after = ((x - x[:, :1])[soft].mean() for x in (found, left))
    assert before > 0.05
    assert abs(after) < before / 3


def naive_tails(metric: Metric, vectors: np.ndarray, background: Background, others: np.ndarray) -> np.ndarray:
    """Return how far above the levels each picture's nearest stranger is; the strangers are those of the cohort."""
    sign = 1 if metric.higher_is_closer else -1
    to_others, among = sign * metric.matrix(vectors, others), sign * metric.matrix(others, background.vectors)
    count = round(NEAREST * (len(others) - 1))
    above = []
    for j in range(len(others)):
        mine = np.sort(np.delete(to_others, j, axis=1), axis=1)[:, -count:].mean(axis=1)
        theirs = np.sort(np.delete(among[j], j))[-count:].mean()
        above.append(to_others[:, j] - (mine + theirs) / 2)
    return np.max(above, axis=0)


def test_usual_and_unknown_quality_add_nothing_nor_does_a_metric_that_was_not_learned() -> None:
    shift = QualityShift(np.zeros((FEATURES, DIM), np.float32), responses([quality()])[0])
    offsets = {"cosine": np.arange(1.0, FEATURES + 1)}
    background = Background(unit(4, 0), (None,) * 4, shift, offsets=offsets)
    dark = responses([quality(0.1)])[0] - responses([quality()])[0]
    got = background.offset("cosine", [None, quality(), quality(0.1)])
    np.testing.assert_allclose(got, [0, 0, dark @ offsets["cosine"]], atol=1e-12)
    assert got[2] != 0
    assert not background.offset("euclidean", [quality(0.1)]).any()


def test_who_belongs_to_a_picture_and_who_is_like_it_are_no_strangers(metric: Metric) -> None:
    background, vectors = Background(unit(40, 0), LABELS), unit(5, 1)
    own = np.random.default_rng(0).random((5, 40)) < 0.3
    others = np.random.default_rng(1).random((3, 40)) < 0.3
    own[4], others[2] = True, ~own[0]  # all are its own; nobody were left
    got = background.levels_apart(metric, vectors, own, others)
    for i in range(5):
        for j in range(3):
            mine = own[i] if i < 4 else np.zeros(40, bool)
            left_out = mine | others[j]
            want = naive_level(
                metric, vectors[i], background.vectors, LABELS, (), np.flatnonzero(mine if left_out.all() else left_out)
            )
            assert got[i, j] == pytest.approx(want, abs=1e-5)


# What is kept


def test_packed_numbers_come_back_to_a_thousandth() -> None:
    vectors = unit(50, 0, 1280)
    again = unpacked(packed(vectors), 1280)
    assert np.abs(again - vectors).max() < 1e-3
    np.testing.assert_allclose(again, vectors, rtol=2**-11, atol=2**-25)
    np.testing.assert_array_equal(unpacked(packed(vectors, "<f4"), 1280, "<f4"), vectors)


def test_numbers_too_large_for_float16_are_refused() -> None:
    with np.errstate(over="ignore"), pytest.raises(InputError, match="NaN or infinite"):
        unpacked(packed(np.full((1, 2), 1e6, np.float32)), 2)
    with pytest.raises(InputError, match="NaN or infinite"):
        Background(np.full((1, DIM), np.nan, np.float32), (None,))


@pytest.mark.parametrize("dim", [3, 33, 1280])
def test_a_background_that_was_written_is_the_one_that_was_made_to_the_last_bit(dim: int) -> None:
    shift = QualityShift(0.1 * unit(FEATURES, 3, dim), np.linspace(0, 1, FEATURES))
    vectors = unit(20, 0, dim)
    made = Background(vectors, ("a", None) * 10, shift, Usual(1.0, 0.5, 3.0, 2.0), keys_of(unit(20, 1, dim)))
    made = replace(made, offsets={"cosine": np.linspace(-0.1, 0.3, FEATURES)})
    again = Background.from_dict(json.loads(json.dumps(made.as_dict(), allow_nan=False)))
    np.testing.assert_array_equal(again.vectors, made.vectors)
    np.testing.assert_allclose(made.vectors, vectors, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-6)
    assert (again.labels, again.usual) == (made.labels, made.usual)
    assert again.shift is not None
    assert made.keys is not None
    np.testing.assert_array_equal(again.shift.weights, shift.weights)
    np.testing.assert_array_equal(again.shift.usual, shift.usual)
    np.testing.assert_array_equal(again.keys, made.keys)
    np.testing.assert_array_equal(again.offsets["cosine"], made.offsets["cosine"])
    assert again.as_dict() == made.as_dict()


def test_a_background_of_nothing_but_vectors_is_kept_too() -> None:
    again = Background.from_dict(json.loads(json.dumps(Background(unit(2, 0), (None, "a")).as_dict())))
    assert (again.shift, again.usual, again.keys, again.labels) == (None, None, None, (None, "a"))


@pytest.mark.parametrize(
    "parts",
    [
        {"vectors": np.empty((0, DIM), np.float32), "labels": ()},
        {"labels": ("a",)},
        {"vectors": np.ones(4, np.float32), "labels": ("a",) * 4},
        {"keys": np.zeros((2, 3), np.float32)},
        {"shift": QualityShift(np.zeros((FEATURES, 5), np.float32), np.zeros(FEATURES))},
    ],
)
def test_a_background_that_does_not_fit_together_cannot_be_built(parts: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Background(**{"vectors": unit(2, 0), "labels": ("a", "b"), **parts})


@pytest.mark.parametrize("shapes", [((3, DIM), (3,)), ((FEATURES, DIM), (3,)), ((FEATURES,), (FEATURES,))])
def test_weights_that_do_not_fit_the_measured_quantities_cannot_be_built(shapes: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match="rows of weights"):
        QualityShift(np.zeros(shapes[0], np.float32), np.zeros(shapes[1]))
