"""Make the set of freely licensed photos that the built-in calibration rests on, from Debian packages that ship them.

    python tools/free_photos.py --download packages photos   # fetches and unpacks the packages first (149 MB)
    python tools/free_photos.py packages photos              # packages/NAME/ holds what `dpkg-deb -x` unpacked

``tools/free_photos.csv`` lists the photos: where each lies, its licence and author as the package states them for that
file (gcompris in the READMEs beside its pictures), the ``group`` of photos of one place, series or motif, and the
SHA-256 of the original. No picture is committed. A photo is written as JPEG, at most 640 pixels a side; one that is
missing or has changed is named, and the exit code is 2.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import PIL.Image

from lookalike.errors import ConfigError, InputError, LookalikeError

LIST = Path(__file__).with_suffix(".csv")
LONGER_SIDE = 640
QUALITY = 90


@dataclass(frozen=True)
class Photo:
    """A row of the list; in ``path``, what stands behind ``!`` lies inside a Qt resource file."""

    file: str
    package: str
    version: str
    path: str
    licence: str
    author: str
    group: str
    sha256: str


def main() -> int:
    """Make the set; return an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="a folder with one folder for each unpacked package")
    parser.add_argument("photos", type=Path, help="the folder to write the photos to")
    parser.add_argument("--download", action="store_true", help="fetch the packages with apt-get and unpack them first")
    arguments = parser.parse_args()
    photos = listed()
    try:
        if arguments.download:
            download({photo.package for photo in photos}, arguments.packages)
        write(photos, arguments.packages, arguments.photos)
    except LookalikeError as error:
        print(f"free_photos: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{len(photos)} photos in {len({photo.group for photo in photos})} groups: {arguments.photos}")
    return 0


def listed() -> list[Photo]:
    """Return the committed list."""
    with LIST.open(encoding="utf-8", newline="") as rows:
        return [Photo(**row) for row in csv.DictReader(rows)]


def download(packages: Iterable[str], folder: Path) -> None:
    """Fetch Debian packages by name and unpack each to ``folder/NAME``; nothing is installed."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ConfigError("--download needs apt-get and dpkg-deb; without them, unpack the listed packages by hand")
    with TemporaryDirectory() as fetched:
        try:
            subprocess.run(["apt-get", "download", "--quiet", *sorted(packages)], cwd=fetched, check=True)
            for archive in sorted(Path(fetched).glob("*.deb")):
                target = folder / archive.name.partition("_")[0]
                target.mkdir(parents=True, exist_ok=True)
                subprocess.run(["dpkg-deb", "-x", str(archive), str(target)], check=True)
        except subprocess.CalledProcessError as error:
            raise InputError(f"{error}; try `apt-get update` first") from error


def write(photos: Sequence[Photo], packages: Path, folder: Path) -> None:
    """Write each photo, made smaller, to ``folder``; raise `InputError` with all that could not be had."""
    absent = sorted({photo.package for photo in photos if not (packages / photo.package).is_dir()})
    if absent:
        raise InputError(f"no {', '.join(absent)} in {packages}; --download fetches the packages")
    folder.mkdir(parents=True, exist_ok=True)
    problems = []
    for photo in photos:
        try:
            smaller(original(photo, packages)).save(folder / photo.file, quality=QUALITY)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n  ".join([f"{len(problems)} photos are not as listed:", *problems]))


def original(photo: Photo, packages: Path) -> bytes:
    """Return the file as its package ships it."""
    name, _, inside = photo.path.partition("!")
    file = packages / photo.package / name
    try:
        content = resources(file)[inside] if inside else file.read_bytes()
    except (OSError, KeyError) as error:
        raise InputError(f"{photo.file}: no {photo.path} in {packages / photo.package}") from error
    if hashlib.sha256(content).hexdigest() != photo.sha256:
        raise InputError(f"{photo.file}: {photo.path} is another picture than in {photo.package} {photo.version}")
    return content


@cache
def resources(file: Path) -> dict[str, bytes]:
    """Return path -> content of a Qt resource file of format 2 or 3; a compressed content comes as it is stored."""
    blob = file.read_bytes()
    tree, data, names = struct.unpack_from(">III", blob, 8)
    found = {}
    folders = [("", tree)]
    while folders:
        folder, at = folders.pop()
        count, first = struct.unpack_from(">II", blob, at + 6)
        for node in range(tree + 22 * first, tree + 22 * (first + count), 22):
            name_at, flags = struct.unpack_from(">IH", blob, node)
            (length,) = struct.unpack_from(">H", blob, names + name_at)
            start = names + name_at + 6
            path = f"{folder}/{blob[start : start + 2 * length].decode('utf-16-be')}"
            if flags & 2:
                folders.append((path, node))
                continue
            start = data + struct.unpack_from(">I", blob, node + 10)[0]
            (size,) = struct.unpack_from(">I", blob, start)
            found[path] = blob[start + 4 : start + 4 + size]
    return found


def smaller(content: bytes) -> PIL.Image.Image:
    """Return the picture in RGB, its longer side at most 640 pixels."""
    with PIL.Image.open(io.BytesIO(content)) as picture:
        photo = picture.convert("RGB")
    photo.thumbnail((LONGER_SIDE, LONGER_SIDE), PIL.Image.Resampling.LANCZOS)
    return photo


if __name__ == "__main__":
    sys.exit(main())
