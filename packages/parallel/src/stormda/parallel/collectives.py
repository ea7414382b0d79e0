"""Collectives with the gradient that each of them has, named for what they do.

A tensor inside a parallel region is one of four things, and so is its gradient:

    I  invariant    the same on every rank, and so is its gradient
    R  replicated   the same on every rank; its gradient is the sum of what each rank holds (P)
    P  partial      the value is the sum of what each rank holds; its gradient is R
    S  sharded      each rank holds its part along a dim, and of the gradient likewise

    name              type    forward          backward         use
    psum              P -> R  all_reduce       all_reduce       attention state, global mean
    copy_in           I -> R  identity         all_reduce       input of column-parallel layers
    reduce_out        P -> I  all_reduce       identity         row-parallel output, global loss
    gather            S -> R  all_gather       reduce_scatter   gather, then each its own work
    scatter_sum       P -> S  reduce_scatter   all_gather       leave a partial sum sharded
    gather_invariant  S -> I  all_gather       own part         gather, then the same work
    split             I -> S  own part         all_gather       enter a sharded region

To differentiate through a collective is to apply its adjoint, and the adjoint of each is another
row of the table; so second derivatives are right too. R -> S is plain indexing. What ranks send
each other, S -> S, is in `stormda.parallel.exchange` and, for fields, `stormda.parallel.halo`.

Source: Shoeybi et al. (2019), Megatron-LM, section 3 (copy_in and reduce_out are its f and g),
https://arxiv.org/abs/1909.08053.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stormda.parallel.sizes import gathered_sizes, split_sizes

if TYPE_CHECKING:
    from stormda.parallel.communicator import Communicator

Map = Callable[[Tensor], Tensor]


def psum(x: Tensor, comm: Communicator) -> Tensor:
    """Sum over ranks, for use in further work that differs between ranks (P -> R).

    Args:
        x: This rank's addend, of the same shape on every rank.
        comm: The ranks.

    Returns:
        The sum, of the shape of `x`; its backward sums the gradients over the ranks.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> psum(torch.ones(2), SelfComm())
        tensor([1., 1.])
    """
    return linear_map(x, comm.all_reduce, partial(psum, comm=comm))


def copy_in(x: Tensor, comm: Communicator) -> Tensor:
    """Let a tensor that all ranks share into work that differs between ranks (I -> R).

    Args:
        x: The same on every rank, of any shape.
        comm: The ranks.

    Returns:
        `x`; its backward sums the gradients over the ranks.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> copy_in(torch.ones(2), SelfComm())
        tensor([1., 1.])
    """
    return linear_map(x, _same, partial(reduce_out, comm=comm))


def reduce_out(x: Tensor, comm: Communicator) -> Tensor:
    """Sum over ranks, for use in work that is the same on all of them (P -> I).

    Args:
        x: This rank's addend, of the same shape on every rank.
        comm: The ranks.

    Returns:
        The sum, of the shape of `x`; its backward hands on the gradient, which all ranks share.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> reduce_out(torch.ones(2), SelfComm())
        tensor([1., 1.])
    """
    return linear_map(x, comm.all_reduce, partial(copy_in, comm=comm))


def gather(
    x: Tensor, comm: Communicator, *, dim: int = 0, sizes: Sequence[int] | None = None
) -> Tensor:
    """Join the parts of all ranks, for work that differs between ranks (S -> R).

    Args:
        x: This rank's part, of one shape on all ranks but for `dim`.
        comm: The ranks.
        dim: The dimension along which the parts are joined.
        sizes: The length of every rank's part; None where they are equal.

    Returns:
        All parts in rank order; the backward sums the gradients and returns this rank's part.

    Raises:
        ValueError: If `sizes` does not fit the ranks or this part.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> gather(torch.ones(2), SelfComm())
        tensor([1., 1.])
    """
    return _joined(x, comm, dim, sizes, scatter_sum)


def scatter_sum(
    x: Tensor, comm: Communicator, *, dim: int = 0, sizes: Sequence[int] | None = None
) -> Tensor:
    """Sum over ranks and keep this rank's part (P -> S).

    Args:
        x: This rank's addend, of the same shape on every rank.
        comm: The ranks.
        dim: The dimension along which the sum is cut.
        sizes: The length of every rank's part; None where they are equal.

    Returns:
        This rank's part of the sum; the backward joins the gradients of all parts.

    Raises:
        ValueError: If `sizes` does not fit, or is None and the ranks do not divide the length.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> scatter_sum(torch.ones(2), SelfComm())
        tensor([1., 1.])
    """
    known = split_sizes(x, comm, dim, sizes)
    forward = partial(comm.reduce_scatter, dim=dim, sizes=known)
    return linear_map(x, forward, partial(gather, comm=comm, dim=dim, sizes=known))


def gather_invariant(
    x: Tensor, comm: Communicator, *, dim: int = 0, sizes: Sequence[int] | None = None
) -> Tensor:
    """Join the parts of all ranks, for work that is the same on all of them (S -> I).

    Args:
        x: This rank's part, of one shape on all ranks but for `dim`.
        comm: The ranks.
        dim: The dimension along which the parts are joined.
        sizes: The length of every rank's part; None where they are equal.

    Returns:
        All parts in rank order; the backward returns this rank's part of the gradient.

    Raises:
        ValueError: If `sizes` does not fit the ranks or this part.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> gather_invariant(torch.ones(2), SelfComm())
        tensor([1., 1.])
    """
    return _joined(x, comm, dim, sizes, split)


def split(
    x: Tensor, comm: Communicator, *, dim: int = 0, sizes: Sequence[int] | None = None
) -> Tensor:
    """Keep this rank's part of a tensor that all ranks share (I -> S).

    Args:
        x: The same on every rank, of any shape.
        comm: The ranks.
        dim: The dimension that is cut.
        sizes: The length of every rank's part; None where they are equal.

    Returns:
        This rank's part; the backward joins the gradients of all parts.

    Raises:
        ValueError: If `sizes` does not fit, or is None and the ranks do not divide the length.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> split(torch.ones(2), SelfComm())
        tensor([1., 1.])
    """
    known = split_sizes(x, comm, dim, sizes)

    def own(x: Tensor) -> Tensor:
        return x.split_with_sizes(known, dim)[comm.rank].clone()

    return linear_map(x, own, partial(gather_invariant, comm=comm, dim=dim, sizes=known))


def _joined(
    x: Tensor,
    comm: Communicator,
    dim: int,
    sizes: Sequence[int] | None,
    backward: Callable[..., Tensor],
) -> Tensor:
    """Join the parts of all ranks, and take the gradient of the whole apart with `backward`."""
    known = gathered_sizes(x, comm, dim, sizes)
    forward = partial(comm.all_gather, dim=dim, sizes=sizes)
    return linear_map(x, forward, partial(backward, comm=comm, dim=dim, sizes=known))


def linear_map(x: Tensor, forward: Map, backward: Map) -> Tensor:
    """Return `forward(x)`, differentiated by `backward`, its adjoint; each knows the other."""
    result: Tensor = _Linear.apply(x, forward, backward)  # type: ignore[no-untyped-call]
    return result


def widened(x: Tensor) -> Tensor:
    """Return floats of fewer than 32 bits as float32, in which they are summed; all else as is."""
    return x.float() if x.is_floating_point() and x.itemsize < 4 else x


def _same(x: Tensor) -> Tensor:
    return x.view_as(x)


class _Linear(torch.autograd.Function):
    """A linear map whose adjoint is given, itself differentiable."""

    @staticmethod
    def forward(x: Tensor, forward: Map, backward: Map) -> Tensor:
        return forward(x.detach())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Map, Map], output: Tensor) -> None:  # noqa: ANN401
        ctx.adjoint = inputs[2]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        return ctx.adjoint(gradient), None, None
