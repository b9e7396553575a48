"""What people say of pairs of pictures: that they show the same thing, or different things."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lookalike.gallery import Gallery
from lookalike.types import Item, Mark


@dataclass(frozen=True, slots=True)
class MarkResult:
    """A mark, and the items of the gallery that it is about: none where such a picture is not (or no longer) there."""

    mark: Mark
    a_items: tuple[Item, ...]
    b_items: tuple[Item, ...]

    @property
    def said(self) -> str:
        """What was said, in a word."""
        return "same" if self.mark.same else "different"

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            **self.mark.as_dict(),
            "a_items": [{"id": item.id, "path": item.path} for item in self.a_items],
            "b_items": [{"id": item.id, "path": item.path} for item in self.b_items],
        }


@dataclass(frozen=True, slots=True)
class ForgetResult:
    """Whether anything had been said of the two."""

    forgotten: bool

    @property
    def said(self) -> str:
        """What is said of the two now, in a word."""
        return "forgotten" if self.forgotten else "nothing was said of them"

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {"forgotten": self.forgotten}


def mark(gallery: Gallery, a: str, b: str, *, same: bool) -> MarkResult:
    """Keep what is said of two pictures, and return it."""
    return _with_items(gallery, gallery.mark(a, b, same))


def forget(gallery: Gallery, a: str, b: str) -> ForgetResult:
    """Forget what was said of two pictures."""
    return ForgetResult(gallery.unmark(a, b))


def marks(gallery: Gallery) -> Iterator[MarkResult]:
    """Yield all that was said."""
    return (_with_items(gallery, one) for one in gallery.marks())


def _with_items(gallery: Gallery, one: Mark) -> MarkResult:
    return MarkResult(one, tuple(gallery.items_of(one.a)), tuple(gallery.items_of(one.b)))
