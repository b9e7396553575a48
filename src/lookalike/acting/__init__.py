"""Act on files that are not wanted, and take it back: trash, move or hard link, each step in a journal first.

    execute(plan)      does it: what cannot be done safely is left alone, with the reason
    undo(journal)      brings everything back, in reverse order; may be run again at any time
    settle(folder)     finds runs that a crash cut off, says what had happened, and closes their journals

A file is touched only while the kept one has been read again and has the bytes it had when the two were compared.
Whatever happens, the process killed at any moment included, every content that was there still is: in its place, in the
trash, in the folder it was moved to, or in the file that it is now a second name of.
"""

from __future__ import annotations

from lookalike.acting.alone import journal_folder
from lookalike.acting.plan import Action, Done, Drop, Outcome, Plan, Undone, Unfinished
from lookalike.acting.running import execute
from lookalike.acting.settling import settle, unfinished
from lookalike.acting.undoing import undo

__all__ = [
    "Action",
    "Done",
    "Drop",
    "Outcome",
    "Plan",
    "Undone",
    "Unfinished",
    "execute",
    "journal_folder",
    "settle",
    "undo",
    "unfinished",
]
