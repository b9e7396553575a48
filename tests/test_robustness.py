"""Robustness: hand-worked recall, viewpoints by a naive loop, what is switched on, refusals, the page, the verb."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from conftest import Cli
from lookalike import registry
from lookalike.apps import robustness as app
from lookalike.apps.robustness import CHANGES, robustness
from lookalike.changing import (
    VIEWPOINT,
    Point,
    advice,
    by_change,
    changed_point,
    gained,
    over_all,
    references,
    steps,
    viewpoint_points,
    winners,
)
from lookalike.edits import Edit
from lookalike.errors import ConfigError, InputError, UnknownComponent
from lookalike.report_robustness import STRENGTHS
from lookalike.types import Embeddings, Image, Space


def test_recall_and_scores_by_hand() -> None:
    originals = np.eye(3, dtype=np.float32)
    changed = np.array([[0.8, 0.6, 0], [0.6, 0.8, 0], [0.8, 0, 0.6]], np.float32)
    found = changed_point("x", 1, originals, changed)
    assert found.recall == pytest.approx(2 / 3)
    assert found.score == pytest.approx((0.8 + 0.8 + 0.6) / 3)
    assert found.margin == pytest.approx((0.2 + 0.2 - 0.2) / 3)
    same = changed_point("x", 1, np.ones((2, 1), np.float32), np.ones((2, 1), np.float32))
    assert same.recall == 0  # equally near is not found


class MeanBrightness:
    """Sees how light a picture is, and nothing else."""

    space = Space("mean", "1", "none", 2)
    at_least = None

    def encode(self, images: Sequence[Image]) -> Embeddings:
        angles = np.array([image.pixels.mean() / 255 for image in images])
        return Embeddings.from_raw(np.stack([np.cos(angles), np.sin(angles)], axis=1), self.space)


def test_what_an_encoder_cannot_see_does_not_move_it(crops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "encoder", lambda _name: MeanBrightness())
    found = {(one.change, one.strength): one for one in robustness(str(crops), ["mean"]).points["mean"]}
    assert found["mirror", 1].score == pytest.approx(1, abs=1e-6)
    assert found["mirror", 1].recall > 0.9  # two crops are all but equally light
    assert found["darker", 2.5].recall < 0.5
    assert found["darker", 2.5].score < found["darker", 1.3].score < 1


def test_a_real_encoder_loses_more_the_stronger_a_change_is(crops: Path) -> None:
    result = robustness(str(crops), ["color-histogram", "efficientnet-lite0"])
    assert result.pictures == 40
    for name, points in result.points.items():
        assert [(one.change, one.strength) for one in points] == [
            (change, strength) for change, steps in CHANGES.items() for strength, _ in steps
        ]
        by = {(one.change, one.strength): one for one in points}
        for change, mild, severe in (("noise", 5, 40), ("blur", 0.5, 4), ("crop", 0.9, 0.25), ("occlusion", 0.1, 0.5)):
            assert by[change, mild].score > by[change, severe].score
        assert -1 <= result.different[name] < min(by["jpeg", 80].score, by["noise", 5].score)
    assert result.as_dict() == robustness(str(crops), ["color-histogram", "efficientnet-lite0"]).as_dict()


def test_new_edits_do_what_they_say() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    assert Edit("scale", {"share": 0.25}).apply(pixels, np.random.default_rng(0)).shape == (10, 15, 3)
    hidden = Edit("occlusion", {"area": 0.25}).apply(pixels, np.random.default_rng(0))
    changed = (hidden != pixels).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 30)
    assert (hidden[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 127).all()


# Viewpoints


def circular(a: float, b: float) -> float:
    """Return the angle between two directions, by their vectors."""
    one, other = (complex(math.cos(math.radians(x)), math.sin(math.radians(x))) for x in (a, b))
    return math.degrees(math.acos(max(-1.0, min(1.0, (one * other.conjugate()).real))))


def test_viewpoints_are_those_of_a_naive_loop() -> None:
    rng = np.random.default_rng(3)
    labels, angles, rows = [], [], []
    for label in range(12):
        center = rng.normal(size=8)
        for angle in rng.permutation([350, 40, 90, 200, 300])[: rng.integers(2, 6)]:
            labels.append(f"thing {label}")
            angles.append(float(angle))
            rows.append(center + rng.normal(size=8))
    vectors = Embeddings.from_raw(np.array(rows, np.float32), Space("x", "1", "none", 8)).vectors

    reference: dict[str, int] = {}
    for row, label in enumerate(labels):
        if label not in reference or circular(angles[row], 0) < circular(angles[reference[label]], 0):
            reference[label] = row
    right: dict[float, list[bool]] = {}
    scores: dict[float, list[float]] = {}
    margins: dict[float, list[float]] = {}
    for row, label in enumerate(labels):
        if row == reference[label]:
            continue
        cosines = {other: float(np.dot(vectors[row], vectors[at])) for other, at in reference.items()}
        own, rest = cosines[label], max(value for other, value in cosines.items() if other != label)
        strength = round(circular(angles[row], angles[reference[label]]), 1)
        right.setdefault(strength, []).append(own > rest)
        scores.setdefault(strength, []).append(own)
        margins.setdefault(strength, []).append(own - rest)

    found = viewpoint_points(vectors, labels, angles)
    assert [point.strength for point in found] == sorted(right)
    assert 0 < np.mean([point.recall for point in found]) < 1
    for point in found:
        assert point.change == VIEWPOINT
        assert point.recall == pytest.approx(np.mean(right[point.strength]))
        assert point.score == pytest.approx(np.mean(scores[point.strength]), abs=1e-6)
        assert point.margin == pytest.approx(np.mean(margins[point.strength]), abs=1e-6)
        assert len(point.found) == len(right[point.strength])


def test_the_reference_is_nearest_to_0_on_the_circle_whatever_the_order() -> None:
    labels, angles = ["a", "a", "a", "b", "b"], [90.0, 355.0, 20.0, 330.0, 30.0]
    assert references(labels, angles) == {"a": 1, "b": 4}
    assert references(labels, [angle - 720 for angle in angles]) == {"a": 1, "b": 4}


def test_angles_are_kept_as_they_occur_and_rounded_where_there_are_more_than_eight() -> None:
    assert steps(np.array([30, 60.04, 90, 150])).tolist() == [30, 60, 90, 150]
    everywhere = steps(np.arange(0, 181, 5.0))
    assert np.unique(everywhere).tolist() == [0, 30, 60, 90, 120, 150, 180]
    assert steps(np.arange(1, 30.0))[[0, 13, 28]].tolist() == [0, 15, 30]
    for few in (np.arange(0, 40, 0.7), np.arange(0, 16, 2.0)):
        rounded = steps(few)
        assert len(np.unique(rounded)) <= 8
        assert np.abs(rounded - few).max() <= 15


# What to switch on


def point(change: str, found: Sequence[int], units: Sequence[int] | None = None, strength: float = 1) -> Point:
    of = tuple(units or range(len(found)))
    return Point(change, strength, float(np.mean(found)), 0.5, 0.1, tuple(map(bool, found)), of)


def test_a_gain_and_its_error_are_those_of_a_paired_sample() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random((2, 3, 40)) < np.array([0.5, 0.7])[:, None, None]
    first, other = ([point("blur", of, strength=n) for n, of in enumerate(found)] for found in (before, after))
    differences = after.mean(axis=0) - before.mean(axis=0)
    gain, error = gained(first, other, "blur")
    assert gain == pytest.approx(differences.mean())
    assert error == pytest.approx(differences.std(ddof=1) / math.sqrt(40))


def test_pictures_of_one_label_are_no_independent_pictures() -> None:
    first, other = (
        [point(VIEWPOINT, [0] * 8, [0] * 4 + [1] * 4)],
        [point(VIEWPOINT, [1] * 4 + [0] * 4, [0] * 4 + [1] * 4)],
    )
    assert gained(first, other, VIEWPOINT) == (pytest.approx(0.5), pytest.approx(0.5))  # two labels, not eight pictures


def test_every_kind_counts_the_same_over_all_and_every_picture_in_a_kind() -> None:
    points = [point("a", [1, 1, 1, 0]), point("a", [0] * 12, strength=2), point("b", [1])]
    assert by_change(points)["a"].recall == pytest.approx(3 / 16)
    assert over_all(points).recall == pytest.approx((3 / 16 + 1) / 2)


def test_what_helps_is_told_and_what_may_be_chance_is_not() -> None:
    plain = [point("noise", [0] * 20 + [1] * 80), point("blur", [0] * 20 + [1] * 80)]
    mended = [point("noise", [1] * 100), point("blur", [1] * 2 + [0] * 18 + [1] * 80)]
    worse = [point("noise", [0] * 50 + [1] * 50), point("blur", [0] * 100)]
    (best,) = winners({"plain": plain, "mended": mended, "worse": worse})
    assert (best.change, best.encoder, best.gain) == ("noise", "mended", pytest.approx(0.2))
    overall, by_kind = advice({"plain": plain, "mended": mended, "worse": worse})
    assert overall == "Over all changes mended finds most: 0.910 recall@1, +0.110 against plain."
    assert by_kind.startswith("Switch on mended for noise (+0.200). By every other change nothing is better than plain")
    assert advice({"plain": plain, "worse": worse})[0].startswith(
        "Over all changes nothing finds more than plain (0.800"
    )
    assert "encoders vary" in advice({"plain": plain})[0]


def test_too_few_pictures_and_unknown_encoders_are_refused(tmp_path: Path, crops: Path) -> None:
    with pytest.raises(InputError, match=r"0 pictures in .* are too few"):
        robustness(str(_empty(tmp_path)))
    with pytest.raises(InputError, match="nowhere"):
        robustness(str(tmp_path / "nowhere"))
    with pytest.raises(UnknownComponent, match="nothing"):
        robustness(str(crops), ["nothing"])


def _empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_the_verb(cli: Cli, crops: Path) -> None:
    (crops / "broken.png").write_bytes(b"no picture")
    found = cli("robustness", crops, "--encoder", "color-histogram", "--json").json
    assert found["pictures"] == 40
    (broken,) = found["skipped"]
    assert broken["path"] == str(crops / "broken.png")
    assert broken["reason"].startswith("not a picture")
    (encoder,) = found["encoders"]
    assert {"change", "strength", "recall@1", "score", "margin", "pictures"} == set(encoder["points"][0])
    assert encoder["unchanged"]["recall@1"] == 1
    assert (found["viewed"], found["best"]) == (0, [])
    assert found["command"] == f"lookalike robustness {crops} --encoder color-histogram"
    text = cli("robustness", crops, "--encoder", "color-histogram")
    assert "rotation" in text.out
    assert "broken.png" in text.err
    assert cli("robustness", crops / "nowhere").code == 2
    assert "Only color-histogram was measured" in text.out


# Files with angles


@pytest.fixture
def turned(tmp_path: Path) -> Path:
    """Four labels at four angles, told apart by how light they are; a picture that lacks, one alone, one ignored."""
    folder = tmp_path / "turned"
    folder.mkdir()
    lines = ["path,label,degrees,ignore"]
    for label in range(4):
        for number, angle in enumerate((350, 50, 110, 170)):
            level = 20 + 60 * label + 4 * number
            # At the last angle the third looks like the fourth does at its first.
            level = 202 if (label, number) == (2, 3) else level
            PIL.Image.new("RGB", (40, 40), (level,) * 3).save(folder / f"{label}-{angle}.png")
            lines.append(f"{label}-{angle}.png,label {label},{angle},")
    PIL.Image.new("RGB", (40, 40), (250,) * 3).save(folder / "alone.png")
    lines += ["alone.png,alone,0,", "gone.png,label 0,10,", "0-50.png,label 0,50,", "1-50.png,label 1,50,"]
    PIL.Image.new("RGB", (40, 40)).save(folder / "ignored.png")
    lines.append("ignored.png,label 9,0,1")
    (folder / "views.csv").write_text("\n".join(lines) + "\n")
    return folder / "views.csv"


@pytest.fixture
def lightness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every encoder sees how light a picture is; two changes are enough."""
    monkeypatch.setattr(registry, "encoder", lambda _name: MeanBrightness())
    monkeypatch.setattr(app, "CHANGES", {name: CHANGES[name] for name in ("brightness", "mirror")})


