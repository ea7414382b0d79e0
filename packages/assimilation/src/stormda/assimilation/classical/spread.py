"""What keeps the spread of a small ensemble honest, the same for every filter.

An ensemble that is too small, or a model that is not the truth, makes a filter trust itself too
much. After each analysis its deviations from the mean are therefore

- inflated by a factor,
- relaxed towards those of the background: their size (RTPS) or the deviations themselves (RTPP),
- rotated at random among the members, which keeps mean and covariance and undoes the outliers that
  a deterministic filter breeds.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The treatment of an ensemble after an analysis; by default none.

    Source: inflation from Anderson and Anderson (1999), Mon. Wea. Rev. 127; RTPS from Whitaker and
    Hamill (2012), Mon. Wea. Rev. 140, eq. 2; RTPP from Zhang et al. (2004), Mon. Wea. Rev. 132,
    eq. 5; rotation from Sakov and Oke (2008), Mon. Wea. Rev. 136.

    Examples:
        >>> background, analysis = torch.tensor([[-2.0], [2.0]]), torch.tensor([[0.0], [2.0]])
        >>> Spread(inflation=1.5)(analysis, background)
        tensor([[-0.5000],
                [ 2.5000]])
        >>> Spread(rtps=0.5)(analysis, background)
        tensor([[-0.5000],
                [ 2.5000]])
    """

    inflation: float = 1.0
    """Multiplies the deviations from the mean."""

    rtps: float = 0.0
    """The share, 0 to 1, by which the standard deviation goes back to the background's."""

    rtpp: float = 0.0
    """The share, 0 to 1, of the background's deviations in the analysis's."""

    rotate: bool = False
    """Whether to rotate; this needs a generator."""

    def __post_init__(self) -> None:
        if not self.inflation > 0:
            raise ValueError(f"inflation: expected a positive number, got {self.inflation}")
        for name in ("rtps", "rtpp"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a number in [0, 1], got {getattr(self, name)}")

    def __call__(
        self, analysis: Tensor, background: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the treated ensemble.

        Args:
            analysis: The ensemble after the analysis, with shape `(m, *shape)`.
            background: The ensemble before it, with the same shape.
            generator: The source of the rotation.
        """
        if self.rtpp > 0:
            analysis = relax_deviations(analysis, background, self.rtpp)
        if self.rtps > 0:
            analysis = relax_spread(analysis, background, self.rtps)
        if self.inflation != 1:
            analysis = inflate(analysis, self.inflation)
        if self.rotate:
            if generator is None:
                raise ValueError("generator: expected one for the rotation, got None")
            analysis = rotate(analysis, generator)
        return analysis


def inflate(ensemble: Tensor, factor: float) -> Tensor:
    """Multiply the deviations of an ensemble `(m, *shape)` from its mean.

    Examples:
        >>> inflate(torch.tensor([1.0, 3.0]), 2.0)
        tensor([0., 4.])
    """
    mean = ensemble.mean(0)
    return mean + factor * (ensemble - mean)


def relax_spread(analysis: Tensor, background: Tensor, share: float) -> Tensor:
    """Relax the standard deviation of an ensemble `(m, *shape)` to the background's, by point.

    Where an analysis has no spread at all it stays without.

    Examples:
        >>> relax_spread(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 6.0]), 1.0)
        tensor([-1.,  5.])
    """
    mean, std = analysis.mean(0), analysis.std(0)
    factor = torch.where(std > 0, 1 + share * (background.std(0) / std - 1), 1.0)
    return mean + factor * (analysis - mean)


def relax_deviations(analysis: Tensor, background: Tensor, share: float) -> Tensor:
    """Mix the background's deviations into the analysis's, both of shape `(m, *shape)`.

    Examples:
        >>> relax_deviations(torch.tensor([1.0, 3.0]), torch.tensor([6.0, 0.0]), 0.5)
        tensor([3., 1.])
    """
    mean = analysis.mean(0)
    return mean + torch.lerp(analysis - mean, background - background.mean(0), share)


def rotate(ensemble: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate members `(m, *shape)` among each other at random: mean and covariance stay.

    Examples:
        >>> x = rotate(torch.eye(4).double(), torch.Generator().manual_seed(0))
        >>> torch.allclose(x.mean(0), torch.full((4,), 0.25).double())
        True
    """
    m = len(ensemble)
    white = torch.randn(
        m - 1, m - 1, generator=generator, dtype=ensemble.dtype, device=generator.device
    )
    q, r = torch.linalg.qr(white)
    q = q * r.diagonal().sign()  # uniform over the rotations and reflections
    axes = _around_the_mean(m).to(ensemble)
    mean = ensemble.mean(0)
    turn = axes.mT @ q.to(ensemble) @ axes
    turned: Tensor = mean + torch.tensordot(turn, ensemble - mean, 1)
    return turned


def _around_the_mean(m: int) -> Tensor:
    """Return orthonormal vectors `(m - 1, m)` whose numbers sum to zero (Helmert's)."""
    rows = torch.ones(m - 1, m, dtype=torch.float64).tril()
    k = torch.arange(1, m, dtype=torch.float64)
    rows[torch.arange(m - 1), torch.arange(1, m)] = -k
    return rows / (k * (k + 1)).sqrt()[:, None]
