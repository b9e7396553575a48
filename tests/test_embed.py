"""Vectors alone, for other tools: files that numpy and pyarrow read without us."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet
import pytest

import fakes
from conftest import Cli
from lookalike import Gallery, tables
from lookalike.apps.embed import embed
from lookalike.errors import ConfigError, InputError, StoreError
from lookalike.gallery import no_progress

ODD = b"=cmd|' -C calc'!A0 <img src=x>\n\x1b[31m caf\xe9.jpg"


def test_npz_holds_the_documented_arrays_equal_to_the_gallerys(
    photos: Path, tmp_path: Path, counting: fakes.Counting
) -> None:
    result = embed([str(photos)], counting, tmp_path / "v.npz", no_progress)
    with np.load(tmp_path / "v.npz", allow_pickle=False) as file:
        assert sorted(file) == ["norms", "paths", "space", "vectors"]
        paths, vectors, norms, space = file["paths"], file["vectors"], file["norms"], json.loads(str(file["space"]))
    assert (vectors.shape, vectors.dtype, norms.shape, norms.dtype) == ((8, 12), np.float32, (8,), np.float32)
    assert paths.tolist() == sorted(map(str, photos.iterdir()))
    assert space == counting.space.as_dict()
    with Gallery.open(tmp_path / "g", encoder="counting") as gallery:
        gallery.index(photos)
        stored = gallery.embeddings(paths.tolist())
    np.testing.assert_array_equal(vectors, stored.vectors)
    np.testing.assert_array_equal(norms, stored.norms)
    assert result.as_dict() == {
        "embedded": 8,
        "output": str(tmp_path / "v.npz"),
        "space": counting.space.as_dict(),
        "skipped": [],
    }


def test_parquet_holds_the_same_in_its_documented_columns(
    photos: Path, tmp_path: Path, counting: fakes.Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed([str(photos)], counting, tmp_path / "v.npz", no_progress)
    embed([str(photos)], counting, tmp_path / "v.parquet", no_progress)
    table = pyarrow.parquet.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["path", "vector", "norm"]
    with np.load(tmp_path / "v.npz") as file:
        assert table["path"].to_pylist() == file["paths"].tolist()
        np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), file["vectors"])
        np.testing.assert_array_equal(table["norm"].to_numpy(), file["norms"])
    notes = json.loads(table.schema.metadata[b"lookalike"])
    assert notes == {"spaces": {"vector": counting.space.as_dict()}}


def test_pictures_come_in_the_order_given_and_bad_ones_are_told(
    photos: Path, tmp_path: Path, counting: fakes.Counting
) -> None:
    (tmp_path / "t.jpg").write_text("a text")
    names = [str(photos / "rocket.jpg"), str(tmp_path / "t.jpg"), str(photos / "coffee.jpg"), str(tmp_path / "none")]
    result = embed(names, counting, tmp_path / "v.npz", no_progress)
    with np.load(tmp_path / "v.npz") as file:
        assert file["paths"].tolist() == [names[0], names[2]]
    assert sorted(s.path for s in result.skipped) == sorted([names[1], names[3]])


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_any_file_name_goes_into_the_output(tmp_path: Path, photos: Path, counting: fakes.Counting, kind: str) -> None:
    odd = os.fsdecode(os.fsencode(photos) + b"/" + ODD)
    (photos / "coffee.jpg").rename(odd)
    embed([odd], counting, tmp_path / f"v.{kind}", no_progress)
    if kind == "npz":
        with np.load(tmp_path / "v.npz") as file:
            assert file["paths"].tolist() == [odd]
    else:
        table = pyarrow.parquet.read_table(tmp_path / "v.parquet")
        assert table["path"].to_pylist() == [os.fsencode(odd).decode("utf-8", "replace")]


def test_without_any_picture_there_is_an_error_and_no_file(tmp_path: Path, counting: fakes.Counting) -> None:
    (tmp_path / "t.jpg").write_text("a text")
    with pytest.raises(InputError, match=r"t\.jpg"):
        embed([str(tmp_path / "t.jpg")], counting, tmp_path / "v.npz", no_progress)
    assert [path.name for path in tmp_path.iterdir()] == ["t.jpg"]


def test_an_output_that_is_a_picture_or_has_no_place_is_refused_before_any_work(
    photos: Path, tmp_path: Path, counting: fakes.Counting
) -> None:
    before = (photos / "coffee.jpg").read_bytes()
    for output in (photos / "coffee.jpg", tmp_path / "v", tmp_path / "none" / "v.npz"):
        with pytest.raises(ConfigError):
            embed([str(photos)], counting, output, no_progress)
    assert counting.encoded == []
    assert (photos / "coffee.jpg").read_bytes() == before


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(
    photos: Path, tmp_path: Path, counting: fakes.Counting, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    output = tmp_path / f"v.{kind}"
    output.write_text("the old one")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tables.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        embed([str(photos)], counting, output, no_progress)
    assert output.read_text() == "the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", output.name]


def test_a_full_temporary_folder_is_a_clear_error(
    photos: Path, tmp_path: Path, counting: fakes.Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lookalike.apps.embed.tempfile.TemporaryFile", full)
    with pytest.raises(StoreError, match="No space left"):
        embed([str(photos)], counting, tmp_path / "v.npz", no_progress)


def test_the_command_embeds_with_the_real_encoder(cli: Cli, photos: Path, tmp_path: Path) -> None:
    ran = cli("embed", photos / "coffee.jpg", photos / "rocket.jpg", "-o", tmp_path / "v.npz", "--json")
    assert ran.code == 0
    assert (ran.json["embedded"], ran.json["space"]["encoder"], ran.json["skipped"]) == (2, "efficientnet-lite0", [])
    with np.load(tmp_path / "v.npz") as file:
        assert file["vectors"].shape == (2, 1280)
        np.testing.assert_allclose(np.linalg.norm(file["vectors"], axis=1), 1, atol=1e-6)
    (photos / "text.jpg").write_text("no picture")
    ran = cli("embed", photos / "coffee.jpg", photos / "text.jpg", "-o", tmp_path / "v.npz")
    assert ran.out.startswith("1 pictures embedded, 1280 numbers each")
    assert "text.jpg" in ran.err


def test_a_mode_that_others_may_read_is_kept(photos: Path, tmp_path: Path, counting: fakes.Counting) -> None:
    PIL.Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    embed([str(tmp_path / "a.png")], counting, tmp_path / "v.npz", no_progress)
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "v.npz").stat().st_mode & 0o777 == 0o666 & ~mask
