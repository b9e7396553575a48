"""EfficientNet-Lite1 and Lite2 against the original implementation, MobileNetV2 against torchvision's."""

from __future__ import annotations

import io

import numpy as np
import onnxruntime
import pytest
import skimage.data
import torch
import torchvision
from efficientnet_lite_pytorch import EfficientNet

from lookalike import registry
from lookalike.encoders import efficientnet_lite as lite
from lookalike.encoders import mobilenet_v2
from lookalike.preprocess import Recipe, prepare
from lookalike.types import Image

PHOTOS = [getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")]
IMAGES = [Image(photo, photo.shape[1::-1]) for photo in PHOTOS]


def inputs(recipe: Recipe) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(2, 3, recipe.size, recipe.size)).astype(np.float32)
    return np.concatenate([prepare(IMAGES, recipe), noise])


def run(model: bytes, pixels: np.ndarray, outputs: list[str]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    made: list[np.ndarray] = session.run(outputs, {"pixels": pixels})
    return made


@pytest.mark.parametrize("variant", [lite.LITE1, lite.LITE2], ids=lambda variant: variant.name)
def test_the_lites_give_what_the_original_implementation_gives(variant: lite.Variant) -> None:
    network = EfficientNet.from_name(variant.name).eval()
    network.load_state_dict(torch.load(io.BytesIO(variant.weights.read()), weights_only=True), strict=True)
    pixels = inputs(variant.recipe)
    embedding, logits = run(lite.model(variant, [lite.EMBEDDING, lite.LOGITS]), pixels, [lite.EMBEDDING, lite.LOGITS])
    with torch.no_grad():
        features = network.extract_features(torch.from_numpy(pixels)).mean((2, 3)).numpy()
        scores = network(torch.from_numpy(pixels)).numpy()
    assert np.abs(embedding - features).max() < 1e-4
    assert np.abs(logits - scores).max() < 1e-4
    found = registry.encoder(variant.name).encode(IMAGES).vectors
    want = features[: len(IMAGES)] / np.linalg.norm(features[: len(IMAGES)], axis=1, keepdims=True)
    assert np.abs(found - want).max() < 1e-4


def test_mobilenet_v2_gives_what_torchvisions_features_give() -> None:
    network = torchvision.models.mobilenet_v2(weights=None).eval()
    state = torch.load(io.BytesIO(mobilenet_v2.WEIGHTS.read()), weights_only=True)
    # The checkpoint numbers the layers of a block through, torchvision nests them: the order is one.
    names = list(network.features.state_dict())
    assert [value.shape for value in network.features.state_dict().values()] == [v.shape for v in state.values()]
    network.features.load_state_dict(dict(zip(names, state.values(), strict=True)), strict=True)
    pixels = inputs(mobilenet_v2.RECIPE)
    seen = {}
    ends = {3: "reduction4", 6: "reduction8", 13: "reduction16", 17: "reduction32", 18: "head"}
    for number, name in ends.items():
        network.features[number].register_forward_hook(
            lambda _module, _input, output, name=name: seen.__setitem__(name, output.numpy())
        )
    with torch.no_grad():
        features = network.features(torch.from_numpy(pixels)).mean((2, 3)).numpy()
    (embedding,) = run(mobilenet_v2.model([mobilenet_v2.EMBEDDING]), pixels, [mobilenet_v2.EMBEDDING])
    assert np.abs(embedding - features).max() < 1e-4
    maps = run(mobilenet_v2.model(mobilenet_v2.MAPS), pixels, list(mobilenet_v2.MAPS))
    for name, made in zip(mobilenet_v2.MAPS, maps, strict=True):
        assert np.abs(made - seen[name]).max() < 1e-4 * max(1, np.abs(seen[name]).max())
    assert torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms().mean == list(mobilenet_v2.RECIPE.mean)
