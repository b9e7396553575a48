"""Which vectors, how strongly they are whitened, and how far that is refined, by cross-validation over units."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.calibration.pairs import Ints
from lookalike.errors import InputError
from lookalike.learning.examples import Examples
from lookalike.learning.linear import CHECKED, Linear, Scatter, centred, compact, lifted, refined

STRENGTHS = (0.25, 1.0, 4.0, 16.0, 64.0, 256.0)
_TIMES = 3
_LEAST_BETTER = 1e-4


@dataclass(frozen=True, slots=True, order=True)
class Recipe:
    """How a map is made: ``strength`` of the whitening (0: only centred), between whom, and steps of refinement."""

    strength: float
    crossing: bool = False
    steps: int = 0

    @property
    def told(self) -> str:
        """The recipe in words."""
        if not self.strength:
            return "centred"
        between = " between queries and gallery" if self.crossing else ""
        steps = f", {self.steps} steps of neighbourhood components" if self.steps else ""
        return f"whitened within labels{between}, strength {self.strength:g}{steps}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The recipe with the highest MAP@R in cross-validation, all that were tried, and the MAP@R without any."""

    recipe: Recipe
    tried: dict[Recipe, float]
    untouched: float


def learn(examples: Examples, seed: int = 0, progress: Callable[[int], None] = lambda _: None) -> tuple[Linear, Chosen]:
    """Return the map that cross-validation over units chooses, made of all the examples, and how it was chosen."""
    small, basis = compact(examples)
    chosen = choose(small, seed, progress)
    return lifted(made(small, chosen.recipe, seed), basis), chosen


def made(examples: Examples, recipe: Recipe, seed: int = 0) -> Linear:
    """Return the map of a recipe; raise InputError where no two examples share a label."""
    if not recipe.strength:
        return centred(examples)
    start = Scatter.of(examples, recipe.crossing).whitening(recipe.strength)
    if not recipe.steps:
        return start
    return dict(zip(CHECKED, refined(examples, start, seed), strict=True))[recipe.steps]


def choose(examples: Examples, seed: int = 0, progress: Callable[[int], None] = lambda _: None) -> Chosen:
    """Return the best recipe: first the whitening is chosen, then how far it and the strongest are refined."""
    folds = list(_folds(examples, seed))
    scored = _of_whitenings(folds, progress)
    untouched = [value for _, held in folds for value in _values(held)]
    best = _best({recipe: float(np.mean(values)) for recipe, values in scored.items()})
    for known, held in folds:
        for start in sorted({best, Recipe(max(best.strength, 4.0)), Recipe(16.0)} - {Recipe(0.0)}):
            of_start = made(known, start)
            for steps, step in zip(CHECKED, refined(known, of_start, seed), strict=True):
                recipe = Recipe(start.strength, start.crossing, steps)
                scored.setdefault(recipe, []).extend(_values(held.moved(step.apply(held.vectors))))
        progress(1)
    means = {recipe: float(np.mean(values)) for recipe, values in scored.items()}
    return Chosen(_best(means), means, float(np.mean(untouched)))


def choose_vectors(ways: Sequence[Examples], seed: int = 0) -> int:
    """Return which of several ways to see the same examples has the best whitening; of ways as good the first."""
    best = []
    for examples in ways:
        scored = _of_whitenings(list(_folds(compact(examples)[0], seed)), lambda _: None)
        best.append(max(float(np.mean(values)) for values in scored.values()))
    return next(way for way, mean in enumerate(best) if mean >= max(best) - _LEAST_BETTER)


def choose_whitening(examples: Examples, seed: int = 0) -> Linear:
    """Return the best whitening alone, of all the examples: where a loss begins."""
    scored = _of_whitenings(list(_folds(examples, seed)), lambda _: None)
    return made(examples, _best({recipe: float(np.mean(values)) for recipe, values in scored.items()}))


def _of_whitenings(
    folds: Sequence[tuple[Examples, Examples]], progress: Callable[[int], None]
) -> dict[Recipe, list[float]]:
    """Return MAP@R of the queries that are held back, by recipe."""
    scored: dict[Recipe, list[float]] = {}
    for known, held in folds:
        for recipe, found in _whitenings(known):
            scored.setdefault(recipe, []).extend(_values(held.moved(found.apply(held.vectors))))
        progress(1)
    return scored


def _whitenings(known: Examples) -> Iterator[tuple[Recipe, Linear]]:
    """Yield each whitening that is tried, of what is known."""
    yield Recipe(0.0), centred(known)
    for crossing in (False, True) if known.crossing else (False,):
        scatter = Scatter.of(known, crossing)
        for strength in STRENGTHS:
            yield Recipe(strength, crossing), scatter.whitening(strength)


def _best(means: dict[Recipe, float]) -> Recipe:
    """Return the recipe with the highest mean; of those as good, the one that changes least."""
    highest = max(means.values())
    return min(recipe for recipe, mean in means.items() if mean >= highest - _LEAST_BETTER)


def _values(held: Examples) -> list[float]:
    values = held.precision()
    return [float(value) for value in values[~np.isnan(values)]]


def _folds(examples: Examples, seed: int) -> Iterator[tuple[Examples, Examples]]:
    """Yield what is learned from and what is held back: halves of the units that take turns, drawn anew three times.

    With smaller parts held back there are so few labels to confuse that almost every recipe is right. Raise InputError
    where no half has two pictures of a label to learn from.
    """
    found = 0
    for time in range(_TIMES):
        order: Ints = np.random.default_rng((seed, time)).permutation(np.unique(examples.units))
        for first in range(2):
            held = np.isin(examples.units, order[first::2])
            if _teaches(known := examples.only(~held)):
                found += 1
                yield known, examples.only(held)
    if not found:
        raise InputError(
            "too few labels have two pictures: half of them teach and the others tell what helped; add pictures"
        )


def _teaches(known: Examples) -> bool:
    """Tell whether some label has two examples, of both kinds where queries and answers are two."""
    sides = (known.asks, known.answers) if known.crossing else (np.ones(len(known.labels), bool),)
    counts = [np.bincount(known.labels[side], minlength=int(known.labels.max(initial=0)) + 1) for side in sides]
    return bool((np.minimum.reduce(counts) >= (1 if known.crossing else 2)).any())
