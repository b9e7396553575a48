"""A folder -> items of a gallery, touching only what changed.

A file is judged cheapest first: size and time as stored (nothing to do); content as stored (only the stamp is new);
content of an item whose file is gone (renamed); content of any other item (its vectors are copied); and only then is
it decoded and embedded. What is written is synced before it is counted.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from lookalike.errors import InputError, UnknownId
from lookalike.images import Found, read_bytes, walk
from lookalike.images.fingerprint import reader_fingerprint
from lookalike.metadata import Given, told_before, told_by_file, told_by_picture
from lookalike.pipeline import contents_of, embed, in_parallel, reason_of, smallest_side
from lookalike.protocols import Encoder
from lookalike.roots import Roots, is_gone, root_of
from lookalike.stores.sqlite import SqliteStore
from lookalike.types import NO_METADATA, Embeddings, FileStamp, IndexReport, Item, Skipped

Progress: TypeAlias = Callable[[int], None]
"""Called with how many more files are done for good: written and synced, found unchanged, or skipped."""

_BATCH_ITEMS = 64
_BATCH_SECONDS = 1.0
_PRUNE_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Options:
    """How to go through a folder; see ``Gallery.index``."""

    prune: bool = False
    hidden: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Task:
    """A file that has to be opened, and the item that has its path, if there is one."""

    found: Found
    stamp: FileStamp
    item: Item | None


@dataclass(frozen=True, slots=True)
class _Read:
    """What a worker learned of a file: its content and vectors, and the items of the same content; or a reason."""

    task: _Task
    stamp: FileStamp
    content: str = ""
    twins: tuple[Item, ...] = ()
    embeddings: tuple[Embeddings, ...] = ()
    width: int | None = None
    height: int | None = None
    told: Mapping[str, Any] = field(default_factory=lambda: NO_METADATA)
    reason: str | None = None


@dataclass
class Tally:
    """The counts of a report while it is being made."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def report(self) -> IndexReport:
        """Return the finished report."""
        return IndexReport(self.added, self.updated, self.unchanged, self.removed, tuple(self.skipped))


class Batch:
    """Collects what is to be written; one transaction and one sync for many items."""

    def __init__(self, store: SqliteStore, progress: Progress) -> None:
        self._store, self._progress = store, progress
        self._changed: list[Item] = []
        self._embedded: list[tuple[Item, tuple[Embeddings, ...]]] = []
        self._skips: list[tuple[FileStamp, str]] = []
        self.waiting: set[str] = set()
        self._began = time.monotonic()

    def change(self, item: Item) -> None:
        """Write an item; its vectors stay."""
        self.waiting.add(item.id)
        self._changed.append(item)
        self._flush_if_due()

    def add(self, item: Item, embeddings: tuple[Embeddings, ...]) -> None:
        """Write an item with its vectors, one row a space."""
        self.waiting.add(item.id)
        self._embedded.append((item, embeddings))
        self._flush_if_due()

    def skip(self, stamp: FileStamp, reason: str) -> None:
        """Remember that this file could not be read, so that it is not tried again while it stays as it is."""
        self._skips.append((stamp, reason))
        self._flush_if_due()

    def flush(self) -> None:
        """Write what is waiting, and only then count it as done."""
        done = len(self._changed) + len(self._embedded) + len(self._skips)
        if self._changed:
            self._store.upsert(self._changed, ())
        if self._embedded:
            columns = zip(*(embeddings for _, embeddings in self._embedded), strict=True)
            self._store.upsert([item for item, _ in self._embedded], [Embeddings.concatenate(c) for c in columns])
        if self._skips:
            self._store.remember_skips(self._skips, reader_fingerprint())
        self._changed, self._embedded, self._skips = [], [], []
        self.waiting.clear()
        self._began = time.monotonic()
        if done:
            self._progress(done)

    def _flush_if_due(self) -> None:
        waiting = len(self._changed) + len(self._embedded) + len(self._skips)
        if waiting >= _BATCH_ITEMS or time.monotonic() - self._began > _BATCH_SECONDS:
            self.flush()


