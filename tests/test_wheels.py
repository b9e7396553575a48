"""The tool that asks pip for wheels: what it asks for where, and what it prints where one is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement

PATH = Path(__file__).parents[1] / "tools" / "wheels.py"


@pytest.fixture
def wheels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("wheels_of_a_test", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


class Pip:
    """Knows which packages have a wheel on which platform, and what they need; None for no wheel."""

    def __init__(self, known: dict[str, list[str] | None]) -> None:
        self.known, self.asked = known, list[set[str]]()

    def __call__(self, _target: Any, wanted: Any) -> dict[str, Any] | None:
        names = {one.name for one in wanted}
        self.asked.append(names)
        if any(self.known[name] is None for name in names):
            return None
        return {
            "install": [
                {
                    "metadata": {"name": name, "version": "1.0", "requires_dist": self.known[name]},
                    "download_info": {"url": f"https://example.org/{name}-1.0-py3-none-any.whl"},
                }
                for name in names
            ]
        }


def test_markers_are_judged_by_the_target_and_not_by_this_machine(wheels: ModuleType) -> None:
    line = "cykooz.resizer>=3.0; platform_machine != 'aarch64' or sys_platform != 'linux'"
    wanted = [wheels.Target(platform, "3.12").wants(Requirement(line)) for platform in wheels.PLATFORMS]
    assert wanted == [True, False, True, True]
    windows = Requirement("colorama; platform_system == 'Windows'")
    assert [wheels.Target(platform, "3.12").wants(windows) for platform in wheels.PLATFORMS] == [False] * 3 + [True]
    old = Requirement("x; python_version < '3.13'")
    assert [wheels.Target(wheels.PLATFORMS[0], python).wants(old) for python in wheels.PYTHONS] == [
        True,
        True,
        False,
        False,
    ]
    assert not wheels.Target(wheels.PLATFORMS[0], "3.12").wants(Requirement("pytest; extra == 'test'"))


def test_what_dependencies_need_is_asked_for_too_and_once(wheels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip({"a": ["b>=1", "c; extra == 'x'"], "b": ["a"]})
    monkeypatch.setattr(wheels, "pip_report", pip)
    target = wheels.Target(wheels.PLATFORMS[0], "3.11")
    assert wheels.resolve(target, [Requirement("a")], deep=True).wheels.keys() == {"a", "b"}
    assert pip.asked == [{"a"}, {"b"}]
    assert wheels.resolve(target, [Requirement("a")], deep=False).wheels.keys() == {"a"}


def test_a_missing_wheel_is_found_among_others_and_printed_in_bold(
    wheels: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wheels, "pip_report", Pip({"a": [], "b": None}))
    wanted = [Requirement("a"), Requirement("b; sys_platform == 'win32'")]
    found = [wheels.resolve(wheels.Target(p, v), wanted, deep=True) for p in wheels.PLATFORMS for v in wheels.PYTHONS]
    wheels.print_table(["a", "b"], found)
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| a 1.0 | any | any | any | any |",
        "| b | not needed | not needed | not needed | **none for 3.11 to 3.14** |",
    ]


@pytest.mark.parametrize(
    ("pythons", "expected"),
    [(["3.11", "3.12", "3.13", "3.14"], "3.11 to 3.14"), (["3.11", "3.12"], "3.11, 3.12"), (["3.14"], "3.14")],
)
def test_versions_in_a_row_are_a_span(wheels: ModuleType, pythons: list[str], expected: str) -> None:
    assert wheels.span(pythons) == expected
