"""What a user added becomes an encoder: its card says which runtime, recipe and model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lookalike import installed, registry
from lookalike.encoders import onnx
from lookalike.encoders.focused import Focus, focused
from lookalike.errors import ConfigError, UnknownComponent
from lookalike.installed import Card
from lookalike.preprocess import Recipe
from lookalike.protocols import Encoder

_VERSION = 12
"""So many digits of a model's sha256 are its version."""


def encoder(name: str) -> Encoder:
    """Return an installed encoder; its model is read, and its sha256 checked, when it is first used.

    Raise ConfigError where the card is damaged, or needs what is not installed.
    """
    card = installed.card(name)
    return made(card, partial(installed.checked, name))


def made(card: Card, file: Callable[[str, str], Path]) -> Encoder:
    """Return the encoder of a card; ``file(name, sha256)`` returns the path of one of its files, checked."""
    model = partial(file, card.model, card.sha256)
    if card.runtime == "reduced":
        from lookalike.encoders.reduced import reduced  # noqa: PLC0415 - its base is asked for

        return reduced(card, model, _base(card))
    if card.runtime == "head":
        from lookalike.encoders.head import head  # noqa: PLC0415 - its base is asked for

        return head(card, model, _base(card))
    if card.runtime == "joined":
        from lookalike.encoders.joined import Joined  # noqa: PLC0415 - its parts are asked for

        return Joined(card, model)
    parts: dict[str, Any] = {
        "name": card.name,
        "version": card.sha256[:_VERSION],
        "recipe": Recipe.from_table(card.recipe),
        "dim": card.dim,
        "model": model,
        "output": card.output,
    }
    if card.runtime == "litert":
        from lookalike.encoders.litert import LiteRTEncoder  # noqa: PLC0415 - an extra

        return LiteRTEncoder(**parts)
    if card.text is None:
        return onnx.OnnxEncoder(**parts)
    from lookalike.encoders.text import WordsAndPictures  # noqa: PLC0415

    return WordsAndPictures(text=card.text, file=file, **parts)


def bases(card: Card) -> tuple[str, ...]:
    """Return the names of the encoders that one stands on; raise ConfigError where it is damaged."""
    if card.runtime == "joined":
        from lookalike.encoders.joined import unpacked  # noqa: PLC0415

        data = installed.checked(card.name, card.model, card.sha256).read_bytes()
        return tuple(part.encoder for part in unpacked(data, card.name))
    return () if card.base is None else (card.base,)


def width(name: str, runtime: str, model: Path, recipe: Recipe, output: str | None) -> int:
    """Return how many numbers a model gives for a picture; raise ConfigError where it does not fit the recipe."""
    if runtime == "litert":
        from lookalike.encoders import litert  # noqa: PLC0415 - an extra

        return litert.width(name, model, recipe, output)
    return onnx.width(name, model, recipe, output)


@contextmanager
def laid_out(files: Mapping[str, Path | bytes]) -> Iterator[Path]:
    """Yield a temporary folder that holds these files by name, links to those that exist."""
    with TemporaryDirectory() as place:
        for name, content in files.items():
            target = Path(place, name)
            if isinstance(content, bytes):
                target.write_bytes(content)
            else:
                target.symlink_to(content.resolve())
        yield Path(place)


def part_of(name: str, part: str) -> Encoder:
    """Return an encoder that another, ``name``, stands on; raise ConfigError, naming both, where it is gone."""
    try:
        return registry.encoder(part)
    except UnknownComponent as error:
        raise ConfigError(
            f"encoder {name} stands on {part}, which is not installed any more; put {part} back, or make {name} anew"
        ) from error


def _base(card: Card) -> Encoder:
    """Return the encoder that another stands on, through its focus, if it still is the one that it was made for."""
    base = part_of(card.name, card.base or "")
    space = f"{base.space.version}/{base.space.preprocess}"
    if space != card.base_space:
        raise ConfigError(
            f"encoder {card.name} was made for {card.base} of {card.base_space}, which now is {space}; make it anew"
        )
    return focused(base, Focus(card.cut or 0, card.colours or 0))
