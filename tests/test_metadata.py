"""What is known of a picture besides its pixels: where it comes from, and which source wins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import fakes
from conftest import LONG_AGO, Cli, age
from lookalike import Gallery
from lookalike.errors import InputError
from lookalike.metadata import Given, parse_assignments, typed

_DATETIME, _EXIF_IFD, _DATETIME_ORIGINAL, _GPS_IFD = 0x0132, 0x8769, 0x9003, 0x8825


@pytest.fixture
def gallery(tmp_path: Path, counting: fakes.Counting) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "g", encoder="counting") as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """cats/a.jpg, taken in 2019; cats/b.jpg without a date; c.jpg directly in the folder."""
    root = tmp_path / "f"
    (root / "cats").mkdir(parents=True)
    exif = PIL.Image.Exif()
    exif.get_ifd(_EXIF_IFD)[_DATETIME_ORIGINAL] = "2019:07:03 10:20:30"
    exif.get_ifd(_GPS_IFD)[2] = (52.0, 31.0, 12.0)
    for n, name in enumerate(("cats/a.jpg", "cats/b.jpg", "c.jpg")):
        options: dict[str, Any] = {"exif": exif} if name == "cats/a.jpg" else {}
        PIL.Image.new("RGB", (20, 16), (200, 70 * n, 30)).save(root / name, **options)
        age(root / name)
    return root


def known(gallery: Gallery) -> dict[str, dict[str, Any]]:
    return {Path(str(item.path)).name: dict(item.metadata) for item in gallery.items()}


def test_a_file_tells_its_folder_and_its_date_and_nothing_else(gallery: Gallery, folder: Path) -> None:
    gallery.index(folder)
    assert known(gallery) == {
        "a.jpg": {"label": "cats", "taken": "2019-07-03T10:20:30", "year": 2019},
        "b.jpg": {"label": "cats"},
        "c.jpg": {},
    }


def test_a_mapping_is_given_to_every_picture_and_wins_over_the_file(gallery: Gallery, folder: Path) -> None:
    gallery.index(folder, metadata={"label": "x", "year": 1900, "n": 1.5, "ok": True, "none": None})
    assert known(gallery)["a.jpg"] == {
        "label": "x",
        "taken": "2019-07-03T10:20:30",
        "year": 1900,
        "n": 1.5,
        "ok": True,
        "none": None,
    }


def test_a_csv_sidecar_gives_typed_values_and_an_empty_cell_gives_nothing(gallery: Gallery, folder: Path) -> None:
    sidecar = folder / "side.csv"
    sidecar.write_text('path,rating,album,plate,ok\ncats/a.jpg,4.5,"a, b",007,true\ncats/b.jpg,,,,\n', "utf-8")
    gallery.index(folder, metadata=sidecar)
    told = known(gallery)
    assert {k: told["a.jpg"][k] for k in ("rating", "album", "plate", "ok")} == {
        "rating": 4.5,
        "album": "a, b",
        "plate": "007",
        "ok": True,
    }
    assert told["b.jpg"] == {"label": "cats"}


def test_a_csv_may_begin_with_a_mark_as_excel_writes_it(gallery: Gallery, folder: Path) -> None:
    (folder / "side.csv").write_text("path,album\nc.jpg,1\n", "utf-8-sig")
    gallery.index(folder, metadata=folder / "side.csv")
    assert known(gallery)["c.jpg"] == {"album": 1}


def test_a_jsonl_sidecar_gives_what_json_can_say(gallery: Gallery, folder: Path, tmp_path: Path) -> None:
    sidecar = tmp_path / "side.jsonl"  # its paths are relative to itself
    rows = [
        {"path": "f/c.jpg", "tags": ["x", {"y": None}], "plate": "007"},
        {"path": str(folder / "cats/b.jpg"), "n": 1},
    ]
    sidecar.write_text("\n\n".join(map(json.dumps, rows)))
    gallery.index(folder, metadata=str(sidecar))
    told = known(gallery)
    assert told["c.jpg"] == {"tags": ["x", {"y": None}], "plate": "007"}
    assert told["b.jpg"] == {"label": "cats", "n": 1}


def test_rows_that_name_no_picture_are_reported(gallery: Gallery, folder: Path) -> None:
    sidecar = folder / "side.csv"
    sidecar.write_text("path,album\nc.jpg,1\nnowhere.jpg,2\n")
    report = gallery.index(folder, metadata=sidecar)
    (line,) = [s for s in report.skipped if "named in" in s.reason]
    assert line.path == str(folder / "nowhere.jpg")
    again = gallery.index(folder, metadata=sidecar)
    assert [s for s in again.skipped if "named in" in s.reason] == [line]


def test_one_sidecar_serves_several_folders(cli: Cli, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    PIL.Image.new("RGB", (9, 9)).save(other / "d.png")
    sidecar = tmp_path / "side.csv"
    sidecar.write_text("path,n\nf/c.jpg,1\nother/d.png,2\nnone.png,3\n")
    ran = cli("index", folder, other, "--encoder", "color-histogram", "--metadata", sidecar, "--json")
    assert ran.json["added"] == 4
    assert [s["path"] for s in ran.json["skipped"]] == [str(tmp_path / "none.png")]


def test_of_a_flag_and_a_sidecar_the_sidecar_wins_as_it_says_more(cli: Cli, folder: Path, tmp_path: Path) -> None:
    sidecar = tmp_path / "side.csv"
    sidecar.write_text("path,album\nf/c.jpg,7\n")
    arguments = ("--encoder", "color-histogram", "--metadata", sidecar, "--set", "album=8", "--set", "who=me")
    assert cli("index", folder, *arguments).code == 0
    told = {Path(i["path"]).name: i["metadata"] for i in cli("list", "--json").json["items"]}
    assert told["c.jpg"] == {"album": 7, "who": "me"}
    assert told["b.jpg"] == {"album": 8, "who": "me", "label": "cats"}


def test_new_metadata_updates_items_without_opening_a_file(
    gallery: Gallery, folder: Path, counting: fakes.Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.index(folder)
    monkeypatch.setattr("lookalike.indexing.contents_of", lambda path: pytest.fail(f"{path} was opened"))
    report = gallery.index(folder, metadata={"album": 1})
    assert (report.added, report.updated, report.unchanged) == (0, 3, 0)
    assert len(counting.encoded) == 3
    assert known(gallery)["c.jpg"] == {"album": 1}
    report = gallery.index(folder, metadata={"album": 1})
    assert (report.added, report.updated, report.unchanged) == (0, 0, 3)


def test_true_and_one_are_two_values(gallery: Gallery, folder: Path) -> None:
    gallery.index(folder, metadata={"flag": 1})
    assert gallery.index(folder, metadata={"flag": True}).updated == 3
    assert known(gallery)["c.jpg"]["flag"] is True


def test_what_was_given_stays_when_the_file_changes_and_what_the_file_tells_follows_it(
    gallery: Gallery, folder: Path
) -> None:
    gallery.index(folder, metadata={"album": "x"})
    PIL.Image.new("RGB", (20, 16), (0, 0, 99)).save(folder / "cats" / "a.jpg")
    age(folder / "cats" / "a.jpg", LONG_AGO + 5)
    gallery.index(folder)
    assert known(gallery)["a.jpg"] == {"album": "x", "label": "cats"}


def test_a_touched_file_keeps_its_date_also_where_a_date_was_given(gallery: Gallery, folder: Path) -> None:
    gallery.index(folder, metadata={"taken": "in summer"})
    before = known(gallery)
    age(folder / "cats" / "a.jpg", LONG_AGO + 5)
    gallery.index(folder)
    assert known(gallery) == before
    assert before["a.jpg"]["year"] == 2019


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-1.5", -1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("null", None),
        ("007", "007"),
        ("True", "True"),
        ("", ""),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("1e999", "1e999"),
        ('"x"', '"x"'),
        ("[1]", "[1]"),
        ("2020-01-01", "2020-01-01"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_text_is_typed_only_where_json_says_so(text: str, value: object) -> None:
    assert typed(text) == value
    assert type(typed(text)) is type(value)


def test_assignments_are_split_at_the_first_equals_sign() -> None:
    assert parse_assignments(("a=1", " b =x=y", "c=")) == {"a": 1, "b": "x=y", "c": ""}


@pytest.mark.parametrize("assignment", ["year", "=2020", "  =1", ""])
def test_an_assignment_without_a_name_or_a_value_is_refused(assignment: str) -> None:
    with pytest.raises(InputError, match="NAME=VALUE"):
        parse_assignments((assignment,))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.csv", "file,album\na.jpg,1\n", r"no column 'path'.*file.*album"),
        ("s.csv", "", r"no column 'path'"),
        ("s.csv", "path,album\na.jpg,1\nb.jpg,1,2\n", r"line 3: more values"),
        ("s.csv", "path,album\na.jpg,1\n,2\n", r"line 3: no value for the column 'path'"),
        ("s.csv", "path,,b\na.jpg,1,2\n", r"line 2: .*name"),
        ("s.jsonl", '{"path": "a.jpg"}\n{"path": \n', r"line 2"),
        ("s.jsonl", '{"path": "a.jpg"}\n\n[1]\n', r"line 3: one JSON object a line"),
        ("s.jsonl", '{"album": 1}\n', r"line 1: no value for the column 'path'"),
        ("s.jsonl", '{"path": 1}\n', r"line 1: no value for the column 'path'"),
        ("s.jsonl", '{"path": "a.jpg"}\n{"path": "b.jpg", "x": NaN}\n', r"line 2.*JSON"),
        ("s.jsonl", '{"path": "a.jpg", "": 1}\n', r"line 1.*name"),
        ("s.txt", "path\na.jpg\n", r"\.csv or \.jsonl"),
    ],
)
def test_a_wrong_sidecar_is_refused_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        Given(tmp_path / name)


def test_a_sidecar_that_is_missing_or_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("path,who\na.jpg,Jos\xe9\n".encode("latin-1"))
    for name in ("latin.csv", "missing.csv"):
        with pytest.raises(InputError, match=name):
            Given(tmp_path / name)


def test_a_wrong_sidecar_makes_no_gallery(cli: Cli, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("file\nx\n")
    assert cli("index", folder, "--metadata", tmp_path / "s.csv").code == 2
    assert not (tmp_path / "cli.gallery").exists()


@pytest.mark.parametrize("metadata", [{1: 2}, {"": 1}, {"x": object()}, {"x": float("nan")}, {"x": {1, 2}}])
def test_metadata_that_json_cannot_hold_is_refused(gallery: Gallery, metadata: dict[str, Any], folder: Path) -> None:
    with pytest.raises(InputError):
        gallery.add(folder / "c.jpg", metadata=metadata)
    assert gallery.count() == 0


def test_a_search_is_filtered_by_what_is_known(gallery: Gallery, folder: Path) -> None:
    gallery.index(folder, metadata={"album": "x"})
    query = folder / "c.jpg"
    for where, names in {
        "year >= 2019": {"a.jpg"},
        'label = "cats" and year = null': {"b.jpg"},
        'not label = "cats"': {"c.jpg"},
        'album in ("x", "y")': {"a.jpg", "b.jpg", "c.jpg"},
        "album = 1": set(),
    }.items():
        assert {Path(str(hit.path)).name for hit in gallery.search(query, where=where)} == names
        assert gallery.count(where) == len(names)
