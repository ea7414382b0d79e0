"""Scores of events: how probable an ensemble made what happened, and what was rare.

Brier       BS = mean (p - o)^2,              p the share of members beyond a threshold
reliability what happened, o, against what was said, p
threshold-weighted CRPS: the CRPS of max(x, threshold), which looks at the tail alone
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.diagnostics.ensemble import crps_fair, weighted_mean


def brier_score(
    ensemble: Tensor, truth: Tensor, threshold: Tensor | float, weights: Tensor | None = None
) -> Tensor:
    """Return the fair Brier score of the event that a threshold is passed.

    Source: Ferro (2014), Q. J. R. Meteorol. Soc. 140, eq. 8 (unbiased for the number of members).

    Args:
        ensemble: The members, with shape `(m, *shape)`.
        truth: The truth, with shape `(*shape)`.
        threshold: The threshold, in the units of the state; broadcasts to the shape.
        weights: Weights that broadcast to the shape.

    Raises:
        ValueError: If there are fewer than two members.

    Examples:
        >>> brier_score(torch.tensor([[1.0], [3.0]]), torch.tensor([4.0]), 2.0)
        tensor(0.)
    """
    m = len(ensemble)
    if m < 2:
        raise ValueError(f"ensemble: expected at least 2 members, got {m}")
    said = (ensemble > threshold).to(ensemble).mean(0)
    happened = (truth > threshold).to(ensemble)
    return weighted_mean((said - happened).square() - said * (1 - said) / (m - 1), weights)


def crps_beyond(ensemble: Tensor, truth: Tensor, threshold: Tensor | float) -> Tensor:
    """Return the threshold-weighted CRPS of the upper tail at each point (fair).

    Source: Gneiting and Ranjan (2011), J. Bus. Econ. Stat. 29; as the CRPS of a chained variable,
    Allen, Ginsbourger and Ziegel (2023), SIAM/ASA J. Uncertain. Quantif. 11.

    Args:
        ensemble: The members, with shape `(m, *shape)`.
        truth: The truth, with shape `(*shape)`.
        threshold: Where the tail begins, in the units of the state; broadcasts to the shape.

    Examples:
        >>> crps_beyond(torch.tensor([[1.0], [3.0]]), torch.tensor([0.0]), 5.0)  # no tail
        tensor([0.])
    """
    floor = torch.as_tensor(threshold).to(ensemble)
    return crps_fair(torch.maximum(ensemble, floor), torch.maximum(truth, floor))


@dataclass(frozen=True, eq=False)
class Reliability:
    """What was said against what happened, in classes of forecast probability."""

    said: Tensor
    """The mean probability in each class, with shape `(bins,)`; NaN where it is empty."""

    happened: Tensor
    """The frequency of the event in each class, with shape `(bins,)`; NaN where it is empty."""

    count: Tensor
    """The cases of each class, int64 with shape `(bins,)`."""


def reliability(
    ensemble: Tensor, truth: Tensor, threshold: Tensor | float, *, bins: int = 10
) -> Reliability:
    """Return the reliability diagram of the event that a threshold is passed.

    Source: Wilks (2011), Statistical methods in the atmospheric sciences, section 8.4.4.

    Args:
        ensemble: The members, with shape `(m, *shape)`.
        truth: The truth, with shape `(*shape)`.
        threshold: The threshold, in the units of the state.
        bins: Classes of equal width in probability.

    Examples:
        >>> diagram = reliability(torch.tensor([[1.0], [3.0]]), torch.tensor([4.0]), 2.0, bins=2)
        >>> diagram.said, diagram.happened, diagram.count
        (tensor([   nan, 0.5000]), tensor([nan, 1.]), tensor([0, 1]))
    """
    said = (ensemble > threshold).to(ensemble).mean(0).flatten()
    happened = (truth > threshold).to(ensemble).flatten()
    place = (said * bins).long().clamp(max=bins - 1)
    count = torch.bincount(place, minlength=bins)
    total = said.new_zeros(2, bins)
    total.index_add_(1, place, torch.stack([said, happened]))
    mean = total / count
    return Reliability(said=mean[0], happened=mean[1], count=count)
