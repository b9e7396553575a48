"""Runs an ONNX model as an encoder. The only module that imports onnxruntime, and only when a model is first used.

One session with one thread inside serves any number of threads: the caller runs a thread a core (``LOOKALIKE_THREADS``
says how many), each decodes and infers one picture, which on CPUs was measured faster than batches and faster than one
session with many threads. So that number is also the most processors that are kept busy.

``LOOKALIKE_PROVIDERS`` names what shall run the models, best first, such as ``cuda,cpu``; the processor comes last.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lookalike.encoders.contract import Tensor, check_input, check_output, encode_each, width_of
from lookalike.errors import ConfigError, LookalikeError
from lookalike.preprocess import Recipe, prepare
from lookalike.types import Embeddings, Float32, Image, Space

Model = Callable[[], bytes | Path]
"""Gives the serialized model, or the file that holds it: that is opened by its path, and external data is mapped."""

PROVIDERS_VARIABLE = "LOOKALIKE_PROVIDERS"

# Name -> ONNX Runtime's name, and what keeps its vectors those of the processor: float32 all through.
_PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}),
    "coreml": ("CoreMLExecutionProvider", {}),
    "openvino": ("OpenVINOExecutionProvider", {"precision": "ACCURACY", "num_of_threads": "1"}),
}
_DTYPES = {"float": "float32", "double": "float64"}


class OnnxEncoder:
    """An encoder whose network is an ONNX model with one input: what ``recipe`` makes of one picture.

    ``model`` is called once, when the first picture is encoded; ``output`` is the name of its (N, dim) output, None the
    only one. An output (N, dim, 1, 1) is taken as (N, dim); other maps are refused.
    """

    def __init__(
        self, *, name: str, version: str, recipe: Recipe, dim: int, model: Model, output: str | None = None
    ) -> None:
        self._space = Space(name, version, recipe.digest, dim)
        self._recipe = recipe
        self.output = output
        self._network = _Network(name, model, recipe, lambda outputs: [check_output(name, outputs, output, dim).name])

    @property
    def space(self) -> Space:
        """Where the vectors live."""
        return self._space

    @property
    def at_least(self) -> int:
        """How many pixels a side a picture must keep when it is decoded reduced."""
        return self._recipe.at_least

    @property
    def recipe(self) -> Recipe:
        """How pictures are prepared."""
        return self._recipe

    @property
    def model(self) -> Model:
        """What gives the model."""
        return self._network.model

    def encode(self, images: Sequence[Image]) -> Embeddings:
        """Return the embeddings of ``images``, in order: (N, dim).

        May be called from several threads at once. Raise ConfigError where the model cannot be loaded or does not fit
        the recipe and ``dim``, InputError where a picture makes it return NaN or infinity.
        """
        return encode_each(images, self._recipe, self._space, lambda pixels: self._network.run(pixels)[0])


class MappedOnnxEncoder(OnnxEncoder):
    """An OnnxEncoder that also gives spatial feature maps.

    They come from a second model, so that the first, which has the embedding as its only output, stays fast.
    """

    def __init__(self, *, maps_model: Model, map_names: Sequence[str], **plain: Any) -> None:
        super().__init__(**plain)
        self._map_names = tuple(map_names)
        self._maps_network = _Network(plain["name"], maps_model, plain["recipe"], lambda _: list(self._map_names))

    def maps(self, images: Sequence[Image]) -> list[dict[str, Float32]]:
        """Return for each image its spatial feature maps, name -> (C, h, w) float32, from shallow to deep."""
        return [
            {name: value[0] for name, value in zip(self._map_names, outputs, strict=True)}
            for outputs in (self._maps_network.run(prepare([image], self._recipe)) for image in images)
        ]


def width(name: str, model: Path, recipe: Recipe, output: str | None) -> int:
    """Return how many numbers the model ``name`` gives for a picture; raise ConfigError where it does not fit."""
    network = _Network(name, lambda: model, recipe, lambda outputs: [check_output(name, outputs, output, None).name])
    return width_of(name, recipe, lambda pixels: network.run(pixels)[0])


class _Network:
    """A session that is made and checked when it is first needed; threads may share it."""

    def __init__(
        self, name: str, model: Model, recipe: Recipe, outputs_of: Callable[[Sequence[Tensor]], list[str]]
    ) -> None:
        self._name, self.model, self._recipe, self._outputs_of = name, model, recipe, outputs_of
        self._lock = threading.Lock()
        self._session: Any = None
        self._input, self._outputs = "", [""]

    def run(self, pixels: NDArray[Any]) -> list[NDArray[Any]]:
        """Return the outputs for the input of one picture."""
        session = self._session or self._load()
        try:
            result: list[NDArray[Any]] = session.run(self._outputs, {self._input: pixels})
        except Exception as error:
            raise LookalikeError(f"encoder {self._name} failed on an input of shape {pixels.shape}: {error}") from error
        return result

    def _load(self) -> Any:
        with self._lock:
            if self._session is None:
                made = session(self._name, self.model())
                self._input = check_input(self._name, _tensors(made.get_inputs()), self._recipe).name
                self._outputs = self._outputs_of(_tensors(made.get_outputs()))
                self._session = made
            return self._session


def session(name: str, model: bytes | Path) -> Any:
    """Return an ONNX Runtime session of one thread for the model of the encoder ``name``.

    Raise ConfigError where the model cannot be loaded or ``LOOKALIKE_PROVIDERS`` holds an unknown name; warn where a
    provider that it names is not there, and do without.
    """
    import onnxruntime as ort  # noqa: PLC0415 - a fifth of a second, paid only by who encodes

    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = _wanted_providers()
    usable = [provider for provider in wanted if _PROVIDERS[provider][0] in ort.get_available_providers()]
    try:
        made = ort.InferenceSession(
            os.fspath(model) if isinstance(model, Path) else model,
            options,
            providers=[_PROVIDERS[provider] for provider in usable],
        )
    except Exception as error:
        raise ConfigError(f"the model of encoder {name} cannot be loaded: {error}") from error
    _warn_of_missing(wanted, made.get_providers())
    return made


def _wanted_providers() -> list[str]:
    """Return the names in ``LOOKALIKE_PROVIDERS``, in order, and "cpu" at the end."""
    asked = [part.strip().lower() for part in os.environ.get(PROVIDERS_VARIABLE, "").split(",") if part.strip()]
    for name in asked:
        if name not in _PROVIDERS:
            raise ConfigError(f"{PROVIDERS_VARIABLE}: no provider named {name!r}; known: {', '.join(_PROVIDERS)}")
    return list(dict.fromkeys([*asked, "cpu"]))


def _warn_of_missing(wanted: Iterable[str], running: Sequence[str]) -> None:
    # A provider that is compiled in may still not start, as CUDA without its driver: only the session knows.
    for name in wanted:
        if _PROVIDERS[name][0] not in running:
            warnings.warn(
                f"{PROVIDERS_VARIABLE} asks for {name}, which this onnxruntime does not have or cannot start; "
                f"models run on: {', '.join(running)}",
                stacklevel=2,
            )


def _tensors(arguments: Iterable[Any]) -> list[Tensor]:
    """Return what a session tells of its inputs or outputs; it tells an empty shape where none is declared."""
    return [
        Tensor(
            argument.name,
            tuple(size if isinstance(size, int) else None for size in argument.shape) or None,
            _dtype(argument.type),
        )
        for argument in arguments
    ]


def _dtype(declared: str) -> str:
    """Return numpy's name of a type: ``tensor(float)`` is float32."""
    name = declared.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(name, name)
