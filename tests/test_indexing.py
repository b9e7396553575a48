"""Every way in which a folder can change, and what ``index`` makes of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import fakes
from conftest import LONG_AGO, age
from lookalike import Gallery
from lookalike.errors import ConfigError, InputError
from lookalike.types import IndexReport, Item


@pytest.fixture
def gallery(tmp_path: Path, counting: fakes.Counting) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "g", encoder="counting") as made:
        yield made


def counts(report: IndexReport) -> tuple[int, int, int, int, int]:
    """Return added, updated, unchanged, removed, skipped."""
    *four, skipped = astuple(report)
    return (*four, len(skipped))


def by_name(gallery: Gallery, folder: Path) -> dict[str, Item]:
    """Return the items by their paths relative to ``folder``."""
    return {os.path.relpath(str(item.path), folder): item for item in gallery.items()}


def ids(gallery: Gallery, folder: Path) -> dict[str, str]:
    return {name: item.id for name, item in by_name(gallery, folder).items()}


def picture(path: Path, colour: tuple[int, int, int] = (200, 30, 30), *, seconds: int = LONG_AGO) -> Path:
    """Write a small picture of one colour, PNG so that nothing else is in it, and make it look old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (20, 16), colour).save(path, "PNG")
    return age(path, seconds)


def vectors_fit_files(gallery: Gallery) -> bool:
    """The oracle of every test: each vector is that of the picture which its file holds now."""
    for item in gallery.items():
        with PIL.Image.open(str(item.path)) as file:
            raw = fakes.quarters(np.asarray(file.convert("RGB")))
        stored = gallery.embeddings([item.id]).vectors[0]
        if not np.allclose(stored, raw / np.linalg.norm(raw), atol=2e-3):
            return False
    return True


def test_a_first_run_adds_every_picture(gallery: Gallery, photos: Path) -> None:
    assert counts(gallery.index(photos)) == (8, 0, 0, 0, 0)
    assert sorted(by_name(gallery, photos)) == sorted(path.name for path in photos.iterdir())
    assert vectors_fit_files(gallery)


