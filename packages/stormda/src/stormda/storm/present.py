"""The present given the past, with room for what the prior does not know that it does not know.

    x = forecast + c (departure),        departure ~ the prior's own distribution

A prior that has seen little data is too sure: what it has learned by heart it does not doubt. The
factor c widens its distribution about the forecast, as multiplicative inflation does for an
ensemble filter; it is found on days that were held back.

Source: Anderson and Anderson (1999), Mon. Wea. Rev. 127 (inflation of a prior ensemble).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stormda.storm.prior import Conditioned


@dataclass(frozen=True, eq=False)
class Present:
    """A denoiser of the departure from the forecast, as `stormda.assimilation.Denoiser` asks.

    Raises:
        ValueError: Where the factor is not positive.
    """

    given: Conditioned
    """The prior, conditioned on the past of each member."""

    inflation: float = 1.0
    """The factor c."""

    def __post_init__(self) -> None:
        if not self.inflation > 0:
            raise ValueError(f"inflation: expected a positive number, got {self.inflation}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (channels, rows, cols)."""
        return self.given.shape

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the state."""
        return self.given.dtype

    @property
    def device(self) -> torch.device:
        """Return the device of the state."""
        return self.given.device

    def __call__(self, departure: Tensor, sigma: Tensor, **context: Any) -> Tensor:  # noqa: ANN401
        """Return E[departure | departure + sigma n, past]."""
        return self.given(departure, sigma, **context)

    def shrink(self, states: Tensor, sigma: Tensor) -> Tensor:
        """Return the product with the covariance of a noisy departure, as `Conditioned` does."""
        return self.given.shrink(states, sigma)

    def to_physical(self, departure: Tensor) -> Tensor:
        """Return the fields that departures stand for [physical units]."""
        return self.given.to_physical(self.inflation * departure)

    def uncertainty(self) -> Tensor:
        """Return the typical size of a departure [physical units], (channels, rows, cols)."""
        return self.inflation * self.given.uncertainty()

    def forecast(self) -> Tensor:
        """Return the fields without any departure, (members, channels, rows, cols)."""
        return self.given.to_physical(torch.zeros_like(self.given.past.forecast))
