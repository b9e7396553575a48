"""Retouching and test-time views against naive loops and Pillow."""

import math
import statistics

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import skimage.data

from lookalike import augmentation, retouch

CAT = skimage.data.chelsea()[60:200:5, 100:300:5].copy()  # 28 x 40
NOISE = np.random.default_rng(4).integers(0, 256, (17, 23, 3), np.uint8)
DARK = (NOISE // 5).astype(np.uint8)
BLACK = np.zeros((9, 11, 3), np.uint8)
PIXEL = np.array([[[7, 130, 255]]], np.uint8)
COLUMN = NOISE[:, :1]
PICTURES = {"cat": CAT, "noise": NOISE, "dark": DARK, "black": BLACK, "pixel": PIXEL, "column": COLUMN}

every_picture = pytest.mark.parametrize("pixels", PICTURES.values(), ids=PICTURES)


def neighbours(pixels: np.ndarray, y: int, x: int, c: int) -> list[list[int]]:
    """Return the 3 x 3 values around a pixel; beyond the edge the nearest one."""
    height, width = pixels.shape[:2]
    return [
        [int(pixels[min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1), c]) for dx in (-1, 0, 1)]
        for dy in (-1, 0, 1)
    ]


@every_picture
def test_median_and_gaussian_are_those_of_naive_loops(pixels: np.ndarray) -> None:
    median, gaussian = np.empty_like(pixels), np.empty_like(pixels)
    weights = ((1, 2, 1), (2, 4, 2), (1, 2, 1))
    for place in np.ndindex(*pixels.shape):
        around = neighbours(pixels, *place)
        median[place] = statistics.median(v for row in around for v in row)
        total = sum(w * v for ws, vs in zip(weights, around, strict=True) for w, v in zip(ws, vs, strict=True))
        gaussian[place] = math.floor(total / 16 + 0.5)
    np.testing.assert_array_equal(retouch.median(pixels), median)
    np.testing.assert_array_equal(retouch.gaussian(pixels), gaussian)


@every_picture
def test_grey_is_pillows_luma_in_all_channels(pixels: np.ndarray) -> None:
    luma = np.asarray(PIL.Image.fromarray(pixels).convert("L"))
    made = retouch.grey(pixels)
    for c in range(3):
        np.testing.assert_array_equal(made[..., c], luma)


@every_picture
def test_grey_world_gives_the_channels_one_mean(pixels: np.ndarray) -> None:
    made = retouch.grey_world(pixels)
    means = [float(np.mean(pixels[..., c])) for c in range(3)]
    for y, x, c in np.ndindex(*pixels.shape):
        gain = sum(means) / 3 / means[c] if means[c] else 1.0
        assert abs(made[y, x, c] - min(255.0, pixels[y, x, c] * gain)) <= 0.5 + 1e-9
    assert made.dtype == np.uint8


def test_grey_world_takes_a_cast_away() -> None:
    cast = (CAT * (0.4, 0.6, 0.5)).astype(np.uint8)  # dark enough that no value is clipped
    means = retouch.grey_world(cast).mean(axis=(0, 1))
    assert np.ptp(means) < 1 < np.ptp(cast.mean(axis=(0, 1)))


def naive_clahe(luma: np.ndarray) -> np.ndarray:
    """Equalize as OpenCV's source says, pixel by pixel: 8 x 8 tiles, clip limit 2."""
    height, width = luma.shape
    th, tw = math.ceil(height / 8), math.ceil(width / 8)
    padded = np.pad(luma, ((0, 8 * th - height), (0, 8 * tw - width)), "reflect")
    tables = {}
    for ty in range(8):
        for tx in range(8):
            counts = [0] * 256
            for value in padded[ty * th : (ty + 1) * th, tx * tw : (tx + 1) * tw].ravel().tolist():
                counts[value] += 1
            limit = max(int(2.0 * th * tw / 256), 1)
            clipped = sum(max(n - limit, 0) for n in counts)
            counts = [min(n, limit) + clipped // 256 for n in counts]
            residual = clipped % 256
            if residual:
                step, i = max(256 // residual, 1), 0
                while i < 256 and residual > 0:
                    counts[i] += 1
                    i, residual = i + step, residual - 1
            total, table, share = 0, [], np.float32(255 / (th * tw))
            for n in counts:
                total += n
                table.append(min(255, round(float(np.float32(total) * share))))
            tables[ty, tx] = table
    made = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            fy, fx = y / th - 0.5, x / tw - 0.5
            y1, x1 = math.floor(fy), math.floor(fx)
            ya, xa = fy - y1, fx - x1
            corners = [(max(y1, 0), 1 - ya), (min(y1 + 1, 7), ya)], [(max(x1, 0), 1 - xa), (min(x1 + 1, 7), xa)]
            made[y, x] = sum(tables[ty, tx][luma[y, x]] * wy * wx for ty, wy in corners[0] for tx, wx in corners[1])
    return made


@pytest.mark.parametrize(
    "pixels", [*PICTURES.values(), skimage.data.chelsea()[::4, ::4], skimage.data.rocket()[:64, :64].copy()]
)
def test_clahe_equalizes_the_luma_as_opencv_does_and_keeps_the_colours(pixels: np.ndarray) -> None:
    luma = np.asarray(PIL.Image.fromarray(pixels).convert("L")).astype(int)
    made = retouch.clahe(pixels)
    gain = naive_clahe(luma) - luma
    expected = np.clip(pixels + gain[..., None], 0, 255)
    assert np.abs(made - expected).max() <= 0.51  # rounded, in float32
    assert made.dtype == np.uint8


def test_clahe_raises_the_contrast_of_what_is_dull() -> None:
    dull = (100 + skimage.data.chelsea() // 16).astype(np.uint8)
    assert retouch.clahe(dull).std() > 1.5 * dull.std()


@pytest.mark.parametrize(
    "pixels", [CAT, NOISE, PIXEL, COLUMN, NOISE[:1]], ids=["cat", "noise", "pixel", "column", "row"]
)
def test_rotations_are_scipys_with_edges_that_repeat(pixels: np.ndarray) -> None:
    height, width = pixels.shape[:2]
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    for made, degrees in zip(augmentation.rotations(pixels), (8, -8), strict=True):
        assert made.shape == pixels.shape
        angle = math.radians(degrees)
        # Rows go down, so that turning to the left takes (y, x) from here:
        back = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        for c in range(3):
            expected = scipy.ndimage.affine_transform(
                pixels[..., c].astype(float), back, centre - back @ centre, order=1, mode="nearest"
            )
            assert np.abs(made[..., c] - expected).max() <= 1.01  # Pillow rounds down, in fixed steps


def test_a_dot_on_the_right_goes_up_when_the_picture_is_turned_to_the_left() -> None:
    dots = np.zeros((101, 101, 3), np.uint8)
    dots[50, 90] = 255
    left, right = augmentation.rotations(dots)
    rise = round(40 * math.sin(math.radians(8)))
    for made, row in ((left, 50 - rise), (right, 50 + rise)):
        y, _ = np.unravel_index(made[..., 0].argmax(), (101, 101))
        assert abs(y - row) <= 1


def test_views_of_a_single_pixel_are_that_pixel() -> None:
    views = [*augmentation.flip(PIXEL), *augmentation.crops(PIXEL), *augmentation.rotations(PIXEL)]
    assert len(views) == 8
    for view in views:
        np.testing.assert_array_equal(view, PIXEL)
