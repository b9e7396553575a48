"""The edge: what a base install and each extra weigh, what each encoder costs, and what a watching loop holds.

- *install*: a new virtual environment without pip, into which this checkout is installed, then one extra after the
  other; each line is by how much all files grew. Needs a package index. `[demo]`, `[dev]`, and those with torch,
  `[export]` and `[train]`, are left out.
- *import*: wall time of an interpreter that imports it, less that of one that does nothing. An extra is imported only
  where it is used.
- *encoders*: each in a process with one thread: milliseconds a picture from its decoded pixels, what the first one
  costs beyond that (imports, weights), the highest resident memory. "once": the first time ever, when weights are
  converted.
- *watch*: two files are read, encoded and compared again and again in one process. "settled" is the highest memory
  after ten rounds, "peak" after all. `lookalike.compare` also aligns them and measures SSIM and quality.

MobileNetV3-Small is taken from ``../shared/models`` where it is there and is not installed.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Mapping
from pathlib import Path

from benchmarks.footprint import copy_of_checkout, size_of_files
from benchmarks.harness import (
    REPOSITORY,
    Report,
    Target,
    interleaved,
    medians,
    parser,
    say,
    seconds,
    spread,
    subprocess_output,
)
from benchmarks.photos import make_jpegs
from lookalike import installed
from lookalike.encoders import catalog

_MIB = 1 << 20
_WATCH_MIB = 200
_DEFAULT = "efficientnet-lite0"
_NOT_EDGE = {"demo", "dev", "export", "train"}
_IMPORTED = {
    "lookalike": "lookalike",
    "lookalike.gallery (all that a search needs)": "lookalike.gallery",
    "onnxruntime": "onnxruntime",
    "[litert] ai_edge_litert": "ai_edge_litert.interpreter",
    "[ann] faiss": "faiss",
    "[heic] pillow_heif": "pillow_heif",
    "[parquet] pyarrow": "pyarrow.parquet",
    "[clip] tokenizers": "tokenizers",
}
_MODEL = REPOSITORY.parent / "shared" / "models" / "mobilenet_v3_small.tflite"
_PICTURES = 8


def main() -> None:
    arguments = parser(__doc__, "edge")
    arguments.add_argument("--no-install", action="store_true", help="leave out the part that installs packages")
    options = arguments.parse_args()
    report = Report("Edge", ("lookalike", "numpy", "onnxruntime", "ai-edge-litert", "pillow"))
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as scratch:
        pictures = [str(path) for path in make_jpegs(Path(scratch) / "photos", _PICTURES, (640, 480))]
        with_models = {**os.environ, "LOOKALIKE_ENCODERS": str(_models(Path(scratch) / "encoders"))}
        _imports(report, 2 if options.quick else 9)
        _encoders(report, pictures, with_models, Path(scratch), 2 if options.quick else 20)
        _watch(report, pictures[:2], with_models, 10 if options.quick else 100)
        if not options.no_install:
            _install(report, Path(scratch) / "venv")
    report.print()


# Encoders


def _models(folder: Path) -> Path:
    """Return a folder of installed encoders: the user's, and MobileNetV3-Small."""
    if installed.home().is_dir():
        shutil.copytree(installed.home(), folder)
    known = catalog.entry("mobilenet-v3-small")
    if _MODEL.is_file() and not known.installed:
        os.environ["LOOKALIKE_ENCODERS"] = str(folder)
        card = installed.Card(
            name=known.name,
            runtime="litert",
            model="model.tflite",
            sha256=known.sha256 or "",
            dim=known.dim or 0,
            recipe=known.recipe,
        )
        installed.install(card, {"model.tflite": _MODEL})
    return folder


