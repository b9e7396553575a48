"""Defects by what good pictures look like: each number against a naive loop, a peer, or a hand-worked one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import skimage.data
from sklearn.covariance import LedoitWolf

from lookalike import registry
from lookalike.errors import ConfigError, InputError, SpaceMismatch
from lookalike.inspecting import Inspector, from_bytes, to_bytes
from lookalike.inspecting.aligned import LEAST, TemplateSet, difference
from lookalike.inspecting.bank import Bank, coreset
from lookalike.inspecting.detail import moments, unexplained
from lookalike.inspecting.mask import cells
from lookalike.inspecting.planes import blurred, box_mean, highest, lowest
from lookalike.inspecting.regions import spots
from lookalike.inspecting.surface import mahalanobis
from lookalike.inspecting.threshold import chance, pictures_needed, threshold
from lookalike.types import Image, Verdict

RNG = np.random.default_rng


def image(pixels: np.ndarray, name: str = "part.png") -> Image:
    grey = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=2) if grey.ndim == 2 else grey
    return Image(rgb, (rgb.shape[1], rgb.shape[0]), name)


# Threshold


@pytest.mark.parametrize(
    ("count", "rate", "value", "stated"),
    [
        (19, 0.05, 19, 1 / 20),
        (39, 0.05, 38, 2 / 40),
        (39, 0.026, 39, 1 / 40),
        (99, 0.05, 95, 5 / 100),
        (4, None, 4, 1 / 5),
    ],
)
def test_the_threshold_is_the_score_that_so_few_good_ones_exceed(
    count: int, rate: float | None, value: float, stated: float
) -> None:
    found = threshold(np.arange(1, count + 1), rate)
    assert (found.value, found.rate) == (value, pytest.approx(stated))


@pytest.mark.parametrize("count", [19, 50, 200])
def test_the_interval_is_that_of_a_beta_distribution(count: int) -> None:
    found = threshold(RNG(0).normal(size=count), 0.05)
    place = int(0.05 * (count + 1) + 1e-9)
    expected = scipy.stats.beta(place, count + 1 - place).ppf([0.025, 0.975])
    assert found.interval == pytest.approx(tuple(expected), abs=1e-6)


def test_new_good_pictures_exceed_the_threshold_as_often_as_stated() -> None:
    rng, exceeded = RNG(1), []
    for _ in range(2000):
        scores = rng.gamma(2.0, size=29)
        exceeded.append(rng.gamma(2.0) > threshold(scores, 0.1).value)
    assert np.mean(exceeded) == pytest.approx(0.1, abs=0.02)


def test_a_rate_that_so_few_pictures_cannot_support_is_refused_with_the_number_that_can() -> None:
    with pytest.raises(ConfigError, match=r"18 good pictures cannot support .* 0.05: it takes 19; .* ask for 0.053"):
        threshold(np.zeros(18), 0.05)
    assert [pictures_needed(rate) for rate in (0.5, 0.05, 0.01)] == [1, 19, 99]
    with pytest.raises(ConfigError, match="between 0 and 1"):
        threshold(np.zeros(18), 1.5)


def test_the_chance_of_a_score_counts_the_good_ones_that_reach_it() -> None:
    assert chance([1, 2, 3, 4], 3) == pytest.approx(3 / 5)
    assert chance([1, 2, 3, 4], 9) == pytest.approx(1 / 5)


# Planes and regions


@pytest.mark.parametrize("size", [3, 5, 9])
def test_means_over_boxes_are_those_of_scipy(size: int) -> None:
    plane = RNG(2).normal(100, 30, (31, 40)).astype(np.float32)
    assert box_mean(plane, size) == pytest.approx(scipy.ndimage.uniform_filter(plane, size, mode="nearest"), abs=1e-3)


def test_blurs_and_extremes_are_those_of_scipy() -> None:
    plane = RNG(3).normal(100, 30, (31, 40)).astype(np.float32)
    expected = scipy.ndimage.gaussian_filter(plane.astype(float), 1.4, mode="nearest", radius=5)
    assert blurred(plane, 1.4) == pytest.approx(expected, abs=1e-3)
    assert (highest(plane, 2) == scipy.ndimage.maximum_filter(plane, 5, mode="nearest")).all()
    assert (lowest(plane, 2) == scipy.ndimage.minimum_filter(plane, 5, mode="nearest")).all()


@pytest.mark.parametrize("seed", range(8))
def test_spots_are_the_connected_parts_that_scipy_finds(seed: int) -> None:
    heat = RNG(seed).random((23, 31)).astype(np.float32)
    labels, count = scipy.ndimage.label(heat > 0.7, structure=np.ones((3, 3)))
    expected = set()
    for number, (rows, columns) in enumerate(scipy.ndimage.find_objects(labels), 1):
        peak = heat[labels == number].max()
        if peak > 0.9:
            expected.add((rows.start, rows.stop, columns.start, columns.stop, float(peak)))
    found = spots(heat, 0.7, 0.9)
    assert count > 3
    assert {(s.top, s.bottom, s.left, s.right, s.score) for s in found} == expected
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)


# Surface


def test_the_distance_to_a_bank_is_equation_7_of_the_paper() -> None:
    rng = RNG(4)
    bank, patches = (rng.normal(size=(count, 6)).astype(np.float32) for count in (40, 7))
    expected = []
    for patch in patches:
        to_bank = np.linalg.norm(bank - patch, axis=1) / np.sqrt(6)
        nearest = int(to_bank.argmin())
        around = np.argsort(np.linalg.norm(bank - bank[nearest], axis=1))[:9]
        share = np.exp(to_bank[nearest]) / np.exp(to_bank[around]).sum()
        expected.append((1 - share) * to_bank[nearest])
    assert Bank(bank).distances(patches) == pytest.approx(np.array(expected), rel=1e-4)


def test_a_coreset_takes_again_and_again_what_is_farthest() -> None:
    points = RNG(5).normal(size=(60, 8)).astype(np.float32)
    taken = [int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmin())]
    while len(taken) < 12:
        apart = np.linalg.norm(points[:, None] - points[taken][None], axis=2).min(axis=1)
        taken.append(int(apart.argmax()))
    assert coreset(points, 12).tolist() == taken
    assert coreset(points, 12, kept=3).tolist()[:3] == [0, 1, 2]
    assert coreset(points, 99).tolist() == list(range(60))


@pytest.mark.parametrize(("count", "width"), [(40, 6), (12, 30)])
def test_the_distance_of_means_is_mahalanobis_with_the_covariance_of_ledoit_and_wolf(count: int, width: int) -> None:
    rng = RNG(6)
    means = rng.normal(size=(count, width)) @ rng.normal(size=(width, width))
    peer = LedoitWolf().fit(means)
    one = rng.normal(size=width) * 3
    assert mahalanobis(means, one) == pytest.approx(float(np.sqrt(peer.mahalanobis(one[None])[0] / width)), rel=1e-6)


def test_what_a_texture_explains_is_left_out_and_a_speck_stays() -> None:
    rng = RNG(7)
    noise = scipy.ndimage.gaussian_filter(rng.normal(size=(80, 80)), 1.5) * 200 + 120
    weights = moments(noise.astype(np.float32)).weights()
    assert unexplained(noise.astype(np.float32), weights).max() < 0.2 * noise.std()
    speck = noise.copy()
    speck[40:44, 50:53] += 40
    heat = unexplained(speck.astype(np.float32), weights)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert abs(y - 42) <= 6
    assert abs(x - 51) <= 6


def test_the_prediction_of_a_pixel_is_least_squares_of_its_neighbours() -> None:
    plane = RNG(8).normal(100, 20, (20, 22)).astype(np.float32)
    centred = plane - plane.mean()
    rows, answers = [], []
    for y in range(2, 18):
        for x in range(2, 20):
            around = centred[y - 2 : y + 3, x - 2 : x + 3].ravel()
            rows.append(np.delete(around, 12))
            answers.append(around[12])
    expected = np.linalg.lstsq(np.array(rows), np.array(answers), rcond=None)[0]
    assert moments(plane).weights() == pytest.approx(expected, abs=5e-3)


# Aligned parts


def board(side: int = 256) -> np.ndarray:
    """Return a picture of rectangles that registration can hold on to."""
    rng, pixels = RNG(9), np.full((side, side), 220.0)
    for _ in range(26):
        y, x = rng.integers(8, side - 60, 2)
        height, width = rng.integers(8, 44, 2)
        pixels[y : y + height, x : x + width] = rng.integers(20, 160)
    return scipy.ndimage.gaussian_filter(pixels, 0.6)


def shaken(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return it moved by up to 4 pixels, turned by up to a degree, softer, in other light, with noise: by scipy."""
    angle, moved = np.deg2rad(rng.uniform(-1, 1)), rng.uniform(-4, 4, 2)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    middle = (np.array(pixels.shape) - 1) / 2
    laid = scipy.ndimage.affine_transform(pixels, turn, middle - turn @ middle + moved, order=3, mode="nearest")
    soft = scipy.ndimage.gaussian_filter(laid, rng.uniform(0.1, 1.2))
    return np.clip(soft * rng.uniform(0.8, 1.1) + rng.uniform(-8, 8) + rng.normal(0, 1.5, pixels.shape), 0, 255)


