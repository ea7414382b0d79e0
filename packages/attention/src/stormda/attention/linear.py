"""Global attention whose cost grows with the number of tokens, not with its square.

The mathematics is in `state`; here is the choice of what computes it. All backends give the same
answers and gradients up to rounding:

- `PLAIN`: matrix products of whole sequences; gradients of any order, function transforms, any
  device. For short sequences.
- `BLOCKED`: blocks of tokens that stay in the cache, hand-written gradients of first order.
- `NATIVE`: the same in C++ for bfloat16, on matrix units (AMX) or AVX-512 where the processor has
  them; needs a compiler once (`native`).
- `FUSED`: Triton kernels for GPUs, checked in Triton's interpreter and not on a GPU; on request.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.attention import fused, native
from stormda.attention.arguments import check_heads, check_keys
from stormda.attention.blocked import blocked_answers, blocked_sums
from stormda.attention.features import Feature, relu
from stormda.attention.state import LinearState, Reduce

SHORT = 2048
"""Tokens below which whole sequences fit the cache, and blocks do not pay."""

TINY = 128
"""Tokens below which calling the C++ library takes longer than its work."""


@dataclass(frozen=True)
class Backend:
    """What computes linear attention."""

    name: str
    """What a report calls it."""

    sums: Callable[..., LinearState]
    """`sums(k, v, feature=, weight=, mask=)`: the state of the keys."""

    answers: Callable[..., Tensor]
    """`answers(q, state, feature=)`: the answers to the queries."""

    status: Callable[[], str]
    """Says "ready", and how it runs here; or what is missing."""


def _plain_sums(
    k: Tensor, v: Tensor, *, feature: Feature, weight: Tensor | None, mask: Tensor | None
) -> LinearState:
    return LinearState.from_tokens(feature(k), v, weight=weight, mask=mask)


def _plain_answers(q: Tensor, state: LinearState, *, feature: Feature) -> Tensor:
    return state.apply(feature(q))


PLAIN = Backend("plain", _plain_sums, _plain_answers, lambda: "ready")
"""Matrix products of whole sequences."""

BLOCKED = Backend("blocked", blocked_sums, blocked_answers, lambda: "ready")
"""Blocks of tokens in the cache."""

NATIVE = Backend("native", native.native_sums, native.native_answers, native.status)
"""C++ for bfloat16; built at first use."""

FUSED = Backend("fused", fused.fused_sums, fused.fused_answers, fused.status)
"""Triton kernels for GPUs; not chosen by itself."""


def backend_report() -> dict[str, str]:
    """Return what each backend says of itself on this machine.

    Examples:
        >>> backend_report()["plain"]
        'ready'
    """
    return {backend.name: backend.status() for backend in (PLAIN, BLOCKED, NATIVE, FUSED)}


def suited(q: Tensor, k: Tensor, v: Tensor) -> Backend:
    """Return the quickest backend that is ready for such tokens.

    Args:
        q: Queries `(*batch, h, n, d)`.
        k: Keys `(*batch, h, m, d)`.
        v: Values `(*batch, h, m, e)`.

    Examples:
        >>> suited(*torch.rand(3, 8, 100, 32).unbind()).name
        'plain'
        >>> suited(*torch.rand(3, 1, 4096, 32).unbind()).name
        'blocked'
    """
    transformed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    alike = q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
    if transformed or not alike or {x.device.type for x in (q, k, v)} != {"cpu"}:
        return PLAIN
    tokens = min(q.shape[-2], k.shape[-2])
    if tokens >= TINY and native.suits(q, k, v):
        return NATIVE
    return PLAIN if tokens < SHORT else BLOCKED


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature: Feature = relu,
    weight: Tensor | None = None,
    mask: Tensor | None = None,
    reduce: Reduce | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """Mix `v` with weights proportional to `feature(q)^T feature(k)`, at O(n + m) cost.

    Source: Katharopoulos et al. (2020), Transformers are RNNs, eq. 5,
    https://arxiv.org/abs/2006.16236; with weights of the keys and the mean as a default answer.

    Args:
        q: Queries `(*batch, h, n, d)`.
        k: Keys `(*batch, h, m, d)`.
        v: Values `(*batch, h, m, e)`.
        feature: Maps queries and keys to non-negative features.
        weight: What each key counts, such as the area of its cell, `(*batch, m)` or broadcastable
            to it; not negative.
        mask: True where a key counts, `(*batch, m)` or broadcastable to it.
        reduce: A differentiable sum over the processes that hold the other tokens; called once.
        backend: What computes the sums and the answers; `suited` if None.

    Returns:
        The answers `(*batch, h, n, e)` in the dtype of `v`. Sums are kept in float32 at least.

    Raises:
        ValueError: Shapes that do not belong together, or a mask that is not boolean.

    Examples:
        >>> q, k, v = torch.rand(3, 1, 8, 100, 32).unbind()
        >>> linear_attention(q, k, v).shape
        torch.Size([1, 8, 100, 32])
    """
    check_heads(q, k, v)
    check_keys(k.shape[-2], weight, mask)
    backend = suited(q, k, v) if backend is None else backend
    state = backend.sums(k, v, feature=feature, weight=weight, mask=mask)
    state = state if reduce is None else state.reduce(reduce)
    return backend.answers(q, state, feature=feature).to(v.dtype)
