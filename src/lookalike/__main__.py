"""Run the command, and turn errors into one line on stderr and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys

import click

from lookalike.cli import ReaderGone, cli
from lookalike.errors import LookalikeError

_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main() -> None:
    """Run ``lookalike``. Exit 0 fine, 1 unexpected, 2 input or config, 3 store, 11 found, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # where the terminal knows fewer letters than file names do
    # What manages services and containers stops them so: nothing is lost by it either, and no process is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command with these arguments and return its exit code."""
    try:
        code = cli.main(arguments, prog_name="lookalike", standalone_mode=False)
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n", err=True)
        click.echo(f"Error: {_printable(error.format_message())}", err=True)
        return error.exit_code
    except LookalikeError as error:
        click.echo(f"lookalike: {_printable(str(error))}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "lookalike: interrupted; what was kept is whole: the same command goes on from it, or begins anew", err=True
        )
        return _INTERRUPTED
    except (BrokenPipeError, ReaderGone):
        # The reader went away (`lookalike list | head`): say nothing, and let Python not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    return code if isinstance(code, int) else 0


def _printable(message: str) -> str:
    """A message may hold a file name: no control character reaches the terminal, and no line of it passes for ours."""
    lines = message.split("\n")
    if not all(map(str.isprintable, lines)):
        from lookalike.types import display_path  # noqa: PLC0415 - numpy, for what is seldom wanted

        lines = list(map(display_path, lines))
    return "\n  ".join(lines)


if __name__ == "__main__":
    main()
