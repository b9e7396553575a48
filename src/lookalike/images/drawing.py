"""What Pillow draws for people: heat over a picture, links between two, and a page of text, tables and pictures.

Colours are those of viridis and inferno (Smith and van der Walt 2015), which grow evenly in lightness and can be told
apart without seeing red or green.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray
from PIL.Image import Resampling

from lookalike.types import Float32, display_path

Pixels: TypeAlias = NDArray[np.uint8]
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, width, height."""
ColorMap: TypeAlias = Literal["viridis", "inferno"]

COLOR_MAPS: dict[ColorMap, tuple[str, ...]] = {
    "viridis": ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21908c", "#27ad81", "#5dc863", "#aadc32", "#fde725"),
    "inferno": ("#000004", "#210c4a", "#56106e", "#89226a", "#bb3754", "#e35932", "#f98c0a", "#f9c932", "#fcffa4"),
}
"""Nine colours of each map at even steps; those between are interpolated."""

_MOST_HEAT = 0.8  # opacity of the strongest heat
_GREYED = 0.5  # how much of its colours a picture loses under heat, so that the heat's own can be read
_LUMA = (0.299, 0.587, 0.114)
_FINER = 3
_BADGE = 22

INK, SOFT, RULE, PAPER = "#1b1d21", "#5c626b", "#d9dce1", "#ffffff"


class Mark(NamedTuple):
    """A numbered box on each of two pictures that lie in one figure, in pixels of that; ``color`` is ``#rrggbb``."""

    label: str
    color: str
    a: Box
    b: Box


