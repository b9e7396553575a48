"""What is measured of a picture, against what was done to it: known noise, known blur, Pillow's luma."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import PIL.Image
import pytest
import skimage.data
import skimage.filters
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.quality import BLURRIEST, SIDE, measure
from lookalike.types import Image

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
GREY = np.full((SIDE, SIDE, 3), 128, np.uint8)
SHARP = 1.1  # pixels: what the edges of a sharp photo are taken to have, so that it is called 0


def image(pixels: np.ndarray) -> Image:
    return Image(pixels, (pixels.shape[1], pixels.shape[0]))


def photo(name: str, side: int = SIDE) -> np.ndarray:
    """Return a photo reduced by Pillow to ``side`` pixels on its longer side."""
    picture = PIL.Image.fromarray(getattr(skimage.data, name)())
    picture.thumbnail((side, side), PIL.Image.Resampling.BICUBIC)
    return np.asarray(picture)


def levels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def noisy(pixels: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    return levels(pixels + np.random.default_rng(seed).normal(0, sigma, pixels.shape))


def blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    soft = skimage.filters.gaussian(pixels, sigma, mode="reflect", preserve_range=True, channel_axis=2)
    return levels(soft) if sigma else pixels


def steps(sigma: float, angle: float) -> np.ndarray:
    """Return steps between 60 and 190, 40 pixels apart, at ``angle`` degrees, blurred by ``sigma``: error functions."""
    y, x = np.mgrid[:SIDE, :SIDE]
    along = x * math.cos(math.radians(angle)) + y * math.sin(math.radians(angle))
    from_step = (along + 20) % 40 - 20
    rising = np.where((along + 20) // 40 % 2, 1, -1)
    step = rising * np.vectorize(math.erf)(from_step / (math.sqrt(2) * sigma))
    return np.repeat(levels(125 + 65 * step)[:, :, None], 3, axis=2)


# Brightness and contrast


@pytest.mark.parametrize("name", PHOTOS)
def test_brightness_and_contrast_are_mean_and_deviation_of_pillows_luma(name: str) -> None:
    luma = np.asarray(PIL.Image.fromarray(photo(name)).convert("L")) / 255
    found = measure(image(photo(name)))
    assert found.brightness == pytest.approx(luma.mean(), abs=0.003)
    assert found.contrast == pytest.approx(luma.std(), abs=0.003)


def test_brightness_of_pure_colours_is_their_share_in_luma() -> None:
    for color, expected in (((255, 0, 0), 0.299), ((0, 255, 0), 0.587), ((0, 0, 255), 0.114)):
        found = measure(image(np.full((20, 30, 3), color, np.uint8)))
        assert found.brightness == pytest.approx(expected, abs=1e-6)
        assert found.contrast == pytest.approx(0, abs=1e-6)


# Noise


@pytest.mark.parametrize("sigma", [5, 10, 20, 40])
@pytest.mark.parametrize("name", PHOTOS)
def test_noise_that_was_added_to_a_photo_is_found_within_a_fifth(name: str, sigma: float) -> None:
    assert measure(image(noisy(photo(name), sigma))).noise == pytest.approx(sigma, rel=0.2)


@pytest.mark.parametrize("name", PHOTOS)
def test_a_clean_photo_has_hardly_any_noise(name: str) -> None:
    assert measure(image(photo(name))).noise < 3


@pytest.mark.parametrize("shape", [(224, 224, 3), (100, 150, 3), (40, 50, 3)])
def test_pure_noise_is_found_as_it_is(shape: tuple[int, ...]) -> None:
    found = [measure(image(noisy(np.full(shape, 128, np.uint8), 10, seed))).noise for seed in range(20)]
    assert np.mean(found) == pytest.approx(10, rel=0.06)


def test_noise_that_is_the_same_in_all_channels_is_found_a_little_low() -> None:
    grey = np.repeat(noisy(GREY[:, :, :1], 10), 3, axis=2)
    assert measure(image(grey)).noise == pytest.approx(9.2, rel=0.06)


@pytest.mark.parametrize("factor", [1.1, 1.5, 2, 3])
def test_of_noise_in_a_larger_picture_what_is_left_after_reducing_it_is_found(factor: float) -> None:
    card = np.full((round(SIDE * factor),) * 2 + (3,), 128, np.uint8)
    reduced = PIL.Image.fromarray(noisy(card, 40)).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC)
    assert measure(image(noisy(card, 40))).noise == pytest.approx(np.asarray(reduced).std(), rel=0.08)


def test_noise_is_found_where_white_and_black_do_not_cut_it_off() -> None:
    half_blown_out = GREY.copy()
    half_blown_out[:100] = 255
    half_blown_out[100:140] = 0
    for size in (SIDE, 2 * SIDE, 4 * SIDE):
        pixels = half_blown_out.repeat(size // SIDE, axis=0).repeat(size // SIDE, axis=1)
        untouched = measure(image(noisy(np.full_like(pixels, 128), 30))).noise
        assert measure(image(noisy(pixels, 30))).noise == pytest.approx(untouched, rel=0.1)
        kept_white = np.where(pixels == 255, pixels, noisy(pixels, 30))  # as a sensor blows out: without noise
        assert measure(image(kept_white)).noise == pytest.approx(untouched, rel=0.1)


def test_edges_and_slopes_are_no_noise() -> None:
    ramp = np.repeat(np.linspace(20, 230, SIDE).reshape(1, SIDE, 1), SIDE, axis=0).repeat(3, axis=2)
    stripes = np.repeat((np.arange(SIDE) // 7 % 2 * 150 + 50).reshape(1, SIDE, 1), SIDE, axis=0).repeat(3, axis=2)
    assert measure(image(levels(ramp))).noise < 0.5
    assert measure(image(levels(stripes))).noise < 0.5


# Blur


@pytest.mark.parametrize("angle", [0, 30, 45, 90])
@pytest.mark.parametrize("sigma", [1, 2, 3, 4, 6])
def test_blurred_steps_have_their_sigma_less_that_of_a_sharp_photo(sigma: float, angle: float) -> None:
    expected = math.sqrt(max(0.0, sigma**2 - SHARP**2))
    assert measure(image(steps(sigma, angle))).blur == pytest.approx(expected, rel=0.1, abs=0.4)


@pytest.mark.parametrize("name", PHOTOS)
def test_blur_that_was_applied_to_a_photo_is_found_and_grows(name: str) -> None:
    own, *found = [measure(image(blurred(photo(name), sigma))).blur for sigma in (0, 0.5, 1, 2, 3, 4, 6)]
    assert own < 1
    assert [own, *found] == sorted([own, *found])
    for sigma, blur in zip((1, 2, 3, 4, 6), found[1:], strict=True):
        assert blur == pytest.approx(math.hypot(sigma, own), rel=0.2, abs=0.4)  # Gaussians add in quadrature


@pytest.mark.parametrize("noise", [10, 20])
@pytest.mark.parametrize("name", PHOTOS)
def test_noise_does_not_hide_blur(name: str, noise: float) -> None:
    for sigma in (0, 1, 2, 4):
        soft = blurred(photo(name), sigma)
        expected = measure(image(soft)).blur
        assert measure(image(noisy(soft, noise))).blur == pytest.approx(expected, rel=0.15, abs=0.15)


def test_under_noise_most_of_a_strong_blur_is_still_told() -> None:
    # What is left of the edges is weak: told is .75 of it on average, and .55 where the noise is not taken off.
    shares = []
    for name in PHOTOS:
        soft = blurred(photo(name), 8)
        shares.append(measure(image(noisy(soft, 20))).blur / measure(image(soft)).blur)
    assert np.mean(shares) > 0.68


def test_blur_is_measured_in_pixels_of_the_reduced_picture() -> None:
    large = skimage.data.astronaut()  # 512 pixels
    for sigma in (1, 2, 4):
        found = measure(image(blurred(large, sigma * 512 / SIDE)))
        same = measure(image(blurred(photo("astronaut"), sigma)))
        assert found.blur == pytest.approx(same.blur, rel=0.1)


def test_noise_in_a_larger_picture_does_not_hide_its_blur() -> None:
    soft = blurred(skimage.data.astronaut(), 2 * 512 / SIDE)
    assert measure(image(noisy(soft, 60))).blur == pytest.approx(measure(image(soft)).blur, rel=0.15)


def test_no_blur_is_told_beyond_the_largest() -> None:
    assert measure(image(blurred(photo("astronaut"), 30))).blur == BLURRIEST
    ramp = np.repeat(np.linspace(20, 230, SIDE).reshape(1, SIDE, 1), SIDE, axis=0).repeat(3, axis=2)
    assert measure(image(levels(ramp))).blur == BLURRIEST


# The measured size


@pytest.mark.parametrize("shape", [(SIDE, 5 * SIDE), (1000, 333), (225, 224), (2000, 9), (9, 2000)])
def test_a_large_picture_is_measured_whole_and_nothing_else(shape: tuple[int, int]) -> None:
    # A frame of the padding, or a row too few, would show in the mean and the deviation of two halves.
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[: shape[0] // 2] = 200
    found = measure(image(pixels))
    assert found.brightness == pytest.approx(pixels.mean() / 255, abs=0.01)
    if min(shape) > SIDE:
        assert found.contrast == pytest.approx(pixels.std() / 255, abs=0.01)


def test_a_small_picture_is_not_enlarged() -> None:
    small = photo("coffee", 60)
    assert measure(image(noisy(small, 20))).noise == pytest.approx(20, rel=0.2)
    assert measure(image(blurred(small, 2))).blur < 2.5  # and not 2 * 224 / 60


# Problems


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (np.zeros((50, 50, 3), np.uint8), "nearly all black"),
        (noisy(np.full((50, 50, 3), 4, np.uint8), 0.7), "nearly all black"),
        (np.full((50, 50, 3), 254, np.uint8), "nearly all white"),
        (np.full((50, 50, 3), (10, 90, 200), np.uint8), "nearly one colour"),
        (noisy(np.zeros((7, 50, 3), np.uint8), 90), "only 50x7 pixels"),
        (np.zeros((1, 1, 3), np.uint8), "only 1x1 pixels"),
        (noisy(np.zeros((8, 8, 3), np.uint8), 90), None),
        (noisy(np.full((50, 50, 3), 128, np.uint8), 3), None),
    ],
)
def test_a_picture_that_cannot_be_judged_says_why(pixels: np.ndarray, problem: str | None) -> None:
    assert measure(image(pixels)).problem == problem


def test_two_colours_of_one_luma_are_not_one_colour() -> None:
    pixels = np.full((50, 50, 3), (100, 100, 100), np.uint8)
    pixels[:25] = (137, 81, 100)  # .299 * 137 + .587 * 81 = .886 * 100
    assert measure(image(pixels)).contrast < 0.001
    assert measure(image(pixels)).problem is None


HARSH: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda x: x,
    "gamma 0.4": lambda x: levels(255 * (x / 255) ** 0.4),
    "gamma 2.5": lambda x: levels(255 * (x / 255) ** 2.5),
    "half as bright": lambda x: levels(0.5 * x),
    "half as bright again": lambda x: levels(1.5 * x),
    "noise 40": lambda x: noisy(x, 40),
    "blur 4": lambda x: blurred(x, 4),
}


@pytest.mark.parametrize("harm", HARSH)
@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_can_be_judged_however_badly_it_was_taken(name: str, harm: str) -> None:
    assert measure(image(HARSH[harm](photo(name)))).problem is None


# Odd pictures


@st.composite
def odd_pictures(draw: st.DrawFn) -> np.ndarray:
    height, width = draw(st.tuples(*[st.sampled_from([1, 2, 3, 7, 8, 9, 10, 17, 223, 225, 460])] * 2))
    kind = draw(st.sampled_from(["flat", "checkerboard", "binary", "noise", "one pixel"]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if kind == "checkerboard":
        return np.repeat((np.indices((height, width)).sum(axis=0) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    if kind == "binary":
        return rng.choice(np.array([0, 255], np.uint8), (height, width, 3))
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    pixels = np.full((height, width, 3), draw(st.sampled_from([0, 1, 128, 255])), np.uint8)
    if kind == "one pixel":
        pixels[rng.integers(height), rng.integers(width)] = 255 - pixels[0, 0]
    return pixels


@settings(max_examples=150, deadline=None)
@given(odd_pictures())
def test_every_picture_gives_finite_numbers_in_their_ranges(pixels: np.ndarray) -> None:
    with np.errstate(all="raise"):
        found = measure(image(pixels))
    assert 0 <= found.brightness <= 1 + 1e-6
    assert 0 <= found.contrast <= 0.5 + 1e-6
    assert 0 <= found.noise <= 127.5
    assert 0 <= found.blur <= BLURRIEST
    assert all(type(value) is float for value in (found.brightness, found.contrast, found.noise, found.blur))
