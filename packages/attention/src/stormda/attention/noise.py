"""How the noise level speaks to the network: embedding, shared modulation and gates.

At high noise the history says more than the noisy state, at low noise the state says more than
the history. Every block therefore weighs its spatial and its temporal branch by gates of the noise
level, one a channel.
"""

import math

import torch
from torch import Tensor, nn


def noise_embedding(log_sigma: Tensor, width: int) -> Tensor:
    """Return Fourier features of the noise level.

    Half cosines, half sines, of periods spaced evenly in logarithm from 0.5 to 32 e-foldings: the
    longest covers sigma from 0.002 to 80 in a third of a turn.

    Source: Karras et al. (2022), Elucidating the design space, Table 1, for the logarithm; Vaswani
    et al. (2017), Attention is all you need, section 3.5, for the sines and cosines.
    https://arxiv.org/abs/2206.00364, https://arxiv.org/abs/1706.03762

    Args:
        log_sigma: The natural logarithm of the noise level `(*batch,)`.
        width: Number of features, even.

    Returns:
        Features `(*batch, width)` between -1 and 1.

    Raises:
        ValueError: A width that is not positive and even.

    Examples:
        >>> noise_embedding(torch.tensor([0.0]), 4)
        tensor([[1., 1., 0., 0.]])
    """
    if width < 2 or width % 2:
        raise ValueError(f"width: expected a positive even number, got {width}")
    periods = torch.logspace(
        5, -1, width // 2, base=2, dtype=log_sigma.dtype, device=log_sigma.device
    )
    phase = 2 * math.pi * log_sigma[..., None] / periods
    return torch.cat([phase.cos(), phase.sin()], -1)


class SharedModulation(nn.Module):
    """The shifts and scales of the norms of all blocks, from the noise embedding.

    Each block adds a small table of its own to this one vector (adaLN-single), where a projection
    in each block would hold a quarter of all parameters. Starts at zero.

    Source: Chen et al. (2023), PixArt-alpha, section 2.3, https://arxiv.org/abs/2310.00426

    Examples:
        >>> SharedModulation(8)(torch.zeros(2, 8)).shape
        torch.Size([2, 48])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, condition: Tensor) -> Tensor:
        """Return the modulation `(b, 6 D)` of a noise embedding `(b, D)`."""
        modulation: Tensor = self.linear(nn.functional.silu(condition))
        return modulation


class NoiseGate(nn.Module):
    """Gates between 0 and 1, one a channel, that depend on the noise level.

    Args:
        width: Channels of the embedding, and number of gates.
        start: The value of all gates before training, between 0 and 1.

    Raises:
        ValueError: A start that is not between 0 and 1.

    Examples:
        >>> NoiseGate(2, start=0.75)(torch.zeros(1, 2)).detach()
        tensor([[0.7500, 0.7500]])
    """

    def __init__(self, width: int, *, start: float) -> None:
        super().__init__()
        if not 0 < start < 1:
            raise ValueError(f"start: expected a number between 0 and 1, got {start}")
        self.linear = nn.Linear(width, width)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, math.log(start / (1 - start)))

    def forward(self, condition: Tensor) -> Tensor:
        """Return the gates `(b, D)` of a noise embedding `(b, D)`."""
        return torch.sigmoid(self.linear(condition))
