"""A whole network learns: batches of pictures, cut and mirrored by lot, through the backbone, a loss, AdamW.

Batch norms keep their statistics: a batch of a few labels would spoil them. On a GPU the network runs in bfloat16 where
torch's autocast says so; on a CPU in float32. What comes out is exported and compared as `lookalike encoders export`
does it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_metric_learning.samplers import MPerClassSampler
from pytorch_metric_learning.utils import common_functions

from lookalike.calibration.pairs import numbered
from lookalike.encoders.efficientnet_lite import LITE0, LITE1, LITE2
from lookalike.errors import ConfigError
from lookalike.evaluation.truth import NONE
from lookalike.exporting import convert
from lookalike.images import read
from lookalike.learning.examples import Examples
from lookalike.learning.linear import unit
from lookalike.pipeline import in_parallel
from lookalike.preprocess import prepare
from lookalike.recipe import Recipe
from lookalike.training.head import device_of
from lookalike.training.losses import OF_CLASSES, loss_of, miner_of
from lookalike.training.request import astray
from lookalike.training.tuning import Tuning
from lookalike.types import Float32

MODEL, HISTORY = "model.onnx", "history0.json"
LARGEST_DIFFERENCE = 1e-4
_EACH = 4
_LEAST_AREA = 0.6
_LITE = {variant.name: variant for variant in (LITE0, LITE1, LITE2)}


def tune(asked: Tuning, folder: Path) -> None:
    """Leave ``model.onnx`` of the best epoch, and the history; raise ConfigError for what cannot be trained."""
    device = device_of(asked.device)
    torch.manual_seed(asked.seed)
    backbone = _backbone(asked)
    best, history = _Tuning(asked, backbone.to(device), device).run()
    backbone.load_state_dict(best)
    backbone.cpu().eval()
    example = torch.from_numpy(_pixels([asked.train[0][0]], Recipe.from_toml(asked.recipe)))
    convert.convert(backbone, torch.zeros_like(example), "pixels", folder / MODEL)
    difference = convert.difference(convert.forward(backbone, example), convert.run(folder / MODEL, example.numpy()))
    if not difference <= LARGEST_DIFFERENCE:
        raise ConfigError(
            f"the network gives other vectors as ONNX than in torch: they differ by {difference:.1e}, expected at most "
            f"{LARGEST_DIFFERENCE:.0e}"
        )
    (folder / HISTORY).write_text(json.dumps(history), encoding="utf-8")


def _backbone(asked: Tuning) -> Any:
    import timm  # noqa: PLC0415 - heavy

    library, _, name = asked.source.partition(":")
    try:
        if library != "lite":
            return timm.create_model(name, pretrained=not asked.random, num_classes=0)
        module = timm.create_model(f"tf_{name.replace('-', '_')}", pretrained=False)
    except Exception as error:
        raise ConfigError(f"the network {asked.source} cannot be made: {error}") from error
    # The published names are others; the tensors are the same, in the same order.
    published = torch.load(io.BytesIO(_LITE[name].weights.read()), weights_only=True).values()
    module.load_state_dict(dict(zip(module.state_dict(), published, strict=True)))
    module.reset_classifier(0)
    return module


class _Tuning:
    """Epochs, each with its checkpoint; the best one by MAP@R of what is held back, epoch 0 among them."""

    def __init__(self, asked: Tuning, network: Any, device: str) -> None:
        self._asked, self._network, self._device = asked, network, device
        self._recipe = Recipe.from_toml(asked.recipe)
        self._paths = [path for path, _, _ in asked.train]
        self._labels = torch.from_numpy(numbered([label for _, label, _ in asked.train]))
        self._roles = np.array([role for _, _, role in asked.train])
        self._crossing = asked.loss not in OF_CLASSES and set(self._roles.tolist()) == {"query", "gallery"}
        network.eval()
        width = convert.forward(network.cpu(), torch.zeros(1, 3, self._recipe.size, self._recipe.size)).shape[1]
        network.to(device)
        self._loss = loss_of(asked.loss, int(self._labels.max()) + 1, width).to(device)
        self._miner = miner_of(asked.loss)
        self._optimizer = torch.optim.AdamW([*network.parameters(), *self._loss.parameters()], asked.rate)
        told = {name: value for name, value in asdict(asked).items() if name not in {"checkpoints", "epochs"}}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
        self._place = Path(asked.checkpoints) / f"{digest}.pt"
        self._history: list[dict[str, float | None]] = []
        self._best: tuple[float, dict[str, torch.Tensor]] = (-1.0, {})
        self._resume()

    def run(self) -> tuple[dict[str, torch.Tensor], list[dict[str, float | None]]]:
        """Return the weights of the best epoch, and the history."""
        if not self._history:
            self._noted(0, None)
        for epoch in range(len(self._history), self._asked.epochs + 1):
            self._noted(epoch, self._epoch(epoch))
        return self._best[1], self._history

    def _noted(self, epoch: int, loss: float | None) -> None:
        value = self._validated(epoch)
        self._history.append({"epoch": epoch, "loss": loss, "map_at_r": value})
        if value > self._best[0]:
            self._best = (value, {k: v.detach().cpu().clone() for k, v in self._network.state_dict().items()})
        self._keep()

    def _epoch(self, epoch: int) -> float:
        seed = 1000 * self._asked.seed + epoch
        torch.manual_seed(seed)
        common_functions.NUMPY_RANDOM = np.random.RandomState(seed)
        rng = np.random.default_rng(seed)
        values = []
        for rows in self._batches(rng):
            pixels = torch.from_numpy(_pixels([self._paths[row] for row in rows], self._recipe))
            pixels = torch.stack([_varied(one, rng) for one in pixels]).to(self._device)
            labels = self._labels[torch.tensor(rows)].to(self._device)
            self._optimizer.zero_grad()
            with torch.autocast(self._device, torch.bfloat16, enabled=self._device == "cuda"):
                vectors = self._network(pixels)
            vectors = vectors.float()
            loss = self._loss_of(vectors, labels, self._roles[rows])
            if not bool(torch.isfinite(loss)):
                raise astray(f"the {self._asked.loss} loss is {loss.item()}", epoch, self._asked.rate)
            if loss.requires_grad:
                loss.backward()
                self._optimizer.step()
            values.append(loss.item())
        return float(np.mean(values))

    def _loss_of(self, vectors: torch.Tensor, labels: torch.Tensor, roles: Any) -> Any:
        if not self._crossing:
            mined = self._miner(vectors, labels) if self._miner is not None else None
            return self._loss(vectors, labels, mined)
        asks = torch.from_numpy(roles == "query").to(self._device)
        sides = vectors[asks], labels[asks], vectors[~asks], labels[~asks]
        mined = self._miner(*sides) if self._miner is not None else None
        return self._loss(*sides[:2], mined, ref_emb=sides[2], ref_labels=sides[3])

    def _crossing_batches(self, rng: np.random.Generator) -> Iterator[list[int]]:
        """Yield batches in which each label has a picture of the gallery, and queries."""
        labels = self._labels.numpy()
        sides = [np.flatnonzero(self._roles == role) for role in ("gallery", "query")]
        both = [label for label in np.unique(labels) if all((labels[rows] == label).any() for rows in sides)]
        for _ in range(max(1, len(labels) // self._asked.batch)):
            rows: list[int] = []
            for label in rng.permutation(both)[: self._asked.batch // _EACH]:
                gallery, queries = (rows_[labels[rows_] == label] for rows_ in sides)
                rows += [int(rng.choice(gallery)), *rng.choice(queries, _EACH - 1).tolist()]
            yield rows

    def _batches(self, rng: np.random.Generator) -> Iterator[list[int]]:
        if self._crossing:
            yield from self._crossing_batches(rng)
            return
        count, classes = len(self._labels), int(self._labels.max()) + 1
        size = min(self._asked.batch // _EACH, classes) * _EACH
        rows = list(MPerClassSampler(self._labels, m=_EACH, batch_size=size, length_before_new_iter=max(count, size)))
        for start in range(0, len(rows) - size + 1, size):
            yield [int(row) for row in rows[start : start + size]]

    def _validated(self, epoch: int) -> float:
        vectors = []
        for path, _, _ in self._asked.held:
            pixels = torch.from_numpy(_pixels([path], self._recipe)).to(self._device)
            with torch.no_grad():
                vectors.append(self._network(pixels).float().cpu().numpy())
        if not all(np.isfinite(one).all() for one in vectors):
            raise astray("vectors are no numbers", epoch, self._asked.rate)
        labels, roles = numbered([one[1] for one in self._asked.held]), np.array([one[2] for one in self._asked.held])
        found, groups = unit(np.concatenate(vectors).astype(np.float32)), np.full(len(labels), NONE, np.int64)
        values = Examples(found, labels, labels, groups, roles != "gallery", roles != "query").precision()
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else 0.0

    def _keep(self) -> None:
        self._place.parent.mkdir(parents=True, exist_ok=True)
        part = self._place.with_suffix(".part")
        parts = {"network": self._network, "loss": self._loss, "optimizer": self._optimizer}
        state = {name: part_.state_dict() for name, part_ in parts.items()}
        torch.save({**state, "history": self._history, "best": self._best}, part)
        part.replace(self._place)

    def _resume(self) -> None:
        if not self._place.is_file():
            return
        kept = torch.load(self._place, weights_only=True, map_location=self._device)
        self._network.load_state_dict(kept["network"])
        self._loss.load_state_dict(kept["loss"])
        self._optimizer.load_state_dict(kept["optimizer"])
        self._history, self._best = kept["history"], tuple(kept["best"])


def _pixels(paths: list[str], recipe: Recipe) -> Float32:
    """Return (N, 3, S, S) float32, prepared as the encoder will."""
    return np.concatenate(list(in_parallel(lambda path: prepare([read(path, recipe.at_least)], recipe), paths)))


def _varied(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return a part of at least .6 of the picture's area, at its size, mirrored or not."""
    side = pixels.shape[-1]
    cut = max(1, round(side * float(np.sqrt(rng.uniform(_LEAST_AREA, 1)))))
    top, left = rng.integers(0, side - cut + 1, 2).tolist()
    part = pixels[:, top : top + cut, left : left + cut]
    part = torch.nn.functional.interpolate(part[None], size=side, mode="bilinear", antialias=True)[0]
    return part.flip(-1) if rng.random() < 0.5 else part
