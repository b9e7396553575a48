"""From pictures to links, cheapest test first.

    exact     the same bytes
    pixels    the same size and a near hash, then the same pixels: only these are decoded whole
    near      a near hash, upright or turned; then the whole pictures agree to the pixel
    edited    near by embedding, or a quarter or the inside of one hashes as the other; then a first look at corners,
              or where this leaves it open, local features tell how the one lies on the other, and there they agree

Flat pictures, whose hash says nothing, are compared by bytes and pixels only. Pictures are taken in an order of their
own (``Picture.order``), so that links depend neither on paths nor on the order of files.
"""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import combinations
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lookalike.connected import connected
from lookalike.copies import candidates, hashing, local_features
from lookalike.copies.links import (
    Kind,
    Level,
    Link,
    Picture,
    geometry_back,
    geometry_in_words,
    turn_in_words,
    turned_back,
)
from lookalike.copies.local_features import Corners, Features, Geometry
from lookalike.copies.nearness import nearness, small_luma
from lookalike.errors import ConfigError, InputError
from lookalike.types import Float32

Pixels: TypeAlias = NDArray[np.uint8]
Pair: TypeAlias = tuple[int, int]
Progress: TypeAlias = Callable[[str, int, int], None]

DECODED_SIDE = 256
"""How many pixels a side the decode that ``Source.pixels`` gives must keep at least, where the picture has them."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a test passes.

    ``hash_bits``: in how many of 256 bits hashes may differ; ``near_agreement`` and ``near_motion`` (pixels of 192):
    :class:`nearness.Nearness`; ``cosine``: from which on embeddings make candidates; ``edited_score``:
    :attr:`local_features.Geometry.score`.
    """

    hash_bits: int = 31
    near_agreement: float = 0.8
    near_motion: float = 0.28
    cosine: float = 0.5
    edited_score: float = 0.75

    def as_dict(self) -> dict[str, float]:
        """Return the thresholds as a JSON object."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


DEFAULTS = Thresholds()


@dataclass(frozen=True, slots=True)
class Source:
    """Where the cascade gets pixels from, by row; both raise InputError for a picture that cannot be read any more.

    ``pixels``: (H, W, 3) uint8, a decode that keeps ``DECODED_SIDE``. ``content``: what two pictures have in common
    only if all their pixels are the same, such as the sha256 of a full decode.
    """

    pixels: Callable[[int], Pixels]
    content: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What people said of pairs of contents (sha256): pairs in ``different`` are never linked, in ``same`` always."""

    different: frozenset[frozenset[str]] = frozenset()
    same: frozenset[frozenset[str]] = frozenset()


class Memory(Protocol):
    """What tests told of pairs of contents in earlier runs, as JSON; None where a test found nothing."""

    def pair(self, a: str, b: str, test: str) -> tuple[str | None] | None:
        """Return (what the test told,), or None where it was not made."""
        ...

    def put_pairs(self, pairs: Mapping[tuple[str, str, str], str | None]) -> None:
        """Keep what tests told."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, by row.

    ``flat``: rows whose hash says nothing; ``crowded``: rows of which so many hash alike that they were compared with
    the first of them only; ``unread``: rows that could not be read again, and why; ``tested``: on how many pairs each
    test was made.
    """

    links: tuple[Link, ...]
    flat: tuple[int, ...] = ()
    crowded: tuple[int, ...] = ()
    unread: Mapping[int, str] = field(default_factory=dict)
    tested: Mapping[str, int] = field(default_factory=dict)


def find_links(
    pictures: Sequence[Picture],
    source: Source,
    vectors: Float32 | None = None,
    *,
    level: Level = Level.EDITED,
    thresholds: Thresholds = DEFAULTS,
    verdicts: Verdicts | None = None,
    progress: Progress | None = None,
    memory: Memory | None = None,
) -> Found:
    """Return what links ``pictures``, up to ``level``.

    ``vectors`` (N, D) are unit rows, one a picture, which the level ``edited`` needs. Each pair is linked once, by the
    first test that it passes. Files with the same bytes are linked to the first of them, which stands for all of them
    in all further tests. With a ``memory`` no test is made twice of the same contents.
    """
    if level is Level.EDITED and (vectors is None or len(vectors) != len(pictures)):
        raise ConfigError(f"the level edited needs a vector for each of {len(pictures)} pictures")
    run = _Run(pictures, source, thresholds, verdicts or Verdicts(), progress, memory)
    run.same_bytes()
    run.same_pixels_and_near(near=level is not Level.EXACT)
    if level is Level.EDITED and vectors is not None:
        with local_features.one_thread():
            run.edited(vectors)
    run.as_people_said()
    return run.found()


