"""What hangs together, against a naive closure."""

from __future__ import annotations

import numpy as np
import pytest

from lookalike.connected import connected


def closure(names: list[int], pairs: list[tuple[int, int]]) -> dict[int, int]:
    """Let every name take the first of its neighbours until nothing changes."""
    first = {name: name for name in names}
    for _ in names:
        for a, b in pairs:
            first[a] = first[b] = min(first[a], first[b], key=names.index)
    return first


@pytest.mark.parametrize("seed", range(20))
def test_each_name_gets_the_first_that_pairs_lead_to(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = rng.permutation(30).tolist()
    pairs = [(int(a), int(b)) for a, b in rng.integers(0, 30, (int(rng.integers(0, 40)), 2))]
    assert connected(names, pairs) == closure(names, pairs)


def test_a_pair_of_what_is_not_named_is_an_error() -> None:
    with pytest.raises(KeyError):
        connected("ab", [("a", "c")])
