"""What a base sees through a focus: the middle of a picture, and its colours beside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from lookalike.encoders.colours import Colours, lab
from lookalike.encoders.focused import PLAIN, Focus, focused, middle
from lookalike.errors import ConfigError
from lookalike.types import Embeddings, Image, Space


class Corners:
    """The mean of red, green and blue, and the size of the picture that came."""

    space = Space("corners", "1", "none", 5)
    at_least = 10

    def encode(self, images: Sequence[Image]) -> Embeddings:
        rows = [(*one.pixels.mean(axis=(0, 1)), *one.pixels.shape[:2]) for one in images]
        return Embeddings.from_raw(np.array(rows, float).reshape(len(rows), 5), self.space)


def image(pixels: np.ndarray) -> Image:
    return Image(pixels.astype(np.uint8), (pixels.shape[1], pixels.shape[0]))


def filled(colour: tuple[int, int, int], side: int = 40) -> Image:
    return image(np.full((side, side, 3), colour))


@pytest.fixture
def noise() -> Image:
    return image(np.random.default_rng(0).integers(0, 256, (50, 80, 3)))


def test_the_middle_is_what_a_slice_by_hand_gives(noise: Image) -> None:
    # .3 of 50 rows are 15, of 80 columns 24: 7.5 (to the even 8) and 12 on either side.
    np.testing.assert_array_equal(middle(noise, 0.3).pixels, noise.pixels[8:42, 12:68])
    np.testing.assert_array_equal(middle(noise, 0).pixels, noise.pixels)
    for height, width in ((1, 1), (2, 3), (1, 9)):
        assert middle(image(np.zeros((height, width, 3))), 0.99).pixels.size > 0


def test_the_cosine_is_the_weighted_mean_of_the_parts(noise: Image) -> None:
    pair, base, colours = [noise, filled((200, 40, 30))], Corners(), Colours()
    cut = [middle(one, 0.3) for one in pair]
    found = focused(base, Focus(0.3, 0.5)).encode(pair).vectors
    seen, beside = base.encode(cut).vectors, colours.encode(cut).vectors
    expected = (seen[0] @ seen[1] + 0.5 * beside[0] @ beside[1]) / 1.5
    assert found[0] @ found[1] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(focused(base, Focus(0.3)).encode(pair).vectors, seen)


def test_each_focus_is_a_space_of_its_own_and_the_plain_one_is_the_base() -> None:
    base = Corners()
    focuses = [PLAIN, Focus(0.3), Focus(0, 0.3), Focus(0, 1), Focus(0.3, 1)]
    assert len({focused(base, one).space for one in focuses}) == len(focuses)
    assert focused(base, PLAIN) is base
    assert focused(base, Focus(0.5)).at_least == 20
    assert focused(base, Focus(0, 1)).at_least == Colours().at_least
    assert focused(base, Focus(0.3, 1)).space.dim == 5 + Colours().space.dim


@pytest.mark.parametrize(("cut", "colours"), [(1.0, 0), (-0.1, 0), (math.nan, 0), (0, -1), (0, math.inf)])
def test_a_focus_that_is_none_is_refused(cut: float, colours: float) -> None:
    with pytest.raises(ConfigError, match=r"can be cut away, got|is 0 or more, got"):
        Focus(cut, colours)


def test_lab_is_that_of_published_values() -> None:
    # The sRGB primaries and greys in CIE L*a*b* with D65, as Lindbloom's calculator (brucelindbloom.com) gives them.
    published = {
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 255, 0): (87.73, -86.18, 83.18),
        (0, 0, 255): (32.30, 79.19, -107.86),
        (255, 255, 255): (100, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (119, 119, 119): (50.03, 0, 0),
    }
    found = lab(np.array(list(published)) / 255)
    np.testing.assert_allclose(found, list(published.values()), atol=0.05)


def test_colours_are_counted_wherever_they_are() -> None:
    half = np.full((32, 32, 3), 250)
    half[:, ::2] = (180, 20, 30)
    mixed = np.full((32, 32, 3), 250)
    mixed.reshape(-1, 3)[np.random.default_rng(1).permutation(1024)[:512]] = (180, 20, 30)
    vectors = Colours().encode([image(half), image(mixed), filled((250, 250, 250)), filled((180, 20, 30))]).vectors
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    # Half of the pixels are of each: the root of a half of either, where the two share no cell.
    assert vectors[2] @ vectors[3] == 0
    np.testing.assert_allclose(vectors[0] @ vectors[2:].T, [math.sqrt(0.5)] * 2, atol=1e-6)


def test_a_little_more_light_changes_colours_a_little() -> None:
    shades = Colours().encode([filled((v, v // 2, v // 3)) for v in range(40, 250, 16)]).vectors
    steps = (shades[1:] * shades[:-1]).sum(axis=1)
    assert steps.min() > 2 / 3
    assert shades[0] @ shades[-1] < 0.1
