"""Errors of a history, as a prior that is cycled on its own analyses will meet them.

    history = truth + amplitude * e,        e_k = sqrt(share) common + sqrt(1 - share) own_k

`common` and `own_k` are Gaussian random fields of unit variance whose correlation length is drawn
for each sample, from one cell (white) to a good part of the domain; `share` is how much of the
error persists from frame to frame. Analyses of successive hours share most of their errors: a
network that had only seen independent ones would trust their mean too much. The amplitude is drawn
log-uniformly and the network is told it, so that one network serves an exact history (amplitude
0) and a poor one.

Source: noise on the conditioning state with its level as an input, Ho et al. (2022), Cascaded
diffusion models, section 4, https://arxiv.org/abs/2106.15282; fields after Whittle (1954),
Biometrika 41.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class HistoryError:
    """The errors that are put on histories in training."""

    smallest: float = 0.01
    """Smallest amplitude, in standard deviations of the field."""

    largest: float = 0.5
    """Largest amplitude, in standard deviations of the field."""

    exact: float = 0.1
    """Share of the samples whose history is exact and whose level is 0."""

    longest: float = 12.0
    """Largest correlation length [cells]."""

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= self.largest:
            raise ValueError(
                f"smallest: expected 0 < smallest <= largest={self.largest}, got {self.smallest}"
            )
        if not 0 <= self.exact <= 1:
            raise ValueError(f"exact: expected a share in [0, 1], got {self.exact}")
        if not self.longest > 0:
            raise ValueError(f"longest: expected a positive length, got {self.longest}")

    def levels(self, batch: int, variables: int, generator: torch.Generator) -> Tensor:
        """Draw amplitudes, log-uniform but for the exact ones, (batch, variables)."""

        def uniform(*size: int) -> Tensor:
            return torch.rand(size, generator=generator, device=generator.device)

        low, high = math.log(self.smallest), math.log(self.largest)
        level = torch.exp(low + (high - low) * uniform(batch, variables))
        return torch.where(uniform(batch, 1) < self.exact, 0.0, level)

    def draw(
        self,
        shape: tuple[int, int, int, int, int],
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Draw errors of histories.

        Args:
            shape: (batch, history, variables, rows, cols).
            generator: Source of the numbers; its device is where they live.

        Returns:
            Errors in standard deviations, of that shape, and their amplitude in the last frame,
            (batch, variables).

        Examples:
            >>> g = torch.Generator().manual_seed(1)
            >>> error, level = HistoryError(exact=0.0).draw((64, 2, 1, 16, 16), g)
            >>> error.shape, level.shape
            (torch.Size([64, 2, 1, 16, 16]), torch.Size([64, 1]))
        """
        batch, history, variables, *_ = shape
        level = self.levels(batch, variables, generator)

        def uniform(*size: int) -> Tensor:
            return torch.rand(size, generator=generator, device=generator.device)

        length = torch.exp(math.log(self.longest) * uniform(batch))
        share = uniform(batch)[:, None, None, None, None]
        white = torch.randn(
            batch, history + 1, variables, *doubled(shape[-2:]), generator=generator,
            device=generator.device,
        )  # fmt: skip
        fields = coloured(white, length)[..., : shape[-2], : shape[-1]]
        error = share.sqrt() * fields[:, :1] + (1 - share).sqrt() * fields[:, 1:]
        return level[:, None, :, None, None] * error, level


def persistent_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw unit normal fields of which a share, drawn for each sample, persists in time.

    Args:
        shape: (batch, time, ...).
        generator: Source of the numbers; its device is where they live.

    Examples:
        >>> noise = persistent_noise((2, 3, 1, 4, 4), torch.Generator().manual_seed(1))
        >>> noise.shape
        torch.Size([2, 3, 1, 4, 4])
    """
    batch, time, *rest = shape
    device = generator.device
    share = torch.rand(batch, *[1] * (len(shape) - 1), generator=generator, device=device)
    common = torch.randn(batch, 1, *rest, generator=generator, device=device)
    own = torch.randn(batch, time, *rest, generator=generator, device=device)
    return share.sqrt() * common + (1 - share).sqrt() * own


def doubled(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the size of a periodic domain whose half knows nothing of the other end."""
    return 2 * shape[0], 2 * shape[1]


def coloured(white: Tensor, length: Tensor) -> Tensor:
    """Turn white noise into fields of unit variance with the spectrum (1 + (k l)^2)^-2.

    Source: Whittle (1954), Biometrika 41 (the Matern covariance of smoothness 1 in the plane).

    Args:
        white: Unit normal numbers on a periodic domain, (batch, ..., rows, cols).
        length: Correlation length l of each sample [cells], (batch,).

    Examples:
        >>> g = torch.Generator().manual_seed(1)
        >>> fields = coloured(torch.randn(200, 1, 32, 32, generator=g), torch.full((200,), 3.0))
        >>> round(float(fields.square().mean()), 1)
        1.0
    """
    rows, cols = white.shape[-2:]
    ky = 2 * math.pi * torch.fft.fftfreq(rows, device=white.device)
    kx = 2 * math.pi * torch.fft.rfftfreq(cols, device=white.device)
    k2 = ky[:, None] ** 2 + kx[None] ** 2
    amplitude = 1 / (1 + k2 * length[:, None, None] ** 2)
    amplitude = amplitude / _root_mean_square(amplitude, cols)
    amplitude = amplitude.reshape(len(length), *[1] * (white.ndim - 3), rows, -1)
    field: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(rows, cols))
    return field


def _root_mean_square(amplitude: Tensor, cols: int) -> Tensor:
    """Return the root of the mean over the whole spectrum, of which the half kx >= 0 is given."""
    times = torch.full((amplitude.shape[-1],), 2.0, device=amplitude.device)
    times[0] = 1.0
    if cols % 2 == 0:
        times[-1] = 1.0
    total = (times * amplitude.square()).sum(dim=(-2, -1), keepdim=True)
    return (total / (amplitude.shape[-2] * cols)).sqrt()
