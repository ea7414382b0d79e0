"""What ranks send each other, with gradients that travel back (S -> S of the collectives).

    name         forward                                   backward
    exchange     the r-th part to rank r                   the same, sent and received swapped
    ring_shift   to the rank `offset` further on           to the rank `offset` back
    reshard      cut along one dim -> along another        the way back
    prefix_sum   what the ranks before this one add up to  the ranks behind this one

`start_exchange` lets a model compute while messages travel: forward between `start_exchange` and
`finish`, and backward likewise, where autograd comes to `finish` first and to the start last.

The prefix sum of a chunked recurrence needs ceil(log2 p) messages: with s <- d s + x on each rank,
two neighbouring ranks together are s <- (d' d) s + (d' x + x'), so that spans of 1, 2, 4, ...
ranks are put together.

Source: Hillis and Steele (1986), Data parallel algorithms, Commun. ACM 29(12),
https://doi.org/10.1145/7902.7903 (the prefix sum).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from stormda.parallel.collectives import widened
from stormda.parallel.communicator import Communicator
from stormda.parallel.sizes import exchanged_sizes, gathered_sizes, split_sizes


class Exchange:
    """Parts on their way; made by `start_exchange`.

    Args:
        comm: The ranks.
        sent: How many rows of the tensor go to every rank.
        received: How many rows come from every rank.
    """

    def __init__(self, comm: Communicator, sent: Sequence[int], received: Sequence[int]) -> None:
        self._comm, self._sent, self._received = comm, list(sent), list(received)
        self._arrival: Callable[[], Tensor] | None = None
        self._token: Tensor | None = None
        self._way_back: Exchange | None = None

    def finish(self) -> Tensor:
        """Wait for the parts and return them joined in rank order; once for every start."""
        token, self._token = self._token, None
        if token is None:
            raise ValueError(
                "finish: expected to be called once after the start, got called again"
            )
        arrived: Tensor = _Finish.apply(token, self)  # type: ignore[no-untyped-call]
        return arrived

    def _start(self, x: Tensor) -> Tensor:
        token: Tensor = _Start.apply(x, self)  # type: ignore[no-untyped-call]
        self._token = token
        return token

    def _send(self, x: Tensor) -> None:
        self._arrival = self._comm.start_all_to_all(x, sent=self._sent, received=self._received)

    def _receive(self) -> Tensor:
        assert self._arrival is not None
        arrived, self._arrival = self._arrival(), None
        return arrived

    def _start_back(self, gradient: Tensor) -> Tensor:
        self._way_back = Exchange(self._comm, self._received, self._sent)
        return self._way_back._start(gradient)

    def _finish_back(self, token: Tensor) -> Tensor:
        assert self._way_back is not None
        self._way_back._token = token
        return self._way_back.finish()


def start_exchange(
    x: Tensor, comm: Communicator, *, sent: Sequence[int], received: Sequence[int]
) -> Exchange:
    """Start to send the r-th of the `sent` parts of `x`, cut along dim 0, to rank r.

    Every rank starts and finishes its exchanges in the same order.

    Args:
        x: The parts for all ranks, joined along dim 0.
        comm: The ranks.
        sent: The length of the part for every rank.
        received: The length of the part from every rank.

    Returns:
        The exchange; its `finish` returns the parts of all ranks for this one, joined.

    Raises:
        ValueError: If the lengths do not fit `x`, the ranks, or each other.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> travelling = start_exchange(torch.ones(2), SelfComm(), sent=[2], received=[2])
        >>> travelling.finish()
        tensor([1., 1.])
    """
    exchanged_sizes(x, comm, 0, sent, received)
    travelling = Exchange(comm, sent, received)
    travelling._start(x)
    return travelling


def exchange(
    x: Tensor, comm: Communicator, *, sent: Sequence[int], received: Sequence[int], dim: int = 0
) -> Tensor:
    """Send the r-th of the `sent` parts of `x` to rank r; join what arrives in rank order.

    Args:
        x: The parts for all ranks, joined along `dim`.
        comm: The ranks.
        sent: The length of the part for every rank.
        received: The length of the part from every rank.
        dim: The dimension along which the parts are joined.

    Returns:
        The parts of all ranks for this one; the backward sends their gradients back.

    Raises:
        ValueError: If the lengths do not fit `x`, the ranks, or each other.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> exchange(torch.ones(2), SelfComm(), sent=[2], received=[2])
        tensor([1., 1.])
    """
    exchanged_sizes(x, comm, dim, sent, received)
    parts = x.movedim(dim, 0)
    return start_exchange(parts, comm, sent=sent, received=received).finish().movedim(0, dim)


def ring_shift(x: Tensor, comm: Communicator, *, offset: int = 1) -> Tensor:
    """Give `x` to the rank `offset` further on, the last ones to the first (ring attention).

    Args:
        x: This rank's part, of the same shape on every rank.
        comm: The ranks.
        offset: How many ranks further; negative for back.

    Returns:
        The `x` of the rank `offset` before this one; the backward shifts the gradient back.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> ring_shift(torch.ones(2), SelfComm())
        tensor([1., 1.])
    """
    return _shift(x, comm, (comm.rank + offset) % comm.size, (comm.rank - offset) % comm.size)


def prefix_sum(x: Tensor, comm: Communicator, *, decay: Tensor | None = None) -> Tensor:
    """Return the state that the ranks before this one hand on: causal attention over time.

    Rank r turns the state s that reaches it into `decay * s + x`; rank 0 is reached by zero. With
    no decay this is the sum over the ranks before this one.

    Args:
        x: What this rank adds, of the same shape on every rank; 16-bit floats are summed in 32.
        comm: The ranks, in the order of time.
        decay: What this rank leaves of the state before it, broadcastable to `x` and of one
            shape on every rank; for f frames of a memory that fades by d each, `d ** f`.

    Returns:
        The state before this rank's part, of the shape of `x`.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> prefix_sum(torch.ones(2), SelfComm())
        tensor([0., 0.])
    """
    state, kept, span = widened(x), decay, 1
    while span < comm.size:
        before = _shift_up(state, comm, span)
        state = state + (before if kept is None else kept * before)
        span *= 2
        if kept is not None and span < comm.size:
            kept = kept * _shift_up(kept, comm, span // 2)
    return _shift_up(state, comm, 1).to(x.dtype)


def reshard(
    x: Tensor,
    comm: Communicator,
    *,
    join: int,
    cut: int,
    join_sizes: Sequence[int] | None = None,
    cut_sizes: Sequence[int] | None = None,
) -> Tensor:
    """Turn parts along one dimension into parts along another, in one exchange.

    Args:
        x: This rank's part along `join`, whole along `cut`.
        comm: The ranks.
        join: The dimension that is sharded and becomes whole.
        cut: The dimension that is whole and becomes sharded; another one.
        join_sizes: The length of every rank's part along `join`; None where they are equal.
        cut_sizes: The length of every rank's part along `cut`; None where they are equal.

    Returns:
        This rank's part along `cut`, whole along `join`; the backward goes the way back.

    Raises:
        ValueError: If the dimensions are one, or sizes do not fit.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> reshard(torch.ones(2, 3), SelfComm(), join=0, cut=1).shape
        torch.Size([2, 3])
    """
    join, cut = join % x.ndim, cut % x.ndim
    if join == cut:
        raise ValueError(f"cut: expected another dimension than join={join}, got {cut}")
    joined = gathered_sizes(x, comm, join, join_sizes)
    kept = split_sizes(x, comm, cut, cut_sizes)
    leaving = [part.reshape(-1) for part in x.split_with_sizes(kept, cut)]
    shapes = [_resized(_resized(x.shape, join, n), cut, kept[comm.rank]) for n in joined]
    arrived = exchange(
        torch.cat(leaving),
        comm,
        sent=[part.numel() for part in leaving],
        received=[shape.numel() for shape in shapes],
    )
    parts = arrived.split_with_sizes([shape.numel() for shape in shapes])
    return torch.cat([p.view(shape) for p, shape in zip(parts, shapes, strict=True)], join)


def _resized(shape: torch.Size, dim: int, length: int) -> torch.Size:
    return torch.Size([*shape[:dim], length, *shape[dim + 1 :]])


def _shift_up(x: Tensor, comm: Communicator, offset: int) -> Tensor:
    """Give `x` to the rank `offset` further on; the first ranks get zeros."""
    to, source = comm.rank + offset, comm.rank - offset
    return _shift(x, comm, to if to < comm.size else None, source if source >= 0 else None)


def _shift(x: Tensor, comm: Communicator, to: int | None, source: int | None) -> Tensor:
    """Give `x` to one rank and get another's, or zeros; None for nobody."""
    sent = [x.numel() if rank == to else 0 for rank in range(comm.size)]
    received = [x.numel() if rank == source else 0 for rank in range(comm.size)]
    leaving = x.reshape(-1) if to is not None else x.reshape(-1)[:0]
    arrived = exchange(leaving, comm, sent=sent, received=received)
    return arrived.view(x.shape) if source is not None else (arrived.sum() + torch.zeros_like(x))


class _Start(torch.autograd.Function):
    """The first half of an exchange; its backward is the second half of the way back.

    What goes from half to half is a scalar: it only tells autograd which comes after which.
    """

    @staticmethod
    def forward(x: Tensor, travelling: Exchange) -> Tensor:
        travelling._send(x.detach())
        return x.new_zeros(())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Exchange], output: Tensor) -> None:  # noqa: ANN401
        ctx.travelling = inputs[1]

    @staticmethod
    def backward(ctx: Any, token: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return ctx.travelling._finish_back(token), None


class _Finish(torch.autograd.Function):
    """The second half of an exchange; its backward is the first half of the way back."""

    @staticmethod
    def forward(token: Tensor, travelling: Exchange) -> Tensor:
        return travelling._receive()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Exchange], output: Tensor) -> None:  # noqa: ANN401
        ctx.travelling = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return ctx.travelling._start_back(gradient), None
