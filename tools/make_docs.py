"""Write docs/cli.md from ``--help``, or check (``--check``) that it says what the command says."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lookalike.cli import cli

OUTPUT = Path("docs/cli.md")
SHAPES = Path("docs/cli.json-shapes.md")
HEAD = """# The command

Made by `make docs` from `lookalike --help`; `make check` fails where it is out of date.
"""


def main() -> int:
    """Write or check; return an exit code."""
    text = HEAD + "".join(f"\n## {title}\n\n```text\n{help_}\n```\n" for title, help_ in helps()) + shapes()
    if "--check" not in sys.argv:
        OUTPUT.write_text(text, encoding="utf-8")
        return 0
    if OUTPUT.read_text(encoding="utf-8") == text:
        return 0
    print(f"{OUTPUT} is out of date: run `make docs`", file=sys.stderr)
    return 1


def helps() -> list[tuple[str, str]]:
    """Return the title and help of the command and of each verb."""
    root = click.Context(cli, info_name="lookalike", terminal_width=100, **cli.context_settings)
    verbs = [(name, click.Context(verb, root, info_name=name)) for name, verb in cli.commands.items()]
    found = [("lookalike", root.get_help())]
    for name, context in verbs:
        found.append((f"lookalike {name}", context.command.get_help(context)))
        inner = context.command.commands if isinstance(context.command, click.Group) else {}
        for below, verb in inner.items():
            within = click.Context(verb, context, info_name=below)
            found.append((f"lookalike {name} {below}", verb.get_help(within)))
    return found


def shapes() -> str:
    """Return the hand-written part: the JSON of each verb."""
    return "\n" + SHAPES.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
