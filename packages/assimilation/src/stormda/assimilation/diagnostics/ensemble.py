"""Scores of an ensemble: error, spread, and whether the one is honest about the other.

An ensemble `(m, *shape)` stands beside the truth `(*shape)`; `shape` may hold times, variables and
points alike, and scores are means over all of it, with weights (areas of cells) where given.

    RMSE = sqrt <(mean - truth)^2>,       spread = sqrt <variance>,
    spread / skill = sqrt((M + 1) / M) spread / RMSE  =  1  for an honest ensemble.

What is not a number in the truth makes a score not a number: mask it beforehand.
"""

from math import pi, sqrt

import torch
from torch import Tensor


def weighted_mean(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean over all dimensions.

    Args:
        values: Numbers, with shape `(*shape)`.
        weights: Weights >= 0 that broadcast to the shape; None weighs all alike.

    Examples:
        >>> weighted_mean(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 1.0]))
        tensor(2.)
    """
    if weights is None:
        return values.mean()
    weights = weights.to(values).expand_as(values)
    return (values * weights).sum() / weights.sum()


def rmse(estimate: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the root of the mean square error of one estimate, in its units.

    Args:
        estimate: For example the mean of an ensemble, with shape `(*shape)`.
        truth: The truth, with the same shape.
        weights: Weights that broadcast to the shape.

    Examples:
        >>> rmse(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 6.0]))
        tensor(3.5355)
    """
    _check_same_shape("estimate", estimate, truth)
    return weighted_mean((estimate - truth).square(), weights).sqrt()


def mae(estimate: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean absolute error of one estimate `(*shape)`, in its units.

    Examples:
        >>> mae(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 6.0]))
        tensor(3.5000)
    """
    _check_same_shape("estimate", estimate, truth)
    return weighted_mean((estimate - truth).abs(), weights)


def bias(estimate: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean of `estimate - truth`, both with shape `(*shape)`, in their units.

    Examples:
        >>> bias(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 6.0]))
        tensor(-3.5000)
    """
    _check_same_shape("estimate", estimate, truth)
    return weighted_mean(estimate - truth, weights)


