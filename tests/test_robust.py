"""A spread that a few values do not move, by hand and of normal numbers."""

from __future__ import annotations

import numpy as np
import pytest

from lookalike.robust import deviation


def test_it_is_the_deviation_of_normal_numbers_and_a_few_others_do_not_move_it() -> None:
    values = np.random.default_rng(0).normal(3, 2, 100_000)
    assert deviation(values) == pytest.approx(2, rel=0.02)
    assert deviation(np.append(values, [1e9] * 1000)) == pytest.approx(2, rel=0.04)


def test_by_hand_along_an_axis_and_about_a_middle() -> None:
    values = np.array([[1.0, 0.0], [2.0, 0.0], [9.0, 4.0]])  # medians 2 and 0; deviations 1, 0, 7 and 0, 0, 4
    assert deviation(values, axis=0) == pytest.approx([1.4826, 0])
    assert deviation([-1.0, 3.0, 5.0], 0.0) == pytest.approx(3 * 1.4826)
