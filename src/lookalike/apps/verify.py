"""Check an encoder: that it keeps the contract of encoders, and that it tells pictures apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lookalike import registry
from lookalike.edits import random_copy
from lookalike.errors import InputError
from lookalike.images import read, walk
from lookalike.protocols import Encoder
from lookalike.types import Float32, Image, Skipped

FEWEST_PHOTOS = 12
_PHOTOS = 48
_SAME = 1e-5
_COLLAPSED = 0.9
"""A mean cosine of different pictures above it: a wrong normalization makes all pictures look alike."""
_FOUND = 0.9


@dataclass(frozen=True, slots=True)
class Check:
    """What was checked, whether it holds, and the number that says so."""

    name: str
    passed: bool
    told: str


@dataclass(frozen=True, slots=True)
class Verified:
    """All checks of an encoder, on ``photos`` pictures (0: on drawn ones)."""

    encoder: str
    photos: int
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all hold."""
        return all(check.passed for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "encoder": self.encoder,
            "passed": self.passed,
            "photos": self.photos,
            "checks": [asdict(check) for check in self.checks],
        }


def verify(name: str, photos: str | None = None) -> Verified:
    """Check the encoder ``name`` on the pictures of a folder, or on drawn ones, on which sense is not checked.

    Raise UnknownComponent, ConfigError where it cannot be loaded, InputError where the folder has under 12 pictures.
    """
    encoder = registry.encoder(name)
    images = _drawn() if photos is None else _read(photos, encoder.at_least)
    vectors = encoder.encode(images).vectors
    found = [_contract(encoder, images, vectors), *_repeated(encoder, images, vectors)]
    if photos is not None:  # what a network makes of drawings says little of photos
        found += _sense(encoder, images, vectors)
    return Verified(name, 0 if photos is None else len(images), tuple(found))


def _contract(encoder: Encoder, images: Sequence[Image], vectors: Float32) -> Check:
    """Rows of the space's width, finite, of length 1."""
    wanted = (len(images), encoder.space.dim)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    worst = float(np.abs(lengths - 1).max())
    passed = vectors.shape == wanted and bool(np.isfinite(vectors).all()) and worst < _SAME
    return Check("unit vectors", passed, f"{vectors.shape} of {wanted}; lengths off 1 by {worst:.1e} at most")


def _repeated(encoder: Encoder, images: Sequence[Image], vectors: Float32) -> list[Check]:
    ways: dict[str, Callable[[], Float32]] = {
        "deterministic": lambda: encoder.encode(images).vectors,
        "whatever the batch": lambda: np.concatenate([encoder.encode([image]).vectors for image in images]),
        "whatever the order": lambda: encoder.encode(images[::-1]).vectors[::-1],
        "whatever the threads": lambda: _in_threads(encoder, images),
    }
    checks = []
    for name, way in ways.items():
        apart = float(np.abs(way() - vectors).max())
        checks.append(Check(name, apart < _SAME, f"largest difference {apart:.1e}, allowed {_SAME:g}"))
    return checks


def _in_threads(encoder: Encoder, images: Sequence[Image]) -> Float32:
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda image: encoder.encode([image]).vectors, images))
    return np.concatenate(rows)


def _sense(encoder: Encoder, images: Sequence[Image], vectors: Float32) -> list[Check]:
    """Different pictures differ, and an edited copy is nearest to what it was made of."""
    alike = vectors.astype(np.float64) @ vectors.T
    mean = float(alike[~np.eye(len(images), dtype=bool)].mean())
    copies = [random_copy(image.pixels, np.random.default_rng(row))[0] for row, image in enumerate(images)]
    edited = encoder.encode([Image(pixels, (pixels.shape[1], pixels.shape[0])) for pixels in copies]).vectors
    found = float(((edited @ vectors.T).argmax(axis=1) == np.arange(len(images))).mean())
    return [
        Check(
            "tells pictures apart", mean < _COLLAPSED, f"mean cosine of different ones {mean:.3f}, below {_COLLAPSED}"
        ),
        Check("finds edited copies", found >= _FOUND, f"{found:.0%} are nearest to what they were made of"),
    ]


def _read(source: str, at_least: int | None) -> list[Image]:
    images = []
    for one in walk(source):
        if not isinstance(one, Skipped):
            try:
                images.append(read(one.path, at_least))
            except InputError:  # it is not these files that are checked
                continue
        if len(images) == _PHOTOS:
            break
    if len(images) < FEWEST_PHOTOS:
        raise InputError(f"{len(images)} pictures in {source} are too few to check on: at least {FEWEST_PHOTOS}")
    return images


def _drawn() -> list[Image]:
    """Return pictures of coloured waves and blots, all different."""
    side = 256
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    images = []
    for number in range(FEWEST_PHOTOS):
        rng = np.random.default_rng(number)
        pixels = np.zeros((side, side, 3))
        for _ in range(6):
            across, down, phase = rng.uniform((-12, -12, 0), (12, 12, 6))
            pixels += np.sin(across * x + down * y + phase)[..., None] * rng.normal(size=3)
            left, top, size = rng.uniform((0, 0, 0.05), (1, 1, 0.3))
            pixels[(x - left) ** 2 + (y - top) ** 2 < size**2] = 3 * rng.normal(size=3)
        images.append(Image(np.clip(128 + 50 * pixels, 0, 255).astype(np.uint8), (side, side), f"drawn {number}"))
    return images
