"""Acting on files that are not wanted: nothing is ever lost, every step can be taken back, every refusal is told."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lookalike.acting import Action, Drop, Outcome, Plan, execute, journal_folder, settle, undo, unfinished
from lookalike.acting.journal import read_journal
from lookalike.acting.placing import same_file
from lookalike.errors import ConfigError, InputError, MissingDependency, StoreError

freedesktop = pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="only freedesktop systems tell what is in the trash"
)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is cut off by a fork that exits")
ACTIONS = [pytest.param("trash", marks=freedesktop), "move", "hardlink"]


@pytest.fixture(autouse=True)
def home(own_data: Path) -> Path:
    return own_data


class World:
    """Pictures, some of which are copies; ``drops`` are those that are not wanted."""

    def __init__(self, folder: Path, action: str) -> None:
        self.folder, self.moved = folder, folder.parent / "moved"
        self.action = Action.parse(f"move:{self.moved}" if action == "move" else action)
        self.drops: list[Drop] = []

    def add(self, name: str, content: bytes, keep: str | None = None) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18 + len(self.drops)))
        if keep is not None:
            kept = (self.folder / keep).read_bytes()
            self.drops.append(Drop(str(path), sha(content), str(self.folder / keep), sha(kept), 1))
        return str(path)

    @property
    def plan(self) -> Plan:
        return Plan(tuple(self.drops), self.action, roots=(str(self.folder),))

    def tree(self) -> dict[str, tuple[bytes, int, int]]:
        """Return path -> (bytes, mode, time of change) of all that is in the folder."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                status = path.stat()
                found[str(path.relative_to(self.folder))] = (path.read_bytes(), status.st_mode, status.st_mtime_ns)
        return found


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_world(tmp_path: Path, action: str, groups: int = 2) -> World:
    """Return a world with two copies a group; all but those that become hard links differ from what is kept."""
    world = World(tmp_path / "pictures", action)
    for group in range(groups):
        content = b"picture %d " % group * 50
        world.add(f"{group}/kept.jpg", content)
        world.add(f"{group}/copy.jpg", content, keep=f"{group}/kept.jpg")
        other = content if action == "hardlink" else content + b"edited"
        world.add(f"{group}/deep/er/other \udce4.jpg", other, keep=f"{group}/kept.jpg")
    return world


def everything(tmp_path: Path) -> set[bytes]:
    """Return the contents that exist anywhere: in place, in the trash, in the folder they were moved to."""
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path.read_bytes() for path in files if path.suffix not in (".jsonl", ".lock", ".trashinfo")}


def spares(tmp_path: Path) -> list[Path]:
    return list(tmp_path.rglob(".lookalike-*"))


def reasons(outcome: Outcome) -> dict[str, str]:
    return {Path(one.path).name: one.reason for one in outcome.left}


@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_dropped_is_gone_from_its_place_and_undo_brings_back_bytes_mode_and_time(
    action: str, tmp_path: Path
) -> None:
    world = make_world(tmp_path, action)
    os.chmod(world.drops[0].path, 0o640)
    before, contents, turns = world.tree(), everything(tmp_path), []
    outcome = execute(world.plan, progress=turns.append)
    assert (len(outcome.done), outcome.left, turns) == (4, (), [1] * 4)
    if action == "hardlink":
        assert all(os.path.samefile(drop.path, drop.keep_path) for drop in world.drops)
    else:
        assert set(world.tree()) == {"0/kept.jpg", "1/kept.jpg"}
    if action == "move":
        assert (world.moved / "0/copy.jpg").read_bytes() == before["0/copy.jpg"][0]
        assert {Path(str(done.where)) for done in outcome.done} == {p for p in world.moved.rglob("*") if p.is_file()}
    assert contents <= everything(tmp_path)
    undone = undo(str(outcome.journal))
    assert world.tree() == before
    assert list(undone.restored) == [drop.path for drop in reversed(world.drops)]
    assert (undone.left, undone.earlier) == ((), 0)
    again = undo(str(outcome.journal))
    assert (again.restored, again.left, again.earlier) == ((), (), 4)
    assert world.tree() == before
    assert spares(tmp_path) == []
    assert not list(tmp_path.rglob("*.trashinfo"))


