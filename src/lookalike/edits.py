"""Changes of a picture: degradations, as a camera makes them, and the edits that leave a copy of the same picture.

Pixels are (H, W, 3) uint8 in sRGB, of any size; what a change leaves is a new array of the same kind, of the same size
or another. Sigmas are in pixels and levels of the picture as it is: reduce a picture first to change what an encoder
sees. All chance comes from the ``rng`` that is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import ConfigError
from lookalike.images.reencode import resized, through_jpeg, turned
from lookalike.types import Float32

Pixels: TypeAlias = NDArray[np.uint8]
Rng: TypeAlias = np.random.Generator


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a picture: its kind, and the numbers that it takes. ``str(edit)`` is such as ``crop area=0.75``."""

    name: str
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in _KINDS:
            raise ConfigError(f"no edit named {self.name!r}; known: {', '.join(_KINDS)}")
        allowed = _KINDS[self.name].allowed
        if set(self.parameters) != set(allowed):
            raise ConfigError(f"{self.name} takes {_listed(allowed)}, got {_listed(self.parameters)}")
        for parameter, value in self.parameters.items():
            low, high = allowed[parameter]
            if not low <= value <= high:
                raise ConfigError(f"{parameter} of {self.name} is from {low:g} to {high:g}, got {value:g}")

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{parameter}={value:.3g}" for parameter, value in self.parameters.items())])

    def apply(self, pixels: Pixels, rng: Rng) -> Pixels:
        """Return a changed copy of ``pixels``."""
        return _KINDS[self.name].change(pixels, rng, **self.parameters)


def degradations() -> tuple[Edit, ...]:
    """Return what light and camera do to a picture, each at a few strengths, from mild to severe."""
    return (
        *(Edit("gamma", {"exponent": exponent}) for exponent in (0.4, 0.6, 1.6, 2.5)),
        *(Edit("brightness", {"factor": factor}) for factor in (0.5, 0.75, 1.25, 1.5)),
        *(Edit("contrast", {"factor": factor}) for factor in (0.5, 0.75, 1.25, 1.5)),
        *(Edit("noise", {"sigma": sigma}) for sigma in (5, 10, 20, 40)),
        *(Edit("blur", {"sigma": sigma}) for sigma in (0.5, 1, 2, 4)),
        Edit("color cast", {"red": 1.3, "green": 1, "blue": 0.75}),
        Edit("color cast", {"red": 0.75, "green": 1, "blue": 1.3}),
        Edit("color cast", {"red": 0.9, "green": 1.2, "blue": 0.9}),
    )


def edits() -> tuple[Edit, ...]:
    """Return the edits after which a picture still counts as the same."""
    return (
        Edit("half size"),
        Edit("half size and back"),
        *(Edit("jpeg", {"quality": quality}) for quality in (30, 50)),
        *(Edit("crop", {"area": area}) for area in (0.75, 0.9)),
        Edit("mirror"),
        *(Edit("rotation", {"degrees": degrees}) for degrees in (-8, -4, 4, 8)),
        *(Edit("brightness", {"factor": factor}) for factor in (0.75, 1.25)),
        *(Edit("contrast", {"factor": factor}) for factor in (0.75, 1.25)),
        Edit("blur", {"sigma": 1}),
        Edit("noise", {"sigma": 8}),
        Edit("grey"),
        Edit("caption", {"share": 0.12}),
        Edit("border", {"share": 0.06}),
    )


def random_copy(pixels: Pixels, rng: Rng) -> tuple[Pixels, str]:
    """Return the picture after one of :func:`edits`, and which; every kind is as likely as the others."""
    of_kind: dict[str, list[Edit]] = {}
    for edit in edits():
        of_kind.setdefault(edit.name, []).append(edit)
    alike = list(of_kind.values())[rng.integers(len(of_kind))]
    edit = alike[rng.integers(len(alike))]
    return edit.apply(pixels, rng), str(edit)


