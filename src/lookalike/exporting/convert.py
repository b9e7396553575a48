"""torch module -> ONNX file, and how far the two are apart."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.encoders.onnx import session
from lookalike.errors import ConfigError
from lookalike.types import Float32

OUTPUT = "lookalike_embedding"  # no layer is called so; "embedding" is one in most text towers


def convert(module: Any, example: Any, name: str, path: Path) -> None:
    """Write ``module`` as ONNX with one input of the shape of ``example``, batch 1, and one output, ``OUTPUT``.

    Raise ConfigError where torch cannot express the network, or it is larger than one file can be.
    """
    scripted = isinstance(module, torch.jit.ScriptModule)  # torch.export cannot look into those, the older exporter can
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (example,),
                str(path),
                input_names=[name],
                output_names=[OUTPUT],
                dynamo=not scripted,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise ConfigError(f"torch cannot write this network as ONNX: {_innermost(error)}") from error
    beside = path.with_name(f"{path.name}.data")
    if beside.exists():
        size = beside.stat().st_size / 1e9
        raise ConfigError(f"the weights have {size:.1f} GB, an ONNX file in one piece holds 2: take a smaller network")


def _innermost(error: BaseException) -> str:
    """Return what is wrong with the network; torch wraps it in advice to its developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def forward(module: Any, example: Any) -> Float32:
    """Return what the network itself makes of a batch: (N, dim) float32."""
    with torch.no_grad():
        made = module(example)
    if not isinstance(made, torch.Tensor) or made.ndim != 2:
        what = f"a tensor of shape {tuple(made.shape)}" if isinstance(made, torch.Tensor) else type(made).__name__
        raise ConfigError(f"the network returns {what}; an encoder returns one vector a picture, (N, dim)")
    return np.asarray(made.numpy(), np.float32)


def run(path: Path, batch: NDArray[Any]) -> Float32:
    """Return what the ONNX model makes of a batch, row by row."""
    made = session(path.name, path)
    name = made.get_inputs()[0].name
    return np.concatenate([made.run([OUTPUT], {name: row[None]})[0] for row in batch])


def difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return how far the unit vectors of two (N, dim) arrays are apart at the worst number."""
    return float(np.abs(_unit(a) - _unit(b)).max())


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the least cosine of rows of two (N, dim) arrays."""
    return float((_unit(a) * _unit(b)).sum(1).min())


def _unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True).clip(1e-12)
    return unit
