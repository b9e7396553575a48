"""Do what is planned: a file is touched only after all that speaks against it has been looked at again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from lookalike.acting import placing, trash
from lookalike.acting.aftermath import found_on_disk, tidy
from lookalike.acting.alone import acting_alone, journal_folder
from lookalike.acting.journal import ENDING, Intent, Journal, intent_line
from lookalike.acting.placing import Changed, Seen
from lookalike.acting.plan import HARDLINK, MOVE, TRASH, Action, Done, Drop, Outcome, Plan, Progress
from lookalike.acting.protected import Protected
from lookalike.errors import ConfigError, StoreError
from lookalike.types import Skipped


def execute(plan: Plan, journal: str | os.PathLike[str] | None = None, progress: Progress = lambda _: None) -> Outcome:
    """Do what is planned, one file after another; ``progress`` is called with 1 after each.

    A file is left alone, with the reason, where anything speaks against it: it or the kept file is gone, changed,
    protected, a link; the disk is full; its new name is taken; the journal cannot be written. ``journal`` is a new
    file, by default one in ``journal_folder()``. Raises MissingDependency (the trash without its extra),
    ConfigError (folders that cannot be, another process at it), InputError and StoreError (no such journal can begin).
    """
    if not plan.drops:
        return Outcome((), (), None)
    if plan.action.kind == TRASH:
        trash.require()
    protected = Protected(plan.protected)
    if plan.action.folder and protected.holds(plan.action.folder):
        raise ConfigError(f"{plan.action.folder} lies in a protected folder; choose another one to move files to")
    with acting_alone(), Journal.create(_journal_path(journal), str(plan.action), len(plan.drops)) as log:
        run = _Run(plan, protected, log)
        run.all(progress)
        return Outcome(tuple(run.done), tuple(run.left), log.path)


class _Run:
    """One run: what was done and left so far."""

    def __init__(self, plan: Plan, protected: Protected, log: Journal) -> None:
        self._plan, self._protected, self._log = plan, protected, log
        self.done: list[Done] = []
        self.left: list[Skipped] = []

    def all(self, progress: Progress) -> None:
        """Give each file its turn; once the journal cannot be written, touch no more."""
        drops = self._plan.drops
        try:
            for number, drop in enumerate(drops):
                self._act(number, drop)
                progress(1)
            self._log.add({"finished": True})
        except StoreError as error:
            ended = len(self.done) + len(self.left)
            self.left += [Skipped(drop.path, str(error)) for drop in drops[ended:]]

    def _act(self, number: int, drop: Drop) -> None:
        path, kept = os.path.abspath(drop.path), os.path.abspath(drop.keep_path)
        try:
            seen = self._checked(drop, path, kept)
            intent = self._intent(drop, path, kept)
        except (OSError, Changed) as error:
            self.left.append(Skipped(drop.path, placing.plain(error)))
            return
        self._log.add(intent_line(number, intent))
        reason, where = _attempted(self._plan.action, intent, seen)
        if reason is None:
            self.done.append(Done(drop.path, where))
            self._log.add({"done": number, "where": where})
        else:
            self.left.append(Skipped(drop.path, reason))
            self._log.add({"left": number, "reason": reason})

    def _checked(self, drop: Drop, path: str, kept: str) -> Seen:
        """Read both files again; raise Changed, saying what speaks against touching the one that is dropped."""
        if self._protected.holds(path):
            raise Changed("lies in a protected folder")
        if placing.same_file(path, kept):
            raise Changed(f"{_is_a_link(path)} the kept file {drop.keep_path} under another name: not a copy")
        seen = placing.look(path)
        if seen.sha256 != drop.sha256:
            raise Changed("has changed since it was compared; compare again")
        try:
            keeps = placing.look(os.path.realpath(kept))
        except (OSError, Changed) as error:
            raise Changed(f"would be the last copy: the kept file {drop.keep_path} {placing.plain(error)}") from error
        if keeps.sha256 != drop.keep_sha256:
            raise Changed(f"would be the last copy: the kept file {drop.keep_path} has changed; compare again")
        if self._plan.action.kind == HARDLINK:
            self._check_link(seen, keeps, kept)
        return seen

    def _check_link(self, seen: Seen, keeps: Seen, kept: str) -> None:
        if seen.sha256 != keeps.sha256:
            raise Changed("does not have the same bytes as the kept file, so it cannot be a hard link to it")
        if seen.stamp[0] != keeps.stamp[0]:
            raise Changed("is not on the kept file's file system, and no hard link leads beyond it; use move or trash")
        if self._protected.holds(kept):
            raise Changed("would share its bytes with a file in a protected folder, which a change would reach")

    def _intent(self, drop: Drop, path: str, kept: str) -> Intent:
        status = os.lstat(path)
        target = self._target(path)
        return Intent(
            path=path,
            sha256=drop.sha256,
            keep_path=os.path.realpath(kept),
            keep_sha256=drop.keep_sha256,
            group=drop.group,
            target=target,
            spare=placing.spare_name(target or path),
            aside=placing.spare_name(path),
            mode=status.st_mode,
            mtime_ns=status.st_mtime_ns,
            at=time.time(),
        )

    def _target(self, path: str) -> str | None:
        folder = self._plan.action.folder
        if folder is None:
            return None
        if _is_within(path, folder):
            raise Changed(f"is in {folder} already")
        target = os.path.join(folder, _relative(path, self._plan.roots))
        if self._protected.holds(target):
            raise Changed(f"would come into a protected folder: {target}")
        if os.path.lexists(target):
            raise Changed(f"would overwrite {target}; nothing is overwritten: choose another folder")
        placing.make_folders(os.path.dirname(target))
        return target


def _attempted(action: Action, intent: Intent, seen: Seen) -> tuple[str | None, str | None]:
    """Act; return (why it did not happen or None, where the file is now)."""
    try:
        where = _DO[action.kind](intent, seen)
    except (OSError, Changed, trash.NotTrashed) as error:
        # The error may have come after the deed, as when names cannot be synced: the disk knows.
        happened, where = found_on_disk(action.kind, intent)
        if happened:
            with suppress(OSError):
                tidy(intent, happened)
            return None, where
        reason = str(error) if isinstance(error, trash.NotTrashed) else placing.plain(error)
        return reason + _left_over(intent), None
    with suppress(OSError):
        placing.remove_spare(intent.spare)
    return None, where


def _trash(intent: Intent, seen: Seen) -> str | None:
    placing.check_still(intent.path, seen)
    return trash.send(intent.path)


def _move(intent: Intent, seen: Seen) -> str | None:
    placing.move(intent.path, str(intent.target), intent.spare, seen)
    return intent.target


def _hardlink(intent: Intent, seen: Seen) -> str | None:
    placing.replace_by_link(intent.path, intent.keep_path, intent.spare, intent.aside, seen)
    return intent.keep_path


_DO: dict[str, Callable[[Intent, Seen], str | None]] = {TRASH: _trash, MOVE: _move, HARDLINK: _hardlink}


def _left_over(intent: Intent) -> str:
    """Name what a failed action could not take back, if there is anything."""
    return f"; what it held before is in {intent.aside}" if os.path.lexists(intent.aside) else ""


def _journal_path(journal: str | os.PathLike[str] | None) -> str:
    if journal is not None:
        return os.path.abspath(os.path.expanduser(os.fsdecode(journal)))
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S.%fZ")  # no colons: Windows has none in names
    return str(journal_folder() / (stamp + ENDING))


def _is_a_link(path: str) -> str:
    return "is a link to" if os.path.islink(path) else "is"


def _relative(path: str, roots: Sequence[str]) -> str:
    """Return a path relative to what the roots have in common; one from elsewhere without its leading slash."""
    absolute = [os.path.abspath(root) for root in roots]
    try:
        base = os.path.commonpath(absolute) if absolute else ""
    except ValueError:  # several drives
        base = ""
    if base and _is_within(path, base):
        return os.path.relpath(path, base)
    drive, rest = os.path.splitdrive(path)
    return os.path.join(drive.strip(":\\/"), rest.lstrip("\\/"))


def _is_within(path: str, folder: str) -> bool:
    try:
        return os.path.commonpath([path, folder]) == folder
    except ValueError:
        return False
