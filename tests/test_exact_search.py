"""Exact search at every size: from memory, from a mapped snapshot, with a tail of newer rows, with any metric."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike import registry
from lookalike.protocols import Metric
from lookalike.stores import ann, matrix, snapshot, topk
from lookalike.stores.sqlite import SqliteStore
from lookalike.types import Embeddings, Item, Space

SPACE = Space("fake", "1", "none", 24)
METRICS = ["cosine", "euclidean", "manhattan"]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring all the machinery of large galleries into play at a few hundred rows."""
    monkeypatch.setattr(matrix, "SNAPSHOT_FROM", 100)
    monkeypatch.setattr(matrix, "_TAIL_AT_LEAST", 40)
    monkeypatch.setattr(matrix, "_PAGE_ROWS", 64)
    monkeypatch.setattr(matrix, "_RESCORE_ROWS", 16)
    monkeypatch.setattr(topk, "_BLOCK_ROWS", 96)
    monkeypatch.setattr(topk, "_SPARE", 4)
    monkeypatch.setattr(topk, "_NEAREST_SHARE", 2)


class Oddly:
    """A metric of someone else's: no fast way, larger is closer, another scale."""

    name = "oddly"
    higher_is_closer = True

    def matrix(self, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        return 100.0 - np.abs(queries[:, None, :3] - gallery[None, :, :3]).max(axis=2)


ALL_METRICS: list[Callable[[], Metric]] = [*((lambda n=n: registry.metric(n)) for n in METRICS), Oddly]  # type: ignore[misc]


def vectors(rng: np.random.Generator, n: int) -> Embeddings:
    """Clusters of near neighbours, exact copies, and zeros."""
    centres = np.random.default_rng(1).normal(size=(20, SPACE.dim))
    rows = centres[rng.integers(0, 20, n)] + 1e-4 * rng.normal(size=(n, SPACE.dim)) * rng.integers(0, 2, (n, 1))
    rows[rng.random(n) < 0.02] = 0
    return Embeddings.from_raw(rows, SPACE)


def naive(rows: dict[str, np.ndarray], query: np.ndarray, k: int, metric: Metric) -> list[tuple[str, float]]:
    """Score pair by pair in float64, so that nothing of a batch can show; round; sort by score, then id."""
    scored = []
    for id_, row in rows.items():
        score = float(np.float32(metric.matrix(query[None].astype(float), row[None].astype(float))[0, 0]))
        scored.append((-score if metric.higher_is_closer else score, id_, score))
    return [(id_, score) for _, id_, score in sorted(scored)[:k]]


def found(store: SqliteStore, queries: Embeddings, k: int, metric: Metric, where: str | None = None) -> list[Any]:
    return [[(hit.id, hit.score) for hit in hits] for hits in store.search(queries, k, metric, where)]


def names(start: int, n: int) -> list[Item]:
    # Ids in another order than the rows.
    return [Item(f"{i * 7919 % 10007:05d}", metadata={"n": i, "third": i % 3 == 0}) for i in range(start, start + n)]


def fill(store: SqliteStore, start: int, n: int, seed: int = 0) -> dict[str, np.ndarray]:
    items, embeddings = names(start, n), vectors(np.random.default_rng(seed), n)
    store.upsert(items, [embeddings])
    return {item.id: row for item, row in zip(items, embeddings.vectors, strict=True)}


@pytest.mark.parametrize("make_metric", ALL_METRICS, ids=[*METRICS, "custom"])
@pytest.mark.parametrize("with_faiss", [True, False])
def test_search_is_what_naive_loops_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_metric: Any, with_faiss: bool
) -> None:
    if not with_faiss:
        monkeypatch.setattr(ann, "installed", lambda: False)
    metric = make_metric()
    queries = vectors(np.random.default_rng(5), 4)
    with SqliteStore.create(tmp_path / "g") as store:
        rows = fill(store, 0, 300)
        for start in (0, 300, 330, 400):
            if start:
                rows |= fill(store, start, 30, seed=start)
                gone = sorted(rows)[::17]
                store.delete(gone)
                rows = {id_: row for id_, row in rows.items() if id_ not in gone}
                changed = names(10, 5)
                embeddings = vectors(np.random.default_rng(start), 5)
                store.upsert(changed, [embeddings])
                rows |= {item.id: row for item, row in zip(changed, embeddings.vectors, strict=True)}
            for k in (1, 10, 1000):
                expected = [naive(rows, query, k, metric) for query in queries.vectors]
                assert found(store, queries, k, metric) == expected
                assert [found(store, queries[i : i + 1], k, metric)[0] for i in range(4)] == expected


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("where", ["n < 20", "n != 5", "third = true", "n < 0", "n < 20 or n > 320"])
def test_a_filtered_search_is_exact(tmp_path: Path, metric: str, where: str) -> None:
    rule = registry.metric(metric)
    queries = vectors(np.random.default_rng(5), 3)
    with SqliteStore.create(tmp_path / "g") as store:
        fill(store, 0, 300)
        store.search(queries, 1, rule)
        fill(store, 300, 30)
        store.delete([names(7, 1)[0].id])
        ids = [item.id for item in store.items(where)]
        rows = dict(zip(ids, store.embeddings(ids, SPACE).vectors, strict=True))
        for k in (1, 10, 1000):
            assert found(store, queries, k, rule, where) == [naive(rows, query, k, rule) for query in queries.vectors]
        assert all(hits.exact for hits in store.search(queries, 5, rule, where))


