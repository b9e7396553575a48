from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import skimage.data
import torch
from efficientnet_lite_pytorch import EfficientNet

from lookalike.encoders import efficientnet_lite as lite
from lookalike.encoders import torchfile
from lookalike.preprocess import prepare
from lookalike.types import Image


@cache
def checkpoint() -> bytes:
    return lite.LITE0.weights.read()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    path.write_bytes(checkpoint())
    loaded: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return loaded


@pytest.fixture(scope="module")
def network(published: dict[str, torch.Tensor]) -> EfficientNet:
    net = EfficientNet.from_name("efficientnet-lite0").eval()
    net.load_state_dict(published, strict=True)
    return net


def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    photos = [getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")]
    return {
        "photos": prepare([Image(p, p.shape[1::-1]) for p in photos], lite.LITE0.recipe),
        "noise": rng.uniform(-1, 1, (2, 3, 224, 224)).astype(np.float32),
        "black": np.full((1, 3, 224, 224), -1, np.float32),
    }


def ours(pixels: np.ndarray, outputs: list[str]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(lite.model(lite.LITE0, outputs), providers=["CPUExecutionProvider"])
    made: list[np.ndarray] = session.run(None, {"pixels": pixels})
    return made


@pytest.mark.parametrize("kind", inputs())
def test_embedding_and_logits_are_those_of_the_original_implementation(network: EfficientNet, kind: str) -> None:
    pixels = inputs()[kind]
    embedding, logits = ours(pixels, [lite.EMBEDDING, lite.LOGITS])
    with torch.no_grad():
        features = network.extract_features(torch.from_numpy(pixels)).mean((2, 3)).numpy()
        scores = network(torch.from_numpy(pixels)).numpy()
    assert np.abs(embedding - features).max() < 1e-4
    assert np.abs(logits - scores).max() < 1e-4


def test_the_maps_are_the_outputs_of_the_blocks_where_each_resolution_ends(network: EfficientNet) -> None:
    pixels = inputs()["photos"]
    seen: dict[int, np.ndarray] = {}
    hooks = [
        block.register_forward_hook(lambda _m, _i, out, at=at: seen.__setitem__(at, out.numpy()))
        for at, block in enumerate(network._blocks)
    ]
    with torch.no_grad():
        head = network.extract_features(torch.from_numpy(pixels)).numpy()
    for hook in hooks:
        hook.remove()
    # Lite0 has 1, 2, 2, 3, 3, 4, 1 blocks; the third to last stages that end a resolution are these.
    expected = [seen[2], seen[4], seen[10], seen[15], head]
    for made, theirs in zip(ours(pixels, list(lite.MAPS)), expected, strict=True):
        assert made.shape == theirs.shape
        # Values of the linear outputs reach into the hundreds: the bound is relative to the largest.
        assert np.abs(made - theirs).max() < 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("zipped", [False, True])
def test_a_checkpoint_is_read_as_torch_reads_it(
    published: dict[str, torch.Tensor], zipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    base = torch.arange(24.0).reshape(2, 3, 4)
    state = {
        **published,
        "transposed": base.permute(2, 0, 1),
        "part": base[:, 1:, ::2],
        "half": base.half(),
        "double": base.double(),
        "bool": base > 3,
        "byte": base.byte(),
        "int": base.int(),
        "short": base.short(),
        "char": base.char(),
        "empty": base[:0],
        "scalar": torch.tensor(3),
        "parameter": torch.nn.Parameter(base),
    }
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    read = torchfile.parse(path.read_bytes(), "w.pth")
    assert list(read) == list(state)
    for key, tensor in state.items():
        np.testing.assert_array_equal(read[key], tensor.detach().numpy())
        assert read[key].dtype == tensor.detach().numpy().dtype


def test_the_published_file_is_read_as_torch_reads_it(published: dict[str, torch.Tensor]) -> None:
    read = torchfile.parse(checkpoint(), "lite0")
    assert list(read) == list(published)
    for key, tensor in published.items():
        np.testing.assert_array_equal(read[key], tensor.numpy())
