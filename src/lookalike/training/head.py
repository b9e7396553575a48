"""A head on vectors that stay: a linear map, or one with a hidden layer beside it, learned by a loss.

Everything happens in k coordinates of the examples' own span (``inside``, N x k), from the map that numpy learned: the
head begins as the identity there, so that epoch 0 is that map, and an epoch is kept only if it is better on the
validation part.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_metric_learning.samplers import MPerClassSampler
from pytorch_metric_learning.utils import common_functions

from lookalike.errors import ConfigError
from lookalike.learning.examples import Examples
from lookalike.learning.linear import unit
from lookalike.training.losses import OF_CLASSES, loss_of, miner_of
from lookalike.training.request import Request, astray
from lookalike.types import Float32

_EACH = 4
_OF_CLASSES_RATE = 10


class Head(torch.nn.Module):  # type: ignore[misc]
    """z -> z W, and with a hidden layer z W + relu(z A + a) B; W begins as the identity and B as nothing."""

    def __init__(self, width: int, hidden: int | None) -> None:
        super().__init__()
        self.linear = torch.nn.Parameter(torch.eye(width))
        self.hidden = None if hidden is None else torch.nn.Linear(width, hidden)
        self.back = None if hidden is None else torch.nn.Parameter(torch.zeros(hidden, width))

    def forward(self, inside: torch.Tensor) -> torch.Tensor:
        """Return (N, k)."""
        moved = inside @ self.linear
        if self.hidden is not None and self.back is not None:
            moved = moved + torch.relu(self.hidden(inside)) @ self.back
        return moved

    def arrays(self) -> dict[str, Float32]:
        """Return its numbers: ``linear`` (k, k), and with a hidden layer ``a`` (k, h), ``bias`` (h,), ``b`` (h, k)."""
        found = {"linear": self.linear}
        if self.hidden is not None and self.back is not None:
            found |= {"a": self.hidden.weight.T, "bias": self.hidden.bias, "b": self.back}
        return {name: value.detach().cpu().numpy().astype(np.float32) for name, value in found.items()}


def train_all(request: Request, folder: Path) -> None:
    """Leave ``head0.npz`` up, one for each turn, with its history; raise ConfigError where a loss is no number."""
    device = device_of(request.device)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    for turn in range(request.turns):
        data = (folder / f"turn{turn}.npz").read_bytes()
        given = dict(np.load(folder / f"turn{turn}.npz"))
        arrays, history = _Training(request, given, _place(request, data), device).run()
        np.savez(folder / f"head{turn}.npz", **arrays)  # type: ignore[arg-type]
        (folder / f"history{turn}.json").write_text(json.dumps(history), encoding="utf-8")


def device_of(name: str) -> str:
    """Return "cpu" or "cuda"; raise ConfigError where a GPU is asked for and none is there."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError(
            "there is no GPU that torch can use (torch.cuda.is_available() is false); leave out --device cuda, or "
            "install a driver and a torch built for it"
        )
    return "cuda" if there and name != "cpu" else "cpu"


