"""Links -> groups without chains: every member is linked to the group's representative itself.

The picture that can stand for most others becomes a representative and takes them; then the next, among those left.
What is only linked to a member is no member. The order of pictures and links does not matter: ties go to the larger
picture, then by content.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from lookalike.copies.links import Kind, Link, Picture


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of pictures: the ``representative``, and for each of the ``members`` its link to it, in order of content."""

    representative: int
    members: Mapping[int, Link]

    @property
    def rows(self) -> tuple[int, ...]:
        """Return all rows, the representative first."""
        return self.representative, *self.members


def grouped(
    pictures: Sequence[Picture], links: Iterable[Link], different: Set[frozenset[str]] = frozenset()
) -> list[Group]:
    """Return the groups that ``links`` (rows of ``pictures``) make, each picture in one at most; the largest first.

    Files of the same bytes count as one picture, and always come together. Flat pictures are grouped by bytes and
    pixels only. Two contents that somebody called ``different`` (pairs of sha256) are in no group together, even where
    a third one is linked to both: the one that is nearer to it stays.
    """
    links = [link for link in links if not _flat_and_unsure(pictures, link)]
    first, twins = _twins(pictures, links)
    stood_for = _who_stands_for_whom(links, first)
    groups = []
    for head, own in _taken(pictures, stood_for, different):
        members = dict(own)
        for row in (head, *own):
            members |= {twin: _to_head(pictures, head, row, twin, members) for twin in twins.get(row, ())}
        groups.append(Group(head, dict(sorted(members.items(), key=lambda item: _order(pictures, item[0])))))
    in_groups = {row for group in groups for row in group.rows}
    for head, rows in twins.items():
        if head not in in_groups:
            exact = {row: _exact(head, row) for row in sorted(rows)}
            groups.append(Group(head, exact))
    return sorted(groups, key=lambda group: (-len(group.members), _order(pictures, group.representative)))


def _flat_and_unsure(pictures: Sequence[Picture], link: Link) -> bool:
    sure = link.kind in {Kind.EXACT, Kind.PIXELS} or link.evidence.get("test") == "marked same"
    return not sure and any(pictures[row].fingerprint.flat for row in (link.a, link.b))


def _order(pictures: Sequence[Picture], row: int) -> tuple[int, str, int]:
    # Rows of the same bytes differ in nothing but their place; it only orders them among themselves.
    return *pictures[row].order, row


def _twins(pictures: Sequence[Picture], links: Sequence[Link]) -> tuple[dict[int, int], dict[int, list[int]]]:
    """Return for each row with a copy of the same bytes the one that stands for all of these, and of it the others."""
    of_content: dict[str, set[int]] = defaultdict(set)
    for link in links:
        if link.kind is Kind.EXACT:
            of_content[pictures[link.a].sha256] |= {link.a, link.b}
    first = {row: min(rows) for rows in of_content.values() for row in rows}
    return first, {min(rows): sorted(rows - {min(rows)}) for rows in of_content.values()}


def _who_stands_for_whom(links: Sequence[Link], first: Mapping[int, int]) -> dict[int, dict[int, Link]]:
    """Return of each picture those that it could stand for, each with the link to it."""
    stands: dict[int, dict[int, Link]] = defaultdict(dict)
    for link in links:
        if link.kind is not Kind.EXACT:
            a, b = first.get(link.a, link.a), first.get(link.b, link.b)
            if link.stands_for(link.a):
                stands[a][b] = link
            if link.stands_for(link.b):
                stands[b][a] = link
    return stands


def _taken(
    pictures: Sequence[Picture], stands: Mapping[int, dict[int, Link]], different: Set[frozenset[str]]
) -> Iterable[tuple[int, dict[int, Link]]]:
    """Yield representatives with what each takes, those that can take most first."""
    stood_by: dict[int, set[int]] = defaultdict(set)
    for head, own in stands.items():
        for row in own:
            stood_by[row].add(head)
    left = {head: len(own) for head, own in stands.items()}
    heap = [(-count, _order(pictures, head), head) for head, count in left.items()]
    heapq.heapify(heap)
    taken: set[int] = set()
    while heap:
        count, order, head = heapq.heappop(heap)
        if head in taken or not left[head]:
            continue
        if -count != left[head]:  # others have taken some since
            heapq.heappush(heap, (-left[head], order, head))
            continue
        own = {row: link for row, link in stands[head].items() if row not in taken}
        own = _agreeing(pictures, own, different)
        yield head, own
        for row in (head, *own):
            taken.add(row)
            for other in stood_by[row]:
                left[other] -= 1


def _agreeing(pictures: Sequence[Picture], own: Mapping[int, Link], different: Set[frozenset[str]]) -> dict[int, Link]:
    """Return the members without those that somebody called different from a member with a surer link."""
    kinds = list(Kind)
    kept: dict[int, Link] = {}
    for row in sorted(own, key=lambda row: (kinds.index(own[row].kind), _order(pictures, row))):
        if not any(frozenset((pictures[row].sha256, pictures[one].sha256)) in different for one in kept):
            kept[row] = own[row]
    return kept


def _to_head(pictures: Sequence[Picture], head: int, row: int, twin: int, members: Mapping[int, Link]) -> Link:
    """Return the link of the head to a picture with the bytes of ``row``: what holds of the one holds of the other."""
    if row == head:
        return _exact(head, twin)
    link = members[row]
    a, b = (head, twin) if _order(pictures, head) < _order(pictures, twin) else (twin, head)
    return Link(a, b, link.kind, link.evidence, link.shown_of_a, link.shown_of_b, link.scale, link.back)


def _exact(a: int, b: int) -> Link:
    return Link(a, b, Kind.EXACT, {"test": "bytes", "change": "none"})
