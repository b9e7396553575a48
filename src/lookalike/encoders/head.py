"""An encoder whose vectors are those of another one after a learned head with one hidden layer.

The model is an .npz: ``mean`` (D,), ``components`` (D, d), ``a`` (D, h), ``bias`` (h,), ``b`` (h, d). A vector v of
length 1 becomes x @ components + relu(x @ a + bias) @ b with x = v - mean, at length 1 again.
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

KEYS = ("mean", "components", "a", "bias", "b")


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
                dims = self._base.space.dim, self._space.dim
                self._numbers = unpacked(self._model().read_bytes(), dims, self._space.encoder)
            return self._numbers


class HeadWithWords(Head, ReducedWithWords):
    """The same for an encoder that has words: they go through the head as pictures do."""


def applied(vector: Float32, numbers: Mapping[str, Float32]) -> Float32:
    """Return what becomes of a vector (D,), or of (N, D), at any length."""
    inside = vector - numbers["mean"]
    bent = np.maximum(inside @ numbers["a"] + numbers["bias"], 0) @ numbers["b"]
    return np.asarray(inside @ numbers["components"] + bent, np.float32)


def packed(numbers: Mapping[str, Float32]) -> bytes:
    """Return a head as the bytes of an .npz."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **{key: np.asarray(numbers[key], np.float32) for key in KEYS})  # type: ignore[arg-type]
    return stream.getvalue()


def unpacked(data: bytes, dims: tuple[int, int], name: str) -> dict[str, Float32]:
    """Return the head of such bytes; raise ConfigError where it is damaged or not from and to these dimensions."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            numbers = {key: np.asarray(file[key], np.float32) for key in KEYS}
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise ConfigError(f"the head of encoder {name} is damaged: {error}; make it anew") from error
    width, dim = dims
    hidden = numbers["bias"].size
    shapes = {"mean": (width,), "components": (width, dim), "a": (width, hidden), "bias": (hidden,), "b": (hidden, dim)}
    for key, shape in shapes.items():
        if numbers[key].shape != shape or not np.isfinite(numbers[key]).all():
            raise ConfigError(f"{key} of encoder {name}'s head is {numbers[key].shape}, expected {shape}; make it anew")
    return numbers
