"""Every message of a halo exchange at once, counted and not sent: for machines of any size.

Rows and columns of a window are seen through independently, up to the turn of the columns over a
pole, so that the cells that one rank has from another are a product of two counts:

    cells(receiver, sender) = rows(band, band') x columns(file, file')
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from stormda.parallel.domain import Domain


class HaloMessages(NamedTuple):
    """Who sends how many cells to whom, those within a rank left out; each (messages,), int64."""

    sender: Tensor
    """The rank that owns the cells."""

    receiver: Tensor
    """The rank that has them as ghosts."""

    cells: Tensor
    """How many."""


def halo_messages(domain: Domain, width: tuple[int, int]) -> HaloMessages:
    """Return the messages between all ranks of a field.

    Args:
        domain: The field and its ranks.
        width: The width of the halo along rows and columns [cells], less than the field is wide.

    Raises:
        ValueError: If the halo is too wide.

    Examples:
        >>> sender, receiver, cells = halo_messages(Domain.region((2, 4), ranks=(1, 2)), (1, 1))
        >>> sender.tolist(), receiver.tolist(), cells.tolist()
        ([1, 0], [0, 1], [2, 2])
    """
    check_width(domain, width)
    found = []
    for crossed in (False, True):
        rows = _counts(domain.rows, width[0], _seen_rows(domain, crossed))
        columns = _counts(domain.columns, width[1], _seen_columns(domain, crossed))
        pairs = torch.cartesian_prod(torch.arange(rows.shape[1]), torch.arange(columns.shape[1]))
        down, across = rows[:, pairs[:, 0]], columns[:, pairs[:, 1]]
        here, there = (down[i] * domain.ranks[1] + across[i] for i in (0, 1))
        found.append(torch.stack([there, here, down[2] * across[2]]))
    sender, receiver, cells = torch.cat(found, 1)
    ranks = domain.ranks[0] * domain.ranks[1]
    pair, place = torch.unique(receiver * ranks + sender, return_inverse=True)
    total = torch.zeros_like(pair).index_add(0, place, cells)
    other = pair // ranks != pair % ranks
    return HaloMessages(pair[other] % ranks, pair[other] // ranks, total[other])


def check_width(domain: Domain, width: tuple[int, int]) -> None:
    """Check that a halo is narrower than its field.

    Raises:
        ValueError: If it is not.

    Examples:
        >>> check_width(Domain.region((2, 4), ranks=(1, 2)), (1, 3))
    """
    if not all(0 <= w < n for w, n in zip(width, domain.shape, strict=True)):
        raise ValueError(f"width: expected 0 to below the cells {domain.shape}, got {width}")


def _seen_rows(domain: Domain, crossed: bool) -> Callable[[int, int], Tensor]:
    def seen(start: int, stop: int) -> Tensor:
        ahead = domain.rows_ahead(start, stop)
        return ahead.cells[(ahead.crossed == crossed) & (ahead.cells >= 0)]

    return seen


def _seen_columns(domain: Domain, crossed: bool) -> Callable[[int, int], Tensor]:
    def seen(start: int, stop: int) -> Tensor:
        cells = domain.columns_ahead(start, stop, crossed=crossed)
        return cells[cells >= 0]

    return seen


def _counts(sizes: tuple[int, ...], width: int, seen: Callable[[int, int], Tensor]) -> Tensor:
    """Return which part of a line sees how many cells of which (3, pairs): who, whom, cells."""
    ends = torch.tensor(sizes).cumsum(0)
    pairs = []
    for part, (size, end) in enumerate(zip(sizes, ends.tolist(), strict=True)):
        owners = torch.bucketize(seen(end - size - width, end + width), ends, right=True)
        whom, cells = torch.unique(owners, return_counts=True)
        pairs.append(torch.stack([torch.full_like(whom, part), whom, cells]))
    return torch.cat(pairs, 1)
