"""The numbers behind ``monitor``: regions, light, discriminant, level, evidence, settling."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import skimage.data
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from lookalike import registry
from lookalike.edits import Edit
from lookalike.errors import ConfigError, InputError
from lookalike.images.reencode import resized
from lookalike.registration import View
from lookalike.states.discriminant import KEPT, Discriminant, Told
from lookalike.states.evidence import BASE, Look, Noise, differences, moved, small
from lookalike.states.level import Mixture, Scale, agreed, tiles_of, witnesses
from lookalike.states.light import light_between
from lookalike.states.monitor import Monitor
from lookalike.states.observing import States
from lookalike.states.past import KEPT as PAST_KEPT
from lookalike.states.past import Judged, Past, drift, judged
from lookalike.states.regions import Region, faded, whole
from lookalike.states.settling import Reading, Settling
from lookalike.states.standing import StandingView
from lookalike.states.timeline import Timeline
from lookalike.types import Embeddings, Image, Verdict

ENCODER = registry.encoder("efficientnet-lite0")


def bowl(pieces: int, seed: int = 0, side: int = 240) -> np.ndarray:
    """Draw a pale bowl on a wooden floor, with so many brown pieces in it, the first of which are always the same."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] - side / 2
    grain = np.random.default_rng(99).normal(0, 6, (side, 1)) + 4 * np.sin(columns / 9)
    pixels = np.array([110.0, 80, 60]) + grain[..., None]
    pixels[np.hypot(rows, columns) < 0.42 * side] = (215, 215, 225)
    for angle, away in zip(rng.uniform(0, 2 * math.pi, pieces), np.sqrt(rng.uniform(0, 0.1, pieces)), strict=True):
        y, x = side * away * math.sin(angle), side * away * math.cos(angle)
        pixels[np.hypot(rows - y, columns - x) < 0.03 * side] = (95, 60, 35)
    return np.clip(pixels + np.random.default_rng(seed + 1).normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)


def image(pixels: np.ndarray) -> Image:
    pixels = np.ascontiguousarray(pixels)
    return Image(pixels, (pixels.shape[1], pixels.shape[0]))


def references() -> States:
    return States(
        {"empty": [image(bowl(0, s)) for s in range(2)], "food": [image(bowl(60, s)) for s in range(2)]},
        {"empty": 0.0, "food": 1.0},
    )


def watching(**options: object) -> Monitor:
    return Monitor(references(), encoder=ENCODER, **options)  # type: ignore[arg-type]


def test_a_region_that_is_not_turned_is_a_plain_crop() -> None:
    pixels = skimage.data.astronaut()
    cut, inside = Region("r", cx=199.5, cy=149.5, w=160, h=140).cut(pixels)
    assert np.array_equal(cut, pixels[80:220, 120:280])
    assert inside == 1.0


def test_a_region_that_is_turned_by_90_degrees_is_the_crop_turned() -> None:
    pixels = skimage.data.astronaut()
    cut, _ = Region("r", 199.5, 149.5, w=140, h=160, angle=90).cut(pixels)
    assert np.abs(cut.astype(int) - np.rot90(pixels[80:220, 120:280], 1).astype(int)).max() <= 1


def test_the_outer_fifth_of_a_box_fades_to_its_own_mean() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 20, 3)).astype(np.uint8)
    ramp = [0.25, 0.75]  # the outer two of ten pixels lie 1/20 and 3/20 inside, of 1/5
    down = ramp + [1.0] * 6 + ramp[::-1]
    ramp = [0.125, 0.375, 0.625, 0.875]
    across = ramp + [1.0] * 12 + ramp[::-1]
    weight = [[a * b for a in across] for b in down]
    for channel in range(3):
        plane = pixels[..., channel].tolist()
        total = sum(w * p for ws, ps in zip(weight, plane, strict=True) for w, p in zip(ws, ps, strict=True))
        mean = total / sum(map(sum, weight))
        wanted = [
            [w * p + (1 - w) * mean for w, p in zip(ws, ps, strict=True)] for ws, ps in zip(weight, plane, strict=True)
        ]
        assert np.abs(faded(pixels)[..., channel] - np.array(wanted)).max() <= 0.51


