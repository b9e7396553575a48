"""A third-party package with one class and one entry point, installed by pip into a fresh environment."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import lookalike

# What CONTRIBUTING.md shows, as a module.
CODE = """
import numpy as np
from lookalike.types import Embeddings, Space


class MeanColour:
    space = Space("mean-colour", "1", "none", 3)
    at_least = None

    def encode(self, images):
        rows = [image.pixels.reshape(-1, 3).mean(axis=0) for image in images]
        return Embeddings.from_raw(np.array(rows).reshape(-1, 3), self.space)
"""
METADATA = """Metadata-Version: 2.1
Name: lookalike-mean-colour
Version: 1.2
License: MIT
Summary: the same mean colour
"""
WHEEL = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that has lookalike and what it needs, and the plug-in, by pip, from a wheel."""
    folder = tmp_path_factory.mktemp("plug-in")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    ours = [Path(lookalike.__file__).parents[1], sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    where = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip())
    (site / "ours.pth").write_text("\n".join(map(str, ours)))
    wheel = folder / "lookalike_mean_colour-1.2-py3-none-any.whl"
    info = "lookalike_mean_colour-1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mean_colour.py", CODE)
        archive.writestr(f"{info}/METADATA", METADATA)
        archive.writestr(f"{info}/WHEEL", WHEEL)
        archive.writestr(f"{info}/entry_points.txt", "[lookalike.encoders]\nmean-colour = mean_colour:MeanColour\n")
        archive.writestr(f"{info}/RECORD", "")
    install = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel]
    subprocess.run(install, check=True)
    return python


def run(python: Path, *arguments: object) -> str:
    command = [str(python), "-m", "lookalike", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_package_is_listed_with_what_its_metadata_tell(python: Path) -> None:
    entries = {one["name"]: one for one in json.loads(run(python, "encoders", "--json"))["encoders"]}
    told = entries["mean-colour"]
    assert (told["installed"], told["how"], told["licence"]) == (True, "plug-in", "MIT")
    assert told["good_for"] == "the same mean colour"
    assert told["source"] == "plug-in lookalike-mean-colour 1.2"


def test_its_encoder_keeps_the_contract_and_finds(python: Path, tmp_path: Path, shipped_photos: Path) -> None:
    verified = json.loads(run(python, "encoders", "verify", "mean-colour", "--json"))
    assert verified["passed"]
    gallery = tmp_path / "colours.gallery"
    run(python, "index", shipped_photos, "--gallery", gallery, "--encoder", "mean-colour")
    rocket = shipped_photos / "rocket.jpg"
    (query,) = json.loads(run(python, "search", rocket, "--gallery", gallery, "--json"))["queries"]
    assert query["hits"][0]["path"].endswith("rocket.jpg")