def test_results_have_a_json_shape(tmp_path: Path) -> None:
    world = make_world(tmp_path, "move", groups=1)
    Path(world.drops[1].path).unlink()
    outcome = execute(world.plan, tmp_path / "j.jsonl")
    assert json.loads(json.dumps(outcome.as_dict())) == {
        "done": [{"path": world.drops[0].path, "where": str(world.moved / "0/copy.jpg")}],
        "left": [{"path": world.drops[1].path, "reason": "is not there any more"}],
        "journal": str(tmp_path / "j.jsonl"),
    }
    assert undo(tmp_path / "j.jsonl").as_dict() == {"restored": [world.drops[0].path], "left": [], "earlier": 0}
    assert world.plan.as_dict()["action"] == f"move:{world.moved}"


# What speaks against touching a file


@pytest.mark.parametrize("action", ACTIONS)
def test_a_file_is_left_alone_where_it_or_the_kept_one_has_changed_or_is_gone(action: str, tmp_path: Path) -> None:
    world = World(tmp_path / "pictures", action)
    for name in ("changed", "gone", "keep changed", "keep gone", "keep a folder"):
        world.add(f"kept {name}", name.encode())
        world.add(name, name.encode(), keep=f"kept {name}")
    (world.folder / "changed").write_bytes(b"CHANGED")
    (world.folder / "gone").unlink()
    (world.folder / "kept keep changed").write_bytes(b"KEEP changed")
    (world.folder / "kept keep gone").unlink()
    (world.folder / "kept keep a folder").unlink()
    (world.folder / "kept keep a folder").mkdir()
    before = world.tree()
    outcome = execute(world.plan)
    assert (outcome.done, world.tree()) == ((), before)
    said = reasons(outcome)
    assert "changed since it was compared" in said["changed"]
    assert said["gone"] == "is not there any more"
    assert "last copy" in said["keep changed"]
    assert "has changed" in said["keep changed"]
    assert "last copy" in said["keep gone"]
    assert "last copy" in said["keep a folder"]


@pytest.mark.parametrize("action", ACTIONS)
def test_another_name_of_the_kept_file_is_never_taken_for_a_copy(action: str, tmp_path: Path) -> None:
    world = World(tmp_path / "pictures", action)
    kept = world.add("in/kept.jpg", b"the only one")
    os.link(kept, world.folder / "hard link")
    os.symlink(kept, world.folder / "link")
    os.symlink(world.folder / "in", world.folder / "alias")
    (world.folder / "other.jpg").write_bytes(b"the only one")
    os.symlink(world.folder / "other.jpg", world.folder / "link to another copy")
    for name in ("hard link", "link", "alias/kept.jpg", "link to another copy"):
        drop = Drop(str(world.folder / name), sha(b"the only one"), kept, sha(b"the only one"))
        outcome = execute(Plan((drop,), world.action))
        assert outcome.done == (), name
        assert "not a copy" in outcome.left[0].reason
    unclear = os.path.join(world.folder, "in/../in/./kept.jpg")
    with pytest.raises(InputError, match="kept and dropped"):
        Plan((Drop(unclear, sha(b"the only one"), kept, sha(b"the only one")),), world.action)
    assert Path(kept).read_bytes() == b"the only one"
    assert (world.folder / "link").is_symlink()