def test_edges_that_moved_by_the_tolerance_are_no_difference() -> None:
    plane = board().astype(np.float32)
    for shift in ((2, 0), (0, -2), (1, 1)):
        assert difference(plane, np.roll(plane, shift, (0, 1)))[8:-8, 8:-8].max() == 0
    assert difference(plane, np.roll(plane, 6, 0))[8:-8, 8:-8].max() > 20


def test_a_missing_and_an_added_spot_are_differences() -> None:
    # The line is so thin that wherever it is cut the template has its surroundings within two pixels.
    plane = np.full((60, 60), 200, np.float32)
    plane[:, 21:25] = 40
    cut, spilled = plane.copy(), plane.copy()
    cut[28:36, 21:25] = 200
    spilled[30:38, 40:48] = 40
    for changed, y, x in ((cut, 32, 23), (spilled, 34, 44)):
        heat = difference(plane, changed)
        top, left = np.unravel_index(heat.argmax(), heat.shape)
        assert abs(top - y) <= 4
        assert abs(left - x) <= 4


def test_a_picture_that_is_stretched_one_way_is_laid_on_its_template_all_the_same() -> None:
    golden = board()
    middle = (np.array(golden.shape) - 1) / 2
    # Rows and columns of the template at those of the picture: 3 % wider, and moved.
    back = np.diag([1.0, 1 / 1.03])
    offset = middle - back @ middle + (1.5, -2.0)
    stretched = scipy.ndimage.affine_transform(golden, back, offset, order=3, mode="nearest")
    view = TemplateSet([image(golden)]).view(image(stretched))
    assert not isinstance(view, str)
    for column, row in ((40, 40), (210, 60), (60, 220), (200, 200)):
        y, x = np.linalg.solve(back, np.array([row, column]) - offset)
        assert (view.matrix @ (column, row, 1))[:2] == pytest.approx((x, y), abs=0.3)
    assert view.score < 20


