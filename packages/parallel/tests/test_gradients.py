"""Norms and clipping against the flat vector; sums over ranks are in test_ranks.py."""

import re

import pytest
import torch
from torch import Tensor, nn

from stormda.parallel import (
    Mesh,
    PlannedComm,
    RowLinear,
    SelfComm,
    broadcast_parameters,
    clip_gradients,
    gradient_norm,
    parameter_checksum,
    planned,
    sum_gradients,
    whole_gradient_norm,
)


def parameters(*dtypes: torch.dtype) -> list[Tensor]:
    """Return parameters with gradients, and one without."""
    g = torch.Generator().manual_seed(1)
    made = [torch.zeros(3, 2, dtype=dtype, requires_grad=True) for dtype in dtypes]
    for p in made:
        p.grad = torch.randn(3, 2, generator=g, dtype=torch.float64).to(p.dtype)
    return [*made, torch.zeros(2, requires_grad=True)]


def flat(params: list[Tensor]) -> Tensor:
    return torch.cat([p.grad.flatten().double() for p in params if p.grad is not None])


@pytest.mark.parametrize(
    "dtypes",
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float64),
        (torch.float32, torch.bfloat16),
    ],
)
def test_the_norm_is_that_of_the_flat_vector(dtypes: tuple[torch.dtype, ...]) -> None:
    params = parameters(*dtypes)
    torch.testing.assert_close(
        gradient_norm(params).double(),
        flat(params).norm(),
        rtol=1e-6 if torch.float64 not in dtypes[:1] else 1e-14,  # it is summed in float32
        atol=0,
    )


def test_sixteen_bits_do_not_overflow() -> None:
    p = torch.zeros(4, dtype=torch.float16, requires_grad=True)
    p.grad = torch.full((4,), 60_000.0, dtype=torch.float16)
    torch.testing.assert_close(gradient_norm([p]), torch.tensor(120_000.0), rtol=1e-3, atol=0)


def test_no_gradient_no_norm() -> None:
    assert gradient_norm([torch.zeros(1, requires_grad=True)]) == 0
    assert clip_gradients([], 1.0) == 0


def test_clipping_keeps_the_direction_and_bounds_the_norm() -> None:
    params = parameters(torch.float64, torch.float64)
    before = flat(params)
    norm = clip_gradients(params, 0.5)
    torch.testing.assert_close(norm, before.norm())
    torch.testing.assert_close(flat(params), before * 0.5 / before.norm())


def test_small_gradients_keep_their_bits() -> None:
    params = parameters(torch.float32, torch.bfloat16)
    before = flat(params)
    clip_gradients(params, 1e3)
    assert torch.equal(flat(params), before)


def test_a_norm_that_is_not_finite_is_returned() -> None:
    params = parameters(torch.float32)
    params[0].grad[0, 0] = torch.inf
    assert clip_gradients(params, 1.0) == torch.inf


@pytest.mark.parametrize("largest", [0.0, -1.0, float("nan")])
def test_the_largest_norm_is_positive(largest: float) -> None:
    message = f"largest: expected a positive norm, got {largest}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        clip_gradients([], largest)


def test_one_rank_sums_nothing() -> None:
    params = parameters(torch.float64)
    before = flat(params)
    sum_gradients(params, SelfComm())
    assert torch.equal(flat(params), before)
    assert params[-1].grad is None


def test_one_rank_broadcasts_nothing() -> None:
    net = nn.BatchNorm1d(3)
    before = parameter_checksum(net)
    assert broadcast_parameters(net, SelfComm()) == before


def test_a_layer_is_cut_over_axes_of_the_mesh() -> None:
    mesh = planned(Mesh({"replica": 2, "tensor": 3}), 4)
    layer = RowLinear(6, 2, PlannedComm(1, 3), generator=torch.Generator())
    layer(torch.ones(2)).sum().backward()
    message = "module: expected layers cut over axes of the mesh, got one cut over others"
    with pytest.raises(ValueError, match=f"^{message}$"):
        whole_gradient_norm(layer, mesh)
    layer = RowLinear(6, 2, mesh.comm("tensor"), generator=torch.Generator())
    layer(torch.ones(2)).sum().backward()
    torch.testing.assert_close(whole_gradient_norm(layer, mesh), torch.tensor(6.0).sqrt())


@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "num_batches_tracked"])
def test_the_checksum_sees_every_bit(name: str) -> None:
    net = nn.BatchNorm1d(3)
    before = parameter_checksum(net)
    value = net.state_dict()[name].flatten()
    value.view(torch.uint8)[-1] ^= 1
    changed = parameter_checksum(net)
    value.view(torch.uint8)[-1] ^= 1
    assert changed != before
    assert parameter_checksum(net) == before
