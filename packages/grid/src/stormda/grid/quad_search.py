"""Where a point lies among cell centres whose rows and columns bend.

The nearest centres come from a tree; around each lie four quadrilaterals of centres. In the plane
that touches the sphere at the point, a quadrilateral with corners a, b, c, d is the image of

    f(s, t) = (1 - s) (1 - t) a + (1 - s) t b + s t c + s (1 - t) d,

and Newton's method finds the s and t of the point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stormda.grid.axis import Bools, Floats, Ints

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

CANDIDATES = 4
"""The nearest centres whose quadrilaterals are tried: more than one where cells are slanted."""

CONVERGED = 1e-9
"""What is left after the last step where there is a solution [of the quadrilateral's distance]."""

STEPS = 8
"""Newton steps; the error is squared by each, from a tenth of a cell."""

MORE_STEPS = 40
"""Steps where these do not suffice: at the ends of a fold the error is only halved by each."""

ON = 1e-9
"""How far from a centre a point still lies on it, whatever the quadrilaterals [radians]."""


def locate_in_quads(
    tree: cKDTree, centres: Floats, points: Floats, wraps: bool, before: int = 0
) -> tuple[Floats, Floats]:
    """Return the fractional row and column of points among centres.

    Args:
        tree: Of the centres, row by row, without the rows that come before or are over a fold.
        centres: Cell centres (rows, cols, 3) as unit vectors.
        points: Points (m, 3) as unit vectors.
        wraps: Whether the last column is followed by the first.
        before: The rows of `centres` that come before those of the tree; they count as -1, ...

    Returns:
        Rows and columns (m,); half a cell beyond a border at most, and -1 further outside.
    """
    row, col = _search(tree, centres, points, wraps, before, STEPS)
    lost = np.flatnonzero(col < 0)
    row[lost], col[lost] = _search(tree, centres, points[lost], wraps, before, MORE_STEPS)
    return row, col


def _search(
    tree: cKDTree, centres: Floats, points: Floats, wraps: bool, before: int, steps: int
) -> tuple[Floats, Floats]:
    """Return fractional rows and columns by so many steps; see `locate_in_quads`."""
    rows, cols, _ = centres.shape
    m, k = len(points), min(CANDIDATES, rows * cols)
    distance, near = (found.reshape(m, k) for found in tree.query(points, k=k))
    row, col = np.divmod(near, cols)
    quad_row = np.clip(row[..., None] + before - [0, 0, 1, 1], 0, rows - 2).reshape(m, 4 * k)
    quad_col = col[..., None] - [0, 1, 0, 1]
    quad_col = quad_col % cols if wraps else np.clip(quad_col, 0, cols - 2)
    quad_col = quad_col.reshape(m, 4 * k)
    s, t = _coordinates(_corners(centres, quad_row, quad_col), points, steps)
    miss = np.maximum(np.abs(s - 0.5), np.abs(t - 0.5))
    best = (np.arange(m), np.where(np.isfinite(miss), miss, np.inf).argmin(1))
    at_row, known_y = _settle(quad_row[best], s[best], rows, wraps=False)
    at_col, known_x = _settle(quad_col[best], t[best], cols, wraps=wraps)
    at_col = np.where(wraps & (at_col >= cols), at_col - cols, at_col)
    on, known = distance[:, 0] < ON, known_y & known_x
    at_row = np.where(known, at_row - before, -1.0)
    return np.where(on, row[:, 0], at_row), np.where(on, col[:, 0], np.where(known, at_col, -1.0))


def _corners(centres: Floats, row: Ints, col: Ints) -> Floats:
    """Return the corners of quadrilaterals (..., 4, 3)."""
    after = (col + 1) % centres.shape[1]
    pairs = (row, col), (row, after), (row + 1, after), (row + 1, col)
    return np.stack([centres[pair] for pair in pairs], axis=-2)


def _coordinates(corners: Floats, points: Floats, steps: int) -> tuple[Floats, Floats]:
    """Return s and t of points (m, 3) in each of their quadrilaterals (m, q, 4, 3)."""
    east, north = _tangents(points)
    p = points[:, None, None]
    ahead = (corners * p).sum(-1)
    u = (corners * east[:, None, None]).sum(-1) / ahead
    v = (corners * north[:, None, None]).sum(-1) / ahead
    s = np.full(u.shape[:-1], 0.5)
    t = s.copy()
    with np.errstate(all="ignore"):  # flat quadrilaterals, as at a pole, give no finite answer
        for _ in range(steps):
            f, fs, ft = _bilinear(u, s, t)
            g, gs, gt = _bilinear(v, s, t)
            det = fs * gt - ft * gs
            s, t = s - (f * gt - ft * g) / det, t - (fs * g - f * gs) / det
        missed = np.hypot(_bilinear(u, s, t)[0], _bilinear(v, s, t)[0]) / np.hypot(u, v).max(-1)
    found = (ahead > 0).all(-1) & (missed < CONVERGED)
    return np.where(found, s, np.nan), np.where(found, t, np.nan)


def _bilinear(corner: Floats, s: Floats, t: Floats) -> tuple[Floats, Floats, Floats]:
    """Return f and its derivatives with respect to s and t."""
    a, b, c, d = np.moveaxis(corner, -1, 0)
    low, high = (1 - t) * a + t * b, (1 - t) * d + t * c
    return (1 - s) * low + s * high, high - low, (1 - s) * (b - a) + s * (c - d)


def _tangents(points: Floats) -> tuple[Floats, Floats]:
    """Return two directions (m, 3) that span the plane which touches the sphere at points."""
    aside = np.where(np.abs(points[:, 2:]) < 0.9, [0.0, 0.0, 1.0], [1.0, 0.0, 0.0])
    east = np.cross(aside, points)
    east /= np.linalg.norm(east, axis=-1, keepdims=True)
    return east, np.cross(points, east)


def _settle(low: Ints, part: Floats, n: int, *, wraps: bool) -> tuple[Floats, Bools]:
    """Return fractional numbers, and which lie inside or half a cell beyond a border."""
    slack = 1e-6  # rounding of the coordinates
    before = 0.5 if wraps is False else slack
    first, last = (low == 0) & (not wraps), (low == n - 2) & (not wraps)
    lowest = np.where(first, -before, -slack)
    highest = 1 + np.where(last, before, slack)
    known = np.isfinite(part) & (part >= lowest) & (part <= highest)
    number = low + np.where(known, part, 0.0)
    whole = np.rint(number)
    return np.where(np.abs(number - whole) < slack, whole, number), known
