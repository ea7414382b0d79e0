"""Attention along time: every location asks its own past, frame by frame.

    y_i = sum_t p_it v_it / sum_t p_it,   p_it = exp(q_i^T k_it / sqrt(d) + b_it)

Each chunk of frames has an answer to a query: the largest logit, the sum of `p` relative to it,
and the mean of the values. Answers merge, so the working memory is that of one chunk however long
the history is.

Source of the merge: Milakov & Gimelshein (2018), Online normalizer calculation for softmax,
https://arxiv.org/abs/1805.02867
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from stormda.attention.arguments import exactly, wide
from stormda.attention.sequence import Source, read
from stormda.attention.softmax import largest, nonzero


def temporal_attention(
    q: Tensor,
    k: Source,
    v: Source,
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Mix the `K` frames of each location with the softmax of `q k^T / sqrt(d) + bias`.

    The working memory is O(chunk). Where gradients are recorded autograd keeps besides, for all
    frames, `k` and `v` themselves (as float32 if they are of a half type), a few numbers a frame
    and head, and the partial answers of each chunk.

    Args:
        q: Queries `(*batch, h, n, d)`.
        k: Keys `(*batch, h, K, n, d)`: a tensor, or anything that is read by slices, such as a
            memory map.
        v: Values `(*batch, h, K, n, e)`, likewise.
        bias: Added to the logits, `(*batch, h, K, n)` or broadcastable to it.
        mask: True where a frame counts at a location, `(*batch, K, n)` or broadcastable to it.
        chunk: Frames taken at a time; all at once if None.

    Returns:
        The answers `(*batch, h, n, e)` in the dtype of `v`, or of `q` where `v` is not a tensor;
        zero where no frame counts. Computed in float32 at least.

    Raises:
        ValueError: Shapes that do not belong together, a mask that is not boolean, or a chunk
            below 1.

    Examples:
        >>> q, k, v = torch.rand(4, 100, 32), torch.rand(4, 2, 100, 32), torch.rand(4, 2, 100, 32)
        >>> temporal_attention(q, k, v).shape
        torch.Size([4, 100, 32])
    """
    _check(q, k, v, bias, mask, chunk)
    mask = None if mask is None else mask.unsqueeze(-3)  # the same for all heads
    dtype = q.dtype
    with exactly(q):
        q = wide(q).unsqueeze(-3)
        parts = (answer_of(q, *part) for part in _chunks(k, v, bias, mask, chunk))
        return reduce(merged, parts).mean.to(v.dtype if isinstance(v, Tensor) else dtype)


