"""Attention through a few latent tokens: exact softmax to them and from them, at O(n) cost.

    c_g = sum_j p_gj v_j / sum_j p_gj,   p_gj = w_j exp(a_g^T k_j / sqrt(d))
    y_i = sum_g softmax_g(q_i^T a_g / sqrt(d)) c_g

Latent g hears `c_g`, and tells it to the tokens that ask. The weights p are features of the keys,
so that both sums are those of a `LinearState` and add over chunks and shards. They need no running
maximum: the logits of normalised keys have a bound, which is subtracted before the exponential.

Source: Han et al. (2024), Agent attention, eq. 4, https://arxiv.org/abs/2312.08874, with learned
latents and weights of the keys.
"""

import math
from functools import partial

import torch
from torch import Tensor

from stormda.attention.arguments import exactly, wide
from stormda.attention.state import LinearState, Reduce


def latent_features(k: Tensor, latents: Tensor) -> Tensor:
    """Return how much each latent listens to each key, up to a factor a latent.

    Args:
        k: Keys `(*batch, h, m, d)` of a length below `2 sqrt(d)`, as `rms_norm` makes them.
        latents: The latents `(h, g, d)`.

    Returns:
        Weights between 0 and 1, `(*batch, h, m, g)`, in float32 at least.

    Examples:
        >>> latent_features(torch.zeros(1, 5, 4), torch.zeros(1, 3, 4)).shape
        torch.Size([1, 5, 3])
    """
    with exactly(k):
        latents = wide(latents)
        scale = 1 / math.sqrt(k.shape[-1])
        bound = 2 * latents.detach().norm(dim=-1)  # |a| |k| / sqrt(d), by Cauchy and Schwarz
        return torch.exp(scale * (wide(k) @ latents.mT) - bound[:, None, :])


def latent_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    latents: Tensor,
    *,
    weight: Tensor | None = None,
    mask: Tensor | None = None,
    reduce: Reduce | None = None,
) -> Tensor:
    """Mix `v` through the latents, at O((n + m) g) cost.

    Args:
        q: Queries `(*batch, h, n, d)`.
        k: Keys `(*batch, h, m, d)` of a length below `2 sqrt(d)`, as `rms_norm` makes them.
        v: Values `(*batch, h, m, e)`.
        latents: The latents `(h, g, d)`.
        weight: What each key counts, `(*batch, m)` or broadcastable to it; not negative.
        mask: True where a key counts, `(*batch, m)` or broadcastable to it.
        reduce: A differentiable sum over the processes that hold the other tokens; called once.

    Returns:
        The answers `(*batch, h, n, e)` in the dtype of `v`; zero where no key counts.

    Raises:
        ValueError: Shapes that do not belong together, or a mask that is not boolean.

    Examples:
        >>> q, k, v = torch.rand(3, 8, 100, 32).unbind()
        >>> latent_attention(q, k, v, torch.rand(8, 16, 32)).shape
        torch.Size([8, 100, 32])
    """
    if latents.ndim != 3 or latents.shape[::2] != (q.shape[-3], q.shape[-1]):
        raise ValueError(
            f"latents: expected (h, g, d) with the h and d of q {tuple(q.shape)}, "
            f"got {tuple(latents.shape)}"
        )
    features = partial(latent_features, latents=latents)
    state = LinearState.from_tokens(features(k), v, weight=weight, mask=mask)
    state = state if reduce is None else state.reduce(reduce)
    return latent_answer(q, latents, state).to(v.dtype)


def latent_answer(q: Tensor, latents: Tensor, state: LinearState) -> Tensor:
    """Return what the latents, which have heard `state`, tell the queries.

    Args:
        q: Queries `(*batch, h, n, d)`.
        latents: The latents `(h, g, d)`.
        state: The sums over the keys with the features of `latent_features`.

    Returns:
        The answers `(*batch, h, n, e)`, in float32 at least.

    Examples:
        >>> latents = torch.rand(1, 3, 4)
        >>> keys = latent_features(torch.rand(1, 5, 4), latents)
        >>> state = LinearState.from_tokens(keys, torch.ones(1, 5, 2))
        >>> latent_answer(torch.rand(1, 1, 4), latents, state).round(decimals=4)
        tensor([[[1., 1.]]])
    """
    with exactly(q):
        heard = state.kv / (state.z + (state.z == 0))[..., None]
        logits = wide(q) @ wide(latents).mT / math.sqrt(q.shape[-1])
        return logits.softmax(-1) @ heard
