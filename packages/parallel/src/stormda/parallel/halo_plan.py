"""Which ghost cell of which rank comes from where: computed once, used at every exchange.

A rank's window is its rectangle and a halo of a given width around it. Every cell of the window
that is not the rank's own is a ghost: the plan says which rank owns it, at which cell, and whether
it is seen from over a pole. Ghosts may belong to any rank, also to this one, and a halo may be
wider than a rectangle. Messages are negotiated by nobody: a rank evaluates what each of its
neighbours lacks. Neighbourhood is mutual, as distance is, so that those a rank hears from are
those it speaks to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from stormda.parallel.domain import POLES, Border, Domain
from stormda.parallel.halo_messages import check_width


class Ghosts(NamedTuple):
    """The ghosts of a window, those of the lowest rank first; each (ghosts,)."""

    window: Tensor
    """Where in the window, row by row, int64."""

    owner: Tensor
    """The rank that has the cell, int64."""

    cell: Tensor
    """Where in that rank's rectangle, row by row, int64."""

    crossed: Tensor
    """Whether it is seen from over a pole, bool."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HaloPlan:
    """One rank's share of a halo exchange; made by `halo_plan`."""

    shape: tuple[int, int]
    """The rows and columns of the rank's rectangle."""

    width: tuple[int, int]
    """The width of the halo along rows and columns [cells]."""

    sent: tuple[int, ...]
    """How many cells go to every rank."""

    received: tuple[int, ...]
    """How many cells come from every rank."""

    leaving: Tensor
    """The cells that are sent, in rank order (sum of `sent`,), int64."""

    leaving_crossed: Tensor
    """Which of them their receiver sees from over a pole (sum of `sent`,), bool."""

    ghosts: Ghosts
    """The cells that are received."""

    open: tuple[bool, bool, bool, bool]
    """Whether nobody's cells lie north, south, west, east of the rectangle."""

    @property
    def window(self) -> tuple[int, int]:
        """The rows and columns of rectangle and halo."""
        (rows, columns), (above, beside) = self.shape, self.width
        return rows + 2 * above, columns + 2 * beside

    @property
    def neighbours(self) -> list[int]:
        """The ranks that this one exchanges cells with, itself included where it is one."""
        return [rank for rank, count in enumerate(self.received) if count]

    @cached_property
    def own(self) -> Tensor:
        """Where in the window the rectangle is, row by row (cells,), int64."""
        (rows, columns), (above, beside) = self.shape, self.width
        grid = torch.arange(self.window[0] * self.window[1]).view(self.window)
        return grid[above : above + rows, beside : beside + columns].reshape(-1)

    @cached_property
    def contributions(self) -> tuple[Tensor, Tensor]:
        """For every cell that is sent at all: which cell, and where among those sent.

        The second is (cells, largest number of times), filled with the number of all sent.
        """
        order = torch.argsort(self.leaving, stable=True)
        cells, counts = torch.unique_consecutive(self.leaving[order], return_counts=True)
        starts = counts.cumsum(0) - counts
        turn = torch.arange(int(counts.max()) if len(counts) else 0)
        places = (starts[:, None] + turn).clamp(max=max(len(order) - 1, 0))
        filler = torch.full_like(places, len(order))
        return cells, torch.where(turn < counts[:, None], order[places], filler)


def halo_plan(domain: Domain, rank: int, width: tuple[int, int]) -> HaloPlan:
    """Plan a rank's part of the halo exchange of a field.

    Args:
        domain: The field and its ranks, which are numbered as `mesh.comm("lat", "lon")` does.
        rank: The rank.
        width: The width of the halo along rows and columns [cells], less than the field is wide.

    Raises:
        ValueError: If there is no such rank, or the halo is too wide.

    Examples:
        >>> plan = halo_plan(Domain.globe((8, 16), ranks=(2, 4)), rank=0, width=(1, 1))
        >>> plan.window, plan.neighbours, sum(plan.sent)
        ((6, 6), [1, 2, 3, 4, 5, 7], 20)
    """
    check_width(domain, width)
    rows, columns = domain.box(rank)
    ghosts = ghosts_of(domain, rank, width)
    ranks = domain.ranks[0] * domain.ranks[1]
    received = torch.bincount(ghosts.owner, minlength=ranks)
    sent, leaving, crossed = _what_leaves(domain, rank, width, received.nonzero().flatten())
    north, south = rows.start == 0, rows.stop == domain.shape[0]
    west, east = columns.start == 0, columns.stop == domain.shape[1]
    return HaloPlan(
        shape=(rows.stop - rows.start, columns.stop - columns.start),
        width=width,
        sent=tuple(sent),
        received=tuple(received.tolist()),
        leaving=leaving,
        leaving_crossed=crossed,
        ghosts=ghosts,
        open=(
            north and _is_open(domain.north),
            south and _is_open(domain.south),
            west and _is_open(domain.sides),
            east and _is_open(domain.sides),
        ),
    )


def ghosts_of(domain: Domain, rank: int, width: tuple[int, int]) -> Ghosts:
    """Return the ghosts of a rank's window.

    Examples:
        >>> domain = Domain.region((2, 4), ranks=(1, 2))
        >>> ghosts_of(domain, 0, (0, 1)).cell
        tensor([0, 2])
    """
    (rows, columns), (above, beside) = domain.box(rank), width
    ahead = domain.rows_ahead(rows.start - above, rows.stop + above)
    across = (columns.start - beside, columns.stop + beside)
    plain = domain.columns_ahead(*across)
    turned = domain.columns_ahead(*across, crossed=True) if ahead.crossed.any() else plain
    row = ahead.cells[:, None].expand(-1, len(plain))
    crossed = ahead.crossed[:, None].expand_as(row)
    column = torch.where(crossed, turned, plain)
    ghost = (row >= 0) & (column >= 0)
    ghost[above : len(row) - above, beside : row.shape[1] - beside] = False
    place = ghost.flatten().nonzero().flatten()
    owner, cell = _owned(domain, row.flatten()[place], column.flatten()[place])
    order = torch.argsort(owner, stable=True)
    return Ghosts(place[order], owner[order], cell[order], crossed.flatten()[place[order]])


def _what_leaves(
    domain: Domain, rank: int, width: tuple[int, int], neighbours: Tensor
) -> tuple[list[int], Tensor, Tensor]:
    """Return how many cells every rank lacks of this one's, which, and seen from where."""
    sent = [0] * (domain.ranks[0] * domain.ranks[1])
    leaving, crossed = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.bool)]
    for neighbour in neighbours.tolist():
        lacked = ghosts_of(domain, neighbour, width)
        mine = lacked.owner == rank
        sent[neighbour] = int(mine.sum())
        leaving.append(lacked.cell[mine])
        crossed.append(lacked.crossed[mine])
    return sent, torch.cat(leaving), torch.cat(crossed)


def _owned(domain: Domain, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rank that has a cell, and where in its rectangle."""
    band, down = _shared(domain.rows, row)
    file, along = _shared(domain.columns, column)
    return band * domain.ranks[1] + file, down * torch.tensor(domain.columns)[file] + along


def _shared(sizes: Sequence[int], at: Tensor) -> tuple[Tensor, Tensor]:
    """Return the part that a cell of a line belongs to, and how far inside it is."""
    ends = torch.tensor(sizes).cumsum(0)
    part = torch.bucketize(at, ends, right=True)
    return part, at - (ends[part] - torch.tensor(sizes)[part])


def _is_open(border: Border) -> bool:
    return border not in (*POLES, Border.WRAP)