def test_two_files_that_would_each_be_dropped_for_the_other_never_both_go(tmp_path: Path) -> None:
    world = World(tmp_path / "pictures", "move")
    a, b = world.add("a", b"same"), world.add("b", b"same")
    os.symlink(world.folder, tmp_path / "alias")
    there = Drop(a, sha(b"same"), b, sha(b"same"))
    back = Drop(str(tmp_path / "alias" / "b"), sha(b"same"), str(tmp_path / "alias" / "a"), sha(b"same"))
    outcome = execute(Plan((there, back), world.action))
    assert len(outcome.done) == 1
    assert "last copy" in outcome.left[0].reason
    assert Path(b).exists()


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_in_a_protected_folder_is_touched_whatever_way_leads_there(action: str, tmp_path: Path) -> None:
    world = World(tmp_path / "pictures", action)
    world.add("kept", b"x")
    safe = world.add("safe/deep/one", b"x")
    os.symlink(world.folder / "safe", world.folder / "alias")
    drops = tuple(
        Drop(path, sha(b"x"), str(world.folder / "kept"), sha(b"x"))
        for path in (safe, str(world.folder / "alias/deep/one"))
    )
    outcome = execute(Plan(drops, world.action, protected=(str(tmp_path / "pictures" / "alias"),)))
    assert outcome.done == ()
    assert {one.reason for one in outcome.left} == {"lies in a protected folder"}
    with pytest.raises(ConfigError, match=r"protected folder .* is not there"):
        execute(Plan(drops, world.action, protected=(str(tmp_path / "tpyo"),)))


def test_a_hard_link_is_refused_where_bytes_differ_and_into_a_protected_folder(tmp_path: Path) -> None:
    world = World(tmp_path / "pictures", "hardlink")
    world.add("safe/kept", b"x")
    world.add("same", b"x", keep="safe/kept")
    world.add("near", b"y", keep="safe/kept")
    said = reasons(execute(Plan(tuple(world.drops), world.action, protected=(str(world.folder / "safe"),))))
    assert "same bytes" in said["near"]
    assert "protected" in said["same"]


def test_files_are_not_moved_into_a_protected_folder_or_over_another_file_or_to_where_they_are(tmp_path: Path) -> None:
    world = make_world(tmp_path, "move", groups=1)
    with pytest.raises(ConfigError, match="protected"):
        execute(Plan(world.plan.drops, Action.parse(f"move:{tmp_path / 'safe' / 'x'}"), protected=(str(tmp_path),)))
    (world.moved / "0").mkdir(parents=True)
    (world.moved / "0" / "copy.jpg").write_bytes(b"was here before")
    outcome = execute(world.plan)
    assert "overwrite" in reasons(outcome)["copy.jpg"]
    assert (world.moved / "0" / "copy.jpg").read_bytes() == b"was here before"
    assert len(outcome.done) == 1
    moved = str(outcome.done[0].where)
    data = Path(moved).read_bytes()
    again = execute(Plan((Drop(moved, sha(data), world.drops[0].keep_path, world.drops[0].keep_sha256),), world.action))
    assert "already" in again.left[0].reason


def test_paths_are_kept_relative_to_what_the_folders_have_in_common(tmp_path: Path) -> None:
    world = make_world(tmp_path, "move")
    roots = (str(world.folder / "0"), str(world.folder / "1"))
    execute(Plan(world.plan.drops, world.action, roots=roots))
    assert (world.moved / "0" / "copy.jpg").exists()
    assert (world.moved / "1" / "copy.jpg").exists()
    elsewhere = World(tmp_path / "pictures", "move")
    elsewhere.add("far/kept", b"far")
    path = elsewhere.add("far/copy", b"far", keep="far/kept")
    execute(Plan(tuple(elsewhere.drops), world.action, roots=(str(world.folder / "0"),)))
    assert (world.moved / path.lstrip("/")).exists()


def test_a_plan_names_each_file_once_and_an_action_is_one_of_three() -> None:
    drop = Drop("a", "1", "b", "1")
    with pytest.raises(InputError, match="twice"):
        Plan((drop, drop), Action("trash"))
    with pytest.raises(InputError, match="kept and dropped"):
        Plan((drop, Drop("b", "1", "c", "1")), Action("trash"))
    for text in ("shred", "move", "move:", "trash:x"):
        with pytest.raises(ConfigError, match=r"trash, move:DIR .*hardlink"):
            Action.parse(text)


def test_without_its_extra_the_trash_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.acting.trash.find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=r"pip install 'lookalike\[dedupe\]'"):
        execute(make_world(tmp_path, "trash").plan)


def test_where_there_is_no_trash_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/mnt/.Trash-0")

    monkeypatch.setattr("send2trash.send2trash", refuse)
    world = make_world(tmp_path, "trash")
    before = world.tree()
    outcome = execute(world.plan)
    assert (outcome.done, world.tree()) == ((), before)
    assert all("--action move:DIR" in one.reason for one in outcome.left)


