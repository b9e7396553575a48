"""Checkpoints are written here by hand, opcode by opcode or with pickle: torch is not needed.

tests/with_torch compares with what torch itself writes and reads.
"""

import io
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lookalike.encoders import torchfile
from lookalike.errors import InputError

MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class FloatStorage:
    """Pickled by name as torch.FloatStorage."""


class LongStorage:
    """Pickled by name as torch.LongStorage."""


def _rebuild_tensor_v2(*args: object) -> None:
    """Pickled by name as torch._utils._rebuild_tensor_v2."""


@pytest.fixture(autouse=True)
def torch_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pickle find the names that it writes; none of them does anything."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for cls in (FloatStorage, LongStorage):
        monkeypatch.setattr(cls, "__module__", "torch")
        setattr(torch, cls.__name__, cls)
    monkeypatch.setattr(_rebuild_tensor_v2, "__module__", "torch._utils")
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


class Stored:
    def __init__(self, key: str, array: np.ndarray) -> None:
        self.key, self.array = key, array


class Tensor:
    def __init__(self, stored: Stored, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.arguments = (stored, offset, shape, strides, False, OrderedDict())

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return _rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, legacy: bool) -> None:
        super().__init__(stream, 2)
        self.legacy = legacy
        self.stored: dict[str, Stored] = {}

    def persistent_id(self, obj: object) -> tuple[object, ...] | None:
        if not isinstance(obj, Stored):
            return None
        self.stored[obj.key] = obj
        kind = LongStorage if obj.array.dtype == np.int64 else FloatStorage
        return ("storage", kind, obj.key, "cpu", obj.array.size, *([None] if self.legacy else []))


def legacy_file(state: bytes, stored: list[Stored]) -> bytes:
    parts = [pickle.dumps(value, 2) for value in (MAGIC, 1001, SYSTEM)]
    parts += [state, pickle.dumps([s.key for s in stored], 2)]
    parts += [struct.pack("<q", s.array.size) + s.array.tobytes() for s in stored]
    return b"".join(parts)


def zip_file(state: bytes, stored: list[Stored], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("model/data.pkl", state)
        archive.writestr("model/byteorder", "little")
        for s in stored:
            archive.writestr(f"model/data/{s.key}", s.array.tobytes())
    return stream.getvalue()


A = Stored("100", np.arange(12, dtype=np.float32))
B = Stored("200", np.array([7], np.int64))


def state() -> OrderedDict[str, Tensor]:
    plain = OrderedDict(
        whole=Tensor(A, 0, (3, 4), (4, 1)),
        transposed=Tensor(A, 0, (4, 3), (1, 4)),
        part=Tensor(A, 5, (2, 3), (4, 1)),
        empty=Tensor(A, 0, (0, 3), (3, 1)),
        scalar=Tensor(B, 0, (), ()),
    )
    plain._metadata = OrderedDict(version=1)  # type: ignore[attr-defined]
    return plain


FILES = {"legacy": legacy_file, "zip": zip_file}


def file_of(kind: str, content: object, lost: str = "") -> bytes:
    stream = io.BytesIO()
    pickler = Pickler(stream, legacy=kind == "legacy")
    pickler.dump(content)
    return FILES[kind](stream.getvalue(), [s for s in pickler.stored.values() if s.key != lost])


@pytest.mark.parametrize("kind", FILES)
def test_tensors_come_back_as_they_were_laid_out(kind: str) -> None:
    read = torchfile.parse(file_of(kind, state()), "x.pth")
    assert list(read) == ["whole", "transposed", "part", "empty", "scalar"]
    np.testing.assert_array_equal(read["whole"], [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]])
    np.testing.assert_array_equal(read["transposed"], read["whole"].T)
    np.testing.assert_array_equal(read["part"], [[5, 6, 7], [9, 10, 11]])
    assert read["whole"].dtype == np.float32
    assert read["empty"].shape == (0, 3)
    assert read["scalar"] == 7
    assert read["scalar"].dtype == np.int64


