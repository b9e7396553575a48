"""An encoder whose vectors are those of another one after a learned head: a linear map, perhaps with a hidden layer.

The model is an .npz: ``mean`` (D,), ``into`` (D, r), ``back`` (r, D), and with a hidden layer ``a`` (D, h), ``bias``
(h,), ``b`` (h, D). A vector v of length 1 becomes x + x @ into @ back + relu(x @ a + bias) @ b with x = v - mean, at
length 1 again: what is learned is a change of few directions, and costs little to read.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from lookalike.encoders.reduced import Reduced, ReducedWithWords
from lookalike.errors import ConfigError, SpaceMismatch
from lookalike.installed import Card
from lookalike.protocols import Encoder, TextEncoder
from lookalike.types import Embeddings, Float32

LINEAR = ("mean", "into", "back")
BENT = ("a", "bias", "b")


def head(card: Card, model: Callable[[], Path], base: Encoder) -> Encoder:
    """Return the encoder of a card; with words where its base has them."""
    kind = HeadWithWords if isinstance(base, TextEncoder) else Head
    return kind(card, model, base)


class Head(Reduced):
    """Vectors of ``base`` after the head, which is read when the first picture is encoded."""

    _numbers: dict[str, Float32] | None = None

    def project(self, embeddings: Embeddings) -> Embeddings:
        """Return what the base's embeddings become here, without encoding a picture anew; raise SpaceMismatch."""
        if embeddings.space != self._base.space:
            raise SpaceMismatch(self._base.space, embeddings.space)
        numbers = self._numbers or self._read()
        # A row a time, as in Reduced: a row must not depend on its neighbours.
        rows = [applied(vector, numbers) for vector in embeddings.vectors]
        return Embeddings.from_raw(np.array(rows).reshape(len(rows), self._space.dim), self._space)

    def _read(self) -> dict[str, Float32]:
        with self._lock:
            if self._numbers is None:
                self._numbers = unpacked(self._model().read_bytes(), self._space.dim, self._space.encoder)
            return self._numbers


class HeadWithWords(Head, ReducedWithWords):
    """The same for an encoder that has words: they go through the head as pictures do."""


def applied(vector: Float32, numbers: Mapping[str, Float32]) -> Float32:
    """Return what becomes of a vector (D,), or of (N, D), at any length."""
    inside = vector - numbers["mean"]
    moved = inside + (inside @ numbers["into"]) @ numbers["back"]
    if "a" in numbers:
        moved = moved + np.maximum(inside @ numbers["a"] + numbers["bias"], 0) @ numbers["b"]
    return np.asarray(moved, np.float32)


def packed(numbers: Mapping[str, Float32]) -> bytes:
    """Return a head as the bytes of an .npz."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **{key: np.asarray(value, np.float32) for key, value in numbers.items()})  # type: ignore[arg-type]
    return stream.getvalue()


def unpacked(data: bytes, dim: int, name: str) -> dict[str, Float32]:
    """Return the head of such bytes; raise ConfigError where it is damaged or not from and to ``dim`` numbers."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            keys = (*LINEAR, *(BENT if BENT[0] in file.files else ()))
            numbers = {key: np.asarray(file[key], np.float32) for key in keys}
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise ConfigError(f"the head of encoder {name} is damaged: {error}; make it anew") from error
    rank, hidden = len(numbers["back"]), numbers["bias"].size if "bias" in numbers else 0
    shapes: dict[str, tuple[int, ...]] = {"mean": (dim,), "into": (dim, rank), "back": (rank, dim)}
    shapes |= {"a": (dim, hidden), "bias": (hidden,), "b": (hidden, dim)}
    for key, value in numbers.items():
        if value.shape != shapes[key] or not np.isfinite(value).all():
            raise ConfigError(f"{key} of encoder {name}'s head is {value.shape}, expected {shapes[key]}; make it anew")
    return numbers