class _Training:
    """One head: epochs, each with its checkpoint, until the validation part stops rising."""

    def __init__(self, request: Request, given: dict[str, Any], place: Path, device: str) -> None:
        self._request, self._place, self._device = request, place, device
        torch.manual_seed(request.seed)
        self._inside = torch.from_numpy(given["inside"]).to(device)
        self._labels = torch.from_numpy(np.unique(given["labels"], return_inverse=True)[1].astype(np.int64))
        self._asks, self._answers = torch.from_numpy(given["asks"]), torch.from_numpy(given["answers"])
        self._crossing = not bool((self._asks & self._answers).any())
        self._held = Examples(
            given["held"], *(given[f"held_{name}"] for name in ("labels", "units", "groups", "asks", "answers"))
        )
        self._basis = given["basis"]
        width = self._inside.shape[1]
        self._head = Head(width, request.hidden if request.head == "mlp" else None).to(device)
        self._loss = loss_of(request.loss, int(self._labels.max()) + 1, width).to(device)
        self._miner = miner_of(request.loss)
        groups = [{"params": self._head.parameters(), "lr": request.rate}]
        if request.loss in OF_CLASSES:
            groups.append({"params": self._loss.parameters(), "lr": request.rate * _OF_CLASSES_RATE})
        self._optimizer = torch.optim.Adam(groups)
        self._history = [{"epoch": 0, "loss": float("nan"), "map_at_r": self._validated(0)}]
        self._best = (self._history[0]["map_at_r"], 0, self._head.arrays())
        self._resume()

    def run(self) -> tuple[dict[str, Float32], list[dict[str, float | None]]]:
        """Return the numbers of the best epoch, and what each epoch brought."""
        while len(self._history) <= self._request.epochs and not self._stopped():
            epoch = len(self._history)
            loss = self._epoch(epoch)
            value = self._validated(epoch)
            self._history.append({"epoch": epoch, "loss": loss, "map_at_r": value})
            if value > self._best[0]:
                self._best = (value, epoch, self._head.arrays())
            self._keep()
        history = [{k: None if v != v else v for k, v in one.items()} for one in self._history]  # noqa: PLR0124
        return self._best[2], history

    def _stopped(self) -> bool:
        return len(self._history) - 1 - self._best[1] >= self._request.patience

    def _epoch(self, epoch: int) -> float:
        # Each epoch has its own chance, so that one that was cut off and begun again is the same.
        torch.manual_seed(1000 * self._request.seed + epoch)
        common_functions.NUMPY_RANDOM = np.random.RandomState(1000 * self._request.seed + epoch)
        total, batches = 0.0, 0
        for rows in self._batches():
            self._optimizer.zero_grad()
            loss = self._loss_of(rows)
            if not bool(torch.isfinite(loss)):
                raise astray(f"the {self._request.loss} loss is {loss.item()}", epoch, self._request.rate)
            if loss.requires_grad:
                loss.backward()
                self._optimizer.step()
            total, batches = total + float(loss.detach()), batches + 1
        return total / max(batches, 1)

    def _loss_of(self, rows: torch.Tensor) -> Any:
        vectors, labels = self._head(self._inside[rows.to(self._device)]), self._labels[rows].to(self._device)
        if self._request.loss in OF_CLASSES or not self._crossing:
            mined = self._miner(vectors, labels) if self._miner is not None else None
            return self._loss(vectors, labels, mined)
        asks, answers = self._asks[rows], self._answers[rows]
        if not bool(asks.any()) or not bool(answers.any()):
            return vectors.sum() * 0
        sides = (vectors[asks], labels[asks]), (vectors[answers], labels[answers])
        mined = self._miner(*sides[0], *sides[1]) if self._miner is not None else None
        return self._loss(*sides[0], mined, ref_emb=sides[1][0], ref_labels=sides[1][1])

    def _batches(self) -> list[torch.Tensor]:
        count = len(self._labels)
        if count <= self._request.batch:
            return [torch.arange(count)]
        classes, counts = int(self._labels.max()) + 1, np.bincount(self._labels.numpy())
        # With few classes more of each, but hardly a picture twice.
        each = max(_EACH, min(self._request.batch // classes, int(np.median(counts))))
        size = min(self._request.batch // each, classes) * each
        sampler = MPerClassSampler(self._labels, m=each, batch_size=size, length_before_new_iter=max(count, size))
        rows = torch.tensor(list(sampler))
        return list(rows.split(size))

    def _validated(self, epoch: int) -> float:
        """Return the MAP@R of the validation part, 0 where nobody there has an answer."""
        moved = apply(self._head.arrays(), self._held.vectors, self._basis)
        if not np.isfinite(moved).all():
            raise astray("vectors are no numbers", epoch, self._request.rate)
        values = self._held.moved(unit(moved)).precision()
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else 0.0

    def _keep(self) -> None:
        """Write a checkpoint beside its place and rename it: there is never half of one."""
        self._place.parent.mkdir(parents=True, exist_ok=True)
        part = self._place.with_suffix(".part")
        torch.save(
            {
                "head": self._head.state_dict(),
                "loss": self._loss.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "history": self._history,
                "best": (*self._best[:2], {name: torch.from_numpy(value) for name, value in self._best[2].items()}),
            },
            part,
        )
        part.replace(self._place)

    def _resume(self) -> None:
        if not self._place.is_file():
            return
        kept = torch.load(self._place, weights_only=True, map_location=self._device)
        self._head.load_state_dict(kept["head"])
        self._loss.load_state_dict(kept["loss"])
        self._optimizer.load_state_dict(kept["optimizer"])
        self._history = kept["history"]
        value, epoch, arrays = kept["best"]
        self._best = (value, epoch, {name: one.cpu().numpy() for name, one in arrays.items()})


def apply(arrays: dict[str, Float32], given: Float32, basis: Float32) -> Float32:
    """Return (N, D): what a head makes of vectors as numpy moved them; outside of the ``basis`` (D, k) nothing."""
    inside = given @ basis
    change = inside @ (arrays["linear"] - np.eye(len(arrays["linear"]), dtype=np.float32))
    if "a" in arrays:
        change = change + np.maximum(inside @ arrays["a"] + arrays["bias"], 0) @ arrays["b"]
    return np.asarray(given + change @ basis.T, np.float32)


def _place(request: Request, data: bytes) -> Path:
    """Return where the checkpoint of a turn is: named by all that the outcome hangs on."""
    asked = {name: value for name, value in asdict(request).items() if name not in {"checkpoints", "turns"}}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode() + data).hexdigest()[:16]
    return Path(request.checkpoints) / f"{digest}.pt"
