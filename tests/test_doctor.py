"""The doctor: planted faults are found and named, sound galleries are left in peace, numbers equal naive ones."""

from __future__ import annotations

import math
import shutil
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
from lookalike.apps.gathering import AT_MOST
from lookalike.errors import InputError
from lookalike.gallery import Gallery


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


def test_labels_that_mix_are_not_separable() -> None:
    vectors, labels = world(3, 3, 10)
    mixed = [label if label == "label 0" else f"mixed {row % 2}" for row, label in enumerate(labels)]
    found = doctoring.separable(vectors, mixed)
    assert found["label 0"] > 0.9
    assert max(found["mixed 0"], found["mixed 1"]) < 0.8
    assert "alone" not in doctoring.separable(vectors, ["alone", *mixed[1:]])


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
