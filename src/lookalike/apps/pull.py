"""Fetch an encoder of the catalog: on the user's word, checked, tried, installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import numpy as np

from lookalike import installed
from lookalike.encoders import folder
from lookalike.encoders.catalog import Entry, entry
from lookalike.encoders.download import Progress, fetch
from lookalike.encoders.weights import cache_folder
from lookalike.errors import ConfigError, MissingDependency
from lookalike.installed import Card
from lookalike.types import Image


@dataclass(frozen=True, slots=True)
class Offer:
    """What is shown before anything is fetched; ``size`` in bytes."""

    name: str
    architecture: str
    url: str
    licence: str
    size: int


def pull(name: str, *, ask: Callable[[Offer], bool], progress: Progress = lambda _: None) -> Entry:
    """Fetch and install the encoder ``name`` of the catalog, if ``ask`` says yes to the offer; return its entry.

    An encoder that is there is left alone. Raise ConfigError where it is not fetched in this way, where the answer is
    no, where it cannot be fetched (see :func:`lookalike.encoders.download.fetch`), or where what came does not work;
    MissingDependency where its runtime is not installed. Nothing is installed then; what was fetched is kept to go on
    with.
    """
    known = entry(name)
    if known.installed:
        return known
    offer = _offer(known)
    card = _card(known, offer)
    if card.runtime == "litert" and find_spec("ai_edge_litert") is None:
        raise MissingDependency(f"encoder {name}, a LiteRT model,", "litert")
    if not ask(offer):
        raise ConfigError(f"{name} was not fetched: its licence ({offer.licence}) and size have to be agreed to")
    file = fetch(offer.url, card.sha256, offer.size, _kept(card, offer), progress)
    _try(card, file)
    installed.install(card, {card.model: file})
    file.unlink()
    return entry(name)


def _offer(known: Entry) -> Offer:
    if known.how != "pull" or not (known.url and known.sha256 and known.size and known.runtime and known.dim):
        way = f"; it comes by: {known.way}" if known.way else ""
        raise ConfigError(f"encoder {known.name} is not fetched by pull{way}")
    return Offer(
        known.name, known.architecture or known.source, known.url, known.licence or "licence not told", known.size
    )


def _card(known: Entry, offer: Offer) -> Card:
    return Card(
        name=known.name,
        runtime=known.runtime or "",
        model=f"model{PurePosixPath(unquote(urlsplit(offer.url).path)).suffix}",
        sha256=known.sha256 or "",
        dim=known.dim or 0,
        architecture=known.architecture,
        source=known.source,
        licence=known.licence,
        good_for=known.good_for,
        made="pull",
        recipe=known.recipe,
    )


def _kept(card: Card, offer: Offer) -> Path:
    """Return where the file lies until it is installed."""
    return cache_folder() / "downloads" / f"{offer.name}-{card.sha256[:12]}{Path(card.model).suffix}"


def _try(card: Card, file: Path) -> None:
    """Encode a picture: raise ConfigError where the model does not load or does not fit what the catalog says."""
    grey = Image(np.full((32, 32, 3), 128, np.uint8), (32, 32), "a grey picture")
    folder.made(card, lambda _name, _sha256: file).encode([grey])