def test_a_name_that_gets_too_long_is_one_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path / "pictures", "move")
    world.add("kept", b"x")
    world.add("n" * 255, b"x", keep="kept")
    world.add("short", b"x", keep="kept")
    execute(world.plan)
    assert {path.name for path in world.moved.iterdir()} == {"n" * 255, "short"}
    folder = tmp_path
    while len(str(folder)) < 4096 - 256:
        folder /= "d" * 200
    world = make_world(tmp_path / "second", "move", groups=1)
    outcome = execute(Plan(world.plan.drops, Action.parse(f"move:{folder / ('e' * 300)}"), world.plan.roots))
    assert all("too long" in one.reason for one in outcome.left)
    assert everything(tmp_path) >= {world.tree()[name][0] for name in world.tree()}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_read_only_folder_is_one_line_a_file_and_the_rest_goes_on(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, action)
    closed = str(world.folder / "0")

    def refusing(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def refuse(*paths: Any, **options: Any) -> Any:
            changed = paths[1:] if name == "link" else paths  # a file may get a second name elsewhere
            if any(os.fsdecode(path).startswith(closed) for path in changed):
                raise PermissionError(errno.EACCES, "Permission denied")
            return function(*paths, **options)

        return refuse

    for name in ("link", "rename", "replace", "unlink"):  # root may write everywhere: the system is played
        monkeypatch.setattr(os, name, refusing(getattr(os, name), name))
    before = world.tree()
    outcome = execute(world.plan)
    monkeypatch.undo()
    assert [one.path.startswith(closed) for one in outcome.done] == [False, False]
    assert all("does not allow it" in one.reason for one in outcome.left)
    assert {k: v for k, v in world.tree().items() if k.startswith("0")} == {
        k: v for k, v in before.items() if k.startswith("0")
    }
    assert not (world.moved / "0" / "copy.jpg").exists()


def test_one_process_at_a_time_acts(tmp_path: Path) -> None:
    world = make_world(tmp_path, "move")

    def second(_: int) -> None:
        with pytest.raises(ConfigError, match="another lookalike is acting"):
            execute(world.plan)
        assert settle() == unfinished() == ()  # a run under way is not one that was cut off

    assert len(execute(world.plan, progress=second).done) == 4


# Journals


def test_a_journal_is_never_overwritten_and_one_that_cannot_be_written_stops_the_run_before_it_begins(
    tmp_path: Path,
) -> None:
    world = make_world(tmp_path, "move")
    before = world.tree()
    (tmp_path / "here.jsonl").write_text("notes")
    with pytest.raises(InputError, match=r"here.jsonl exists already"):
        execute(world.plan, tmp_path / "here.jsonl")
    with pytest.raises(StoreError, match="cannot write the journal"):
        execute(world.plan, tmp_path / "here.jsonl" / "no folder.jsonl")
    assert world.tree() == before


def test_what_is_no_journal_or_damaged_is_refused_by_name(tmp_path: Path) -> None:
    world = make_world(tmp_path, "move")
    journal = str(execute(world.plan).journal)
    with pytest.raises(InputError, match=r"cannot read the journal .*no such"):
        undo(tmp_path / "no such")
    for text in (b"", b"notes\n", b"{}\n", b"\xff\xfe\n"):
        (tmp_path / "other").write_bytes(text)
        with pytest.raises(InputError, match="not a journal"):
            undo(tmp_path / "other")
    lines = Path(journal).read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:10] + b"\n"
    Path(journal).write_bytes(b"".join(lines))
    with pytest.raises(InputError, match="damaged in line 3"):
        undo(journal)


