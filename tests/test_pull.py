"""Pulling an encoder: what is asked, what is refused, and that nothing half is installed."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import Cli, forget_registered
from lookalike import installed, registry
from lookalike.apps.pull import Offer, pull
from lookalike.encoders import catalog
from lookalike.encoders.catalog import Entry
from lookalike.errors import ConfigError, MissingDependency, UnknownComponent
from lookalike.images import read
from lookalike.types import Image
from tflite_models import tiny

NAME = "mean-of-a-test"
V3 = Path(__file__).parents[2] / "shared" / "models" / "mobilenet_v3_small.tflite"


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Entry]:
    """An entry of the catalog whose file lies on this machine."""
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(tmp_path / "encoders"))
    monkeypatch.setenv("LOOKALIKE_CACHE", str(tmp_path / "cache"))
    forget_registered()
    yield offer(monkeypatch, tmp_path, tiny())
    monkeypatch.undo()
    forget_registered()


def offer(monkeypatch: pytest.MonkeyPatch, folder: Path, content: bytes, **changed: object) -> Entry:
    (folder / "mean.tflite").write_bytes(content)
    one = Entry(
        name=NAME,
        source="a test",
        how="pull",
        url=(folder / "mean.tflite").as_uri(),
        runtime="litert",
        architecture="the mean colour",
        licence="MIT",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        dim=3,
        recipe={"size": 4, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "layout": "nhwc"},
    )
    one = replace(one, **changed)  # type: ignore[arg-type]
    monkeypatch.setattr(catalog, "_read", lambda: (one,))
    return one


def yes(_: Offer) -> bool:
    return True


def never(_: Offer) -> bool:
    raise AssertionError("nothing is to be asked")


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")}


def test_what_is_asked_names_licence_and_size_and_then_the_encoder_works(known: Entry, tmp_path: Path) -> None:
    asked, told = list[Offer](), list[int]()

    def ask(one: Offer) -> bool:
        asked.append(one)
        return True

    made = pull(NAME, ask=ask, progress=told.append)
    assert asked == [Offer(NAME, "the mean colour", str(known.url), "MIT", known.size or 0)]
    assert made.installed
    assert sum(told) == known.size
    encoder = registry.encoder(NAME)
    assert encoder.space.version == str(known.sha256)[:12]
    rows = encoder.encode([Image(np.full((9, 7, 3), (51, 0, 204), np.uint8), (7, 9))])
    np.testing.assert_allclose(rows.vectors[0] * rows.norms[0], [0.2, 0, 0.8], atol=1e-6)
    assert installed.card(NAME).licence == "MIT"
    assert left(tmp_path / "cache") == set()


def test_what_is_there_is_neither_asked_for_nor_fetched(known: Entry, tmp_path: Path) -> None:
    pull(NAME, ask=yes)
    (tmp_path / "mean.tflite").unlink()
    assert pull(NAME, ask=never).installed


def test_a_no_fetches_nothing(known: Entry, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{NAME} was not fetched: its licence \(MIT\)"):
        pull(NAME, ask=lambda _: False)
    assert installed.names() == []
    assert not (tmp_path / "cache").exists()


def test_wrong_bytes_install_nothing(known: Entry, tmp_path: Path) -> None:
    (tmp_path / "mean.tflite").write_bytes(tiny()[:-1] + b"!")
    with pytest.raises(ConfigError, match=f"expected {known.sha256}: it is another file, and was removed"):
        pull(NAME, ask=yes)
    assert installed.names() == []
    assert left(tmp_path / "cache") == set()


@pytest.mark.parametrize(
    ("content", "changed", "message"),
    [
        (b"no model at all", {}, f"the model of encoder {NAME} cannot be loaded"),
        (tiny(), {"dim": 5}, "gives 3 numbers in its output 'y0', but its dim is 5"),
        (tiny(), {"recipe": {"size": 4}}, "its recipe makes"),
        (tiny(), {"recipe": {"size": 4, "sice": 5}}, "sice"),
    ],
)
def test_a_model_that_does_not_work_is_not_installed(
    known: Entry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    changed: dict[str, object],
    message: str,
) -> None:
    offer(monkeypatch, tmp_path, content, **changed)
    with pytest.raises(ConfigError, match=message):
        pull(NAME, ask=yes)
    assert installed.names() == []


@pytest.mark.parametrize("missing", ["url", "sha256", "size", "runtime", "dim"])
def test_an_entry_without_what_it_takes_is_not_fetched(
    known: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    offer(monkeypatch, tmp_path, tiny(), **{missing: None})
    with pytest.raises(ConfigError, match=f"encoder {NAME} is not fetched by pull"):
        pull(NAME, ask=never)


def test_an_encoder_that_comes_otherwise_says_how(
    known: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, tmp_path, tiny(), how="export", export="timm:resnet18")
    with pytest.raises(ConfigError, match=rf"it comes by: lookalike encoders export timm:resnet18 --as {NAME}"):
        pull(NAME, ask=never)
    with pytest.raises(UnknownComponent, match=f"no encoder named 'clpi'; known: .*{NAME}"):
        pull("clpi", ask=never)


def test_a_missing_runtime_is_told_before_anything_is_asked(known: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["lookalike.apps.pull"], "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=r"pip install 'lookalike\[litert\]'"):
        pull(NAME, ask=never)


def test_what_the_catalog_offers_to_pull_has_all_that_it_takes() -> None:
    offered = [one for one in catalog.catalog() if one.how == "pull" and not one.installed]
    assert "mobilenet-v3-small" in {one.name for one in offered}
    for one in offered:
        with pytest.raises(ConfigError, match="was not fetched"):
            pull(one.name, ask=lambda _: False)


@pytest.mark.skipif(not V3.is_file(), reason=f"models/{V3.name} is not beside the checkout")
def test_what_the_catalog_says_of_mobilenet_v3_small_is_true_of_the_real_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shipped_photos: Path
) -> None:
    (real,) = (one for one in catalog._read() if one.name == "mobilenet-v3-small")
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(tmp_path / "encoders"))
    monkeypatch.setenv("LOOKALIKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "_read", lambda: (replace(real, url=V3.as_uri()),))
    assert pull(real.name, ask=yes).installed
    encoder = registry.encoder(real.name)
    a, b = (encoder.encode([read(shipped_photos / name)]) for name in ("astronaut.jpg", "coffee.jpg"))
    assert encoder.space.dim == 1024
    assert -0.3 < float(a.vectors[0] @ b.vectors[0]) < 0.5


# The verb


def test_the_verb_shows_licence_and_size_and_installs_on_yes(known: Entry, cli: Cli) -> None:
    ran = cli("encoders", "pull", NAME, "--yes")
    assert ran.code == 0, ran.err
    assert "MIT" in ran.err
    assert f"{known.size:,} bytes" in ran.err
    assert str(known.url) in ran.err
    assert f"installed: {NAME}" in ran.out
    assert cli("encoders", "pull", NAME, "--yes", "--json").json["installed"] is True


def test_the_verb_without_an_answer_fetches_nothing(known: Entry, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def readline(self) -> str:
            return ""

    monkeypatch.setattr(sys, "stdin", Silent())
    assert cli("encoders", "pull", NAME).code != 0
    assert installed.names() == []
