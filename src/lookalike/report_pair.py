"""Why two pictures are alike, or not, for people: one picture (.png), or one page (.html) that needs no network."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lookalike.errors import ConfigError, InputError
from lookalike.images.drawing import (
    COLOR_MAPS,
    SOFT,
    Box,
    Mark,
    Page,
    as_jpeg,
    averaged,
    colored,
    fitted,
    marked,
    overlaid,
    size_within,
)
from lookalike.metrics.ssim_windows import RADIUS, WINDOW
from lookalike.policies.calibrated import percent
from lookalike.registration import StructuralComparison, align
from lookalike.tables import check_output, replacing
from lookalike.types import (
    Decision,
    Evidence,
    Explanation,
    Float32,
    Image,
    Link,
    Quality,
    Registration,
    Verdict,
    display_path,
)

Pixels: TypeAlias = NDArray[np.uint8]

ENDINGS = (".png", ".html", ".htm")
"""What the name of the file may end in."""

_COMMON_SIDE = 512
_WIDTH, _MARGIN, _GAP = 1200, 48, 80
_FRAME = (512, 410)  # pixels that a picture has to itself, across and down
_MOST_LINKS = 6
_LEAST_BOX = 6.0
_LONGEST_NAME = 400
_OUTSIDE = 128
_LEAST_TOP = 16.0

_WORDS = {
    Verdict.MATCH: ("Match", "#00664b"),
    Verdict.NO_MATCH: ("No match", "#9c3a00"),
    Verdict.UNSURE: ("Unsure", "#5b4b8a"),
    Verdict.UNKNOWN: ("Unknown", "#4a5058"),
}
_LINK_COLORS = ("#e69f00", "#56b4e9", "#ffffff", "#f0e442", "#ff8c5a", "#e6a3cc")  # after Okabe and Ito 2008
_HEAT_ENDS, _DIFFERENCE_ENDS = ("carries nothing", "carries most"), ("no difference", "large difference")
_PASSED = {True: "✓ passes", False: "✗ does not pass", None: "no threshold"}


@dataclass(frozen=True, slots=True, eq=False)
class Common:
    """Two pictures laid in one frame, at most 512 pixels a side.

    ``a`` and ``b`` are (H, W, 3) uint8; ``mask`` (H, W) tells where both have pixels; ``map`` is (H, W) float32, the
    SSIM in [-1, 1] around each pixel.
    """

    a: Pixels
    b: Pixels
    mask: NDArray[np.bool_]
    map: Float32

    def __post_init__(self) -> None:
        shapes = {self.a.shape[:2], self.b.shape[:2], self.mask.shape, self.map.shape}
        if len(shapes) != 1:
            raise InputError(f"pictures in one frame have one height and width, got {sorted(shapes)}")


@dataclass(frozen=True, slots=True, eq=False)
class PairView:
    """All that is shown of a pair.

    ``structure`` says in one sentence how SSIM was measured, or why not; ``unexplained`` why there is no explanation;
    ``calibration`` by which calibration the verdict was made. ``notes`` are further sentences.
    """

    names: tuple[str, str]
    images: tuple[Image, Image]
    decision: Decision
    quality: tuple[Quality, Quality]
    registration: Registration
    structure: str
    calibration: str
    common: Common | None = None
    ssim: float | None = None
    ms_ssim: float | None = None
    explanation: Explanation | None = None
    unexplained: str = "none was asked for"
    notes: tuple[str, ...] = ()


def in_common(a: Image, b: Image, structure: StructuralComparison) -> Common | None:
    """Return the two as they were compared by SSIM, with its map, made small; None where they were not."""
    if structure.structural is None:
        return None
    side = min(_COMMON_SIDE, max(a.pixels.shape))
    width, height = size_within(a.pixels.shape, side, side)
    small = averaged(_of_whole_windows(structure.structural.map, structure.mask), width, height)
    pixels = averaged(a.pixels, width, height)
    if not structure.aligned:
        return Common(pixels, averaged(b.pixels, width, height), np.ones((height, width), np.bool_), small)
    smaller = _reframed(structure.registration, a.pixels.shape[1] / width, a.pixels.shape[0] / height)
    return Common(pixels, *align(b, smaller, (height, width)), small)


def write_explanation(output: Path, view: PairView) -> None:
    """Draw why two pictures are alike, or not: what each metric says, where it comes from, and how they are laid.

    Nothing from a picture or a file name is trusted: all text is escaped, and pictures are drawn anew. Raises
    ConfigError for a name that does not end in one of ``ENDINGS``, and for that of one of the two pictures.
    """
    check_output(output, *ENDINGS)
    if any(os.path.exists(name) and output.exists() and os.path.samefile(name, output) for name in view.names):
        raise ConfigError(f"cannot write {output}: it is one of the two pictures; choose another name")
    data = _png(view) if output.suffix.lower() == ".png" else _html(view)
    with replacing(output) as file:
        file.write(data)


# What is shown, in words


def _evidence(decision: Decision) -> list[tuple[str, ...]]:
    head = ("metric", "score", "threshold", "false positive rate", "result")
    return [head, *((*evidence_row(one), _PASSED[one.passed]) for one in decision.evidence)]


def evidence_row(one: Evidence) -> tuple[str, ...]:
    """Return metric, score, threshold and rate in words."""
    return one.metric, as_number(one.score), as_number(one.threshold), as_rate(one.false_positive_rate)


def _qualities(view: PairView) -> list[tuple[str, ...]]:
    head = ("picture", "size", "brightness", "contrast", "noise, levels", "blur, pixels", "judgement")
    return [
        head,
        *(
            (
                letter,
                "{} x {}".format(*image.size),
                f"{quality.brightness:.2f}",
                f"{quality.contrast:.2f}",
                f"{quality.noise:.1f}",
                f"{quality.blur:.1f}",
                f"cannot be judged: {quality.problem}" if quality.problem else "can be judged",
            )
            for letter, image, quality in zip("ab", view.images, view.quality, strict=True)
        ),
    ]


def _heat_caption(explanation: Explanation) -> str:
    links = explanation.links[:_MOST_LINKS]
    told = "The brighter a region, the more of the likeness it carries."
    if not links:
        return f"{told} No links between regions: the encoder tells none."
    strengths = ", ".join(f"{link.strength:.2f}" for link in links)
    return f"{told} Boxes of one number answer each other, the strongest first: {strengths}."


def _difference_caption(top: float) -> str:
    return (
        "Left, over a: where the structure differs (1 - SSIM), in windows that both fill. Right: the absolute "
        f"difference of the two, where the brightest is {top:.0f} of 255 levels and more; plain grey is where only "
        "one has pixels."
    )


def _structure_line(view: PairView) -> str:
    scores = [
        f"{name} {value:.4f}" for name, value in (("SSIM", view.ssim), ("MS-SSIM", view.ms_ssim)) if value is not None
    ]
    pictures = "" if view.common else "There is no map and no picture of the difference. "
    return f"{pictures}{', '.join(scores) or 'No SSIM'}: {view.structure}."


def _alignment_line(found: Registration) -> str:
    if found.shift is None:
        return f"Where b lies on a is not known: {found.reason}."
    x, y = found.shift
    return (
        f"b lies on a by a shift of {x:.1f}, {y:.1f} pixels, a rotation of {found.rotation:.1f} degrees and a scale of "
        f"{found.scale:.3f}; agreement {found.agreement:.2f}, overlap {found.overlap:.0%} of a."
    )


def as_number(value: float | None) -> str:
    """Return a score in words, a dash where there is none."""
    return "-" if value is None else f"{value:.4f}"


def as_rate(rate: float | None) -> str:
    """Return a rate in words, a dash where none is known."""
    return "-" if rate is None else percent(rate)


def _shown(text: str, longest: int = 1000) -> str:
    """Return text that is safe to show; the middle of a very long one is left out."""
    shown, half = display_path(text), longest // 2
    return shown if len(shown) <= longest else f"{shown[:half]} ... {shown[-half:]}"


def _names(view: PairView) -> list[str]:
    return [_shown(name, _LONGEST_NAME) for name in view.names]


def _cells(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[_shown(cell, _LONGEST_NAME) for cell in row] for row in rows]


# What is shown, in pictures


class _Figure(NamedTuple):
    """Two pictures side by side: where each lies in ``width`` x ``height`` pixels, and what is marked on them."""

    pictures: tuple[Pixels, Pixels]
    places: tuple[Box, Box]
    width: int
    height: int
    marks: tuple[Mark, ...] = ()


def _figure(a: Pixels, b: Pixels, links: Sequence[Link] = ()) -> _Figure:
    """Put pictures that fit their frames side by side, each in the middle of its own."""
    width, height = 2 * _FRAME[0] + _GAP, max(len(a), len(b))
    places = tuple(
        (float(left + (_FRAME[0] - pixels.shape[1]) // 2), float((height - len(pixels)) // 2), *pixels.shape[1::-1])
        for left, pixels in ((0, a), (_FRAME[0] + _GAP, b))
    )
    marks = tuple(
        Mark(str(number), color, _box(link.a, places[0]), _box(link.b, places[1]))
        for number, (link, color) in enumerate(zip(links, _LINK_COLORS, strict=False), 1)
    )
    return _Figure((a, b), (places[0], places[1]), width, height, marks)


def _box(box: Box, place: Box) -> Box:
    """Return a box in [0, 1] of a picture in pixels of the figure, large enough to be seen."""
    left, width = _least(place[0] + box[0] * place[2], box[2] * place[2])
    top, height = _least(place[1] + box[1] * place[3], box[3] * place[3])
    return left, top, width, height


def _least(start: float, length: float) -> tuple[float, float]:
    more = max(0.0, _LEAST_BOX - length)
    return start - more / 2, length + more


def _plain(view: PairView) -> _Figure:
    a, b = (fitted(image.pixels, *_FRAME) for image in view.images)
    return _figure(a, b)


def _explained(view: PairView, explanation: Explanation) -> _Figure:
    heats = (explanation.heat_a, explanation.heat_b)
    pictures = [
        overlaid(fitted(image.pixels, *_FRAME), heat, "viridis") for image, heat in zip(view.images, heats, strict=True)
    ]
    return _figure(pictures[0], pictures[1], explanation.links[:_MOST_LINKS])


def _differences(common: Common) -> tuple[_Figure, float]:
    """Return what differs in structure and in level, and which difference in levels is shown brightest."""
    unlike = np.where(common.mask, np.clip(1 - common.map, 0, 1), 0).astype(np.float32)
    structure = overlaid(common.a, unlike, "inferno")
    levels = np.abs(common.a.astype(np.float32) - common.b).mean(axis=-1)
    seen = levels[common.mask]
    top = max(_LEAST_TOP, float(np.percentile(seen, 99)) if seen.size else 0.0)
    shown = colored(np.clip(levels / top, 0, 1), "inferno")
    for picture in (structure, shown):
        picture[~common.mask] = _OUTSIDE
    return _figure(fitted(structure, *_FRAME), fitted(shown, *_FRAME)), top


def _of_whole_windows(found: Float32, mask: NDArray[np.bool_] | None) -> Float32:
    """Return the map with 1 where a window reaches out of the mask: there it tells of the edge, and does not count."""
    if mask is None:
        return found
    whole: NDArray[np.bool_] = mask
    for axis in (0, 1):
        wider = np.pad(whole, [(RADIUS, RADIUS) if axis == padded else (0, 0) for padded in (0, 1)], mode="edge")
        whole = np.asarray(sliding_window_view(wider, WINDOW, axis=axis).all(axis=-1))
    return np.where(whole, found, np.float32(1))


def _reframed(registration: Registration, across: float, down: float) -> Registration:
    """Return the registration for an a that is so many times narrower and lower."""
    assert registration.matrix is not None
    # In coordinates of edges, where the first pixel begins at 0, the change is a mere scale.
    larger = np.array([(across, 0, across / 2 - 0.5), (0, down, down / 2 - 0.5), (0, 0, 1)])
    first, second = (np.array(registration.matrix) @ larger).tolist()
    return replace(registration, matrix=(tuple(first), tuple(second)))


# .png


def _png(view: PairView) -> bytes:
    page = Page(_WIDTH, _MARGIN)
    for letter, name in zip("ab", _names(view), strict=True):
        page.text(f"{letter}: {name}", 20)
    page.space(14)
    words, color = _WORDS[view.decision.verdict]
    page.banner(words, _shown(view.decision.reason), color)
    page.space(24)
    _draw(page, _plain(view))
    page.text("a on the left, b on the right", 16, SOFT)
    _heading(page, "Where they are alike")
    if view.explanation is None:
        page.text(f"No heat and no links: {_shown(view.unexplained)}.", 18)
    else:
        _draw(page, _explained(view, view.explanation))
        page.scale("viridis", *_HEAT_ENDS)
        page.text(_heat_caption(view.explanation), 18, SOFT)
    _heading(page, "Where they differ")
    if view.common is not None:
        figure, top = _differences(view.common)
        _draw(page, figure)
        page.scale("inferno", *_DIFFERENCE_ENDS)
        page.text(_difference_caption(top), 18, SOFT)
        page.space(8)
    page.text(_shown(_structure_line(view)), 18)
    page.text(_shown(_alignment_line(view.registration)), 18)
    _heading(page, "What each metric says")
    page.table(_cells(_evidence(view.decision)), (300, 140, 140, 210, 218), "<>>><")
    _heading(page, "The pictures")
    page.table(_cells(_qualities(view)), (80, 150, 110, 100, 130, 130, 260), "<>>>>><")
    page.space(16)
    for line in (f"Calibration: {view.calibration}", *view.notes):
        page.text(_shown(line), 18)
    page.space(12)
    page.text("Made by lookalike.", 16, SOFT)
    return page.png()


def _heading(page: Page, text: str) -> None:
    page.space(28)
    page.text(text, 24, bold=True)
    page.space(8)


def _draw(page: Page, figure: _Figure) -> None:
    paper = np.full((figure.height, figure.width, 3), 255, np.uint8)
    for pixels, (left, top, width, height) in zip(figure.pictures, figure.places, strict=True):
        paper[int(top) : int(top + height), int(left) : int(left + width)] = pixels
    page.picture(marked(paper, figure.marks) if figure.marks else paper)
    page.space(figure.height + 12)


# .html


def _html(view: PairView) -> bytes:
    environment = Environment(
        loader=PackageLoader("lookalike"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words, color = _WORDS[view.decision.verdict]
    differences, top = (None, 0.0) if view.common is None else _differences(view.common)
    page = environment.get_template("comparison.html").render(
        names=_names(view),
        verdict=words,
        color=color,
        reason=_shown(view.decision.reason),
        plain=_svg(_plain(view)),
        explained=_svg(_explained(view, view.explanation)) if view.explanation else None,
        heat_caption=_heat_caption(view.explanation) if view.explanation else "",
        unexplained=_shown(view.unexplained),
        differences=_svg(differences) if differences else None,
        difference_caption=_difference_caption(top),
        structure=_shown(_structure_line(view)),
        alignment=_shown(_alignment_line(view.registration)),
        evidence=_cells(_evidence(view.decision)),
        qualities=_cells(_qualities(view)),
        calibration=_shown(view.calibration),
        notes=[_shown(note) for note in view.notes],
        scales=[("viridis", *_HEAT_ENDS), ("inferno", *_DIFFERENCE_ENDS)],
        color_maps=COLOR_MAPS,
    )
    return page.encode("utf-8", "replace")


def _svg(figure: _Figure) -> dict[str, object]:
    """Return what the template draws: the size, pictures as data URIs with their places, the marks."""
    sources = ["data:image/jpeg;base64," + base64.b64encode(as_jpeg(pixels)).decode() for pixels in figure.pictures]
    return {
        "width": figure.width,
        "height": figure.height,
        "pictures": list(zip(sources, figure.places, strict=True)),
        "marks": figure.marks[::-1],  # the strongest is drawn last, on top
    }
