"""Reads a PyTorch checkpoint of plain tensors, without torch, and executes nothing.

Both formats are read: the old one (five pickles, then the raw storages) and the zip one of torch 1.6 and later. A
pickle is a program; this one is checked opcode by opcode before it runs, and the few names that it may mention stand
for our own functions. Anything else is refused by name.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError

Array: TypeAlias = NDArray[Any]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


def parse(data: bytes, name: str) -> dict[str, Array]:
    """Return the tensors of a checkpoint, name -> array, as they were saved.

    ``name`` is how the file is called in messages. Raise InputError for a file that is truncated or damaged, that holds
    anything but a flat dictionary of tensors, or that wants to run something: the message names what was refused.
    """
    try:
        state, storages = _zip(data) if data[:4] == b"PK\3\4" else _legacy(data)
        return _flat(state, storages)
    except _Refused as error:
        raise InputError(f"{name} is not a plain torch checkpoint: {error}") from error
    except _BROKEN as error:
        raise InputError(f"{name} is truncated or damaged: {type(error).__name__}: {error}") from error


class _Refused(Exception):
    pass


_BROKEN = (
    pickle.UnpicklingError, zipfile.BadZipFile, ArithmeticError, AttributeError, EOFError, LookupError,
    NotImplementedError, OSError, RecursionError, TypeError, ValueError,
)  # fmt: skip


def _legacy(data: bytes) -> tuple[Any, dict[str, bytes]]:
    stream = io.BytesIO(data)
    if _load(stream) != _LEGACY_MAGIC or _load(stream) != _LEGACY_PROTOCOL:
        raise _Refused("it does not begin as one")
    if _load(stream).get("little_endian") is not True:
        raise _Refused("its numbers are not little-endian")
    wanted: dict[str, _Storage] = {}
    state = _load(stream, wanted)
    storages = {}
    for key in _load(stream):
        count = int.from_bytes(_exactly(stream, 8), "little")
        if count != wanted[key].count:
            raise ValueError(f"storage {key} has {count} elements, {wanted[key].count} were announced")
        storages[key] = _exactly(stream, count * wanted[key].dtype.itemsize)
    return state, storages


def _zip(data: bytes) -> tuple[Any, dict[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise _Refused("torch stores the members of the archive uncompressed, these are compressed")
        if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
            raise _Refused("its numbers are not little-endian")
        wanted: dict[str, _Storage] = {}
        state = _load(io.BytesIO(archive.read(members["data.pkl"])), wanted)
        return state, {key: archive.read(members[f"data/{key}"]) for key in wanted}


def _exactly(stream: io.BytesIO, size: int) -> bytes:
    chunk = stream.read(size)
    if len(chunk) != size:
        raise EOFError(f"{size} bytes expected, {len(chunk)} left")
    return chunk


def _flat(state: Any, storages: Mapping[str, bytes]) -> dict[str, Array]:
    if not isinstance(state, dict):
        raise _Refused(f"it holds a {type(state).__name__}, not a dictionary of tensors")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, _Tensor):
            raise _Refused(f"entry {key!r} is a {type(value).__name__}, not a tensor")
    return {key: tensor.array(storages[tensor.storage.key]) for key, tensor in state.items()}


# --- what a checkpoint's pickle may mention, and what it gets --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, raw: bytes) -> Array:
        """Return a copy of the elements that this tensor sees of its storage."""
        flat = np.frombuffer(raw, self.storage.dtype)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or (0 not in self.shape and last >= len(flat)):
            raise ValueError(f"a tensor of shape {self.shape} reaches outside of its {len(flat)} elements")
        if math.prod(self.shape) > len(flat):  # a stride of 0 makes an array of any size out of one element
            raise ValueError(f"a tensor of shape {self.shape} repeats the {len(flat)} elements that it has")
        strides = tuple(s * flat.itemsize for s in self.strides)
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides).copy()


class _Dict(dict[Any, Any]):
    """Stands for OrderedDict; the ``_metadata`` that torch hangs on it is dropped."""

    def __setstate__(self, state: object) -> None:
        pass


class _Name:
    """What a global of the pickle turns into: can be called, and cannot be changed (BUILD would set attributes)."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)

    def __setstate__(self, state: object) -> NoReturn:
        raise _Refused("it changes a function")


class _StorageType(_Name):
    """``torch.FloatStorage`` and its kin: only ever named, never called."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str) -> None:
        super().__init__(self._never)
        self.dtype = np.dtype(dtype)

    def _never(self, *args: object) -> NoReturn:
        raise _Refused("it calls a storage type")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> _Tensor:
    if not isinstance(storage, _Storage) or not all(isinstance(n, int) for n in (offset, *shape, *strides)):
        raise _Refused("a tensor is described by something else than numbers")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: Any, *_: object) -> Any:
    return tensor


_NAMES: dict[str, _Name] = {
    "collections.OrderedDict": _Name(lambda: _Dict()),  # noqa: PLW0108 - takes no arguments
    "torch._utils._rebuild_tensor_v2": _Name(_tensor),
    "torch._utils._rebuild_parameter": _Name(_parameter),
    "torch.FloatStorage": _StorageType("<f4"),
    "torch.DoubleStorage": _StorageType("<f8"),
    "torch.HalfStorage": _StorageType("<f2"),
    "torch.LongStorage": _StorageType("<i8"),
    "torch.IntStorage": _StorageType("<i4"),
    "torch.ShortStorage": _StorageType("<i2"),
    "torch.CharStorage": _StorageType("|i1"),
    "torch.ByteStorage": _StorageType("|u1"),
    "torch.BoolStorage": _StorageType("|b1"),
}

_OPCODES = frozenset(
    """
    PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS
    BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE FRAME
    GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID
    """.split()  # noqa: SIM905 - read as a list of words
)


def _load(stream: io.BytesIO, storages: dict[str, _Storage] | None = None) -> Any:
    """Unpickle the next object of ``stream``; the storages that it speaks of are put into ``storages``."""
    start = stream.tell()
    for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        _check_opcode(opcode.name, argument, step)
    stream.seek(start)
    return _Unpickler(stream, {} if storages is None else storages).load()


def _check_opcode(opcode: str, argument: Any, step: int) -> None:
    name = str(argument).replace(" ", ".")
    if opcode == "GLOBAL" and name not in _NAMES:
        raise _Refused(f"it wants {name}")
    if opcode not in _OPCODES:
        raise _Refused(f"it holds the pickle opcode {opcode}" + (f" {name}" if argument is not None else ""))
    # The unpickler makes room for as many remembered objects as this number says.
    if opcode == "LONG_BINPUT" and argument > step:
        raise _Refused(f"it remembers object {argument} after {step} steps")


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, storages: dict[str, _Storage]) -> None:
        super().__init__(stream)
        self._storages = storages

    def find_class(self, module: str, name: str) -> _Name:
        try:
            return _NAMES[f"{module}.{name}"]
        except KeyError:
            raise _Refused(f"it wants {module}.{name}") from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _, count, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType) or view not in ([], [None]):
            raise _Refused(f"a storage of another kind: {kind!r}")
        if not isinstance(key, str) or not isinstance(count, int) or count < 0:
            raise _Refused(f"storage {key!r} of {count!r} elements")
        return self._storages.setdefault(key, _Storage(key, storage_type.dtype, count))
