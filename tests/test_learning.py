"""The numbers of learning: against naive loops, finite differences, hand-worked values and worlds that are known."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.encoders import head
from lookalike.errors import ConfigError, InputError
from lookalike.evaluation.intervals import Interval
from lookalike.installed import Card
from lookalike.learning import choosing, linear
from lookalike.learning.advice import advice, count
from lookalike.learning.choosing import Recipe, choose, choose_vectors, learn
from lookalike.learning.examples import Examples
from lookalike.learning.gain import LEVELS, Change, changes, is_gain
from lookalike.learning.linear import Scatter, compact, factored, lifted, refined, spread, unit
from lookalike.learning.splitting import turns, units_of
from lookalike.types import Embeddings, Float32, Image, Space


def world(seed: int, labels: int = 24, each: int = 4, dim: int = 12, nuisance: float = 3.0) -> Examples:
    """What tells labels apart lies in half of the directions; in the other half pictures scatter as they please."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(labels), each)
    places = np.concatenate([rng.normal(size=(labels, dim // 2)), np.zeros((labels, dim // 2))], axis=1)
    noise = np.concatenate([0.3 * np.ones(dim // 2), nuisance * np.ones(dim - dim // 2)])
    vectors = places[of] + noise * rng.normal(size=(len(of), dim))
    return Examples.of(unit(vectors.astype(np.float32)), of)


def mean_precision(examples: Examples) -> float:
    return float(np.nanmean(examples.precision()))


def test_whitening_shrinks_a_direction_by_its_variance_within_labels() -> None:
    # Label 0 at x = 0, label 1 at x = 5; within both y is -2 and 2: a variance of 4, and none along x.
    vectors = np.array([[0, -2], [0, 2], [5, -2], [5, 2]], np.float32)
    found = Scatter.of(Examples.of(vectors, np.array([0, 0, 1, 1]))).whitening(strength=3)
    # The floor is 4 / 3, so y becomes sqrt((4 / 3) / (4 + 4 / 3)) = 1 / 2 as long.
    np.testing.assert_allclose(found.components, [[1, 0], [0, 0.5]], atol=1e-6)
    np.testing.assert_allclose(found.mean, [2.5, 0])


def test_between_queries_and_gallery_only_their_differences_count() -> None:
    vectors = np.array([[3, 0, 1], [3, 0, -1], [0, 0, 0], [0, 4, 0], [0, 4, 0]], np.float32)
    asks = np.array([True, True, False, True, False])
    examples = Examples(vectors, np.array([0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1]), np.full(5, -1), asks, ~asks)
    found = Scatter.of(examples, crossing=True)
    outer = np.zeros((3, 3))
    for label in (0, 1):
        pairs = [(i, j) for i in range(5) for j in range(5) if asks[i] and not asks[j] and {i, j} <= {*LABELLED[label]}]
        for i, j in pairs:
            outer += np.outer(vectors[i] - vectors[j], vectors[i] - vectors[j]) / len(pairs) / 2
    np.testing.assert_allclose((found.directions * found.variance) @ found.directions.T, outer, atol=1e-5)


LABELLED = {0: (0, 1, 2), 1: (3, 4)}


def test_what_is_learned_in_the_span_changes_nothing_outside_of_it() -> None:
    examples = world(1, labels=4, each=2, dim=20)
    small, basis = compact(examples)
    found = lifted(Scatter.of(small).whitening(4), basis)
    whole = Scatter.of(examples).whitening(4)
    np.testing.assert_allclose(found.apply(examples.vectors), whole.apply(examples.vectors), atol=1e-5)
    outside = np.linalg.svd(examples.vectors)[2][-1]
    np.testing.assert_allclose(outside @ found.components, outside, atol=1e-5)


def test_the_gradient_is_that_of_finite_differences() -> None:
    examples = world(2, labels=5, each=3, dim=6)
    allowed, same = linear._neighbours(examples)
    rng = np.random.default_rng(0)
    matrix = (np.eye(6) + 0.1 * rng.normal(size=(6, 6))).astype(np.float32)

    def value(at: np.ndarray) -> float:
        # A loop of its own: cosine, softmax over all others, the share of one's own label.
        moved = examples.vectors.astype(np.float64) @ at
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        total = 0.0
        for i in range(len(moved)):
            raised = {j: np.exp(moved[i] @ moved[j] / 0.1) for j in range(len(moved)) if j != i}
            mine = sum(v for j, v in raised.items() if examples.labels[j] == examples.labels[i])
            total -= np.log(mine / sum(raised.values()))
        return total / len(moved)

    moved = unit(examples.vectors @ matrix)
    assert linear.likelihood(moved, allowed, same) == pytest.approx(value(matrix.astype(np.float64)), rel=1e-4)
    found = linear._gradient(examples.vectors, np.zeros(15, np.float32), matrix, allowed, same)
    expected = np.zeros((6, 6))
    for i, j in itertools.product(range(6), range(6)):
        step = np.zeros((6, 6))
        step[i, j] = 1e-5
        expected[i, j] = (value(matrix + step) - value(matrix - step)) / 2e-5
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=2e-3)


def test_refinement_raises_the_likelihood_of_its_own_examples() -> None:
    examples = world(3)
    start = Scatter.of(examples).whitening(1)
    allowed, same = linear._neighbours(examples)
    values = [
        linear.likelihood(step.apply(examples.vectors), allowed, same) for step in (start, *refined(examples, start))
    ]
    assert all(b < a for a, b in itertools.pairwise(values))


def test_learning_helps_on_labels_that_it_never_saw_where_there_is_something_to_learn() -> None:
    known, unseen = world(4), world(5)
    found, chosen = learn(known)
    before, after = mean_precision(unseen), mean_precision(unseen.moved(found.apply(unseen.vectors)))
    assert chosen.tried[chosen.recipe] > chosen.untouched + 0.2
    assert after > before + 0.2


def test_the_same_examples_and_seed_give_the_same_map() -> None:
    first, second = learn(world(6), seed=3), learn(world(6), seed=3)
    np.testing.assert_array_equal(first[0].components, second[0].components)
    assert first[1].recipe == second[1].recipe


def test_of_recipes_as_good_the_one_that_changes_least_is_taken() -> None:
    apart = Examples.of(np.eye(12, dtype=np.float32).repeat(2, axis=0), np.arange(12).repeat(2))
    assert choose(apart).recipe == Recipe(0.0)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.data())
def test_units_are_the_connected_components(names: list[int], data: st.DataObject) -> None:
    rows = st.integers(0, len(names) - 1)
    links = data.draw(st.lists(st.tuples(rows, rows), max_size=6))
    found = units_of([str(name) for name in names], links)
    reach = np.equal.outer(names, names)
    for a, b in links:
        reach[a, b] = reach[b, a] = True
    for _ in names:
        reach = reach @ reach
    np.testing.assert_array_equal(found[:, None] == found[None], reach)


@given(st.integers(0, 50), st.integers(6, 30))
def test_each_unit_judges_once_and_is_never_on_two_sides(seed: int, count_: int) -> None:
    units = np.random.default_rng(seed).integers(0, count_, 60)
    units = np.unique(np.concatenate([units, np.arange(6)]), return_inverse=True)[1]
    sides = turns(units, [f"{row}.jpg" for row in range(len(units))], seed)
    judged = np.concatenate([side.test for side in sides])
    assert sorted(judged.tolist()) == list(range(len(units)))
    for side in sides:
        parts = [set(units[rows].tolist()) for rows in (side.train, side.validation, side.test)]
        assert all(parts)
        assert not any(a & b for a, b in itertools.combinations(parts, 2))


def test_a_split_hangs_on_names_and_not_on_their_order() -> None:
    units, names = np.arange(12).repeat(2), [f"{row:02}.jpg" for row in range(24)]
    order = np.random.default_rng(1).permutation(24)
    plain = turns(units, names)[0]
    mixed = turns(units[order], [names[row] for row in order])[0]
    assert {names[row] for row in plain.test} == {names[order[row]] for row in mixed.test}
    assert {names[row] for row in turns(units, names, seed=1)[0].test} != {names[row] for row in plain.test}


def test_changes_are_those_of_a_naive_count() -> None:
    before, after = world(7, labels=8, each=3), world(7, labels=8, each=3, nuisance=0.1)
    found = {one.figure: one for one in changes([before.judged(LEVELS)], [after.judged(LEVELS)], before.units)}

    def first_is_right(of: Examples) -> float:
        scores = of.vectors @ of.vectors.T - 9 * np.eye(len(of.labels))
        return float((of.labels[scores.argmax(axis=1)] == of.labels).mean())

    def area(of: Examples) -> float:
        same = of.labels[:, None] == of.labels[None]
        scores, off = of.vectors @ of.vectors.T, ~np.eye(len(of.labels), dtype=bool)
        genuine, impostor = scores[same & off], scores[~same]
        return float((genuine[:, None] > impostor[None]).mean() + (genuine[:, None] == impostor[None]).mean() / 2)

    for name, naive, near in (("recall@1", first_is_right, 1e-9), ("auc", area, 2e-3)):
        assert found[name].before == pytest.approx(naive(before), abs=near)
        assert found[name].after == pytest.approx(naive(after), abs=near)
    assert is_gain(tuple(found.values()))
    assert found["fnr@fpr=0.01"].is_better
    assert found["fnr@fpr=0.01"].difference.high < 0


def test_no_change_is_no_gain_and_a_loss_is_none_either() -> None:
    good, bad = world(8, nuisance=0.1), world(8)
    same = changes([bad.judged(LEVELS)], [bad.judged(LEVELS)], bad.units)
    assert not is_gain(same)
    assert {one.difference.estimate for one in same} == {0.0}
    worse = changes([good.judged(LEVELS)], [bad.judged(LEVELS)], bad.units)
    assert not is_gain(worse)
    assert all(one.is_worse for one in worse)


def test_a_rise_that_another_figure_pays_for_is_no_gain() -> None:
    rise = Change("map@r", 0.5, 0.6, Interval(0.1, 0.05, 0.15))
    assert is_gain((rise,))
    assert is_gain((rise, Change("recall@1", 0.5, 0.4, Interval(-0.1, -0.25, 0.05))))
    assert not is_gain((rise, Change("recall@1", 0.5, 0.4, Interval(-0.1, -0.15, -0.05))))
    assert not is_gain((rise, Change("fnr@fpr=0.01", 0.1, 0.2, Interval(0.1, 0.05, 0.15), higher_is_better=False)))
    assert not is_gain((Change("map@r", 0.5, 0.6, Interval(0.1, -0.01, 0.15)),))


def test_labels_that_mean_nothing_are_seldom_called_a_gain() -> None:
    called = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        examples = Examples.of(unit(rng.normal(size=(60, 10)).astype(np.float32)), np.arange(20).repeat(3))
        before, after, units = [], [], []
        for side in turns(examples.units, [f"{row}.jpg" for row in range(60)], seed):
            held = examples.only(side.test)
            found, _ = learn(examples.only(side.known))
            units.append(held.units)
            before.append(held.judged(LEVELS))
            after.append(held.moved(found.apply(held.vectors)).judged(LEVELS))
        rows = np.concatenate(units)
        called += is_gain(changes(before, after, rows))
    assert called <= 1


def test_what_cannot_be_learned_from_is_said() -> None:
    vectors = np.eye(6, dtype=np.float32)
    with pytest.raises(InputError, match="one label only, of 6 pictures"):
        count(Examples.of(vectors, np.zeros(6, np.int64)))
    with pytest.raises(InputError, match=r"one picture of each of 6 labels.*--unlabeled"):
        count(Examples.of(vectors, np.arange(6)))
    with pytest.raises(InputError, match=r"there are 3 classes .* at least 6 are needed"):
        turns(np.array([0, 0, 1, 1, 2, 2]), list("abcdef"))


def test_advice_counts_what_is_there_and_what_lacks() -> None:
    labels = np.array([0] * 20 + [1, 1, 2])
    found = count(Examples.of(np.zeros((23, 2), np.float32), labels))
    assert (found.pictures, found.labels, found.fewest, found.most) == (23, 3, 1, 20)
    assert found.same_pairs == 20 * 19 // 2 + 1
    assert found.different_pairs == 20 * 2 + 20 * 1 + 2 * 1
    told = " ".join(advice(found, ["a.jpg"]))
    assert "3 classes (or groups) are few" in told
    assert "the largest label has 20 pictures and the smallest 1" in told
    assert "1 label is probably wrong, the first: a.jpg" in told


class _Base:
    space = Space("base", "1", "none", 5)
    at_least = None

    def encode(self, images: list[Image]) -> Embeddings:
        raise NotImplementedError


@pytest.mark.parametrize("hidden", [3, 0])
def test_a_head_gives_what_a_loop_over_its_numbers_gives(hidden: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"mean": (5,), "into": (5, 2), "back": (2, 5)}
    shapes |= {"a": (5, hidden), "bias": (hidden,), "b": (hidden, 5)} if hidden else {}
    numbers: dict[str, Float32] = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    file = tmp_path / "head.npz"
    file.write_bytes(head.packed(numbers))
    card = Card("mine", "head", "head.npz", "0" * 64, 5, base="base", base_space="1/none")
    made = head.Head(card, lambda: file, _Base())
    given = Embeddings.from_raw(rng.normal(size=(4, 5)), _Base.space)
    for vector, found in zip(given.vectors, made.project(given).vectors, strict=True):
        out = [0.0] * 5
        for j in range(5):
            out[j] = vector[j] - numbers["mean"][j]
            for i, r in itertools.product(range(5), range(2)):
                out[j] += (vector[i] - numbers["mean"][i]) * numbers["into"][i, r] * numbers["back"][r, j]
        for h in range(hidden):
            inside = sum((vector[i] - numbers["mean"][i]) * numbers["a"][i, h] for i in range(5)) + numbers["bias"][h]
            out = [value + max(inside, 0) * numbers["b"][h, j] for j, value in enumerate(out)]
        np.testing.assert_allclose(found, np.array(out) / np.linalg.norm(out), atol=1e-5)


def test_a_damaged_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="the head of encoder mine is damaged"):
        head.unpacked(b"none", 5, "mine")
    whole = {"mean": (5,), "into": (5, 2), "back": (2, 5), "a": (5, 3), "bias": (3,), "b": (3, 4)}
    data = head.packed({key: np.zeros(shape, np.float32) for key, shape in whole.items()})
    with pytest.raises(ConfigError, match=r"b of encoder mine's head is \(3, 4\), expected \(3, 5\)"):
        head.unpacked(data, 5, "mine")


def test_a_factored_map_is_the_nearest_of_its_rank() -> None:
    rng = np.random.default_rng(2)
    change = (rng.normal(size=(40, 40)) @ np.diag(0.8 ** np.arange(40)) @ rng.normal(size=(40, 40))).astype(np.float32)
    into, back = factored(np.eye(40, dtype=np.float32) + change, rank=6)
    assert into.shape == (40, 6)
    # Eckart and Young: no map of rank 6 is nearer than the square root of what the other singular values leave.
    left = np.sqrt((np.linalg.svd(change)[1][6:] ** 2).sum())
    assert np.linalg.norm(change - into @ back) == pytest.approx(left, rel=0.01)
    few = np.eye(40, dtype=np.float32) + change[:, :1] @ change[:1]
    into, back = factored(few, rank=6)
    assert into.shape == (40, 1)
    np.testing.assert_allclose(np.eye(40) + into @ back, few, atol=1e-3)
    assert factored(np.eye(40, dtype=np.float32))[0].shape == (40, 0)


def test_of_several_ways_to_see_that_is_taken_in_which_labels_come_together() -> None:
    good = world(9, nuisance=0.1)
    noise = good.moved(unit(np.random.default_rng(3).normal(size=good.vectors.shape).astype(np.float32)))
    assert choose_vectors([noise, good]) == 1
    assert choose_vectors([good, noise, good]) == 0


def test_a_map_inside_of_a_basis_leaves_the_rest() -> None:
    basis = np.eye(4, 2, dtype=np.float32)
    np.testing.assert_array_equal(spread(np.diag([2, 3]).astype(np.float32), basis), np.diag([2, 3, 1, 1]))


def test_halves_take_turns_and_one_that_teaches_nothing_is_left_out() -> None:
    examples = world(10, labels=8, each=2)
    halves = list(choosing._folds(examples, 0))
    assert len(halves) == 6
    for known, held in halves:
        assert len(set(known.labels.tolist())) == len(set(held.labels.tolist())) == 4
        assert not set(known.units.tolist()) & set(held.units.tolist())
    one_pair = examples.only(np.array([0, 1, 2, 4, 6, 8]))
    assert all(0 in known.labels for known, _ in choosing._folds(one_pair, 0))
    assert len(list(choosing._folds(one_pair, 0))) == 3
    with pytest.raises(InputError, match="too few labels have two pictures"):
        list(choosing._folds(examples.only(np.arange(0, 16, 2)), 0))
