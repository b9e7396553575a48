"""The verbs ``lookalike dedupe`` and ``leaks``: copies in a folder and across two; what is done to them, and undone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lookalike.printing import FOUND, json_option, print_json, print_lines, print_skipped, progress, safe

if TYPE_CHECKING:
    from lookalike.acting import Outcome, Plan
    from lookalike.duplicates import Duplicates
    from lookalike.gallery import Gallery

level_option = click.option(
    "--level",
    type=click.Choice(["exact", "near", "edited"]),
    default="edited",
    show_default=True,
    help="How far to look: same bytes or pixels; also resized, recompressed, turned; also cropped, framed, written on.",
)
encoder_option = click.option(
    "--encoder", metavar="NAME", default="efficientnet-lite0", show_default=True, help="What proposes edited copies."
)


@click.command()
@click.argument("folders", nargs=-1, metavar="FOLDER...", type=click.Path())
@click.option("--reference", metavar="FOLDER", multiple=True, type=click.Path(), help="Protected: compared, and stays.")
@level_option
@click.option(
    "--precision", metavar="SHARE", type=float, help="Set thresholds on these folders, for this share of right links."
)
@click.option("--gallery", "-g", metavar="DIR", help="Honour its marks, and decode only what is new.")
@encoder_option
@click.option(
    "--keep",
    type=click.Choice(["best", "largest", "oldest", "newest", "shortest-path"]),
    default="best",
    show_default=True,
    help="Which one of a group is kept.",
)
@click.option("--action", metavar="WHAT", help="What is done to the others: trash, move:DIR or hardlink.")
@click.option("--yes", is_flag=True, help="Do it. Without it, --action says what it would do.")
@click.option("--journal", metavar="FILE", type=click.Path(), help="Where the action is written down, for --undo.")
@click.option("--undo", metavar="JOURNAL", type=click.Path(), help="Take an action back.")
@click.option("--html", metavar="FILE", type=click.Path(), help="Write a page: copies side by side, with the evidence.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV on stdout, a row a picture.")
@json_option
def dedupe(
    folders: tuple[str, ...],
    reference: tuple[str, ...],
    level: str,
    precision: float | None,
    gallery: str | None,
    encoder: str,
    keep: str,
    action: str | None,
    yes: bool,
    journal: str | None,
    undo: str | None,
    html: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Find exact and near duplicates, with the evidence for each; act on them only when told to.

    \b
        lookalike dedupe ~/Pictures                                   shows what there is, changes nothing
        lookalike dedupe ~/Pictures --html copies.html                the same, to look at
        lookalike dedupe ~/Pictures --action trash                    says what would be done
        lookalike dedupe ~/Pictures --action trash --yes              does it
        lookalike dedupe --undo JOURNAL                               takes it back

    Every picture of a group was verified against the one that is kept. What is no copy after all:
    `lookalike mark different A B -g GALLERY`, and it is not shown again with that gallery.
    """
    from lookalike.acting import Action
    from lookalike.apps.dedupe import Request, find_duplicates, plan_of, write_csv
    from lookalike.copies.links import Level
    from lookalike.report_dedupe import write_copies
    from lookalike.tables import check_output

    _tell_unfinished()
    if undo is not None:
        return _undo(undo, folders, action, as_json)
    _refuse(folders, action, yes, journal, as_csv, as_json)
    if html:
        check_output(Path(html), ".html", ".htm")
    if action:
        Action.parse(action)
    with _opened(gallery) as opened, progress("pictures") as count, _stages() as stages:
        request = Request(Level(level), reference, keep, encoder, precision=precision)
        found = find_duplicates(*folders, request=request, gallery=opened, progress=count, stages=stages)
    if html:
        write_copies(Path(html), found, folders)
        click.echo(f"report: {safe(html)}", err=True)
    plan = plan_of(found, action, folders, reference) if action else None
    outcome = _done(plan, journal) if plan is not None and yes else None
    if as_csv:
        write_csv(found, sys.stdout)
    elif as_json:
        acted = {} if plan is None else {"plan": plan.as_dict()} if outcome is None else {"outcome": outcome.as_dict()}
        return print_json({**found.as_dict(), **acted})
    else:
        _print(found, plan, outcome)
    print_skipped((*found.skipped, *(outcome.left if outcome else ())))
    return None


