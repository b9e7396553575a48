"""Any number of vectors that lie as real embeddings do: in clusters, along the directions in which pictures differ.

The photos at hand are embedded by the default encoder. A new vector is a real one, moved along the difference of two
other real ones, with a little noise: ``x_a + t (x_b - x_c) + 0.1 noise``, t between .05 and .5, normalized. Fewer
dimensions are the leading principal components of the real vectors, without centring, so that angles hardly change.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import say
from benchmarks.photos import SHARED, mosaic, photo_files, photos
from lookalike import registry
from lookalike.images import read
from lookalike.pipeline import embed_files, in_parallel
from lookalike.types import Image, Skipped

Vectors = NDArray[np.float32]

_ENCODER = "efficientnet-lite0"
_SETS = ("imagenet_photos/images", "grocery/images", "clothing/images", "scene_pairs/images", "coil100/images")
_AT_LEAST = 200
_MADE = 400
_NOISE = 0.1
_NEAR, _FAR = 0.05, 0.5


@dataclass(frozen=True)
class Source:
    """Draws vectors of one number of dimensions around ``real`` (N, dim) ones."""

    real: Vectors

    @property
    def dim(self) -> int:
        return self.real.shape[1]

    def draw(self, count: int, rng: np.random.Generator) -> Vectors:
        """Return (count, dim) unit vectors."""
        a, b, c = rng.integers(len(self.real), size=(3, count))
        far = rng.uniform(_NEAR, _FAR, size=(count, 1)).astype(np.float32)
        noise = rng.standard_normal((count, self.dim), np.float32)
        noise *= _NOISE / np.sqrt(self.dim)
        return _unit(self.real[a] + far * (self.real[b] - self.real[c]) + noise)

    def reduced(self, dim: int) -> Source:
        """Return the source with its leading ``dim`` principal directions."""
        if dim == self.dim:
            return self
        _, _, directions = np.linalg.svd(self.real, full_matrices=True)
        return Source(_unit(self.real @ directions[:dim].T.astype(np.float32)))


def real_source() -> Source:
    """Embed the photos at hand; where there are few, crops of them."""
    files = _files()
    say(f"embedding {max(len(files), _MADE if len(files) < _AT_LEAST else 0)} real photos")
    encoder = registry.encoder(_ENCODER)
    if len(files) >= _AT_LEAST:
        found = embed_files(map(os.fspath, files), encoder)
        return Source(np.concatenate([one[1].vectors for one in found if not isinstance(one, Skipped)]))
    return Source(np.concatenate(list(in_parallel(lambda image: encoder.encode([image]).vectors, _crops()))))


def _files() -> list[Path]:
    shared = [p for name in _SETS for p in sorted((SHARED / name).rglob("*")) if p.suffix in {".jpg", ".png"}]
    return shared or photo_files()


def _crops() -> list[Image]:
    originals = photos() or [read(path).pixels for path in photo_files()]
    rngs = (np.random.default_rng([7, number]) for number in range(_MADE))
    return [Image(mosaic(originals, (320, 240), rng), (320, 240)) for rng in rngs]


def _unit(vectors: NDArray[np.floating]) -> Vectors:
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit
