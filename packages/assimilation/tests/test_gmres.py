import math

import pytest
import torch

from stormda.assimilation import conjugate_gradients, gmres


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def matrices(m: int = 4, p: int = 9) -> torch.Tensor:
    """Far from symmetric, with eigenvalues to the right of zero."""
    return 3 * torch.eye(p) + 0.7 * draw(m, p, p)


def product(a: torch.Tensor):
    return lambda v: (a @ v[..., None])[..., 0]


def solve(a, b, **settings):
    default = {"diagonal": torch.ones(b.shape[1]).double(), "tolerance": 1e-10}
    return gmres(product(a), b, **{**default, "max_iterations": 20, **settings})


def test_equals_a_dense_solve() -> None:
    a, b = matrices(), draw(4, 9, seed=1)
    solution = solve(a, b)
    torch.testing.assert_close(solution.v, torch.linalg.solve(a, b))
    assert (solution.residual < 1e-10).all()
    assert (solution.iterations <= 9).all()


def test_a_preconditioner_changes_the_effort_only() -> None:
    a, b = matrices(), draw(4, 9, seed=1)
    scale = torch.logspace(-3, 3, 9).double()
    stretched = scale[:, None] * a * scale
    better = solve(stretched, b, diagonal=3 * scale**2)
    torch.testing.assert_close(better.v, torch.linalg.solve(stretched, b), rtol=1e-6, atol=1e-6)


def test_the_residual_is_the_residual_and_falls() -> None:
    a, b = matrices(), draw(4, 9, seed=1)
    before = math.inf
    for k in range(1, 9):
        solution = solve(a, b, max_iterations=k)
        left = (product(a)(solution.v) - b).norm(dim=-1) / b.norm(dim=-1)
        torch.testing.assert_close(solution.residual, left)
        assert (left <= before + 1e-12).all()
        before = left


def test_rows_are_alone() -> None:
    a, b = matrices(), draw(4, 9, seed=1)
    b[2] = 0
    b[3] = math.nan
    together = solve(a, b)
    torch.testing.assert_close(together.v[0], solve(a[:1], b[:1]).v[0])
    assert (together.v[2] == 0).all()
    assert together.iterations[2] == 0
    assert together.v[3].isnan().all()
    assert together.residual[3].isnan()


def test_it_goes_on_where_conjugate_gradients_stop() -> None:
    a, b = matrices(), draw(4, 9, seed=1)
    settings = {"diagonal": torch.ones(9).double(), "tolerance": 1e-8, "max_iterations": 30}
    assert (conjugate_gradients(product(a), b, **settings).residual > 1e-3).any()
    assert (gmres(product(a), b, **settings).residual < 1e-8).all()


def test_nothing_to_solve() -> None:
    empty = torch.zeros(3, 0).double()
    assert solve(torch.zeros(3, 0, 0).double(), empty).v.shape == (3, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_data_type_stays(dtype) -> None:
    a, b = matrices().to(dtype), draw(4, 9, seed=1).to(dtype)
    diagonal = torch.ones(9).to(dtype)
    assert solve(a, b, diagonal=diagonal, tolerance=1e-4).v.dtype is dtype