def test_a_second_run_opens_no_file(gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery.index(photos)

    def refuse(path: str) -> None:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr("lookalike.indexing.contents_of", refuse)
    assert counts(gallery.index(photos)) == (0, 0, 8, 0, 0)


def test_a_new_file_is_all_that_is_encoded(gallery: Gallery, photos: Path, counting: fakes.Counting) -> None:
    gallery.index(photos)
    counting.encoded.clear()
    new = picture(photos / "new.png")
    assert counts(gallery.index(photos)) == (1, 0, 8, 0, 0)
    assert counting.encoded == [str(new)]


def test_a_touched_file_is_hashed_once_and_not_encoded(
    gallery: Gallery, photos: Path, counting: fakes.Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.index(photos)
    counting.encoded.clear()
    age(photos / "coffee.jpg", LONG_AGO + 5)
    assert counts(gallery.index(photos)) == (0, 0, 8, 0, 0)
    assert counting.encoded == []
    monkeypatch.setattr("lookalike.indexing.contents_of", lambda path: pytest.fail(f"{path} was opened again"))
    assert counts(gallery.index(photos)) == (0, 0, 8, 0, 0)


def test_a_changed_file_is_updated_under_its_id(gallery: Gallery, photos: Path) -> None:
    gallery.index(photos)
    before = ids(gallery, photos)
    shutil.copyfile(photos / "rocket.jpg", photos / "coffee.jpg")
    age(photos / "coffee.jpg", LONG_AGO + 5)
    assert counts(gallery.index(photos)) == (0, 1, 7, 0, 0)
    assert ids(gallery, photos) == before
    assert vectors_fit_files(gallery)


def test_a_young_file_changed_within_its_tick_is_caught(gallery: Gallery, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    one = picture(folder / "a.bmp")
    PIL.Image.new("RGB", (20, 16), (200, 30, 30)).save(one, "BMP")
    gallery.index(folder)
    stamp = one.stat()
    PIL.Image.new("RGB", (20, 16), (10, 90, 250)).save(one, "BMP")  # as many bytes, another picture
    os.utime(one, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert one.stat().st_size == stamp.st_size
    assert counts(gallery.index(folder)) == (0, 1, 0, 0, 0)
    assert vectors_fit_files(gallery)


def test_a_renamed_file_keeps_its_id_and_is_not_encoded(
    gallery: Gallery, photos: Path, counting: fakes.Counting
) -> None:
    gallery.index(photos)
    before = ids(gallery, photos)
    counting.encoded.clear()
    (photos / "coffee.jpg").rename(photos / "zebra.jpg")
    assert counts(gallery.index(photos)) == (0, 1, 7, 0, 0)
    assert ids(gallery, photos)["zebra.jpg"] == before["coffee.jpg"]
    assert "coffee.jpg" not in ids(gallery, photos)
    assert counting.encoded == []
    assert vectors_fit_files(gallery)


def test_a_file_renamed_into_another_folder_takes_that_label(gallery: Gallery, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    picture(folder / "cats" / "a.png")
    gallery.index(folder)
    (id_,) = ids(gallery, folder).values()
    (folder / "dogs").mkdir()
    (folder / "cats" / "a.png").rename(folder / "dogs" / "a.png")
    assert counts(gallery.index(folder)) == (0, 1, 0, 0, 0)
    assert gallery.get([id_])[0].metadata == {"label": "dogs"}


def test_a_renamed_file_keeps_what_a_person_gave(gallery: Gallery, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    picture(folder / "cats" / "a.png")
    gallery.index(folder, metadata={"label": "lions", "album": 3})
    (folder / "cats" / "a.png").rename(folder / "b.png")
    gallery.index(folder)
    assert by_name(gallery, folder)["b.png"].metadata == {"label": "lions", "album": 3}


def test_a_label_that_was_given_stays_given_where_it_equals_the_folder(gallery: Gallery, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    picture(folder / "cats" / "a.png")
    gallery.index(folder)
    gallery.index(folder, metadata={"label": "cats"})
    (folder / "cats").rename(folder / "dogs")
    gallery.index(folder)
    assert by_name(gallery, folder)["dogs/a.png"].metadata == {"label": "cats"}


def test_two_files_that_swap_their_names_swap_their_vectors(
    gallery: Gallery, photos: Path, counting: fakes.Counting
) -> None:
    gallery.index(photos)
    before = ids(gallery, photos)
    counting.encoded.clear()
    a, b, other = photos / "coffee.jpg", photos / "rocket.jpg", photos / "other"
    a.rename(other)
    b.rename(a)
    other.rename(b)
    assert counts(gallery.index(photos)) == (0, 2, 6, 0, 0)
    assert ids(gallery, photos) == before
    assert counting.encoded == []
    assert vectors_fit_files(gallery)


def test_a_copy_is_a_second_item_that_is_not_encoded(gallery: Gallery, photos: Path, counting: fakes.Counting) -> None:
    gallery.index(photos)
    counting.encoded.clear()
    age(Path(shutil.copy(photos / "coffee.jpg", photos / "copy.jpg")))
    assert counts(gallery.index(photos)) == (1, 0, 8, 0, 0)
    found = by_name(gallery, photos)
    assert found["copy.jpg"].id != found["coffee.jpg"].id
    assert found["copy.jpg"].content == found["coffee.jpg"].content
    assert counting.encoded == []
    assert vectors_fit_files(gallery)


def test_two_copies_that_come_at_once_are_two_items(gallery: Gallery, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    for name in ("a.png", "b.png", "sub/a.png"):
        picture(folder / name)
    assert counts(gallery.index(folder)) == (3, 0, 0, 0, 0)
    assert len(set(ids(gallery, folder).values())) == 3


def test_a_copy_whose_original_is_deleted_becomes_the_original(gallery: Gallery, photos: Path) -> None:
    gallery.index(photos)
    before = ids(gallery, photos)
    for name in ("x.jpg", "y.jpg"):
        age(Path(shutil.copy(photos / "coffee.jpg", photos / name)))
    (photos / "coffee.jpg").unlink()
    assert counts(gallery.index(photos)) == (1, 1, 7, 0, 0)
    after = ids(gallery, photos)
    assert after["x.jpg"] == before["coffee.jpg"]
    assert after["y.jpg"] != before["coffee.jpg"]
    assert len(after) == 9


def test_a_deleted_file_stays_an_item_until_pruned(gallery: Gallery, photos: Path) -> None:
    gallery.index(photos)
    (photos / "coffee.jpg").unlink()
    assert counts(gallery.index(photos)) == (0, 0, 7, 0, 0)
    assert "coffee.jpg" in ids(gallery, photos)
    assert counts(gallery.index(photos, prune=True)) == (0, 0, 7, 1, 0)
    assert "coffee.jpg" not in ids(gallery, photos)
    assert counts(gallery.index(photos, prune=True)) == (0, 0, 7, 0, 0)


def test_pruning_one_folder_leaves_the_others_alone(gallery: Gallery, tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "ab/1.png", "b/1.png", "b/2.png"):
        picture(tmp_path / "f" / name, (len(name), ord(name[0]), ord(name[-5])))
    gallery.index(tmp_path / "f")
    for name in ("a/1.png", "ab/1.png", "b/1.png"):
        (tmp_path / "f" / name).unlink()
    assert counts(gallery.index(tmp_path / "f" / "a", prune=True)) == (0, 0, 1, 1, 0)
    assert sorted(ids(gallery, tmp_path / "f")) == ["a/2.png", "ab/1.png", "b/1.png", "b/2.png"]


@pytest.mark.parametrize("left", ["nothing", "no picture"])
def test_pruning_an_emptied_folder_is_refused(gallery: Gallery, photos: Path, left: str) -> None:
    gallery.index(photos)
    for path in photos.iterdir():
        path.unlink()
    if left == "no picture":
        (photos / "readme.txt").write_text("the disk is not mounted here")
    with pytest.raises(InputError, match="mounted"):
        gallery.index(photos, prune=True)
    assert gallery.count() == 8


def test_pruning_a_missing_folder_is_refused(gallery: Gallery, photos: Path) -> None:
    gallery.index(photos)
    photos.rename(photos.with_name("elsewhere"))
    with pytest.raises(InputError, match="photos"):
        gallery.index(photos, prune=True)
    assert gallery.count() == 8


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_a_folder_without_pictures_is_an_error_that_names_it(gallery: Gallery, tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=folder):
        gallery.index(tmp_path / folder)
    assert gallery.info()["roots"] == []


def test_a_folder_inside_a_known_one_makes_no_second_item(gallery: Gallery, tmp_path: Path) -> None:
    picture(tmp_path / "f" / "cats" / "a.png")
    picture(tmp_path / "f" / "b.png", (1, 2, 3))
    gallery.index(tmp_path / "f")
    assert counts(gallery.index(tmp_path / "f" / "cats")) == (0, 0, 1, 0, 0)
    assert counts(gallery.index(tmp_path / "f" / "cats" / "a.png")) == (0, 0, 1, 0, 0)
    assert gallery.count() == 2
    assert gallery.info()["roots"] == [str(tmp_path / "f")]


def test_a_folder_above_a_known_one_makes_no_second_item(gallery: Gallery, tmp_path: Path) -> None:
    picture(tmp_path / "f" / "cats" / "a.png")
    picture(tmp_path / "f" / "b.png", (1, 2, 3))
    gallery.index(tmp_path / "f" / "cats")
    assert counts(gallery.index(tmp_path / "f")) == (1, 0, 1, 0, 0)
    assert counts(gallery.index(tmp_path / "f" / "cats")) == (0, 0, 1, 0, 0)
    (tmp_path / "f" / "cats" / "a.png").unlink()
    assert counts(gallery.index(tmp_path / "f", prune=True)) == (0, 0, 1, 1, 0)


def test_equal_files_of_one_name_in_two_known_folders_are_two_items(gallery: Gallery, tmp_path: Path) -> None:
    picture(tmp_path / "f" / "cats" / "other.png", (9, 9, 9))
    gallery.index(tmp_path / "f" / "cats")
    picture(tmp_path / "f" / "cats" / "a.png")
    picture(tmp_path / "f" / "a.png")
    assert counts(gallery.index(tmp_path / "f")) == (2, 0, 1, 0, 0)
    assert gallery.count() == 3


def test_links_are_followed_and_loops_end(gallery: Gallery, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    picture(folder / "a.png")
    picture(tmp_path / "elsewhere" / "b.png", (1, 2, 3))
    (folder / "again").symlink_to(folder, target_is_directory=True)
    (folder / "link.png").symlink_to(folder / "a.png")
    (folder / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "broken.png").symlink_to(tmp_path / "nothing")
    report = gallery.index(folder)
    assert sorted(ids(gallery, folder)) == ["a.png", "link.png", "more/b.png"]
    assert sorted(os.path.basename(s.path) for s in report.skipped) == ["again", "broken.png"]
    assert counts(gallery.index(folder)) == (0, 0, 3, 0, 2)


def test_a_file_that_breaks_keeps_its_item_and_is_reported(gallery: Gallery, photos: Path) -> None:
    gallery.index(photos)
    before = {name: (item.id, item.content) for name, item in by_name(gallery, photos).items()}
    kept = gallery.embeddings([before["coffee.jpg"][0]]).vectors.copy()
    (photos / "coffee.jpg").write_bytes((photos / "coffee.jpg").read_bytes()[:400])
    age(photos / "coffee.jpg", LONG_AGO + 5)
    report = gallery.index(photos, prune=True)
    assert counts(report) == (0, 0, 7, 0, 1)
    assert report.skipped[0].path == str(photos / "coffee.jpg")
    assert {name: (item.id, item.content) for name, item in by_name(gallery, photos).items()} == before
    assert np.array_equal(gallery.embeddings([before["coffee.jpg"][0]]).vectors, kept)


def test_a_broken_file_is_reported_each_time_but_opened_once(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = photos / "broken.jpg"
    broken.write_text("this is no picture")
    age(broken)
    first = gallery.index(photos)
    assert counts(first) == (8, 0, 0, 0, 1)
    monkeypatch.setattr("lookalike.indexing.contents_of", lambda path: pytest.fail(f"{path} was opened again"))
    second = gallery.index(photos)
    assert counts(second) == (0, 0, 8, 0, 1)
    assert second.skipped == first.skipped


def test_a_broken_file_that_is_mended_comes_in(gallery: Gallery, photos: Path) -> None:
    broken = photos / "broken.jpg"
    broken.write_text("this is no picture")
    age(broken)
    gallery.index(photos)
    shutil.copyfile(photos / "rocket.jpg", broken)
    age(broken, LONG_AGO + 5)
    assert counts(gallery.index(photos)) == (1, 0, 8, 0, 0)


def test_a_young_broken_file_is_tried_again_though_size_and_time_stay(gallery: Gallery, tmp_path: Path) -> None:
    one = tmp_path / "f" / "a.bmp"
    one.parent.mkdir()
    PIL.Image.new("RGB", (20, 16), (200, 30, 30)).save(one, "BMP")
    whole = one.read_bytes()
    one.write_bytes(bytes(len(whole)))  # as a download that has reserved its room
    stamp = one.stat()
    assert counts(gallery.index(one.parent)) == (0, 0, 0, 0, 1)
    one.write_bytes(whole)
    os.utime(one, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert counts(gallery.index(one.parent)) == (1, 0, 0, 0, 0)


def test_a_file_that_could_not_be_opened_is_tried_again(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lookalike.images import files  # noqa: PLC0415 - to stand in for a disk that fails

    real = files._read_once

    def failing(name: str, limits: files.Limits) -> files.FileBytes | None:
        if name.endswith("coffee.jpg"):
            raise PermissionError(13, "Permission denied")
        return real(name, limits)

    monkeypatch.setattr(files, "_read_once", failing)
    report = gallery.index(photos)
    assert counts(report) == (7, 0, 0, 0, 1)
    assert "Permission denied" in report.skipped[0].reason
    monkeypatch.setattr(files, "_read_once", real)
    assert counts(gallery.index(photos)) == (1, 0, 7, 0, 0)


def test_ids_are_the_same_in_every_gallery_whatever_the_place(
    photos: Path, tmp_path: Path, counting: fakes.Counting
) -> None:
    shutil.copytree(photos, tmp_path / "moved" / "elsewhere")
    found = []
    for name, folder in (("one", photos), ("two", tmp_path / "moved" / "elsewhere")):
        with Gallery.open(tmp_path / name, encoder="counting") as gallery:
            gallery.index(folder)
            found.append(ids(gallery, folder))
    assert found[0] == found[1]


def test_ids_do_not_depend_on_the_number_of_threads(
    photos: Path, tmp_path: Path, counting: fakes.Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for threads in ("1", "7"):
        monkeypatch.setenv("LOOKALIKE_THREADS", threads)
        with Gallery.open(tmp_path / threads, encoder="counting") as gallery:
            gallery.index(photos)
            found.append([(item.id, item.path) for item in gallery.items()])
    assert found[0] == found[1]


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5"])
def test_a_wrong_number_of_threads_is_refused(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch, threads: str
) -> None:
    monkeypatch.setenv("LOOKALIKE_THREADS", threads)
    with pytest.raises(ConfigError, match="LOOKALIKE_THREADS"):
        gallery.index(photos)


def test_hidden_and_excluded_files_stay_out_and_are_told(gallery: Gallery, tmp_path: Path) -> None:
    for n, name in enumerate(("a.png", ".hidden.png", "raw/b.png", "c.tmp.png")):
        picture(tmp_path / "f" / name, (n, 0, 9))
    report = gallery.index(tmp_path / "f", exclude=["raw", "*.tmp.png"])
    assert (report.added, len(report.skipped)) == (1, 3)
    assert counts(gallery.index(tmp_path / "f", hidden=True)) == (3, 0, 1, 0, 0)


def test_progress_counts_every_file_once_and_only_when_it_is_stored(
    gallery: Gallery, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_text("no picture")
    told: list[int] = []

    def note(done: int) -> None:
        told.append(done)
        with Gallery.open(tmp_path / "g") as reader:
            assert reader.count() >= sum(told) - 1  # but for the broken one

    gallery.index(photos, progress=note)
    assert sum(told) == 9
    told.clear()
    gallery.index(photos, progress=told.append)
    assert sum(told) == 9


def test_an_interrupted_run_keeps_what_it_counted_and_the_next_one_goes_on(
    gallery: Gallery, photos: Path, counting: fakes.Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_THREADS", "1")
    counting.failure, counting.fails_after = KeyboardInterrupt(), 5
    told: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        gallery.index(photos, progress=told.append)
    assert sum(told) == gallery.count() == 5
    counting.failure = None
    counting.encoded.clear()
    assert counts(gallery.index(photos)) == (3, 0, 5, 0, 0)
    assert len(counting.encoded) == 3


def test_a_renamed_file_keeps_its_id_also_where_a_space_lacks_it(
    gallery: Gallery, photos: Path, counting: fakes.Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lookalike import registry  # noqa: PLC0415

    monkeypatch.setenv("LOOKALIKE_THREADS", "1")
    gallery.index(photos)
    before = ids(gallery, photos)
    other = registry.encoder("second")
    other.failure = KeyboardInterrupt()  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        gallery.add_encoder("second")
    other.failure = None  # type: ignore[attr-defined]
    (photos / "coffee.jpg").rename(photos / "zebra.jpg")
    gallery.index(photos)
    assert ids(gallery, photos)["zebra.jpg"] == before["coffee.jpg"]
    assert gallery.count() == 8


def test_a_file_that_is_renamed_during_the_run_keeps_its_id(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lookalike import indexing  # noqa: PLC0415

    monkeypatch.setenv("LOOKALIKE_THREADS", "1")  # eight files in flight: the rename comes before the walk is there
    folder, real = tmp_path / "f", indexing.contents_of
    first = picture(folder / "a.png")
    for n in range(12):
        picture(folder / f"b{n}.png", (n, 0, 0))
    gallery.index(folder)
    before = ids(gallery, folder)
    for path in folder.iterdir():
        age(path, LONG_AGO + 5)
    (folder / "c").mkdir()

    def reading(path: str) -> object:
        contents = real(path)
        if path == str(first):
            first.rename(folder / "c" / "a.png")
        return contents

    monkeypatch.setattr(indexing, "contents_of", reading)
    assert counts(gallery.index(folder)) == (0, 1, 13, 0, 0)
    before["c/a.png"] = before.pop("a.png")
    assert ids(gallery, folder) == before
