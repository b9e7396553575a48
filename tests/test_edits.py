"""Every change of a picture against naive loops, scikit-image, hand-worked numbers, or what it must leave alone."""

from __future__ import annotations

import collections
import itertools
import math

import numpy as np
import pytest
import skimage.data
import skimage.filters
import skimage.transform

from lookalike.edits import Edit, degradations, edits, gaussian_blur, random_copy, random_degradation
from lookalike.errors import ConfigError

ALL = [*degradations(), *edits()]
SIZES = [(1, 1), (1, 9), (9, 1), (2, 3), (31, 17)]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def photo(height: int = 150, width: int = 200) -> np.ndarray:
    return np.ascontiguousarray(skimage.data.coffee()[100 : 100 + height, 150 : 150 + width])


def changed(pixels: np.ndarray, name: str, seed: int = 0, **parameters: float) -> np.ndarray:
    return Edit(name, parameters).apply(pixels, rng(seed))


def mirrored(index: int, length: int) -> int:
    """Return where the sample beyond a border comes from: c b a | a b c | c b a."""
    index %= 2 * length
    return index if index < length else 2 * length - 1 - index


def naive_blur(values: np.ndarray, sigma: float) -> np.ndarray:
    radius = int(4 * sigma + 0.5)
    weights = [math.exp(-(k**2) / (2 * sigma**2)) for k in range(-radius, radius + 1)]
    total = math.fsum(weights) ** 2
    height, width, channels = values.shape
    out = np.zeros(values.shape)
    for y, x, c in itertools.product(range(height), range(width), range(channels)):
        for (i, down), (j, across) in itertools.product(enumerate(weights), repeat=2):
            source = values[mirrored(y + i - radius, height), mirrored(x + j - radius, width), c]
            out[y, x, c] += down * across * float(source) / total
    return out


# Blur


@pytest.mark.parametrize(("shape", "sigma"), [((6, 9, 1), 0.7), ((5, 4, 3), 1.5), ((1, 7, 2), 1), ((2, 3, 1), 3)])
def test_gaussian_blur_is_the_naive_convolution(shape: tuple[int, ...], sigma: float) -> None:
    values = rng().uniform(0, 255, shape).astype(np.float32)
    np.testing.assert_allclose(gaussian_blur(values, sigma), naive_blur(values, sigma), atol=1e-3)


@pytest.mark.parametrize("sigma", [0.5, 1, 2, 4])
def test_blur_is_that_of_scikit_image(sigma: float) -> None:
    expected = skimage.filters.gaussian(photo(), sigma, mode="reflect", preserve_range=True, channel_axis=2)
    assert np.abs(changed(photo(), "blur", sigma=sigma) - expected).max() <= 0.501  # rounded to a level


def test_blur_of_zero_changes_nothing() -> None:
    np.testing.assert_array_equal(changed(photo(), "blur", sigma=0), photo())


# Light and colour


def test_light_and_colour_follow_their_formulas() -> None:
    pixels = np.array([[[0, 10, 100], [200, 255, 60]]], np.uint8)
    luma = 0.5 * (0.587 * 10 + 0.114 * 100 + 0.299 * 200 + 0.587 * 255 + 0.114 * 60)  # the mean of the two
    for name, parameters, formula in [
        ("gamma", {"exponent": 2.5}, lambda v, c: 255 * (v / 255) ** 2.5),
        ("gamma", {"exponent": 0.4}, lambda v, c: 255 * (v / 255) ** 0.4),
        ("brightness", {"factor": 1.5}, lambda v, c: 1.5 * v),
        ("brightness", {"factor": 0.5}, lambda v, c: 0.5 * v),
        ("contrast", {"factor": 0.5}, lambda v, c: luma + 0.5 * (v - luma)),
        ("contrast", {"factor": 1.7}, lambda v, c: luma + 1.7 * (v - luma)),
        ("color cast", {"red": 1.3, "green": 1, "blue": 0.7}, lambda v, c: (1.3, 1, 0.7)[c] * v),
        ("noise", {"sigma": 0}, lambda v, c: v),
    ]:
        result = changed(pixels, name, **parameters)
        for x, c in itertools.product(range(2), range(3)):
            expected = min(255.0, max(0.0, formula(float(pixels[0, x, c]), c)))
            assert abs(float(result[0, x, c]) - expected) <= 0.501, (name, parameters)