@pytest.fixture(scope="module")
def aligned() -> Inspector:
    rng, golden = RNG(10), board()
    good = [image(shaken(golden, rng), f"good{number}.png") for number in range(20)]
    return Inspector.fit(good, templates=[image(golden, "golden.png")])[0]


def test_a_shaken_good_part_passes_and_a_defect_is_found_where_it_is(aligned: Inspector) -> None:
    rng, golden = RNG(11), board()
    good = [aligned.decide(image(shaken(golden, rng))) for _ in range(8)]
    assert sum(one.defective is True for one in good) <= 1
    bad = golden.copy()
    bad[120:134, 60:75] = 255 - bad[120:134, 60:75]
    found = aligned.decide(image(shaken(bad, rng)))
    assert found.defective
    assert found.verdict is Verdict.NO_MATCH
    x, y, width, height = found.regions[0].box
    # It was moved by up to 4 pixels, and turned about the middle.
    assert abs(x + width / 2 - 67.5) < 8
    assert abs(y + height / 2 - 127) < 8
    assert 10 <= width <= 34
    assert 10 <= height <= 34


def test_what_does_not_lie_on_the_template_is_unknown(aligned: Inspector) -> None:
    other = image(skimage.data.camera()[:256, :256])
    found = aligned.decide(other)
    assert (found.defective, found.verdict, found.score) == (None, Verdict.UNKNOWN, None)
    assert "does not lie on its template" in found.reason
    black = aligned.decide(image(np.zeros((256, 256))))
    assert "black" in black.reason
    small = aligned.decide(image(board(200)[:200, :200]))
    assert "200x200 pixels, and the good pictures are 256x256" in small.reason


