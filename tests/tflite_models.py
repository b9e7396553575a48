"""Small .tflite models, written through the format's own schema: the mean of a picture's rows and columns, and more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_TYPES = {"float32": schema.TensorType.FLOAT32, "uint8": schema.TensorType.UINT8}


def tiny(
    takes: Sequence[int] = (1, 4, 4, 3),
    gives: Sequence[int] = (1, 3),
    *,
    dtype: str = "float32",
    scale: float | None = None,
    operator: str = "MEAN",
    outputs: int = 1,
    signature: Sequence[int] | None = None,
) -> bytes:
    """Return a model: the mean over the axes 1 and 2 (or another operator of one input) into each of its outputs.

    ``scale`` makes numbers of type ``dtype`` stand for real ones, zero for zero; -1 in ``signature`` is an open axis.
    """
    model = schema.ModelT()
    model.version, model.description = 3, "tiny"
    mean = operator == "MEAN"
    model.buffers = [schema.BufferT(), _axes()] if mean else [schema.BufferT()]
    tensors = [_tensor("pixels", takes, dtype, scale, signature)]
    tensors += [_tensor(f"y{number}", gives, dtype, scale, None) for number in range(outputs)]
    if mean:
        tensors.append(_tensor("axes", (2,), "int32", None, None, buffer=1))
    graph = schema.SubGraphT()
    graph.name, graph.tensors = "main", tensors
    graph.inputs, graph.outputs = [0], list(range(1, outputs + 1))
    graph.operators = [_operator([0, outputs + 1] if mean else [0], output) for output in graph.outputs]
    model.subgraphs = [graph]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, operator)
    code.version = 1
    model.operatorCodes = [code]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _axes() -> Any:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.array([1, 2], np.int32).tobytes(), np.uint8)
    return buffer


def _tensor(
    name: str, shape: Sequence[int], dtype: str, scale: float | None, signature: Sequence[int] | None, buffer: int = 0
) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, np.array(shape, np.int32), buffer
    tensor.type = schema.TensorType.INT32 if dtype == "int32" else _TYPES[dtype]
    if signature is not None:
        tensor.shapeSignature = np.array(signature, np.int32)
    if scale is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = (
            np.array([scale], np.float32),
            np.array([0], np.int64),
        )
    return tensor


def _operator(inputs: Sequence[int], output: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, list(inputs), [output]
    if len(inputs) == 2:
        operator.builtinOptionsType, operator.builtinOptions = (
            schema.BuiltinOptions.ReducerOptions,
            schema.ReducerOptionsT(),
        )
        operator.builtinOptions.keepDims = False
    return operator
