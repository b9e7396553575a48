"""What was acknowledged survives: a killed writer, a full disk, a second writer, another schema, damage."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lookalike import registry
from lookalike.errors import StoreError
from lookalike.stores import connections, schema
from lookalike.stores.sqlite import SqliteStore
from lookalike.types import Embeddings, FileStamp, Item, Space

SPACE = Space("fake", "1", "none", 512)
COSINE = registry.metric("cosine")

WRITER = """
    import sys
    import numpy as np
    from lookalike.errors import StoreError
    from lookalike.stores.sqlite import SqliteStore
    from lookalike.types import Embeddings, Item, Space

    SPACE = Space("fake", "1", "none", 512)
    directory, start = sys.argv[1], int(sys.argv[2])

    def batch(n):
        rows = np.random.default_rng(n).normal(size=(3, 512))
        return [Item(f"{n}-{i}", {"n": n}) for i in range(3)], [Embeddings.from_raw(rows, SPACE)]

    def acknowledge(n):
        sys.stdout.write(f"{n}\\n")
        sys.stdout.flush()
"""


def script(body: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(WRITER) + textwrap.dedent(body)]


def vectors(n: int, seed: int = 0) -> Embeddings:
    return Embeddings.from_raw(np.random.default_rng(seed).normal(size=(n, SPACE.dim)), SPACE)


def filled(directory: Path, n: int = 30) -> Path:
    with SqliteStore.create(directory) as store:
        items = [Item(f"i{i}", {"n": i}, file=FileStamp("/r", f"{i}.jpg", 1, 1)) for i in range(n)]
        store.upsert(items, [vectors(n)])
    return directory


def assert_sound(directory: Path, batches: list[int]) -> None:
    """Every batch is there in full, with its vectors, and no other is there in part."""
    with sqlite3.connect(directory / "lookalike.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()
    with SqliteStore.open(directory) as store:
        ids = [item.id for item in store.items()]
        there = {int(id_.split("-")[0]) for id_ in ids}
        assert sorted(ids) == sorted(f"{n}-{i}" for n in there for i in range(3))
        assert set(batches) <= there
        assert list(store.lacking(SPACE)) == []
        if ids:
            found = store.embeddings([f"{n}-1" for n in batches], SPACE).vectors
            expected = [np.random.default_rng(n).normal(size=(3, 512)) for n in batches]
            wanted = [Embeddings.from_raw(rows, SPACE).vectors[1] for rows in expected]
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_what_was_acknowledged_survives_20_kills(tmp_path: Path) -> None:
    """One process forks 20 writers, one after another, and kills each at a random moment."""
    directory = tmp_path / "g"
    SqliteStore.create(directory).close()
    body = """
        import os, random, signal, time
        rng = random.Random(start)
        for life in range(20):
            child = os.fork()
            if child == 0:
                with SqliteStore.open(directory) as store:
                    for n in range(1_000_000 * life, 1_000_000 * (life + 1)):
                        store.upsert(*batch(n))
                        os.write(1, b"%d\\n" % n)
            time.sleep(rng.uniform(0.01, 0.5))  # long enough to write something on a busy machine too
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            print("killed", life, flush=True)
    """
    done = subprocess.run(
        [*script(body), str(directory), "11"], capture_output=True, text=True, check=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert sum(line.startswith("killed") for line in lines) == 20
    acknowledged = [int(line) for line in lines if line.isdecimal()]
    assert len({n // 1_000_000 for n in acknowledged}) > 10, "most writers were killed before they wrote anything"
    assert_sound(directory, acknowledged)


@pytest.mark.skipif(sys.platform != "linux", reason="syncs are counted by a shim for Linux")
def test_every_transaction_is_synced_before_it_is_acknowledged(tmp_path: Path) -> None:
    """Between two acknowledgements there is a sync of the database or its log, in a log of the system's calls."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "no C compiler to build the counter of syncs with: install one (gcc or clang)"
    directory, log = tmp_path / "g", tmp_path / "log"
    SqliteStore.create(directory).close()
    body = """
        import os
        with SqliteStore.open(directory) as store:
            for n in range(10):
                store.upsert(*batch(n))
                os.fsync(2000)
            store.delete(["0-0"])
            os.fsync(2000)
            store.remember_skips([(FileStamp("/r", "x", 1, 1), "broken")], "reader")
            os.fsync(2000)
    """
    shim = compiled_shim(compiler, tmp_path)
    environment = {**os.environ, "LD_PRELOAD": str(shim), "SYNC_LOG": str(log)}
    program = script(body.replace("import os", "import os; from lookalike.types import FileStamp", 1))
    subprocess.run([*program, str(directory), "0"], env=environment, capture_output=True, check=False, timeout=60)
    # The writer marks each acknowledgement by a sync of a descriptor that is not open.
    text = log.read_text()
    parts = text.split("mark\n")
    assert len(parts) == 12 + 1
    for part in parts[:-1]:
        assert any(line.startswith("sync ") and "lookalike.db" in line for line in part.splitlines()), text


