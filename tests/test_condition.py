"""What the doctor reads from pixels: a plain border is no fault, and a print tells copies of the same picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.condition import PRINT_SIZE, condition_of, print_of
from lookalike.edits import Edit
from lookalike.images import read
from lookalike.types import Image

Pixels = NDArray[np.uint8]


def image(pixels: Pixels) -> Image:
    return Image(pixels, (pixels.shape[1], pixels.shape[0]))


def framed(photo: Pixels, tone: int, times: float) -> Pixels:
    """Return the photo amid a plain border, whose sides are so many times longer."""
    height, width = (round(times * side) for side in photo.shape[:2])
    canvas = np.full((height, width, 3), tone, np.uint8)
    top, left = (height - photo.shape[0]) // 2, (width - photo.shape[1]) // 2
    canvas[top : top + photo.shape[0], left : left + photo.shape[1]] = photo
    return canvas


@pytest.fixture(params=["astronaut", "chelsea", "coffee", "rocket"])
def photo(request: pytest.FixtureRequest, shipped_photos: Path) -> Pixels:
    path = shipped_photos / f"{request.param}.jpg"
    return read(str(path)).pixels


def test_a_product_on_white_and_an_object_on_black_are_well_exposed(photo: Pixels) -> None:
    for times in (1, 2, 4):
        assert condition_of(image(framed(photo, 255, times))).exposure is None
        assert condition_of(image(framed(photo, 0, times))).exposure is None


def test_ink_on_paper_is_well_exposed() -> None:
    page = np.full((220, 160, 3), 255, np.uint8)
    page[20:200:8, 20:140] = 20
    assert condition_of(image(page)).exposure is None


def test_what_has_lost_its_tones_is_found(photo: Pixels) -> None:
    tones = photo.astype(float)
    assert condition_of(image((tones / 10).astype(np.uint8))).exposure == "dark"
    assert condition_of(image((255 - (255 - tones) / 10).astype(np.uint8))).exposure == "overexposed"
    assert condition_of(image(framed((tones / 10).astype(np.uint8), 0, 2))).exposure == "dark"


def test_light_that_has_eaten_half_of_a_picture_is_found_and_white_around_it_is_not() -> None:
    rng = np.random.default_rng(0)
    eaten = rng.integers(60, 200, (100, 100, 3), dtype=np.uint8)
    eaten[8:92, 8:92] = 255
    assert condition_of(image(eaten)).exposure == "overexposed"
    around = rng.integers(60, 200, (100, 100, 3), dtype=np.uint8)
    around[:, :30] = around[:, 70:] = around[:30] = around[70:] = 255
    assert condition_of(image(around)).exposure is None
    drawing = np.zeros((100, 100, 3), np.uint8)
    drawing[8:92, 8:92] = 255
    assert condition_of(image(drawing)).exposure is None


@pytest.mark.parametrize(("tone", "exposure"), [(0, "dark"), (255, "overexposed"), (128, None)])
def test_one_tone_alone(tone: int, exposure: str | None) -> None:
    seen = condition_of(image(np.full((40, 60, 3), tone, np.uint8)))
    assert seen.exposure == exposure
    assert seen.shorter == 40
    assert not seen.look.any()
    assert condition_of(image(np.full((1, 1, 3), tone, np.uint8))).exposure == exposure


def test_a_print_stays_through_light_edits_and_differs_between_photos(photo: Pixels, shipped_photos: Path) -> None:
    rng = np.random.default_rng(0)
    mine = print_of(image(photo))
    assert mine.shape == (PRINT_SIZE,)
    assert np.linalg.norm(mine) == pytest.approx(1, abs=1e-5)
    edits = (
        Edit("half size"), Edit("jpeg", {"quality": 50}), Edit("brightness", {"factor": 0.8}),
        Edit("contrast", {"factor": 0.85}), Edit("noise", {"sigma": 4}),
    )  # fmt: skip
    for edit in edits:
        assert float(mine @ print_of(image(edit.apply(photo, rng)))) > 0.95, str(edit)
    others = [read(str(path)).pixels for path in sorted(shipped_photos.iterdir())]
    cosines = [float(mine @ print_of(image(other))) for other in others if not np.array_equal(other, photo)]
    assert max(cosines) < 0.9
