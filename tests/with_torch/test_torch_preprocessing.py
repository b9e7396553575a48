"""Recipes against what torchvision and timm themselves make of real photos."""

import math
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage.data
import torchvision.models
from timm.data import create_transform
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from lookalike.preprocess import prepare_one
from lookalike.recipe import Recipe
from lookalike.types import Image

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def photos() -> dict[str, np.ndarray]:
    whole = {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    odd = {f"part of {name}": np.ascontiguousarray(pixels[17:, 62:]) for name, pixels in whole.items()}
    return whole | odd


every_photo = pytest.mark.parametrize("pixels", photos().values(), ids=photos())


def assert_same_input(pixels: np.ndarray, recipe: Recipe, transform: Any) -> None:
    ours = prepare_one(Image(pixels, (1, 1)), recipe).astype(float)
    theirs = transform(PIL.Image.fromarray(pixels)).numpy()
    assert ours.shape == theirs.shape
    assert (ours * theirs).sum() / np.sqrt((ours * ours).sum() * (theirs * theirs).sum()) > 0.9999
    assert np.abs(ours - theirs).mean() < 0.01


@every_photo
@pytest.mark.parametrize("filter_name", ["bicubic", "bilinear", "lanczos"])
@pytest.mark.parametrize(("size", "share"), [(224, 0.875), (224, 0.9), (224, 1.0), (256, 0.95), (240, 0.882)])
def test_resize_is_timms_and_torchvisions_crop(pixels: np.ndarray, filter_name: Any, size: int, share: float) -> None:
    shorter = math.floor(size / share)
    recipe = Recipe(size, "crop", resize=shorter, filter=filter_name, **IMAGENET)
    assert_same_input(pixels, recipe, create_transform(size, interpolation=filter_name, crop_pct=share, **IMAGENET))
    steps = [
        Resize(shorter, interpolation=InterpolationMode(filter_name)),
        CenterCrop(size),
        ToTensor(),
        Normalize(**IMAGENET),
    ]
    assert_same_input(pixels, recipe, Compose(steps))


@every_photo
@pytest.mark.parametrize(
    "weights",
    [
        torchvision.models.MobileNet_V3_Large_Weights.IMAGENET1K_V2,
        torchvision.models.ResNet18_Weights.IMAGENET1K_V1,
        torchvision.models.ResNet50_Weights.IMAGENET1K_V2,
    ],
    ids=str,
)
def test_the_presets_of_torchvision_are_recipes(pixels: np.ndarray, weights: Any) -> None:
    preset = weights.transforms()
    recipe = Recipe(preset.crop_size[0], "crop", resize=preset.resize_size[0], filter="bilinear", **IMAGENET)
    assert_same_input(pixels, recipe, preset)


@every_photo
def test_squash_is_timms(pixels: np.ndarray) -> None:
    halves = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    squash = create_transform(224, interpolation="bicubic", crop_pct=1.0, crop_mode="squash", **halves)
    assert_same_input(pixels, Recipe(224), squash)
