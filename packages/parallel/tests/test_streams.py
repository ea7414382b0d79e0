"""The stream of a member is known numbers, normal, and independent of who draws it."""

import pytest
import torch

from stormda.parallel import MemberStreams
from stormda.parallel.streams import philox

ONES = " ".join(["ffffffff"] * 6)
PI = "243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0"
KNOWN = [  # counter and key, and the answer: Random123 1.14, tests/kat_vectors, philox4x32 10
    (" ".join(["00000000"] * 6), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (ONES, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (PI, "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("given", "expected"), KNOWN)
def test_the_generator_gives_its_published_answers(given: str, expected: str) -> None:
    *counter, k, m = (int(word, 16) for word in given.split())
    words = philox(torch.tensor(counter), (k, m)).tolist()
    assert " ".join(f"{word:08x}" for word in words) == expected


def test_numbers_are_normal_and_uncorrelated() -> None:
    x = MemberStreams(5).normal(range(8), step=2, cells=torch.arange(20_000))
    n = x.numel()
    assert abs(x.mean()) < 4 / n**0.5
    assert abs(x.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((x**4).mean() - 3) < 4 * (96 / n) ** 0.5
    assert abs((x[:, ::2] * x[:, 1::2]).mean()) < 4 / (n / 2) ** 0.5
    assert (torch.corrcoef(x) - torch.eye(8)).abs().max() < 5 / 20_000**0.5


def test_any_subset_of_members_and_cells_has_the_same_numbers() -> None:
    cells = torch.arange(12).reshape(3, 4)
    everything = MemberStreams(2**63 + 1).normal(range(5), step=1, cells=cells)
    some = MemberStreams(2**63 + 1).normal([3, 1], step=1, cells=cells[:, 1:3])
    assert torch.equal(some, everything[[3, 1], :, 1:3])
    assert MemberStreams(0).normal([], step=0, cells=cells).shape == (0, 3, 4)


def test_key_step_and_member_all_matter() -> None:
    cells = torch.arange(4)
    drawn = [
        MemberStreams(key).normal([member], step=step, cells=cells)
        for key, member, step in [(0, 0, 0), (1, 0, 0), (2**32, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    assert len({tuple(x.flatten().tolist()) for x in drawn}) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": -1}, "step: expected 0 to below 4294967296, got -1 to -1"),
        ({"members": [2**32]}, "members: expected 0 to below 4294967296, got 42949"),
        ({"cells": torch.tensor([-1])}, "cells: expected 0 to below 8589934592, got -1 to -1"),
    ],
)
def test_numbers_out_of_range(change: dict, message: str) -> None:
    arguments = {"members": [0], "step": 0, "cells": torch.arange(2), **change}
    with pytest.raises(ValueError, match=f"^{message}"):
        MemberStreams(1).normal(arguments.pop("members"), **arguments)
    with pytest.raises(ValueError, match=r"^key: expected 0 <= key < 2\*\*64, got -1$"):
        MemberStreams(-1)
