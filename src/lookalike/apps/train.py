"""Learn the similarity from labels, pairs, marks or unlabeled pictures, and install it as an encoder if it helps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lookalike import installed, registry
from lookalike.apps.encoders import refuse_taken
from lookalike.apps.train_focus import focuses_of
from lookalike.apps.train_judge import judged
from lookalike.apps.train_learn import Run, backbone_of, learned
from lookalike.apps.train_loss import check_extra
from lookalike.apps.train_request import Trained, TrainRequest
from lookalike.apps.training_pictures import Asked, Looked, asked_of, look
from lookalike.benchmarking import LabelledSet, labelled_set, names_in
from lookalike.calibration.pairs import Ints, numbered
from lookalike.doctoring import label_margins
from lookalike.encoders.focused import PLAIN
from lookalike.errors import InputError
from lookalike.evaluation.truth import NONE
from lookalike.learning.advice import Found, advice, count
from lookalike.learning.examples import Examples
from lookalike.learning.splitting import TURNS, turns, units_of
from lookalike.types import Skipped

__all__ = ["TrainRequest", "Trained", "examples_of", "train"]

Progress = Callable[[int], None]
Tell = Callable[[str], None]

WRONG_LABEL = 0.2
"""A margin above it is a probable wrong label, as the doctor has it."""


def train(request: TrainRequest, progress: Progress = lambda _: None, tell: Tell = lambda _: None) -> Trained:
    """Learn from a source, judge on whole classes (or groups) that nothing was learned from, install if it helped.

    ``tell`` gets what is advised before anything is learned. Raise InputError where the source cannot be learned from,
    ConfigError for a wrong choice: nothing is installed then.
    """
    refuse_taken(request.name)
    if request.learner != "numpy":
        check_extra()
    if request.mode == "finetune":
        backbone_of(request.encoder)
    asked = asked_of(request.labelled, request.pairs, request.unlabeled, request.marks)
    _counted(_examples_as_named(asked), asked.skipped)
    installed.check_writable(request.name)
    base = registry.encoder(request.encoder)
    focuses = (PLAIN,) if request.mode == "finetune" else focuses_of(base)
    looked = look(asked, base, request.seed, progress, focuses)
    examples = examples_of(asked, looked)
    found = _counted(examples, looked.skipped)
    # An edited copy has no label that somebody could have got wrong.
    advised = tuple(advice(found, [] if asked.copies else wrong_labels(looked)))
    for line in advised:
        tell(line)
    names = names_in(asked.source, looked.pictures)
    # A network takes long: one turn judges it.
    sides = turns(examples.units, names, request.seed)[: 1 if request.mode == "finetune" else TURNS]
    tests = [_test_set(asked, looked, side.test) for side in sides]
    run = Run(request, asked, looked, focuses, examples, sides, tests[0], found, advised)
    return judged(run, learned(run))


def examples_of(asked: Asked, looked: Looked) -> Examples:
    """Return the pictures as numbers; units are groups where there are any, else labels, with all copies in one."""
    pictures = looked.pictures
    grouped = any(one.group is not None for one in pictures)
    named = [one.group if one.group is not None else f"label {one.label}" for one in pictures]
    units = units_of(named if grouped else [one.label for one in pictures], looked.links)
    groups = numbered([one.group for one in pictures])
    groups[[one.group is None for one in pictures]] = NONE
    roles = [one.role for one in pictures]
    return Examples(
        looked.vectors,
        numbered([one.label for one in pictures]),
        units,
        groups,
        np.array([role != "gallery" for role in roles]),
        np.array([role != "query" for role in roles]),
    )


def wrong_labels(looked: Looked) -> list[str]:
    """Return the pictures whose label is probably wrong, the surest first."""
    margins = label_margins(looked.vectors, [one.label for one in looked.pictures])
    order = np.argsort(-margins, kind="stable")
    return [looked.pictures[int(row)].path for row in order if margins[row] > WRONG_LABEL]


def _counted(examples: Examples, skipped: Sequence[Skipped]) -> Found:
    """Return what there is to learn from; raise InputError where that is too little, with what was left out."""
    try:
        return count(examples)
    except InputError as error:
        if not skipped:
            raise
        first = skipped[0]
        raise InputError(f"{error}; {len(skipped)} left out, the first: {first.path}: {first.reason}") from error


def _examples_as_named(asked: Asked) -> Examples:
    """Return the labels alone, so that what cannot be learned from is said before any picture is read."""
    labels = [one.label for one in asked.pictures for _ in range(2 if asked.copies else 1)]
    return Examples.of(np.zeros((len(labels), 1), np.float32), numbered(labels))


def _test_set(asked: Asked, looked: Looked, rows: Ints) -> LabelledSet:
    try:
        return labelled_set(asked.source, [looked.pictures[row] for row in rows], looked.skipped, 0)
    except InputError as error:
        raise InputError(
            f"of the classes that were drawn to judge by nothing can be told ({error}); add pictures, or take another "
            "--seed"
        ) from error
