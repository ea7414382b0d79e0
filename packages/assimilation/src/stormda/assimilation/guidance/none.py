"""No guidance: the prior itself, whatever was observed.

The samples are then draws of the prior (a forecast, where the prior is conditioned on the past).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from stormda.assimilation.denoiser import Denoiser
from stormda.assimilation.guidance.base import Guided
from stormda.assimilation.observation import Observation, Operator


@dataclass(frozen=True, kw_only=True)
class none:
    """The denoiser as it is.

    Examples:
        >>> import torch
        >>> from stormda.assimilation import DiagonalError, GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1), torch.eye(1))
        >>> seen = Observation(torch.tensor([2.0]), lambda x: x, DiagonalError(0.1))
        >>> none()(prior, torch.ones(1, 1), torch.tensor(1.0), seen).x_hat
        tensor([[0.5000]])
    """

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigma: Tensor,
        observation: Observation,
        context: Mapping[str, object] | None = None,
        transform: Operator | None = None,
    ) -> Guided:
        """Return the prior's mean; there are no diagnostics."""
        return Guided(x_hat=denoiser(x, sigma, **(context or {})))
