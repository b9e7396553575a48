"""Search a gallery with one picture or with many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lookalike.errors import ConfigError, InputError
from lookalike.gallery import Box, Gallery
from lookalike.images import read
from lookalike.located import DEPTH, LOCAL, by_local_features
from lookalike.pipeline import in_parallel, reason_of
from lookalike.types import Embeddings, Hit, Hits, Skipped, Space
from lookalike.words import Words


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of every query that could be read, in order, with its picture's path, and those that could not."""

    metric: str
    space: Space
    queries: tuple[Hits, ...]
    pictures: tuple[str | None, ...]
    skipped: tuple[Skipped, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "metric": self.metric,
            "space": self.space.as_dict(),
            "queries": [
                {"query": hits.query, "exact": hits.exact, "hits": list(map(_hit_as_dict, hits))}
                for hits in self.queries
            ],
            "skipped": [asdict(skipped) for skipped in self.skipped],
        }


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a search, whatever the query; see ``Gallery.search``.

    ``words`` are added to each query; ``rerank`` names what puts the nearest in a new order.
    """

    k: int = 10
    metric: str | None = None
    where: str | None = None
    crop: Box | None = None
    exact: bool = False
    words: Words | None = None
    rerank: str | None = None


def search_with(
    gallery: Gallery, images: Sequence[str], like: Sequence[str], request: Request, *, together: bool = False
) -> SearchResult:
    """Search with picture files, or with items of the gallery; ``together`` makes one query of the pictures.

    Words alone (``request.words``) are one query.
    """
    if request.words and not (images or like):
        return search_words(gallery, request.words, request)
    if request.rerank == LOCAL:
        return _search_located(gallery, images, like, request, together=together)
    if bool(images) == bool(like):
        raise ConfigError(
            "name the pictures to search with, or items with --like ID: one of the two (or only words, with --text)"
        )
    if like:
        return search_like(gallery, like, request)
    return search_together(gallery, images, request) if together else search(gallery, images, request)


def search(gallery: Gallery, queries: Sequence[str], request: Request) -> SearchResult:
    """Search with each picture file. One bad query among several is skipped with its reason; a single one raises."""
    read = [(q, outcome) for q, outcome in zip(queries, _embedded(gallery, queries, request.crop), strict=True)]
    good = [(q, outcome) for q, outcome in read if isinstance(outcome, Embeddings)]
    bad = [(q, outcome) for q, outcome in read if not isinstance(outcome, Embeddings)]
    if not good:
        raise bad[0][1]
    skipped = tuple(Skipped(q, reason_of(error)) for q, error in bad)
    names = [q for q, _ in good]
    return _answered(gallery, names, Embeddings.concatenate([e for _, e in good]), request, names, skipped)


def search_together(gallery: Gallery, queries: Sequence[str], request: Request) -> SearchResult:
    """Search once with several pictures of one thing: the mean of their directions is the query."""
    vectors = gallery.embed(queries, crop=request.crop)
    return _answered(gallery, [" + ".join(queries)], vectors.mean_direction(), request, queries[:1])


def search_like(gallery: Gallery, ids: Sequence[str], request: Request) -> SearchResult:
    """Search with the stored vectors of items, given by id or path; no picture is opened, no encoder needed."""
    return _answered(gallery, ids, gallery.embeddings(ids), request, [item.path for item in gallery.get(ids)])


def _search_located(
    gallery: Gallery, images: Sequence[str], like: Sequence[str], request: Request, *, together: bool
) -> SearchResult:
    """Search, and look for each query's picture in its nearest hits by local features."""
    if together or request.words:
        raise ConfigError("--rerank local looks for one picture in the hits: leave out --together, --text and --minus")
    deep = replace(request, k=max(request.k, DEPTH), rerank=None)
    found = search_with(gallery, images, like, deep)
    hits = []
    for of_query, picture in zip(found.queries, found.pictures, strict=True):
        if picture is None:
            raise InputError(f"item {of_query.query} came without a picture: there is nothing to look for in its hits")
        image = read(picture, None if request.crop else gallery.encoder().at_least)
        hits.append(by_local_features(image.crop(*request.crop) if request.crop else image, of_query, request.k))
    return replace(found, queries=tuple(hits))


def search_words(gallery: Gallery, words: Words, request: Request) -> SearchResult:
    """Search with words alone."""
    return _found(gallery, [words.name], gallery.embed_words(words), request, [None])


def _embedded(gallery: Gallery, queries: Sequence[str], crop: Box | None) -> list[Embeddings | InputError]:
    def work(query: str) -> Embeddings | InputError:
        try:
            return gallery.embed([query], crop=crop)
        except InputError as error:
            return error

    return list(in_parallel(work, queries))


def _answered(
    gallery: Gallery,
    names: Sequence[str],
    vectors: Embeddings,
    request: Request,
    pictures: Sequence[str | None],
    skipped: tuple[Skipped, ...] = (),
) -> SearchResult:
    """Search with the vectors of pictures, and with the words of the request beside each."""
    if request.words:
        names = [f"{name} + {request.words.name}" for name in names]
        vectors = gallery.embed_words(request.words, vectors)
    return _found(gallery, names, vectors, request, pictures, skipped)


def _found(
    gallery: Gallery,
    names: Sequence[str],
    vectors: Embeddings,
    request: Request,
    pictures: Sequence[str | None],
    skipped: tuple[Skipped, ...] = (),
) -> SearchResult:
    found = gallery.search_each(
        vectors,
        request.k,
        metric=request.metric,
        where=request.where,
        exact=request.exact,
        names=names,
        rerank=request.rerank,
    )
    return SearchResult(request.metric or gallery.metric, gallery.space, tuple(found), tuple(pictures), skipped)


def _hit_as_dict(hit: Hit) -> dict[str, Any]:
    told = {"id": hit.id, "path": hit.path, "score": hit.score, "metadata": dict(hit.metadata)}
    return told if hit.reranked is None else {**told, "reranked": hit.reranked}