@pytest.mark.parametrize("action", ACTIONS)
def test_undo_overwrites_nothing_and_says_what_is_no_longer_as_it_was(action: str, tmp_path: Path) -> None:
    world = make_world(tmp_path, action)
    outcome = execute(world.plan)
    first, second, third, fourth = (drop.path for drop in world.drops)
    if action == "hardlink":
        Path(first).unlink()
        Path(first).write_bytes(b"new")
        Path(third).write_bytes(b"changed, and the kept one with it")
    else:
        Path(first).write_bytes(b"new")
        Path(str(outcome.done[2].where)).write_bytes(b"changed in its new place")
    contents = everything(tmp_path)
    undone = undo(str(outcome.journal))
    assert {one.path for one in undone.left} >= {first, third}
    assert Path(first).read_bytes() == b"new"
    assert second in undone.restored
    assert (fourth in undone.restored) == (action != "hardlink")
    assert contents <= everything(tmp_path)
    assert reasons(Outcome((), undone.left, None))["copy.jpg"]
    assert settle() == ()  # it came to its end
    if action != "hardlink":
        Path(first).unlink()
        again = undo(str(outcome.journal))
        assert again.restored == (first,)
        assert again.earlier == 2


@freedesktop
def test_undo_finds_in_the_trash_what_was_trashed_last_from_that_place_even_if_the_journal_lost_its_name(
    tmp_path: Path, home: Path
) -> None:
    world = World(tmp_path / "pictures", "trash")
    world.add("kept", b"same")
    path = world.add("copy", b"same", keep="kept")
    another = world.add("another", b"same", keep="kept")
    for content in (b"older", b"same"):
        Path(path).write_bytes(content)
        world.drops = [Drop(path, sha(content), str(world.folder / "kept"), sha(b"same"))]
        outcome = execute(world.plan)
    execute(Plan((Drop(another, sha(b"same"), str(world.folder / "kept"), sha(b"same")),), world.action))
    journal = Path(str(outcome.journal))
    assert str(outcome.done[0].where) == str(home / "Trash" / "files" / "copy 1")
    journal.write_text(journal.read_text().replace("copy 1", "elsewhere"))
    assert undo(journal).restored == (path,)
    assert Path(path).read_bytes() == b"same"
    assert sorted(p.name for p in (home / "Trash" / "info").iterdir()) == ["another.trashinfo", "copy.trashinfo"]


