"""lookalike tells how alike pictures are, finds the alike ones, and decides whether they are alike enough.

Three lines find the pictures that look like one::

    gallery = lookalike.Gallery.open("photos.gallery")
    gallery.index("~/Pictures")
    gallery.search("query.jpg", k=10)

One line compares two pictures, and says whether they match, at which error rate, and why::

    lookalike.compare("a.jpg", "b.jpg").reason

The command does the same: ``lookalike index ~/Pictures``, ``lookalike search query.jpg``, ``lookalike compare a b``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "BenchmarkRequest",
    "Comparison",
    "Duplicates",
    "Gallery",
    "Inspector",
    "Monitor",
    "Recognizer",
    "Recommender",
    "Region",
    "States",
    "TrainRequest",
    "benchmark",
    "compare",
    "find_duplicates",
    "read",
    "train",
]

if TYPE_CHECKING:
    from lookalike.apps.benchmark import BenchmarkRequest, benchmark
    from lookalike.apps.compare import Comparison, compare
    from lookalike.apps.dedupe import find_duplicates
    from lookalike.apps.recognize import Recognizer
    from lookalike.apps.recommend import Recommender
    from lookalike.apps.train import TrainRequest, train
    from lookalike.duplicates import Duplicates
    from lookalike.gallery import Gallery
    from lookalike.images import read
    from lookalike.inspecting import Inspector
    from lookalike.states.monitor import Monitor
    from lookalike.states.observing import States
    from lookalike.states.regions import Region

_LAZY = {
    "BenchmarkRequest": "lookalike.apps.benchmark",
    "Comparison": "lookalike.apps.compare",
    "Duplicates": "lookalike.duplicates",
    "Gallery": "lookalike.gallery",
    "Inspector": "lookalike.inspecting",
    "Monitor": "lookalike.states.monitor",
    "Recognizer": "lookalike.apps.recognize",
    "Recommender": "lookalike.apps.recommend",
    "Region": "lookalike.states.regions",
    "States": "lookalike.states.observing",
    "TrainRequest": "lookalike.apps.train",
    "benchmark": "lookalike.apps.benchmark",
    "compare": "lookalike.apps.compare",
    "find_duplicates": "lookalike.apps.dedupe",
    "read": "lookalike.images",
    "train": "lookalike.apps.train",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `lookalike --help` imports neither numpy nor Pillow.
    if name not in _LAZY:
        raise AttributeError(f"module 'lookalike' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_LAZY[name]), name)
