"""The perceptual hash against pixels that were turned, and pairs of hashes against the naive loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from scipy.fft import dctn

from lookalike.copies import hashing
from lookalike.copies.hashing import Words
from lookalike.errors import InputError
from lookalike.images.reencode import resized, through_jpeg

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")
TURN: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "upright": lambda p: p,
    "flipped": lambda p: p[:, ::-1],
    "upside down": lambda p: p[::-1],
    "rotated 180": lambda p: np.rot90(p, 2),
    "transposed": lambda p: p.transpose(1, 0, 2),
    "rotated 90": np.rot90,
    "rotated 270": lambda p: np.rot90(p, 3),
    "transversed": lambda p: np.rot90(p, 2).transpose(1, 0, 2),
}


def photo(name: str) -> NDArray[np.uint8]:
    return np.asarray(getattr(skimage.data, name)())


def naive(queries: Words, hashes: Words, radius: int) -> set[tuple[int, int, int]]:
    return {
        (i, j, bits)
        for (i, a), (j, b) in itertools.product(enumerate(queries.tolist()), enumerate(hashes.tolist()))
        if (bits := sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True))) <= radius
    }


def noisy(rng: np.random.Generator, originals: Words, count: int, most: int) -> Words:
    """Hashes that differ from some of the originals in up to ``most`` bits."""
    hashes = originals[rng.integers(len(originals), size=count)].copy()
    for row in hashes:
        for bit in rng.choice(256, rng.integers(most + 1), replace=False):
            row[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    return hashes


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("turn", hashing.TURNS)
def test_the_hash_of_turned_pixels_is_the_one_foretold(name: str, turn: str) -> None:
    foretold = hashing.fingerprint(photo(name)).hashes[hashing.TURNS.index(turn)]
    made = hashing.fingerprint(np.ascontiguousarray(TURN[turn](photo(name)))).hashes[0]
    assert hashing.distance(foretold, made) <= 2


def test_a_hash_is_above_the_median_in_half_of_the_frequencies_of_scipys_dct() -> None:
    grey = (photo("coffee")[:384, :576].astype(np.float64) @ [0.299, 0.587, 0.114]).reshape(64, 6, 64, 9).mean((1, 3))
    lowest = dctn(grey, norm="ortho")[1:17, 1:17]
    bits = (lowest > np.median(lowest)).reshape(16, 16)
    packed = hashing.fingerprint(np.ascontiguousarray(photo("coffee")[:384, :576])).hashes[0]
    unpacked = np.unpackbits(packed.view(np.uint8), bitorder="little").reshape(16, 16).T
    assert (bits != unpacked).sum() <= 2


@pytest.mark.parametrize("name", PHOTOS)
def test_smaller_darker_or_compressed_copies_hash_within_31_bits_and_others_do_not(name: str) -> None:
    pixels = photo(name)
    own = hashing.fingerprint(pixels)
    for copy in (
        resized(pixels, pixels.shape[1] // 3, pixels.shape[0] // 3),
        through_jpeg(pixels, 10),
        (pixels * 0.6).astype(np.uint8),
    ):
        assert hashing.distance(own.hashes[0], hashing.fingerprint(copy).hashes[0]) <= 31
    for other in set(PHOTOS) - {name}:
        assert hashing.distance(own.hashes, hashing.fingerprint(photo(other)).hashes[0]).min() > 63


def test_a_quarter_of_a_collage_hashes_as_the_picture_in_it() -> None:
    quarters = [resized(photo(name), 160, 120) for name in PHOTOS]
    sheet = np.vstack([np.hstack(quarters[:2]), np.hstack(quarters[2:])])
    parts = hashing.fingerprint(sheet).parts
    for k, name in enumerate(PHOTOS):
        whole = hashing.fingerprint(resized(photo(name), 640, 480)).hashes[0]
        bits = hashing.distance(parts[:4], whole)
        assert bits.argmin() == k
        assert bits[k] <= 15


def test_within_an_even_frame_the_picture_is_a_part() -> None:
    pixels = resized(photo("astronaut"), 200, 200)
    framed = hashing.fingerprint(np.pad(pixels, ((30, 50), (20, 20), (0, 0)), constant_values=255))
    assert framed.part_quality[4] > 0
    assert hashing.distance(framed.parts[4], hashing.fingerprint(pixels).hashes[0]) <= 15
    assert hashing.fingerprint(pixels).part_quality[4] == 0


@pytest.mark.parametrize("pixels", [np.full((90, 120, 3), 77, np.uint8), np.zeros((1, 1, 3), np.uint8)])
def test_a_picture_of_one_colour_is_flat(pixels: NDArray[np.uint8]) -> None:
    assert hashing.fingerprint(pixels).flat


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_is_not_flat(name: str) -> None:
    assert not hashing.fingerprint(photo(name)).flat


@pytest.mark.parametrize("radius", [0, 3, 15, 16, 31])
def test_pairs_within_a_radius_are_those_of_the_naive_loop(radius: int) -> None:
    rng = np.random.default_rng(radius)
    originals = rng.integers(0, 2**64, (40, 4), dtype=np.uint64)
    hashes = noisy(rng, originals, 220, 24)
    found = hashing.pairs_within(hashes, radius)
    assert set(found) == {(a, b, bits) for a, b, bits in naive(hashes, hashes, radius) if a < b}
    assert len(found) == len(set(found))
    assert not found.full
    queries = noisy(rng, originals, 90, 24)
    assert set(hashing.pairs_across(queries, hashes, radius)) == naive(queries, hashes, radius)


def test_pairs_of_real_hashes_are_those_of_the_naive_loop() -> None:
    rng = np.random.default_rng(1)
    photos = [photo(name) for name in PHOTOS]
    crops = []
    for _ in range(120):
        pixels = photos[rng.integers(4)]
        top, left = rng.integers(0, 5, 2) * 8
        crops.append(hashing.fingerprint(pixels[top : top + 250, left : left + 350]).hashes[0])
    hashes = np.stack(crops)
    assert set(hashing.pairs_within(hashes, 31)) == {(a, b, bits) for a, b, bits in naive(hashes, hashes, 31) if a < b}


def test_a_crowd_of_equal_hashes_is_compared_with_its_first_and_told() -> None:
    rng = np.random.default_rng(2)
    lone = rng.integers(0, 2**64, (50, 4), dtype=np.uint64)
    crowd = np.repeat(rng.integers(0, 2**64, (1, 4), dtype=np.uint64), 3000, axis=0)
    found = hashing.pairs_within(np.concatenate([crowd, lone]), 31)
    assert set(range(3000)) <= set(found.full)
    assert {(0, k) for k in range(1, 3000)} <= {(a, b) for a, b, _ in found}
    assert len(found) < 3000 * 20


def test_no_hashes_make_no_pairs() -> None:
    none = np.empty((0, 4), np.uint64)
    assert len(hashing.pairs_within(none, 31)) == len(hashing.pairs_across(none, none, 31)) == 0


@pytest.mark.parametrize("radius", [-1, 32])
def test_a_radius_in_which_pairs_would_be_lost_is_refused(radius: int) -> None:
    with pytest.raises(InputError, match=f"0 to 31 bits, got {radius}"):
        hashing.pairs_within(np.zeros((2, 4), np.uint64), radius)


@pytest.mark.parametrize("name", PHOTOS)
def test_without_parts_the_whole_hashes_the_same_and_64_pixels_a_side_are_enough(name: str) -> None:
    pixels = photo(name)
    every, whole = hashing.fingerprint(pixels), hashing.fingerprint(pixels, parts=False)
    assert hashing.distance(every.hashes, whole.hashes).max() <= 2  # rounding at the median
    assert (whole.quality, whole.part_quality.tolist()) == (every.quality, [0] * 5)
    height, width = pixels.shape[:2]
    small = resized(pixels, round(64 * width / min(height, width)), round(64 * height / min(height, width)))
    assert hashing.distance(hashing.fingerprint(small, parts=False).hashes, whole.hashes).max() <= 10
