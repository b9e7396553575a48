"""lookalike tells how alike pictures are, finds the alike ones, and decides whether they are alike enough.

Three lines find the pictures that look like one::

    gallery = lookalike.Gallery.open("photos.gallery")
    gallery.index("~/Pictures")
    gallery.search("query.jpg", k=10)

The command does the same: ``lookalike index ~/Pictures``, ``lookalike search query.jpg``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Gallery", "read"]

if TYPE_CHECKING:
    from lookalike.gallery import Gallery
    from lookalike.images import read

_LAZY = {"Gallery": "lookalike.gallery", "read": "lookalike.images"}


def __getattr__(name: str) -> Any:
    # Lazy, so that `lookalike --help` imports neither numpy nor Pillow.
    if name not in _LAZY:
        raise AttributeError(f"module 'lookalike' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_LAZY[name]), name)
