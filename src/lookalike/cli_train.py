"""The verb ``lookalike train``: learn the similarity from what a user knows, and keep it only if it helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lookalike.printing import json_option, print_json, print_skipped, progress, safe

if TYPE_CHECKING:
    from lookalike.apps.train import Trained


@click.command()
@click.argument("labelled", metavar="[LABELED]", required=False, type=click.Path())
@click.option("--as", "name", metavar="NAME", required=True, help="How the learned encoder is to be called.")
@click.option("--pairs", metavar="FILE", type=click.Path(), help="Learn from pairs: CSV or JSONL with a, b, same.")
@click.option("--unlabeled", metavar="FOLDER", type=click.Path(), help="Learn from pictures and their edited copies.")
@click.option("--from-marks", "marks", metavar="GALLERY", type=click.Path(), help="Learn from what people marked.")
@click.option(
    "--encoder", metavar="NAME", default="efficientnet-lite0", show_default=True, help="What it is learned on."
)
@click.option(
    "--loss",
    type=click.Choice(["numpy", "triplet", "contrastive", "arcface", "cosface", "supcon", "proxy-anchor"]),
    default="numpy",
    show_default=True,
    help="How it is learned: numpy whitens and refines without torch; the others need [train].",
)
@click.option(
    "--mode",
    type=click.Choice(["head", "finetune"]),
    default="head",
    show_default=True,
    help="A head on the encoder's vectors, or the network whole (needs a loss; hours without a GPU).",
)
@click.option(
    "--head", type=click.Choice(["linear", "mlp"]), default="linear", show_default=True, help="What a loss learns."
)
@click.option(
    "--epochs", type=click.IntRange(min=1), help="How many at most.  [default: 60 for a head, 4 for a network]"
)
@click.option("--rate", type=float, help="How fast a loss learns.  [default: .001 for a head, .0003 for a network]")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where a loss runs."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws who judges.")
@click.option("--keep-anyway", is_flag=True, help="Keep it without a gain.")
@json_option
def train(
    labelled: str | None,
    name: str,
    pairs: str | None,
    unlabeled: str | None,
    marks: str | None,
    encoder: str,
    loss: str,
    mode: str,
    head: str,
    epochs: int | None,
    rate: float | None,
    device: str,
    seed: int,
    keep_anyway: bool,
    as_json: bool,
) -> None:
    """Learn what is alike from your own labels, and keep it as an encoder if it helps.

    \b
        lookalike train LABELED --as mine             a folder a class, or a CSV or JSONL with path and label
        lookalike train --pairs pairs.csv --as mine
        lookalike index FOLDER --encoder mine         what came out is an encoder like any other

    Whole classes (groups, where the file names some; near duplicates always) are kept apart to judge by. If the
    interval of the gain includes zero, nothing is kept.
    """
    from lookalike.apps.train import TrainRequest
    from lookalike.apps.train import train as run

    request = TrainRequest(
        name=name,
        labelled=labelled,
        pairs=pairs,
        unlabeled=unlabeled,
        marks=marks,
        encoder=encoder,
        learner=loss,
        head=head,
        mode=mode,
        epochs=epochs,
        rate=rate,
        device=device,
        seed=seed,
        keep_anyway=keep_anyway,
    )
    with progress("pictures") as done:
        found = run(request, done, lambda line: click.echo(f"note: {safe(line)}", err=True))
    if as_json:
        return print_json(found.as_dict())
    _print(found)
    print_skipped(found.skipped)
    return None


def _print(found: Trained) -> None:
    from lookalike.apps.train_card import figure_rows

    of, split = found.found, found.sides
    click.echo(f"{of.pictures} pictures of {of.labels} labels; {split['test']} of classes or groups never seen judge")
    click.echo(f"learned: {safe(found.learned)}")
    for figure, before, after, difference, interval in figure_rows(found):
        click.echo(f"  {figure:14} {before} -> {after}   {difference} ({interval})")
    for note in found.notes:
        click.echo(f"note: {safe(note)}")
    for one in found.worst[:5]:
        click.echo(f"still wrong: {safe(one['query'])} (its own came at {one['rank']})")
    if found.entry is not None:
        click.echo(f"installed: {found.entry.name}; lookalike index FOLDER --encoder {found.entry.name}")
        if not found.gained:
            click.echo("no gain: it was kept because of --keep-anyway")
    else:
        click.echo("no gain: nothing was kept; --keep-anyway keeps it all the same")
