"""The verb ``monitor``: sources, lines, files, and what goes wrong around them."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest

from conftest import INTERRUPTIBLE
from lookalike import __main__
from lookalike.apps.frames import Frame, Idle, arrivals
from lookalike.apps.monitor import Request, monitor, parse_levels, regions_of, states_of
from lookalike.errors import ConfigError, InputError, StoreError
from lookalike.images.piped import pictures
from lookalike.types import Skipped
from test_states import bowl, image


def save(pixels: np.ndarray, path: Path, at: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    if at is not None:
        os.utime(path, (at, at))
    return path


@pytest.fixture
def states(tmp_path: Path) -> Path:
    for k in range(2):
        save(bowl(0, k), tmp_path / "states" / "empty" / f"{k}.png")
        save(bowl(60, k), tmp_path / "states" / "food" / f"{k}.png")
    return tmp_path / "states"


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    for k in range(8):
        save(bowl(0 if k < 4 else 60, 5), tmp_path / "frames" / f"{k:02}.jpg", 1_600_000_000 + 60 * k)
    return tmp_path / "frames"


def watch(source: object, stdin: Any = None, **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the lines and what was told, but for which of two states has level 0."""
    lines: list[dict[str, Any]] = []
    told: list[str] = []
    monitor(
        str(source), Request(**{"once": True, **options}), lambda line: lines.append(dict(line)), told.append, stdin
    )
    return lines, [line for line in told if not line.startswith("by their names")]


def test_a_line_has_the_documented_shape(frames: Path, states: Path) -> None:
    lines, told = watch(frames, states=str(states))
    assert told == []
    assert len(lines) == 8
    assert list(lines[0]) == [
        "time", "source", "region", "state", "settled", "verdict", "score", "level", "level_interval", "change",
        "change_from_first", "quality", "event", "reason",
    ]  # fmt: skip
    assert [line["state"] for line in lines] == ["empty"] * 4 + ["food"] * 4
    assert [line["event"] for line in lines if line["event"]] == [{"kind": "changed", "from": "empty", "to": "food"}]
    assert lines[1]["time"] == "2020-09-13T12:27:40.000Z"
    assert all(line["level_interval"][0] <= line["level"] <= line["level_interval"][1] for line in lines)
    json.dumps(lines, allow_nan=False)


def test_the_command_appends_lines_and_writes_a_page_that_is_safe(frames: Path, states: Path, tmp_path: Path) -> None:
    evil = tmp_path / "regions.csv"
    evil.write_text("name,cx,cy,w,h,angle\n<script>alert(1)</script>,120,120,200,200,5\n")
    out, page = tmp_path / "lines.jsonl", tmp_path / "timeline.html"
    arguments = ["monitor", str(frames), "--states", str(states), "--once", "--jsonl", str(out), "--html", str(page)]
    assert __main__.run([*arguments, "--regions", str(evil), "--pictures", str(tmp_path / "pictures")]) == 0
    assert len(out.read_text().splitlines()) == 8
    html = page.read_text()
    assert "<script" not in html
    assert "empty → food" in html
    assert "http" not in html.replace("http-equiv", "")
    assert len(list((tmp_path / "pictures").iterdir())) == 2


def test_the_curve_of_a_level_has_a_gap_where_nothing_could_be_judged(frames: Path, states: Path) -> None:
    page = frames.parent / "timeline.html"
    for k in (3, 4):
        save(np.zeros((240, 240, 3), np.uint8), frames / f"{k:02}.jpg", 1_600_000_000 + 60 * k)
    watch(frames, states=str(states), html=str(page))
    curves = re.findall(r'<polyline points="([^"]*)"', page.read_text())
    assert [len(curve.split()) for curve in curves] == [3, 3]


