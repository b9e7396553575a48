"""What this installation can read, as text: when it changes, files that could not be read are tried again."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

from lookalike.images.limits import Limits

_DECODERS = ("lookalike", "pillow", "simplejpeg", "pillow-heif", "pydicom", "python-gdcm")


def reader_fingerprint() -> str:
    """Return the versions of the decoders and the limits in force, in one line."""
    return f"{_decoders()} {Limits.from_environment()}"


@cache
def _decoders() -> str:
    return " ".join(f"{name}={_version(name)}" for name in _DECODERS)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
