"""How a picture becomes the input of a network, as data: TOML in and out, checked once, hashed into the space.

``Recipe.digest`` is the ``Space.preprocess`` of the encoder that owns the recipe: vectors made by two recipes are never
compared.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from lookalike.errors import ConfigError
from lookalike.types import Float32

CROP_SHARE = 7 / 8
"""How much of each side the test-time view "crops" keeps."""

# Raise it when the same fields begin to give other pixels: old vectors then live in another space.
_REVISION = 1
_WHOLE = (0.0, 0.0, 1.0, 1.0)
_ALWAYS_HASHED = ("size", "fit", "crop", "filter", "mean", "std", "fill")
"""What the first recipes had. Later fields are hashed only where they are used: the digests of old galleries stay."""


@dataclass(frozen=True)
class Recipe:
    """How a picture becomes the ``size`` x ``size`` input of a network. In the order in which it happens:

    - ``region``: what is taken of the picture: left, top, right, lower, as shares of its width and height.
    - ``fit``: "squash" ignores the aspect ratio; "crop" takes the middle square, ``crop`` of the shorter side; "pad"
      keeps the whole on a background of ``fill`` (RGB, 0 to 255). ``resize`` takes the place of ``crop`` and gives the
      square that torchvision, timm and open_clip take when they bring the shorter side to ``resize`` pixels and cut
      ``size`` x ``size`` from the middle: whole pixels of the resized picture, not of the source.
    - ``filter``: antialiased, but for "nearest".
    - ``denoise``: a 3 x 3 median or Gaussian; ``white_balance`` "grey-world": every channel gets the same mean;
      ``equalize`` "clahe": local contrast, of the luma. All three on the resized picture, without its frame.
    - ``colour`` "grey": the luma in all three channels.
    - ``order`` of the channels; a value v in [0, 255] becomes ``(v / scale - mean) / std``, ``mean`` and ``std`` in
      this order. ``dtype`` "uint8" leaves the values as they are.
    - ``layout``: (3, size, size) or (size, size, 3).

    ``augment`` names views of the picture whose vectors are averaged with its own: "flip" mirrors it, "crops" takes the
    four corners and the middle (7/8 of each side), "rotations" turns it by 8 degrees both ways.

    Raise ConfigError, which names the field and what it may be, for a value that is none.
    """

    size: int
    fit: Literal["squash", "crop", "pad"] = "squash"
    crop: float = 1.0
    filter: Literal["bicubic", "bilinear", "lanczos", "nearest"] = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    fill: tuple[int, int, int] = (0, 0, 0)
    resize: int | None = None
    scale: float = 255.0
    order: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    dtype: Literal["float32", "uint8"] = "float32"
    colour: Literal["rgb", "grey"] = "rgb"
    denoise: Literal["none", "median", "gaussian"] = "none"
    white_balance: Literal["none", "grey-world"] = "none"
    equalize: Literal["none", "clahe"] = "none"
    region: tuple[float, float, float, float] = _WHOLE
    augment: tuple[Literal["flip", "crops", "rotations"], ...] = ()

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            value = getattr(self, name)
            if not rule.holds(value):
                raise ConfigError(f"a recipe's {name} is {rule.allowed}, got {value!r}")
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        # 1 and 1.0 are one recipe; older fields keep what was written, since their digests are on disk.
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "region", tuple(float(share) for share in self.region))
        self._check_together()

    def _check_together(self) -> None:
        if self.resize is not None and (self.fit != "crop" or self.crop != 1 or self.resize < self.size):
            raise ConfigError(
                f"a recipe's resize is the shorter side before the middle is cut out: it needs fit 'crop', crop 1 and "
                f"at least size pixels; got resize {self.resize}, fit {self.fit!r}, crop {self.crop}, size {self.size}"
            )
        if self.dtype == "uint8":
            changed = [name for name in ("scale", "mean", "std") if getattr(self, name) != _DEFAULTS[name]]
            if changed:
                raise ConfigError(f"a recipe with dtype 'uint8' keeps the values 0 to 255: leave out {changed[0]!r}")

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """Return the recipe that ``to_toml`` or a person wrote. Raise ConfigError for unknown keys and wrong values."""
        try:
            table = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"this recipe is not TOML: {error}") from error
        return cls.from_table(table)

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Recipe:
        """Return the recipe with these fields, as TOML or JSON gives them: lists for tuples."""
        for key in table:
            if key not in _RULES:
                raise ConfigError(f"a recipe has no key {key!r}; known: {', '.join(_RULES)}")
        if "size" not in table:
            raise ConfigError("a recipe needs a size: the side of the network's input in pixels, such as size = 224")
        return cls(**table)

    def to_toml(self) -> str:
        """Return the size, and what differs from the defaults, a line each; ``from_toml`` gives the same recipe."""
        changed = {name: value for name in _RULES if (value := getattr(self, name)) != _DEFAULTS[name]}
        # Numbers, names without special characters and lists of them look the same in JSON and in TOML.
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in changed.items())

    @cached_property
    def digest(self) -> str:
        """A short stable hash over all fields, such as ``squash224-1a2b3c4d``."""
        hashed = {
            name: value
            for name in _RULES
            if (value := getattr(self, name)) != _DEFAULTS[name] or name in _ALWAYS_HASHED
        }
        text = json.dumps([_REVISION, hashed], sort_keys=True)
        return f"{self.fit}{self.size}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @cached_property
    def inside(self) -> Recipe:
        """The same recipe for a picture of which the region is already cut."""
        return self if self.region == _WHOLE else replace(self, region=_WHOLE)

    @property
    def at_least(self) -> int:
        """How many pixels a side a picture must keep when it is decoded reduced: twice what is taken from it."""
        side = self.resize or (self.size / self.crop if self.fit == "crop" else self.size)
        left, top, right, lower = self.region
        share = min(right - left, lower - top) * (CROP_SHARE if "crops" in self.augment else 1)
        return math.ceil(2 * side / share)

    @cached_property
    def affine(self) -> tuple[Float32, Float32]:
        """What a value is multiplied by and what is then added, per channel in ``order``: two times (3,)."""
        mean, std = np.array(self.mean, np.float64), np.array(self.std, np.float64)
        return (1 / (self.scale * std)).astype(np.float32), (-mean / std).astype(np.float32)


@dataclass(frozen=True)
class _Rule:
    allowed: str
    holds: Callable[[Any], bool]


def _whole(low: int, high: int, what: str) -> _Rule:
    return _Rule(f"{what}, {low} to {high}", lambda v: type(v) is int and low <= v <= high)


def _number(low: float, high: float, what: str) -> _Rule:
    return _Rule(
        f"{what}, {low:g} to {high:g}",
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and low <= v <= high,  # no NaN is
    )


def _one_of(*names: str) -> _Rule:
    return _Rule("one of " + ", ".join(map(repr, names)), lambda v: isinstance(v, str) and v in names)


def _three(rule: _Rule) -> _Rule:
    return _Rule(
        f"three times {rule.allowed}",
        lambda v: isinstance(v, list | tuple) and len(v) == 3 and all(map(rule.holds, v)),
    )


def _some_of(*names: str) -> _Rule:
    one = _one_of(*names)
    return _Rule(
        "a list without repeats of " + ", ".join(map(repr, names)),
        lambda v: isinstance(v, list | tuple) and all(map(one.holds, v)) and len(set(v)) == len(v),
    )


def _is_region(value: Any) -> bool:
    share = _number(0, 1, "a share")
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(map(share.holds, value)):
        return False
    left, top, right, lower = value
    return bool(right - left >= _LEAST_SHARE and lower - top >= _LEAST_SHARE)


_LARGEST_SIZE = 8192
_LEAST, _LARGEST = 1e-6, 1e6
"""Beyond these float32 has nothing left of a value in [0, 255]."""
_LEAST_SHARE = 0.01

_RULES = {
    "size": _whole(1, _LARGEST_SIZE, "a whole number of pixels"),
    "fit": _one_of("squash", "crop", "pad"),
    "crop": _number(_LEAST_SHARE, 1, "a share of the shorter side"),
    "filter": _one_of("bicubic", "bilinear", "lanczos", "nearest"),
    "mean": _three(_number(-_LARGEST, _LARGEST, "a number")),
    "std": _three(_number(_LEAST, _LARGEST, "a positive number")),
    "fill": _three(_whole(0, 255, "a whole number")),
    "resize": _Rule(
        f"a whole number of pixels, 1 to {_LARGEST_SIZE}, or left out",
        lambda v: v is None or (type(v) is int and 1 <= v <= _LARGEST_SIZE),
    ),
    "scale": _number(_LEAST, _LARGEST, "a positive number"),
    "order": _one_of("rgb", "bgr"),
    "layout": _one_of("nchw", "nhwc"),
    "dtype": _one_of("float32", "uint8"),
    "colour": _one_of("rgb", "grey"),
    "denoise": _one_of("none", "median", "gaussian"),
    "white_balance": _one_of("none", "grey-world"),
    "equalize": _one_of("none", "clahe"),
    "region": _Rule(
        f"left, top, right, lower in shares of the picture, 0 to 1, at least {_LEAST_SHARE} wide and high", _is_region
    ),
    "augment": _some_of("flip", "crops", "rotations"),
}
_DEFAULTS = {field.name: field.default if field.default is not MISSING else None for field in fields(Recipe)}
