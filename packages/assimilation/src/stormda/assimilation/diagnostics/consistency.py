"""Do the statistics of innovations agree with what a filter believes?

With `d_b = y - H x_b` and `d_a = y - H x_a`, both of the means, a consistent filter has

    <d_b d_b> = H B H^T + R,     <d_a d_b> = R,     <(d_b - d_a) d_b> = H B H^T,

so that observations alone, without a truth, tell the errors of observation and of the background.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Consistency:
    """Standard deviations at the observations, found and believed, in the observations' units."""

    innovation: float
    """The root mean square of `d_b`."""

    innovation_believed: float
    """The root mean of the background's variance and that of the errors of observation."""

    error: float
    """The standard deviation of the errors of observation that the residuals tell (Desroziers)."""

    background: float
    """The standard deviation of the background that the residuals tell (Desroziers)."""

    @property
    def ratio(self) -> float:
        """Innovations found over believed: 1 for an honest filter, above where overconfident."""
        return self.innovation / self.innovation_believed


def desroziers(
    y: Tensor, background: Tensor, analysis: Tensor, error_variance: Tensor
) -> Consistency:
    """Return the consistency of innovations and residuals.

    Source: Desroziers et al. (2005), Diagnosis of observation, background and analysis-error
    statistics in observation space, Q. J. R. Meteorol. Soc. 131, eq. 1-3.

    Args:
        y: The observations of many cycles, with shape `(p,)`.
        background: What the members of the background predict for them, with shape `(m, p)`.
        analysis: What the members of the analysis predict, with shape `(m, p)`.
        error_variance: The believed variances, a number or shape `(p,)`.

    Raises:
        ValueError: If the shapes differ, or there are fewer than two members.

    Examples:
        >>> import torch
        >>> y, flat = torch.tensor([2.0, -2.0]), torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
        >>> half = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
        >>> found = desroziers(y, flat, half, torch.tensor(2.0))
        >>> round(found.innovation, 2), round(found.innovation_believed, 2), round(found.error, 2)
        (2.0, 2.0, 1.41)
    """
    if len(background) < 2 or background.shape != analysis.shape:
        raise ValueError(
            f"analysis: expected the shape of background with at least 2 members, "
            f"got {tuple(analysis.shape)} and {tuple(background.shape)}"
        )
    before, after = y - background.mean(0), y - analysis.mean(0)
    believed = (background.var(0) + error_variance.to(background)).mean()
    return Consistency(
        innovation=before.square().mean().sqrt().item(),
        innovation_believed=believed.sqrt().item(),
        error=(after * before).mean().clamp(min=0).sqrt().item(),
        background=((before - after) * before).mean().clamp(min=0).sqrt().item(),
    )
