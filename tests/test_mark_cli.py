"""``lookalike mark``: what it keeps, what it prints, how it refuses."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from conftest import Cli
from lookalike import Gallery

KEYS = {"a", "b", "same", "said_at", "a_items", "b_items"}


@pytest.fixture
def indexed(cli: Cli, photos: Path) -> Path:
    assert cli("index", photos, "--encoder", "color-histogram").code == 0
    return photos


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def listed(cli: Cli) -> list[dict[str, Any]]:
    marks = cli("mark", "list", "--json").json
    assert set(marks) == {"marks"}
    return list(marks["marks"])


def test_what_is_said_comes_back_as_json(cli: Cli, indexed: Path) -> None:
    coffee, coins = indexed / "coffee.jpg", indexed / "coins.jpg"
    ids = {item["path"]: item["id"] for item in cli("list", "--json").json["items"]}
    said = cli("mark", "same", coffee, ids[str(coins)], "--json").json
    assert set(said) == KEYS
    assert said["same"] is True
    first, second = sorted((coffee, coins), key=sha256)
    assert (said["a"], said["b"]) == (sha256(first), sha256(second))
    assert said["a_items"] == [{"id": ids[str(first)], "path": str(first)}]
    assert said["b_items"] == [{"id": ids[str(second)], "path": str(second)}]
    assert listed(cli) == [said]
    again = cli("mark", "different", coins, coffee, "--json").json
    assert again == {**said, "same": False, "said_at": again["said_at"]}
    assert listed(cli) == [again]
    assert cli("mark", "forget", coffee, coins, "--json").json == {"forgotten": True}
    assert cli("mark", "forget", coffee, coins, "--json").json == {"forgotten": False}
    assert listed(cli) == []


def test_what_is_said_is_printed_for_people(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    PIL.Image.new("RGB", (9, 9)).save(outside)
    coffee, coins = indexed / "coffee.jpg", indexed / "coins.jpg"
    assert cli("mark", "different", coffee, coins).out == f"{coffee} and {coins}: different\n"
    assert cli("mark", "same", coffee, outside).out == f"{coffee} and {outside}: same\n"
    lines = sorted(line.split() for line in cli("mark", "list").out.splitlines())
    assert [line[0] for line in lines] == ["different", "same"]
    assert set(lines[0][2:]) == {str(coffee), str(coins)}
    assert set(lines[1][2:]) == {str(coffee), sha256(outside)}
    assert cli("mark", "forget", coffee, coins).out == f"{coffee} and {coins}: forgotten\n"
    assert cli("mark", "forget", coffee, coins).out == f"{coffee} and {coins}: nothing was said of them\n"
    assert cli("mark", "forget", sha256(outside), coffee).code == 0
    assert cli("mark", "list").out == ""


def test_a_mark_goes_from_one_gallery_to_another_by_its_sha256(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    said = cli("mark", "same", indexed / "coffee.jpg", indexed / "coins.jpg", "--json").json
    other = ("-g", tmp_path / "other.gallery")
    assert cli("index", indexed / "brick.jpg", "--encoder", "color-histogram", *other).code == 0
    assert cli("mark", "same", said["a"], said["b"], *other).code == 0
    assert cli("index", indexed, *other).code == 0
    with Gallery.open(tmp_path / "other.gallery") as gallery:
        assert len(gallery.marked_pairs()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["same|different|forget|list"]),
        (["alike", "{a}", "{b}"], ["alike"]),
        (["same"], ["two pictures", "got 0"]),
        (["same", "{a}"], ["two pictures", "got 1"]),
        (["forget", "{a}", "{b}", "{a}"], ["two pictures", "got 3"]),
        (["list", "{a}", "{b}"], ["no picture", "got 2"]),
        (["same", "{a}", "nobody"], ["nobody", "no such file", "lookalike list"]),
        (["forget", "{a}", "nobody"], ["nobody", "no such file", "lookalike list"]),
        (["different", "{a}", "{a}"], ["one picture"]),
        (["same", "{a}", "{a}"], ["one picture"]),
        (["different", "{a}", "{copy}"], ["byte for byte the same"]),
        (["same", "{a}", "{text}"], ["text.jpg"]),
        (["same", "{a}", "{folder}"], ["a folder"]),
    ],
)
def test_a_slip_exits_2_says_what_is_wrong_and_keeps_nothing(
    cli: Cli, indexed: Path, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "text.jpg").write_text("a text")
    (tmp_path / "copy.jpg").write_bytes((indexed / "coffee.jpg").read_bytes())
    places = {
        "a": indexed / "coffee.jpg",
        "b": indexed / "coins.jpg",
        "copy": tmp_path / "copy.jpg",
        "text": tmp_path / "text.jpg",
        "folder": tmp_path,
    }
    ran = cli("mark", *(argument.format(**places) for argument in arguments))
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err
    assert listed(cli) == []


def test_a_missing_gallery_exits_3_and_is_not_made(cli: Cli, photos: Path, tmp_path: Path) -> None:
    for arguments in (["list"], ["same", photos / "coffee.jpg", photos / "coins.jpg"]):
        ran = cli("mark", *arguments)
        assert (ran.code, ran.out) == (3, "")
        assert "lookalike index" in ran.err
    assert not (tmp_path / "cli.gallery").exists()


def test_no_name_reaches_the_terminal_as_it_is(cli: Cli, photos: Path) -> None:
    odd = [os.fsencode(photos) + name for name in (b"/\x1b[2J.jpg", b"/line\nlookalike: all is well", b"/caf\xe9.jpg")]
    for path, name in zip(sorted(photos.iterdir()), odd, strict=False):
        os.rename(path, name)
    one, two, three = map(os.fsdecode, odd)
    assert cli("index", photos, "--encoder", "color-histogram").code == 0
    for arguments in (
        ["same", one, two],
        ["different", two, three],
        ["different", two, three, "--json"],
        ["list"],
        ["list", "--json"],
        ["forget", one, two],
        ["same", one, one],
        ["same", one, f"{two} gone"],
    ):
        ran = cli("mark", *arguments)
        lines = (ran.out + ran.err).split("\n")
        assert all(line.isprintable() for line in lines), arguments
        assert not any(line.startswith("lookalike: all is well") for line in lines), arguments
    [left] = listed(cli)
    assert {item["path"] for side in ("a_items", "b_items") for item in left[side]} == {two, three}