@pytest.mark.usefixtures("lightness")
def test_a_file_with_angles_adds_the_viewpoint(cli: Cli, turned: Path) -> None:
    found = cli("robustness", turned, "--encoder", "mean", "--angle", "degrees", "--json").json
    points = {(one["change"], one["strength"]): one for one in found["encoders"][0]["points"]}
    of_view = {strength: one["recall@1"] for (change, strength), one in points.items() if change == VIEWPOINT}
    assert of_view == {60: 1, 120: 1, 180: 0.75}
    assert {points[VIEWPOINT, strength]["pictures"] for strength in of_view} == {4}
    assert (found["pictures"], found["viewed"]) == (17, 17)
    assert found["notes"] == [
        "labels with one picture, which others may be taken for and which is not looked for itself: alone"
    ]
    assert [Path(one["path"]).name for one in found["skipped"]] == ["0-50.png", "1-50.png", "gone.png"]
    assert found["command"].endswith("--encoder mean --angle degrees")
    assert "viewpoint" in cli("robustness", turned, "--encoder", "mean", "--angle", "degrees").out


@pytest.mark.usefixtures("lightness")
def test_rows_come_as_jsonl_and_a_broken_picture_is_told_also_where_the_lot_left_it_out(
    turned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "AT_MOST", 11)
    rows = [
        {"path": f"{label}-{angle}.png", "label": label, "angle": angle}
        for label in range(4)
        for angle in (350, 50, 110)
    ]
    file = turned.parent / "views.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    left_out = rows[np.random.default_rng(0).permutation(12)[-1]]
    (turned.parent / str(left_out["path"])).write_bytes(b"no picture")
    found = robustness(str(file), ["a", "b"])
    assert (found.pictures, found.viewed, len(found.skipped)) == (11, 11, 1)
    assert found.points["a"] == found.points["b"]