def test_of_several_templates_the_one_that_fits_is_taken() -> None:
    first, second = board(), np.rot90(board()).copy()
    known = TemplateSet([image(first, "first"), image(second, "second")])
    view = known.view(image(shaken(second, RNG(12))))
    assert not isinstance(view, str)
    assert view.template == "second"
    assert view.score < 30
    assert view.heat.min() == LEAST


# Inspector


def brick(rng: np.random.Generator, side: int = 96) -> np.ndarray:
    whole = skimage.data.brick()
    y, x = rng.integers(0, len(whole) - side, 2)
    return whole[y : y + side, x : x + side].astype(float)


@pytest.fixture(scope="module")
def surface() -> Inspector:
    rng, encoder = RNG(13), registry.encoder(registry.DEFAULT_ENCODER)
    return Inspector.fit([image(brick(rng), f"good{n}.png") for n in range(24)], encoder=encoder)[0]


def test_a_scratch_on_a_surface_is_found_and_new_good_ones_mostly_pass(surface: Inspector) -> None:
    rng = RNG(14)
    passed = [surface.decide(image(brick(rng))).defective is False for _ in range(12)]
    assert sum(passed) >= 9
    pixels = brick(rng)
    pixels[40:52, 40:52] = rng.choice([0, 255], (12, 12))
    found = surface.decide(image(pixels))
    assert found.defective
    assert {test.metric for test in found.evidence} == {"patches", "whole", "detail"}
    x, y, width, height = found.regions[0].box
    assert x < 46 < x + width
    assert y < 46 < y + height
    assert found.heat is not None
    assert found.heat.max() > 0.5


def test_an_inspector_survives_its_file(surface: Inspector, aligned: Inspector) -> None:
    encoder = registry.encoder(registry.DEFAULT_ENCODER)
    for one, picture in ((surface, image(brick(RNG(15)))), (aligned, image(shaken(board(), RNG(15))))):
        again = from_bytes(to_bytes(one), "x.inspector", lambda _: encoder)
        a, b = one.decide(picture), again.decide(picture)
        assert b.score == pytest.approx(a.score, abs=0.02)
        assert (b.threshold, b.verdict) == (a.threshold, a.verdict)
        assert len(to_bytes(one)) < 50e6


