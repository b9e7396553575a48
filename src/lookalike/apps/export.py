"""torch model -> installed encoder: another process makes it, with torch; here it is asked for, and installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from lookalike import installed, registry
from lookalike.apps.apart import run_apart
from lookalike.encoders.catalog import Entry, entry
from lookalike.errors import ConfigError, MissingDependency
from lookalike.exporting.request import ERROR, Request
from lookalike.installed import CARD, Card
from lookalike.recipe import Recipe


def export(request: Request) -> Entry:
    """Export a torch model to ONNX, compare it with its source, install it; return its entry.

    Raise MissingDependency without ``[export]``, ConfigError where the name is taken or the source cannot be had or
    converted, InputError where a file of weights is refused. Nothing is installed then.
    """
    _check_name(request.name)
    _check_extra(request.library)
    with TemporaryDirectory(prefix="lookalike-export-") as temporary:
        folder = Path(temporary)
        _run(request, folder)
        card = Card.from_toml((folder / CARD).read_text(encoding="utf-8"), request.source)
        files = [card.model, *((card.text.model, *card.text.files) if card.text else ())]
        installed.install(card, {name: folder / name for name in files})
    return entry(request.name)


def read_recipe(path: str) -> str:
    """Return the text of a recipe's file; raise ConfigError where there is none, or it holds no recipe."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the recipe {path} cannot be read: {error}") from error
    Recipe.from_toml(text)
    return text


def _check_name(name: str) -> None:
    installed.checked_name(name)
    # Found now, not after the minutes that an export takes; `install` checks again.
    if registry.taken(name) or name in installed.names():
        raise ConfigError(f"there is an encoder {name!r} already; choose another name, or remove that one")


def _check_extra(library: str | None) -> None:
    for module in ("torch", "onnxscript", *([library] if library else [])):
        if find_spec(module) is None:
            raise MissingDependency(f"an export (which needs {module})", "export")


def _run(request: Request, folder: Path) -> None:
    """Let the other process leave its files in ``folder``; raise the error that it left, or say how it ended."""
    run_apart("lookalike.exporting", request.to_json(), folder, ERROR, f"the export of {request.source}")
