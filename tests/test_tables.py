"""A file that takes the place of another when it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import pytest

from lookalike import tables
from lookalike.tables import replacing


def test_an_interrupt_at_the_moment_at_which_a_file_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> IO[bytes]:
        open(*arguments).close()
        assert len(list(tmp_path.iterdir())) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "open", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_made_as_the_umask_says(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with replacing(tmp_path / "a") as file:
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert (tmp_path / "a").stat().st_mode == plain.stat().st_mode
    assert len(list(tmp_path.iterdir())) == 2
