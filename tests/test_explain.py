"""Explanations: the sum over positions is the cosine, and what is marked is what the likeness rests on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import PIL.Image
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lookalike import registry
from lookalike.explain import HEAT_SIDE, contributions, explain, strongest
from lookalike.types import Embeddings, Explanation, Float32, Image, Space

SIDE = 224
NETWORK, HISTOGRAM = "efficientnet-lite0", "color-histogram"


@cache
def photo(name: str) -> np.ndarray:
    picture = PIL.Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    return np.asarray(picture.resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC))


def image(pixels: np.ndarray) -> Image:
    return Image(np.ascontiguousarray(pixels), (pixels.shape[1], pixels.shape[0]))


def plain(color: int | tuple[int, int, int], height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def with_patch(ground: np.ndarray, patch: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """Return a copy of ``ground`` in which ``patch`` covers a square."""
    result = ground.copy()
    result[top : top + side, left : left + side] = PIL.Image.fromarray(patch).resize((side, side))
    return result


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    x, y = registry.encoder(NETWORK).encode([image(a), image(b)]).vectors.astype(float)
    return float(x @ y)


def share_inside(heat: Float32, left: int, top: int, side: int) -> float:
    """Return the part of the strongest fifth of a picture that lies in a square of it."""
    marked = strongest(heat, SIDE, SIDE)
    return float(marked[top : top + side, left : left + side].sum() / marked.sum())


@cache
def explained(name: str) -> tuple[np.ndarray, np.ndarray, Explanation]:
    """Return a photo, a crop of it that was turned over, and why they are alike."""
    a = photo(name)
    b = np.asarray(PIL.Image.fromarray(a[20:200, 10:190, :][:, ::-1]).resize((SIDE, SIDE)))
    return a, b, explain(image(a), image(b), registry.encoder(NETWORK))


# What is exact

FEATURES = arrays(np.float64, (3, 2, 4), elements=st.floats(-100, 100).map(lambda x: round(x, 3)))


@given(FEATURES, FEATURES)
@settings(max_examples=200, deadline=None)
def test_what_the_positions_add_sums_to_the_cosine_of_the_means(f: np.ndarray, g: np.ndarray) -> None:
    x, y = f.mean(axis=(1, 2)), g.mean(axis=(1, 2))
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    if np.linalg.norm(x) < 1e-3 or np.linalg.norm(y) < 1e-3:
        assert np.isfinite(contributions(f, g)).all()
        return
    assert contributions(f, g).shape == (2, 4)
    assert contributions(f, g).sum() == pytest.approx(x @ y / lengths, abs=1e-9)


def test_what_a_position_adds_is_as_worked_by_hand() -> None:
    # Means (2, 1) and (0, 3): the cosine is 1 / sqrt(5), of which the first position gives none and the second all.
    f = np.array([[[4.0, 0.0]], [[0.0, 2.0]]])
    g = np.array([[[0.0]], [[3.0]]])
    assert contributions(f, g) == pytest.approx(np.array([[0, 1 / np.sqrt(5)]]))


def test_what_the_positions_add_sums_to_the_cosine_of_the_embeddings() -> None:
    a, b, _ = explained("coffee")
    maps = registry.encoder(NETWORK).maps([image(a), image(b)])  # type: ignore[attr-defined]
    assert contributions(maps[0]["head"], maps[1]["head"]).sum() == pytest.approx(cosine(a, b), abs=1e-5)
    assert contributions(maps[1]["head"], maps[0]["head"]).sum() == pytest.approx(cosine(a, b), abs=1e-5)


def test_the_strongest_are_a_fifth_of_the_pixels_and_none_of_the_others_is_stronger() -> None:
    heat = np.random.default_rng(0).random((28, 28))
    marked = strongest(heat, 28, 28)
    assert marked.sum() == round(0.2 * 28 * 28)
    assert heat[marked].min() >= heat[~marked].max()
    assert strongest(np.zeros((28, 28)), 50, 30).sum() == 300  # also where all are equal


# What holds for any pair


def assert_sound(explanation: Explanation) -> None:
    for heat in (explanation.heat_a, explanation.heat_b):
        assert heat.shape == (HEAT_SIDE, HEAT_SIDE)
        assert heat.dtype == np.float32
        assert np.isfinite(heat).all()
        assert heat.min() >= 0
        assert heat.max() in (0, 1)
    for link in explanation.links:
        assert {type(number) for number in (*link.a, *link.b, link.strength)} == {float}
        for x, y, width, height in (link.a, link.b):
            assert min(x, y) >= 0
            assert min(width, height) > 0
            assert max(x + width, y + height) <= 1 + 1e-12
        assert 0 < link.strength <= 1
    strengths = [link.strength for link in explanation.links]
    assert strengths == sorted(strengths, reverse=True)
    assert len(strengths) <= 6
    assert not strengths or strengths[-1] >= strengths[0] / 2


@pytest.mark.parametrize("encoder", [NETWORK, HISTOGRAM])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (plain(0), plain(0)),
        (plain(0), photo("coffee")),
        (plain(7, 1, 1), plain(200, 1, 500)),
    ],
    ids=["black", "black and a photo", "one pixel and a line"],
)
def test_pictures_of_one_color_and_of_odd_sizes_are_explained(a: np.ndarray, b: np.ndarray, encoder: str) -> None:
    assert_sound(explain(image(a), image(b), registry.encoder(encoder)))


def test_nothing_is_marked_where_greying_costs_nothing() -> None:
    same = explain(image(plain(128)), image(plain(128)), registry.encoder(NETWORK))
    assert_sound(same)
    assert same.heat_a.max() == same.heat_b.max() == 0


def test_heat_and_links_are_sound_and_the_same_each_time() -> None:
    a, b, first = explained("coffee")
    assert_sound(first)
    assert first.links
    again = explain(image(a), image(b), registry.encoder(NETWORK))
    assert np.array_equal(again.heat_a, first.heat_a)
    assert np.array_equal(again.heat_b, first.heat_b)
    assert again.links == first.links


def test_swapping_the_pictures_swaps_the_explanation() -> None:
    a, b, there = explained("coffee")
    back = explain(image(b), image(a), registry.encoder(NETWORK))
    assert np.allclose(back.heat_a, there.heat_b, atol=1e-6)
    assert np.allclose(back.heat_b, there.heat_a, atol=1e-6)
    assert [(link.b, link.a) for link in back.links] == [(link.a, link.b) for link in there.links]


# Where it points


def test_every_place_of_a_picture_answers_itself() -> None:
    same = explain(image(photo("chelsea")), image(photo("chelsea")), registry.encoder(NETWORK))
    assert np.array_equal(same.heat_a, same.heat_b)
    assert len(same.links) == 6
    assert all(link.a == link.b for link in same.links)


def test_links_follow_a_picture_that_was_turned_over_and_cropped() -> None:
    _, _, explanation = explained("astronaut")
    for link in explanation.links:
        x, y = link.a[0] + link.a[2] / 2, link.a[1] + link.a[3] / 2
        there = (190 - x * SIDE) / 180, (y * SIDE - 20) / 180  # of the crop, turned over
        assert np.hypot(link.b[0] + link.b[2] / 2 - there[0], link.b[1] + link.b[3] / 2 - there[1]) < 0.15


@pytest.mark.parametrize(("left", "top"), [(0, 0), (90, 112)])
def test_a_patch_in_another_picture_is_where_heat_and_links_point(left: int, top: int) -> None:
    b = with_patch(photo("brick"), photo("chelsea"), left, top, side := 112)
    explanation = explain(image(photo("chelsea")), image(b), registry.encoder(NETWORK))
    assert share_inside(explanation.heat_b, left, top, side) > 0.75  # by chance: a quarter
    centres = [(SIDE * (link.b[0] + link.b[2] / 2), SIDE * (link.b[1] + link.b[3] / 2)) for link in explanation.links]
    inside = [left <= x < left + side and top <= y < top + side for x, y in centres]
    assert np.mean(inside) > 0.6


def test_without_feature_maps_the_heat_is_found_by_greying_alone_and_there_are_no_links() -> None:
    red, green, blue = plain((220, 20, 20)), plain((20, 160, 20)), plain((20, 20, 220))
    a, b = with_patch(green, red, 100, 30, 100), with_patch(blue, red, 20, 110, 100)
    explanation = explain(image(a), image(b), registry.encoder(HISTOGRAM))
    assert_sound(explanation)
    assert explanation.links == ()
    assert share_inside(explanation.heat_a, 100, 30, 100) > 0.75
    assert share_inside(explanation.heat_b, 20, 110, 100) > 0.75


class Halves:
    """An encoder whose maps have another mean than its embedding, as where a projection follows."""

    space = Space("halves", "1", "none", 2)
    at_least = None

    def encode(self, images: Sequence[Image]) -> Embeddings:
        return Embeddings.from_raw(
            np.array([[np.ptp(half.astype(float)) for half in np.array_split(one.pixels, 2)] for one in images]),
            self.space,
        )

    def maps(self, images: Sequence[Image]) -> list[dict[str, Float32]]:
        return [{"last": np.stack([np.eye(3), np.zeros((3, 3))]).astype(np.float32)} for _ in images]


def test_maps_of_which_the_embedding_is_not_the_mean_are_not_taken_for_it() -> None:
    explanation = explain(image(photo("coffee")), image(photo("chelsea")), Halves())
    assert_sound(explanation)
    assert explanation.links == ()


class MeanColor:
    """An encoder whose only map has one position."""

    space = Space("mean-color", "1", "none", 3)
    at_least = 1

    def encode(self, images: Sequence[Image]) -> Embeddings:
        return Embeddings.from_raw(np.array([one.pixels.mean(axis=(0, 1)) for one in images]), self.space)

    def maps(self, images: Sequence[Image]) -> list[dict[str, Float32]]:
        return [{"mean": vector[:, None, None]} for vector in self.encode(images).vectors]


def test_a_map_of_one_position_tells_no_places_apart_and_links_all_with_all() -> None:
    explanation = explain(image(photo("coffee")), image(photo("chelsea")), MeanColor())
    assert_sound(explanation)
    (link,) = explanation.links
    assert link.a == link.b == pytest.approx((3 / 7, 3 / 7, 1 / 7, 1 / 7))


def test_greying_what_is_marked_costs_more_than_greying_as_much_elsewhere_or_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    ours, elsewhere, middle = [], [], []
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    disc = np.hypot(x, y) <= np.sqrt(0.2 / np.pi) * SIDE

    for name in ("astronaut", "coffee", "rocket"):
        a, b, explanation = explained(name)
        for picture, other, heat in ((a, b, explanation.heat_a), (b, a, explanation.heat_b)):
            smooth = np.asarray(PIL.Image.fromarray(heat).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC))
            marked = smooth > np.quantile(smooth, 0.8)
            moved = [np.roll(marked, rng.integers(SIDE, size=2), (0, 1)) for _ in range(4)]
            masks = [marked, disc, *moved]
            lost = [
                cosine(picture, other) - cosine(np.where(m[..., None], np.uint8(128), picture), other) for m in masks
            ]
            ours.append(lost[0])
            middle.append(lost[1])
            elsewhere.append(np.mean(lost[2:]))
    assert np.mean(ours) > 1.5 * np.mean(elsewhere)
    assert np.mean(ours) > np.mean(middle)
