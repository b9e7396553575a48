"""What people say of pairs, and calibrations: kept by content, replaced by the last word, there after a migration.

The oracle of the store is a dict; that of the gallery are loops over the files' own sha256.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import fakes
from conftest import LONG_AGO, age
from lookalike import Gallery
from lookalike.errors import InputError, SpaceMismatch, StoreError, UnreadableImage
from lookalike.stores import connections, schema
from lookalike.stores.sqlite import SqliteStore
from lookalike.types import Embeddings, Item, Mark, Pair, Space

STORES: dict[str, Callable[[Path], Any]] = {"sqlite": lambda path: SqliteStore.create(path / "store")}
SPACE = Space("fake", "1", "none", 8)
OTHER = Space("other", "1", "none", 4)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made = STORES[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture
def gallery(tmp_path: Path, counting: fakes.Counting) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "g", encoder="counting") as made:
        yield made


@pytest.fixture
def filled(gallery: Gallery, photos: Path) -> Gallery:
    gallery.index(photos)
    return gallery


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# A mark


def test_a_mark_is_the_same_whichever_picture_is_named_first() -> None:
    assert Mark("b", "a", True, "now") == Mark("a", "b", True, "now")
    assert (Mark("b", "a", True, "now").a, Mark("b", "a", True, "now").b) == ("a", "b")


def test_one_content_cannot_be_two_different_things() -> None:
    with pytest.raises(InputError, match="one content"):
        Mark("a", "a", False, "now")
    assert Mark("a", "a", True, "now").same


# The store


def test_marks_agree_with_a_dict_through_a_random_history(store: Any) -> None:
    rng = np.random.default_rng(5)
    known: dict[tuple[str, str], Mark] = {}
    for step in range(120):
        one, other = (f"c{n}" for n in rng.choice(9, 2, replace=False))
        key = (min(one, other), max(one, other))
        assert store.mark_of(one, other) == store.mark_of(other, one) == known.get(key)
        if rng.random() < 0.3:
            assert store.forget_mark(one, other) == (known.pop(key, None) is not None)
            continue
        batch = [Mark(one, other, bool(rng.random() < 0.5), f"t{step}") for _ in range(int(rng.integers(0, 3)))]
        store.put_marks(batch)
        for mark in batch:  # of one batch, too, the last word wins
            known[key] = mark
        assert list(store.marks()) == [known[key] for key in sorted(known)]


def test_marks_are_streamed_in_pages_each_once(store: Any) -> None:
    contents = [f"{n:03d}" for n in range(70)]
    every = [Mark(a, b, True, "t") for a, b in product(contents, contents) if a <= b]
    store.put_marks(every[::-1])
    assert len(every) > 2 * 1000
    assert list(store.marks()) == every


def test_marks_are_there_when_the_store_is_opened_again(tmp_path: Path) -> None:
    with SqliteStore.create(tmp_path / "s") as store:
        store.put_marks([Mark("a", "b", False, "t")])
    with SqliteStore.open(tmp_path / "s") as store:
        assert list(store.marks()) == [Mark("a", "b", False, "t")]


def test_a_store_for_reading_only_takes_no_mark_and_gives_them(tmp_path: Path) -> None:
    with SqliteStore.create(tmp_path / "s") as store:
        store.put_marks([Mark("a", "b", False, "t")])
    with SqliteStore.open(tmp_path / "s", read_only=True) as store:
        assert store.mark_of("a", "b") is not None
        for change in (lambda: store.put_marks([Mark("a", "b", True, "t")]), lambda: store.forget_mark("a", "b")):
            with pytest.raises(StoreError, match="reading only"):
                change()


def test_marked_pairs_agree_with_a_loop_over_all_items(store: Any) -> None:
    """Some contents are shared by several items, some by none."""
    rng = np.random.default_rng(2)
    items = [Item(f"i{n}", content=f"c{rng.integers(12)}") for n in range(30)] + [Item("bare")]
    store.upsert(items)
    said = {}
    for _ in range(40):
        a, b = sorted(f"c{n}" for n in rng.integers(0, 16, 2))
        said[a, b] = a == b or bool(rng.random() < 0.5)
    store.put_marks([Mark(a, b, same, "t") for (a, b), same in said.items()])
    expected = {
        (frozenset((x.id, y.id)), said[str(x.content), str(y.content)])
        for x, y in product(items, items)
        if x is not y and (x.content, y.content) in said
    }
    found = store.marked_pairs()
    assert {(frozenset((pair.a, pair.b)), pair.same) for pair in found} == expected
    assert len(found) == len(expected)
    assert any(a == b for a, b in said)


def test_a_calibration_is_kept_for_its_space_metric_and_name(store: Any) -> None:
    store.add_space(SPACE)
    store.add_space(OTHER)
    known: dict[tuple[Space, str, str], Any] = {}
    rng = np.random.default_rng(1)
    for step in range(40):
        key = ([SPACE, OTHER][rng.integers(2)], ["cosine", "ssim"][rng.integers(2)], ["pair", "ü"][rng.integers(2)])
        assert store.calibration(*key) == known.get(key)
        value = {"at": [step, 0.1 * step, None], "t": "ü\udcff", "on": True}
        store.put_calibration(*key, value)
        known[key] = value
    kept = store.calibrations()
    assert {(one.space, one.metric, one.name): one.value for one in kept} == known
    assert len(kept) == len(known) == 8
    for one in kept:
        assert datetime.now(UTC) - datetime.fromisoformat(one.created) < timedelta(minutes=5)


def test_a_calibration_of_a_space_that_is_not_there_is_refused_and_adds_none(store: Any) -> None:
    store.add_space(SPACE)
    with pytest.raises(SpaceMismatch, match="other:1:none:4"):
        store.put_calibration(OTHER, "cosine", "pair", 1)
    assert list(store.spaces()) == [SPACE]
    assert store.calibration(OTHER, "cosine", "pair") is None


@pytest.mark.parametrize("value", [math.nan, {"t": math.inf}, {1, 2}, np.float32(1)])
def test_a_calibration_that_json_cannot_hold_is_refused_and_the_old_one_stays(store: Any, value: Any) -> None:
    store.add_space(SPACE)
    store.put_calibration(SPACE, "cosine", "pair", 7)
    with pytest.raises(InputError, match="'pair' of cosine"):
        store.put_calibration(SPACE, "cosine", "pair", value)
    assert store.calibration(SPACE, "cosine", "pair") == 7


def test_what_is_said_counts_as_a_transaction(store: Any) -> None:
    store.add_space(SPACE)
    seen = [store.info()["seq"]]
    for change in (
        lambda: store.put_marks([Mark("a", "b", True, "t")]),
        lambda: store.forget_mark("a", "b"),
        lambda: store.put_calibration(SPACE, "cosine", "pair", 1),
    ):
        change()
        seen.append(store.info()["seq"])
    assert seen == sorted(set(seen))


def test_a_gallery_of_the_second_schema_migrates_with_all_that_it_holds(
    tmp_path: Path, photos: Path, counting: fakes.Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old gallery is made by the migrations that were released then."""
    (tmp_path / "g").mkdir()
    db = connections.connect(tmp_path / "g" / "lookalike.db", create=True)
    schema.migrate(db, upto=2)
    db.close()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "SCHEMA", 2)
        with Gallery.open(tmp_path / "g", encoder="counting") as old:
            old.index(photos, metadata={"album": "x"})
            items, hits = list(old.items()), list(old.search(photos / "coffee.jpg"))
            assert old.info()["schema"] == 2
    with sqlite3.connect(tmp_path / "g" / "lookalike.db") as raw, pytest.raises(sqlite3.OperationalError):
        raw.execute("SELECT * FROM marks")
    raw.close()
    with Gallery.open(tmp_path / "g", create=False) as new:
        assert new.info()["schema"] == schema.SCHEMA >= 3
        assert list(new.items()) == items
        assert list(new.search(photos / "coffee.jpg")) == hits
        assert (list(new.marks()), new.calibrations()) == ([], [])
        mark = new.mark(photos / "coffee.jpg", items[0].id, False)
        new.put_calibration("cosine", "pair", {"threshold": 0.5})
    with Gallery.open(tmp_path / "g", create=False) as again:
        assert list(again.marks()) == [mark]
        assert again.calibration("cosine", "pair") == {"threshold": 0.5}


