"""Local mixing of tokens that form no rows and columns: over a table of their neighbours.

A 3x3 kernel has a weight for the token itself and one for each of eight directions. What lies in a
direction m of token i is the mean of the neighbours around it, each of which counts for the two
directions that its bearing lies between,

    y_i = k_0 x_i + sum_m k_m (sum_j s_ijm x_j) / (sum_j s_ijm),
    s_ijm = max(0, 1 - |b_ij - b_m| / 45 degrees),

so that the same kernels serve rows and columns, where the bearings are multiples of 45 degrees and
this is `depthwise_local`, and HEALPix, reduced and unstructured grids.
"""

import math

import torch
from torch import Tensor, nn

COMPASS = (1, 2, 5, 8, 7, 6, 3, 0)
"""The places in a 3x3 kernel, read row by row, of north, north-east, east, ..., north-west."""

MIDDLE = 4
"""The place of the token itself."""


def compass_shares(neighbours: Tensor, bearing: Tensor) -> Tensor:
    """Return how much each neighbour counts in the mean of each of eight directions.

    Args:
        neighbours: Token numbers `(n, k)`, -1 for none.
        bearing: Where each lies, clockwise from north [rad], `(n, k)`.

    Returns:
        Shares `(n, k, 8)` that sum to 1 over the neighbours, or to 0 where no neighbour lies
        within 45 degrees of a direction.

    Raises:
        ValueError: The shapes differ.

    Examples:
        >>> compass_shares(torch.tensor([[1, 2, -1]]), torch.tensor([[0.0, math.pi / 8, 0.0]]))
        tensor([[[0.6667, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
                 [0.3333, 1.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
                 [0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000]]])
    """
    if neighbours.ndim != 2 or bearing.shape != neighbours.shape:
        raise ValueError(
            f"bearing: expected (n, k) like the neighbours {tuple(neighbours.shape)}, "
            f"got {tuple(bearing.shape)}"
        )
    eighths = bearing[..., None] / (math.pi / 4) - torch.arange(8, device=bearing.device)
    away = (eighths + 4).remainder(8) - 4
    share = (1 - away.abs()).clamp_min(0) * (neighbours >= 0)[..., None]
    # a bearing that is a direction to rounding lies on no other
    share = torch.where(share > 1e-6, share, 0)
    total = share.sum(1, keepdim=True)
    return torch.where(total > 0, share / total.clamp_min(1e-6), 0)


def neighbour_local(x: Tensor, kernel: Tensor, neighbours: Tensor, shares: Tensor) -> Tensor:
    """Correlate each channel of the tokens with its own 3x3 kernel, laid out by the compass.

    Args:
        x: Tokens `(b, n, D)`.
        kernel: Weights `(D, 1, 3, 3)`; the first row is the north, the first column the west.
        neighbours: Token numbers `(n, k)`, -1 for none.
        shares: From `compass_shares`, `(n, k, 8)`.

    Returns:
        Tokens `(b, n, D)`.

    Raises:
        ValueError: A table of another number of tokens.

    Examples:
        Three tokens from north to south; those at the ends have one neighbour.

        >>> table = torch.tensor([[-1, 1], [0, 2], [1, -1]])
        >>> shares = compass_shares(table, torch.tensor([[0.0, math.pi]]).expand(3, 2))
        >>> kernel = torch.tensor([0.0, 10, 0, 0, 1, 0, 0, 100, 0]).reshape(1, 1, 3, 3)
        >>> neighbour_local(torch.tensor([[[1.0], [2.0], [3.0]]]), kernel, table, shares).flatten()
        tensor([201., 312.,  23.])
    """
    if len(neighbours) != x.shape[-2]:
        raise ValueError(
            f"x: expected the {len(neighbours)} tokens of the table of neighbours, "
            f"got {x.shape[-2]}"
        )
    weights = kernel.flatten(1).mT.to(x.dtype)
    mixed = weights[MIDDLE] * x
    around = weights[list(COMPASS)]
    for slot, share in zip(neighbours.unbind(1), shares.to(x.dtype).unbind(1), strict=True):
        mixed = torch.addcmul(mixed, share @ around, x[:, slot.clamp_min(0)])
    return mixed


class Neighbourhood(nn.Module):
    """The table that local branches read where tokens have no rows and columns; without weights.

    Args:
        neighbours: Token numbers `(n, k)`, -1 for none.
        bearing: Where each lies, clockwise from north [rad], `(n, k)`.

    Examples:
        >>> ring = torch.tensor([[3, 1], [0, 2], [1, 3], [2, 0]])
        >>> around = Neighbourhood(ring, torch.tensor([[-math.pi / 2, math.pi / 2]]).expand(4, 2))
        >>> around(torch.eye(4)[None], torch.ones(4, 1, 3, 3)).sum(-1)
        tensor([[3., 3., 3., 3.]])
    """

    neighbours: Tensor
    shares: Tensor

    def __init__(self, neighbours: Tensor, bearing: Tensor) -> None:
        super().__init__()
        shares = compass_shares(neighbours, bearing)
        self.register_buffer("neighbours", neighbours, persistent=False)
        self.register_buffer("shares", shares.to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Return tokens `(b, n, D)` mixed with their neighbours by kernels `(D, 1, 3, 3)`."""
        return neighbour_local(x, kernel, self.neighbours, self.shares)
