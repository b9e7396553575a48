"""``lookalike calibrate``: what it measures and keeps, what it reports, what it refuses and says then."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import signal
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import fakes
from conftest import Cli, Ran
from lookalike import Gallery, calibrating
from lookalike.apps.calibrate import Request, calibrate
from lookalike.apps.calibrate import kept as kept_in
from lookalike.calibration import Calibration, resampling
from lookalike.errors import InputError, StoreError
from lookalike.stores.sqlite import SqliteStore
from lookalike.types import Embeddings, Item, Space
from synthetic import labelled, picture, save

LABELS, EACH = 24, 3
KEYS = {
    "space", "metric", "target_fpr", "adapting", "metrics", "not_calibrated", "false_alarm", "learned", "pictures",
    "units",    "impostor_pairs", "genuine_pairs", "closest_different", "source", "created", "skipped",
}  # fmt: skip
FIT_KEYS = {"threshold", "false_positive_rate", "false_negative_rate", "guaranteed"}
ALL = ("cosine", "euclidean", "manhattan", "all_of", "any_of", "weighted", "learned")


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resample less often than in earnest: it takes most of the time, and no test here is about its fineness."""
    monkeypatch.setattr(resampling, "DRAWS", 100)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 labels with 3 pictures each; read them, change nothing."""
    return labelled(tmp_path_factory.mktemp("made") / "pictures", LABELS, EACH)


@pytest.fixture
def indexed(cli: Cli, counting: fakes.Counting, made: Path) -> Path:
    """The same, in the default gallery."""
    assert cli("index", made, "--encoder", "counting").code == 0
    counting.encoded.clear()
    return made


@pytest.fixture
def gallery_path(tmp_path: Path) -> Path:
    return tmp_path / "cli.gallery"


def strict(ran: Ran) -> Any:
    """Return the JSON that was printed; NaN and infinity are none."""
    assert ran.code == 0, ran.err
    return json.loads(ran.out, parse_constant=pytest.fail)


def refused(ran: Ran, *words: str, code: int = 2) -> bool:
    assert (ran.code, ran.out) == (code, ""), (ran.code, ran.out, ran.err)
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err, ran.err
    return True


def kept(gallery_path: Path) -> Calibration | None:
    with Gallery.open(gallery_path, create=False) as gallery:
        return kept_in(gallery)


def pairs_file(path: Path, rows: Sequence[tuple[Path, Path, int]], header: Sequence[str] = ("a", "b", "same")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def every_pair(folder: Path) -> list[tuple[Path, Path, int]]:
    files = sorted(folder.glob("*/*.png"))
    return [(a, b, int(a.parent == b.parent)) for a, b in combinations(files, 2)]


def cosines(folder: Path, same: bool) -> np.ndarray:
    """The cosines of all pairs of one label, or of two, by the pictures themselves."""
    vectors = {path: fakes.quarters(np.asarray(PIL.Image.open(path))) for path in folder.glob("*/*.png")}
    return np.array(
        [
            a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            for (path, a), (other, b) in combinations(vectors.items(), 2)
            if (path.parent == other.parent) == same
        ]
    )


# What it measures and keeps


def test_the_report_is_as_documented_and_its_rates_are_those_of_the_pairs(cli: Cli, indexed: Path) -> None:
    ran = cli("calibrate", "--labels", indexed, "--fixed", "--target-fpr", 0.05, "--json")
    report = strict(ran)
    assert set(report) == KEYS
    assert (report["metric"], report["target_fpr"], report["adapting"]) == ("cosine", 0.05, False)
    n, same = LABELS * EACH, LABELS * EACH * (EACH - 1) // 2
    assert (report["pictures"], report["units"]) == (n, LABELS)
    assert (report["genuine_pairs"], report["impostor_pairs"]) == (same, n * (n - 1) // 2 - same)
    assert (report["false_alarm"]["items"], report["false_alarm"]["target"]) == (n, 0.05)
    assert (report["not_calibrated"], report["skipped"]) == ([], [])
    assert set(report["metrics"]) == set(ALL)
    for fit in report["metrics"].values():
        assert set(fit) == FIT_KEYS
        rate = fit["false_positive_rate"]
        assert 0 <= rate["low"] <= rate["estimate"] <= rate["high"] <= 1
        assert rate["estimate"] <= 0.05
        assert fit["guaranteed"]["disjoint_pairs"] == LABELS // 2
    impostors, genuine = cosines(indexed, same=False), cosines(indexed, same=True)
    cosine = report["metrics"]["cosine"]
    passed = float((impostors >= cosine["threshold"] - 1e-6).mean())
    assert cosine["false_positive_rate"]["low"] <= passed <= 0.05
    missed = float((genuine < cosine["threshold"] - 1e-6).mean())
    assert cosine["false_negative_rate"]["estimate"] == pytest.approx(missed, abs=0.03)  # one in 36 at the least
    # On unit vectors the Euclidean distance is cosine on another scale.
    assert report["metrics"]["euclidean"]["threshold"] == pytest.approx((2 - 2 * cosine["threshold"]) ** 0.5, abs=1e-3)
    closest = report["closest_different"]
    assert [pair["score"] for pair in closest] == pytest.approx(np.sort(impostors)[::-1][: len(closest)], abs=1e-5)
    assert all(Path(pair["a"]).parent != Path(pair["b"]).parent for pair in closest)


def test_it_is_kept_in_the_gallery_and_a_second_one_takes_its_place(
    cli: Cli, indexed: Path, gallery_path: Path
) -> None:
    for target, metric in ((0.1, "cosine"), (0.05, "learned")):
        report = strict(
            cli("calibrate", "--labels", indexed, "--fixed", "--target-fpr", target, "--metric", metric, "--json")
        )
        found = kept(gallery_path)
        assert found is not None
        assert (found.target, found.decides, found.background) == (target, metric, None)
        assert report["metrics"][metric]["threshold"] == found.fits[metric].threshold
    with Gallery.open(gallery_path) as gallery:
        assert len(gallery.calibrations()) == 1


def test_thresholds_adapt_unless_they_are_fixed(cli: Cli, indexed: Path, gallery_path: Path) -> None:
    assert strict(cli("calibrate", "--labels", indexed, "--target-fpr", 0.05, "--json"))["adapting"] is True
    found = kept(gallery_path)
    assert found is not None
    assert found.background is not None
    assert found.background.usual is not None


def test_the_same_pictures_give_the_same_calibration(cli: Cli, indexed: Path) -> None:
    reports = [
        strict(cli("calibrate", "--labels", indexed, "--fixed", "--target-fpr", 0.05, "--json")) for _ in range(2)
    ]
    for report in reports:
        del report["created"]
    assert reports[0] == reports[1]


def test_all_pairs_in_a_file_are_the_same_as_the_labels_that_they_come_from(
    cli: Cli, indexed: Path, tmp_path: Path
) -> None:
    file = pairs_file(tmp_path / "pairs.csv", every_pair(indexed))
    by_pairs = strict(cli("calibrate", "--pairs", file, "--fixed", "--target-fpr", 0.05, "--json"))
    by_labels = strict(cli("calibrate", "--labels", indexed, "--fixed", "--target-fpr", 0.05, "--json"))
    for name in ("metrics", "units", "impostor_pairs", "genuine_pairs", "learned"):
        assert by_pairs[name] == by_labels[name], name


def test_without_labels_the_same_thing_is_an_edited_copy(cli: Cli, indexed: Path) -> None:
    report = strict(cli("calibrate", "--unlabeled", "--fixed", "--target-fpr", 0.05, "--json"))
    n = LABELS * EACH
    assert (report["genuine_pairs"], report["impostor_pairs"]) == (n, n * (n - 1) // 2)
    ids = {item["path"] for item in cli("list", "--json").json["items"]}
    assert {pair["a"] for pair in report["closest_different"]} <= ids


def test_pictures_of_one_group_are_no_strangers_and_one_unit(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    rows = [
        {"path": str(path), "label": path.parent.name, "group": f"scene {int(path.parent.name[1:]) // 2}"}
        for path in sorted(indexed.glob("*/*.png"))
    ]
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    report = strict(cli("calibrate", "--labels", file, "--fixed", "--target-fpr", 0.1, "--json"))
    n, groups = LABELS * EACH, LABELS // 2
    assert report["units"] == groups
    assert report["impostor_pairs"] == n * (n - 1) // 2 - groups * (2 * EACH) * (2 * EACH - 1) // 2
    assert report["genuine_pairs"] == LABELS * EACH * (EACH - 1) // 2


@pytest.mark.parametrize("inside", [True, False])
def test_what_a_person_said_counts_and_has_the_last_word(
    cli: Cli, counting: fakes.Counting, indexed: Path, tmp_path: Path, inside: bool
) -> None:
    folder = indexed
    if not inside:  # pictures that are no items
        folder = tmp_path / "copy"
        shutil.copytree(indexed, folder)
        cli("remove", *(item["id"] for item in cli("list", "--json").json["items"]))
    way = ("calibrate", "--labels", folder, "--fixed", "--target-fpr", 0.1, "--json")
    before = strict(cli(*way))
    assert cli("mark", "same", folder / "l00" / "0.png", folder / "l01" / "0.png").code == 0
    assert cli("mark", "different", folder / "l02" / "0.png", folder / "l02" / "1.png").code == 0
    for after in (
        strict(cli(*way)),
        strict(cli("calibrate", "--pairs", pairs_file(tmp_path / "p.csv", every_pair(folder)), *way[3:])),
    ):
        assert after["impostor_pairs"] == before["impostor_pairs"]
        assert after["genuine_pairs"] == before["genuine_pairs"]
        assert after["metrics"]["cosine"]["threshold"] != before["metrics"]["cosine"]["threshold"]
    cli("mark", "forget", folder / "l02" / "0.png", folder / "l02" / "1.png")
    after = strict(cli(*way))
    assert after["impostor_pairs"] == before["impostor_pairs"] - 1
    assert after["genuine_pairs"] == before["genuine_pairs"] + 1


def test_the_printed_report_keeps_estimates_and_guarantees_apart_and_its_hints_can_be_run(
    cli: Cli, indexed: Path
) -> None:
    ran = cli("calibrate", "--labels", indexed, "--fixed", "--target-fpr", 0.05)
    assert ran.code == 0
    for words in (
        "72 pictures of 24 labels",
        "2,484 pairs of different things, 72 of the same",
        "cosine decides, at a false positive rate of 5 % a pair",
        "estimated: ",
        "guaranteed: with 95 % confidence, by 12 pairs that share nothing",
        "5 % takes 72 such pairs",
        "learned: ",
        "at a false alarm rate of 5 % a query among 72 items",
    ):
        assert words in ran.out
    table = [line for line in ran.out.splitlines() if line.split() and line.split()[0] in ALL and "decides" not in line]
    assert [line.split()[0] for line in table if ":" not in line] == [
        "cosine", "euclidean", "manhattan", "all_of", "any_of", "weighted", "learned"
    ]  # fmt: skip
    hint = next(line for line in ran.out.splitlines() if "lookalike mark same" in line)
    assert cli(*shlex.split(hint)[2:]).code == 0
    again = cli("calibrate", "--labels", indexed, "--fixed", "--target-fpr", 0.05)
    assert "2,483 pairs of different things, 73 of the same" in again.out
    assert hint not in again.out


def test_no_name_reaches_the_terminal_as_it_is(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(indexed, folder)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"\x1b[2J {number}\nlookalike: all is well")
    ran = cli("calibrate", "--labels", folder, "--fixed", "--target-fpr", 0.05)
    assert "mark same" in ran.out
    lines = (ran.out + ran.err).split("\n")
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("lookalike: all is well") for line in lines)


def test_a_metric_that_cannot_support_the_target_is_left_out_unless_it_decides(
    cli: Cli, indexed: Path, gallery_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = calibrating.fit_from

    def no_manhattan(impostors: Any, genuine: Any, table: Any, target: float) -> Any:
        if table.closeness.max() < 0 and table.closeness.min() < -1.6:  # of distances only Manhattan's are so large
            raise InputError("these pairs cannot support it")
        return fit(impostors, genuine, table, target)

    monkeypatch.setattr(calibrating, "fit_from", no_manhattan)
    way = ("calibrate", "--labels", indexed, "--fixed", "--target-fpr", 0.05)
    report = strict(cli(*way, "--json"))
    assert report["not_calibrated"] == ["manhattan"]
    assert set(report["metrics"]) == set(ALL) - {"manhattan"}
    found = kept(gallery_path)
    assert found is not None
    assert set(found.alarms) == set(found.fits) == set(report["metrics"])
    assert "cannot support it: manhattan" in cli(*way).out
    assert refused(cli(*way, "--metric", "manhattan"), "cannot support it")


def test_of_many_pictures_some_are_drawn_and_pairs_that_share_pictures_stay_together(
    cli: Cli, indexed: Path, tmp_path: Path, counting: fakes.Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.apps.calibrate.AT_MOST_PICTURES", 40)
    files = sorted(indexed.glob("*/*.png"))
    # Twelve islands of six pictures each, in which every pair is known.
    rows = [row for row in every_pair(indexed) if files.index(row[0]) // 6 == files.index(row[1]) // 6]
    way = ("calibrate", "--pairs", pairs_file(tmp_path / "p.csv", rows), "--fixed", "--target-fpr", 0.2, "--json")
    report = strict(cli(*way))
    assert report["pictures"] <= 40
    assert len(counting.encoded) == report["pictures"]  # no other was looked at
    assert report["impostor_pairs"] + report["genuine_pairs"] >= 6 * 15
    assert strict(cli("calibrate", "--unlabeled", "--fixed", "--target-fpr", 0.2, "--json"))["pictures"] == 20


# What it refuses


@pytest.mark.parametrize("target", ["0", "1", "-1", "nan", "inf", "0.5", "abc", ""])
def test_a_rate_that_is_none_is_refused_before_any_work(
    cli: Cli, counting: fakes.Counting, indexed: Path, target: str
) -> None:
    assert refused(cli("calibrate", "--labels", indexed, "--target-fpr", target), target)
    assert counting.encoded == []


@pytest.mark.parametrize("ways", [[], ["--unlabeled", "--labels", "x"], ["--pairs", "x", "--labels", "x"]])
def test_there_is_one_way_at_a_time(cli: Cli, indexed: Path, ways: list[str]) -> None:
    assert refused(cli("calibrate", *ways), "--pairs", "--labels", "--unlabeled")


def test_an_unknown_metric_is_refused_with_those_there_are(cli: Cli, counting: fakes.Counting, indexed: Path) -> None:
    assert refused(cli("calibrate", "--labels", indexed, "--metric", "lerned"), "lerned", "manhattan", "learned")
    assert counting.encoded == []


def test_ten_rows_are_refused_with_the_rate_they_support_and_how_many_it_takes_and_nothing_changes(
    cli: Cli, indexed: Path, tmp_path: Path, gallery_path: Path
) -> None:
    assert cli("calibrate", "--labels", indexed, "--fixed", "--target-fpr", 0.1).code == 0
    before = kept(gallery_path)
    files = [sorted((indexed / f"l{label:02}").iterdir()) for label in range(LABELS)]
    rows = [
        *((files[n][0], files[n][1], 1) for n in range(5)),
        *((files[n][0], files[n + 1][0], 0) for n in range(5, 10)),
    ]
    ran = cli("calibrate", "--pairs", pairs_file(tmp_path / "ten.csv", rows), "--target-fpr", 0.01)
    assert refused(ran, "5 pairs of different things", "0.01", "smallest", "needed")
    after = kept(gallery_path)
    assert before is not None
    assert after is not None
    assert (after.created, after.target) == (before.created, 0.1)


def test_pairs_of_one_kind(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    rows = every_pair(indexed)
    same = pairs_file(tmp_path / "same.csv", [row for row in rows if row[2]])
    assert refused(cli("calibrate", "--pairs", same), "same.csv", "none of different ones")
    different = pairs_file(tmp_path / "different.csv", [row for row in rows if not row[2]])
    way = ("calibrate", "--pairs", different, "--fixed", "--target-fpr", 0.05)
    report = strict(cli(*way, "--json"))
    assert (report["genuine_pairs"], report["learned"]) == (0, None)
    assert "learned" in report["not_calibrated"]
    assert {fit["false_negative_rate"] for fit in report["metrics"].values()} == {None}
    assert cli(*way).code == 0
    assert refused(cli(*way, "--metric", "learned"), "same thing")


def test_a_pairs_file_with_bad_rows_goes_on_without_their_pictures_and_reports_them(
    cli: Cli, indexed: Path, tmp_path: Path
) -> None:
    text, black = tmp_path / "text.png", save(np.zeros((32, 32, 3), np.uint8), tmp_path / "black.png")
    text.write_text("a text")
    good = indexed / "l00" / "0.png"
    rows = [*every_pair(indexed), (good, tmp_path / "gone.png", 0), (good, text, 0), (black, good, 0)]
    file = pairs_file(tmp_path / "pairs.csv", rows)
    report = strict(cli("calibrate", "--pairs", file, "--fixed", "--target-fpr", 0.05, "--json"))
    reasons = {Path(line["path"]).name: line["reason"] for line in report["skipped"]}
    assert set(reasons) == {"gone.png", "text.png", "black.png"}
    assert "no such file" in reasons["gone.png"]
    assert f"line {len(rows) - 1}" in reasons["gone.png"]  # there is a header, and two rows come after it
    assert "black" in reasons["black.png"]
    assert report["pictures"] == LABELS * EACH
    ran = cli("calibrate", "--pairs", file, "--fixed", "--target-fpr", 0.05)
    assert "skipped" in ran.err
    assert "gone.png" in ran.err


def test_where_too_few_pairs_are_left_it_says_what_was_left_out(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("a text")
    same, different = indexed / "l00" / "0.png", indexed / "l01" / "0.png"
    rows = [(same, indexed / "l00" / "1.png", 1), (different, text, 0)]
    file = pairs_file(tmp_path / "pairs.csv", rows)
    assert refused(cli("calibrate", "--pairs", file), "0 pairs of different things", f"left out: {text}: not a picture")
    text.unlink()
    assert refused(cli("calibrate", "--pairs", file), "none of different ones", f"left out: {text}: no such file")


def test_labelled_pictures_that_cannot_be_used_are_reported(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "labelled"
    shutil.copytree(indexed, folder)
    (folder / "l00" / "text.png").write_text("a text")
    save(np.full((32, 32, 3), 255, np.uint8), folder / "l01" / "white.png")
    save(picture(1), folder / "nameless.png")
    report = strict(cli("calibrate", "--labels", folder, "--fixed", "--target-fpr", 0.05, "--json"))
    reasons = {Path(line["path"]).name: line["reason"] for line in report["skipped"]}
    assert set(reasons) == {"text.png", "white.png", "nameless.png"}
    assert "all white" in reasons["white.png"]
    assert "label" in reasons["nameless.png"]
    assert report["pictures"] == LABELS * EACH


def test_a_wrong_header_is_refused_with_the_columns_that_it_needs(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    file = pairs_file(tmp_path / "pairs.csv", every_pair(indexed), header=("left", "right", "same"))
    assert refused(cli("calibrate", "--pairs", file), "pairs.csv", "'a'", "'b'", "left")
    assert refused(cli("calibrate", "--pairs", tmp_path / "none.csv"), "none.csv")
    assert refused(cli("calibrate", "--labels", tmp_path / "nowhere"), "nowhere")


def test_one_label_is_refused_before_any_work(
    cli: Cli, counting: fakes.Counting, indexed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    shutil.copytree(indexed / "l00", folder / "cats")
    assert refused(cli("calibrate", "--labels", folder), "one label only", "'cats'")
    assert counting.encoded == []
    (folder / "dogs").mkdir()
    (folder / "dogs" / "x.png").write_text("a text")
    assert refused(cli("calibrate", "--labels", folder), "one label only", "'cats'")


def test_labels_that_are_all_ignored_are_refused_with_the_way_out(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"path,label,ignore\n{indexed / 'l00' / '0.png'},a,1\n{indexed / 'l01' / '0.png'},b,1\n")
    assert refused(cli("calibrate", "--labels", file), "labels.csv has every picture ignored", "ignore = 1")


def test_few_labels_are_refused_with_how_many_it_takes(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    for label in range(3):
        shutil.copytree(indexed / f"l{label:02}", tmp_path / "few" / f"l{label}")
    assert refused(cli("calibrate", "--labels", tmp_path / "few"), "3 things in all", "5 pairs of 4 things")


def test_a_gallery_of_few_or_of_identical_pictures_is_refused(
    cli: Cli, made: Path, tmp_path: Path, counting: fakes.Counting
) -> None:
    cli("index", made / "l00", "--encoder", "counting")
    assert refused(cli("calibrate", "--unlabeled"), "too few")
    cli("index", made, "--encoder", "counting")
    ran = cli("calibrate", "--unlabeled", "--target-fpr", 0.0005)
    assert refused(ran, f"({LABELS * EACH} pictures) cannot support", "pictures are needed")
    other = tmp_path / "identical.gallery"
    for number in range(30):
        save(picture(0), tmp_path / "identical" / f"{number}.png")
    cli("index", tmp_path / "identical", "-g", other, "--encoder", "counting")
    assert refused(cli("calibrate", "--unlabeled", "-g", other), "0 pairs of different things", "too few")


def test_an_empty_gallery_has_nothing_to_calibrate_on_but_takes_labels(
    cli: Cli, counting: fakes.Counting, made: Path, gallery_path: Path
) -> None:
    Gallery.open(gallery_path, encoder="counting").close()
    assert refused(cli("calibrate", "--unlabeled"), "index a folder")
    report = strict(cli("calibrate", "--labels", made, "--fixed", "--target-fpr", 0.05, "--json"))
    assert report["false_alarm"]["items"] == 0


def test_items_without_pictures_are_reported_and_no_picture_at_all_is_refused(
    cli: Cli, indexed: Path, gallery_path: Path, tmp_path: Path, counting: fakes.Counting
) -> None:
    other = tmp_path / "imported.gallery"
    for path in (gallery_path, other):
        with Gallery.open(path, encoder="counting") as gallery:
            vectors = Embeddings.from_raw(np.eye(12)[:2], gallery.space)
            gallery.put([Item("imported 1"), Item("imported 2")], [vectors])
    report = strict(cli("calibrate", "--unlabeled", "--fixed", "--target-fpr", 0.1, "--json"))
    assert [line["path"] for line in report["skipped"]] == ["imported 1", "imported 2"]
    assert report["pictures"] == LABELS * EACH
    assert refused(cli("calibrate", "--unlabeled", "-g", other), "no picture", "--labels")


def test_a_gallery_of_vectors_made_elsewhere_says_that_it_cannot_look_at_pictures(
    cli: Cli, made: Path, tmp_path: Path
) -> None:
    path = tmp_path / "foreign.gallery"
    Gallery.for_spaces(path, [Space("somebody-elses", "1", "none", 3)]).close()
    assert refused(cli("calibrate", "--labels", made, "-g", path), "somebody-elses")


def test_a_missing_gallery_exits_3_and_is_not_made(cli: Cli, made: Path, gallery_path: Path) -> None:
    assert refused(cli("calibrate", "--labels", made), "lookalike index", code=3)
    assert not gallery_path.exists()


def test_a_gallery_that_may_not_be_written_is_refused_before_the_work(
    counting: fakes.Counting, indexed: Path, gallery_path: Path
) -> None:
    with SqliteStore.open(gallery_path, read_only=True) as store:
        gallery = Gallery(store, counting.space)
        with pytest.raises(StoreError, match="reading only"):
            calibrate(gallery, Request(labels=str(indexed)))
    assert counting.encoded == []


def test_an_output_that_is_no_json_file_or_has_no_folder_is_refused_before_the_work(
    cli: Cli, counting: fakes.Counting, indexed: Path, tmp_path: Path
) -> None:
    for output, word in (
        (tmp_path / "photo.png", ".json"),
        (tmp_path / "no" / "x.json", "folder"),
        (tmp_path, ".json"),
    ):
        assert refused(cli("calibrate", "--labels", indexed, "--output", output), word)
    assert counting.encoded == []


def test_interrupted_it_keeps_the_last_calibration(
    cli: Cli, counting: fakes.Counting, indexed: Path, gallery_path: Path
) -> None:
    way = ("calibrate", "--labels", indexed, "--target-fpr", 0.1)
    assert cli(*way, "--fixed").code == 0
    before = kept(gallery_path)
    for after in (10, LABELS * EACH + 50):  # among the pictures, and among their degraded copies
        counting.encoded.clear()
        counting.failure, counting.fails_after = KeyboardInterrupt(), after
        ran = cli(*way)
        assert ran.code == 128 + signal.SIGINT
        assert "interrupted" in ran.err
        counting.failure = None
    left = kept(gallery_path)
    assert before is not None
    assert left is not None
    assert (left.created, left.background) == (before.created, None)
    assert cli(*way).code == 0