def test_a_filter_that_was_asked_before_sees_later_writes(tmp_path: Path) -> None:
    cosine, query = registry.metric("cosine"), vectors(np.random.default_rng(5), 1)
    with SqliteStore.create(tmp_path / "g") as store:
        fill(store, 0, 10)
        assert len(found(store, query, 100, cosine, "n < 5")[0]) == 5
        store.delete([names(0, 1)[0].id])
        assert len(found(store, query, 100, cosine, "n < 5")[0]) == 4


def derived(store: SqliteStore) -> list[Path]:
    return sorted((store.directory / "derived").glob("*.matrix"))


def test_the_snapshot_is_used_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, cosine = vectors(np.random.default_rng(5), 3), registry.metric("cosine")
    with SqliteStore.create(tmp_path / "g") as store:
        fill(store, 0, 300)
        expected = found(store, queries, 20, cosine)
        [path] = derived(store)
    assert path.stat().st_size >= 4096 + 300 * SPACE.dim * 4
    monkeypatch.setattr(matrix.Matrix, "_built", lambda self: pytest.fail("the snapshot was not used"))
    with SqliteStore.open(tmp_path / "g") as store:
        assert found(store, queries, 20, cosine) == expected


def spoil_torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def spoil_header(path: Path) -> None:
    path.write_bytes(b"\0" * 4096 + path.read_bytes()[4096:])


def spoil_keys(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-3 * 8] ^= 1
    path.write_bytes(whole)


def spoil_vectors(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(300 * SPACE.dim * 4) + whole[4096 + 300 * SPACE.dim * 4 :])


def change_stamp(**changes: Any) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        whole = path.read_bytes()
        header = json.loads(whole[:4096])
        header["stamp"] |= changes
        path.write_bytes(json.dumps(header).encode().ljust(4096) + whole[4096:])

    return spoil


SPOILS: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b"") and None,
    "torn": spoil_torn,
    "zeroed header": spoil_header,
    "another key": spoil_keys,
    "zeroed vectors": spoil_vectors,
    "another gallery": change_stamp(gallery="other"),
    "another space": change_stamp(space="other"),
    "from the future": change_stamp(seq=10_000),
    "from a time undone": change_stamp(session="other"),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
