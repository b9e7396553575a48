"""Encoders that are added, quantized, reduced, varied, verified: real networks on real photos, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from conftest import Cli
from lookalike import installed, registry
from lookalike.apps.encoders import add, join, quantize, recipe_of, reduce, vary
from lookalike.apps.verify import Verified, verify
from lookalike.encoders import efficientnet_lite as lite
from lookalike.encoders.quantizing import quantized
from lookalike.encoders.reduced import cut, packed, pca, unpacked
from lookalike.errors import ConfigError, InputError
from lookalike.images import read
from lookalike.preprocess import prepare
from lookalike.protocols import TextEncoder
from lookalike.types import Embeddings, Image, Space
from test_onnx import pooled, tiny
from tiny_clip import card_and_files

BASE = "efficientnet-lite0"
RECIPE = "size = 4\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "encoders"
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(place))
    return place


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mean.onnx"
    path.write_bytes(tiny(pooled()).SerializeToString())
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


# Adding


def test_a_model_of_ones_own_is_an_encoder(model: Path, recipe: Path) -> None:
    told = add(str(model), str(recipe), "mean-colour")
    assert (told.dim, told.how, told.installed) == (3, "add", True)
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0], red[..., 1] = 200, 100
    found = registry.encoder("mean-colour").encode([Image(red, (4, 4))]).vectors[0]
    np.testing.assert_allclose(found, np.array([2, 1, 0]) / np.sqrt(5), atol=1e-6)


def test_a_name_that_others_have_is_refused(model: Path, recipe: Path) -> None:
    with pytest.raises(ConfigError, match="comes with lookalike"):
        add(str(model), str(recipe), BASE)
    add(str(model), str(recipe), "mine")
    with pytest.raises(ConfigError, match="installed already"):
        add(str(model), str(recipe), "mine")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("cut.onnx", tiny(pooled()).SerializeToString()[:40], "cannot be loaded"),
        ("text.onnx", b"this is no model", "cannot be loaded"),
        ("empty.tflite", b"", "cannot be loaded"),
        ("pickle.pt", b"\x80\x02}q\x00.", r"must end in \.onnx or \.tflite"),
    ],
)
def test_what_is_no_model_is_refused_and_nothing_is_left(
    tmp_path: Path, home: Path, recipe: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        add(str(tmp_path / name), str(recipe), "mine")
    assert installed.names() == []
    assert not home.exists()


def test_missing_files_and_wrong_recipes_are_named(model: Path, recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model .*nowhere\.onnx: there is no such file"):
        add(str(tmp_path / "nowhere.onnx"), str(recipe), "mine")
    with pytest.raises(ConfigError, match="it is a folder"):
        add(str(tmp_path), str(recipe), "mine")
    recipe.write_text("size = 4\ncolor = 'rgb'\n")
    with pytest.raises(ConfigError, match="color"):
        add(str(model), str(recipe), "mine")
    recipe.write_text("size = 5\n")
    with pytest.raises(ConfigError, match="set size, layout and dtype"):
        add(str(model), str(recipe), "mine")


# Another recipe


def test_another_recipe_is_another_encoder(cli: Cli, tmp_path: Path, crops: Path) -> None:
    assert cli("encoders", "recipe", BASE).out == "size = 224\n"
    varied = tmp_path / "flip.toml"
    varied.write_text('size = 224\naugment = ["flip"]\n')
    assert "installed: flipped" in cli("encoders", "vary", BASE, "--recipe", varied, "--as", "flipped").out
    assert cli("encoders", "recipe", "flipped").out == varied.read_text()
    image = read(str(sorted(crops.iterdir())[0]))
    mirrored = Image(np.ascontiguousarray(image.pixels[:, ::-1]), image.size)
    base, flipped = registry.encoder(BASE), registry.encoder("flipped")
    both = base.encode([image, mirrored]).vectors.sum(axis=0)
    np.testing.assert_allclose(flipped.encode([image]).vectors[0], both / np.linalg.norm(both), atol=1e-5)
    assert flipped.space != base.space
    assert "no ONNX model" in cli("encoders", "recipe", "color-histogram").err
    varied.write_text("size = 100\n")
    assert "set size, layout and dtype" in cli("encoders", "vary", BASE, "--recipe", varied, "--as", "small").err
    assert installed.names() == ["flipped"]


def test_what_is_made_of_an_encoder_with_words_keeps_them(tmp_path: Path) -> None:
    card, files = card_and_files()
    installed.install(card, files)
    varied = tmp_path / "flip.toml"
    varied.write_text(recipe_of("tiny-clip") + 'augment = ["flip"]\n')
    vary("tiny-clip", str(varied), "flipped-clip")
    made, base = registry.encoder("flipped-clip"), registry.encoder("tiny-clip")
    assert isinstance(made, TextEncoder)
    assert isinstance(base, TextEncoder)
    words = made.encode_text(["red", "blue"])
    assert words.space == made.space != base.space
    np.testing.assert_allclose(words.vectors, base.encode_text(["red", "blue"]).vectors, atol=1e-6)


# int8


def test_int8_keeps_the_vectors_of_pictures_that_did_not_make_it(crops: Path) -> None:
    made = quantize(BASE, str(crops), "small")
    assert made.pictures >= 4
    images = [read(str(path)) for path in sorted(crops.iterdir())]
    small, base = registry.encoder("small"), registry.encoder(BASE)
    cosines = (small.encode(images).vectors * base.encode(images).vectors).sum(axis=1)
    assert cosines.mean() > 0.98
    assert made.cosine is not None
    assert abs(made.cosine[0] - cosines.mean()) < 0.02
    assert small.space != base.space
    assert small.space.dim == base.space.dim
    model = installed.home() / "small" / "model.onnx"
    assert model.stat().st_size < 0.3 * len(lite.model(lite.LITE0, [lite.EMBEDDING]))
    kinds = {node.op_type for node in onnx.load(model).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_biases_take_back_what_rounding_weights_does_to_means(monkeypatch: pytest.MonkeyPatch, crops: Path) -> None:
    images = [read(str(path)) for path in sorted(crops.iterdir())][:12]
    data, recipe = lite.model(lite.LITE0, [lite.EMBEDDING]), lite.LITE0.recipe
    inputs = [prepare([image], recipe) for image in images]
    with_correction = quantized(data, lambda number: inputs[number], 8)
    monkeypatch.setattr("lookalike.encoders.quantizing._correct", lambda *_: None)
    without = quantized(data, lambda number: inputs[number], 8)
    base = registry.encoder(BASE).encode(images).vectors
    mean_with, mean_without = (
        float((Embeddings.from_raw(_run(model, inputs), Space("t", "1", "n", 1280)).vectors * base).sum(axis=1).mean())
        for model in (with_correction, without)
    )
    assert mean_with > mean_without + 0.005


def _run(model: bytes, inputs: Sequence[np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"pixels": one})[0] for one in inputs])


def test_too_few_pictures_or_no_onnx_model_cannot_be_quantized(tmp_path: Path, crops: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(crops.iterdir())[:3]:
        path.rename(few / path.name)
    (few / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"3 pictures .* are too few"):
        quantize(BASE, str(few), "small")
    with pytest.raises(ConfigError, match="color-histogram is no ONNX model"):
        quantize("color-histogram", str(crops), "small")
    with pytest.raises(InputError, match="nowhere"):
        quantize(BASE, str(tmp_path / "nowhere"), "small")
    assert installed.names() == []


def test_a_model_without_convolutions_is_told(model: Path) -> None:
    with pytest.raises(InputError, match="no convolution"):
        quantized(model.read_bytes(), lambda _: np.zeros((1, 3, 4, 4), np.float32), 8)


# Shorter vectors


def test_pca_equals_the_singular_vectors_and_whitening_evens_out_variance() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(300, 12)) * np.linspace(4, 0.2, 12)).astype(np.float32)
    mean, components, kept = pca(vectors, 5, whiten=False)
    centred = vectors - vectors.mean(axis=0)
    _, values, directions = np.linalg.svd(centred.astype(float), full_matrices=False)
    np.testing.assert_allclose(mean, vectors.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(np.abs((components * directions[:5].T).sum(axis=0)), 1, atol=1e-4)
    assert kept == pytest.approx((values[:5] ** 2).sum() / (values**2).sum(), abs=1e-5)
    _, plain, _ = pca(vectors, 5, whiten=True)
    uneven, even = ((deviations.max() / deviations.min()) for deviations in _deviations(centred, components, plain))
    assert even < 1 + (uneven - 1) / 4


def _deviations(centred: np.ndarray, *projections: np.ndarray) -> list[np.ndarray]:
    return [(centred @ projection).std(axis=0) for projection in projections]


def test_a_reduced_encoder_gives_the_projected_vectors_of_its_base(crops: Path) -> None:
    made = reduce(BASE, 16, "short", str(crops), whiten=False)
    assert made.kept is not None
    assert 0.3 < made.kept < 1
    images = [read(str(path)) for path in sorted(crops.iterdir())]
    base = registry.encoder(BASE).encode(images).vectors.astype(float)
    centred = base - base.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    want = centred @ directions[:16].T
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    found = registry.encoder("short").encode(images).vectors
    np.testing.assert_allclose(found @ found.T, want @ want.T, atol=1e-3)
    assert registry.encoder("short").space.preprocess == registry.encoder(BASE).space.preprocess


def test_too_few_pictures_for_so_many_numbers_are_told(crops: Path) -> None:
    with pytest.raises(InputError, match=r"40 pictures are too few for 21 dimensions: at least 42.*can give 20"):
        reduce(BASE, 21, "short", str(crops))
    with pytest.raises(ConfigError, match="1 to 1280, got 1281"):
        reduce(BASE, 1281, "short", str(crops))
    with pytest.raises(ConfigError, match="1 to 1280, got 0"):
        reduce(BASE, 0, "short", str(crops))


def test_only_what_was_trained_for_it_is_cut(model: Path, recipe: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be cut to 64 numbers: it was not trained for it.*--pictures"):
        reduce(BASE, 64, "short", None)
    add(str(model), str(recipe), "nested")
    card = installed.card("nested")
    data = (installed.home() / "nested" / card.model).read_bytes()
    nested = type(card)(**{**{f: getattr(card, f) for f in card.__slots__}, "sizes": (2,)})
    installed.install(nested, {card.model: data}, replace=True)
    with pytest.raises(ConfigError, match=r"trained for \(2,\)"):
        reduce("nested", 1, "short", None)
    reduce("nested", 2, "short", None)
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[...] = (30, 40, 90)
    found = registry.encoder("short").encode([Image(pixels, (4, 4))]).vectors[0]
    np.testing.assert_allclose(found, [0.6, 0.8], atol=1e-6)


def test_a_base_that_changed_is_refused(model: Path, recipe: Path, tmp_path: Path) -> None:
    add(str(model), str(recipe), "base")
    card = installed.card("base")
    nested = type(card)(**{**{f: getattr(card, f) for f in card.__slots__}, "sizes": (2,)})
    data = (installed.home() / "base" / card.model).read_bytes()
    installed.install(nested, {card.model: data}, replace=True)
    reduce("base", 2, "short", None)
    other = type(card)(**{**{f: getattr(nested, f) for f in card.__slots__}, "recipe": {"size": 4, "fit": "pad"}})
    installed.install(other, {card.model: data}, replace=True)
    registry._installed.cache_clear()
    with pytest.raises(ConfigError, match=r"was made for base of .*make it anew"):
        registry.encoder("short")


def test_a_base_that_is_gone_is_named_with_what_stood_on_it(model: Path, recipe: Path, cli: Cli) -> None:
    add(str(model), str(recipe), "base")
    join({"base": 1.0, "color-histogram": 1.0}, "both")
    join({"both": 1.0, "color-histogram": 1.0}, "more")
    told = cli("encoders", "remove", "base").err
    assert told == "removed: base\nnote: without it these cannot be used: both\n"
    registry._installed.cache_clear()
    for name in ("both", "more"):
        with pytest.raises(ConfigError, match="encoder both stands on base, which is not installed any more"):
            registry.encoder(name).encode([Image(np.zeros((4, 4, 3), np.uint8), (4, 4))])


def test_a_damaged_projection_is_told() -> None:
    mean, components = cut(4, 2)
    data = packed(mean, components)
    np.testing.assert_array_equal(unpacked(data, (4, 2), "x")[1], components)
    for broken in (data[:-9], b"", data.replace(b"mean", b"meam")):
        with pytest.raises(ConfigError, match="projection of encoder x is"):
            unpacked(broken, (4, 2), "x")
    with pytest.raises(ConfigError, match="expected"):
        unpacked(data, (4, 3), "x")


# Verifying


def test_real_encoders_keep_the_contract_and_tell_pictures_apart(crops: Path) -> None:
    for name in (BASE, "color-histogram"):
        found = verify(name)
        assert (found.passed, found.photos, len(found.checks)) == (True, 0, 5)
    found = verify(BASE, str(crops))
    assert {check.name for check in found.checks} >= {"tells pictures apart", "finds edited copies"}
    assert found.photos == 40


class Faulty:
    """The mean colour, and one fault."""

    at_least = None

    def __init__(self, fault: str) -> None:
        self.fault, self.space, self._calls = fault, Space(fault, "1", "none", 3), 0

    def encode(self, images: Sequence[Image]) -> Embeddings:
        self._calls += 1
        rows = np.stack([image.pixels.reshape(-1, 3).mean(axis=0) for image in images])
        if self.fault == "batch":
            rows[:, 0] += len(images)
        if self.fault == "chance":
            rows[:, 0] += self._calls
        if self.fault == "order":
            rows[:, 0] += np.arange(len(rows))
        if self.fault == "collapse":
            rows = 1000 + 0.01 * rows
        made = Embeddings.from_raw(rows, self.space)
        return Embeddings(2 * made.vectors, made.norms, made.space) if self.fault == "length" else made


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("batch", "whatever the batch"),
        ("chance", "deterministic"),
        ("order", "whatever the order"),
        ("collapse", "tells pictures apart"),
    ],
)
def test_each_fault_fails_its_check(fault: str, check: str, crops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "encoder", lambda _name: Faulty(fault))
    found: Verified = verify("faulty", str(crops))
    assert check in {one.name for one in found.checks if not one.passed}
    assert not found.passed


def test_too_few_photos_are_no_check(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0 pictures .* too few to check on"):
        verify(BASE, str(tmp_path))
    with pytest.raises(InputError, match="nowhere"):
        verify(BASE, str(tmp_path / "nowhere"))


# Joined


def test_the_cosine_of_a_joined_encoder_is_the_weighted_mean_of_its_parts(crops: Path) -> None:
    told = join({BASE: 3.0, "color-histogram": 1.0}, "both")
    assert (told.dim, told.how, told.licence) == (1280 + 580, "join", "Apache-2.0")
    images = [read(str(path)) for path in sorted(crops.iterdir())][:6]
    cosines = [
        (vectors := registry.encoder(name).encode(images).vectors.astype(float)) @ vectors.T
        for name in (BASE, "color-histogram", "both")
    ]
    np.testing.assert_allclose(cosines[2], 0.75 * cosines[0] + 0.25 * cosines[1], atol=1e-6)
    assert registry.encoder("both").at_least == registry.encoder(BASE).at_least
    assert verify("both").passed


def test_a_joined_encoder_of_another_weight_is_another_space() -> None:
    join({BASE: 1.0, "color-histogram": 1.0}, "even")
    join({BASE: 2.0, "color-histogram": 1.0}, "more")
    even, more = (registry.encoder(name).space for name in ("even", "more"))
    assert (even.version, even.preprocess) != (more.version, more.preprocess)


def test_what_cannot_be_joined_is_told(cli: Cli) -> None:
    with pytest.raises(ConfigError, match="at least two different encoders can be joined, got efficientnet-lite0"):
        join({BASE: 1.0}, "both")
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=r"a weight is above 0, got .* for color-histogram"):
            join({BASE: 1.0, "color-histogram": weight}, "both")
    assert "efficientnet-lite0 is named twice" in cli("encoders", "join", BASE, BASE, "--as", "both").err
    told = cli("encoders", "join", BASE, "color-histogram", "--weights", "1", "--as", "both")
    assert "2 encoders need as many weights, got 1: 1" in told.err
    told = cli("encoders", "join", BASE, "color-histogram", "--weights", "1,a", "--as", "both")
    assert "--weights are numbers with commas between them, got '1,a'" in told.err
    assert "no encoder named 'none'" in cli("encoders", "join", BASE, "none", "--as", "both").err
    assert installed.names() == []


def test_a_part_that_changed_or_damaged_parts_are_refused(model: Path, recipe: Path, home: Path) -> None:
    add(str(model), str(recipe), "base")
    join({"base": 1.0, "color-histogram": 1.0}, "both")
    image = Image(np.full((8, 8, 3), 90, np.uint8), (8, 8))
    assert registry.encoder("both").encode([image]).vectors.shape == (1, 583)
    installed.remove("base")
    recipe.write_text(RECIPE + 'fit = "pad"\n')
    add(str(model), str(recipe), "base")
    registry._installed.cache_clear()
    with pytest.raises(ConfigError, match=r"both was made of base of .*, which now is .*; make it anew"):
        registry.encoder("both").encode([image])
    (home / "both" / "parts.json").write_text("{}")
    registry._installed.cache_clear()
    with pytest.raises(ConfigError, match="the model of encoder both is damaged"):
        registry.encoder("both").encode([image])


# The command


def test_the_verbs_by_command(cli: Cli, model: Path, recipe: Path, crops: Path) -> None:
    told = cli("encoders", "add", model, "--recipe", recipe, "--as", "mine", "--licence", "MIT", "--json").json
    assert (told["name"], told["dim"], told["licence"]) == ("mine", 3, "MIT")
    assert "mine  (3 numbers, MIT; installed)" in cli("encoders", "list").out
    assert json.loads(cli("encoders", "info", "mine", "--json").out)["sha256"] == installed.card("mine").sha256
    assert "to get it     pip install" not in cli("encoders", "info", "mine").out
    verified = cli("encoders", "verify", "mine", "--json")
    assert (verified.json["encoder"], verified.json["passed"], verified.code) == ("mine", True, 0)
    failed = cli("encoders", "verify", "mine", "--photos", crops)
    assert (failed.code, "FAIL  tells pictures apart" in failed.out) == (1, True)
    reduced = cli("encoders", "reduce", BASE, "--dim", "8", "--pictures", crops)
    assert "installed: efficientnet-lite0-8 (8 numbers)" in reduced.out
    assert "of the variance is kept" in reduced.out
    assert cli("encoders", "remove", "mine").err == "removed: mine\n"
    assert "no installed encoder 'mine'" in cli("encoders", "remove", "mine").err
    assert "no encoder named 'mine'" in cli("encoders", "info", "mine").err
    assert "lookalike encoders export timm:resnet18" in cli("encoders", "info", "resnet-18").out
