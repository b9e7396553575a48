"""What was acknowledged survives SIGKILL, and a run that was killed is finished by the next one, id for id."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from conftest import age
from lookalike import Gallery

KILLS = 20
# Batches are small, so that a run is many transactions; each line is how many files are acknowledged by now.
DRIVER = """
import sys
import lookalike.indexing
from lookalike import Gallery
lookalike.indexing._BATCH_ITEMS = 8
done = 0
def tell(more):
    global done
    done += more
    print(done, flush=True)
print("ready", flush=True)
folder, path, encoder = sys.argv[1:]
with Gallery.open(path, encoder=encoder) as gallery:
    gallery.index(folder, progress=tell)
print("finished", flush=True)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 tiny JPEGs, every tenth of them a copy of the one before."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for n in range(300):
        if n % 10 != 9:
            pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        (folder / str(n % 3)).mkdir(exist_ok=True)
        path = folder / str(n % 3) / f"{n:03}.jpg"
        PIL.Image.fromarray(pixels).resize((48, 48)).save(path)
        age(path)
    return folder


def killed(folder: Path, gallery: Path, encoder: str, after_s: float) -> tuple[int, bool]:
    """Run the driver, kill it ``after_s`` after it is ready; return what it acknowledged, and if it had finished."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder), str(gallery), encoder], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(after_s)
    process.kill()
    lines = process.communicate(timeout=60)[0].splitlines(keepends=True)
    told = [line.strip() for line in lines if line.endswith("\n")]
    finished = told[-1:] == ["finished"]
    numbers = [int(line) for line in told if line != "finished"]
    return (numbers[-1] if numbers else 0), finished


def check(gallery: Path, acknowledged: int) -> int:
    """Assert that the database is whole and holds all that was acknowledged; return how many items it holds."""
    database = gallery / "lookalike.db"
    if not database.exists():
        assert acknowledged == 0
        return 0
    db = sqlite3.connect(database)
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (items,) = db.execute("SELECT count(*) FROM items").fetchone()
        (alone,) = db.execute("SELECT count(*) FROM items WHERE key NOT IN (SELECT item FROM vectors)").fetchone()
    finally:
        db.close()
    assert alone == 0
    assert acknowledged <= items
    return int(items)


def everything(path: Path) -> dict[str, tuple[str, bytes]]:
    """Return relative path -> (id, vector) of all items."""
    with Gallery.open(path, create=False) as gallery:
        return {
            os.path.join(*Path(str(item.path)).parts[-2:]): (item.id, gallery.embeddings([item.id]).vectors.tobytes())
            for item in gallery.items()
        }


def test_killed_at_random_moments_nothing_acknowledged_is_lost_and_the_ids_are_those_of_a_calm_run(
    many: Path, tmp_path: Path
) -> None:
    with Gallery.open(tmp_path / "calm", encoder="color-histogram") as gallery:
        began = time.monotonic()
        gallery.index(many)
        calm_s = time.monotonic() - began
    calm = everything(tmp_path / "calm")
    assert len(calm) == 300
    rng, kills, rounds, halfway = random.Random(5), 0, 0, 0
    while kills < KILLS:
        rounds += 1
        gallery_path = tmp_path / f"killed {rounds}"
        finished, items = False, 0
        while not finished and kills < KILLS:
            acknowledged, finished = killed(many, gallery_path, "color-histogram", rng.uniform(0, calm_s / 2))
            before, items = items, check(gallery_path, acknowledged)
            assert items >= before
            kills += not finished
            halfway += 0 < items < 300
        with Gallery.open(gallery_path, encoder="color-histogram") as gallery:
            report = gallery.index(many)
        assert (report.added, report.updated, report.unchanged, report.skipped) == (300 - items, 0, items, ())
        assert everything(gallery_path) == calm
    assert halfway >= 5, "too few of the kills came while something was being written"


def test_the_real_encoder_killed_likewise(shipped_photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "turned"
    folder.mkdir(parents=True)
    for path in shipped_photos.iterdir():
        with PIL.Image.open(path) as picture:
            for degrees in range(0, 30, 5):
                picture.rotate(degrees).save(folder / f"{path.stem} {degrees}.jpg")
    with Gallery.open(tmp_path / "calm") as gallery:
        began = time.monotonic()
        gallery.index(folder.parent)
        calm_s = time.monotonic() - began
    rng, items = random.Random(6), 0
    for _ in range(3):
        acknowledged, _finished = killed(
            folder.parent, tmp_path / "g", "efficientnet-lite0", rng.uniform(0, calm_s / 2)
        )
        before, items = items, check(tmp_path / "g", acknowledged)
        assert items >= before
    with Gallery.open(tmp_path / "g") as gallery:
        gallery.index(folder.parent)
    assert everything(tmp_path / "g") == everything(tmp_path / "calm")
