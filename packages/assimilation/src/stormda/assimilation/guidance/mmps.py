"""Moment matching: the likelihood of a noisy state, with the covariance the denoiser implies.

    p(y | x) = N(y | A(x_hat), R + A V A^T),        V = Cov[x0 | x] = sigma^2 J,

so that `v` solves `(R + sigma^2 A J^T A^T) v = y - A(x_hat)`, by conjugate gradients on products
with `J^T` only. The answer is exact for a Gaussian prior and a linear operator; a nonlinear
operator is linearised anew at every noise level, and there again where the posterior's mean turns
out to lie if asked to. Solved to a tolerance it is calibrated; stopped after a step or two it is
not, and not even steadily better with each step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from stormda.assimilation.denoiser import Denoiser, linearize
from stormda.assimilation.guidance.base import Guided, Linearized, linearize_operator
from stormda.assimilation.guidance.cg import Solution, conjugate_gradients
from stormda.assimilation.guidance.descent import Iterate, cost_of, descend
from stormda.assimilation.guidance.solve import Solver, solve_innovation
from stormda.assimilation.observation import Observation, Operator


@dataclass(frozen=True, eq=False, kw_only=True)
class mmps:
    """Moment-matching posterior sampling, the default guidance.

    Source: Rozet et al. (2024), Learning diffusion priors from observations by expectation
    maximization, section on moment matching, https://arxiv.org/abs/2405.13712

    Examples:
        A prior N(0, 1) at noise level 1 has mean x / 2 and variance 1 / 2. An observation 2 with
        error variance 1 / 2 moves the mean half of the way:

        >>> from stormda.assimilation import DiagonalError, GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1), torch.eye(1))
        >>> seen = Observation(torch.tensor([2.0]), lambda x: x, DiagonalError(0.5**0.5))
        >>> mmps()(prior, torch.zeros(1, 1), torch.tensor(1.0), seen).x_hat
        tensor([[1.]])
    """

    tolerance: float = 1e-3
    """The residual of the linear system at which a member is solved, relative to its innovation
    (both in the metric of the preconditioner: in units of the error of observation)."""

    max_iterations: int = 20
    """The most products with the denoiser's transposed Jacobian at one noise level."""

    prior_variance: Tensor | float | None = None
    """The variance `c` of the prior at the observations, a number or shape `(p,)`, if known: the
    preconditioner is then `R + c sigma^2 / (c + sigma^2)` and not `R`. It changes the number of
    iterations, not the answer."""

    solve: Solver = conjugate_gradients
    """How the systems are solved: `gmres` where a learned Jacobian is far from symmetric."""

    linearizations: int = 1
    """How often the operator is linearised at one noise level: first at the prior's mean, then at
    the posterior's as far as it is known (Gauss and Newton's iteration). More than one helps where
    the operator is strongly nonlinear over the prior's spread, as a model run is; steps that would
    go too far are then cut (`descent`)."""

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance: expected a number in (0, 1), got {self.tolerance}")
        if self.max_iterations < 1:
            raise ValueError(
                f"max_iterations: expected a positive count, got {self.max_iterations}"
            )
        if self.linearizations < 1:
            raise ValueError(
                f"linearizations: expected a positive count, got {self.linearizations}"
            )
        if self.prior_variance is not None:
            least = torch.as_tensor(self.prior_variance).min()
            if not least > 0:
                raise ValueError(
                    f"prior_variance: expected positive numbers, got a minimum of {least:g}"
                )

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigma: Tensor,
        observation: Observation,
        context: Mapping[str, object] | None = None,
        transform: Operator | None = None,
    ) -> Guided:
        """Return the posterior mean; the diagnostics are `residual` and `iterations`."""
        x_hat, vjp = linearize(denoiser, x, sigma, context or {})
        at = Iterate(pull=torch.zeros_like(x_hat), away=torch.zeros_like(x_hat))
        cost = partial(cost_of, x_hat, observation, transform)
        for turn in range(self.linearizations):
            operator = linearize_operator(observation.operator, x_hat + at.away, transform)
            expected = operator.predicted
            if turn > 0:
                expected = expected - operator.tangent(at.away)
            solution = self._solve(observation, expected, operator, vjp, sigma)
            pull = operator.adjoint(solution.v)
            target = Iterate(pull=pull, away=sigma**2 * vjp(pull))
            at = target if self.linearizations == 1 else descend(at, target, cost)
        diagnostics = {"residual": solution.residual, "iterations": solution.iterations}
        return Guided(x_hat=x_hat + at.away, diagnostics=diagnostics)

    def _solve(
        self,
        observation: Observation,
        expected: Tensor,
        operator: Linearized,
        vjp: Callable[[Tensor], Tensor],
        sigma: Tensor,
    ) -> Solution:
        """Return the weighted innovation from what the prior's mean predicts, `(m, p)`."""

        def add_spread(r: Tensor, v: Tensor) -> Tensor:
            return torch.addcmul(r, operator.tangent(vjp(operator.adjoint(v))), sigma**2)

        return solve_innovation(
            observation.error,
            observation.innovation(expected),
            add_spread,
            self._prior_diagonal(sigma),
            solve=self.solve,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )

    def _prior_diagonal(self, sigma: Tensor) -> Tensor | float:
        if self.prior_variance is None:
            return 0.0
        prior = torch.as_tensor(self.prior_variance).to(sigma)
        return prior * sigma**2 / (prior + sigma**2)
