"""Local mixing: each channel of a token with the eight tokens around it.

Attention of any kind blurs what neighbours share; this branch restores it, and no mixer goes
without.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from stormda.attention.arguments import check_shape


def depthwise_local(
    x: Tensor, kernel: Tensor, *, shape: tuple[int, int], periodic: tuple[bool, bool]
) -> Tensor:
    """Correlate each channel of a field of tokens with its own 3x3 kernel.

    Args:
        x: Tokens `(b, n, D)`, row by row.
        kernel: Weights `(D, 1, 3, 3)`.
        shape: Rows and columns of tokens; their product is `n`.
        periodic: Whether the rows, and the columns, close to a ring; zero past the edges that do
            not.

    Returns:
        Tokens `(b, n, D)`.

    Raises:
        ValueError: A shape that does not hold the tokens.

    Examples:
        >>> ones = torch.ones(1, 1, 3, 3)
        >>> depthwise_local(torch.eye(3).reshape(1, 9, 1), ones, shape=(3, 3),
        ...                 periodic=(False, True)).reshape(3, 3)
        tensor([[2., 2., 2.],
                [3., 3., 3.],
                [2., 2., 2.]])
    """
    check_shape(x.shape[-2], shape)
    field = rearrange(x, "b (y x) d -> b y x d", y=shape[0])
    for dim, ring in enumerate(periodic, start=1):
        field = _wrap(field, dim) if ring else field
    padding = tuple(0 if ring else 1 for ring in periodic)
    field = rearrange(field, "b y x d -> b d y x")  # channels last in memory: no copy
    mixed = nn.functional.conv2d(field, kernel, padding=padding, groups=kernel.shape[0])
    return rearrange(mixed, "b d y x -> b (y x) d")


def _wrap(field: Tensor, dim: int) -> Tensor:
    """Put the last slice along `dim` before the first, and the first behind the last."""
    return torch.cat([field.narrow(dim, -1, 1), field, field.narrow(dim, 0, 1)], dim)


class DepthwiseLocal(nn.Module):
    """`depthwise_local` with learned kernels.

    Examples:
        >>> DepthwiseLocal(8, periodic=(False, True))(torch.rand(2, 12, 8), shape=(3, 4)).shape
        torch.Size([2, 12, 8])
    """

    def __init__(self, width: int, *, periodic: tuple[bool, bool]) -> None:
        super().__init__()
        self.periodic = periodic
        self.kernel = nn.Parameter(torch.empty(width, 1, 3, 3))
        nn.init.kaiming_uniform_(self.kernel, a=math.sqrt(5))

    def forward(self, x: Tensor, *, shape: tuple[int, int]) -> Tensor:
        """Return the tokens `(b, n, D)` mixed with their neighbours on the grid `shape`."""
        return depthwise_local(x, self.kernel, shape=shape, periodic=self.periodic)