def random_degradation(pixels: Pixels, rng: Rng, strength: float = 1.0) -> tuple[Pixels, str]:
    """Return the picture after a degradation of random kind and parameters, and which.

    Parameters are log-uniform over their ranges (``_DRAWN``). ``strength`` in (0, 1] draws them toward what changes
    nothing: a sigma is multiplied by it, a factor or exponent raised to its power.
    """
    if not 0 < strength <= 1:
        raise ConfigError(f"strength is above 0 and at most 1, got {strength:g}")
    name = list(_DRAWN)[rng.integers(len(_DRAWN))]
    drawn = {p: math.exp(rng.uniform(math.log(low), math.log(high))) for p, (low, high) in _DRAWN[name].items()}
    edit = Edit(name, {p: value * strength if p == "sigma" else value**strength for p, value in drawn.items()})
    return edit.apply(pixels, rng), str(edit)


def gaussian_blur(values: Float32, sigma: float) -> Float32:
    """Return (H, W, C) float32 convolved with a Gaussian along both sides, cut off at 4 sigma.

    Beyond a border the picture goes on mirrored (``c b a | a b c``).
    """
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(radius + 1) / max(sigma, 1e-9)) ** 2)
    weights /= weights[0] + 2 * weights[1:].sum()
    for axis in (0, 1):
        values = _symmetric_convolution(values, weights.astype(np.float32), axis)
    return values


def _symmetric_convolution(values: Float32, half: Float32, axis: int) -> Float32:
    """Convolve along an axis with the kernel whose right half, from its middle on, is ``half``."""
    radius, length = len(half) - 1, values.shape[axis]
    margins = [(radius, radius) if along == axis else (0, 0) for along in range(values.ndim)]
    padded = np.moveaxis(np.pad(values, margins, mode="symmetric"), axis, 0)
    total = half[0] * padded[radius : radius + length]
    for k in range(1, radius + 1):
        total += half[k] * (padded[radius - k : radius - k + length] + padded[radius + k : radius + k + length])
    result: Float32 = np.moveaxis(total, 0, axis)
    return result


def _gamma(pixels: Pixels, _: Rng, *, exponent: float) -> Pixels:
    """255 (v / 255) ^ exponent: above 1 is darker."""
    return _levels(255 * (np.arange(256) / 255) ** exponent)[pixels]


def _brightness(pixels: Pixels, _: Rng, *, factor: float) -> Pixels:
    return _levels(factor * np.arange(256))[pixels]


def _contrast(pixels: Pixels, _: Rng, *, factor: float) -> Pixels:
    """Stretch about the mean luma."""
    middle = float(_luma(pixels).mean())
    return _levels(middle + factor * (np.arange(256) - middle))[pixels]


def _noise(pixels: Pixels, rng: Rng, *, sigma: float) -> Pixels:
    return _levels(pixels + np.float32(sigma) * rng.standard_normal(pixels.shape, np.float32))


def _blur(pixels: Pixels, _: Rng, *, sigma: float) -> Pixels:
    return _levels(gaussian_blur(pixels.astype(np.float32), sigma))


def _color_cast(pixels: Pixels, _: Rng, *, red: float, green: float, blue: float) -> Pixels:
    return _levels(pixels.astype(np.float32) * np.array([red, green, blue], np.float32))


