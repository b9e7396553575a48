"""`lookalike benchmark`: figures by naive loops over the pictures' own vectors, sets that tell nothing, the gate."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest

import fakes
from conftest import Cli
from lookalike import BenchmarkRequest, benchmark, registry
from lookalike.benchmarking import Configuration, Costs, evaluated, is_pareto, scanned
from lookalike.errors import ConfigError, InputError
from lookalike.evaluation.retrieval import METRICS
from lookalike.evaluation.truth import Truth
from lookalike.types import Space
from synthetic import labelled, picture, save

LABELS, EACH = 6, 4


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six labels of four pictures; two of them are told apart badly."""
    folder = labelled(tmp_path / "set", LABELS, EACH)
    for number in range(EACH):  # l05 looks like l04
        save(picture(4, 70 + number), folder / "l05" / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def fake_encoder(counting: fakes.Counting) -> None:
    """Every test here may use it."""


def vector(path: Path) -> Any:
    raw = fakes.quarters(np.asarray(PIL.Image.open(path).convert("RGB")))
    return (raw / np.sqrt((raw**2).sum())).astype(np.float32)


def measure(source: Path, **more: Any) -> Any:
    return benchmark(str(source), BenchmarkRequest(**{"encoders": ("counting",), **more})).as_dict()


def table(file: Path, rows: list[tuple[Any, ...]], columns: str = "path,label,group,role,ignore") -> Path:
    file.write_text("\n".join([columns, *(",".join(map(str, row)) for row in rows)]))
    return file


def precision_at(order: list[bool], k: int) -> float:
    return sum(order[:k]) / k


def answers(paths: list[Path], distance: Callable[[Any, Any], float]) -> list[list[bool]]:
    """Of each picture, which of the others have its label, closest first."""
    vectors = [vector(path) for path in paths]
    found = []
    for query, path in enumerate(paths):
        others = sorted((distance(vectors[query], vectors[o]), o) for o in range(len(paths)) if o != query)
        found.append([paths[o].parent == path.parent for _, o in others])
    return found


# What is measured


@pytest.mark.parametrize(
    ("metric", "distance"),
    [
        ("cosine", lambda a, b: -float(a @ b)),
        ("euclidean", lambda a, b: float(np.sqrt(((a - b) ** 2).sum()))),
        ("manhattan", lambda a, b: float(np.abs(a - b).sum())),
    ],
)
def test_figures_agree_with_a_loop_over_the_pictures(pictures: Path, metric: str, distance: Any) -> None:
    told = measure(pictures, metrics=(metric,))
    paths = sorted(pictures.rglob("*.png"))
    orders = answers(paths, distance)
    one = told["configurations"][0]
    assert (told["queries"], told["gallery"], told["labels"]) == (24, 24, 6)
    for k in (1, 5, 10):
        assert one[f"recall@{k}"] == pytest.approx(np.mean([any(order[:k]) for order in orders]))
    assert one["precision@5"] == pytest.approx(np.mean([precision_at(order, 5) for order in orders]))
    expected = [sum(precision_at(order, i + 1) for i in range(10) if order[i]) / min(EACH - 1, 10) for order in orders]
    assert one["map@10"] == pytest.approx(np.mean(expected))
    assert one["by_label"]["l00"]["map@10"] == pytest.approx(np.mean(expected[:4]))
    assert 0 < one["map@10"] < 1
    assert one["verification"]["genuine_pairs"] == 24 * 3
    assert one["verification"]["impostor_pairs"] == 24 * 20
    for name in METRICS:
        low, high = one["intervals"][name]
        assert low <= one[name] <= high


def test_thresholds_are_in_the_units_of_the_metric(pictures: Path) -> None:
    told = measure(pictures, metrics=("cosine", "euclidean", "manhattan"))
    paths = sorted(pictures.rglob("*.png"))
    vectors = np.stack([vector(path) for path in paths]).astype(np.float64)
    different = np.array([[a.parent != b.parent for b in paths] for a in paths])
    for one in told["configurations"]:
        metric = registry.metric(one["metric"])
        scores = metric.matrix(vectors, vectors)[different]
        for row in one["verification"]["curve"]:
            bound = row["threshold"]
            passed = scores >= bound - 1e-6 if metric.higher_is_closer else scores <= bound + 1e-6
            assert row["false_positive_rate"] == pytest.approx(passed.mean(), abs=0.01)


def test_euclidean_orders_as_cosine_does_and_a_zero_vector_does_not_break_it() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 5))
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    euclidean = registry.metric("euclidean")
    truth = Truth(np.arange(20) % 4, np.arange(20) % 4, own=np.arange(20))
    one, other = (evaluated(registry.metric(name), unit, unit, truth) for name in ("cosine", "euclidean"))
    assert np.array_equal(one.judged.top, other.judged.top)
    unit[3] = 0
    scan, score_of = scanned(euclidean, unit, unit)
    assert score_of(scan(0, 20)) == pytest.approx(euclidean.matrix(unit, unit), abs=1e-6)


