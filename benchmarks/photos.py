"""Real photos at hand, and JPEG files of any number and size made from them.

The photos are those of ``../shared/data`` where it lies beside the checkout, else those that scikit-image ships. They
are small, so that a larger picture is a mosaic of crops in their own resolution: scaled up, they would lack the detail
that makes a real file large and slow to decode.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from benchmarks.harness import REPOSITORY, cores
from lookalike.errors import InputError
from lookalike.images import read

SHARED = REPOSITORY.parent / "shared" / "data"
QUALITY = 90

_SETS = ("imagenet_photos/images", "scene_pairs/images")
_SHIPPED = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png")
_SHIPPED_TOO = ("motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "rocket.jpg")
_AT_MOST = 300
_TILE = (320, 240)
_AN_HOUR = 3600.0

Pixels = NDArray[np.uint8]


def photo_files() -> list[Path]:
    """Return the photos at hand, always in the same order."""
    found = [path for folder in _SETS for path in sorted((SHARED / folder).glob("*.jpg"))]
    return found or _shipped()


def _shipped() -> list[Path]:
    import skimage  # noqa: PLC0415 - only where there is nothing better

    folder = Path(skimage.__file__).parent / "data"
    return [folder / name for name in (*_SHIPPED, *_SHIPPED_TOO) if (folder / name).is_file()]


def photos() -> list[Pixels]:
    """Return some of the photos as (H, W, 3) uint8, spread over all that are at hand."""
    files = photo_files()
    step = max(1, len(files) // _AT_MOST)
    return [pixels for pixels in map(_pixels, files[::step]) if pixels is not None]


def _pixels(path: Path) -> Pixels | None:
    try:
        return read(path).pixels
    except InputError:
        return None


def make_jpegs(folder: Path, count: int, size: tuple[int, int], seed: int = 0) -> list[Path]:
    """Write ``count`` distinct JPEGs of ``size`` (width, height) into a new folder; the same for the same seed.

    They are an hour old: of a file written just now nobody can tell by its time that it did not change again.
    """
    folder.mkdir(parents=True)
    originals = photos()
    paths = [folder / f"{number:06d}.jpg" for number in range(count)]

    def make(number: int) -> None:
        rng = np.random.default_rng([seed, number, *size])
        PIL.Image.fromarray(mosaic(originals, size, rng)).save(paths[number], quality=QUALITY)
        os.utime(paths[number], times=(time.time() - _AN_HOUR,) * 2)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(make, range(count)))
    return paths


def mosaic(originals: list[Pixels], size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """Return a picture of ``size`` (width, height) that is laid out with crops of random photos."""
    width, height = size
    picture = np.empty((height, width, 3), np.uint8)
    for left, top in _corners(size):
        tile = picture[top : top + _TILE[1], left : left + _TILE[0]]
        tile[:] = _crop(originals[rng.integers(len(originals))], tile.shape[1], tile.shape[0], rng)
    return picture


def _corners(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    for top in range(0, size[1], _TILE[1]):
        for left in range(0, size[0], _TILE[0]):
            yield left, top


def _crop(photo: Pixels, width: int, height: int, rng: np.random.Generator) -> Pixels:
    """Return a random, perhaps mirrored crop; a photo that is too small is enlarged by as little as it takes."""
    scale = max(1.0, width / photo.shape[1], height / photo.shape[0])
    if scale > 1:
        enlarged = (max(width, round(photo.shape[1] * scale)), max(height, round(photo.shape[0] * scale)))
        photo = np.asarray(PIL.Image.fromarray(photo).resize(enlarged, PIL.Image.Resampling.BICUBIC))
    left = int(rng.integers(photo.shape[1] - width + 1))
    top = int(rng.integers(photo.shape[0] - height + 1))
    crop = photo[top : top + height, left : left + width]
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def link_some(paths: list[Path], folder: Path) -> list[Path]:
    """Put hard links to files into a new folder."""
    folder.mkdir(parents=True)
    linked = [folder / path.name for path in paths]
    for path, link in zip(paths, linked, strict=True):
        os.link(path, link)
    return linked
