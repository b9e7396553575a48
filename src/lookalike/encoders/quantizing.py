"""An ONNX model in float32 becomes one in int8: static, with the ranges that its activations have on sample pictures.

Weights have seven bits, a scale a channel: processors without VNNI add pairs of products in 16 bits, which eight bits
overflow (EfficientNet-Lite0 then keeps a cosine of .92 to itself), so that a model of eight bits would give other
vectors on other machines. What rounding them does to each channel's mean is taken off its bias (Nagel et al., ICCV
2019, sec. 4.2); with that seven bits keep .995. The first convolution and the pooling stay in float32.

The only module that imports onnxruntime's quantization.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError

Floats = NDArray[np.float32]
Inputs = Callable[[int], Floats]
"""Number of a sample -> the network's input for it."""

_PERCENTILE = 99.99
_AT_ONCE = 8
"""So many samples' activations are held at once."""
_FLOAT_OPERATIONS = ("GlobalAveragePool", "ReduceMean", "Flatten", "Softmax", "LayerNormalization")


def quantized(model: bytes, inputs: Inputs, count: int) -> bytes:
    """Return the model in int8, its activations' ranges those of ``count`` samples; raise InputError where it cannot.

    ``inputs(i)`` is asked for each sample several times.
    """
    import onnx  # noqa: PLC0415 - a third of a second, paid only by who quantizes

    made = onnx.load_from_string(model)
    layers = _layers(made)
    if not layers:
        raise InputError("this model has no convolution whose weights are known: there is nothing to quantize")
    samples = _Samples(made.graph.input[0].name, inputs, count)
    with TemporaryDirectory() as folder:
        paths = _Paths(Path(folder))
        kept = _kept_in_float(made, layers)
        first = onnx.load_from_string(_quantize(made, paths, samples, kept))
        _correct(made, first, layers, _mean_inputs(made, layers, samples))
        return _quantize(made, paths, None, kept)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution: its node, input, weight and bias, by name."""

    node: str
    input: str
    weight: str
    bias: str


@dataclass(frozen=True, slots=True)
class _Paths:
    folder: Path

    @property
    def ranges(self) -> Path:
        return self.folder / "ranges.json"

    @property
    def before(self) -> Path:
        return self.folder / "float.onnx"

    @property
    def after(self) -> Path:
        return self.folder / "int8.onnx"


class _Samples:
    """onnxruntime's reader of samples, in strides; it asks for ``get_next``, ``set_range`` and the length."""

    def __init__(self, name: str, inputs: Inputs, count: int) -> None:
        self.name, self._inputs, self.count = name, inputs, count
        self._left: Iterator[int] = iter(range(count))

    def __len__(self) -> int:
        return -(-self.count // _AT_ONCE) * _AT_ONCE  # strides are whole: the first samples come once more

    def __iter__(self) -> Iterator[dict[str, Floats]]:
        return ({self.name: self._inputs(number)} for number in range(self.count))

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, Floats] | None:
        number = next(self._left, None)
        return None if number is None else {self.name: self._inputs(number % self.count)}


def _layers(model: Any) -> list[_Layer]:
    known = {constant.name for constant in model.graph.initializer}
    return [
        _Layer(node.name, node.input[0], node.input[1], node.input[2])
        for node in model.graph.node
        if node.op_type == "Conv" and len(node.input) == 3 and {node.input[1], node.input[2]} <= known
    ]


def _kept_in_float(model: Any, layers: Sequence[_Layer]) -> list[str]:
    return [layers[0].node, *(node.name for node in model.graph.node if node.op_type in _FLOAT_OPERATIONS)]


def _quantize(model: Any, paths: _Paths, samples: _Samples | None, kept: list[str]) -> bytes:
    """Return the model in int8; the ranges are measured where there are ``samples``, else as they were kept."""
    import onnx  # noqa: PLC0415
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static  # noqa: PLC0415

    onnx.save(model, paths.before)
    # It advises to preprocess models, which ours, folded as they are, do not need; and prints what it does.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()):
            quantize_static(
                paths.before,
                paths.after,
                samples,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept,
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": _PERCENTILE, "CalibStridedMinMax": _AT_ONCE},
                calibration_cache_path=paths.ranges,
            )
    except Exception as error:
        raise InputError(f"this model cannot be quantized: {type(error).__name__}: {error}") from error
    finally:
        logging.disable(before)
    return paths.after.read_bytes()


def _mean_inputs(model: Any, layers: Sequence[_Layer], samples: _Samples) -> dict[str, NDArray[np.float64]]:
    """Return the mean of each channel of each layer's input over the samples, by name."""
    import copy  # noqa: PLC0415

    import onnx  # noqa: PLC0415

    from lookalike.encoders.onnx import session  # noqa: PLC0415

    wanted = sorted({layer.input for layer in layers} - {samples.name})
    told = copy.deepcopy(model)
    have = {output.name for output in told.graph.output}
    told.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted if name not in have
    )
    running = session(model.graph.name, told.SerializeToString())
    sums = {name: np.zeros(1) for name in (*wanted, samples.name)}
    for inputs in samples:
        for name, value in (*zip(wanted, running.run(wanted, inputs), strict=True), *inputs.items()):
            sums[name] = sums[name] + value.mean(axis=(0, 2, 3), dtype=np.float64)
    return {name: total / samples.count for name, total in sums.items()}


def _correct(model: Any, int8: Any, layers: Sequence[_Layer], means: dict[str, NDArray[np.float64]]) -> None:
    """Add to each bias what its layer's mean output lost when its weights were rounded."""
    from onnx import numpy_helper  # noqa: PLC0415

    before = {constant.name: constant for constant in model.graph.initializer}
    after = {constant.name: numpy_helper.to_array(constant) for constant in int8.graph.initializer}
    for layer in layers:
        if f"{layer.weight}_quantized" not in after:
            continue
        weight = numpy_helper.to_array(before[layer.weight]).astype(np.float64)
        scale = after[f"{layer.weight}_scale"].reshape(-1, 1, 1, 1)
        lost = (weight - after[f"{layer.weight}_quantized"] * scale).sum(axis=(2, 3))
        inputs = means[layer.input]
        groups = len(inputs) // lost.shape[1]
        # Output channel o of a grouped convolution sees the inputs of its group.
        seen = np.repeat(inputs.reshape(groups, -1), len(lost) // groups, axis=0)
        bias = numpy_helper.to_array(before[layer.bias]) + (lost * seen).sum(axis=1)
        before[layer.bias].CopyFrom(numpy_helper.from_array(bias.astype(np.float32), layer.bias))