def test_roles_groups_and_ignored_pictures_count_as_they_say(pictures: Path) -> None:
    rows = [
        ("l00/0.png", "a", "", "query", ""),
        ("l00/1.png", "a", "one", "gallery", ""),
        ("l00/2.png", "a", "one", "query", ""),  # its group's picture is no candidate
        ("l00/3.png", "a", "", "gallery", 1),
        ("l01/0.png", "b", "", "", ""),  # both
        ("l01/1.png", "b", "", "gallery", ""),
        ("l02/0.png", "c", "", "query", ""),  # nothing relevant
    ]
    told = measure(table(pictures / "set.csv", rows))
    assert (told["queries"], told["gallery"], told["ignored"], told["without_relevant"]) == (4, 3, 1, 2)
    assert "2 of 4 queries have nothing relevant" in told["notes"][0]
    assert "those of a, c" in told["notes"][0]
    one = told["configurations"][0]
    assert one["by_label"].keys() == {"a", "b"}
    assert one["recall@1"] == 1
    # 4 queries x 3 items, without the query of b itself and the group's picture
    assert one["verification"]["genuine_pairs"] + one["verification"]["impostor_pairs"] == 10


def test_a_query_that_has_another_label_first_is_a_confusion(pictures: Path) -> None:
    confused = measure(pictures)["configurations"][0]["confusions"]
    assert {(one["label"], one["taken_for"]) for one in confused} <= {("l04", "l05"), ("l05", "l04")}
    assert sum(one["queries"] for one in confused) > 0


def test_configurations_are_compared_by_query_and_the_cheap_and_good_are_marked(pictures: Path) -> None:
    told = measure(pictures, encoders=("counting", "color-histogram"), metrics=("cosine", "manhattan"))
    assert [(one["encoder"], one["metric"]) for one in told["configurations"]] == [
        ("counting", "cosine"),
        ("counting", "manhattan"),
        ("color-histogram", "cosine"),
        ("color-histogram", "manhattan"),
    ]
    assert len(told["differences"]) == 6
    for found in told["differences"]:
        of = next(
            c for c in told["configurations"] if (c["encoder"], c["metric"]) == (found["encoder"], found["metric"])
        )
        expected = of[found["figure"]] - told["configurations"][0][found["figure"]]
        assert found["difference"] == pytest.approx(expected, abs=1e-6)
        assert found["low"] <= found["difference"] <= found["high"]
    assert any(one["pareto"] for one in told["configurations"])
    speed = told["configurations"][2]["speed"]
    assert speed["vector_bytes"] == 2320
    assert speed["model_bytes"] == 0
    assert 0 < speed["latency_p50"] <= speed["latency_p99"]
    assert speed["images_a_second"] > 0


def test_a_row_is_pareto_optimal_unless_another_is_as_good_in_all_and_better_in_one() -> None:
    def row(quality: float, seconds: float, size: int, model: int | None) -> Configuration:
        costs = Costs(1, seconds, seconds, 1, size, model, None)
        matrix = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
        made = evaluated(registry.metric("cosine"), matrix, matrix, Truth(np.array([0, 1]), np.array([0, 1])))
        object.__setattr__(made, "figures", {"map@10": made.figures["map@10"]._replace(estimate=quality)})
        return Configuration("e", "m", Space("e", "1", "n", 2), made, costs)

    rows = [
        row(0.9, 1.0, 100, 50),
        row(0.9, 1.05, 100, 50),  # as good: timings differ by as much from run to run
        row(0.8, 1.0, 100, 50),  # worse at the same cost
        row(0.8, 0.5, 100, 50),  # worse and quicker
        row(0.9, 1.0, 100, None),  # of a model whose size nobody knows
    ]
    assert [is_pareto(one, rows) for one in rows] == [True, True, False, True, False]


