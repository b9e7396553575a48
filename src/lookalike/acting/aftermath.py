"""Whether an action happened, told by the disk alone; and the removal of what was half made."""

from __future__ import annotations

import os

from lookalike.acting import placing, trash
from lookalike.acting.journal import Intent, Journal, Story
from lookalike.acting.plan import HARDLINK, MOVE, Action


def found_on_disk(kind: str, intent: Intent) -> tuple[bool, str | None]:
    """Tell whether an action happened, and where its file is now (None: nowhere, or only the system's trash knows)."""
    if kind == HARDLINK:
        return placing.same_file(intent.path, intent.keep_path), intent.keep_path
    if placing.holds(intent.path, intent.sha256):
        return False, None
    if kind == MOVE:
        return placing.holds(str(intent.target), intent.sha256), intent.target
    where = trash.find(intent.path, intent.sha256, intent.at)
    unknown = not trash.can_be_searched() and not os.path.lexists(intent.path)
    return where is not None or unknown, where


def tidy(intent: Intent, happened: bool) -> None:
    """Remove what was half made; every content keeps a name. Raise OSError where that cannot be done."""
    placing.remove_spare(intent.spare)
    if happened and os.path.lexists(intent.aside) and placing.holds(intent.path, intent.sha256):
        os.unlink(intent.aside)
    placing.put_back(intent.aside, intent.path, intent.keep_path)
    if intent.target and not happened and os.path.lexists(intent.target):
        placing.take_back(intent.path, intent.target, intent.sha256)
        placing.remove_reserve(intent.target)


def close(story: Story, log: Journal) -> None:
    """Write into a journal that was cut off what had happened, and remove what was half made."""
    kind = Action.parse(story.action).kind
    for step in story.steps:
        if step.state == "pending":
            happened, where = found_on_disk(kind, step.intent)
            tidy(step.intent, happened)
            log.add({"done": step.number, "where": where} if happened else {"left": step.number, "reason": "cut off"})
    log.add({"finished": True})
