"""What every kind of source gives: the picture tower, its recipe, its own preprocessing, and perhaps its words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Words:
    """The text tower: ``module`` takes (N, context) int64, ``tokenize`` is the source's own.

    ``files`` are what our tokenizer of the kind ``tokenizer`` needs, by name.
    """

    module: Any
    tokenize: Callable[[Sequence[str]], Any]
    tokenizer: str
    files: dict[str, Path | bytes]
    context: int


@dataclass(frozen=True, slots=True)
class Source:
    """A network of the source library, in evaluation mode: ``pictures`` takes (N, 3, S, S) and returns (N, dim).

    ``transform`` is the library's own preprocessing, a PIL picture -> (3, S, S); None where the source has none.
    """

    pictures: Any
    recipe: Recipe
    architecture: str
    transform: Callable[[Any], Any] | None = None
    licence: str | None = None
    words: Words | None = None
