"""An encoder that sees with several: their vectors side by side, so that its cosine is the weighted mean of theirs.

With w the weights, made to sum to 1, and v the parts' vectors of length 1, the joined vector is that of all
sqrt(w_i) v_i: it has length 1, and the dot product of two is the sum of w_i times the cosine of part i.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookalike import registry
from lookalike.encoders.folder import part_of
from lookalike.errors import ConfigError
from lookalike.installed import Card
from lookalike.protocols import Encoder
from lookalike.types import Embeddings, Image, Space


@dataclass(frozen=True, slots=True)
class Part:
    """One of the encoders: its name, the space that it was joined with ("version/preprocess"), and its weight."""

    encoder: str
    space: str
    weight: float


def parts_of(weights: Mapping[str, float]) -> tuple[Part, ...]:
    """Return the parts of these encoders; raise ConfigError for fewer than two, or a weight that is none."""
    if len(weights) < 2:
        raise ConfigError(f"at least two different encoders can be joined, got {', '.join(weights) or 'none'}")
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise ConfigError(f"a weight is above 0, got {weight:g} for {name}")
    return tuple(Part(name, _told(registry.encoder(name).space), weight) for name, weight in weights.items())


def packed(parts: Sequence[Part]) -> bytes:
    """Return the parts as the bytes of a JSON file."""
    told = [{"encoder": one.encoder, "space": one.space, "weight": one.weight} for one in parts]
    return json.dumps({"parts": told}, indent=1).encode()


def unpacked(data: bytes, name: str) -> tuple[Part, ...]:
    """Return the parts of such bytes; raise ConfigError where they are damaged."""
    try:
        return tuple(
            Part(str(one["encoder"]), str(one["space"]), float(one["weight"])) for one in json.loads(data)["parts"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"the parts of encoder {name} are damaged: {error!r}; make it anew") from error


class Joined:
    """The vectors of several encoders side by side; which those are is read when the first picture is encoded."""

    def __init__(self, card: Card, model: Callable[[], Path]) -> None:
        self._model = model
        self._card = card
        self._lock = threading.Lock()
        self._parts: list[tuple[Encoder, float]] = []

    @property
    def space(self) -> Space:
        """Where the vectors live."""
        return Space(self._card.name, self._card.sha256[:12], self._card.base_space or "", self._card.dim)

    @property
    def at_least(self) -> int | None:
        """How many pixels a side a picture must keep when it is decoded reduced: what the most demanding part needs."""
        needs = [part.at_least for part, _ in self._loaded()]
        return None if None in needs else max(need for need in needs if need is not None)

    def encode(self, images: Sequence[Image]) -> Embeddings:
        """Return the embeddings of ``images``, in order. May be called from several threads at once."""
        sides = [np.float32(scale) * part.encode(images).vectors for part, scale in self._loaded()]
        return Embeddings.from_raw(np.concatenate(sides, axis=1), self.space)

    def _loaded(self) -> list[tuple[Encoder, float]]:
        with self._lock:
            if not self._parts:
                parts = unpacked(self._model().read_bytes(), self._card.name)
                total = sum(one.weight for one in parts)
                self._parts = [(self._encoder(one), math.sqrt(one.weight / total)) for one in parts]
            return self._parts

    def _encoder(self, part: Part) -> Encoder:
        encoder = part_of(self._card.name, part.encoder)
        if (now := _told(encoder.space)) != part.space:
            raise ConfigError(
                f"encoder {self._card.name} was made of {part.encoder} of {part.space}, which now is {now}; "
                "make it anew"
            )
        return encoder


def preprocess_of(parts: Sequence[Part]) -> str:
    """Return what stands for the parts' recipes in a space."""
    return f"joined-{hashlib.sha256(packed(parts)).hexdigest()[:8]}"


def _told(space: Space) -> str:
    return f"{space.version}/{space.preprocess}"
