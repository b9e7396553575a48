"""A folder of edited copies, made from photos by a seed: what the benchmark of duplicates looks for.

Every original is saved as it is read, and once for each edit. The edits are written here with Pillow, apart from those
of ``lookalike.edits``, so that nothing is measured on what it was tuned with. A collage shows the original and three
fillers, which are photos of their own and never originals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageEnhance
import PIL.ImageFilter
import PIL.ImageFont

Picture = PIL.Image.Image
Rng = np.random.Generator

HARD = ("collage", "crop 30 %", "two combined")
"""The edits of which less is promised."""

_JPEG = {"format": "JPEG", "quality": 90}


@dataclass(frozen=True, slots=True)
class Copy:
    """A file of the set: which original it shows, and the edit ("" of the original itself)."""

    path: Path
    original: int
    edit: str


def build(folder: Path, originals: Sequence[Path], fillers: Sequence[Path], seed: int) -> list[Copy]:
    """Write all originals and copies into ``folder``; the same for the same photos and seed."""
    made = []
    for number, path in enumerate(originals):
        picture = _opened(path)
        made.append(_saved(picture, folder / f"{number:04d}.jpg", number, "", _JPEG))
        for kind, (name, edit) in enumerate(EDITS.items()):
            rng = np.random.default_rng([seed, number, kind])
            changed, how = edit(picture, rng, [_opened(fillers[k]) for k in rng.choice(len(fillers), 3, replace=False)])
            target = (
                folder / f"{number:04d} {name.replace('%', 'percent').replace('/', ' of ')}.{how['format'].lower()}"
            )
            made.append(_saved(changed, target, number, name, how))
    return made


def _opened(path: Path) -> Picture:
    with PIL.Image.open(path) as picture:
        return picture.convert("RGB")


def _saved(picture: Picture, path: Path, original: int, edit: str, how: dict[str, object]) -> Copy:
    picture.save(path, **how)
    return Copy(path, original, edit)


Made = tuple[Picture, dict[str, object]]
Edit = Callable[[Picture, Rng, Sequence[Picture]], Made]
Change = Callable[[Picture, Rng], Picture]


def _kept_as_jpeg(change: Change) -> Edit:
    return lambda picture, rng, _: (change(picture, rng), _JPEG)


def _encoded(kind: str, quality: int) -> Edit:
    return lambda picture, _, __: (picture, {"format": kind, "quality": quality})


def _resized(share: float) -> Change:
    def change(picture: Picture, _: Rng) -> Picture:
        size = (max(1, round(share * picture.width)), max(1, round(share * picture.height)))
        return picture.resize(size, PIL.Image.Resampling.LANCZOS)

    return change


def _cropped(area: float) -> Change:
    def change(picture: Picture, rng: Rng) -> Picture:
        w, h = (max(1, round(math.sqrt(area) * side)) for side in picture.size)
        left, top = int(rng.integers(picture.width - w + 1)), int(rng.integers(picture.height - h + 1))
        return picture.crop((left, top, left + w, top + h))

    return change


def _rotated(degrees: float) -> Change:
    """Turn either way; the corners are black on a larger picture, or cut off at the old size."""

    def change(picture: Picture, rng: Rng) -> Picture:
        angle = degrees * float(rng.choice((-1, 1)))
        return picture.rotate(angle, PIL.Image.Resampling.BICUBIC, expand=bool(rng.integers(2)))

    return change


def _enhanced(kind: Callable[[Picture], PIL.ImageEnhance._Enhance], factor: float) -> Change:
    return lambda picture, _: kind(picture).enhance(factor)


def _noisy(picture: Picture, rng: Rng) -> Picture:
    pixels = np.asarray(picture, np.float32) + rng.normal(0, 15, (picture.height, picture.width, 3))
    return PIL.Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _text(picture: Picture, rng: Rng) -> Picture:
    changed = picture.copy()
    draw = PIL.ImageDraw.Draw(changed)
    for _ in range(2):
        size = int(picture.height * rng.uniform(0.1, 0.16))
        place = (int(picture.width * rng.uniform(0.02, 0.3)), int(rng.uniform(0, picture.height - size)))
        words = str(rng.choice(["when it is Monday", "SALE -50 %", "do not repost", "summer 2024!", "@somebody"]))
        fill = (255, 255, 255) if rng.integers(2) else (255, 230, 0)
        font = PIL.ImageFont.load_default(size)
        draw.text(place, words, fill=fill, font=font, stroke_width=max(1, size // 12), stroke_fill=(0, 0, 0))
    return changed


def _emoji(picture: Picture, rng: Rng) -> Picture:
    """Lay a smiling face on the picture, 25 to 40 % of its shorter side wide."""
    changed = picture.copy()
    draw = PIL.ImageDraw.Draw(changed)
    side = int(min(picture.size) * rng.uniform(0.25, 0.4))
    x, y = (int(rng.integers(length - side + 1)) for length in picture.size)

    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return x + left * side, y + top * side, x + right * side, y + bottom * side

    draw.ellipse(box(0, 0, 1, 1), fill=(255, 204, 51), outline=(190, 130, 0), width=max(1, side // 30))
    draw.ellipse(box(0.25, 0.28, 0.38, 0.48), fill=(80, 50, 0))
    draw.ellipse(box(0.62, 0.28, 0.75, 0.48), fill=(80, 50, 0))
    draw.arc(box(0.2, 0.3, 0.8, 0.82), 20, 160, fill=(80, 50, 0), width=max(1, side // 14))
    return changed


def _bordered(picture: Picture, rng: Rng) -> Picture:
    width = max(1, round(min(picture.size) * rng.uniform(0.06, 0.12)))
    color = tuple(int(v) for v in rng.choice([(0, 0, 0), (255, 255, 255), (180, 30, 40)]))
    framed = PIL.Image.new("RGB", (picture.width + 2 * width, picture.height + 2 * width), color)
    framed.paste(picture, (width, width))
    return framed


def _screenshot(picture: Picture, rng: Rng) -> Picture:
    """Show the picture across a phone's screen, below a status bar and a title, above two lines of text."""
    width, height = picture.width, round(picture.width * rng.uniform(1.6, 2.1))
    height = max(height, round(1.25 * picture.height))
    dark = bool(rng.integers(2))
    paper, ink = ((18, 18, 20), (235, 235, 235)) if dark else ((250, 250, 250), (30, 30, 30))
    screen = PIL.Image.new("RGB", (width, height), paper)
    draw = PIL.ImageDraw.Draw(screen)
    size = max(8, width // 22)
    font = PIL.ImageFont.load_default(size)
    draw.text((size, size // 2), f"{int(rng.integers(24)):02d}:{int(rng.integers(60)):02d}", fill=ink, font=font)
    draw.rectangle((width - 3 * size, size // 2, width - size, size * 1.3), fill=ink)
    top = min(height - picture.height, 4 * size)
    screen.paste(picture, (0, top))
    for line, words in enumerate(("123 likes", "have you seen this?")):
        draw.text((size, top + picture.height + size * (1 + 1.6 * line)), words, fill=ink, font=font)
    return screen


def _collage(picture: Picture, rng: Rng, fillers: Sequence[Picture]) -> Made:
    """Lay the picture and three others into the quarters of a sheet, each filling its quarter, by cropping."""
    w, h = picture.width // 2 * 2, picture.height // 2 * 2
    sheet = PIL.Image.new("RGB", (w, h))
    places = rng.permutation(4)
    for place, part in zip(places, (picture, *fillers), strict=True):
        sheet.paste(_filling(part, w // 2, h // 2), (int(place) % 2 * (w // 2), int(place) // 2 * (h // 2)))
    return sheet, _JPEG


def _filling(picture: Picture, width: int, height: int) -> Picture:
    scale = max(width / picture.width, height / picture.height)
    w, h = max(width, round(scale * picture.width)), max(height, round(scale * picture.height))
    left, top = (w - width) // 2, (h - height) // 2
    return picture.resize((w, h), PIL.Image.Resampling.LANCZOS).crop((left, top, left + width, top + height))


def _two(picture: Picture, rng: Rng, fillers: Sequence[Picture]) -> Made:
    """Make two different edits, one after the other; a collage or a crop to 30 % is not among them."""
    names = [name for name in EDITS if name not in HARD]
    first, second = rng.choice(len(names), 2, replace=False)
    once, _ = EDITS[names[first]](picture, rng, fillers)
    return EDITS[names[second]](once, rng, fillers)


EDITS: dict[str, Edit] = {
    "resize 1/2": _kept_as_jpeg(_resized(0.5)),
    "resize 1/4": _kept_as_jpeg(_resized(0.25)),
    "JPEG 30": _encoded("JPEG", 30),
    "JPEG 10": _encoded("JPEG", 10),
    "WebP": _encoded("WEBP", 60),
    "crop 90 %": _kept_as_jpeg(_cropped(0.9)),
    "crop 70 %": _kept_as_jpeg(_cropped(0.7)),
    "crop 50 %": _kept_as_jpeg(_cropped(0.5)),
    "crop 30 %": _kept_as_jpeg(_cropped(0.3)),
    "flip": _kept_as_jpeg(lambda picture, _: picture.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)),
    "rotate 90": _kept_as_jpeg(lambda picture, _: picture.transpose(PIL.Image.Transpose.ROTATE_90)),
    "rotate 5": _kept_as_jpeg(_rotated(5)),
    "rotate 15": _kept_as_jpeg(_rotated(15)),
    "brightness +40 %": _kept_as_jpeg(_enhanced(PIL.ImageEnhance.Brightness, 1.4)),
    "brightness -40 %": _kept_as_jpeg(_enhanced(PIL.ImageEnhance.Brightness, 0.6)),
    "contrast +40 %": _kept_as_jpeg(_enhanced(PIL.ImageEnhance.Contrast, 1.4)),
    "contrast -40 %": _kept_as_jpeg(_enhanced(PIL.ImageEnhance.Contrast, 0.6)),
    "grey": _kept_as_jpeg(lambda picture, _: picture.convert("L").convert("RGB")),
    "blur": _kept_as_jpeg(lambda picture, _: picture.filter(PIL.ImageFilter.GaussianBlur(2))),
    "noise": _kept_as_jpeg(_noisy),
    "text": _kept_as_jpeg(_text),
    "emoji": _kept_as_jpeg(_emoji),
    "border": _kept_as_jpeg(_bordered),
    "screenshot": _kept_as_jpeg(_screenshot),
    "collage": _collage,
    "two combined": _two,
}
"""Every edit of the benchmark: (picture, rng, three fillers) -> the changed picture and how it is saved."""
