"""Laws of ownership: every token once, evenly, by arithmetic alone."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormda.grid import Partition


@st.composite
def partitions(draw):
    n, align = draw(st.integers(1, 300)), draw(st.integers(1, 9))
    return Partition(n, draw(st.integers(1, -(-n // align))), align)


@given(partitions())
def test_runs_cover_all_tokens_in_order_and_aligned(partition):
    bounds = [partition.bounds(rank) for rank in range(partition.ranks)]
    starts, stops = zip(*bounds, strict=True)
    assert (starts[0], stops[-1]) == (0, partition.n)
    assert starts[1:] == stops[:-1]
    assert all(start % partition.align == 0 for start in starts)


@given(partitions())
def test_shares_differ_by_at_most_one_unit(partition):
    sizes = [partition.size(rank) for rank in range(partition.ranks)]
    units = [-(-size // partition.align) for size in sizes]
    assert min(sizes) > 0
    assert max(units) - min(units) <= 1


@given(partitions())
def test_owners_are_those_of_the_bounds(partition):
    expected = np.concatenate(
        [np.full(partition.size(rank), rank) for rank in range(partition.ranks)]
    )
    np.testing.assert_array_equal(partition.owner(np.arange(partition.n)), expected)
    assert [partition.owner(token) for token in range(partition.n)] == expected.tolist()


@pytest.mark.parametrize("n", [20_000_000_000, 10**18])
def test_billions_of_tokens_are_planned_at_once(n):
    tracemalloc.start()
    partition = Partition(n, 74_400)
    ranks = np.array([0, 1, 37_200, 74_398, 74_399])
    starts, stops = np.array([partition.bounds(int(rank)) for rank in ranks]).T
    np.testing.assert_array_equal(partition.owner(starts), ranks)
    np.testing.assert_array_equal(partition.owner(stops - 1), ranks)
    assert partition.owner(int(stops[2]) - 1) == ranks[2]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Partition(0, 1), "n: expected a positive number, got 0"),
        (lambda: Partition(4, 0), "ranks: expected a positive number, got 0"),
        (lambda: Partition(4, 1, align=0), "align: expected a positive number, got 0"),
        (
            lambda: Partition(10, 4, align=4),
            "ranks: expected at most 3, one for each 4 of 10 tokens, got 4",
        ),
        (lambda: Partition(10, 2).bounds(2), "rank: expected 0 to 1, got 2"),
        (lambda: Partition(10, 2).owner(-1), "token: expected 0 to 9, got -1"),
        (
            lambda: Partition(10, 2).owner(np.array([3, 10])),
            "token: expected 0 to 9, got 10",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
