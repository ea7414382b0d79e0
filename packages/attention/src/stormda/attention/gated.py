"""What all mixers share: projections in, gate, local branch, projection out.

    y = W_o (gate * attention(q, k, v) + local(v)),   gate = sigmoid(W_g x)

The local branch is a depthwise convolution, and attention in tiles where a mixer has both. Queries
and keys are normalised head by head; the sum is not normalised, which keeps the amplitude of the
global mean.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from stormda.attention.local import DepthwiseLocal
from stormda.attention.norm import HeadNorm

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention of queries, keys and values `(b, h, n, d)`."""


@dataclass(frozen=True)
class Band:
    """How a band of rows of a field can be mixed by itself, given the sums over all tokens."""

    step: int
    """The rows of a band are a multiple of this, and so is its first row."""

    halo: int
    """Rows on either side that the band needs too."""


class GatedHeads(nn.Module):
    """Projections in, gate, local branch, projection out.

    The projection out starts at zero, so that a residual branch starts as the identity.
    """

    def __init__(
        self, width: int, heads: int, *, periodic: tuple[bool, bool], poles: bool = False
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads: expected a positive divisor of width={width}, got {heads}")
        self.heads = heads
        self.qkvg = nn.Linear(width, 4 * width)
        self.q_norm = HeadNorm(width // heads)
        self.k_norm = HeadNorm(width // heads)
        self.local = DepthwiseLocal(width, periodic=periodic, poles=poles)
        self.out = zero_linear(width, width)

    def forward(
        self,
        x: Tensor,
        attend: Attend,
        *,
        shape: tuple[int, int],
        beside: Attend | None = None,
    ) -> Tensor:
        """Return the tokens `(b, n, D)` mixed by `attend`, by the local branch and by `beside`."""
        q, k, v, gate = self.qkvg(x).chunk(4, -1)
        heads = self.q_norm(self._heads(q)), self.k_norm(self._heads(k)), self._heads(v)
        far, near = _tokens(attend(*heads)), self.local(v, shape=shape)
        near = near if beside is None else near + _tokens(beside(*heads))
        mixed: Tensor = self.out(torch.addcmul(near, torch.sigmoid(gate), far))
        return mixed

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values `(b, h, n, d)` alone."""
        width = x.shape[-1]
        part = slice(width, 3 * width)
        kv = nn.functional.linear(x, self.qkvg.weight[part], self.qkvg.bias[part])
        k, v = kv.chunk(2, -1)
        return self.k_norm(self._heads(k)), self._heads(v)

    def _heads(self, x: Tensor) -> Tensor:
        """Return the heads of `x`, each one block of memory: quicker, above all backward."""
        return rearrange(x, "b n (h d) -> b h n d", h=self.heads).contiguous()


def _tokens(heads: Tensor) -> Tensor:
    return rearrange(heads, "b h n d -> b n (h d)")


def zero_linear(width: int, out: int) -> nn.Linear:
    """Return a linear layer that starts at zero."""
    linear = nn.Linear(width, out)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