def test_a_shrunk_region_is_the_mean_of_what_falls_on_each_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (448, 448, 3), np.uint8)
    cut, _ = whole(pixels).cut(pixels)
    naive = pixels.reshape(224, 2, 224, 2, 3).mean(axis=(1, 3))
    assert np.abs(cut - naive).max() <= 1


def test_a_region_half_outside_of_the_frame_says_so() -> None:
    assert Region("r", 0, 50, 40, 40).cut(np.zeros((100, 100, 3), np.uint8))[1] == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("wrong", [{"w": 0.0}, {"cx": math.nan}, {"name": ""}])
def test_a_region_without_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="region"):
        Region(**{"name": "r", "cx": 1.0, "cy": 1.0, "w": 5.0, "h": 5.0, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "edit",
    [
        Edit("brightness", {"factor": 0.5}),
        Edit("gamma", {"exponent": 0.5}),
        Edit("gamma", {"exponent": 2.0}),
        Edit("color cast", {"red": 0.8, "green": 1, "blue": 1.1}),
    ],
    ids=str,
)
def test_light_is_taken_back_though_a_quarter_of_the_picture_changed(edit: Edit) -> None:
    before = resized(skimage.data.coffee(), 96, 64)
    lit = edit.apply(before, np.random.default_rng(0))
    changed = lit.copy()
    changed[:32, :48] = 90
    back = light_between(changed, before).applied(lit).astype(float)
    unclipped = (lit > 8) & (lit < 247) & (before > 8) & (before < 247)
    assert np.abs(back - before)[unclipped].mean() < 0.2 * np.abs(lit.astype(float) - before)[unclipped].mean()


def test_two_states_are_told_apart_as_scikit_learns_shrunk_discriminant_does() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, (12, 30)), rng.normal(0.7, 1, (12, 30))
    ours = Discriminant({"a": a.astype(np.float32), "b": b.astype(np.float32)})
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5).fit(np.vstack([a, b]), [0] * 12 + [1] * 12)
    new = rng.normal(0.35, 1, (50, 30))
    positions = np.array([ours.tell(row.astype(np.float32)).position for row in new]) - 0.5
    # The peer's covariance is scaled otherwise, which changes the length of the score and hardly its direction.
    assert np.corrcoef(positions, peer.decision_function(new))[0, 1] > 0.99


def test_a_mean_reference_has_margin_one_and_the_middle_none() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(m, 0.1, (6, 8)).astype(np.float32) for m in (0, 1))
    states = Discriminant({"a": a, "b": b})
    assert states.tell(b.mean(axis=0)).margin == pytest.approx(1, abs=1e-5)
    assert states.tell(b.mean(axis=0)).position == pytest.approx(1, abs=1e-5)
    assert states.tell((a.mean(axis=0) + b.mean(axis=0)) / 2).margin == pytest.approx(0, abs=1e-5)


def test_what_is_far_from_all_states_is_strange_and_their_own_are_not() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(m, 0.1, (6, 8)).astype(np.float32) for m in (0, 1))
    states = Discriminant({"a": a, "b": b})
    assert max(states.tell(row).strangeness for row in (*a, *b)) < 1
    assert states.tell(np.full(8, -4, np.float32)).strangeness > 1


def test_what_is_learned_while_running_is_bounded_and_the_references_stay() -> None:
    rng = np.random.default_rng(0)
    given = {name: rng.normal(m, 0.1, (4, 8)).astype(np.float32) for name, m in (("a", 0), ("b", 1))}
    states = Discriminant(given)
    for _ in range(5):
        states.adapt([("a", row) for row in rng.normal(0.3, 0.1, (30, 8)).astype(np.float32)])
    assert len(states.adapted["a"]) == KEPT
    assert states.adapted["b"] == []
    assert states.references == given
    assert states.tell(np.full(8, 0.3, np.float32)).state == "a"


