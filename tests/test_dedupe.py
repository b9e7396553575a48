"""Finding copies by command: what is found and why, what is kept, what an action does and undoes, leaks, bad input."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage.data

import lookalike
from conftest import Cli, age
from lookalike.apps import dedupe
from lookalike.copies.frame import inside_share
from test_report import HARMFUL, Page

NAMES = ("astronaut", "chelsea", "coffee", "rocket")


def photo(name: str) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    picture.thumbnail((400, 400))
    return picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four photos; of the first a copy, a half, a crop and a mirrored one."""
    root = tmp_path / "pictures"
    (root / "more").mkdir(parents=True)
    for name in NAMES:
        photo(name).save(root / f"{name}.png")
    first = photo("astronaut")
    width, height = first.size
    shutil.copy(root / "astronaut.png", root / "more" / "same.png")
    first.resize((width // 2, height // 2)).save(root / "more" / "half.jpg", quality=90)
    first.crop((width // 6, height // 8, width, height)).save(root / "more" / "crop.jpg", quality=90)
    first.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT).save(root / "more" / "flip.jpg", quality=90)
    for path in root.rglob("*.*"):
        age(path)
    return root


@pytest.fixture(autouse=True)
def home(own_data: Path) -> Path:
    return own_data


def tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def by_name(members: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {Path(one["path"]).name: one for one in members}


# What is found


def test_each_copy_comes_with_its_kind_its_evidence_and_its_fate(cli: Cli, folder: Path) -> None:
    before = tree(folder)
    told = cli("dedupe", folder, "--json")
    assert (told.code, told.err) == (0, "")
    (group,) = told.json["groups"]
    assert group["keep"] == str(folder / "astronaut.png")
    members = by_name(group["members"])
    assert {name: (one["kind"], one["fate"]) for name, one in members.items()} == {
        "astronaut.png": ("exact", "keep"),
        "same.png": ("exact", "drop"),
        "half.jpg": ("near", "drop"),
        "flip.jpg": ("near", "drop"),
        "crop.jpg": ("edited", "drop"),
    }
    assert members["half.jpg"]["evidence"]["change"] == "resized to 50 %"
    assert members["flip.jpg"]["evidence"]["change"] == "flipped"
    share = 5 / 6 * 7 / 8
    cropped = members["crop.jpg"]["evidence"]["change"]
    assert cropped.startswith("cropped to ")
    assert float(cropped.split()[2]) == pytest.approx(100 * share, abs=3)
    assert sorted(told.json["drop"]) == sorted(str(folder / "more" / name) for name in os.listdir(folder / "more"))
    assert told.json["pictures"] == 8
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("level", "found"),
    [("exact", {"same.png"}), ("near", {"same.png", "half.jpg", "flip.jpg"})],
)
def test_a_level_finds_what_it_says(cli: Cli, folder: Path, level: str, found: set[str]) -> None:
    told = cli("dedupe", folder, "--level", level, "--json").json
    assert {Path(path).name for path in told["drop"]} == found


def test_python_finds_the_same(cli: Cli, folder: Path) -> None:
    found = lookalike.find_duplicates(str(folder))
    assert isinstance(found, lookalike.Duplicates)
    assert found.as_dict() == cli("dedupe", folder, "--json").json
    assert found.keep == (str(folder / "astronaut.png"),)
    assert len(found.pairs) == len(cli("dedupe", folder, "--json").json["pairs"])


def test_the_same_whatever_the_order_of_files(cli: Cli, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "renamed"
    shutil.copytree(folder, other)
    for number, path in enumerate(sorted(p for p in other.rglob("*") if p.is_file())):
        path.rename(path.with_name(f"{9 - number}{path.suffix}"))

    def contents(told: dict[str, Any]) -> list[list[str]]:
        of = [[one["path"] for one in group["members"]] for group in told["groups"]]
        return [sorted(hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in group) for group in of]

    assert contents(cli("dedupe", other, "--json").json) == contents(cli("dedupe", folder, "--json").json)


def test_one_file_under_several_names_is_compared_once_and_told(cli: Cli, folder: Path) -> None:
    os.symlink(folder / "coffee.png", folder / "more" / "link.png")
    os.link(folder / "coffee.png", folder / "more" / "hard.png")
    told = cli("dedupe", folder, folder / "more", "--level", "exact", "--json").json
    reasons = {Path(one["path"]).name: one["reason"] for one in told["skipped"]}
    assert reasons["link.png"] == f"a link to {folder / 'coffee.png'}"
    assert reasons["hard.png"].startswith(f"a second name of {folder / 'coffee.png'} (a hard link)")
    assert set(reasons) == {"link.png", "hard.png"}
    assert [Path(path).name for path in told["drop"]] == ["same.png"]


def test_what_cannot_be_read_is_left_out_and_told(cli: Cli, folder: Path) -> None:
    (folder / "zero.jpg").touch()
    (folder / "half.jpg").write_bytes((folder / "more" / "half.jpg").read_bytes()[:2000])
    shutil.copy(folder / "half.jpg", folder / "more" / "half again.jpg")
    told = cli("dedupe", folder, "--json").json
    assert {Path(one["path"]).name for one in told["skipped"]} == {"zero.jpg", "half.jpg", "half again.jpg"}
    assert len(told["drop"]) == 4


# What is kept


def test_a_protected_folder_stays_whole_and_stands_for_the_rest(cli: Cli, folder: Path, tmp_path: Path) -> None:
    safe = tmp_path / "safe"
    safe.mkdir()
    shutil.move(folder / "more" / "half.jpg", safe)
    shutil.copy(folder / "astronaut.png", safe / "a.png")
    told = cli("dedupe", folder, "--reference", safe, "--json").json
    (group,) = told["groups"]
    assert (group["keep"], group["reason"].partition(";")[0]) == (str(safe / "a.png"), "protected folder")
    members = by_name(group["members"])
    assert (members["half.jpg"]["fate"], members["half.jpg"]["why"]) == ("stay", "it lies in a protected folder")
    assert members["astronaut.png"]["fate"] == "drop"
    done = cli("dedupe", folder, "--reference", safe, "--action", f"move:{tmp_path / 'out'}", "--yes", "--json").json
    assert {Path(one["path"]).parent for one in done["outcome"]["done"]} == {folder, folder / "more"}
    assert sorted(os.listdir(safe)) == ["a.png", "half.jpg"]


def test_a_protected_small_copy_does_not_stand_for_more_than_it_shows(cli: Cli, folder: Path, tmp_path: Path) -> None:
    safe = tmp_path / "safe"
    safe.mkdir()
    shutil.move(folder / "more" / "crop.jpg", safe)
    told = cli("dedupe", folder, "--reference", safe, "--json").json
    members = by_name(told["groups"][0]["members"])
    assert told["groups"][0]["keep"] == str(safe / "crop.jpg")
    assert members["astronaut.png"]["fate"] == "stay"
    assert members["astronaut.png"]["why"].startswith("the kept one shows 7")


def test_a_frame_around_a_picture_is_not_kept_for_its_size(cli: Cli, folder: Path) -> None:
    first = photo("coffee")
    framed = PIL.Image.new("RGB", (first.width + 160, first.height + 160), "white")
    framed.paste(first, (80, 80))
    framed.save(folder / "framed.png")
    told = cli("dedupe", folder, "--json").json
    group = next(one for one in told["groups"] if "coffee" in one["keep"] or "framed" in one["keep"])
    assert Path(group["keep"]).name == "coffee.png"
    assert by_name(group["members"])["framed.png"]["fate"] == "drop"


def test_a_collage_is_not_dropped_for_one_of_its_parts(cli: Cli, folder: Path) -> None:
    parts = [photo(name).resize((300, 300)) for name in NAMES]
    collage = PIL.Image.new("RGB", (600, 600))
    for number, part in enumerate(parts):
        collage.paste(part, (300 * (number % 2), 300 * (number // 2)))
    collage.save(folder / "collage.png")
    told = cli("dedupe", folder, "--json").json
    assert str(folder / "collage.png") not in told["drop"]
    assert not {str(folder / f"{name}.png") for name in NAMES} & set(told["drop"])


@pytest.mark.parametrize(("rule", "kept"), [("oldest", "half.jpg"), ("newest", "flip.jpg"), ("shortest-path", "a.png")])
def test_a_rule_chooses_among_whole_copies(cli: Cli, folder: Path, rule: str, kept: str) -> None:
    (folder / "more" / "crop.jpg").unlink()
    (folder / "astronaut.png").rename(folder / "a.png")
    age(folder / "more" / "half.jpg", 1_000_000)
    age(folder / "more" / "flip.jpg", 1_700_000_000)
    told = cli("dedupe", folder, "--keep", rule, "--json").json
    assert Path(told["groups"][0]["keep"]).name == kept


@pytest.mark.parametrize(
    ("sides", "share"),
    [((40, 40, 40, 40), 120 * 120 / 200**2), ((0, 0, 60, 0), 1 - 60 / 200), ((0, 0, 0, 0), 1.0), ((1, 1, 1, 1), 1.0)],
)
def test_the_share_inside_of_a_frame_by_hand(sides: tuple[int, int, int, int], share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    top, bottom, left, right = sides
    for cut in (noise[:top], noise[200 - bottom :], noise[:, :left], noise[:, 200 - right :]):
        cut[...] = (250, 248, 245)
    assert inside_share(noise) == pytest.approx(share)


def test_a_picture_of_one_colour_is_no_frame() -> None:
    assert inside_share(np.full((50, 60, 3), 7, np.uint8)) == 1.0
    assert inside_share(np.full((1, 1, 3), 7, np.uint8)) == 1.0


# Acting


def test_an_action_without_yes_says_what_it_would_do_and_does_nothing(cli: Cli, folder: Path, tmp_path: Path) -> None:
    before = tree(folder)
    told = cli("dedupe", folder, "--action", f"move:{tmp_path / 'out'}")
    assert told.out.count("would move:") == 4
    assert "nothing was done; with --yes, 4 files would be dropped" in told.out
    planned = cli("dedupe", folder, "--action", "hardlink", "--json").json
    assert [Path(one["path"]).name for one in planned["plan"]["drops"]] == ["same.png"]
    assert tree(folder) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("action", ["trash", "move", "hardlink"])
def test_an_action_is_done_and_taken_back(cli: Cli, folder: Path, tmp_path: Path, action: str) -> None:
    before = tree(folder)
    journal = tmp_path / "journal.jsonl"
    what = f"move:{tmp_path / 'out'}" if action == "move" else action
    told = cli("dedupe", folder, "--action", what, "--yes", "--journal", journal)
    count = 1 if action == "hardlink" else 4
    assert f"{count} files dropped, 0 left alone" in told.out
    assert f"to take it back: lookalike dedupe --undo {journal}" in told.out
    assert len(tree(folder)) == (8 if action == "hardlink" else 4)
    if action == "hardlink":
        assert (folder / "astronaut.png").samefile(folder / "more" / "same.png")
    again = cli("dedupe", folder, "--action", what, "--yes", "--json").json
    assert again["outcome"] == {"done": [], "left": [], "journal": None}
    undone = cli("dedupe", "--undo", journal)
    assert f"{count} files are back in their places, 0 are not" in undone.out
    assert tree(folder) == before
    assert not (folder / "astronaut.png").samefile(folder / "more" / "same.png")
    assert f"0 files are back in their places, {count} were back before" in cli("dedupe", "--undo", journal).out


def test_a_file_that_changes_after_the_scan_is_left_alone(
    cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = dedupe.plan_of

    def meanwhile(*arguments: Any) -> Any:
        (folder / "more" / "half.jpg").write_bytes(b"edited meanwhile")
        return planned(*arguments)

    monkeypatch.setattr(dedupe, "plan_of", meanwhile)
    told = cli("dedupe", folder, "--action", f"move:{tmp_path / 'out'}", "--yes")
    assert "3 files dropped, 1 left alone" in told.out
    assert (folder / "more" / "half.jpg").read_bytes() == b"edited meanwhile"


# Memory


def test_what_was_marked_different_is_not_shown_again_whatever_its_name(cli: Cli, folder: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "memory"
    assert len(cli("dedupe", folder, "-g", gallery, "--json").json["drop"]) == 4
    cli("mark", "different", folder / "astronaut.png", folder / "more" / "crop.jpg", "-g", gallery)
    (folder / "more" / "crop.jpg").rename(folder / "other name.jpg")
    told = cli("dedupe", folder, "-g", gallery, "--json").json
    assert {Path(path).name for path in told["drop"]} == {"same.png", "half.jpg", "flip.jpg"}
    assert len(cli("dedupe", folder, "--json").json["drop"]) == 4


def test_what_was_marked_same_is_shown(cli: Cli, folder: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "memory"
    cli("dedupe", folder, "-g", gallery, "--level", "exact")
    cli("mark", "same", folder / "coffee.png", folder / "rocket.png", "-g", gallery)
    told = cli("dedupe", folder, "-g", gallery, "--json").json
    (pair,) = (one for one in told["pairs"] if one["evidence"]["test"] == "marked same")
    assert {Path(pair[side]).name for side in "ab"} == {"coffee.png", "rocket.png"}


def test_a_second_run_decodes_only_what_is_new(cli: Cli, folder: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "memory"
    first = cli("dedupe", folder, "-g", gallery, "--json").json
    assert first["decoded"] == 7  # of two with the same bytes one is enough
    second = cli("dedupe", folder, "-g", gallery, "--json").json
    assert second["decoded"] == 0
    assert (second["groups"], second["pairs"]) == (first["groups"], first["pairs"])
    shutil.copy(folder / "more" / "flip.jpg", folder / "renamed.jpg")
    age(folder / "renamed.jpg")
    photo("coffee").rotate(90, expand=True).save(folder / "turned.png")
    third = cli("dedupe", folder, "-g", gallery, "--json").json
    assert third["decoded"] == 1
    assert {Path(path).name for path in third["drop"]} >= {"renamed.jpg", "turned.png"}


def test_a_second_run_opens_no_picture_at_all(
    cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = tmp_path / "memory"
    first = cli("dedupe", folder, "-g", gallery, "--json").json
    assert first["tested"]["first look"] > 0

    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("a picture was decoded")

    for module in ("scanning", "apps.dedupe", "keeping"):
        for name in ("read", "read_bytes"):
            monkeypatch.setattr(f"lookalike.{module}.{name}", refuse, raising=False)
    assert cli("dedupe", folder, "-g", gallery, "--json").json["groups"] == first["groups"]


def test_a_damaged_memory_is_made_anew(cli: Cli, folder: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "memory"
    first = cli("dedupe", folder, "-g", gallery, "--json").json
    (gallery / "derived" / "copies.db").write_bytes(b"no database" * 1000)
    told = cli("dedupe", folder, "-g", gallery, "--json").json
    assert (told["decoded"], told["groups"]) == (7, first["groups"])


# Out


def test_the_table_is_one_that_a_spreadsheet_opens_and_does_not_run(cli: Cli, folder: Path) -> None:
    shutil.copy(folder / "rocket.png", folder / "=cmd|'calc'!A1.png")
    os.chdir(folder)
    told = cli("dedupe", ".", "--csv")
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert len(rows) == 7
    assert {row["fate"] for row in rows} == {"keep", "drop"}
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    assert {row["group"] for row in rows} == {"1", "2"}
    assert all(isinstance(json.loads(row["evidence"]), dict) for row in rows)


def test_the_page_needs_nothing_else_and_trusts_no_name(cli: Cli, folder: Path, tmp_path: Path) -> None:
    for name in HARMFUL:
        shutil.copy(
            os.fsencode(folder / "rocket.png"), os.fsencode(folder) + b"/" + name.replace(b"/", b"\xe2\x88\x95")
        )
    page = tmp_path / "copies.html"
    assert cli("dedupe", folder, "--html", page).code == 0
    seen = Page(page.read_text())
    assert not seen.of("script")
    assert {str(image["src"])[:16] for image in seen.of("img")} == {"data:image/jpeg;"}
    assert all(str(link["href"]).startswith("#g") for link in seen.of("a"))
    assert all(figure["tabindex"] == "0" for figure in seen.of("figure"))
    assert "Group 2" in seen.text
    assert "resized to 50 %" in seen.text


def test_nothing_found_is_said(cli: Cli, folder: Path) -> None:
    shutil.rmtree(folder / "more")
    told = cli("dedupe", folder, "--level", "near")
    assert told.out == "4 pictures, 0 groups of copies; 0 may go, 0.0 MB\n"


def test_the_threshold_is_printed_with_its_error(cli: Cli, folder: Path) -> None:
    assert "edited copies from a score of 0.75 on: no wrong pair among" in cli("dedupe", folder).out
    assert "edited copies from" not in cli("dedupe", folder, "--level", "near").out


# Leaks


def test_pictures_of_a_test_set_that_were_trained_on_are_found(cli: Cli, folder: Path, tmp_path: Path) -> None:
    train, test = folder / "more", tmp_path / "test"
    test.mkdir()
    for name in ("chelsea", "coffee"):
        shutil.move(folder / f"{name}.png", test)
    clean = cli("leaks", train, test)
    assert (clean.code, "0 of 2 pictures" in clean.out) == (0, True)
    shutil.move(folder / "astronaut.png", test)
    told = cli("leaks", train, test, "--json")
    assert told.code == 11
    assert [Path(path).name for path in told.json["leaked"]] == ["astronaut.png"]
    assert {(Path(pair["a"]).name, pair["kind"]) for pair in told.json["pairs"]} == {
        ("same.png", "exact"),
        ("half.jpg", "near"),
        ("flip.jpg", "near"),
        ("crop.jpg", "edited"),
    }


def test_a_link_is_a_leak_and_so_is_a_copy_of_what_has_a_twin(cli: Cli, folder: Path, tmp_path: Path) -> None:
    train, test = tmp_path / "train", tmp_path / "test"
    train.mkdir()
    test.mkdir()
    os.symlink(folder / "coffee.png", train / "a.png")
    os.symlink(folder / "coffee.png", test / "b.png")
    # Twins in both sets, and a near copy of them in one: it leaks too, whichever twin stands for both.
    shutil.copy(folder / "astronaut.png", train / "twin.png")
    shutil.copy(folder / "astronaut.png", test / "twin.png")
    shutil.copy(folder / "more" / "half.jpg", test / "half.jpg")
    told = cli("leaks", train, test, "--json").json
    assert {(Path(one["a"]).name, Path(one["b"]).name) for one in told["pairs"]} == {
        ("a.png", "b.png"),
        ("twin.png", "twin.png"),
        ("twin.png", "half.jpg"),
    }


def test_sets_that_cannot_be_compared_are_refused(cli: Cli, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "lie in one another" in cli("leaks", folder, folder / "more").err
    assert f"no picture in {tmp_path / 'empty'}" in cli("leaks", folder, tmp_path / "empty").err
    assert "No such file" in cli("leaks", folder, tmp_path / "nowhere").err


# Bad input


def test_without_the_extra_the_command_is_told_before_any_work(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.copies.local_features.find_spec", lambda name: None)
    with monkeypatch.context() as patch:
        patch.setattr("lookalike.scanning.read_bytes", None)
        told = cli("dedupe", folder)
    assert (told.code, "pip install 'lookalike[dedupe]'" in told.err) == (2, True)
    assert len(cli("dedupe", folder, "--level", "near", "--json").json["drop"]) == 3


def test_what_is_wrong_is_told_with_the_way_out(cli: Cli, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    wrong = {
        "cannot open": ("dedupe", tmp_path / "nowhere"),
        f"no picture in {tmp_path / 'empty'}": ("dedupe", tmp_path / "empty"),
        "name a FOLDER to look for copies in": ("dedupe",),
        "--yes does what --action says": ("dedupe", folder, "--yes"),
        "no action 'burn'; known: trash, move:DIR (a folder), hardlink": ("dedupe", folder, "--action", "burn"),
        "--csv or --json: one of the two": ("dedupe", folder, "--csv", "--json"),
        "it goes without FOLDER and --action": ("dedupe", folder, "--undo", "journal"),
        "it ends in .html or .htm": ("dedupe", folder, "--html", folder / "astronaut.png"),
        "no encoder named 'none'": ("dedupe", folder, "--encoder", "none"),
        "nowhere": ("dedupe", folder, "--reference", tmp_path / "nowhere"),
        "journal.jsonl": ("dedupe", "--undo", tmp_path / "journal.jsonl"),
    }
    before = tree(folder)
    for told, arguments in wrong.items():
        ran = cli(*arguments)
        assert (ran.code, told in ran.err) == (2, True), (told, ran.err)
    assert tree(folder) == before
