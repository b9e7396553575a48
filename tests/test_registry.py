"""Names of parts: listed without importing them, never redefined, open to plug-ins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conftest import Cli, forget_registered
from lookalike import registry
from lookalike.encoders.catalog import catalog
from lookalike.errors import ConfigError, UnknownComponent
from lookalike.protocols import Encoder, Metric


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """An installed package that brings the encoder and the metric of the given names."""
    encoder, metric = getattr(request, "param", ("dominant", "chebyshev"))
    site = tmp_path / "site"
    info = site / "lookalike_plugin-3.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: lookalike-plugin\nVersion: 3.1\nSummary: colours\nLicense: MIT\n"
    )
    (info / "entry_points.txt").write_text(
        f"[lookalike.encoders]\n{encoder} = plugged_in:Dominant\n[lookalike.metrics]\n{metric} = plugged_in:Chebyshev\n"
    )
    (site / "plugged_in.py").write_text(
        "import pathlib\n"
        "import numpy as np\n"
        "from lookalike.types import Embeddings, Space\n"
        "pathlib.Path(__file__).with_name('imported').touch()\n"
        "class Dominant:\n"
        "    space = Space('dominant', '1', 'none', 3)\n"
        "    at_least = None\n"
        "    def encode(self, images):\n"
        "        rows = [image.pixels.reshape(-1, 3).mean(axis=0) for image in images]\n"
        "        return Embeddings.from_raw(np.stack(rows), self.space)\n"
        "class Chebyshev:\n"
        "    name = 'chebyshev'\n"
        "    higher_is_closer = False\n"
        "    def matrix(self, queries, gallery):\n"
        "        return np.abs(queries[:, None] - gallery[None]).max(axis=2)\n"
    )
    monkeypatch.syspath_prepend(site)
    forget_registered()
    yield site
    monkeypatch.undo()
    forget_registered()


def test_every_built_in_can_be_made_and_answers_to_its_name() -> None:
    lites = [f"efficientnet-lite{number}" for number in range(3)]
    assert registry.names("encoder") == ["color-histogram", *lites, "mobilenet-v2"]
    assert registry.names("metric") == ["cosine", "euclidean", "manhattan"]
    for name in registry.names("encoder"):
        part = registry.encoder(name)
        assert isinstance(part, Encoder)
        assert part.space.encoder == name
    for name in registry.names("metric"):
        metric = registry.metric(name)
        assert isinstance(metric, Metric)
        assert metric.name == name


def test_the_catalog_tells_of_every_encoder_what_the_encoder_tells() -> None:
    entries = {entry.name: entry for entry in catalog()}
    assert set(registry.names("encoder")) <= set(entries)
    for name in registry.names("encoder"):
        assert entries[name].dim == registry.encoder(name).space.dim
        assert entries[name].installed


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownComponent, match="no encoder named 'clpi'; known: color-histogram, efficientnet-lite0"):
        registry.encoder("clpi")
    with pytest.raises(UnknownComponent) as caught:
        registry.metric("clpi")
    assert (caught.value.kind, caught.value.name) == ("metric", "clpi")
    assert caught.value.known == ("cosine", "euclidean", "manhattan")


def test_an_encoder_that_is_known_but_not_here_is_told_with_the_way_to_it() -> None:
    with pytest.raises(ConfigError, match="'resnet-18' is known, but not installed here; to get it: lookalike enc"):
        registry.encoder("resnet-18")
    with pytest.raises(ConfigError, match="lookalike encoders pull mobilenet-v3-small"):
        registry.encoder("mobilenet-v3-small")


def test_a_plug_in_is_listed_without_being_imported(plugin: Path) -> None:
    assert "dominant" in registry.names("encoder")
    assert "chebyshev" in registry.names("metric")
    (entry,) = [entry for entry in catalog() if entry.name == "dominant"]
    assert (entry.source, entry.licence, entry.installed) == ("plug-in lookalike-plugin 3.1", "MIT", True)
    assert not (plugin / "imported").exists()


def test_a_plug_in_comes_through_the_same_door(plugin: Path, cli: Cli, photos: Path) -> None:
    assert cli("index", photos, "--encoder", "dominant").code == 0
    ran = cli("search", photos / "coffee.jpg", "-k", 1, "--metric", "chebyshev", "--json")
    assert (ran.code, ran.json["space"]["encoder"], ran.json["metric"]) == (0, "dominant", "chebyshev")
    (hit,) = ran.json["queries"][0]["hits"]
    assert (Path(hit["path"]).name, hit["score"]) == ("coffee.jpg", pytest.approx(0, abs=1e-6))


@pytest.mark.parametrize(
    ("plugin", "kind"), [(("color-histogram", "x"), "encoder"), (("x", "cosine"), "metric")], indirect=["plugin"]
)
def test_redefining_a_name_is_an_error_that_names_both(plugin: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match=r"defined twice: by lookalike.*plugged_in"):
        registry.names(kind)
    assert not (plugin / "imported").exists()


def test_an_encoder_is_made_once_a_process() -> None:
    assert registry.encoder("color-histogram") is registry.encoder("color-histogram")


def test_a_plug_in_that_cannot_be_imported_is_named(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "plugged_in", raising=False)
    (plugin / "plugged_in.py").write_text("import a_module_that_is_not_there")
    with pytest.raises(ConfigError, match=r"'dominant' cannot be loaded from plugged_in:Dominant.*a_module_that_is"):
        registry.encoder("dominant")
