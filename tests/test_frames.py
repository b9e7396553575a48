"""What a watched folder gives when a run stops in the midst of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lookalike.apps.frames import arrivals

HALF_A_PNG = b"\x89PNG\r\n\x1a\nhalf"


def interrupt(_: float) -> None:
    raise KeyboardInterrupt


def test_a_file_that_is_waited_for_at_an_interrupt_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(HALF_A_PNG)
    done: set[str] = set()
    monkeypatch.setattr("lookalike.apps.frames.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(arrivals(str(tmp_path), once=False, done=done))
    assert done == set()


def test_a_picture_counts_as_done_when_it_was_looked_at(tmp_path: Path, shipped_photos: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(sorted(shipped_photos.glob("*.jpg"))[0].read_bytes())
    done: set[str] = set()
    coming = arrivals(str(tmp_path), once=True, done=done)
    next(coming)
    assert done == set()
    next(coming)
    assert done == {"a.jpg"}
    assert list(coming) == []
    assert done == {"a.jpg", "b.jpg"}
