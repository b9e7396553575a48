"""Networks of open_clip: both towers, before they are normalized, with the recipe and the tokenizer of the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
from open_clip.model import get_model_preprocess_cfg
from open_clip.tokenizer import HFTokenizer, default_bpe
from torch import nn

from lookalike.errors import ConfigError
from lookalike.exporting import weights
from lookalike.exporting.request import Request
from lookalike.exporting.source import Source, Words
from lookalike.recipe import Recipe

_FITS = {"shortest": "crop", "longest": "pad", "squash": "squash"}
_FOLDERS = ("hf-hub:", "local-dir:")
"""Names that open_clip takes for a folder with a configuration, weights and tokenizer in one."""


class _Pictures(nn.Module):  # type: ignore[misc]
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Any) -> Any:
        """Return the vectors of pictures, (N, dim), not normalized."""
        return self.model.encode_image(pixels)


class _Texts(nn.Module):  # type: ignore[misc]
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Any) -> Any:
        """Return the vectors of texts, (N, dim), not normalized."""
        return self.model.encode_text(tokens)


def load(request: Request) -> Source:
    """Return both towers of ``open_clip:MODEL/PRETRAINED``, ``…:hf-hub:REPOSITORY`` or ``…:local-dir:FOLDER``."""
    name, tag = _name_and_weights(request)
    if request.checkpoint is not None:
        weights.read(request.checkpoint)  # refused by us, in words, before open_clip reads it as carefully
    model, _, transform = weights.fetched(
        request.source,
        lambda: open_clip.create_model_and_transforms(
            name,
            pretrained=None if request.random else tag,
            load_weights=not request.random,
            force_quick_gelu=quick_gelu(name, tag),
            force_image_size=request.size,
        ),
    )
    model.eval()
    return Source(
        pictures=_Pictures(model),
        recipe=recipe_of(get_model_preprocess_cfg(model)),
        architecture=f"open_clip {request.model}, fp32",
        transform=transform,
        licence=None,
        words=_words(request, name, model),
    )


def _name_and_weights(request: Request) -> tuple[str, str | None]:
    if request.model.startswith(_FOLDERS):
        return request.model, None
    name, _, tag = request.model.partition("/")
    if request.checkpoint is not None:
        return name, request.checkpoint
    if not tag and not request.random:
        known = open_clip.list_pretrained_tags_by_model(name)
        raise ConfigError(
            f"{request.source} names no weights: write open_clip:MODEL/PRETRAINED"
            + (f"; for {name} there are {', '.join(known)}" if known else "; open_clip knows no weights of this model")
        )
    return name, tag or None


def quick_gelu(name: str, tag: str | None) -> bool:
    """Tell whether the weights were trained with OpenAI's activation; open_clip only warns of another."""
    known = open_clip.get_pretrained_cfg(name, tag) if tag else {}
    return bool(known.get("quick_gelu", False))


def recipe_of(config: dict[str, Any]) -> Recipe:
    """Return the recipe of a preprocess config: what ``open_clip.image_transform`` does in evaluation."""
    size = config["size"]
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise ConfigError(f"a recipe is square, this network takes {size} pixels")
    side = sides.pop()
    fit = _FITS[config.get("resize_mode") or "shortest"]
    filling = config.get("fill_color") or 0
    return Recipe(
        size=side,
        fit=fit,  # type: ignore[arg-type]
        filter="bilinear" if config.get("interpolation") == "bilinear" else "bicubic",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        fill=(filling,) * 3 if fit == "pad" else (0, 0, 0),
        resize=side if fit == "crop" else None,
    )


def _words(request: Request, name: str, model: Any) -> Words:
    tokenize = weights.fetched(f"the tokenizer of {request.source}", lambda: open_clip.get_tokenizer(name))
    context = int(tokenize.context_length)
    kind = "hf" if isinstance(tokenize, HFTokenizer) else "clip-bpe"
    files: dict[str, Path | bytes] = (
        {"tokenizer.json": _tokenizer_json(tokenize, context)} if kind == "hf" else {"bpe.txt.gz": Path(default_bpe())}
    )
    return Words(module=_Texts(model), tokenize=tokenize, tokenizer=kind, files=files, context=context)


def _tokenizer_json(tokenize: Any, context: int) -> bytes:
    """Return the whole of what open_clip does to a text after repairing it: cleaning, splitting, cutting, padding."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - comes with transformers, for these tokenizers only

    given = tokenize.tokenizer
    made = Tokenizer.from_str(given.backend_tokenizer.to_str())
    made.enable_truncation(context, direction=given.truncation_side)
    made.enable_padding(
        length=context, pad_id=given.pad_token_id, pad_token=given.pad_token, direction=given.padding_side
    )
    cleaning = _cleaning(tokenize.clean_fn.__name__)
    made.normalizer = _sequence([*cleaning, made.normalizer] if made.normalizer else cleaning)
    return made.to_str().encode()


def _sequence(steps: list[Any]) -> Any:
    from tokenizers import normalizers  # noqa: PLC0415

    return normalizers.Sequence(steps)


def _cleaning(name: str) -> list[Any]:
    """Return open_clip's function of this name as steps of a tokenizer."""
    from tokenizers import Regex  # noqa: PLC0415
    from tokenizers.normalizers import Lowercase, Replace, Strip  # noqa: PLC0415

    spaces = [Replace(Regex(r"\s+"), " "), Strip()]
    steps = {
        "_clean_whitespace": spaces,
        "_clean_lower": [*spaces, Lowercase()],
        "_clean_canonicalize": [
            Replace("_", " "),
            Replace(Regex(r"[!-/:-@\[-`{-~]"), ""),
            Lowercase(),
            *spaces,
        ],
    }
    if name not in steps:
        raise ConfigError(f"this tokenizer cleans texts by {name}, which is not known here")
    return steps[name]
