"""The ONNX runtime: models of two nodes, made here, that are right, odd, wrong, damaged; providers; views."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lookalike.encoders.onnx import OnnxEncoder, session
from lookalike.errors import ConfigError, InputError, LookalikeError
from lookalike.preprocess import Recipe
from lookalike.types import Image

Shape = Sequence[int | str | None] | None
PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
NCHW: Shape = ("n", 3, 4, 4)


def tiny(
    nodes: Sequence[onnx.NodeProto],
    takes: Shape = NCHW,
    gives: Shape = None,
    *,
    dtype: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("y",),
    weights: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [value("pixels", dtype, takes)],
        [value(name, TensorProto.FLOAT, gives) for name in outputs],
        initializer=weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pooled(*, maps: bool = False) -> list[onnx.NodeProto]:
    """Return the mean colour as (N, 3), or as (N, 3, 1, 1)."""
    if maps:
        return [helper.make_node("GlobalAveragePool", ["pixels"], ["y"])]
    return [helper.make_node("GlobalAveragePool", ["pixels"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])]


def weighed() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return a product of the whole picture with numbers that no symmetry hides, (N, 48) -> (N, 3)."""
    numbers = np.random.default_rng(1).normal(size=(48, 3)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["pixels"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    return nodes, [numpy_helper.from_array(numbers, "w")]


def encoder(model: onnx.ModelProto | bytes | Path, recipe: Recipe | None = None, **parts: Any) -> OnnxEncoder:
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    parts = {"dim": 3, "output": None, **parts}
    return OnnxEncoder(name="tiny", version="1", recipe=recipe or Recipe(4, **PLAIN), model=lambda: content, **parts)


def flat(*color: int, source: str = "flat.png") -> Image:
    return Image(np.full((4, 4, 3), color, np.uint8), (4, 4), source)


def noise(seed: int = 0) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8), (4, 4))


def raw(made: Any) -> np.ndarray:
    return np.asarray(made.vectors * made.norms[:, None])


# Models that fit


@pytest.mark.parametrize("takes", [NCHW, (None, 3, None, None), (1, 3, 4, 4), ("n", 3, "h", "w"), None])
@pytest.mark.parametrize("maps", [False, True])
def test_the_mean_colour_comes_out_whatever_the_model_leaves_open(takes: Shape, maps: bool) -> None:
    made = encoder(tiny(pooled(maps=maps), takes)).encode([flat(51, 0, 204), flat(255, 102, 0)])
    np.testing.assert_allclose(raw(made), [[0.2, 0, 0.8], [1, 0.4, 0]], atol=1e-6)


def test_no_pictures_give_no_rows() -> None:
    assert encoder(tiny(pooled())).encode([]).vectors.shape == (0, 3)


