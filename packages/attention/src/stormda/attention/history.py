"""Cross-attention to the history, location by location.

The history is embedded once and projected once; every layer reads the same keys and values with
its own queries. No layer stores anything of the size of the history. One that is too long to be
held at all is a `StreamedHistory`.
"""

from dataclasses import dataclass
from typing import Protocol

from einops import rearrange
from torch import Tensor, cat, nn

from stormda.attention.gated import zero_linear
from stormda.attention.norm import HeadNorm
from stormda.attention.temporal import temporal_attention


class History(Protocol):
    """What all layers read of the past."""

    def answer(self, q: Tensor) -> Tensor:
        """Return what the frames at each location answer to queries `(b, h, n, d)`."""
        ...


@dataclass(frozen=True)
class HistoryKeys:
    """A history whose keys and values are held."""

    keys: Tensor
    """`(b, h, K, n, d)`."""

    values: Tensor
    """`(b, h, K, n, d)`."""

    def answer(self, q: Tensor) -> Tensor:
        """Return what the frames at each location answer to queries `(b, h, n, d)`."""
        return temporal_attention(q, self.keys, self.values)

    def followed_by(self, later: "HistoryKeys") -> "HistoryKeys":
        """Return this history with further frames."""
        return HistoryKeys(cat([self.keys, later.keys], -3), cat([self.values, later.values], -3))


class HistoryProjection(nn.Module):
    """The keys and values of the history, for all layers.

    Examples:
        >>> import torch
        >>> history = HistoryProjection(64, 2)(torch.rand(1, 3, 12, 64))
        >>> history.keys.shape
        torch.Size([1, 2, 3, 12, 32])
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads: expected a positive divisor of width={width}, got {heads}")
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.kv = nn.Linear(width, 2 * width)
        self.k_norm = HeadNorm(width // heads)

    def forward(self, history: Tensor) -> HistoryKeys:
        """Return keys and values.

        Args:
            history: Tokens of the past frames `(b, K, n, D)`, to which the caller has added an
                embedding of their times.
        """
        kv = self.kv(self.norm(history))
        keys, values = rearrange(kv, "b t n (two h d) -> two b h t n d", two=2, h=self.heads)
        return HistoryKeys(self.k_norm(keys), values)


class TemporalCrossAttention(nn.Module):
    """Each token asks the frames of the history at its own location.

    The projection out starts at zero, so that a residual branch starts as the identity.

    Examples:
        >>> import torch
        >>> history = HistoryProjection(64, 2)(torch.rand(1, 3, 12, 64))
        >>> TemporalCrossAttention(64, 2)(torch.rand(1, 12, 64), history).shape
        torch.Size([1, 12, 64])
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads: expected a positive divisor of width={width}, got {heads}")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.q_norm = HeadNorm(width // heads)
        self.out = zero_linear(width, width)

    def forward(self, x: Tensor, history: History) -> Tensor:
        """Return what the history says to the tokens `(b, n, D)`."""
        q = self.q_norm(rearrange(self.query(x), "b n (h d) -> b h n d", h=self.heads))
        past = history.answer(q)
        answer: Tensor = self.out(rearrange(past, "b h n d -> b n (h d)"))
        return answer
