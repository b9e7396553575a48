"""What every runtime owes, whatever runs the model: its input fits the recipe, its output is one vector a picture.

A model is checked by what it declares when it is loaded, and by what it gives when it runs: it may declare nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import ConfigError, InputError
from lookalike.preprocess import Recipe, prepare, prepare_views
from lookalike.types import Embeddings, Float32, Image, Space

Run: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
"""The input for one picture, as the recipe makes it -> the model's output for it."""

_NUMBERS = ("float32", "float16", "float64", "uint8", "int8")


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as a model declares it; None for an axis that is open, or for a shape not declared."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str

    def __str__(self) -> str:
        shape = "of any shape" if self.shape is None else f"({', '.join(_axis(size) for size in self.shape)})"
        return f"{self.name!r} {shape} {self.dtype}"


def input_shape(recipe: Recipe) -> tuple[int, int, int, int]:
    """Return the shape of what the recipe makes of one picture."""
    side = recipe.size
    return (1, 3, side, side) if recipe.layout == "nchw" else (1, side, side, 3)


def check_input(encoder: str, inputs: Sequence[Tensor], recipe: Recipe) -> Tensor:
    """Return the model's only input; raise ConfigError where it has others, or does not take what the recipe makes."""
    if len(inputs) != 1:
        raise ConfigError(
            f"the model of encoder {encoder} has {len(inputs)} inputs ({_listed(inputs)}); it should have one, "
            "the picture"
        )
    only, made = inputs[0], input_shape(recipe)
    if only.shape is not None and len(only.shape) == len(made) and (only.shape[0] or 1) != 1:
        raise ConfigError(
            f"the model of encoder {encoder} takes {only.shape[0]} pictures at once ({only}); pictures are encoded one "
            "by one: export it with an open batch, or a batch of 1"
        )
    if only.dtype != recipe.dtype or not _fits(only.shape, made):
        raise ConfigError(
            f"the model of encoder {encoder} takes {only}, but its recipe makes {made} {recipe.dtype}; "
            "set size, layout and dtype of the recipe to the model's"
        )
    return only


def check_output(encoder: str, outputs: Sequence[Tensor], wanted: str | None, dim: int | None) -> Tensor:
    """Return the output that holds the vector: the one named ``wanted``, or the only one.

    Raise ConfigError where there is no such output, or what it declares is not one vector of ``dim`` numbers a picture
    (None: of any width).
    """
    found = [output for output in outputs if wanted in (None, output.name)]
    if len(found) != 1:
        which = "several outputs" if wanted is None else f"no output named {wanted!r}"
        raise ConfigError(f"the model of encoder {encoder} has {which}; name one of: {_listed(outputs)}")
    chosen = found[0]
    if chosen.dtype not in _NUMBERS:
        raise ConfigError(
            f"the model of encoder {encoder} gives {chosen}; an embedding is one of {', '.join(_NUMBERS)}"
        )
    if dim is not None and chosen.shape and None not in chosen.shape[1:]:
        _check_width(encoder, tuple(size or 1 for size in chosen.shape), dim, chosen.name)
    return chosen


def width_of(encoder: str, recipe: Recipe, run: Run) -> int:
    """Return how many numbers a model gives for one picture; raise ConfigError where that is no vector."""
    grey = Image(np.full((recipe.size, recipe.size, 3), 127, np.uint8), (recipe.size, recipe.size))
    shape = run(prepare([grey], recipe)).shape
    _check_width(encoder, shape, int(np.prod(shape)))
    return int(np.prod(shape))


def encode_each(images: Sequence[Image], recipe: Recipe, space: Space, run: Run) -> Embeddings:
    """Return the embeddings of ``images``, in order: (N, dim).

    Pictures go through the model one by one, so that a row does not depend on its neighbours in any bit. Where the
    recipe has test-time views, a row is the normalized mean of the unit vectors of the picture and its views. Raise
    InputError where a picture makes the model return NaN or infinity.
    """
    rows = [_encoded(image, recipe, space, run) for image in images]
    return Embeddings.concatenate(rows) if rows else Embeddings.from_raw(np.empty((0, space.dim)), space)


def _encoded(image: Image, recipe: Recipe, space: Space, run: Run) -> Embeddings:
    raw = np.stack([_vector(space, run(row[None])) for row in prepare_views(image, recipe)])
    if not np.isfinite(raw).all():
        raise InputError(f"{space.encoder} makes NaN or infinite values of {image.source}")
    return Embeddings.from_raw(raw, space).mean_direction()


def _vector(space: Space, output: NDArray[Any]) -> Float32:
    _check_width(space.encoder, output.shape, space.dim)
    return np.asarray(output, np.float32).reshape(space.dim)


def _check_width(encoder: str, shape: tuple[int, ...], dim: int, output: str = "") -> None:
    """Raise ConfigError unless ``shape`` is one row of ``dim`` numbers, perhaps with axes of length 1 around it."""
    named = f" in its output {output!r}" if output else ""
    if sum(size > 1 for size in shape) > 1:
        raise ConfigError(
            f"the model of encoder {encoder} gives {shape}{named} for one picture: a map or a sequence, and no vector; "
            "pool it inside the model, or name an output that is pooled"
        )
    if int(np.prod(shape)) != dim:
        raise ConfigError(f"the model of encoder {encoder} gives {np.prod(shape)} numbers{named}, but its dim is {dim}")


def _fits(declared: tuple[int | None, ...] | None, made: tuple[int, ...]) -> bool:
    if declared is None:
        return True
    return len(declared) == len(made) and all(a in (None, b) for a, b in zip(declared, made, strict=True))


def _axis(size: int | None) -> str:
    return "?" if size is None else str(size)


def _listed(tensors: Sequence[Tensor]) -> str:
    return "; ".join(map(str, tensors))
