"""The cascade on photos and copies of them that were made: which are linked, why, and that order does not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from lookalike.copies import cascade
from lookalike.copies.cascade import Found, Source, Verdicts, find_links
from lookalike.copies.hashing import fingerprint
from lookalike.copies.links import Kind, Level, Link, Picture
from lookalike.errors import ConfigError, UnreadableImage
from lookalike.images.reencode import resized, through_jpeg

Pixels = NDArray[np.uint8]


def photo(name: str) -> Pixels:
    pixels = np.asarray(getattr(skimage.data, name)())
    return resized(pixels, 320, round(320 * pixels.shape[0] / pixels.shape[1]))


ASTRONAUT, COFFEE, CHELSEA = photo("astronaut"), photo("coffee"), photo("chelsea")


@dataclass
class Folder:
    """Pictures by name; ``files`` differ in bytes although pixels may be the same."""

    pixels: dict[str, Pixels] = field(default_factory=dict)
    bytes_of: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    read: list[str] = field(default_factory=list)
    reduced: bool = False

    def add(self, name: str, pixels: Pixels, same_bytes_as: str | None = None) -> None:
        self.pixels[name] = np.ascontiguousarray(pixels)
        self.bytes_of[name] = same_bytes_as or name

    def search(self, level: Level = Level.EDITED, names: list[str] | None = None, **more: Any) -> Found:
        names = names or list(self.pixels)
        pictures = [
            Picture(self.sha256(name), self.pixels[name].shape[1::-1], fingerprint(self.pixels[name])) for name in names
        ]

        def content(row: int) -> str:
            self.asked.append(names[row])
            return hashlib.sha256(self._read(names[row]).tobytes()).hexdigest()

        def decoded(row: int) -> Pixels:
            self.read.append(names[row])
            pixels = self._read(names[row])
            return pixels[: len(pixels) // 2 * 2 : 2, ::2] if self.reduced else pixels

        source = Source(decoded, content)
        # A rough embedding, in which all are candidates of one another.
        vectors = np.ones((len(names), 2), np.float32) / np.sqrt(np.float32(2))
        return find_links(pictures, source, vectors, level=level, **more)

    def links(self, level: Level = Level.EDITED, names: list[str] | None = None, **more: Any) -> dict[str, Link]:
        names = names or list(self.pixels)
        found = self.search(level, names, **more)
        return {" ".join(sorted((names[link.a], names[link.b]))): link for link in found.links}

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.bytes_of[name].encode()).hexdigest()

    def _read(self, name: str) -> Pixels:
        if name in self.gone:
            raise UnreadableImage(name, "it is gone")
        return self.pixels[name]


@pytest.fixture
def folder() -> Folder:
    made = Folder()
    made.add("astronaut", ASTRONAUT)
    made.add("coffee", COFFEE)
    made.add("chelsea", CHELSEA)
    made.add("astronaut again", ASTRONAUT, same_bytes_as="astronaut")
    made.add("coffee as PNG", COFFEE)
    made.add("chelsea flipped", CHELSEA[:, ::-1])
    made.add("chelsea small", resized(CHELSEA, 160, 106))
    made.add("astronaut cropped", ASTRONAUT[40:240, 30:300])
    return made


def kinds(links: Mapping[str, Link]) -> dict[str, Kind]:
    return {pair: link.kind for pair, link in links.items()}


NEAR = {
    "astronaut astronaut again": Kind.EXACT,
    "coffee coffee as PNG": Kind.PIXELS,
    "chelsea chelsea flipped": Kind.NEAR,
    "chelsea chelsea small": Kind.NEAR,
    "chelsea flipped chelsea small": Kind.NEAR,
}


def test_each_pair_is_linked_by_the_first_test_that_it_passes(folder: Folder) -> None:
    assert kinds(folder.links(Level.EDITED)) == {**NEAR, "astronaut astronaut cropped": Kind.EDITED}
    assert kinds(folder.links(Level.NEAR)) == NEAR
    sure = {pair: kind for pair, kind in NEAR.items() if kind is not Kind.NEAR}
    assert kinds(folder.links(Level.EXACT)) == sure


def test_the_change_is_told_in_words(folder: Folder) -> None:
    links = folder.links(names=[name for name in folder.pixels if name != "astronaut again"])
    assert links["chelsea chelsea small"].evidence["change"] == "resized to 50 %"
    assert links["chelsea chelsea flipped"].evidence["change"] == "flipped"
    assert links["astronaut astronaut cropped"].evidence["change"] == "cropped to 53 %"  # 270 x 200 of 320 x 320
    assert links["coffee coffee as PNG"].evidence["change"] == "none"


def test_only_pictures_of_one_size_and_near_hash_are_decoded_whole(folder: Folder) -> None:
    folder.reduced = True
    folder.search()
    assert set(folder.asked) <= {"coffee", "coffee as PNG", "chelsea", "chelsea flipped"}
    assert {"coffee", "coffee as PNG"} <= set(folder.asked)


def test_small_pictures_are_decoded_once(folder: Folder) -> None:
    before = folder.search().links
    assert not folder.asked
    assert len(folder.read) == len(set(folder.read)) >= 5
    folder.reduced = True
    assert [(li.a, li.b) for li in folder.search(Level.EXACT).links] == [
        (li.a, li.b) for li in before if li.kind in {Kind.EXACT, Kind.PIXELS}
    ]


@pytest.mark.parametrize("seed", range(4))
def test_links_do_not_depend_on_the_order_of_files(folder: Folder, seed: int) -> None:
    names = list(folder.pixels)
    before = {
        (pair, link.kind, str(link.evidence)) for pair, link in folder.links(names=names).items() if "again" not in pair
    }
    shuffled = [names[k] for k in np.random.default_rng(seed).permutation(len(names))]
    after = folder.links(names=shuffled)
    assert {(p, li.kind, str(li.evidence)) for p, li in after.items() if "again" not in p and "astronaut" not in p} == {
        one for one in before if "astronaut" not in one[0]
    }
    assert len(after) == 6


def test_all_pairs_of_fifteen_copies_are_found_although_each_list_begins_with_two() -> None:
    made = Folder()
    rng = np.random.default_rng(0)
    made.add("original", ASTRONAUT)
    for k in range(14):
        top, left = rng.integers(0, 60, 2)
        made.add(f"crop {k}", ASTRONAUT[top : top + 255, left : left + 255])
    made.add("coffee", COFFEE)
    links = made.links()
    assert len(links) == 15 * 14 / 2
    assert not any("coffee" in pair for pair in links)


def test_copies_that_are_no_candidates_by_embedding_are_found_by_their_parts() -> None:
    made = Folder()
    quarters = [resized(pixels, 160, 120) for pixels in (ASTRONAUT, COFFEE, CHELSEA, photo("rocket"))]
    made.add("collage", np.vstack([np.hstack(quarters[:2]), np.hstack(quarters[2:])]))
    made.add("coffee", resized(COFFEE, 320, 240))
    names = list(made.pixels)
    pictures = [Picture(made.sha256(n), made.pixels[n].shape[1::-1], fingerprint(made.pixels[n])) for n in names]
    source = Source(lambda row: made.pixels[names[row]], lambda row: names[row])
    found = find_links(pictures, source, np.eye(2, dtype=np.float32))
    assert [link.kind for link in found.links] == [Kind.EDITED]
    link = found.links[0]
    collage, coffee = names.index("collage"), names.index("coffee")
    assert not link.stands_for(collage)
    assert link.stands_for(coffee)


@dataclass
class Notebook:
    """A memory of pairs that is a dictionary."""

    kept: dict[tuple[str, str, str], str | None] = field(default_factory=dict)

    def pair(self, a: str, b: str, test: str) -> tuple[str | None] | None:
        return (self.kept[a, b, test],) if (a, b, test) in self.kept else None

    def put_pairs(self, pairs: Mapping[tuple[str, str, str], str | None]) -> None:
        self.kept |= pairs


def test_with_a_memory_no_picture_is_read_twice_whatever_was_told_of_it(folder: Folder) -> None:
    memory = Notebook()
    first = folder.search(memory=memory)
    assert {test for *_, test in memory.kept} >= {"first look", "near, upright", "pixels"}
    folder.gone = set(folder.pixels)
    assert folder.search(memory=memory) == first


def test_what_corners_leave_open_is_told_by_features(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = folder.search()
    assert plain.tested["first look"] > plain.tested.get("geometry", 0)
    monkeypatch.setattr(cascade, "_CLEARLY", 2.0)  # no first look is clear enough
    by_features = folder.search()
    assert by_features.tested["geometry"] > plain.tested.get("geometry", 0)
    assert [(li.a, li.b, li.kind) for li in by_features.links] == [(li.a, li.b, li.kind) for li in plain.links]


def test_flat_pictures_are_linked_by_bytes_and_pixels_only() -> None:
    made = Folder()
    made.add("blue", np.full((120, 160, 3), (20, 40, 200), np.uint8))
    made.add("blue again", np.full((120, 160, 3), (20, 40, 200), np.uint8))
    made.add("nearly blue", np.full((120, 160, 3), (21, 40, 200), np.uint8))
    made.add("small blue", np.full((60, 80, 3), (20, 40, 200), np.uint8))
    assert kinds(made.links()) == {"blue blue again": Kind.PIXELS}
    assert len(made.search().flat) == 4


def test_what_people_said_is_honoured(folder: Folder) -> None:
    def verdict(*names: str) -> frozenset[frozenset[str]]:
        return frozenset({frozenset(folder.sha256(name) for name in names)})

    said = Verdicts(different=verdict("chelsea", "chelsea small"), same=verdict("coffee", "chelsea"))
    links = folder.links(verdicts=said)
    assert "chelsea chelsea small" not in links
    assert any(
        link.evidence["test"] == "marked same" and "coffee" in pair and "chelsea" in pair
        for pair, link in links.items()
    )


@pytest.mark.parametrize("level", [Level.NEAR, Level.EDITED])
def test_a_picture_that_vanishes_meanwhile_is_told_and_the_rest_goes_on(folder: Folder, level: Level) -> None:
    folder.gone.add("chelsea small")
    names = list(folder.pixels)
    found = folder.search(level, names)
    assert {names[row]: reason for row, reason in found.unread.items()} == {
        "chelsea small": "cannot read chelsea small: it is gone"
    }
    assert "chelsea chelsea flipped" in folder.links(level)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: through_jpeg(p, 15),
        lambda p: np.clip(p * 0.6, 0, 255).astype(np.uint8),
        lambda p: np.repeat(p.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8),
        lambda p: resized(p, 213, 213),
        np.rot90,
    ],
)
def test_the_whole_picture_changed_in_light_size_or_turn_is_near(change: Callable[[Pixels], Pixels]) -> None:
    made = Folder()
    made.add("a", resized(ASTRONAUT, 320, 320))
    made.add("b", change(resized(ASTRONAUT, 320, 320)))
    assert kinds(made.links(Level.NEAR)) == {"a b": Kind.NEAR}


def test_a_picture_moved_by_a_fraction_of_a_pixel_is_not_near() -> None:
    made = Folder()
    big = np.asarray(skimage.data.astronaut())
    made.add("a", np.ascontiguousarray(big[:490, :490]))
    made.add("b", np.ascontiguousarray(big[2:492, 2:492]))  # at 192 pixels, by .8
    assert not made.links(Level.NEAR)
    assert kinds(made.links(Level.EDITED)) == {"a b": Kind.EDITED}


@pytest.mark.parametrize("count", [0, 1])
def test_few_pictures_have_no_links(count: int) -> None:
    made = Folder()
    for _ in range(count):
        made.add("a", COFFEE)
    assert find_links([], Source(lambda _: COFFEE, str), np.empty((0, 2), np.float32)).links == ()
    if count:
        assert made.links() == {}


def test_edited_needs_vectors() -> None:
    with pytest.raises(ConfigError, match="a vector for each of 1 pictures"):
        find_links([Picture("0", (320, 200), fingerprint(COFFEE))], Source(lambda _: COFFEE, str))


def test_a_cache_forgets_what_was_used_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade, "_KEPT_BYTES", 20)
    made: list[int] = []

    def make(row: int) -> str:
        made.append(row)
        return "x" * 10

    cache = cascade._Cache(make, len)
    for row in (1, 2, 1, 3, 1, 2):
        cache.get(row)
    assert made == [1, 2, 3, 2]
