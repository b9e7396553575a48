"""Hits in the order of what local features say: does the picture, or a part of it, lie in the hit, and how surely?"""

from __future__ import annotations

from dataclasses import replace

from lookalike.copies import local_features
from lookalike.copies.local_features import Features
from lookalike.errors import InputError
from lookalike.images import read
from lookalike.pipeline import in_parallel
from lookalike.types import Hit, Hits, Image

LOCAL = "local"
DEPTH = 50
"""So many of the nearest are looked at; each costs some 20 ms for its features and 5 for the comparison."""
_SIDE = 256
_SURE = 3.0
"""-log10 of how many such geometries chance would give: from one in a thousand on, a hit comes before those without."""


def by_local_features(query: Image, hits: Hits, k: int) -> Hits:
    """Return the first ``k`` of ``hits``: first those in which the query was located, the surest first; then the rest.

    ``Hit.reranked`` is -log10 of the number of false alarms (AC-RANSAC: Moisan and Stival 2004), 0 where nothing was
    located or the file cannot be read. Raises MissingDependency without [dedupe].
    """
    own = local_features.extract(query.pixels)
    sureness = list(in_parallel(lambda hit: _sureness(own, hit), hits))
    order = sorted(range(len(hits)), key=lambda row: -sureness[row] if sureness[row] >= _SURE else 0.0)
    return replace(hits, hits=tuple(replace(hits[row], reranked=sureness[row]) for row in order[:k]))


def _sureness(own: Features, hit: Hit) -> float:
    if hit.path is None:
        return 0.0
    try:
        other = local_features.extract(read(hit.path, _SIDE).pixels)
    except InputError:  # gone or damaged since it was indexed: it keeps the place that its vector gave it
        return 0.0
    found = local_features.compare(own, other)
    return 0.0 if found is None else max(0.0, float(found.significance))
