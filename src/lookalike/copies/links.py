"""What is known of a picture, and what ties two of them: the kind of link, its evidence, and the change in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from lookalike.copies.hashing import TURNS, Fingerprint
from lookalike.copies.local_features import Geometry
from lookalike.errors import InputError


class Kind(StrEnum):
    """How sure and how close: the first that holds, in this order."""

    EXACT = "exact"
    PIXELS = "pixels"
    NEAR = "near"
    EDITED = "edited"


class Level(StrEnum):
    """How far to look: each finds what those before it find, and more."""

    EXACT = "exact"
    NEAR = "near"
    EDITED = "edited"


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture as the cascade sees it: ``sha256`` of its file, upright (width, height) of it, and its fingerprint."""

    sha256: str
    size: tuple[int, int]
    fingerprint: Fingerprint

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise InputError(f"a picture has at least one pixel a side, got {self.size[0]}x{self.size[1]}")

    @property
    def order(self) -> tuple[int, str]:
        """Return what pictures are ordered by: the larger first, then by content; never by path or place."""
        return -self.size[0] * self.size[1], self.sha256


@dataclass(frozen=True, slots=True)
class Link:
    """Rows ``a`` and ``b`` of two pictures, ``a`` the first by ``Picture.order``, and why they are linked.

    ``shown_of_a`` and ``shown_of_b`` are the shares of either picture's area that the other shows too, ``scale`` how
    much larger b shows it. ``evidence`` is ready for JSON: ``test`` names the test that passed, ``change`` says in
    words how b differs from a, the rest is by how much; ``back`` says how a differs from b.
    """

    a: int
    b: int
    kind: Kind
    evidence: Mapping[str, Any] = field(default_factory=dict)
    shown_of_a: float = 1.0
    shown_of_b: float = 1.0
    scale: float = 1.0
    back: str = "none"

    def change_from(self, row: int) -> str:
        """Return in words how the other one differs from this picture."""
        return str(self.evidence.get("change", "none")) if row == self.a else self.back

    def is_turned(self) -> bool:
        """Tell whether the one is mirrored or lies otherwise than the other."""
        turned = self.evidence.get("turn", TURNS[0]) != TURNS[0]
        return turned or bool(self.evidence.get("flipped")) or abs(self.evidence.get("rotation", 0.0)) > _UPRIGHT

    def stands_for(self, row: int) -> bool:
        """Tell whether this picture could be kept in place of the other one.

        Not one that shows the other in a part of itself only, and smaller: a collage does not stand for its parts.
        """
        shown, scale = (self.shown_of_a, 1 / self.scale) if row == self.a else (self.shown_of_b, self.scale)
        return shown >= _MOSTLY or scale >= _AS_LARGE


_MOSTLY, _AS_LARGE = 0.5, 0.8
_UPRIGHT = 45
_WHOLE = 0.95
_SAME = 0.03


def turn_in_words(turn: int, a: tuple[int, int], b: tuple[int, int]) -> str:
    """Return how the whole of b differs from a, whose picture after ``TURNS[turn]`` it is; sizes (width, height)."""
    swapped = turn >= len(TURNS) // 2
    width, height = (b[1], b[0]) if swapped else b
    words = [TURNS[turn]] if turn else []
    across, down = width / a[0], height / a[1]
    if abs(across / down - 1) > 2 * _SAME:
        words.append(f"stretched to {b[0]}x{b[1]}")
    elif abs(across - 1) > _SAME:
        words.append(f"resized to {_percent(across)}")
    return ", ".join(words) or "same size, other pixels"


def turned_back(turn: int) -> int:
    """Return the turn that takes another one back."""
    around = TURNS.index("rotated 90"), TURNS.index("rotated 270")
    return around[1 - around.index(turn)] if turn in around else turn


def geometry_back(found: Geometry) -> Geometry:
    """Return how a lies on b, as far as words go, of how b lies on a."""
    rotation = found.rotation_degrees if found.mirrored else -found.rotation_degrees
    return replace(found, overlap_a=found.overlap_b, overlap_b=found.overlap_a, rotation_degrees=rotation)


def geometry_in_words(found: Geometry, scale: float) -> str:
    """Return how b differs from a, where it is a part of a or holds it, ``scale`` times as large."""
    words = ["flipped"] if found.mirrored else []
    angle = round(found.rotation_degrees)
    if angle % 360:
        words.append(f"rotated {angle % 360 if abs(angle) > 45 else angle}")
    if abs(scale - 1) > _SAME:
        words.append(f"resized to {_percent(scale)}")
    if found.stretch > 1 + _SAME:
        words.append(f"stretched by {_percent(found.stretch - 1)}")
    words += _part_in_words(found.overlap_a, found.overlap_b)
    return ", ".join(words) or "other pixels in the same place"


def _part_in_words(of_a: float, of_b: float) -> list[str]:
    if of_a >= _WHOLE and of_b >= _WHOLE:
        return []
    if of_a >= _WHOLE:
        return [f"laid on a larger picture, {_percent(of_b)} of it"]
    if of_b >= _WHOLE:
        return [f"cropped to {_percent(of_a)}"]
    return [f"cropped to {_percent(of_a)} and laid on a larger picture, {_percent(of_b)} of it"]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