def test_a_uint8_model_with_channels_last_gets_the_pixels_themselves() -> None:
    nodes = [
        helper.make_node("Cast", ["pixels"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["c"], ["y"], axes=[1, 2], keepdims=0),
    ]
    model = tiny(nodes, (1, 4, 4, 3), dtype=TensorProto.UINT8)
    made = encoder(model, Recipe(4, layout="nhwc", dtype="uint8")).encode([flat(51, 3, 204)])
    np.testing.assert_allclose(raw(made), [[51, 3, 204]], rtol=1e-6)


def test_of_two_outputs_the_named_one_is_taken_and_none_is_guessed() -> None:
    model = tiny([*pooled(), helper.make_node("Neg", ["y"], ["z"])], outputs=("y", "z"))
    for name, sign in (("y", 1), ("z", -1)):
        made = encoder(model, output=name).encode([flat(51, 0, 204)])
        np.testing.assert_allclose(raw(made), [[sign * 0.2, 0, sign * 0.8]], atol=1e-6)
    with pytest.raises(ConfigError, match=r"several outputs; name one of: 'y' .*; 'z'"):
        encoder(model).encode([flat(0, 0, 0)])
    with pytest.raises(ConfigError, match=r"no output named 'x'; name one of: 'y'"):
        encoder(model, output="x").encode([flat(0, 0, 0)])


def test_a_model_is_opened_by_its_path_with_the_weights_that_lie_beside_it(tmp_path: Path) -> None:
    nodes, weights = weighed()
    model = tiny(nodes, weights=weights)
    expected = encoder(model).encode([noise()]).vectors
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert (tmp_path / "m.data").stat().st_size >= 48 * 3 * 4
    np.testing.assert_array_equal(encoder(tmp_path / "m.onnx").encode([noise()]).vectors, expected)
    (tmp_path / "m.data").unlink()
    with pytest.raises(ConfigError, match=r"tiny cannot be loaded: .*m\.data"):
        encoder(tmp_path / "m.onnx").encode([noise()])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_weights_that_lie_beside_a_model_are_mapped_and_not_copied(tmp_path: Path) -> None:
    factors = np.random.default_rng(2).normal(size=(1, 3, 4, 4)).astype(np.float32)
    nodes = [helper.make_node("Mul", ["pixels", "w"], ["m"]), helper.make_node("GlobalAveragePool", ["m"], ["y"])]
    model = tiny(nodes, weights=[numpy_helper.from_array(factors, "w")])
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    runs, picture = encoder(tmp_path / "m.onnx"), noise()
    made = runs.encode([picture])
    assert str(tmp_path / "m.data") in Path("/proc/self/maps").read_text()
    expected = (picture.pixels.transpose(2, 0, 1) / 255 * factors[0]).mean(axis=(1, 2))
    np.testing.assert_allclose(raw(made)[0], expected, atol=1e-6)


def test_rows_are_the_product_that_numpy_makes_whatever_the_batch_and_the_threads() -> None:
    nodes, weights = weighed()
    runs = encoder(tiny(nodes, weights=weights))
    pictures = [noise(seed) for seed in range(16)]
    together = runs.encode(pictures)
    planes = np.stack([picture.pixels.transpose(2, 0, 1).reshape(-1) / 255 for picture in pictures])
    np.testing.assert_allclose(raw(together), planes @ numpy_helper.to_array(weights[0]), atol=1e-5)
    with ThreadPoolExecutor(8) as pool:
        alone = np.concatenate(list(pool.map(lambda picture: runs.encode([picture]).vectors, pictures)))
    np.testing.assert_array_equal(alone, together.vectors)


def test_views_are_averaged_as_unit_vectors() -> None:
    nodes, weights = weighed()
    model, picture = tiny(nodes, weights=weights), noise()
    mirrored = Image(picture.pixels[:, ::-1].copy(), (4, 4))
    one, other = encoder(model).encode([picture, mirrored]).vectors.astype(np.float64)
    mean = (one + other) / np.linalg.norm(one + other)
    both = encoder(model, Recipe(4, augment=("flip",), **PLAIN))
    np.testing.assert_allclose(both.encode([picture]).vectors[0], mean, atol=1e-6)
    np.testing.assert_allclose(both.encode([mirrored]).vectors[0], mean, atol=1e-6)


# Models that do not


@pytest.mark.parametrize(
    ("takes", "dtype", "message"),
    [
        (
            (1, 3, 8, 8),
            TensorProto.FLOAT,
            r"takes 'pixels' \(1, 3, 8, 8\) float32, but its recipe makes \(1, 3, 4, 4\)",
        ),
        ((1, 4, 4, 3), TensorProto.FLOAT, r"\(1, 4, 4, 3\) float32, .* set size, layout and dtype"),
        (("n", 1, 4, 4), TensorProto.FLOAT, r"\(\?, 1, 4, 4\) float32"),
        (("n", 48), TensorProto.FLOAT, r"\(\?, 48\) float32"),
        ((8, 3, 4, 4), TensorProto.FLOAT, r"takes 8 pictures at once .* batch of 1"),
        (NCHW, TensorProto.FLOAT16, r"float16, but its recipe makes \(1, 3, 4, 4\) float32"),
    ],
)
def test_an_input_that_the_recipe_does_not_make_is_refused_with_both(takes: Shape, dtype: int, message: str) -> None:
    model = tiny([helper.make_node("Identity", ["pixels"], ["y"])], takes, dtype=dtype)
    model.graph.output[0].type.tensor_type.elem_type = dtype
    with pytest.raises(ConfigError, match=message):
        encoder(model).encode([noise()])


def test_a_model_with_a_second_input_is_refused() -> None:
    model = tiny(pooled())
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    with pytest.raises(ConfigError, match=r"has 2 inputs \('pixels' .*; 'mask' \(1\) float32\)"):
        encoder(model).encode([noise()])


@pytest.mark.parametrize("declared", [True, False])
def test_an_output_that_is_no_vector_of_dim_is_refused_declared_or_found_out(declared: bool) -> None:
    whole = tiny([helper.make_node("Relu", ["pixels"], ["y"])], gives=("n", 3, 4, 4) if declared else None)
    with pytest.raises(ConfigError, match=r"gives \(1, 3, 4, 4\).* for one picture: a map .*pool it"):
        encoder(whole, dim=48).encode([noise()])
    with pytest.raises(ConfigError, match=r"gives 3 numbers.*, but its dim is 4"):
        encoder(tiny(pooled(), gives=("n", 3) if declared else None), dim=4).encode([noise()])


def test_a_picture_that_makes_nan_is_named() -> None:
    root = [helper.make_node("Sqrt", ["pixels"], ["s"]), helper.make_node("GlobalAveragePool", ["s"], ["y"])]
    runs = encoder(tiny(root), Recipe(4, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0)))
    assert len(runs.encode([flat(200, 200, 200)])) == 1
    with pytest.raises(InputError, match=r"tiny makes NaN or infinite values of dark\.png"):
        runs.encode([flat(200, 200, 200), flat(9, 9, 9, source="dark.png")])


