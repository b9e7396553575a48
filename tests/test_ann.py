"""The approximate index: good recall, honest about being approximate, never a removed item, never required."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike import registry
from lookalike.errors import ConfigError, MissingDependency, StoreError
from lookalike.stores import ann, matrix
from lookalike.stores.sqlite import SqliteStore
from lookalike.types import Embeddings, Item, Space

SPACE = Space("fake", "1", "none", 32)
N = 4000
COSINE = registry.metric("cosine")


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_ANN_ABOVE", "1000")
    monkeypatch.setattr(matrix, "_TAIL_AT_LEAST", 300)
    monkeypatch.setattr(matrix, "SNAPSHOT_FROM", 1000)


def vectors(n: int, seed: int) -> Embeddings:
    centres = np.random.default_rng(1).normal(size=(100, SPACE.dim))
    rng = np.random.default_rng(seed)
    return Embeddings.from_raw(centres[rng.integers(0, 100, n)] + 0.5 * rng.normal(size=(n, SPACE.dim)), SPACE)


def fill(store: SqliteStore, start: int, n: int, seed: int = 0) -> None:
    store.upsert([Item(f"i{i}", {"n": i}) for i in range(start, start + n)], [vectors(n, seed)])


def recall(store: SqliteStore, k: int = 10, n: int = 50) -> float:
    queries = vectors(n, seed=99)
    guessed, true = store.search(queries, k, COSINE), store.search(queries, k, COSINE, exact=True)
    assert all(not hits.exact for hits in guessed)
    assert all(hits.exact for hits in true)
    shared = [len({h.id for h in a} & {h.id for h in b}) for a, b in zip(guessed, true, strict=True)]
    return sum(shared) / (n * k)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("faiss", reason="the extra 'ann' is not installed")
    directory = tmp_path_factory.mktemp("ann") / "g"
    with SqliteStore.create(directory) as made:
        fill(made, 0, N)
        made.build_ann(SPACE)
    return directory


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Iterator[SqliteStore]:
    shutil.copytree(built, tmp_path / "g")
    with SqliteStore.open(tmp_path / "g") as made:
        yield made


def manifest(store: SqliteStore) -> dict[str, Any]:
    [path] = (store.directory / "derived").glob("*.ann")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("k", [1, 10, 100])
def test_recall_is_high_and_said_to_be_approximate(store: SqliteStore, k: int) -> None:
    assert recall(store, k) >= 0.95


def test_the_measured_recall_is_recorded(store: SqliteStore) -> None:
    found = manifest(store)
    assert found["rows"] == N
    assert found["recall"]["10"] >= 0.97
    assert found["recall"]["100"] >= 0.97


def test_scores_are_those_of_an_exact_search(store: SqliteStore) -> None:
    queries = vectors(20, seed=5)
    for name in ("cosine", "euclidean"):
        guessed = store.search(queries, 10, registry.metric(name))
        true = store.search(queries, N, registry.metric(name), exact=True)
        for a, b in zip(guessed, true, strict=True):
            assert not a.exact
            scores = {hit.id: hit.score for hit in b}
            assert all(hit.score == scores[hit.id] for hit in a)
            assert list(a) == sorted(a, key=lambda h: (h.score if name == "euclidean" else -h.score, h.id))


def test_what_the_index_cannot_answer_is_searched_exactly(store: SqliteStore) -> None:
    queries = vectors(3, seed=5)
    assert all(hits.exact for hits in store.search(queries, 10, registry.metric("manhattan")))
    assert all(hits.exact for hits in store.search(queries, 101, COSINE))
    assert all(hits.exact for hits in store.search(queries, 10, COSINE, "n >= 0"))
    nothing = Embeddings.from_raw(np.zeros((1, SPACE.dim)), SPACE)
    assert store.search(nothing, 10, COSINE)[0].exact


def test_a_filtered_search_has_recall_one(store: SqliteStore) -> None:
    queries = vectors(20, seed=5)
    everything = store.search(queries, N, COSINE, exact=True)
    for where, keep in (("n < 40", lambda n: n < 40), ("n >= 40", lambda n: n >= 40)):
        for hits, all_hits in zip(store.search(queries, 10, COSINE, where), everything, strict=True):
            assert [h.id for h in hits] == [h.id for h in all_hits if keep(h.metadata["n"])][:10]


def test_newer_rows_are_found_and_removed_ones_never(store: SqliteStore) -> None:
    queries = vectors(20, seed=5)
    gone = {hits[0].id for hits in store.search(queries, 1, COSINE, exact=True)}
    store.delete(sorted(gone))
    store.upsert([Item(f"new{i}") for i in range(20)], [queries])
    store.upsert([Item("i77")], [queries[:1]])
    for reopened in (False, True):
        other = SqliteStore.open(store.directory) if reopened else store
        for i, hits in enumerate(other.search(queries, 10, COSINE)):
            assert not hits.exact
            assert f"new{i}" in {hits[0].id, hits[1].id}
            assert not gone & {h.id for h in hits}
        assert {h.id for h in other.search(queries[:1], 2, COSINE)[0]} >= {"new0", "i77"} - gone
    # The matrix is made anew and holds the newer rows; the index does not.
    for path in (store.directory / "derived").glob("*.matrix"):
        path.unlink()
    with SqliteStore.open(store.directory) as other:
        for i, hits in enumerate(other.search(queries, 10, COSINE)):
            assert not hits.exact
            assert f"new{i}" in {hits[0].id, hits[1].id}
            assert not gone & {h.id for h in hits}


def test_an_index_too_far_behind_is_not_used_and_settle_builds_another(store: SqliteStore) -> None:
    fill(store, N, 700, seed=1)
    with SqliteStore.open(store.directory) as other:
        assert other.search(vectors(1, 5), 10, COSINE)[0].exact
        other.settle()
        assert not other.search(vectors(1, 5), 10, COSINE)[0].exact
        assert manifest(other)["rows"] == N + 700
        assert recall(other) >= 0.95


def test_settle_leaves_an_index_that_fits(store: SqliteStore) -> None:
    before = manifest(store)
    fill(store, N, 10, seed=1)
    store.settle()
    assert manifest(store) == before


def test_a_small_gallery_is_searched_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_ANN_ABOVE", "5000")
    with SqliteStore.create(tmp_path / "g") as store:
        fill(store, 0, N)
        store.settle()
        assert store.search(vectors(1, 5), 10, COSINE)[0].exact
        assert not list((store.directory / "derived").glob("*.ann"))


@pytest.mark.parametrize("suffix", [".ann", ".faiss"])
@pytest.mark.parametrize("how", ["missing", "torn", "garbage"])
def test_a_damaged_index_is_ignored(store: SqliteStore, suffix: str, how: str) -> None:
    [path] = (store.directory / "derived").glob("*" + suffix)
    if how == "missing":
        path.unlink()
    else:
        whole = path.read_bytes()
        path.write_bytes(whole[:-5] if how == "torn" else b"\xff" * len(whole))
    with SqliteStore.open(store.directory) as other:
        assert other.search(vectors(1, 5), 10, COSINE)[0].exact


def test_an_index_of_another_gallery_is_ignored(store: SqliteStore, tmp_path: Path) -> None:
    with SqliteStore.create(tmp_path / "other") as other:
        fill(other, 0, 1100, seed=3)
    (store.directory / "derived").rename(tmp_path / "other" / "derived")
    with SqliteStore.open(tmp_path / "other") as other:
        assert other.search(vectors(1, 5), 10, COSINE)[0].exact


def test_progress_is_told(store: SqliteStore) -> None:
    told: list[tuple[int, int]] = []
    store.build_ann(SPACE, progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (N, N)


def test_without_faiss_search_is_exact_and_building_says_what_to_install(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(ann, "installed", lambda: False)
    with SqliteStore.open(store.directory) as other:
        other.settle()
        assert other.search(vectors(1, 5), 10, COSINE)[0].exact
        with pytest.raises(MissingDependency, match=r"pip install 'lookalike\[ann\]'"):
            other.build_ann(SPACE)


def test_where_the_index_cannot_be_written_building_says_so(tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="the extra 'ann' is not installed")
    with SqliteStore.create(tmp_path / "g") as store:
        (store.directory / "derived").write_text("in the way")
        fill(store, 0, 1100)
        with pytest.raises(StoreError, match="cannot be used"):
            store.build_ann(SPACE)
        store.settle()
        assert store.search(vectors(1, 5), 10, COSINE)[0].exact


def test_a_bad_limit_is_a_config_error(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_ANN_ABOVE", "many")
    with (
        SqliteStore.open(store.directory) as other,
        pytest.raises(ConfigError, match="LOOKALIKE_ANN_ABOVE is a number of vectors, got 'many'"),
    ):
        other.search(vectors(1, 5), 10, COSINE)
