"""The values that flow: a wrong state cannot be built, and errors say what they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lookalike import errors
from lookalike.errors import InputError, LookalikeError, SpaceMismatch
from lookalike.types import Embeddings, FileStamp, Image, IndexReport, Item, Skipped, Space, display_path

SPACE = Space("e", "1", "p", 3)


def f32(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Space("e", "1", "p", 0),
        lambda: Image(np.zeros((4, 4), np.uint8), (4, 4)),
        lambda: Image(np.zeros((4, 4, 4), np.uint8), (4, 4)),
        lambda: Image(np.zeros((0, 4, 3), np.uint8), (4, 0)),
        lambda: Image(np.zeros((4, 4, 3)), (4, 4)),  # type: ignore[arg-type]
        lambda: Embeddings(f32(2, 4), f32(2), SPACE),
        lambda: Embeddings(f32(3), f32(3), SPACE),
        lambda: Embeddings(f32(2, 3), f32(3), SPACE),
        lambda: Embeddings(f32(2, 3).astype(np.float64), f32(2), SPACE),  # type: ignore[arg-type]
        lambda: Embeddings(f32(2, 3), f32(2).astype(np.float64), SPACE),  # type: ignore[arg-type]
        lambda: Embeddings(np.full((1, 3), np.nan, np.float32), f32(1), SPACE),
        lambda: Embeddings(f32(1, 3), np.full(1, np.inf, np.float32), SPACE),
        lambda: Embeddings.concatenate([]),
        lambda: Embeddings.concatenate(
            [Embeddings(f32(1, 3), f32(1), SPACE), Embeddings(f32(1, 3), f32(1), Space("e", "2", "p", 3))]
        ),
        lambda: Item(""),
        lambda: Item(" a"),
        lambda: Item("a\0"),
    ],
)
def test_a_wrong_state_cannot_be_built(wrong: Callable[[], object]) -> None:
    with pytest.raises((InputError, SpaceMismatch)):
        wrong()


def test_pixels_are_read_only_and_the_callers_array_is_not() -> None:
    mine = np.zeros((4, 4, 3), np.uint8)
    image = Image(mine, (4, 4))
    assert not image.pixels.flags.writeable
    assert image.pixels.flags.c_contiguous
    mine[0, 0, 0] = 1


def test_raw_vectors_become_unit_vectors_and_lengths_and_zeros_stay() -> None:
    made = Embeddings.from_raw(np.array([[3.0, 4.0, 0.0], [0, 0, 0], [1e-30, 0, 0], [1e30, 0, 0]]), SPACE)
    np.testing.assert_allclose(made.vectors, [[0.6, 0.8, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0]], atol=1e-7)
    np.testing.assert_allclose(made.norms, [5, 0, 1e-30, 1e30], rtol=1e-6)


def test_the_mean_direction_of_one_is_itself_and_of_opposites_is_zero() -> None:
    one = Embeddings.from_raw(np.array([[1.0, 2.0, 2.0]]), SPACE)
    assert one.mean_direction() is one
    both = Embeddings.from_raw(np.array([[1.0, 0, 0], [-1.0, 0, 0]]), SPACE)
    np.testing.assert_array_equal(both.mean_direction().vectors, [[0, 0, 0]])
    two = Embeddings.from_raw(np.array([[5.0, 0, 0], [0, 1.0, 0]]), SPACE)  # directions count, lengths do not
    np.testing.assert_allclose(two.mean_direction().vectors, [[0.5**0.5, 0.5**0.5, 0]], atol=1e-7)


def test_a_crop_is_the_box_that_was_named() -> None:
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    crop = Image(pixels, (4, 5)).crop(1, 2, 3, 2)
    np.testing.assert_array_equal(crop.pixels, pixels[2:4, 1:4])
    assert crop.size == (3, 2)


def test_reports_add_up() -> None:
    one = IndexReport(1, 2, 3, 4, (Skipped("a", "x"),))
    two = IndexReport(10, 20, 30, 40, (Skipped("b", "y"),))
    assert IndexReport.total([one, two]) == IndexReport(11, 22, 33, 44, (Skipped("a", "x"), Skipped("b", "y")))


def test_the_path_of_an_item_is_absolute_or_none() -> None:
    assert Item("a", file=FileStamp("/r", "s/x.jpg", 1, None)).path == "/r/s/x.jpg"
    assert Item("a", file=FileStamp("/", "x.jpg", 1, None)).path == "/x.jpg"
    assert Item("a").path is None


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("plain é 漢.jpg", "plain é 漢.jpg"),
        ("a\nb\x1b\x7f", "a\\nb\\x1b\\x7f"),
        ("caf\udce9", "caf\\xe9"),
        ("\u202e\u200b", "\\u202e\\u200b"),
    ],
)
def test_a_path_is_shown_without_what_a_terminal_obeys(path: str, shown: str) -> None:
    assert display_path(path) == shown
    assert display_path(Path(path)) == shown


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    drawn = re.findall(r"([A-Z]\w+)(?= {2,}|\n)", str(errors.__doc__).partition("LookalikeError")[2])
    real = [
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, LookalikeError) and kind is not LookalikeError
    ]
    assert sorted(set(drawn)) == sorted(real)
    codes = {errors.InputError: 2, errors.ConfigError: 2, errors.StoreError: 3, errors.SpaceMismatch: 2}
    assert {kind: kind.exit_code for kind in codes} == codes
