"""Kernels that sum and answer with packed numbers, as functions of a `LinearState`.

A kernel of sums takes keys, values, weights and whether ReLU is its business, and returns S, z and
s of every head in one row; a kernel of answers takes queries and such a row. What is around them
is the same for every kind of kernel.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from stormda.attention.arguments import exactly
from stormda.attention.features import Feature, relu
from stormda.attention.state import LinearState, key_weights

SumsKernel = Callable[[Tensor, Tensor, Tensor | None, bool], Tensor]
"""(k, v, w, inside) to `(*batch, h, d (d + 2))`, differentiable."""

AnswersKernel = Callable[[Tensor, Tensor, bool], Tensor]
"""(q, packed state, inside) to `(*batch, h, n, d)`, differentiable."""

Check = Callable[..., None]
"""Takes tokens by name, and raises ValueError for those that a kernel is not made for."""


def sums_by(
    kernel: SumsKernel,
    check: Check,
    k: Tensor,
    v: Tensor,
    *,
    feature: Feature,
    weight: Tensor | None,
    mask: Tensor | None,
) -> LinearState:
    """Return `LinearState.from_tokens(feature(k), v, ...)`, summed by a kernel."""
    k, inside = (k, True) if feature is relu else (feature(k), False)
    check(k=k, v=v)
    with exactly(k):
        w = key_weights(weight, mask, like=k.new_empty((*k.shape[:-1], 0), dtype=torch.float32))
        each = None if w is None else w.expand(k.shape[:-1])
        packed = kernel(k, v, each, inside)
        if w is None:
            c = packed.new_full(k.shape[:-2], k.shape[-2])
        else:
            c = w.sum(-1).expand(k.shape[:-2])
        d = k.shape[-1]
        return LinearState.unpack(torch.cat([packed, c[..., None]], -1), d=d, e=d)


def answers_by(
    kernel: AnswersKernel, check: Check, q: Tensor, state: LinearState, *, feature: Feature
) -> Tensor:
    """Return `state.apply(feature(q))` in the dtype of `q`, answered by a kernel."""
    q, inside = (q, True) if feature is relu else (feature(q), False)
    check(q=q)
    with exactly(q):
        kv, z, mean, floor = state.factors()
        packed = torch.cat([kv.flatten(-2), z, mean, floor[..., None]], -1).float()
        return kernel(q, packed, inside)
