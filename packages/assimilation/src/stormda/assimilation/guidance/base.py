"""What all guidance shares: the prior's mean becomes the posterior's mean.

A sampler follows the denoiser's `x_hat = E[x0 | x]`. Guidance hands it `E[x0 | x, y]` instead,

    x_hat_y = x_hat + sigma^2 grad_x log p(y | x)
            = x_hat + sigma^2 J^T A^T v,

with `J` the Jacobian of the denoiser, `A` that of the observation operator at `x_hat`. The methods
differ only in `v` `(m, p)`, the weighted innovation, that is, in what they take `p(y | x)` to be.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from stormda.assimilation.denoiser import Denoiser
from stormda.assimilation.observation import Observation, Operator


@dataclass(frozen=True, eq=False, kw_only=True)
class Guided:
    """The posterior mean at one noise level, and how it was come by."""

    x_hat: Tensor
    """The mean of the clean states, given noisy ones and observations, `(m, *shape)`."""

    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)
    """Numbers to watch, each with shape `(m,)`."""


class Guidance(Protocol):
    """A way to bend a prior towards observations; each member by itself, whatever the batch."""

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigma: Tensor,
        observation: Observation,
        context: Mapping[str, object],
        transform: Operator | None,
    ) -> Guided:
        """Return the posterior mean of noisy states.

        Args:
            denoiser: The prior.
            x: Noisy states, with shape `(m, *shape)`.
            sigma: Their noise level, a tensor without dimensions.
            observation: What was observed.
            context: The denoiser's keyword arguments.
            transform: Takes the denoiser's states to those of the operator, if they differ.
        """


@dataclass(frozen=True, eq=False, kw_only=True)
class Linearized:
    """An observation operator near a state: its value and its Jacobian, as two functions."""

    predicted: Tensor
    """The predicted observations, with shape `(m, p)`."""

    adjoint: Callable[[Tensor], Tensor]
    """The product `A^T v`, from `(m, p)` to `(m, *shape)`."""

    tangent: Callable[[Tensor], Tensor]
    """The product `A t`, from `(m, *shape)` to `(m, p)`."""


def linearize_operator(
    operator: Operator, x_hat: Tensor, transform: Operator | None
) -> Linearized:
    """Linearise `operator(transform(.))` at `x_hat` `(m, *shape)`, with one forward pass.

    The adjoint is a backward pass. It is linear in its argument, so the tangent is a backward pass
    through the adjoint: no operator needs a forward-mode rule.

    Examples:
        >>> line = linearize_operator(lambda x: x**2, torch.tensor([[3.0, 1.0]]), None)
        >>> line.predicted, line.tangent(torch.ones(1, 2)), line.adjoint(torch.ones(1, 2))
        (tensor([[9., 1.]]), tensor([[6., 2.]]), tensor([[6., 2.]]))
    """
    x_hat = x_hat.detach().requires_grad_()
    with torch.enable_grad():
        predicted = operator(x_hat if transform is None else transform(x_hat))
        dual = torch.zeros_like(predicted, requires_grad=True)
        pulled = torch.autograd.grad(predicted, x_hat, dual, create_graph=True)[0]

    def adjoint(v: Tensor) -> Tensor:
        return torch.autograd.grad(predicted, x_hat, v, retain_graph=True)[0]

    def tangent(t: Tensor) -> Tensor:
        return torch.autograd.grad(pulled, dual, t, retain_graph=True)[0]

    return Linearized(predicted=predicted.detach(), adjoint=adjoint, tangent=tangent)
