"""Names of parts -> how to make them. Built-ins and plug-ins come through the same door, and listing imports nothing.

To add a built-in: write its file, add one line to ``_BUILTIN``, one line to the contract test of its kind.
A plug-in package declares an entry point in the group ``lookalike.encoders`` (or ``lookalike.metrics``,
``lookalike.pair_metrics``, ``lookalike.rerankers``). What a user added lies in a folder (:mod:`lookalike.installed`).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, cast

from lookalike import installed
from lookalike.errors import ConfigError, UnknownComponent
from lookalike.protocols import Encoder, Metric, PairMetric, Reranker

DEFAULT_ENCODER = "efficientnet-lite0"
DEFAULT_METRIC = "cosine"

# kind -> name -> "module:factory". A factory is called without arguments.
_BUILTIN: dict[str, dict[str, str]] = {
    "encoder": {
        "efficientnet-lite0": "lookalike.encoders.efficientnet_lite:efficientnet_lite0",
        "efficientnet-lite1": "lookalike.encoders.efficientnet_lite:efficientnet_lite1",
        "efficientnet-lite2": "lookalike.encoders.efficientnet_lite:efficientnet_lite2",
        "mobilenet-v2": "lookalike.encoders.mobilenet_v2:mobilenet_v2",
        "color-histogram": "lookalike.encoders.histogram:ColorHistogram",
    },
    "metric": {
        "cosine": "lookalike.metrics.cosine:Cosine",
        "euclidean": "lookalike.metrics.euclidean:Euclidean",
        "manhattan": "lookalike.metrics.manhattan:Manhattan",
    },
    "pair_metric": {
        "ssim": "lookalike.metrics.structural:Ssim",
        "ms-ssim": "lookalike.metrics.structural:MsSsim",
    },
    "reranker": {
        "k-reciprocal": "lookalike.reranking.k_reciprocal:KReciprocal",
        "query-expansion": "lookalike.reranking.query_expansion:QueryExpansion",
    },
}


def names(kind: str) -> list[str]:
    """Return the known names of a kind ("encoder", "metric", "reranker", …), sorted; nothing is imported."""
    return sorted({*_table(kind), *(installed.names() if kind == "encoder" else ())})


def encoder(name: str) -> Encoder:
    """Return the encoder of this name; it is made once a process, since its weights are large.

    Built-ins and plug-ins come first; what was installed (``lookalike encoders add``) has a name of its own.
    """
    if name not in _table("encoder"):
        if name not in installed.names():
            way = import_module("lookalike.encoders.catalog").way_to(name)
            if way:
                raise ConfigError(f"encoder {name!r} is known, but not installed here; to get it: {way}")
            raise UnknownComponent("encoder", name, names("encoder"))
        return _installed(name, str(installed.home()))
    return cast(Encoder, _make("encoder", name))


def taken(name: str) -> bool:
    """Tell whether a built-in or a plug-in has this name."""
    return name in _table("encoder")


@cache
def _installed(name: str, _home: str) -> Encoder:
    made: Encoder = import_module("lookalike.encoders.folder").encoder(name)
    return made


def metric(name: str) -> Metric:
    """Return the metric of this name."""
    return cast(Metric, _make("metric", name))


def pair_metric(name: str) -> PairMetric:
    """Return the metric of two pictures of this name."""
    return cast(PairMetric, _make("pair_metric", name))


def reranker(name: str) -> Reranker:
    """Return the re-ranker of this name."""
    return cast(Reranker, _make("reranker", name))


@cache
def _make(kind: str, name: str) -> Any:
    table = _table(kind)
    if name not in table:
        raise UnknownComponent(kind, name, table)
    try:
        module, _, attribute = table[name].partition(":")
        return getattr(import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{kind} {name!r} cannot be loaded from {table[name]}: {error}") from error


@cache
def _table(kind: str) -> dict[str, str]:
    table = dict(_BUILTIN[kind])
    for point in entry_points(group=f"lookalike.{kind}s"):
        if point.name in table:
            raise ConfigError(
                f"{kind} {point.name!r} is defined twice: by {table[point.name]} and by {point.value}; "
                "uninstall one of the two packages"
            )
        table[point.name] = point.value
    return table
