"""The verb ``lookalike recommend``: items for several likes and dislikes."""

from __future__ import annotations

import click

from lookalike.printing import gallery_option, json_option, print_json, safe


@click.command()
@click.argument("likes", nargs=-1, metavar="ID...", required=True)
@gallery_option
@click.option("--less", metavar="ID", multiple=True, help="What is disliked; may be given several times.")
@click.option("--where", metavar="FILTER", help="""Only items for which this holds, such as 'price < 20'.""")
@click.option(
    "--diversity",
    metavar="SHARE",
    type=float,
    default=0.3,
    show_default=True,
    help="0: the closest; 1: the most varied.",
)
@click.option("-k", "k", metavar="N", type=int, default=10, show_default=True, help="How many.")
@json_option
def recommend(
    likes: tuple[str, ...],
    gallery: str,
    less: tuple[str, ...],
    where: str | None,
    diversity: float,
    k: int,
    as_json: bool,
) -> None:
    """Recommend items to who likes some, by id or path, and dislikes others; say which like each came from.

    Several tastes are all served; no two near copies are shown, and none of what was named.
    """
    from lookalike.apps.recommend import Recommender
    from lookalike.gallery import Gallery

    with Gallery.open(gallery, create=False) as opened:
        found = Recommender(opened, where=where, diversity=diversity).fit(likes, less).decide(k)
    if as_json:
        return print_json(found.as_dict())
    for rank, hit in enumerate(found.hits, 1):
        because = safe(hit.because.path or hit.because.id)
        click.echo(f"{rank:4}  {hit.score:8.4f}  {safe(hit.id)}  {safe(hit.path or '-')}  because of {because}")
    if not found.hits:
        click.echo("no hit")
    if found.copies and len(found.hits) < k:
        click.echo(f"left out: {found.copies} near copies of these, or of what was named", err=True)
    return None
