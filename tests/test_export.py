"""What an export refuses before torch is asked; `tests/with_torch/test_export.py` has the exports themselves."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny_clip
from conftest import Cli
from lookalike import installed
from lookalike.apps import export as app
from lookalike.errors import ConfigError, InputError, LookalikeError, MissingDependency
from lookalike.exporting.request import Request


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(tmp_path / "encoders"))
    return tmp_path / "encoders"


@pytest.fixture
def extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the extra seem to be installed."""
    monkeypatch.setattr(app, "find_spec", lambda name: name)


def test_without_its_extra_the_command_says_what_to_install(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    done = cli("encoders", "export", "timm:resnet18", "--as", "mine")
    assert done.code == 2
    assert "pip install 'lookalike[export]'" in done.err
    assert not home.exists()


@pytest.mark.parametrize("missing", ["torch", "onnxscript", "timm"])
def test_each_missing_part_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "find_spec", lambda name: None if name == missing else name)
    with pytest.raises(MissingDependency, match=f"needs {missing}"):
        app.export(Request("mine", "timm:resnet18"))


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("weights.pth", {}, "name it with --architecture timm:NAME, got 'weights.pth'"),
        ("resnet18", {}, "a source is timm:resnet18"),
        ("weights.pth", {"architecture": "resnet18"}, "an architecture is timm:NAME, torchvision:NAME, open_clip:NAME"),
        ("weights.pth", {"architecture": "timm:resnet18", "random": True}, "--random leaves it out"),
        ("timm:resnet18", {"architecture": "timm:resnet18"}, "--architecture goes with a checkpoint file"),
        ("torchscript:net.pt", {}, "give --recipe FILE"),
        ("torchscript:net.pt", {"recipe": "size = 8", "size": 9}, "neither --size nor --random"),
    ],
)
def test_a_source_that_does_not_say_enough_is_refused(source: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Request("mine", source, **options)


@pytest.mark.parametrize(
    ("source", "options", "expected"),
    [
        ("timm:resnet18", {}, ("timm", "timm", "resnet18", None)),
        ("open_clip:ViT-B-32/openai", {}, ("open_clip", "open_clip", "ViT-B-32/openai", None)),
        ("C:/w.pth", {"architecture": "torchvision:resnet50"}, ("checkpoint", "torchvision", "resnet50", "C:/w.pth")),
    ],
)
def test_a_source_is_taken_apart(source: str, options: dict[str, Any], expected: tuple[str | None, ...]) -> None:
    request = Request("mine", source, **options)
    assert (request.kind, request.library, request.model, request.checkpoint) == expected
    assert Request.from_json(request.to_json()) == request


@pytest.mark.parametrize("name", ["tiny-clip", "color-histogram"])
def test_a_name_that_is_taken_is_refused_before_the_work(name: str) -> None:
    installed.install(*tiny_clip.card_and_files())
    with pytest.raises(ConfigError, match=f"there is an encoder '{name}' already"):
        app.export(Request(name, "timm:resnet18"))


def test_a_recipe_that_is_none_is_refused_before_the_work(cli: Cli, tmp_path: Path) -> None:
    wrong = tmp_path / "recipe.toml"
    wrong.write_text("size = 8\nsharpen = 2\n")
    for path, said in ((tmp_path / "none.toml", "cannot be read"), (wrong, "sharpen")):
        done = cli("encoders", "export", "torchscript:net.pt", "--as", "mine", "--recipe", path)
        assert done.code == 2
        assert said in done.err


def other_process(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a few lines of Python stand for the process that has torch; they get its folder as ``folder``."""
    run = subprocess.run
    head = "import sys, pathlib; folder = pathlib.Path(sys.argv[1]); request = sys.stdin.read()\n"

    def started(command: list[str], **options: Any) -> Any:
        return run([sys.executable, "-c", head + script, command[-1]], **options)

    monkeypatch.setattr("lookalike.apps.apart.subprocess.run", started)


@pytest.mark.parametrize(("told", "kind"), [("true", InputError), ("false", ConfigError)])
@pytest.mark.usefixtures("extra")
def test_the_error_of_the_other_process_is_raised_here(
    told: str, kind: type[LookalikeError], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_process(
        monkeypatch, f"""(folder / "error.json").write_text('{{"input": {told}, "message": "no"}}'); sys.exit(2)"""
    )
    with pytest.raises(kind, match=r"^no$"):
        app.export(Request("mine", "timm:resnet18"))
    assert not home.exists()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("print('x\\nout of luck', file=sys.stderr); sys.exit(5)", "failed with code 5: out of luck"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"code -9 \(killed: is there enough memory\?\)"),
    ],
)
@pytest.mark.usefixtures("extra")
def test_another_process_that_dies_is_said(script: str, said: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other_process(monkeypatch, script)
    with pytest.raises(LookalikeError, match=said):
        app.export(Request("mine", "timm:resnet18"))
    assert not home.exists()


@pytest.mark.usefixtures("extra")
def test_what_the_other_process_made_is_installed_whole(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, files = tiny_clip.card_and_files("mine")
    made = tmp_path / "made"
    made.mkdir()
    for name, content in {"encoder.toml": card.to_toml().encode(), **files, "left-over": b"x"}.items():
        (made / name).write_bytes(content)
    other_process(monkeypatch, f"import shutil; shutil.copytree({str(made)!r}, folder, dirs_exist_ok=True)")
    entry = app.export(Request("mine", "timm:resnet18"))
    assert (entry.name, entry.dim, entry.installed) == ("mine", 3, True)
    assert sorted(path.name for path in (home / "mine").iterdir()) == sorted(["encoder.toml", *files])


def test_asking_for_an_export_loads_no_torch() -> None:
    loads = "any(name in sys.modules for name in ('torch', 'lookalike.exporting.export'))"
    script = f"import sys, lookalike.apps.export; sys.exit({loads})"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