def compiled_shim(compiler: str, folder: Path) -> Path:
    source, shim = folder / "shim.c", folder / "shim.so"
    source.write_text(
        textwrap.dedent("""
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <limits.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        static int note(int fd, long call) {
            char link[64], path[PATH_MAX] = "", line[PATH_MAX + 16];
            if (fd == 2000) strcpy(line, "mark\\n");
            else {
                snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
                readlink(link, path, sizeof path - 1);
                snprintf(line, sizeof line, "sync %s\\n", path);
            }
            int log = open(getenv("SYNC_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0600);
            write(log, line, strlen(line));
            close(log);
            return fd == 2000 ? 0 : (int)syscall(call, fd);
        }
        int fsync(int fd) { return note(fd, SYS_fsync); }
        int fdatasync(int fd) { return note(fd, SYS_fdatasync); }
        """)
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", shim, source], check=True)
    return shim


def test_readers_search_while_a_writer_is_in_the_middle_of_a_transaction(tmp_path: Path) -> None:
    directory = filled(tmp_path / "g")
    with SqliteStore.open(directory) as writer, writer._transaction() as (db, _):
        db.execute("DELETE FROM items")
        with SqliteStore.open(directory, read_only=True) as reader:
            assert reader.count() == 30
            assert len(reader.search(vectors(1), 100, COSINE)[0]) == 30


def test_a_writer_does_not_wait_for_a_reader(tmp_path: Path) -> None:
    directory = filled(tmp_path / "g")
    with SqliteStore.open(directory, read_only=True) as reader, reader._connections.reading() as db:
        assert db.execute("SELECT count(*) FROM items").fetchone() == (30,)
        with SqliteStore.open(directory) as writer:
            writer.delete(["i1"])
            assert writer.count() == 29
        assert db.execute("SELECT count(*) FROM items").fetchone() == (30,)


def test_readers_search_while_another_process_writes(tmp_path: Path) -> None:
    directory = filled(tmp_path / "g")
    body = """
        with SqliteStore.open(directory) as store, store.writing():
            acknowledge(-1)
            for n in range(30):
                store.upsert(*batch(n))
    """
    with subprocess.Popen([*script(body), str(directory), "0"], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with SqliteStore.open(directory, read_only=True) as reader:
            sizes = [len(reader.search(vectors(1), 1000, COSINE)[0])]
            while sizes[-1] < 120 and writer.poll() is None:
                sizes.append(len(reader.search(vectors(1), 1000, COSINE)[0]))
            writer.wait(30)
            sizes.append(len(reader.search(vectors(1), 1000, COSINE)[0]))
    assert sizes[-1] == 120
    assert sizes == sorted(sizes)
    assert all(size % 3 == 0 for size in sizes), "half a transaction was seen"


def test_a_second_writer_waits_and_is_then_told(tmp_path: Path) -> None:
    directory = filled(tmp_path / "g")
    body = """
        with SqliteStore.open(directory) as store, store.writing():
            acknowledge(-1)
            sys.stdin.readline()
        acknowledge(-2)
    """
    with subprocess.Popen(
        [*script(body), str(directory), "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        with SqliteStore.open(directory) as store:
            with pytest.raises(StoreError, match="another process is writing to the gallery"), store.writing(0.05):
                pytest.fail("two writers at once")
            assert store.count() == 30
            threading.Timer(0.2, lambda: (other.stdin.write("\n"), other.stdin.flush())).start()
            with store.writing(30):
                store.delete(["i1"])
            assert store.count() == 29


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    directory = filled(tmp_path / "g")
    body = """
        with SqliteStore.open(directory) as store, store.writing():
            acknowledge(-1)
            sys.stdin.readline()
    """
    with subprocess.Popen(
        [*script(body), str(directory), "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        other.kill()
    with SqliteStore.open(directory) as store, store.writing(0):
        assert store.delete(["i1"]) == 1


def test_threads_of_one_store_write_together_inside_writing(tmp_path: Path) -> None:
    with SqliteStore.create(tmp_path / "g") as store:
        with store.writing():
            thread = threading.Thread(target=lambda: store.upsert([Item("a")]))
            thread.start()
            thread.join(10)
        assert store.has("a")


def test_a_full_disk_is_a_clear_error_and_nothing_is_lost(tmp_path: Path) -> None:
    """The limit on the size of a file stands for the disk."""
    resource = pytest.importorskip("resource", reason="this system has no limits on the size of files")
    del resource
    directory = tmp_path / "g"
    SqliteStore.create(directory).close()
    body = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
        store = SqliteStore.open(directory)
        try:
            for n in range(10_000):
                store.upsert(*batch(n))
                acknowledge(n)
        except StoreError as error:
            print("told:", error, flush=True)
        print("still readable:", store.count(), flush=True)
    """
    done = subprocess.run([*script(body), str(directory), "0"], capture_output=True, text=True, check=False, timeout=60)
    lines = done.stdout.splitlines()
    acknowledged = [int(line) for line in lines if line.isdecimal()]
    told = next(line for line in lines if line.startswith("told:"))
    assert str(directory) in told
    assert "everything acknowledged until now is kept" in told
    assert f"still readable: {3 * len(acknowledged)}" in lines
    assert acknowledged
    assert_sound(directory, acknowledged)


def test_a_database_that_cannot_grow_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = filled(tmp_path / "g")
    real = connections._open

    def capped(database: Path, mode: str) -> sqlite3.Connection:
        db = real(database, mode)
        db.execute("PRAGMA max_page_count = 20")
        return db

    monkeypatch.setattr(connections, "_open", capped)
    with SqliteStore.open(directory) as store:
        with pytest.raises(StoreError, match=f"no space left on the disk that holds the gallery {directory}"):
            add_one_by_one(store, 100)
        kept = store.count()
        assert kept < 130
    monkeypatch.undo()
    with SqliteStore.open(directory) as store:
        assert store.count() == kept
        store.upsert([Item("after")], [vectors(1)])


def add_one_by_one(store: SqliteStore, n: int) -> None:
    for i in range(n):
        store.upsert([Item(f"new{i}")], [vectors(1)])


def make_old(directory: Path, version: int) -> None:
    """Make a gallery as an older program left it."""
    directory.mkdir()
    db = connections.connect(directory / "lookalike.db", create=True)
    schema.migrate(db, upto=version)
    db.execute("INSERT INTO items (id, metadata, given, seq) VALUES ('old', '{\"n\": 1}', '{}', 0)")
    db.close()


@pytest.mark.parametrize("version", range(1, schema.SCHEMA))
def test_a_gallery_of_an_older_schema_migrates(tmp_path: Path, version: int) -> None:
    directory = tmp_path / "g"
    make_old(directory, version)
    with SqliteStore.open(directory) as store:
        assert store.info()["schema"] == schema.SCHEMA
        assert store.get(["old"])[0].metadata == {"n": 1}
        store.remember_skips([(FileStamp("/r", "x", 1, 1), "broken")], "reader")
        assert store.known_skip("/r", "x", 1, 1, "reader") == "broken"


def test_the_first_schema_had_no_skips(tmp_path: Path) -> None:
    make_old(tmp_path / "g", 1)
    with sqlite3.connect(tmp_path / "g" / "lookalike.db") as db, pytest.raises(sqlite3.OperationalError):
        db.execute("SELECT * FROM skips")
    db.close()


def test_a_migration_that_fails_leaves_the_older_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "g"
    make_old(directory, 1)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (schema.MIGRATIONS[0], "CREATE TABLE skips (x); CREATE TABLE items (y);\n"))
        patch.setattr(
            schema, "MIGRATIONS", (schema.MIGRATIONS[0], "CREATE TABLE skips (x);\nCREATE TABLE items (y);\n")
        )
        with pytest.raises(StoreError, match="table items already exists"):
            SqliteStore.open(directory)
    with SqliteStore.open(directory) as store:
        assert store.has("old")
        assert store.known_skip("/r", "x", 1, 1, "reader") is None


def test_a_newer_gallery_is_refused(tmp_path: Path) -> None:
    directory = filled(tmp_path / "g")
    db = sqlite3.connect(directory / "lookalike.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = (directory / "lookalike.db").read_bytes()
    with pytest.raises(StoreError, match=rf"newer lookalike \(schema 99, this one knows {schema.SCHEMA}\): upgrade"):
        SqliteStore.open(directory)
    assert (directory / "lookalike.db").read_bytes() == before


def overwrite(path: Path, at: int, what: bytes) -> None:
    with path.open("rb+") as file:
        file.seek(at)
        file.write(what)


def zero_pages(path: Path) -> None:
    """Zero every page but the first two."""
    size = path.stat().st_size
    overwrite(path, 2 * schema.PAGE_SIZE, bytes(size - 2 * schema.PAGE_SIZE))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut to a stump": lambda path: os.truncate(path, 1000),
    "empty": lambda path: os.truncate(path, 0),
    "header overwritten": lambda path: overwrite(path, 0, b"garbage" * 20),
    "pages zeroed": zero_pages,
    "all garbage": lambda path: path.write_bytes(random.Random(0).randbytes(100_000)) and None,
    "another program's": lambda path: overwrite(path, 68, b"\0\0\0\0"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_gallery_is_refused_with_what_to_do(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    directory = filled(tmp_path / "g")
    for path in directory.glob("lookalike.db-*"):
        path.unlink()
    damage(directory / "lookalike.db")

    def use_all() -> None:
        with SqliteStore.open(directory) as store:
            list(store.items())
            store.search(vectors(1), 5, COSINE)

    with pytest.raises(StoreError, match="is damaged") as caught:
        use_all()
    assert str(directory) in str(caught.value)
    assert "put back a copy" in str(caught.value)


def test_a_vector_that_was_overwritten_is_damage(tmp_path: Path) -> None:
    directory = filled(tmp_path / "g")
    with sqlite3.connect(directory / "lookalike.db") as db:
        db.execute("UPDATE vectors SET vector = zeroblob(2047) || x'3f' WHERE key = 3")
        db.execute("UPDATE vectors SET vector = CAST(vector AS BLOB)")
    db.close()
    with SqliteStore.open(directory) as store, pytest.raises(StoreError, match="a vector that is not of length 1"):
        store.search(vectors(1), 5, COSINE)


def test_a_missing_gallery_says_how_to_make_one(tmp_path: Path) -> None:
    for directory in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(StoreError, match=f"no gallery at {directory}; make one with `lookalike index FOLDER"):
            SqliteStore.open(directory)
    assert not SqliteStore.exists(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_things_are_never_overwritten(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "holiday.jpg").write_text("precious")
    file.write_text("precious")
    with pytest.raises(StoreError, match=r"holds other things \('holiday.jpg'\)"):
        SqliteStore.create(folder)
    with pytest.raises(StoreError, match="without a gallery in it"):
        SqliteStore.open(folder)
    for attempt in (SqliteStore.create, SqliteStore.open):
        with pytest.raises(StoreError, match="is a file, not a gallery"):
            attempt(file)
    assert [path.name for path in folder.iterdir()] == ["holiday.jpg"]
    assert file.read_text() == "precious"


def test_a_gallery_is_not_made_twice(tmp_path: Path) -> None:
    directory = filled(tmp_path / "g")
    with pytest.raises(StoreError, match="is a gallery already"):
        SqliteStore.create(directory)
    with SqliteStore.open(directory) as store:
        assert store.count() == 30


def test_a_creation_that_was_killed_can_be_done_again(tmp_path: Path) -> None:
    directory = tmp_path / "g"
    directory.mkdir()
    (directory / "lookalike.db.new").write_bytes(b"half")
    (directory / "lookalike.db.new-wal").write_bytes(b"half")
    (directory / "write.lock").touch()
    with pytest.raises(StoreError, match="no gallery at"):
        SqliteStore.open(directory)
    SqliteStore.create(directory).close()
    assert SqliteStore.exists(directory)


def test_a_gallery_that_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    directory = filled(tmp_path / "g")
    with SqliteStore.open(directory, read_only=True) as store:
        assert len(store.search(vectors(1), 5, COSINE)[0]) == 5
        with pytest.raises(StoreError, match="open for reading only"):
            store.delete(["i1"])


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no users to be another of")
def test_a_directory_that_this_user_may_not_write_can_be_read() -> None:
    body = """
        import os, pathlib
        from lookalike import registry
        query, cosine = batch(0)[1][0][:1], registry.metric("cosine")
        with SqliteStore.open(directory) as store:  # imports what a search needs
            store.search(query, 5, cosine)
        for path in pathlib.Path(directory).iterdir():
            path.chmod(0o444)
        os.chmod(directory, 0o555)
        if os.geteuid() == 0:
            os.setuid(65534)  # permissions do not bind root
        with SqliteStore.open(directory) as store:
            print(len(store.search(query, 5, cosine)[0]))
            try:
                store.delete(["i1"])
            except StoreError as error:
                print(error)
    """
    # Not below tmp_path, which only its owner may enter.
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        directory = filled(Path(parent) / "g")
        try:
            done = subprocess.run(
                [*script(body), str(directory), "0"], capture_output=True, text=True, check=False, timeout=60
            )
        finally:
            directory.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5\n")
    assert "open for reading only" in done.stdout