class Indexer:
    """One run over one folder; the caller holds the writer lock."""

    def __init__(
        self,
        store: SqliteStore,
        encoders: Callable[[], Sequence[Encoder]],
        folder: str,
        given: Given,
        options: Options,
        progress: Progress,
    ) -> None:
        self._store, self._make_encoders, self._progress = store, encoders, progress
        self._encoders: Sequence[Encoder] = ()
        self._folder, self._given, self._options = folder, given, options
        self._root = root_of(folder)
        self._roots = Roots(store)
        self._reader = reader_fingerprint()
        self._tally = Tally()
        self._batch = Batch(store, progress)
        self._renamed: set[str] = set()
        self._found = 0

    def run(self) -> IndexReport:
        """Go through the folder; also when interrupted, what was embedded is kept."""
        entries = walk(self._folder, hidden=self._options.hidden, exclude=self._options.exclude)
        try:
            with closing(in_parallel(self._read, self._tasks(entries))) as reads:
                for read in reads:
                    self._take(read)
        finally:
            self._batch.flush()
        if not self._found:
            raise self._nothing_found()
        if self._options.prune:
            self._prune()
        return self._tally.report()

    def _nothing_found(self) -> InputError:
        if next(self._roots.items_under(self._root), None) is None:
            return InputError(f"{self._folder} holds no picture; name a folder that does, or a picture")
        return InputError(
            f"{self._folder} holds no picture at all, and the gallery has items of it: is the disk mounted? "
            "Nothing was removed; `lookalike remove ID…` removes single items"
        )

    # What has to be opened: in the main thread, in the order of the walk.

    def _tasks(self, entries: Iterable[Found | Skipped]) -> Iterator[_Task]:
        for found in entries:
            if isinstance(found, Skipped):
                self._skip(found)
                continue
            if not self._found:
                self._roots.adopt(self._root)
            self._found += 1
            absolute = os.path.join(self._root, found.relative)
            item = self._roots.item_at(absolute)
            if item is not None and _as_stamped(item, found):
                self._keep(item)
                continue
            root, relative = self._roots.place(absolute) or (self._root, found.relative)
            reason = self._store.known_skip(root, relative, found.size, found.mtime_ns, self._reader)
            if reason is None:
                # Made only when a picture needs them: a run that finds nothing new loads no network.
                self._encoders = self._encoders or self._make_encoders()
                yield _Task(found, FileStamp(root, relative, found.size, found.mtime_ns), item)
            else:
                self._skip(Skipped(found.path, reason))

    def _keep(self, item: Item) -> None:
        if not self._given:  # the way of nearly every file of a second run
            self._count(updated=False)
            self._progress(1)
            return
        told = self._given.of(item.path or "")
        changed = replace(item, metadata={**item.metadata, **told}, given={**item.given, **told})
        self._count(updated=not _same(changed.metadata, item.metadata))
        if _same(changed.given, item.given) and _same(changed.metadata, item.metadata):
            self._progress(1)
        else:
            self._batch.change(changed)

    def _skip(self, skipped: Skipped) -> None:
        self._tally.skipped.append(skipped)
        self._progress(1)

    # What a worker thread does.

    def _read(self, task: _Task) -> _Read:
        # Without a time it is not remembered: what could not be opened is tried again.
        stamp = replace(task.stamp, mtime_ns=None)
        try:
            contents = contents_of(task.found.path)
            stamp = replace(task.stamp, size=contents.size, mtime_ns=contents.mtime_ns)
            if task.item is not None and task.item.content == contents.sha256:
                return _of_twin(task, stamp, task.item)
            twins = tuple(self._store.by_content(contents.sha256))
            for twin in twins:
                embeddings = self._copied(twin)
                if embeddings:
                    return replace(_of_twin(task, stamp, twin), twins=twins, embeddings=embeddings)
            image = read_bytes(contents.data, task.found.path, smallest_side(self._encoders))
            return _Read(
                task,
                stamp,
                contents.sha256,
                twins=twins,
                embeddings=embed(image, self._encoders),
                width=image.size[0],
                height=image.size[1],
                told=told_by_picture(image.taken),
            )
        except InputError as error:
            return _Read(task, stamp, reason=reason_of(error))

    def _copied(self, twin: Item) -> tuple[Embeddings, ...]:
        """The vectors of an item of the same content; nothing if it lacks one or changed meanwhile."""
        try:
            copies = tuple(self._store.embeddings([twin.id], encoder.space) for encoder in self._encoders)
            # An item and its vectors change in one transaction: the content still fits, so the vectors do.
            return copies if self._store.get([twin.id])[0].content == twin.content else ()
        except InputError:
            return ()

    # What becomes of it: in the main thread again, in order, so that the outcome is always the same.

    def _take(self, read: _Read) -> None:
        item = read.task.item
        if read.reason is not None:
            self._tally.skipped.append(Skipped(read.task.found.path, read.reason))
            self._batch.skip(read.stamp, read.reason)
        elif item is not None and item.content == read.content:
            changed = self._described(item, read)
            self._count(updated=changed.metadata != item.metadata)
            self._batch.change(changed)
        elif item is None and (renamed := self._vanished(read.twins)) is not None:
            self._renamed.add(renamed.id)
            self._count(updated=True)
            self._batch.add(self._described(renamed, read), read.embeddings)
        elif item is not None:
            self._count(updated=True)
            self._batch.add(self._described(item, read), read.embeddings)
        else:
            self._tally.added += 1
            self._batch.add(self._described(self._newborn(read), read), read.embeddings)

    def _count(self, *, updated: bool) -> None:
        self._tally.updated += updated
        self._tally.unchanged += not updated

    def _vanished(self, twins: Sequence[Item]) -> Item | None:
        """The first item of this content whose file is gone: this file is that one, renamed."""
        return next((t for t in twins if t.id not in self._renamed and t.path and is_gone(t.path)), None)

    def _newborn(self, read: _Read) -> Item:
        seed = f"{read.content}\0".encode() + os.fsencode(read.stamp.path)
        return Item(free_id(self._store, seed, self._batch.waiting))

    def _described(self, item: Item, read: _Read) -> Item:
        """The item with what its file tells now, under what a person gave."""
        given = {**item.given, **self._given.of(read.stamp.absolute)}
        metadata = {**told_by_file(read.stamp.path, None), **read.told, **given}
        return Item(item.id, metadata, given, read.stamp, read.content, read.width, read.height)

    # What is gone.

    def _prune(self) -> None:
        gone: list[str] = []
        for item in self._roots.items_under(self._root):
            if item.path and is_gone(item.path):
                gone.append(item.id)
            if len(gone) >= _PRUNE_AT_ONCE:
                self._tally.removed += self._store.delete(gone)
                gone = []
        if gone:
            self._tally.removed += self._store.delete(gone)


