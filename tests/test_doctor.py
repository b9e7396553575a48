"""The doctor: planted faults are found and named, sound galleries are left in peace, numbers equal naive ones."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Cli
from lookalike import doctoring
from lookalike.apps.doctor import WRONG_LABEL, Diagnosis, doctor
from lookalike.apps.gathering import AT_MOST, Gathered
from lookalike.apps.suggest import suggest
from lookalike.errors import ConfigError, InputError
from lookalike.gallery import Gallery
from lookalike.types import Item


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def world(seed: int, classes: int = 8, each: int = 12, dim: int = 24) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(classes, dim))
    rows = np.repeat(places, each, axis=0) + 0.35 * rng.normal(size=(classes * each, dim))
    return unit(rows), [f"label {row // each}" for row in range(classes * each)]


# Numbers


@pytest.mark.parametrize("seed", range(5))
def test_flipped_labels_have_the_largest_margins(seed: int) -> None:
    vectors, labels = world(seed)
    rng = np.random.default_rng(seed)
    flipped = rng.permutation(len(labels))[:5]
    for row in flipped:
        labels[row] = rng.choice([name for name in sorted(set(labels)) if name != labels[row]])
    margins = doctoring.label_margins(vectors, labels)
    assert set(np.argsort(-margins)[:5]) == set(flipped)
    assert (margins[flipped] > WRONG_LABEL).all()
    assert (margins > WRONG_LABEL).sum() == 5


def test_margins_say_nothing_of_one_label_or_of_a_single_picture() -> None:
    vectors, labels = world(0)
    assert np.isneginf(doctoring.label_margins(vectors, ["one"] * len(labels))).all()
    labels[3] = "alone"
    margins = doctoring.label_margins(vectors, labels)
    assert np.isneginf(margins[3])
    assert np.isfinite(np.delete(margins, 3)).all()
    assert doctoring.label_margins(vectors[:1], labels[:1]).tolist() == [-math.inf]
    assert doctoring.label_margins(vectors[:0], []).shape == (0,)


def test_strangers_are_far_from_everything_and_others_are_not() -> None:
    vectors, _ = world(1)
    foreign = unit(np.random.default_rng(9).normal(size=(3, 24)) * np.linspace(-3, 3, 24))
    found = doctoring.strangeness(np.concatenate([vectors, foreign]))
    assert (found[-3:] > 5).all()
    assert (found[:-3] < 5).all()
    assert doctoring.strangeness(vectors[:1]).tolist() == [0.0]


def test_the_effective_number_by_hand() -> None:
    assert doctoring.effective_number(np.eye(4, dtype=np.float32)) == pytest.approx(4)
    assert doctoring.effective_number(np.repeat(np.eye(4, dtype=np.float32)[:1], 7, axis=0)) == pytest.approx(1)
    # Three of one thing and one of another: exp of the entropy of (3/4, 1/4).
    rows = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    want = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert doctoring.effective_number(rows) == pytest.approx(want)
    assert doctoring.effective_number(rows[:0]) == 0


@given(st.integers(1, 20), st.integers(2, 9), st.integers(0, 9))
def test_the_effective_number_lies_between_one_and_all_whatever_the_order(count: int, dim: int, seed: int) -> None:
    rows = unit(np.random.default_rng(seed).normal(size=(count, dim)))
    found = doctoring.effective_number(rows)
    assert 1 - 1e-6 <= found <= min(count, dim) + 1e-6
    assert doctoring.effective_number(rows[::-1]) == pytest.approx(found)


def test_copies_and_hubs_equal_naive_loops() -> None:
    vectors, _ = world(2, 4, 6)
    prints, _ = world(3, 12, 2, 40)
    vectors[5], prints[9] = vectors[3], prints[1]  # the same by the one, and by the other
    vectors[15] = unit(vectors[14:15] + [0.25 * v for v in world(5, 1, 1)[0]])[0]  # somewhat alike by both
    prints[15] = unit(prints[14:15] + [0.25 * v for v in world(6, 1, 1, 40)[0]])[0]
    want = {}
    for i in range(24):
        for j in range(i + 1, 24):
            cosine, look = float(vectors[i] @ vectors[j]), float(prints[i] @ prints[j])
            if cosine >= 0.97 or look >= 0.95 or min(cosine, look) >= 0.9:
                want[i, j] = max(cosine, look)
    assert {(3, 5), (1, 9), (14, 15)} <= set(want)
    found = doctoring.near_copies(vectors, prints)
    assert [(i, j) for i, j, _ in found] == sorted(want, key=lambda pair: -want[pair])
    assert [how for _, _, how in found] == pytest.approx(sorted(want.values(), reverse=True))
    often = [0] * 24
    for i in range(24):
        for j in sorted((j for j in range(24) if j != i), key=lambda j: -float(vectors[i] @ vectors[j]))[:10]:
            often[j] += 1
    assert doctoring.hubness(vectors).tolist() == often


def test_pairs_of_copies_stay_bounded_where_all_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctoring, "_BLOCK", 16)
    same = np.repeat(np.eye(4, dtype=np.float32)[:1], 60, axis=0)
    found = doctoring.near_copies(same, np.zeros((60, 3), np.float32))
    assert [(i, j) for i, j, _ in found] == [(i, j) for i in range(60) for j in range(i + 1, min(60, i + 21))]


def test_labels_that_mix_are_not_separable() -> None:
    vectors, labels = world(3, 3, 10)
    mixed = [label if label == "label 0" else f"mixed {row % 2}" for row, label in enumerate(labels)]
    found = doctoring.separable(vectors, mixed)
    assert found["label 0"] > 0.9
    assert max(found["mixed 0"], found["mixed 1"]) < 0.8
    assert "alone" not in doctoring.separable(vectors, ["alone", *mixed[1:]])


def test_a_compact_class_does_not_draw_the_odd_pictures_of_a_loose_one() -> None:
    rng = np.random.default_rng(0)
    compact, loose = np.eye(40)[:1], np.eye(40)[1:2]
    rows = np.concatenate(
        [compact + 0.03 * rng.normal(size=(30, 40)), loose + 0.25 * rng.normal(size=(40, 40)), 0.5 * loose + compact]
    )
    labels = ["compact"] * 30 + ["loose"] * 41
    labels[30] = "compact"  # a loose picture, labelled wrong: less odd than the last, but wrong
    margins = doctoring.label_margins(unit(rows), labels)
    assert np.argmax(margins) == 30


def test_margins_equal_naive_loops() -> None:
    vectors, labels = world(4, 4, 5)
    numbers = np.array([int(label.split()[1]) for label in labels])
    counted = np.random.default_rng(0).random(20) < 0.8
    rows = vectors.astype(np.float64)

    def mean_of_best(values: list[float]) -> float:
        best = sorted(values, reverse=True)[:3]
        return sum(best) / len(best)

    others = [[j for j in range(20) if j != i and counted[j]] for i in range(20)]
    crowding = [mean_of_best([rows[i] @ rows[j] for j in others[i]]) for i in range(20)]
    want = []
    for i in range(20):
        near = [
            mean_of_best([rows[i] @ rows[j] - crowding[j] / 2 for j in others[i] if numbers[j] == k]) for k in range(4)
        ]
        want.append(max(near[k] for k in range(4) if k != numbers[i]) - near[numbers[i]])
    assert doctoring._margins(rows, numbers, counted) == pytest.approx(want)


def test_numbers_do_not_depend_on_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = world(5)
    looks: tuple[Callable[[], object], ...] = (
        lambda: doctoring.label_margins(vectors, labels).round(9).tolist(),
        lambda: doctoring.strangeness(vectors).round(6).tolist(),
        lambda: doctoring.hubness(vectors).tolist(),
        lambda: doctoring.separable(vectors, labels),
        lambda: [pair[:2] for pair in doctoring.near_copies(vectors, vectors)],
        lambda: doctoring.nearest_of(vectors[:20], vectors[20:]).round(6).tolist(),
        lambda: doctoring.redundant(vectors, labels, [], 5),
        lambda: [row for row, _ in doctoring.most_covering(vectors[:20], vectors[20:], np.ones(20, bool))],
    )
    whole = [look() for look in looks]
    monkeypatch.setattr(doctoring, "_BLOCK", 7)
    assert [look() for look in looks] == whole


def test_nearest_and_the_usual_reach_by_hand() -> None:
    turns = np.array([0.0, 0.1, 0.3, 1.5])
    vectors = np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)
    near = doctoring.nearest(vectors)
    assert near == pytest.approx(np.cos([0.1, 0.1, 0.2, 1.2]), abs=1e-6)
    middle = (math.cos(0.1) + math.cos(0.2)) / 2
    deviation = 1.4826 * np.median([abs(math.cos(turn) - middle) for turn in (0.1, 0.1, 0.2, 1.2)])
    assert doctoring.usual_reach(near) == pytest.approx(middle - 2 * deviation, abs=1e-6)
    assert doctoring.nearest_of(vectors[:1], vectors[1:]) == pytest.approx([math.cos(0.1)], abs=1e-6)
    assert doctoring.nearest(vectors[:1]).tolist() == [-math.inf]


def test_what_is_redundant_equals_trying_each_and_spares_the_last_of_a_label() -> None:
    vectors, labels = world(6, 3, 4, 6)
    labels[-1] = "alone"
    dropped = doctoring.redundant(vectors, labels, [2], 100)
    assert len(dropped) == 12 - 1 - 4
    kept = set(range(12)) - {2}

    def covered(of: set[int]) -> float:
        return sum(
            max((1.0 if i == j else float(vectors[i] @ vectors[j])) for j in of if labels[i] == labels[j])
            for i in range(12)
        )

    for row, other in dropped:
        free = [r for r in kept if sum(labels[k] == labels[r] for k in kept) > 1]
        assert covered(kept - {row}) == pytest.approx(max(covered(kept - {r}) for r in free), abs=1e-6)
        kept.remove(row)
        assert other == max(
            (k for k in kept if labels[k] == labels[row]), key=lambda k: float(vectors[row] @ vectors[k])
        )
    assert sorted(labels[row] for row in kept) == sorted(set(labels))


def test_what_adds_most_coverage_equals_trying_each() -> None:
    vectors, _ = world(7, 4, 4, 6)
    stored, new = vectors[:4], vectors[4:]
    allowed = np.arange(12) != 3
    found = list(doctoring.most_covering(new, stored, allowed))
    taken: list[int] = []

    def covered(rows: list[int]) -> float:
        return sum(max(float(one @ there) for there in [*stored, *new[rows]]) for one in new)

    for row, gain in found:
        gains = {r: covered([*taken, r]) - covered(taken) for r in range(12) if r not in taken and allowed[r]}
        assert gain == pytest.approx(max(gains.values()), abs=1e-5)
        assert gains[row] == pytest.approx(gain, abs=1e-5)
        taken.append(row)
    assert sorted(taken) == [row for row in range(12) if row != 3]


# Galleries


@pytest.fixture
def pictures(tmp_path: Path, shipped_photos: Path) -> Path:
    """Six parts of each photo, a folder a photo."""
    root = tmp_path / "pictures"
    for path in sorted(shipped_photos.iterdir())[:6]:
        with PIL.Image.open(path) as opened:
            picture = opened.convert("RGB")
        (root / path.stem).mkdir(parents=True)
        side = int(min(picture.size) * 0.7)
        for number in range(6):
            left, top = (number % 3) * side // 12, (number // 3) * side // 8
            part = picture.crop((left, top, left + side, top + side))
            part.save(root / path.stem / f"{number}.png")
    return root


def examined(folder: Path, place: Path) -> Diagnosis:
    with Gallery.open(place / "g", encoder="color-histogram") as gallery:
        gallery.index(folder)
        return doctor(gallery)


def kinds(found: Diagnosis) -> dict[str, list[str]]:
    return {one.kind: [Path(path or "").name for _, path in one.items] for one in found.findings}


def test_planted_faults_are_found_and_named(pictures: Path, tmp_path: Path) -> None:
    folders = sorted(pictures.iterdir())
    shutil.copy(folders[0] / "0.png", folders[0] / "copy.png")
    shutil.move(folders[1] / "3.png", folders[2] / "wrong.png")
    black = PIL.Image.new("RGB", (200, 200), (3, 3, 3))
    black.putpixel((5, 5), (30, 30, 30))
    black.save(folders[3] / "dark.png")
    PIL.Image.new("RGB", (20, 20), (90, 120, 60)).save(folders[3] / "tiny.png")
    with PIL.Image.open(folders[4] / "0.png") as sharp:
        sharp.filter(PIL.ImageFilter.GaussianBlur(9)).save(folders[4] / "soft.png")
    (pictures / "few").mkdir()
    shutil.copy(folders[5] / "0.png", pictures / "few" / "under two labels.png")
    found = examined(pictures, tmp_path)
    told = kinds(found)
    assert {"copy.png", "0.png"} <= set(told["copies"])
    assert "wrong.png" in told["probable wrong labels"]
    assert "dark.png" in told["dark pictures"]
    assert told["tiny pictures"] == ["tiny.png"]
    assert told["labels with few references"] == ["under two labels.png"]
    assert found.labels == 7
    assert 1 < found.effective_number < found.items
    severities = [one.severity for one in found.findings]
    assert severities == sorted(severities, key=["high", "medium", "low"].index)
    assert all(one.told and one.do for one in found.findings)


def test_a_sound_gallery_has_no_wrong_labels(pictures: Path, tmp_path: Path) -> None:
    found = kinds(examined(pictures, tmp_path))
    assert not {"probable wrong labels", "copies", "dark pictures", "labels with few references"} & set(found)


def test_pictures_that_are_gone_are_told_and_the_rest_is_looked_at(pictures: Path, tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g", encoder="color-histogram") as gallery:
        gallery.index(pictures)
        gone = sorted(pictures.iterdir())[0] / "0.png"
        gone.unlink()
        found = doctor(gallery)
    assert [one.path for one in found.skipped] == [str(gone)]
    assert found.items == 36


def test_an_empty_or_too_large_gallery_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    with Gallery.open(tmp_path / "g", encoder="color-histogram") as gallery:
        with pytest.raises(InputError, match="the gallery is empty"):
            doctor(gallery)
        gallery.index(pictures)
        monkeypatch.setattr("lookalike.apps.gathering.AT_MOST", 35)
        with pytest.raises(InputError, match="36 items; all pairs of up to 35"):
            doctor(gallery)
    assert AT_MOST > 1000


def test_new_queries_of_another_kind_are_drift(pictures: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        PIL.Image.fromarray(rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)).save(noise / f"{number}.png")
    with Gallery.open(tmp_path / "g", encoder="color-histogram") as gallery:
        gallery.index(pictures)
        assert "drift" in kinds(doctor(gallery, str(noise)))
        assert "drift" not in kinds(doctor(gallery, str(pictures)))
        (noise / "empty").mkdir()
        with pytest.raises(InputError, match="no picture in"):
            doctor(gallery, str(noise / "empty"))


def test_light_edits_are_near_copies_and_one_picture_under_two_labels_is_told(pictures: Path, tmp_path: Path) -> None:
    first, second, third = sorted(pictures.iterdir())[:3]
    with PIL.Image.open(first / "0.png") as picture:
        picture.resize((picture.width * 2 // 3, picture.height * 2 // 3)).save(first / "smaller.png")
        picture.save(second / "other label.jpg", quality=50)
    with PIL.Image.open(third / "1.png") as picture:
        picture.point(lambda value: value * 0.8).save(third / "darker.png")
    told = kinds(examined(pictures, tmp_path))
    assert {"smaller.png", "other label.jpg", "darker.png"} <= set(told["near copies"])
    assert "other label.jpg" in told["copies under two labels"]
    assert "darker.png" not in told["copies under two labels"]


def test_softness_that_is_usual_here_is_no_fault(pictures: Path, tmp_path: Path) -> None:
    for path in pictures.rglob("*.png"):
        with PIL.Image.open(path) as sharp:
            soft = sharp.filter(PIL.ImageFilter.GaussianBlur(4))
        soft.save(path)
    assert len(kinds(examined(pictures, tmp_path)).get("blurred pictures", [])) < 9  # of 36


def test_items_without_labels_are_told_and_the_rest_is_looked_at(pictures: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(pictures.rglob("*.png"))[:8]):
        shutil.copy(path, flat / f"{number}.png")
    found = examined(flat, tmp_path)
    assert found.labels == 0
    assert len(kinds(found)["items without a label"]) == 8
    with Gallery.open(tmp_path / "g", create=False) as gallery:
        suggested = doctor(gallery, suggestions=3).suggestions
    assert suggested is not None
    assert len(suggested.drop) == 3
    assert suggested.add == ()


def test_a_single_item_and_a_single_label(pictures: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    (one / "label").mkdir(parents=True)
    shutil.copy(sorted(pictures.rglob("*.png"))[0], one / "label" / "a.png")
    with Gallery.open(tmp_path / "g", encoder="color-histogram") as gallery:
        gallery.index(one)
        found = doctor(gallery, str(pictures), suggestions=2, html=str(tmp_path / "one.html"))
    assert (found.items, found.labels, found.coverage) == (1, 1, None)
    assert set(kinds(found)) == {"labels with few references"}
    assert found.suggestions is not None
    assert found.suggestions.drop == ()
    assert len(found.suggestions.add) == 2
    label = examined(sorted(pictures.iterdir())[0].parent / sorted(pictures.iterdir())[0].name, tmp_path / "l")
    assert "probable wrong labels" not in kinds(label)


def test_copies_are_dropped_first_the_smaller_one_and_never_the_last_of_a_label(pictures: Path, tmp_path: Path) -> None:
    first = sorted(pictures.iterdir())[0]
    with PIL.Image.open(first / "4.png") as picture:
        picture.resize((picture.width // 2, picture.height // 2)).save(first / "0 small.png")
    shutil.copy(first / "5.png", first / "same.png")
    (pictures / "alone").mkdir()
    shutil.copy(first / "2.png", pictures / "alone" / "alone.png")
    with Gallery.open(tmp_path / "g", encoder="color-histogram") as gallery:
        gallery.index(pictures)
        everything = doctor(gallery, suggestions=100).suggestions
        few = doctor(gallery, suggestions=2).suggestions
        assert len(gallery) == 39
    assert everything is not None
    assert few is not None
    assert everything.drop[:2] == few.drop
    names = [Path(one.path or "").name for one in everything.drop]
    assert names[0] in ("same.png", "5.png")
    assert "the same file as" in everything.drop[0].why
    assert "0 small.png" in names
    assert "4.png" not in names[: names.index("0 small.png")]
    assert len(everything.drop) == 39 - 7
    assert "alone.png" not in names
    assert everything.add[0].label == "alone"


def test_what_stands_for_a_dropped_copy_stays() -> None:
    turns = np.array([0.0, 0.2, 0.35, 1.5])  # a chain: the first and the third are no copies of each other
    vectors = np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)
    items = tuple(Item(str(row)) for row in range(4))
    chain = Gathered(items, vectors, ("label",) * 4, (None,) * 4)
    dropped = suggest(chain, None, 2, [], lambda _: False).drop
    assert [one.id for one in dropped if "nearly the same" in one.why] == ["2"]
    assert "1" not in [one.id for one in dropped]


def test_new_pictures_are_suggested_by_what_they_add_but_no_copies_and_no_bad_ones(
    pictures: Path, tmp_path: Path, shipped_photos: Path
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    stored = sorted(pictures.iterdir())
    shutil.copy(stored[0] / "0.png", new / "known.png")
    with PIL.Image.open(stored[1] / "0.png") as known:
        known.resize((known.width * 3 // 4, known.height * 3 // 4)).save(new / "known smaller.png")
    with PIL.Image.open(sorted(shipped_photos.iterdir())[7]) as unknown:
        unknown.save(new / "unknown.png")
        unknown.point(lambda value: value * 0.9).save(new / "unknown again.png")
        unknown.point(lambda value: value // 12).save(new / "dark.png")
        unknown.resize((20, 20)).save(new / "tiny.png")
        unknown.filter(PIL.ImageFilter.GaussianBlur(8)).save(new / "soft.png")
    (new / "broken.jpg").write_bytes(b"no picture")
    with Gallery.open(tmp_path / "g", encoder="color-histogram") as gallery:
        gallery.index(pictures)
        found = doctor(gallery, str(new), suggestions=9)
    assert found.suggestions is not None
    assert len(found.suggestions.add) == 1
    assert Path(found.suggestions.add[0].path or "").name in ("unknown.png", "unknown again.png")
    assert [Path(one.path).name for one in found.skipped] == ["broken.jpg"]
    assert found.coverage is not None
    assert found.coverage.queries is not None
    assert 2 / 7 <= found.coverage.queries < 1


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_number_of_suggestions_below_one_is_refused(cli: Cli, pictures: Path, count: str) -> None:
    assert cli("index", pictures, "--encoder", "color-histogram").code == 0
    refused = cli("doctor", "--suggest", count)
    assert refused.code == 2
    assert "--suggest" in refused.err


def test_no_suggestions_at_all_cannot_be_asked_for(pictures: Path, tmp_path: Path) -> None:
    examined(pictures, tmp_path)
    with Gallery.open(tmp_path / "g", create=False) as gallery, pytest.raises(ConfigError, match="1 or more, got 0"):
        doctor(gallery, suggestions=0)


def test_a_check_fails_on_findings_that_are_as_severe_as_asked(cli: Cli, pictures: Path) -> None:
    first = sorted(pictures.iterdir())[0]
    shutil.copy(first / "0.png", first / "copy.png")  # a finding of middle severity
    assert cli("index", pictures, "--encoder", "color-histogram").code == 0
    assert cli("doctor").code == 0
    assert cli("doctor", "--fail-on", "high").code == 0
    for severity in ("medium", "low"):
        assert cli("doctor", "--fail-on", severity).code == 11
        assert cli("doctor", "--fail-on", severity, "--json").code == 11


def test_nothing_to_drop_or_to_add_is_told(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    one = tmp_path / "one" / "label"
    one.mkdir(parents=True)
    shutil.copy(sorted(pictures.rglob("*.png"))[0], one / "a.png")
    assert cli("index", one.parent, "--encoder", "color-histogram").code == 0
    said = cli("doctor", "--suggest", "2", "--queries", one).out
    assert "drop    nothing" in said
    assert "add     nothing" in said


def test_queries_of_which_nothing_can_be_read_are_refused_with_the_reason(cli: Cli, pictures: Path) -> None:
    assert cli("index", pictures, "--encoder", "color-histogram").code == 0
    empty = pictures.parent / "empty"
    empty.mkdir()
    assert "no picture in" in cli("doctor", "--queries", empty).err
    (empty / "broken.jpg").write_bytes(b"no picture")
    refused = cli("doctor", "--queries", empty)
    assert refused.code == 2
    assert "broken.jpg" in refused.err
    nowhere = cli("doctor", "--queries", pictures / "nowhere")
    assert nowhere.code == 2
    assert "nowhere" in nowhere.err


def test_suggestions_are_printed_shown_and_the_same_when_asked_again(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    shutil.copy(sorted(pictures.iterdir())[0] / "0.png", sorted(pictures.iterdir())[0] / "copy.png")
    (pictures / "few").mkdir()
    shutil.copy(sorted(pictures.iterdir())[1] / "0.png", pictures / "few" / "one.png")
    assert cli("index", pictures, "--encoder", "color-histogram").code == 0
    page = tmp_path / "doctor.html"
    said = cli("doctor", "--suggest", "3", "--html", page).out
    assert "copy.png: the same file as" in said
    assert "add     pictures of few: 1 of the 3" in said
    assert "the same file as" in page.read_text()
    once, again = (cli("doctor", "--suggest", "3", "--json").json for _ in range(2))
    assert once == again
    assert set(once["suggestions"]) == {"drop", "add"}
    assert set(once["suggestions"]["drop"][0]) == {"id", "path", "why"}
    assert set(once["suggestions"]["add"][0]) == {"path", "label", "why"}


def test_the_verb(cli: Cli, pictures: Path) -> None:
    shutil.copy(sorted(pictures.iterdir())[0] / "0.png", sorted(pictures.iterdir())[1] / "copy.png")
    assert cli("index", pictures, "--encoder", "color-histogram").code == 0
    found = cli("doctor", "--json").json
    assert set(found) == {
        "findings", "items", "labels", "effective_number", "coverage", "suggestions", "skipped"
    }  # fmt: skip
    assert set(found["coverage"]) == {"reach", "items", "queries"}
    assert found["suggestions"] is None
    assert found["items"] == 37
    assert {"kind", "severity", "items", "told", "do"} == set(found["findings"][0])
    text = cli("doctor").out
    assert "high    " in text
    assert "37 items of 6 labels" in text
    assert cli("doctor", "--queries", pictures / "nowhere").code == 2


def test_the_page_shows_the_findings_and_a_map_and_trusts_no_name(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    first = sorted(pictures.iterdir())[0]
    shutil.copy(first / "0.png", first / "<script>alert(1)<script>.png")
    assert cli("index", pictures, "--encoder", "color-histogram").code == 0
    page = tmp_path / "doctor.html"
    assert "report: " in cli("doctor", "--html", page).err
    text = page.read_text()
    assert text.count('<g class="point">') == 37
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "http" not in text.replace("http-equiv", "")
    assert "copies" in text
    assert cli("doctor", "--html", first / "0.png").code == 2
    PIL.Image.open(first / "0.png").verify()
