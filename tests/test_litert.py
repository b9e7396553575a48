"""The LiteRT runtime: models made here byte by byte, and the real MobileNetV3-Small and MobileNetV1 where they are."""

from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from ai_edge_litert.interpreter import Interpreter

from lookalike.encoders.litert import LiteRTEncoder
from lookalike.errors import ConfigError, InputError, MissingDependency
from lookalike.preprocess import Recipe, prepare
from lookalike.protocols import Encoder
from lookalike.types import Image
from tflite_models import tiny

PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "layout": "nhwc"}
MODELS = Path(__file__).resolve().parents[2] / "shared" / "models"
V3 = MODELS / "mobilenet_v3_small.tflite"
V3_SHA256 = "bbbb4c51a55a53905af1daec995ca1aae355046f8839bb8c9f5ce9271394bc40"
V1 = MODELS / "mobilenet_v1_embedding_uint8.tflite"
V3_RECIPE = Recipe(224, **PLAIN)


def encoder(model: bytes | Path, recipe: Recipe | None = None, **parts: Any) -> LiteRTEncoder:
    parts = {"dim": 3, **parts}
    return LiteRTEncoder(name="tiny", version="1", recipe=recipe or Recipe(4, **PLAIN), model=lambda: model, **parts)


def flat(*color: int, side: int = 4, source: str = "flat.png") -> Image:
    return Image(np.full((side, side, 3), color, np.uint8), (side, side), source)


def raw(made: Any) -> np.ndarray:
    return np.asarray(made.vectors * made.norms[:, None])


# Models made here


