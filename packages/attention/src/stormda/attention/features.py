"""Feature maps: non-negative functions phi that stand in for the exponential of softmax attention.

Attention with weights `phi(q_i)^T phi(k_j)` is a sum over keys that can be done once for all
queries. The maps act on the last dimension. All but `hedgehog` (twice) and `spherical_cosine`
(four times) keep its size. A map with options becomes a `Feature` by `functools.partial`.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

Feature = Callable[[Tensor], Tensor]
"""What maps queries and keys `(..., d)` to features `(..., m)` whose products are not negative."""


def relu(x: Tensor) -> Tensor:
    """Return the positive part: the cheapest map, for heads of 32 features or more.

    With fewer features a query matches nothing too often: all of `d` features are zero with
    probability `2**-d`.

    Args:
        x: Queries or keys `(..., d)`.

    Returns:
        The features `(..., d)`.

    Examples:
        >>> relu(torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """
    return torch.relu(x)


def elu1(x: Tensor) -> Tensor:
    """Return `elu(x) + 1`: positive everywhere, for small heads.

    Source: Katharopoulos et al. (2020), Transformers are RNNs, eq. 7,
    https://arxiv.org/abs/2006.16236

    Args:
        x: Queries or keys `(..., d)`.

    Returns:
        The features `(..., d)`.

    Examples:
        >>> elu1(torch.tensor([0.0, 2.0]))
        tensor([1., 3.])
    """
    return torch.nn.functional.elu(x) + 1


def focused(x: Tensor) -> Tensor:
    """Return the cube of the positive part, at the length of the positive part: sharper weights.

    Source: Han et al. (2023), FLatten Transformer, the focused function with p = 3,
    https://arxiv.org/abs/2308.00442

    Args:
        x: Queries or keys `(..., d)`.

    Returns:
        The features `(..., d)`.

    Examples:
        >>> focused(torch.tensor([-1.0, 3.0, 4.0])).round(decimals=2)
        tensor([0.0000, 1.9400, 4.6100])
    """
    positive = torch.relu(x) + 1e-6  # keeps both lengths away from zero
    length = torch.linalg.vector_norm(positive, dim=-1, keepdim=True)
    cube = torch.pow(positive / length, 3)
    scale: Tensor = length / torch.linalg.vector_norm(cube, dim=-1, keepdim=True)
    return cube * scale


def softmax_feature(x: Tensor) -> Tensor:
    """Return the softmax over the features: positive, and of sum 1 for every token.

    Source: Shen et al. (2021), Efficient attention, section 3.2, for the queries; here for the
    keys too, which keeps all matches positive. https://arxiv.org/abs/1812.01243

    Args:
        x: Queries or keys `(..., d)`.

    Returns:
        The features `(..., d)`.

    Examples:
        >>> softmax_feature(torch.zeros(4))
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    return torch.softmax(x, dim=-1)


def hedgehog(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the softmax of `W x` beside that of `-W x`: it can be trained to mimic softmax.

    Source: Zhang et al. (2024), The Hedgehog & the Porcupine, eq. 6 and section 4.2,
    https://arxiv.org/abs/2402.04347

    Args:
        x: Queries or keys `(..., n, d)`.
        weight: The learned `W`, `(..., d, d)`, such as one a head; the identity if None.

    Returns:
        The features `(..., n, 2 d)`.

    Examples:
        >>> hedgehog(torch.zeros(1, 2))
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    x = x if weight is None else x @ weight.mT
    return torch.cat([torch.softmax(x, dim=-1), torch.softmax(-x, dim=-1)], dim=-1)


def spherical_cosine(
    x: Tensor, direction: Tensor, *, strength: float | Tensor = 0.5, feature: Feature = relu
) -> Tensor:
    """Return features whose matches decay with the angle between two places on the sphere.

    phi(q_i)^T phi(k_j) = feature(q_i)^T feature(k_j) (1 + a n_i^T n_j) / (1 + a)

    The kernel of position is not negative, knows neither seam nor pole and is the same after any
    rotation of the sphere. Numerator and denominator of attention share it, so that weights still
    sum to 1.

    Source: after Qin et al. (2022), cosFormer, eq. 9, https://arxiv.org/abs/2202.08791, with the
    cosine of the angle on the sphere for that of the distance in a sequence.

    Args:
        x: Queries or keys `(..., n, d)`.
        direction: Unit vectors of their places, `(n, 3)` or broadcastable to `(..., n, 3)`.
        strength: The number a between 0 (no decay) and 1 (no match with the antipode), or a
            tensor of them such as `(h, 1, 1)`.
        feature: What maps `x` first.

    Returns:
        The features `(..., n, 4 m)` of `m` features.

    Raises:
        ValueError: Directions that do not belong to the tokens, or a strength outside 0 to 1.

    Examples:
        >>> here, there = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.0, -1.0]])
        >>> q, k = (spherical_cosine(torch.ones(1, 1), n, strength=1.0) for n in (here, there))
        >>> q @ k.T
        tensor([[0.]])
    """
    if direction.ndim < 2 or direction.shape[-1] != 3 or direction.shape[-2] != x.shape[-2]:
        raise ValueError(
            f"direction: expected (..., n, 3) with the n of x {tuple(x.shape)}, "
            f"got {tuple(direction.shape)}"
        )
    if not isinstance(strength, Tensor):
        if not 0 <= strength <= 1:
            raise ValueError(f"strength: expected a number between 0 and 1, got {strength}")
        strength = x.new_tensor(strength)
    tilt = strength.sqrt() * direction
    place = torch.cat([torch.ones_like(tilt[..., :1]), tilt], dim=-1)
    place = (place / (1 + strength).sqrt()).to(x.dtype)
    product = feature(x)[..., :, None] * place[..., None, :]
    return rearrange(product, "... m four -> ... (m four)")
