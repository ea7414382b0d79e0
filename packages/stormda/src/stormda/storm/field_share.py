"""The part of a field that a process holds, and how it reaches the rest.

On a mesh with axes `lat` and `lon` a field is cut into rectangles of whole tokens:

    cut       whole field -> own cells         what every process does with data it has read
    joined    own cells -> whole field         for what wants all of it
    around, sum, together                      what the mixers of a block need (`Spread`)

Everything else in the network takes tokens one by one. A process that holds the whole field is the
same thing with nothing to send.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor

from stormda.grid import Patching, PlaneGrid
from stormda.parallel import (
    Border,
    Communicator,
    Domain,
    SelfComm,
    StartedMesh,
    by_heads,
    gather,
    gather_invariant,
    halo,
    halo_plan,
)

AXES = ("lat", "lon")
"""The axes of a mesh over which fields are cut."""


class FieldShare:
    """This process's rectangle of the fields of a grid.

    Args:
        patching: How the cells of the whole grid are gathered into tokens.
        mesh: The ranks; None, or a mesh without `lat` and `lon`, for the whole field.
        poles: Whether tokens go on over the poles, as the blocks have it.

    Raises:
        ValueError: If the grid cannot be cut into so many rectangles of whole tokens.

    Examples:
        >>> from stormda.grid import grid
        >>> share = FieldShare(Patching(grid("5deg"), (4, 4)))
        >>> share.patching.token_shape, share.cut(torch.zeros(2, 36, 72)).shape
        ((9, 18), torch.Size([2, 36, 72]))
    """

    def __init__(
        self, patching: Patching, mesh: StartedMesh | None = None, *, poles: bool = False
    ) -> None:
        self.whole = self.patching = patching
        self.comm: Communicator = SelfComm()
        self._tokens: list[int] = []
        axes = [] if mesh is None else [axis for axis in AXES if axis in mesh.mesh.names]
        if mesh is None or not axes or mesh.comm(*axes).size == 1:
            return
        self.comm = mesh.comm(*axes)
        ranks = [mesh.size(axis) if axis in axes else 1 for axis in AXES]
        self.domain = _domain(self.whole, (ranks[0], ranks[1]), poles)
        self._box = self.domain.box(self.comm.rank)
        rows, columns = (s.stop - s.start for s in self._box)
        patch = patching.patch
        local = PlaneGrid((rows * patch[0], columns * patch[1]), spacing_m=(1.0, 1.0))
        self.patching = Patching(local, patch=patch)
        self._halo = halo_plan(self.domain, self.comm.rank, (1, 1))
        places = torch.arange(math.prod(self.shape)).view(self.shape)
        boxes = [self.domain.box(rank) for rank in range(self.comm.size)]
        self._tokens = [places[box].numel() for box in boxes]
        self._places = torch.cat([places[box].flatten() for box in boxes])
        self._order = torch.argsort(self._places)

    @property
    def alone(self) -> bool:
        """Return whether this process holds the whole field."""
        return self.comm.size == 1

    @property
    def shape(self) -> tuple[int, int]:
        """The rows and columns of all tokens."""
        rows, columns = self.whole.token_shape
        return rows, columns

    @property
    def rectangle(self) -> tuple[slice, slice] | None:
        """The rows and columns of this process's cells; None where it holds the whole field."""
        if self.alone:
            return None
        rows, columns = (
            slice(tokens.start * cells, tokens.stop * cells)
            for tokens, cells in zip(self._box, self.whole.patch, strict=True)
        )
        return rows, columns

    def cells(self, x: Tensor) -> int:
        """Return how many numbers the whole of a field (variables, own rows, own cols) has."""
        return len(x) * math.prod(self.whole.grid.shape)

    def cut(self, x: Tensor) -> Tensor:
        """Return this process's cells of whole fields, (..., rows, cols)."""
        rectangle = self.rectangle
        return x if rectangle is None else x[..., rectangle[0], rectangle[1]]

    def enter(self, x: Tensor) -> Tensor:
        """Return this process's cells of fields that all have alike, and whose gradients all want.

        Fields (..., rows, cols), such as the states of a sampler that runs on every process.
        """
        return x if self.alone else self.cut(self.comm.copy_in(x))

    def cut_tokens(self, x: Tensor) -> Tensor:
        """Return this process's part of something of all tokens, (n, ...)."""
        if self.alone:
            return x
        return x.reshape(*self.shape, *x.shape[1:])[self._box].flatten(0, 1)

    def joined(self, x: Tensor, *, invariant: bool = False) -> Tensor:
        """Return whole fields of everybody's cells: the inverse of `cut`.

        Args:
            x: This process's cells, (..., own rows, own cols).
            invariant: Whether all processes then do the same with them, so that the gradients of
                one stand for all; else gradients are summed.
        """
        if self.alone:
            return x
        py, px = self.whole.patch
        cells = rearrange(x, "... (y a) (x b) -> ... (y x) a b", a=py, b=px)
        join = gather_invariant if invariant else gather
        everybody = join(cells, self.comm, dim=-3, sizes=self._tokens)
        ordered = everybody.index_select(-3, self._order.to(x.device))
        return rearrange(ordered, "... (y x) a b -> ... (y a) (x b)", y=self.shape[0])

    def around(self, field: Tensor) -> Tensor:
        """Return tokens (b, rows, columns, D) in a frame of one token around them."""
        cells = rearrange(field, "b y x d -> b d y x")
        return rearrange(halo(cells, self._halo, self.comm), "b d y x -> b y x d")

    def sum(self, packed: Tensor) -> Tensor:
        """Return the sum over the processes that share the field."""
        return self.comm.psum(packed)

    def together(
        self,
        attention: Callable[..., Tensor],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the answers for own tokens of an attention that wants all, by `by_heads`."""
        order, places = self._order.to(q.device), self._places.to(q.device)
        if weight is not None:
            weight = gather(weight, self.comm, dim=-1, sizes=self._tokens)[..., order]

        def in_order(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if not q.shape[-3]:
                return v
            q, k, v = (x.index_select(-2, order) for x in (q, k, v))
            return attention(q, k, v, weight=weight).index_select(-2, places)

        return by_heads(in_order, q, k, v, self.comm, sizes=self._tokens)


def _domain(patching: Patching, ranks: tuple[int, int], poles: bool) -> Domain:
    """Return how the tokens of a grid are shared out."""
    grid = patching.grid
    if len(grid.shape) != len(AXES):
        raise ValueError(
            f"mesh: expected a grid of rows and columns where fields are cut over {AXES}, "
            f"got {type(grid).__name__}"
        )
    if any(n % p for n, p in zip(grid.shape, patching.patch, strict=True)):
        raise ValueError(
            f"mesh: expected rows and columns that the patch {patching.patch} divides where "
            f"fields are cut over {AXES}, got {grid.shape}"
        )
    ring_of_rows, ring_of_columns = (Border.WRAP if p else Border.ZERO for p in grid.periodic)
    ends = Border.POLE_EDGE if poles else ring_of_rows
    rows, columns = (_sizes(*of) for of in zip(patching.token_shape, ranks, AXES, strict=True))
    return Domain(rows=rows, columns=columns, north=ends, south=ends, sides=ring_of_columns)


def _sizes(tokens: int, ranks: int, axis: str) -> tuple[int, ...]:
    """Return how many rows, or columns, of tokens every rank has: those of `TileLayout`."""
    if tokens < ranks:
        raise ValueError(f"mesh: expected at most {tokens} ranks along {axis}, got {ranks}")
    ends = [tokens * i // ranks for i in range(ranks + 1)]
    return tuple(stop - start for start, stop in pairwise(ends))
