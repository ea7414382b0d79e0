"""Cut layers on one rank are ordinary ones; what their parameters are is said and checked."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from stormda.parallel import (
    ColumnLinear,
    Part,
    RowLinear,
    SelfComm,
    Split,
    clip_gradients,
    module_parts,
    part_of,
    recompute,
)
from stormda.parallel.layers import blocks_outside, unit_sizes
from stormda.parallel.layout import check_cover


class Of(SelfComm):
    """A rank of many, on paper."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self.rank, self.size = rank, size


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("layer", [ColumnLinear, RowLinear])
@pytest.mark.parametrize("bias", [True, False])
def test_on_one_rank_a_layer_is_an_ordinary_one(layer: type[nn.Module], bias: bool) -> None:
    own = layer(3, 4, SelfComm(), bias=bias, generator=seeded(), dtype=torch.float64)
    plain = nn.Linear(3, 4, bias=bias, dtype=torch.float64)
    plain.load_state_dict(own.state_dict())
    x = torch.randn(2, 3, dtype=torch.float64, generator=seeded())
    assert_close(own(x), plain(x))
    bound = 1 / 3**0.5
    assert own.weight.abs().max() <= bound
    assert own.weight.std() > 0.4 * bound


@pytest.mark.parametrize(
    ("layer", "inputs", "outputs"), [(ColumnLinear, 3, 10), (RowLinear, 10, 3)]
)
def test_the_parts_of_many_ranks_are_the_weights_of_one(
    layer: type[nn.Module], inputs: int, outputs: int
) -> None:
    whole = dict(layer(inputs, outputs, SelfComm(), generator=seeded()).named_parameters())
    for rank in range(3):
        own = layer(inputs, outputs, Of(rank, 3), unit=2, generator=seeded())
        for name, part in module_parts(own).items():
            assert part.shape == tuple(whole[name].shape)
            assert torch.equal(part.data, whole[name][part.box])


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_that_is_there_is_cut_block_by_block(blocks: int, bias: bool) -> None:
    """Heads 0 and 1 are rank 0's, head 2 is rank 1's: outputs 0-7 and 8-11 of every block."""
    torch.manual_seed(0)
    whole = nn.Linear(5, 12 * blocks, bias=bias, dtype=torch.float64)
    x = torch.randn(2, 5, dtype=torch.float64)
    answers = whole(x).unflatten(-1, (blocks, 12)).split([8, 4], -1)
    for rank, answer in enumerate(answers):
        part = ColumnLinear.of(whole, Of(rank, 2), unit=4, blocks=blocks)
        assert_close(part(x), answer.flatten(-2))
        for name, piece in module_parts(part).items():
            plain = dict(whole.named_parameters())[name]
            full = plain if blocks == 1 else plain.unflatten(0, (3, 12)).transpose(0, 1)
            assert torch.equal(piece.data, full[piece.box])
            if blocks > 1:
                assert torch.equal(blocks_outside(full), plain)


def test_the_rows_of_a_layer_that_is_there_add_up() -> None:
    torch.manual_seed(0)
    whole = nn.Linear(12, 5, dtype=torch.float64)
    x = torch.randn(2, 12, dtype=torch.float64)
    parts = [RowLinear.of(whole, Of(rank, 2), unit=4) for rank in range(2)]
    first, second = (part.weight for part in parts)
    assert_close(x[:, :8] @ first.T + x[:, 8:] @ second.T + parts[0].bias, whole(x))
    assert torch.equal(parts[1].bias, whole.bias)


def test_blocks_divide_the_outputs() -> None:
    with pytest.raises(ValueError, match=r"^blocks: expected a positive divisor of 8, got 3$"):
        ColumnLinear.of(nn.Linear(2, 8), SelfComm(), blocks=3)


def test_units_stay_together() -> None:
    assert unit_sizes(12, 3, Of(0, 3)) == (6, 3, 3)


@pytest.mark.parametrize(
    ("features", "unit", "message"),
    [
        (10, 3, r"^unit: expected a positive divisor of 10 features, got 3$"),
        (10, 0, r"^unit: expected a positive divisor of 10 features, got 0$"),
        (6, 3, r"^unit: expected at least 3 units, one for each rank, got 2 of 3 features$"),
    ],
)
def test_units_that_do_not_fit(features: int, unit: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unit_sizes(features, unit, Of(0, 3))


def test_what_is_not_as_declared_is_refused() -> None:
    cut = Split(dim=0, sizes=(3, 2), comm=Of(1, 2))
    with pytest.raises(ValueError, match=r"^data: expected 2 along dimension 0, got 3$"):
        part_of(torch.ones(3), cut)
    with pytest.raises(ValueError, match=r"^sizes: expected 2 lengths, got \[3\]$"):
        Split(dim=0, sizes=(3,), comm=Of(1, 2))
    message = r"^data: expected a part of a tensor of shape \(3,\), got shape \(2,\) at \(2,\)$"
    with pytest.raises(ValueError, match=message):
        Part(data=torch.ones(2), shape=(3,), start=(2,))


@pytest.mark.parametrize(
    "cuts", [[(0, 2), (3, 4)], [(0, 3), (2, 4)], [(0, 4), (0, 4)], [(0, 3)], []]
)
def test_gaps_overlaps_and_repetitions_do_not_tile(cuts: list[tuple[int, int]]) -> None:
    boxes = [(slice(*cut),) for cut in cuts]
    with pytest.raises(ValueError, match=r"^w: expected parts that tile a tensor of shape \(4,\)"):
        check_cover("w", (4,), boxes)


def test_a_grid_with_a_box_missing_does_not_tile() -> None:
    halves = [slice(0, 1), slice(1, 2)]
    boxes = [(a, b) for a in halves for b in halves]
    check_cover("w", (2, 2), boxes)
    with pytest.raises(ValueError, match=r"^w: expected parts that tile"):
        check_cover("w", (2, 2), boxes[:3])


def test_recomputed_layers_give_the_same_gradients_and_keep_less() -> None:
    def kept(again: bool) -> tuple[int, list[Tensor]]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 4), nn.Tanh()).double()
        if again:
            recompute([net])
        sizes: list[int] = []
        x = torch.ones(8, 4, dtype=torch.float64)
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t: (sizes.append(t.numel()), t)[1], lambda t: t
        )
        with hooks:
            loss = net(x).square().sum()
        forward = sum(sizes)
        loss.backward()
        return forward, [p.grad for p in net.parameters()]

    (many, expected), (few, found) = kept(False), kept(True)
    assert few < many / 4
    assert_close(found, expected, rtol=0, atol=0)


def test_a_norm_that_is_known_is_used() -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([weight], 1.0, norm=torch.tensor(10.0)) == 10
    assert_close(weight.grad, torch.tensor([0.3, 0.4]))
