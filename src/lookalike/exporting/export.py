"""One export: load, convert, compare with the source, and only then write the card."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike import installed
from lookalike.encoders import folder as installed_encoder
from lookalike.encoders.text import tokenizer
from lookalike.errors import ConfigError
from lookalike.exporting import convert, samples
from lookalike.exporting.request import Request
from lookalike.exporting.source import Source, Words
from lookalike.installed import Card, TextCard
from lookalike.preprocess import prepare
from lookalike.protocols import TextEncoder
from lookalike.recipe import Recipe

LARGEST_DIFFERENCE = 1e-4
"""Between the numbers of a unit vector, ours and the source's, from the same input."""

LEAST_COSINE = 0.999
"""Between the vectors of a picture, each with its own preprocessing: resizers round differently, but no more."""

_PICTURES, _TEXTS = "model.onnx", "text.onnx"


def export(request: Request, folder: Path) -> Card:
    """Leave an encoder's files in ``folder`` and return its card.

    Raise ConfigError where the source cannot be had, cannot be converted, or gives other vectors than its export;
    InputError where a file of weights is refused or does not fit.
    """
    torch.manual_seed(0)
    source = _loaded(request)
    example = torch.zeros(1, 3, source.recipe.size, source.recipe.size)
    dim = convert.forward(source.pictures, example).shape[1]
    convert.convert(_fused(source.pictures, request.library), example, "pixels", folder / _PICTURES)
    text = _words(source.words, folder) if source.words else None
    card = Card(
        name=request.name,
        runtime="onnx",
        model=_PICTURES,
        sha256=installed.sha256_of(folder / _PICTURES),
        dim=dim,
        output=convert.OUTPUT,
        architecture=source.architecture + (", RANDOM WEIGHTS: only to try the export" if request.random else ""),
        source=request.source
        if request.checkpoint is None
        else f"{Path(request.source).name} ({request.architecture})",
        licence=request.licence or source.licence,
        good_for=request.good_for,
        made="export",
        recipe=tomllib.loads(source.recipe.to_toml()),
        text=text,
    )
    _compare(source, card, folder)
    return card


def _loaded(request: Request) -> Source:
    module = request.kind if request.library is None else request.library
    source: Source = import_module(f"lookalike.exporting.from_{module}").load(request)
    if request.recipe is None or request.kind == "torchscript":
        return source
    return replace(source, recipe=Recipe.from_toml(request.recipe), transform=None)


def _fused(module: Any, library: str | None) -> Any:
    """Return the network with the branches joined that only serve training (FastViT, MobileOne): same vectors, faster.

    Only timm's layers know how; what comes out is compared with the network as it was.
    """
    if library not in {"timm", "open_clip"}:
        return module
    from timm.utils.model import reparameterize_model  # noqa: PLC0415 - open_clip brings timm

    return reparameterize_model(module)


def _words(words: Words, folder: Path) -> TextCard:
    for name, content in words.files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    _check_tokens(words, folder)
    convert.convert(words.module, torch.zeros(1, words.context, dtype=torch.int64), "tokens", folder / _TEXTS)
    return TextCard(
        model=_TEXTS,
        sha256=installed.sha256_of(folder / _TEXTS),
        tokenizer=words.tokenizer,
        files=tuple(words.files),
        context=words.context,
        output=convert.OUTPUT,
    )


def _check_tokens(words: Words, folder: Path) -> None:
    ours = tokenizer(words.tokenizer, [folder / name for name in words.files], words.context)
    for text in samples.TEXTS:
        theirs = words.tokenize([text]).numpy()[0]
        if not np.array_equal(ours(text), theirs):
            raise ConfigError(
                f"the source splits {text!r} into tokens in a way that is not known here "
                f"({list(theirs[:8])}… against {list(ours(text)[:8])}…): its words cannot be exported"
            )


def _compare(source: Source, card: Card, folder: Path) -> None:
    """Raise ConfigError unless the installed encoder will give what the source gives."""
    encoder = installed_encoder.made(card, lambda name, _sha256: folder / name)
    pictures = samples.pictures()
    ours = prepare(pictures, source.recipe)
    _close(
        "the network",
        convert.forward(source.pictures, torch.from_numpy(ours)),
        convert.run(folder / _PICTURES, ours),
    )
    if source.transform is not None:
        theirs = torch.stack([source.transform(samples.as_pil(picture)) for picture in pictures])
        cosine = convert.cosine(convert.forward(source.pictures, theirs), encoder.encode(pictures).vectors)
        if not cosine >= LEAST_COSINE:
            raise ConfigError(
                f"the recipe does not prepare pictures as the source does: cosine {cosine:.5f}, expected {LEAST_COSINE}"
            )
    if source.words is not None:
        tokens = source.words.tokenize(samples.TEXTS)
        made = cast(TextEncoder, encoder).encode_text(samples.TEXTS).vectors
        _close("the text network", convert.forward(source.words.module, tokens), made)


def _close(what: str, theirs: NDArray[Any], ours: NDArray[Any]) -> None:
    found = convert.difference(theirs, ours)
    if not found < LARGEST_DIFFERENCE:
        raise ConfigError(
            f"{what} gives other vectors as ONNX than in torch: they differ by {found:.2g}, allowed is "
            f"{LARGEST_DIFFERENCE:.0e}; nothing is installed"
        )
