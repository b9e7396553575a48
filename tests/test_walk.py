"""Folders are walked whole, in order, and nothing is left out in silence."""

from __future__ import annotations

import os
import socket
import sys
import tracemalloc
from pathlib import Path

import pytest

from broken_files import encoded, photo
from lookalike.errors import InputError
from lookalike.images import Found, read, walk
from lookalike.types import Skipped

JPEG = encoded(photo(), "JPEG")


def found(root: Path, **options: object) -> list[str]:
    return [entry.relative for entry in walk(root, **options) if isinstance(entry, Found)]


def skipped(root: Path, **options: object) -> dict[str, str]:
    lines = [entry for entry in walk(root, **options) if isinstance(entry, Skipped)]
    return {os.path.relpath(line.path, root): line.reason for line in lines}


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(JPEG)


def test_files_come_depth_first_and_sorted_with_their_size_and_time(tmp_path: Path) -> None:
    put(tmp_path, "c.jpg", "b/z.jpg", "b/a/1.jpg", "a.jpg", "no-ending")
    assert found(tmp_path) == ["a.jpg", "b/a/1.jpg", "b/z.jpg", "c.jpg", "no-ending"]
    first = next(walk(tmp_path))
    status = (tmp_path / "a.jpg").stat()
    assert first == Found(str(tmp_path / "a.jpg"), "a.jpg", status.st_size, status.st_mtime_ns)


def test_a_relative_root_gives_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "in/a.jpg", "in/b.txt")
    monkeypatch.chdir(tmp_path)
    assert [entry.path for entry in walk("in")] == ["in/a.jpg", "in/b.txt"]


def test_an_empty_folder_yields_nothing(tmp_path: Path) -> None:
    assert list(walk(tmp_path)) == []


def test_a_single_file_yields_itself_whatever_its_name(tmp_path: Path) -> None:
    put(tmp_path, ".photo.txt")
    assert found(tmp_path / ".photo.txt") == [".photo.txt"]


def test_a_missing_root_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        walk(tmp_path / "nowhere")


def test_a_root_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="named pipe"):
        walk(tmp_path / "pipe")


def test_links_to_files_are_followed_and_broken_ones_reported(tmp_path: Path) -> None:
    put(tmp_path, "real.jpg")
    (tmp_path / "link.jpg").symlink_to("real.jpg")
    (tmp_path / "broken.jpg").symlink_to("gone.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    assert found(tmp_path) == ["link.jpg", "real.jpg"]
    assert skipped(tmp_path)["broken.jpg"] == "a broken link"
    assert "symbolic links" in skipped(tmp_path)["self.jpg"]


def test_a_loop_of_folders_ends_and_each_folder_is_found_under_its_own_name(tmp_path: Path) -> None:
    put(tmp_path, "real/a.jpg", "real/deep/b.jpg")
    (tmp_path / "real/deep/up").symlink_to(tmp_path)
    (tmp_path / "a-link").symlink_to(tmp_path / "real")
    assert found(tmp_path) == ["real/a.jpg", "real/deep/b.jpg"]
    assert set(skipped(tmp_path)) == {"real/deep/up", "a-link"}
    assert "already visited" in skipped(tmp_path)["a-link"]


def test_a_link_to_a_folder_outside_is_followed(tmp_path: Path) -> None:
    put(tmp_path, "outside/a.jpg", "root/z.jpg")
    (tmp_path / "root/link").symlink_to(tmp_path / "outside")
    assert found(tmp_path / "root") == ["z.jpg", "link/a.jpg"]


def test_pipes_and_sockets_are_reported_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket has a short limit
        server.bind("socket.jpg")
        os.chdir(here)
        assert skipped(tmp_path) == {"pipe.jpg": "a named pipe, not a file", "socket.jpg": "a socket, not a file"}


def test_hidden_entries_are_one_line_each_unless_asked_for(tmp_path: Path) -> None:
    put(tmp_path, ".hidden/a.jpg", ".hidden/b.jpg", ".c.jpg", "d.jpg")
    assert found(tmp_path) == ["d.jpg"]
    assert set(skipped(tmp_path)) == {".hidden", ".c.jpg"}
    assert all(reason.startswith("hidden") for reason in skipped(tmp_path).values())
    assert found(tmp_path, hidden=True) == [".c.jpg", ".hidden/a.jpg", ".hidden/b.jpg", "d.jpg"]


def test_a_hidden_root_is_walked(tmp_path: Path) -> None:
    put(tmp_path, ".pictures/a.jpg")
    assert found(tmp_path / ".pictures") == ["a.jpg"]


def test_other_galleries_and_known_other_files_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "g.gallery/lookalike.db", "g.gallery/a.jpg", "note.TXT", "film.mp4", "folder.txt/b.jpg")
    assert found(tmp_path) == ["folder.txt/b.jpg"]
    assert skipped(tmp_path) == {
        "g.gallery": "a gallery of lookalike",
        "note.TXT": "not a picture (.txt)",
        "film.mp4": "not a picture (.mp4)",
    }


def test_excluded_names_and_paths_are_reported(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "cache/b.jpg", "x/thumb_1.jpg", "x/c.jpg")
    assert found(tmp_path, exclude=["cache", "x/thumb_*"]) == ["a.jpg", "x/c.jpg"]
    assert skipped(tmp_path, exclude=["cache"]) == {"cache": "excluded by 'cache'"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8_or_hold_control_characters_can_be_read(tmp_path: Path) -> None:
    for name in (b"caf\xe9.jpg", b"new\nline.jpg", b"=cmd.jpg", b"<b>.jpg"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(JPEG)
    entries = [entry for entry in walk(tmp_path) if isinstance(entry, Found)]
    assert {os.fsencode(entry.relative) for entry in entries} == {
        b"caf\xe9.jpg", b"new\nline.jpg", b"=cmd.jpg", b"<b>.jpg"
    }  # fmt: skip
    assert all(read(entry.path).size == (64, 48) for entry in entries)


def test_a_folder_that_cannot_be_listed_is_reported_and_the_walk_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "locked/a.jpg", "open/b.jpg")
    real = os.listdir

    def listdir(path: str) -> list[str]:
        if path.endswith("locked"):  # by hand: the permissions of a folder mean nothing to root
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert found(tmp_path) == ["open/b.jpg"]
    assert skipped(tmp_path) == {"locked": "the folder cannot be listed: Permission denied"}


def test_memory_does_not_grow_with_the_number_of_folders_walked(tmp_path: Path) -> None:
    for i in range(300):
        folder = tmp_path / f"{i:03}"
        folder.mkdir()
        for j in range(20):
            (folder / f"{j:02}{'x' * 150}.jpg").touch()
    tracemalloc.start()
    count = sum(1 for _ in walk(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 6000
    assert peak < 400_000  # all the names together take 1.2 MB
