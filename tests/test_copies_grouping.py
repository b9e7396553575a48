"""Groups against their definition: no chains, the same whatever the order, and no picture in two of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lookalike.copies.grouping import Group, grouped
from lookalike.copies.hashing import Fingerprint
from lookalike.copies.links import Kind, Link, Picture


def picture(content: str, pixels: int = 100, *, flat: bool = False) -> Picture:
    nothing = np.zeros((8, 4), np.uint64)
    parts = np.zeros((5, 4), np.uint64), np.zeros(5, np.uint8)
    return Picture(content, (pixels, 1), Fingerprint(nothing, 0 if flat else 100, *parts))


def near(a: int, b: int, **more: float) -> Link:
    return Link(a, b, Kind.NEAR, {"test": "hash"}, **more)


def exact(a: int, b: int) -> Link:
    return Link(a, b, Kind.EXACT, {"test": "bytes"})


def named(pictures: list[Picture], groups: list[Group]) -> list[list[str]]:
    return [[pictures[row].sha256 for row in group.rows] for group in groups]


def test_the_end_of_a_chain_is_no_member() -> None:
    pictures = [picture(name) for name in "abcd"]
    groups = grouped(pictures, [near(0, 1), near(1, 2), near(2, 3)])
    assert named(pictures, groups) == [["b", "a", "c"]]


def test_the_larger_picture_represents_where_links_do_not_decide() -> None:
    pictures = [picture("a", 10), picture("b", 30), picture("c", 20)]
    assert named(pictures, grouped(pictures, [near(1, 0), near(2, 0), near(1, 2)])) == [["b", "c", "a"]]


@pytest.mark.parametrize("seed", range(25))
def test_members_are_linked_to_the_representative_and_order_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pictures = [picture(f"{k:02d}", int(rng.integers(1, 4))) for k in range(14)]
    chosen = [pair for pair in itertools.combinations(range(14), 2) if rng.random() < 0.2]
    links = [near(*sorted(pair, key=lambda row: pictures[row].order)) for pair in chosen]
    groups = grouped(pictures, links)

    rows = [row for group in groups for row in group.rows]
    assert len(rows) == len(set(rows))
    for group in groups:
        assert group.members
        for row, link in group.members.items():
            assert {link.a, link.b} == {row, group.representative}
    alone = set(range(14)) - set(rows)
    assert not any(a in alone and b in alone for a, b in chosen)

    places = rng.permutation(14).tolist()
    shuffled = [pictures[place] for place in places]
    where = {place: row for row, place in enumerate(places)}
    moved = [near(where[link.a], where[link.b]) for link in links]
    moved = [moved[place] for place in rng.permutation(len(moved))]
    assert named(shuffled, grouped(shuffled, moved)) == named(pictures, groups)


def test_a_collage_does_not_represent_its_parts() -> None:
    pictures = [picture("collage", 400), picture("a", 300), picture("b", 200)]
    parts = [near(0, 1, shown_of_a=0.25, scale=2.0), near(0, 2, shown_of_a=0.25, scale=2.0)]
    assert named(pictures, grouped(pictures, parts)) == [["a", "collage"]]


def test_files_of_the_same_bytes_come_together_with_what_is_near_to_one_of_them() -> None:
    pictures = [picture("a"), picture("b"), picture("a"), picture("b"), picture("c"), picture("c")]
    groups = grouped(pictures, [exact(0, 2), exact(1, 3), near(0, 1), exact(4, 5)])
    assert named(pictures, groups) == [["a", "a", "b", "b"], ["c", "c"]]
    assert [link.kind for link in groups[0].members.values()] == [Kind.EXACT, Kind.NEAR, Kind.NEAR]
    assert all({link.a, link.b} == {0, row} for row, link in groups[0].members.items())


def test_flat_pictures_are_grouped_by_bytes_and_pixels_only() -> None:
    pictures = [picture(name, flat=True) for name in "abc"]
    links = [near(0, 1), Link(1, 2, Kind.PIXELS, {"test": "pixels"})]
    assert named(pictures, grouped(pictures, links)) == [["b", "c"]]


def test_a_thousand_links_make_no_mega_group_of_a_chain() -> None:
    pictures = [picture(f"{k:04d}") for k in range(1001)]
    groups = grouped(pictures, [near(k, k + 1) for k in range(1000)])
    assert max(len(group.rows) for group in groups) == 3


def test_no_links_make_no_groups() -> None:
    assert grouped([picture("a")], []) == []
