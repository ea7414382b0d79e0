"""A history that is never held: keys and values are made of some frames at a time when asked for.

    (k, v)_t = make(frame t; weights),    y = sum_t p_t v_t,    p_t = exp(q^T k_t / sqrt(d) - l)

with l the logarithm of the sum of all exponentials. A pass forward makes every chunk of frames
once and keeps y and l, which have the size of one frame. A pass backward makes every chunk once
more and pulls the gradients ybar and lbar back to it:

    vbar_t = p_t ybar,    a_t = p_t (v_t^T ybar - y^T ybar + lbar),
    kbar_t = a_t q / sqrt(d),    qbar = sum_t a_t k_t / sqrt(d)

So the memory does not depend on the number of frames, beside what `make` makes them of; every
layer that asks pays for making them.

Source: along time, Dao et al. (2022), FlashAttention, algorithm 4,
https://arxiv.org/abs/2205.14135
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stormda.attention.arguments import exactly, wide
from stormda.attention.history import HistoryKeys
from stormda.attention.recompute import autocast_now
from stormda.attention.temporal import Answer, answer_of, merged

Make = Callable[[slice], HistoryKeys]
"""Returns the keys and values of some frames; nothing random inside."""


@dataclass(frozen=True)
class StreamedHistory:
    """Keys and values that are made when a layer asks, for gradients of first order.

    Raises:
        ValueError: No frames, or a chunk below 1.

    Examples:
        >>> from stormda.attention import HistoryProjection, TemporalCrossAttention
        >>> project, cross = HistoryProjection(64, 2), TemporalCrossAttention(64, 2)
        >>> past, weights = torch.rand(1, 100, 12, 64), tuple(project.parameters())
        >>> make = lambda some: project(past[:, some])
        >>> history = StreamedHistory(make, frames=100, chunk=8, weights=weights)
        >>> cross(torch.rand(1, 12, 64), history).shape
        torch.Size([1, 12, 64])
    """

    make: Make
    """What makes keys and values `(b, h, frames, n, d)` of frames."""

    frames: int
    """How many there are."""

    chunk: int
    """How many are made at a time."""

    weights: tuple[Tensor, ...]
    """What the keys and values depend on, as far as gradients are wanted."""

    held: HistoryKeys | None = None
    """Frames after them whose keys and values are held."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name in ("frames", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")

    def followed_by(self, later: HistoryKeys) -> Self:
        """Return this history with further frames, which are held."""
        return replace(self, held=later if self.held is None else self.held.followed_by(later))

    def answer(self, q: Tensor) -> Tensor:
        """Return what `temporal_attention` answers to queries `(b, h, n, d)`."""
        call = _Call(self, autocast_now(q))
        mean, log_total = _Streamed.apply(call, q, *self.weights)  # type: ignore[no-untyped-call]
        if self.held is None:
            return mean.to(q.dtype)  # type: ignore[no-any-return]
        with exactly(q):
            made = Answer(log_total, torch.ones_like(log_total), mean)
            held = answer_of(wide(q).unsqueeze(-3), self.held.keys, self.held.values)
            return merged(made, held).mean.to(q.dtype)

    def parts(self) -> Iterator[slice]:
        """Yield the frames of each chunk."""
        for start in range(0, self.frames, self.chunk):
            yield slice(start, min(start + self.chunk, self.frames))


@dataclass(frozen=True)
class _Call:
    """What the autograd function is told besides tensors."""

    history: StreamedHistory
    autocast: Callable[[], AbstractContextManager[None]]


class _Streamed(torch.autograd.Function):
    """One pass over the frames forward, and one backward."""

    @staticmethod
    def forward(call: _Call, q: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and l."""
        del weights
        whole: Answer | None = None
        for part in call.history.parts():
            made = call.history.make(part)
            with exactly(q):
                some = answer_of(wide(q).unsqueeze(-3), made.keys, made.values)
                whole = some if whole is None else merged(whole, some)
        assert whole is not None  # there is at least one frame
        return whole.mean, whole.top + whole.total.log()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
        """Keep the queries and the answers."""
        ctx.call = inputs[0]
        ctx.save_for_backward(inputs[1], *output, *inputs[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, ybar: Tensor, lbar: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Pull the gradients back to queries and weights."""
        call: _Call = ctx.call
        q, y, log_total, *weights = ctx.saved_tensors
        bars = [
            torch.zeros_like(x) if wanted else None
            for x, wanted in zip(weights, ctx.needs_input_grad[2:], strict=True)
        ]
        qbar = torch.zeros_like(wide(q))
        pull = _Pull(wide(q) / math.sqrt(q.shape[-1]), log_total, ybar, (y * ybar).sum(-1) - lbar)
        for part in call.history.parts():
            with torch.enable_grad(), call.autocast():
                made = call.history.make(part)
            with exactly(q):
                of_query, *of_made = pull(made)
            qbar += of_query
            _add_gradients(made, of_made, weights, bars)
        return None, (qbar / math.sqrt(q.shape[-1])).to(q.dtype), *bars


@dataclass(frozen=True)
class _Pull:
    """What pulls the gradients of all answers back to some frames."""

    q: Tensor
    """Queries over the root of d, `(b, h, n, d)`."""

    log_total: Tensor
    """l, `(b, h, n)`."""

    ybar: Tensor
    """Gradient of y, `(b, h, n, d)`."""

    level: Tensor
    """y^T ybar - lbar, `(b, h, n)`."""

    def __call__(self, made: HistoryKeys) -> tuple[Tensor, Tensor, Tensor]:
        """Return the addend to the gradient of the queries, and those of keys and values."""
        k, v = wide(made.keys.detach()), wide(made.values.detach())
        q, ybar = self.q.unsqueeze(-3), self.ybar.unsqueeze(-3)
        p = torch.exp((q * k).sum(-1) - self.log_total.unsqueeze(-2))
        a = p * ((v * ybar).sum(-1) - self.level.unsqueeze(-2))
        return (a[..., None] * k).sum(-3), a[..., None] * q, p[..., None] * ybar


def _add_gradients(
    made: HistoryKeys,
    of_made: list[Tensor],
    weights: list[Tensor],
    bars: list[Tensor | None],
) -> None:
    """Add the gradients of the weights, as far as they are wanted, to `bars`."""
    wanted = [x for x, bar in zip(weights, bars, strict=True) if bar is not None]
    if not wanted:
        return
    outputs = [made.keys, made.values]
    given = [bar.to(x.dtype) for bar, x in zip(of_made, outputs, strict=True)]
    found = iter(torch.autograd.grad(outputs, wanted, given, allow_unused=True))
    for bar in bars:
        if bar is not None and (part := next(found)) is not None:
            bar += part
