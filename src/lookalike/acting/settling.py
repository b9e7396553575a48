"""Runs that a crash cut off: what had happened, told by the disk."""

from __future__ import annotations

import os
from pathlib import Path

from lookalike.acting.aftermath import close, found_on_disk
from lookalike.acting.alone import Busy, acting_alone, journal_folder
from lookalike.acting.journal import ENDING, Intent, Journal, Story, read_journal
from lookalike.acting.placing import holds
from lookalike.acting.plan import Action, Unfinished
from lookalike.errors import InputError, StoreError


def unfinished(folder: str | os.PathLike[str] | None = None) -> tuple[Unfinished, ...]:
    """Return the runs that were cut off, by the journals in a folder (by default ``journal_folder()``); change nothing.

    Empty while another process is acting, since its run is not cut off.
    """
    return _look_through(folder, closing=False)


def settle(folder: str | os.PathLike[str] | None = None) -> tuple[Unfinished, ...]:
    """Return the same, remove half-made files, and write into the journals what was found: each crash is told once.

    An undo that was cut off is told until it is run again.
    """
    return _look_through(folder, closing=True)


def _look_through(folder: str | os.PathLike[str] | None, *, closing: bool) -> tuple[Unfinished, ...]:
    paths = sorted(map(str, Path(folder or journal_folder()).glob("*" + ENDING)))
    if not paths:
        return ()
    try:
        with acting_alone():
            found = [_looked_at(path, closing) for path in paths]
    except Busy:
        return ()
    return tuple(one for one in found if one is not None)


def _looked_at(path: str, closing: bool) -> Unfinished | None:
    if b"\n" not in Path(path).read_bytes():
        return None  # cut off before anything was touched
    try:
        story = read_journal(path)
        if not story.finished:
            told = _tell(story)
            if closing:
                with Journal.resume(path) as log:
                    close(story, log)
            return Unfinished(path, told)
    except (InputError, StoreError, OSError) as error:
        return Unfinished(path, (str(error),))
    if story.undo_cut_off:
        return Unfinished(path, (f"the undo of the run of {story.started} was cut off; run it again",))
    return None


def _tell(story: Story) -> tuple[str, ...]:
    ended = sum(step.state in ("done", "left") for step in story.steps)
    lines = [f"a run of {story.started} ({story.action}) was cut off after {ended} of {story.drops} files"]
    kind = Action.parse(story.action).kind
    for step in story.steps:
        if step.state == "pending":
            happened, where = found_on_disk(kind, step.intent)
            lines.append(_told(step.intent, happened, where))
    return tuple(lines)


def _told(intent: Intent, happened: bool, where: str | None) -> str:
    if happened:
        return f"{intent.path}: it was done; the file is in {where or 'the trash of the system'}"
    if holds(intent.path, intent.sha256):
        return f"{intent.path}: it was not done; the file is in its place"
    return f"{intent.path}: it is neither in its place nor in {intent.target or 'the trash'}; another program took it"
