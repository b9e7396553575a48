"""Builds the ONNX graph of a convolutional network from a checkpoint. The only module that imports onnx.

Importing it takes a while: only who converts a model does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from lookalike.errors import InputError

_OPSET = 17
_IR_VERSION = 8
TENSORFLOW_EPSILON = 1e-3
TORCH_EPSILON = 1e-5
"""What batch normalization adds to the variance, as the two libraries have it by default."""


class Graph:
    """Collects ONNX nodes. A tensor is known by its name; its side (all are square) is followed for the padding.

    ``state`` is the checkpoint of a net ``kind``; ``size`` the side of the input ``pixels`` (N, 3, size, size). All of
    the checkpoint must be used in the end, but for what begins with one of ``ignored``. ``same`` pads as TensorFlow
    does, else half a kernel on every side as torch does; ``epsilon`` is that of batch normalization.
    """

    def __init__(
        self,
        state: Mapping[str, NDArray[Any]],
        size: int,
        kind: str,
        ignored: tuple[str, ...] = (),
        same: bool = True,
        epsilon: float = TENSORFLOW_EPSILON,
    ) -> None:
        self._state, self._kind, self._same, self._epsilon = state, kind, same, epsilon
        self._unused = {key for key in state if not key.endswith("num_batches_tracked") and not key.startswith(ignored)}
        self._size = size
        self._sides = {"pixels": size}
        self._constants: list[onnx.TensorProto] = []
        self._nodes: list[onnx.NodeProto] = []

    def conv(self, x: str, weight: str, norm: str, stride: int = 1, relu: bool = False) -> str:
        """Add a convolution with its batch normalization folded in, then ReLU6 if asked for."""
        kernel, bias = self._folded(f"{weight}.weight", norm)
        side, k = self._sides[x], kernel.shape[-1]
        before, after, out_side = (_same_padding if self._same else _half_a_kernel)(side, k, stride)
        y = self._node(
            "Conv", [x, self._constant(f"{weight}.weight", kernel), self._constant(f"{weight}.bias", bias)], weight,
            kernel_shape=[k, k], strides=[stride, stride], pads=[before, before, after, after],
            group=len(kernel) if kernel.shape[1] == 1 else 1,
        )  # fmt: skip
        self._sides[y] = out_side
        return self._relu6(y) if relu else y

    def add(self, x: str, y: str) -> str:
        """Add two tensors of one shape."""
        return self._followed(self._node("Add", [x, y], f"{y}.sum"), x)

    def named(self, x: str, name: str) -> str:
        """Give a tensor a name under which it can be an output."""
        return self._followed(self._node("Identity", [x], name), x)

    def pooled(self, x: str, name: str) -> str:
        """Add global average pooling, (N, C, h, w) -> (N, C)."""
        return self._node("Flatten", [self._node("GlobalAveragePool", [x], f"{name}.pooled")], name)

    def linear(self, x: str, layer: str, name: str) -> str:
        """Add a fully connected layer."""
        weight, bias = (self._constant(f"{layer}.{part}", self._take(f"{layer}.{part}")) for part in ("weight", "bias"))
        return self._node("Gemm", [x, weight, bias], name, transB=1)

    def serialized(self, name: str, outputs: Sequence[str]) -> bytes:
        """Return the finished model."""
        if self._unused:
            raise InputError(f"the checkpoint is not one of {name}: it also holds {min(self._unused)}")
        value = partial(helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
        graph = helper.make_graph(
            self._nodes, name,
            [value("pixels", shape=["n", 3, self._size, self._size])],
            [value(output, shape=None) for output in outputs],
            self._constants,
        )  # fmt: skip
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        serialized: bytes = made.SerializeToString(deterministic=True)
        return serialized

    def _folded(self, weight: str, norm: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the kernel and bias of a convolution followed by batch normalization."""
        kernel = self._take(weight).astype(np.float64)
        gain, shift, mean, variance = (
            self._take(f"{norm}.{part}").astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + self._epsilon)
        return (kernel * scale[:, None, None, None]).astype(np.float32), (shift - mean * scale).astype(np.float32)

    def _take(self, key: str) -> NDArray[Any]:
        self._unused.discard(key)
        try:
            return self._state[key]
        except KeyError as error:
            raise InputError(f"the checkpoint is not {self._kind}: it lacks {key}") from error

    def _relu6(self, x: str) -> str:
        limits = [self._constant("zero", np.float32(0)), self._constant("six", np.float32(6))]
        return self._followed(self._node("Clip", [x, *limits], f"{x}.relu6"), x)

    def _constant(self, name: str, value: NDArray[Any] | np.float32) -> str:
        if all(constant.name != name for constant in self._constants):
            self._constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def _followed(self, y: str, x: str) -> str:
        self._sides[y] = self._sides[x]
        return y

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output


def _same_padding(side: int, kernel: int, stride: int) -> tuple[int, int, int]:
    """Return TensorFlow's "same" padding before and after, and the side that comes out; the odd pixel goes after."""
    out = math.ceil(side / stride)
    total = max((out - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2, out


def _half_a_kernel(side: int, kernel: int, stride: int) -> tuple[int, int, int]:
    half = kernel // 2
    return half, half, (side + 2 * half - kernel) // stride + 1
