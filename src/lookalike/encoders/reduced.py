"""An encoder whose vectors are those of another one, made shorter: projected, or cut.

The model is an .npz of ``mean`` (D,) and ``components`` (D, d): a vector v of length 1 becomes (v - mean) @ components,
at length 1 again. PCA with whitening gives such a pair, and so does cutting (mean 0, the first d unit vectors).
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from lookalike.errors import ConfigError, InputError, SpaceMismatch
from lookalike.installed import Card
from lookalike.protocols import Encoder, TextEncoder
from lookalike.types import Embeddings, Float32, Image, Space

Projection = tuple[Float32, Float32]
_FEWEST_A_DIMENSION = 2
"""Fewer pictures than twice the dimensions do not tell them apart."""
_REGULAR = 0.1
"""How much of the mean variance is added to each before whitening, so that noise does not grow as large as the rest."""


def reduced(card: Card, model: Callable[[], Path], base: Encoder) -> Encoder:
    """Return the reduced encoder of a card; with words where its base has them."""
    kind = ReducedWithWords if isinstance(base, TextEncoder) else Reduced
    return kind(card, model, base)


class Reduced:
    """Vectors of ``base``, reduced; the projection is read when the first picture is encoded."""

    def __init__(self, card: Card, model: Callable[[], Path], base: Encoder) -> None:
        self._space = Space(card.name, card.sha256[:12], base.space.preprocess, card.dim)
        self._base, self._model = base, model
        self._lock = threading.Lock()
        self._projection: Projection | None = None

    @property
    def space(self) -> Space:
        """Where the vectors live."""
        return self._space

    @property
    def base_space(self) -> Space:
        """Where the vectors live that :meth:`project` takes."""
        return self._base.space

    @property
    def at_least(self) -> int | None:
        """How many pixels a side a picture must keep when it is decoded reduced."""
        return self._base.at_least

    def encode(self, images: Sequence[Image]) -> Embeddings:
        """Return the embeddings of ``images``, in order. May be called from several threads at once."""
        return self.project(self._base.encode(images))

    def project(self, embeddings: Embeddings) -> Embeddings:
        """Return what the base's embeddings become here, without encoding a picture anew; raise SpaceMismatch."""
        if embeddings.space != self._base.space:
            raise SpaceMismatch(self._base.space, embeddings.space)
        mean, components = self._projection or self._load()
        # A row a time: the sums of a larger product are grouped otherwise, and a row would depend on its neighbours.
        rows = [(vector - mean) @ components for vector in embeddings.vectors]
        return Embeddings.from_raw(np.array(rows).reshape(len(rows), self._space.dim), self._space)

    def _load(self) -> Projection:
        with self._lock:
            if self._projection is None:
                shape = (self._base.space.dim, self._space.dim)
                self._projection = unpacked(self._model().read_bytes(), shape, self._space.encoder)
            return self._projection


class ReducedWithWords(Reduced):
    """The same for an encoder that has words: they are reduced as pictures are."""

    def encode_text(self, words: Sequence[str]) -> Embeddings:
        """Return the embeddings of ``words``, in order, in the same space as the pictures'."""
        assert isinstance(self._base, TextEncoder)
        return self.project(self._base.encode_text(words))


def pca(vectors: Float32, dim: int, whiten: bool = True) -> tuple[Float32, Float32, float]:
    """Return mean (D,), components (D, dim) and the share of the variance that these keep, of (N, D) unit vectors.

    With ``whiten`` each direction is divided by its deviation, with a tenth of their mean variance added (Jegou and
    Chum, ECCV 2012, whiten without it, which makes noise of the last ones). Raise InputError where there are too few.
    """
    count, width = vectors.shape
    if not 0 < dim <= width:
        raise ConfigError(f"vectors of {width} numbers can be reduced to 1 to {width}, got {dim}")
    if count < _FEWEST_A_DIMENSION * dim:
        raise InputError(
            f"{count} pictures are too few for {dim} dimensions: at least {_FEWEST_A_DIMENSION * dim} are needed; "
            f"these can give {count // _FEWEST_A_DIMENSION}"
        )
    mean = vectors.mean(axis=0, dtype=np.float64)
    centred = vectors - mean
    variance, directions = np.linalg.eigh(centred.T @ centred / count)
    kept, components = variance[::-1][:dim], directions[:, ::-1][:, :dim]
    # Which way a direction points is a matter of the library; here its largest entry is positive.
    components = components * np.sign(components[np.abs(components).argmax(axis=0), np.arange(dim)])
    scale = 1 / np.sqrt(kept + _REGULAR * kept.mean()) if whiten else np.ones(dim)
    return (
        mean.astype(np.float32),
        (components * scale).astype(np.float32),
        float(kept.sum() / np.maximum(variance.sum(), 1e-12)),
    )


def cut(width: int, dim: int) -> Projection:
    """Return the projection that keeps the first ``dim`` of ``width`` numbers."""
    if not 0 < dim <= width:
        raise ConfigError(f"vectors of {width} numbers can be cut to 1 to {width}, got {dim}")
    return np.zeros(width, np.float32), np.eye(width, dim, dtype=np.float32)


def packed(mean: Float32, components: Float32) -> bytes:
    """Return a projection as the bytes of an .npz."""
    stream = io.BytesIO()
    np.savez_compressed(stream, mean=mean, components=components)
    return stream.getvalue()


def unpacked(data: bytes, shape: tuple[int, int], name: str) -> Projection:
    """Return the projection of such bytes; raise ConfigError where it is damaged or not of this shape."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            mean, components = (np.asarray(file[key], np.float32) for key in ("mean", "components"))
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise ConfigError(f"the projection of encoder {name} is damaged: {error}; make it anew") from error
    if components.shape != shape or mean.shape != shape[:1] or not np.isfinite(components).all():
        raise ConfigError(f"the projection of encoder {name} is {components.shape}, expected {shape}; make it anew")
    return mean, components