def test_a_file_put_back_by_hand_counts_as_restored(tmp_path: Path) -> None:
    world = make_world(tmp_path, "move", groups=1)
    outcome = execute(world.plan)
    shutil.move(str(outcome.done[0].where), world.drops[0].path)
    shutil.copy(str(outcome.done[1].where), world.drops[1].path)
    assert len(undo(str(outcome.journal)).restored) == 2
    assert [p for p in world.moved.rglob("*") if p.is_file()] == []


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs a second file system at hand")
def test_between_real_file_systems_a_move_is_a_copy_and_a_hard_link_is_refused(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("the tests run on the second file system themselves")
        world = make_world(tmp_path, "move")
        before = world.tree()
        outcome = execute(Plan(world.plan.drops, Action.parse(f"move:{other}"), world.plan.roots))
        assert len(outcome.done) == 4
        moved = Path(str(outcome.done[0].where))
        assert moved.read_bytes() == before["0/copy.jpg"][0]
        assert undo(str(outcome.journal)).left == ()
        assert world.tree() == before
        kept = Path(other) / "kept"
        kept.write_bytes(before["0/copy.jpg"][0])
        drop = world.drops[0]
        left = execute(Plan((replace(drop, keep_path=str(kept)),), Action("hardlink"))).left
        assert "kept file's file system" in left[0].reason


# Processes that are cut off. ``Faults`` stands between the code and the system: it counts every call that changes
# anything, and at one of them exits at once (nothing is cleaned up), fails, or fails from then on.

CHANGING = ("link", "rename", "replace", "unlink", "remove", "mkdir", "fsync", "write", "utime", "chmod")


class Faults:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, disk: str, other: Path) -> None:
        self.calls, self._at, self._fault = 0, 0, lambda: None
        self._disk, self._other = disk, str(other)
        self._patch = monkeypatch

    def begin(self, at: int, fault: Callable[[], object]) -> None:
        """Let the call number ``at`` (from 1 on) meet ``fault``."""
        self.calls, self._at, self._fault = 0, at, fault
        for name in CHANGING:
            self._patch.setattr(os, name, self._watched(name, getattr(os, name)))
        self._patch.setattr(os, "open", self._watched_open(os.open))

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            if name == "write" and self._is_now(self.calls + 1):
                function(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            self._count()
            self._separate(name, arguments)
            return function(*arguments, **options)

        return watched

    def _watched_open(self, function: Callable[..., int]) -> Callable[..., int]:
        def watched(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if flags & os.O_CREAT:
                self._count()
            return function(path, flags, *arguments, **options)

        return watched

    def _is_now(self, call: int) -> bool:
        return call == self._at

    def _count(self) -> None:
        self.calls += 1
        if self._is_now(self.calls):
            self._fault()

    def _separate(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name not in ("link", "rename", "replace"):
            return
        if name == "link" and self._disk == "without links":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        sides = {os.fsdecode(path).startswith(self._other) for path in arguments[:2]}
        if self._disk == "other disk" and len(sides) == 2:
            raise OSError(errno.EXDEV, "Invalid cross-device link")


def in_child(work: Callable[[], object]) -> int:
    """Run in a forked child; return its exit code, 0 where it came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def exit_at_once() -> None:
    os._exit(9)


DISKS = [
    pytest.param(action, disk, marks=marks)
    for action, disk, marks in (
        ("trash", "one disk", freedesktop),
        ("trash", "other disk", freedesktop),
        ("move", "one disk", ()),
        ("move", "other disk", ()),
        ("move", "without links", ()),
        ("hardlink", "one disk", ()),
    )
]


@pytest.fixture
def fresh(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[World, Path]]:
    """Make the same world again, and a journal's name."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the system outlives the process

    def make(action: str) -> tuple[World, Path]:
        for folder in (tmp_path / "pictures", tmp_path / "moved", home):
            shutil.rmtree(folder, ignore_errors=True)
        home.mkdir()
        journal_folder().mkdir(parents=True)
        return make_world(tmp_path, action, groups=1), journal_folder() / "journal.jsonl"

    return make


def other_side(action: str, tmp_path: Path, home: Path) -> Path:
    return home / "Trash" if action == "trash" else tmp_path / "moved"


@forks
@pytest.mark.parametrize(("action", "disk"), DISKS)
def test_cut_off_before_any_call_of_the_system_nothing_is_lost_it_is_told_once_and_undo_brings_all_back(
    action: str,
    disk: str,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh: Callable[[str], tuple[World, Path]],
) -> None:
    at, code, told = 0, 9, 0
    while code == 9:
        at += 1
        world, journal = fresh(action)
        before, contents = world.tree(), everything(tmp_path)
        faults = Faults(monkeypatch, disk, other_side(action, tmp_path, home))

        def work(world: World = world, journal: Path = journal, faults: Faults = faults, at: int = at) -> None:
            faults.begin(at, exit_at_once)
            execute(world.plan, journal)

        code = in_child(work)
        assert contents <= everything(tmp_path), at
        found = unfinished()
        told += len(found)
        if at % 2:  # at the other half, undo itself has to see what had happened
            assert settle() == found, at
            assert unfinished() == (), at
            if journal.exists() and b"\n" in journal.read_bytes() and action == "hardlink":
                linked = {step.number for step in read_journal(str(journal)).steps if step.state == "done"}
                assert linked == {n for n, drop in enumerate(world.drops) if same_file(drop.path, drop.keep_path)}
            assert spares(tmp_path) == [], at
        assert len(found) == (code == 9 and journal.exists() and b"\n" in journal.read_bytes()) or at_the_end(journal)
        assert contents <= everything(tmp_path), at
        if journal.exists() and b"\n" in journal.read_bytes():
            assert undo(journal).left == (), at
        assert world.tree() == before, at
        assert spares(tmp_path) == [], at
        assert not [path for path in world.moved.rglob("*") if path.is_file()], at
    assert code == 0
    assert at > 20
    assert told > 12


def at_the_end(journal: Path) -> bool:
    """Tell whether the cut came after the last line was written, before it was known to be on the disk."""
    return b'"finished"' in journal.read_bytes()


@forks
@pytest.mark.parametrize(("action", "disk"), DISKS)
def test_an_undo_that_is_cut_off_anywhere_is_finished_by_the_next(
    action: str,
    disk: str,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh: Callable[[str], tuple[World, Path]],
) -> None:
    at, code = 0, 9
    while code == 9:
        at += 1
        world, journal = fresh(action)
        before, contents = world.tree(), everything(tmp_path)
        faults = Faults(monkeypatch, disk, other_side(action, tmp_path, home))
        execute(world.plan, journal)

        def work(journal: Path = journal, faults: Faults = faults, at: int = at) -> None:
            faults.begin(at, exit_at_once)
            undo(journal)

        code = in_child(work)
        assert contents <= everything(tmp_path), at
        for one in settle():
            assert "undo" in one.told[0]
        assert undo(journal).left == (), at
        assert settle() == ()
        assert world.tree() == before, at
        assert spares(tmp_path) == [], at
        assert not list(tmp_path.rglob("*.trashinfo"))
    assert code == 0
    assert at > 10


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(("action", "disk"), DISKS)
def test_a_full_disk_at_any_call_is_a_line_and_nothing_is_lost(
    action: str,
    disk: str,
    lasting: bool,
    tmp_path: Path,
    home: Path,
    fresh: Callable[[str], tuple[World, Path]],
) -> None:
    at, met = 0, True
    while met:
        at += 1
        world, journal = fresh(action)
        before, contents = world.tree(), everything(tmp_path)
        met = False

        def full() -> None:
            nonlocal met
            met = True
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.MonkeyPatch.context() as patch:
            faults = (FullFrom if lasting else Faults)(patch, disk, other_side(action, tmp_path, home))
            faults.begin(at, full)
            with suppress(StoreError):  # the journal could not begin
                outcome = execute(world.plan, journal)
                assert len(outcome.done) + len(outcome.left) == 2, at
        assert contents <= everything(tmp_path), at
        settle()
        assert contents <= everything(tmp_path), at
        assert spares(tmp_path) == [], at
        if journal.exists() and b"\n" in journal.read_bytes():
            assert undo(journal).left == (), at
        assert world.tree() == before, at
    assert at > 20


class FullFrom(Faults):
    """Fails from the given call on, but for calls that need no room."""

    def _is_now(self, call: int) -> bool:
        return call >= self._at

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return function if name in ("unlink", "remove") else super()._watched(name, function)


def test_a_crash_says_of_each_file_whether_it_was_done(tmp_path: Path) -> None:
    world = make_world(tmp_path, "move")
    journal = Path(str(execute(world.plan).journal))
    lines = journal.read_bytes().splitlines(keepends=True)
    first_done = next(n for n, line in enumerate(lines) if b'"done": 1' in line)
    journal.write_bytes(b"".join(lines[:first_done]) + lines[first_done][:5])
    (found,) = settle()
    assert "cut off after 1 of 4 files" in found.told[0]
    where = world.moved / "0/deep/er/other \udce4.jpg"
    assert found.told[1] == f"{world.drops[1].path}: it was done; the file is in {where}"
    undone = undo(journal)
    assert set(undone.restored) == {world.drops[0].path, world.drops[1].path}


@pytest.mark.parametrize("disk", ["one disk", "other disk"])
def test_a_file_that_changes_at_the_last_moment_is_left_with_its_new_content(
    disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, "move", groups=1)
    del world.drops[1]
    path = Path(world.drops[0].path)
    fsync = os.fsync

    def sneak(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if is_folder and (world.moved / "0/copy.jpg").exists() and sha(path.read_bytes()) == world.drops[0].sha256:
            path.with_name("new").write_bytes(b"new content")
            path.with_name("new").replace(path)
        fsync(descriptor)

    Faults(monkeypatch, disk, world.moved).begin(0, lambda: None)
    monkeypatch.setattr(os, "fsync", sneak)
    outcome = execute(world.plan)
    assert path.read_bytes() == b"new content"
    assert sha(Path(str(outcome.done[0].where)).read_bytes()) == world.drops[0].sha256
    (left,) = undo(str(outcome.journal)).left
    assert "another file has come to its place" in left.reason
    assert path.read_bytes() == b"new content"


@pytest.mark.parametrize("disk", ["other disk", "without links"])
def test_a_file_that_comes_while_another_is_copied_to_its_name_is_not_overwritten(
    disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, "move", groups=1)
    before, target, write = world.tree(), world.moved / "0/copy.jpg", os.write

    def sneak(descriptor: int, data: bytes) -> int:
        if target.parent.exists() and spares(target.parent):
            target.write_bytes(b"came meanwhile")
        return write(descriptor, data)

    Faults(monkeypatch, disk, world.moved).begin(0, lambda: None)
    monkeypatch.setattr(os, "write", sneak)
    outcome = execute(world.plan)
    assert "nothing is overwritten" in reasons(outcome)["copy.jpg"]
    assert target.read_bytes() == b"came meanwhile"
    assert world.tree()["0/copy.jpg"] == before["0/copy.jpg"]
    assert spares(tmp_path) == []


def test_a_hard_link_is_not_made_over_a_file_that_another_program_has_just_put_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, "hardlink", groups=1)
    del world.drops[1]
    path, link = Path(world.drops[0].path), os.link

    def sneak(source: str, target: str) -> None:
        link(source, target)
        path.with_name("new").write_bytes(b"new content")
        path.with_name("new").replace(path)

    monkeypatch.setattr(os, "link", sneak)
    outcome = execute(world.plan)
    assert outcome.done == ()
    assert path.read_bytes() == b"new content"
    (spare,) = spares(tmp_path)
    assert outcome.left[0].reason == f"changed at the last moment; what it held before is in {spare}"
    assert sha(spare.read_bytes()) == world.drops[0].sha256


# Killed for real

DRIVER = """
import json, sys
from lookalike.acting import Action, Drop, Plan, execute, undo
what, journal, given = sys.argv[1:]
plan = json.load(open(given))
def tell(_):
    print("one", flush=True)
tell(0)
if what == "undo":
    undo(journal, tell)
else:
    drops = tuple(Drop(**drop) for drop in plan["drops"])
    execute(Plan(drops, Action.parse(plan["action"]), tuple(plan["roots"])), journal, tell)
"""


def killed(what: str, journal: Path, plan: Path, rng: random.Random) -> None:
    """Run the driver and kill it at a random moment, which some file's turn, drawn by lot, falls in."""
    command = [sys.executable, "-c", DRIVER, what, str(journal), str(plan)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(rng.randrange(1, 30)):
        process.stdout.readline()
    time.sleep(rng.uniform(0, 0.01))
    process.kill()
    process.communicate(timeout=60)


@pytest.mark.parametrize("action", ACTIONS)
def test_killed_at_random_moments_every_distinct_content_still_exists_and_undo_brings_everything_back(
    action: str, tmp_path: Path
) -> None:
    rng = random.Random(6)
    world = make_world(tmp_path, action, groups=20)
    before, contents = world.tree(), everything(tmp_path)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({**world.plan.as_dict(), "roots": [str(world.folder)]}))
    halfway = 0
    for round_ in range(10):
        journal = journal_folder() / f"{round_}.jsonl"
        killed("execute", journal, plan, rng)
        assert contents <= everything(tmp_path)
        halfway += 0 < sum(not os.path.exists(drop.path) or os.path.samefile(drop.path, drop.keep_path)
                           for drop in world.drops) < len(world.drops)  # fmt: skip
        if not journal.exists() or b"\n" not in journal.read_bytes():
            continue
        killed("undo", journal, plan, rng)
        assert contents <= everything(tmp_path)
        settle()
        assert contents <= everything(tmp_path)
        assert undo(journal).left == ()
        assert world.tree() == before
        assert spares(tmp_path) == []
    assert halfway >= 3, "too few of the kills came while something was being done"


@pytest.fixture(scope="module", autouse=True)
def quiet_umask() -> Iterator[None]:
    """The same modes everywhere."""
    before = os.umask(0o022)
    yield
    os.umask(before)
