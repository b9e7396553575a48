"""What the benchmarks share: routes that take turns, targets, and a markdown report that says where it was made."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
_HARDLY_BUSY = 0.3

Route = Callable[[], float]
"""Does one thing once and returns what it measured, by its own clock."""


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def say(text: str) -> None:
    """Tell on stderr what is being done."""
    print(f"  … {text}", file=sys.stderr, flush=True)


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(routes: Mapping[str, Route], repetitions: int, *, quiet: bool = False) -> dict[str, list[float]]:
    """Return the measurements of each route; the routes take turns (A B A B …), so that all see the same noise."""
    measured: dict[str, list[float]] = {name: [] for name in routes}
    for repetition in range(repetitions):
        for name, route in routes.items():
            if not quiet:
                say(f"{name}, {repetition + 1} of {repetitions}")
            measured[name].append(route())
    return measured


def medians(measured: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each route."""
    return {name: statistics.median(values) for name, values in measured.items()}


def spread(values: Sequence[float]) -> str:
    """Return the lowest and highest of some measurements as text."""
    return f"{min(values):.3g} to {max(values):.3g}"


@dataclass(frozen=True, slots=True)
class Target:
    """A promise: a measured value that has to be at least, or at most, a bound. ``value`` None: not measured."""

    what: str
    value: float | None
    bound: float
    at_least: bool = True
    unit: str = ""
    why_not: str = ""

    @property
    def met(self) -> bool | None:
        """Tell whether the promise was kept; None where it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def row(self) -> tuple[str, ...]:
        sign = "≥" if self.at_least else "≤"
        value = self.why_not or "not measured" if self.value is None else f"{self.value:.3g}{self.unit}"
        verdict = {True: "met", False: "**missed**", None: "-"}[self.met]
        return self.what, f"{sign} {self.bound:g}{self.unit}", value, verdict


@dataclass
class Report:
    """A markdown report that is printed when it is finished."""

    title: str
    packages: Sequence[str] = ("numpy", "onnxruntime", "pillow", "simplejpeg")
    lines: list[str] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)

    def section(self, title: str) -> None:
        self.lines += ["", f"### {title}"]

    def text(self, text: str) -> None:
        self.lines += ["", text]

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.lines += ["", *markdown_table(header, rows)]

    def target(self, target: Target) -> None:
        self.targets.append(target)

    def print(self) -> None:
        """Print where it was measured, the targets, and then all the tables."""
        print("\n".join([f"## {self.title}", "", *_where(self.packages)]))
        if self.targets:
            rows = [target.row() for target in self.targets]
            print("\n".join(["", *markdown_table(("target", "bound", "measured", ""), rows)]))
        print("\n".join(self.lines), flush=True)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]


def parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="sizes that say little: does everything work?")
    return made


def peak_memory_mib() -> float:
    """Return the most memory that this process ever held resident, in MiB (Linux: VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kib) / 1024


def subprocess_output(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command in the repository and return its stdout; what it says on stderr is in the error it may raise."""
    done = subprocess.run(
        list(command),
        cwd=REPOSITORY,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}: {last}")
    return done.stdout


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _where(packages: Sequence[str]) -> list[str]:
    return [
        f"- machine: {_cpu()}, {cores()} cores, {_memory_gib():.0f} GiB; {platform.system()} {platform.release()}",
        f"- Python {platform.python_version()}; " + ", ".join(f"{name} {_version(name)}" for name in packages),
        f"- commit {_commit()}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC{_busy()}",
        f"- command: `{_command()}`",
    ]


def _busy() -> str:
    others = os.getloadavg()[0] / cores() if hasattr(os, "getloadavg") else 0.0
    return f"; load average {others * cores():.1f} when it was printed" if others > _HARDLY_BUSY else ""


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return float("nan")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _commit() -> str:
    try:
        head = subprocess_output(["git", "rev-parse", "--short=12", "HEAD"]).strip()
        changed = subprocess_output(["git", "status", "--porcelain", "--", "src", "benchmarks"]).strip()
    except (OSError, RuntimeError):
        return "unknown"
    return f"{head}+dirty" if changed else head


def _command() -> str:
    module = getattr(sys.modules["__main__"], "__spec__", None)
    name = module.name if module else "benchmarks"
    # A path tells about this machine, not about the run.
    arguments = [Path(a).name if os.sep in a else a for a in sys.argv[1:]]
    return shlex.join(["python", "-m", name, *arguments])
