"""Ask pip whether all that a base install brings has wheels, for each platform and Python, and print it as a table.

    python tools/wheels.py                # everything, dependencies of dependencies too: some minutes
    python tools/wheels.py --direct       # only what pyproject.toml names
    python tools/wheels.py --extra litert # that extra too

pip resolves each set for the other platform (`pip install --dry-run --only-binary=:all: --platform …`) and installs
nothing. It would judge markers by the machine it runs on, so they are judged here. Ends with 1 where one is missing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class Platform:
    """A kind of machine: what pip calls it, and what markers see there."""

    name: str
    tags: tuple[str, ...]
    sys_platform: str
    system: str
    machine: str


def manylinux(machine: str) -> tuple[str, ...]:
    """Return the tags that a Linux with a C library of 2021 (2.34) takes, such as RHEL 9 or Debian 12."""
    return (*(f"manylinux_2_{minor}_{machine}" for minor in range(34, 4, -1)), f"manylinux2014_{machine}")


PLATFORMS = (
    Platform("Linux x86-64", manylinux("x86_64"), "linux", "Linux", "x86_64"),
    Platform("Linux aarch64", manylinux("aarch64"), "linux", "Linux", "aarch64"),
    Platform("macOS arm64", ("macosx_14_0_arm64",), "darwin", "Darwin", "arm64"),
    Platform("Windows x86-64", ("win_amd64",), "win32", "Windows", "AMD64"),
)


@dataclass(frozen=True)
class Target:
    """A platform with a Python."""

    platform: Platform
    python: str

    def wants(self, requirement: Requirement) -> bool:
        """Tell whether the requirement holds here."""
        environment = {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "sys_platform": self.platform.sys_platform,
            "platform_system": self.platform.system,
            "platform_machine": self.platform.machine,
            "os_name": "nt" if self.platform.sys_platform == "win32" else "posix",
            "platform_python_implementation": "CPython",
            "implementation_name": "cpython",
            "extra": "",
        }
        return requirement.marker is None or requirement.marker.evaluate(environment)


@dataclass
class Found:
    """What one target gets: name -> version and file of its wheel, None where there is none."""

    target: Target
    wheels: dict[str, tuple[str, str] | None] = field(default_factory=dict)


def main() -> int:
    """Print the table; return 1 where a wheel is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--direct", action="store_true", help="leave out the dependencies of dependencies")
    parser.add_argument("--extra", action="append", default=[], help="an extra of lookalike; repeatable")
    options = parser.parse_args()
    wanted = requirements(options.extra)
    targets = [Target(platform, python) for platform in PLATFORMS for python in PYTHONS]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda target: resolve(target, wanted, deep=not options.direct), targets))
    names = list(dict.fromkeys(canonicalize_name(requirement.name) for requirement in wanted))
    others = sorted({name for one in found for name in one.wheels} - set(names))
    print_table([*names, *others], found)
    return int(any(wheel is None for one in found for wheel in one.wheels.values()))


def requirements(extras: Sequence[str]) -> list[Requirement]:
    """Return what pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def resolve(target: Target, wanted: Iterable[Requirement], *, deep: bool) -> Found:
    """Ask for the wheels of these requirements, then of theirs, and so on."""
    found = Found(target)
    level = list(wanted)
    while level:
        here = [one for one in level if target.wants(one)]
        new = {canonicalize_name(one.name): one for one in here if canonicalize_name(one.name) not in found.wheels}
        level = []
        for name, answer in ask(target, new).items():
            found.wheels[name] = (answer["metadata"]["version"], file_of(answer)) if answer else None
            if answer and deep:
                level += [Requirement(line) for line in answer["metadata"].get("requires_dist", [])]
    print(f"  … {target.platform.name}, Python {target.python}: {len(found.wheels)} packages", file=sys.stderr)
    return found


def ask(target: Target, wanted: dict[str, Requirement]) -> dict[str, dict[str, Any] | None]:
    """Return pip's answer for each name; where it refuses them together, each is asked for alone."""
    if not wanted:
        return {}
    report = pip_report(target, wanted.values())
    if report is not None:
        return {canonicalize_name(one["metadata"]["name"]): one for one in report["install"]}
    if len(wanted) == 1:
        return dict.fromkeys(wanted)
    return {name: answer for one, need in wanted.items() for name, answer in ask(target, {one: need}).items()}


def pip_report(target: Target, wanted: Iterable[Requirement]) -> dict[str, Any] | None:
    """Return pip's report of what it would install, without dependencies; None where something has no wheel."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--report", "-"),
                *("--only-binary=:all:", "--implementation", "cp", "--python-version", target.python),
                *("--ignore-installed", "--disable-pip-version-check", "--target", folder),
                *(part for tag in target.platform.tags for part in ("--platform", tag)),
                *(f"{one.name}{one.specifier}" for one in wanted),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0:
        report: dict[str, Any] = json.loads(done.stdout)
        return report
    if "No matching distribution" in done.stderr:
        return None
    raise SystemExit(f"pip failed: {done.stderr.strip()}")


def file_of(answer: dict[str, Any]) -> str:
    """Return the name of the wheel."""
    return str(answer["download_info"]["url"]).rpartition("/")[2]


def print_table(names: Sequence[str], found: Sequence[Found]) -> None:
    """Print a row for each package and a column for each platform."""
    print(f"| package | {' | '.join(platform.name for platform in PLATFORMS)} |")
    print("|---" * (1 + len(PLATFORMS)) + "|")
    for name in names:
        versions = sorted({wheel[0] for one in found if (wheel := one.wheels.get(name))})
        cells = [cell(name, [one for one in found if one.target.platform == platform]) for platform in PLATFORMS]
        print(f"| {' '.join([name, *versions])} | {' | '.join(cells)} |")


def cell(name: str, found: Sequence[Found]) -> str:
    """Return for which Pythons there is a wheel ("any": one without compiled parts), and for which there is none."""
    asked = {one.target.python: one.wheels[name] for one in found if name in one.wheels}
    if not asked:
        return NOT_NEEDED
    there = [python for python, wheel in asked.items() if wheel]
    missing = [python for python, wheel in asked.items() if not wheel]
    if not missing and all(wheel[1].endswith("-none-any.whl") for wheel in asked.values() if wheel):
        return "any"
    return "; ".join(([span(there)] if there else []) + ([f"**none for {span(missing)}**"] if missing else []))


def span(pythons: Sequence[str]) -> str:
    """Return ``3.11 to 3.14`` where they follow one another, else all of them."""
    first, last = PYTHONS.index(pythons[0]), PYTHONS.index(pythons[-1])
    if len(pythons) > 2 and last - first + 1 == len(pythons):
        return f"{pythons[0]} to {pythons[-1]}"
    return ", ".join(pythons)


if __name__ == "__main__":
    sys.exit(main())
