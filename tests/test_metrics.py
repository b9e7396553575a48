"""One body over every metric, against naive loops over Python floats and hand-worked numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from lookalike import registry
from lookalike.protocols import FollowsCosine, Metric

Vector = Sequence[float]


def naive_cosine(a: Vector, b: Vector) -> float:
    length = math.hypot(*a) * math.hypot(*b)
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0


NAIVE: dict[str, Callable[[Vector, Vector], float]] = {
    "cosine": naive_cosine,
    "euclidean": math.dist,
    "manhattan": lambda a, b: math.fsum(abs(x - y) for x, y in zip(a, b, strict=True)),
}
# Of (3, 4) against (4, 3): 24/25; sqrt(1 + 1); 1 + 1.
HAND_WORKED = {"cosine": 0.96, "euclidean": math.sqrt(2), "manhattan": 2.0}


@pytest.fixture(params=sorted(NAIVE))
def metric(request: pytest.FixtureRequest) -> Metric:
    return registry.metric(request.param)


def vectors(rows: int, dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim))


def unit(raw: np.ndarray) -> np.ndarray:
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def test_every_built_in_metric_is_tested_here() -> None:
    assert registry.names("metric") == sorted(NAIVE)


def test_matrix_equals_the_naive_loop(metric: Metric) -> None:
    queries, gallery = vectors(3, 17, 0), vectors(1501, 17, 1)
    want = [[NAIVE[metric.name](q, g) for g in gallery.tolist()] for q in queries.tolist()]
    np.testing.assert_allclose(metric.matrix(queries, gallery), want, rtol=1e-12, atol=1e-12)


def test_a_hand_worked_pair(metric: Metric) -> None:
    score = metric.matrix(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]]))[0, 0]
    assert score == pytest.approx(HAND_WORKED[metric.name], abs=1e-12)


def test_a_gallery_larger_than_a_block_is_scored_whole(metric: Metric) -> None:
    gallery = unit(vectors(3000, 257, 2))  # 3 MB: three blocks, the last one short
    got = metric.matrix(gallery[:2], gallery)
    for row in (0, 1, 1019, 1020, 2039, 2040, 2999):
        want = NAIVE[metric.name](gallery[0].tolist(), gallery[row].tolist())
        assert got[0, row] == pytest.approx(want, abs=1e-4)


def test_a_vector_is_nearest_to_itself(metric: Metric) -> None:
    gallery = unit(vectors(50, 128, 3))
    scores = metric.matrix(gallery, gallery)
    best = scores.argmax(axis=1) if metric.higher_is_closer else scores.argmin(axis=1)
    assert best.tolist() == list(range(50))


def test_the_precision_is_that_of_the_inputs(metric: Metric) -> None:
    for dtype in (np.float32, np.float64):
        a = vectors(2, 8, 4).astype(dtype)
        assert metric.matrix(a, a).dtype == dtype


def test_an_empty_gallery_gives_no_scores(metric: Metric) -> None:
    assert metric.matrix(vectors(2, 8, 5), np.empty((0, 8))).shape == (2, 0)


def test_zero_huge_and_tiny_vectors_give_finite_scores(metric: Metric) -> None:
    odd = np.array([[0.0, 0.0], [1e150, 1e150], [1e-150, 0.0], [-1e150, 1e150]])
    assert np.isfinite(metric.matrix(odd, odd)).all()


def test_cosine_of_a_zero_vector_is_zero_and_of_scaled_vectors_is_one() -> None:
    cosine = registry.metric("cosine")
    a = np.array([[0.0, 0.0], [1e-200, 1e-200], [5.0, 5.0]])
    np.testing.assert_allclose(cosine.matrix(a, a), [[0, 0, 0], [0, 1, 1], [0, 1, 1]], atol=1e-12)


def test_a_metric_that_says_so_orders_unit_vectors_as_cosine_does(metric: Metric) -> None:
    gallery = unit(vectors(200, 300, 6)).astype(np.float64)
    cosine = registry.metric("cosine").matrix(gallery[:1], gallery)[0]
    scores = metric.matrix(gallery[:1], gallery)[0]
    same = np.argsort(-cosine).tolist() == np.argsort(-scores if metric.higher_is_closer else scores).tolist()
    assert same == (isinstance(metric, FollowsCosine) and metric.follows_cosine)


def test_euclidean_follows_cosine_on_unit_vectors() -> None:
    gallery = unit(vectors(100, 64, 7)).astype(np.float64)
    cosine = registry.metric("cosine").matrix(gallery, gallery)
    euclidean = registry.metric("euclidean").matrix(gallery, gallery)
    np.testing.assert_allclose(euclidean**2, 2 - 2 * cosine, atol=1e-6)
