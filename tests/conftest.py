"""What many tests share: real photos made small, an isolated cache, the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import PIL.Image
import pytest

import fakes
from lookalike import __main__, registry

SHIPPED = (
    "astronaut.png",
    "brick.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "retina.jpg",
    "rocket.jpg",
    "ihc.png",
)
LONG_AGO = 1_500_000_000
"""A time of change, in seconds: so old that nobody takes the file for one that may still be being written."""

INTERRUPTIBLE = (
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from lookalike.__main__ import run; sys.exit(run(sys.argv[1:]))",
)
"""The command, heeding SIGINT also where what runs the tests (nohup, a background job) ignores it."""


@dataclass(frozen=True)
class Ran:
    """What a run of the command gave: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ran]


@pytest.fixture(autouse=True, scope="session")
def isolated_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the user's settings or cache; the converted model is made once a session."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("LOOKALIKE_")]:
            patch.delenv(name)
        patch.setenv("LOOKALIKE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("LOOKALIKE_ENCODERS", str(tmp_path_factory.mktemp("encoders")))
        yield


@pytest.fixture(scope="session")
def shipped_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that scikit-image's wheel holds, 160 pixels wide; read them, change nothing."""
    spec = find_spec("skimage")
    assert spec is not None, "scikit-image, whose pictures the tests use, is not installed"
    source = Path(cast(str, spec.origin)).parent / "data"
    folder = tmp_path_factory.mktemp("shipped")
    for name in SHIPPED:
        with PIL.Image.open(source / name) as picture:
            small = picture.convert("RGB")
            small.thumbnail((160, 160))
            small.save(folder / f"{Path(name).stem}.jpg", quality=90)
    return folder


@pytest.fixture
def photos(shipped_photos: Path, tmp_path: Path) -> Path:
    """A folder of eight photos that a test may change."""
    folder = tmp_path / "photos"
    shutil.copytree(shipped_photos, folder)
    for path in folder.iterdir():
        age(path)
    return folder


def age(path: Path, seconds: int = LONG_AGO) -> Path:
    """Make a file look as if it had last been changed long ago."""
    os.utime(path, (seconds, seconds))
    return path


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own: its trash and its journals."""
    data = tmp_path / "home"
    data.mkdir()
    monkeypatch.setenv("XDG_DATA_HOME", str(data))
    # send2trash looks where the trash is when it is imported.
    monkeypatch.setattr("send2trash.plat_other.XDG_DATA_HOME", os.fsencode(data))
    monkeypatch.setattr("send2trash.plat_other.HOMETRASH_B", os.fsencode(data / "Trash"))
    return data


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[fakes.Counting]:
    """The encoder that the name "counting" stands for; "second" is another one."""
    names = registry._BUILTIN["encoder"]
    monkeypatch.setitem(names, "counting", "fakes:counting")
    monkeypatch.setitem(names, "second", "fakes:second")
    forget_registered()
    yield cast(fakes.Counting, registry.encoder("counting"))
    monkeypatch.undo()
    forget_registered()


def forget_registered() -> None:
    """Make the registry look again at what there is."""
    registry._table.cache_clear()
    registry._make.cache_clear()


@pytest.fixture
def crops(tmp_path: Path, shipped_photos: Path) -> Path:
    """Forty different parts of real photos, five of each."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for path in sorted(shipped_photos.iterdir()):
        with PIL.Image.open(path) as opened:
            picture = opened.convert("RGB")
        side = min(picture.size) // 2
        for number in range(5):
            left, top = (number % 2) * side // 2, (number // 2) * side // 3
            picture.crop((left, top, left + side, top + side)).save(folder / f"{path.stem}-{number}.png")
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Run the command in this process; the default gallery is the test's own."""
    monkeypatch.setenv("LOOKALIKE_GALLERY", str(tmp_path / "cli.gallery"))

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        code = __main__.run([os.fspath(a) if isinstance(a, os.PathLike) else str(a) for a in arguments])
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def shell(tmp_path: Path) -> Cli:
    """Run the command, or another Python program, in a process of its own."""

    def run(*arguments: object, program: str | None = None, env: Mapping[str, str] | None = None) -> Ran:
        how = ["-m", "lookalike"] if program is None else ["-c", program]
        done = subprocess.run(
            [sys.executable, *how, *map(os.fspath, map(_text, arguments))],
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, "LOOKALIKE_GALLERY": str(tmp_path / "cli.gallery"), **(env or {})},
            timeout=120,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8", "replace"))

    return run


def _text(argument: object) -> str:
    return os.fspath(argument) if isinstance(argument, os.PathLike) else str(argument)  # type: ignore[return-value]