def absorbed_attention(
    q: Tensor,
    history: Source,
    to_key: Tensor,
    to_value: Tensor,
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Mix the frames of each location as `temporal_attention` does, without their keys and values.

    With `k = W_K x` and `v = W_V x` the query carries `W_K^T`, and the mean of the frames is taken
    before `W_V`: a layer reads the embedded history `x` itself and stores nothing of its size.

    Source: DeepSeek-AI (2024), DeepSeek-V2, section 2.1.2, https://arxiv.org/abs/2405.04434

    Args:
        q: Queries `(*batch, h, n, d)`.
        history: Embedded frames `(*batch, K, n, D)`: a tensor, or anything read by slices.
        to_key: The matrices `W_K` `(h, d, D)`.
        to_value: The matrices `W_V` `(h, e, D)`.
        bias: Added to the logits, `(*batch, h, K, n)` or broadcastable to it.
        mask: True where a frame counts at a location, `(*batch, K, n)` or broadcastable to it.
        chunk: Frames taken at a time; all at once if None.

    Returns:
        The answers `(*batch, h, n, e)` in the dtype of `q`; zero where no frame counts. Computed
        in float32 at least.

    Raises:
        ValueError: As `temporal_attention`, or matrices that do not fit the queries.

    Examples:
        >>> q, history = torch.rand(4, 100, 32), torch.rand(2, 100, 64)
        >>> to_key, to_value = torch.rand(2, 4, 32, 64)
        >>> absorbed_attention(q, history, to_key, to_value).shape
        torch.Size([4, 100, 32])
    """
    for name, matrices in {"to_key": to_key, "to_value": to_value}.items():
        if matrices.ndim != 3 or matrices.shape[0] != q.shape[-3]:
            raise ValueError(
                f"{name}: expected (h, d, D) with h={q.shape[-3]}, got {tuple(matrices.shape)}"
            )
    with exactly(q):
        # The logits are to be divided by the root of d, not of D.
        scale = math.sqrt(to_key.shape[-1] / q.shape[-1])
        asked = wide(q) @ (wide(to_key) * scale)
        frames = _OneHead(history)
        mean = temporal_attention(asked, frames, frames, bias=bias, mask=mask, chunk=chunk)
        return (mean @ wide(to_value).mT).to(q.dtype)


class _OneHead:
    """Frames `(*batch, K, n, D)` read as the keys or values `(*batch, 1, K, n, D)` of a head."""

    def __init__(self, frames: Source) -> None:
        self.frames = frames
        self.shape = (*frames.shape[:-3], 1, *frames.shape[-3:])

    def __getitem__(self, index: tuple[Any, ...]) -> Tensor:
        return read(self.frames, index).unsqueeze(-4)


@dataclass(frozen=True)
class Answer:
    """What some frames answer to each query."""

    top: Tensor
    """The largest logit `(..., n)`."""

    total: Tensor
    """The sum of `p` relative to the largest `(..., n)`."""

    mean: Tensor
    """The mean of the values `(..., n, e)`."""


def answer_of(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
) -> Answer:
    """Return the answer of the frames of `k` and `v`."""
    logits = (q * wide(k)).sum(-1) / math.sqrt(q.shape[-1])
    logits = logits if bias is None else logits + bias
    logits = logits if mask is None else logits.masked_fill(~mask, -torch.inf)
    top = largest(logits, dim=-2)
    p = torch.exp(logits - top)
    total = p.sum(-2, keepdim=True)
    mean = ((p / nonzero(total))[..., None] * wide(v)).sum(-3)
    return Answer(top.squeeze(-2), total.squeeze(-2), mean)


def merged(a: Answer, b: Answer) -> Answer:
    """Return the answer of the frames of both."""
    top = torch.maximum(a.top, b.top)
    of_a, of_b = a.total * torch.exp(a.top - top), b.total * torch.exp(b.top - top)
    total = of_a + of_b
    share_a, share_b = (of / nonzero(total) for of in (of_a, of_b))
    return Answer(top, total, share_a[..., None] * a.mean + share_b[..., None] * b.mean)


_Chunk = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def _chunks(
    k: Source, v: Source, bias: Tensor | None, mask: Tensor | None, chunk: int | None
) -> Iterator[_Chunk]:
    """Yield `chunk` frames at a time."""
    frames = k.shape[-3]
    step = chunk or frames
    for start in range(0, frames, step):
        part = slice(start, min(start + step, frames))
        yield (
            read(k, (..., part, slice(None), slice(None))),
            read(v, (..., part, slice(None), slice(None))),
            bias if bias is None or bias.shape[-2] == 1 else bias[..., part, :],
            mask if mask is None or mask.shape[-2] == 1 else mask[..., part, :],
        )


def _check(
    q: Tensor,
    k: Source,
    v: Source,
    bias: Tensor | None,
    mask: Tensor | None,
    chunk: int | None,
) -> None:
    """Raise unless the arguments belong together."""
    if q.ndim < 3:
        raise ValueError(f"q: expected (..., h, n, d), got {tuple(q.shape)}")
    n, d = q.shape[-2:]
    if len(k.shape) < 4 or tuple(k.shape[-2:]) != (n, d) or k.shape[-3] < 1:
        raise ValueError(f"k: expected (..., h, K, n, d) with n={n}, d={d}, got {tuple(k.shape)}")
    if len(v.shape) < 4 or tuple(v.shape[-3:-1]) != tuple(k.shape[-3:-1]):
        raise ValueError(
            f"v: expected (..., h, K, n, e) with the K and n of k {tuple(k.shape)}, "
            f"got {tuple(v.shape)}"
        )
    frames = k.shape[-3]
    for name, values in {"bias": bias, "mask": mask}.items():
        if values is not None and (
            values.ndim < 2
            or values.shape[-2] not in (1, frames)
            or values.shape[-1] not in (1, n)
        ):
            raise ValueError(
                f"{name}: expected (..., K, n) with K={frames}, n={n}, got {tuple(values.shape)}"
            )
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"mask: expected dtype torch.bool, got {mask.dtype}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk: expected at least 1, got {chunk}")
