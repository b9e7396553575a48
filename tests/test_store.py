"""What every store does. One body, all stores: a new one is one more line in ``STORES``.

The oracle is a dict and naive loops.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike import registry
from lookalike.errors import InputError, SpaceMismatch, StoreError, UnknownId
from lookalike.protocols import Store
from lookalike.stores.sqlite import SqliteStore
from lookalike.types import Embeddings, FileStamp, Item, Space

STORES: dict[str, Callable[[Path], Any]] = {"sqlite": lambda path: SqliteStore.create(path / "gallery")}

SPACE = Space("fake", "1", "none", 8)
OTHER = Space("other", "1", "none", 4)
METRICS = ["cosine", "euclidean", "manhattan"]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made = STORES[request.param](tmp_path)
    yield made
    made.close()


def vectors(rng: np.random.Generator, n: int, space: Space = SPACE) -> Embeddings:
    """Rows drawn from a few, so that exact ties happen; one of the few is zero."""
    few = np.random.default_rng(space.dim).normal(size=(12, space.dim))
    few[0] = 0
    return Embeddings.from_raw(few[rng.integers(0, len(few), n)], space)


def naive_score(metric: str, a: np.ndarray, b: np.ndarray) -> float:
    if metric == "cosine":
        lengths = math.sqrt(sum(float(x) ** 2 for x in a)) * math.sqrt(sum(float(x) ** 2 for x in b))
        return sum(float(x) * float(y) for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0
    if metric == "euclidean":
        return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)))
    return sum(abs(float(x) - float(y)) for x, y in zip(a, b, strict=True))


def naive_search(rows: dict[str, np.ndarray], query: np.ndarray, k: int, metric: str) -> list[tuple[str, float]]:
    sign = -1 if metric == "cosine" else 1
    scored = [(id_, float(np.float32(naive_score(metric, query, row)))) for id_, row in rows.items()]
    # Rounded for the order only: equal rows score the same, and sums in another order differ in the last bits.
    return sorted(scored, key=lambda pair: (round(sign * pair[1], 5), pair[0]))[:k]


def assert_same_hits(hits: Any, expected: list[tuple[str, float]]) -> None:
    assert [h.id for h in hits] == [id_ for id_, _ in expected]
    assert [h.score for h in hits] == pytest.approx([score for _, score in expected], abs=1e-6)


def test_it_is_a_store(store: Any) -> None:
    assert isinstance(store, Store)


def test_it_agrees_with_a_dict_through_a_random_history(store: Any) -> None:
    rng = np.random.default_rng(7)
    items: dict[str, Item] = {}
    rows: dict[str, np.ndarray] = {}
    for step in range(60):
        names = [f"i{n}" for n in rng.choice(80, rng.integers(1, 12), replace=False)]
        if rng.random() < 0.3:
            assert store.delete(names) == sum(name in items for name in names)
            for name in names:
                items.pop(name, None)
                rows.pop(name, None)
        else:
            batch = [Item(name, metadata={"step": step, "even": step % 2 == 0}) for name in names]
            embeddings = vectors(rng, len(names))
            with_vectors = bool(rng.random() < 0.8)
            store.upsert(batch, [embeddings] if with_vectors else ())
            items.update({item.id: item for item in batch})
            if with_vectors:
                rows.update(zip(names, embeddings.vectors, strict=True))
        assert store.count() == len(items)
        if not rows:
            continue
        some = sorted(items)
        assert store.get(some) == [items[name] for name in some]
        query, metric = vectors(rng, 2), METRICS[step % 3]
        k = int(rng.integers(1, 100))
        for answer, vector in zip(store.search(query, k, registry.metric(metric)), query.vectors, strict=True):
            assert_same_hits(answer, naive_search(rows, vector, k, metric))
            assert answer.exact
            assert (answer.metric, answer.space) == (metric, SPACE)
        even = {name: row for name, row in rows.items() if items[name].metadata["even"]}
        assert store.count("even = true") == sum(item.metadata["even"] for item in items.values())
        [answer] = store.search(query[:1], k, registry.metric(metric), "even = true")
        assert_same_hits(answer, naive_search(even, query.vectors[0], k, metric))


def test_an_item_comes_back_as_it_went_in(store: Any) -> None:
    file = FileStamp("/pictures", os.fsdecode(b"a\xff/\n'\";--.jpg"), 123, 456)
    metadata = {"höhe": 1.5, 'quo"te': [1, {"x": None}], "name": os.fsdecode(b"\xfe"), "": "", "big": 2**70}
    item = Item("cam-7/0001 ü", metadata, {"höhe": 1.5}, file, "ab" * 32, 640, 480)
    bare = Item("bare")
    store.upsert([item, bare])
    assert store.get(["bare", item.id]) == [bare, item]
    assert store.get([item.id])[0].path == file.absolute


def test_ids_that_are_not_there_are_named(store: Any) -> None:
    store.upsert([Item("a")])
    with pytest.raises(UnknownId) as caught:
        store.get(["x", "a", "y"])
    assert caught.value.ids == ("x", "y")


def test_the_order_of_insertion_changes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    embeddings = vectors(rng, 50)
    query = vectors(rng, 1)
    answers = []
    for i, order in enumerate([np.arange(50), rng.permutation(50)]):
        with SqliteStore.create(tmp_path / str(i)) as store:
            part = Embeddings(embeddings.vectors[order], embeddings.norms[order], SPACE)
            store.upsert([Item(f"i{n}") for n in order], [part])
            answers.append([[(h.id, h.score) for h in store.search(query, 20, registry.metric(m))[0]] for m in METRICS])
    assert answers[0] == answers[1]


def test_k_above_the_size_gives_all(store: Any) -> None:
    rng = np.random.default_rng(0)
    store.upsert([Item("a"), Item("b")], [vectors(rng, 2)])
    assert len(store.search(vectors(rng, 1), 10, registry.metric("cosine"))[0]) == 2


def test_k_below_one_is_refused(store: Any) -> None:
    with pytest.raises(InputError, match="k is at least 1, got 0"):
        store.search(vectors(np.random.default_rng(0), 1), 0, registry.metric("cosine"))


def test_a_query_that_was_not_normalized_is_refused(store: Any) -> None:
    raw = Embeddings(np.full((1, 8), 3, np.float32), np.ones(1, np.float32), SPACE)
    with pytest.raises(InputError, match=r"a query is of length 1 or 0, got 8\.48"):
        store.search(raw, 1, registry.metric("cosine"))


def test_an_empty_store_has_no_hits(store: Any) -> None:
    assert len(store.search(vectors(np.random.default_rng(0), 1), 5, registry.metric("cosine"))[0]) == 0


def test_no_queries_have_no_answers(store: Any) -> None:
    assert store.search(vectors(np.random.default_rng(0), 0), 5, registry.metric("cosine")) == []


def test_vectors_of_another_space_are_never_compared(store: Any) -> None:
    rng = np.random.default_rng(0)
    store.upsert([Item("a")], [vectors(rng, 1)])
    with pytest.raises(SpaceMismatch, match="fake:1:none:8"):
        store.search(vectors(rng, 1, OTHER), 1, registry.metric("cosine"))


def test_a_failed_call_changes_nothing(store: Any) -> None:
    rng = np.random.default_rng(0)
    store.upsert([Item("a", metadata={"n": 1})], [vectors(rng, 1)])
    with pytest.raises(InputError, match="item 'c' cannot be kept as JSON"):
        store.upsert([Item("a", metadata={"n": 2}), Item("c", metadata={"n": math.nan})])
    assert store.get(["a"])[0].metadata == {"n": 1}
    assert store.count() == 1


@pytest.mark.parametrize(
    ("items", "embeddings", "message"),
    [
        ([Item("a"), Item("a")], [], "not unique"),
        ([Item("a")], [Embeddings.from_raw(np.ones((2, 8)), SPACE)], "1 items need 1 vectors, got 2"),
        ([Item("a")], [Embeddings.from_raw(np.ones((1, 8)), SPACE)] * 2, "spaces given are not unique"),
        (
            [Item("a")],
            [Embeddings(np.full((1, 8), 3, np.float32), np.ones(1, np.float32), SPACE)],
            "of length 1 or 0, got 8.48",
        ),
        ([Item("a", file=FileStamp("/r", "p", 1, 1)), Item("b", file=FileStamp("/r", "p", 1, 1))], [], "share one"),
        ([Item("\udcff")], [], "valid Unicode"),
    ],
)
def test_what_cannot_be_stored_is_refused(store: Any, items: Any, embeddings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        store.upsert(items, embeddings)
    assert store.count() == 0


def test_several_spaces_live_side_by_side(store: Any) -> None:
    rng = np.random.default_rng(0)
    items = [Item(f"i{n}") for n in range(5)]
    here, there = vectors(rng, 5), vectors(rng, 3, OTHER)
    store.upsert(items, [here])
    assert [item.id for item in store.lacking(OTHER)] == [item.id for item in items]
    store.upsert(items[:3], [there])
    assert [item.id for item in store.lacking(OTHER)] == ["i3", "i4"]
    assert list(store.lacking(SPACE)) == []
    assert store.spaces() == {SPACE: 5, OTHER: 3}
    np.testing.assert_array_equal(store.embeddings(["i2", "i0"], OTHER).vectors, there.vectors[[2, 0]])
    np.testing.assert_array_equal(store.embeddings(["i2"], SPACE).norms, here.norms[2:3])
    with pytest.raises(UnknownId) as caught:
        store.embeddings(["i0", "i4", "nobody"], OTHER)
    assert caught.value.ids == ("i4", "nobody")


def test_a_changed_picture_loses_the_vectors_that_show_the_old_one(store: Any) -> None:
    rng = np.random.default_rng(0)
    old = [Item("a", content="1"), Item("b", content="2")]
    store.upsert(old, [vectors(rng, 2), vectors(rng, 2, OTHER)])
    query, cosine = vectors(rng, 1, OTHER), registry.metric("cosine")
    assert len(store.search(query, 5, cosine)[0]) == 2
    store.upsert([Item("a", content="changed"), Item("b", content="2", metadata={"n": 1})], [vectors(rng, 2)])
    assert [h.id for h in store.search(query, 5, cosine)[0]] == ["b"]
    assert [item.id for item in store.lacking(OTHER)] == ["a"]


def test_an_id_that_comes_again_after_removal_is_a_new_item(store: Any) -> None:
    rng = np.random.default_rng(0)
    cosine, query = registry.metric("cosine"), Embeddings.from_raw(np.eye(8)[:1], SPACE)
    store.upsert([Item("a"), Item("b")], [Embeddings.from_raw(np.eye(8)[:2], SPACE)])
    assert store.search(query, 1, cosine)[0][0].id == "a"
    store.delete(["a"])
    store.upsert([Item("a")])
    assert [h.id for h in store.search(query, 5, cosine)[0]] == ["b"]
    store.upsert([Item("a")], [vectors(rng, 1)])
    assert len(store.search(query, 5, cosine)[0]) == 2


def stamped(id_: str, path: str, root: str = "/r") -> Item:
    return Item(id_, file=FileStamp(root, path, 1, 1), content=f"content of {id_}")


def test_items_are_found_by_file_and_by_content(store: Any) -> None:
    store.upsert([stamped("a", "x"), stamped("b", "y"), stamped("c", "x", "/q"), Item("d")])
    assert store.at_path("/r", "y").id == "b"
    assert store.at_path("/r", "z") is None
    assert [item.id for item in store.in_root("/r")] == ["a", "b"]
    assert [item.id for item in store.by_content("content of c")] == ["c"]
    assert store.by_content("nothing") == []
    assert store.has("d")
    assert not store.has("e")


def test_a_file_belongs_to_one_item(store: Any) -> None:
    store.upsert([stamped("a", "x"), stamped("b", "y")])
    with pytest.raises(InputError, match="'/r/x' belongs to item 'a' and cannot be given to 'b'"):
        store.upsert([stamped("b", "x")])
    store.upsert([stamped("a", "y"), stamped("b", "x")])
    assert (store.at_path("/r", "x").id, store.at_path("/r", "y").id) == ("b", "a")


def test_items_are_streamed_in_pages_while_others_write(store: Any) -> None:
    store.upsert([Item(f"{n:04d}", metadata={"n": n}) for n in range(2500)])
    seen = []
    for item in store.items("n >= 10"):
        seen.append(item.id)
        if len(seen) == 5:
            store.delete(["2400"])
            store.upsert([Item("late", metadata={"n": 99})])
    assert seen == [f"{n:04d}" for n in range(10, 2500) if n != 2400] + ["late"]


def test_settings_are_kept(store: Any) -> None:
    assert store.setting("metric") is None
    store.set_setting("metric", {"a": [1, "ü"]})
    store.set_setting("metric", {"a": [2, "ü"]})
    assert store.setting("metric") == {"a": [2, "ü"]}


def test_a_file_that_was_skipped_stays_so_until_it_or_the_reader_changes(store: Any) -> None:
    stamp = FileStamp("/r", os.fsdecode(b"\xff.jpg"), 10, 20)
    store.remember_skips([(stamp, "broken"), (FileStamp("/r", "young", 1, None), "broken")], "reader 1")
    assert store.known_skip("/r", stamp.path, 10, 20, "reader 1") == "broken"
    assert store.known_skip("/r", stamp.path, 11, 20, "reader 1") is None
    assert store.known_skip("/r", stamp.path, 10, 21, "reader 1") is None
    assert store.known_skip("/r", stamp.path, 10, 20, "reader 2") is None
    assert store.known_skip("/r", "young", 1, None, "reader 1") is None
    store.upsert([Item("a", file=FileStamp("/r", stamp.path, 10, 20))])
    assert store.known_skip("/r", stamp.path, 10, 20, "reader 1") is None


def test_skips_can_be_forgotten(store: Any) -> None:
    store.remember_skips([(FileStamp("/r", path, 1, 1), "broken") for path in "ab"], "r")
    store.forget_skips("/r", ["a"])
    assert [store.known_skip("/r", path, 1, 1, "r") for path in "ab"] == [None, "broken"]
    store.forget_skips("/r")
    assert store.known_skip("/r", "b", 1, 1, "r") is None


def test_the_sequence_grows_with_every_writing_transaction(store: Any) -> None:
    seen = [store.info()["seq"]]
    for change in (lambda: store.upsert([Item("a")]), lambda: store.delete(["a"]), lambda: store.set_setting("x", 1)):
        change()
        seen.append(store.info()["seq"])
    assert seen == sorted(set(seen))


def test_threads_read_and_write_at_once(store: Any) -> None:
    cosine = registry.metric("cosine")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        try:
            for n in range(15):
                store.upsert([Item(f"{number}-{n}")], [vectors(rng, 1)])
                [answer] = store.search(vectors(rng, 1), 1000, cosine)
                ids = [hit.id for hit in answer]
                assert len(set(ids)) == len(ids)
                assert {f"{number}-{m}" for m in range(n + 1)} <= set(ids)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.count() == 60


def test_a_closed_store_says_so(store: Any) -> None:
    store.close()
    with pytest.raises(StoreError, match="was closed"):
        store.count()