def _half_size(pixels: Pixels, _: Rng) -> Pixels:
    height, width = pixels.shape[:2]
    return resized(pixels, max(1, width // 2), max(1, height // 2))


def _half_size_and_back(pixels: Pixels, rng: Rng) -> Pixels:
    return resized(_half_size(pixels, rng), pixels.shape[1], pixels.shape[0])


def _jpeg(pixels: Pixels, _: Rng, *, quality: float) -> Pixels:
    return through_jpeg(pixels, round(quality))


def _crop(pixels: Pixels, rng: Rng, *, area: float) -> Pixels:
    """Keep a share of the area, in the picture's proportions, somewhere."""
    height, width = pixels.shape[:2]
    h, w = max(1, round(height * math.sqrt(area))), max(1, round(width * math.sqrt(area)))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    return pixels[top : top + h, left : left + w].copy()


def _mirror(pixels: Pixels, _: Rng) -> Pixels:
    return pixels[:, ::-1].copy()


def _rotation(pixels: Pixels, _: Rng, *, degrees: float) -> Pixels:
    return turned(pixels, degrees)


def _grey(pixels: Pixels, _: Rng) -> Pixels:
    return np.repeat(_levels(_luma(pixels))[:, :, None], 3, axis=2)


def _caption(pixels: Pixels, rng: Rng, *, share: float) -> Pixels:
    """Darken a band at the foot, ``share`` of the height, and write on it a line of light signs, as of some script."""
    height, width = pixels.shape[:2]
    band = max(1, round(share * height))
    dot = max(1, band // 8)
    dots = rng.random((4, -(-width // dot))) < 0.5
    line = dots.repeat(dot, axis=0).repeat(dot, axis=1)[:band, :width]
    changed = pixels.copy()
    foot = changed[height - band :]
    foot //= 3
    top = (band - len(line)) // 2
    foot[top : top + len(line)][line] = 240
    return changed


def _border(pixels: Pixels, rng: Rng, *, share: float) -> Pixels:
    """Lay the picture in a black or white frame, ``share`` of the shorter side wide."""
    width = max(1, round(share * min(pixels.shape[:2])))
    margins = ((width, width), (width, width), (0, 0))
    return np.pad(pixels, margins, constant_values=int(rng.choice([0, 255])))


def _scale(pixels: Pixels, _: Rng, *, share: float) -> Pixels:
    """Make both sides so much shorter."""
    height, width = pixels.shape[:2]
    return resized(pixels, max(1, round(share * width)), max(1, round(share * height)))


def _occlusion(pixels: Pixels, rng: Rng, *, area: float) -> Pixels:
    """Lay a grey rectangle of the picture's proportions over so much of it, somewhere."""
    height, width = pixels.shape[:2]
    tall, wide = (max(1, round(math.sqrt(area) * side)) for side in (height, width))
    top, left = (int(rng.integers(0, side - part + 1)) for side, part in ((height, tall), (width, wide)))
    changed = pixels.copy()
    changed[top : top + tall, left : left + wide] = 127
    return changed


def _luma(pixels: Pixels) -> Float32:
    luma: Float32 = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
    return luma


def _levels(values: NDArray[np.floating[Any]]) -> Pixels:
    levels: Pixels = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return levels


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(names) or "no parameters"


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a kind changes pixels, and the lowest and highest value of each of its parameters."""

    change: Callable[..., Pixels]
    allowed: Mapping[str, tuple[float, float]] = field(default_factory=dict)


_FACTOR = (0.0, 10.0)
_KINDS: Mapping[str, _Kind] = {
    "gamma": _Kind(_gamma, {"exponent": (0.01, 100)}),
    "brightness": _Kind(_brightness, {"factor": _FACTOR}),
    "contrast": _Kind(_contrast, {"factor": _FACTOR}),
    "noise": _Kind(_noise, {"sigma": (0, 255)}),
    "blur": _Kind(_blur, {"sigma": (0, 100)}),
    "color cast": _Kind(_color_cast, {"red": _FACTOR, "green": _FACTOR, "blue": _FACTOR}),
    "half size": _Kind(_half_size),
    "half size and back": _Kind(_half_size_and_back),
    "jpeg": _Kind(_jpeg, {"quality": (1, 100)}),
    "crop": _Kind(_crop, {"area": (0.01, 1)}),
    "mirror": _Kind(_mirror),
    "rotation": _Kind(_rotation, {"degrees": (-45, 45)}),
    "grey": _Kind(_grey),
    "caption": _Kind(_caption, {"share": (0, 1)}),
    "border": _Kind(_border, {"share": (0, 1)}),
    "scale": _Kind(_scale, {"share": (0.001, 1)}),
    "occlusion": _Kind(_occlusion, {"area": (0, 1)}),
}

_DRAWN: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "gamma": {"exponent": (0.4, 2.5)},
    "brightness": {"factor": (0.5, 1.5)},
    "contrast": {"factor": (0.5, 1.5)},
    "noise": {"sigma": (5, 40)},
    "blur": {"sigma": (0.5, 4)},
    "color cast": {"red": (0.75, 1.33), "green": (0.75, 1.33), "blue": (0.75, 1.33)},
}
"""What :func:`random_degradation` draws from."""
