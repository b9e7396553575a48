"""Files of pairs and labelled data: what they say is read as it stands, and what is wrong is named with its line."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Cli
from lookalike.errors import InputError
from lookalike.metadata import Given, told_by_file, typed
from lookalike.pairs import PairsFile, read_labelled, read_pairs
from lookalike.types import Labelled, LabelledPicture, Pair, Skipped

SHARED = Path(__file__).parents[2] / "shared" / "data"


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (4, 4)).save(path)
    return path


def said(pairs: PairsFile) -> list[tuple[str, str, bool, int | None]]:
    return [(pair.a, pair.b, pair.same, pair.line) for pair in pairs.pairs]


# Pairs


def test_pairs_are_read_in_order_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("b,same,a,note\ny.jpg,1,x.jpg,\n\nsub/z.jpg,0,x.jpg,why not\n")
    at = str(tmp_path) + os.sep
    assert said(read_pairs(file)) == [
        (at + "x.jpg", at + "y.jpg", True, 2),
        (at + "x.jpg", at + os.path.join("sub", "z.jpg"), False, 4),
    ]
    assert read_pairs(str(file)).skipped == ()


@pytest.mark.parametrize(
    ("text", "same"),
    [("0", False), ("1", True), ("false", False), ("true", True), ("TRUE", True), ("False", False), (" 1 ", True)],
)
def test_same_is_written_in_the_usual_ways(tmp_path: Path, text: str, same: bool) -> None:
    (tmp_path / "p.csv").write_text(f"a,b,same\nx,y,{text}\n")
    (tmp_path / "p.jsonl").write_text(json.dumps({"a": "x", "b": "y", "same": text}))
    assert [read_pairs(tmp_path / name).pairs[0].same for name in ("p.csv", "p.jsonl")] == [same, same]


def test_jsonl_says_it_with_numbers_and_booleans(tmp_path: Path) -> None:
    rows = [{"a": "1", "b": str(n), "same": same, "x": [n]} for n, same in enumerate((0, 1, True, False), 2)]
    (tmp_path / "p.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    assert [(pair.same, pair.line) for pair in read_pairs(tmp_path / "p.jsonl").pairs] == [
        (False, 1),
        (True, 3),
        (True, 5),
        (False, 7),
    ]


def test_paths_are_relative_to_the_file_or_absolute_or_begin_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "p.csv").write_text("a,b,same\n../x.jpg,/abs/y.jpg,1\n~/x.jpg,./sub//y.jpg,1\n")
    monkeypatch.chdir(tmp_path)
    assert [(pair.a, pair.b) for pair in read_pairs("in/p.csv").pairs] == [
        (str(tmp_path / "x.jpg"), "/abs/y.jpg"),
        ("/home/me/x.jpg", str(tmp_path / "in" / "sub" / "y.jpg")),
    ]


def test_a_name_that_is_not_unicode_can_be_given_in_jsonl(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (tmp_path / "p.jsonl").write_text(json.dumps({"a": name, "b": "x", "same": 1}))
    assert os.fsencode(read_pairs(tmp_path / "p.jsonl").pairs[0].a).endswith(b"/caf\xe9.jpg")


def test_a_pair_said_again_counts_once_and_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("a,b,same\nx,y,1\ny,x,true\n./x,y,1\n")
    pairs = read_pairs(file)
    assert said(pairs) == [(str(tmp_path / "x"), str(tmp_path / "y"), True, 2)]
    assert [(line.path, line.reason) for line in pairs.skipped] == [
        (str(tmp_path / "y"), f"{file} line 3 says again what line 2 says"),
        (str(tmp_path / "x"), f"{file} line 4 says again what line 2 says"),
    ]


def test_pictures_that_are_not_there_are_skipped_each_with_its_line(tmp_path: Path) -> None:
    for name in ("x.jpg", "y.jpg"):
        picture(tmp_path / name)
    (tmp_path / "folder").mkdir()
    file = tmp_path / "p.csv"
    file.write_text(
        f"a,b,same\nx.jpg,gone.jpg,1\nx.jpg,y.jpg,0\ngone.jpg,away.jpg,1\nfolder,y.jpg,1\nx.jpg,{'n' * 300},1\n"
        "y.jpg,x.jpg,0\n"
    )
    pairs = read_pairs(file)
    assert len(pairs.pairs) == 5
    there = pairs.without_missing()
    assert said(there) == [(str(tmp_path / "x.jpg"), str(tmp_path / "y.jpg"), False, 3)]
    assert [(os.path.basename(line.path)[:9], line.reason.replace(str(file), "F")) for line in there.skipped] == [
        ("y.jpg", "F line 7 says again what line 3 says"),
        ("gone.jpg", "no such file; F line 2 is left out"),
        ("gone.jpg", "no such file; F line 4 is left out"),
        ("away.jpg", "no such file; F line 4 is left out"),
        ("folder", "a folder, not a file; F line 5 is left out"),
        ("nnnnnnnnn", "the file cannot be looked at: File name too long; F line 6 is left out"),
    ]


def test_where_no_pair_has_its_pictures_it_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("a,b,same\nx.jpg,y.jpg,1\n")
    with pytest.raises(InputError, match=r"no pair of .*p\.csv has both .*x\.jpg: no such file; .* line 2"):
        read_pairs(tmp_path / "p.csv").without_missing()


def test_a_pair_of_a_thing_with_itself_cannot_be_built() -> None:
    with pytest.raises(InputError, match="with itself"):
        Pair("x", "x", True)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "", r"no column 'a', 'b', 'same'; its first line names: none"),
        ("p.csv", "\n\n", r"no column 'a', 'b', 'same'"),
        ("p.csv", "a,b\nx,y\n", r"no column 'same'; its first line names: 'a', 'b'"),
        ("p.csv", "a, b, same\nx,y,1\n", r"no column 'b', 'same'; its first line names: 'a', ' b', ' same'"),
        ("p.csv", "a;b;same\nx;y;1\n", r"no column .*names: 'a;b;same'"),
        ("p.csv", "x.jpg,y.jpg,1\n", r"no column .*names: 'x\.jpg', 'y\.jpg', '1'"),
        ("p.csv", "a,b,same,same\nx,y,1,0\n", r"two columns 'same'"),
        ("p.csv", "a,b,same\n", r"holds no pair"),
        ("p.jsonl", "", r"holds no pair"),
        ("p.csv", "a,b,same\nx,y,1\nx,,1\n", r"line 3: no value for the column 'b'"),
        ("p.csv", "a,b,same\nx,y\n", r"line 2: no value for the column 'same'"),
        ("p.csv", "a,b,same\nx,y,\n", r"line 2: no value for the column 'same'"),
        ("p.csv", "a,b,same\nx,y,1\nx,z,yes\n", r"line 3: 'same' is 0 or 1 \(or false, true\), got 'yes'"),
        ("p.csv", "a,b,same\nx,y,2\n", r"line 2: 'same' is 0 or 1 .* got '2'"),
        ("p.csv", "a,b,same\nx,y,-1\n", r"line 2: 'same'"),
        ("p.csv", "a,b,same\nx,y,1\nz,x,0\n\ny,x,0\n", r"line 5: y and x are different here and the same in line 2"),
        ("p.csv", "a,b,same\nx,./x,1\n", r"line 2: a pair of .*x with itself says nothing"),
        ("p.csv", "a,b,same\nx,y,1,1,1,1,1,1,1,1\n", r"line 2: more values than columns \(10 under 3\)"),
        ("p.csv", 'a,b,same\nx,y,1\n"x,z,1\nw,v,1\n', r"line 3: .*quote"),
        ("p.csv", 'a,b,same\nx,y,1\n"x"z,w,1\n', r"line 3: .*quote"),
        ("p.csv", 'a,b,same\nx,"two\nlines",1\nx,y,2\n', r"line 4: 'same'"),
        ("p.csv", f"a,b,same\nx,y,1\n{'x' * 200_000},y,1\n", r"line 3: field larger than field limit"),
        ("p.csv", "a,b,same\nx,y\0z,1\n", r"line 2: no path holds a NUL character, got 'y\\x00z'"),
        ("p.jsonl", '{"a": "x\\u0000", "b": "y", "same": 1}', r"line 1: no path holds a NUL"),
        ("p.jsonl", '{"a": "x", "b": "y", "same": 1}\n{"a": \n', r"line 2: "),
        ("p.jsonl", '\n["x", "y", 1]\n', r"line 2: one JSON object a line"),
        ("p.jsonl", "[" * 100_000, r"line 1: "),
        ("p.jsonl", '{"a": "x", "b": "y"}', r"line 1: no value for the column 'same'"),
        ("p.jsonl", '{"a": "x", "b": null, "same": 1}', r"line 1: no value for the column 'b'"),
        ("p.jsonl", '{"a": ["x"], "b": "y", "same": 1}', r"line 1: 'a' is a text, got \['x'\]"),
        ("p.jsonl", '{"a": true, "b": "y", "same": 1}', r"line 1: 'a' is a text, got True"),
        ("p.jsonl", '{"a": "x", "b": "y", "same": [1]}', r"line 1: 'same' is 0 or 1"),
        ("p.jsonl", '{"a": "x", "b": "y", "same": NaN}', r"line 1: 'same' is 0 or 1"),
        ("p.txt", "a,b,same\n", r"comes as \.csv or \.jsonl, got .*p\.txt"),
    ],
)
def test_a_wrong_list_of_pairs_is_refused_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_pairs(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "encode", [lambda text: text.encode("utf-8-sig"), lambda text: text.replace("\n", "\r\n").encode()]
)
def test_a_table_may_come_from_excel_or_from_windows(tmp_path: Path, encode: Callable[[str], bytes]) -> None:
    (tmp_path / "p.csv").write_bytes(encode('a,b,same\n"x, ""1"".jpg",ü.jpg,1\n'))
    (tmp_path / "p.jsonl").write_bytes(encode('{"a": "x, \\"1\\".jpg", "b": "ü.jpg", "same": 1}\n'))
    for name, line in (("p.csv", 2), ("p.jsonl", 1)):
        assert said(read_pairs(tmp_path / name)) == [
            (str(tmp_path / 'x, "1".jpg'), str(tmp_path / "ü.jpg"), True, line)
        ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a,b,same\nx,y,1\nx,Jos\xe9.jpg,1\n".encode("latin-1"), r"p\.csv line 3: it is not UTF-8"),
        ("a,b,same\nx,y,1\n".encode("utf-16"), r"p\.csv line 1: it is not UTF-8"),
        ("a,b,same\nx,y,1\n".encode("utf-16-le"), r"no column 'a'"),
        (b"\x89PNG\r\n\x1a\n", r"line 1: it is not UTF-8"),
    ],
)
def test_a_table_in_another_encoding_is_refused_with_its_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "p.csv").write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_pairs(tmp_path / "p.csv")


def test_a_table_that_is_not_there_or_is_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "d.csv").mkdir()
    for name in ("d.csv", "gone.csv", "~nobody/p.csv"):
        with pytest.raises(InputError, match=name):
            read_pairs(tmp_path / name)


names = st.text(st.characters(exclude_characters="\0/\r\n", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name not in {".", ".."} and not name.startswith("~")
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.dictionaries(st.frozensets(names, min_size=2, max_size=2), st.booleans(), min_size=1, max_size=5),
    more=st.text(max_size=20),
)
def test_what_is_written_as_csv_or_jsonl_is_read_back(
    tmp_path: Path, rows: dict[frozenset[str], bool], more: str
) -> None:
    more = more.replace("\r", " ")
    table = [(*sorted(names), same) for names, same in rows.items()]
    with (tmp_path / "p.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["a", "more", "b", "same"])
        writer.writerows([a, more, b, int(same)] for a, b, same in table)
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"a": a, "b": b, "same": same}) for a, b, same in table))
    for name in ("p.csv", "p.jsonl"):
        found = read_pairs(tmp_path / name)
        assert [(pair.a, pair.b, pair.same) for pair in found.pairs] == [
            (str(tmp_path / a), str(tmp_path / b), same) for a, b, same in table
        ]


# Labelled data


def labels(labelled: Labelled) -> dict[str, str]:
    return {item.path: item.label for item in labelled.items}


def test_in_a_folder_the_label_is_the_folder_directly_under_the_root(tmp_path: Path) -> None:
    inside = [picture(tmp_path / "d" / name) for name in ("cat/a.png", "cat/kittens/b.png", "dog/c.png")]
    loose = picture(tmp_path / "d" / "loose.png")
    (tmp_path / "d" / "cat" / "notes.txt").write_text("a text")
    labelled = read_labelled(tmp_path / "d")
    assert labels(labelled) == dict(zip(map(str, inside), ["cat", "cat", "dog"], strict=True))
    assert {(item.group, item.role, item.ignore, item.line) for item in labelled.items} == {(None, None, False, None)}
    reasons = {line.path: line.reason for line in labelled.skipped}
    assert set(reasons) == {str(loose), str(tmp_path / "d" / "cat" / "notes.txt")}
    assert "named by its label" in reasons[str(loose)]


def test_a_folder_tells_the_label_that_a_gallery_keeps(tmp_path: Path) -> None:
    for folder in (b"caf\xe9", "ü b".encode()):
        os.makedirs(os.path.join(os.fsencode(tmp_path), folder))
        picture(tmp_path / os.fsdecode(folder) / "x.png")
    for path, label in labels(read_labelled(tmp_path)).items():
        assert told_by_file(os.path.relpath(path, tmp_path), None) == {"label": label}


def test_a_row_may_have_a_group_a_role_and_be_ignored(tmp_path: Path) -> None:
    paths = [str(picture(tmp_path / f"{n}.png")) for n in range(4)]
    (tmp_path / "l.csv").write_text(
        "path,label,group,role,ignore,extra\n0.png,007,a,query,0,x\n1.png,true,1,gallery,1,\n2.png,c,,,,\n3.png,c\n"
    )
    rows: list[dict[str, Any]] = [
        {"path": "0.png", "label": "007", "group": "a", "role": "query", "ignore": 0},
        {"path": "1.png", "label": "true", "group": 1, "role": "gallery", "ignore": True},
        {"path": "2.png", "label": "c", "group": None, "role": "", "ignore": ""},
        {"path": "3.png", "label": "c", "ignore": None},
    ]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, first in (("l.csv", 2), ("l.jsonl", 1)):
        assert read_labelled(str(tmp_path / name)).items == (
            LabelledPicture(paths[0], "007", "a", "query", False, first),
            LabelledPicture(paths[1], "true", "1", "gallery", True, first + 1),
            LabelledPicture(paths[2], "c", None, None, False, first + 2),
            LabelledPicture(paths[3], "c", None, None, False, first + 3),
        )


def test_labelled_pictures_that_are_not_there_or_named_again_are_skipped_with_their_line(tmp_path: Path) -> None:
    picture(tmp_path / "x.png")
    file = tmp_path / "l.csv"
    file.write_text("path,label\nx.png,a\ngone.png,a\n./x.png,a\n")
    labelled = read_labelled(file)
    assert labels(labelled) == {str(tmp_path / "x.png"): "a"}
    assert set(labelled.skipped) == {
        Skipped(str(tmp_path / "gone.png"), f"no such file; {file} line 3 is left out"),
        Skipped(str(tmp_path / "x.png"), f"{file} line 4 says again what line 2 says"),
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "path,kind\nx.png,a\n", r"no column 'label'; its first line names: 'path', 'kind'"),
        ("l.csv", "path,label\nx.png,a\nx.png,\n", r"line 3: no value for the column 'label'"),
        ("l.csv", "path,label\n,a\n", r"line 2: no value for the column 'path'"),
        ("l.csv", "path,label\nx.png,a\n./x.png,b\n", r"line 3: \./x\.png is described otherwise in line 2"),
        ("l.csv", "path,label,role\nx.png,a,query\nx.png,a,gallery\n", r"line 3: .*otherwise in line 2"),
        ("l.csv", "path,label,role\nx.png,a,train\n", r"line 2: a role is 'query' or 'gallery', got 'train'"),
        ("l.csv", "path,label,ignore\nx.png,a,maybe\n", r"line 2: 'ignore' is 0 or 1"),
        ("l.csv", "path,label,Group\nx.png,a,1\n", r"line 2: the column 'Group' is not known; write 'group'"),
        ("l.csv", "path,label, role\nx.png,a,query\n", r"line 2: the column ' role'"),
        ("l.csv", "path,label\n", r"holds no labelled picture"),
        ("l.csv", "path,label\ngone.png,a\n", r"holds no labelled picture: .*gone\.png: no such file"),
        ("l.jsonl", '{"path": "x.png", "label": ["a"]}', r"line 1: 'label' is a text, got \['a'\]"),
        ("l.jsonl", '{"path": "x.png", "label": 0.5}', r"line 1: 'label' is a text"),
        ("l.jsonl", '{"path": "x.png", "label": "a", "ignore": [1]}', r"line 1: 'ignore' is 0 or 1"),
        ("l.txt", "x", r"labelled data comes as \.csv or \.jsonl"),
    ],
)
def test_wrong_labelled_data_are_refused_with_their_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    picture(tmp_path / "x.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_labelled(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_folder_without_labels_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "flat" / "x.png")
    for name, message in (
        ("empty", "it is empty"),
        ("flat", "named by its label"),
        ("gone", "no such file or folder: .*gone; "),
    ):
        with pytest.raises(InputError, match=message):
            read_labelled(tmp_path / name)


def test_a_label_is_never_empty_and_a_role_is_one_of_two() -> None:
    for wrong in (lambda: LabelledPicture("x", ""), lambda: LabelledPicture("x", "a", role="probe")):
        with pytest.raises(InputError):
            wrong()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the data sets are not here")
@pytest.mark.parametrize("name", ["grocery", "coil100", "deeppcb", "scene_pairs"])
def test_the_data_sets_are_labelled_data(name: str) -> None:
    file = SHARED / name / "groundtruth.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    labelled = read_labelled(file)
    assert labelled.skipped == ()
    assert [(item.label, item.group) for item in labelled.items] == [
        (row["label"], row.get("group") or None) for row in rows
    ]


# What metadata share with them


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,n\ncoffee.jpg,1\n\ncoffee.jpg,1,2\n", ["line 4", "more values"]),
        ('path,n\ncoffee.jpg,"1\n', ["line 2", "quote"]),
        ("path,n,n\ncoffee.jpg,1,2\n", ["two columns 'n'"]),
        ("path,n\ncof\0fee.jpg,1\n", ["line 2", "NUL"]),
        (f"path,n\ncoffee.jpg,{'x' * 200_000}\n", ["line 2", "field limit"]),
        ("path,n\ncoffee.jpg,\udce9\n", ["line 2", "UTF-8"]),
    ],
)
def test_a_hostile_sidecar_exits_2_with_its_line(cli: Cli, photos: Path, text: str, words: list[str]) -> None:
    (photos / "m.csv").write_text(text, "utf-8", "surrogateescape")
    ran = cli("index", photos, "--encoder", "color-histogram", "--metadata", photos / "m.csv")
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err
    for word in [*words, str(photos / "m.csv")]:
        assert word in ran.err


def test_text_that_is_nested_too_deep_to_be_json_stays_text() -> None:
    assert typed("[" * 100_000) == "[" * 100_000


def test_a_path_in_a_sidecar_is_text_also_where_it_looks_like_a_number(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,n\n7,7\n")
    assert Given(tmp_path / "m.csv").of(str(tmp_path / "7")) == {"n": 7}
