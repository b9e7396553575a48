"""Recommend items for several likes and dislikes: varied, no copies of each other, each with the like it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lookalike.condition import PRINT_SIDE, PRINT_SIZE, print_of
from lookalike.doctoring import copies_of
from lookalike.errors import ConfigError, InputError
from lookalike.gallery import Gallery
from lookalike.images import read
from lookalike.recommending import relevance, tastes, varied
from lookalike.types import Float32, Item

DEFAULT_DIVERSITY = 0.3
_CANDIDATES, _CANDIDATES_A_HIT = 50, 5
"""Of each like so many of the nearest are looked at: at least, and for each hit that is wanted."""
_MORE = 4
_METRIC = "cosine"


@dataclass(frozen=True, slots=True)
class Because:
    """The like that a recommendation came from, and its cosine to it."""

    id: str
    path: str | None
    score: float


@dataclass(frozen=True, slots=True)
class Recommended:
    """An item to recommend; ``score`` is its relevance: about a cosine, less half of that to dislikes."""

    id: str
    path: str | None
    score: float
    because: Because


@dataclass(frozen=True, slots=True)
class Recommendations:
    """The items, in the order in which to show them, and how many near copies of others were left out."""

    hits: tuple[Recommended, ...]
    copies: int

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {"hits": [asdict(hit) for hit in self.hits], "copies": self.copies}


class Recommender:
    """Recommends items of a gallery to one person, whose likes and dislikes may come in one by one.

    Likes and dislikes are items, by id or path. ``where`` filters on metadata; ``diversity`` in [0, 1] is what variety
    counts against relevance.
    """

    def __init__(self, gallery: Gallery, *, where: str | None = None, diversity: float = DEFAULT_DIVERSITY) -> None:
        if not 0 <= diversity <= 1:
            raise ConfigError(f"diversity is from 0 (relevance alone) to 1 (variety alone), got {diversity:g}")
        self._gallery, self._where, self._diversity = gallery, where, diversity
        self._likes: dict[str, Item] = {}
        self._less: dict[str, Item] = {}

    def fit(self, likes: Sequence[str], less: Sequence[str] = ()) -> Recommender:
        """Take these likes and dislikes, in place of those there were. Raises UnknownId, or InputError for an item in
        both, and nothing is changed then.
        """
        liked, disliked = self._items(likes), self._items(less)
        if both := [item.path or id_ for id_, item in liked.items() if id_ in disliked]:
            raise InputError(f"{both[0]} is both liked and disliked; leave it out of one of the two")
        self._likes, self._less = liked, disliked
        return self

    def update(self, likes: Sequence[str] = (), less: Sequence[str] = ()) -> Recommender:
        """Add likes and dislikes; what is said last of an item counts."""
        liked, disliked = self._items(likes), self._items(less)
        kept = [id_ for id_ in self._likes if id_ not in disliked]
        kept_less = [id_ for id_ in self._less if id_ not in liked]
        return self.fit([*kept, *liked], [*kept_less, *disliked])

    def decide(self, k: int = 10) -> Recommendations:
        """Return up to ``k`` recommendations; fewer where the filter or the gallery holds no more that are no copies.

        Candidates are the nearest of each like, more where these are copies; pictures are opened only to tell near
        copies.
        """
        if k < 1:
            raise ConfigError(f"k is how many recommendations are wanted, at least 1, got {k}")
        if not self._likes:
            raise ConfigError("name at least one item that is liked (`lookalike list` shows ids and paths)")
        count = max(_CANDIDATES, _CANDIDATES_A_HIT * k) + len(self._likes) + len(self._less)
        before = -1
        while True:
            ids = self._candidates(count)
            found = self._chosen(ids, k) if ids else Recommendations((), 0)
            # A crowd of copies around a like may be all that was looked at.
            if len(found.hits) == k or not found.copies or len(ids) == before:
                return found
            before, count = len(ids), count * _MORE

    def _chosen(self, ids: Sequence[str], k: int) -> Recommendations:
        """Return up to ``k`` of some candidates, at least one."""
        known = [*self._likes, *self._less]
        stored = self._gallery.embeddings(known).vectors
        likes, dislikes = np.split(stored, [len(self._likes)])
        items, vectors = self._gallery.get(ids), self._gallery.embeddings(ids).vectors
        of_likes = tastes(vectors, likes)
        scores = relevance(of_likes, vectors.astype(np.float64) @ dislikes.T)
        copies = _Copies([*items, *self._likes.values(), *self._less.values()], np.concatenate([vectors, stored]))
        told = list(range(len(items), len(items) + len(known)))
        found: list[int] = []
        for place in varied(scores, vectors, self._diversity, lambda one, chosen: copies.has(one, [*told, *chosen])):
            found.append(place)
            if len(found) == k:
                break
        reasons = list(self._likes.values())

        def recommended(place: int) -> Recommended:
            like = int(of_likes[place].argmax())
            because = Because(reasons[like].id, reasons[like].path, float(vectors[place] @ likes[like]))
            return Recommended(items[place].id, items[place].path, float(scores[place]), because)

        return Recommendations(tuple(map(recommended, found)), copies.refused)

    def _items(self, names: Sequence[str]) -> dict[str, Item]:
        return {item.id: item for item in self._gallery.get(names)}

    def _candidates(self, count: int) -> list[str]:
        """Return the ids of the ``count`` nearest of each like, in a fixed order, without what was said already."""
        said = {*self._likes, *self._less}
        queries = self._gallery.embeddings(list(self._likes))
        found = self._gallery.search_each(queries, count, metric=_METRIC, where=self._where)
        return sorted({hit.id for hits in found for hit in hits} - said)


class _Copies:
    """Tells near copies among N items; a picture is opened when it is first asked about."""

    def __init__(self, items: Sequence[Item], vectors: Float32) -> None:
        self._items, self._vectors = items, vectors
        self._prints: dict[int, Float32] = {}
        self.refused = 0

    def has(self, place: int, others: Sequence[int]) -> bool:
        """Tell, and count, whether an item is nearly the same picture as one of some others."""
        prints = np.stack([self._print(other) for other in others])
        alike = bool(copies_of(self._vectors[place], self._print(place), self._vectors[list(others)], prints).any())
        self.refused += alike
        return alike

    def _print(self, place: int) -> Float32:
        if place not in self._prints:
            self._prints[place] = _print_of(self._items[place])
        return self._prints[place]


def _print_of(item: Item) -> Float32:
    """Return (768,) the print of an item's picture; zeros, which resemble nothing, where it cannot be read."""
    try:
        return print_of(read(item.path, PRINT_SIDE)) if item.path else np.zeros(PRINT_SIZE, np.float32)
    except InputError:
        return np.zeros(PRINT_SIZE, np.float32)