def spread(ensemble: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the root of the mean variance of an ensemble `(m, *shape)`, in its units.

    Source: Fortin et al. (2014), Why should ensemble spread match the RMSE of the ensemble mean?,
    J. Hydrometeor. 15 (the mean is taken of the unbiased variance, not of its root).

    Examples:
        >>> spread(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
        tensor(1.)
    """
    _check_members(ensemble)
    return weighted_mean(ensemble.var(0), weights).sqrt()


def spread_skill(ensemble: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return `sqrt((M + 1) / M)` times spread over RMSE of the mean: 1 where both are honest.

    Source: Fortin et al. (2014), J. Hydrometeor. 15.

    Args:
        ensemble: The members, with shape `(m, *shape)`.
        truth: The truth, with shape `(*shape)`.
        weights: Weights that broadcast to the shape.

    Examples:
        >>> spread_skill(torch.tensor([[1.0], [3.0]]), torch.tensor([2.0 + 3.0**0.5]))
        tensor(1.)
    """
    members = len(ensemble)
    error = rmse(ensemble.mean(0), truth, weights)
    return sqrt((members + 1) / members) * spread(ensemble, weights) / error


def crps_fair(ensemble: Tensor, truth: Tensor) -> Tensor:
    """Return the continuous ranked probability score, unbiased for the number of members.

        CRPS = mean_i |x_i - y| - 1 / (2 M (M - 1)) sum_ij |x_i - x_j|

    The double sum is one over the sorted members: `2 sum_i (2 i - M - 1) x_(i)`.

    Source: Ferro (2014), Fair scores for ensemble forecasts, Q. J. R. Meteorol. Soc. 140; sorted
    form as in Zamo and Naveau (2018), Math. Geosci. 50.

    Args:
        ensemble: The members, with shape `(m, *shape)`.
        truth: The truth, with shape `(*shape)`.

    Returns:
        The score at each point, in the units of the state, with shape `(*shape)`; take
        `weighted_mean` of it. Below zero by chance where the ensemble is good and small.

    Examples:
        >>> crps_fair(torch.tensor([[1.0], [3.0]]), torch.tensor([2.0]))
        tensor([0.])
    """
    members = _check_members(ensemble)
    _check_same_shape("a member", ensemble[0], truth)
    ranks = torch.arange(1, members + 1, dtype=ensemble.dtype, device=ensemble.device)
    share = (2 * ranks - members - 1) / (members * (members - 1))
    pairs = share @ ensemble.sort(0).values.flatten(1)
    return (ensemble - truth).abs().mean(0) - pairs.reshape(truth.shape)


def crps_gaussian(mean: Tensor, std: Tensor, truth: Tensor) -> Tensor:
    """Return the continuous ranked probability score of `N(mean, std^2)` at each point.

    Source: Gneiting et al. (2005), Mon. Wea. Rev. 133, eq. 5.

    Args:
        mean: The mean, with shape `(*shape)`.
        std: The standard deviation > 0, with the same shape.
        truth: The truth, with the same shape.

    Examples:
        >>> crps_gaussian(torch.zeros(1), torch.ones(1), torch.zeros(1))
        tensor([0.2337])
    """
    _check_same_shape("mean", mean, truth)
    z = (truth - mean) / std
    density = (-z.square() / 2).exp() / sqrt(2 * pi)
    return std * (z * torch.erf(z / sqrt(2)) + 2 * density - 1 / sqrt(pi))


def coverage(
    ensemble: Tensor, truth: Tensor, *, level: float = 0.9, weights: Tensor | None = None
) -> Tensor:
    """Return how often the truth lies in the central interval of an ensemble.

    The interval ends at the quantiles `(1 -+ level) / 2`, taken at the rank `(M + 1) q` between
    the sorted members (Weibull), and at the outermost members where that lies beyond them. The
    truth of an honest ensemble falls as often between any two neighbours, so that `level` is what
    to expect of enough members, and `expected_coverage` of few.

    Source: Hyndman and Fan (1996), Sample quantiles in statistical packages, definition 6.

    Args:
        ensemble: The members, with shape `(m, *shape)`.
        truth: The truth, with shape `(*shape)`.
        level: The probability of the interval, in (0, 1).
        weights: Weights that broadcast to the shape.

    Examples:
        >>> ensemble = torch.arange(1.0, 20.0)[:, None].expand(19, 3)
        >>> coverage(ensemble, torch.tensor([0.9, 1.1, 18.9]), level=0.9)
        tensor(0.6667)
    """
    members = _check_members(ensemble)
    _check_same_shape("a member", ensemble[0], truth)
    _check_level(level)
    ordered = ensemble.sort(0).values
    low, high = (_quantile(ordered, (members + 1) * q) for q in _tails(level))
    return weighted_mean(((low <= truth) & (truth <= high)).to(ensemble), weights)


def expected_coverage(members: int, level: float = 0.9) -> float:
    """Return the coverage of an honest ensemble: `min(level, (M - 1) / (M + 1))`.

    It is exact where the interval ends at members, and nearly so between them.

    Examples:
        >>> expected_coverage(39), round(expected_coverage(16), 3)
        (0.9, 0.882)
    """
    _check_level(level)
    return min(level, (members - 1) / (members + 1))


def rank_histogram(ensemble: Tensor, truth: Tensor) -> Tensor:
    """Return how often the truth takes each rank among the members.

    Where the truth equals `k` members, each of the `k + 1` ranks counts as much.

    Source: Hamill (2001), Interpretation of rank histograms, Mon. Wea. Rev. 129.

    Args:
        ensemble: The members, with shape `(m, *shape)`.
        truth: The truth, with shape `(*shape)`.

    Returns:
        The counts, float64 with shape `(m + 1,)`: flat for an honest ensemble, a bowl where its
        spread is too small.

    Examples:
        >>> rank_histogram(torch.tensor([[1.0, 1.0], [3.0, 3.0]]), torch.tensor([2.0, 3.0]))
        tensor([0.0000, 1.5000, 0.5000], dtype=torch.float64)
    """
    members = _check_members(ensemble)
    _check_same_shape("a member", ensemble[0], truth)
    first = (ensemble < truth).sum(0).flatten()
    last = (ensemble <= truth).sum(0).flatten()
    share = 1 / (last - first + 1).double()
    edges = torch.zeros(members + 2, dtype=torch.float64, device=ensemble.device)
    edges.index_add_(0, first, share).index_add_(0, last + 1, -share)
    return edges.cumsum(0)[:-1]


def rank_test(counts: Tensor) -> tuple[float, float]:
    """Return the chi-square statistic of a rank histogram and its p-value for a flat one.

    The p-value holds for independent cases. Neighbouring points are not: thin them, or scale the
    counts down to the number of independent cases.

    Args:
        counts: The counts of each rank, with shape `(m + 1,)`.

    Examples:
        >>> rank_test(torch.tensor([10.0, 10.0, 10.0]))
        (0.0, 1.0)
    """
    from scipy.special import chdtrc  # long to import

    expected = counts.mean()
    statistic = float(((counts - expected).square() / expected).sum())
    return statistic, float(chdtrc(len(counts) - 1, statistic))


def _tails(level: float) -> tuple[float, float]:
    return (1 - level) / 2, (1 + level) / 2


def _quantile(ordered: Tensor, rank: float) -> Tensor:
    """Return the value at a rank, counted from 1 and not whole, of sorted members."""
    position = min(max(rank - 1, 0.0), len(ordered) - 1.0)
    below = min(int(position), len(ordered) - 2)
    return torch.lerp(ordered[below], ordered[below + 1], position - below)


def _check_members(ensemble: Tensor) -> int:
    if ensemble.ndim < 1 or len(ensemble) < 2:
        raise ValueError(
            f"ensemble: expected at least 2 members first, got shape {tuple(ensemble.shape)}"
        )
    return len(ensemble)


def _check_same_shape(name: str, estimate: Tensor, truth: Tensor) -> None:
    if estimate.shape != truth.shape:
        raise ValueError(
            f"truth: expected the shape of {name} {tuple(estimate.shape)}, "
            f"got {tuple(truth.shape)}"
        )


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number in (0, 1), got {level}")
