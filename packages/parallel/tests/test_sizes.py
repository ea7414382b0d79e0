"""Shares sum to the whole, differ by at most one, and what does not fit is refused."""

import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stormda.parallel import SelfComm, balanced_sizes, members
from stormda.parallel.sizes import check_root, exchanged_sizes, gathered_sizes, split_sizes


class Rank(SelfComm):
    """Some rank of several, for arithmetic only."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self.rank, self.size = rank, size


@given(st.integers(0, 100), st.integers(1, 20))
def test_shares_are_balanced(total: int, parts: int) -> None:
    sizes = balanced_sizes(total, parts)
    assert len(sizes) == parts
    assert sum(sizes) == total
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[-1] <= 1


@given(st.integers(0, 50), st.integers(1, 20))
def test_every_member_belongs_to_one_rank(total: int, size: int) -> None:
    assert [m for rank in range(size) for m in members(total, Rank(rank, size))] == [*range(total)]


def test_sizes_of_equal_parts_need_not_be_given() -> None:
    x = torch.zeros(4, 6)
    assert gathered_sizes(x, Rank(1, 3), 0, None) == [4, 4, 4]
    assert split_sizes(x, Rank(1, 3), -1, None) == [2, 2, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: balanced_sizes(-1, 2), "total: expected 0 or more, got -1"),
        (lambda: balanced_sizes(3, 0), "parts: expected at least 1, got 0"),
        (
            lambda: gathered_sizes(torch.zeros(4), Rank(1, 2), 0, [4, 3]),
            "sizes: expected 2 lengths, that of rank 1 4, got [4, 3]",
        ),
        (
            lambda: gathered_sizes(torch.zeros(4), Rank(1, 2), 0, [4]),
            "sizes: expected 2 lengths, that of rank 1 4, got [4]",
        ),
        (
            lambda: split_sizes(torch.zeros(5), Rank(0, 2), 0, None),
            "sizes: expected the length of every rank's part, as 2 ranks do not divide 5, got "
            "None",
        ),
        (
            lambda: split_sizes(torch.zeros(5), Rank(0, 2), 0, [3, 3]),
            "sizes: expected 2 lengths that sum to 5, got [3, 3]",
        ),
        (
            lambda: split_sizes(torch.zeros(5), Rank(0, 2), 0, [6, -1]),
            "sizes: expected 2 lengths that sum to 5, got [6, -1]",
        ),
        (
            lambda: exchanged_sizes(torch.zeros(5), Rank(0, 2), 0, [3, 1], [3, 2]),
            "sent: expected 2 lengths that sum to 5, got [3, 1]",
        ),
        (
            lambda: exchanged_sizes(torch.zeros(5), Rank(0, 2), 0, [3, 2], [2, 2]),
            "received: expected 2 lengths, that of rank 0 3, got [2, 2]",
        ),
        (lambda: check_root(2, Rank(0, 2)), "root: expected a rank from 0 to 1, got 2"),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
