"""Generalised minimal residuals on many small systems at once: no symmetry is asked for.

Each row of the batch is a system of its own, `M_i v_i = b_i`; a batch only shares the calls of
`M`. A learned Jacobian is not symmetric; where conjugate gradients stall on it, this does not, at
the price of keeping all directions (as many as iterations).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from stormda.assimilation.guidance.cg import Solution


def gmres(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    diagonal: Tensor,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """Solve `M_i v_i = b_i` for a batch of matrices, symmetric or not.

    Source: Saad and Schultz (1986), SIAM J. Sci. Stat. Comput. 7, algorithm 3, preconditioned on
    both sides by the root of a diagonal, as conjugate gradients are.

    Args:
        apply: The product with `M`, from `(m, p)` to `(m, p)`.
        b: The right-hand sides, with shape `(m, p)`.
        diagonal: A positive approximation of the diagonal of `M`; broadcasts to `(m, p)`.
        tolerance: The residual at which a system is solved, relative to that of `v = 0`.
        max_iterations: The most products with `M`.

    Examples:
        >>> m = torch.tensor([[2.0, 1.0], [-1.0, 3.0]])
        >>> solution = gmres(
        ...     lambda v: v @ m.mT, torch.tensor([[3.0, 2.0]]), diagonal=torch.ones(2),
        ...     tolerance=1e-5, max_iterations=9,
        ... )
        >>> solution.v, solution.iterations
        (tensor([[1.0000, 1.0000]]), tensor([2]))
    """
    scale = diagonal.sqrt().expand_as(b)
    start = (b / scale).norm(dim=-1, keepdim=True)
    safe = torch.where(start == 0, 1.0, start)
    basis = [b / scale / safe]
    upper = b.new_zeros(len(b), max_iterations + 1, max_iterations)
    weights = b.new_zeros(len(b), 0)
    residual = torch.where(start[:, 0] == 0, 0.0, torch.ones_like(start[:, 0]))
    residual = torch.where(start[:, 0].isnan(), torch.nan, residual)
    iterations = torch.zeros(len(b), dtype=torch.int64, device=b.device)
    for k in range(min(max_iterations, b.shape[-1])):
        active = residual > tolerance
        if not active.any():
            break
        iterations += active
        _extend(apply, scale, basis, upper, k)
        weights, left = _least_squares(upper[:, : k + 2, : k + 1])
        residual = torch.where(active, left, residual)
    directions = torch.stack(basis[: weights.shape[1]], 1) if weights.shape[1] else None
    v = torch.zeros_like(b) if directions is None else (weights[:, None] @ directions)[:, 0]
    v = torch.where(start.isnan(), torch.nan, v * start / scale)
    return Solution(v=v, residual=residual, iterations=iterations)


def _extend(
    apply: Callable[[Tensor], Tensor], scale: Tensor, basis: list[Tensor], upper: Tensor, k: int
) -> None:
    """Add the next direction, orthogonal to those before (twice: once loses digits)."""
    w = apply(basis[k] / scale) / scale
    for _ in range(2):
        for i, q in enumerate(basis):
            share = (w * q).sum(-1)
            upper[:, i, k] += share
            w = w - share[:, None] * q
    size = w.norm(dim=-1)
    upper[:, k + 1, k] = size
    basis.append(torch.where(size[:, None] > 0, w / size[:, None], 0.0))


def _least_squares(upper: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of the directions, and the residual that they leave."""
    target = upper.new_zeros(len(upper), upper.shape[1], 1)
    target[:, 0] = 1
    finite = torch.nan_to_num(upper, posinf=0.0, neginf=0.0)
    weights = torch.linalg.pinv(finite) @ target
    left = (target - finite @ weights).norm(dim=(-2, -1))
    broken = ~upper.isfinite().all(-1).all(-1)
    return weights[..., 0], torch.where(broken, torch.nan, left)
