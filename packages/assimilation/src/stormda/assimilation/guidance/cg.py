"""Conjugate gradients on many small systems at once, safe with nearly symmetric operators.

Each row of the batch is a system of its own, `M_i v_i = b_i`, with its own step lengths and its
own end; a batch only shares the calls of `M`. A learned Jacobian is not quite symmetric and not
quite positive, and conjugate gradients may then run away. A row therefore stops when

- its residual is small enough: it has converged;
- its curvature `p^T M p` is not positive: `M` is no covariance in that direction;
- its residual has grown far above that of the start: the recursion has broken down;

and what is returned is the iterate of the smallest residual, never a worse one than `v = 0`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_GROWTH = 100.0
"""A residual this many times that of the start has broken down. On a positive matrix of condition
k conjugate gradients may pass through sqrt(k) / 2 on their way to the solution."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Solution:
    """The solutions of a batch of linear systems, and how good they are."""

    v: Tensor
    """The solutions, with shape `(m, p)`."""

    residual: Tensor
    """The norms `|b - M v| / |b|` in the metric of the preconditioner, with shape `(m,)`."""

    iterations: Tensor
    """How many steps each system took, int64 with shape `(m,)`."""


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    diagonal: Tensor,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """Solve `M_i v_i = b_i` for a batch of symmetric positive definite matrices.

    Source: Hestenes and Stiefel (1952), J. Res. NBS 49, with a diagonal preconditioner as in Saad
    (2003), Iterative Methods for Sparse Linear Systems, algorithm 9.1.

    Args:
        apply: The product with `M`, from `(m, p)` to `(m, p)`.
        b: The right-hand sides, with shape `(m, p)`.
        diagonal: A positive approximation of the diagonal of `M`; broadcasts to `(m, p)`.
        tolerance: The residual at which a system is solved, relative to that of `v = 0`.
        max_iterations: The most products with `M`.

    Examples:
        >>> m = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
        >>> solution = conjugate_gradients(
        ...     lambda v: v @ m, torch.tensor([[3.0, 4.0]]), diagonal=torch.ones(2),
        ...     tolerance=1e-5, max_iterations=9,
        ... )
        >>> solution.v, solution.iterations
        (tensor([[1.0000, 1.0000]]), tensor([2]))
    """
    v, r = torch.zeros_like(b), b.clone()
    z = r / diagonal
    p, energy = z.clone(), _dot(r, z)
    start, best, answer = energy.clone(), energy.clone(), v.clone()
    active = energy > 0
    iterations = torch.zeros_like(active, dtype=torch.int64)
    for _ in range(max_iterations):
        if not active.any():
            break
        q = apply(p)
        curvature = _dot(p, q)
        active = active & (curvature > 0)  # also False where it is not a number
        step = torch.where(active, energy / curvature, 0.0)[:, None]
        v.addcmul_(step, p)
        r.addcmul_(step, torch.where(active[:, None], q, 0.0), value=-1)
        torch.div(r, diagonal, out=z)
        previous, energy = energy, _dot(r, z)
        iterations += active
        better = active & (energy < best)
        answer[better], best[better] = v[better], energy[better]
        active = active & (energy > tolerance**2 * start) & (energy < _GROWTH**2 * start)
        momentum = torch.where(active, energy / previous, 0.0)[:, None]
        p.mul_(momentum).add_(z).mul_(active[:, None])
    answer[start.isnan()] = torch.nan  # a broken right-hand side is not "no innovation"
    residual = torch.where(start == 0, 0.0, best / start).sqrt()
    return Solution(v=answer, residual=residual, iterations=iterations)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)
