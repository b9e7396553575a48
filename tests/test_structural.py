"""SSIM and MS-SSIM against scikit-image, against loops over one window, and against hand-worked numbers."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d
from skimage.metrics import structural_similarity

from lookalike import registry
from lookalike.errors import ConfigError, InputError
from lookalike.metrics.structural import MS_SSIM_WEIGHTS, MsSsim, Ssim, luma, ms_ssim, ssim, structural
from lookalike.protocols import PairMetric
from lookalike.types import Image

Array = np.ndarray
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def reference(a: Array, b: Array, data_range: float = 255, **options: object) -> object:
    return structural_similarity(
        a.astype(np.float64),
        b.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=data_range,
        **options,
    )


def noisy(picture: Array, sigma: float, seed: int = 0) -> Array:
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    return eight_bits(picture + noise)


def eight_bits(picture: Array) -> Array:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def checkerboard(height: int, width: int, period: int, low: int, high: int) -> Array:
    odd = (np.arange(height)[:, None] // period + np.arange(width) // period) % 2
    return np.where(odd == 1, high, low).astype(np.uint8)


def pairs() -> Iterator[tuple[str, Array, Array]]:
    """Pictures that real life brings, and those on which rounding has one sign everywhere."""
    photo = skimage.data.camera()[40:311, 60:411]  # 271 x 351: no whole number of blocks or tiles
    yield "photo, noise", photo, noisy(photo, 10)
    yield "photo, brighter", photo, eight_bits(photo * 1.15 + 9)
    yield "photo, another", photo, skimage.data.brick()[:271, :351]
    yield "photo, inverted", photo, 255 - photo
    yield "noise, noise", *np.random.default_rng(0).integers(0, 256, (2, 150, 171), dtype=np.uint8)
    white = np.full((130, 129), 255, np.uint8)
    yield "all 255, all 254", white, white - 1
    yield "all 255, all 0", white, white * 0
    dotted = white.copy()
    dotted[70, 60] = 0
    yield "white, one black dot", white, dotted
    bright = np.random.default_rng(1).integers(-3, 4, (140, 133)) + 251
    yield "bright, noise upside down", bright.astype(np.uint8), (502 - bright).astype(np.uint8)
    ramp = np.linspace(0, 255, 200)[:, None] * np.ones(211)
    yield "ramp, a little noise", eight_bits(ramp), noisy(ramp, 2)
    for period in (1, 2, 8, 16, 24, 40, 100):
        board = checkerboard(211, 300, period, 20, 235)
        yield f"board of {period}, noise", board, noisy(board, 6)
        recoloured = checkerboard(211, 300, period, 100, 200), checkerboard(211, 300, period, 200, 100)
        yield f"board of {period}, other colours", *recoloured
        noise = np.random.default_rng(period).normal(0, 8, (211, 300)).round()
        yield f"board of {period}, opposite noise", eight_bits(board + noise), eight_bits(board - noise)


PAIRS = {name: (a, b) for name, a, b in pairs()}


@pytest.mark.parametrize("name", PAIRS)
def test_ssim_equals_scikit_image(name: str) -> None:
    a, b = PAIRS[name]
    want = reference(a, b)
    assert ssim(a, b) == pytest.approx(want, abs=1e-12)
    assert ssim(a, b, dtype=np.float32) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(
    "size", [(11, 11), (11, 40), (12, 11), (17, 19), (137, 138), (138, 139), (139, 266), (18, 267)]
)
def test_ssim_equals_scikit_image_at_every_size(size: tuple[int, int]) -> None:
    # A tile has 128 x 256 windows and a block 8 of them: just below, at and above both.
    a = np.random.default_rng(2).integers(0, 256, size, dtype=np.uint8)
    b = noisy(a, 20)
    want, want_map = reference(a, b, full=True)
    assert ssim(a, b) == pytest.approx(want, abs=1e-12)
    assert ssim(a, b, dtype=np.float32) == pytest.approx(want, abs=1e-6)
    found = structural(a, b)
    assert found.score == pytest.approx(want, abs=1e-12)
    assert found.map.dtype == np.float32
    np.testing.assert_allclose(found.map, want_map, atol=1e-6)


def test_float32_is_as_good_on_small_pictures() -> None:
    rng = np.random.default_rng(7)
    for _ in range(300):
        height, width = rng.integers(11, 90, 2)
        low, high = (int(level) for level in rng.integers(0, 256, 2))
        board = checkerboard(height, width, int(rng.integers(3, 30)), low, high)
        noise = rng.normal(0, rng.choice([0, 2, 8]), board.shape).round()
        a, b = eight_bits(board + noise), eight_bits(board - noise)
        assert ssim(a, b, dtype=np.float32) == pytest.approx(ssim(a, b), abs=1e-6)


def test_colours_are_compared_one_by_one_and_averaged() -> None:
    a = skimage.data.astronaut()[100:190, 150:270]
    b = noisy(a, 15)
    want, want_maps = reference(a, b, channel_axis=-1, full=True)
    assert ssim(a, b) == pytest.approx(want, abs=1e-12)
    np.testing.assert_allclose(structural(a, b).map, want_maps.mean(axis=-1), atol=1e-6)


def test_values_may_be_floats_of_any_range() -> None:
    a = skimage.data.camera()[:80, :90] / 255
    b = np.clip(a + np.random.default_rng(0).normal(0, 0.05, a.shape), 0, 1)
    assert ssim(a, b, data_range=1) == pytest.approx(reference(a, b, 1), abs=1e-12)
    assert ssim(a, b, data_range=1, dtype=np.float32) == pytest.approx(reference(a, b, 1), abs=1e-6)


def one_window(x: Array, y: Array) -> dict[str, float]:
    """Wang et al. 2004, equations 6, 9 and 10 and the Gaussian window of section III C, number by number."""
    bell = [math.exp(-(k * k) / (2 * 1.5**2)) for k in range(-5, 6)]
    weights = [[p * q / math.fsum(bell) ** 2 for q in bell] for p in bell]

    def mean(values: list[list[float]]) -> float:
        return math.fsum(weights[i][j] * values[i][j] for i in range(11) for j in range(11))

    u, v = mean(x.tolist()), mean(y.tolist())
    var_x, var_y = mean(((x - u) ** 2).tolist()), mean(((y - v) ** 2).tolist())
    covariance, c3 = mean(((x - u) * (y - v)).tolist()), C2 / 2
    deviations = math.sqrt(var_x * var_y)
    luminance = (2 * u * v + C1) / (u * u + v * v + C1)
    contrast = (2 * deviations + C2) / (var_x + var_y + C2)
    structure = (covariance + c3) / (deviations + c3)
    return {"luminance": luminance, "contrast": contrast, "structure": structure}


def test_the_terms_of_one_window_are_those_of_the_paper() -> None:
    x, y = np.random.default_rng(3).integers(0, 256, (2, 11, 11)).astype(np.float64)
    want, found = one_window(x, y), structural(x, y)
    for term, value in want.items():
        assert getattr(found, term) == pytest.approx(value, abs=1e-12), term
    assert found.score == pytest.approx(math.prod(want.values()), abs=1e-12)
    assert ssim(x, y) == pytest.approx(found.score, abs=1e-12)


def test_the_terms_are_means_over_the_windows_in_the_picture() -> None:
    x, y = np.random.default_rng(4).integers(0, 256, (2, 13, 14)).astype(np.float64)
    windows = [one_window(x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]) for i in range(3) for j in range(4)]
    found = structural(x, y)
    for term in ("luminance", "contrast", "structure"):
        assert getattr(found, term) == pytest.approx(np.mean([window[term] for window in windows]), abs=1e-12)
    assert found.score == pytest.approx(np.mean([math.prod(window.values()) for window in windows]), abs=1e-12)


def test_a_term_sees_only_what_it_is_for() -> None:
    a = skimage.data.brick()[:120, :120] * 0.8 + 20
    brighter, flatter = structural(a, a + 30), structural(a, a.mean() + 0.5 * (a - a.mean()))
    assert brighter.luminance < 0.99
    assert (brighter.contrast, brighter.structure) == (pytest.approx(1, abs=1e-9), pytest.approx(1, abs=1e-9))
    assert flatter.contrast < 0.95
    assert flatter.structure > 0.98
    assert structural(a, a[::-1]).structure < 0.75


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_picture_is_exactly_like_itself_and_order_does_not_matter(dtype: type) -> None:
    for a, b in PAIRS.values():
        assert ssim(a, a, dtype=dtype) == 1.0
        assert ssim(a, b, dtype=dtype) == ssim(b, a, dtype=dtype)
    photo = skimage.data.astronaut()[:200, :210]
    same = structural(photo, photo, dtype=dtype)
    assert (same.score, same.luminance) == (1.0, 1.0)
    assert (same.map == 1).all()
    assert ms_ssim(photo, photo, dtype=dtype) == 1.0


# Tiny pictures


def test_one_pixel_is_compared_by_its_luminance() -> None:
    # No variance: (2 * 100 * 200 + C1) / (100^2 + 200^2 + C1), by hand.
    a, b = np.array([[100.0]]), np.array([[200.0]])
    want = (40_000 + C1) / (50_000 + C1)
    assert ssim(a, b) == pytest.approx(want, abs=1e-12)
    assert structural(a, b).map.item() == pytest.approx(want, abs=1e-6)
    assert ms_ssim(a, b) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("size", [(1, 9), (3, 10), (10, 10), (4, 30), (30, 2)])
def test_pictures_smaller_than_a_window_are_mirrored(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 256, (2, *size)).astype(np.float64)
    rows, columns = (list(range(side)) if side < 11 else list(range(5, side - 5)) for side in size)
    wide_x, wide_y = (np.pad(plane, 5, mode="symmetric") for plane in (x, y))
    windows = [
        math.prod(one_window(wide_x[i : i + 11, j : j + 11], wide_y[i : i + 11, j : j + 11]).values())
        for i in rows
        for j in columns
    ]
    assert ssim(x, y) == pytest.approx(np.mean(windows), abs=1e-12)
    assert structural(x, y).score == pytest.approx(np.mean(windows), abs=1e-12)
    assert structural(x, y).map.shape == size


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_pair_has_a_finite_symmetric_score(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    levels = data.draw(st.sampled_from([1, 2, 3, 256]))
    a, b = (255 // levels * rng.integers(0, levels, (2, height, width)) + 255 % levels).astype(np.uint8)
    found = structural(a, b)
    assert -1 <= found.score <= 1
    assert found.score == pytest.approx(structural(b, a).score, abs=1e-15)
    assert found.score == pytest.approx(ssim(a, b, dtype=np.float32), abs=1e-6)
    assert np.isfinite([found.luminance, found.contrast, found.structure]).all()
    assert np.isfinite(found.map).all()
    assert 0 <= ms_ssim(a, b) <= 1


# Several scales


def naive_ms_ssim(a: Array, b: Array, scales: int = 5) -> float:
    bell = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))

    def blur(plane: Array) -> Array:
        for axis in (0, 1):
            plane = correlate1d(plane, bell / bell.sum(), axis=axis)
        return plane[5:-5, 5:-5]

    def halved(plane: Array) -> Array:
        # As Wang's msssim.m does: a 2 x 2 mean with the border repeated, then every second pixel.
        wide = np.pad(plane, ((0, 1), (0, 1)), mode="edge")
        return ((wide[:-1, :-1] + wide[1:, :-1] + wide[:-1, 1:] + wide[1:, 1:]) / 4)[::2, ::2]

    x, y = a.astype(np.float64), b.astype(np.float64)
    weights = np.array(MS_SSIM_WEIGHTS[:scales])
    weights = weights if scales == 5 else weights / weights.sum()
    score = 1.0
    for scale in range(scales):
        u, v = blur(x), blur(y)
        var_x, var_y, covariance = blur(x * x) - u * u, blur(y * y) - v * v, blur(x * y) - u * v
        contrast_structure = (2 * covariance + C2) / (var_x + var_y + C2)
        luminance = (2 * u * v + C1) / (u * u + v * v + C1)
        mean = (contrast_structure * luminance if scale == scales - 1 else contrast_structure).mean()
        score *= max(mean, 0) ** weights[scale]
        x, y = halved(x), halved(y)
    return score


@pytest.mark.parametrize(
    ("size", "scales"),
    [((161, 200), 5), ((203, 177), 5), ((256, 256), 5), ((160, 300), 4), ((45, 47), 3), ((11, 99), 1)],
)
def test_ms_ssim_equals_the_naive_one_with_as_many_scales_as_fit(size: tuple[int, int], scales: int) -> None:
    a = skimage.data.camera()[50 : 50 + size[0], 90 : 90 + size[1]]
    for b in (noisy(a, 12), eight_bits(a * 0.8 + 20), skimage.data.brick()[: size[0], : size[1]]):
        assert ms_ssim(a, b) == pytest.approx(naive_ms_ssim(a, b, scales), abs=1e-12)
        assert ms_ssim(a, b, dtype=np.float32) == pytest.approx(naive_ms_ssim(a, b, scales), abs=1e-6)


def test_the_weights_are_the_published_ones() -> None:
    assert MS_SSIM_WEIGHTS == (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def test_ms_ssim_of_colours_is_the_mean_over_them() -> None:
    a = skimage.data.astronaut()[:170, :180]
    b = noisy(a, 20)
    assert ms_ssim(a, b) == pytest.approx(np.mean([naive_ms_ssim(a[..., c], b[..., c]) for c in range(3)]), abs=1e-12)


def test_a_picture_and_its_negative_score_zero_and_not_nan() -> None:
    photo = skimage.data.camera()[:200, :200]
    assert ms_ssim(photo, 255 - photo) == 0.0


# Masks


def test_only_windows_that_lie_in_the_mask_count() -> None:
    a = skimage.data.camera()[:60, :70]
    b = noisy(a, 25)
    mask = np.ones(a.shape, np.bool_)
    mask[20:30, 40] = False
    spoiled = b.copy()
    spoiled[~mask] = 0
    whole = [(i, j) for i in range(5, 55) for j in range(5, 65) if mask[i - 5 : i + 6, j - 5 : j + 6].all()]
    score_map = structural(a, b).map
    want = np.mean([score_map[place] for place in whole])
    assert structural(a, spoiled, mask=mask).score == pytest.approx(want, abs=1e-6)
    assert structural(a, b, mask=np.ones_like(mask)).score == pytest.approx(ssim(a, b), abs=1e-12)


def test_what_is_masked_out_changes_nothing_at_any_scale() -> None:
    a = skimage.data.camera()[:200, :220]
    b = noisy(a, 15)
    mask = np.ones(a.shape, np.bool_)
    mask[:, 190:] = False
    spoiled = np.where(mask, b, 255)
    assert ms_ssim(a, spoiled, mask=mask) == pytest.approx(ms_ssim(a, b, mask=mask), abs=1e-12)
    assert ms_ssim(a, b, mask=mask) == pytest.approx(ms_ssim(a, b), abs=0.02)
    assert ms_ssim(a, b, mask=np.ones_like(mask)) == pytest.approx(ms_ssim(a, b), abs=1e-12)


def test_a_mask_without_a_whole_window_is_refused() -> None:
    a = np.zeros((40, 40))
    mask = np.zeros(a.shape, np.bool_)
    mask[:10] = True
    for compare in (structural, ms_ssim):
        with pytest.raises(InputError, match="no window of 11 x 11"):
            compare(a, a, mask=mask)
    with pytest.raises(InputError, match=r"shape of the pictures, \(40, 40\), got \(3, 3\)"):
        structural(a, a, mask=np.ones((3, 3), np.bool_))


# What is refused, and what it costs


def test_wrong_arguments_name_the_value_and_the_way_out() -> None:
    a = np.zeros((20, 20))
    with pytest.raises(InputError, match=r"\(20, 20\) and \(20, 21\); register"):
        ssim(a, np.zeros((20, 21)))
    with pytest.raises(InputError, match="one shape"):
        ssim(np.zeros((0, 5)), np.zeros((0, 5)))
    with pytest.raises(ConfigError, match=r"data_range .* got 0"):
        ssim(a, a, data_range=0)
    with pytest.raises(ConfigError, match="float32 or float64, got dtype=float16"):
        ssim(a, a, dtype=np.float16)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e200])
def test_values_that_give_no_number_are_refused(odd: float) -> None:
    a, b = np.ones((20, 20)), np.ones((20, 20))
    b[7, 7] = odd
    for compare in (ssim, structural, ms_ssim):
        with pytest.raises(InputError, match="pixel values reach"):
            compare(a, b)
    assert ssim(a, a) == 1.0, "what was refused must leave nothing behind"


def test_a_large_picture_takes_little_memory() -> None:
    a = np.random.default_rng(6).integers(0, 256, (1500, 1600), dtype=np.uint8)
    b = a[::-1]
    ssim(a, b)  # what is kept a thread
    tracemalloc.start()
    ssim(a, b)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20, "less than twice one picture of 2.3 MiB, eight times as small as one float64 copy"


# Metrics of pairs


def image(pixels: Array, source: str = "<array>") -> Image:
    return Image(pixels, (pixels.shape[1], pixels.shape[0]), source)


@pytest.fixture(params=["ms-ssim", "ssim"])
def metric(request: pytest.FixtureRequest) -> PairMetric:
    return registry.pair_metric(request.param)


def test_every_pair_metric_is_tested_here() -> None:
    assert registry.names("pair_metric") == ["ms-ssim", "ssim"]


def test_a_pair_metric_prefers_the_lesser_edit(metric: PairMetric) -> None:
    assert isinstance(metric, PairMetric)
    photo = skimage.data.astronaut()[:180, :190]
    near, far = (metric.score(image(photo), image(noisy(photo, sigma))).score for sigma in (5, 40))
    assert (near > far) == metric.higher_is_closer
    assert metric.score(image(photo), image(photo)).score == 1.0


def test_a_pair_metric_refuses_two_sizes_and_says_what_to_do(metric: PairMetric) -> None:
    a, b = image(np.zeros((20, 30, 3), np.uint8), "a.png"), image(np.zeros((30, 20, 3), np.uint8), "b.png")
    with pytest.raises(InputError, match=r"a\.png has 30x20 pixels and b\.png 20x30; register them .* or resize"):
        metric.score(a, b)


def test_the_pair_metrics_are_the_functions_over_colours_or_luma() -> None:
    a = skimage.data.astronaut()[:80, :90]
    b = noisy(a, 15)
    grey_a, grey_b = (0.299 * p[..., 0] + 0.587 * p[..., 1] + 0.114 * p[..., 2] for p in (a, b))
    found = Ssim().score(image(a), image(b))
    assert found.score == pytest.approx(ssim(a, b), abs=1e-12)
    assert found.map is not None
    assert found.map.shape == (80, 90)
    assert Ssim(grey=True).score(image(a), image(b)).score == pytest.approx(reference(grey_a, grey_b), abs=1e-12)
    assert MsSsim().score(image(a), image(b)).score == ms_ssim(a, b)
    assert MsSsim(grey=True).score(image(a), image(b)).score == pytest.approx(ms_ssim(grey_a, grey_b), abs=1e-12)
    np.testing.assert_allclose(luma(a), grey_a, atol=1e-12)
