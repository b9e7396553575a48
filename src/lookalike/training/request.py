"""What is asked of a training, and how it is told to the other process. Imports no torch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

from lookalike.errors import ConfigError

LOSSES = ("triplet", "contrastive", "arcface", "cosface", "supcon", "proxy-anchor")
HEADS = ("linear", "mlp")
DEVICES = ("auto", "cpu", "cuda")
ERROR = "error.json"
"""The file of the folder that says why there is no result."""


@dataclass(frozen=True, slots=True)
class Request:
    """A training of heads: one for each of ``turns`` files ``turn0.npz`` up, each with its result ``head0.npz`` up.

    ``rate`` is Adam's; learning stops after ``patience`` epochs without a better MAP@R of the validation part.
    ``checkpoints`` is a folder that outlives the process: a training that was cut off goes on from there.
    """

    loss: str
    checkpoints: str
    turns: int = 1
    head: str = "linear"
    hidden: int = 128
    epochs: int = 60
    patience: int = 10
    batch: int = 256
    rate: float = 1e-3
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, known in (("loss", LOSSES), ("head", HEADS), ("device", DEVICES)):
            if (value := getattr(self, name)) not in known:
                raise ConfigError(f"no {name} named {value!r}; known: {', '.join(known)}")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ConfigError(f"a learning rate is above 0, got {self.rate:g}")
        for name in ("turns", "hidden", "epochs", "patience", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is at least 1, got {getattr(self, name)}")

    def to_json(self) -> str:
        """Return the request as the other process reads it."""
        return json.dumps(asdict(self))


def astray(seen: str, epoch: int, rate: float) -> ConfigError:
    """Return the error of a training whose numbers left the finite ones; ``seen`` says where."""
    return ConfigError(
        f"{seen} in epoch {epoch}: learning went astray; take a smaller --rate than {rate:g}. "
        "Nothing was kept but the epochs before"
    )