def test_a_damaged_newer_or_foreign_file_is_refused(surface: Inspector) -> None:
    data = to_bytes(surface)
    encoder = registry.encoder(registry.DEFAULT_ENCODER)
    for broken, told in (
        (data[:-1] + bytes([data[-1] ^ 1]), "damaged"),
        (data[: len(data) // 2], "damaged"),
        (data.replace(b"inspector 1\n", b"inspector 2\n", 1), "version 2"),
        (b"PK\x03\x04 something", "no inspector"),
        (b"", "no inspector"),
    ):
        with pytest.raises(InputError, match=told):
            from_bytes(broken, "x.inspector", lambda _: encoder)


def test_another_encoder_is_refused(surface: Inspector) -> None:
    other = registry.encoder("color-histogram")
    with pytest.raises(SpaceMismatch, match=r"x\.inspector was fitted with another encoder"):
        from_bytes(to_bytes(surface), "x.inspector", lambda _: other)
    with pytest.raises(SpaceMismatch):
        replace(surface, encoder=other).decide(image(brick(RNG(16))))
    with pytest.raises(ConfigError, match="shows no feature maps"):
        Inspector.fit([image(brick(RNG(n))) for n in range(3)], encoder=other)


def test_more_good_pictures_support_a_smaller_rate(surface: Inspector) -> None:
    rng = RNG(17)
    after, proof = surface.update([image(brick(rng), f"new{n}.png") for n in range(16)])
    assert (proof.threshold.pictures, proof.threshold.smallest) == (40, pytest.approx(1 / 41))
    assert len(surface.scores) == 24
    assert after.model is not None
    assert len(after.model.means) == 40
    # The old ones keep their scores: they were made without the new ones.
    assert (after.scores[:24] == surface.scores).all()


def test_what_does_not_fit_in_memory_at_once_is_added_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.inspecting.inspector.MOST_AT_ONCE", 8)
    rng, encoder = RNG(21), registry.encoder(registry.DEFAULT_ENCODER)
    good = [image(brick(rng), f"{n}.png") for n in range(11)]
    made, proof = Inspector.fit([*good, image(np.zeros((96, 96)), "black.png")], encoder=encoder)
    assert (proof.threshold.pictures, made.names) == (11, tuple(f"{n}.png" for n in range(11)))
    assert [one.path for one in proof.skipped] == ["black.png"]
    alone, _ = Inspector.fit(good[:8], encoder=encoder)
    assert made.scores[:8] == pytest.approx(alone.scores)
    assert made.scores[8] == pytest.approx(np.array([test.score for test in alone.decide(good[8]).evidence]))


def test_a_defective_picture_among_the_good_is_told() -> None:
    rng, encoder = RNG(18), registry.encoder(registry.DEFAULT_ENCODER)
    good = [image(brick(rng), f"good{n}.png") for n in range(14)]
    pixels = brick(rng)
    pixels[30:60, 30:60] = rng.choice([0, 255], (30, 30))
    _, proof = Inspector.fit([*good, image(pixels, "odd.png")], encoder=encoder)
    assert [one.path for one in proof.suspects][:1] == ["odd.png"]
    assert "stands out among the good pictures" in proof.suspects[0].reason


def test_too_few_good_pictures_are_refused_and_unusable_ones_left_out() -> None:
    encoder = registry.encoder(registry.DEFAULT_ENCODER)
    with pytest.raises(InputError, match="1 good picture is too few"):
        Inspector.fit([image(brick(RNG(19)))], encoder=encoder)
    with pytest.raises(InputError, match=r"0 good pictures are too few.*black\.png: nearly all black"):
        Inspector.fit([image(np.zeros((64, 64)), "black.png")], encoder=encoder)
    with pytest.raises(InputError, match="no good picture to calibrate on"):
        Inspector.fit([], templates=[image(board())])
    with pytest.raises(ConfigError, match="it takes 99"):
        Inspector.fit([image(brick(RNG(n))) for n in range(3)], encoder=encoder, rate=0.01)
    with pytest.raises(ConfigError, match="encoder, or golden templates"):
        Inspector.fit([image(brick(RNG(19)))])


# Masks


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 4), (7, 9), (14, 18), (20, 31)])
def test_a_cell_is_inspected_where_any_pixel_in_it_is(height: int, width: int) -> None:
    mask = RNG(30).random((14, 18)) > 0.9
    found = cells(mask, height, width)
    for row in range(height):
        for column in range(width):
            top, bottom = row * 14 // height, max((row + 1) * 14 // height, row * 14 // height + 1)
            left, right = column * 18 // width, max((column + 1) * 18 // width, column * 18 // width + 1)
            assert found[row, column] == mask[top:bottom, left:right].any()


