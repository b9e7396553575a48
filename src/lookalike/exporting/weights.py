"""Reads files of weights without running anything, puts them into networks whole, says why none could be had."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from lookalike.errors import ConfigError, InputError

T = TypeVar("T")

_INSIDE = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Under which key training scripts keep the weights."""

_OFFLINE = frozenset(
    {
        "ConnectError", "ConnectTimeout", "ConnectionError", "LocalEntryNotFoundError", "MaxRetryError",
        "OfflineModeIsEnabled", "ReadTimeout", "Timeout", "URLError", "gaierror",
    }
)  # fmt: skip


def read(path: str) -> dict[str, Any]:
    """Return the tensors of a checkpoint, name -> tensor; raise InputError for a file that holds anything else.

    ``.safetensors`` holds no code. Of a pickle nothing but tensors and plain containers is taken: torch's unpickler for
    weights knows no other names, and stops at the first one, before it is called.
    """
    state = _loaded(path)
    for key in _INSIDE:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise InputError(
            f"{path} holds no weights: a dictionary of tensors is expected, also under {', '.join(_INSIDE)}"
        )
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _loaded(path: str) -> Any:
    if not Path(path).is_file():
        raise InputError(f"there is no file {path}")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file  # noqa: PLC0415 - comes with timm

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} is refused unread, since a pickle can run code: {_first_line(error)}") from error
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is truncated or damaged: {_first_line(error)}") from error
    except Exception as error:  # safetensors has an error of its own
        raise InputError(f"{path} cannot be read: {_first_line(error)}") from error


def put(module: Any, state: Mapping[str, Any], heads: Iterable[str], path: str) -> None:
    """Put weights into a network. Each must have its place, and each place its weight; only ``heads`` are left out.

    A network that is filled in part still runs, and gives vectors that mean nothing: so InputError says what differs.
    """
    kept = {key: value for key, value in state.items() if not key.startswith(tuple(f"{head}." for head in heads))}
    try:
        missing, unexpected = module.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit the architecture: {_shapes(error)}") from error
    if missing or unexpected:
        raise InputError(
            f"{path} does not fit the architecture: {_some('it lacks', missing)}{_some('it has too', unexpected)}"
        )


def fetched(what: str, make: Callable[[], T]) -> T:
    """Return what ``make`` returns; raise ConfigError where the library cannot fetch or does not know ``what``."""
    try:
        return make()
    except Exception as error:
        if any(isinstance(one, pickle.UnpicklingError) for one in _chain(error)):
            raise InputError(f"{what} is refused unread, since a pickle can run code: {_first_line(error)}") from error
        names = {type(one).__name__ for one in _chain(error)}
        if names & _OFFLINE:
            raise ConfigError(
                f"the weights of {what} cannot be fetched: no network, or the hub does not answer "
                f"({_first_line(error)}). Run the export once where there is a network; or give a file of weights: "
                "lookalike encoders export FILE --architecture LIBRARY:NAME --as NAME"
            ) from error
        raise ConfigError(f"{what} cannot be made: {_first_line(error)}") from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    """Return the sentence of an error that says what it is about; torch puts advice around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    about = [line for line in lines if "Unsupported" in line or "GLOBAL" in line]
    return (about or lines or [type(error).__name__])[0]


def _shapes(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
    return (lines or [str(error)])[0]


def _some(what: str, names: list[str]) -> str:
    return f"{what} {', '.join(names[:3])}{' …' if len(names) > 3 else ''}. " if names else ""
