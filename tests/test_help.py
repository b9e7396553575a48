"""Help is quick: nothing heavy is imported to print it."""

from __future__ import annotations

import json

import click
import pytest

import lookalike
from conftest import Cli
from lookalike.cli import cli as command

HEAVY = ["numpy", "PIL", "onnxruntime", "onnx", "cv2", "jinja2", "simplejpeg", "sqlite3", "faiss", "pyarrow", "tqdm"]
HEAVY += ["ai_edge_litert", "filelock", "tokenizers", "urllib.request"]
LOADED = f"""
import json, sys
from lookalike.__main__ import run
code = run(sys.argv[1:])
print(json.dumps([code, [name for name in {HEAVY} if name in sys.modules]]), file=sys.stderr)
"""
EVERY_HELP = """
import contextlib, io, json, sys
from lookalike.__main__ import run
from lookalike.cli import cli
texts = {}
for verb in ["", *cli.commands]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert run([verb, "--help"] if verb else ["--help"]) == 0
    texts[verb] = out.getvalue()
heavy = [name for name in json.loads(sys.argv[1]) if name in sys.modules]
print(json.dumps([texts, heavy]))
"""


def test_no_help_imports_anything_heavy_and_each_tells_what_its_verb_does(shell: Cli) -> None:
    ran = shell(json.dumps(HEAVY), program=EVERY_HELP)
    assert ran.code == 0, ran.err
    texts, heavy = ran.json
    assert heavy == []
    assert set(texts) == {"", *command.commands}
    for verb, text in texts.items():
        assert text.startswith(f"Usage: lookalike {verb}".rstrip())
        if verb:
            assert str(command.commands[verb].help).split("\n", maxsplit=1)[0].split(".")[0] in " ".join(text.split())


@pytest.mark.parametrize("arguments", [["--version"], ["encoders", "--json"], ["clpi"], ["search", "--nope"]])
def test_neither_do_versions_lists_and_slips(shell: Cli, arguments: list[str]) -> None:
    code, heavy = json.loads(shell(*arguments, program=LOADED).err.strip().split("\n")[-1])
    assert (code, heavy) == (0 if arguments[0] in {"--version", "encoders"} else 2, [])


def test_every_verb_that_answers_has_json() -> None:
    for name, verb in command.commands.items():
        # A verb of verbs answers by these.
        parts = verb.commands.values() if isinstance(verb, click.Group) and not verb.invoke_without_command else [verb]
        for part in parts:
            assert "--json" in [option for parameter in part.params for option in parameter.opts], name


def test_every_name_that_the_package_offers_can_be_had() -> None:
    for name in lookalike.__all__:
        found = getattr(lookalike, name)
        assert found.__name__ == name
        assert found.__doc__
