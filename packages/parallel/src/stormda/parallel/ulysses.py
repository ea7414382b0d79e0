"""Attention of every kind over a sharded sequence: ranks exchange tokens for heads, and back.

Heads know nothing of each other, so that a rank that has all tokens of some heads can do any
attention exactly, softmax included. Each rank sends and receives (q, k, v and the answer) what it
holds, about (3 d + e) h n / p numbers; linear attention sums a state instead (`psum`), whose size
does not depend on n.

Source: Jacobs et al. (2023), DeepSpeed Ulysses, section 3.1, https://arxiv.org/abs/2309.14509.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stormda.parallel.communicator import Communicator
from stormda.parallel.exchange import reshard
from stormda.parallel.sizes import balanced_sizes

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def by_heads(
    attention: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    comm: Communicator,
    *,
    sizes: Sequence[int] | None = None,
) -> Tensor:
    """Return `attention(q, k, v)` over the tokens of all ranks, in two exchanges.

    Args:
        attention: From `(..., heads, tokens, d)` and `(..., heads, tokens, e)` for any number of
            heads, none included where there are more ranks than heads, to
            `(..., heads, tokens, e)`.
        q: This rank's queries `(..., heads, own tokens, d)`.
        k: This rank's keys, of the shape of `q`.
        v: This rank's values `(..., heads, own tokens, e)`.
        comm: The ranks that share the tokens.
        sizes: The number of tokens of every rank; None where they are equal.

    Returns:
        The answer for this rank's tokens `(..., heads, own tokens, e)`.

    Raises:
        ValueError: If `sizes` does not fit the ranks or these tokens.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> q = k = v = torch.ones(2, 5, 4)
        >>> by_heads(torch.nn.functional.scaled_dot_product_attention, q, k, v, SelfComm()).shape
        torch.Size([2, 5, 4])
    """
    tokens = [q.shape[-2]] * comm.size if sizes is None else list(sizes)
    heads = balanced_sizes(q.shape[-3], comm.size)
    packed = torch.cat([q, k, v], -1)
    whole = reshard(packed, comm, join=-2, cut=-3, join_sizes=tokens, cut_sizes=heads)
    answer = attention(*whole.split_with_sizes([q.shape[-1], k.shape[-1], v.shape[-1]], -1))
    return reshard(answer, comm, join=-3, cut=-2, join_sizes=heads, cut_sizes=tokens)
