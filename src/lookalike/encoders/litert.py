"""Runs a TensorFlow Lite model as an encoder, through LiteRT: small, for phones and boards. Needs the extra [litert].

An interpreter serves one thread at a time and holds its own memory: there are as many as callers that were in it at
once, each with one thread inside, so that ``LOOKALIKE_THREADS`` is also the most processors that are kept busy.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.encoders.contract import Tensor, check_input, check_output, encode_each, input_shape, width_of
from lookalike.errors import ConfigError, LookalikeError, MissingDependency
from lookalike.preprocess import Recipe
from lookalike.types import Embeddings, Image, Space


class LiteRTEncoder:
    """An encoder whose network is a .tflite model with one input: what ``recipe`` makes of one picture.

    ``model`` returns the model, or its file, which is then mapped into memory; it is called once, when the first
    picture is encoded. ``output`` is the name of its (1, dim) output, None the only one. Quantized outputs are scaled
    back to real numbers.
    """

    def __init__(
        self,
        *,
        name: str,
        version: str,
        recipe: Recipe,
        dim: int,
        model: Callable[[], bytes | Path],
        output: str | None = None,
    ) -> None:
        self._space = Space(name, version, recipe.digest, dim)
        self._recipe, self._model, self._output = recipe, model, output
        self._lock = threading.Lock()
        self._loaded: bytes | Path | None = None
        self._idle: list[_Interpreter] = []

    @property
    def space(self) -> Space:
        """Where the vectors live."""
        return self._space

    @property
    def at_least(self) -> int:
        """How many pixels a side a picture must keep when it is decoded reduced."""
        return self._recipe.at_least

    def encode(self, images: Sequence[Image]) -> Embeddings:
        """Return the embeddings of ``images``, in order: (N, dim).

        May be called from several threads at once. Raise MissingDependency without the extra, ConfigError where the
        model cannot be loaded or does not fit the recipe and ``dim``, InputError where a picture makes it return NaN or
        infinity.
        """
        with self._interpreter() as interpreter:
            return encode_each(images, self._recipe, self._space, interpreter.run)

    @contextmanager
    def _interpreter(self) -> Iterator[_Interpreter]:
        """Lend an interpreter that nobody else has; make one where none is idle."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._model()
            lent = self._idle.pop() if self._idle else None
        lent = lent or _Interpreter(self._space.encoder, self._space.dim, self._loaded, self._recipe, self._output)
        try:
            yield lent
        finally:
            with self._lock:
                self._idle.append(lent)


def width(name: str, model: Path, recipe: Recipe, output: str | None) -> int:
    """Return how many numbers the model ``name`` gives for a picture; raise ConfigError where it does not fit."""
    return width_of(name, recipe, _Interpreter(name, None, model, recipe, output).run)


class _Interpreter:
    """A model in memory, with its input and output found and checked."""

    def __init__(self, name: str, dim: int | None, model: bytes | Path, recipe: Recipe, output: str | None) -> None:
        self._name = name
        self._interpreter = _opened(self._name, model)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        taken = check_input(self._name, _tensors(inputs), recipe)
        given = check_output(self._name, _tensors(outputs), output, dim)
        self._input = _index(inputs, taken)
        self._output = _index(outputs, given)
        self._scale, self._zero = next(one["quantization"] for one in outputs if one["index"] == self._output)
        self._allocate(input_shape(recipe))

    def run(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the model's output for the input of one picture, as real numbers."""
        try:
            self._interpreter.set_tensor(self._input, pixels)
            self._interpreter.invoke()
            output: NDArray[Any] = self._interpreter.get_tensor(self._output)
        except (RuntimeError, ValueError) as error:
            raise LookalikeError(f"encoder {self._name} failed on an input of shape {pixels.shape}: {error}") from error
        return np.float32(self._scale) * (output.astype(np.float32) - self._zero) if self._scale else output

    def _allocate(self, shape: tuple[int, ...]) -> None:
        try:
            self._interpreter.resize_tensor_input(
                self._input, shape
            )  # gives axes that the model leaves open their size
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"the model of encoder {self._name} cannot be loaded: {error}") from error


def _opened(name: str, model: bytes | Path) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingDependency(f"encoder {name}, a LiteRT model,", "litert") from error
    try:
        if isinstance(model, Path):
            return Interpreter(model_path=os.fspath(model), num_threads=1)
        return Interpreter(model_content=model, num_threads=1)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"the model of encoder {name} cannot be loaded: {error}") from error


def _tensors(details: Sequence[dict[str, Any]]) -> list[Tensor]:
    return [
        Tensor(
            one["name"],
            # The signature says -1 where an axis is open; a model without one has a fixed shape.
            tuple(None if size < 0 else int(size) for size in one["shape_signature"]) or tuple(map(int, one["shape"])),
            np.dtype(one["dtype"]).name,
        )
        for one in details
    ]


def _index(details: Sequence[dict[str, Any]], tensor: Tensor) -> int:
    return next(int(one["index"]) for one in details if one["name"] == tensor.name)