# The gallery


def test_a_mark_names_items_by_id_and_path_and_files_outside(filled: Gallery, photos: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    PIL.Image.new("RGB", (9, 9), (1, 2, 3)).save(outside)
    [coffee] = filled.get([str(photos / "coffee.jpg")])
    before = datetime.now(UTC).replace(microsecond=0)
    marks = [
        filled.mark(coffee.id, photos / "coins.jpg", True),
        filled.mark(str(photos / "coffee.jpg"), outside, False),
    ]
    assert [{mark.a, mark.b} for mark in marks] == [
        {sha256(photos / "coffee.jpg"), sha256(photos / "coins.jpg")},
        {sha256(photos / "coffee.jpg"), sha256(outside)},
    ]
    assert [mark.same for mark in marks] == [True, False]
    assert sorted(filled.marks(), key=str) == sorted(marks, key=str)
    for mark in marks:
        assert mark.a < mark.b
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", mark.said_at)
        assert before <= datetime.fromisoformat(mark.said_at) <= datetime.now(UTC)
    [pair] = filled.marked_pairs()
    assert ({pair.a, pair.b}, pair.same) == ({coffee.id, filled.get([str(photos / "coins.jpg")])[0].id}, True)
    filled.index(tmp_path / "outside.png")
    assert len(filled.marked_pairs()) == 2


def test_paths_may_be_relative_and_begin_with_a_tilde(
    filled: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    monkeypatch.setenv("HOME", str(photos))
    mark = filled.mark("coffee.jpg", "~/coins.jpg", True)
    assert {mark.a, mark.b} == {sha256(photos / "coffee.jpg"), sha256(photos / "coins.jpg")}


def test_said_again_in_either_order_the_last_word_wins(filled: Gallery, photos: Path) -> None:
    filled.mark(photos / "coffee.jpg", photos / "coins.jpg", True)
    last = filled.mark(photos / "coins.jpg", photos / "coffee.jpg", False)
    assert list(filled.marks()) == [last]
    assert [pair.same for pair in filled.marked_pairs()] == [False]


def test_a_mark_outlives_a_rename_a_removal_and_a_new_index(filled: Gallery, photos: Path) -> None:
    mark = filled.mark(photos / "coffee.jpg", photos / "coins.jpg", True)
    pairs = filled.marked_pairs()
    (photos / "coffee.jpg").rename(photos / "tea.jpg")
    filled.index(photos)
    assert filled.marked_pairs() == pairs
    filled.remove([str(photos / "tea.jpg")])
    assert filled.marked_pairs() == []
    assert list(filled.marks()) == [mark]
    filled.index(photos)
    assert [pair.same for pair in filled.marked_pairs()] == [True]


def test_a_mark_is_of_a_picture_and_not_of_its_place(filled: Gallery, photos: Path) -> None:
    filled.mark(photos / "coffee.jpg", photos / "coins.jpg", True)
    PIL.Image.new("RGB", (9, 9)).save(photos / "coffee.jpg")
    age(photos / "coffee.jpg", LONG_AGO + 5)
    filled.index(photos)
    assert filled.marked_pairs() == []


def test_pictures_from_memory_can_be_marked(gallery: Gallery) -> None:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (9, 9), (9, 9, 9)).save(buffer, "PNG")
    gallery.add(buffer.getvalue(), id="bytes")
    gallery.add(np.zeros((9, 9, 3), np.uint8), id="array")
    mark = gallery.mark("bytes", "array", False)
    assert hashlib.sha256(buffer.getvalue()).hexdigest() in {mark.a, mark.b}
    [pair] = gallery.marked_pairs()
    assert {pair.a, pair.b} == {"bytes", "array"}


def test_a_mark_holds_for_all_copies(filled: Gallery, photos: Path) -> None:
    for name in ("copy 1.jpg", "copy 2.jpg"):
        (photos / name).write_bytes((photos / "coffee.jpg").read_bytes())
    (photos / "copy 3.jpg").write_bytes((photos / "coins.jpg").read_bytes())
    filled.index(photos)
    filled.mark(photos / "copy 2.jpg", photos / "coins.jpg", False)
    named = {item.id: Path(str(item.path)).name for item in filled.items()}
    found = {frozenset((named[pair.a], named[pair.b])) for pair in filled.marked_pairs()}
    assert found == {
        frozenset((a, b)) for a in ("coffee.jpg", "copy 1.jpg", "copy 2.jpg") for b in ("coins.jpg", "copy 3.jpg")
    }


def test_copies_are_the_same_and_never_different(filled: Gallery, photos: Path) -> None:
    (photos / "copy.jpg").write_bytes((photos / "coffee.jpg").read_bytes())
    with pytest.raises(InputError, match=r"copy\.jpg are byte for byte the same"):
        filled.mark(photos / "coffee.jpg", photos / "copy.jpg", False)
    assert list(filled.marks()) == []
    filled.mark(photos / "coffee.jpg", photos / "copy.jpg", True)
    assert filled.marked_pairs() == []
    filled.index(photos)
    assert [pair.same for pair in filled.marked_pairs()] == [True]


@pytest.mark.parametrize("same", [True, False])
def test_a_picture_is_not_marked_with_itself(filled: Gallery, photos: Path, tmp_path: Path, same: bool) -> None:
    outside = tmp_path / "outside.png"
    PIL.Image.new("RGB", (9, 9)).save(outside)
    coffee = photos / "coffee.jpg"
    [item] = filled.get([str(coffee)])
    for a, b in ((coffee, item.id), (item.id, item.id), (outside, tmp_path / "photos" / ".." / "outside.png")):
        with pytest.raises(InputError, match="one picture"):
            filled.mark(a, b, same)
    assert list(filled.marks()) == []


def test_what_is_neither_an_item_nor_a_file_is_named_with_both_ways_out(filled: Gallery, photos: Path) -> None:
    for name in ("nobody", str(photos / "gone.jpg"), "nul\0", os.fsdecode(b"\xff")):
        with pytest.raises(UnreadableImage, match=r"no such file, and no item .*`lookalike list`") as caught:
            filled.mark(photos / "coffee.jpg", name, True)
        assert caught.value.source == name
    assert list(filled.marks()) == []


def test_what_is_no_picture_is_refused(filled: Gallery, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("a text")
    for path in (tmp_path / "text.jpg", tmp_path):
        with pytest.raises(UnreadableImage, match=path.name):
            filled.mark(photos / "coffee.jpg", path, True)


def test_an_item_whose_file_is_gone_can_be_marked_by_its_path(filled: Gallery, photos: Path) -> None:
    content = sha256(photos / "coffee.jpg")
    (photos / "coffee.jpg").unlink()
    mark = filled.mark(photos / "coffee.jpg", photos / "coins.jpg", True)
    assert content in {mark.a, mark.b}


def test_an_item_without_a_picture_cannot_be_marked(filled: Gallery, photos: Path) -> None:
    filled.put([Item("vectors only")], [Embeddings.from_raw(np.ones((1, 12)), filled.space)])
    with pytest.raises(InputError, match="'vectors only' came without a picture"):
        filled.mark(photos / "coffee.jpg", "vectors only", True)


def test_what_was_said_can_be_forgotten_also_of_pictures_that_are_gone(filled: Gallery, photos: Path) -> None:
    coffee, coins = photos / "coffee.jpg", photos / "coins.jpg"
    assert not filled.unmark(coffee, coins)
    filled.mark(coffee, coins, True)
    assert filled.unmark(coins, coffee)
    assert list(filled.marks()) == []
    mark = filled.mark(coffee, coins, True)
    filled.remove([str(coffee)])
    coffee.unlink()
    with pytest.raises(UnreadableImage):
        filled.unmark(coffee, coins)
    assert filled.unmark(mark.a, mark.b)
    assert list(filled.marks()) == []


def test_marked_pairs_are_pairs_that_a_file_might_have_named(filled: Gallery, photos: Path) -> None:
    filled.mark(photos / "coffee.jpg", photos / "coins.jpg", True)
    [pair] = filled.marked_pairs()
    assert isinstance(pair, Pair)
    assert pair.line is None
    assert filled.embeddings([pair.a, pair.b]).vectors.shape == (2, 12)


def test_calibrations_are_those_of_the_gallerys_own_space_unless_another_is_named(
    gallery: Gallery, counting: fakes.Counting
) -> None:
    second = fakes.second().space
    gallery.add_encoder("second")
    gallery.put_calibration("cosine", "pair", 1)
    gallery.put_calibration("cosine", "pair", 2, space=second)
    assert gallery.calibration("cosine", "pair") == gallery.calibration("cosine", "pair", space=counting.space) == 1
    assert gallery.calibration("cosine", "pair", space=second) == 2
    assert gallery.calibration("euclidean", "pair") is None
    assert [(one.space, one.value) for one in gallery.calibrations()] == [(counting.space, 1), (second, 2)]
