"""A network in tiles is the sum of its windows, and in one tile it is the network."""

from dataclasses import replace

import pytest
import torch
from einops import rearrange
from torch import Tensor
from torch.testing import assert_close

from stormda.attention import HistoryKeys, HistoryProjection
from stormda.grid import Grid, Patching, PlaneGrid, grid
from stormda.storm import StormConfig, StormNetwork
from stormda.storm.field_share import FieldShare
from stormda.storm.network_tiles import NetworkTiles

CONFIG = StormConfig(
    variables=("a", "b"),
    patch=(2, 2),
    width=16,
    heads=2,
    encoder_depth=1,
    depth=2,
    network_tiles=(2, 3),
    network_halo=(1, 1),
)
GLOBE = grid("15deg")


def trained(config: StormConfig, on: Grid) -> StormNetwork:
    torch.manual_seed(0)
    network = StormNetwork(config, on).double()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return network


def tokens_and_past(network: StormNetwork) -> tuple[Tensor, Tensor, Tensor, HistoryKeys, Tensor]:
    g = torch.Generator().manual_seed(1)
    n, d = network.patching.tokens(), network.config.width
    x = torch.randn(2, n, d, generator=g, dtype=torch.float64, requires_grad=True)
    condition = torch.randn(2, d, generator=g, dtype=torch.float64)
    torch.manual_seed(2)
    past = HistoryProjection(d, 2).double()(
        torch.randn(2, 3, n, d, generator=g, dtype=torch.float64)
    )
    weight = torch.rand(n, generator=g, dtype=torch.float64)
    return x, condition, network.modulation(condition).detach(), past, weight


def plain(
    network: StormNetwork,
    x: Tensor,
    condition: Tensor,
    modulation: Tensor,
    past: HistoryKeys,
    weight: Tensor,
    shape: tuple[int, int],
) -> Tensor:
    for block in network.trunk:
        x = block(x, condition, modulation, shape=shape, history=past, weight=weight)
    return x


def answer_of_window(
    network: StormNetwork,
    i: int,
    x: Tensor,
    condition: Tensor,
    modulation: Tensor,
    past: HistoryKeys,
    weight: Tensor,
) -> Tensor:
    """Return what the blocks make of the window of tile i alone, (b, D, rows, columns)."""
    assert network.tiles is not None
    layout = network.tiles.layout

    def cut(t: Tensor) -> Tensor:
        window = layout.take(rearrange(t, "... (y x) d -> ... d y x", y=6), i)
        return rearrange(window, "... d y x -> ... (y x) d")

    (top, bottom), (left, right) = layout.window(i).extended
    shape = (bottom - top, right - left)
    keys = HistoryKeys(cut(past.keys), cut(past.values))
    seen = cut(weight[:, None])[:, 0]
    answer = plain(network, cut(x), condition, modulation, keys, seen, shape)
    return rearrange(answer, "b (y x) d -> b d y x", y=shape[0])


@pytest.mark.parametrize("on", [GLOBE, PlaneGrid((12, 24), (1.0, 1.0), periodic=(True, True))])
def test_tiles_are_windows_added_up_and_so_are_their_gradients(on: Grid) -> None:
    """The obvious way keeps the graph of all windows."""
    network = trained(CONFIG, on)
    x, condition, modulation, past, weight = tokens_and_past(network)
    tiles = network.tiles
    assert tiles is not None
    y = tiles(network.trunk, x, condition, modulation, history=past, weight=weight)

    merged = torch.zeros(2, 16, 6, 12, dtype=torch.float64)
    for i in range(6):
        answer = answer_of_window(network, i, x, condition, modulation, past, weight)
        merged = merged.clone()
        tiles.layout.add(merged, i, answer)
    expected = rearrange(merged, "b d y x -> b (y x) d")
    assert_close(y, expected, rtol=1e-12, atol=1e-12)
    ybar = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    inputs = (x, *network.trunk.parameters())
    for got, wanted in zip(
        torch.autograd.grad(y, inputs, ybar),
        torch.autograd.grad(expected, inputs, ybar),
        strict=True,
    ):
        assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("on", [GLOBE, PlaneGrid((12, 24), (1.0, 1.0), periodic=(False, True))])
