"""Norms of queries and keys, head by head."""

import torch
from torch import Tensor, nn

from stormda.attention.arguments import wide

EPSILON = 1e-6
"""Added to the mean square before its root."""


def rms_norm(x: Tensor, gain: Tensor) -> Tensor:
    """Scale `x` to a root mean square of 1 over the last dimension, then by `gain`.

    Source: Zhang & Sennrich (2019), Root mean square layer normalization, eq. 4,
    https://arxiv.org/abs/1910.07467

    Args:
        x: Tokens `(..., d)`.
        gain: Factors `(d,)`.

    Returns:
        Tokens `(..., d)` in the dtype of `x`; the mean square is float32 at least.

    Examples:
        >>> rms_norm(torch.tensor([1.0, 7.0]), torch.ones(2))
        tensor([0.2000, 1.4000])
    """
    y = wide(x)
    scale = torch.rsqrt(y.square().mean(-1, keepdim=True) + EPSILON)
    return (y * scale * gain).to(x.dtype)


class HeadNorm(nn.Module):
    """`rms_norm` with a learned gain, which bounds the matches of queries and keys.

    Examples:
        >>> HeadNorm(4)(torch.rand(2, 8, 5, 4)).shape
        torch.Size([2, 8, 5, 4])
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x (..., d)` normalised."""
        return rms_norm(x, self.gain)
