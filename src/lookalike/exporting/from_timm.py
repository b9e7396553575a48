"""Networks of timm: pooled features, and the recipe of timm's own data config."""

from __future__ import annotations

import math
import sys
from typing import Any

import timm
import timm.data

from lookalike.errors import ConfigError
from lookalike.exporting import weights
from lookalike.exporting.request import Request
from lookalike.exporting.source import Source
from lookalike.recipe import Recipe


def load(request: Request) -> Source:
    """Return the network of ``timm:NAME``, with the library's weights, those of a checkpoint, or random ones."""
    own = request.checkpoint is None and not request.random
    sized = {} if request.size is None else {"img_size": request.size}
    module = weights.fetched(request.source, lambda: _made(request.model, own, sized))
    if request.checkpoint is not None:
        _fill(module, request.checkpoint)
    config = timm.data.resolve_model_data_config(module)
    if request.size is not None:
        config["input_size"] = (3, request.size, request.size)
    return Source(
        pictures=module.eval(),
        recipe=recipe_of(config),
        architecture=f"timm {request.model}, pooled features, fp32",
        transform=timm.data.create_transform(**config, is_training=False),
        licence=module.pretrained_cfg.get("license"),
    )


def _made(name: str, pretrained: bool, sized: dict[str, int]) -> Any:
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, **sized)
    except TypeError as error:  # a convolutional network takes any size, and has no such argument
        if "img_size" not in str(error):
            raise
        return timm.create_model(name, pretrained=pretrained, num_classes=0)


def _fill(module: Any, path: str) -> None:
    state = weights.read(path)
    # Some families were published under other names than timm's: each knows how to translate its own.
    translate = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    heads = module.pretrained_cfg.get("classifier") or ()
    weights.put(
        module, translate(state, module) if translate else state, [heads] if isinstance(heads, str) else heads, path
    )


def recipe_of(config: dict[str, Any]) -> Recipe:
    """Return the recipe of a data config: what ``timm.data.create_transform`` does in evaluation."""
    _, height, width = config["input_size"]
    if height != width:
        raise ConfigError(f"a recipe is square, this network takes {width} x {height} pixels")
    resized = math.floor(height / config["crop_pct"])
    fit: dict[str, Any] = {"fit": "crop", "resize": resized}
    if config["crop_mode"] == "squash":
        margin = round((resized - height) / 2) / resized
        fit = {"fit": "squash", "region": (margin, margin, margin + height / resized, margin + height / resized)}
    elif config["crop_mode"] == "border":
        if resized != height:
            raise ConfigError(f"no recipe pads a picture and then cuts it: crop_pct is {config['crop_pct']}")
        fit = {"fit": "pad", "fill": tuple(round(255 * value) for value in config["mean"])}
    return Recipe(
        size=height, filter=config["interpolation"], mean=tuple(config["mean"]), std=tuple(config["std"]), **fit
    )
