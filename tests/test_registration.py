"""Registration against transforms that were made, by Pillow or by slicing; comparison of what was aligned."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import PIL.Image
import pytest
import skimage.data

from lookalike import registration
from lookalike.errors import InputError
from lookalike.metrics.structural import ms_ssim, ssim
from lookalike.registration import COMPARED_SIDE, align, compare_structure, register
from lookalike.types import Image, Registration

Pixels = np.ndarray
NAMES = ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins", "brick", "text")
NO_NUMBERS = {"shift", "rotation", "scale", "agreement", "overlap", "matrix"}


@cache
def photo(name: str, side: int = 320) -> Pixels:
    picture = PIL.Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    picture.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    return np.asarray(picture)


def image(pixels: Pixels) -> Image:
    return Image(np.ascontiguousarray(pixels), (pixels.shape[1], pixels.shape[0]))


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(PIL.Image.fromarray(pixels).resize((width, height), PIL.Image.Resampling.LANCZOS))


@dataclass(frozen=True)
class Edit:
    """An edited copy, and the 2 x 3 matrix that takes a point of the original to its place in the copy."""

    pixels: Pixels
    matrix: np.ndarray
    rotation: float
    scale: float
    shift: tuple[float, float]


def edited(pixels: Pixels, rng: np.random.Generator) -> Edit:
    """Shift by up to 15 %, turn by up to 15 degrees, scale by .7 to 1.4, change the light, add noise, save as JPEG."""
    height, width = pixels.shape[:2]
    rotation, scale = rng.uniform(-15, 15), math.exp(rng.uniform(math.log(0.7), math.log(1.4)))
    shift = rng.uniform(-0.15, 0.15, 2) * (width, height)
    c, s = scale * math.cos(math.radians(rotation)), scale * math.sin(math.radians(rotation))
    turn, middle = np.array([(c, s), (-s, c)]), np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.column_stack([turn, middle + scale * shift - turn @ middle])
    back = np.linalg.inv(turn)
    # Pillow asks where in the original a pixel of the copy comes from, and counts from the edge of the first pixel.
    offset = 0.5 - back @ (matrix[:, 2] + 0.5)
    coefficients = (*back[0], offset[0], *back[1], offset[1])
    picture = PIL.Image.fromarray(pixels).transform(
        (width, height), PIL.Image.Transform.AFFINE, coefficients, PIL.Image.Resampling.BICUBIC, fillcolor=(90, 90, 90)
    )
    light = 255 * (np.asarray(picture) / 255) ** rng.uniform(0.7, 1.4) * rng.uniform(0.8, 1.1) + rng.uniform(-10, 10)
    noisy = np.clip(light + rng.normal(0, 8, light.shape), 0, 255).astype(np.uint8)
    return Edit(jpeg(noisy, 30), matrix, rotation, scale, (float(shift[0]), float(shift[1])))


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(file))


def worst_corner(found: Registration, matrix: np.ndarray, pixels: Pixels) -> float:
    """Return by how many pixels of b the corners of a are off."""
    assert found.found, found.reason
    height, width = pixels.shape[:2]
    corners = np.array([(x, y, 1) for x in (0, width - 1) for y in (0, height - 1)])
    return float(np.abs(corners @ (np.array(found.matrix) - matrix).T).max())


# What is found


def test_edited_copies_are_found_where_they_were_put() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for name in NAMES:
        original = photo(name)
        for _ in range(2):
            edit = edited(original, rng)
            found = register(image(original), image(edit.pixels))
            errors.append(worst_corner(found, edit.matrix, original) if found.found else math.inf)
            if errors[-1] < 2:
                assert found.rotation == pytest.approx(edit.rotation, abs=0.5)
                assert found.scale == pytest.approx(edit.scale, rel=0.02)
                assert found.shift == pytest.approx(edit.shift, abs=2)
    assert np.mean(np.array(errors) < 2) >= 0.95, errors
    assert np.median(errors) < 0.4, errors


def test_different_photos_are_not_aligned() -> None:
    false = [
        (a, b, found.reason)
        for a, b in combinations(NAMES[:6], 2)
        if (found := register(image(photo(a)), image(photo(b)))).found
    ]
    assert false == []


@pytest.mark.parametrize("name", ["chelsea", "coffee", "text"])
def test_a_picture_lies_on_itself(name: str) -> None:
    pixels = photo(name)
    found = register(image(pixels), image(pixels))
    assert worst_corner(found, np.eye(3)[:2], pixels) < 0.01
    assert (found.rotation, found.scale, found.overlap) == pytest.approx((0, 1, 1), abs=1e-3)
    assert found.shift == pytest.approx((0, 0), abs=0.01)
    assert 0.999 < found.agreement <= 1


def test_the_shift_is_where_the_middle_of_a_went() -> None:
    wide = photo("coffee")
    a, b = wide[20:, 30:], wide[:-20, :-30]  # b shows everything 30 pixels further right and 20 further down
    found = register(image(a), image(b))
    assert found.shift == pytest.approx((30, 20), abs=0.1)
    assert found.overlap == pytest.approx((1 - 30 / 290) * (1 - 20 / 193), abs=0.01)


def test_rotation_is_counter_clockwise_and_may_be_anything() -> None:
    pixels = photo("chelsea")
    quarter = register(image(pixels), image(np.rot90(pixels)))  # np.rot90 turns counter-clockwise
    assert quarter.rotation == pytest.approx(90, abs=0.1)
    half = register(image(pixels), image(pixels[::-1, ::-1]))
    assert abs(half.rotation) == pytest.approx(180, abs=0.1)
    assert half.shift == pytest.approx((0, 0), abs=0.1)


@pytest.mark.parametrize("factor", [0.5, 0.37, 0.2])
def test_a_smaller_copy_is_found_either_way_round(factor: float) -> None:
    pixels = photo("coffee")
    height, width = pixels.shape[:2]
    small = resized(pixels, round(width * factor), round(height * factor))
    x, y = small.shape[1] / width, small.shape[0] / height
    down = np.array([(x, 0, (x - 1) / 2), (0, y, (y - 1) / 2)])
    up = np.array([(1 / x, 0, (1 / x - 1) / 2), (0, 1 / y, (1 / y - 1) / 2)])
    found, other = register(image(pixels), image(small)), register(image(small), image(pixels))
    assert worst_corner(found, down, pixels) < 0.3
    assert worst_corner(other, up, small) < 0.3 / factor
    assert (found.scale, other.scale) == (pytest.approx(factor, rel=0.01), pytest.approx(1 / factor, rel=0.01))
    assert found.shift == pytest.approx((0, 0), abs=0.5)


def test_a_crop_is_found_in_its_picture() -> None:
    pixels = photo("astronaut")
    found = register(image(pixels), image(pixels[80:240, 64:224]))
    assert worst_corner(found, np.array([(1, 0, -64), (0, 1, -80)]), pixels) < 0.3
    assert found.overlap == pytest.approx(0.25, abs=0.01)


def test_light_does_not_matter() -> None:
    pixels = photo("chelsea")
    dim = (0.3 * pixels[:, 9:] + 40).astype(np.uint8)
    darker_to_the_right = np.linspace(1, 0.3, dim.shape[1])[:, None]
    for copy in (dim, (pixels[:, 9:] * darker_to_the_right).astype(np.uint8)):
        found = register(image(pixels[:, :-9]), image(copy))
        assert found.shift == pytest.approx((-9, 0), abs=0.2)


# What is not found


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.zeros((200, 300, 3), np.uint8), "shows nothing to align by"),
        (np.full((200, 300, 3), 255, np.uint8), "shows nothing to align by"),
        (np.full((1, 1, 3), 9, np.uint8), "too small or narrow"),
        (np.full((3, 900, 3), 9, np.uint8), "has 256x1 pixels"),
        (np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8), "best agreement 0."),
    ],
)
def test_what_cannot_be_aligned_has_a_reason_and_no_numbers(pixels: Pixels, reason: str) -> None:
    other = image(photo("coffee"))
    for found in (register(image(pixels), other), register(other, image(pixels))):
        assert not found.found
        assert found.reason.startswith("no alignment found: ")
        assert reason in found.reason
        assert {name for name, value in found.as_dict().items() if value is None} == NO_NUMBERS


def test_a_registration_is_plain_json() -> None:
    pixels = image(photo("coins"))
    for found in (register(pixels, pixels), register(pixels, image(np.zeros((50, 50, 3), np.uint8)))):
        json.dumps(found.as_dict(), allow_nan=False)


# Alignment


def test_align_lays_b_into_the_frame_of_a() -> None:
    wide = photo("coffee")
    a, b = wide[20:, 30:], wide[:-20, :-30]
    laid, mask = align(image(b), register(image(a), image(b)), a.shape[:2])
    assert (laid.shape, laid.dtype, mask.dtype) == (a.shape, np.uint8, np.bool_)
    want = np.zeros(a.shape[:2], np.bool_)
    want[:-20, :-30] = True
    assert (mask != want).mean() < 0.01
    assert np.abs(laid[mask].astype(float) - a[mask]).mean() < 1
    assert (laid[~mask] == 0).all()


def test_align_by_a_whole_pixel_is_exact_and_bilinear_between_pixels() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    moved = Registration(True, "by hand", scale=1.0, matrix=((1.0, 0.0, 2.0), (0.0, 1.0, 1.0)))
    laid, mask = align(image(pixels), moved, (4, 5))
    assert mask.all()
    np.testing.assert_array_equal(laid, pixels[1:5, 2:7])
    between = Registration(True, "by hand", scale=1.0, matrix=((1.0, 0.0, 0.25), (0.0, 1.0, 0.5)))
    laid, _ = align(image(pixels), between, (1, 1))
    four = pixels[:2, :2].astype(float)
    want = 0.5 * (0.75 * four[0, 0] + 0.25 * four[0, 1]) + 0.5 * (0.75 * four[1, 0] + 0.25 * four[1, 1])
    np.testing.assert_allclose(laid[0, 0], want, atol=0.5)


def test_align_averages_what_is_shown_smaller() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 255
    quarter = Registration(True, "by hand", scale=4.0, matrix=((4.0, 0.0, 1.5), (0.0, 4.0, 1.5)))
    laid, mask = align(image(stripes), quarter, (16, 16))
    assert mask.all()
    np.testing.assert_allclose(laid, 255 / 4, atol=0.5)  # the two columns in the middle of each four are black


def test_align_by_what_was_not_found_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to align <array> by: no alignment found"):
        align(image(photo("coins")), Registration(False, "no alignment found: for a test"), (5, 5))


# Comparison


def test_pictures_of_one_size_are_compared_as_they_are() -> None:
    a = photo("coffee")
    b = jpeg(a, 40)
    found = compare_structure(image(a), image(b))
    assert not found.aligned
    assert found.mask is None
    assert found.reason == "compared as they are"
    assert found.structural.score == pytest.approx(ssim(a, b), abs=1e-6)
    assert found.ms_ssim == pytest.approx(ms_ssim(a, b), abs=1e-6)
    assert found.structural.map.shape == a.shape[:2]


def test_a_shifted_copy_is_aligned_first() -> None:
    wide = photo("coffee")
    a, b = wide[3:, 4:], wide[:-3, :-4]
    found = compare_structure(image(a), image(b))
    assert found.aligned
    assert found.structural.score > 0.98 > ssim(a, b) + 0.2
    assert found.ms_ssim > 0.99
    assert found.mask.shape == found.structural.map.shape == a.shape[:2]


def test_a_smaller_copy_scores_as_the_same_picture() -> None:
    a = photo("coffee")
    b = resized(a, a.shape[1] // 2, a.shape[0] // 2)
    for found in (compare_structure(image(a), image(b)), compare_structure(image(b), image(a))):
        assert found.aligned
        assert found.structural.score > 0.95
        assert found.ms_ssim > 0.98
        assert max(found.structural.map.shape) == 160, "compared at the resolution of the smaller"


def test_what_lies_beside_the_overlap_does_not_count() -> None:
    a = photo("astronaut")
    crop = a[40:240, 70:290]
    found = compare_structure(image(a), image(crop))
    assert found.structural.score > 0.97
    assert found.mask.mean() == pytest.approx(200 * 220 / (320 * 320), abs=0.02)


def test_of_two_sizes_that_cannot_be_aligned_nothing_is_said() -> None:
    for b in (photo("astronaut"), np.zeros((30, 40, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)):
        found = compare_structure(image(photo("coffee")), image(b))
        assert (found.structural, found.ms_ssim, found.mask, found.aligned) == (None, None, None, False)
        assert found.reason.startswith("not compared, since their sizes differ: no alignment found: ")


@pytest.mark.parametrize("make", [np.zeros, np.ones])
def test_flat_and_tiny_pictures_of_one_size_are_compared_as_they_are(make: Callable[..., Pixels]) -> None:
    for size in ((1, 1, 3), (5, 40, 3), (200, 100, 3)):
        pixels = make(size, np.uint8)
        found = compare_structure(image(pixels), image(pixels))
        assert (found.structural.score, found.ms_ssim, found.aligned) == (1, 1, False)
        assert "no alignment found" in found.reason


def test_a_wrong_alignment_cannot_lower_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Registration(True, "for a test", (5.0, 0.0), 0.0, 1.0, 0.5, 0.9, ((1.0, 0.0, 5.0), (0.0, 1.0, 0.0)))
    monkeypatch.setattr(registration, "register", lambda a, b: wrong)
    pixels = photo("coffee")
    found = compare_structure(image(pixels), image(pixels))
    assert (found.structural.score, found.aligned, found.reason) == (1, False, "compared as they are")


def test_noise_is_not_smoothed_away_by_an_alignment_that_hardly_moves() -> None:
    a = photo("coffee")
    b = np.clip(a + np.random.default_rng(2).normal(0, 15, a.shape), 0, 255).astype(np.uint8)
    assert compare_structure(image(a), image(b)).structural.score == pytest.approx(ssim(a, b), abs=1e-6)


def test_large_pictures_are_aligned_at_a_smaller_size() -> None:
    wide = resized(photo("coffee", 400), 1500, 1000)
    a, b = wide[20:, 30:], wide[:-20, :-30]
    found = compare_structure(image(a), image(b))
    assert found.aligned
    assert max(found.structural.map.shape) == COMPARED_SIDE
    assert found.structural.score > 0.98
    assert found.registration.shift == pytest.approx((30, 20), abs=0.5)
