"""Fetching from a server of our own on this machine, which honours Range or does not, breaks off, lies, refuses."""

from __future__ import annotations

import hashlib
import re
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from lookalike.encoders import download
from lookalike.encoders.download import fetch
from lookalike.errors import ConfigError

CONTENT = np.random.default_rng(0).bytes(1_000_003)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


@dataclass
class Server:
    """How the server behaves: ``breaks`` says after how many bytes each of its answers breaks off, None not at all."""

    url: str = ""
    content: bytes = CONTENT
    ranges: bool = True
    length: bool = True
    status: int | None = None
    breaks: list[int | None] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    sent: int = 0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "_PAUSE_S", 0.0)
    behaviour = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, behaviour)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        behaviour.url = f"http://127.0.0.1:{running.server_port}/m.tflite"
        yield behaviour
        running.shutdown()


def answer(request: BaseHTTPRequestHandler, server: Server) -> None:
    wanted = request.headers.get("Range")
    server.asked.append(wanted)
    if server.status is not None:
        return request.send_error(server.status)
    start = int(re.findall(r"bytes=(\d+)-", wanted)[0]) if wanted and server.ranges else 0
    rest = server.content[start:]
    if start and not rest:
        return request.send_error(416)
    request.send_response(206 if start else 200)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
    if server.length:
        request.send_header("Content-Length", str(len(rest)))
    request.end_headers()
    upto = server.breaks.pop(0) if server.breaks else None
    sent = rest if upto is None else rest[:upto]
    server.sent += len(sent)
    request.wfile.write(sent)
    request.close_connection = True
    return None


def get(server: Server, folder: Path, **changed: Any) -> Path:
    return fetch(server.url, SHA256, SIZE, folder / "m.tflite", **changed)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"m.tflite.part.lock"}


def test_a_file_comes_whole_and_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    told: list[int] = []
    assert get(server, tmp_path / "new" / "folder", progress=told.append).read_bytes() == CONTENT
    assert sum(told) == SIZE
    assert files(tmp_path / "new" / "folder") == {"m.tflite"}
    get(server, tmp_path / "new" / "folder")
    assert server.asked == [None]


def test_a_connection_that_breaks_off_is_taken_up_where_it_was(server: Server, tmp_path: Path) -> None:
    server.breaks = [400_000, 0, 1, None]
    told: list[int] = []
    assert get(server, tmp_path, progress=told.append).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=400000-", "bytes=400000-", "bytes=400001-"]
    assert server.sent == SIZE
    assert sum(told) == SIZE


def test_what_came_before_an_interruption_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    class Interrupted:
        seen = 0

        def __call__(self, more: int) -> None:
            self.seen += more
            if self.seen > 500_000:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path, progress=Interrupted())
    came = (tmp_path / "m.tflite.part").stat().st_size
    assert 500_000 < came < SIZE
    assert not (tmp_path / "m.tflite").exists()
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={came}-"]


def test_a_server_that_knows_no_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    server.ranges, server.breaks = False, [400_000]
    told: list[int] = []
    assert get(server, tmp_path, progress=told.append).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=400000-"]
    assert sum(told) == SIZE


def test_a_connection_that_brings_nothing_any_more_is_given_up_and_can_be_gone_on_with(
    server: Server, tmp_path: Path
) -> None:
    server.breaks = [400_000, 0, 0, 0]
    with pytest.raises(
        ConfigError, match=r"127\.0\.0\.1:\d+ broke off at 400,000 of 1,000,003 bytes .* goes on from there"
    ):
        get(server, tmp_path)
    assert files(tmp_path) == {"m.tflite.part"}
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.sent == SIZE


def test_a_server_that_hangs_up_unheard_is_a_broken_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSE_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as deaf:

        def hang_up() -> None:
            for _ in range(3):
                deaf.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(ConfigError, match="broke off at 0 of 1,000,003 bytes"):
            fetch(f"http://127.0.0.1:{deaf.getsockname()[1]}/m", SHA256, SIZE, tmp_path / "m")


