"""A gallery as a Parquet file and back, and vectors that were made elsewhere."""

from __future__ import annotations

import datetime
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest

import fakes
from conftest import LONG_AGO, Cli, age
from lookalike import Gallery
from lookalike.apps import exchange
from lookalike.apps.exchange import ImportResult, export, import_
from lookalike.errors import ConfigError, InputError, SpaceMismatch, StoreError
from lookalike.gallery import no_progress
from lookalike.types import Embeddings, Item


@pytest.fixture
def gallery(tmp_path: Path, counting: fakes.Counting) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "g", encoder="counting", metric="manhattan") as made:
        yield made


def everything(gallery: Gallery) -> dict[str, tuple[Item, dict[str, tuple[list[float], float]]]]:
    """All that a gallery knows, vectors bit by bit."""
    known = {}
    for item in gallery.items():
        vectors = {}
        for space in gallery.spaces:
            try:
                one = gallery.embeddings([item.id], space)
            except InputError:
                continue
            vectors[space.encoder] = (one.vectors[0].tolist(), float(one.norms[0]))
        known[item.id] = (item, vectors)
    return known


def moved(gallery: Gallery, target: Path) -> ImportResult:
    file = target.with_suffix(".parquet")
    export(gallery, file, no_progress)
    return import_(file, target, encoder=None, progress=no_progress)


def foreign(file: Path, /, **columns: Any) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), file)


def imported(file: Path, target: Path, encoder: str | None = "elsewhere") -> ImportResult:
    return import_(file, target, encoder=encoder, progress=no_progress)


def test_a_round_trip_keeps_everything_bit_by_bit(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(photos) + b"/caf\xe9\n<b>.jpg")
    (photos / "coffee.jpg").rename(odd)
    (photos / "cats").mkdir()
    (photos / "coins.jpg").rename(photos / "cats" / "coins.jpg")
    gallery.index(photos, metadata={"album": "x", "deep": {"a": [1, None]}})
    gallery.add(np.zeros((4, 4, 3), np.uint8), id="black", metadata={"n": 1})  # a vector of zeros, and no file
    gallery.add_encoder("color-histogram")
    rows = np.random.default_rng(0).normal(size=(2000, 12)) + 1e-4  # unit vectors that rounding leaves off 1
    gallery.put([Item(f"made {n:04}") for n in range(2000)], [Embeddings.from_raw(rows, gallery.space)])
    result = moved(gallery, tmp_path / "copy")
    assert (result.added, result.updated, result.skipped) == (2009, 0, ())
    with Gallery.open(tmp_path / "copy") as copy:
        assert everything(copy) == everything(gallery)
        assert (copy.space, copy.spaces, copy.metric) == (gallery.space, gallery.spaces, "manhattan")
        assert [i.id for i in copy.items()] == [i.id for i in gallery.items()]
        assert copy.get([odd])[0].path == odd