def averaged(plane: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Return (H, W, 3) uint8 or (H, W) float32 at another size: each pixel is the mean of the area that it covers."""
    return np.array(PIL.Image.fromarray(plane).resize((width, height), Resampling.BOX))


def size_within(shape: Sequence[int], width: int, height: int) -> tuple[int, int]:
    """Return the largest (width, height) of the proportions of ``shape`` (H, W) in a frame, at least a pixel a side."""
    share = min(width / shape[1], height / shape[0])
    return max(1, round(shape[1] * share)), max(1, round(shape[0] * share))


def fitted(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return the picture as large as it can be in a frame of ``width`` x ``height``, by antialiased bicubic."""
    size = size_within(pixels.shape, width, height)
    return np.array(PIL.Image.fromarray(pixels).resize(size, Resampling.BICUBIC))


def colored(heat: Float32, colors: ColorMap) -> Pixels:
    """Return heat (H, W) in [0, 1] as colours (H, W, 3)."""
    table = np.array([list(bytes.fromhex(color[1:])) for color in COLOR_MAPS[colors]], np.float64)
    steps = np.linspace(0, 1, len(table))
    channels = [np.interp(heat, steps, table[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def overlaid(pixels: Pixels, heat: Float32, colors: ColorMap) -> Pixels:
    """Return the picture with heat (h, w) in [0, 1] stretched over it: the hotter, the less it can be seen through."""
    height, width = pixels.shape[:2]
    stretched = PIL.Image.fromarray(heat.astype(np.float32)).resize((width, height), Resampling.BICUBIC)
    smooth = np.clip(np.array(stretched), 0, 1)
    grey = (pixels @ np.array(_LUMA))[..., None]
    under = pixels + _GREYED * (grey - pixels)
    opacity = _MOST_HEAT * smooth[..., None]
    over: Pixels = np.rint(under + opacity * (colored(smooth, colors) - under)).astype(np.uint8)
    return over


def marked(figure: Pixels, marks: Sequence[Mark]) -> Pixels:
    """Return the figure with the boxes of each mark drawn, numbered, and joined by a line."""
    height, width = figure.shape[:2]
    layer = PIL.Image.new("RGBA", (width * _FINER, height * _FINER))
    draw = PIL.ImageDraw.Draw(layer)
    for mark in reversed(marks):  # the first, which is the strongest, on top
        _draw_line(draw, mark)
        for box in (mark.a, mark.b):
            _draw_box(draw, box, mark.color)
    for mark in reversed(marks):
        for box in (mark.a, mark.b):
            _draw_badge(draw, box, mark)
    page = PIL.Image.fromarray(figure).convert("RGBA")
    page.alpha_composite(layer.resize((width, height), Resampling.BOX))
    return np.array(page.convert("RGB"))


def framed(figure: Pixels, boxes: Sequence[Box], color: str) -> Pixels:
    """Return the figure with these boxes drawn, in pixels of it."""
    height, width = figure.shape[:2]
    layer = PIL.Image.new("RGBA", (width * _FINER, height * _FINER))
    draw = PIL.ImageDraw.Draw(layer)
    for box in boxes:
        _draw_box(draw, box, color)
    page = PIL.Image.fromarray(figure).convert("RGBA")
    page.alpha_composite(layer.resize((width, height), Resampling.BOX))
    return np.array(page.convert("RGB"))


def _draw_line(draw: PIL.ImageDraw.ImageDraw, mark: Mark) -> None:
    start = (mark.a[0] + mark.a[2], mark.a[1] + mark.a[3] / 2)
    end = (mark.b[0], mark.b[1] + mark.b[3] / 2)
    points = [_FINER * value for value in (*start, *end)]
    for color, thick in ((INK, 4.5), (mark.color, 2.5)):
        draw.line(points, color, round(_FINER * thick))


def _draw_box(draw: PIL.ImageDraw.ImageDraw, box: Box, color: str) -> None:
    left, top, width, height = box
    for edge, thick, outside in ((INK, 4.5, 1.0), (color, 2.5, 0.0)):
        corners = (left - outside, top - outside, left + width + outside, top + height + outside)
        draw.rectangle([_FINER * value for value in corners], outline=edge, width=round(_FINER * thick))


def _draw_badge(draw: PIL.ImageDraw.ImageDraw, box: Box, mark: Mark) -> None:
    left, top = _FINER * box[0], _FINER * box[1]
    side = _FINER * _BADGE
    draw.rectangle((left, top, left + side, top + side), mark.color, INK, _FINER)
    middle = (left + side / 2, top + side / 2)
    draw.text(middle, mark.label, "#000000", _font(_FINER * 16), anchor="mm", stroke_width=_FINER * 0.3)


def as_jpeg(pixels: Pixels) -> bytes:
    """Return the picture as the bytes of a JPEG."""
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).save(out, "JPEG", quality=88, optimize=True)
    return out.getvalue()


class Page:
    """A picture that is written from the top, and grows as it is written.

    Text is wrapped; what the font that comes with Pillow cannot draw becomes an escape.
    """

    def __init__(self, width: int, margin: int) -> None:
        self.width, self.margin = width, margin
        self.y = margin
        self._image = PIL.Image.new("RGB", (width, 2 * margin), PAPER)
        self._draw = PIL.ImageDraw.Draw(self._image)

    @property
    def inner(self) -> int:
        """Width between the margins, in pixels."""
        return self.width - 2 * self.margin

    def space(self, height: int) -> None:
        """Leave ``height`` pixels empty."""
        self._reach(height)
        self.y += height

    def text(self, text: str, size: int, color: str = INK, *, bold: bool = False) -> None:
        """Write a paragraph."""
        lines = wrapped(text, size, self.inner)
        self._write(lines, self.margin, size, color, bold=bold)
        self.y += _line(size) * len(lines)

    def banner(self, title: str, text: str, color: str) -> None:
        """Write a title and a sentence, in white on ``color``."""
        pad, large, small = 20, 34, 20
        lines = wrapped(text, small, self.inner - 2 * pad)
        height = 2 * pad + _line(large) + _line(small) * len(lines)
        self._reach(height)
        place = (self.margin, self.y, self.margin + self.inner - 1, self.y + height)
        self._draw.rounded_rectangle(place, 10, color)
        self.y += pad
        self._write([title], self.margin + pad, large, PAPER, bold=True)
        self.y += _line(large)
        self._write(lines, self.margin + pad, small, PAPER)
        self.y += _line(small) * len(lines) + pad

    def table(self, rows: Sequence[Sequence[str]], widths: Sequence[int], aligned: str, size: int = 18) -> None:
        """Write a head and its rows in columns of ``widths`` pixels, each to the left ``<`` or to the right ``>``.

        A cell that begins with ✓ or ✗ has it drawn.
        """
        for number, row in enumerate(rows):
            cells = [wrapped(cell.lstrip("✓✗ "), size, width) for cell, width in zip(row, widths, strict=True)]
            height = _line(size) * max(map(len, cells)) + 10
            self._reach(height)
            self._draw.line((self.margin, self.y, self.margin + self.inner - 1, self.y), RULE, 1)
            self.y += 5
            left = self.margin
            for cell, lines, width, side in zip(row, cells, widths, aligned, strict=True):
                self._sign(cell[:1], left, size)
                text_left = left + (28 if cell[:1] in {"✓", "✗"} else 0)
                color = SOFT if number == 0 else INK
                self._write(lines, text_left, size, color, width=width if side == ">" else 0)
                left += width + 24
            self.y += height - 5

    def picture(self, pixels: Pixels, left: int = 0) -> None:
        """Put a picture ``left`` pixels right of the margin, at the present height, which stays what it is."""
        self._reach(len(pixels))
        self._image.paste(PIL.Image.fromarray(pixels), (self.margin + left, self.y))

    def scale(self, colors: ColorMap, low: str, high: str) -> None:
        """Draw a strip of the colour map, with what its two ends mean."""
        size, length, left = 16, 240, self.margin
        self._write([low], left, size, SOFT)
        left += round(_font(size).getlength(low)) + 12
        strip = colored(np.tile(np.linspace(0, 1, length, dtype=np.float32), (14, 1)), colors)
        self._image.paste(PIL.Image.fromarray(strip), (left, self.y + 3))
        self._write([high], left + length + 12, size, SOFT)
        self.y += _line(size) + 6

    def png(self) -> bytes:
        """Return what was written as the bytes of a PNG."""
        out = io.BytesIO()
        self._image.crop((0, 0, self.width, self.y + self.margin)).save(out, "PNG")
        return out.getvalue()

    def _write(
        self, lines: Sequence[str], left: int, size: int, color: str, *, bold: bool = False, width: int = 0
    ) -> None:
        """Write lines from ``left``, or where ``width`` is given, so that they end that much further right."""
        self._reach(_line(size) * len(lines))
        anchor = "ra" if width else "la"
        for number, line in enumerate(lines):
            place = (left + width, self.y + _line(size) * number)
            self._draw.text(place, line, color, _font(size), anchor=anchor, stroke_width=0.5 if bold else 0)

    def _sign(self, sign: str, left: int, size: int) -> None:
        shapes = {"✓": [[(2, 9), (7, 14), (17, 3)]], "✗": [[(3, 3), (15, 15)], [(3, 15), (15, 3)]]}
        for strokes in shapes.get(sign, []):
            points = [(left + x * size / 18, self.y + 2 + y * size / 18) for x, y in strokes]
            self._draw.line(points, INK, 3, joint="curve")

    def _reach(self, height: int) -> None:
        """Make sure that ``height`` pixels and a margin are left."""
        needed = self.y + height + self.margin
        if needed > self._image.height:
            taller = PIL.Image.new("RGB", (self.width, 2 * needed), PAPER)
            taller.paste(self._image)
            self._image, self._draw = taller, PIL.ImageDraw.Draw(taller)


def wrapped(text: str, size: int, width: int) -> list[str]:
    """Return text in lines of at most ``width`` pixels, broken at spaces, or inside a word that is too long."""
    lines = [""]
    for word in _drawable(text).split(" "):
        for part in _pieces(word, size, width):
            longer = f"{lines[-1]} {part}" if lines[-1] else part
            if _font(size).getlength(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(part)
    return lines


def _pieces(word: str, size: int, width: int) -> Iterator[str]:
    piece, used = "", 0.0
    for character in word:
        more = _advance(character, size)
        if piece and used + more > width:
            yield piece
            piece, used = "", 0.0
        piece, used = piece + character, used + more
    yield piece


def _drawable(text: str) -> str:
    return "".join(
        c if _is_drawn(c) else c.encode("unicode_escape", "surrogatepass").decode() for c in display_path(text)
    )


@cache
def _is_drawn(character: str) -> bool:
    """Tell whether the font has the character: else it draws what it draws for one that no font has."""
    if character.isascii():
        return True
    font = _font(18)
    return bytes(font.getmask(character)) != bytes(font.getmask("\uffff"))


@cache
def _advance(character: str, size: int) -> float:
    return float(_font(size).getlength(character))


@cache
def _font(size: int) -> PIL.ImageFont.FreeTypeFont:
    font = PIL.ImageFont.load_default(size)
    assert isinstance(font, PIL.ImageFont.FreeTypeFont)
    return font


def _line(size: int) -> int:
    return round(1.35 * size)
