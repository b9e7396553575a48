"""The command: shapes of its JSON, exit codes, messages; nothing in a file name harms a terminal."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from conftest import Cli, Ran, age
from lookalike import Gallery, registry
from lookalike.stores import schema
from lookalike.types import Embeddings, Item

HISTOGRAM = ("--encoder", "color-histogram")
SPACE_KEYS = {"encoder", "version", "preprocess", "dim"}


@pytest.fixture
def indexed(cli: Cli, photos: Path) -> Path:
    """Eight photos, indexed into the default gallery."""
    assert cli("index", photos, *HISTOGRAM).code == 0
    return photos


def ids(cli: Cli) -> dict[str, str]:
    return {Path(item["path"]).name: item["id"] for item in cli("list", "--json").json["items"]}


def refused(ran: Ran, code: int, *words: str) -> bool:
    """Nothing on stdout, one message of ours on stderr that holds these words, and no traceback."""
    assert (ran.code, ran.out) == (code, ""), (ran.code, ran.out, ran.err)
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err
    return True


# The JSON of each verb, as documented


def test_index_json(cli: Cli, photos: Path) -> None:
    (photos / "broken.jpg").write_text("a text")
    ran = cli("index", photos, *HISTOGRAM, "--json")
    skipped = ran.json["skipped"]
    assert ran.json == {"added": 8, "updated": 0, "unchanged": 0, "removed": 0, "skipped": skipped}
    assert [set(line) for line in skipped] == [{"path", "reason"}]
    assert skipped[0]["path"] == str(photos / "broken.jpg")
    assert cli("index", photos).out == "0 added, 0 updated, 8 unchanged, 0 removed, 1 skipped\n"


def test_search_json(cli: Cli, indexed: Path) -> None:
    ran = cli("search", indexed / "coffee.jpg", indexed / "coins.jpg", "-k", 3, "--json")
    assert set(ran.json) == {"metric", "space", "queries", "skipped"}
    assert ran.json["metric"] == "cosine"
    assert set(ran.json["space"]) == SPACE_KEYS
    assert ran.json["skipped"] == []
    for query, name in zip(ran.json["queries"], ("coffee.jpg", "coins.jpg"), strict=True):
        assert set(query) == {"query", "exact", "hits"}
        assert (query["query"], query["exact"], len(query["hits"])) == (str(indexed / name), True, 3)
        assert [set(hit) for hit in query["hits"]] == [{"id", "path", "score", "metadata"}] * 3
        assert query["hits"][0]["path"] == str(indexed / name)
        assert query["hits"][0]["score"] == pytest.approx(1, abs=1e-5)


def test_info_json(cli: Cli, indexed: Path) -> None:
    facts = cli("info", "--json").json
    assert {"items", "space", "metric", "schema", "spaces", "roots"} <= set(facts)
    assert (facts["items"], facts["metric"], facts["roots"]) == (8, "cosine", [str(indexed)])
    assert set(facts["space"]) == SPACE_KEYS
    assert facts["spaces"] == [{**facts["space"], "vectors": 8}]


def test_list_and_show_json(cli: Cli, indexed: Path) -> None:
    cli("index", indexed, "--set", "album=x")
    items = cli("list", "--where", 'album = "x"', "--json").json["items"]
    assert len(items) == 8
    assert set(items[0]) == {"id", "path", "metadata", "content", "width", "height"}
    assert cli("show", items[0]["id"], items[1]["path"], "--json").json == {"items": items[:2]}
    assert cli("list", "--where", "album = 1", "--json").json == {"items": []}
    shown = cli("show", items[0]["id"]).out
    assert f"id: {items[0]['id']}\n" in shown
    assert 'metadata: {"album": "x"}\n' in shown


def test_remove_json(cli: Cli, indexed: Path) -> None:
    assert cli("remove", ids(cli)["coffee.jpg"], indexed / "coins.jpg", "--json").json == {"removed": 2}
    assert (indexed / "coffee.jpg").exists()
    assert cli("remove", indexed / "rocket.jpg").out == "1 removed\n"
    assert len(ids(cli)) == 5


def test_encoders_json(cli: Cli) -> None:
    entries = {entry["name"]: entry for entry in cli("encoders", "--json").json["encoders"]}
    assert [name for name, entry in entries.items() if entry["installed"]] == registry.names("encoder")
    for entry in entries.values():
        assert {"name", "installed", "dim", "source", "licence"} <= set(entry)
    assert entries["efficientnet-lite0"]["dim"] == 1280
    assert "efficientnet-lite0  (1280 numbers, Apache-2.0; installed)" in cli("encoders").out
    assert cli("encoders", "list").out == cli("encoders").out


# Searching


def test_a_table_of_hits_has_rank_score_id_and_path(cli: Cli, indexed: Path) -> None:
    lines = cli("search", indexed / "coffee.jpg", "-k", 2).out.splitlines()
    assert lines[0].split() == ["1", "1.0000", ids(cli)["coffee.jpg"], str(indexed / "coffee.jpg")]
    assert len(lines) == 2


def test_like_searches_with_what_is_stored_and_opens_no_picture(cli: Cli, indexed: Path) -> None:
    known = ids(cli)
    for path in indexed.iterdir():
        path.unlink()
    ran = cli("search", "--like", known["coffee.jpg"], "--like", indexed / "coins.jpg", "-k", 1, "--json")
    assert [query["hits"][0]["id"] for query in ran.json["queries"]] == [known["coffee.jpg"], known["coins.jpg"]]
    assert refused(cli("search", "--like", "nobody"), 2, "nobody", "lookalike list")


def test_together_asks_once_by_the_mean_direction(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    pair = [indexed / "coffee.jpg", indexed / "coins.jpg"]
    ran = cli("search", "--together", *pair, "-k", 8, "--json")
    with Gallery.open(tmp_path / "cli.gallery") as gallery:
        mean = gallery.embeddings([str(path) for path in pair]).vectors.astype(np.float64).mean(axis=0)
        mean /= np.linalg.norm(mean)
        want = {item.id: float(gallery.embeddings([item.id]).vectors[0] @ mean) for item in gallery.items()}
    (query,) = ran.json["queries"]
    assert query["query"] == " + ".join(map(str, pair))
    assert {hit["id"]: hit["score"] for hit in query["hits"]} == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "manhattan"])
def test_the_metric_is_the_one_asked_for(cli: Cli, indexed: Path, metric: str, tmp_path: Path) -> None:
    hits = cli("search", indexed / "coffee.jpg", "--metric", metric, "--json").json["queries"][0]["hits"]
    with Gallery.open(tmp_path / "cli.gallery") as gallery:
        a = gallery.embeddings([hits[0]["id"]]).vectors[0].tolist()
        b = gallery.embeddings([hits[5]["id"]]).vectors[0].tolist()
    want = {
        "cosine": sum(x * y for x, y in zip(a, b, strict=True)),
        "euclidean": sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5,
        "manhattan": sum(abs(x - y) for x, y in zip(a, b, strict=True)),
    }
    assert hits[5]["score"] == pytest.approx(want[metric], abs=1e-4)


def test_one_bad_query_among_several_is_skipped_and_a_single_one_refused(cli: Cli, indexed: Path) -> None:
    (indexed / "text.jpg").write_text("a text")
    ran = cli("search", indexed / "text.jpg", indexed / "coffee.jpg", "--json")
    assert (ran.code, len(ran.json["queries"])) == (0, 1)
    assert [line["path"] for line in ran.json["skipped"]] == [str(indexed / "text.jpg")]
    assert refused(cli("search", indexed / "text.jpg"), 2, "text.jpg")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--crop", "0,0,9999,10"], ["160x107"]),
        (["--crop", "1,2,3"], ["X,Y,W,H"]),
        (["--crop", "a,b,c,d"], ["X,Y,W,H"]),
        (["--where", "year >"], ["filter"]),
        (["--metric", "cosin"], ["cosin", "euclidean"]),
        (["--encoder", "clpi"], ["clpi", "efficientnet-lite0"]),
        (["--encoder", "efficientnet-lite0"], ["--add-encoder efficientnet-lite0"]),
        (["-k", "0"], ["-k"]),
        (["--like", "x"], ["one of the two"]),
        (["--html", "x.png"], [".html"]),
    ],
)
def test_a_wrong_choice_is_refused_with_the_way_out(
    cli: Cli, indexed: Path, arguments: list[str], words: list[str]
) -> None:
    assert refused(cli("search", indexed / "coffee.jpg", *arguments), 2, *words)


# What is wrong, and what it costs


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["index", "{empty}"], ["empty", "no picture"]),
        (["index", "{missing}"], ["missing"]),
        (["index", "{text}", "{missing}"], ["missing"]),
        (["index"], ["FOLDER"]),
        (["index", "{empty}", "--set", "x"], ["NAME=VALUE"]),
        (["index", "{empty}", "--metadata", "{missing}.csv"], ["missing"]),
        (["index", "{photos}", "--encoder", "clpi"], ["clpi", "efficientnet-lite0"]),
        (["embed", "{missing}", "-o", "x.npz"], ["missing"]),
        (["embed", "{text}", "-o", "{text}"], [".npz"]),
        (["show", "nobody"], ["nobody"]),
        (["remove", "nobody"], ["nobody"]),
        (["import", "{missing}", "x.gallery"], ["missing"]),
        (["list", "--where", "="], ["filter"]),
    ],
)
def test_wrong_input_exits_2_and_leaves_the_gallery_as_it_was(
    cli: Cli, indexed: Path, tmp_path: Path, arguments: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("a text")
    places = {"empty": "empty", "missing": "missing", "text": "text.jpg", "photos": "photos"}
    before = cli("list", "--json").out
    assert refused(cli(*(argument.format(**places) for argument in arguments)), 2, *words)
    assert cli("list", "--json").out == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cli.gallery", "empty", "photos", "text.jpg"]


def test_a_text_called_jpg_is_one_line_and_the_run_goes_on(cli: Cli, photos: Path) -> None:
    (photos / "text.jpg").write_text("a text")
    ran = cli("index", photos, *HISTOGRAM)
    assert (ran.code, ran.out) == (0, "8 added, 0 updated, 0 unchanged, 0 removed, 1 skipped\n")
    assert ran.err.startswith(f"skipped {photos / 'text.jpg'}: ")


def test_many_bad_files_are_counted_not_listed(cli: Cli, photos: Path) -> None:
    for n in range(30):
        (photos / f"{n}.jpg").write_text("a text")
    assert cli("index", photos, *HISTOGRAM).err.splitlines()[20:] == ["… and 10 more; --json lists them all"]


@pytest.mark.parametrize("variable", ["LOOKALIKE_THREADS", "LOOKALIKE_MAX_PIXELS"])
def test_a_wrong_variable_is_named(cli: Cli, photos: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "many")
    assert refused(cli("index", photos, *HISTOGRAM), 2, variable, "many")


@pytest.mark.parametrize("verb", ["list", "info", "search", "remove", "show"])
def test_a_missing_gallery_exits_3_with_the_way_out_and_is_not_made(
    cli: Cli, photos: Path, tmp_path: Path, verb: str
) -> None:
    arguments = [photos / "coffee.jpg"] if verb in {"search", "remove", "show"} else []
    assert refused(cli(verb, *arguments), 3, "cli.gallery", "lookalike index")
    assert not (tmp_path / "cli.gallery").exists()


def test_a_gallery_path_that_is_something_else_is_never_overwritten(cli: Cli, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("mine")
    for path in (tmp_path / "letter", photos):
        before = sorted(os.listdir(photos))
        assert refused(cli("index", photos, "-g", path, *HISTOGRAM), 3, path.name)
        assert sorted(os.listdir(photos)) == before
    assert (tmp_path / "letter").read_text() == "mine"


def test_a_newer_gallery_is_refused_and_not_touched(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    database = tmp_path / "cli.gallery" / "lookalike.db"
    with sqlite3.connect(database) as db:
        db.execute(f"PRAGMA user_version = {schema.SCHEMA + 1}")
    db.close()
    before = database.read_bytes()
    for arguments in (["list"], ["index", indexed], ["search", indexed / "coffee.jpg"]):
        assert refused(cli(*arguments), 3, "newer", "pip install --upgrade lookalike")
    assert database.read_bytes() == before


@pytest.mark.parametrize("damage", ["zeros", "text", "empty", "cut"])
def test_a_damaged_gallery_is_refused_with_what_to_do(cli: Cli, indexed: Path, tmp_path: Path, damage: str) -> None:
    database = tmp_path / "cli.gallery" / "lookalike.db"
    whole = database.read_bytes()
    broken = {"zeros": bytes(len(whole)), "text": b"a text" * 999, "empty": b"", "cut": whole[: len(whole) // 3]}
    database.write_bytes(broken[damage])
    for arguments in (["list"], ["index", indexed], ["search", indexed / "coffee.jpg"]):
        assert refused(cli(*arguments), 3, "damaged", "lookalike.db")


def test_a_gallery_that_cannot_be_made_is_a_clear_error(cli: Cli, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refused(cli("index", photos, "-g", tmp_path / "file" / "g", *HISTOGRAM), 3, "file")


def test_a_full_disk_in_the_middle_leaves_what_was_counted(shell: Cli, photos: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for n in range(400):
        pixels = np.random.default_rng(n).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(many / f"{n}.png")
    assert shell("index", photos, *HISTOGRAM).code == 0
    program = """
