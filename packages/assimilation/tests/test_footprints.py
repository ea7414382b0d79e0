import re

import pytest
import torch

from stormda.assimilation import (
    area_means,
    at_frame,
    beyond,
    block_means,
    channel,
    compose,
    join,
    radiances,
    select,
    time_mean,
    wind_direction,
    wind_speed,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


OPERATORS = [
    (area_means(torch.tensor([0, 1, 1, -1, 0, 2]), torch.arange(1.0, 7.0)), (6,)),
    (block_means((4, 6), (2, 3)), (4, 6)),
    (compose(time_mean(torch.tensor([0.2, 0.3, 0.5])), select(torch.tensor([1]))), (3, 4)),
    (join(at_frame(0, select(torch.tensor([0, 3]))), at_frame(2, lambda x: x)), (3, 4)),
    (compose(channel(1), select(torch.tensor([2]))), (2, 4)),
    (compose(wind_speed(), lambda x: x), (2, 5)),
    (compose(wind_direction, lambda x: x.flatten(1)), (2, 5)),
    (beyond(threshold=0.2, width=0.5), (5,)),
    (radiances(torch.rand(3, 4)), (4, 5)),
]


@pytest.mark.parametrize(("operator", "shape"), OPERATORS)
def test_members_are_alone_and_gradients_are_right(operator, shape) -> None:
    x = draw(3, *shape)
    out = operator(x)
    assert out.ndim == 2
    torch.testing.assert_close(out[1:2], operator(x[1:2]))
    assert torch.autograd.gradcheck(operator, (x.requires_grad_(),))
    assert torch.autograd.gradgradcheck(operator, (x,))


def test_means_are_weighted_by_area() -> None:
    areas = draw(4, 6).square() + 0.1
    x = draw(2, 4, 6, seed=1)
    blocks = block_means((4, 6), (2, 2), areas)(x).reshape(2, 2, 3)
    slow = (x * areas)[:, 2:, 2:4].sum((1, 2)) / areas[2:, 2:4].sum()
    torch.testing.assert_close(blocks[:, 1, 1], slow)


def test_a_calm_wind_has_a_speed_and_a_slope() -> None:
    calm = torch.zeros(1, 2, 1, requires_grad=True)
    wind_speed()(calm).sum().backward()
    assert calm.grad.isfinite().all()
    assert wind_direction(torch.zeros(1, 2, 1)).isfinite().all()
    fast = 30 * draw(5, 2, 3)
    assert (wind_speed()(fast) - fast.norm(dim=1)).abs().max() < 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: area_means(torch.zeros(3)),
            "labels: expected int64 with 1 dimension, got torch.float32 with shape (3,)",
        ),
        (
            lambda: area_means(torch.tensor([0, 2])),
            "labels: expected weight in each of 3 regions, got none in some",
        ),
        (
            lambda: block_means((4, 5), (2, 2)),
            "factor: expected a divisor of the grid (4, 5), got (2, 2)",
        ),
        (
            lambda: beyond(threshold=0.0, width=0.0),
            "width: expected a positive number, got 0.0",
        ),
        (
            lambda: radiances(torch.zeros(3)),
            "kernels: expected shape (channels, levels), got (3,)",
        ),
    ],
)
def test_bad_settings_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
