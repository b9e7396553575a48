"""Networks of torchvision: what goes into the classifier, and the recipe of the weights' own transforms."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn

from lookalike.errors import ConfigError
from lookalike.exporting import weights
from lookalike.exporting.request import Request
from lookalike.exporting.source import Source
from lookalike.recipe import Recipe

_HEADS = ("fc", "classifier", "heads", "head")


def load(request: Request) -> Source:
    """Return the network of ``torchvision:NAME/WEIGHTS``, with its best weights where none are named."""
    name, _, tag = request.model.partition("/")
    chosen = weights.fetched(request.source, lambda: torchvision.models.get_model_weights(name)[tag or "DEFAULT"])
    own = chosen if request.checkpoint is None and not request.random else None
    module = weights.fetched(request.source, lambda: torchvision.models.get_model(name, weights=own))
    head = _behead(module, name)
    if request.checkpoint is not None:
        weights.put(module, weights.read(request.checkpoint), [head], request.checkpoint)
    transform = (
        chosen.transforms()
        if request.size is None
        else chosen.transforms(crop_size=request.size, resize_size=request.size)
    )
    return Source(
        pictures=module.eval(),
        recipe=recipe_of(transform, name),
        architecture=f"torchvision {name}, {chosen.name}, what goes into the classifier, fp32",
        transform=transform,
    )


def _behead(module: Any, name: str) -> str:
    """Take the classifier off, from its first linear layer on; return where it was."""
    head = next((one for one in _HEADS if isinstance(getattr(module, one, None), nn.Module)), None)
    layers = [] if head is None else list(_layers(getattr(module, head)))
    first = next((i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)), None)
    if head is None or first is None:
        raise ConfigError(
            f"torchvision:{name} has no classifier whose input could be taken; known: {', '.join(_HEADS)}"
        )
    setattr(module, head, nn.Sequential(*layers[:first]))
    return head


def _layers(head: Any) -> list[Any]:
    return list(head.children()) if isinstance(head, nn.Sequential) else [head]


def recipe_of(transform: Any, name: str) -> Recipe:
    """Return the recipe of ``weights.transforms()``."""
    try:
        [size], [resized] = transform.crop_size, transform.resize_size
        mean, std, interpolation = transform.mean, transform.std, transform.interpolation.value
    except (AttributeError, ValueError) as error:
        raise ConfigError(f"torchvision:{name} prepares pictures in a way that no recipe tells: {transform}") from error
    return Recipe(size=size, fit="crop", resize=resized, filter=interpolation, mean=tuple(mean), std=tuple(std))
