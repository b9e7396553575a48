"""The verb ``lookalike monitor``: the state of places that a fixed camera sees, and when it changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from lookalike.printing import json_option, safe


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--states", metavar="DIR", type=click.Path(), help="A folder a state, 1 to 10 reference pictures each.")
@click.option("--regions", metavar="CSV", type=click.Path(), help="Boxes: name,cx,cy,w,h,angle, in pixels of the view.")
@click.option("--levels", metavar="A=0,B=1", help="What a level of 0 and of 1 is.  [default: two states, by name]")
@click.option("--view", metavar="FILE", type=click.Path(), help="The reference view.  [default: the first frame]")
@click.option(
    "--jsonl", metavar="FILE", type=click.Path(), help="Append the lines to a file, not stdout (with --json: to both)."
)
@click.option("--html", metavar="FILE", type=click.Path(), help="Write a timeline, renewed every half minute.")
@click.option("--pictures", metavar="DIR", type=click.Path(), help="Save each event's pictures, before and after.")
@click.option("--memory", metavar="FILE", type=click.Path(), help="What is known, to go on from after a restart.")
@click.option("--once", is_flag=True, help="Stop when what is there now was looked at; of a camera, one frame.")
@click.option("--dwell", metavar="N", default=3, show_default=True, help="In how many frames a state must be seen.")
@click.option("--every", metavar="N", default=1, show_default=True, help="Look at one frame of N.")
@click.option("--budget-ms", metavar="MS", type=float, help="CPU a frame, in the mean; others are passed over.")
@click.option("--stall", metavar="S", type=float, default=60.0, show_default=True, help="Told when nothing new came.")
@click.option("--no-register", is_flag=True, help="The camera never moves: spare the time.")
@click.option("--no-adapt", is_flag=True, help="Learn nothing while running.")
@click.option("--events-only", is_flag=True, help="Only lines that tell an event.")
@click.option(
    "--encoder", metavar="NAME", default="efficientnet-lite0", show_default=True, help="What sees the states."
)
@json_option
def monitor(
    source: str,
    states: str | None,
    regions: str | None,
    levels: str | None,
    view: str | None,
    jsonl: str | None,
    html: str | None,
    pictures: str | None,
    memory: str | None,
    once: bool,
    dwell: int,
    every: int,
    budget_ms: float | None,
    stall: float,
    no_register: bool,
    no_adapt: bool,
    events_only: bool,
    encoder: str,
    as_json: bool,
) -> None:
    """Watch a fixed camera: what state is a place in, how full, and when did that change.

    SOURCE is a folder (new files in the order of their names), a video file, camera:0, an address such as rtsp://…,
    or - for JPEG and PNG pictures on stdin, one after another (ffmpeg … -f image2pipe -c:v mjpeg -).

    \b
        lookalike monitor frames/ --states states/ --html timeline.html     states/empty/*.jpg, states/food/*.jpg
        lookalike monitor frames/                                           no references: what changed?
        lookalike monitor camera:0 --states states/ --regions bowls.csv --memory bowls.memory --events-only

    Prints one JSON object a line, for each region of each frame, with --json or without.
    """
    from lookalike.apps.monitor import Request, parse_levels
    from lookalike.apps.monitor import monitor as run

    request = Request(
        states, regions, parse_levels(levels), view, encoder, dwell, every, budget_ms, not no_register, not no_adapt,
        memory, pictures, html, once, stall,
    )  # fmt: skip
    with _lines(jsonl) as write:

        def emit(line: Mapping[str, Any]) -> None:
            if line["event"] is not None or not events_only:
                text = json.dumps(line, allow_nan=False)
                write(text)
                if as_json and jsonl:
                    click.echo(text)

        watched = run(source, request, emit, lambda text: click.echo(safe(text), err=True))
    passed = f", {watched.passed} passed over" if watched.passed else ""
    looked = f"{watched.looked} of {watched.came} frames looked at{passed}"
    click.echo(f"{looked}; {watched.events} events, {watched.skipped} skipped", err=True)


@contextmanager
def _lines(path: str | None) -> Iterator[Callable[[str], None]]:
    """Lend what writes a line, at once, to a file or to stdout."""
    from lookalike.errors import StoreError

    if path is None:
        yield click.echo  # which flushes
        return
    try:
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    with file:

        def write(line: str) -> None:
            try:
                file.write(line + "\n")
                file.flush()
            except OSError as error:
                raise StoreError(f"cannot write {path}: {error.strerror or error}") from error

        yield write
