"""Candidates by embedding against a full sort of all cosines."""

from __future__ import annotations

import numpy as np
import pytest

from lookalike.copies import candidates
from lookalike.copies.candidates import beyond, nearest
from lookalike.stores import ann
from lookalike.types import Float32


def unit(seed: int, count: int, dim: int = 24) -> Float32:
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(count // 4 + 1, dim))[rng.integers(count // 4 + 1, size=count)]).astype(np.float32)
    vectors += 0.4 * rng.normal(size=vectors.shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def naive(vectors: Float32, at_least: float, listed: int) -> list[list[int]]:
    lists = []
    for row, vector in enumerate(vectors):
        cosines = [(-float(np.dot(vector, other)), k) for k, other in enumerate(vectors) if k != row]
        lists.append([k for minus, k in sorted(cosines)[:listed] if -minus >= at_least])
    return lists


@pytest.mark.parametrize("count", [2, 5, 130, 700])
@pytest.mark.parametrize("at_least", [-1.0, 0.6])
def test_the_nearest_are_those_of_a_full_sort(count: int, at_least: float) -> None:
    vectors = unit(count, count)
    found = nearest(vectors, at_least, 16)
    assert [[int(k) for k in rows if k >= 0] for rows in found.rows] == naive(vectors, at_least, 16)


def test_equal_vectors_come_in_their_order() -> None:
    vectors = np.repeat(unit(0, 1), 12, axis=0)
    assert nearest(vectors, 0.5, 4).rows.tolist()[:2] == [[1, 2, 3, 4], [0, 2, 3, 4]]


@pytest.mark.parametrize("count", [0, 1])
def test_few_pictures_have_no_nearest(count: int) -> None:
    assert nearest(unit(0, 4)[:count], -1.0).rows.shape == (count, 0)


def test_the_walk_takes_each_picture_once_and_families_together() -> None:
    families = np.repeat(np.eye(30, 40, dtype=np.float32), 5, axis=0)[np.random.default_rng(5).permutation(150)]
    walk = nearest(families, 0.5).walk()
    assert sorted(walk) == list(range(150))
    names = families.argmax(axis=1)[walk]
    assert (np.diff(names) != 0).sum() == 29


def test_windows_cover_the_list_once_and_grow() -> None:
    windows = list(nearest(unit(1, 100), -1.0, 64).windows())
    assert [(w.start, w.stop) for w in windows] == [(0, 4), (4, 8), (8, 16), (16, 32), (32, 64)]


def test_what_lies_beyond_the_list_is_the_rest_nearest_first() -> None:
    vectors = unit(2, 300)
    listed = [int(k) for k in nearest(vectors, 0.5, 4).rows[7] if k >= 0]
    everything = naive(vectors, 0.5, 300)[7]
    assert [row for row, _ in beyond(vectors, 7, listed, 0.5)] == everything[len(listed) :]


def test_an_inverted_file_finds_nearly_all_of_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ann.installed()  # else this would compare the exact way with itself
    vectors = unit(3, 3000)
    exact = nearest(vectors, 0.7, 8).rows
    monkeypatch.setattr(candidates, "EXACT_UP_TO", 1000)
    rough = nearest(vectors, 0.7, 8).rows
    assert not (rough == np.arange(3000)[:, None]).any()
    found = [len(set(a[a >= 0]) & set(b[b >= 0])) for a, b in zip(exact, rough, strict=True)]
    assert sum(found) >= 0.95 * (exact >= 0).sum()


def test_of_many_equal_vectors_each_has_a_full_list_without_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "EXACT_UP_TO", 100)
    found = nearest(np.repeat(unit(4, 20), 60, axis=0), 0.7, 8)
    assert (found.rows >= 0).all()
    assert not (found.rows == np.arange(1200)[:, None]).any()