class _Run:
    """One search, in which rows are places in ``Picture.order``; ``found`` translates them back."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        source: Source,
        thresholds: Thresholds,
        verdicts: Verdicts,
        progress: Progress | None,
        memory: Memory | None,
    ) -> None:
        self._given = sorted(range(len(pictures)), key=lambda row: pictures[row].order)
        self._pictures = [pictures[row] for row in self._given]
        self._thresholds, self._verdicts = thresholds, verdicts
        self._memory = memory
        self._to_keep: dict[tuple[str, str, str], str | None] = {}
        self._progress = progress or (lambda stage, done, total: None)
        self._links: dict[Pair, Link] = {}
        self._refused: set[Pair] = set()
        self._unread: dict[int, str] = {}
        self._crowded: set[int] = set()
        self._tested: dict[str, int] = defaultdict(int)
        self._single: list[int] = []
        self._contents = _Cache(lambda row: source.content(self._given[row]), lambda _: 64)
        self._decoded = _Cache(lambda row: source.pixels(self._given[row]), lambda pixels: pixels.nbytes)
        self._small = _Cache(lambda row: small_luma(self._decoded.get(row)), lambda small: small.nbytes)
        self._prepared = _Cache(
            lambda row: local_features.prepared(self._decoded.get(row)), lambda ready: ready.grey.nbytes
        )
        self._corners: _Cache[Corners] = _Cache(
            lambda row: local_features.corners(self._prepared.get(row)), lambda corners: corners.nbytes
        )
        self._mirrored: _Cache[Corners] = _Cache(
            lambda row: local_features.mirrored(self._corners.get(row)), lambda corners: corners.nbytes
        )
        self._features: _Cache[Features] = _Cache(
            lambda row: local_features.extract(self._prepared.get(row)), lambda features: features.nbytes
        )

    def found(self) -> Found:
        self._keep()
        rows = self._given
        links = sorted(self._links.values(), key=lambda link: (link.a, link.b))
        return Found(
            tuple(_renamed(link, rows) for link in links),
            tuple(sorted(rows[row] for row, picture in enumerate(self._pictures) if picture.fingerprint.flat)),
            tuple(sorted(rows[row] for row in self._crowded)),
            {rows[row]: reason for row, reason in sorted(self._unread.items())},
            dict(self._tested),
        )

    # The tests

    def same_bytes(self) -> None:
        firsts: dict[str, int] = {}
        for row, picture in enumerate(self._pictures):
            first = firsts.setdefault(picture.sha256, row)
            if first == row:
                self._single.append(row)
            else:
                self._link(Link(first, row, Kind.EXACT, {"test": "bytes", "change": "none"}))

    def same_pixels_and_near(self, *, near: bool) -> None:
        detailed = [row for row in self._single if not self._pictures[row].fingerprint.flat]
        upright, turned = self._near_hashes(detailed, near=near)
        for a, b in self._flat_of_one_size():
            self._same_pixels(a, b, None)
        total = len(upright) + len(turned)
        for done, (a, b, turn, bits) in enumerate(_by_family([*upright, *turned])):
            self._progress("near", done, total)
            if (a, b) in self._links:
                continue
            if turn == 0 and self._same_pixels(a, b, bits):
                continue
            if near:
                self._near(a, b, turn, bits)

    def edited(self, vectors: Float32) -> None:
        by_single = np.ascontiguousarray(vectors[[self._given[row] for row in self._single]])
        for a, b in self._parts():
            self._edited(a, b, None, "part")
        listed = candidates.nearest(by_single, self._thresholds.cosine)
        going = listed.walk()
        for window in listed.windows():
            going = [place for place in going if self._any_linked(place, listed, window)]
            if not going:
                return
        for place in going:
            self._go_on(by_single, place, listed)

    def as_people_said(self) -> None:
        by_content = defaultdict(list)
        for row in self._single:
            by_content[self._pictures[row].sha256].append(row)
        for pair in self._verdicts.same:
            rows = sorted(row for content in pair for row in by_content.get(content, ()))
            for a, b in combinations(rows, 2):
                if (a, b) not in self._links:
                    self._link(Link(a, b, Kind.EDITED, {"test": "marked same", "change": "unknown"}))

    # Pairs to test

    def _near_hashes(
        self, rows: list[int], *, near: bool
    ) -> tuple[list[tuple[int, int, int, int]], list[tuple[int, int, int, int]]]:
        """Return (a, b, turn, bits) of pairs upright and turned, a before b: b is a after the turn."""
        every = _stacked(self._pictures[row].fingerprint.hashes for row in rows)
        limits = self._thresholds
        found = hashing.pairs_within(every[:, 0], limits.hash_bits if near else _SAME_PIXELS_BITS)
        self._crowded.update(rows[place] for place in found.full)
        upright = [(rows[a], rows[b], 0, bits) for a, b, bits in found]
        turned: dict[Pair, tuple[int, int]] = {}
        for turn in range(1, len(hashing.TURNS)) if near else ():
            for a, b, bits in hashing.pairs_across(every[:, turn], every[:, 0], _SURE_BITS, limits.hash_bits):
                if a < b and bits < turned.get((rows[a], rows[b]), (0, hashing.BITS))[1]:
                    turned[rows[a], rows[b]] = (turn, bits)
        return upright, [(a, b, *how) for (a, b), how in sorted(turned.items())]

    def _flat_of_one_size(self) -> Iterator[Pair]:
        """Yield each flat picture with the first of its size and pixels, as far as told by now."""
        of_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row in self._single:
            if self._pictures[row].fingerprint.flat:
                of_size[self._pictures[row].size].append(row)
        for rows in of_size.values():
            firsts: dict[str, int] = {}
            for row in rows if len(rows) > 1 else ():
                content = self._read(self._contents, row)
                if content is not None and firsts.setdefault(content, row) != row:
                    yield firsts[content], row

    def _parts(self) -> list[Pair]:
        """Return pairs of which a part of the one hashes as the whole of the other."""
        rows = [row for row in self._single if not self._pictures[row].fingerprint.flat]
        wholes = _stacked(self._pictures[row].fingerprint.hashes[:1] for row in rows)[:, 0]
        parts = [
            (row, hashes)
            for row in self._single
            for hashes, quality in zip(
                self._pictures[row].fingerprint.parts, self._pictures[row].fingerprint.part_quality, strict=True
            )
            if quality >= hashing.FEWEST_DETAILS
        ]
        if not parts:
            return []
        found = hashing.pairs_across(
            np.stack([hashes for _, hashes in parts]), wholes, _SURE_BITS, self._thresholds.hash_bits
        )
        pairs = {_ordered(parts[part][0], rows[whole]) for part, whole, _ in found}
        return sorted((a, b) for a, b in pairs if a != b)

    def _any_linked(self, place: int, listed: candidates.Nearest, window: slice) -> bool:
        """Test a picture against some of its nearest; tell whether one of them is linked to it."""
        rows, cosines = listed.rows[place, window], listed.cosines[place, window]
        near = [(self._single[other], float(cosine)) for other, cosine in zip(rows, cosines, strict=True) if other >= 0]
        return self._test_each(self._single[place], near) > 0

    def _go_on(self, vectors: Float32, place: int, listed: candidates.Nearest) -> None:
        """Test a picture, all of whose list led to copies, against the rest, until copies become rare."""
        rest = candidates.beyond(vectors, place, listed.rows[place][listed.rows[place] >= 0], self._thresholds.cosine)
        for start in range(0, len(rest), _AT_ONCE):
            near = [(self._single[other], cosine) for other, cosine in rest[start : start + _AT_ONCE]]
            if not self._test_each(self._single[place], near):
                return

    def _test_each(self, row: int, near: Iterable[tuple[int, float]]) -> int:
        linked = 0
        for other, cosine in near:
            pair = _ordered(row, other)
            self._edited(*pair, cosine, "embedding")
            linked += pair in self._links
        return linked

    # One pair

    def _same_pixels(self, a: int, b: int, bits: int | None) -> bool:
        if self._pictures[a].size != self._pictures[b].size or (bits or 0) > _SAME_PIXELS_BITS:
            return False
        self._tested["pixels"] += 1
        if not self._told(a, b, "pixels", lambda: self._have_same_pixels(a, b)):
            return False
        hamming = {} if bits is None else {"hamming": bits}
        self._link(Link(a, b, Kind.PIXELS, {"test": "pixels", "change": "none", **hamming}))
        return True

    def _have_same_pixels(self, a: int, b: int) -> bool | None:
        first, second = (self._read(self._decoded, row) for row in (a, b))
        if first is None or second is None:
            return None
        if all(pixels.shape[1::-1] == self._pictures[row].size for row, pixels in ((a, first), (b, second))):
            return bool(np.array_equal(first, second))  # small pictures are not reduced when they are decoded
        contents = [self._read(self._contents, row) for row in (a, b)]
        return None if None in contents else contents[0] == contents[1]

    def _near(self, a: int, b: int, turn: int, bits: int) -> None:
        self._tested["near"] += 1
        told = self._told(a, b, f"near, {hashing.TURNS[turn]}", lambda: self._nearness(a, b, turn))
        limits = self._thresholds
        if told is None or told["agreement"] < limits.near_agreement or told["motion"] > limits.near_motion:
            return
        sizes = self._pictures[a].size, self._pictures[b].size
        evidence = {
            "test": "hash",
            "change": turn_in_words(turn, *sizes),
            "hamming": bits,
            "turn": hashing.TURNS[turn],
            "agreement": round(told["agreement"], 3),
            "motion": round(told["motion"], 3),
        }
        scale = (sizes[1][0] * sizes[1][1] / (sizes[0][0] * sizes[0][1])) ** 0.5
        back = turn_in_words(turned_back(turn), *sizes[::-1])
        self._link(Link(a, b, Kind.NEAR, evidence, scale=scale, back=back))

    def _nearness(self, a: int, b: int, turn: int) -> dict[str, float] | None:
        first, second = (self._read(self._small, row) for row in (a, b))
        if first is None or second is None:
            return None
        near = nearness(first, second, turn)
        return {"agreement": float(near.agreement), "motion": float(near.motion)}

    def _edited(self, a: int, b: int, cosine: float | None, candidate: str) -> None:
        pair = (a, b)
        if pair in self._links or pair in self._refused or any(self._pictures[r].fingerprint.flat for r in pair):
            return
        self._refused.add(pair)
        told = self._verified(a, b, doubted=candidate == "embedding")
        if not told or told["score"] < self._thresholds.edited_score:
            return
        self._refused.discard(pair)
        proposed = {"candidate": candidate, **({} if cosine is None else {"cosine": round(cosine, 3)})}
        evidence = {"test": "geometry", "change": told["change"], **proposed, **told["evidence"]}
        of_a, of_b = told["shown"]
        self._link(Link(a, b, Kind.EDITED, evidence, of_a, of_b, told["scale"], told["back"]))

    def _verified(self, a: int, b: int, *, doubted: bool) -> dict[str, Any] | None:
        """Return what corners tell of two pictures, or local features where corners leave it open.

        Pictures that are ``doubted`` need corners in common to be looked at more closely.
        """
        self._tested["first look"] += 1
        look = self._told(a, b, "first look", lambda: self._look(a, b))
        if look is None or (doubted and look["significance"] < local_features.IN_COMMON):
            return None
        told: dict[str, Any] = look["geometry"]
        if doubted and not told and look["significance"] < _WORTH_IT:
            return None
        if told and told["score"] >= self._thresholds.edited_score + _CLEARLY:
            return told
        if told and told["score"] < _HARDLY:
            return None
        self._tested["geometry"] += 1
        closer: dict[str, Any] | None = self._told(a, b, "geometry", lambda: self._geometry(a, b))
        return closer

    def _look(self, a: int, b: int) -> dict[str, Any] | None:
        """Return what a first look tells, its geometry {} where there is none; None where a picture cannot be read."""
        first, second = (self._read(self._corners, row) for row in (a, b))
        if first is None or second is None:
            return None
        look = local_features.first_look(first, second, lambda: self._mirrored.get(a))
        return {"significance": look.significance, "geometry": self._as_told(a, b, look.geometry, first, second)}

    def _geometry(self, a: int, b: int) -> dict[str, Any] | None:
        """Return what local features tell of two pictures, {} where nothing; None where one cannot be read."""
        first, second = (self._read(self._features, row) for row in (a, b))
        if first is None or second is None:
            return None
        return self._as_told(a, b, local_features.compare(first, second), first, second)

    def _as_told(
        self, a: int, b: int, found: Geometry | None, first: Features | Corners, second: Features | Corners
    ) -> dict[str, Any]:
        if found is None:
            return {}
        scale = float(found.scale * self._enlarged(b, second) / self._enlarged(a, first))
        return {
            "score": float(found.score),
            "shown": [float(found.overlap_a), float(found.overlap_b)],
            "scale": scale,
            "change": geometry_in_words(found, scale),
            "back": geometry_in_words(geometry_back(found), 1 / scale),
            "evidence": {
                "matched": found.matched,
                "inliers": found.inliers,
                "overlap": [round(float(found.overlap_a), 3), round(float(found.overlap_b), 3)],
                "scale": round(scale, 3),
                "rotation": round(float(found.rotation_degrees), 1),
                "flipped": bool(found.mirrored),
                "agreement": round(float(found.agreement), 3),
                "score": round(float(found.score), 3),
            },
        }

    def _told(self, a: int, b: int, test: str, make: Callable[[], Any]) -> Any:
        """Return what a test tells of two pictures, from memory where it was made before; None: it could not be."""
        if self._memory is None:
            return make()
        key = (self._pictures[a].sha256, self._pictures[b].sha256, test)
        known = self._memory.pair(*key)
        if known is not None:
            return json.loads(known[0] or "null")
        told = make()
        if told is not None:
            self._to_keep[key] = json.dumps(told)
            if len(self._to_keep) >= _KEPT_AT_ONCE:
                self._keep()
        return told

    def _keep(self) -> None:
        if self._memory is not None and self._to_keep:
            self._memory.put_pairs(self._to_keep)
            self._to_keep = {}

    def _enlarged(self, row: int, features: Features | Corners) -> float:
        """Return by how much the file's picture is larger than the decode the features are of."""
        return float(max(self._pictures[row].size) / (max(features.grey.shape) * features.reduction))

    def _link(self, link: Link) -> None:
        contents = frozenset(self._pictures[row].sha256 for row in (link.a, link.b))
        if contents not in self._verdicts.different:
            self._links[link.a, link.b] = link

    def _read(self, cache: _Cache[Value], row: int) -> Value | None:
        """Return what is kept or made of a picture; None, and a note of it, where it cannot be read any more."""
        if row in self._unread:
            return None
        try:
            return cache.get(row)
        except InputError as error:
            self._unread[row] = str(error)
            return None