def test_wrong_bytes_are_refused_and_removed(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    wrong = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(
        ConfigError, match=f"has sha256 {wrong}, expected {SHA256}: it is another file, and was removed"
    ):
        get(server, tmp_path)
    assert files(tmp_path) == set()


def test_a_damaged_part_is_removed_and_the_next_run_begins_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.tflite.part").write_bytes(b"x" * 1000)
    with pytest.raises(ConfigError, match="was removed; try again"):
        get(server, tmp_path)
    assert get(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(("length", "message"), [(True, "gives 20 bytes, expected 1,000,003"), (False, "is shorter")])
def test_a_page_in_place_of_the_file_is_refused(server: Server, tmp_path: Path, length: bool, message: str) -> None:
    server.content, server.length = b"<html>sign in</html>", length
    with pytest.raises(ConfigError, match=message):
        get(server, tmp_path)
    assert files(tmp_path) == set()


def test_what_a_server_says_beyond_the_file_is_left_alone(server: Server, tmp_path: Path) -> None:
    server.content, server.length = CONTENT + b"more", False
    assert get(server, tmp_path).read_bytes() == CONTENT
    server.length = True
    (tmp_path / "m.tflite").unlink()
    with pytest.raises(ConfigError, match="gives 1,000,007 bytes, expected 1,000,003: it is another file"):
        get(server, tmp_path)
    assert files(tmp_path) == set()


def test_a_part_that_is_longer_than_the_file_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.tflite.part").write_bytes(CONTENT + b"more")
    with pytest.raises(ConfigError, match="was removed"):
        get(server, tmp_path)
    assert files(tmp_path) == set()


def test_a_target_with_other_bytes_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"old")
    assert get(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403, 500])
def test_an_error_of_the_server_is_told(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(ConfigError, match=rf"m\.tflite answers {status} \w+.*lookalike encoders add"):
        get(server, tmp_path)
    assert len(server.asked) == 1
    assert files(tmp_path) == set()


def test_a_range_that_is_refused_begins_anew_the_next_time(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.tflite.part").write_bytes(CONTENT[:1000])
    server.status = 416
    with pytest.raises(ConfigError, match="was removed; try again"):
        get(server, tmp_path)
    server.status = None
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_without_a_network_the_host_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/m", "https://no-such-host.invalid/m"):
        with pytest.raises(ConfigError, match=f"cannot reach {url.split('/')[2]}: .*lookalike encoders add"):
            fetch(url, SHA256, SIZE, tmp_path / "m")


def test_a_local_file_is_an_address_too_and_a_wrong_scheme_is_none(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    (tmp_path / "m.part").write_bytes(CONTENT[:10])
    assert fetch((tmp_path / "source").as_uri(), SHA256, SIZE, tmp_path / "m").read_bytes() == CONTENT
    with pytest.raises(ConfigError, match="cannot reach"):
        fetch((tmp_path / "gone").as_uri(), SHA256, SIZE, tmp_path / "n")
    for url in ("ftp://example.org/m", "data:,m", "m.tflite", ""):
        with pytest.raises(ConfigError, match="begins with one of https, http, file"):
            fetch(url, SHA256, SIZE, tmp_path / "n")


def test_a_disk_without_room_is_noticed_before_anything_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: download.shutil._ntuple_diskusage(9, 9, 999))
    with pytest.raises(
        ConfigError, match=r"no room for .*m\.tflite\.part: 1,000,003 bytes are to come and 999 are free"
    ):
        get(server, tmp_path)
    assert server.asked == []


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on the size of files to be had there")
def test_a_disk_that_fills_up_meanwhile_keeps_what_came(server: Server, tmp_path: Path) -> None:
    import resource  # noqa: PLC0415

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))  # a write past it fails as on a full disk
    try:
        with pytest.raises(ConfigError, match=r"cannot write .*m\.tflite\.part: .* of 1,000,003 bytes have come"):
            get(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "m.tflite").exists()
    came = (tmp_path / "m.tflite.part").read_bytes()
    assert came == CONTENT[: len(came)]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_two_at_once_do_not_write_into_one_part(server: Server, tmp_path: Path) -> None:
    with FileLock(tmp_path / "m.tflite.part.lock"), pytest.raises(ConfigError, match="by another process; wait for it"):
        get(server, tmp_path)
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"cannot write .*LOOKALIKE_CACHE"):
        get(server, tmp_path / "file" / "folder")
