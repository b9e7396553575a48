"""An inspector as the bytes of one file: a line that says what it is, a seal, and arrays. No code is ever read.

lookalike inspector 1\\n        what it is, and the version of this layout
32 bytes                       sha256 of all that follows
.npz                           ``header`` (JSON: rate, names, sizes, contents, space, tests) and the arrays
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import ConfigError, InputError, LookalikeError, SpaceMismatch
from lookalike.inspecting.aligned import TemplateSet
from lookalike.inspecting.bank import Bank
from lookalike.inspecting.detail import Moments
from lookalike.inspecting.inspector import Inspector
from lookalike.inspecting.surface import Model
from lookalike.protocols import Encoder
from lookalike.types import Image, Space

VERSION = 1
MOST_BYTES = 50_000_000
_MAGIC = b"lookalike inspector "
_SEAL = hashlib.sha256().digest_size


def to_bytes(inspector: Inspector) -> bytes:
    """Return the inspector as the bytes of a file; raise ConfigError where it would take more than 50 MB."""
    out = io.BytesIO()
    arrays: dict[str, Any] = {"header": _header(inspector), **_arrays(inspector)}
    np.savez_compressed(out, **arrays)
    body = out.getvalue()
    if len(body) > MOST_BYTES:
        raise ConfigError(
            f"the inspector takes {len(body) / 1e6:.0f} MB, more than {MOST_BYTES / 1e6:.0f}: "
            "give fewer or smaller templates"
        )
    return _MAGIC + f"{VERSION}\n".encode() + hashlib.sha256(body).digest() + body


def from_bytes(data: bytes, source: str, encoder_of: Callable[[str], Encoder]) -> Inspector:
    """Return the inspector in the bytes of the file ``source``; ``encoder_of`` gives the encoder of a name.

    Raise InputError where they are none, damaged, or of a newer version; SpaceMismatch where the encoder of that name
    is another one than it was fitted with.
    """
    try:
        made = _read(_body(data, source))
    except LookalikeError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{source} is no inspector of lookalike, or a damaged one: {error}; fit it again") from error
    if made.space is None:
        return made
    encoder = encoder_of(made.space.encoder)
    if encoder.space != made.space:
        raise SpaceMismatch(made.space, encoder.space, f"{source} was fitted with another encoder: fit it again")
    return replace(made, encoder=encoder)


def _header(inspector: Inspector) -> NDArray[np.uint8]:
    told = {
        "rate": inspector.rate,
        "names": list(inspector.names),
        "sizes": list(inspector.sizes),
        "contents": sorted(inspector.contents),
        "space": None if inspector.space is None else inspector.space.as_dict(),
        "tests": list(inspector.tests),
        "templates": [] if inspector.templates is None else [one.source for one in inspector.templates.images],
    }
    return np.frombuffer(json.dumps(told).encode(), np.uint8)


def _arrays(inspector: Inspector) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"scores": inspector.scores}
    if inspector.model is not None:
        model = inspector.model
        arrays |= {
            "scales": model.scales,
            "bank": model.bank.patches.astype(np.float16),
            "means": model.means.astype(np.float32),
            "products": model.moments.products,
            "answers": model.moments.answers,
        }
    if inspector.mask is not None:
        arrays["mask"] = inspector.mask
    for number, image in enumerate(inspector.templates.images if inspector.templates else ()):
        arrays[f"template{number}"] = image.pixels
    return arrays


def _body(data: bytes, source: str) -> bytes:
    line, newline, _ = data[: len(_MAGIC) + 8].partition(b"\n")
    if not data.startswith(_MAGIC) or not newline:
        raise InputError(f"{source} is no inspector of lookalike; `lookalike inspect fit` makes one")
    version = line[len(_MAGIC) :]
    if version != str(VERSION).encode():
        raise InputError(
            f"{source} is an inspector of version {version.decode('ascii', 'replace')}, and this program reads version "
            f"{VERSION}: fit it again, or update lookalike"
        )
    start = len(line) + 1
    seal, body = data[start : start + _SEAL], data[start + _SEAL :]
    if hashlib.sha256(body).digest() != seal:
        raise InputError(f"{source} is damaged: its content does not fit its seal; fit it again")
    return body


def _read(body: bytes) -> Inspector:
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        told: Mapping[str, Any] = json.loads(bytes(arrays["header"]))
        templates = tuple(
            Image(arrays[f"template{number}"], arrays[f"template{number}"].shape[1::-1], name)
            for number, name in enumerate(told["templates"])
        )
        model = None
        if told["space"] is not None:
            model = Model(
                arrays["scales"],
                Bank(arrays["bank"].astype(np.float32)),
                arrays["means"].astype(np.float64),
                Moments(arrays["products"], arrays["answers"]),
            )
        width, most_width, height, most_height = told["sizes"]
        return Inspector(
            rate=told["rate"],
            scores=arrays["scores"],
            names=tuple(told["names"]),
            sizes=(width, most_width, height, most_height),
            contents=frozenset(told["contents"]),
            space=None if told["space"] is None else Space(**told["space"]),
            model=model,
            templates=TemplateSet(templates) if templates else None,
            mask=arrays.get("mask"),
        )