# What cannot be read, and sets that tell nothing


def test_bad_and_missing_pictures_are_reported_and_the_rest_is_measured(pictures: Path) -> None:
    (pictures / "l00" / "0.png").write_bytes(b"no picture")
    rows = [(f"l{label:02}/{number}.png", f"l{label}", "", "", "") for label in range(3) for number in range(3)]
    told = measure(table(pictures / "set.csv", [*rows, ("gone.png", "l0", "", "", "")]))
    reasons = {Path(one["path"]).name: one["reason"] for one in told["skipped"]}
    assert reasons["gone.png"].startswith("no such file; ")
    assert "0.png" in reasons
    assert told["queries"] == 8


def test_copies_and_files_with_two_labels_are_told(pictures: Path) -> None:
    data = (pictures / "l00" / "0.png").read_bytes()
    (pictures / "l00" / "9.png").write_bytes(data)
    (pictures / "l01" / "9.png").write_bytes(data)
    few, first, second = measure(pictures)["notes"]
    assert few.startswith("intervals from only 6 labels are a rough guide")
    assert "another one, which makes them easy to find: 2 (the first: l00/0.png and l00/9.png)" in first
    assert second == "pictures with two labels: 1 (the first: l00/0.png and l00/9.png, labelled l00 and l01)"


def one_label(folder: Path) -> Path:
    return labelled(folder / "one", 1, 3)


def one_each(folder: Path) -> Path:
    return labelled(folder / "each", 3, 1)


def none_at_all(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def all_ignored(folder: Path) -> Path:
    labelled(folder, 2, 2)
    return table(folder / "i.csv", [(f"l0{a}/{b}.png", a, "", "", 1) for a in range(2) for b in range(2)])


def queries_ignored(folder: Path) -> Path:
    labelled(folder, 2, 2)
    rows = [(f"l0{a}/{b}.png", a, "", "query" if b else "gallery", b) for a in range(2) for b in range(2)]
    return table(folder / "q.csv", rows)


def only_queries(folder: Path) -> Path:
    labelled(folder, 2, 2)
    return table(folder / "o.csv", [(f"l0{a}/{b}.png", a, "", "query", "") for a in range(2) for b in range(2)])


def one_group(folder: Path) -> Path:
    labelled(folder, 2, 2)
    return table(folder / "g.csv", [(f"l0{a}/{b}.png", a, f"g{a}", "", "") for a in range(2) for b in range(2)])


def unreadable(folder: Path) -> Path:
    for label in "ab":
        (folder / "bad" / label).mkdir(parents=True)
        for number in range(2):
            (folder / "bad" / label / f"{number}.png").write_bytes(b"nothing")
    return folder / "bad"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (one_label, "all 3 pictures of .* have the label 'l00', .*; a benchmark needs at least two labels"),
        (one_each, "no query of .* has another picture of its label .*3 labels, 3 pictures; give each .* at least two"),
        (none_at_all, "holds no labelled picture: it is empty"),
        (all_ignored, "all 4 pictures of .* are ignored: set the 'ignore' of some to 0"),
        (queries_ignored, r"no picture left with the role 'query': all 2 have the role 'gallery' \(2 more are ignored"),
        (only_queries, "no picture left with the role 'gallery': all 4 have the role 'query'; give some"),
        (one_group, r"no query of .* has another picture of its label in the gallery \(outside of its group\)"),
        (unreadable, "no picture of .* can be used; left out: .*0.png: "),
    ],
)
def test_a_set_that_can_tell_nothing_is_refused_with_the_way_out(
    tmp_path: Path, counting: fakes.Counting, made: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        measure(made(tmp_path))
    assert counting.encoded == []  # and before the work


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"encoders": ("clpi",)}, "no encoder named 'clpi'"),
        ({"metrics": ("cosin",)}, "no metric named 'cosin'; known: cosine, euclidean, manhattan"),
        ({"metrics": ("cosine", "cosine")}, "metric 'cosine' is named twice"),
        ({"encoders": ()}, "at least one encoder; known: "),
        ({"junit": "x.xml"}, "name one with --against"),
        ({"save": "x.csv"}, "it ends in .json, got x.csv"),
        ({"html": "x.png"}, "it ends in .html or .htm"),
        ({"margin": 1.5}, "a margin is from 0 to below 1, got 1.5"),
    ],
)
def test_a_wrong_choice_is_refused_before_any_picture_is_read(
    pictures: Path, counting: fakes.Counting, more: Any, said: str
) -> None:
    with pytest.raises((ConfigError, InputError), match=said):
        measure(pictures, **more)
    assert counting.encoded == []


