"""Run the command, and turn errors into one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys

import click

from lookalike.cli import cli
from lookalike.errors import LookalikeError

_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main() -> None:
    """Run ``lookalike``. Exit 0 fine, 1 unexpected, 2 input or config, 3 store, 11 found, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command with these arguments and return its exit code."""
    try:
        cli.main(arguments, prog_name="lookalike", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except LookalikeError as error:
        click.echo(f"lookalike: {_printable(str(error))}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("lookalike: interrupted; what was counted is kept, the same command goes on from there", err=True)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`lookalike list | head`): say nothing, and let Python not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    return 0


def _printable(message: str) -> str:
    """A message may hold a file name: no control character of it reaches the terminal."""
    from lookalike.types import display_path  # noqa: PLC0415 - not to import numpy for --help

    return "\n".join(map(display_path, message.split("\n")))


if __name__ == "__main__":
    main()
