"""What the compiled backends share: sums packed into one row a head, and answers from them.

packed = [vec S, z, s],    LinearState = packed and the sum c of the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stormda.attention.arguments import exactly
from stormda.attention.state import LinearState, key_weights


def packed_sums(
    sums: Callable[..., Any],
    k: Tensor,
    v: Tensor,
    weight: Tensor | None,
    mask: Tensor | None,
    *,
    relu_inside: bool,
) -> LinearState:
    """Return the state of keys and values, from a backend's function of (k, v, w, relu_inside)."""
    with exactly(k):
        w = key_weights(weight, mask, like=k.new_empty((*k.shape[:-1], 0), dtype=torch.float32))
        each = None if w is None else w.expand(k.shape[:-1])
        packed = sums(k, v, each, relu_inside)
        if w is None:
            c = packed.new_full(k.shape[:-2], k.shape[-2])
        else:
            c = w.sum(-1).expand(k.shape[:-2])
        d = k.shape[-1]
        return LinearState.unpack(torch.cat([packed, c[..., None]], -1), d=d, e=d)


def packed_answers(
    answers: Callable[..., Any], q: Tensor, state: LinearState, *, relu_inside: bool
) -> Tensor:
    """Return the answers to queries, from a backend's function of (q, packed, relu_inside)."""
    with exactly(q):
        kv, z, mean, floor = state.factors()
        packed = torch.cat([kv.flatten(-2), z, mean, floor[..., None]], -1).float()
        y: Tensor = answers(q, packed, relu_inside)
        return y