class Hostile:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_a_command_is_refused_by_name_and_does_not_run(
    kind: str, protocol: int, tmp_path: Path
) -> None:
    trace = tmp_path / "ran"
    hostile = pickle.dumps(Hostile(os.system, f"touch {trace}"), protocol)
    pickle.loads(hostile)
    assert trace.exists(), "the pickle is harmless: the test shows nothing"
    trace.unlink()
    with pytest.raises(InputError, match=r"x\.pth.*(posix|nt)\.system"):
        torchfile.parse(FILES[kind](hostile, []), "x.pth")
    assert not trace.exists()


@pytest.mark.parametrize("place", range(5))
def test_each_of_the_five_pickles_is_guarded(place: int, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    parts = [pickle.dumps(v, 2) for v in (MAGIC, 1001, SYSTEM, {}, [])]
    parts[place] = pickle.dumps(Hostile(os.system, f"touch {trace}"), 2)
    with pytest.raises(InputError, match="system"):
        torchfile.parse(b"".join(parts), "x.pth")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("program", "named"),
    [
        (b"cbuiltins\neval\n(X\x01\x00\x00\x001tR.", r"builtins\.eval"),
        (b"(X\x02\x00\x00\x00lsios\nsystem\n.", r"INST os\.system"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x04\x00\x00\x00callK\x01sb.", "changes a function"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls a storage type"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "remembers object 2147483647"),
        (b"\x80\x02ctorch\nBFloat16Storage\n.", r"torch\.BFloat16Storage"),
        (b"\x80\x02\x8c\x05posix\x8c\x06system\x93.", r"posix\.system"),
    ],
)
def test_other_tricks_are_refused_by_name(program: bytes, named: str) -> None:
    with pytest.raises(InputError, match=named):
        torchfile.parse(legacy_file(program, []), "x.pth")


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_anywhere_is_an_input_error(kind: str) -> None:
    data = file_of(kind, state())
    for length in range(len(data) - 1):
        with pytest.raises(InputError, match=r"x\.pth"):
            torchfile.parse(data[:length], "x.pth")


def test_a_storage_that_is_cut_says_how_much_is_missing() -> None:
    with pytest.raises(InputError, match="truncated or damaged: EOFError: 8 bytes expected, 7 left"):
        torchfile.parse(file_of("legacy", state())[:-1], "x.pth")


@pytest.mark.parametrize("kind", FILES)
def test_a_file_with_any_byte_flipped_gives_tensors_or_an_input_error(kind: str) -> None:
    data = bytearray(file_of(kind, state()))
    for i in range(len(data)):
        data[i] ^= 0xFF
        try:
            read = torchfile.parse(bytes(data), "x.pth")
            assert all(isinstance(value, np.ndarray) for value in read.values())
        except InputError:
            pass
        data[i] ^= 0xFF


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"w": Tensor(A, 9, (2, 2), (2, 1))}, "reaches outside"),
        ({"w": Tensor(A, -1, (2,), (1,))}, "reaches outside"),
        ({"w": Tensor(A, 0, (1000, 1000, 1000), (0, 0, 0))}, "repeats"),
        ({"state_dict": {"w": Tensor(A, 0, (2,), (1,))}}, "'state_dict' is a _Dict|'state_dict' is a dict"),
        ([1, 2], "holds a list"),
        ({"w": Tensor(Stored("300", A.array), 0, (2,), (1,))}, "300"),
    ],
)
@pytest.mark.parametrize("kind", FILES)
def test_what_is_not_a_plain_table_of_tensors_is_an_input_error(kind: str, content: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        torchfile.parse(file_of(kind, content, lost="300"), "x.pth")


def test_a_compressed_archive_is_refused_since_it_could_be_a_bomb() -> None:
    data = zip_file(pickle.dumps({}, 2), [A, B], zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="compressed"):
        torchfile.parse(data, "x.pth")


@pytest.mark.parametrize("data", [b"", b"PK\3\4", b"\xff\xd8\xff\xe0", b"not a checkpoint", pickle.dumps(3)])
def test_another_kind_of_file_is_an_input_error(data: bytes) -> None:
    with pytest.raises(InputError, match=r"x\.pth"):
        torchfile.parse(data, "x.pth")
