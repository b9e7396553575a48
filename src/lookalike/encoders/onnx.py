"""Runs an ONNX model as an encoder. The only module that imports onnxruntime, and only when a model is first used.

One session with one thread serves any number of threads: the caller runs a thread a core, each decodes and infers one
picture, which on CPUs was measured faster than batches and faster than one session with many threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lookalike.errors import ConfigError, InputError, LookalikeError
from lookalike.preprocess import Recipe, prepare
from lookalike.types import Embeddings, Float32, Image, Space


class OnnxEncoder:
    """An encoder whose network is an ONNX model with one input, (N, 3, S, S) float32 as ``recipe`` makes it.

    ``model`` returns the serialized model and is called once, when the first picture is encoded; ``output`` is the name
    of its (N, dim) output.
    """

    def __init__(
        self, *, name: str, version: str, recipe: Recipe, dim: int, model: Callable[[], bytes], output: str
    ) -> None:
        self._space = Space(name, version, recipe.digest, dim)
        self._recipe = recipe
        self._network = _Network(name, model, [output])

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

        May be called from several threads at once. Pictures go through the network one by one, so that a row does not
        depend on its neighbours in any bit. Raise ConfigError where the model cannot be loaded, InputError where a
        picture makes it return NaN or infinity.
        """
        raw = np.empty((len(images), self._space.dim), np.float32)
        for row, image in zip(raw, images, strict=True):
            row[:] = self._network.run(prepare([image], self._recipe))[0][0]
            if not np.isfinite(row).all():
                raise InputError(f"{self._space.encoder} makes NaN or infinite values of {image.source}")
        return Embeddings.from_raw(raw, self._space)


class MappedOnnxEncoder(OnnxEncoder):
    """An OnnxEncoder that also gives spatial feature maps.

    They come from a second model, so that the first, which has the embedding as its only output, stays fast.
    """

    def __init__(self, *, maps_model: Callable[[], bytes], map_names: Sequence[str], **plain: Any) -> None:
        super().__init__(**plain)
        self._map_names = tuple(map_names)
        self._maps_network = _Network(plain["name"], maps_model, self._map_names)

    def maps(self, images: Sequence[Image]) -> list[dict[str, Float32]]:
        """Return for each image its spatial feature maps, name -> (C, h, w) float32, from shallow to deep."""
        return [
            {name: value[0] for name, value in zip(self._map_names, outputs, strict=True)}
            for outputs in (self._maps_network.run(prepare([image], self._recipe)) for image in images)
        ]


class _Network:
    """A session that is made when it is first needed; threads may share it."""

    def __init__(self, name: str, model: Callable[[], bytes], outputs: Sequence[str]) -> None:
        self._name, self._model, self._outputs = name, model, list(outputs)
        self._lock = threading.Lock()
        self._session: Any = None
        self._input = ""

    def run(self, pixels: Float32) -> list[Float32]:
        """Return the outputs for a batch (N, 3, S, S)."""
        session = self._session or self._load()
        try:
            result: list[Float32] = session.run(self._outputs, {self._input: pixels})
        except Exception as error:
            raise LookalikeError(f"encoder {self._name} failed on an input of shape {pixels.shape}: {error}") from error
        return result

    def _load(self) -> Any:
        with self._lock:
            if self._session is None:
                session = _session(self._name, self._model())
                self._input = session.get_inputs()[0].name
                self._session = session
            return self._session


def _session(name: str, model: bytes) -> Any:
    import onnxruntime as ort  # noqa: PLC0415 - a fifth of a second, paid only by who encodes

    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConfigError(f"the model of encoder {name} cannot be loaded: {error}") from error