def complete(store: SqliteStore, encoder: Encoder, progress: Progress) -> tuple[int, tuple[Skipped, ...]]:
    """Embed every item that has no vector in the encoder's space; return how many, and what could not be."""
    skipped: list[Skipped] = []
    batch = Batch(store, progress)

    def work(item: Item) -> tuple[Item, tuple[Embeddings, ...] | str]:
        if item.path is None:
            return item, "was added from memory, not from a file; add it again"
        try:
            contents = contents_of(item.path)
            if contents.sha256 != item.content:
                return item, "changed since it was indexed; index its folder again"
            return item, embed(read_bytes(contents.data, item.path, encoder.at_least), [encoder])
        except InputError as error:
            return item, reason_of(error)

    done = 0
    try:
        with closing(in_parallel(work, store.lacking(encoder.space))) as outcomes:
            for item, outcome in outcomes:
                if isinstance(outcome, str):
                    skipped.append(Skipped(item.path or item.id, outcome))
                else:
                    done += 1
                    batch.add(item, outcome)
    finally:
        batch.flush()
    return done, tuple(skipped)


def free_id(store: SqliteStore, seed: bytes, taken: Collection[str] = ()) -> str:
    """Return 16 hex digits made from ``seed``, the same each time, and others where an item has these already.

    ``taken`` are ids that were given out and are not stored yet.
    """
    for attempt in range(1_000_000):
        candidate = hashlib.sha256(seed + str(attempt or "").encode()).hexdigest()[:16]
        if candidate in taken:
            continue
        try:
            store.get([candidate])
        except UnknownId:
            return candidate
    raise AssertionError("unreachable: a million ids from one seed are taken")


def _as_stamped(item: Item, found: Found) -> bool:
    stamp = item.file
    # A stamp without a time was taken of a file too young to be sure: its content has to be hashed once more.
    return stamp is not None and (stamp.size, stamp.mtime_ns) == (found.size, found.mtime_ns)


def _of_twin(task: _Task, stamp: FileStamp, twin: Item) -> _Read:
    """The file has the content of an item: what that item's picture told holds for it too."""
    return _Read(task, stamp, twin.content or "", (twin,), (), twin.width, twin.height, told_before(twin))


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    # Not ==, to which 1 and true are the same.
    return json.dumps(dict(a), sort_keys=True) == json.dumps(dict(b), sort_keys=True)
