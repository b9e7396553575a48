"""Local features against transforms that were made: which is found, how much is shared, and what is no copy."""

from __future__ import annotations

import builtins
import math
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import skimage.data
from numpy.typing import NDArray

from lookalike.copies import local_features
from lookalike.copies.agreement import agreement, displacement, softened
from lookalike.copies.cascade import Thresholds
from lookalike.copies.hashing import luma
from lookalike.copies.local_features import (
    Geometry,
    Look,
    compare,
    corners,
    extract,
    first_look,
    mirrored,
    prepared,
)
from lookalike.errors import MissingDependency
from lookalike.images.reencode import resized, through_jpeg

Pixels = NDArray[np.uint8]
ENOUGH = Thresholds().edited_score


def photo(name: str, width: int = 320) -> Pixels:
    pixels = np.asarray(getattr(skimage.data, name)())
    return resized(pixels, width, round(width * pixels.shape[0] / pixels.shape[1]))


def found(a: Pixels, b: Pixels) -> Geometry:
    geometry = compare(extract(a), extract(b))
    assert geometry is not None
    return geometry


def moved(geometry: Geometry, x: float, y: float) -> tuple[float, float]:
    u, v = geometry.matrix @ (x, y, 1.0)
    return float(u), float(v)


@pytest.mark.parametrize("area", [0.9, 0.7, 0.5, 0.3])
def test_a_crop_is_found_with_its_place_and_its_share(area: float) -> None:
    pixels = photo("astronaut")
    height, width = (round(side * math.sqrt(area)) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 3
    geometry = found(pixels, pixels[top : top + height, left : left + width])
    assert geometry.score > ENOUGH
    assert geometry.overlap_a == pytest.approx(area, abs=0.04)
    assert geometry.overlap_b > 0.95
    assert geometry.scale == pytest.approx(1, abs=0.02)
    assert moved(geometry, left, top) == pytest.approx((0, 0), abs=1.5)


@pytest.mark.parametrize("degrees", [5, -15, 90, 180, 33])
def test_a_rotation_is_found_with_its_angle(degrees: int) -> None:
    pixels = photo("coffee")
    turned = np.array(PIL.Image.fromarray(pixels).rotate(degrees, PIL.Image.Resampling.BICUBIC, expand=True))
    geometry = found(pixels, turned)
    assert geometry.score > ENOUGH
    assert not geometry.mirrored
    assert (geometry.rotation_degrees - degrees + 180) % 360 - 180 == pytest.approx(0, abs=1)


def test_a_mirrored_and_turned_picture_is_found_as_such() -> None:
    pixels = photo("chelsea")
    mirrored = np.array(PIL.Image.fromarray(pixels[:, ::-1]).rotate(10, PIL.Image.Resampling.BICUBIC, expand=True))
    geometry = found(pixels, mirrored)
    assert geometry.mirrored
    assert geometry.score > ENOUGH
    assert geometry.rotation_degrees == pytest.approx(10, abs=1)
    middle = mirrored.shape[1] / 2, mirrored.shape[0] / 2
    assert moved(geometry, pixels.shape[1] / 2, pixels.shape[0] / 2) == pytest.approx(middle, abs=2)


def test_the_descriptors_of_the_mirrored_picture_are_those_of_the_picture_in_another_order() -> None:
    pixels = photo("astronaut")
    plain, mirrored = extract(pixels), extract(np.ascontiguousarray(pixels[:, ::-1]))
    foretold = plain.descriptors[:, local_features._MIRRORED].astype(np.float32)
    alike = foretold @ mirrored.descriptors.T.astype(np.float32)
    nearest = mirrored.points[alike.argmax(axis=1)]
    places = np.stack([plain.grey.shape[1] - 1 - plain.points[:, 0], plain.points[:, 1]], axis=1)
    assert np.mean(np.hypot(*(nearest - places).T) < 2) > 0.8


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_a_size_is_found(share: float) -> None:
    pixels = photo("rocket")
    geometry = found(pixels, resized(pixels, round(320 * share), round(pixels.shape[0] * share)))
    assert geometry.score > ENOUGH
    assert geometry.scale == pytest.approx(share, rel=0.02)


def test_a_quarter_of_a_collage_is_found() -> None:
    names = ("astronaut", "coffee", "chelsea", "rocket")
    small = [resized(photo(name), 160, 120) for name in names]
    sheet = np.vstack([np.hstack(small[:2]), np.hstack(small[2:])])
    for k, name in enumerate(names):
        geometry = found(resized(photo(name), 320, 240), sheet)
        assert geometry.score > ENOUGH
        assert geometry.overlap_b == pytest.approx(0.25, abs=0.03)
        assert moved(geometry, 0, 0) == pytest.approx((160 * (k % 2), 120 * (k // 2)), abs=2)


@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_light_compression_and_words_do_not_hide_a_copy(factor: float) -> None:
    pixels = photo("chelsea")
    light = np.clip(factor * pixels.astype(np.float32), 0, 255).astype(np.uint8)
    worded = light.copy()
    worded[20:50, 40:280] = np.random.default_rng(0).integers(0, 2, (30, 240, 1), np.uint8) * 255
    assert found(pixels, through_jpeg(worded, 10)).score > ENOUGH


def test_different_photos_are_no_copies() -> None:
    names = ("astronaut", "coffee", "chelsea", "rocket")
    for a in names:
        for b in names:
            geometry = compare(extract(photo(a)), extract(photo(b)))
            assert a == b or geometry is None or geometry.score < ENOUGH


def test_two_photos_of_one_scene_are_no_copies() -> None:
    # The left and the right picture of a stereo pair: the same things, seen from places some centimetres apart.
    left, right, _ = skimage.data.stereo_motorcycle()
    geometry = compare(extract(resized(left, 320, 218)), extract(resized(right, 320, 218)))
    assert geometry is None or geometry.score < ENOUGH


def test_the_same_pictures_give_the_same_answer() -> None:
    a, b = photo("astronaut"), photo("astronaut")[40:200, 30:290]
    first, second = found(a, b), found(a.copy(), b.copy())
    assert first.matrix.tolist() == second.matrix.tolist()
    assert first.score == second.score


def test_which_picture_comes_first_does_not_decide() -> None:
    a, b = photo("coffee"), photo("coffee")[20:190, 30:290]
    there, back = found(a, b), found(b, a)
    assert back.scale == pytest.approx(1 / there.scale, rel=0.02)
    assert (back.overlap_a, back.overlap_b) == pytest.approx((there.overlap_b, there.overlap_a), abs=0.02)


@pytest.mark.parametrize("pixels", [np.full((100, 80, 3), 9, np.uint8), np.zeros((1, 1, 3), np.uint8)])
def test_where_there_is_no_detail_there_are_no_features(pixels: Pixels) -> None:
    features = extract(pixels)
    assert len(features) == 0
    assert compare(features, extract(photo("coffee"))) is None


@pytest.mark.parametrize(("n", "k", "share"), [(40, 12, 1e-3), (8, 5, 5e-4), (300, 250, 2e-3)])
def test_significance_is_the_textbook_number_of_false_alarms(n: int, k: int, share: float) -> None:
    ways = (n - 2) * math.comb(n, k) * math.comb(k, 2)
    expected = -math.log10(ways) - (k - 2) * math.log10(share)
    assert local_features._significance(n, k, share) == pytest.approx(max(0.0, expected), abs=1e-6)


def test_without_opencv_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "cv2":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match=r"pip install 'lookalike\[dedupe\]'"):
        extract(photo("coffee"))


def looked(a: Pixels, b: Pixels) -> Look:
    own, other = corners(prepared(a)), corners(prepared(b))
    return first_look(own, other, lambda: mirrored(own))


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_a_first_look_tells_crops_from_other_photos(name: str) -> None:
    pixels = photo(name)
    turned = np.array(PIL.Image.fromarray(pixels).rotate(15, PIL.Image.Resampling.BICUBIC))
    darker = (pixels[10:190, 20:300] * 0.6).astype(np.uint8)
    for copy in (pixels[30:170, 60:260], turned, through_jpeg(pixels, 15), darker, pixels[5:190, 300:20:-1]):
        look = looked(pixels, copy)
        assert look.significance > 5  # what is not clear is left to features
        assert look.geometry is None or look.geometry.score > 0.6
    for other in {"astronaut", "coffee", "chelsea", "rocket"} - {name}:
        geometry = looked(pixels, photo(other)).geometry
        assert geometry is None or geometry.score < 0.3
    nothing = looked(pixels, np.zeros((50, 50, 3), np.uint8))
    assert (nothing.significance, nothing.geometry) == (0.0, None)


def test_a_first_look_places_a_mirrored_crop_as_exactly_as_features_do() -> None:
    pixels = photo("astronaut")
    geometry = looked(pixels, pixels[40:240, 290:30:-1]).geometry
    assert geometry is not None
    assert geometry.mirrored
    assert moved(geometry, 290, 40) == pytest.approx((0, 0), abs=0.5)
    assert moved(geometry, 31, 239) == pytest.approx((259, 199), abs=0.5)


def test_corners_in_a_mirror_are_described_as_those_of_the_mirrored_picture() -> None:
    ready = prepared(photo("coffee"))
    foretold = mirrored(corners(ready))
    plain = corners(local_features.Prepared(np.ascontiguousarray(ready.grey[:, ::-1]), 1.0))
    apart = np.hypot(*(foretold.points[:, None] - plain.points[None]).transpose(2, 0, 1))
    same = (apart < 1.0) & (foretold.scales[:, None] == plain.scales[None])
    rows, columns = np.nonzero(same)
    bits = np.unpackbits(foretold.bits[rows] ^ plain.bits[columns], axis=1).sum(axis=1)
    assert len(set(rows)) > 0.8 * len(foretold.points)
    assert np.median(bits) < 40  # of 256; of two corners that have nothing in common, 128


def test_words_on_a_picture_do_not_take_all_its_corners() -> None:
    pixels = (photo("astronaut") * 0.4 + 60).astype(np.uint8)
    pixels[:80, :160] = np.random.default_rng(0).integers(0, 2, (80, 160, 1)) * 255  # the strongest 300 are all here
    found = corners(prepared(pixels))
    scale = found.grey.shape[1] / pixels.shape[1]
    on_it = (found.points[:, 0] < 160 * scale) & (found.points[:, 1] < 80 * scale)
    assert 0 < on_it.mean() < 0.5


def test_agreement_is_that_of_numpys_correlation_in_blocks() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (40, 64)).astype(np.float32)
    y = (0.5 * x + rng.normal(0, 30, x.shape)).astype(np.float32)
    cells = [
        np.corrcoef(x[r : r + 8, c : c + 8].ravel(), y[r : r + 8, c : c + 8].ravel())[0, 1]
        for r in range(0, 40, 8)
        for c in range(0, 64, 8)
    ]
    found = agreement(x, y)
    assert found.blocks == 40
    assert found.value == pytest.approx((np.quantile(cells, 0.25) + np.quantile(cells, 0.7)) / 2, abs=1e-4)


def test_a_copy_of_which_a_third_is_painted_over_agrees() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (48, 64)).astype(np.float32)
    y = x.copy()
    y[:16] = rng.integers(0, 256, (16, 64))
    assert agreement(x, y).value == pytest.approx(2 / 3 + 0.25)


def test_displacement_is_told_in_pixels_and_never_high() -> None:
    big = luma(np.asarray(skimage.data.coffee()))
    told = []
    for shift in (0, 1, 2, 4):  # eighths of a pixel
        x, y = (big[:352, at : 512 + at].reshape(44, 8, 64, 8).mean((1, 3)) for at in (0, shift))
        told.append(displacement(softened(x), softened(y)))
    assert told[0] == 0
    assert told[1:3] == pytest.approx([0.125, 0.25], rel=0.4)
    assert 0.25 <= told[3] <= 0.5


def test_opencv_has_its_threads_again_afterwards() -> None:
    before = cv2.getNumThreads()
    seen = []

    def fail() -> None:
        with local_features.one_thread():
            seen.append(cv2.getNumThreads())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (seen, cv2.getNumThreads()) == ([1], before)