def damaged(content: bytes) -> list[bytes]:
    return [b"", b"not a model", content[: len(content) // 2], content[:-1], b"PK\x03\x04" + content]


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("as_path", [False, True])
def test_a_damaged_model_is_a_config_error(number: int, as_path: bool, tmp_path: Path) -> None:
    nodes, weights = weighed()
    content = damaged(tiny(nodes, weights=weights).SerializeToString())[number]
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ConfigError, match="the model of encoder tiny cannot be loaded") as caught:
        encoder(tmp_path / "m.onnx" if as_path else content).encode([noise()])
    assert caught.value.__cause__ is not None


def test_a_model_that_is_not_there_is_a_config_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be loaded: .*gone\.onnx"):
        encoder(tmp_path / "gone.onnx").encode([noise()])


def test_a_failure_inside_the_runtime_is_translated() -> None:
    # A row far outside of the table: only the picture's values show it.
    nodes = [
        helper.make_node("Cast", ["pixels"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "i"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["y"], axes=[1, 2, 3], keepdims=0),
    ]
    model = tiny(nodes, weights=[numpy_helper.from_array(np.zeros((2, 3), np.float32), "table")])
    with pytest.raises(LookalikeError, match=r"encoder tiny failed on an input of shape \(1, 3, 4, 4\)") as caught:
        encoder(model, Recipe(4, mean=(0.0, 0.0, 0.0), std=(0.01, 0.01, 0.01))).encode([noise()])
    assert caught.value.__cause__ is not None


def test_a_model_is_loaded_when_first_used_and_once_by_many_threads() -> None:
    loads: list[int] = []

    def load() -> bytes:
        loads.append(os.getpid())
        content: bytes = tiny(pooled()).SerializeToString()
        return content

    runs = OnnxEncoder(name="t", version="1", recipe=Recipe(4), dim=3, model=load)
    assert runs.space.dim == 3
    assert loads == []
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: runs.encode([noise()]), range(32)))
    assert len(loads) == 1


# Providers


class Sessions:
    """Stands for onnxruntime's session: keeps what it was made with, and says what runs."""

    def __init__(self, starts: Callable[[str], bool]) -> None:
        self.starts, self.asked = starts, list[Any]()

    def __call__(self, _model: object, _options: object, providers: Sequence[tuple[str, dict[str, str]]]) -> Sessions:
        self.asked = list(providers)
        return self

    def get_providers(self) -> list[str]:
        return [name for name, _ in self.asked if self.starts(name)]


def test_a_provider_that_is_not_there_is_warned_of_and_the_processor_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_PROVIDERS", "cuda")
    with pytest.warns(UserWarning, match=r"LOOKALIKE_PROVIDERS asks for cuda, .* models run on: CPUExecutionProvider"):
        made = encoder(tiny(pooled())).encode([flat(51, 0, 204)])
    np.testing.assert_allclose(raw(made), [[0.2, 0, 0.8]], atol=1e-6)


@pytest.mark.parametrize("value", ["", "cpu", " CPU , cpu"])
def test_the_processor_alone_is_nothing_to_warn_of(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LOOKALIKE_PROVIDERS", value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert session("tiny", tiny(pooled()).SerializeToString()).get_providers() == ["CPUExecutionProvider"]


def test_providers_are_tried_in_the_order_in_which_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(lambda name: "CUDA" not in name)
    monkeypatch.setattr(onnxruntime, "InferenceSession", sessions)
    known = ["CUDAExecutionProvider", "OpenVINOExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
    monkeypatch.setenv("LOOKALIKE_PROVIDERS", "openvino, cuda")
    with pytest.warns(UserWarning, match="asks for cuda, .* or cannot start"):  # compiled in, and its driver is missing
        session("tiny", b"")
    assert [name for name, _ in sessions.asked] == [known[1], known[0], known[2]]
    assert dict(sessions.asked)["CUDAExecutionProvider"] == {"use_tf32": "0"}


def test_an_unknown_provider_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_PROVIDERS", "cpu,tpu")
    with pytest.raises(
        ConfigError, match="LOOKALIKE_PROVIDERS: no provider named 'tpu'; known: cpu, cuda, coreml, openvino"
    ):
        encoder(tiny(pooled())).encode([noise()])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_a_session_starts_no_threads_of_its_own() -> None:
    runs = encoder(tiny(pooled()))
    before = len(os.listdir("/proc/self/task"))
    runs.encode([noise()])
    assert len(os.listdir("/proc/self/task")) == before
