from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.track.assignment import Edge, assign


def best_by_trying(edges: list[Edge]) -> float:
    """The largest sum over all sets of edges that share no row and no column."""
    best = 0.0
    for count in range(1, 5):
        for chosen in combinations(edges, count):
            if len({e[0] for e in chosen}) == count == len({e[1] for e in chosen}):
                best = max(best, sum(e[2] for e in chosen))
    return best


pairs = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 3)), st.floats(0.001, 100, allow_nan=False), max_size=12
)


@settings(max_examples=300, deadline=None)
@given(pairs)
def test_no_other_choice_of_pairs_gains_more(gains: dict[tuple[int, int], float]) -> None:
    edges = [(row, column, gain) for (row, column), gain in gains.items()]
    chosen = assign(edges)
    assert len({row for row, _ in chosen}) == len({column for _, column in chosen}) == len(chosen)
    assert sum(gains[pair] for pair in chosen) == pytest.approx(best_by_trying(edges))


def test_a_pair_gives_way_where_the_whole_gains() -> None:
    assert assign([(0, 0, 5.0), (0, 1, 4.0), (1, 0, 4.5)]) == [(0, 1), (1, 0)]


def test_parts_that_are_joined_late_are_solved_as_one() -> None:
    edges = [(0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0), (0, 1, 3.0), (1, 2, 3.0)]
    assert assign(edges) == [(0, 1), (1, 2)]


def test_nothing_to_join_gives_nothing() -> None:
    assert assign([]) == []
