"""Local mixing: each channel of a token with the eight tokens around it.

Attention of any kind blurs what neighbours share; this branch restores it, and no mixer goes
without.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from stormda.attention.arguments import check_shape
from stormda.attention.neighbours import Neighbourhood
from stormda.attention.spread import Spread


def depthwise_local(
    x: Tensor,
    kernel: Tensor,
    *,
    shape: tuple[int, int],
    periodic: tuple[bool, bool],
    poles: bool = False,
) -> Tensor:
    """Correlate each channel of a field of tokens with its own 3x3 kernel.

    Args:
        x: Tokens `(b, n, D)`, row by row.
        kernel: Weights `(D, 1, 3, 3)`.
        shape: Rows and columns of tokens; their product is `n`.
        periodic: Whether the rows, and the columns, close to a ring; zero past the edges that do
            not.
        poles: Whether the first and last rows lie around poles: past them is the same row, half
            a turn of longitude on.

    Returns:
        Tokens `(b, n, D)`.

    Raises:
        ValueError: A shape that does not hold the tokens, or poles of a field whose rows close to
            a ring, whose columns do not, or whose number of columns is odd.

    Examples:
        >>> ones = torch.ones(1, 1, 3, 3)
        >>> depthwise_local(torch.eye(3).reshape(1, 9, 1), ones, shape=(3, 3),
        ...                 periodic=(False, True)).reshape(3, 3)
        tensor([[2., 2., 2.],
                [3., 3., 3.],
                [2., 2., 2.]])
    """
    check_shape(x.shape[-2], shape)
    check_poles(poles, periodic)
    field = rearrange(x, "b (y x) d -> b y x d", y=shape[0])
    if poles:
        field = _over_the_poles(field)
    for dim, ring in enumerate(periodic, start=1):
        field = _wrap(field, dim) if ring else field
    padding = (int(not (periodic[0] or poles)), int(not periodic[1]))
    return _correlated(field, kernel, padding)


def _correlated(field: Tensor, kernel: Tensor, padding: tuple[int, int]) -> Tensor:
    """Return the tokens `(b, n, D)` of a field `(b, y, x, D)` that is framed where not padded."""
    field = rearrange(field, "b y x d -> b d y x")  # channels last in memory: no copy
    mixed = nn.functional.conv2d(field, kernel, padding=padding, groups=kernel.shape[0])
    return rearrange(mixed, "b d y x -> b (y x) d")


def _wrap(field: Tensor, dim: int) -> Tensor:
    """Put the last slice along `dim` before the first, and the first behind the last."""
    return torch.cat([field.narrow(dim, -1, 1), field, field.narrow(dim, 0, 1)], dim)


def _over_the_poles(field: Tensor) -> Tensor:
    """Put before the first row, and behind the last, the same row half a turn on."""
    columns = field.shape[2]
    if columns % 2:
        raise ValueError(f"shape: expected an even number of columns around poles, got {columns}")
    first, last = (field.narrow(1, row, 1).roll(columns // 2, 2) for row in (0, -1))
    return torch.cat([first, field, last], 1)


def check_poles(poles: bool, periodic: tuple[bool, bool]) -> None:
    """Raise where a field of such directions can have no poles."""
    if poles and tuple(periodic) != (False, True):
        raise ValueError(f"poles: expected periodic=(False, True) beside poles, got {periodic}")


class DepthwiseLocal(nn.Module):
    """`depthwise_local` with learned kernels; `neighbour_local` where it is given a neighbourhood.

    Examples:
        >>> DepthwiseLocal(8, periodic=(False, True))(torch.rand(2, 12, 8), shape=(3, 4)).shape
        torch.Size([2, 12, 8])
    """

    spread: Spread | None = None
    """The processes among which the field is spread; None where it is all here."""

    def __init__(self, width: int, *, periodic: tuple[bool, bool], poles: bool = False) -> None:
        super().__init__()
        check_poles(poles, periodic)
        self.periodic, self.poles = periodic, poles
        self.around: Neighbourhood | None = None
        self.kernel = nn.Parameter(torch.empty(width, 1, 3, 3))
        nn.init.kaiming_uniform_(self.kernel, a=math.sqrt(5))

    def forward(self, x: Tensor, *, shape: tuple[int, int]) -> Tensor:
        """Return the tokens `(b, n, D)` mixed with their neighbours on the grid `shape`."""
        if self.around is not None:
            mixed: Tensor = self.around(x, self.kernel)
            return mixed
        if self.spread is not None:
            check_shape(x.shape[-2], shape)
            field = self.spread.around(rearrange(x, "b (y x) d -> b y x d", y=shape[0]))
            return _correlated(field, self.kernel, (0, 0))
        return depthwise_local(
            x, self.kernel, shape=shape, periodic=self.periodic, poles=self.poles
        )