def _encoders(report: Report, pictures: list[str], settings: Mapping[str, str], scratch: Path, rounds: int) -> None:
    rows = []
    for name in (entry.name for entry in catalog.catalog() if entry.installed):
        say(name)
        fresh = {**settings, "LOOKALIKE_CACHE": str(scratch / "cache" / name), "LOOKALIKE_THREADS": "1"}
        once = _child(["encode", name, "1", *pictures[:1]], fresh)
        each = _child(["encode", name, str(rounds), *pictures], fresh)
        cells = [f"{each['ms']:.1f}", f"{each['first']:.0f}", f"{each['peak']:.0f}"]
        rows.append((name, *cells, f"{once['first']:.0f}", f"{once['peak']:.0f}"))
    report.section("Encoders, one thread, 640x480")
    report.table(("encoder", "ms a picture", "ms to load", "peak MiB", "ms to load, once", "peak MiB, once"), rows)


# Watching


def _watch(report: Report, pair: list[str], settings: Mapping[str, str], rounds: int) -> None:
    loops = {
        f"read, encode, compare with {_DEFAULT}": ("watch", _DEFAULT, {"LOOKALIKE_THREADS": "1"}),
        "the same with mobilenet-v3-small": ("watch", "mobilenet-v3-small", {"LOOKALIKE_THREADS": "1"}),
        "lookalike.compare, LOOKALIKE_THREADS=1": ("compare", _DEFAULT, {"LOOKALIKE_THREADS": "1"}),
        "lookalike.compare, MALLOC_ARENA_MAX=1": ("compare", _DEFAULT, {"MALLOC_ARENA_MAX": "1"}),
        "lookalike.compare": ("compare", _DEFAULT, {}),
    }
    rows = []
    there = {entry.name for entry in catalog.catalog() if entry.installed}
    for name, (loop, encoder, threads) in loops.items():
        if encoder not in there:
            continue
        say(name)
        found = _child([loop, encoder, str(rounds), *pair], {**settings, **threads})
        rows.append((name, f"{found['ms']:.0f}", f"{found['settled']:.0f}", f"{found['peak']:.0f}"))
        report.target(Target(name, found["peak"], _WATCH_MIB, at_least=False, unit=" MiB"))
    report.section(f"Watching two files of 640x480, {rounds} rounds")
    report.table(("loop", "ms a round", "settled MiB", "peak MiB"), rows)


def _child(arguments: list[str], settings: Mapping[str, str]) -> dict[str, float]:
    output = subprocess_output([sys.executable, "-m", "benchmarks.edge_loops", *arguments], settings)
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


# Imports


def _imports(report: Report, repetitions: int) -> None:
    say("imports")
    there = {name: module for name, module in _IMPORTED.items() if _importable(module)}
    routes = {name: functools.partial(_wall, f"import {module}") for name, module in there.items()}
    measured = interleaved({"nothing": functools.partial(_wall, "pass"), **routes}, repetitions, quiet=True)
    ms = medians(measured)
    report.section("Imports")
    report.table(
        ("import", "ms, median, beyond an interpreter", "whole, lowest to highest"),
        [(name, f"{ms[name] - ms['nothing']:.0f}", spread(measured[name])) for name in routes],
    )


def _wall(program: str) -> float:
    return 1000 * seconds(lambda: subprocess.run([sys.executable, "-c", program], check=True, capture_output=True))


def _importable(module: str) -> bool:
    done = subprocess.run([sys.executable, "-c", f"import {module}"], check=False, capture_output=True)
    return done.returncode == 0


# Installs


def _install(report: Report, folder: Path) -> None:
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--quiet"]
    checkout = copy_of_checkout(folder.parent / "checkout")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [extra for extra in project["optional-dependencies"] if extra not in _NOT_EDGE]
    rows, before = [], size_of_files(folder.rglob("*"))
    for extra in ["", *extras]:
        what = f"[{extra}]" if extra else "base install"
        say(f"installing {what}")
        try:
            subprocess_output([*pip, checkout + (f"[{extra}]" if extra else "")])
        except RuntimeError as error:
            report.text(f"{what} could not be installed: {error}")
            continue
        after = size_of_files(folder.rglob("*"))
        rows.append((what, f"{(after - before) / _MIB:.1f}"))
        before = after
    report.section("Installs")
    report.table(("what", "MiB"), rows)


if __name__ == "__main__":
    main()
