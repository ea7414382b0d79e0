"""Priors with an exact denoiser: they need no network, and they test everything else.

The denoiser of a mixture of Gaussians `sum_j w_j N(mu_j, C_j)` is

    x_hat = sum_j q_j(x) (mu_j + C_j (C_j + sigma^2 I)^-1 (x - mu_j)),
    q_j(x) = w_j N(x | mu_j, C_j + sigma^2 I) / sum_k ...
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stormda.assimilation.denoiser import Vjp


@dataclass(frozen=True, eq=False)
class GaussianPrior:
    """A Gaussian prior.

    Examples:
        >>> prior = GaussianPrior(torch.tensor([1.0]), torch.tensor([[3.0]]))
        >>> prior(torch.tensor([[5.0]]), torch.tensor(1.0))
        tensor([[4.]])
    """

    mean: Tensor
    """The mean, with the shape of a state."""

    covariance: Tensor
    """The covariance of the flattened state, symmetric and positive semi-definite `(n, n)`."""

    _variances: Tensor = field(init=False, repr=False)
    _vectors: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        variances, vectors = _spectrum(self.covariance, self.mean.numel())
        object.__setattr__(self, "_variances", variances)
        object.__setattr__(self, "_vectors", vectors)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return tuple(self.mean.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The data type of the mean."""
        return self.mean.dtype

    @property
    def device(self) -> torch.device:
        """The device of the mean."""
        return self.mean.device

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return `E[x0 | x]` of noisy states `(m, *shape)`."""
        return self.mean + self._filter(x - self.mean, sigma)

    def linearize(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Vjp]:
        """Return `E[x0 | x]` and the product with its (symmetric) Jacobian."""
        return self(x, sigma), lambda v: self._filter(v, sigma)

    def _filter(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        gain = self._variances / (self._variances + sigma**2)
        return ((x.flatten(1) @ self._vectors) * gain @ self._vectors.mT).reshape(x.shape)


@dataclass(frozen=True, eq=False)
class MixturePrior:
    """A mixture of Gaussian priors: several regimes.

    Examples:
        Two narrow modes at -1 and 1, seen from the middle and from the right:

        >>> modes, narrow = torch.tensor([[-1.0], [1.0]]), torch.full((2, 1, 1), 1e-8)
        >>> prior = MixturePrior(torch.tensor([0.5, 0.5]), modes, narrow)
        >>> prior(torch.tensor([[0.0], [5.0]]), torch.tensor(1.0))
        tensor([[0.0000],
                [0.9999]])
    """

    weights: Tensor
    """The probabilities of the modes, positive and of sum 1, with shape `(k,)`."""

    means: Tensor
    """The means of the modes, with shape `(k, *shape)`."""

    covariances: Tensor
    """The covariances of the flattened states in each mode, with shape `(k, n, n)`."""

    _variances: Tensor = field(init=False, repr=False)
    _vectors: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_weights(self.weights, len(self.means))
        if len(self.covariances) != len(self.means):
            raise ValueError(
                f"covariances: expected one for each of {len(self.means)} means, "
                f"got {len(self.covariances)}"
            )
        variances, vectors = _spectrum(self.covariances, self.means[0].numel())
        object.__setattr__(self, "_variances", variances)
        object.__setattr__(self, "_vectors", vectors)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return tuple(self.means.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """The data type of the means."""
        return self.means.dtype

    @property
    def device(self) -> torch.device:
        """The device of the means."""
        return self.means.device

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return `E[x0 | x]` of noisy states `(m, *shape)`."""
        total = self._variances + sigma**2  # (k, n)
        away = x.flatten(1) - self.means.flatten(1)[:, None]  # (k, m, n)
        rotated = away @ self._vectors
        squares = (rotated**2 / total[:, None]).sum(-1) + total.log().sum(-1)[:, None]
        shares = (self.weights.log()[:, None] - squares / 2).softmax(0)  # (k, m)
        gain = (self._variances / total)[:, None]
        modes = self.means.flatten(1)[:, None] + (rotated * gain) @ self._vectors.mT
        return (shares[..., None] * modes).sum(0).reshape(x.shape)


@dataclass(frozen=True, eq=False)
class EnsemblePrior:
    """A prior made of members: kernels of one bandwidth around each of them.

    With bandwidth 0 the samples are the members themselves; a wider kernel lets a sample lie
    between them.

    Source: Bao, Zhang and Zhang (2024), An ensemble score filter, https://arxiv.org/abs/2309.00983
    (here with the true weights of all members).

    Examples:
        >>> prior = EnsemblePrior(torch.tensor([[-1.0], [1.0]]))
        >>> prior(torch.tensor([[0.0], [5.0]]), torch.tensor(1.0))
        tensor([[0.0000],
                [0.9999]])
    """

    members: Tensor
    """The ensemble, with shape `(k, *shape)`."""

    bandwidth: float = 0.0
    """The standard deviation of the kernels, in units of the state."""

    def __post_init__(self) -> None:
        if self.members.ndim < 2 or len(self.members) < 1:
            raise ValueError(f"members: expected shape (k, ...), got {tuple(self.members.shape)}")
        if not self.bandwidth >= 0:
            raise ValueError(f"bandwidth: expected a number >= 0, got {self.bandwidth}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return tuple(self.members.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """The data type of the members."""
        return self.members.dtype

    @property
    def device(self) -> torch.device:
        """The device of the members."""
        return self.members.device

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return `E[x0 | x]` of noisy states `(m, *shape)`."""
        own, total = self.bandwidth**2, self.bandwidth**2 + sigma**2
        flat, members = x.flatten(1), self.members.flatten(1)
        # |x - x_j|^2 without |x|^2, which all members share
        overlap = flat @ members.mT - members.square().sum(-1) / 2
        centre = (overlap / total).softmax(-1) @ members
        return (centre + own / total * (flat - centre)).reshape(x.shape)


def _spectrum(covariance: Tensor, n: int) -> tuple[Tensor, Tensor]:
    if covariance.shape[-2:] != (n, n):
        raise ValueError(
            f"covariance: expected ({n}, {n}) for states of {n} numbers, "
            f"got {tuple(covariance.shape[-2:])}"
        )
    variances, vectors = torch.linalg.eigh(covariance)
    return variances.clamp(min=0), vectors


def _check_weights(weights: Tensor, modes: int) -> None:
    if weights.shape != (modes,):
        raise ValueError(f"weights: expected shape ({modes},), got {tuple(weights.shape)}")
    if not ((weights > 0).all() and torch.isclose(weights.sum(), weights.new_tensor(1.0))):
        raise ValueError(f"weights: expected positive numbers of sum 1, got {weights.tolist()}")
