"""Take back what a run did, in reverse order. May be cut off at any moment, and run again."""

from __future__ import annotations

import os
from collections.abc import Callable

from lookalike.acting import placing, trash
from lookalike.acting.aftermath import close
from lookalike.acting.alone import acting_alone
from lookalike.acting.journal import Intent, Journal, Step, Story, read_journal
from lookalike.acting.placing import Changed
from lookalike.acting.plan import HARDLINK, MOVE, TRASH, Action, Progress, Undone
from lookalike.types import Skipped


def undo(journal: str | os.PathLike[str], progress: Progress = lambda _: None) -> Undone:
    """Bring back what the run of a journal did, the last file first; ``progress`` is called with 1 after each.

    Nothing is overwritten: a file that has come back meanwhile stays, and the other stays where it is. Raises
    InputError (no such journal, or a damaged one), StoreError (it cannot be written).
    """
    path = os.path.abspath(os.path.expanduser(os.fsdecode(journal)))
    with acting_alone():
        story = read_journal(path)
        with Journal.resume(path) as log:
            if not story.finished:
                close(story, log)
                story = read_journal(path)
            undone = _undo(story, log, progress)
            log.add({"undo_finished": True})
    return undone


def _undo(story: Story, log: Journal, progress: Progress) -> Undone:
    kind = Action.parse(story.action).kind
    restored: list[str] = []
    left: list[Skipped] = []
    for step in reversed(story.steps):
        if step.state not in ("done", "undoing"):
            continue
        spare = placing.spare_name(step.intent.path)
        log.add({"undoing": step.number, "spare": spare})
        try:
            if step.undo_spare is not None:
                placing.remove_spare(step.undo_spare)  # an earlier undo was cut off
                placing.remove_reserve(step.intent.path)
            _UNDO[kind](step, spare)
        except (OSError, Changed) as error:
            left.append(Skipped(step.intent.path, placing.plain(error)))
        else:
            log.add({"undone": step.number})
            restored.append(step.intent.path)
        progress(1)
    return Undone(tuple(restored), tuple(left), sum(step.state == "undone" for step in story.steps))


def _untrash(step: Step, spare: str) -> None:
    intent = step.intent
    where = step.where
    if where is None or not placing.holds(where, intent.sha256):
        where = trash.find(intent.path, intent.sha256, intent.at)
    if where is None and not placing.holds(intent.path, intent.sha256):
        raise Changed(_not_in_trash())
    _bring_back(where, intent, spare)
    if where or step.where:
        trash.forget(where or str(step.where))


def _not_in_trash() -> str:
    if trash.can_be_searched():
        return "is no longer in the trash with the bytes it had"
    return "is in the trash of this system, which alone can put it back: open it, choose the file, restore it"


def _unmove(step: Step, spare: str) -> None:
    where = str(step.intent.target)
    if not placing.holds(where, step.intent.sha256):
        if not placing.holds(step.intent.path, step.intent.sha256):
            raise Changed(f"is no longer at {where} with the bytes it had")
        _bring_back(None, step.intent, spare)
        return
    _bring_back(where, step.intent, spare)


def _bring_back(where: str | None, intent: Intent, spare: str) -> None:
    """Move a file back from ``where`` (None: it is back); finish what an earlier undo began."""
    if not os.path.lexists(intent.path) and where is not None:
        placing.make_folders(os.path.dirname(intent.path))
        placing.move(where, intent.path, spare, placing.look(where))
    elif not placing.holds(intent.path, intent.sha256):
        raise Changed(f"another file has come to its place; the old one stays in {where}")
    elif where is not None:
        placing.take_back(intent.path, where, intent.sha256)


def _unlink_again(step: Step, spare: str) -> None:
    """Make a hard link a file of its own again."""
    intent = step.intent
    here = placing.holds(intent.path, intent.sha256)
    if here and not placing.same_file(intent.path, intent.keep_path):
        return
    if not here and os.path.lexists(intent.path):
        raise Changed("has changed since it was linked, and with it the kept file: what it was is not known any more")
    source = intent.path if here else intent.keep_path
    if not placing.holds(source, intent.sha256):
        raise Changed(f"is gone, and the kept file {intent.keep_path} no longer has its bytes")
    placing.make_folders(os.path.dirname(intent.path))
    placing.part_from_link(intent.path, source, spare, intent.mode, intent.mtime_ns)


_UNDO: dict[str, Callable[[Step, str], None]] = {TRASH: _untrash, MOVE: _unmove, HARDLINK: _unlink_again}
