"""Which things hang together through pairs: each with the first of those it is connected to, directly or not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Name = TypeVar("Name")


def connected(names: Iterable[Name], pairs: Iterable[tuple[Name, Name]]) -> dict[Name, Name]:
    """Return for each of ``names`` the first, in their order, of all to which ``pairs`` lead from it; alone, itself.

    Names are hashable; both of a pair are among them, else KeyError. Union by order with path halving (Tarjan and van
    Leeuwen, JACM 1984).
    """
    place = {name: number for number, name in enumerate(dict.fromkeys(names))}
    head = {name: name for name in place}

    def top(name: Name) -> Name:
        while head[name] != name:
            head[name] = name = head[head[name]]
        return name

    for a, b in pairs:
        first, second = sorted((top(a), top(b)), key=place.__getitem__)
        head[second] = first
    return {name: top(name) for name in place}