@click.command()
@click.argument("train", metavar="TRAIN", type=click.Path())
@click.argument("test", metavar="TEST", type=click.Path())
@level_option
@encoder_option
@json_option
def leaks(train: str, test: str, level: str, encoder: str, as_json: bool) -> int | None:
    """Find pictures of TEST that have a copy in TRAIN: a model that learned it is tested on what it knows.

    Exit code 11 where there is one, 0 where there is none.
    """
    from lookalike.apps.dedupe import Request, find_leaks
    from lookalike.copies.links import Level

    with progress("pictures") as count, _stages() as stages:
        found = find_leaks(train, test, Request(Level(level), encoder=encoder), count, stages)
    if as_json:
        print_json(found.as_dict())
    else:
        for pair in found.pairs:
            change = pair.evidence.get("change", "none")
            click.echo(
                f"{pair.kind:6}  {safe(pair.a)}  {safe(pair.b)}" + ("" if change == "none" else f"  {safe(change)}")
            )
        click.echo(
            f"{len(found.leaked)} of {found.pictures[1]} pictures of {safe(test)} have a copy among the "
            f"{found.pictures[0]} of {safe(train)}"
        )
        print_skipped(found.skipped)
    return FOUND if found.pairs else None


def _refuse(
    folders: Sequence[str], action: str | None, yes: bool, journal: str | None, as_csv: bool, as_json: bool
) -> None:
    wrong = {
        "name a FOLDER to look for copies in (or --undo JOURNAL)": not folders,
        "--yes does what --action says: name one": yes and not action,
        "--journal belongs to --action … --yes": journal is not None and not (action and yes),
        "--csv or --json: one of the two": as_csv and as_json,
    }
    for told, is_so in wrong.items():
        if is_so:
            raise click.UsageError(told)


@contextmanager
def _opened(gallery: str | None) -> Iterator[Gallery | None]:
    """Open the gallery whose marks count; a new one is made, so that the next run is quick."""
    from lookalike.gallery import Gallery

    if gallery is None:
        yield None
        return
    with Gallery.open(gallery) as opened:
        yield opened


@contextmanager
def _stages() -> Iterator[Callable[[str, int, int], None]]:
    """Show on stderr how far the tests of pairs are."""
    from tqdm import tqdm

    with tqdm(unit=" pairs", disable=None, leave=False) as bar:

        def show(stage: str, done: int, total: int) -> None:
            bar.set_description(stage, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _tell_unfinished() -> None:
    from lookalike.acting import settle

    for one in settle():
        for line in one.told:
            click.echo(f"warning: {safe(line)}", err=True)
        click.echo(f"warning: the journal of it: {safe(one.journal)} (dedupe --undo takes it back)", err=True)


def _undo(journal: str, folders: Sequence[str], action: str | None, as_json: bool) -> None:
    from lookalike.acting import undo

    if folders or action:
        raise click.UsageError("--undo takes back what a journal says; it goes without FOLDER and --action")
    done = undo(journal)
    if as_json:
        return print_json(done.as_dict())
    for path in done.restored:
        click.echo(f"restored {safe(path)}")
    earlier = f", {done.earlier} were back before" if done.earlier else ""
    click.echo(f"{len(done.restored)} files are back in their places{earlier}, {len(done.left)} are not")
    print_skipped(done.left)
    return None


def _done(plan: Plan, journal: str | None) -> Outcome:
    from lookalike.acting import execute

    with progress("files") as count:
        return execute(plan, journal, count)


def _print(found: Duplicates, plan: Plan | None, outcome: Outcome | None) -> None:
    from lookalike import wording

    print_lines(wording.copies(found))
    if outcome is not None:
        for one in outcome.done:
            click.echo(f"done: {safe(one.path)} -> {safe(one.where or 'trash')}")
        click.echo(f"{len(outcome.done)} files dropped, {len(outcome.left)} left alone")
        if outcome.journal:
            click.echo(f"to take it back: lookalike dedupe --undo {safe(outcome.journal)}")
    elif plan is not None:
        for drop in plan.drops:
            click.echo(f"would {plan.action}: {safe(drop.path)} (kept: {safe(drop.keep_path)})")
        click.echo(f"nothing was done; with --yes, {len(plan.drops)} files would be dropped")
