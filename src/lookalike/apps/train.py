"""Learn the similarity from labels, pairs, marks or unlabeled pictures, and install it as an encoder if it helps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lookalike import installed, registry
from lookalike.apps.calibrate import write
from lookalike.apps.train_card import CALIBRATION, CARD, FIGURES_HEAD, PAGE, REPORT, card_text, figure_rows
from lookalike.apps.train_focus import best_focus, focuses_of
from lookalike.apps.train_loss import Head, check_extra, checkpoints, forget_checkpoints, learn_heads, tuned
from lookalike.apps.training_pictures import Asked, Looked, asked_of, look
from lookalike.benchmarking import (
    Configuration,
    Costs,
    LabelledSet,
    Measured,
    evaluated,
    labelled_set,
    names_in,
    peak_memory,
    worst_queries,
)
from lookalike.calibrating import Sample, Wanted, calibration_of
from lookalike.calibration import Calibration
from lookalike.calibration.pairs import Ints, drawn, numbered
from lookalike.doctoring import label_margins
from lookalike.encoders import folder
from lookalike.encoders.catalog import Entry, entry
from lookalike.encoders.focused import PLAIN, Focus
from lookalike.encoders.head import packed
from lookalike.encoders.onnx import OnnxEncoder
from lookalike.encoders.reduced import Reduced
from lookalike.errors import ConfigError, InputError
from lookalike.evaluation.truth import NONE
from lookalike.installed import Card
from lookalike.learning.advice import Found, advice, count
from lookalike.learning.choosing import learn
from lookalike.learning.examples import Examples
from lookalike.learning.gain import LEVELS, Change, changes, is_gain
from lookalike.learning.splitting import TURNS, Sides, turns, units_of
from lookalike.report_benchmark import View, write_report
from lookalike.training.request import Request as LossRequest
from lookalike.training.tuning import Tuning
from lookalike.types import Embeddings, Float32, Skipped
from lookalike.versions import versions

Progress = Callable[[int], None]
Tell = Callable[[str], None]

MODES = ("head", "finetune")
HEAD_EPOCHS, HEAD_RATE = 60, 1e-3
NETWORK_EPOCHS, NETWORK_RATE = 4, 3e-4
LITE = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
OUTPUT = "lookalike_embedding"
"""How an export calls what comes out."""
WRONG_LABEL = 0.2
"""A margin above it is a probable wrong label, as the doctor has it."""
LARGEST_DIFFERENCE = 1e-4
"""Between the numbers of a unit vector, as learned and as the installed encoder gives it."""
_TARGETS = (0.01, 0.02, 0.05, 0.1)
"""The lowest false positive rate that the pictures support is that of the thresholds in the new space."""
_WORST = 10
_TIMED = 16


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What is asked: one source, the name, the base, and how it is learned.

    ``learner`` is "numpy" (no torch), or a loss of :data:`lookalike.training.request.LOSSES`. ``epochs`` and ``rate``
    are the mode's own where they are not given.
    """

    name: str
    labelled: str | None = None
    pairs: str | None = None
    unlabeled: str | None = None
    marks: str | None = None
    encoder: str = registry.DEFAULT_ENCODER
    learner: str = "numpy"
    seed: int = 0
    keep_anyway: bool = False
    head: str = "linear"
    epochs: int | None = None
    rate: float | None = None
    device: str = "auto"
    mode: str = "head"

    def __post_init__(self) -> None:
        if self.learner == "numpy":
            self._check_plain()
        else:
            _by_loss(self)
        if self.mode not in MODES:
            raise ConfigError(f"no mode named {self.mode!r}; known: {', '.join(MODES)}")
        if self.mode == "finetune" and self.learner == "numpy":
            raise ConfigError("a network learns by a loss: name one with --loss, such as supcon")
        if self.mode == "finetune" and self.unlabeled is not None:
            raise ConfigError("from unlabeled pictures a head is learned, not a network: leave out --mode finetune")

    def _check_plain(self) -> None:
        """Raise ConfigError where something is set that only a loss heeds."""
        heeded = {
            "--head": self.head != "linear",
            "--epochs": self.epochs is not None,
            "--rate": self.rate is not None,
            "--device": self.device != "auto",
        }
        for option, given in heeded.items():
            if given:
                raise ConfigError(
                    f"{option} is of a loss, and numpy learns without one: name one with --loss, or leave out {option}"
                )


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What was learned, whether it helped, and the entry of the encoder: None where it was not kept."""

    request: TrainRequest
    source: str
    found: Found
    advice: tuple[str, ...]
    sides: Mapping[str, int]
    learned: str
    changes: tuple[Change, ...]
    gained: bool
    worst: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    entry: Entry | None
    calibrated: bool
    history: tuple[Mapping[str, float], ...]
    skipped: tuple[Skipped, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "name": self.request.name,
            "base": self.request.encoder,
            "learner": self.request.learner,
            "learned": self.learned,
            "source": self.source,
            "seed": self.request.seed,
            "found": asdict(self.found),
            "advice": list(self.advice),
            "split": dict(self.sides),
            "figures": [one.as_dict() for one in self.changes],
            "gained": self.gained,
            "saved": self.entry is not None,
            "calibrated": self.calibrated,
            "worst": [dict(one) for one in self.worst],
            "notes": list(self.notes),
            "history": [dict(one) for one in self.history],
            "skipped": [asdict(one) for one in self.skipped],
        }


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
    base = registry.encoder(request.encoder)
    focuses = (PLAIN,) if request.mode == "finetune" else focuses_of(base)
    looked = look(asked, base, request.seed, progress, focuses)
    examples = examples_of(asked, looked)
    found = _counted(examples, looked.skipped)
    advised = tuple(advice(found, wrong_labels(looked)))
    for line in advised:
        tell(line)
    names = names_in(asked.source, looked.pictures)
    # A network takes long: one turn judges it.
    sides = turns(examples.units, names, request.seed)[: 1 if request.mode == "finetune" else TURNS]
    tests = [_test_set(asked, looked, side.test) for side in sides]
    run = _Run(request, asked, looked, focuses, examples, sides, tests[0], found, advised)
    return _judged(run, _learned(run))


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


def refuse_taken(name: str) -> None:
    """Raise ConfigError where an encoder cannot get this name: found now, not after the minutes of learning."""
    installed.checked_name(name)
    if registry.taken(name) or name in installed.names():
        raise ConfigError(
            f"there is an encoder {name!r} already; choose another name, or remove that one: "
            f"lookalike encoders remove {name}"
        )


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


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """What is known before anything is learned; the encoder of the first turn is the one that may be kept."""

    request: TrainRequest
    asked: Asked
    looked: Looked
    focuses: tuple[Focus, ...]
    examples: Examples
    sides: tuple[Sides, ...]
    test: LabelledSet
    found: Found
    advised: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Learned:
    """The encoder of one turn: its card and file, how it was learned, and what it makes of those that judge."""

    card: Card
    data: bytes
    told: str
    history: tuple[Mapping[str, float], ...]
    after: Embeddings


def _learned(run: _Run) -> list[_Learned]:
    """Return what was learned in each turn."""
    request = run.request
    if request.mode == "finetune":
        return [_fine_tuned(run)]
    if request.learner == "numpy":
        return [_by_numpy(run, side) for side in run.sides]
    # By the validation part learning is stopped: it has no part in what learning begins with.
    seen = [best_focus(run.looked, run.examples, side.train, run.focuses, request.seed) for side in run.sides]
    heads = learn_heads(_by_loss(request), [examples for _, examples in seen], run.sides)
    learned = f"{request.learner} loss, {request.head} head"
    return [
        _made(run, side, focus, head, _told(learned, focus, _epochs(head)), head.history)
        for side, (focus, _), head in zip(run.sides, seen, heads, strict=True)
    ]


def _fine_tuned(run: _Run) -> _Learned:
    """Return the encoder of a network that learned whole, in the one turn that there is."""
    request, sides, base = run.request, run.sides[0], registry.encoder(run.request.encoder)
    source, random = backbone_of(request.encoder)
    assert isinstance(base, OnnxEncoder)
    labels = numbered([one.label for one in run.looked.pictures]).tolist()
    known, stopping = (
        tuple((run.looked.pictures[row].path, labels[row], run.looked.pictures[row].role or "") for row in rows)
        for rows in (sides.train.tolist(), sides.validation.tolist())
    )
    data, history = tuned(
        Tuning(
            source,
            base.recipe.to_toml(),
            request.learner,
            known,
            stopping,
            str(checkpoints(request.name)),
            random,
            NETWORK_EPOCHS if request.epochs is None else request.epochs,
            rate=NETWORK_RATE if request.rate is None else request.rate,
            seed=request.seed,
            device=request.device,
        )
    )
    best = max(history, key=lambda one: one["map_at_r"])
    told = (
        f"{request.learner} loss, whole network; epoch {best['epoch']} of {len(history) - 1}; MAP@R of the validation "
        f"part {history[0]['map_at_r']:.3f} -> {best['map_at_r']:.3f}"
    )
    recipe = installed.parsed(base.recipe.to_toml())
    card = _card(request, data, base.space.dim, told, "onnx", model="model.onnx", output=OUTPUT, recipe=recipe)
    tested = replace(run.asked, pictures=tuple(run.looked.pictures[row] for row in sides.test))
    with folder.laid_out({card.model: data}) as place:
        made = folder.made(card, lambda file, _sha256: place / file)
        seen = look(tested, made, request.seed)
    if len(seen.pictures) != len(sides.test):
        raise InputError(f"pictures of {run.asked.source} vanished while it was learned from them")
    return _Learned(card, data, told, history, Embeddings.from_raw(seen.vectors, made.space))


def backbone_of(encoder: str) -> tuple[str, bool]:
    """Return where the network of an encoder comes from, and whether its weights are random.

    Raise ConfigError for an encoder whose network torch cannot be given.
    """
    if encoder in LITE:
        return f"lite:{encoder}", False
    card = installed.card(encoder) if encoder in installed.names() else None
    if card is not None and card.runtime == "onnx" and (card.source or "").startswith("timm:"):
        return str(card.source), "RANDOM WEIGHTS" in (card.architecture or "")
    raise ConfigError(
        f"the network of {encoder} cannot learn whole: that takes {', '.join(LITE)}, or an encoder that "
        "`lookalike encoders export timm:NAME` made; leave out --mode finetune to learn a head on it"
    )


def _by_numpy(run: _Run, side: Sides) -> _Learned:
    seed = run.request.seed
    focus, examples = best_focus(run.looked, run.examples, side.known, run.focuses, seed)
    linear, chosen = learn(examples.only(side.known), seed)
    gained = f"MAP@R in cross-validation {chosen.untouched:.3f} (unlearned) -> {chosen.tried[chosen.recipe]:.3f}"
    return _made(run, side, focus, Head(linear, None, ()), _told(chosen.recipe.told, focus, gained))


def _by_loss(request: TrainRequest) -> LossRequest:
    return LossRequest(
        loss=request.learner,
        checkpoints=str(checkpoints(request.name)),
        head=request.head,
        epochs=HEAD_EPOCHS if request.epochs is None else request.epochs,
        rate=HEAD_RATE if request.rate is None else request.rate,
        seed=request.seed,
        device=request.device,
    )


def _told(learned: str, focus: Focus, gained: str) -> str:
    return f"{', '.join(part for part in (learned, focus.told) if part)}; {gained}"


def _epochs(head: Head) -> str:
    best, first = head.best, head.history[0]
    return (
        f"epoch {best['epoch']} of {len(head.history) - 1}; MAP@R of the validation part {first['map_at_r']:.3f} "
        f"(whitened alone) -> {best['map_at_r']:.3f}"
    )


def _made(
    run: _Run, sides: Sides, focus: Focus, head: Head, told: str, history: tuple[Mapping[str, float], ...] = ()
) -> _Learned:
    """Return the encoder of what was learned; raise ConfigError unless it gives what was learned."""
    data = packed(head.numbers)
    through = {"cut": focus.cut or None, "colours": focus.colours or None}
    card = _card(run.request, data, len(head.linear.mean), told, "head", **through)
    before = run.looked.through(focus)[sides.test]
    with folder.laid_out({card.model: data}) as place:
        made = folder.made(card, lambda file, _sha256: place / file)
        assert isinstance(made, Reduced)
        after = made.project(Embeddings(before, np.ones(len(before), np.float32), made.base_space))
    _compare(head.apply(before), after.vectors)
    return _Learned(card, data, told, history, after)


def _judged(run: _Run, learned: Sequence[_Learned]) -> Trained:
    """Measure before and after on those that judge, and install the encoder of the first turn if it helped."""
    request, first = run.request, learned[0]
    held = [run.examples.only(side.test) for side in run.sides]
    changed = changes(
        [one.judged(LEVELS) for one in held],
        [one.moved(of.after.vectors).judged(LEVELS) for one, of in zip(held, learned, strict=True)],
        np.concatenate([one.units[one.asks] for one in held]),
        request.seed,
    )
    metric, test = registry.metric("cosine"), run.test
    measured = [
        evaluated(metric, vectors[test.queries], vectors[test.gallery], test.truth)
        for vectors in (held[0].vectors, first.after.vectors)
    ]
    calibration, why = _calibration(run, first.after)
    side = run.sides[0]
    trained = Trained(
        request,
        run.asked.source,
        run.found,
        run.advised,
        {"train": len(side.train), "validation": len(side.validation), "test": len(side.test)},
        first.told,
        changed,
        is_gain(changed),
        _worst(test, measured[1]),
        (*run.asked.notes, *test.notes, *why),
        None,
        calibration is not None,
        first.history,
        run.looked.skipped,
    )
    if not (trained.gained or request.keep_anyway):
        return trained
    with TemporaryDirectory(prefix="lookalike-train-") as temporary:
        files = _files(Path(temporary), run, trained, measured, calibration, first.after.space)
        installed.install(first.card, {first.card.model: first.data, **files})
    forget_checkpoints(request.name)
    return replace(trained, entry=entry(request.name))


def _card(request: TrainRequest, data: bytes, dim: int, learned: str, runtime: str, **more: Any) -> Card:
    base = registry.encoder(request.encoder)
    before = entry(request.encoder)
    standing: dict[str, Any] = {"base": request.encoder, "base_space": f"{base.space.version}/{base.space.preprocess}"}
    return Card(
        name=request.name,
        runtime=runtime,
        model=more.pop("model", "projection.npz"),
        sha256=installed.sha256_of(data),
        dim=dim,
        architecture=f"{before.architecture or request.encoder}; {learned.partition(';')[0]}",
        source=f"learned on {request.encoder} ({base.space.version})",
        licence=before.licence,
        good_for=f"what it was learned from; see {CARD} beside it",
        made="train",
        **more,
        **({} if runtime == "onnx" else standing),
    )


def _compare(learned: Float32, given: Float32) -> None:
    """Raise ConfigError unless the encoder gives what was learned."""
    difference = float(np.abs(learned - given).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise ConfigError(
            f"the encoder gives other vectors than were learned: they differ by {difference:.1e}, expected at most "
            f"{LARGEST_DIFFERENCE:.0e}; nothing was installed"
        )


def _calibration(run: _Run, after: Embeddings) -> tuple[Calibration | None, tuple[str, ...]]:
    """Return thresholds in the new space, made on pictures that it was not learned from; or why there are none."""
    test = run.sides[0].test
    held = run.examples.only(test)
    same = held.labels[:, None] == held.labels[None]
    apart = held.units[:, None] != held.units[None]
    sample = Sample(
        after,
        (None,) * len(held.labels),
        ~same & apart,
        same & ~np.eye(len(held.labels), dtype=bool),
        held.units,
        tuple(run.looked.pictures[row].label for row in test),
        np.ones(len(held.labels), bool),
    )
    sample = sample.only(drawn(sample.units))
    told = f"the {len(test)} pictures that {run.request.name} was judged by"
    why: list[str] = []
    for target in _TARGETS:
        try:
            return calibration_of(sample, None, Wanted(target, source=told), after.space), tuple(why)
        except InputError as error:
            why = why or [f"thresholds of the new space are not for a false positive rate of {target:g}: {error}"]
    return None, tuple(why)


def _worst(test: LabelledSet, measured: Measured) -> tuple[Mapping[str, Any], ...]:
    """Return the queries that still go worst, with what came first and what should have."""
    told = []
    for query in worst_queries(measured.judged, _WORST):
        came, wanted = int(measured.judged.top[query, 0]), int(measured.judged.expected[query])
        told.append(
            {
                "query": test.query(query).path,
                "label": test.query(query).label,
                "came_first": test.item(came).path if came != NONE else None,
                "expected": test.item(wanted).path,
                "rank": int(measured.judged.rank[query]),
            }
        )
    return tuple(told)


def _files(
    place: Path,
    run: _Run,
    trained: Trained,
    judged: Sequence[Measured],
    calibration: Calibration | None,
    space: Any,
) -> dict[str, Path | bytes]:
    """Return what lies beside the model: its card for people, the report, its page, and the calibration."""
    base = registry.encoder(run.request.encoder)
    files: dict[str, Path | bytes] = {
        REPORT: json.dumps({**trained.as_dict(), "saved": True}, indent=1, allow_nan=False).encode(),
        CARD: card_text(trained, entry(run.request.encoder), versions()).encode("utf-8", "replace"),
    }
    if calibration is not None:
        write(calibration, place / CALIBRATION)
        files[CALIBRATION] = place / CALIBRATION
    nothing = Costs(float("nan"), float("nan"), float("nan"), 0, 4 * base.space.dim, None, peak_memory())
    configurations = [
        Configuration(name, "cosine", of, one, nothing)
        for name, of, one in zip((run.request.encoder, run.request.name), (base.space, space), judged, strict=True)
    ]
    view = View(
        replace(run.test, notes=(trained.learned, *run.test.notes)),
        configurations,
        (),
        (),
        versions(),
        f"lookalike train --as {run.request.name}",
        trained.skipped,
        f"{run.request.name}, learned from {run.asked.source}: before and after",
        (FIGURES_HEAD, *figure_rows(trained)),
    )
    write_report(place / PAGE, view)
    files[PAGE] = place / PAGE
    return files
