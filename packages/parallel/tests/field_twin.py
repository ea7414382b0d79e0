"""What a field on one process does, cell by cell: the slow, obvious twin of the halo plan."""

import torch
from torch import Tensor

from stormda.parallel import Border, Domain

POLES = (Border.POLE_EDGE, Border.POLE_ROW)


def beyond(border: Border, k: int, n: int) -> int | None:
    """Return the cell that lies k = 1, 2, ... before the first of n."""
    return {
        Border.RING: (n - k) % n,
        Border.POLE_EDGE: k - 1,
        Border.POLE_ROW: k,
        Border.NEAREST: 0,
        Border.ZERO: None,
    }[border]


def source(domain: Domain, row: int, column: int) -> tuple[int, int, bool] | None:
    """Return the cell of the field that is seen at a place that may lie outside."""
    rows, columns = domain.shape
    crossed = False
    if row < 0 or row >= rows:
        border = domain.north if row < 0 else domain.south
        found = beyond(border, -row if row < 0 else row - rows + 1, rows)
        if found is None:
            return None
        row, crossed = (found if row < 0 else rows - 1 - found), border in POLES
        if border is Border.RING:
            row = found if row < 0 or found == row else rows - 1 - beyond_ring(found, rows)
    if crossed:
        column += columns // 2
    if column < 0 or column >= columns:
        if domain.sides is Border.RING:
            return row, column % columns, crossed
        found = beyond(domain.sides, 1, columns)
        if found is None:
            return None
        column = 0 if column < 0 else columns - 1
    return row, column, crossed


def beyond_ring(found: int, n: int) -> int:
    return n - 1 - found
