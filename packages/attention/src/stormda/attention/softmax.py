"""Softmax attention over all keys: the O(n m) reference for the others.

    y_i = sum_j p_ij v_j / sum_j p_ij,   p_ij = w_j exp(q_i^T k_j / sqrt(d))

A weight multiplies the exponential, which adds its logarithm to the logit: a key that counts
twice equals two keys.
"""

import math

import torch
from torch import Tensor

from stormda.attention.arguments import check_heads, check_keys, exactly, wide
from stormda.attention.state import key_weights


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, *, weight: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Mix `v` with the softmax of `q k^T / sqrt(d)`.

    Source: Vaswani et al. (2017), Attention is all you need, eq. 1,
    https://arxiv.org/abs/1706.03762

    Args:
        q: Queries `(*batch, h, n, d)`.
        k: Keys `(*batch, h, m, d)`.
        v: Values `(*batch, h, m, e)`.
        weight: What each key counts, such as the area of its cell, `(*batch, m)` or broadcastable
            to it; not negative.
        mask: True where a key counts, `(*batch, m)` or broadcastable to it.

    Returns:
        The answers `(*batch, h, n, e)` in the dtype of `v`; zero where no key counts. Computed in
        float32 at least.

    Raises:
        ValueError: Shapes that do not belong together, or a mask that is not boolean.

    Examples:
        >>> q, k, v = torch.rand(3, 1, 8, 100, 32).unbind()
        >>> softmax_attention(q, k, v).shape
        torch.Size([1, 8, 100, 32])
    """
    check_heads(q, k, v)
    check_keys(k.shape[-2], weight, mask)
    with exactly(q):
        q, k, values = wide(q), wide(k), wide(v)
        logits = (q / math.sqrt(q.shape[-1])) @ k.mT
        w = key_weights(weight, mask, like=k)
        if w is None:
            return (logits.softmax(-1) @ values).to(v.dtype)
        p = positive_weights(logits, w[..., None, :])
        return (p @ values / nonzero(p.sum(-1, keepdim=True))).to(v.dtype)


def positive_weights(logits: Tensor, w: Tensor) -> Tensor:
    """Return `w exp(logits)` up to a factor a row, which keeps the largest finite."""
    logits = logits.masked_fill(w == 0, -torch.inf)
    return w * torch.exp(logits - largest(logits, dim=-1))


def largest(logits: Tensor, *, dim: int) -> Tensor:
    """Return the largest logit, finite where there is none; a constant, as it cancels."""
    lowest = torch.finfo(logits.dtype).min
    return logits.detach().amax(dim, keepdim=True).clamp_min(lowest)


def nonzero(total: Tensor) -> Tensor:
    """Return the sum of non-negative weights, 1 where it is zero."""
    return total + (total == 0)
