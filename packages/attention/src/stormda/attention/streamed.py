"""A whole layer over a sequence of any length, in chunks, with exact gradients.

A layer that mixes tokens through sums alone is two maps of a few tokens at a time,

    T = sum_c summarize(x_c),    y_c = answer(x_c, T),

so that a forward pass reads the sequence twice and needs the memory of one chunk. The backward
pass reads it twice too, recomputing each chunk once (T is kept):

    A:  (xbar_c, Tbar +=, wbar +=)  =   vjp of answer at (x_c, T) on ybar_c
    B:  (xbar_c +=, wbar +=)        =   vjp of summarize at x_c on Tbar

T and Tbar are all that processes which share a sequence exchange. An answer may need a few tokens
on either side of its chunk (a convolution); they are read again, and their gradients add up.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stormda.attention.recompute import autocast_now, pull
from stormda.attention.sequence import Sink, Source, read, write

Tensors = tuple[Tensor, ...]


class StreamLayer(Protocol):
    """A layer that mixes tokens through sums; nothing random inside."""

    def parameters(self) -> Iterable[Tensor]:
        """Return the weights."""
        ...

    def summarize(self, tokens: Tensors, shared: Tensors) -> Tensor:
        """Return what some tokens add to the sums, in a tensor of one shape for any tokens.

        Args:
            tokens: What belongs to each token, every tensor `(..., n, *)`.
            shared: What belongs to all.
        """
        ...

    def answer(self, tokens: Tensors, shared: Tensors, total: Tensor, core: slice) -> Tensor:
        """Return the answers of the tokens in `core`.

        Args:
            tokens: What belongs to each token, with the halo around the core.
            shared: What belongs to all.
            total: The sums over all tokens.
            core: Which of `tokens` are asked for.
        """
        ...


class Store(Source, Sink, Protocol):
    """What gradients of tokens are added to: read and written by slices."""


def streamed(
    layer: StreamLayer,
    *,
    chunk: int,
    halo: int = 0,
    ring: bool = False,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> "Streamed":
    """Return `layer` as a function of sequences of any length.

    Args:
        layer: What to run.
        chunk: Tokens taken at a time.
        halo: Tokens on either side of a chunk that an answer needs.
        ring: Whether the sequence closes on itself; else the halo ends where it ends.
        reduce: The sum over the processes that hold the other tokens of the sequence (its
            adjoint is itself): called once forward and once backward, on a tensor of the size of
            the sums.

    Raises:
        ValueError: A chunk below 1 or a halo below 0.

    Examples:
        >>> class Centre(torch.nn.Module):
        ...     def summarize(self, tokens, shared):
        ...         return torch.stack([tokens[0].sum(), torch.ones(()) * tokens[0].numel()])
        ...     def answer(self, tokens, shared, total, core):
        ...         return (tokens[0] - total[0] / total[1])[core]
        >>> streamed(Centre(), chunk=2)(torch.tensor([[1.0], [2.0], [6.0]])).squeeze(-1)
        tensor([-2., -1.,  3.])
    """
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1, got {chunk}")
    if halo < 0:
        raise ValueError(f"halo: expected at least 0, got {halo}")
    return Streamed(layer, chunk, halo, ring, reduce)


@dataclass(frozen=True)
class Streamed:
    """A layer that runs in chunks; made by `streamed`."""

    layer: StreamLayer
    """What runs."""

    chunk: int
    """Tokens taken at a time."""

    halo: int
    """Tokens on either side of a chunk that an answer needs."""

    ring: bool
    """Whether the sequence closes on itself."""

    reduce: Callable[[Tensor], Tensor] | None
    """The sum over the processes that hold the other tokens."""

    def __call__(self, *tokens: Tensor, shared: Tensors = ()) -> Tensor:
        """Return the answers `(..., n, D)` of all tokens, to be differentiated once.

        Autograd keeps the tokens and the sums, and nothing else.

        Args:
            tokens: What belongs to each token, every tensor `(..., n, *)`.
            shared: What belongs to all.
        """
        weights = tuple(self.layer.parameters())
        call = _Call(self, len(tokens), len(shared), autocast_now(tokens[0]))
        y, _ = _StreamedFunction.apply(call, *tokens, *shared, *weights)  # type: ignore[no-untyped-call]
        answers: Tensor = y
        return answers

    @torch.no_grad()
    def sum(self, *tokens: Source, shared: Tensors = ()) -> Tensor:
        """Return the sums over all tokens: the first pass."""
        total: Tensor | None = None
        for window in self._windows(tokens):
            part = self.layer.summarize(_take(tokens, window.core), shared)
            dtype = part.dtype  # thousands of parts are added in float64
            total = part.to(torch.float64, copy=True) if total is None else total.add_(part)
        if total is None:
            raise ValueError("tokens: expected at least 1, got 0")
        return total.to(dtype) if self.reduce is None else self.reduce(total.to(dtype))

    @torch.no_grad()
    def answer(self, *tokens: Source, out: Sink, total: Tensor, shared: Tensors = ()) -> None:
        """Write the answers of all tokens into `out (..., n, D)`: the second pass.

        Args:
            tokens: What belongs to each token, `(..., n, *)`; tensors or anything that is read by
                slices, such as a memory map.
            out: What the answers are written to, by slices.
            total: What `sum` returned.
            shared: What belongs to all.
        """
        for window in self._windows(tokens):
            inside = _take(tokens, *window.pieces)
            write(out, _at(window.core), self.layer.answer(inside, shared, total, window.inner))

    def gradients(
        self,
        *tokens: Source,
        ybar: Source,
        total: Tensor,
        out: Sequence[Store | None],
        shared: Tensors = (),
    ) -> list[Tensor | None]:
        """Pull the gradient of the answers back.

        Args:
            tokens: As in `answer`.
            ybar: The gradient of the answers `(..., n, D)`.
            total: What `sum` returned.
            out: For each of `tokens`, what its gradient is added to; None where not wanted.
            shared: What belongs to all.

        Returns:
            The gradients of `shared` and of the weights, in this order; None for what does not
            require one.
        """
        shared = tuple(x.detach().requires_grad_(x.requires_grad) for x in shared)
        others = [*shared, *self.layer.parameters()]
        bars: list[Tensor | None] = [
            torch.zeros_like(x) if x.requires_grad else None for x in others
        ]
        total = total.detach().requires_grad_()
        total_bar = torch.zeros_like(total, dtype=torch.float64)
        for window in self._windows(tokens):
            inside = _leaves(_take(tokens, *window.pieces), out)
            with torch.enable_grad():
                y = self.layer.answer(inside, shared, total, window.inner)
            part = read(ybar, _at(window.core))
            *of_tokens, of_total = pull(y, part, [*inside, total], others, bars)
            total_bar += 0 if of_total is None else of_total
            _add(out, window.pieces, of_tokens)
        total_bar = total_bar.to(total.dtype)
        total_bar = total_bar if self.reduce is None else self.reduce(total_bar)
        for window in self._windows(tokens):
            inside = _leaves(_take(tokens, window.core), out)
            with torch.enable_grad():
                sums = self.layer.summarize(inside, shared)
            _add(out, [window.core], pull(sums, total_bar, list(inside), others, bars))
        return bars

    def _windows(self, tokens: Sequence[Source]) -> Iterator["_Window"]:
        """Yield where every chunk lies."""
        n = tokens[0].shape[-2]
        if any(x.shape[-2] != n for x in tokens):
            raise ValueError(
                f"tokens: expected (..., n, *) with one n, got {[tuple(x.shape) for x in tokens]}"
            )
        if self.halo > n:
            raise ValueError(f"tokens: expected at least halo={self.halo}, got {n}")
        for start in range(0, n, self.chunk):
            stop = min(start + self.chunk, n)
            before = self.halo if self.ring else min(self.halo, start)
            after = self.halo if self.ring else min(self.halo, n - stop)
            inner = slice(before, before + stop - start)
            yield _Window(slice(start, stop), _pieces(start - before, stop + after, n), inner)


@dataclass(frozen=True)
class _Window:
    """A chunk and its halo."""

    core: slice
    """The tokens of the chunk in the sequence."""

    pieces: list[slice]
    """The tokens of chunk and halo in the sequence, in parts between its ends."""

    inner: slice
    """The tokens of the chunk among those of chunk and halo."""


def _pieces(start: int, stop: int, n: int) -> list[slice]:
    """Return the parts of `start` to `stop` on a ring of `n`."""
    parts = (
        (max(start, turn), min(stop, turn + n), turn) for turn in range(start // n * n, stop, n)
    )
    return [slice(first - turn, last - turn) for first, last, turn in parts]


def _at(part: slice) -> tuple[Any, ...]:
    return (..., part, slice(None))


def _take(tokens: Sequence[Source], *pieces: slice) -> Tensors:
    """Return the tokens of the pieces, one tensor for each of `tokens`."""
    if len(pieces) == 1:
        return tuple(read(x, _at(pieces[0])) for x in tokens)
    return tuple(torch.cat([read(x, _at(piece)) for piece in pieces], -2) for x in tokens)


def _leaves(tokens: Tensors, out: Sequence[Store | None]) -> Tensors:
    """Return the tokens, requiring a gradient where it is wanted."""
    pairs = zip(tokens, out, strict=True)
    return tuple(x.detach().requires_grad_(store is not None) for x, store in pairs)


def _add(out: Sequence[Store | None], pieces: list[slice], bars: Sequence[Tensor | None]) -> None:
    """Add the gradients of the tokens of the pieces to where they are wanted."""
    sizes = [piece.stop - piece.start for piece in pieces]
    for store, bar in zip(out, bars, strict=True):
        if store is not None and bar is not None:
            for piece, part in zip(pieces, torch.split(bar, sizes, -2), strict=True):
                write(store, _at(piece), read(store, _at(piece)) + part)


@dataclass(frozen=True)
class _Call:
    """What the autograd function is told besides tensors."""

    streamed: Streamed
    tokens: int
    shared: int
    autocast: Callable[[], AbstractContextManager[None]]


class _StreamedFunction(torch.autograd.Function):
    """The two passes forward and the two passes backward."""

    @staticmethod
    def forward(call: _Call, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the answers and the sums."""
        tokens, shared = tensors[: call.tokens], tensors[call.tokens :][: call.shared]
        total = call.streamed.sum(*tokens, shared=shared)
        out = _Grown(tokens[0].shape[-2])
        call.streamed.answer(*tokens, out=out, total=total, shared=shared)
        return out.whole(), total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:  # noqa: ANN401
        """Keep the inputs and the sums."""
        ctx.call = inputs[0]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs[1:], output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, ybar: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Pull `ybar` back to tokens, shared tensors and weights."""
        call: _Call = ctx.call
        *tensors, total = ctx.saved_tensors
        tokens, shared = tensors[: call.tokens], tuple(tensors[call.tokens :][: call.shared])
        wanted = ctx.needs_input_grad[1:]
        out = [torch.zeros_like(x) if w else None for x, w in zip(tokens, wanted, strict=False)]
        with call.autocast():
            bars = call.streamed.gradients(*tokens, ybar=ybar, total=total, out=out, shared=shared)
        return (None, *out, *bars)


class _Grown:
    """A tensor that takes the shape and dtype of what is written to it first."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.tensor: Tensor | None = None

    def __setitem__(self, index: tuple[Any, ...], value: Tensor) -> None:
        if self.tensor is None:
            self.tensor = value.new_empty((*value.shape[:-2], self.n, value.shape[-1]))
        self.tensor[index] = value

    def whole(self) -> Tensor:
        assert self.tensor is not None  # there is at least one chunk
        return self.tensor
