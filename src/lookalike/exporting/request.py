"""What is asked of an export, and how it is told to the other process. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from lookalike.errors import ConfigError

LIBRARIES = ("timm", "torchvision", "open_clip")
"""Where an architecture may come from; each is also the name of the module that must be installed."""

ERROR = "error.json"
"""The file of the folder that says why there is no encoder."""

Kind = Literal["timm", "torchvision", "open_clip", "torchscript", "checkpoint"]
_EXAMPLES = (
    "timm:resnet18, torchvision:resnet18, open_clip:ViT-B-32/laion2b_s34b_b79k, torchscript:FILE, or a checkpoint"
)


@dataclass(frozen=True, slots=True)
class Request:
    """An export: ``source`` as the user wrote it, and what a source may need besides.

    ``architecture`` ("timm:resnet18") goes with a checkpoint file, ``recipe`` (TOML) with what says nothing of its
    preprocessing; ``size`` changes the side of the input, where the architecture can. ``random`` takes seeded random
    weights in place of the published ones: to try an export, never to search with.
    """

    name: str
    source: str
    architecture: str | None = None
    recipe: str | None = None
    size: int | None = None
    random: bool = False
    licence: str | None = None
    good_for: str | None = None

    def __post_init__(self) -> None:
        if self.kind == "checkpoint" and self.random:
            raise ConfigError(
                f"{self.source} is a file of weights: --random leaves it out; name the architecture alone"
            )
        if self.kind == "checkpoint" and self.architecture is None:
            raise ConfigError(
                f"a source is {_EXAMPLES}; a checkpoint alone says nothing of its network: name it with "
                f"--architecture timm:NAME, got {self.source!r}"
            )
        if self.kind != "checkpoint" and self.architecture is not None:
            raise ConfigError(f"--architecture goes with a checkpoint file; {self.source} says its own")
        if self.kind == "torchscript" and (self.recipe is None or self.size or self.random):
            raise ConfigError(
                f"{self.source} is a network with weights that says nothing of its preprocessing: give --recipe FILE "
                "(its size too), and neither --size nor --random"
            )
        if self.architecture is not None and self.architecture.partition(":")[0] not in LIBRARIES:
            raise ConfigError(
                f"an architecture is {', '.join(f'{one}:NAME' for one in LIBRARIES)}, got {self.architecture!r}"
            )

    @property
    def kind(self) -> Kind:
        """Which kind of source it is."""
        scheme = self.source.partition(":")[0]
        for kind in ("timm", "torchvision", "open_clip", "torchscript"):
            if scheme == kind:
                return kind
        return "checkpoint"

    @property
    def target(self) -> str:
        """What stands after the scheme of the source; for a checkpoint, its path."""
        return self.source if self.kind == "checkpoint" else self.source.partition(":")[2]

    @property
    def library(self) -> str | None:
        """Which library knows the architecture; None for TorchScript, which needs none."""
        if self.kind == "torchscript":
            return None
        return (self.architecture or self.source).partition(":")[0]

    @property
    def model(self) -> str:
        """The library's own name of the architecture, with its weights where the source names them."""
        return (self.architecture or self.source).partition(":")[2]

    @property
    def checkpoint(self) -> str | None:
        """The file of weights; None where they are the library's."""
        return self.source if self.kind == "checkpoint" else None

    def to_json(self) -> str:
        """Return the request as the other process reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Return the request of :meth:`to_json`."""
        return cls(**json.loads(text))
