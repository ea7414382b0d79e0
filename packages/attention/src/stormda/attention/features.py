"""Feature maps: non-negative functions phi that stand in for the exponential of softmax attention.

Attention with weights `phi(q_i)^T phi(k_j)` is a sum over keys that can be done once for all
queries. The maps act on the last dimension and keep its size.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Feature = Callable[[Tensor], Tensor]
"""What maps queries and keys `(..., d)` to non-negative features `(..., m)`."""


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
