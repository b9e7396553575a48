"""Retrieval metrics: hand-worked numbers, published corner cases, and naive loops that sort and count."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.errors import InputError
from lookalike.evaluation import retrieval
from lookalike.evaluation.judging import Closeness, Judged, drawn_levels, judge
from lookalike.evaluation.truth import Truth

NUMBERS = np.int64


def of_matrix(matrix: Any) -> Closeness:
    return lambda first, last: np.array(matrix[first:last], np.float32)


def places(*ranks: int) -> Any:
    return np.array(ranks, NUMBERS)


def truth(labels: list[int], gallery: list[int], **more: list[int]) -> Truth:
    return Truth(np.array(labels), np.array(gallery), **{name: np.array(value) for name, value in more.items()})


# By hand


def test_one_of_a_hundred_relevant_found_at_the_first_place_of_ten() -> None:
    # The corner case in which libraries differ: .01 (divided by R), .1 (by min(R, k)), 1 (by those found).
    ranks = places(1, *range(11, 110))
    assert retrieval.average_precision(ranks, 10) == pytest.approx(0.1)
    assert retrieval.recall(ranks, 10) == 1
    assert retrieval.found(ranks, 10) == pytest.approx(0.01)
    assert retrieval.precision(ranks, 10) == pytest.approx(0.1)


def test_average_precision_of_the_textbook_example() -> None:
    # Manning, Raghavan, Schuetze, Introduction to Information Retrieval, lecture 8: relevant at 1, 3, 6, 9, 10 of ten
    # gives .62, at 2, 5, 7 gives .44; the mean of the two is .53.
    first, second = (retrieval.average_precision(places(*ranks), 10) for ranks in ((1, 3, 6, 9, 10), (2, 5, 7)))
    assert (round(first, 2), round(second, 2), round((first + second) / 2, 2)) == (0.62, 0.44, 0.53)


def test_musgraves_example_of_map_at_r() -> None:
    # "A Metric Learning Reality Check" (2020), figure of toy results: ten of R = 10 at the first place and then none is
    # R-precision .1 and MAP@R .1; a relevant one at the first and the last place of ten is .2 and .12.
    assert retrieval.average_precision_at_r(places(1, *range(11, 20))) == pytest.approx(0.1)
    two = places(1, 10, *range(11, 19))
    assert retrieval.r_precision(two) == pytest.approx(0.2)
    assert retrieval.average_precision_at_r(two) == pytest.approx(0.12)


def test_the_rest_by_hand() -> None:
    ranks = places(2, 4)
    assert [retrieval.recall(ranks, k) for k in (1, 2, 5)] == [0, 1, 1]
    assert retrieval.reciprocal_rank(ranks) == 0.5
    assert retrieval.r_precision(ranks) == 0.5
    assert retrieval.precision(ranks, 5) == pytest.approx(0.4)
    gain = 1 / math.log2(3) + 1 / math.log2(5)
    assert retrieval.ndcg(ranks, 10) == pytest.approx(gain / (1 + 1 / math.log2(3)))


def test_every_metric_that_is_measured_says_what_it_means() -> None:
    assert {re.sub(r"@\d+", "@k", name) for name in retrieval.METRICS} == set(retrieval.MEANINGS)


# Against loops


def naive(matrix: Any, of: Truth) -> list[dict[str, Any]]:
    """Sort the candidates of each query, and count."""
    answers = []
    for query, label in enumerate(of.labels):
        out = set()
        for item in range(len(of.gallery_labels)):
            same_group = of.groups[query] >= 0 and of.gallery_groups[item] == of.groups[query]
            if item == of.own[query] or same_group:
                out.add(item)
        there = [item for item in range(len(of.gallery_labels)) if item not in out]
        order = sorted(there, key=lambda item: (-matrix[query][item], item))
        hits = [of.gallery_labels[item] == label for item in order]
        total = sum(hits)
        answer: dict[str, Any] = {"order": order[:10], "hits": hits}
        if total:
            for k in (1, 5, 10):
                answer[f"recall@{k}"] = float(any(hits[:k]))
            for k in (5, 10):
                answer[f"precision@{k}"] = sum(hits[:k]) / k
            answer["found@10"] = sum(hits[:10]) / total
            answer["r_precision"] = sum(hits[:total]) / total
            answer["mrr"] = 1 / (hits.index(True) + 1)
            for name, k in (("map@10", 10), ("map@r", total)):
                precisions = [sum(hits[: i + 1]) / (i + 1) for i in range(min(k, len(hits))) if hits[i]]
                answer[name] = sum(precisions) / min(k, total)
            dcg = sum(1 / math.log2(i + 2) for i in range(min(10, len(hits))) if hits[i])
            answer["ndcg@10"] = dcg / sum(1 / math.log2(i + 2) for i in range(min(10, total)))
        answers.append(answer)
    return answers


def agree(judged: Judged, answers: list[dict[str, Any]]) -> None:
    for query, answer in enumerate(answers):
        assert [place for place in judged.top[query].tolist() if place >= 0] == answer["order"]
        for name, values in judged.values.items():
            if name in answer:
                assert values[query] == pytest.approx(answer[name]), (name, query)
            else:
                assert np.isnan(values[query])
        assert judged.rank[query] == (answer["hits"].index(True) + 1 if any(answer["hits"]) else 0)
        assert judged.genuine[query, -1] == sum(answer["hits"])
        assert judged.impostor[query, -1] == len(answer["hits"]) - sum(answer["hits"])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_judging_agrees_with_a_loop_with_ties_groups_and_queries_without_an_answer(data: st.DataObject) -> None:
    queries, items = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 25))
    few = st.integers(-3, 3).map(float)  # ties everywhere
    matrix = data.draw(st.lists(st.lists(few, min_size=items, max_size=items), min_size=queries, max_size=queries))

    def of(count: int, least: int, most: int) -> list[int]:
        return data.draw(st.lists(st.integers(least, most), min_size=count, max_size=count))

    asked = truth(
        of(queries, 0, 3),
        of(items, 0, 3),
        own=of(queries, -1, items - 1),
        groups=of(queries, -1, 2),
        gallery_groups=of(items, -1, 2),
    )
    agree(judge(of_matrix(matrix), asked, np.array([0.0], np.float32)), naive(matrix, asked))


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(30, 50)).astype(np.float32)
    asked = truth(rng.integers(0, 4, 30).tolist(), rng.integers(0, 4, 50).tolist())
    whole = judge(of_matrix(matrix), asked)
    monkeypatch.setattr("lookalike.evaluation.judging._CELLS", 350)
    parts = judge(of_matrix(matrix), asked)
    for name in ("top", "rank", "expected", "genuine", "impostor", "levels"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    agree(parts, naive(matrix, asked))


def test_what_is_expected_is_the_closest_relevant_item() -> None:
    judged = judge(of_matrix([[0.9, 0.8, 0.7, 0.6]]), truth([1], [0, 0, 1, 1]))
    assert (judged.expected.tolist(), judged.rank.tolist()) == ([2], [3])
    assert judge(of_matrix([[0.9, 0.8]]), truth([1], [0, 0])).expected.tolist() == [-1]


def test_all_scores_are_levels_where_they_are_few() -> None:
    matrix = np.array([[3.0, 2.0, 2.0], [1.0, 5.0, 2.0]])
    assert drawn_levels(of_matrix(matrix), truth([0, 1], [0, 1, 1])).tolist() == [5, 3, 2, 1]


@pytest.mark.parametrize(
    ("labels", "gallery", "more", "said"),
    [
        ([], [1], {}, "0 queries and 1 items"),
        ([1], [], {}, "1 queries and 0 items"),
        ([1], [1], {"own": [1]}, "item 1 of a gallery of 1"),
        ([1], [1], {"groups": [1, 2]}, "1 labels need as many groups, got 2"),
    ],
)
def test_a_truth_that_cannot_be_is_refused(labels: Any, gallery: Any, more: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        truth(labels, gallery, **more)


def test_a_closeness_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        judge(of_matrix([[np.nan, 1.0]]), truth([0], [0, 1]))
