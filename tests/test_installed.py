"""Folders of added encoders: written whole or not at all, read back, checked, told by name when they are damaged."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike import installed, registry
from lookalike.encoders.catalog import catalog, entry
from lookalike.errors import ConfigError, UnknownComponent
from lookalike.installed import Card, TextCard
from lookalike.preprocess import Recipe

MODEL = b"a model, as far as anybody asks"
CARD = Card(
    name="mine",
    runtime="onnx",
    model="model.onnx",
    sha256=installed.sha256_of(MODEL),
    dim=3,
    architecture='a "net" of\nmine \\ ü',
    licence="MIT",
    good_for="tests",
    recipe={"size": 8, "fit": "pad", "mean": [0.5, 0.25, 0.0]},
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "encoders"
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(place))
    return place


def test_what_is_installed_is_there_whole_and_read_back() -> None:
    assert installed.names() == []
    folder = installed.install(CARD, {"model.onnx": MODEL})
    assert installed.names() == ["mine"]
    assert installed.card("mine") == CARD
    assert sorted(os.listdir(folder)) == ["encoder.toml", "model.onnx"]
    assert installed.checked("mine", "model.onnx", CARD.sha256).read_bytes() == MODEL
    assert os.listdir(folder.parent) == ["mine"]


names = st.text("abcXYZ019-_.", min_size=1, max_size=9).filter(lambda text: text[0] not in "-_.")
texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    name=names,
    dim=st.integers(1, 5000),
    told=texts,
    sizes=st.lists(st.integers(1, 99), max_size=3),
    words=st.booleans(),
)
def test_a_card_that_is_written_is_the_one_that_is_read(
    name: str, dim: int, told: str | None, sizes: list[int], words: bool
) -> None:
    text = TextCard("text.onnx", "0" * 64, "clip-bpe", ("bpe.txt.gz",), 77, "embedding") if words else None
    card = replace(CARD, name=name, dim=dim, licence=told, source=told, sizes=tuple(sizes), text=text)
    written = card.to_toml()
    assert tomllib.loads(written)["encoder"]["dim"] == dim
    assert Card.from_toml(written, "here") == card


def test_a_name_that_is_taken_is_refused_and_what_is_there_stays() -> None:
    installed.install(CARD, {"model.onnx": MODEL})
    with pytest.raises(ConfigError, match=r"installed already.*lookalike encoders remove mine"):
        installed.install(replace(CARD, dim=4), {"model.onnx": b"other"})
    assert installed.card("mine").dim == 3
    installed.install(replace(CARD, dim=4), {"model.onnx": b"other"}, replace=True)
    assert installed.card("mine").dim == 4
    assert os.listdir(installed.home()) == ["mine"]


def test_a_failure_in_the_middle_leaves_nothing(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write encoder mine.*LOOKALIKE_ENCODERS"):
        installed.install(CARD, {"model.onnx": MODEL, "text.onnx": home / "there is no such file"})
    assert os.listdir(home) == []
    assert installed.names() == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(tmp_path / "file"))
    assert installed.names() == []
    with pytest.raises(ConfigError, match="LOOKALIKE_ENCODERS"):
        installed.install(CARD, {"model.onnx": MODEL})


def test_a_damaged_model_is_told_when_it_is_read(home: Path) -> None:
    installed.install(CARD, {"model.onnx": MODEL})
    (home / "mine" / "model.onnx").write_bytes(MODEL[:-1])
    with pytest.raises(ConfigError, match=r"model of encoder mine is damaged.*sha256"):
        installed.checked("mine", "model.onnx", CARD.sha256)
    (home / "mine" / "model.onnx").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        installed.checked("mine", "model.onnx", CARD.sha256)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("unknown = 1", "unknown key 'unknown'"),
        ("dim = 'three'", "dim = 'three' is no int"),
        ("dim = 0", "at least one number"),
        ("runtime = 'jax'", "no runtime named 'jax'"),
        ("name = '../up'", "an encoder's name"),
        ("sizes = ['a']", "sizes"),
        ("licence = 3", "licence = 3"),
        ("= broken", "no card of an encoder"),
    ],
)
def test_a_damaged_card_is_told_with_what_is_wrong(home: Path, line: str, told: str) -> None:
    installed.install(CARD, {"model.onnx": MODEL})
    path = home / "mine" / "encoder.toml"
    key = line.split(" ", maxsplit=1)[0]
    rest = [one for one in CARD.to_toml().splitlines() if not one.startswith(f"{key} =")]
    path.write_text("\n".join([rest[0], line, *rest[1:]]))
    with pytest.raises(ConfigError, match=f"{path}.*{told}"):
        installed.card("mine")
    found, damaged = installed.cards()
    assert not found
    assert len(damaged) == 1
    assert {one.name for one in catalog() if one.installed} == set(registry.names("encoder")) - {"mine"}


def test_what_is_missing_from_a_card_is_named(home: Path) -> None:
    installed.install(CARD, {"model.onnx": MODEL})
    path = home / "mine" / "encoder.toml"
    path.write_text("\n".join(one for one in CARD.to_toml().splitlines() if not one.startswith("sha256")))
    with pytest.raises(ConfigError, match="sha256 is missing"):
        installed.card("mine")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "a b", "a" * 65, "ü"])
def test_names_that_no_folder_should_have_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="an encoder's name"):
        replace(CARD, name=name)


def test_an_added_encoder_is_listed_and_asked_for_by_name(home: Path) -> None:
    installed.install(CARD, {"model.onnx": MODEL})
    assert "mine" in registry.names("encoder")
    told = entry("mine")
    assert (told.installed, told.dim, told.licence, told.input, told.how) == (True, 3, "MIT", 8, "added")
    assert registry.encoder("mine").space.preprocess == Recipe(8, fit="pad", mean=(0.5, 0.25, 0.0)).digest
    assert registry.encoder("mine").space.version == CARD.sha256[:12]
    installed.remove("mine")
    with pytest.raises(UnknownComponent, match="mine"):
        entry("mine")
    with pytest.raises(ConfigError, match="no installed encoder 'mine'; installed: none"):
        installed.remove("mine")
    assert os.listdir(home) == []