@pytest.mark.parametrize("signature", [None, (-1, 4, 4, 3), (-1, -1, -1, 3)])
@pytest.mark.parametrize("as_path", [False, True])
def test_the_mean_colour_comes_out(signature: tuple[int, ...] | None, as_path: bool, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(tiny(signature=signature))
    runs = encoder(tmp_path / "m.tflite" if as_path else tiny(signature=signature))
    assert isinstance(runs, Encoder)
    made = runs.encode([flat(51, 0, 204), flat(255, 102, 0)])
    np.testing.assert_allclose(raw(made), [[0.2, 0, 0.8], [1, 0.4, 0]], atol=1e-6)


def test_open_axes_get_the_size_of_the_recipe() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    made = encoder(tiny((1, 1, 1, 3), signature=(-1, -1, -1, 3)), Recipe(6, **PLAIN)).encode([Image(pixels, (6, 6))])
    np.testing.assert_allclose(raw(made)[0], pixels.mean(axis=(0, 1)) / 255, atol=1e-6)


def test_quantized_outputs_are_scaled_back_to_real_numbers() -> None:
    runs = encoder(tiny(dtype="uint8", scale=0.5), Recipe(4, layout="nhwc", dtype="uint8"))
    np.testing.assert_allclose(raw(runs.encode([flat(50, 4, 200)])), [[25, 2, 100]], rtol=1e-6)


def test_of_two_outputs_the_named_one_is_taken_and_none_is_guessed() -> None:
    np.testing.assert_allclose(raw(encoder(tiny(outputs=2), output="y1").encode([flat(0, 255, 0)])), [[0, 1, 0]])
    with pytest.raises(ConfigError, match=r"several outputs; name one of: 'y0' .*; 'y1'"):
        encoder(tiny(outputs=2)).encode([flat(0, 0, 0)])


@pytest.mark.parametrize(
    ("model", "parts", "message"),
    [
        (tiny((1, 8, 8, 3)), {}, r"takes 'pixels' \(1, 8, 8, 3\) float32, but its recipe makes \(1, 4, 4, 3\) float32"),
        (tiny((2, 4, 4, 3), (2, 3)), {}, "takes 2 pictures at once"),
        (tiny(dtype="uint8"), {}, r"uint8, but its recipe makes .* float32"),
        (tiny(), {"recipe": Recipe(4)}, r"\(1, 4, 4, 3\) float32, but its recipe makes \(1, 3, 4, 4\) float32"),
        (tiny(), {"dim": 7}, "gives 3 numbers in its output 'y0', but its dim is 7"),
        (tiny(), {"output": "z"}, "no output named 'z'; name one of: 'y0'"),
        (tiny(gives=(1, 4, 4, 3), operator="SQRT"), {"dim": 48}, r"gives \(1, 4, 4, 3\).*a map"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(model: bytes, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        encoder(model, **parts).encode([flat(0, 0, 0)])


def test_a_picture_that_makes_nan_is_named() -> None:
    recipe = Recipe(1, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0), layout="nhwc")
    runs = encoder(tiny((1, 1, 1, 3), (1, 1, 1, 3), operator="SQRT"), recipe)
    assert len(runs.encode([flat(200, 200, 200)])) == 1
    with pytest.raises(InputError, match=r"tiny makes NaN or infinite values of dark\.png"):
        runs.encode([flat(200, 200, 200), flat(9, 9, 9, source="dark.png")])


@pytest.mark.parametrize("content", [b"", b"not a model", tiny()[:200], b"\0" * 4096, tiny()[:20] + b"\xff" * 400])
@pytest.mark.parametrize("as_path", [False, True])
def test_a_damaged_model_is_a_config_error(content: bytes, as_path: bool, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(content)
    with pytest.raises(ConfigError, match="the model of encoder tiny cannot be loaded") as caught:
        encoder(tmp_path / "m.tflite" if as_path else content).encode([flat(0, 0, 0)])
    assert caught.value.__cause__ is not None


def test_a_model_that_is_not_there_is_a_config_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be loaded: .*gone\.tflite"):
        encoder(tmp_path / "gone.tflite").encode([flat(0, 0, 0)])


def test_without_the_extra_the_error_holds_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingDependency, match=r"pip install 'lookalike\[litert\]'"):
        encoder(tiny()).encode([flat(0, 0, 0)])


def test_threads_borrow_interpreters_and_the_model_is_fetched_once() -> None:
    fetched: list[int] = []

    def fetch() -> bytes:
        fetched.append(os.getpid())
        return tiny()

    runs = LiteRTEncoder(name="t", version="1", recipe=Recipe(4, **PLAIN), dim=3, model=fetch)
    assert fetched == []
    pictures = [Image(np.random.default_rng(i).integers(0, 256, (4, 4, 3)).astype(np.uint8), (4, 4)) for i in range(64)]
    expected = runs.encode(pictures).vectors
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda picture: runs.encode([picture]).vectors[0], pictures))
    np.testing.assert_array_equal(np.stack(rows), expected)
    assert len(fetched) == 1
    assert 1 <= len(runs._idle) <= 8


# The real models


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.is_file(), reason=f"{path.parent.name}/{path.name} is not beside the checkout")


@pytest.fixture(scope="module")
def v3() -> LiteRTEncoder:
    return LiteRTEncoder(name="v3", version="1", recipe=V3_RECIPE, dim=1024, model=lambda: V3)


@pytest.fixture(scope="module")
def photos() -> list[Image]:
    arrays = [getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")]
    return [Image(a, a.shape[1::-1], f"photo {i}") for i, a in enumerate(arrays)]


@needs(V3)
def test_mobilenet_v3_gives_what_the_interpreter_gives_by_hand(v3: LiteRTEncoder, photos: list[Image]) -> None:
    assert hashlib.sha256(V3.read_bytes()).hexdigest() == V3_SHA256
    interpreter = Interpreter(model_path=str(V3))  # as many threads as it likes
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    expected = []
    for photo in photos:
        pixels = prepare([photo], V3_RECIPE)
        assert pixels.shape == (1, 224, 224, 3)
        assert 0 <= pixels.min() < 0.5 < pixels.max() <= 1
        interpreter.set_tensor(source, pixels)
        interpreter.invoke()
        expected.append(interpreter.get_tensor(target)[0].copy())
    np.testing.assert_allclose(raw(v3.encode(photos)), expected, rtol=1e-4, atol=1e-4)


@needs(V3)
def test_mobilenet_v3_knows_halves_and_mirrors_from_other_photos(v3: LiteRTEncoder, photos: list[Image]) -> None:
    halves = [Image(p.pixels[::2, ::2].copy(), p.size) for p in photos]
    mirrors = [Image(p.pixels[:, ::-1].copy(), p.size) for p in photos]
    own, half, mirror = (v3.encode(pictures).vectors for pictures in (photos, halves, mirrors))
    others = (own @ own.T)[~np.eye(len(photos), dtype=bool)]
    assert others.max() < 0.5
    assert (own * half).sum(axis=1).min() > 0.9
    assert (own * mirror).sum(axis=1).min() > 0.85


@needs(V3)
def test_mobilenet_v3_gives_the_same_whatever_the_batch_the_order_and_the_threads(
    v3: LiteRTEncoder, photos: list[Image]
) -> None:
    together = v3.encode(photos).vectors
    np.testing.assert_array_equal(v3.encode(photos[::-1]).vectors[::-1], together)
    with ThreadPoolExecutor(4) as pool:
        alone = np.concatenate(list(pool.map(lambda photo: v3.encode([photo]).vectors, photos * 2)))
    np.testing.assert_array_equal(alone, np.concatenate([together, together]))


@needs(V3)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_file_of_mobilenet_v3_is_mapped_and_not_copied(v3: LiteRTEncoder, photos: list[Image]) -> None:
    v3.encode(photos[:1])
    assert str(V3.resolve()) in Path("/proc/self/maps").read_text()


@needs(V3)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.95])
def test_a_truncated_mobilenet_v3_is_refused(share: float, tmp_path: Path, photos: list[Image]) -> None:
    content = V3.read_bytes()
    (tmp_path / "cut.tflite").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ConfigError, match="the model of encoder tiny cannot be loaded"):
        encoder(tmp_path / "cut.tflite", V3_RECIPE, dim=1024).encode(photos)


@needs(V1)
def test_mobilenet_v1_takes_pixels_and_its_four_axes_are_one_vector(photos: list[Image]) -> None:
    runs = encoder(V1, Recipe(224, layout="nhwc", dtype="uint8"), dim=1024)
    made = runs.encode(photos)
    assert made.vectors.shape == (4, 1024)
    assert raw(made).min() >= 0  # after a ReLU, with zero for zero
    steps = raw(made) / 0.023528477
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
