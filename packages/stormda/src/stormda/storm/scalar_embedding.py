"""A few numbers, such as a noise level, as features of the width of a token."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from stormda.attention import noise_embedding


class ScalarEmbedding(nn.Module):
    """Fourier features of a few numbers, through a small perceptron."""

    def __init__(self, numbers: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(
            nn.Linear(numbers * width, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, values: Tensor) -> Tensor:
        """Embed (batch, numbers) as (batch, width)."""
        features = noise_embedding(values, self.width)
        embedded: Tensor = self.mlp(rearrange(features, "b v d -> b (v d)"))
        return embedded
