"""Exact softmax attention in tiles: each query sees the keys of its tile and of a halo around it.

The grid is cut into tiles of `(ty, tx)` tokens, the last ones smaller where the sizes do not
divide. The window of a tile is the tile and `(hy, hx)` tokens around it; it wraps where the grid
is periodic, ends at the edge where it is not, and holds every key once.

Source of the scheme: Wang et al. (2025), ORBIT-2 (TILES), https://arxiv.org/abs/2505.04802; there
without the wrap.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from stormda.attention.arguments import check_heads, check_keys, check_shape
from stormda.attention.softmax import softmax_attention


def tile_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    shape: tuple[int, int],
    tile: tuple[int, int],
    halo: tuple[int, int],
    periodic: tuple[bool, bool] = (False, True),
    weight: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Mix `v` with softmax attention inside tile and halo, at O(n) cost for a given tile.

    Args:
        q: Queries `(*batch, h, n, d)`, tokens row by row.
        k: Keys `(*batch, h, n, d)`.
        v: Values `(*batch, h, n, e)`.
        shape: Rows and columns of tokens; their product is `n`.
        tile: Rows and columns of a tile.
        halo: Rows above and below a tile, and columns left and right of it, that it sees too.
        periodic: Whether the rows, and the columns, close to a ring.
        weight: What each key counts, such as the area of its cell, `(*batch, n)` or broadcastable
            to it; not negative.
        mask: True where a key counts, `(*batch, n)` or broadcastable to it.

    Returns:
        The answers `(*batch, h, n, e)` in the dtype of `v`; zero where no key counts.

    Raises:
        ValueError: Shapes that do not belong together, a mask that is not boolean, a tile below
            1 or a halo below 0.

    Examples:
        >>> q, k, v = torch.rand(3, 1, 8, 6 * 10, 32).unbind()
        >>> tile_attention(q, k, v, shape=(6, 10), tile=(4, 4), halo=(1, 2)).shape
        torch.Size([1, 8, 60, 32])
    """
    _check(q, k, v, shape, tile, halo, weight, mask)
    rows, columns = (
        _cut(*of_axis, device=q.device)
        for of_axis in zip(shape, tile, halo, periodic, strict=True)
    )
    seen = _seen(rows, columns)
    if mask is not None:
        counts = _key_windows(mask, rows, columns)
        seen = counts if seen is None else counts & seen
    answers = softmax_attention(
        _windows(_field(q, shape), rows.queries, columns.queries),
        _windows(_field(k, shape), rows.keys, columns.keys),
        _windows(_field(v, shape), rows.keys, columns.keys),
        weight=None if weight is None else _key_windows(weight, rows, columns),
        mask=seen,
    )
    tile_rows = rows.queries.shape[1]
    field = rearrange(answers, "... Y X h (y x) e -> ... h (Y y) (X x) e", y=tile_rows)
    return field[..., : shape[0], : shape[1], :].flatten(-3, -2)


@dataclass(frozen=True)
class _Cut:
    """How one direction of the grid is cut into `T` tiles."""

    queries: Tensor
    """The indices of each tile `(T, t)`; past the edge, the last index."""

    keys: Tensor
    """The indices of each window `(T, w)`; past the edge, the nearest index."""

    seen: Tensor
    """True for the keys of each window that count, `(T, w)`."""

    whole: bool
    """Whether all of them count."""

    size: int
    """The number of indices that were cut."""


def _cut(size: int, tile: int, halo: int, periodic: bool, *, device: torch.device) -> _Cut:
    """Cut `size` indices into tiles and windows."""
    tile = min(tile, size)
    start = torch.arange(0, size, tile, device=device)[:, None]
    offset = torch.arange(tile + 2 * halo, device=device)
    position = start - halo + offset
    seen = position < (start + tile).clamp(max=size) + halo
    if periodic:
        seen = seen & (offset < size)  # once around at most
        keys = position % size
        whole = tile + 2 * halo <= size
    else:
        seen = seen & (position >= 0) & (position < size)
        keys = position.clamp(0, size - 1)
        whole = halo == 0
    queries = (start + offset[:tile]).clamp(max=size - 1)
    return _Cut(queries, keys, seen, whole and size % tile == 0, size)


def _seen(rows: _Cut, columns: _Cut) -> Tensor | None:
    """Return which keys of each window count, `(Y, X, wy wx)`; None where all do."""
    if rows.whole and columns.whole:
        return None
    seen = rows.seen[:, None, :, None] & columns.seen[None, :, None, :]
    return seen.flatten(-2)


def _field(tokens: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return tokens `(..., n, d)` as a field `(..., y, x, d)`."""
    return rearrange(tokens, "... (y x) d -> ... y x d", y=shape[0], x=shape[1])


def _windows(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Take the indices `rows (Y, y)` and `columns (X, x)` of `(..., h, rows, columns, d)`.

    Returns:
        One set of tokens a tile, `(..., Y, X, h, y x, d)`.
    """
    taken = x.index_select(-3, rows.flatten()).index_select(-2, columns.flatten())
    pattern = "... h (Y y) (X x) d -> ... Y X h (y x) d"
    return rearrange(taken, pattern, Y=len(rows), X=len(columns))


def _key_windows(values: Tensor, rows: _Cut, columns: _Cut) -> Tensor:
    """Take the windows of `values (*batch, n)`, or `(*batch, 1)`: `(*batch, Y, X, w)`."""
    shape = rows.size, columns.size
    each = values.expand(*values.shape[:-1], math.prod(shape))
    field = _field(each[..., None, :, None], shape)  # one head of one feature
    return _windows(field, rows.keys, columns.keys)[..., 0, :, 0]


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    shape: tuple[int, int],
    tile: tuple[int, int],
    halo: tuple[int, int],
    weight: Tensor | None,
    mask: Tensor | None,
) -> None:
    """Raise unless the arguments belong together."""
    check_heads(q, k, v)
    check_shape(q.shape[-2], shape)
    check_shape(k.shape[-2], shape)
    check_keys(k.shape[-2], weight, mask)
    if len(tile) != 2 or min(tile) < 1:
        raise ValueError(f"tile: expected (rows, columns) of at least 1, got {tile}")
    if len(halo) != 2 or min(halo) < 0:
        raise ValueError(f"halo: expected (rows, columns) of at least 0, got {halo}")