def test_grey_is_the_luma_in_all_channels() -> None:
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], np.uint8)
    assert changed(pixels, "grey").tolist() == [[[76] * 3, [150] * 3, [29] * 3, [18] * 3]]  # 76.2 149.7 29.1 18.2


@pytest.mark.parametrize("sigma", [5, 20, 40])
def test_noise_has_its_sigma_and_no_mean_in_each_channel_on_its_own(sigma: float) -> None:
    added = changed(np.full((300, 300, 3), 128, np.uint8), "noise", sigma=sigma) - 128.0
    assert added.std(axis=(0, 1)) == pytest.approx([sigma] * 3, rel=0.02)
    assert added.mean(axis=(0, 1)) == pytest.approx([0] * 3, abs=0.02 * sigma)
    correlation = np.corrcoef(added.reshape(-1, 3).T)
    assert np.abs(correlation - np.eye(3)).max() < 0.02


# Geometry


def test_half_size_halves_both_sides_and_back_restores_them() -> None:
    blocks = rng().integers(0, 256, (20, 30, 3), np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    half = changed(blocks, "half size")
    assert half.shape == (160, 240, 3)
    np.testing.assert_array_equal(half[4::8, 4::8], blocks[8::16, 8::16])  # the middle of a block of one colour
    back = changed(blocks, "half size and back")
    assert back.shape == blocks.shape
    np.testing.assert_array_equal(back[8::16, 8::16], blocks[8::16, 8::16])
    checkerboard = np.repeat((np.indices((40, 40)).sum(axis=0) % 2 * 200).astype(np.uint8)[:, :, None], 3, axis=2)
    assert np.abs(changed(checkerboard, "half size and back") - 100.0)[4:-4, 4:-4].max() <= 1  # no aliasing


@pytest.mark.parametrize("area", [0.5, 0.75, 0.9])
def test_a_crop_is_a_part_of_its_area_and_proportions_somewhere(area: float) -> None:
    height, width = 150, 200
    places = np.dstack([*np.indices((height, width)), np.zeros((height, width))]).astype(np.uint8)  # y, x, 0
    corners = set()
    for seed in range(60):
        part = changed(places, "crop", seed, area=area)
        h, w = part.shape[:2]
        assert h * w / (height * width) == pytest.approx(area, rel=0.01)
        assert w / h == pytest.approx(width / height, rel=0.01)
        top, left = part[0, 0, :2].tolist()
        np.testing.assert_array_equal(part, places[top : top + h, left : left + w])
        corners.add((top, left))
    assert len(corners) > 40
    tops, lefts = zip(*corners, strict=True)
    assert (min(tops), min(lefts)) <= (3, 3)
    assert max(tops) >= height - h - 3
    assert max(lefts) >= width - w - 3


def test_the_mirror_swaps_left_and_right() -> None:
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    assert changed(pixels, "mirror")[0].tolist() == [[6, 7, 8], [3, 4, 5], [0, 1, 2]]


@pytest.mark.parametrize("degrees", [-8, -4, 4, 8, 20])
@pytest.mark.parametrize("size", [(150, 200), (200, 150), (160, 160)])
def test_a_rotation_is_the_inside_of_what_scikit_image_turns(size: tuple[int, int], degrees: float) -> None:
    result = changed(photo(*size), "rotation", degrees=degrees)
    assert distance_from_middle(result, turned(photo(*size), degrees)) < 4
    assert distance_from_middle(result, turned(photo(*size), -degrees)) > 12


def turned(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """Return the picture turned counter-clockwise, of the same size."""
    return skimage.transform.rotate(pixels, degrees, order=3, preserve_range=True)


def distance_from_middle(part: np.ndarray, whole: np.ndarray) -> float:
    """Return the mean difference from the middle of ``whole``; where it lies between pixels, from the nearest."""
    h, w = part.shape[:2]
    spare = whole.shape[0] - h, whole.shape[1] - w
    tops, lefts = ({n // 2, (n + 1) // 2} for n in spare)
    return min(
        float(np.abs(whole[top : top + h, left : left + w] - part).mean())
        for top, left in itertools.product(tops, lefts)
    )


@pytest.mark.parametrize("degrees", [-8, 4, 30, 45])
def test_a_rotation_shows_nothing_from_outside_and_keeps_as_much_as_it_can(degrees: float) -> None:
    white = np.full((100, 180, 3), 255, np.uint8)
    result = changed(white, "rotation", degrees=degrees)
    assert result.min() == 255
    assert result.shape[1] / result.shape[0] == pytest.approx(1.8, rel=0.03)
    # The corners of a rectangle of s times the sides, turned back, just touch the longer sides of the picture.
    h, w = (side / 2 + 1 for side in result.shape[:2])
    angle = math.radians(abs(degrees))
    assert w * math.sin(angle) + h * math.cos(angle) > 50


# Files and signs


def test_a_jpeg_stays_near_and_nearer_with_more_quality() -> None:
    error = [
        float(np.abs(changed(photo(), "jpeg", quality=q) - photo().astype(float)).mean()) for q in (10, 30, 50, 95)
    ]
    assert error == sorted(error, reverse=True)
    assert 0 < error[-1] < error[1] < 8
    assert changed(photo(), "jpeg", quality=30).shape == photo().shape


def test_a_caption_covers_the_foot_only() -> None:
    result = changed(photo(), "caption", share=0.12)  # 18 of 150 rows
    np.testing.assert_array_equal(result[:-18], photo()[:-18])
    np.testing.assert_array_equal(result[-18:-14], photo()[-18:-14] // 3)
    signs = (result[-18:] == 240).all(axis=2)
    assert 0.1 < signs.mean() < 0.5
    assert (changed(photo(), "caption", 1, share=0.12) != result).any()


def test_a_border_surrounds_the_whole_picture_in_black_or_white() -> None:
    colors = set()
    for seed in range(10):
        result = changed(photo(), "border", seed, share=0.06)  # 9 of 150
        assert result.shape == (168, 218, 3)
        np.testing.assert_array_equal(result[9:-9, 9:-9], photo())
        frame = np.concatenate([result[:9].ravel(), result[-9:].ravel(), result[:, :9].ravel(), result[:, -9:].ravel()])
        assert len(set(frame.tolist())) == 1
        colors.add(int(frame[0]))
    assert colors == {0, 255}


# What all share


@pytest.mark.parametrize("edit", ALL, ids=str)
def test_every_change_gives_a_new_picture_and_the_same_for_the_same_seed(edit: Edit) -> None:
    for size in SIZES:
        pixels = rng(7).integers(0, 256, (*size, 3), np.uint8)
        before = pixels.copy()
        pixels.flags.writeable = False
        result = edit.apply(pixels, rng())
        assert result.dtype == np.uint8
        assert result.ndim == 3
        assert result.shape[2] == 3
        assert result.size > 0
        assert not np.shares_memory(result, pixels)
        np.testing.assert_array_equal(pixels, before)
        np.testing.assert_array_equal(result, edit.apply(pixels, rng()))


@pytest.mark.parametrize("edit", ALL, ids=str)
def test_every_change_changes_a_photo_but_not_beyond_recognition(edit: Edit) -> None:
    result = edit.apply(photo(), rng())
    assert result.shape != photo().shape or (result != photo()).mean() > 0.05
    assert result.std() > 10


def test_every_change_has_a_name_of_its_own() -> None:
    for listed in (degradations(), edits()):
        assert len({str(edit) for edit in listed}) == len(listed)
    assert str(Edit("crop", {"area": 0.75})) == "crop area=0.75"
    assert str(Edit("mirror")) == "mirror"


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("sharpen", {}, "no edit named 'sharpen'; known: gamma, brightness, "),
        ("gamma", {"factor": 1}, "gamma takes exponent, got factor"),
        ("gamma", {}, "gamma takes exponent, got no parameters"),
        ("mirror", {"degrees": 3}, "mirror takes no parameters, got degrees"),
        ("noise", {"sigma": -1}, "sigma of noise is from 0 to 255, got -1"),
        ("crop", {"area": 0}, "area of crop is from 0.01 to 1, got 0"),
        ("jpeg", {"quality": math.nan}, "quality of jpeg is from 1 to 100, got nan"),
    ],
)
def test_an_edit_that_makes_no_sense_cannot_be_built(name: str, parameters: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Edit(name, parameters)


# Chance


def test_random_copies_are_the_edits_each_kind_as_often_as_the_others() -> None:
    source, pixels = rng(), photo(12, 16)
    names = [random_copy(pixels, source)[1] for _ in range(1300)]
    assert set(names) == {str(edit) for edit in edits()}
    kinds = collections.Counter({str(edit): edit.name for edit in edits()}[name] for name in names)
    assert list(kinds.values()) == pytest.approx([1300 / 13] * 13, rel=0.4)


def test_a_random_change_is_what_its_name_says_and_follows_the_seed() -> None:
    for draw in (random_copy, random_degradation):
        for seed in range(20):
            first, name = draw(photo(30, 40), rng(seed))
            second, same = draw(photo(30, 40), rng(seed))
            assert name == same
            np.testing.assert_array_equal(first, second)
        assert len({draw(photo(30, 40), rng(seed))[1] for seed in range(20)}) > 5


def drawn_values(strength: float) -> dict[str, list[float]]:
    source, pixels = rng(), np.zeros((1, 1, 3), np.uint8)
    values: dict[str, list[float]] = {}
    for _ in range(3000):
        name = random_degradation(pixels, source, strength)[1]
        kind = name.split(" ")[0]
        values.setdefault(kind, []).extend(float(part.split("=")[1]) for part in name.split(" ") if "=" in part)
    return values


def test_random_degradations_are_log_uniform_over_their_ranges() -> None:
    values = drawn_values(1)
    for kind, (low, high) in {
        "gamma": (0.4, 2.5),
        "brightness": (0.5, 1.5),
        "contrast": (0.5, 1.5),
        "noise": (5, 40),
        "blur": (0.5, 4),
        "color": (0.75, 1.33),
    }.items():
        logs = np.log(values.pop(kind))
        assert logs.min() >= math.log(low) - 0.01
        assert logs.max() <= math.log(high) + 0.01
        middle, width = (math.log(low) + math.log(high)) / 2, math.log(high) - math.log(low)
        assert logs.mean() == pytest.approx(middle, abs=0.05 * width)
        assert logs.std() == pytest.approx(width / math.sqrt(12), rel=0.1)
    assert not values


def test_less_strength_draws_nearer_to_nothing() -> None:
    values = drawn_values(0.25)
    assert 1.2 <= min(values["noise"]) < 1.4
    assert 9 < max(values["noise"]) <= 10
    assert 0.4**0.25 - 0.01 <= min(values["gamma"]) < 0.82
    assert 1.22 < max(values["gamma"]) <= 2.5**0.25 + 0.01


@pytest.mark.parametrize("strength", [0, -1, 1.5, math.nan])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match="strength is above 0 and at most 1, got"):
        random_degradation(photo(), rng(), strength)