# The command


def test_the_command_prints_tables_and_the_same_as_json(cli: Cli, pictures: Path) -> None:
    ran = cli("benchmark", pictures, "--encoder", "counting", "--metric", "cosine,manhattan")
    assert ran.code == 0, ran.err
    assert "24 queries in a gallery of 24, 6 labels" in ran.out
    told = cli("benchmark", pictures, "--encoder", "counting", "--json").json
    shown = f"{told['configurations'][0]['recall@1']:.3f}".removeprefix("0")
    assert re.search(rf"counting +cosine +{re.escape(shown)} ", ran.out)
    assert told["command"] == f"lookalike benchmark {pictures} --encoder counting --metric cosine"
    assert set(told) == {
        "configurations",
        "differences",
        "source",
        "queries",
        "gallery",
        "labels",
        "ignored",
        "without_relevant",
        "notes",
        "gate",
        "versions",
        "command",
        "skipped",
    }


def test_two_runs_give_the_same_figures(cli: Cli, pictures: Path) -> None:
    first, second = (cli("benchmark", pictures, "--encoder", "counting", "--json").json for _ in range(2))
    for run in (first, second):
        for one in run["configurations"]:
            del one["speed"], one["pareto"]
    assert first == second


# The gate


def worsened(baseline: Path, figure: str = "recall@1", values: float = 1.0) -> None:
    """Make a baseline better than it was."""
    kept = json.loads(baseline.read_text())
    for one in kept["configurations"]:
        one["values"][figure] = [values] * len(one["values"][figure])
    baseline.write_text(json.dumps(kept))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Thirty labels, every second of which looks like the one before: half of the answers are wrong."""
    folder = labelled(tmp_path / "many", 30, 3)
    for label in range(0, 30, 2):
        for number in range(3):
            save(picture(label, 40 + number), folder / f"l{label + 1:02}" / f"{number}.png")
    return folder


def test_the_gate_holds_where_nothing_changed_and_closes_where_much_was_lost(
    cli: Cli, many: Path, tmp_path: Path
) -> None:
    baseline, junit = tmp_path / "baseline.json", tmp_path / "junit.xml"
    assert cli("benchmark", many, "--encoder", "counting", "--save", baseline).code == 0
    held = cli("benchmark", many, "--encoder", "counting", "--against", baseline, "--junit", junit, "--json")
    assert held.code == 0
    assert held.json["gate"]["regression"] is False
    assert [check["difference"] for check in held.json["gate"]["checks"]] == [0, 0]
    assert ElementTree.parse(junit).getroot().attrib["failures"] == "0"

    worsened(baseline)
    ran = cli("benchmark", many, "--encoder", "counting", "--against", baseline, "--junit", junit)
    assert ran.code == 11
    assert "WORSE: counting, cosine: recall@1 1.0000 -> " in ran.out
    assert "held: counting, cosine: map@10" in ran.out
    suite = ElementTree.parse(junit).getroot()
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("2", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert "recall@1 1.0000 -> " in failure.attrib["message"]
    assert cli("benchmark", many, "--encoder", "counting", "--against", baseline, "--margin", "0.9").code == 0


def test_a_baseline_may_be_replaced_by_the_run_that_is_held_against_it(cli: Cli, many: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    cli("benchmark", many, "--encoder", "counting", "--save", baseline)
    worsened(baseline)
    ran = cli("benchmark", many, "--encoder", "counting", "--against", baseline, "--save", baseline)
    assert ran.code == 11
    assert cli("benchmark", many, "--encoder", "counting", "--against", baseline).code == 0


def relabelled(pictures: Path) -> None:
    (pictures / "l00" / "0.png").rename(pictures / "l01" / "new.png")


def one_more(pictures: Path) -> None:
    save(picture(0, 99), pictures / "l00" / "99.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (relabelled, "pictures not here: 1 (the first: l00/0.png), new: 1 (the first: l01/new.png)"),
        (one_more, "another set than"),
    ],
)
def test_a_baseline_of_another_set_is_refused(
    cli: Cli, pictures: Path, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    baseline = tmp_path / "baseline.json"
    cli("benchmark", pictures, "--encoder", "counting", "--save", baseline)
    change(pictures)
    ran = cli("benchmark", pictures, "--encoder", "counting", "--against", baseline)
    assert ran.code == 2
    assert said in ran.err
    assert "save a new one with --save" in ran.err


def test_a_baseline_whose_labels_changed_is_refused(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    rows = [(f"l0{a}/{b}.png", a, "", "", "") for a in range(3) for b in range(3)]
    file = table(pictures / "set.csv", rows)
    cli("benchmark", file, "--encoder", "counting", "--save", baseline)
    table(file, [*rows[:-1], ("l02/2.png", 1, "", "", "")])
    assert "labels, groups or roles of its pictures changed" in (
        cli("benchmark", file, "--encoder", "counting", "--against", baseline).err
    )


def test_what_else_changed_since_the_baseline_is_told(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    cli("benchmark", pictures, "--encoder", "counting", "--save", baseline)
    save(picture(0, 7), pictures / "l00" / "0.png")
    kept = json.loads(baseline.read_text())
    kept["configurations"][0]["space"]["version"] = "0"
    baseline.write_text(json.dumps(kept))
    notes = cli("benchmark", pictures, "--encoder", "counting", "--against", baseline, "--json").json["gate"]["notes"]
    assert notes[0] == "pictures whose file changed: 1 (the first: l00/0.png)"
    assert notes[1].startswith("counting is not what it was: its space was ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot read the baseline"),
        ("{", "is no JSON"),
        ("[1]", "is no baseline, or a damaged one"),
        ('{"format": "lookalike benchmark 9"}', "its format is 'lookalike benchmark 9'"),
        ('{"format": "lookalike benchmark 1"}', "is no baseline, or a damaged one"),
    ],
)
def test_a_file_that_is_no_baseline_is_refused(
    cli: Cli, pictures: Path, tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "baseline.json").write_text(text)
    ran = cli("benchmark", pictures, "--encoder", "counting", "--against", tmp_path / "baseline.json")
    assert ran.code == 2
    assert said in ran.err


def test_a_baseline_that_is_cut_short_is_refused(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    cli("benchmark", pictures, "--encoder", "counting", "--save", baseline)
    kept = json.loads(baseline.read_text())
    kept["configurations"][0]["values"]["map@10"].pop()
    baseline.write_text(json.dumps(kept))
    ran = cli("benchmark", pictures, "--encoder", "counting", "--against", baseline)
    assert ran.code == 2
    assert "24 queries, and (23,) values of map@10" in ran.err


def test_a_configuration_that_the_baseline_lacks_is_refused(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    cli("benchmark", pictures, "--encoder", "counting", "--save", baseline)
    ran = cli("benchmark", pictures, "--encoder", "second", "--against", baseline)
    assert ran.code == 2
    assert "holds nothing of second, cosine; it holds: counting, cosine" in ran.err


# The page


def test_the_page_is_self_contained_escapes_names_and_shows_what_went_wrong(
    cli: Cli, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "l05").rename(pictures / "<script>alert(1)<")
    page = tmp_path / "report.html"
    ran = cli("benchmark", pictures, "--encoder", "counting", "--metric", "cosine,manhattan", "--html", page)
    assert ran.code == 0, ran.err
    text = page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;" in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "default-src 'none'" in text
    assert text.count("<polyline") == 6
    assert "<section>" in text
    assert "lookalike benchmark" in text
    for meaning in ("divided by min(R, k)", "divided by k, even where fewer than k are relevant"):
        assert meaning in text


def test_a_page_without_mistakes_says_so(cli: Cli, tmp_path: Path) -> None:
    folder, page = labelled(tmp_path / "easy", 3, 2), tmp_path / "report.html"
    assert cli("benchmark", folder, "--encoder", "counting", "--html", page).code == 0
    assert "None: every query has an item of its label first." in page.read_text()
    assert "None: all that is relevant came first" in page.read_text()
