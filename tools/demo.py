"""Do the main job on real photos: index a folder, search it with pictures it does not hold, show what came.

Without ``--photos`` it takes the freely licensed photos that scikit-image ships, with edited copies of each beside
them, so that every query has several right answers. With ``--photos FOLDER`` it indexes that folder (which is only
read) and searches with edited copies of a few of its pictures. Everything it writes is under ``demo/``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from itertools import islice
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps
from tqdm import tqdm

from lookalike import Gallery, registry
from lookalike.apps.search import Request, search
from lookalike.errors import LookalikeError
from lookalike.images import Found, walk
from lookalike.report import write_contact_sheet
from lookalike.types import Hits, display_path

HERE = Path("demo")
SHIPPED = (
    "astronaut brick camera cat chelsea coffee coins grass gravel hubble_deep_field ihc logo moon page retina rocket"
)
ASKED_FOR = ("astronaut", "chelsea", "coffee", "rocket")

Edit = Callable[[Image.Image], Image.Image]


def cropped(photo: Image.Image) -> Image.Image:
    """Keep the middle 60 % of each side."""
    w, h = photo.size
    return photo.crop((w // 5, h // 5, w - w // 5, h - h // 5))


# In the gallery beside each photo.
COPIES: dict[str, Edit] = {
    "half": lambda photo: photo.resize((max(1, photo.width // 2), max(1, photo.height // 2))),
    "mirrored": ImageOps.mirror,
    "grey": lambda photo: ImageOps.grayscale(photo).convert("RGB"),
}
# What is searched with: none of these is in the gallery.
QUERIES: dict[str, Edit] = {
    "cropped": cropped,
    "turned": lambda photo: photo.rotate(12, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128)),
    "dark": lambda photo: ImageEnhance.Brightness(photo).enhance(0.4),
}


def main() -> int:
    """Run the demonstration; return an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of your own pictures (it is only read)")
    arguments = parser.parse_args()
    try:
        return run(arguments.photos)
    except LookalikeError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code


def run(own: Path | None) -> int:
    """Index, search, print, and write the contact sheet."""
    HERE.mkdir(exist_ok=True)
    folder, originals = (own.expanduser(), some_of(own.expanduser())) if own else shipped_photos(HERE / "photos")
    queries = edited(originals, QUERIES, HERE / "queries")
    name = "own.gallery" if own else "photos.gallery"
    with Gallery.open(HERE / name) as gallery:
        began = time.perf_counter()
        with tqdm(unit=" pictures", disable=None, leave=False) as bar:
            report = gallery.index(folder, progress=lambda done: void(bar.update(done)))
        seconds = time.perf_counter() - began
        print(
            f"indexed {folder}: {report.added} added, {report.updated} updated, {report.unchanged} unchanged, "
            f"{len(report.skipped)} skipped, in {seconds:.1f} s, with {gallery.space.encoder} "
            f"({gallery.space.dim} numbers a picture)"
        )
        for skipped in report.skipped[:5]:
            print(f"  skipped {display_path(skipped.path)}: {skipped.reason}")
        result = search(gallery, [str(query) for query in queries], Request(k=6))
        metrics = registry.names("metric")
    print_table(result.queries, originals)
    sheet = HERE / "index.html"
    notes = [
        f"{len(result.queries)} edited pictures, searched for in {folder}",
        f"metrics to choose from: {', '.join(metrics)}",
    ]
    write_contact_sheet(sheet, result.queries, title="lookalike: what looks most like this picture?", notes=notes)
    print(f"\nContact sheet: {sheet.absolute().as_uri()}")
    return 0


def shipped_photos(folder: Path) -> tuple[Path, list[Path]]:
    """Write scikit-image's photos, and copies of each, to ``folder``; return it and those that will be asked for."""
    shipped = Path(str(files("skimage") / "data"))
    photos = [path for path in sorted(shipped.iterdir()) if path.stem in SHIPPED.split() and path.suffix != ".npy"]
    for photo in photos:
        target = folder / f"{photo.stem}.png"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(photo) as picture:
                picture.convert("RGB").save(target)
    originals = [folder / f"{photo.stem}.png" for photo in photos]
    edited(originals, COPIES, folder)
    return folder, [photo for photo in originals if photo.stem in ASKED_FOR]


def some_of(folder: Path) -> list[Path]:
    """Return up to eight pictures of a folder."""
    found = (Path(one.path) for one in walk(folder) if isinstance(one, Found))
    return list(islice((path for path in found if is_picture(path)), 8))


def is_picture(path: Path) -> bool:
    """Tell whether Pillow, which makes the edited copies, opens the file."""
    try:
        with Image.open(path) as picture:
            picture.verify()
    except Exception:
        return False
    return True


def edited(originals: list[Path], edits: dict[str, Edit], folder: Path) -> list[Path]:
    """Write each picture with each edit to ``folder`` as JPEG; return the new files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, edit in edits.items():
        for path in originals:
            target = folder / f"{path.stem}-{name}.jpg"
            if not target.exists():
                edit(opened(path)).save(target, quality=85)
            written.append(target)
    return written


def opened(path: Path) -> Image.Image:
    """Return the picture upright and in RGB, at most 1024 pixels a side."""
    with Image.open(path) as picture:
        photo = ImageOps.exif_transpose(picture).convert("RGB")
    photo.thumbnail((1024, 1024))
    return photo


def print_table(answers: tuple[Hits, ...], originals: list[Path]) -> None:
    """Print each query with its best hit, and at which rank its original came."""
    wanted = {path.stem for path in originals}
    print(f"\n{'query':34}  {'best hit':34}  cosine  original at rank")
    right = 0
    for hits in answers:
        query = Path(hits.query).stem
        original = query.rpartition("-")[0]
        ranks = [
            rank for rank, hit in enumerate(hits, 1) if Path(hit.path or "").stem == original and original in wanted
        ]
        best = Path(hits[0].path or "").name if len(hits) else "-"
        right += bool(len(hits)) and best.startswith(original)
        score = f"{hits[0].score:.4f}" if len(hits) else "-"
        rank = ranks[0] if ranks else "not in 6"
        print(f"{display_path(query)[:34]:34}  {display_path(best)[:34]:34}  {score:>6}  {rank}")
    print(f"{right} of {len(answers)} queries found their picture, or a copy of it, first")


def void(_value: object) -> None:
    """Take a value and give none."""


if __name__ == "__main__":
    sys.exit(main())
