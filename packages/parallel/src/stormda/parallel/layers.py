"""Linear layers whose weight is shared out over the ranks of the tensor axis.

    column  y_r = x W_r^T + b_r          rank r has some of the outputs (heads, hidden features)
    row     y = sum_r x_r W_r^T + b      rank r has the inputs that a column layer made

A column layer, anything local to a feature or a head, and a row layer make one block that costs
one all-reduce forward (`reduce_out`) and one backward (`copy_in`). The weights are drawn whole
and then cut, so that any number of ranks starts from the same numbers; `of` cuts a layer that is
there already.

Source: Shoeybi et al. (2019), Megatron-LM, section 3, https://arxiv.org/abs/1909.08053.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from stormda.parallel.collectives import copy_in, reduce_out
from stormda.parallel.communicator import Communicator
from stormda.parallel.layout import Split
from stormda.parallel.sizes import balanced_sizes


def unit_sizes(features: int, unit: int, comm: Communicator) -> tuple[int, ...]:
    """Return how many of the features every rank has, in whole units.

    Args:
        features: How many there are.
        unit: How many belong together: the width of a head, or three times that where a layer
            makes query, key and value of a head side by side, as `(h three d)`.
        comm: The ranks.

    Raises:
        ValueError: If the units do not divide the features, or there are fewer than ranks.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> unit_sizes(12, 4, SelfComm())
        (12,)
    """
    if unit < 1 or features < 1 or features % unit:
        raise ValueError(f"unit: expected a positive divisor of {features} features, got {unit}")
    if features // unit < comm.size:
        raise ValueError(
            f"unit: expected at least {comm.size} units, one for each rank, got "
            f"{features // unit} of {unit} features"
        )
    return tuple(unit * n for n in balanced_sizes(features // unit, comm.size))


class ColumnLinear(nn.Module):
    """A linear layer of which every rank computes some of the outputs (I -> S).

    Args:
        inputs: Features of the input, which all ranks share.
        outputs: Features of the output, all ranks' together.
        comm: The ranks of the tensor axis.
        unit: How many outputs belong together.
        bias: Whether to add one.
        generator: Where the weights come from, in the same state on every rank.
        dtype: The data type of the parameters.

    Raises:
        ValueError: If the units do not fit the ranks.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> layer = ColumnLinear(3, 8, SelfComm(), unit=4, generator=torch.Generator())
        >>> layer(torch.ones(2, 3)).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        comm: Communicator,
        *,
        unit: int = 1,
        bias: bool = True,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.comm = comm
        cut = Split(dim=0, sizes=unit_sizes(outputs, unit, comm), comm=comm)
        weight, offset = _drawn(inputs, outputs, generator, dtype)
        self.splits = {"weight": cut} | ({"bias": cut} if bias else {})
        self.weight = nn.Parameter(_own(weight, cut).to(comm.device))
        self.bias = nn.Parameter(_own(offset, cut).to(comm.device)) if bias else None

    @classmethod
    def of(
        cls, layer: nn.Linear, comm: Communicator, *, unit: int = 1, blocks: int = 1
    ) -> ColumnLinear:
        """Return this rank's part of a whole layer, the same on every rank.

        Args:
            layer: The whole layer.
            comm: The ranks of the tensor axis.
            unit: How many outputs belong together.
            blocks: How many projections of equal width its outputs hold one after the other, such
                as 3 for `(three h d)`; of each a rank has the same share. The weight is then
                (own outputs of a block, blocks, inputs), so that its first dimension can be
                sharded further.

        Raises:
            ValueError: If the blocks do not divide the outputs, or the units do not fit the ranks.

        Examples:
            >>> from stormda.parallel import SelfComm
            >>> qkv = nn.Linear(8, 3 * 8)
            >>> part = ColumnLinear.of(qkv, SelfComm(), unit=4, blocks=3)
            >>> part.weight.shape, torch.equal(part(torch.ones(1, 8)), qkv(torch.ones(1, 8)))
            (torch.Size([8, 3, 8]), True)
        """
        outputs = layer.out_features
        if blocks < 1 or outputs % blocks:
            raise ValueError(f"blocks: expected a positive divisor of {outputs}, got {blocks}")
        part = cls.__new__(cls)
        nn.Module.__init__(part)
        part.comm = comm
        cut = Split(dim=0, sizes=unit_sizes(outputs // blocks, unit, comm), comm=comm)
        part.splits = {"weight": cut}
        part.weight = nn.Parameter(_own(blocks_inside(layer.weight.detach(), blocks), cut))
        part.bias = None
        if layer.bias is not None:
            part.splits["bias"] = cut
            part.bias = nn.Parameter(_own(blocks_inside(layer.bias.detach(), blocks), cut))
        return part

    def forward(self, x: Tensor) -> Tensor:
        """Return this rank's outputs: `(..., inputs) -> (..., own outputs)`."""
        own = [self.weight] if self.bias is None else [self.weight, self.bias]
        if self.weight.ndim > 2:
            return linear(copy_in(x, self.comm), *map(blocks_outside, own))
        return linear(copy_in(x, self.comm), *own)


class RowLinear(nn.Module):
    """A linear layer of which every rank has some of the inputs (S -> I).

    Args:
        inputs: Features of the input, all ranks' together.
        outputs: Features of the output, which all ranks get.
        comm: The ranks of the tensor axis.
        unit: How many inputs belong together, as in the column layer before.
        bias: Whether to add one; it is added once, after the sum.
        generator: Where the weights come from, in the same state on every rank.
        dtype: The data type of the parameters.

    Raises:
        ValueError: If the units do not fit the ranks.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> layer = RowLinear(8, 3, SelfComm(), unit=4, generator=torch.Generator())
        >>> layer(torch.ones(2, 8)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        comm: Communicator,
        *,
        unit: int = 1,
        bias: bool = True,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.comm = comm
        cut = Split(dim=1, sizes=unit_sizes(inputs, unit, comm), comm=comm)
        weight, offset = _drawn(inputs, outputs, generator, dtype)
        self.splits = {"weight": cut}
        self.weight = nn.Parameter(_own(weight, cut).to(comm.device))
        self.bias = nn.Parameter(offset.to(comm.device)) if bias else None

    @classmethod
    def of(cls, layer: nn.Linear, comm: Communicator, *, unit: int = 1) -> RowLinear:
        """Return this rank's part of a whole layer, the same on every rank.

        Args:
            layer: The whole layer.
            comm: The ranks of the tensor axis.
            unit: How many inputs belong together, as in the column layer before.

        Raises:
            ValueError: If the units do not fit the ranks.

        Examples:
            >>> from stormda.parallel import SelfComm
            >>> whole = nn.Linear(8, 3)
            >>> part = RowLinear.of(whole, SelfComm(), unit=4)
            >>> torch.allclose(part(torch.ones(1, 8)), whole(torch.ones(1, 8)))
            True
        """
        part = cls.__new__(cls)
        nn.Module.__init__(part)
        part.comm = comm
        cut = Split(dim=1, sizes=unit_sizes(layer.in_features, unit, comm), comm=comm)
        part.splits = {"weight": cut}
        part.weight = nn.Parameter(_own(layer.weight.detach(), cut))
        part.bias = None
        if layer.bias is not None:
            part.bias = nn.Parameter(layer.bias.detach().clone())
        return part

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs: `(..., own inputs) -> (..., outputs)`."""
        y = reduce_out(linear(x, self.weight), self.comm)
        return y if self.bias is None else y + self.bias


def _drawn(
    inputs: int, outputs: int, generator: torch.Generator, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Draw a whole weight and bias, uniform within 1 / sqrt(inputs) as `nn.Linear` does."""
    bound = 1 / math.sqrt(inputs)
    weight = torch.empty(outputs, inputs, dtype=dtype).uniform_(-bound, bound, generator=generator)
    offset = torch.empty(outputs, dtype=dtype).uniform_(-bound, bound, generator=generator)
    return weight, offset


def blocks_outside(x: Tensor) -> Tensor:
    """Return a parameter of `ColumnLinear.of` as an ordinary layer has it, block after block.

    Args:
        x: (outputs of a block, blocks, ...).

    Examples:
        >>> blocks_outside(torch.tensor([[1, 3], [2, 4]]))
        tensor([1, 2, 3, 4])
    """
    return x.transpose(0, 1).flatten(0, 1)


def blocks_inside(x: Tensor, blocks: int) -> Tensor:
    """Return a parameter of an ordinary fused layer as `ColumnLinear.of` has it.

    Args:
        x: (blocks x outputs of a block, ...).
        blocks: How many there are.

    Examples:
        >>> blocks_inside(torch.tensor([1, 2, 3, 4]), 2)
        tensor([[1, 3],
                [2, 4]])
    """
    return x if blocks == 1 else x.reshape(blocks, -1, *x.shape[1:]).transpose(0, 1)


def _own(x: Tensor, cut: Split) -> Tensor:
    part = x.split_with_sizes(list(cut.sizes), cut.dim)[cut.comm.rank]
    return part.clone(memory_format=torch.contiguous_format)
