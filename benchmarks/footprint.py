"""Footprint: the size of a base install, the cost of ``--help``, the time to the first answer of the command.

- *install*: a new virtual environment without pip, into which this checkout is installed without extras; every file in
  it is counted, compiled bytecode too. Needs a package index.
- *help*: wall time of ``lookalike --help`` and of the help of every verb, beside an interpreter that does nothing; and
  which heavy modules are imported by then.
- *first answer*: wall time of ``lookalike search`` in a small gallery: start, imports, model, search, output.
"""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterable
from pathlib import Path

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
from benchmarks.photos import link_some, make_jpegs
from lookalike.cli import cli

_HEAVY = ("numpy", "PIL", "onnxruntime", "cv2", "onnx", "simplejpeg", "faiss", "sqlite3")
_FORBIDDEN = frozenset({"numpy", "PIL", "onnxruntime", "cv2"})
_MIB = 1 << 20
_INSTALL_MIB, _HELP_S = 350, 0.3
_SHOWN = 8
_HELP = f"""
import json, sys
from lookalike.__main__ import run
try:
    run(sys.argv[1:])
finally:
    print(json.dumps(sorted(set({_HEAVY!r}) & set(sys.modules))))
"""


def main() -> None:
    arguments = parser(__doc__, "footprint")
    arguments.add_argument("--no-install", action="store_true", help="leave out the part that installs packages")
    options = arguments.parse_args()
    report = Report("Footprint", ("lookalike", "numpy", "onnxruntime", "onnx", "pillow"))
    repetitions = 2 if options.quick else 9
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as scratch:
        _help(report, repetitions)
        _first_answer(report, repetitions, Path(scratch))
        if not options.no_install:
            _install(report, Path(scratch) / "venv")
    report.print()


# Size


def _install(report: Report, folder: Path) -> None:
    say("installing into a new virtual environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--quiet"]
    try:
        subprocess_output([*pip, copy_of_checkout(folder.parent / "checkout")])
    except RuntimeError as error:
        report.target(Target("base install", None, _INSTALL_MIB, at_least=False, why_not=f"failed: {error}"))
        return
    total = size_of_files(path for path in folder.rglob("*"))
    site = subprocess_output([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    packages = sorted(((_size_of(d), d.name, d.version) for d in _distributions(site)), reverse=True)
    report.section("Base install, without extras")
    rows = [(f"{name} {version}", f"{size / _MIB:.1f}") for size, name, version in packages[:_SHOWN]]
    others = sum(size for size, _, _ in packages[_SHOWN:])
    rest = total - sum(size for size, _, _ in packages)
    rows += [(f"{len(packages) - _SHOWN} others", f"{others / _MIB:.1f}"), ("the environment", f"{rest / _MIB:.1f}")]
    report.table(("package", "MiB"), [*rows, ("**all**", f"**{total / _MIB:.1f}**")])
    report.target(Target("base install", total / _MIB, _INSTALL_MIB, at_least=False, unit=" MiB"))


def copy_of_checkout(folder: Path) -> str:
    """Copy what the package is built from, so that building leaves nothing in the checkout."""
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        if (REPOSITORY / name).is_file():
            shutil.copy(REPOSITORY / name, folder)
    shutil.copytree(REPOSITORY / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return str(folder)


def _distributions(site: str) -> Iterable[importlib.metadata.Distribution]:
    return importlib.metadata.distributions(path=[site])


def _size_of(distribution: importlib.metadata.Distribution) -> int:
    return size_of_files(Path(str(distribution.locate_file(file))) for file in distribution.files or [])


def size_of_files(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file() and not path.is_symlink())


# Help


def _help(report: Report, repetitions: int) -> None:
    say("help")
    command = _command()
    verbs = [[], *([verb] for verb in sorted(cli.commands))]
    names = [" ".join(["lookalike", *verb, "--help"]) for verb in verbs]
    routes = {
        name: functools.partial(_wall, [*command, *verb, "--help"]) for name, verb in zip(names, verbs, strict=True)
    }
    routes["python -c pass"] = functools.partial(_wall, [sys.executable, "-c", "pass"])
    measured = interleaved(routes, repetitions, quiet=True)
    ms = medians(measured)
    heavy = {name: _heavy_after([*verb, "--help"]) for name, verb in zip(names, verbs, strict=True)}
    report.section("Help")
    report.table(
        ("command", "ms, median", "lowest to highest", "heavy modules imported"),
        [(name, f"{1000 * ms[name]:.0f}", _spread(measured[name]), _listed(heavy.get(name, []))) for name in routes],
    )
    slowest = max(ms[name] for name in heavy)
    report.target(Target("slowest help of any verb", slowest, _HELP_S, at_least=False, unit=" s"))
    wrong = set().union(*heavy.values()) & _FORBIDDEN
    what = "of numpy, PIL, onnxruntime, cv2, imported by any help" + (f": {_listed(sorted(wrong))}" if wrong else "")
    report.target(Target(what, len(wrong), 0, at_least=False))


def _heavy_after(arguments: list[str]) -> list[str]:
    output = subprocess_output([sys.executable, "-c", _HELP, *arguments])
    heavy: list[str] = json.loads(output.splitlines()[-1])
    return heavy


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


# The first answer


def _first_answer(report: Report, repetitions: int, scratch: Path) -> None:
    say("the first answer")
    photos = make_jpegs(scratch / "photos", 64, (640, 480))
    few = link_some(photos[:1], scratch / "few")
    command, galleries = _command(), itertools.count()
    gallery = str(scratch / "search.gallery")
    _wall([*command, "index", str(photos[0].parent), "--gallery", gallery])
    routes = {
        "lookalike search, among 64": functools.partial(_wall, [*command, "search", str(photos[3]), "-g", gallery]),
        "lookalike index, of one picture": lambda: _wall(
            [*command, "index", str(few[0].parent), "-g", str(scratch / f"{next(galleries)}.gallery")]
        ),
        "lookalike info": functools.partial(_wall, [*command, "info", "-g", gallery]),
    }
    measured = interleaved(routes, repetitions, quiet=True)
    ms = medians(measured)
    report.section("Whole commands, from their start to their end")
    rows = [(name, f"{1000 * ms[name]:.0f}", _spread(measured[name])) for name in routes]
    report.table(("command", "ms, median", "lowest to highest"), rows)


def _spread(values: list[float]) -> str:
    return spread([1000 * value for value in values])


def _command() -> list[str]:
    installed = Path(sysconfig.get_path("scripts")) / "lookalike"
    return [str(installed)] if installed.is_file() else [sys.executable, "-m", "lookalike"]


def _wall(command: list[str]) -> float:
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True))


if __name__ == "__main__":
    main()