@pytest.mark.usefixtures("lightness")
@pytest.mark.parametrize(
    ("text", "angle", "said"),
    [
        ("path,label\n0-50.png,a\n", None, "views.csv has no column 'angle'; its first line names: 'path', 'label'"),
        ("path,label,angle\n0-50.png,a,left\n", None, "views.csv line 2: 'angle' is a number, got 'left'"),
        ("path,label,angle\n0-50.png,a,nan\n", None, "line 2: 'angle' is a number, got 'nan'"),
        ("path,label,angle\n0-50.png,a,\n", None, "line 2: no value for the column 'angle'"),
        ("path,label,angle\n0-50.png,a,1\n0-50.png,a,2\n", None, "line 3: 0-50.png has another 'angle' in line 2"),
        ("path,label,angle\n0-50.png,a,1\n1-50.png,a,2\n", None, "1 label: there is nothing else to take it for"),
        ("path,label,angle\n0-50.png,a,1\n1-50.png,b,2\n", None, "each label of .* has one picture"),
        ("path,label,angle\n0-50.png,a,1\n1-50.png,b,2\n1-110.png,b,3\n", None, "3 pictures in .* are too few"),
        ("path,label,angle\n0-50.png,a,1\n", "turn", "has no column 'turn'; .*: --angle names another"),
    ],
)
def test_angles_that_tell_nothing_are_refused_with_clear_words(
    turned: Path, text: str, angle: str | None, said: str
) -> None:
    turned.write_text(text)
    with pytest.raises(InputError, match=said):
        robustness(str(turned), ["mean"], angle=angle)


