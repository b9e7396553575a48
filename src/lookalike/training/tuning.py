"""What is asked of fine-tuning a whole network, and how it is told to the other process. Imports no torch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

from lookalike.errors import ConfigError
from lookalike.training.request import DEVICES, LOSSES


@dataclass(frozen=True, slots=True)
class Tuning:
    """A network that learns whole. ``source`` is "timm:NAME" or "lite:efficientnet-lite0"; ``recipe`` is TOML.

    ``train`` and ``held`` are (path, label, role) of what is learned from, and of what says when to stop; a role is
    "query", "gallery" or empty. ``batch`` pictures a step, four of a label; ``rate`` is AdamW's.
    """

    source: str
    recipe: str
    loss: str
    train: tuple[tuple[str, int, str], ...]
    held: tuple[tuple[str, int, str], ...]
    checkpoints: str
    random: bool = False
    epochs: int = 5
    batch: int = 32
    rate: float = 1e-4
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, known in (("loss", LOSSES), ("device", DEVICES)):
            if (value := getattr(self, name)) not in known:
                raise ConfigError(f"no {name} named {value!r}; known: {', '.join(known)}")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ConfigError(f"a learning rate is above 0, got {self.rate:g}")

    def to_json(self) -> str:
        """Return the request as the other process reads it."""
        return json.dumps({"tuning": asdict(self)})

    @classmethod
    def from_values(cls, values: dict[str, object]) -> Tuning:
        """Return the request of :meth:`to_json`, whose JSON was read."""
        pairs = {name: tuple(tuple(one) for one in values[name]) for name in ("train", "held")}  # type: ignore[attr-defined]
        return cls(**{**values, **pairs})  # type: ignore[arg-type]
