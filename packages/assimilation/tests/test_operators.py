import re
import warnings

import pytest
import torch

from stormda.assimilation import affine, arctan, compose, interpolate, matrix, scaled, select

SHAPE = (2, 3)
CELLS = torch.tensor([[0, 5], [3, 3], [1, 2], [5, 4]])
WEIGHTS = torch.tensor([[0.5, 0.5], [0.2, 0.8], [-1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
DENSE = torch.zeros(4, 6, dtype=torch.float64).index_put(
    (torch.arange(4)[:, None].expand(4, 2), CELLS), WEIGHTS, accumulate=True
)

with warnings.catch_warnings(action="ignore", category=UserWarning):  # a "beta" layout
    CSR = DENSE.to_sparse_csr()

LINEAR = {
    "select": (select(torch.tensor([4, 0, 4])), torch.eye(6, dtype=torch.float64)[[4, 0, 4]]),
    "interpolate": (interpolate(CELLS, WEIGHTS), DENSE),
    "dense": (matrix(DENSE), DENSE),
    "coo": (matrix(DENSE.to_sparse()), DENSE),
    "csr": (matrix(CSR), DENSE),
}


def states(m: int = 3) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randn(m, *SHAPE, dtype=torch.float64, generator=g)


@pytest.mark.parametrize("name", LINEAR)
def test_linear_operators_equal_their_matrix(name) -> None:
    operator, dense = LINEAR[name]
    torch.testing.assert_close(operator(states()), states().flatten(1) @ dense.mT)


@pytest.mark.parametrize("name", LINEAR)
def test_the_adjoint_is_the_adjoint(name) -> None:
    operator, dense = LINEAR[name]
    y, transpose = torch.func.vjp(operator, states())
    v = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close((y * v).sum(), (states() * transpose(v)[0]).sum())
    torch.testing.assert_close(transpose(v)[0].flatten(1), v @ dense)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inside torch
@pytest.mark.parametrize("name", [*LINEAR, "arctan", "scaled", "affine"])
def test_operators_differentiate_forwards_backwards_and_twice(name) -> None:
    elementwise = {"arctan": arctan(2.0), "scaled": scaled(1.0, 3.0), "affine": affine(1.0, 3.0)}
    operator = elementwise[name] if name in elementwise else LINEAR[name][0]
    curved = compose(operator, torch.atan)
    x = states(1).requires_grad_()
    assert torch.autograd.gradcheck(curved, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(curved, x)


def test_composition_runs_from_left_to_right() -> None:
    x = states()
    operator = compose(affine(280.0, 10.0), select(torch.tensor([2])), scaled(280.0, 5.0))
    torch.testing.assert_close(operator(x), 2 * x.flatten(1)[:, [2]])
    torch.testing.assert_close(compose()(x), x)


def test_nothing_observed_is_no_column() -> None:
    none = torch.zeros(0, 2, dtype=torch.int64)
    assert interpolate(none, torch.zeros(0, 2))(states()).shape == (len(states()), 0)
    assert select(none[:, 0])(states()).shape == (len(states()), 0)


def test_scaled_and_affine_are_inverse() -> None:
    mean, std = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [0.5]])
    there = compose(scaled(mean, std), affine(mean, std))(states())
    torch.testing.assert_close(there, states())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: select(torch.tensor([1.0])),
            "indices: expected int64 with 1 dimensions, got torch.float32 with shape (1,)",
        ),
        (
            lambda: interpolate(torch.tensor([1]), torch.ones(1)),
            "cells: expected int64 with 2 dimensions, got torch.int64 with shape (1,)",
        ),
        (
            lambda: interpolate(torch.tensor([[1, 2]]), torch.ones(2)),
            "weights: expected the shape of cells (1, 2), got (2,)",
        ),
        (lambda: matrix(torch.ones(3)), "entries: expected shape (p, n), got (3,)"),
    ],
)
def test_bad_operators_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
