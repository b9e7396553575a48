"""Learn an encoder in each turn, by numpy, a loss or the network whole, and refuse one that gives other vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lookalike import installed, registry
from lookalike.apps.train_card import CARD
from lookalike.apps.train_focus import best_focus
from lookalike.apps.train_loss import Head, checkpoints, learn_heads, tuned
from lookalike.apps.train_request import TrainRequest, loss_request
from lookalike.apps.training_pictures import Asked, Looked, look
from lookalike.benchmarking import LabelledSet
from lookalike.calibration.pairs import numbered
from lookalike.encoders import folder
from lookalike.encoders.catalog import entry
from lookalike.encoders.focused import Focus
from lookalike.encoders.head import packed
from lookalike.encoders.onnx import OnnxEncoder
from lookalike.encoders.reduced import Reduced
from lookalike.errors import ConfigError, InputError
from lookalike.installed import Card
from lookalike.learning.advice import Found
from lookalike.learning.choosing import learn
from lookalike.learning.examples import Examples
from lookalike.learning.splitting import Sides
from lookalike.training.tuning import Tuning
from lookalike.types import Embeddings, Float32

NETWORK_EPOCHS, NETWORK_RATE = 4, 3e-4
LITE = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
OUTPUT = "lookalike_embedding"
"""How an export calls what comes out."""
LARGEST_DIFFERENCE = 1e-4
"""Between the numbers of a unit vector, as learned and as the installed encoder gives it."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
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
class Learned:
    """The encoder of one turn: its card and file, how it was learned, and what it makes of those that judge."""

    card: Card
    data: bytes
    told: str
    history: tuple[Mapping[str, float], ...]
    after: Embeddings


def learned(run: Run) -> list[Learned]:
    """Return what was learned in each turn."""
    request = run.request
    if request.mode == "finetune":
        return [_fine_tuned(run)]
    if request.learner == "numpy":
        return [_by_numpy(run, side) for side in run.sides]
    # By the validation part learning is stopped: it has no part in what learning begins with.
    seen = [best_focus(run.looked, run.examples, side.train, run.focuses, request.seed) for side in run.sides]
    heads = learn_heads(loss_request(request), [examples for _, examples in seen], run.sides)
    learned = f"{request.learner} loss, {request.head} head"
    return [
        _made(run, side, focus, head, _told(learned, focus, _epochs(head)), head.history)
        for side, (focus, _), head in zip(run.sides, seen, heads, strict=True)
    ]


def _by_numpy(run: Run, side: Sides) -> Learned:
    seed = run.request.seed
    focus, examples = best_focus(run.looked, run.examples, side.known, run.focuses, seed)
    linear, chosen = learn(examples.only(side.known), seed)
    gained = f"MAP@R in cross-validation {chosen.untouched:.3f} (unlearned) -> {chosen.tried[chosen.recipe]:.3f}"
    return _made(run, side, focus, Head(linear, None, ()), _told(chosen.recipe.told, focus, gained))


def _fine_tuned(run: Run) -> Learned:
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
    return Learned(card, data, told, history, Embeddings.from_raw(seen.vectors, made.space))


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


def _made(
    run: Run, sides: Sides, focus: Focus, head: Head, told: str, history: tuple[Mapping[str, float], ...] = ()
) -> Learned:
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
    return Learned(card, data, told, history, after)


def _told(learned: str, focus: Focus, gained: str) -> str:
    return f"{', '.join(part for part in (learned, focus.told) if part)}; {gained}"


def _epochs(head: Head) -> str:
    best, first = head.best, head.history[0]
    return (
        f"epoch {best['epoch']} of {len(head.history) - 1}; MAP@R of the validation part {first['map_at_r']:.3f} "
        f"(whitened alone) -> {best['map_at_r']:.3f}"
    )


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
        **({"learned_on": request.encoder} if runtime == "onnx" else standing),
    )


def _compare(learned: Float32, given: Float32) -> None:
    """Raise ConfigError unless the encoder gives what was learned."""
    difference = float(np.abs(learned - given).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise ConfigError(
            f"the encoder gives other vectors than were learned: they differ by {difference:.1e}, expected at most "
            f"{LARGEST_DIFFERENCE:.0e}; nothing was installed"
        )
