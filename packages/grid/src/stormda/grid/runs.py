"""Patches of grids that are lists: runs of cells along a curve."""

import numpy as np

from stormda.grid.axis import Ints
from stormda.grid.rings import table


def joined(neighbours: Ints, order: Ints | None, cells: int) -> Ints:
    """Return which runs of cells touch each run.

    Args:
        neighbours: The cells around each cell (n, k), -1 for none.
        order: The cells along the curve (n,); None where they already are in that order.
        cells: The length of a run.

    Returns:
        The runs around each run (ceil(n / cells), k), -1 for none.

    Examples:
        >>> ring = np.array([[3, 1], [0, 2], [1, 3], [2, 0]])
        >>> joined(ring, None, 2)
        array([[1],
               [0]])
    """
    n = len(neighbours)
    run = np.arange(n) // cells
    if order is not None:
        run = np.empty(n, np.int64)
        run[order] = np.arange(n) // cells
    here = np.repeat(run, neighbours.shape[1])
    there = neighbours.ravel()
    return table(here[there >= 0], run[there[there >= 0]], -(-n // cells))
