"""What is learned from: labels, pairs, marks or edited copies -> pictures with labels, seen once and remembered."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from lookalike.connected import connected
from lookalike.copies import VERSION
from lookalike.copies.cascade import DECODED_SIDE, Source, find_links
from lookalike.copies.hashing import fingerprint
from lookalike.copies.links import Level, Picture
from lookalike.edits import Pixels, Rng, random_copy, random_degradation
from lookalike.encoders.colours import Colours
from lookalike.encoders.focused import PLAIN, Focus, focused, side_by_side
from lookalike.encoders.weights import cache_folder
from lookalike.errors import ConfigError, InputError
from lookalike.gallery import Gallery
from lookalike.images import read, read_bytes, walk
from lookalike.pairs import PairsFile, read_labelled, read_pairs
from lookalike.pipeline import contents_of, in_parallel, reason_of
from lookalike.protocols import Encoder
from lookalike.quality import reduced
from lookalike.scanning import packed, unpacked
from lookalike.stores.seen import Content, SeenStore
from lookalike.types import Float32, Image, LabelledPicture, Pair, Skipped

Progress = Callable[[int], None]

COPIES = 4
"""So many edited copies of each picture ask for it, where nobody said what is alike."""
_BATCH = 128


@dataclass(frozen=True, slots=True)
class Asked:
    """Pictures to learn from, as a source names them. ``copies``: each is to be found by edited copies of itself.

    ``notes`` say what was taken for granted.
    """

    source: str
    pictures: tuple[LabelledPicture, ...]
    skipped: tuple[Skipped, ...]
    copies: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """N pictures that could be read: (N, D) vectors of the base, the sha256 of their files, and which are copies.

    ``links`` are pairs of rows that show one picture, whatever their labels. ``middles`` are the vectors (N, D) of the
    base and (N, C) of the colours by how much was cut away.
    """

    pictures: tuple[LabelledPicture, ...]
    vectors: Float32
    contents: tuple[str, ...]
    links: tuple[tuple[int, int], ...]
    skipped: tuple[Skipped, ...]
    middles: Mapping[float, tuple[Float32, Float32]]

    def through(self, focus: Focus) -> Float32:
        """Return (N, E) vectors as the base through ``focus`` gives them."""
        if focus == PLAIN:
            return self.vectors
        seen, colours = self.middles[focus.cut]
        return side_by_side(seen, colours, focus.colours) if focus.colours else seen


def asked_of(
    labelled: str | None = None, pairs: str | None = None, unlabeled: str | None = None, marks: str | None = None
) -> Asked:
    """Return the pictures of exactly one source; raise ConfigError for none or several, InputError for what is wrong.

    From pairs and marks: what is said to be the same, directly or through others, gets one label.
    """
    given = [one for one in (labelled, pairs, unlabeled, marks) if one is not None]
    if len(given) != 1:
        raise ConfigError("learn from one of: LABELED, --pairs FILE, --unlabeled FOLDER, --from-marks GALLERY")
    if labelled is not None:
        found = read_labelled(labelled)
        used = tuple(one for one in found.items if not one.ignore)
        if not used:
            raise InputError(
                f"all {len(found.items)} pictures of {labelled} are ignored: set the 'ignore' of some to 0"
            )
        return Asked(labelled, used, found.skipped)
    if pairs is not None:
        return _of_pairs(read_pairs(pairs).without_missing())
    if unlabeled is not None:
        return _of_folder(unlabeled)
    return _of_pairs(_marked(str(marks)))


def look(
    asked: Asked,
    encoder: Encoder,
    seed: int = 0,
    progress: Progress = lambda _: None,
    focuses: Sequence[Focus] = (PLAIN,),
) -> Looked:
    """Read, embed and hash the pictures on every core; what was seen before, in an interrupted run too, is remembered.

    Afterwards they can be had through each of ``focuses``. Raise InputError where none can be read.
    """
    tasks = list(_tasks(asked))
    middles = {
        cut: (focused(encoder, Focus(cut)), focused(Colours(), Focus(cut)))
        for cut in sorted({one.cut for one in focuses if one != PLAIN})
    }
    parts = {str(part.space): part for part in (encoder, *(part for both in middles.values() for part in both))}
    with _seen() as seen:
        eye = _Eye(parts, seen, seed)
        found = []
        for outcome in in_parallel(eye.look, tasks):
            found.append(outcome)
            progress(1)
            if len(found) % _BATCH == 0:
                eye.flush()
        eye.flush()
    skipped = [one for one in found if isinstance(one, Skipped)]
    good = [(task[0], one) for task, one in zip(tasks, found, strict=True) if not isinstance(one, Skipped)]
    if not good:
        why = f": {skipped[0].path}: {skipped[0].reason}" if skipped else ""
        raise InputError(f"no picture of {asked.source} can be read{why}")
    pictures = tuple(picture for picture, _ in good)
    left_out = {(one.path, one.reason): one for one in (*asked.skipped, *skipped)}
    vectors = {space: np.stack([one.vectors[space] for _, one in good]) for space in parts}
    return Looked(
        pictures,
        vectors[str(encoder.space)],
        tuple(one.sha256 for _, one in good),
        tuple(_links(pictures, [one for _, one in good])),
        tuple(left_out.values()),
        {cut: (vectors[str(of.space)], vectors[str(beside.space)]) for cut, (of, beside) in middles.items()},
    )


def _tasks(asked: Asked) -> Iterator[tuple[LabelledPicture, int]]:
    """Yield each picture with the number of its copy; 0 is the picture itself."""
    for one in asked.pictures:
        if not asked.copies:
            yield one, 0
            continue
        yield replace(one, role="gallery"), 0
        for number in range(1, COPIES + 1):
            yield replace(one, role="query"), number


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    sha256: str
    vectors: Mapping[str, Float32]
    content: Content | None


class _Eye:
    """Looks at pictures from several threads, with each of ``parts`` (by space); what a file showed before counts."""

    def __init__(self, parts: Mapping[str, Encoder], seen: SeenStore | None, seed: int) -> None:
        self._parts, self._seen, self._seed = parts, seen, seed
        needs = [part.at_least for part in parts.values()]
        self._at_least = None if None in needs else max(need for need in needs if need is not None)
        self._new: list[tuple[int, _Seen]] = []

    def look(self, task: tuple[LabelledPicture, int]) -> _Seen | Skipped:
        picture, number = task
        try:
            contents = contents_of(picture.path)
            if (known := self._known(contents.sha256, number)) is not None:
                return known
            image = read_bytes(contents.data, picture.path, self._at_least)
            made = self._made(contents.sha256, image, number)
        except InputError as error:
            return Skipped(picture.path, reason_of(error))
        self._new.append((number, made))
        return made

    def flush(self) -> None:
        """Keep what is new."""
        new, self._new = self._new, []
        if self._seen is None:
            return
        self._seen.put_contents({one.sha256: one.content for _, one in new if one.content is not None})
        for number in sorted({number for number, _ in new}):
            mine = [one for of, one in new if of == number]
            for space in self._parts:
                self._seen.put_vectors(self._kept_as(space, number), {one.sha256: one.vectors[space] for one in mine})

    def _known(self, sha256: str, number: int) -> _Seen | None:
        if self._seen is None:
            return None
        found = {space: self._seen.vector(sha256, self._kept_as(space, number)) for space in self._parts}
        vectors = {space: vector for space, vector in found.items() if vector is not None}
        content = None if number else self._seen.content(sha256)
        if len(vectors) < len(found) or (not number and content is None):
            return None
        return _Seen(sha256, vectors, content)

    def _kept_as(self, space: str, number: int) -> str:
        return f"{space} hard copy {self._seed}.{number}" if number else space

    def _made(self, sha256: str, image: Image, number: int) -> _Seen:
        if not number:
            content = Content(image.size, 1.0, packed(fingerprint(image.pixels)))
            return _Seen(sha256, self._vectors(image), content)
        # By content, not by place: the copies are the same whatever else is in the folder.
        rng = np.random.default_rng([self._seed, number, int(hashlib.sha256(sha256.encode()).hexdigest()[:8], 16)])
        copy = _hard_copy(reduced(image), rng)
        return _Seen(sha256, self._vectors(Image(copy, (copy.shape[1], copy.shape[0]))), None)

    def _vectors(self, image: Image) -> dict[str, Float32]:
        return {space: part.encode([image]).vectors[0] for space, part in self._parts.items()}


def _hard_copy(pixels: Pixels, rng: Rng) -> Pixels:
    """Return the picture after two edits and a degradation: after one of them almost every picture is found anyway."""
    once, _ = random_copy(pixels, rng)
    twice, _ = random_copy(once, rng)
    return random_degradation(twice, rng)[0]


@contextmanager
def _seen() -> Iterator[SeenStore | None]:
    """Lend what earlier runs saw; None where the cache cannot be written: all is looked at then."""
    try:
        store = SeenStore(cache_folder() / "train", VERSION)
    except (OSError, sqlite3.Error):
        yield None
        return
    try:
        yield store
    finally:
        store.close()


def _links(pictures: Sequence[LabelledPicture], seen: Sequence[_Seen]) -> Iterator[tuple[int, int]]:
    """Yield the rows of near duplicates, as `lookalike dedupe --level near` finds them."""
    rows = [row for row, one in enumerate(seen) if one.content is not None]
    contents = [one.content for one in seen if one.content is not None]
    paths = [pictures[row].path for row in rows]
    compared = [
        Picture(seen[row].sha256, one.size, unpacked(one.packed)) for row, one in zip(rows, contents, strict=True)
    ]
    source = Source(
        lambda row: read(paths[row], DECODED_SIDE).pixels,
        lambda row: hashlib.sha256(read(paths[row]).pixels.tobytes()).hexdigest(),
    )
    for link in find_links(compared, source, level=Level.NEAR).links:
        yield rows[link.a], rows[link.b]


# The sources


def _of_folder(folder: str) -> Asked:
    walked = list(walk(folder))
    skipped = tuple(one for one in walked if isinstance(one, Skipped))
    paths = [one.path for one in walked if not isinstance(one, Skipped)]
    if not paths:
        raise InputError(f"no picture in {folder}{f': {skipped[0].path}: {skipped[0].reason}' if skipped else ''}")
    note = (
        f"a picture is to be found by {COPIES} edited copies of it: nothing is learned of what different pictures share"
    )
    return Asked(folder, tuple(LabelledPicture(path, path) for path in paths), skipped, copies=True, notes=(note,))


def _marked(gallery: str) -> PairsFile:
    with Gallery.open(gallery, create=False) as opened:
        marked = opened.marked_pairs()
        ids = sorted({name for pair in marked for name in (pair.a, pair.b)})
        paths = {item.id: item.path for item in opened.get(ids)} if ids else {}
    pairs, skipped = [], []
    for one in marked:
        a, b = paths[one.a], paths[one.b]
        if a is None or b is None:
            skipped.append(Skipped(one.a if a is None else one.b, "it came without a picture, only with vectors"))
        else:
            pairs.append(Pair(a, b, one.same))
    if not pairs:
        raise InputError(
            f"nobody said of two pictures of {gallery} that they are the same or different; "
            f"lookalike mark same A B -g {gallery}"
        )
    return PairsFile(gallery, tuple(pairs), tuple(skipped)).without_missing()


def _of_pairs(found: PairsFile) -> Asked:
    """Return the pictures of pairs, one label for all that are the same through one another."""
    names = sorted({name for pair in found.pairs for name in (pair.a, pair.b)})
    label = connected(names, ((pair.a, pair.b) for pair in found.pairs if pair.same))
    for pair in found.pairs:
        if not pair.same and label[pair.a] == label[pair.b]:
            where = f" (line {pair.line})" if pair.line is not None else ""
            raise InputError(
                f"{found.file} contradicts itself: {pair.a} and {pair.b} are different{where}, and yet the same "
                "through other pairs; take one of these out"
            )
    different = sum(not pair.same for pair in found.pairs)
    note = (
        f"of {len(found.pairs)} pairs {different} are said to be different; pictures that no pair brings together, "
        "directly or through others, are taken to show different things"
    )
    pictures = tuple(LabelledPicture(name, label[name]) for name in names)
    return Asked(found.file, pictures, found.skipped, notes=(note,))