def test_events_only_prints_events_only(frames: Path, states: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.run(["monitor", str(frames), "--states", str(states), "--once", "--events-only"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1
    assert "8 of 8 frames looked at; 1 events, 0 skipped" in printed.err


def test_a_second_run_takes_up_where_the_first_stopped(frames: Path, states: Path, tmp_path: Path) -> None:
    late = [save(bowl(60, 20 + k), tmp_path / "late" / f"{k}.jpg") for k in range(4)]
    memory = str(tmp_path / "memory.npz")
    first, _ = watch(frames, states=str(states), memory=memory)
    for number, path in enumerate(late):
        path.rename(frames / f"9{number}.jpg")
    second, told = watch(frames, states=str(states), memory=memory)
    assert told == []
    assert [line["source"] for line in second] == ["90.jpg", "91.jpg", "92.jpg", "93.jpg"]
    assert [line["settled"] for line in second] == ["food"] * 4
    assert first[-1]["settled"] == "food"


def test_a_damaged_memory_is_told_and_written_anew(frames: Path, states: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory.npz"
    memory.write_bytes(b"PK\x03\x04 half of it")
    lines, told = watch(frames, states=str(states), memory=str(memory))
    assert len(lines) == 8
    assert "is not used" in told[0]
    assert watch(frames, states=str(states), memory=str(memory)) == ([], [])


def test_a_memory_of_other_states_is_told(frames: Path, states: Path, tmp_path: Path) -> None:
    memory = str(tmp_path / "memory.npz")
    watch(frames, states=str(states), memory=memory)
    (states / "food").rename(states / "full")
    lines, told = watch(frames, states=str(states), memory=memory)
    assert len(lines) == 8
    assert "its states is" in told[0]


def test_a_broken_frame_is_told_and_the_loop_goes_on(frames: Path, states: Path) -> None:
    (frames / "03.jpg").write_bytes((frames / "03.jpg").read_bytes()[:900])
    os.utime(frames / "03.jpg", (1_600_000_000, 1_600_000_000))
    lines, told = watch(frames, states=str(states))
    assert len(lines) == 7
    assert len(told) == 1
    assert told[0].startswith("skipped 03.jpg: ")


def test_a_half_written_file_is_waited_for(tmp_path: Path) -> None:
    whole = save(bowl(60, 1), tmp_path / "whole.jpg").read_bytes()
    watched = tmp_path / "watched"
    watched.mkdir()
    (watched / "a.jpg").write_bytes(whole[: len(whole) // 2])
    timer = threading.Timer(0.6, lambda: (watched / "a.jpg").write_bytes(whole))
    timer.start()
    (found,) = arrivals(str(watched), once=True, done=set())
    timer.join()
    assert isinstance(found, Frame)
    assert found.image.pixels.shape == (240, 240, 3)


def test_a_half_written_file_whose_time_is_set_back_meanwhile_is_waited_for(tmp_path: Path) -> None:
    whole = save(bowl(60, 1), tmp_path / "whole.jpg").read_bytes()
    watched = tmp_path / "watched"
    watched.mkdir()
    path = watched / "a.jpg"
    path.write_bytes(whole[: len(whole) // 2])

    def copied() -> None:
        os.utime(path, (1_600_000_000, 1_600_000_000))
        time.sleep(0.4)
        path.write_bytes(whole)

    timer = threading.Timer(0.3, copied)
    timer.start()
    (found,) = arrivals(str(watched), once=True, done=set())
    timer.join()
    assert isinstance(found, Frame)


def test_a_broken_file_is_told_once_and_read_when_it_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    coming = arrivals(str(tmp_path), once=False, done=set())
    assert isinstance(next(coming), Skipped)
    assert isinstance(next(coming), Idle)
    assert isinstance(next(coming), Idle)
    save(bowl(0), path)
    assert isinstance(next(coming), Frame)


def test_a_folder_that_is_gone_is_told_and_waited_for(tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    save(bowl(0), watched / "a.png")
    coming = arrivals(str(watched), once=False, done=set())
    assert isinstance(next(coming), Frame)
    watched.rename(tmp_path / "away")
    assert isinstance(next(coming), Idle)
    gone = next(coming)
    assert isinstance(gone, Skipped)
    assert "gone" in gone.reason
    (tmp_path / "away").rename(watched)
    save(bowl(0), watched / "b.png")
    assert any(isinstance(one, Frame) and one.source == "b.png" for one in itertools.islice(coming, 3))


def test_an_address_where_nobody_answers_is_tried_again_and_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("lookalike.apps.frames.time.sleep", waits.append)
    found: list[object] = []
    with pytest.raises(InputError, match=r"rtsp://127\.0\.0\.1:9/x"):
        found.extend(arrivals("rtsp://127.0.0.1:9/x", once=False, done=set()))
    assert waits == [2, 4, 8, 16, 30]
    with pytest.raises(InputError, match="cannot read video"):
        list(arrivals("rtsp://127.0.0.1:9/x", once=True, done=set()))


def test_a_stream_that_breaks_off_tells_for_how_long_nothing_came(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("lookalike.apps.frames.time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monkeypatch.setattr("lookalike.apps.frames.time.monotonic", lambda: clock[0])
    opened = iter([[(image(bowl(0)), None)], [], [], [(image(bowl(0)), None)]])
    monkeypatch.setattr("lookalike.apps.frames.frames", lambda _: next(opened))
    coming = list(itertools.islice(arrivals("rtsp://x/y", once=False, done=set()), 8))
    assert [one.seconds for one in coming if isinstance(one, Idle)] == [2, 2 + 4, 2 + 4 + 8]
    assert [type(one) for one in coming[:3]] == [Frame, Skipped, Idle]
    assert isinstance(coming[-1], Frame)


def test_a_watched_folder_gives_new_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    save(bowl(0), tmp_path / "b.png")
    coming = arrivals(str(tmp_path), once=False, done=set())
    first = next(coming)
    assert isinstance(first, Frame)
    assert first.source == "b.png"
    assert isinstance(next(coming), Idle)
    save(bowl(0), tmp_path / "d.png")
    save(bowl(0), tmp_path / "c.png")
    rest = [next(coming) for _ in range(2)]
    assert [one.source for one in rest if isinstance(one, Frame)] == ["c.png", "d.png"]


def test_a_camera_that_stops_is_told_once_and_when_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coming = [Frame(image(bowl(0)), 1.0, "a"), Idle(1.0), Idle(70.0), Idle(80.0), Frame(image(bowl(0)), 2.0, "b")]
    monkeypatch.setattr("lookalike.apps.monitor.arrivals", lambda *_, **__: iter(coming))
    lines, told = watch("camera:0")
    assert [line["event"] for line in lines] == [None, {"kind": "stopped"}, {"kind": "resumed"}, None]
    assert told == ["no new picture for 70 s: has the camera stopped?"]


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def test_pictures_on_stdin_are_cut_where_they_end() -> None:
    thumb = encoded(bowl(3)[::8, ::8], "JPEG")
    with_thumb = encoded(bowl(60), "JPEG")
    with_thumb = with_thumb[:2] + b"\xff\xe1" + (len(thumb) + 2).to_bytes(2, "big") + thumb + with_thumb[2:]
    progressive = io.BytesIO()
    PIL.Image.fromarray(bowl(9)).save(progressive, "JPEG", progressive=True)
    files = [encoded(bowl(0), "JPEG"), encoded(bowl(0), "PNG"), with_thumb, progressive.getvalue()]

    class Dribble(io.BytesIO):
        def read1(self, _size: int | None = -1, /) -> bytes:
            return super().read(7)

    assert list(pictures(io.BytesIO(b"".join(files)))) == files
    assert list(pictures(Dribble(b"".join(files)))) == files


@pytest.mark.parametrize(("data", "message"), [(b"hello", "neither"), (b"\xff\xd8\xff\xe0\x00\x10", "middle")])
def test_what_is_no_picture_on_stdin_is_told(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(pictures(io.BytesIO(data)))


def test_pictures_come_on_stdin(states: Path) -> None:
    data = b"".join(encoded(bowl(60, k), "JPEG") for k in range(3))
    lines, _ = watch("-", io.BytesIO(data), states=str(states))
    assert [(line["source"], line["state"]) for line in lines] == [(f"stdin:{k}", "food") for k in (1, 2, 3)]


def test_pictures_on_stdin_that_are_cut_off_end_the_run_and_what_came_before_counts(states: Path) -> None:
    one = encoded(bowl(60), "JPEG")
    lines, told = watch("-", io.BytesIO(one + one + one[: len(one) // 2]), states=str(states))
    assert [line["state"] for line in lines] == ["food", "food"]
    assert told == ["skipped stdin:3: stdin ended in the middle of a picture; nothing after it can be read"]
    with pytest.raises(InputError, match="no picture came"):
        watch("-", io.BytesIO(b""), states=str(states))
    with pytest.raises(InputError, match="middle"):
        watch("-", io.BytesIO(one[:200]), states=str(states))


def test_odd_frames_are_unknown_and_the_loop_goes_on(tmp_path: Path, states: Path) -> None:
    odd = [np.zeros((240, 240, 3), np.uint8), bowl(0, 3), bowl(0, 3)[:2, :2], bowl(60, 3, 480), bowl(60, 4)]
    times = [100, 160, 220, 20, 300]
    for k, (pixels, at) in enumerate(zip(odd, times, strict=True)):
        save(pixels, tmp_path / "odd" / f"{k}.png", 1_600_000_000 + at)
    (tmp_path / "odd" / "5.txt").write_text("no picture")
    lines, told = watch(tmp_path / "odd", states=str(states))
    assert [line["state"] for line in lines] == ["unknown", "empty", "unknown", "food", "food"]
    assert "the clock went back by 200 s" in lines[3]["reason"]
    assert len(told) == 1
    assert "5.txt" in told[0]


def test_a_disk_that_is_full_is_told_once_and_the_loop_goes_on(
    frames: Path, states: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> Any:
        raise StoreError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr("lookalike.apps.monitor.replacing", full)
    monkeypatch.setattr("lookalike.apps.monitor._REMEMBERED", 0.0)
    lines: list[Any] = []
    told: list[str] = []
    request = Request(
        states=str(states), once=True, pictures=str(tmp_path / "pictures"), memory=str(tmp_path / "m.npz")
    )
    with pytest.raises(StoreError, match=r"m\.npz"):  # at the end it is an error
        monitor(str(frames), request, lines.append, told.append)
    assert len(lines) == 8
    assert len([line for line in told if "m.npz" in line]) == 1
    assert len([line for line in told if ".jpg" in line]) == 2


def test_a_picture_is_not_overwritten_with_a_memory(frames: Path, tmp_path: Path) -> None:
    picture = save(bowl(0), tmp_path / "bowl.png")
    before = picture.read_bytes()
    with pytest.raises(ConfigError, match="no memory of a monitor"):
        watch(frames, memory=str(picture))
    assert picture.read_bytes() == before
    with pytest.raises(ConfigError, match="its folder is not there"):
        watch(frames, memory=str(tmp_path / "nowhere" / "m.npz"))


def test_a_video_file_is_watched(tmp_path: Path, states: Path) -> None:
    path = tmp_path / "bowl.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width = stream.height = 240
        stream.bit_rate = 4_000_000
        for k in range(10):
            frame = av.VideoFrame.from_ndarray(bowl(0 if k < 5 else 60, k), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    lines, _ = watch(path, states=str(states))
    assert len(lines) == 10
    assert lines[1]["time"] == "1970-01-01T00:00:00.500Z"
    assert [line["event"]["to"] for line in lines if line["event"]] == ["food"]
    (tmp_path / "no.mp4").write_bytes(b"no video at all")
    with pytest.raises(InputError, match=r"no\.mp4"):
        watch(tmp_path / "no.mp4")


def test_without_the_extra_a_video_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "x.mp4").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"pip install 'lookalike\[video\]'"):
        watch(tmp_path / "x.mp4")


def test_every_other_frame(frames: Path) -> None:
    lines, _ = watch(frames, every=2)
    assert [line["source"] for line in lines] == ["00.jpg", "02.jpg", "04.jpg", "06.jpg"]
    assert [line.get("passed_over") for line in lines] == [None, 1, 1, 1]


def test_a_budget_passes_frames_over_and_tells_so(frames: Path) -> None:
    lines, _ = watch(frames, budget_ms=0.01)
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every"),
        ({"budget_ms": 0.0}, "budget"),
        ({"stall": -1.0}, "seconds"),
        ({"dwell": 0}, "dwell=0"),
        ({"html": "x.jpg"}, "html"),
        ({"states": "nowhere"}, "no such folder of states"),
        ({"regions": "nowhere.csv"}, "cannot read regions"),
    ],
)
def test_a_wrong_setting_is_told(frames: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, InputError), match=message):
        watch(frames, **options)


def test_a_wrong_source_and_an_empty_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such source"):
        watch(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no picture"):
        watch(tmp_path / "empty")


def test_states_without_pictures_are_told(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no state"):
        states_of(str(tmp_path / "none"), {}, told.append)
    save(bowl(0), tmp_path / "one" / "empty" / "a.png")
    (tmp_path / "one" / "empty" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    assert list(states_of(str(tmp_path / "one"), {}, told.append).pictures) == ["empty"]
    assert any("one state only" in line for line in told)
    assert any("broken.png" in line for line in told)
    (tmp_path / "one" / "notes.txt").write_text("which bowl is which")
    states_of(str(tmp_path / "one"), {}, told.append)
    assert any("notes.txt: it lies in no state's folder" in line for line in told)
    with pytest.raises(InputError, match=r"notes\.txt is no folder"):
        states_of(str(tmp_path / "one" / "notes.txt"), {}, told.append)
    (tmp_path / "one" / "food").mkdir()
    with pytest.raises(InputError, match="'food' has no picture"):
        states_of(str(tmp_path / "one"), {}, told.append)


def test_more_than_ten_references_are_refused(tmp_path: Path) -> None:
    for k in range(11):
        save(bowl(0)[::4, ::4], tmp_path / "empty" / f"{k}.png")
    with pytest.raises(InputError, match="11 reference pictures"):
        states_of(str(tmp_path), {}, lambda _: None)


def test_levels_come_from_names_or_from_what_is_said(tmp_path: Path) -> None:
    for name in ("0%", "30%", "100%"):
        save(bowl(0), tmp_path / "named" / name / "a.png")
    for name in ("empty", "food"):
        save(bowl(0), tmp_path / "two" / name / "a.png")
    told: list[str] = []
    assert states_of(str(tmp_path / "named"), {}, told.append).levels == {"0%": 0.0, "30%": 0.3, "100%": 1.0}
    assert states_of(str(tmp_path / "two"), {"food": 0.5}, told.append).levels == {"food": 0.5}
    assert told == []
    assert states_of(str(tmp_path / "two"), {}, told.append).levels == {"empty": 0.0, "food": 1.0}
    assert told == ["by their names 'empty' has level 0 and 'food' level 1; --levels food=0,empty=1 turns that round"]
    assert parse_levels("empty=0, food=.8") == {"empty": 0.0, "food": 0.8}
    with pytest.raises(ConfigError, match="a=b"):
        parse_levels("a=b")
    with pytest.raises(ConfigError, match="'full'"):
        states_of(str(tmp_path / "two"), {"full": 1.0}, print)


def test_regions_are_read_and_what_is_wrong_in_them_is_told(tmp_path: Path) -> None:
    path = tmp_path / "regions.csv"
    path.write_text("name,cx,cy,w,h\nbowl,10,20,30,40\n")
    (region,) = regions_of(str(path))
    assert (region.name, region.cx, region.h, region.angle) == ("bowl", 10, 40, 0)
    for text, message in (
        ("name,cx,cy,w\nbowl,1,2,3\n", "no column 'h'"),
        ("name,cx,cy,w,h\n", "holds no region"),
        ("name,cx,cy,w,h\nbowl,1,2,x,4\n", "line 2: w is a number"),
        ("name,cx,cy,w,h\nbowl,1,2,3,nan\n", "line 2: region"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            regions_of(str(path))


@pytest.mark.parametrize(
    ("command", "by"),
    [(INTERRUPTIBLE, signal.SIGINT), ((sys.executable, "-m", "lookalike"), signal.SIGTERM)],
    ids=["interrupted", "terminated"],
)
def test_a_run_that_is_stopped_keeps_its_memory_and_page(
    command: tuple[str, ...], by: signal.Signals, tmp_path: Path, frames: Path, states: Path
) -> None:
    memory, page = tmp_path / "memory.npz", tmp_path / "page.html"
    command = (*command, "monitor", str(frames), "--states", str(states))
    process = subprocess.Popen(
        [*command, "--memory", str(memory), "--html", str(page)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    for _ in range(8):
        process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(by)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"interrupted" in errors
    assert memory.exists()
    assert "empty → food" in page.read_text()


def test_json_beside_a_file_goes_to_both(frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lines.jsonl"
    assert __main__.run(["monitor", str(frames), "--once", "--jsonl", str(out), "--json"]) == 0
    assert capsys.readouterr().out == out.read_text()