def test_levels_come_in_the_order_of_the_fill() -> None:
    scale = Scale({0.0: [tiles_of(bowl(0))], 1.0: [tiles_of(bowl(60))]})
    found = [scale.read(tiles_of(bowl(n, seed=5))).raw for n in (0, 8, 20, 40, 60)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(0, abs=0.1)
    assert found[-1] == pytest.approx(1, abs=0.2)


def test_a_level_is_the_share_in_which_two_pictures_are_mixed() -> None:
    """Half of the tiles from one picture and half from the other: the level is a half by hand."""
    low, high = tiles_of(bowl(0)), tiles_of(skimage.data.coffee())
    mixed = low.copy()
    mixed[::2] = high[::2]
    share = float(high[::2].sum() / high.sum())
    assert Scale({0.0: [low], 1.0: [high]}).read(mixed).raw == pytest.approx(share, abs=0.15)


def test_a_witness_weights_each_bin_by_the_inverse_of_its_count() -> None:
    low, high, new = (tiles_of(bowl(n)) for n in (0, 60, 20))
    a, b, x = (tiles.sum(axis=0, dtype=np.float64) for tiles in (low, high, new))
    weights = [1 / ((p + q) / 2 + 0.002) for p, q in zip(a, b, strict=True)]
    top = sum(w * (q - p) * (r - p) for w, p, q, r in zip(weights, a, b, x, strict=True))
    assert Mixture({0.0: [low], 1.0: [high]}).read(new)[0] == pytest.approx(
        top / (weights * (b - a) ** 2).sum(), abs=1e-4
    )


def test_witnesses_count_the_bins_along_the_others() -> None:
    tiles = tiles_of(bowl(20))
    light, colour, texture = witnesses(tiles)
    naive = np.zeros((64, 6)), np.zeros((64, 36)), np.zeros((64, 3))
    for k in range(tiles.shape[1]):
        for counts, number in zip(naive, (k // 108, k // 3 % 36, k % 3), strict=True):
            counts[:, number] += tiles[:, k]
    for found, wanted in zip((light, colour, texture), naive, strict=True):
        assert found == pytest.approx(wanted, abs=1e-6)


def test_the_mean_of_the_witnesses_is_that_of_random_effects() -> None:
    # By hand: equal variances .01 (and .0001), Q = 2 (.3)^2 / .0101 = 17.82, c = 2 / .0101, tau^2 = 15.82 / 198.02.
    value, variance = agreed([0.2, 0.5, 0.8], [0.01, 0.01, 0.01])
    assert value == pytest.approx(0.5)
    assert variance == pytest.approx((0.0101 + 15.82 / 198.02) / 3, rel=1e-3)
    # Two that agree: no variance between them, so the inverse of the variances weights them.
    value, variance = agreed([0.5, 0.52], [0.0099, 0.0399])
    assert value == pytest.approx((0.5 / 0.01 + 0.52 / 0.04) / 125)
    assert variance == pytest.approx(1 / 125)
    assert agreed([0.5, 9.0], [0.01, math.inf])[0] == 0.5
    assert agreed([3.0], [math.inf]) == (0.5, math.inf)


def test_a_level_between_states_that_look_alike_may_be_any() -> None:
    level = Scale({0.0: [tiles_of(bowl(0))], 1.0: [tiles_of(bowl(0))]}).read(tiles_of(bowl(60)))
    assert level.interval == (0.0, 1.0)


def test_the_interval_of_a_level_holds_the_truth_where_only_some_of_it_is_new() -> None:
    low, high = tiles_of(bowl(0)), tiles_of(bowl(60))
    scale = Scale({0.0: [low], 1.0: [high]})
    rng = np.random.default_rng(0)
    for share in (0.2, 0.5, 0.8):
        mixed = np.where((rng.permutation(64) < 64 * share)[:, None], high, low)
        truth = float(((mixed - low).sum(axis=0) @ (high - low).sum(axis=0)) / ((high - low).sum(axis=0) ** 2).sum())
        inside = scale.read(mixed).interval
        assert inside[0] <= truth <= inside[1]


def test_a_level_needs_two_states() -> None:
    with pytest.raises(InputError, match="two states"):
        Scale({0.0: [tiles_of(bowl(0))]})


def look(pixels: np.ndarray) -> Look:
    return Look(ENCODER.encode([image(pixels)]).vectors[0], small(pixels))


def test_equal_pictures_do_not_differ() -> None:
    assert differences(look(bowl(9)), look(bowl(9))) == pytest.approx((0, 0, 0), abs=1e-4)


@pytest.mark.parametrize(
    "edit",
    [Edit("brightness", {"factor": 0.6}), Edit("gamma", {"exponent": 1.8}), Edit("noise", {"sigma": 6})],
    ids=str,
)
def test_light_is_no_change_and_food_is(edit: Edit) -> None:
    noise, before = Noise(), look(bowl(0))
    assert noise.change(differences(look(edit.apply(bowl(0), np.random.default_rng(0))), before)) < 1
    assert noise.change(differences(look(bowl(60)), before)) > 1


def test_thresholds_follow_the_noise_of_the_recent_past_within_bounds() -> None:
    noise = Noise()
    assert noise.thresholds == BASE
    for k in range(200):
        noise.learn((0.25 + 0.01 * (k % 3), 0.1, 0.0))
    # By hand: of .25 .26 .27 in equal parts the median is .26 and the median deviation .01.
    assert noise.thresholds == pytest.approx((0.26 + 5 * 1.4826 * 0.01, BASE[1], BASE[2]))
    assert len(noise.seen) <= 64
    for _ in range(64):
        noise.learn((9.0, 9.0, 9.0))
    assert noise.thresholds == pytest.approx([2.5 * base for base in BASE])


def test_two_witnesses_have_to_agree_on_a_change() -> None:
    embedding, structure, colour = BASE
    assert Noise().change((9 * embedding, 0, 0)) == 0
    assert Noise().change((9 * embedding, 0.5 * structure, 3 * colour)) == pytest.approx(3)


def settle(states: str, dwell: int = 3, still: bool = True, doubt: float = 0.2) -> list[tuple[int, str]]:
    """Return when which state settled, for one letter a frame; a small one is doubtful, ``.`` cannot be judged."""
    settling, found = Settling(dwell), []
    for number, letter in enumerate(states):
        weight = doubt if letter.islower() else 1.0
        event = settling.update(Reading(None if letter == "." else letter.upper(), weight, still))
        if event is not None:
            found.append((number, event[1]))
    return found


@pytest.mark.parametrize(
    ("states", "settled"),
    [
        ("EEEEEE", [(2, "E")]),
        ("EEEFEE", [(2, "E")]),
        ("EEEFFEEE", [(2, "E")]),
        ("EEEFFF", [(2, "E"), (5, "F")]),
        ("EEEF..FF", [(2, "E"), (7, "F")]),
        ("EEE......", [(2, "E")]),
        ("EEEFGFGFG", [(2, "E")]),
        ("EEEFEFEFEFEFEF", [(2, "E")]),
        ("EEEFFFEEE", [(2, "E"), (5, "F"), (8, "E")]),
        ("EEEFeFF", [(2, "E"), (6, "F")]),
        ("EEEFFeF", [(2, "E"), (6, "F")]),
        ("EEEFEFFF", [(2, "E"), (7, "F")]),
        ("EEEfff", [(2, "E")]),
    ],
)
def test_a_state_settles_after_its_dwell_and_what_passes_or_is_misread_does_not(
    states: str, settled: list[tuple[int, str]]
) -> None:
    assert settle(states) == settled


@pytest.mark.parametrize("dwell", [1, 2, 5])
def test_one_frame_less_than_the_dwell_never_settles(dwell: int) -> None:
    assert settle("E" * dwell + ("F" * (dwell - 1) + "E" * dwell) * 5, dwell) == [(dwell - 1, "E")]


def test_what_moves_all_the_time_does_not_settle() -> None:
    assert settle("FFFFFFFF", still=False) == []


def unit(*values: float) -> np.ndarray:
    return np.asarray(values, np.float32) / np.float32(np.linalg.norm(values))


def test_a_place_that_is_near_its_own_look_keeps_its_state_and_one_that_is_far_does_not() -> None:
    past, doubtful = Past(), Told("b", 0.1, 0.55, 0.5, {"a": -0.1, "b": 0.0})
    past.learn("a", unit(1, 0, 0))
    common = drift([(past, "a")], [(unit(1, 0, 0), doubtful)], apart=0.5)
    assert common.distance == pytest.approx(0.2)
    assert judged(doubtful, unit(1, 0.05, 0), past, "a", common).state == "a"
    # By hand: 1 - cos = 0.4 is twice the bound, so .35 is taken from "a": (.1 + .35) / 1.35.
    far = judged(doubtful, unit(0.6, 0.8, 0), past, "a", common)
    assert (far.state, far.margin) == ("b", pytest.approx(0.45 / 1.35))


def test_of_a_place_without_a_past_the_references_alone_tell() -> None:
    told = Told("b", 0.3, 0.7, 0.5, {"a": -0.3, "b": 0.0, "c": -0.8})
    assert judged(told, unit(1, 0), Past(), None, drift([], [], 0.5)) == Judged("b", 0.3)


def test_a_margin_that_falls_below_what_is_usual_there_speaks_against_the_state() -> None:
    past, told = Past(), Told("a", 0.1, 0.45, 0.5, {"a": 0.0, "b": -0.1})
    common = drift([], [], 0.5)
    assert judged(told, unit(1, 0), past, "a", common).state == "a"
    past.margins.extend([1.0] * 5)
    # By hand: it fell by .9, the bound is .4, so .2 (1 - .9 / .4) = -.25 joins the .1.
    below = judged(told, unit(1, 0), past, "a", common)
    assert (below.state, below.margin) == ("b", pytest.approx(0.15 / 1.2))


def test_what_the_light_does_to_most_places_is_no_change_of_any() -> None:
    rng = np.random.default_rng(0)
    told = Told("a", 0.5, 0.2, 0.5, {"a": 0.0, "b": -0.5})
    before = [unit(*rng.normal(0, 1, 20)) for _ in range(12)]
    places = []
    for vector in before:
        places.append((Past(), "a"))
        places[-1][0].learn("a", vector)
    light = rng.normal(0, 0.4, 20)
    seen = [((vector + light).astype(np.float32), told) for vector in before]
    common = drift(places, seen, apart=0.5)
    assert common.shift == pytest.approx(light, abs=1e-5)
    assert judged(told, seen[0][0], places[0][0], "a", common).margin == pytest.approx((0.5 + 0.35) / 1.35, abs=1e-4)
    few = drift(places[:5], seen[:5], apart=0.5)
    assert judged(told, seen[0][0], places[0][0], "a", few).margin < 0.2


def test_a_place_keeps_few_looks_and_none_twice() -> None:
    past, rng = Past(), np.random.default_rng(0)
    for _ in range(30):
        past.learn("a", unit(1, 0, 0))
    assert len(past.looks["a"]) == 1
    for _ in range(30):
        past.learn("a", unit(*rng.normal(0, 1, 20)[:3]))
    assert 1 < len(past.looks["a"]) <= PAST_KEPT


def test_how_far_states_are_apart_is_the_median_over_plain_references() -> None:
    rng = np.random.default_rng(1)
    rows = {name: np.array([unit(*rng.normal(m, 1, 5)) for _ in range(6)]) for name, m in (("a", 0), ("b", 2))}
    naive = [1 - float(a @ b) for a in rows["a"][::2] for b in rows["b"][::2]]
    assert Discriminant(rows, views=2).apart == pytest.approx(np.median(naive), abs=1e-6)


class Counting:
    """An encoder that counts what it is given."""

    def __init__(self) -> None:
        self.count = 0
        self.space, self.at_least = ENCODER.space, ENCODER.at_least

    def encode(self, images: Sequence[Image]) -> Embeddings:
        self.count += len(images)
        return ENCODER.encode(images)


def test_only_regions_that_changed_are_embedded_and_what_is_told_stays_the_same() -> None:
    rng = np.random.default_rng(0)
    rooms = [bowl(0, 7), bowl(60, 7), bowl(0, 8)]
    regions = [Region(name, 119.5 + 240 * k, 119.5, 240, 240) for k, name in enumerate("abc")]
    counting = Counting()
    monitor = Monitor(references(), encoder=counting, regions=regions, register=False)
    plain = Monitor(references(), encoder=ENCODER, regions=regions, register=False)

    def frame(noise: float = 1.0) -> Image:
        pixels = np.concatenate(rooms, axis=1)
        return image(np.clip(pixels + rng.normal(0, noise, pixels.shape), 0, 255).astype(np.uint8))

    first = frame()
    monitor.update(first, 0.0)
    plain.update(first, 0.0)
    counting.count = 0
    for k in range(4):
        now = frame()
        told = [(one.region, one.state, one.settled) for one in monitor.update(now, 1.0 + k)]
        for place in plain._places:
            place.glance = None
        assert told == [(one.region, one.state, one.settled) for one in plain.update(now, 1.0 + k)]
    assert counting.count == 0
    rooms[2] = bowl(60, 9)
    (_, _, changed) = monitor.update(frame(), 9.0)
    assert (counting.count, changed.state) == (2, "food")  # as it is, and faded


def test_a_box_is_embedded_as_it_is_and_faded_and_a_whole_view_as_it_is() -> None:
    now = bowl(60, 7)
    box = Region("r", 119.5, 119.5, 200, 160)
    (cut, _), (view, _), encode = box.cut(now), whole(now).cut(now), ENCODER.encode
    for options, wanted in (({"regions": [box]}, [cut, faded(cut)]), ({}, [view])):
        monitor = watching(register=False, **options)
        monitor.update(image(now), 0.0)
        (place,) = monitor._places
        assert place.glance is not None
        told = place.glance.look.vector
        expected = np.concatenate([encode([image(one)]).vectors[0] for one in wanted])
        assert told == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)


def test_a_look_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.states.observing._OLDEST", 3)
    counting = Counting()
    monitor = Monitor(references(), encoder=counting, register=False)
    monitor.update(image(bowl(0)), 0.0)
    counting.count = 0
    for k in range(9):
        monitor.update(image(bowl(0)), 1.0 + k)
    assert counting.count == 2  # after the fourth frame, and four later


def test_a_crumb_moves_a_place_and_its_noise_does_not() -> None:
    rng = np.random.default_rng(0)
    clean = small(bowl(3))
    noisy = [np.clip(clean + rng.normal(0, 4, clean.shape), 0, 255).astype(np.uint8) for _ in range(20)]
    # At 64 x 64 each of 8 x 8 blocks has 64 pixels: noise of 4 levels is .7 between two means.
    assert not any(moved(a, b, 4.0, 64 * 64) for a, b in itertools.pairwise(noisy))
    crumb = noisy[0].copy()
    crumb[20:24, 20:24] = 0
    assert moved(crumb, noisy[1], 4.0, 64 * 64)


def test_a_dwell_of_no_frame_is_refused() -> None:
    with pytest.raises(ConfigError, match="dwell=0"):
        Settling(0)


def run(monitor: Monitor, frames: list[np.ndarray]) -> list[tuple[int, str, str]]:
    """Return the events: frame, before, after."""
    return [
        (number, one.event.before, one.event.after)
        for number, pixels in enumerate(frames)
        for one in monitor.update(image(pixels), float(number))
        if one.event is not None
    ]


def test_one_event_when_the_bowl_is_filled_and_none_before() -> None:
    frames = [bowl(0, seed) for seed in range(5, 10)] + [bowl(60, seed) for seed in range(5, 10)]
    assert run(watching(), frames) == [(7, "empty", "food")]


def test_three_states_each_settle_in_their_turn() -> None:
    pieces = {"empty": 0, "some": 15, "full": 60}
    states = States({name: [image(bowl(n, s)) for s in range(3)] for name, n in pieces.items()})
    order = ["empty", "some", "full", "some", "empty"]
    frames = [bowl(pieces[name], 30 + k) for name in order for k in range(3)]
    assert run(Monitor(states, encoder=ENCODER), frames) == [
        (3 * k + 2, before, after) for k, (before, after) in enumerate(itertools.pairwise(order), 1)
    ]


def test_light_steps_nudges_and_noise_make_no_event() -> None:
    rng = np.random.default_rng(1)
    edits = [
        Edit("brightness", {"factor": 0.5}),
        Edit("brightness", {"factor": 1.15}),
        Edit("gamma", {"exponent": 0.5}),
        Edit("gamma", {"exponent": 2.0}),
        Edit("color cast", {"red": 0.8, "green": 1, "blue": 1.1}),
        Edit("noise", {"sigma": 12}),
    ]
    frames = [bowl(60, 3)] * 4 + [edit.apply(bowl(60, 3), rng) for edit in edits for _ in range(4)]
    frames += [np.roll(bowl(60, 3), (5, -4), (0, 1))] * 4
    monitor = watching()
    assert run(monitor, frames) == []
    assert monitor.update(image(frames[0]), 99.0)[0].settled == "food"


def test_a_hand_that_passes_makes_no_event() -> None:
    hand = bowl(0).copy()
    hand[60:240, 80:160] = (200, 150, 120)
    assert run(watching(), [bowl(0)] * 4 + [hand] * 2 + [bowl(0)] * 4) == []


@pytest.mark.parametrize(("pixels", "reason"), [(np.zeros((240, 240, 3), np.uint8), "black"), (bowl(0) // 20, "dark")])
def test_a_dark_view_is_unknown_and_the_state_outlives_it(pixels: np.ndarray, reason: str) -> None:
    monitor = watching()
    run(monitor, [bowl(60)] * 3)
    (one,) = monitor.update(image(pixels), 4.0)
    assert (one.state, one.verdict, one.settled) == ("unknown", Verdict.UNKNOWN, "food")
    assert reason in one.reason
    assert run(monitor, [bowl(60)] * 4) == []


def test_a_black_first_frame_is_not_taken_for_the_view() -> None:
    monitor = watching()
    assert monitor.update(image(np.zeros((240, 240, 3), np.uint8)), 0.0)[0].verdict is Verdict.UNKNOWN
    assert monitor.update(image(bowl(60)), 1.0)[0].state == "food"


def test_a_view_that_filled_little_by_little_is_still_followed() -> None:
    """A frame that is hardly like the first one any more is laid on it by way of the last one that was."""
    room = resized(skimage.data.astronaut(), 320, 240)
    full = resized(skimage.data.coffee(), 320, 240)
    shares = (0.0, 0.4, 0.7)
    frames = []
    for k, share in enumerate(shares):
        pixels = room.copy()
        pixels[:, : int(320 * share)] = full[:, : int(320 * share)]
        frames.append(image(np.roll(pixels, (2 * k, -3 * k), (0, 1))))
    view = StandingView(frames[0], register=True)
    view.placed(frames[0])
    view.placed(frames[1])
    assert not View(frames[0]).follow(frames[2], search=False).found
    placed, problem = view.placed(frames[2])
    assert problem is None
    assert placed is not None
    assert placed.matrix is not None
    assert [row[2] for row in placed.matrix] == pytest.approx([-6, 4], abs=1.0)


def test_a_blocked_view_is_unknown() -> None:
    monitor = watching()
    run(monitor, [bowl(0)] * 3)
    (one,) = monitor.update(image(resized(skimage.data.coffee(), 240, 240)), 4.0)
    assert one.verdict is Verdict.UNKNOWN
    assert "blocked" in one.reason


def test_a_frame_of_another_size_is_registered_to_the_view() -> None:
    monitor = watching()
    run(monitor, [bowl(0)] * 3)
    (one,) = monitor.update(image(resized(bowl(60), 180, 180)), 4.0)
    assert one.state == "food"


def test_without_registration_a_frame_of_another_size_is_told() -> None:
    monitor = watching(register=False)
    run(monitor, [bowl(0)] * 3)
    (one,) = monitor.update(image(resized(bowl(60), 180, 180)), 4.0)
    assert "180x180" in one.reason
    assert "240x240" in one.reason


def test_without_references_a_change_is_told_against_the_last_and_the_first_look() -> None:
    monitor = Monitor(encoder=ENCODER)
    assert run(monitor, [bowl(0)] * 4 + [bowl(60)] * 4 + [bowl(0)] * 4) == [
        (6, "first", "other"),
        (10, "other", "first"),
    ]
    (one,) = monitor.update(image(bowl(0)), 20.0)
    assert one.change is not None
    assert one.change_from_first is not None
    assert max(one.change, one.change_from_first) < 1


def test_one_state_alone_tells_itself_from_the_unknown() -> None:
    states = States({"empty": [image(bowl(0, seed)) for seed in range(3)]})
    monitor = Monitor(states, encoder=ENCODER)
    assert monitor.update(image(bowl(0, 9)), 0.0)[0].state == "empty"
    assert monitor.decide(image(resized(skimage.data.coffee(), 240, 240))).strangeness > 1


def test_a_clock_that_goes_back_is_told() -> None:
    monitor = watching()
    monitor.update(image(bowl(0)), 100.0)
    assert "the clock went back by 40 s" in monitor.update(image(bowl(0)), 60.0)[0].reason


def test_each_region_has_a_state_of_its_own() -> None:
    frame = np.concatenate([bowl(0, 7), bowl(60, 7)], axis=1)
    regions = [Region("left", 119.5, 119.5, 240, 240), Region("right", 359.5, 119.5, 240, 240)]
    left, right = watching(regions=regions).update(image(frame), 0.0)
    assert (left.region, left.state, right.region, right.state) == ("left", "empty", "right", "food")


def test_two_regions_of_one_name_and_one_outside_of_the_view_are_refused() -> None:
    region = Region("r", 10, 10, 9, 9)
    with pytest.raises(ConfigError, match="two regions are named 'r'"):
        watching(regions=[region, region])
    with pytest.raises(InputError, match="outside"):
        watching(regions=[Region("far", 900, 10, 9, 9)]).update(image(bowl(0)), 0.0)


def test_a_monitor_that_is_taken_up_again_goes_on_as_if_it_had_never_stopped() -> None:
    frames = [bowl(0, s) for s in range(5, 9)] + [bowl(60, s) for s in range(5, 11)]
    whole_run = watching()
    seen = [one for k, f in enumerate(frames) for one in whole_run.update(image(f), k)]
    expected = [(one.state, one.settled, one.event is None) for one in seen]
    first = watching()
    told = [one for k, f in enumerate(frames[:5]) for one in first.update(image(f), k)]
    memory = first.remember()
    assert memory is not None
    second = watching()
    second.recall(memory)
    told += [one for k, f in enumerate(frames[5:], 5) for one in second.update(image(f), k)]
    assert [(one.state, one.settled, one.event is None) for one in told] == expected


def test_the_memory_of_another_setting_is_refused() -> None:
    monitor = watching()
    monitor.update(image(bowl(0)), 0.0)
    memory = monitor.remember()
    assert memory is not None
    with pytest.raises(InputError, match="states"):
        Monitor(encoder=ENCODER).recall(memory)


def test_a_timeline_does_not_grow_without_bound() -> None:
    monitor, timeline = watching(), Timeline()
    seen = monitor.update(image(bowl(60)), 0.0)
    for _ in range(9000):
        timeline.add(seen)
    (track,) = timeline.tracks.values()
    assert len(track.runs) == 1
    assert 500 < len(track.levels) <= 2001


def test_a_nudge_of_the_camera_is_followed_to_half_a_pixel() -> None:
    pixels = skimage.data.astronaut()
    view = View(image(pixels[20:420, 20:420]))
    placed = view.follow(image(pixels[26:426, 11:411]))
    assert placed.matrix is not None
    assert [row[2] for row in placed.matrix] == pytest.approx([9, -6], abs=0.5)
    assert not view.follow(image(resized(skimage.data.coffee(), 400, 400)), placed).found
