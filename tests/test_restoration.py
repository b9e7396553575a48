"""Restoration: photos that were made noisy or blurred come nearer to what they were; all others stay."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.images import read
from lookalike.quality import SIDE, measure, reduced
from lookalike.restoration import _gain, excess, restored, usual_of, wiener
from lookalike.types import Image, Quality, Usual

USUAL = Usual(noise=1.0, blur=0.5, most_noise=2.0, most_blur=1.0)
NAMES = ("astronaut", "chelsea", "coffee", "rocket", "ihc", "brick")


def quality(noise: float = 1.0, blur: float = 0.5) -> Quality:
    return Quality(0.5, 0.2, noise, blur)


def image(pixels: np.ndarray, size: tuple[int, int] | None = None) -> Image:
    return Image(pixels, size or (pixels.shape[1], pixels.shape[0]), "a.jpg", "JPEG", "2026-01-01T00:00:00")


@pytest.fixture(params=NAMES)
def pixels(request: pytest.FixtureRequest, shipped_photos: Path) -> np.ndarray:
    return read(str(shipped_photos / f"{request.param}.jpg")).pixels


def noisy(pixels: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(scale=sigma, size=pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    reach = math.ceil(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    out = pixels.astype(float)
    for axis in (0, 1):
        padding = [(reach, reach) if axis == a else (0, 0) for a in range(3)]
        padded = np.pad(out, padding, mode="reflect")
        out = sum(
            weight * np.take(padded, range(k, k + pixels.shape[axis]), axis=axis)
            for k, weight in enumerate(kernel / kernel.sum())
        )
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * math.log10(255**2 / max(1e-9, float(((a.astype(float) - b) ** 2).mean())))


# Photos


@pytest.mark.parametrize(("sigma", "gain"), [(10, 0.5), (20, 2), (40, 4)])
def test_noise_is_taken_off(pixels: np.ndarray, sigma: float, gain: float) -> None:
    bad = noisy(pixels, sigma)
    assert psnr(wiener(bad, sigma, 0), pixels) > psnr(bad, pixels) + gain


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_blur_is_taken_off(pixels: np.ndarray, sigma: float) -> None:
    bad = blurred(pixels, sigma)
    assert psnr(wiener(bad, 0, sigma), pixels) > psnr(bad, pixels) + 0.5


def test_an_odd_number_of_columns_and_rows_is_restored_as_well(pixels: np.ndarray) -> None:
    odd = pixels[: pixels.shape[0] // 2 * 2 - 1, : pixels.shape[1] // 2 * 2 - 1]
    bad = noisy(odd, 20)
    assert psnr(wiener(bad, 20, 0), odd) > psnr(bad, odd) + 2


def test_a_deblurring_counts_on_the_noise_that_any_file_has(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(wiener(pixels, 0, 2), wiener(pixels, 2, 2))
    assert (wiener(pixels, 0, 2) != wiener(pixels, 4, 2)).any()


def test_brightness_stays(pixels: np.ndarray) -> None:
    inside = np.clip(pixels, 60, 190)  # so that nothing is cut off
    assert float(wiener(inside, 3, 0).mean()) == pytest.approx(float(inside.mean()), abs=0.2)


def test_a_photo_that_was_made_noisy_is_measured_and_restored(pixels: np.ndarray) -> None:
    bad = image(noisy(pixels, 30), (4000, 3000))
    found = restored(bad, measure(bad), USUAL)
    assert psnr(found.pixels, pixels) > psnr(bad.pixels, pixels) + 2
    assert measure(found).noise < 0.5 * measure(bad).noise
    assert (found.size, found.source, found.format, found.taken) == (bad.size, bad.source, bad.format, bad.taken)


def test_a_photo_that_was_blurred_is_measured_and_sharpened(pixels: np.ndarray) -> None:
    bad = image(blurred(pixels, 3))
    before, after = psnr(bad.pixels, pixels), psnr(restored(bad, measure(bad), USUAL).pixels, pixels)
    if measure(bad).blur >= 1.5:
        assert after > before
    else:  # of a texture without edges the blur cannot be measured: it is left as it is
        assert after == before


def test_a_large_picture_is_restored_at_the_size_at_which_it_was_measured(pixels: np.ndarray) -> None:
    large = image(noisy(np.repeat(np.repeat(pixels, 4, axis=0), 4, axis=1), 60))
    found = restored(large, quality(noise=15), USUAL)
    assert max(found.pixels.shape) == SIDE
    assert found.size == large.size
    np.testing.assert_array_equal(found.pixels, wiener(reduced(large), 15, 0))


def test_restoring_is_the_same_on_every_run_and_changes_nothing_that_it_was_given(pixels: np.ndarray) -> None:
    before = pixels.copy()
    np.testing.assert_array_equal(wiener(pixels, 10, 1), wiener(pixels, 10, 1))
    np.testing.assert_array_equal(pixels, before)


def test_a_mirrored_picture_is_restored_to_the_mirror(pixels: np.ndarray) -> None:
    mirrored = wiener(pixels[:, ::-1], 12, 1)
    assert np.abs(mirrored[:, ::-1].astype(int) - wiener(pixels, 12, 1)).max() <= 1


def test_neither_noise_nor_blur_to_take_off_leaves_the_picture_nearly_as_it_is(pixels: np.ndarray) -> None:
    assert psnr(wiener(pixels, 0, 0), pixels) > 38


# What is left alone


@pytest.mark.parametrize("good", [quality(), quality(3.0, 1.5), quality(0, 0), quality(2.5, 0)])
def test_a_picture_of_usual_quality_is_the_same_object(good: Quality) -> None:
    picture = image(np.zeros((20, 30, 3), np.uint8))
    assert restored(picture, good, USUAL) is picture


@pytest.mark.parametrize(
    ("noise", "blur", "taken_off"),
    [
        (3.0, 0.5, (0.0, 0.0)),  # up to 1.5 times the most that is usual
        (3.1, 0.5, (3.1, 0.0)),
        (1.0, 1.5, (0.0, 0.0)),  # up to half a pixel beyond it
        (1.0, 1.6, (0.0, math.sqrt(1.6**2 - 0.5**2))),  # down to what is usual: blurs add in squares
        (3.1, 4.0, (3.1, 0.0)),  # what is noisy is not sharpened
    ],
)
def test_what_is_taken_off_by_hand(noise: float, blur: float, taken_off: tuple[float, float]) -> None:
    assert excess(quality(noise, blur), USUAL) == pytest.approx(taken_off)


def test_noise_that_cannot_be_measured_for_sure_is_left_in_however_clean_the_gallery() -> None:
    clean = Usual(0.0, 0.0, 0.0, 0.0)
    assert excess(quality(2.5, 0.0), clean) == (0.0, 0.0)
    assert excess(quality(2.6, 0.0), clean) == (2.6, 0.0)


def test_what_is_usual_by_hand() -> None:
    # 21 pictures: the median is the eleventh; 95 % lie at or below the twentieth.
    qualities = [quality(noise, noise / 10) for noise in np.random.default_rng(0).permutation(21).tolist()]
    assert usual_of(qualities) == Usual(10.0, 1.0, 19.0, pytest.approx(1.9))
    assert usual_of([quality(3.0, 1.0)]) == Usual(3.0, 1.0, 3.0, 1.0)


# Odd pictures


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 300), (300, 1), (2, 2), (7, 5), (17, 16), (500, 3)])
@pytest.mark.parametrize(("noise", "blur"), [(30, 0), (0, 8), (127.5, 0), (0, 0)])
def test_tiny_and_odd_sizes_come_back_as_they_are(shape: tuple[int, int], noise: float, blur: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = wiener(pixels, noise, blur)
    assert (found.shape, found.dtype) == (pixels.shape, np.uint8)


@pytest.mark.parametrize("level", [0, 1, 128, 255])
@pytest.mark.parametrize(("noise", "blur"), [(30, 0), (0, 8), (0, 0)])
def test_one_colour_stays_that_colour(level: int, noise: float, blur: float) -> None:
    pixels = np.full((40, 60, 3), level, np.uint8)
    pixels[..., 1] = 255 - level
    np.testing.assert_array_equal(wiener(pixels, noise, blur), pixels)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 127.5), st.floats(0, 8), st.integers(0, 3))
def test_any_picture_of_any_measured_quality_is_restored_to_a_picture(
    height: int, width: int, noise: float, blur: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    picture = image((255 * rng.random((height, width, 3)) ** 4).astype(np.uint8), (5000, 10))
    found = restored(picture, quality(noise, blur), USUAL)
    assert found.pixels.shape == picture.pixels.shape
    assert abs(float(found.pixels.mean()) - float(picture.pixels.mean())) < 40


# The filter


@pytest.mark.parametrize("shape", [(6, 8), (7, 9), (1, 5)])
@pytest.mark.parametrize(("noise", "blur"), [(10.0, 0.0), (2.0, 1.5), (5.0, 0.5)])
def test_the_gain_is_that_of_wiener_by_a_naive_loop(shape: tuple[int, int], noise: float, blur: float) -> None:
    height, width = shape
    variance = 900.0

    def squared(row: int, column: int) -> float:
        f, g = min(row, height - row) / height, min(column, width - column) / width
        return f * f + g * g

    # The mean power is what the photo has beyond the noise; it falls with the square of the frequency.
    shares = [[1 / max(squared(r, c), 1 / (height * width)) for c in range(width)] for r in range(height)]
    mean = sum(map(sum, shares)) / (height * width)
    got = _gain(shape, variance, noise, blur)
    assert got.shape == (height, width // 2 + 1)
    for row in range(height):
        for column in range(width // 2 + 1):
            power = (variance - noise**2) * shares[row][column] / mean
            # A Gaussian of s pixels passes exp(-2 pi^2 s^2 f^2).
            passes = math.exp(-2 * math.pi**2 * blur**2 * squared(row, column))
            want = passes * power / (passes**2 * power + noise**2)
            assert got[row, column] == pytest.approx(min(want, 3.0), rel=1e-9)


def test_noise_alone_lets_every_frequency_through_less_and_blur_alone_raises_the_fine_ones() -> None:
    assert (_gain((64, 64), 1000.0, 20.0, 0.0) < 1).all()
    assert _gain((64, 64), 1000.0, 2.0, 2.0).max() > 2


def test_a_picture_with_less_variance_than_noise_keeps_a_little() -> None:
    gain = _gain((16, 16), 10.0, 100.0, 0.0)
    assert np.isfinite(gain).all()
    assert (gain > 0).all()
    assert (gain < 0.1).all()