@pytest.mark.parametrize("part", [".", "cats"])
def test_indexing_after_a_round_trip_touches_nothing(
    gallery: Gallery, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    (photos / "cats").mkdir()
    (photos / "coins.jpg").rename(photos / "cats" / "coins.jpg")
    gallery.index(photos)
    moved(gallery, tmp_path / "copy")
    monkeypatch.setattr("lookalike.indexing.contents_of", lambda path: pytest.fail(f"{path} was opened"))
    with Gallery.open(tmp_path / "copy") as copy:
        report = copy.index(photos / part)
        assert (report.added, report.updated, report.unchanged) == (0, 0, 8 if part == "." else 1)
        assert copy.count() == 8


def test_an_import_over_itself_updates_and_changes_nothing(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    gallery.index(photos)
    before = everything(gallery)
    export(gallery, tmp_path / "g.parquet", no_progress)
    result = import_(tmp_path / "g.parquet", tmp_path / "g", encoder=None, progress=no_progress)
    assert (result.added, result.updated, result.skipped) == (0, 8, ())
    assert everything(gallery) == before


def test_batches_of_other_kinds_of_items_go_into_one_file(
    gallery: Gallery, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_AT_ONCE", 2)
    for n in range(3):
        gallery.add(np.full((4, 4, 3), 40 * n + 1, np.uint8), id=f"memory {n}")
    gallery.index(photos)
    assert moved(gallery, tmp_path / "copy").added == 11
    with Gallery.open(tmp_path / "copy") as copy:
        assert everything(copy) == everything(gallery)


def test_an_item_without_a_vector_of_the_second_space_comes_over_without_one(
    gallery: Gallery, photos: Path, tmp_path: Path
) -> None:
    gallery.index(photos)
    (photos / "coffee.jpg").unlink()
    gallery.add_encoder("second")
    moved(gallery, tmp_path / "copy")
    with Gallery.open(tmp_path / "copy") as copy:
        assert everything(copy) == everything(gallery)
        assert [space["vectors"] for space in copy.info()["spaces"]] == [8, 7]


def test_an_export_says_what_it_holds_to_any_reader_of_parquet(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    gallery.index(photos, metadata={"album": 'a "b"'})
    result = export(gallery, tmp_path / "g.parquet", no_progress)
    assert result.as_dict() == {"exported": 8, "output": str(tmp_path / "g.parquet")}
    rows = pyarrow.parquet.read_table(tmp_path / "g.parquet").to_pylist()
    for row, item in zip(rows, gallery.items(), strict=True):
        assert (row["id"], row["path"]) == (item.id, item.path)
        assert json.loads(row["metadata"]) == {"album": 'a "b"'}
        assert row["vector"] == gallery.embeddings([item.id]).vectors[0].tolist()
        assert row["norm"] == float(gallery.embeddings([item.id]).norms[0])


def test_foreign_vectors_come_in_normalized_with_their_lengths_and_columns(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).normal(size=(4, 6)) * 7
    when = datetime.datetime(2020, 1, 2, 3, 4, 5)
    foreign(
        tmp_path / "f.parquet",
        id=["a", "b", "c", "d"],
        vector=raw.tolist(),
        year=[2019, None, 2021, 2022],
        rating=[1.5, float("nan"), None, 2.5],
        when=[when, None, None, None],
        tags=[["x"], [], None, ["y", "z"]],
    )
    result = imported(tmp_path / "f.parquet", tmp_path / "g")
    assert (result.added, result.skipped) == (4, ())
    with Gallery.open(tmp_path / "g") as gallery:
        stored = gallery.embeddings(["a", "b", "c", "d"])
        lengths = np.array([sum(x * x for x in row) ** 0.5 for row in raw])
        np.testing.assert_allclose(stored.vectors, raw / lengths[:, None], atol=1e-6)
        np.testing.assert_allclose(stored.norms, lengths, rtol=1e-6)
        told = {item.id: dict(item.metadata) for item in gallery.items()}
        assert told["a"] == {"year": 2019, "rating": 1.5, "when": "2020-01-02T03:04:05", "tags": ["x"]}
        assert told["b"] == {"tags": []}
        assert gallery.count("year >= 2021") == 2
        assert gallery.space.encoder == "elsewhere"


@pytest.mark.parametrize("kind", [pyarrow.list_(pyarrow.float64()), pyarrow.list_(pyarrow.float32(), 3)])
def test_vectors_may_be_lists_of_any_float(tmp_path: Path, kind: pyarrow.DataType) -> None:
    foreign(tmp_path / "f.parquet", id=[7, 8], vector=pyarrow.array([[3, 4, 0], [0, 0, 2]], type=kind))
    imported(tmp_path / "f.parquet", tmp_path / "g")
    with Gallery.open(tmp_path / "g") as gallery:
        np.testing.assert_allclose(gallery.embeddings(["7", "8"]).vectors, [[0.6, 0.8, 0], [0, 0, 1]], atol=1e-7)


def test_a_bad_row_is_skipped_with_its_number_and_the_others_come_in(tmp_path: Path) -> None:
    foreign(
        tmp_path / "f.parquet",
        id=["good", "good", None, " ", "short", "nan", "none", "fine"],
        vector=[[1, 2], [1, 2], [1, 2], [1, 2], [1], [1, float("nan")], None, [3, 4]],
    )
    result = imported(tmp_path / "f.parquet", tmp_path / "g")
    assert result.added == 2
    assert {int(s.path.rpartition("row ")[2]): s.reason.split(",")[0] for s in result.skipped} == {
        2: "the id 'good' came before in this file",
        3: "neither 'id' nor 'path' has a value",
        4: "an id is a non-empty text without spaces around it",
        5: "'vector' has 1 numbers",
        6: "'vector' holds NaN or infinite values",
        7: "'vector' has 0 numbers",
    }
    with Gallery.open(tmp_path / "g") as gallery:
        assert [item.id for item in gallery.items()] == ["good", "fine"]


def test_rows_that_share_a_file_are_told_apart_by_number(tmp_path: Path) -> None:
    foreign(
        tmp_path / "f.parquet", id=["a", "b", "c"], path=["x.jpg", "x.jpg", "y.jpg"], vector=[[1, 0], [0, 1], [1, 1]]
    )
    result = imported(tmp_path / "f.parquet", tmp_path / "g")
    assert result.added == 2
    assert [s.path for s in result.skipped] == [f"{tmp_path / 'f.parquet'} row 2"]


def test_a_row_whose_file_is_another_items_is_skipped(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    gallery.index(photos)
    export(gallery, tmp_path / "old.parquet", no_progress)
    gallery.remove([str(photos / "coffee.jpg")])
    own = gallery.add(photos / "coffee.jpg", id="mine")
    result = import_(tmp_path / "old.parquet", tmp_path / "g", encoder=None, progress=no_progress)
    assert (result.added, result.updated, len(result.skipped)) == (0, 7, 1)
    assert "mine" in result.skipped[0].reason
    assert gallery.get([str(photos / "coffee.jpg")]) == [own]


@pytest.mark.parametrize("where", ["beside", "elsewhere", "absolute"])
def test_foreign_paths_are_files_that_indexing_brings_up_to_date(
    photos: Path, tmp_path: Path, counting: fakes.Counting, where: str
) -> None:
    folder = photos if where == "beside" else tmp_path
    names = [str(p) if where == "absolute" else os.path.relpath(p, folder) for p in sorted(photos.iterdir())]
    foreign(folder / "f.parquet", path=names, vector=np.ones((8, 12)).tolist(), album=["x"] * 8)
    imported(folder / "f.parquet", tmp_path / "g", encoder="counting")
    (folder / "f.parquet").unlink()
    with Gallery.open(tmp_path / "g") as gallery:
        assert {item.path for item in gallery.items()} == set(map(str, photos.iterdir()))
        report = gallery.index(photos)
        assert (report.added, report.updated + report.unchanged, len(gallery)) == (0, 8, 8)
        assert len(counting.encoded) == 8
        assert gallery.count('album = "x"') == 8
        assert gallery.search(photos / "coffee.jpg", k=1)[0].path == str(photos / "coffee.jpg")


def test_paths_outside_the_files_folder_keep_no_dots(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    foreign(tmp_path / "tables" / "f.parquet", path=["../pics/a.jpg", "b.jpg"], vector=[[1, 0], [0, 1]])
    imported(tmp_path / "tables" / "f.parquet", tmp_path / "g")
    with Gallery.open(tmp_path / "g") as gallery:
        want = [str(tmp_path / "pics" / "a.jpg"), str(tmp_path / "tables" / "b.jpg")]
        assert [item.path for item in gallery.items()] == want
        assert [item.path for item in gallery.get(want)] == want


def test_what_embed_wrote_can_be_imported(photos: Path, tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "v.parquet"
    assert cli("embed", photos, "-o", file, "--encoder", "color-histogram").code == 0
    ran = cli("import", file, tmp_path / "g", "--json")
    assert ran.json == {"added": 8, "updated": 0, "skipped": []}
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.space.encoder == "color-histogram"
        assert gallery.search(photos / "coffee.jpg", k=1)[0].path == str(photos / "coffee.jpg")


@pytest.mark.parametrize(
    ("columns", "encoder", "message"),
    [
        ({"id": ["a"]}, "x", "no column 'vector'.*id"),
        ({"id": ["a"], "vector": [[1.0, 2.0]]}, None, "--encoder"),
        ({"id": ["a"], "vector": [[1.0, 2.0]]}, "color-histogram", "580 numbers.*2"),
        ({"id": ["a"], "vector": [None]}, "x", "holds no vector"),
        ({"id": ["a"], "vector": [5]}, "x", "holds no vector"),
        ({"id": ["a"], "vector": ["text"]}, "x", "holds no vector"),
    ],
)
def test_a_file_that_is_no_table_of_vectors_is_refused_and_no_gallery_made(
    tmp_path: Path, columns: dict[str, Any], encoder: str | None, message: str
) -> None:
    foreign(tmp_path / "f.parquet", **columns)
    with pytest.raises(InputError, match=message):
        imported(tmp_path / "f.parquet", tmp_path / "g", encoder)
    assert not (tmp_path / "g").exists()


def test_vectors_of_text_are_skipped_row_by_row(tmp_path: Path) -> None:
    foreign(tmp_path / "f.parquet", id=["a"], vector=[["x", "y"]])
    result = imported(tmp_path / "f.parquet", tmp_path / "g")
    assert (result.added, len(result.skipped)) == (0, 1)


@pytest.mark.parametrize("notes", [b"{", b"7", b'{"spaces": 1}', b'{"spaces": {"vector": {"dim": 2}}}'])
def test_damaged_notes_are_refused(tmp_path: Path, notes: bytes) -> None:
    table = pyarrow.table({"id": ["a"], "vector": [[1.0, 2.0]]}).replace_schema_metadata({b"lookalike": notes})
    pyarrow.parquet.write_table(table, tmp_path / "f.parquet")
    with pytest.raises(InputError, match="damaged"):
        imported(tmp_path / "f.parquet", tmp_path / "g")


def test_a_file_that_is_missing_or_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("a text")
    for name in ("text.parquet", "none.parquet"):
        with pytest.raises(InputError, match=name):
            imported(tmp_path / name, tmp_path / "g")


def test_vectors_of_another_space_are_not_imported(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    gallery.index(photos)
    foreign(tmp_path / "f.parquet", id=["a"], vector=[[1.0, 2.0]])
    with pytest.raises(SpaceMismatch):
        imported(tmp_path / "f.parquet", tmp_path / "g")
    assert len(gallery) == 8


def test_without_pyarrow_the_message_holds_the_command(shell: Cli, photos: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['pyarrow'] = None; from lookalike.__main__ import run; sys.exit(run(sys.argv[1:]))"
    )
    assert shell("index", photos, "--encoder", "color-histogram").code == 0
    for arguments in (
        ("export", tmp_path / "cli.gallery", "x.parquet"),
        ("import", "x.parquet", "new.gallery"),
        ("embed", photos, "-o", "x.parquet", "--encoder", "color-histogram"),
    ):
        ran = shell(*arguments, program=program)
        assert (ran.code, ran.out) == (2, "")
        assert "pip install 'lookalike[parquet]'" in ran.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cli.gallery", "photos"]


def test_an_interrupted_export_leaves_the_old_file(
    gallery: Gallery, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.index(photos)
    file = tmp_path / "g.parquet"
    file.write_text("the old one")
    for failure, raised in ((KeyboardInterrupt(), KeyboardInterrupt), (OSError(errno.ENOSPC, "No space"), StoreError)):

        def fail(_: int, failure: BaseException = failure) -> None:
            raise failure

        with pytest.raises(raised):
            export(gallery, file, fail)
        assert file.read_text() == "the old one"
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_an_output_that_is_no_table_or_cannot_be_written_is_refused_before_any_work(
    gallery: Gallery, tmp_path: Path
) -> None:
    picture = tmp_path / "holiday.jpg"
    PIL.Image.new("RGB", (4, 4)).save(picture)
    age(picture, LONG_AGO)
    before = picture.read_bytes()
    (tmp_path / "folder.parquet").mkdir()
    for output in (picture, tmp_path / "none" / "x.parquet", tmp_path / "folder.parquet"):
        with pytest.raises(ConfigError, match=output.name):
            export(gallery, output, lambda _: pytest.fail("work was done"))
    assert picture.read_bytes() == before


def test_an_empty_gallery_has_nothing_to_export(gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to write"):
        export(gallery, tmp_path / "g.parquet", no_progress)
    assert not (tmp_path / "g.parquet").exists()


def test_a_large_import_is_searched_by_an_index_that_was_built_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_ANN_ABOVE", "1000")
    raw = np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32)
    foreign(tmp_path / "f.parquet", id=[str(i) for i in range(len(raw))], vector=raw.tolist())
    seen: list[tuple[int, int]] = []
    import_(
        tmp_path / "f.parquet",
        tmp_path / "g",
        encoder="elsewhere",
        progress=lambda _: None,
        settling=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (2000, 2000)
    with Gallery.open(tmp_path / "g") as gallery:
        query = gallery.embeddings(["17"])
        assert gallery.search_each(query)[0].exact is False
        assert gallery.search_each(query, exact=True)[0].exact is True
        assert gallery.search_each(query)[0][0].id == "17"
