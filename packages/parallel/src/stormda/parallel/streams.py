"""Random numbers as a function of where they are used: of key, member, step and cell.

Member 7 sees the same numbers alone, in any batch, on any number of ranks, and each rank can draw
those of its own cells only. Nothing has a state that would have to be kept or shared out.

    (key, member, step, pair of cells)  --Philox 4x32-10-->  128 bits  --Box-Muller-->  2 normals

Source: Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3, SC'11, section 3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_WORD = 2**32
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Return four words of 32 random bits for each counter of four words.

    Args:
        counter: `(..., 4)`, int64 that hold words of 32 bits.
        key: Two words of 32 bits.

    Returns:
        Of the shape of `counter`.

    Examples:
        >>> words = philox(torch.zeros(4, dtype=torch.int64), (0, 0))
        >>> [f"{word:08x}" for word in words.tolist()]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    a, b, c, d = counter.unbind(-1)
    k, m = key
    for _ in range(_ROUNDS):
        high_a, low_a = _product(a, _MULTIPLIERS[0])
        high_c, low_c = _product(c, _MULTIPLIERS[1])
        a, b, c, d = high_c ^ b ^ k, low_c, high_a ^ d ^ m, low_a
        k, m = (k + _WEYL[0]) % _WORD, (m + _WEYL[1]) % _WORD
    return torch.stack([a, b, c, d], -1)


@dataclass(frozen=True)
class MemberStreams:
    """The white noise of all members of an ensemble.

    Examples:
        >>> streams = MemberStreams(2026)
        >>> both = streams.normal([4, 9], step=0, cells=torch.arange(6))
        >>> torch.equal(both[1, 2:4], streams.normal([9], step=0, cells=torch.arange(2, 4))[0])
        True
    """

    key: int
    """Names the ensemble, 0 <= key < 2^64."""

    def __post_init__(self) -> None:
        """Check the key."""
        if not 0 <= self.key < _WORD**2:
            raise ValueError(f"key: expected 0 <= key < 2**64, got {self.key}")

    def normal(
        self,
        members: range | list[int],
        *,
        step: int,
        cells: Tensor,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """Return independent standard normal numbers, computed in double precision.

        Args:
            members: The members that this rank has (see `stormda.parallel.members`), below 2^32.
            step: The step of the sampler or the model, 0 <= step < 2^32.
            cells: The numbers of the cells of the whole field that this rank has, int64, from 0
                to below 2^33, of any shape.
            dtype: The data type of the result.

        Returns:
            `(len(members), *cells.shape)`, on the device of `cells`.

        Raises:
            ValueError: If a number is out of range.
        """
        _check("step", step, step, _WORD)
        if len(members) > 0:
            _check("members", min(members), max(members), _WORD)
        if cells.numel() > 0:
            _check("cells", int(cells.min()), int(cells.max()), 2 * _WORD)
        m = torch.tensor(list(members), dtype=torch.int64, device=cells.device)
        m = m.view(-1, *[1] * cells.dim())
        pair = (cells // 2).expand(len(members), *cells.shape)
        where = [pair, torch.zeros_like(pair), torch.full_like(pair, step), m.expand_as(pair)]
        words = philox(torch.stack(where, -1), (self.key % _WORD, self.key // _WORD))
        radius = (-2 * _uniform(words[..., 0], words[..., 1]).log()).sqrt()
        angle = 2 * math.pi * _uniform(words[..., 2], words[..., 3])
        return torch.where(cells % 2 == 0, radius * angle.cos(), radius * angle.sin()).to(dtype)


def _product(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Return the high and low words of a product of two words; int64 wraps, its bits are right."""
    product = x * factor
    return (product >> 32) & (_WORD - 1), product & (_WORD - 1)


def _uniform(high: Tensor, low: Tensor) -> Tensor:
    """Return numbers in (0, 1], of 53 bits."""
    bits = (high << 21) | (low >> 11)
    return (bits + 1).to(torch.float64) * 2.0**-53


def _check(argument: str, least: int, largest: int, bound: int) -> None:
    if least < 0 or largest >= bound:
        raise ValueError(f"{argument}: expected 0 to below {bound}, got {least} to {largest}")
