"""The verb ``lookalike encoders``: what can be had, and how it comes here. One function a verb; each calls one app."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from lookalike.printing import json_option, print_json, progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from lookalike.apps.pull import Offer
    from lookalike.encoders.catalog import Entry


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def encoders(context: click.Context, as_json: bool) -> None:
    """List the encoders, and fetch, make, add, check and remove them.

    Without a verb it lists them: which are installed, where they come from, under which licence.
    """
    if context.invoked_subcommand is None:
        _list(as_json)


@encoders.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the encoders: which are installed, where they come from, under which licence."""
    _list(as_json)


@encoders.command()
@click.argument("name")
@json_option
def info(name: str, as_json: bool) -> None:
    """Tell all that is known of one encoder, and how it comes here."""
    from lookalike.encoders.catalog import entry

    found = entry(name)
    if as_json:
        return print_json(found.as_dict())
    for key, value in found.as_dict().items():
        if value not in (None, {}, ""):
            click.echo(f"{key:13} {value}")
    if not found.installed and found.way:
        click.echo(f"{'to get it':13} {found.way}")
    return None


@encoders.command()
@click.argument("model", type=click.Path())
@click.option("--recipe", metavar="FILE", type=click.Path(), required=True, help="How pictures are prepared: TOML.")
@click.option("--as", "name", metavar="NAME", required=True, help="How it is to be called.")
@click.option("--output", metavar="TENSOR", help="Which output is the embedding, where the model has several.")
@click.option("--licence", metavar="TEXT", help="What its weights may be used for.")
@click.option("--source", metavar="TEXT", help="Where it comes from.")
@click.option("--good-for", metavar="TEXT", help="What it is good for.")
@json_option
def add(
    model: str,
    recipe: str,
    name: str,
    output: str | None,
    licence: str | None,
    source: str | None,
    good_for: str | None,
    as_json: bool,
) -> None:
    """Add a model of your own: .onnx, or .tflite with [litert]. It is tried before it is kept."""
    from lookalike.apps.encoders import About
    from lookalike.apps.encoders import add as run

    made = run(model, recipe, name, output=output, about=About(licence, source, good_for))
    _told(made, as_json)


@encoders.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove an encoder that was added, fetched or made. Galleries keep its vectors."""
    from lookalike import installed

    installed.remove(name)
    click.echo(f"removed: {name}", err=True)


@encoders.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Fetch it without asking.")
@json_option
def pull(name: str, yes: bool, as_json: bool) -> None:
    """Fetch an encoder of the catalog: shows its licence and size and asks; goes on where it was interrupted."""
    from lookalike.apps.pull import pull as run

    def ask(offer: Offer) -> bool:
        click.echo(f"{offer.name}: {offer.architecture}\n    from {offer.url}", err=True)
        click.echo(f"    licence {offer.licence}, {offer.size:,} bytes", err=True)
        return yes or click.confirm("Fetch it?", err=True)

    with ExitStack() as shown:
        counters: list[Callable[[int], None]] = []

        def count(more: int) -> None:
            if not counters:  # the counter begins after the question
                counters.append(shown.enter_context(progress("bytes")))
            counters[0](more)

        made = run(name, ask=ask, progress=count)
    _told(made, as_json)


def _told(entry: Entry, as_json: bool) -> None:
    """Say what is installed now."""
    if as_json:
        return print_json(entry.as_dict())
    click.echo(f"installed: {entry.name} ({entry.dim} numbers); lookalike index FOLDER --encoder {entry.name}")
    return None


def _list(as_json: bool) -> None:
    from lookalike.encoders.catalog import catalog
    from lookalike.installed import cards

    entries = catalog()
    for line in cards()[1]:
        click.echo(f"warning: {line}", err=True)
    if as_json:
        return print_json({"encoders": [entry.as_dict() for entry in entries]})
    for entry in entries:
        state = "installed" if entry.installed else f"not installed: {entry.way}"
        click.echo(f"{entry.name}  ({entry.dim} numbers, {entry.licence or 'licence not told'}; {state})")
        click.echo(f"    {entry.good_for or entry.architecture or ''}\n    from {entry.source}")
    return None