def test_wrong_choices_are_refused(cli: Cli, crops: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder, which tells no angles"):
        robustness(str(crops), angle="angle")
    with pytest.raises(ConfigError, match="'color-histogram' is named twice"):
        robustness(str(crops), ["color-histogram"] * 2)
    with pytest.raises(ConfigError, match="name at least one encoder"):
        robustness(str(crops), [])
    with pytest.raises(ConfigError, match=r"ends in .html or .htm"):
        robustness(str(crops), html="page.png")
    assert cli("robustness", tmp_path / "none.csv").code == 2


def test_variants_with_views_and_mending_stand_beside_the_plain_encoder(
    cli: Cli, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "CHANGES", {name: CHANGES[name] for name in ("warm light", "mirror")})
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('size = 224\naugment = ["flip"]\n')
    mended = 'denoise = "median"\nwhite_balance = "grey-world"\nequalize = "clahe"\nfit = "pad"\n'
    assert cli("encoders", "vary", "efficientnet-lite0", "--recipe", recipe, "--as", "lite0-flip").code == 0
    recipe.write_text(f'size = 224\naugment = ["crops", "rotations"]\n{mended}')
    assert cli("encoders", "vary", "efficientnet-lite0", "--recipe", recipe, "--as", "lite0-mended").code == 0
    found = robustness(str(crops), ["efficientnet-lite0", "lite0-flip", "lite0-mended"])
    mirrored = {name: points[-1].score for name, points in found.points.items()}
    assert mirrored["lite0-flip"] == pytest.approx(1, abs=1e-4)
    assert mirrored["efficientnet-lite0"] < 0.999
    warm = {name: points[2].score for name, points in found.points.items()}
    assert warm["lite0-mended"] > warm["efficientnet-lite0"] + 0.02  # a grey world has no warm light


# The page


class Balanced(HTMLParser):
    """Reads a page: every element is closed where it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read_page(page: Path) -> Balanced:
    parsed = Balanced()
    parsed.feed(page.read_text(encoding="utf-8"))
    parsed.close()
    assert parsed.open == []
    return parsed


@pytest.mark.usefixtures("lightness")
def test_the_page_is_whole_self_contained_and_trusts_no_name(cli: Cli, turned: Path) -> None:
    hostile = "<script>alert(1)</script>"
    with turned.open("a") as file:
        file.write("<img src=x onerror=alert(2)>.png,<b>bold</b>,0,\n")
    page = turned.parent / "page.html"
    ran = cli("robustness", turned, "--encoder", f"plain,{hostile}", "--angle", "degrees", "--html", page)
    assert (ran.code, ran.err.splitlines()[0]) == (0, f"report: {page}")
    parsed, text = read_page(page), page.read_text()
    tags = [tag for tag, _ in parsed.seen]
    assert {"script", "img", "b", "link", "iframe", "image"}.isdisjoint(tags)
    assert hostile in parsed.texts
    assert not re.search(
        r"(src|href)=|url\(|@import|https?:", re.sub(r"<pre>.*?</pre>|<p>.*?</p>", "", text, flags=re.S)
    )
    assert "default-src 'none'" in text
    assert tags.count("polyline") == 2 * 2 * 3  # recall and score, encoders, kinds of change
    assert "onerror=alert(2)&gt;.png: no such file" in text


@pytest.mark.usefixtures("lightness")
def test_the_page_draws_what_was_measured(turned: Path) -> None:
    page = turned.parent / "page.html"
    found = robustness(str(turned), ["mean"], angle="degrees", html=str(page))
    parsed = read_page(page)
    told = [text for text in parsed.texts if text.startswith("mean, ")]
    for one in found.points["mean"]:
        name = "mirror" if one.change == "mirror" else f"{one.strength:g}"
        assert f"mean, {name}: {one.recall:.3f}" in told
        assert f"mean, {name}: {one.score:.3f}" in told
    # Brightness: half as light at the left, unchanged in the middle, one and a half times at the right.
    line = next(attributes["points"] for tag, attributes in parsed.seen if tag == "polyline")
    assert line is not None
    places = [tuple(map(float, place.split(","))) for place in line.split()]
    assert [x for x, _ in places] == [0, 57.5, 115, 172.5, 230]
    assert places[2][1] == 0  # recall@1 is 1 without any change


def test_every_change_has_a_name_for_its_strengths() -> None:
    assert set(STRENGTHS) == {*CHANGES, VIEWPOINT}
