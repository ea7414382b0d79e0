"""Mixers: modules that exchange information between the tokens of one field.

    y = W_o (gate * attention(q, k, v) + local(v)),   gate = sigmoid(W_g x)

They differ in the attention alone. Queries and keys are normalised head by head; the sum is not
normalised, which keeps the amplitude of the global mean.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor, nn

from stormda.attention.linear import linear_attention
from stormda.attention.local import DepthwiseLocal
from stormda.attention.norm import HeadNorm
from stormda.attention.softmax import softmax_attention
from stormda.attention.tile import tile_attention

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention of queries, keys and values `(b, h, n, d)`."""


class Mixer(Protocol):
    """What exchanges information between the tokens of a field."""

    def __call__(
        self, x: Tensor, *, shape: tuple[int, int], weight: Tensor | None = None
    ) -> Tensor:
        """Return tokens `(b, n, D)`.

        Args:
            x: Tokens `(b, n, D)`, row by row.
            shape: Rows and columns of tokens; their product is `n`.
            weight: What each token counts, such as the area of its cell, `(b, n)` or `(n,)`.
        """
        ...


class GatedHeads(nn.Module):
    """What all attention mixers share: projections in, gate, local branch, projection out.

    The projection out starts at zero, so that a residual branch starts as the identity.
    """

    def __init__(self, width: int, heads: int, *, periodic: tuple[bool, bool]) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads: expected a positive divisor of width={width}, got {heads}")
        self.heads = heads
        self.qkvg = nn.Linear(width, 4 * width)
        self.q_norm = HeadNorm(width // heads)
        self.k_norm = HeadNorm(width // heads)
        self.local = DepthwiseLocal(width, periodic=periodic)
        self.out = zero_linear(width, width)

    def forward(self, x: Tensor, attend: Attend, *, shape: tuple[int, int]) -> Tensor:
        """Return the tokens `(b, n, D)` mixed by `attend` and by the local branch."""
        q, k, v, gate = self.qkvg(x).chunk(4, -1)
        far = attend(self.q_norm(self._heads(q)), self.k_norm(self._heads(k)), self._heads(v))
        far, near = rearrange(far, "b h n d -> b n (h d)"), self.local(v, shape=shape)
        mixed: Tensor = self.out(torch.addcmul(near, torch.sigmoid(gate), far))
        return mixed

    def _heads(self, x: Tensor) -> Tensor:
        """Return the heads of `x`, each one block of memory: quicker, above all backward."""
        return rearrange(x, "b n (h d) -> b h n d", h=self.heads).contiguous()


class GlobalLinearAttention(nn.Module):
    """Attention of all tokens with all tokens at O(n) cost, beside the local branch.

    Examples:
        >>> mix = GlobalLinearAttention(64, 2)
        >>> mix(torch.rand(1, 12, 64), shape=(3, 4)).shape
        torch.Size([1, 12, 64])
    """

    def __init__(
        self, width: int, heads: int, *, periodic: tuple[bool, bool] = (False, True)
    ) -> None:
        super().__init__()
        self.gated = GatedHeads(width, heads, periodic=periodic)

    def forward(
        self, x: Tensor, *, shape: tuple[int, int], weight: Tensor | None = None
    ) -> Tensor:
        """Return the tokens `(b, n, D)` mixed."""
        mixed: Tensor = self.gated(x, partial(linear_attention, weight=weight), shape=shape)
        return mixed


class TileAttention(nn.Module):
    """Softmax attention inside tiles and their halo, beside the local branch.

    Examples:
        >>> mix = TileAttention(64, 2, tile=(2, 2), halo=(1, 1))
        >>> mix(torch.rand(1, 12, 64), shape=(3, 4)).shape
        torch.Size([1, 12, 64])
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tile: tuple[int, int],
        halo: tuple[int, int],
        periodic: tuple[bool, bool] = (False, True),
    ) -> None:
        super().__init__()
        self.gated = GatedHeads(width, heads, periodic=periodic)
        self.tile, self.halo, self.periodic = tile, halo, periodic

    def forward(
        self, x: Tensor, *, shape: tuple[int, int], weight: Tensor | None = None
    ) -> Tensor:
        """Return the tokens `(b, n, D)` mixed."""
        attend = partial(
            tile_attention,
            shape=shape,
            tile=self.tile,
            halo=self.halo,
            periodic=self.periodic,
            weight=weight,
        )
        mixed: Tensor = self.gated(x, attend, shape=shape)
        return mixed


class FullAttention(nn.Module):
    """Softmax attention of all tokens with all tokens at O(n^2) cost, beside the local branch.

    Examples:
        >>> mix = FullAttention(64, 2)
        >>> mix(torch.rand(1, 12, 64), shape=(3, 4)).shape
        torch.Size([1, 12, 64])
    """

    def __init__(
        self, width: int, heads: int, *, periodic: tuple[bool, bool] = (False, True)
    ) -> None:
        super().__init__()
        self.gated = GatedHeads(width, heads, periodic=periodic)

    def forward(
        self, x: Tensor, *, shape: tuple[int, int], weight: Tensor | None = None
    ) -> Tensor:
        """Return the tokens `(b, n, D)` mixed."""
        mixed: Tensor = self.gated(x, partial(softmax_attention, weight=weight), shape=shape)
        return mixed


class LocalMixing(nn.Module):
    """The local branch alone: no token sees past its neighbours.

    Examples:
        >>> LocalMixing(64)(torch.rand(1, 12, 64), shape=(3, 4)).shape
        torch.Size([1, 12, 64])
    """

    def __init__(self, width: int, *, periodic: tuple[bool, bool] = (False, True)) -> None:
        super().__init__()
        self.value = nn.Linear(width, width)
        self.local = DepthwiseLocal(width, periodic=periodic)
        self.out = zero_linear(width, width)

    def forward(
        self, x: Tensor, *, shape: tuple[int, int], weight: Tensor | None = None
    ) -> Tensor:
        """Return the tokens `(b, n, D)` mixed; neighbours count alike, whatever the weight."""
        mixed: Tensor = self.out(self.local(self.value(x), shape=shape))
        return mixed


def zero_linear(width: int, out: int) -> nn.Linear:
    """Return a linear layer that starts at zero."""
    linear = nn.Linear(width, out)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
