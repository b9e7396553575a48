"""A head learned by a loss: another process learns it, with torch; here it is asked for and made an encoder's file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lookalike.apps.apart import run_apart
from lookalike.encoders.head import applied
from lookalike.encoders.weights import cache_folder
from lookalike.errors import MissingDependency
from lookalike.learning.choosing import choose_whitening
from lookalike.learning.examples import Examples
from lookalike.learning.linear import Linear, basis_of, compact, factored, lifted, spread, unit
from lookalike.learning.splitting import Sides
from lookalike.training.request import ERROR, Request
from lookalike.training.tuning import Tuning
from lookalike.types import Float32

_STOPPED = 130
_EXTRA = ("torch", "pytorch_metric_learning")
_TUNING = ("timm", "onnxscript")


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """What was learned of one turn: ``linear``, and ``bent`` (the numbers of a hidden layer) or None; its history."""

    linear: Linear
    bent: Mapping[str, Float32] | None
    history: tuple[Mapping[str, float], ...]

    @property
    def best(self) -> Mapping[str, float]:
        """The epoch that was kept."""
        return max(self.history, key=lambda one: one["map_at_r"])

    @property
    def numbers(self) -> dict[str, Float32]:
        """What the encoder is made of: see :mod:`lookalike.encoders.head`."""
        into, back = factored(self.linear.components)
        return {"mean": self.linear.mean, "into": into, "back": back, **(self.bent or {})}

    def apply(self, vectors: Float32) -> Float32:
        """Return (N, D) unit vectors, as the encoder gives them."""
        return unit(applied(vectors, self.numbers))


def checkpoints(name: str) -> Path:
    """Return the folder from which the training of an encoder goes on where it was cut off, or kept without a gain."""
    return cache_folder() / "train" / "checkpoints" / name


def forget_checkpoints(name: str) -> None:
    """Remove that folder: the encoder is installed."""
    shutil.rmtree(checkpoints(name), ignore_errors=True)


def check_extra(*more: str) -> None:
    """Raise MissingDependency where a loss cannot be had, or one of ``more`` modules is missing."""
    for module in (*_EXTRA, *more):
        if find_spec(module) is None:
            raise MissingDependency(f"learning by a loss (which needs {module})", "train")


def learn_heads(request: Request, examples: Sequence[Examples], turns: Sequence[Sides]) -> list[Head]:
    """Return a head for each turn, of its own examples (the same pictures, perhaps seen through another focus).

    Raise ConfigError for what the training refuses, KeyboardInterrupt when stopped.
    """
    check_extra()
    starts = []
    with TemporaryDirectory(prefix="lookalike-train-") as temporary:
        folder = Path(temporary)
        for turn, (seen, sides) in enumerate(zip(examples, turns, strict=True)):
            start, basis, arrays = _start(seen.only(sides.train), seen.only(sides.validation), request.seed)
            np.savez(folder / f"turn{turn}.npz", **arrays)
            starts.append((start, basis))
        run(replace(request, turns=len(turns)), folder)
        return [_head(folder, turn, *start) for turn, start in enumerate(starts)]


def tuned(asked: Tuning) -> tuple[bytes, tuple[Mapping[str, float], ...]]:
    """Return the ONNX model of a network that learned whole, and its history; raises as :func:`learn_heads` does."""
    check_extra(*_TUNING)
    with TemporaryDirectory(prefix="lookalike-train-") as temporary:
        folder = Path(temporary)
        run(asked, folder)
        history = json.loads((folder / "history0.json").read_text(encoding="utf-8"))
        return (folder / "model.onnx").read_bytes(), tuple(history)


def run(request: Request | Tuning, folder: Path) -> None:
    """Let the other process leave its files in ``folder``; raise the error that it left, or say how it ended."""
    run_apart("lookalike.training", request.to_json(), folder, ERROR, "the training", _STOPPED)


def _start(train: Examples, held: Examples, seed: int) -> tuple[Linear, Float32, dict[str, Any]]:
    """Return the whitening that a head begins from, the basis that it moves in, and what the other process needs."""
    small, directions = compact(train)
    start = lifted(choose_whitening(small, seed), directions)
    given = start.moved(train.vectors)
    basis = basis_of(given)
    arrays = {
        "inside": given @ basis,
        "labels": train.labels,
        "asks": train.asks,
        "answers": train.answers,
        "basis": basis,
        "held": start.moved(held.vectors),
        **{f"held_{name}": getattr(held, name) for name in ("labels", "units", "groups", "asks", "answers")},
    }
    return start, basis, arrays


def _head(folder: Path, turn: int, start: Linear, basis: Float32) -> Head:
    with np.load(folder / f"head{turn}.npz", allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    history = tuple(json.loads((folder / f"history{turn}.json").read_text(encoding="utf-8")))
    linear = start.then(spread(found["linear"], basis))
    if "a" not in found:
        return Head(linear, None, history)
    into: Float32 = start.components @ basis @ found["a"]
    return Head(linear, {"a": into, "bias": found["bias"], "b": found["b"] @ basis.T}, history)
