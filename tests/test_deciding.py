"""Pictures to scores: against naive loops over pairs, and against what a calibration is made on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lookalike import registry
from lookalike.calibrating import adapted, either_way
from lookalike.calibration import Background, Calibration
from lookalike.calibration.background import NEAREST, keys_of
from lookalike.calibration.fusion import FUSIONS
from lookalike.deciding import METRICS, Seen, look, scores_of
from lookalike.quality import measure
from lookalike.restoration import restored
from lookalike.types import Embeddings, Image, Quality, Space, Usual
from worlds import background, calibration, sample

LABELS = ("unit 0", None, "unit 3", "unit 3", "of none", "unit 7", None, "unit 13")


def seen(rows: slice | None = None, labels: Sequence[str | None] = LABELS) -> Seen:
    """Pictures of another sample than that of the calibration, as they came and corrected."""
    other = sample(5, units=4, each=2)
    made = calibration().background
    assert made is not None
    everyone = Seen(other.embeddings, made.corrected(other.embeddings.vectors, other.qualities), other.qualities, ())
    rows = rows or slice(0, 8)
    return Seen(everyone.embeddings[rows], everyone.corrected[rows], everyone.qualities[rows], tuple(labels[rows]))


def naive_level(name: str, vector: np.ndarray, cohort: Background, labels: Sequence[str | None]) -> float:
    metric = registry.metric(name)
    strangers = [v for v, label in zip(cohort.vectors, cohort.labels, strict=True) if label not in labels]
    scores = [float(metric.matrix(vector[None], v[None])[0, 0]) for v in strangers]
    near = sorted(scores, reverse=metric.higher_is_closer)[: max(1, round(NEAREST * len(scores)))]
    return (1 if metric.higher_is_closer else -1) * sum(near) / len(near)


# Scores


@pytest.mark.parametrize("own", [None, "unit 0", "unit 3"])
def test_scores_and_shifts_equal_a_naive_loop_over_pairs(own: str | None) -> None:
    made, others = calibration(), seen()
    one = seen(slice(2, 3), (own,) * 8)
    cohort = made.background
    assert cohort is not None
    found = scores_of(one, others, made)
    for j, label in enumerate(LABELS):
        scores, context = found.of(j), found.context(j, ["a problem"], 7)
        assert (context.problems, context.items) == (("a problem",), 7)
        assert set(scores) == set(context.shifts) == {*METRICS, *FUSIONS}
        above = {}
        for name in METRICS:
            metric = registry.metric(name)
            sign = 1 if metric.higher_is_closer else -1
            plain = metric.matrix(one.embeddings.vectors, others.embeddings.vectors[j : j + 1])[0, 0]
            assert scores[name] == pytest.approx(float(plain), abs=1e-6)
            exact = metric.matrix(one.corrected.astype(float), others.corrected[j : j + 1].astype(float))[0, 0]
            levels = [naive_level(name, v, cohort, [own, label]) for v in (one.corrected[0], others.corrected[j])]
            of_quality = [cohort.offset(name, [one.qualities[0]])[0], cohort.offset(name, [others.qualities[j]])[0]]
            assert all(of_quality)
            above[name] = sign * exact - sum(levels) / 2 - sum(of_quality)
            assert found.calibrated(name)[j] == pytest.approx(above[name], abs=1e-5)
            assert sign * scores[name] - context.shifts[name] == pytest.approx(above[name], abs=1e-5)
        for name, fusion in made.fusions.items():
            want = fusion.combine({metric: np.array([value]) for metric, value in above.items()})[0]
            assert scores[name] == pytest.approx(want, abs=1e-3)
            assert (context.shifts[name], found.calibrated(name)[j]) == (0.0, scores[name])


@pytest.mark.parametrize("labelled", [True, False])
def test_what_is_decided_on_is_what_was_calibrated(labelled: bool) -> None:
    """A query of a unit that the cohort does not know, against stored items: when calibrating it is left out of it."""
    of = sample(0, labelled=labelled)
    cohort = background(of)
    want = adapted(of, cohort)
    for row in (0, 1, 20):
        others = of.units != of.units[row]
        known = others[np.arange(len(of.labels)) % 3 < 2]
        assert cohort.keys is not None
        rest = Background(
            cohort.vectors[known],
            tuple(label for label, kept in zip(cohort.labels, known, strict=True) if kept),
            cohort.shift,
            cohort.usual,
            cohort.keys[known],
            cohort.offsets,
        )
        part = slice(row, row + 1)
        plain, quality = of.embeddings[part], of.qualities[part]
        query = Seen(plain, cohort.corrected(plain.vectors, quality), quality, (None,))
        found = scores_of(query, Seen.stored(of.embeddings, of.labels), replace(calibration(), background=rest))
        for name in METRICS:
            np.testing.assert_allclose(found.calibrated(name)[others], want[name][row][others], atol=2e-6)


def test_of_two_directions_each_pair_keeps_one_and_half_of_them_are_the_other_way() -> None:
    matrix = np.arange(49.0).reshape(7, 7)
    found = either_way(matrix)
    np.testing.assert_array_equal(found, found.T)
    assert ((found == matrix) | (found == matrix.T)).all()
    above = np.triu(np.ones((7, 7), bool), 1)
    assert abs((found == matrix)[above].mean() - 0.5) < 0.1
    np.testing.assert_array_equal(found.diagonal(), matrix.diagonal())


def test_a_stored_item_of_the_cohort_is_no_stranger_to_itself_nor_to_what_is_compared_with_it() -> None:
    """Stored vectors are not corrected, those of the cohort are: the level must not count the item all the same."""
    of = sample(0, labelled=False)
    cohort = background(of)
    made = replace(calibration(), background=cohort)
    unkeyed = Background(cohort.vectors, cohort.labels, cohort.shift, cohort.usual)
    items = Seen.stored(of.embeddings[0:2], (None, None))  # both are in the cohort
    query = seen(slice(0, 1), (None,) * 8)
    vector = cohort.vectors
    found = scores_of(query, items, made).calibrated("cosine")
    for j in range(2):
        rest = Background(np.delete(vector, j, axis=0), (None,) * (len(vector) - 1))
        levels = [naive_level("cosine", v, rest, ["nobody"]) for v in (query.corrected[0], items.corrected[j])]
        exact = float(query.corrected[0] @ items.corrected[j]) - cohort.offset("cosine", query.qualities)[0]
        assert found[j] == pytest.approx(exact - sum(levels) / 2, abs=1e-5)
    blind = scores_of(query, items, replace(made, background=unkeyed)).calibrated("cosine")
    assert (blind < found - 0.05).all()


@pytest.mark.parametrize("made", [None, calibration(False), calibration(True)])
def test_two_pictures_score_the_same_whichever_comes_first(made: Calibration | None) -> None:
    for i, j in ((0, 1), (2, 7), (3, 3)):
        a, b = (seen(slice(row, row + 1), (None,) * 8) for row in (i, j))
        there, back = scores_of(a, b, made), scores_of(b, a, made)
        assert there.of(0) == pytest.approx(back.of(0), abs=1e-6)
        assert there.context(0).shifts == pytest.approx(back.context(0).shifts, abs=1e-6)


def test_one_against_many_is_one_against_each() -> None:
    made = calibration()
    found = scores_of(seen(slice(0, 1)), seen(), made)
    for j in range(8):
        alone = scores_of(seen(slice(0, 1)), seen(slice(j, j + 1)), made)
        assert alone.of(0) == pytest.approx(found.of(j), abs=1e-5)
        assert alone.context(0).shifts == pytest.approx(found.context(j).shifts, abs=1e-5)


def test_without_a_background_nothing_is_shifted_and_without_a_calibration_nothing_fused() -> None:
    plain = scores_of(seen(slice(0, 1)), seen(), None)
    assert set(plain.scores) == set(METRICS)
    fixed = scores_of(seen(slice(0, 1)), seen(), calibration(False))
    assert set(fixed.scores) == {*METRICS, *FUSIONS}
    for found in (plain, fixed):
        assert not any(shift.any() for shift in found.shifts.values())
        np.testing.assert_array_equal(found.calibrated("euclidean"), -found.scores["euclidean"])
        np.testing.assert_array_equal(found.calibrated("cosine"), found.scores["cosine"])


def test_a_fusion_is_told_where_all_its_metrics_are_asked_for() -> None:
    found = scores_of(seen(slice(0, 1)), seen(), calibration(), ["euclidean", "cosine"])
    assert list(found.scores) == ["euclidean", "cosine"]


def test_a_vector_of_zeros_has_finite_scores() -> None:
    made = calibration()
    zero = Seen.stored(Embeddings.from_raw(np.zeros((1, 16)), made.space), (None,))
    for one, others in ((zero, seen()), (seen(slice(0, 1)), zero), (zero, zero)):
        found = scores_of(one, others, made)
        assert all(np.isfinite(values).all() for values in (*found.scores.values(), *found.shifts.values()))
        assert all(values.dtype == np.float64 for values in found.scores.values())


# Looking at a picture


class Blocks:
    """The means of 4 x 4 blocks; remembers what it saw."""

    space = Space("blocks", "1", "none", 48)
    at_least = None

    def __init__(self) -> None:
        self.seen: list[Image] = []

    def encode(self, images: Sequence[Image]) -> Embeddings:
        self.seen += images
        rows = [image.pixels[:64, :64].reshape(4, 16, 4, 16, 3).mean(axis=(1, 3)).ravel() for image in images]
        return Embeddings.from_raw(np.array(rows), self.space)


def photo(noise: float = 0) -> Image:
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 6, 64), np.linspace(0, 5, 64))
    smooth = np.stack([128 + 90 * np.sin(x + k) * np.cos(y - k) for k in range(3)], axis=2)
    return Image(np.clip(smooth + noise * rng.normal(size=smooth.shape), 0, 255).astype(np.uint8), (64, 64))


def of_blocks(usual: Usual | None) -> Background:
    vectors = np.random.default_rng(1).random((5, 48)).astype(np.float32)
    shift = calibration().background.shift  # type: ignore[union-attr]
    assert shift is not None
    wide = type(shift)(np.repeat(shift.weights, 3, axis=1), shift.usual)
    return Background(vectors, (None,) * 5, wide, usual, keys_of(vectors))


def test_without_a_background_a_picture_is_taken_as_it_is() -> None:
    encoder = Blocks()
    found = look(photo(30), encoder, None, "a label")
    assert found.corrected is found.embeddings.vectors
    assert (found.labels, found.qualities) == (("a label",), (measure(photo(30)),))
    assert len(encoder.seen) == 1


def test_a_picture_of_usual_quality_is_embedded_once_and_corrected() -> None:
    encoder, picture = Blocks(), photo()
    made = of_blocks(Usual(1.0, 1.0, 5.0, 9.0))
    found = look(picture, encoder, made)
    assert [image is picture for image in encoder.seen] == [True]
    np.testing.assert_array_equal(found.corrected, made.corrected(found.embeddings.vectors, [measure(picture)]))
    assert (found.corrected != found.embeddings.vectors).any()


def test_a_picture_that_is_far_noisier_is_restored_before_it_is_embedded_and_shown_as_it_is() -> None:
    encoder, picture = Blocks(), photo(40)
    usual = Usual(1.0, 0.5, 2.0, 9.0)
    found = look(picture, encoder, of_blocks(usual))
    quality = measure(picture)
    assert len(encoder.seen) == 2
    assert encoder.seen[0] is picture
    np.testing.assert_array_equal(encoder.seen[1].pixels, restored(picture, quality, usual).pixels)
    plain = Blocks().encode([picture]).vectors
    np.testing.assert_array_equal(found.embeddings.vectors, plain)
    want = of_blocks(usual).corrected(Blocks().encode([encoder.seen[1]]).vectors, [quality])
    np.testing.assert_array_equal(found.corrected, want)
    assert found.qualities == (quality,)


def test_a_background_that_knows_no_usual_quality_restores_nothing() -> None:
    encoder = Blocks()
    look(photo(40), encoder, of_blocks(None))
    assert len(encoder.seen) == 1


def test_stored_items_are_taken_to_be_of_usual_quality() -> None:
    embeddings = sample(1).embeddings
    found = Seen.stored(embeddings, ["a"] * len(embeddings))
    assert found.corrected is embeddings.vectors
    assert set(found.qualities) == {None}
    assert found.labels == ("a",) * len(embeddings)
    assert isinstance(measure(photo()), Quality)
