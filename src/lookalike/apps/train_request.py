"""What is asked of ``lookalike train``, and what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lookalike import registry
from lookalike.apps.train_loss import checkpoints
from lookalike.encoders.catalog import Entry
from lookalike.errors import ConfigError
from lookalike.learning.advice import Found
from lookalike.learning.gain import Change
from lookalike.training.request import Request as LossRequest
from lookalike.types import Skipped

MODES = ("head", "finetune")
HEAD_EPOCHS, HEAD_RATE = 60, 1e-3


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
            loss_request(self)
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


def loss_request(request: TrainRequest) -> LossRequest:
    """Return what the process that learns heads is asked; raise ConfigError for a choice that it refuses."""
    return LossRequest(
        loss=request.learner,
        checkpoints=str(checkpoints(request.name)),
        head=request.head,
        epochs=HEAD_EPOCHS if request.epochs is None else request.epochs,
        rate=HEAD_RATE if request.rate is None else request.rate,
        seed=request.seed,
        device=request.device,
    )
