"""The Jacobian of a law of motion, against automatic differentiation of its steps."""

import pytest
import torch
from torch import Tensor

from stormda.assimilation.guidance.base import linearize_operator
from stormda.storm.transport import Law, Spectral, Transport, knots
from stormda.storm.transport_tangent import carried, with_tangent

ROWS, COLS, STEPS = 8, 12, 3


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def law(rows: int = ROWS, cols: int = COLS) -> Law:
    number = len(knots(rows, cols))
    return Law(0.2 * normal(number, 2, 2), 0.1 * normal(number, 2, 2, seed=2), normal(2, rows))


def transport() -> Transport:
    made = Transport((2, ROWS, COLS), STEPS).double()
    made.set(law())
    return made


@pytest.mark.parametrize("shape", [(8, 12), (12, 8), (8, 8)])
def test_the_jacobian_is_that_of_the_steps(shape: tuple[int, int]) -> None:
    acts = Spectral.of(law(*shape), *shape)
    z, d, w = (normal(3, 2, *shape, seed=i) for i in (3, 4, 5))
    later, tangent = with_tangent(acts, z, STEPS)
    expected, change = torch.autograd.functional.jvp(lambda x: acts.advance(x, STEPS), z, d)
    torch.testing.assert_close(later, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(tangent.forward(d), change, rtol=0, atol=1e-6)
    _, pulled = torch.autograd.functional.vjp(lambda x: acts.advance(x, STEPS), z, w)
    torch.testing.assert_close(tangent.back(w), pulled, rtol=0, atol=1e-6)


def test_the_transpose_is_one_to_rounding() -> None:
    _, tangent = with_tangent(Spectral.of(law(), ROWS, COLS), normal(3, 2, ROWS, COLS), STEPS)
    d, w = normal(3, 2, ROWS, COLS, seed=4), normal(3, 2, ROWS, COLS, seed=5)
    torch.testing.assert_close(
        (tangent.forward(d) * w).sum(), (d * tangent.back(w)).sum(), rtol=1e-12, atol=0
    )


def test_a_course_is_that_of_the_law_and_more_samples_are_no_others() -> None:
    made, z = transport(), normal(9, 2, ROWS, COLS)
    found = carried(made, z.requires_grad_(), 2)
    torch.testing.assert_close(torch.stack(found, 1), made(z, 2), rtol=0, atol=1e-6)
    alone = carried(made, z[7:8], 2)
    torch.testing.assert_close(found[2][7:8], alone[2], rtol=0, atol=1e-12)


def test_an_operator_along_a_course_is_linearised() -> None:
    made, z = transport(), normal(2, 2, ROWS, COLS)
    fast = linearize_operator(lambda x: carried(made, x, 2)[2].flatten(1).tanh(), z, None)
    slow = linearize_operator(lambda x: made(x, 2)[:, 2].flatten(1).tanh(), z, None)
    v, d = normal(2, 2 * ROWS * COLS, seed=6), normal(2, 2, ROWS, COLS, seed=7)
    torch.testing.assert_close(fast.adjoint(v), slow.adjoint(v), rtol=0, atol=1e-6)
    torch.testing.assert_close(fast.tangent(d), slow.tangent(d), rtol=0, atol=1e-6)


def test_without_a_gradient_nothing_is_kept() -> None:
    made, z = transport(), normal(2, 2, ROWS, COLS).requires_grad_()
    with torch.no_grad():
        assert not carried(made, z, 1)[1].requires_grad
    assert not carried(made, z.detach(), 1)[1].requires_grad
