"""The linear system that most guidance comes down to.

    (R + S) v = d,

with `R` the covariance of the errors of observation, `S` that of the predictions, a product each,
and `d` the innovation. Where the errors have heavy tails, `R` depends on the residuals that an
analysis leaves, which are `R v`: the system is solved, its residuals weighed, and solved again.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from stormda.assimilation.errors import ObservationError
from stormda.assimilation.guidance.cg import Solution


class Solver(Protocol):
    """Solves a batch of linear systems; `conjugate_gradients` and `gmres` do."""

    def __call__(
        self,
        apply: Callable[[Tensor], Tensor],
        b: Tensor,
        *,
        diagonal: Tensor,
        tolerance: float,
        max_iterations: int,
    ) -> Solution:
        """Return the solutions of `M_i v_i = b_i`, each row `(m, p)` for itself."""


def solve_innovation(
    error: ObservationError,
    innovation: Tensor,
    add_spread: Callable[[Tensor, Tensor], Tensor],
    prior_diagonal: Tensor | float,
    *,
    solve: Solver,
    tolerance: float,
    max_iterations: int,
    reweightings: int = 3,
) -> Solution:
    """Return the weighted innovation `v` `(m, p)`, and how well it was found.

    Args:
        error: The law of the errors of observation.
        innovation: The right-hand side `d`, with shape `(m, p)`.
        add_spread: Takes `R v` and `v` to `(R + S) v`.
        prior_diagonal: An approximation of the diagonal of `S`, for the preconditioner.
        solve: The solver.
        tolerance: The relative residual at which a member is solved.
        max_iterations: The most products in one solve.
        reweightings: How often a law with heavy tails is weighed again.
    """
    near = error.near(innovation.new_zeros(innovation.shape))
    solution = _solve_once(
        near, innovation, add_spread, prior_diagonal, solve, tolerance, max_iterations
    )
    if near is error:
        return solution
    for _ in range(reweightings):
        near = error.near(near.apply(solution.v))
        solution = _solve_once(
            near, innovation, add_spread, prior_diagonal, solve, tolerance, max_iterations
        )
    return solution


def _solve_once(
    error: ObservationError,
    innovation: Tensor,
    add_spread: Callable[[Tensor, Tensor], Tensor],
    prior_diagonal: Tensor | float,
    solve: Solver,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    return solve(
        lambda v: add_spread(error.apply(v), v),
        innovation,
        diagonal=error.variance.to(innovation) + prior_diagonal,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
