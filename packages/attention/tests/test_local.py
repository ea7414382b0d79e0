import pytest
import torch
from einops import rearrange

from stormda.attention import DepthwiseLocal, depthwise_local

SHAPE = (4, 5)


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def loop(x, kernel, periodic):
    """The same, one neighbour of one token after the other."""
    field, mixed = x.reshape(2, *SHAPE, 3), torch.zeros(2, *SHAPE, 3, dtype=x.dtype)
    for i in range(SHAPE[0]):
        for j in range(SHAPE[1]):
            for a in range(3):
                for b in range(3):
                    y, x_ = i + a - 1, j + b - 1
                    if (periodic[0] or 0 <= y < SHAPE[0]) and (periodic[1] or 0 <= x_ < SHAPE[1]):
                        neighbour = field[:, y % SHAPE[0], x_ % SHAPE[1]]
                        mixed[:, i, j] += kernel[:, 0, a, b] * neighbour
    return mixed.reshape(x.shape)


@pytest.mark.parametrize("periodic", [(False, True), (True, False), (True, True), (False, False)])
def test_equals_a_loop_over_neighbours(periodic):
    x, kernel = tokens(2, 20, 3), tokens(3, 1, 3, 3, seed=1)
    got = depthwise_local(x, kernel, shape=SHAPE, periodic=periodic)
    torch.testing.assert_close(got, loop(x, kernel, periodic), rtol=1e-12, atol=1e-12)


def test_past_a_pole_is_the_other_side():
    shape, x, kernel = (3, 4), tokens(1, 12, 2), tokens(2, 1, 3, 3, seed=1)
    field = x.reshape(1, 3, 4, 2)
    above, below = field[:, :1].roll(2, 2), field[:, -1:].roll(2, 2)
    larger = torch.cat([above, field, below], 1).reshape(1, 20, 2)
    expected = depthwise_local(larger, kernel, shape=(5, 4), periodic=(False, True))
    y = depthwise_local(x, kernel, shape=shape, periodic=(False, True), poles=True)
    torch.testing.assert_close(y, expected[:, 4:-4], rtol=1e-12, atol=1e-12)


def test_poles_leave_no_edge_to_constants():
    ones, kernel = torch.ones(1, 12, 1), torch.ones(1, 1, 3, 3)
    y = depthwise_local(ones, kernel, shape=(3, 4), periodic=(False, True), poles=True)
    torch.testing.assert_close(y, torch.full_like(y, 9.0))


def test_errors_of_poles():
    x, kernel = tokens(1, 12, 1), tokens(1, 1, 3, 3)
    with pytest.raises(
        ValueError, match=r"^shape: expected an even number of columns around poles, got 3$"
    ):
        depthwise_local(x, kernel, shape=(4, 3), periodic=(False, True), poles=True)
    with pytest.raises(
        ValueError,
        match=r"^poles: expected periodic=\(False, True\) beside poles, got \(True, True\)$",
    ):
        DepthwiseLocal(8, periodic=(True, True), poles=True)


def test_a_field_rolled_in_longitude_gives_the_rolled_answer():
    def roll(x):
        return rearrange(x, "b (y x) d -> b y x d", y=4).roll(2, -2).flatten(1, 2)

    local = DepthwiseLocal(3, periodic=(False, True)).double()
    x = tokens(2, 20, 3)
    rolled = local(roll(x), shape=SHAPE)
    torch.testing.assert_close(rolled, roll(local(x, shape=SHAPE)), rtol=1e-12, atol=1e-12)


def test_gradients():
    x, kernel = tokens(1, 6, 2).requires_grad_(), tokens(2, 1, 3, 3, seed=1).requires_grad_()

    def mix(x, kernel):
        return depthwise_local(x, kernel, shape=(2, 3), periodic=(False, True))

    assert torch.autograd.gradcheck(mix, (x, kernel))
    assert torch.autograd.gradgradcheck(mix, (x, kernel))


def test_errors():
    with pytest.raises(
        ValueError, match=r"^shape: expected \(rows, columns\) of 20 tokens, got \(4, 4\)$"
    ):
        DepthwiseLocal(3, periodic=(False, True))(torch.zeros(2, 20, 3), shape=(4, 4))
