"""The spine as a library: open, add, search, spaces, readers and writers."""

from __future__ import annotations

import io
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import fakes
from conftest import LONG_AGO, age
from lookalike import Gallery, registry
from lookalike.errors import (
    ConfigError,
    InputError,
    SpaceMismatch,
    StoreError,
    UnknownComponent,
    UnknownId,
    UnreadableImage,
)
from lookalike.stores.sqlite import SqliteStore
from lookalike.types import Embeddings, Item, Space


@pytest.fixture
def gallery(tmp_path: Path, counting: fakes.Counting) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "g", encoder="counting") as made:
        yield made


@pytest.fixture
def filled(gallery: Gallery, photos: Path) -> Gallery:
    gallery.index(photos)
    return gallery


def noise(seed: int, size: tuple[int, int] = (24, 18)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def unit(pixels: np.ndarray) -> np.ndarray:
    raw = fakes.quarters(pixels)
    return raw / np.linalg.norm(raw)


NAIVE = {
    "cosine": (lambda q, g: sum(float(a) * float(b) for a, b in zip(q, g, strict=True)), True),
    "euclidean": (lambda q, g: sum((float(a) - float(b)) ** 2 for a, b in zip(q, g, strict=True)) ** 0.5, False),
    "manhattan": (lambda q, g: sum(abs(float(a) - float(b)) for a, b in zip(q, g, strict=True)), False),
}


# Opening


def test_a_new_gallery_keeps_its_encoder_and_its_metric(tmp_path: Path, counting: fakes.Counting) -> None:
    Gallery.open(tmp_path / "g", encoder="counting", metric="manhattan").close()
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.space == counting.space
        assert gallery.metric == "manhattan"


def test_a_metric_named_when_opening_holds_while_it_is_open(filled: Gallery, photos: Path, tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g", metric="euclidean") as opened:
        assert opened.search(photos / "coffee.jpg").metric == "euclidean"
    with Gallery.open(tmp_path / "g") as opened:
        assert opened.search(photos / "coffee.jpg").metric == "cosine"


@pytest.mark.parametrize("wrong", [{"encoder": "clpi"}, {"metric": "cosin"}])
def test_an_unknown_name_makes_no_gallery_and_lists_the_known_ones(tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(UnknownComponent) as caught:
        Gallery.open(tmp_path / "g", **wrong)  # type: ignore[arg-type]
    assert {"color-histogram", "cosine"} & set(caught.value.known)
    assert not (tmp_path / "g").exists()


def test_a_gallery_of_another_encoder_is_refused_with_the_way_out(filled: Gallery, tmp_path: Path) -> None:
    with pytest.raises(SpaceMismatch, match="--add-encoder color-histogram"):
        Gallery.open(tmp_path / "g", encoder="color-histogram")
    with pytest.raises(UnknownComponent, match="clpi"):
        Gallery.open(tmp_path / "g", encoder="clpi")


def test_a_missing_gallery_is_not_made_where_one_is_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no gallery"):
        Gallery.open(tmp_path / "g", create=False)
    assert not (tmp_path / "g").exists()


def test_a_file_or_a_folder_of_other_things_is_never_overwritten(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    (folder / "letter.txt").write_text("mine")
    for path in (file, folder):
        for create in (True, False):
            with pytest.raises(StoreError, match=path.name):
                Gallery.open(path, create=create)
    assert file.read_text() == "mine"
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_gallery_whose_making_was_killed_is_finished_later(
    tmp_path: Path, counting: fakes.Counting, photos: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    steps = iter([None] * written)

    def killed(*_: object) -> None:
        if next(steps, "end") == "end":
            raise KeyboardInterrupt

    for name in ("add_space", "set_setting"):
        real = getattr(SqliteStore, name)

        def step(self: SqliteStore, *arguments: Any, real: Any = real) -> None:
            killed()
            real(self, *arguments)

        monkeypatch.setattr(SqliteStore, name, step)
    with pytest.raises(KeyboardInterrupt):
        Gallery.open(tmp_path / "g", encoder="counting")
    monkeypatch.undo()
    monkeypatch.setitem(registry._BUILTIN["encoder"], "counting", "fakes:counting")
    registry._table.cache_clear()
    with pytest.raises(StoreError, match="never finished"):
        Gallery.open(tmp_path / "g", create=False)
    with Gallery.open(tmp_path / "g", encoder="counting") as gallery:
        assert gallery.index(photos).added == 8


def test_several_who_make_one_gallery_at_once_all_get_it(tmp_path: Path, counting: fakes.Counting) -> None:
    (tmp_path / "g").mkdir()
    barrier, opened, errors = threading.Barrier(4), [], []

    def make() -> None:
        barrier.wait()
        try:
            opened.append(Gallery.open(tmp_path / "g", encoder="counting"))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert {gallery.space for gallery in opened} == {counting.space}
    for gallery in opened:
        gallery.close()


# Adding and removing


def test_every_kind_of_source_gives_the_same_vector(gallery: Gallery, tmp_path: Path) -> None:
    pixels = noise(1)
    PIL.Image.fromarray(pixels).save(tmp_path / "p.png")
    sources = {
        "path": tmp_path / "p.png",
        "text": str(tmp_path / "p.png"),
        "bytes": (tmp_path / "p.png").read_bytes(),
        "pil": PIL.Image.fromarray(pixels),
        "array": pixels,
    }
    for id_, source in sources.items():
        if id_ != "text":  # the same file: it is one item
            assert gallery.add(source, id=id_).id == id_
        hit = gallery.search(source, k=1)[0]
        assert hit.score == pytest.approx(1, abs=1e-6)
    for row in gallery.embeddings(["path", "bytes", "pil", "array"]).vectors:
        np.testing.assert_allclose(row, unit(pixels), atol=1e-6)


def test_the_same_picture_added_twice_from_memory_is_two_items(gallery: Gallery) -> None:
    first, second = gallery.add(noise(1)), gallery.add(noise(1))
    assert first.id != second.id
    assert first.content == second.content
    assert len(gallery) == 2


def test_an_id_that_is_taken_is_replaced(gallery: Gallery) -> None:
    gallery.add(noise(1), id="cam-7/0001", metadata={"n": 1})
    gallery.add(noise(2), id="cam-7/0001", metadata={"m": 2})
    (item,) = gallery.items()
    assert item.metadata == {"m": 2}
    np.testing.assert_allclose(gallery.embeddings([item.id]).vectors[0], unit(noise(2)), atol=1e-6)


@pytest.mark.parametrize("id_", ["", " a", "a\n", "a\0b"])
def test_an_id_that_is_no_text_to_find_it_by_is_refused(gallery: Gallery, id_: str) -> None:
    with pytest.raises(InputError, match="id"):
        gallery.add(noise(1), id=id_)
    assert len(gallery) == 0


def test_an_added_file_is_the_one_that_indexing_finds(gallery: Gallery, photos: Path) -> None:
    item = gallery.add(photos / "coffee.jpg", metadata={"album": 1})
    report = gallery.index(photos)
    assert (report.added, report.unchanged) == (7, 1)
    assert gallery.get([item.id])[0].metadata == {"album": 1}
    assert gallery.add(photos / "coffee.jpg").id == item.id
    assert gallery.get([item.id])[0].metadata == {"album": 1}
    with pytest.raises(InputError, match=item.id):
        gallery.add(photos / "coffee.jpg", id="another")


def test_a_bad_picture_is_raised_and_nothing_is_added(gallery: Gallery, tmp_path: Path) -> None:
    (tmp_path / "t.jpg").write_text("a text")
    for source in (tmp_path / "t.jpg", tmp_path / "missing.jpg", b"a text"):
        with pytest.raises(UnreadableImage):
            gallery.add(source)
    with pytest.raises(InputError):
        gallery.add(np.zeros((3, 3, 7)))
    assert len(gallery) == 0


def test_items_are_found_and_removed_by_id_or_path_all_or_none(filled: Gallery, photos: Path) -> None:
    item = filled.get([str(photos / "coffee.jpg")])[0]
    assert filled.get([item.id]) == [item]
    with pytest.raises(UnknownId) as caught:
        filled.remove([item.id, "nobody", "no.jpg"])
    assert caught.value.ids == ("nobody", "no.jpg")
    assert len(filled) == 8
    assert filled.remove([item.id, str(photos / "rocket.jpg"), item.id]) == 2
    assert (photos / "coffee.jpg").exists()
    assert len(filled) == 6
    assert filled.index(photos).added == 2


def test_a_file_whose_name_is_not_utf8_is_found_by_its_path(gallery: Gallery, photos: Path) -> None:
    odd = os.fsdecode(os.fsencode(photos) + b"/caf\xe9\n<b>.jpg")
    (photos / "coffee.jpg").rename(odd)
    gallery.index(photos)
    (item,) = gallery.get([odd])
    assert item.path == odd
    assert odd in [hit.path for hit in gallery.search(odd)]
    assert gallery.remove([odd]) == 1


# Searching


@pytest.mark.parametrize("metric", sorted(NAIVE))
def test_a_search_equals_naive_loops_over_the_stored_vectors(filled: Gallery, photos: Path, metric: str) -> None:
    score, higher = NAIVE[metric]
    with PIL.Image.open(photos / "rocket.jpg") as file:
        query = unit(np.asarray(file.transpose(PIL.Image.Transpose.ROTATE_90)))
        hits = filled.search(file.transpose(PIL.Image.Transpose.ROTATE_90), k=5, metric=metric)
    stored = {item.id: filled.embeddings([item.id]).vectors[0] for item in filled.items()}
    want = sorted(((score(query, row), id_) for id_, row in stored.items()), key=lambda p: -p[0] if higher else p[0])
    assert [hit.id for hit in hits] == [id_ for _, id_ in want[:5]]
    np.testing.assert_allclose([hit.score for hit in hits], [s for s, _ in want[:5]], atol=2e-3)
    assert (hits.metric, hits.exact, hits.space) == (metric, True, filled.space)


def test_equal_scores_come_in_the_order_of_their_ids(gallery: Gallery) -> None:
    for id_ in ("c", "a", "d", "b"):
        gallery.add(noise(1), id=id_)
    assert [hit.id for hit in gallery.search(noise(1), k=3)] == ["a", "b", "c"]


def test_several_pictures_search_by_their_mean_direction(filled: Gallery, photos: Path) -> None:
    names = ["rocket.jpg", "coffee.jpg", "coins.jpg"]
    mean = np.mean([filled.embeddings([str(photos / name)]).vectors[0] for name in names], axis=0, dtype=np.float64)
    mean /= np.linalg.norm(mean)
    hits = filled.search([photos / name for name in names], k=8)
    want = {item.id: float(filled.embeddings([item.id]).vectors[0] @ mean) for item in filled.items()}
    assert [hit.id for hit in hits] == sorted(want, key=lambda id_: -want[id_])
    for hit in hits:
        assert hit.score == pytest.approx(want[hit.id], abs=1e-4)


def test_a_crop_finds_where_it_comes_from(gallery: Gallery, tmp_path: Path) -> None:
    whole = np.concatenate([noise(1), noise(2) // 3, 255 - noise(3) // 4], axis=1)
    PIL.Image.fromarray(whole).save(tmp_path / "whole.png")
    for seed in (1, 2, 3):
        part = whole[:, 18 * (seed - 1) : 18 * seed]
        gallery.add(part, id=f"part {seed}")
    hits = gallery.search(tmp_path / "whole.png", k=1, crop=(18, 0, 18, 24))
    assert (hits[0].id, hits[0].score) == ("part 2", pytest.approx(1, abs=1e-6))


def test_a_crop_is_in_pixels_of_the_file_also_where_the_encoder_needs_few(tmp_path: Path) -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
    whole = PIL.Image.new("RGB", (1600, 400))
    for n, colour in enumerate(colours):
        whole.paste(colour, (400 * n, 0, 400 * n + 400, 400))
    whole.save(tmp_path / "whole.jpg", quality=95)
    with Gallery.open(tmp_path / "g", encoder="color-histogram") as gallery:
        for n, colour in enumerate(colours):
            gallery.add(PIL.Image.new("RGB", (64, 64), colour), id=str(n))
        for n in range(4):
            assert gallery.search(tmp_path / "whole.jpg", k=1, crop=(400 * n + 20, 20, 360, 360))[0].id == str(n)


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (-1, 0, 5, 5), (0, 0, 161, 5), (0, 100, 10, 10)])
def test_a_crop_outside_the_picture_is_refused_with_its_size(
    filled: Gallery, photos: Path, box: tuple[int, int, int, int]
) -> None:
    with pytest.raises(InputError, match="160x107"):
        filled.search(photos / "coffee.jpg", crop=box)


def test_a_search_with_nothing_or_for_nothing_is_refused(filled: Gallery, photos: Path) -> None:
    with pytest.raises(InputError, match="at least one"):
        filled.search([])
    with pytest.raises(ConfigError, match="at least 1"):
        filled.search(photos / "coffee.jpg", k=0)
    with pytest.raises(UnknownComponent, match="manhattan"):
        filled.search(photos / "coffee.jpg", metric="chebyshev")
    with pytest.raises(InputError, match="filter"):
        filled.search(photos / "coffee.jpg", where="year >")
    with pytest.raises(UnreadableImage):
        filled.search(photos / "none.jpg")


def test_vectors_of_another_space_are_never_compared(filled: Gallery) -> None:
    alien = Embeddings.from_raw(np.ones((1, 12)), Space("counting", "2", "none", 12))
    with pytest.raises(SpaceMismatch, match="this gallery's encoder"):
        filled.search_each(alien)
    filled.add_encoder("second")
    other = filled.embeddings([item.id for item in filled.items()], filled.spaces[1])
    with pytest.raises(SpaceMismatch, match="this gallery's encoder"):
        filled.search_each(other)


def test_more_hits_than_items_are_all_items_and_an_empty_gallery_has_none(filled: Gallery, tmp_path: Path) -> None:
    assert len(filled.search(noise(1), k=100)) == 8
    with Gallery.open(tmp_path / "empty", encoder="counting") as empty:
        assert list(empty.search(noise(1))) == []


def test_the_real_encoder_finds_the_original_of_an_edited_copy(photos: Path, tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "real") as gallery:
        gallery.index(photos)
        for path in sorted(photos.iterdir()):
            with PIL.Image.open(path) as file:
                w, h = file.size
                edited = file.crop((w // 8, h // 8, w, h)).convert("L")
            assert gallery.search(edited, k=1)[0].path == str(path)


# Several spaces


def test_another_encoder_comes_beside_the_first_and_both_are_filled_from_then_on(
    filled: Gallery, photos: Path, tmp_path: Path
) -> None:
    before = filled.embeddings([item.id for item in filled.items()])
    assert filled.add_encoder("color-histogram") == (8, ())
    age(tmp_path / "photos" / "coffee.jpg", LONG_AGO)
    PIL.Image.fromarray(noise(1)).save(photos / "new.png")
    filled.index(photos)
    assert [space.encoder for space in filled.spaces] == ["counting", "color-histogram"]
    assert [space["vectors"] for space in filled.info()["spaces"]] == [9, 9]
    np.testing.assert_array_equal(filled.embeddings([item.id for item in filled.items()][:8]).vectors, before.vectors)
    with Gallery.open(tmp_path / "g", encoder="color-histogram") as other:
        assert other.search(photos / "new.png", k=1)[0].path == str(photos / "new.png")
        oracle = registry.encoder("color-histogram")
        np.testing.assert_allclose(
            other.embeddings([str(photos / "new.png")]).vectors, other.embed([photos / "new.png"]).vectors, atol=1e-6
        )
        assert other.space == oracle.space


def test_an_added_encoder_that_was_interrupted_goes_on(
    filled: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_THREADS", "1")
    second = registry.encoder("second")
    assert isinstance(second, fakes.Counting)
    second.failure, second.fails_after = KeyboardInterrupt(), 3
    told: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        filled.add_encoder("second", progress=told.append)
    assert sum(told) == filled.info()["spaces"][1]["vectors"] == 3
    second.failure = None
    assert filled.add_encoder("second") == (5, ())
    assert len(second.encoded) == 8
    assert filled.add_encoder("second") == (0, ())


def test_what_cannot_be_embedded_again_is_told(filled: Gallery, photos: Path) -> None:
    filled.add(noise(1), id="from memory")
    (photos / "coffee.jpg").unlink()
    (photos / "rocket.jpg").write_text("changed")
    done, skipped = filled.add_encoder("second")
    assert done == 6
    assert {os.path.basename(s.path): s.reason.split(";")[0] for s in skipped} == {
        "from memory": "was added from memory, not from a file",
        "coffee.jpg": "no such file",
        "rocket.jpg": "changed since it was indexed",
    }


def test_an_encoder_that_changed_is_not_mixed_with_its_old_vectors(
    filled: Gallery, photos: Path, counting: fakes.Counting
) -> None:
    counting.space = Space("counting", "2", "none", 12)
    shutil.copy(photos / "coffee.jpg", photos / "one more.jpg")
    for ask in (lambda: filled.search(photos / "coffee.jpg"), lambda: filled.index(photos)):
        with pytest.raises(SpaceMismatch, match="new gallery"):
            ask()


def test_a_gallery_whose_encoder_is_not_here_still_searches_by_its_items(tmp_path: Path, photos: Path) -> None:
    space = Space("somebody-elses", "1", "external", 3)
    with Gallery.for_spaces(tmp_path / "g", [space]) as gallery:
        gallery.put([Item("a"), Item("b")], [Embeddings.from_raw(np.eye(3)[:2], space)])
        assert [hit.id for hit in gallery.search_each(gallery.embeddings(["b"]))[0]] == ["b", "a"]
        with pytest.raises(ConfigError, match="somebody-elses"):
            gallery.search(photos / "coffee.jpg")
        with pytest.raises(SpaceMismatch):
            Gallery.for_spaces(tmp_path / "g", [Space("x", "1", "1", 3)])


# Readers beside a writer


def test_readers_search_while_another_process_indexes(photos: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for n in range(150):
        PIL.Image.fromarray(noise(n)).save(many / f"{n}.png")
    with Gallery.open(tmp_path / "g", encoder="color-histogram") as gallery:
        gallery.index(photos)
    command = [sys.executable, "-m", "lookalike", "index", str(many), "-g", str(tmp_path / "g")]
    writer = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    errors: list[Exception] = []
    counts: list[list[int]] = [[], [], []]

    def read(number: int) -> None:
        try:
            with Gallery.open(tmp_path / "g", create=False) as reader:
                while writer.poll() is None or not counts[number]:
                    hits = reader.search(photos / "coffee.jpg", k=1000)
                    assert hits[0].path == str(photos / "coffee.jpg")
                    counts[number].append(len(hits))
        except Exception as error:
            errors.append(error)

    readers = [threading.Thread(target=read, args=(n,)) for n in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert (writer.wait(), errors) == (0, [])
    for seen in counts:
        assert seen == sorted(seen)
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.count() == 158


def test_a_second_writer_gets_a_clear_error_and_a_reader_none(
    filled: Gallery, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.gallery._WAIT_S", 0.1)
    errors: list[Exception] = []

    def write_meanwhile(_done: int) -> None:
        with Gallery.open(tmp_path / "g", create=False) as other:
            assert other.search(photos / "coffee.jpg", k=1)
            try:
                other.remove([str(photos / "coffee.jpg")])
            except StoreError as error:
                errors.append(error)

    PIL.Image.fromarray(noise(1)).save(photos / "new.png")
    filled.index(photos, progress=write_meanwhile)
    assert errors
    assert "another process is writing" in str(errors[0])
    assert len(filled) == 9


def test_a_second_writer_waits_for_the_first(filled: Gallery, photos: Path, tmp_path: Path) -> None:
    holding, done = threading.Event(), threading.Event()

    def write() -> None:
        with Gallery.open(tmp_path / "g", create=False) as other:
            holding.wait()
            other.remove([str(photos / "coffee.jpg")])
            done.set()

    thread = threading.Thread(target=write)
    thread.start()
    with filled._writing():
        holding.set()
        assert not done.wait(0.2)
        filled.add(noise(1))
    thread.join()
    assert len(filled) == 8


def test_a_closed_gallery_says_so(filled: Gallery) -> None:
    filled.close()
    with pytest.raises(StoreError, match="closed"):
        filled.count()


def test_bytes_of_a_jpeg_carry_their_date(gallery: Gallery) -> None:
    exif = PIL.Image.Exif()
    exif[0x0132] = "2001:02:03 04:05:06"
    out = io.BytesIO()
    PIL.Image.fromarray(noise(1)).save(out, "JPEG", exif=exif)
    assert gallery.add(out.getvalue()).metadata == {"taken": "2001-02-03T04:05:06", "year": 2001}


def test_equal_scores_are_ordered_by_manhattan_distance_and_then_by_id(tmp_path: Path) -> None:
    space = Space("three", "1", "none", 3)
    half = 0.8 / math.sqrt(2)
    # Cosine with (1, 0, 0) is .6 for all; Manhattan distance is .4 + .8 = 1.2, and .4 + 1.13 = 1.53 for "a" and "b".
    rows = np.array([[0.6, half, half], [0.6, half, half], [0.6, 0.8, 0.0], [1.0, 0.0, 0.0]], np.float32)
    with Gallery.for_spaces(tmp_path / "g.gallery", [space]) as gallery:
        gallery.put([Item(name) for name in ("b", "a", "z", "self")], [Embeddings.from_raw(rows, space)])
        query = Embeddings.from_raw(np.array([[1.0, 0.0, 0.0]]), space)
        found = gallery.search_each(query, 4)[0]
    assert [hit.id for hit in found] == ["self", "z", "a", "b"]
    assert found[1].score == found[3].score
