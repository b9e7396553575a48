"""The spine: a gallery of pictures that can be indexed, searched and kept up to date."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np

from lookalike import installed, registry
from lookalike.errors import (
    ConfigError,
    InputError,
    SpaceMismatch,
    StoreError,
    UnknownComponent,
    UnknownId,
    UnreadableImage,
)
from lookalike.images import read, read_bytes
from lookalike.indexing import Indexer, Options, Progress, complete, free_id
from lookalike.metadata import Given, checked, told_by_file
from lookalike.pipeline import contents_of, embed, smallest_side
from lookalike.protocols import Encoder, Reranker, TextEncoder
from lookalike.roots import Roots, root_of
from lookalike.stores.directory import DERIVED
from lookalike.stores.marks import utc_now
from lookalike.stores.sqlite import SqliteStore
from lookalike.types import (
    NO_METADATA,
    Embeddings,
    FileStamp,
    Float32,
    Hits,
    Image,
    ImageSource,
    IndexReport,
    Item,
    Mark,
    Pair,
    Skipped,
    Space,
    StoredCalibration,
)
from lookalike.words import Words

_METRIC_SETTING = "metric"
_SPACE_SETTING = "default_space"
_TIE_BREAKER = "manhattan"
RERANKED = 100
"""So many of the nearest are put in a new order by a re-ranker."""
_WAIT_S = 10.0
_SHA256 = re.compile("[0-9a-f]{64}")

Box = tuple[int, int, int, int]
Settling = Callable[[int, int], None]


def no_progress(_done: int) -> None:
    """Do nothing: what stands for a progress bar where there is none."""


class Gallery:
    """Pictures with their vectors and metadata, in one directory.

    Open with :meth:`open`; close with :meth:`close` or ``with``. Reading methods may be called from several threads,
    and by other processes while one writes. Writing methods wait up to ten seconds for another writer.
    """

    def __init__(self, store: SqliteStore, space: Space, metric: str | None = None) -> None:
        self._store = store
        self.space = space
        self._metric = metric

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, encoder: str | None = None, metric: str | None = None, create: bool = True
    ) -> Gallery:
        """Open the gallery at ``path``; make it if there is none and ``create`` is true.

        ``encoder`` says which of its spaces to use, or, for a new gallery, which encoder to use for good
        (``efficientnet-lite0`` where nothing is said); ``metric`` is what a search uses unless told otherwise: for
        good in a new gallery, as long as it is open in another.
        Raises StoreError where the gallery is missing, damaged, newer than this program or no gallery at all, and
        SpaceMismatch where it has no vectors of ``encoder``.
        """
        directory = Path(path).expanduser()
        if metric is not None:
            registry.metric(metric)
        if create and not _is_finished(directory):
            _make(directory, [registry.encoder(encoder or registry.DEFAULT_ENCODER).space], metric)
        store = SqliteStore.open(directory)
        try:
            return cls(store, _chosen_space(store, encoder), metric)
        except BaseException:
            store.close()
            raise

    @classmethod
    def for_spaces(cls, path: str | os.PathLike[str], spaces: Sequence[Space], metric: str | None = None) -> Gallery:
        """Open the gallery at ``path`` for vectors of these spaces; make it, with ``metric``, if there is none.

        Raises SpaceMismatch where there is one whose own space is not the first of ``spaces``.
        """
        directory = Path(path).expanduser()
        if not _is_finished(directory):
            _make(directory, spaces, metric)
        gallery = cls.open(directory, create=False)
        if gallery.space != spaces[0]:
            gallery.close()
            raise SpaceMismatch(gallery.space, spaces[0], "choose another gallery for these vectors")
        return gallery

    def close(self) -> None:
        """Release the files; what was written is on disk already."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Writing

    def index(
        self,
        folder: str | os.PathLike[str],
        *,
        metadata: Given | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        prune: bool = False,
        hidden: bool = False,
        exclude: Sequence[str] = (),
        progress: Progress = no_progress,
        settling: Settling | None = None,
    ) -> IndexReport:
        """Bring the gallery up to date with a folder (or one file), touching only what changed.

        ``metadata`` is a mapping for every picture, or the path of a CSV or JSONL sidecar with a column ``path``
        (relative to the sidecar). Items whose files are gone stay, unless ``prune``; ``hidden`` takes in names that
        begin with a dot; ``exclude`` leaves out glob patterns. One bad file is a line in ``report.skipped``, never the
        end. Interrupted or killed, it goes on where it was when called again. ``progress`` is told how many more files
        are done for good, ``settling`` how far :meth:`settle` is, which comes last.
        """
        given = metadata if isinstance(metadata, Given) else Given(metadata)
        options = Options(prune=prune, hidden=hidden, exclude=tuple(exclude))
        with self._writing():
            report = Indexer(self._store, self._encoders, os.fspath(folder), given, options, progress).run()
            if report.added or report.updated or report.removed:
                self._store.settle(settling)
        # A caller who brings a Given may use it for several folders, and asks it in the end.
        return report if metadata is given else replace(report, skipped=(*report.skipped, *given.unused()))

    def add(self, image: ImageSource, *, id: str | None = None, metadata: Mapping[str, Any] = NO_METADATA) -> Item:  # noqa: A002
        """Add one picture, or replace the one with this ``id`` (or this path), and return its item.

        Without an ``id`` a file keeps the one it has, and anything else becomes a new item.
        """
        given = checked(metadata)
        with self._writing():
            item, picture = self._prepare(image, id, given)
            self._store.upsert([item], embed(picture, self._encoders()))
        return item

    def remove(self, ids: Sequence[str]) -> int:
        """Remove items by id or path; the picture files stay. Return how many; raise UnknownId and remove nothing."""
        known = [item.id for item in self.get(ids)]
        with self._writing():
            return self._store.delete(known)

    def add_encoder(
        self, name: str, *, progress: Progress = no_progress, settling: Settling | None = None
    ) -> tuple[int, tuple[Skipped, ...]]:
        """Embed all items with one more encoder, beside those there are; return how many, and what was skipped.

        Interrupted, it goes on when called again. From then on ``index`` and ``add`` fill this space too.
        """
        encoder = registry.encoder(name)
        with self._writing():
            self._store.add_space(encoder.space)
            outcome = complete(self._store, encoder, progress)
            self._store.settle(settling)
        return outcome

    def put(self, items: Sequence[Item], embeddings: Sequence[Embeddings]) -> None:
        """Add or replace items whose vectors were made elsewhere; row i of each of ``embeddings`` is item i's."""
        with self._writing():
            Roots(self._store).add({item.file.root for item in items if item.file})
            self._store.upsert(items, embeddings)

    def settle(self, settling: Settling | None = None) -> None:
        """Make what a search is quicker with, after much was written: with ``[ann]``, the index of a large gallery.

        ``index`` and ``add_encoder`` do this themselves. What is made may be deleted at any moment. ``settling`` is
        told (vectors done, vectors in all).
        """
        self._store.settle(settling)

    # Reading

    def search(
        self,
        query: ImageSource | Sequence[ImageSource] = (),
        k: int = 10,
        *,
        text: str | Sequence[str] = (),
        minus: str | Sequence[str] = (),
        text_weight: float = 1.0,
        metric: str | None = None,
        where: str | None = None,
        crop: Box | None = None,
        exact: bool = False,
        rerank: str | None = None,
    ) -> Hits:
        """Return the ``k`` items nearest to a picture, or to several pictures of one thing, best first, ties by id.

        ``where`` filters on metadata (``'album = "cats" and year >= 2020'``); ``crop`` is (x, y, width, height) in
        pixels of the upright picture; ``exact`` switches an approximate index off; ``rerank`` names a re-ranker
        ("k-reciprocal", "query-expansion") that puts the nearest hundred in a new order.

        With an encoder that knows words, ``text`` is looked for, alone or beside the pictures, which together count 1
        where each text counts ``text_weight``; ``minus``, and words of ``text`` that begin with "-", are taken away.
        """
        pictures = _as_list(query)
        words = Words.parse(_texts(text), _texts(minus), text_weight) if text or minus else None
        seen = self.embed(pictures, crop=crop).mean_direction() if pictures else None
        vectors = seen if words is None else self.embed_words(words, seen)
        if vectors is None:
            raise InputError("a search needs at least one picture, or a text; got none")
        name = " + ".join([*map(_name_of, pictures), *([words.name] if words else [])])
        return self.search_each(vectors, k, metric=metric, where=where, exact=exact, names=[name], rerank=rerank)[0]

    def search_each(
        self,
        queries: Embeddings,
        k: int = 10,
        *,
        metric: str | None = None,
        where: str | None = None,
        exact: bool = False,
        names: Sequence[str] | None = None,
        rerank: str | None = None,
    ) -> list[Hits]:
        """Return the ``k`` nearest items for each row of ``queries`` (N, dim), in order.

        The queries may come from :meth:`embed`, from stored items (:meth:`embeddings`) or from elsewhere; ``names`` are
        what the hits call them. Raises SpaceMismatch where they are of another space than the gallery.
        """
        if k < 1:
            raise ConfigError(f"k is how many hits are wanted, at least 1, got {k}")
        if queries.space != self.space:
            raise SpaceMismatch(self.space, queries.space, "embed the queries with this gallery's encoder")
        reranker = None if rerank is None else registry.reranker(rerank)
        deep = k if reranker is None else max(k, RERANKED)
        found = self._store.search(queries, deep, registry.metric(metric or self.metric), where, exact=exact)
        found = [self._ties_broken(queries[row : row + 1], hits) for row, hits in enumerate(found)]
        if reranker is not None:
            found = [self._reranked(queries.vectors[row], hits, reranker, k) for row, hits in enumerate(found)]
        return [replace(hits, query=name) for hits, name in zip(found, names, strict=True)] if names else found

    def encoder(self) -> Encoder:
        """Return the encoder of the gallery's space; raise ConfigError or SpaceMismatch where it is not at hand."""
        return self._encoder(self.space)

    def embed(self, pictures: Sequence[ImageSource], *, crop: Box | None = None) -> Embeddings:
        """Return the embeddings (N, dim) of pictures in the gallery's space; raise on the first that cannot be read."""
        encoder = self._encoder(self.space)
        # A crop is given in pixels of the whole picture, so the whole picture is read.
        images = [read(picture, None if crop else encoder.at_least) for picture in pictures]
        return encoder.encode([image.crop(*crop) for image in images] if crop else images)

    def embed_words(self, words: Words, pictures: Embeddings | None = None) -> Embeddings:
        """Return the vectors of words in the gallery's space, (1, dim), or added to each of ``pictures``, (N, dim).

        Raise ConfigError where the gallery's encoder knows no words.
        """
        encoder = self._encoder(self.space)
        if not isinstance(encoder, TextEncoder):
            raise ConfigError(_no_words(self.space.encoder))
        return words.combined(encoder, pictures)

    def embeddings(self, ids: Sequence[str], space: Space | None = None) -> Embeddings:
        """Return the stored vectors (N, dim) of items, by id or path, in order; raise InputError where one has none."""
        return self._store.embeddings([item.id for item in self.get(ids)], space or self.space)

    def get(self, ids: Sequence[str]) -> list[Item]:
        """Return the items with these ids or paths, in order; raise UnknownId with all that are missing."""
        found = [self._find(name) for name in ids]
        missing = [name for name, item in zip(ids, found, strict=True) if item is None]
        if missing:
            raise UnknownId(missing)
        return [item for item in found if item is not None]

    def has(self, id: str) -> bool:  # noqa: A002
        """Tell whether there is an item with this id."""
        try:
            return bool(self._store.get([id]))
        except UnknownId:
            return False

    def items(self, where: str | None = None) -> Iterator[Item]:
        """Yield the items (for which ``where`` holds), in bounded memory."""
        return self._store.items(where)

    def count(self, where: str | None = None) -> int:
        """Return how many items there are (for which ``where`` holds)."""
        return self._store.count(where)

    def __len__(self) -> int:
        return self.count()

    @property
    def spaces(self) -> list[Space]:
        """The spaces that this gallery holds vectors of, oldest first."""
        return list(self._store.spaces())

    @property
    def derived(self) -> Path:
        """The folder of what may be deleted at any moment; it need not exist."""
        return self._store.directory / DERIVED

    @property
    def metric(self) -> str:
        """The metric that a search uses unless told otherwise."""
        return str(self._metric or self._store.setting(_METRIC_SETTING) or registry.DEFAULT_METRIC)

    def info(self) -> dict[str, Any]:
        """Return what there is to know: items, space, metric, schema, every space's vectors, size on disk."""
        return {
            **self._store.info(),
            "space": self.space.as_dict(),
            "metric": self.metric,
            "spaces": [{**space.as_dict(), "vectors": count} for space, count in self._store.spaces().items()],
            "roots": Roots(self._store).known,
        }

    # What people say of pairs, and where calibrations are kept

    def mark(self, a: str | os.PathLike[str], b: str | os.PathLike[str], same: bool) -> Mark:
        """Keep that two pictures show the same thing, or different things; what was said of them before is replaced.

        ``a`` and ``b`` are items, by id or path, as they were indexed; or picture files outside of the gallery; or the
        sha256 of such files. What is kept goes by content, so it outlives renames, and holds for copies. Raises
        InputError where both are one item or file, or byte for byte the same and said to be different, and
        UnreadableImage where there is neither such an item nor such a file.
        """
        (one, content), (other, other_content) = self._picture(a), self._picture(b)
        if one == other:
            raise InputError(f"{os.fspath(a)} and {os.fspath(b)} are one picture; a mark is about two")
        if content == other_content and not same:
            raise InputError(
                f"{os.fspath(a)} and {os.fspath(b)} are byte for byte the same, so they cannot be marked different; "
                "is it another picture that you mean?"
            )
        mark = Mark(content, other_content, same, utc_now())
        with self._writing():
            self._store.put_marks([mark])
        return mark

    def unmark(self, a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
        """Forget what was said of two pictures, named as in :meth:`mark`; tell whether anything was."""
        with self._writing():
            return self._store.forget_mark(self._picture(a)[1], self._picture(b)[1])

    def marks(self) -> Iterator[Mark]:
        """Yield what was said of pairs of pictures, whether they are in the gallery or not."""
        return self._store.marks()

    def marked_pairs(self) -> list[Pair]:
        """Return the pairs of items, by id, of which something was said; of copies of one picture all combinations."""
        return self._store.marked_pairs()

    def items_of(self, content: str) -> list[Item]:
        """Return the items whose file (or picture from memory) has this sha256."""
        return self._store.by_content(content)

    def put_calibration(self, metric: str, name: str, value: Any, space: Space | None = None) -> None:
        """Keep a calibration, as a JSON value, for this metric in a space (the gallery's own); it replaces the last."""
        with self._writing():
            self._store.put_calibration(space or self.space, metric, name, value)

    def calibration(self, metric: str, name: str, space: Space | None = None) -> Any:
        """Return the calibration of this name for a metric in a space (the gallery's own), or None."""
        return self._store.calibration(space or self.space, metric, name)

    def calibrations(self) -> list[StoredCalibration]:
        """Return the calibrations of all spaces and metrics."""
        return self._store.calibrations()

    def _picture(self, named: str | os.PathLike[str]) -> tuple[str, str]:
        """Return which picture is meant (an item's id, a file's absolute path) and the sha256 of its content."""
        name = os.fspath(named)
        item = self._find(name)
        if item is not None and item.content is not None:
            return item.id, item.content
        if item is not None and item.path is None:
            raise InputError(f"item {item.id!r} came without a picture, only with vectors, and cannot be marked")
        path = os.path.abspath(os.path.expanduser(name)) if item is None else str(item.path)
        if item is None and not os.path.lexists(path):
            if _SHA256.fullmatch(name):
                return name, name
            raise UnreadableImage(
                name, "no such file, and no item of this gallery has this id or path (`lookalike list` shows them)"
            )
        contents = contents_of(path)
        read_bytes(contents.data, name, 1)  # a slip, such as a text, is no picture
        return path if item is None else item.id, contents.sha256

    # Below the surface

    def _writing(self) -> AbstractContextManager[None]:
        return self._store.writing(_WAIT_S)

    def _encoders(self) -> list[Encoder]:
        return [self._encoder(space) for space in self._store.spaces()]

    def _encoder(self, space: Space) -> Encoder:
        if space.encoder not in registry.names("encoder"):
            raise ConfigError(
                f"this gallery's vectors were made by {space.encoder!r}, which is not an encoder known here; "
                "search by stored items instead (`lookalike search --like ID`)"
            )
        encoder = registry.encoder(space.encoder)
        if encoder.space != space:
            raise SpaceMismatch(
                space, encoder.space, "the encoder has changed since the gallery was made: index into a new gallery"
            )
        return encoder

    def _ties_broken(self, query: Embeddings, hits: Hits) -> Hits:
        """Put hits of equal score in the order of their Manhattan distance, and of that by id, as they came."""
        if len({hit.score for hit in hits}) == len(hits) or hits.metric == _TIE_BREAKER:
            return hits
        stored = self._store.embeddings([hit.id for hit in hits], self.space)
        distances = registry.metric(_TIE_BREAKER).matrix(query.vectors, stored.vectors)[0]
        # Stable: distances that are equal too stay in the order of their ids.
        blocks = np.cumsum([0, *(a.score != b.score for a, b in pairwise(hits))])
        order = np.lexsort((distances, blocks))
        return replace(hits, hits=tuple(hits.hits[row] for row in order))

    def _reranked(self, query: Float32, hits: Hits, reranker: Reranker, k: int) -> Hits:
        """Put hits in the order of a re-ranker, ties as they came, and keep ``k``."""
        if not hits:
            return hits
        closeness = reranker.rerank(query, self._store.embeddings([hit.id for hit in hits], self.space).vectors)
        order = np.argsort(-closeness, kind="stable")[:k]
        return replace(hits, hits=tuple(replace(hits[int(row)], reranked=float(closeness[row])) for row in order))

    def _find(self, name: str) -> Item | None:
        try:
            return self._store.get([name])[0]
        except InputError:  # no such id, or a path that no id can be, since it is not Unicode
            return Roots(self._store).item_at(os.path.abspath(os.path.expanduser(name)))

    def _prepare(self, source: ImageSource, id_: str | None, given: Mapping[str, Any]) -> tuple[Item, Image]:
        at_least = smallest_side(self._encoders())
        if isinstance(source, str | os.PathLike):
            return self._prepare_file(os.fspath(source), id_, given, at_least)
        image = read(source, at_least)
        content = hashlib.sha256(source if isinstance(source, bytes) else _pixels_as_bytes(image)).hexdigest()
        name = free_id(self._store, content.encode()) if id_ is None else id_
        told = told_by_file("", image.taken)
        return Item(name, {**told, **given}, given, None, content, *image.size), image

    def _prepare_file(
        self, path: str, id_: str | None, given: Mapping[str, Any], at_least: int | None
    ) -> tuple[Item, Image]:
        absolute = os.path.abspath(os.path.expanduser(path))
        contents = contents_of(absolute)
        image = read_bytes(contents.data, path, at_least)
        roots = Roots(self._store)
        old = roots.item_at(absolute)
        if old is not None and id_ not in {None, old.id}:
            raise InputError(f"{path} is in the gallery as {old.id!r}; remove that item to add it as {id_!r}")
        roots.adopt(root_of(absolute))
        root, relative = roots.place(absolute) or (root_of(absolute), os.path.basename(absolute))
        stamp = FileStamp(root, relative, contents.size, contents.mtime_ns)
        given = {**(old.given if old else {}), **given}
        if id_ is None:
            seed = f"{contents.sha256}\0".encode() + os.fsencode(relative)
            id_ = old.id if old else free_id(self._store, seed)
        metadata = {**told_by_file(relative, image.taken), **given}
        return Item(id_, metadata, given, stamp, contents.sha256, *image.size), image


def _is_finished(directory: Path) -> bool:
    """Tell whether there is a gallery that knows its space: the process that made it may have been killed before."""
    if not SqliteStore.exists(directory):
        return False
    with SqliteStore.open(directory) as store:
        return store.setting(_SPACE_SETTING) is not None


def _make(directory: Path, spaces: Sequence[Space], metric: str | None) -> None:
    if not SqliteStore.exists(directory):
        try:
            SqliteStore.create(directory).close()
        except StoreError:
            if not SqliteStore.exists(directory):
                raise  # else another process was faster
    with SqliteStore.open(directory) as store, store.writing(_WAIT_S):
        if store.setting(_SPACE_SETTING) is not None:
            return
        for space in spaces:
            store.add_space(space)
        store.set_setting(_METRIC_SETTING, metric or registry.DEFAULT_METRIC)
        store.set_setting(_SPACE_SETTING, spaces[0].encoder)


def _chosen_space(store: SqliteStore, encoder: str | None) -> Space:
    name = encoder or store.setting(_SPACE_SETTING)
    spaces = list(store.spaces())
    for space in spaces:
        if space.encoder == name:
            return space
    if encoder is None or not spaces:
        raise StoreError("this gallery was never finished being made; `lookalike index FOLDER` finishes it")
    if encoder not in registry.names("encoder"):
        raise UnknownComponent("encoder", encoder, registry.names("encoder"))
    raise SpaceMismatch(
        " or ".join(space.encoder for space in spaces),
        encoder,
        f"`lookalike index --add-encoder {encoder}` adds it to this gallery, beside what there is",
    )


def _as_list(query: ImageSource | Sequence[ImageSource]) -> list[ImageSource]:
    # Only a list or a tuple is several pictures: text, bytes and arrays are sequences too, and are one.
    return list(query) if isinstance(query, list | tuple) else [cast(ImageSource, query)]


def _texts(text: str | Sequence[str]) -> Sequence[str]:
    return [text] if isinstance(text, str) else text


def _no_words(name: str) -> str:
    known = [card.name for card in installed.cards()[0] if card.text is not None]
    way_out = (
        f"installed encoders with words: {', '.join(known)} (lookalike index FOLDER --encoder {known[0]} -g NEW)"
        if known
        else "none with words is installed; `lookalike encoders` lists those of open_clip, which bring them"
    )
    return f"encoder {name} knows pictures, no words; {way_out}"


def _name_of(source: ImageSource) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return source.source if isinstance(source, Image) else f"<{type(source).__name__}>"


def _pixels_as_bytes(image: Image) -> bytes:
    return repr(image.pixels.shape).encode() + image.pixels.tobytes()
