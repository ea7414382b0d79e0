import pytest
import torch

from stormda.assimilation.guidance.cg import conjugate_gradients


def systems(m: int, p: int, condition: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Positive definite matrices with eigenvalues from 1 to `condition`, and right-hand sides."""
    g = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(m, p, p, dtype=torch.float64, generator=g)).Q
    values = torch.logspace(0, torch.tensor(condition).log10().item(), p, dtype=torch.float64)
    return q * values @ q.mT, torch.randn(m, p, dtype=torch.float64, generator=g)


def solve(a, b, **settings):
    settings = {"diagonal": torch.ones(1), "tolerance": 1e-10, "max_iterations": 200} | settings
    return conjugate_gradients(lambda v: (a @ v[..., None])[..., 0], b, **settings)


@pytest.mark.parametrize("condition", [1.0, 100.0, 1e4])
def test_equals_the_dense_solution(condition) -> None:
    a, b = systems(5, 12, condition)
    solution = solve(a, b)
    # the tolerance bounds the residual; the error is larger by at most the condition, here 1e4
    torch.testing.assert_close(solution.v, torch.linalg.solve(a, b), rtol=1e-6, atol=1e-6)
    assert (solution.residual <= 1e-10).all()


def test_the_reported_residual_is_the_true_one() -> None:
    a, b = systems(4, 12, 100.0)
    diagonal = a.diagonal(dim1=1, dim2=2)
    solution = solve(a, b, diagonal=diagonal, max_iterations=5)
    r = b - (a @ solution.v[..., None])[..., 0]
    true = ((r * r / diagonal).sum(-1) / (b * b / diagonal).sum(-1)).sqrt()
    torch.testing.assert_close(solution.residual, true)
    assert solution.iterations.tolist() == [5] * 4


def test_a_system_does_not_know_of_its_neighbours() -> None:
    a, b = systems(3, 12, 100.0)
    b[1] = 0  # solved before it starts
    together = solve(a, b, tolerance=1e-4)
    for i in range(3):
        alone = solve(a[i : i + 1], b[i : i + 1], tolerance=1e-4)
        torch.testing.assert_close(together.v[i], alone.v[0])
        assert together.iterations[i] == alone.iterations[0]
    assert together.iterations[1] == 0
    assert together.residual[1] == 0


def test_the_preconditioner_solves_a_diagonal_system_in_one_step() -> None:
    scale = torch.logspace(-3, 3, 7, dtype=torch.float64)
    solution = conjugate_gradients(
        lambda v: scale * v,
        torch.ones(1, 7, dtype=torch.float64),
        diagonal=scale,
        tolerance=1e-12,
        max_iterations=9,
    )
    torch.testing.assert_close(solution.v[0], 1 / scale)
    assert solution.iterations.tolist() == [1]


def test_negative_curvature_freezes_one_system_only() -> None:
    a, b = systems(2, 12, 10.0)
    broken = a.clone()
    broken[0] = -a[0]
    solution = solve(broken, b)
    torch.testing.assert_close(solution.v[0], torch.zeros(12, dtype=torch.float64))
    torch.testing.assert_close(solution.v[1], torch.linalg.solve(a[1], b[1]))
    torch.testing.assert_close(solution.residual[0], torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("twist", [0.1, 1.0, 10.0])
def test_an_asymmetric_matrix_never_makes_it_worse_than_nothing(twist) -> None:
    a, b = systems(8, 12, 1e3)
    g = torch.Generator().manual_seed(1)
    solution = solve(a + twist * torch.randn(a.shape, dtype=torch.float64, generator=g), b)
    assert solution.v.isfinite().all()
    assert (solution.residual <= 1).all()


def test_what_is_not_a_number_stays_not_a_number() -> None:
    a, b = systems(2, 4, 10.0)
    b[0, 2] = torch.nan
    solution = solve(a, b)
    assert solution.v[0].isnan().all()
    assert solution.residual[0].isnan()
    torch.testing.assert_close(solution.v[1], torch.linalg.solve(a[1], b[1]))