def test_tiles_that_run_together_answer_as_one_by_one(on: Grid) -> None:
    """Also where windows at walls have another size; the samples have different levels."""
    g = torch.Generator().manual_seed(1)
    history, d = (
        torch.randn(2, *shape, 2, 12, 24, generator=g, dtype=torch.float64) for shape in ((2,), ())
    )
    sigma, level = torch.tensor([0.3, 2.0]).double(), torch.tensor([[0.1, 0.2], [0.5, 1.0]])
    answers = []
    for together in (1, 4):
        network = trained(replace(CONFIG, network_batch=together), on)
        y = network(d, sigma, network.encode(history, level.double()))
        answers.append([y, *torch.autograd.grad(y.square().sum(), network.trunk.parameters())])
    for one, four in zip(*answers, strict=True):
        assert_close(four, one, rtol=1e-10, atol=1e-12)


def test_without_blending_tiles_answer_for_their_cores() -> None:
    network = trained(replace(CONFIG, network_blend=False), GLOBE)
    x, condition, modulation, past, weight = tokens_and_past(network)
    tiles = network.tiles
    assert tiles is not None
    y = tiles(network.trunk, x, condition, modulation, history=past, weight=weight)
    y = rearrange(y, "b (y x) d -> b d y x", y=6)

    # The middle tile of the lower row, with one row of its window over the pole.
    answer = answer_of_window(network, 4, x, condition, modulation, past, weight)
    assert answer.shape[-2:] == (5, 6)
    assert_close(y[..., 3:6, 4:8], answer[..., 1:4, 1:5], rtol=1e-12, atol=1e-12)


def test_one_tile_without_a_halo_is_the_whole() -> None:
    on = PlaneGrid((12, 24), (1.0, 1.0), periodic=(False, False))
    one = replace(CONFIG, network_tiles=(1, 1), network_halo=(0, 0))
    network = trained(one, on)
    assert network.tiles is None
    given = tokens_and_past(network)
    tiles = NetworkTiles(one, FieldShare(Patching(on, (2, 2))), poles=False)
    x, condition, modulation, past, weight = given
    y = tiles(network.trunk, x, condition, modulation, history=past, weight=weight)
    assert_close(y, plain(network, *given, (6, 12)), rtol=1e-12, atol=1e-12)


def test_a_tile_sees_no_further_than_its_halo() -> None:
    network = trained(CONFIG, GLOBE)
    history = torch.zeros(1, 2, 2, 12, 24, dtype=torch.float64)
    level = torch.zeros(1, 2, dtype=torch.float64)
    d = torch.zeros(1, 2, 12, 24, dtype=torch.float64, requires_grad=True)
    answer = network(d, torch.tensor(1.0), network.encode(history, level))
    (bar,) = torch.autograd.grad(answer[0, 0, 3, 4], d)  # inside the first of 2 x 3 tiles
    seen = bar.abs().sum((0, 1)) > 0
    assert seen[:8, :10].all()
    assert not seen[8:].any()
    assert not seen[2:, 10:22].any()
    assert seen[:2, 10:22].all()  # the halo goes over the pole


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"^tiles: expected between 1 and the cells \(6, 12\)"):
        StormNetwork(replace(CONFIG, network_tiles=(7, 1)), GLOBE)
    with pytest.raises(ValueError, match=r"^network_batch: expected at least 1, got 0$"):
        replace(CONFIG, network_batch=0)
    with pytest.raises(ValueError, match=r"^network_tiles: expected \(1, 1\) as the tokens have"):
        StormNetwork(CONFIG, grid("healpix4"))
