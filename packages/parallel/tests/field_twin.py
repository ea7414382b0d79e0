"""What a field does on one process, cell by cell: the slow, obvious twin of halos and merges."""

import math

import torch
from torch import Tensor

from stormda.parallel import Border, Domain

POLES = (Border.POLE_EDGE, Border.POLE_ROW)


def source(domain: Domain, row: int, column: int) -> tuple[int, int, bool] | None:
    """Return which cell is seen at a place that may lie outside, and whether over a pole."""
    rows, columns = domain.shape
    crossed = False
    if not 0 <= row < rows:
        border, k = (domain.north, -row) if row < 0 else (domain.south, row - rows + 1)
        if border is Border.ZERO:
            return None
        if border is Border.WRAP:
            row %= rows
        elif border is Border.NEAREST:
            row = min(max(row, 0), rows - 1)
        else:
            mirror = k - 1 if border is Border.POLE_EDGE else k
            row = mirror if row < 0 else rows - 1 - mirror
            column, crossed = column + columns // 2, True
    if not 0 <= column < columns:
        if domain.sides is Border.ZERO:
            return None
        ring = domain.sides is Border.WRAP
        column = column % columns if ring else min(max(column, 0), columns - 1)
    return row, column, crossed


def window_index(domain: Domain, rank: int, width: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the cell of the flat field at every place of a window, -1 for none; and crossed."""
    rows, columns = domain.box(rank)
    places = [
        [
            source(domain, row, column)
            for column in range(columns.start - width[1], columns.stop + width[1])
        ]
        for row in range(rows.start - width[0], rows.stop + width[0])
    ]
    m = domain.shape[1]
    index = [[-1 if at is None else at[0] * m + at[1] for at in line] for line in places]
    crossed = [[at is not None and at[2] for at in line] for line in places]
    return torch.tensor(index), torch.tensor(crossed)


def window(field: Tensor, domain: Domain, rank: int, width: tuple[int, int], signs: Tensor):
    """Return the window (channels, rows, columns) of a rank, differentiably."""
    index, crossed = window_index(domain, rank, width)
    values = field.flatten(-2)[:, index.clamp(min=0)]
    factor = torch.where(crossed, signs[:, None, None], torch.ones_like(signs)[:, None, None])
    return torch.where(index >= 0, values * factor, 0)


def added_up(windows: list[Tensor], domain: Domain, width: tuple[int, int], signs: Tensor):
    """Return the field (channels, rows, columns) that windows add up to, differentiably."""
    total = windows[0].new_zeros(len(windows[0]), math.prod(domain.shape))
    for rank, part in enumerate(windows):
        index, crossed = window_index(domain, rank, width)
        factor = torch.where(crossed, signs[:, None, None], torch.ones_like(signs)[:, None, None])
        known = index >= 0
        total = total.index_add(1, index[known], (part * factor)[:, known])
    return total.view(-1, *domain.shape)


def merge_weight(domain: Domain, rank: int, width: tuple[int, int]) -> Tensor:
    """Return the weights of a window before they are divided by their sum."""
    lines = []
    for at, sizes, h, borders in (
        (domain.place(rank)[0], domain.rows, width[0], (domain.north, domain.south)),
        (domain.place(rank)[1], domain.columns, width[1], (domain.sides, domain.sides)),
    ):
        shut = (Border.ZERO, Border.NEAREST)
        first, last = at == 0 and borders[0] in shut, at == len(sizes) - 1 and borders[1] in shut
        n = sizes[at] + 2 * h
        line = []
        for i in range(n):
            up = 1.0 if first or i >= 2 * h else math.sin(math.pi * (i + 0.5) / (4 * h)) ** 2
            j = n - 1 - i
            down = 1.0 if last or j >= 2 * h else math.sin(math.pi * (j + 0.5) / (4 * h)) ** 2
            outside = (first and i < h) or (last and j < h)
            line.append(0.0 if outside else up * down)
        lines.append(torch.tensor(line, dtype=torch.float64))
    index, _ = window_index(domain, rank, width)
    return lines[0][:, None] * lines[1] * (index >= 0)
