"""Which of several copies is kept: each question in its turn, the reason, and what decides a tie."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest

from lookalike.errors import ConfigError, InputError, UnreadableImage
from lookalike.fineness import _spectrum, fineness
from lookalike.images import read
from lookalike.images.header import read_header
from lookalike.keeping import RULES, Candidate, choose, look_at

LANCZOS, BICUBIC = PIL.Image.Resampling.LANCZOS, PIL.Image.Resampling.BICUBIC
BASE = Candidate("/a/b.jpg", 100_000, 1e9, 1000, 500, "JPEG", False, jpeg_quality=90, detail=1.0, blur=1.0, noise=1.0)


def better_first(better: Candidate, worse: Candidate, rule: str = "best") -> str:
    """Assert that the choice is the better one in both orders, and return the reason."""
    assert better.path != worse.path
    choices = [choose(order, rule) for order in ((better, worse), (worse, better))]
    assert choices[0] == choices[1]
    assert (choices[0].keep, choices[0].drop) == (better.path, (worse.path,))
    return choices[0].reason


OTHER = replace(BASE, path="/a/c.jpg")


@pytest.mark.parametrize(
    ("better", "worse", "reason"),
    [
        (replace(OTHER, width=2000, height=1000), BASE, "largest picture: 2000x1000 against 1000x500"),
        (replace(OTHER, width=500, height=1001), BASE, "largest picture: 500x1001 against 1000x500"),
        (
            replace(OTHER, format="PNG", lossless=True, jpeg_quality=None, size_bytes=1),
            BASE,
            "lossless PNG against JPEG",
        ),
        (OTHER, replace(BASE, format="GIF", jpeg_quality=None), "JPEG against GIF"),
        (replace(OTHER, jpeg_quality=91), BASE, "less compressed: JPEG quality 91 against 90"),
        (
            OTHER,
            replace(BASE, format="WEBP", jpeg_quality=None, size_bytes=50_000),
            "less compressed: 0.2 against 0.14",
        ),
        (replace(OTHER, blur=0.5), BASE, "sharper: blur 0.5 against 1"),
        (replace(OTHER, noise=0.0), replace(BASE, noise=8.0), "less noisy"),
        (replace(OTHER, has_exif=True, taken="2020-01-01T00:00:00"), BASE, "has its camera's date"),
        (replace(OTHER, has_exif=True), BASE, "has EXIF"),
        (OTHER, replace(BASE, path="/a/Downloads/b.jpg"), "folder for passing things: /a/Downloads"),
        (OTHER, replace(BASE, path="/tmp/b.jpg"), "folder for passing things: /tmp"),
        (OTHER, replace(BASE, path="/a/my copies/b.jpg"), "folder for passing things"),
        (OTHER, replace(BASE, path="/a/b (1).jpg"), "named as a copy: b (1).jpg"),
        (OTHER, replace(BASE, path="/a/b - Kopie.jpg"), "named as a copy"),
        (OTHER, replace(BASE, path="/a/copy of b.jpg"), "named as a copy"),
        (OTHER, replace(BASE, path="/a/b/d.jpg"), "shorter path"),
        (BASE, OTHER, "first by name"),
    ],
)
def test_each_question_decides_where_all_before_it_do_not(better: Candidate, worse: Candidate, reason: str) -> None:
    assert reason in better_first(better, worse)


def test_a_question_is_asked_only_where_those_before_it_do_not_decide() -> None:
    """Each candidate is the best by one question and the worst by all later ones."""
    worst = replace(BASE, path="/tmp/a long name, copy (1).jpg", jpeg_quality=10, blur=9.0, noise=99.0, detail=1.0)
    chain = [
        replace(worst, path=worst.path + "1", width=2000),
        replace(worst, path=worst.path + "2", format="PNG", lossless=True),
        replace(worst, path=worst.path + "3", jpeg_quality=90),
        replace(worst, path=worst.path + "4", blur=0.0),
        replace(worst, path=worst.path + "5", noise=0.0),
        replace(worst, path=worst.path + "6", taken="2020-01-01T00:00:00", has_exif=True),
        replace(worst, path="/folder/a long name, copy (1).jpg"),
        replace(worst, path="/tmp/a long name and a long name and more"),
        replace(worst, path="/tmp/copy"),
        worst,
    ]
    for better, worse in itertools.combinations(chain, 2):
        assert choose([worse, better]).keep == better.path, (better, worse)


def test_words_within_words_are_no_copies() -> None:
    for path in ("/photocopyshop/b.jpg", "/a/copyright.jpg", "/attempt/b.jpg", "/a/b (portrait).jpg", "/scopes/b.jpg"):
        assert choose([replace(BASE, path=path), replace(BASE, path="/" + "z" * 40)]).keep == path


def test_the_other_rules_look_at_one_thing() -> None:
    small_old = replace(BASE, path="/deep/er/old.jpg", mtime=1e8, width=10)
    assert "largest picture" in better_first(BASE, small_old, "largest")
    assert "largest file" in better_first(replace(OTHER, size_bytes=100_001), BASE, "largest")
    assert better_first(small_old, BASE, "oldest") == "older: 1973-03-03 09:46:40 against 2001-09-09 01:46:40"
    assert "newer" in better_first(BASE, small_old, "newest")
    assert better_first(BASE, small_old, "shortest-path") == "shorter path"
    for rule in RULES:
        assert choose([BASE], rule).reason == "the only one"
        assert better_first(replace(BASE, path="/a"), replace(BASE, path="/b"), rule) == "first by name"


def test_the_choice_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        group = [
            replace(
                BASE,
                path=f"/{'d' * int(rng.integers(1, 3))}/{name}",
                width=int(rng.choice([500, 1000])),
                detail=float(rng.choice([0.3, 0.5, 1.0])),
                jpeg_quality=[None, 80, 90][int(rng.integers(3))],
                taken=[None, "2020-01-01T00:00:00"][int(rng.integers(2))],
                protected=bool(rng.random() < 0.1),
            )
            for name in "abcd"
        ]
        for rule in RULES:
            choices = {choose(order, rule) for order in itertools.permutations(group)}
            assert len(choices) == 1
            (choice,) = choices
            assert sorted((choice.keep, *choice.stay, *choice.drop)) == sorted(c.path for c in group)


def test_all_that_is_protected_stays_and_one_of_it_is_kept() -> None:
    small = replace(BASE, path="/safe/1", width=10, protected=True)
    smaller = replace(small, path="/safe/2", width=5)
    choice = choose([BASE, smaller, small])
    assert (choice.keep, choice.stay, choice.drop) == ("/safe/1", ("/safe/2",), ("/a/b.jpg",))
    assert choice.reason == "protected folder; largest picture: 10x500 against 5x500"
    assert choose([BASE, small]).reason == "protected folder"
    assert choice.as_dict()["stay"] == ["/safe/2"]


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no rule 'bset'.*best, largest, oldest, newest, shortest-path"):
        choose([BASE], "bset")
    with pytest.raises(InputError, match="no file"):
        choose([])
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(UnreadableImage, match="empty file"):
        look_at([str(tmp_path / "empty.jpg")])


# Pictures themselves


@pytest.fixture(scope="module")
def large() -> dict[str, PIL.Image.Image]:
    """Photos that scikit-image's wheel holds, in full: 450 to 640 pixels wide."""
    names = ("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "rocket.jpg")
    folder = Path(str(files("skimage"))) / "data"
    return {name: PIL.Image.open(folder / name).convert("RGB") for name in names}


@pytest.fixture
def photo(large: dict[str, PIL.Image.Image]) -> PIL.Image.Image:
    return large["astronaut.png"]


def test_a_header_tells_what_was_written(photo: PIL.Image.Image, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x0132] = 6, "2021:02:03 04:05:06"
    picture = photo.resize((60, 40))
    for quality in (20, 30, 50, 75, 90, 95, 100):
        picture.save(tmp_path / "x.jpg", quality=quality, exif=exif)
        head = read_header((tmp_path / "x.jpg").read_bytes())
        assert head.jpeg_quality == pytest.approx(quality, abs=1)
        assert (head.format, head.width, head.height, head.lossless) == ("JPEG", 40, 60, False)
        assert (head.has_exif, head.taken) == (True, "2021-02-03T04:05:06")
    for name, options, lossless in (
        ("a.png", {}, True),
        ("a.bmp", {}, True),
        ("a.gif", {}, False),
        ("a.tif", {"compression": "tiff_lzw"}, True),
        ("b.tif", {"compression": "jpeg"}, False),
        ("a.webp", {"lossless": True}, True),
        ("b.webp", {"quality": 80}, False),
    ):
        picture.save(tmp_path / name, **options)
        head = read_header((tmp_path / name).read_bytes())
        assert (head.width, head.height, head.lossless, head.taken) == (60, 40, lossless, None), name
        assert head.jpeg_quality is None
    with pytest.raises(UnreadableImage, match="not a picture"):
        read_header(b"notes")


def test_files_are_decoded_only_where_pixels_may_decide(
    photo: PIL.Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo.save(tmp_path / "a.jpg", quality=90)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    photo.save(tmp_path / "c.jpg", quality=60)
    photo.resize((300, 200)).save(tmp_path / "d.jpg", quality=90)
    a, b, c, d = (str(tmp_path / f"{name}.jpg") for name in "abcd")
    assert all(one.detail is None for one in (*look_at([a, b]), *look_at([a, d], rule="largest")))
    assert all(one.detail is not None for one in look_at([a, c]))
    measured = look_at([a, d], protected=[d])
    assert [one.detail is not None for one in measured] == [True, True]
    assert [one.blur is not None for one in measured] == [False, False]  # their sizes tell them apart
    photo.save(tmp_path / "e.jpg", quality=90, progressive=True)
    assert all(one.blur is not None for one in look_at([a, str(tmp_path / "e.jpg")]))
    assert [(one.path, one.protected, one.size_bytes) for one in measured] == [
        (a, False, os.path.getsize(a)),
        (d, True, os.path.getsize(d)),
    ]


@pytest.mark.parametrize("times", [2, 3, 4])
def test_an_enlargement_of_a_small_copy_does_not_win_by_its_pixels(
    times: int, large: dict[str, PIL.Image.Image], tmp_path: Path
) -> None:
    for name, picture in large.items():
        if name == "brick.png":
            continue  # so soft that its half holds all of it: nothing is lost with the original
        photo = picture.resize((400, 300), LANCZOS)
        photo.save(tmp_path / "original.jpg", quality=85)
        photo.resize((200, 150), LANCZOS).save(tmp_path / "small.jpg", quality=85)
        photo.resize((200, 150), LANCZOS).resize((200 * times, 150 * times), BICUBIC).save(
            tmp_path / "enlarged.jpg", quality=95
        )
        names = [str(tmp_path / f"{stem}.jpg") for stem in ("enlarged", "original", "small")]
        assert Path(choose(look_at(names)).keep).stem == "original", name
        assert "more detail" in choose(look_at(names[:2])).reason


@pytest.mark.parametrize("blur", [0.0, 0.7, 1.0, 1.5])
def test_a_soft_original_wins_over_its_reduced_copy(
    blur: float, large: dict[str, PIL.Image.Image], tmp_path: Path
) -> None:
    for name, picture in large.items():
        photo = picture.filter(PIL.ImageFilter.GaussianBlur(blur))
        photo.save(tmp_path / "original.jpg", quality=90)
        photo.resize((photo.width // 2, photo.height // 2), LANCZOS).save(tmp_path / "half.jpg", quality=90)
        names = [str(tmp_path / "half.jpg"), str(tmp_path / "original.jpg")]
        assert Path(choose(look_at(names)).keep).stem == "original", name


def test_of_an_enlargement_and_its_dated_original_the_original_is_kept(photo: PIL.Image.Image, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0132] = "2021:02:03 04:05:06"
    photo = photo.resize((400, 300), LANCZOS)
    photo.save(tmp_path / "original.jpg", quality=90, exif=exif)
    photo.resize((800, 600), LANCZOS).save(tmp_path / "enlarged.jpg", quality=90)
    names = [str(tmp_path / "enlarged.jpg"), str(tmp_path / "original.jpg")]
    assert Path(choose(look_at(names)).keep).stem == "original"


def test_the_spectrum_of_noise_that_was_cut_at_half_the_finest_frequency_ends_there() -> None:
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None, :])
    for end in (0.3, 0.5, 0.7):  # of the finest, which is 0.5 cycles a pixel
        spectrum = np.fft.fft2(rng.normal(size=(256, 256))) / np.maximum(frequency, 1 / 256)
        plane = np.fft.ifft2(np.where(frequency < end / 2, spectrum, 0)).real
        plane = 128 + 40 * plane / plane.std()
        pixels = np.repeat(np.clip(plane, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
        assert fineness(read(pixels)) == pytest.approx(end, abs=0.09)
    whole = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert fineness(read(whole)) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(128, 128), (47, 300), (200, 131)])
def test_the_spectrum_is_that_of_the_whole_transform_ring_by_ring(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    side = min(*shape, 128)
    means = []
    for top in sorted({round(k * (shape[0] - side) / 2) for k in range(3)}):
        for left in sorted({round(k * (shape[1] - side) / 2) for k in range(3)}):
            luma = pixels[top : top + side, left : left + side] @ np.array([0.299, 0.587, 0.114])
            power = np.abs(np.fft.fft2((luma - luma.mean()) * np.outer(np.hanning(side), np.hanning(side)))) ** 2
            distance = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :]) / 0.5
            rings = (distance * 25).astype(int)
            means.append([power[rings == k].mean() for k in range(25)])
    assert _spectrum(pixels) == pytest.approx(np.mean(means, axis=0), rel=1e-4)


def test_a_flat_or_tiny_picture_has_all_its_detail() -> None:
    assert fineness(read(np.full((300, 200, 3), 7, np.uint8))) == 1
    assert fineness(read(np.zeros((2, 1000, 3), np.uint8))) == 1
