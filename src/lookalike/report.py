"""Pictures for people: one self-contained HTML file that needs no network and runs no script."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lookalike import __version__
from lookalike.errors import InputError
from lookalike.images import read, thumbnail
from lookalike.pipeline import in_parallel
from lookalike.tables import check_output, replacing
from lookalike.types import Hits, display_path

_SIDE = 224


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of a sheet: what stands under it, and the picture as a data URI, or why there is none."""

    title: str
    caption: str
    details: str
    picture: str | None
    problem: str | None = None
    said: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """What was decided, in words: of a query, and of each of its hits."""

    of_query: str
    of_hits: tuple[str, ...]


def write_contact_sheet(
    output: Path,
    results: Sequence[Hits],
    *,
    pictures: Sequence[str | None] | None = None,
    title: str = "Search results",
    notes: Sequence[str] = (),
    said: Sequence[Said] | None = None,
) -> None:
    """Write a page that shows each query beside its hits, best first, with scores and metadata.

    ``pictures`` are the paths of the queries' pictures, where the names of the queries are not; ``said`` is what was
    decided on each query.

    Nothing from a picture, a file name or metadata is trusted: all text is escaped, and pictures are drawn anew.
    """
    check_output(output, ".html", ".htm")
    queries = [hits.query for hits in results] if pictures is None else pictures
    shown = dict.fromkeys(path for path in (*queries, *(hit.path for hits in results for hit in hits)) if path)
    drawn = dict(zip(shown, in_parallel(picture_uri, shown), strict=True))
    decisions: Sequence[Said | None] = said or [None] * len(results)
    rows = [
        _row(hits, path, lambda path: drawn.get(path or "", (None, "no file")), decided)
        for hits, path, decided in zip(results, queries, decisions, strict=True)
    ]
    page = (
        templates().get_template("contact_sheet.html").render(title=title, rows=rows, notes=notes, version=__version__)
    )
    with replacing(output) as file:
        file.write(page.encode("utf-8", "replace"))


def _row(
    hits: Hits, path: str | None, picture_of: Callable[[str | None], tuple[str | None, str | None]], said: Said | None
) -> dict[str, Any]:
    of_query = display_path(said.of_query) if said else ""
    query = Tile(short_name(hits.query), "query", display_path(hits.query), *picture_of(path), said=of_query)
    tiles = [
        Tile(
            short_name(hit.path or hit.id),
            f"{hit.score:.4f}",
            "\n".join(map(display_path, [hit.path or hit.id, *(f"{k}: {v}" for k, v in hit.metadata.items())])),
            *picture_of(hit.path),
            said=of_hit,
        )
        for hit, of_hit in zip(hits, said.of_hits if said else [""] * len(hits), strict=True)
    ]
    nothing = "nothing matches" if said else "no hit"
    return {"query": query, "hits": tiles, "metric": hits.metric, "exact": hits.exact, "nothing": nothing}


def picture_uri(path: str) -> tuple[str | None, str | None]:
    """Return a small JPEG of a picture as a data URI, and None; or None, and why there is none."""
    try:
        data = thumbnail(read(path, _SIDE), _SIDE)
    except InputError as error:
        return None, str(getattr(error, "reason", error))
    return "data:image/jpeg;base64," + base64.b64encode(data).decode(), None


def short_name(path: str) -> str:
    """Return the last part of a path, safe to show."""
    return display_path(path.rpartition("/")[2] or path)


@cache
def templates() -> Environment:
    """Return the pages' templates: all that is filled in is escaped, and what is not given is an error."""
    return Environment(
        loader=PackageLoader("lookalike"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