_SURE_BITS = (
    15  # of turned pictures and parts, pairs above may be lost: all pairs within 31 would cost 17 times as much
)
_SAME_PIXELS_BITS = 15  # one picture decoded whole and reduced; told more exactly by the pixels themselves
_WORTH_IT = 2.0  # the significance from which on features are looked for although corners have no geometry
_CLEARLY = 0.05  # corners are placed less exactly than features: by so much more than the threshold they must agree
_HARDLY = 0.3  # corners fit, and yet the pictures do not agree: chance, or another photo of the scene
_AT_ONCE = 64
_KEPT_AT_ONCE = 512
_KEPT_BYTES = 192 << 20


def _stacked(hashes: Iterable[hashing.Words]) -> hashing.Words:
    every = list(hashes)
    return np.stack(every) if every else np.empty((0, len(hashing.TURNS), 4), np.uint64)


def _by_family(pairs: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Return pairs (a, b, …) so that those that hang together come together: pictures are then read once each."""
    first = connected(sorted({row for a, b, *_ in pairs for row in (a, b)}), ((a, b) for a, b, *_ in pairs))
    return sorted(pairs, key=lambda pair: first[pair[0]])


def _ordered(a: int, b: int) -> Pair:
    return (a, b) if a < b else (b, a)


def _renamed(link: Link, rows: Sequence[int]) -> Link:
    return Link(
        rows[link.a], rows[link.b], link.kind, link.evidence, link.shown_of_a, link.shown_of_b, link.scale, link.back
    )


Value = TypeVar("Value")


class _Cache(Generic[Value]):
    """Makes values by row, and keeps the last used ones, up to ``_KEPT_BYTES``."""

    def __init__(self, make: Callable[[int], Value], size: Callable[[Value], int]) -> None:
        self._make, self._size = make, size
        self._kept: OrderedDict[int, Value] = OrderedDict()
        self._bytes = 0

    def get(self, row: int) -> Value:
        if row in self._kept:
            self._kept.move_to_end(row)
            return self._kept[row]
        value = self._kept[row] = self._make(row)
        self._bytes += self._size(value)
        while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= self._size(oldest)
        return value
