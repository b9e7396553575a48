"""TorchScript files: a network with its weights, in torch's own small language.

The language has no names but torch's operators, yet three of them open files, and ``__setstate__`` runs while a file is
loaded. So the code is read as text first.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import torch

from lookalike.errors import InputError
from lookalike.exporting.request import Request
from lookalike.exporting.source import Source
from lookalike.recipe import Recipe

_UNSAFE = re.compile(r"\b(?:save|load|from_file|__setstate__)\s*\(")


def load(request: Request) -> Source:
    """Return the network of a file; what its vectors are and how pictures are prepared is the recipe's word.

    A Python pickle is no TorchScript, and is not opened as one.
    """
    _check_code(request.target)
    try:
        module = torch.jit.load(request.target, map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{request.target} is no TorchScript file: {reason}") from error
    return Source(
        pictures=module.eval(),
        recipe=Recipe.from_toml(request.recipe or ""),
        architecture=f"TorchScript {Path(request.target).name}, fp32",
    )


def _check_code(path: str) -> None:
    """Raise InputError for code that opens files or runs while it is loaded."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                found = _UNSAFE.search(archive.read(name).decode("utf-8", "replace")) if name.endswith(".py") else None
                if found:
                    raise InputError(f"{path} is refused unread: its code ({name}) says {found[0]!r}")
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no TorchScript file: {error}") from error
