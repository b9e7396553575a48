"""What the doctor found, for people: one page (.html) with the pictures of each finding and a map of the gallery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookalike import __version__
from lookalike.pipeline import in_parallel
from lookalike.report import Tile, picture_uri, short_name, templates
from lookalike.tables import check_output, replacing
from lookalike.types import Float32, display_path

_TILES = 24
_POINTS = 400
_LEGEND = 30
_WIDTH, _HEIGHT, _MARGIN = 1000, 640, 30
_OTHERS = "#999999"
# Okabe and Ito's colours, which people tell apart whatever colours they see.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b", "#6a3d9a")

Picture = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Section:
    """A finding as the page shows it: ``items`` are (path or None, name, label or None)."""

    kind: str
    severity: str
    told: str
    do: str
    items: tuple[tuple[str | None, str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Map:
    """N pictures: unit vectors (N, D), and of each (path or None, name, label or None)."""

    vectors: Float32
    items: tuple[tuple[str | None, str, str | None], ...]


def write_diagnosis(output: Path, title: str, summary: str, sections: Sequence[Section], of: Map) -> None:
    """Write the page; raise ConfigError or InputError where it must not be written. All text is escaped."""
    check_output(output, ".html", ".htm")
    rows = np.sort(np.random.default_rng(0).permutation(len(of.items))[:_POINTS])
    shown = [item for section in sections for item in section.items[:_TILES]] + [of.items[row] for row in rows]
    paths = dict.fromkeys(path for path, _, _ in shown if path)
    drawn: dict[str, Picture] = dict(zip(paths, in_parallel(picture_uri, paths), strict=True))
    places, kept = _places(of.vectors)
    colors = _colors(of)
    page = templates().get_template("doctor.html").render(
        title=title,
        summary=summary,
        findings=[_section(section, drawn) for section in sections],
        points=[_point(of.items[row], places[row], colors, drawn) for row in rows],
        legend=[{"name": display_path(name)[:_LEGEND], "color": color} for name, color in colors.items()],
        kept=f"{kept:.0%}",
        version=__version__,
    )  # fmt: skip
    with replacing(output) as file:
        file.write(page.encode("utf-8", "replace"))


def _section(section: Section, drawn: Mapping[str, Picture]) -> dict[str, object]:
    tiles = [
        Tile(
            short_name(name),
            display_path(label or ""),
            display_path(path or name),
            *drawn.get(path or "", (None, "no file")),
        )
        for path, name, label in section.items[:_TILES]
    ]
    return {
        "kind": section.kind,
        "severity": section.severity,
        "told": display_path(section.told),
        "do": section.do,
        "tiles": tiles,
        "more": max(0, len(section.items) - _TILES),
    }


def _places(vectors: Float32) -> tuple[np.ndarray, float]:
    """Return (N, 2) places on the map, and the share of the variance that two directions keep (PCA)."""
    centred = vectors - vectors.mean(axis=0)
    left, values, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    spread = np.zeros((len(vectors), 2))
    spread[:, : min(2, len(values))] = (left * values)[:, :2]
    low, high = spread.min(axis=0), spread.max(axis=0)
    share = (spread - low) / np.where(high > low, high - low, 1)
    kept = float((values[:2] ** 2).sum() / max(1e-12, (values**2).sum()))
    return _MARGIN + share * (np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN), kept


def _colors(of: Map) -> dict[str, str]:
    """Return a colour for each of the largest labels."""
    counts = Counter(label for _, _, label in of.items if label is not None)
    return dict(zip([label for label, _ in counts.most_common(len(_COLORS))], _COLORS, strict=False))


def _point(
    item: tuple[str | None, str, str | None], place: np.ndarray, colors: Mapping[str, str], drawn: Mapping[str, Picture]
) -> dict[str, object]:
    path, name, label = item
    return {
        "x": round(float(place[0]), 1),
        "y": round(float(place[1]), 1),
        "color": colors.get(label or "", _OTHERS),
        "title": f"{short_name(name)}{f' ({display_path(label)})' if label else ''}",
        "picture": drawn.get(path or "", (None, None))[0],
    }
