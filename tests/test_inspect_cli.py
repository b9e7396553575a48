"""``lookalike inspect``: fit, run and add from files, what they print, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data

from conftest import Cli
from lookalike.inspecting import Inspector

SIDE = 96


def save(pixels: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return path


def brick(rng: np.random.Generator) -> np.ndarray:
    whole = skimage.data.brick()
    y, x = rng.integers(0, len(whole) - SIDE, 2)
    return whole[y : y + SIDE, x : x + SIDE]


def scratched(rng: np.random.Generator) -> np.ndarray:
    pixels = brick(rng).copy()
    pixels[40:54, 30:44] = rng.choice([0, 255], (14, 14))
    return pixels


@pytest.fixture
def good(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for number in range(20):
        save(brick(rng), tmp_path / "good" / f"{number:02}.png")
    (tmp_path / "good" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    return tmp_path / "good"


@pytest.fixture
def fitted(good: Path, tmp_path: Path, cli: Cli) -> Path:
    output = tmp_path / "wall.inspector"
    ran = cli("inspect", "fit", str(good), "--as", str(output), "--json")
    assert ran.code == 0, ran.err
    told = ran.json
    assert told["method"] == "surface"
    assert told["good_pictures"] == 20
    assert told["false_alarm_rate"] == pytest.approx(1 / 21)
    assert [Path(one["path"]).name for one in told["skipped"]] == ["broken.png"]
    assert told["bytes"] == output.stat().st_size < 50e6
    return output


def test_a_run_tells_defects_with_boxes_and_writes_heatmaps_and_a_page(fitted: Path, tmp_path: Path, cli: Cli) -> None:
    rng = np.random.default_rng(2)
    bad, fine = (
        save(scratched(rng), tmp_path / "new" / "<b>bad.png"),
        save(brick(np.random.default_rng(1)), tmp_path / "new" / "same-as-00.png"),
    )
    heat, page = tmp_path / "heat", tmp_path / "found.html"
    ran = cli(
        "inspect", "run", str(fitted), str(bad), str(fine), str(tmp_path / "good" / "broken.png"),
        "--heatmaps", str(heat), "--html", str(page), "--json",
    )  # fmt: skip
    assert ran.code == 11, ran.err
    first, second = ran.json["decisions"]
    assert first.keys() == {
        "path", "defective", "verdict", "score", "threshold", "false_alarm_rate", "reason", "regions", "evidence",
    }  # fmt: skip
    assert (first["path"], first["defective"], first["verdict"]) == (str(bad), True, "no_match")
    assert first["score"] > first["threshold"]
    box = first["regions"][0]["box"]
    assert box[0] < 37 < box[0] + box[2]
    assert box[1] < 47 < box[1] + box[3]
    assert [test["metric"] for test in first["evidence"]] == ["patches", "whole", "detail"]
    assert (second["defective"], second["verdict"], second["regions"]) == (False, "match", [])
    assert "broken.png" in ran.json["skipped"][0]["path"]
    assert sorted(one.name for one in heat.iterdir()) == ["<b>bad.png.heat.jpg", "same-as-00.png.heat.jpg"]
    html = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;bad.png" in html
    assert "<b>bad.png" not in html
    assert "1 of 2 pictures are defective" in html


def test_without_a_defect_the_exit_code_is_0_and_lines_say_why(fitted: Path, good: Path, cli: Cli) -> None:
    ran = cli("inspect", "run", str(fitted), str(good / "00.png"))
    assert ran.code == 0
    assert "like the good pictures" in ran.out
    assert "0 of 1 pictures are defective" in ran.out


def test_more_good_pictures_are_added_in_place(fitted: Path, tmp_path: Path, cli: Cli) -> None:
    rng = np.random.default_rng(3)
    for number in range(5):
        save(brick(rng), tmp_path / "more" / f"{number}.png")
    ran = cli("inspect", "add", str(fitted), str(tmp_path / "more"), "--json")
    assert ran.code == 0, ran.err
    assert ran.json["good_pictures"] == 25
    again = cli("inspect", "add", str(fitted), str(tmp_path / "more"))
    assert again.code == 2
    assert "no good picture to add; left out first" in again.err
    assert "the same picture was learned already" in again.err
    save(brick(rng), tmp_path / "more" / "5.png")
    third = cli("inspect", "add", str(fitted), str(tmp_path / "more"), "--json").json
    assert (third["good_pictures"], len(third["skipped"])) == (26, 5)


def test_a_template_for_each_picture_comes_from_a_map(tmp_path: Path, cli: Cli) -> None:
    rng, lines = np.random.default_rng(4), ["path,template"]
    for number in range(4):
        whole = brick(np.random.default_rng(number)).repeat(2, axis=0).repeat(2, axis=1)
        save(whole, tmp_path / "golden" / f"{number}.png")
        save(whole + rng.normal(0, 2, whole.shape), tmp_path / "good" / f"{number}.png")
        lines.append(f"good/{number}.png,golden/{number}.png")
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("\n".join(lines))
    output = tmp_path / "parts.inspector"
    ran = cli("inspect", "fit", str(tmp_path / "good"), "--as", str(output), "--template-map", str(pairs), "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["method"], ran.json["good_pictures"], ran.json["false_alarm_rate"]) == ("template", 4, 0.2)
    whole = brick(np.random.default_rng(2)).repeat(2, axis=0).repeat(2, axis=1).copy()
    whole[80:100, 80:100] = 255 - whole[80:100, 80:100]
    bad = save(whole, tmp_path / "bad.png")
    # Its templates are kept, and the one that fits is found.
    found = cli("inspect", "run", str(output), str(bad), "--json")
    assert found.code == 11
    x, y, width, height = found.json["decisions"][0]["regions"][0]["box"]
    assert x < 90 < x + width
    assert y < 90 < y + height
    named = cli("inspect", "run", str(output), str(bad), "--template", str(tmp_path / "golden" / "2.png"), "--json")
    assert named.json["decisions"][0]["defective"] is True
    unnamed = cli("inspect", "run", str(output), str(bad), "--template-map", str(pairs))
    assert unnamed.code == 2
    assert "names no template for it" in unnamed.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("fit", "nowhere", "--as", "x.inspector"), "cannot open nowhere"),
        (("fit", "empty", "--as", "x.inspector"), "no picture in empty"),
        (("fit", "one", "--as", "x.inspector"), "1 good picture is too few"),
        (("fit", "good", "--as", "x.png"), "ends in .inspector"),
        (("fit", "good", "--as", "missing/x.inspector"), "its folder is not there"),
        (("fit", "good", "--as", "x.inspector", "--false-alarm-rate", "0.001"), "it takes 999"),
        (("fit", "good", "--as", "x.inspector", "--encoder", "color-histogram"), "shows no feature maps"),
        (("fit", "good", "--as", "x.inspector", "--encoder", "nothing"), "no encoder named 'nothing'"),
        (("fit", "good", "--as", "x.inspector", "--template", "gone.png"), "cannot read gone.png"),
        (("fit", "good", "--as", "x.inspector", "--template", "a", "--template-map", "b"), "one of the two"),
        (("fit", "good", "--as", "x.inspector", "--template-map", "gone.csv"), "gone.csv"),
        (("fit", "good", "--as", "x.inspector", "--mask", "gone.png"), "cannot read gone.png"),
        (("fit", "good", "--as", "x.inspector", "--mask", "black.png"), "mask black.png has nothing white"),
        (("fit", "good", "--as", "x.inspector", "--mask", "wide.png"), "the mask 80x40: another shape"),
        (("run", "gone.inspector", "good"), "cannot read the inspector gone.inspector"),
        (("run", "good/00.png", "good"), "is no inspector of lookalike"),
        (("add", "gone.inspector", "good"), "cannot read the inspector"),
    ],
)
def test_bad_input_is_told_in_one_line(
    arguments: tuple[str, ...], told: str, good: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    save(brick(np.random.default_rng(5)), tmp_path / "one" / "a.png")
    save(np.zeros((SIDE, SIDE)), tmp_path / "black.png")
    save(np.repeat([[255], [0]], 20, axis=0).repeat(80, axis=1), tmp_path / "wide.png")
    ran = cli("inspect", *arguments)
    assert ran.code == 2
    assert told in ran.err
    assert not (tmp_path / "x.inspector").exists()


def test_a_frame_of_another_size_is_unknown_and_the_run_goes_on(fitted: Path, tmp_path: Path, cli: Cli) -> None:
    other = save(np.full((50, 200), 90), tmp_path / "wide.png")
    fine = tmp_path / "good" / "03.png"
    ran = cli("inspect", "run", str(fitted), str(other), str(fine), "--json")
    assert ran.code == 0
    first, second = ran.json["decisions"]
    assert (first["defective"], first["verdict"], first["score"]) == (None, "unknown", None)
    assert second["defective"] is False
    told = cli("inspect", "run", str(fitted), str(other), str(fine))
    assert "0 of 2 pictures are defective, 1 cannot be judged" in told.out


def test_an_interrupted_fit_leaves_the_old_inspector(
    fitted: Path, good: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fitted.read_bytes()

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Inspector, "fit", stop)
    assert cli("inspect", "fit", str(good), "--as", str(fitted)).code == 130
    assert fitted.read_bytes() == before
    assert [one.name for one in fitted.parent.iterdir() if one.name.startswith(".wall")] == []


def test_heatmaps_of_one_name_do_not_replace_each_other(fitted: Path, good: Path, tmp_path: Path, cli: Cli) -> None:
    again = save(np.asarray(PIL.Image.open(good / "01.png")), tmp_path / "elsewhere" / "01.png")
    heat = tmp_path / "heat"
    cli("inspect", "run", str(fitted), str(good / "01.png"), str(again), "--heatmaps", str(heat))
    assert sorted(one.name for one in heat.iterdir()) == ["01.png-2.heat.jpg", "01.png.heat.jpg"]


def test_only_what_is_white_in_a_mask_is_inspected(good: Path, tmp_path: Path, cli: Cli) -> None:
    mask = np.zeros((SIDE, SIDE))
    mask[:, 48:] = 255
    output = tmp_path / "right.inspector"
    ran = cli("inspect", "fit", str(good), "--as", str(output), "--mask", str(save(mask, tmp_path / "mask.png")))
    assert ran.code == 0, ran.err
    assert "50% of the picture inspected" in ran.out
    left = save(scratched(np.random.default_rng(2)), tmp_path / "left.png")
    right = save(scratched(np.random.default_rng(2))[:, ::-1], tmp_path / "right.png")
    found = cli("inspect", "run", str(output), str(left), str(right), "--json").json["decisions"]
    assert [one["defective"] for one in found] == [False, True]
    new = save(brick(np.random.default_rng(7)), tmp_path / "new.png")
    more = cli("inspect", "add", str(output), str(new), "--json").json
    assert (more["inspected"], more["sizes"]) == (0.5, [SIDE] * 4)


def test_good_pictures_of_several_sizes_are_told(good: Path, tmp_path: Path, cli: Cli) -> None:
    save(np.tile(brick(np.random.default_rng(6)), (2, 2)), good / "large.png")
    ran = cli("inspect", "fit", str(good), "--as", str(tmp_path / "x.inspector"))
    assert ran.code == 0
    assert f"warning: the good pictures are {SIDE}x{SIDE} to {2 * SIDE}x{2 * SIDE} pixels" in ran.err


def test_a_picture_or_a_template_that_is_not_there_is_a_line_and_the_rest_is_done(
    fitted: Path, tmp_path: Path, cli: Cli
) -> None:
    ran = cli("inspect", "run", str(fitted), str(tmp_path / "good" / "00.png"), "gone.png", "--json")
    assert (ran.code, len(ran.json["decisions"])) == (0, 1)
    assert ran.json["skipped"] == [{"path": "gone.png", "reason": "No such file or directory"}]
    whole = brick(np.random.default_rng(2)).repeat(2, axis=0).repeat(2, axis=1)
    for number, name in enumerate(("a.png", "b.png")):
        save(whole + number, tmp_path / "parts" / name)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("path,template\nparts/a.png,parts/a.png\nparts/b.png,gone.png\n")
    output = str(tmp_path / "parts.inspector")
    made = cli("inspect", "fit", str(tmp_path / "parts"), "--as", output, "--template-map", str(pairs), "--json")
    assert (made.code, made.json["good_pictures"]) == (0, 1)
    assert made.json["skipped"][0]["path"] == str(tmp_path / "parts" / "b.png")
    assert "gone.png" in made.json["skipped"][0]["reason"]
