"""The network against vectors that torch made (tools/parity.py --write), and against the classes that people named."""

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import PIL.Image
import pytest
import skimage.data

from lookalike import registry
from lookalike.encoders import efficientnet_lite as lite
from lookalike.encoders import torchfile
from lookalike.errors import InputError
from lookalike.preprocess import prepare
from lookalike.protocols import FeatureMaps
from lookalike.types import Image

ROOT = Path(__file__).parents[1]
REFERENCE: dict[str, Any] = json.loads((ROOT / "tests/data/efficientnet_lite0_torch.json").read_text())["photos"]
PHOTOS = ROOT.parent / "shared/data/imagenet_photos"

# ImageNet-1k indices.
CATS = {281, 282, 283, 284, 285}
ESPRESSO = {967}
MISSILE = {657}


def photo(name: str) -> Image:
    pixels = getattr(skimage.data, name)()
    return Image(pixels, pixels.shape[1::-1], name)


def cut(name: str) -> Image:
    step, top, left = REFERENCE[name]["cut"]
    pixels = getattr(skimage.data, name)()[::step, ::step][top : top + 224, left : left + 224]
    return Image(pixels, (224, 224), name)


@cache
def classifier() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(lite.model(lite.LITE0, [lite.LOGITS]), providers=["CPUExecutionProvider"])


def classes(image: Image) -> list[int]:
    """Return the class indices, likeliest first."""
    scores = classifier().run(None, {"pixels": prepare([image], lite.LITE0.recipe)})[0][0]
    return [int(i) for i in np.argsort(-scores)]


@pytest.mark.parametrize("name", REFERENCE)
def test_the_embedding_is_what_torch_makes(name: str) -> None:
    made = registry.encoder("efficientnet-lite0").encode([cut(name)])
    raw = made.vectors[0] * made.norms[0]
    expected = np.array(REFERENCE[name]["embedding"])
    assert expected.max() > 1
    assert np.abs(raw - expected).max() < 1e-4


@pytest.mark.parametrize("name", REFERENCE)
def test_the_five_likeliest_classes_are_those_of_torch(name: str) -> None:
    assert classes(cut(name))[:5] == REFERENCE[name]["top5"]


@pytest.mark.parametrize("name", REFERENCE)
def test_the_mean_of_the_head_map_is_the_embedding(name: str) -> None:
    encoder = registry.encoder("efficientnet-lite0")
    assert isinstance(encoder, FeatureMaps)
    [maps] = encoder.maps([cut(name)])
    assert [m.shape for m in maps.values()] == [
        (24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7), (1280, 7, 7),
    ]  # fmt: skip
    assert list(maps) == list(lite.MAPS)
    assert np.abs(maps["head"].mean(axis=(1, 2)) - np.array(REFERENCE[name]["embedding"])).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "named", "among"), [("chelsea", CATS, 1), ("coffee", ESPRESSO, 1), ("rocket", MISSILE, 2)]
)
def test_a_recognizable_photo_gets_its_imagenet_class(name: str, named: set[int], among: int) -> None:
    assert named & set(classes(photo(name))[:among])


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photos of ../shared are not here: they are not ours to copy")
def test_most_of_a_hundred_imagenet_photos_get_their_class() -> None:
    with (PHOTOS / "groundtruth.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 500
    # Indices follow the sorted wnids; these 500 are every other one of the 1,000, from the first.
    right = 0
    for position in range(0, 500, 5):
        pixels = np.asarray(PIL.Image.open(PHOTOS / rows[position]["path"]).convert("RGB"))
        right += classes(Image(pixels, pixels.shape[1::-1]))[0] == 2 * position
    # Published top-1 on the validation set: 74.8 %, with a centre crop. These may be training photos.
    assert right >= 75


def test_a_checkpoint_of_another_depth_is_refused() -> None:
    state = torchfile.parse(lite.LITE0.weights.read(), "lite0")
    deeper = {**state, "_blocks.16._expand_conv.weight": state["_blocks.15._expand_conv.weight"]}
    with pytest.raises(InputError, match=r"_blocks\.16"):
        lite.build(deeper, lite.LITE0, [lite.EMBEDDING])
    shallower = {key: value for key, value in state.items() if not key.startswith("_blocks.15.")}
    with pytest.raises(InputError, match=r"_blocks\.15"):
        lite.build(shallower, lite.LITE0, [lite.EMBEDDING])