def left_half(side: int) -> Image:
    mask = np.zeros((side, side))
    mask[:, : side // 2] = 255
    return image(mask, "mask.png")


def with_noise(pixels: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    changed = pixels.copy()
    changed[rows, columns] = RNG(31).choice([0.0, 255.0], changed[rows, columns].shape)
    return changed


def test_on_a_surface_what_the_mask_leaves_out_changes_no_score() -> None:
    rng, encoder = RNG(32), registry.encoder(registry.DEFAULT_ENCODER)
    good = [brick(rng) for _ in range(12)]
    mask, right = left_half(96), slice(48, 96)
    made, _ = Inspector.fit([image(one) for one in good], encoder=encoder, mask=mask)
    # The right halves of these are those of others.
    swapped = [np.hstack([one[:, :48], other[:, 48:]]) for one, other in zip(good, good[::-1], strict=True)]
    again, _ = Inspector.fit([image(one) for one in swapped], encoder=encoder, mask=mask)
    assert again.scores == pytest.approx(made.scores)
    picture = brick(rng)
    plain = made.decide(image(picture))
    outside = made.decide(image(with_noise(picture, slice(20, 60), right)))
    assert outside.score == pytest.approx(plain.score)
    inside = made.decide(image(with_noise(picture, slice(40, 54), slice(14, 28))))
    assert inside.defective
    assert all(region.box[0] + region.box[2] <= 56 for region in inside.regions)
    kept = from_bytes(to_bytes(made), "x.inspector", lambda _: encoder)
    assert kept.decide(image(with_noise(picture, slice(20, 60), right))).score == pytest.approx(plain.score, abs=0.02)


def test_on_a_part_what_the_mask_leaves_out_of_the_template_is_no_difference() -> None:
    rng, golden = RNG(33), board()
    good = [image(shaken(golden, rng)) for _ in range(6)]
    made, _ = Inspector.fit(good, templates=[image(golden, "golden.png")], mask=left_half(256))
    outside, inside = golden.copy(), golden.copy()
    outside[120:134, 180:195] = 255 - outside[120:134, 180:195]
    inside[120:134, 60:75] = 255 - inside[120:134, 60:75]
    assert made.decide(image(shaken(outside, rng))).defective is False
    found = made.decide(image(shaken(inside, rng)))
    assert found.defective
    assert abs(found.regions[0].box[0] + found.regions[0].box[2] / 2 - 67.5) < 8
    kept = from_bytes(to_bytes(made), "x.inspector", registry.encoder)
    assert kept.decide(image(shaken(outside, rng))).defective is False


def test_the_light_is_told_by_the_whole_where_what_is_inspected_is_tiny() -> None:
    golden = np.vstack([board(), np.full((64, 256), 200.0)])
    mask = np.zeros(golden.shape)
    mask[278:294, 98:114] = 255
    made, _ = Inspector.fit([image(golden - n) for n in range(3)], templates=[image(golden)], mask=image(mask))
    bad = golden.copy()
    bad[285:295, 100:110] = 120
    assert made.decide(image(golden * 0.8 + 10)).defective is False
    assert made.decide(image(bad * 0.8 + 10)).defective


def test_a_mask_of_another_shape_without_white_or_without_black_is_refused() -> None:
    encoder = registry.encoder(registry.DEFAULT_ENCODER)
    tall = image(np.repeat([[255], [0]], 100, axis=0).repeat(100, axis=1), "tall.png")
    with pytest.raises(InputError, match=r"mask white\.png is white all over and leaves nothing out"):
        Inspector.fit([], encoder=encoder, mask=image(np.full((96, 96), 255), "white.png"))
    with pytest.raises(InputError, match=r"mask black\.png has nothing white"):
        Inspector.fit([], encoder=encoder, mask=image(np.zeros((96, 96)), "black.png"))
    with pytest.raises(InputError, match="it is 96x96 pixels, and the mask 100x200: another shape"):
        Inspector.fit([image(brick(RNG(n))) for n in range(3)], encoder=encoder, mask=tall)
    with pytest.raises(InputError, match=r"template golden\.png does not go with the mask"):
        Inspector.fit([image(board())], templates=[image(board(), "golden.png")], mask=tall)


def test_a_part_that_is_not_wholly_in_view_is_told(aligned: Inspector) -> None:
    moved = np.full((256, 256), 220.0)
    moved[:, :216] = board()[:, 40:]
    found = aligned.decide(image(moved))
    assert found.defective is False
    assert "only 84% of the part is in view" in found.reason
    assert "in view" not in aligned.decide(image(board())).reason