import resource, sys
from lookalike.gallery import Gallery
import lookalike.cli as cli, contextlib
from lookalike.__main__ import run
told = []
cli.progress = lambda unit: contextlib.nullcontext(told.append)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
code = run(sys.argv[1:])
print(sum(told))
sys.exit(code)
"""
    ran = shell("index", many, program=program)
    assert ran.code == 3, ran.err
    assert "Traceback" not in ran.err
    assert "kept" in ran.err
    assert "cli.gallery" in ran.err
    counted = int(ran.out)
    with Gallery.open(tmp_path / "cli.gallery") as gallery:
        assert 8 + counted <= gallery.count() < 408
        assert gallery.search(photos / "coffee.jpg", k=1)[0].path == str(photos / "coffee.jpg")
        have = gallery.count()
    with sqlite3.connect(tmp_path / "cli.gallery" / "lookalike.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()
    done = shell("index", many, "--json").json
    assert (done["added"], done["unchanged"]) == (408 - have, have - 8)


def test_an_interrupt_exits_130_keeps_what_was_counted_and_the_next_run_goes_on(
    shell: Cli, photos: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    with PIL.Image.open(photos / "coffee.jpg") as picture:
        for n in range(300):
            picture.rotate(n, resample=PIL.Image.Resampling.BILINEAR).save(many / f"{n}.jpg")
    assert shell("index", photos).code == 0
    program = (
        "import contextlib, signal, sys, lookalike.cli as cli\n"
        "from lookalike.__main__ import run\n"
        # What runs the tests may ignore interrupts (nohup, a background job), and children inherit that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "cli.progress = lambda unit: contextlib.nullcontext(lambda done: print(done, flush=True))\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    gallery_path = tmp_path / "cli.gallery"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "index", str(many), "-g", str(gallery_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = int(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    counted = first + sum(map(int, out.split()))
    with Gallery.open(gallery_path) as gallery:
        assert gallery.count() == 8 + counted < 308
    done = shell("index", many, "--json").json
    assert (done["added"], done["unchanged"]) == (300 - counted, counted)


def test_a_reader_that_goes_away_is_no_error(indexed: Path, tmp_path: Path, cli: Cli) -> None:
    with Gallery.open(tmp_path / "cli.gallery") as gallery:
        ones = Embeddings.from_raw(np.ones((3000, gallery.space.dim)), gallery.space)
        gallery.put([Item(f"x{n:0200}") for n in range(3000)], [ones])
    for arguments in (["list"], ["list", "--json"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "lookalike", *arguments, "-g", str(tmp_path / "cli.gallery")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141
        process.stderr.close()


# What a run costs


def test_a_run_over_unchanged_files_loads_no_runtime(shell: Cli, photos: Path) -> None:
    program = (
        "import sys; from lookalike.__main__ import run; code = run(sys.argv[1:]);"
        "print([name for name in ('onnxruntime', 'onnx', 'faiss') if name in sys.modules]); sys.exit(code)"
    )
    assert shell("index", photos, program=program).out.splitlines()[1].startswith("['onnxruntime'")
    ran = shell("index", photos, program=program)
    assert ran.out == "0 added, 0 updated, 8 unchanged, 0 removed, 0 skipped\n[]\n"


# The gallery that is meant


def test_the_gallery_is_the_flags_else_the_variables_else_here(shell: Cli, photos: Path, tmp_path: Path) -> None:
    assert shell("index", photos, *HISTOGRAM, "-g", "by flag").code == 0
    assert shell("index", photos, *HISTOGRAM, env={"LOOKALIKE_GALLERY": "by variable"}).code == 0
    assert shell("index", photos, *HISTOGRAM, env={"LOOKALIKE_GALLERY": ""}).code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["by flag", "by variable", "lookalike.gallery", "photos"]


def test_a_gallery_among_the_pictures_is_not_walked(cli: Cli, photos: Path) -> None:
    for _ in range(2):
        ran = cli("index", photos, "-g", photos / "lookalike.gallery", *HISTOGRAM, "--json")
        assert ran.json["added"] + ran.json["unchanged"] == 8
        assert [Path(line["path"]).name for line in ran.json["skipped"]] == ["lookalike.gallery"]


def test_one_more_encoder_is_added_and_can_be_asked_for(cli: Cli, indexed: Path) -> None:
    assert cli("index", "--add-encoder", "efficientnet-lite0", "--json").json["updated"] == 8
    ran = cli("search", indexed / "coffee.jpg", "--encoder", "efficientnet-lite0", "-k", 1, "--json")
    assert ran.json["space"]["encoder"] == "efficientnet-lite0"
    assert ran.json["queries"][0]["hits"][0]["path"] == str(indexed / "coffee.jpg")
    assert cli("search", indexed / "coffee.jpg", "--json").json["space"]["encoder"] == "color-histogram"


# Names that are out to do harm

ODD = [
    b"<script>alert(1)</script>.jpg",
    b"line\nlookalike: all is well.jpg",
    b"\x1b[2J\x1b]0;owned\x07.jpg",
    b"=1+1.jpg",
    b"caf\xe9.jpg",
    b"\xc2\x9b31m.jpg",
    "\u202egpj.jpg".encode(),
    b"-k.jpg",
]


@pytest.fixture
def odd(photos: Path) -> list[str]:
    """Photos of which every name is out to do harm, and a broken one beside each."""
    names = []
    for path, name in zip(sorted(photos.iterdir()), ODD, strict=True):
        target = os.fsencode(photos) + b"/" + name.replace(b"/", b"\xe2\x88\x95")
        os.rename(os.fsencode(path), target)
        broken = os.fsdecode(target + b" broken")
        Path(broken).write_text("a text")
        age(Path(broken))
        names.append(os.fsdecode(target))
    return names


def printable(ran: Ran) -> bool:
    """Whether nothing but printable characters and ends of lines came out, none of it a line made up by a name."""
    lines = (ran.out + ran.err).split("\n")
    assert all(line.isprintable() for line in lines), lines
    return not any(line.startswith("lookalike: all is well") for line in lines)


def test_no_name_reaches_the_terminal_as_it_is(cli: Cli, photos: Path, odd: list[str], tmp_path: Path) -> None:
    assert printable(cli("index", photos, *HISTOGRAM))
    for arguments in (
        ["list"],
        ["list", "--json"],
        ["info"],
        ["index", photos],
        ["index", photos, "--json"],
        ["show", *odd],
        ["search", *odd],
        ["search", *odd, "--json"],
        ["search", *(f"{name} broken" for name in odd), odd[0]],
        ["search", "--together", *odd, "--html", tmp_path / "h.html"],
        ["embed", *odd, *(f"{name} broken" for name in odd), "-o", tmp_path / "v.npz", *HISTOGRAM],
    ):
        ran = cli(*arguments)
        assert ran.code == 0
        assert printable(ran), arguments
    for name in odd:
        for arguments in (
            ["search", f"{name} broken"],
            ["show", f"{name} gone"],
            ["info", name],
            ["index", f"{name} gone"],
        ):
            ran = cli(*arguments)
            assert ran.code == 2
            assert printable(ran), arguments


def test_every_name_is_given_back_in_json_as_it_is(cli: Cli, photos: Path, odd: list[str]) -> None:
    ran = cli("index", photos, *HISTOGRAM, "--json")
    assert sorted(line["path"] for line in ran.json["skipped"]) == sorted(f"{name} broken" for name in odd)
    assert sorted(item["path"] for item in cli("list", "--json").json["items"]) == sorted(odd)
    assert ran.out.isascii()
    for name in odd:
        (query,) = cli("search", "-k", 1, "--json", "--", name).json["queries"]
        assert (query["query"], query["hits"][0]["path"]) == (name, name)
    json.loads(cli("show", "--json", "--", *odd).out)


def test_a_terminal_that_knows_few_letters_gets_escapes(shell: Cli, photos: Path) -> None:
    (photos / "coffee.jpg").rename(photos / "κόσμος.jpg")
    assert shell("index", photos, *HISTOGRAM).code == 0
    ran = shell("list", env={"PYTHONIOENCODING": "latin-1"})
    assert (ran.code, ran.err) == (0, "")
    assert "\\u03ba" in ran.out


def test_help_of_nothing_and_of_a_slip(cli: Cli) -> None:
    assert refused(cli("serach"), 2, "serach")
    assert cli("--version").out.startswith("lookalike, version ")
    assert cli("search", "--help").out.startswith("Usage: lookalike search")


def test_a_missing_folder_stops_a_run_before_it_begins(cli: Cli, photos: Path, tmp_path: Path) -> None:
    assert refused(cli("index", photos, tmp_path / "missing", *HISTOGRAM), 2, "missing")
    assert not (tmp_path / "cli.gallery").exists()