def test_a_snapshot_that_does_not_fit_is_ignored_and_made_again(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    queries, cosine = vectors(np.random.default_rng(5), 3), registry.metric("cosine")
    with SqliteStore.create(tmp_path / "g") as store:
        fill(store, 0, 300)
        expected = found(store, queries, 20, cosine)
        [path] = derived(store)
    before = path.read_bytes()
    spoil(path)
    with SqliteStore.open(tmp_path / "g") as store:
        assert found(store, queries, 20, cosine) == expected
        assert before in [made.read_bytes() for made in derived(store)]


def test_a_snapshot_from_before_a_backup_was_put_back_is_ignored(tmp_path: Path) -> None:
    queries, cosine = vectors(np.random.default_rng(5), 3), registry.metric("cosine")
    directory = tmp_path / "g"
    with SqliteStore.create(directory) as store:
        fill(store, 0, 150)
    shutil.copy(directory / "lookalike.db", tmp_path / "backup")
    with SqliteStore.open(directory) as store:
        fill(store, 150, 50, seed=1)
        store.search(queries, 1, cosine)
    shutil.copy(tmp_path / "backup", directory / "lookalike.db")
    with SqliteStore.open(directory) as store:
        # The same numbers of transactions, another history.
        fill(store, 150, 50, seed=2)
        ids = [item.id for item in store.items()]
        rows = dict(zip(ids, store.embeddings(ids, SPACE).vectors, strict=True))
        assert found(store, queries, 30, cosine) == [naive(rows, query, 30, cosine) for query in queries.vectors]


def test_where_no_snapshot_can_be_written_the_matrix_stays_in_memory(tmp_path: Path) -> None:
    queries, cosine = vectors(np.random.default_rng(5), 3), registry.metric("cosine")
    with SqliteStore.create(tmp_path / "g") as store:
        (store.directory / "derived").write_text("in the way")
        rows = fill(store, 0, 300)
        assert found(store, queries, 20, cosine) == [naive(rows, query, 20, cosine) for query in queries.vectors]


def test_older_snapshots_are_swept(tmp_path: Path) -> None:
    queries, cosine = vectors(np.random.default_rng(5), 3), registry.metric("cosine")
    with SqliteStore.create(tmp_path / "g") as store:
        for start in range(0, 900, 300):
            fill(store, start, 300)
            store.search(queries, 1, cosine)
            store.search(queries, 1, cosine)
        assert len(derived(store)) == 1


def test_a_write_while_the_snapshot_is_made_is_neither_lost_nor_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, cosine = vectors(np.random.default_rng(5), 3), registry.metric("cosine")
    with SqliteStore.create(tmp_path / "g") as store:
        rows = fill(store, 0, 300)
        real = snapshot.write

        def write_meanwhile(*args: Any) -> Any:
            *first, pages = args
            pages = iter(pages)
            one = next(pages)
            rows.update(fill(store, 10, 250, seed=9))
            gone = names(280, 20)
            store.delete([item.id for item in gone])
            for item in gone:
                del rows[item.id]
            return real(*first, [one, *pages])

        with monkeypatch.context() as patch:
            patch.setattr(matrix.snapshot, "write", write_meanwhile)
            expected_now = found(store, queries, 1000, cosine)
        expected = [naive(rows, query, 1000, cosine) for query in queries.vectors]
        assert expected_now == expected
        assert found(store, queries, 1000, cosine) == expected


def test_a_write_while_the_matrix_is_read_into_memory_is_neither_lost_nor_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, cosine = vectors(np.random.default_rng(5), 3), registry.metric("cosine")
    real = matrix.Matrix._pages
    with SqliteStore.create(tmp_path / "g") as store:
        rows = fill(store, 0, 70)

        def pages_meanwhile(self: matrix.Matrix, seq: int) -> Any:
            rows.update(fill(store, 60, 30, seed=9))
            return real(self, seq)

        with monkeypatch.context() as patch:
            patch.setattr(matrix.Matrix, "_pages", pages_meanwhile)
            expected_now = found(store, queries, 1000, cosine)
        assert expected_now == [naive(rows, query, 1000, cosine) for query in queries.vectors]


def test_rows_that_change_again_and_again_count_once(tmp_path: Path) -> None:
    queries, cosine = vectors(np.random.default_rng(5), 3), registry.metric("cosine")
    with SqliteStore.create(tmp_path / "g") as store:
        rows = fill(store, 0, 300)
        for step in range(6):
            rows |= fill(store, 299, 3, seed=step)
            expected = [naive(rows, query, 1000, cosine) for query in queries.vectors]
            assert found(store, queries, 1000, cosine) == expected
        gone = names(300, 1)[0].id
        store.delete([gone])
        assert all(gone not in {id_ for id_, _ in answer} for answer in found(store, queries, 1000, cosine))


def test_readers_see_what_another_process_wrote(tmp_path: Path) -> None:
    queries, cosine = vectors(np.random.default_rng(5), 3), registry.metric("cosine")
    with SqliteStore.create(tmp_path / "g") as writer, SqliteStore.open(tmp_path / "g", read_only=True) as reader:
        rows = fill(writer, 0, 20)
        for start in (20, 200, 230):
            assert found(reader, queries, 9, cosine) == [naive(rows, query, 9, cosine) for query in queries.vectors]
            rows |= fill(writer, start, start, seed=start)


def test_identical_vectors_tie_by_id_however_many(tmp_path: Path) -> None:
    one = Embeddings.from_raw(np.ones((300, SPACE.dim)), SPACE)
    with SqliteStore.create(tmp_path / "g") as store:
        items = names(0, 300)
        store.upsert(items, [one])
        for metric in METRICS:
            [hits] = store.search(one[:1], 7, registry.metric(metric))
            assert [hit.id for hit in hits] == sorted(item.id for item in items)[:7]


def test_zero_vectors_are_ranked_by_their_true_score(tmp_path: Path) -> None:
    raw = np.eye(SPACE.dim)[:4]
    raw[2] = 0
    raw[3] = -raw[0]
    with SqliteStore.create(tmp_path / "g") as store:
        store.upsert([Item(name) for name in "abcd"], [Embeddings.from_raw(raw, SPACE)])
        query = Embeddings.from_raw(np.eye(SPACE.dim)[:1], SPACE)
        for metric in METRICS:
            # Against a zero vector cosine is 0 (a tie with b), and the distances are 1 (before b).
            order = "abcd" if metric == "cosine" else "acbd"
            assert [hit.id for hit in store.search(query, 4, registry.metric(metric))[0]] == list(order)
        nothing = Embeddings.from_raw(np.zeros((1, SPACE.dim)), SPACE)
        assert [hit.score for hit in store.search(nothing, 4, registry.metric("cosine"))[0]] == [0.0] * 4
        assert [hit.id for hit in store.search(nothing, 4, registry.metric("euclidean"))[0]] == list("cabd")
